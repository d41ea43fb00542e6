use super::world::{Machine, Weather, World, numbers};
use super::*;

const VOTERS: [&str; 3] = ["a", "b", "c"];

fn three(weather: Weather, seed: u64) -> World {
    World::new(Settings::new(quorum(&VOTERS)), &VOTERS, weather, seed)
}

/// Half of the times at most, and the longest.
fn spread(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() - 1])
}

/// Kills the master again and again; the time from each kill to the next master.
fn failovers(names: &[&str], weather: Weather, kills: u64) -> Vec<Duration> {
    let mut world = World::new(Settings::new(quorum(names)), names, weather, 11);
    let mut times = Vec::new();
    for _ in 0..kills {
        let (master, _) = world.until_master(30 * SECOND);
        let pause = world.dice.up_to(4 * SECOND);
        world.run(5 * SECOND + pause);
        if world.master() == Some(master) {
            world.kill(master);
            times.push(world.until_master(30 * SECOND).1);
            world.start_after(master, SECOND);
        }
    }
    times
}

#[test]
fn failover_takes_four_seconds_at_most_by_half_and_six_at_the_longest() {
    for names in [&VOTERS[..], &["a", "b", "c", "d", "e"]] {
        let (half, longest) = spread(failovers(names, Weather::FINE, 1_000));
        println!("{} voters: half {half:?}, longest {longest:?}", names.len());
        assert!(half <= 4 * SECOND && longest <= 6 * SECOND, "{half:?}, {longest:?}");
    }
    let slow = Weather { delay: ms(50), lost_percent: 0, disk: ms(50) };
    let (half, longest) = spread(failovers(&VOTERS, slow, 1_000));
    println!("slow network and disk: half {half:?}, longest {longest:?}");
    assert!(half <= 4 * SECOND && longest <= 6 * SECOND, "{half:?}, {longest:?}");
}

#[test]
fn handing_over_takes_less_than_a_second() {
    let mut world = three(Weather::FINE, 3);
    let mut times = Vec::new();
    for _ in 0..200 {
        let (master, _) = world.until_master(30 * SECOND);
        world.set(master);
        let pause = world.dice.up_to(2 * SECOND);
        world.run(SECOND + pause);
        let since = world.now;
        world.tell(master, Event::HandOver { to: None });
        while world.master().is_none_or(|now| now == master) {
            world.run(ms(1));
            assert!(world.now < since + SECOND, "it takes too long");
        }
        times.push(world.now - since);
        world.run(SECOND);
        let done = world.machines[master].answers.last();
        assert!(matches!(done, Some(Action::HandoffDone { to: Some(_) })), "{done:?}");
    }
    println!("handing over: half and longest {:?}", spread(times));
}

/// Kills, freezes, cuts and sets at random.
fn storm(seed: u64) -> World {
    let mut world = three(Weather::STORM, seed);
    for _ in 0..60 {
        let at = (world.dice.draw() % 3) as usize;
        match world.dice.draw() % 13 {
            0 | 1 => {
                world.kill(at);
                let pause = world.dice.up_to(8 * SECOND);
                world.start_after(at, pause);
            }
            2 => {
                let time = world.dice.up_to(10 * SECOND);
                world.freeze(at, time);
            }
            3 => {
                let mut sides = [0; 3];
                sides[at] = 1;
                world.part(&sides);
            }
            4 | 5 => world.part(&[0; 3]),
            6 => world.tell(at, Event::HandOver { to: None }),
            7 => kill_while_handing_over(&mut world, at),
            8 | 9 => set_and_kill(&mut world),
            _ => {
                if let Some(master) = world.master() {
                    world.set(master);
                }
            }
        }
        let pause = world.dice.up_to(3 * SECOND);
        world.run(pause);
    }
    world
}

/// The master, or somebody else, is gone before the handing over is done.
fn kill_while_handing_over(world: &mut World, other: usize) {
    let Some(master) = world.master() else { return };
    world.set(master);
    world.tell(master, Event::HandOver { to: None });
    let moment = world.dice.up_to(ms(400));
    world.run(moment);
    let victim = if world.dice.draw().is_multiple_of(2) { master } else { other };
    world.kill(victim);
    world.start_after(victim, SECOND);
}

/// The master is gone while its state is on its way, and the next one is told a state as soon as there is one.
fn set_and_kill(world: &mut World) {
    let Some(master) = world.master() else { return };
    world.set(master);
    let moment = world.dice.up_to(ms(200));
    world.run(moment);
    world.kill(master);
    let pause = world.dice.up_to(6 * SECOND);
    world.start_after(master, pause);
    for _ in 0..800 {
        world.run(ms(10));
        if let Some(next) = world.master() {
            world.set(next);
            return;
        }
    }
}

#[test]
fn whatever_happens_there_is_one_master_and_what_was_committed_stays() {
    let mut sets = 0;
    for seed in 0..300 {
        let mut world = storm(seed);
        world.part(&[0; 3]);
        (0..3).for_each(|at| world.start_after(at, SECOND));
        world.run(30 * SECOND);
        world.weather = Weather::FINE;
        world.run(15 * SECOND);
        let (master, _) = world.until_master(SECOND);
        let ticket = world.set(master);
        world.run(2 * SECOND);
        assert!(
            world.committed.contains(&ticket),
            "seed {seed}: all is well, and it cannot be set"
        );
        for machine in &world.machines {
            let has = numbers(&machine.durable.state.json);
            assert!(world.committed.is_subset(&has), "seed {seed}: {} has {has:?}", machine.name);
        }
        sets += world.committed.len();
    }
    println!("{sets} states were committed");
    assert!(sets > 1_000, "{sets}");
}

#[test]
fn a_cut_off_master_resigns_before_the_others_elect_and_follows_when_it_comes_back() {
    for seed in 0..100 {
        let mut world = three(Weather::FINE, seed);
        let (old, _) = world.until_master(10 * SECOND);
        let pause = world.dice.up_to(2 * SECOND);
        world.run(SECOND + pause);
        let mut sides = [0; 3];
        sides[old] = 1;
        world.part(&sides);
        // `World::judge` sees to it that there are never two.
        world.run(10 * SECOND);
        let new = world.master().expect("the others have elected");
        assert_ne!(new, old);
        let token = world.machines[new].process.as_ref().map(Election::term);
        world.part(&[0; 3]);
        world.run(10 * SECOND);
        assert_eq!(world.master(), Some(new), "seed {seed}: who comes back unseats nobody");
        assert_eq!(world.machines[new].process.as_ref().map(Election::term), token);
    }
}

#[test]
fn a_voter_with_a_high_term_joins_a_healthy_master_that_stays_in_office() {
    let mut world = three(Weather::FINE, 5);
    let (master, _) = world.until_master(10 * SECOND);
    let other = (master + 1) % 3;
    world.kill(other);
    world.machines[other].durable.term = term(500);
    world.run(SECOND);
    let before = world.machines[master].notices.len();
    world.start_after(other, ms(1));
    for _ in 0..8_000 {
        world.run(ms(1));
        assert_eq!(world.master(), Some(master), "it is unseated at {:?}", world.now);
    }
    let process = |at: usize| world.machines[at].process.as_ref().expect("it runs");
    assert_eq!(process(other).term(), process(master).term());
    assert!(process(master).term() > term(500));
    let new = &world.machines[master].notices[before..];
    let unseated = |(_, notice): &&(_, Notice)| matches!(notice, Notice::BecameFollower { .. });
    assert_eq!(new.iter().find(unseated), None);
    // And it has the state.
    let ticket = world.set(master);
    world.run(SECOND);
    assert!(numbers(&world.machines[other].durable.state.json).contains(&ticket));
}

#[test]
fn without_a_quorum_each_side_has_a_master_and_one_stays_when_they_meet() {
    for seed in 0..100 {
        let names = ["a", "b", "c", "d", "e"];
        let mut world = World::new(Settings::new(Mode::Visible), &names, Weather::FINE, seed);
        world.run(12 * SECOND);
        world.part(&[0, 0, 0, 1, 1]);
        world.look_around();
        world.run(15 * SECOND);
        assert_eq!(world.masters_now(), 2, "seed {seed}");
        (0..5).for_each(|at| _ = world.set(at));
        world.run(SECOND);
        world.part(&[0; 5]);
        world.look_around();
        world.run(10 * SECOND);
        assert_eq!(world.masters_now(), 1, "seed {seed}");
        let master = world.master().expect("just counted");
        let split = |(_, notice): &(_, Notice)| matches!(notice, Notice::SplitSeen { .. });
        let told = |machine: &Machine| machine.notices.iter().any(split);
        assert!(world.machines.iter().any(told), "seed {seed}");
        // All have the state of the one that stayed.
        let state = world.machines[master].process.as_ref().expect("it runs").state().clone();
        for machine in &world.machines {
            assert_eq!(machine.durable.state, state, "seed {seed}: {}", machine.name);
        }
    }
}

#[test]
fn without_a_quorum_two_nodes_fail_over_too() {
    for seed in 0..50 {
        let mut world = World::new(Settings::new(Mode::Visible), &["a", "b"], Weather::FINE, seed);
        let (master, _) = world.until_master(10 * SECOND);
        world.run(2 * SECOND);
        let ticket = world.set(master);
        world.run(SECOND);
        world.kill(master);
        let (next, took) = world.until_master(10 * SECOND);
        assert!(next != master && took <= 6 * SECOND, "seed {seed}: {took:?}");
        let state = world.machines[next].process.as_ref().expect("it runs").state();
        assert!(numbers(&state.json).contains(&ticket));
    }
}
