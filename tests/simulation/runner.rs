//! Runs simulations: one, or many on all processors, and tells of the first that fails.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::world::World;

/// Seeds of the normal test run.
const SEEDS: u64 = 2_000;

/// What a simulation came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) hash: u64,
    pub(crate) steps: u64,
    pub(crate) calls: u64,
    pub(crate) frames: u64,
    /// Messages that ended because their receiver was forgotten.
    pub(crate) forgotten: usize,
    pub(crate) reigns: u64,
    /// Of masters.
    pub(crate) states: u64,
    /// From the end of the faults to the last settlement.
    pub(crate) took: Duration,
}

/// Runs this plan.
///
/// # Panics
/// Something was not as promised.
pub(crate) fn run(plan: Plan) -> Report {
    let seed = plan.seed;
    match attempt(plan, false) {
        Ok(report) => report,
        Err(failure) => panic!("seed {seed}: {failure}"),
    }
}

/// Runs it, and if it fails once more to tell the story.
fn attempt(plan: Plan, recording: bool) -> Result<Report, String> {
    let plan = Rc::new(plan);
    let mut world = World::new(plan.clone(), recording);
    let outcome = catch_unwind(AssertUnwindSafe(|| drive(&mut world)));
    let what = match outcome {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(what)) => what,
        Err(panic) => format!("a panic: {}", text(&*panic)),
    };
    if recording {
        if what.starts_with("not settled") {
            let running = world.machines.iter().filter_map(|machine| machine.process.as_ref());
            let memory: Vec<String> = running.map(|process| process.memory()).collect();
            return Err(format!("{}\n{}\n{what}", memory.join("\n"), world.trace.text()));
        }
        return Err(format!("{}\n{what}", world.trace.text()));
    }
    let plan = Rc::try_unwrap(plan).unwrap_or_else(|plan| (*plan).clone());
    match attempt(plan, true) {
        Err(story) => Err(story),
        Ok(_) => Err(format!("{what}\nand not again: something is not of the seed")),
    }
}

fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a text")
}

fn drive(world: &mut World) -> Result<Report, String> {
    let faults_end = world.plan.faults_end;
    world.run_until(faults_end);
    let settled = settle(world)?;
    world.oracle.judge(&world.machines, world.plan.exact)?;
    Ok(Report {
        hash: world.trace.hash(),
        steps: world.steps,
        calls: world.oracle.calls,
        frames: world.network.message_frames,
        forgotten: world.oracle.forgotten.len(),
        reigns: world.oracle.elections.reigns,
        states: world.oracle.elections.sets,
        took: settled - faults_end,
    })
}

/// Goes on without faults until nothing happens any more. Returns when the last thing did.
fn settle(world: &mut World) -> Result<Duration, String> {
    let deadline = world.now + world.plan.patience;
    // Longer than the pause between keepalives: two that meet again begin where one of them joined.
    let quiet = world.plan.nodes.iter().map(|node| 3 * node.settings.membership.interval).max();
    let quiet = quiet.unwrap_or_default();
    let (mut frames, mut settled) = (world.network.message_frames, world.now);
    loop {
        if let Some(what) = &world.oracle.violation {
            return Err(what.clone());
        }
        let waits = Oracle::waits(&world.machines).or_else(|| world.is_settling());
        if waits.is_some() || world.network.message_frames != frames {
            (frames, settled) = (world.network.message_frames, world.now);
        }
        if world.now >= settled + quiet {
            return Ok(settled);
        }
        if world.now >= deadline {
            return Err(format!("not settled: {}", waits.as_deref().unwrap_or("still sending")));
        }
        world.run_until(world.now + Duration::from_secs(1));
    }
}

/// The seed that was asked for, or many.
pub(crate) fn run_seeds() {
    if let Some(seed) = number("WAYPOST_SIM_SEED") {
        let report = run(Plan::from_seed(seed));
        return say(&format!("simulation: seed {seed} is fine: {report:?}\n"));
    }
    let first = number("WAYPOST_SIM_FIRST").unwrap_or(1);
    let seeds = number("WAYPOST_SIM_SEEDS").unwrap_or(SEEDS);
    run_range(first, seeds);
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// Past libtest, which would keep it until the end.
fn say(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn run_range(first: u64, seeds: u64) {
    let next = AtomicU64::new(0);
    let totals = Mutex::new((Report::default(), Vec::new()));
    let started = Instant::now();
    let stop = std::env::var_os("WAYPOST_SIM_STOP").is_some();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= seeds {
                        return;
                    }
                    let seed = first + number;
                    let result = attempt(Plan::from_seed(seed), false);
                    let mut totals = totals.lock().expect("no thread panics with it");
                    let (sum, failures) = &mut *totals;
                    match result {
                        Ok(report) => {
                            sum.steps += report.steps;
                            sum.calls += report.calls;
                            sum.frames += report.frames;
                            sum.reigns += report.reigns;
                            sum.states += report.states;
                            sum.took = sum.took.max(report.took);
                        }
                        Err(failure) => {
                            say(&format!("simulation: seed {seed}\n{failure}\n"));
                            failures.push(seed);
                            if stop {
                                next.store(seeds, Ordering::Relaxed);
                            }
                        }
                    }
                    if (number + 1).is_multiple_of(1_000) {
                        let secs = started.elapsed().as_secs();
                        let failed = failures.len();
                        say(&format!(
                            "simulation: {} of {seeds} seeds, {failed} failed, {secs} s\n",
                            number + 1
                        ));
                    }
                }
            });
        }
    });
    let (sum, mut failures) = totals.into_inner().expect("no thread panics with it");
    failures.sort_unstable();
    let secs = started.elapsed().as_secs_f64();
    say(&format!(
        "simulation: {seeds} seeds, {} steps, {} message frames, {} handler calls, {} masters, {} states set, slowest to settle {:?}, in {secs:.1} s\n",
        sum.steps, sum.frames, sum.calls, sum.reigns, sum.states, sum.took
    ));
    assert!(failures.is_empty(), "{} of {seeds} seeds failed: {failures:?}", failures.len());
}
