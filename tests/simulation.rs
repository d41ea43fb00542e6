//! Many nodes, each the machine that ships (`waypost::core`), in a world where everything goes wrong: a seeded scheduler with virtual
//! time, a network that loses, repeats, delays and reorders, disks that forget what was not synced, clocks that jump, processes that end between
//! any two actions. After every step what happened is compared with the promises.
//!
//! A failure names its seed and prints the last steps; `WAYPOST_SIM_SEED=123 cargo test --test simulation` repeats exactly that one.

/// A line of the trace, made only where somebody will read it.
macro_rules! log {
    ($world:expr, $($line:tt)*) => {
        if $world.trace.is_recording() {
            let line = format!($($line)*);
            $world.trace.line($world.now, &line);
        }
    };
}

#[path = "simulation/dice.rs"]
mod dice;
#[path = "simulation/file/mod.rs"]
mod file;
#[path = "simulation/machine.rs"]
mod machine;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/oracle/mod.rs"]
mod oracle;
#[path = "simulation/plan/mod.rs"]
mod plan;
#[path = "simulation/process/mod.rs"]
mod process;
#[path = "simulation/runner.rs"]
mod runner;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/world.rs"]
mod world;

use plan::Plan;

#[test]
fn every_seed_keeps_the_promises() {
    runner::run_seeds();
}

/// They found something once, in the nodes or in this model, and lie beyond those that every run tries.
#[test]
fn seeds_that_once_found_something_keep_the_promises() {
    const SEEDS: [u64; 20] = [
        3_899, 6_318, 7_781, 8_552, 12_933, 14_980, 15_216, 15_916, 20_587, 21_553, 24_688, 25_714,
        27_270, 32_547, 33_426, 48_052, 49_972, 61_533, 68_673, 94_715,
    ];
    for seed in SEEDS {
        runner::run(Plan::without_election(seed));
    }
    const AS_THEY_ARE_DRAWN: [u64; 7] =
        [5_206, 28_206, 1_016_767, 1_038_002, 2_010_106, 2_014_123, 3_005_708];
    for seed in AS_THEY_ARE_DRAWN {
        runner::run(Plan::from_seed(seed));
    }
}

/// P6: an outage of a week costs nothing while it lasts, and what has piled up arrives in order once it ends.
#[test]
fn p6_a_week_without_a_network_is_made_up_for_in_order() {
    let report = runner::run(Plan::week());
    let deliveries = plan::READERS as u64 * plan::MESSAGES;
    assert_eq!(report.calls, deliveries, "{report:?}");
    // One frame a message, and nothing in vain during the outage. A reader's first one may come before its subscription is live.
    assert!(report.frames - deliveries <= plan::READERS as u64, "{report:?}");
}

/// P6: what it knew of its peers is as old for it as it was off, and it has not looked for them since.
#[test]
fn p6_a_machine_that_was_off_for_longer_than_peers_are_remembered_forgets_nobody() {
    let report = runner::run(Plan::off());
    assert_eq!((report.calls, report.forgotten), (2 * plan::WAITING, 0), "{report:?}");
}

#[test]
fn one_seed_gives_one_history() {
    for seed in [1, 2, 3] {
        let [first, second] = [0, 1].map(|_| runner::run(Plan::from_seed(seed)).hash);
        assert_eq!(first, second, "seed {seed}");
    }
}
