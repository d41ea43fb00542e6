//! The election, checked exhaustively: every order in which frames of three voters can arrive, get lost, come late and twice, and in which
//! nodes stand for election, crash, start again from their disks, and lose track of time.
//!
//! What is driven is `waypost::protocol::election::Election::handle`, the function that ships. `docs/election.md` says what the models leave
//! out, and why that hides nothing. `WAYPOST_MODEL=thorough` goes further, for minutes; compile it with optimisations then.

#[path = "election_model/clock.rs"]
mod clock;
#[path = "election_model/cluster.rs"]
mod cluster;
#[path = "election_model/machine.rs"]
mod machine;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Instant;

use clock::Clock;
use cluster::{ANY, Bounds, Cluster};
use machine::Disk;
use stateright::{Checker, Expectation, HasDiscoveries, Model};

const THREADS: usize = 2;

/// Three terms, as many crashes as there can be, one state that is set.
const USUAL: Bounds =
    Bounds { terms: 3, crashes: ANY, sets: 1, handoffs: 0, disk: Disk::AtOnce, beats: false };

fn thorough() -> bool {
    std::env::var("WAYPOST_MODEL").is_ok_and(|how| how == "thorough")
}

/// Goes through all states. A promise that is broken fails the test, with the way there.
fn holds<M>(what: &str, model: M)
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let since = Instant::now();
    let checker = model
        .checker()
        .threads(THREADS)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_dfs()
        .join();
    println!(
        "{what}: {} states, {} steps between them, the longest way {}, {:?}",
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        since.elapsed()
    );
    for property in checker.model().properties() {
        let found = checker.discovery(property.name).map(|path| path.into_actions());
        let good = found.is_some() == (property.expectation == Expectation::Sometimes);
        assert!(good, "{what}: {}: {found:#?}", property.name);
    }
}

/// Looks for the shortest way to a broken promise, and says how long it is.
fn fails<M>(what: &str, model: M, promise: &'static str) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: Clone + Debug + Hash + PartialEq + Send + Sync,
    M::Action: Clone + Debug + PartialEq + Send + Sync,
{
    let checker = model
        .checker()
        .threads(THREADS)
        .finish_when(HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let Some(path) = checker.discovery(promise) else { panic!("{what}: {promise} holds") };
    let steps = path.into_actions();
    println!("{what}: {promise} fails after {} steps: {steps:#?}", steps.len());
    steps.len()
}

fn cluster(bounds: Bounds) -> Cluster {
    Cluster { bounds, start: Instant::now() }
}

fn clock(ticks: u32, restarts: u8) -> Clock {
    Clock { ticks, restarts, slow: false, start: Instant::now() }
}

#[test]
fn three_voters_elect_one_master_a_term_and_lose_nothing_in_three_terms_and_any_number_of_crashes()
{
    holds("three terms", cluster(USUAL));
}

#[test]
fn a_disk_that_takes_its_time_or_tears_changes_nothing() {
    holds("a slow disk", cluster(Bounds { terms: 2, sets: 0, disk: Disk::Slow, ..USUAL }));
}

#[test]
fn handing_over_changes_nothing() {
    holds("handing over", cluster(Bounds { terms: 2, sets: 0, handoffs: 1, ..USUAL }));
}

#[test]
fn beats_that_come_late_or_never_change_nothing() {
    holds("beats", cluster(Bounds { terms: 2, sets: 0, beats: true, ..USUAL }));
}

#[test]
fn there_are_never_two_masters_at_one_moment() {
    // A lease takes two ticks, and a voter waits for three.
    holds("a common clock", clock(3, 0));
    holds("a common clock and a restart", clock(2, 1));
}

#[test]
fn all_of_it_further() {
    if !thorough() {
        return;
    }
    holds("three terms, two states", cluster(Bounds { sets: 2, ..USUAL }));
    holds("three terms, handing over", cluster(Bounds { handoffs: 1, ..USUAL }));
    holds("a common clock and a restart, for longer", clock(4, 1));
    let slow = Bounds { disk: Disk::Slow, ..USUAL };
    holds("a slow disk and a state", cluster(Bounds { terms: 2, ..slow }));
    holds("three terms, a slow disk, two crashes", cluster(Bounds { crashes: 2, ..slow }));
}

#[test]
fn the_checker_sees_votes_that_are_not_on_disk() {
    let forgets = Bounds { terms: 1, crashes: 2, disk: Disk::LosesVotes, ..USUAL };
    fails("lost votes", cluster(forgets), cluster::ONE_MASTER);
}

#[test]
fn the_checker_sees_states_that_are_not_on_disk() {
    let forgets = Bounds { terms: 2, crashes: 1, disk: Disk::LosesStates, ..USUAL };
    fails("lost states", cluster(forgets), cluster::NOTHING_LOST);
}

#[test]
fn the_checker_sees_what_comes_of_a_clock_at_half_speed() {
    fails("a slow clock", Clock { slow: true, ..clock(3, 0) }, clock::ONE_MASTER);
}

/// The models tell worlds apart by a number made of what counts. Where that left out something that counts, two worlds with one number would
/// have different futures.
#[test]
fn worlds_with_the_same_number_have_the_same_future() {
    compare(&cluster(Bounds { terms: 2, ..USUAL }), |world| world.key);
    compare(&clock(2, 0), |moment| moment.key);
}

fn compare<M: Model<State: Debug>>(model: &M, key: fn(&M::State) -> u64) {
    let mut known: HashMap<u64, BTreeSet<u64>> = HashMap::new();
    let mut queue: VecDeque<M::State> = model.init_states().into();
    while let Some(world) = queue.pop_front() {
        let next = model.next_states(&world);
        let future: BTreeSet<u64> = next.iter().map(key).collect();
        match known.get(&key(&world)) {
            Some(other) => assert_eq!(*other, future, "of {world:?}"),
            None => {
                known.insert(key(&world), future);
                queue.extend(next);
            }
        }
    }
    println!("{} worlds", known.len());
}
