use super::*;
use crate::protocol::membership::Event;
use crate::protocol::peers::testing;
use crate::protocol::testing::Clock;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);

/// A node whose machine may be suspended.
struct Bench {
    clock: Clock,
    suspended: Duration,
    link: bool,
    peers: Peers,
    it: Lifecycle,
    wake_at: Option<Instant>,
}

impl Bench {
    fn new() -> Self {
        Self::cleaning_every(HOUR)
    }

    fn cleaning_every(interval: Duration) -> Self {
        let clock = Clock::new();
        let now = clock.now();
        let (peers, it) = (testing::peers(now), Lifecycle::new(interval, now.mono, now.mono));
        let suspended = Duration::ZERO;
        let mut bench = Self { clock, suspended, link: false, peers, it, wake_at: None };
        assert_eq!(bench.say(Lifecycle::start), []);
        bench
    }

    fn counted(&self) -> Instant {
        self.clock.now().mono + self.suspended
    }

    fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Lifecycle, &mut Around<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let (now, counted, mut out) = (self.clock.now(), self.counted(), Vec::new());
        let (link, peers) = (self.link, &self.peers);
        let decided =
            decide(&mut self.it, &mut Around { now, counted, link, peers, out: &mut out });
        out.retain(|effect| match effect {
            Effect::WakeAt(at) => {
                self.wake_at = *at;
                false
            }
            _ => true,
        });
        (decided, out)
    }

    /// What came of it, but for wake-ups.
    fn say<R>(&mut self, decide: impl FnOnce(&mut Lifecycle, &mut Around<'_>) -> R) -> Vec<Effect> {
        self.decide(decide).1
    }

    /// What its timer brings within this time. It is never late.
    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let (end, mut done) = (self.clock.now().mono + time, Vec::new());
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.clock.pass(at.saturating_duration_since(self.clock.now().mono));
            done.append(&mut self.say(Lifecycle::woke));
            let stuck = self.wake_at.is_some_and(|next| next <= at);
            if stuck && self.it.is_over(at, true) {
                break;
            }
            assert!(!stuck, "a timer that goes off at once");
        }
        self.clock.pass(end.saturating_duration_since(self.clock.now().mono));
        done
    }

    fn connect(&mut self) {
        self.link = true;
        self.say(Lifecycle::link_up);
        let now = self.clock.now();
        testing::handle(&mut self.peers, now, Event::LinkUp);
    }

    /// Its own keepalive comes back, first of all.
    fn hears_itself(&mut self) {
        let now = self.clock.now();
        let own = testing::own_keepalive(0);
        testing::handle(&mut self.peers, now, Event::Keepalive(own));
    }

    fn runs(&mut self) -> &mut Self {
        self.connect();
        self.hears_itself();
        assert_eq!(self.pass(SECOND), [Effect::Started(Ok(()))]);
        self
    }
}

fn is_start(effect: &Effect) -> bool {
    matches!(effect, Effect::Started(_))
}

#[test]
fn a_start_does_not_wait_for_a_server_for_long() {
    let mut bench = Bench::new();
    assert_eq!(bench.pass(999 * MS), []);
    assert!(bench.it.is_starting());
    assert_eq!(bench.pass(MS), [Effect::Started(Ok(()))]);
    assert!(!bench.it.is_starting());
    // It returns once.
    bench.connect();
    bench.hears_itself();
    assert!(!bench.pass(10 * SECOND).iter().any(is_start));
    assert_eq!(bench.say(Lifecycle::link_down), []);
}

#[test]
fn a_start_returns_at_once_where_the_connection_is_refused() {
    let mut bench = Bench::new();
    bench.clock.pass(20 * MS);
    assert_eq!(bench.say(Lifecycle::link_down), [Effect::Started(Ok(()))]);
}

#[test]
fn a_start_waits_for_objections_after_its_own_word_has_come_back() {
    let mut bench = Bench::new();
    bench.clock.pass(100 * MS);
    bench.connect();
    assert_eq!(bench.pass(400 * MS), [], "nobody has heard us yet");
    bench.hears_itself();
    assert_eq!(bench.pass(799 * MS), [], "the other one is as slow as we are");
    assert_eq!(bench.pass(151 * MS), [Effect::Started(Ok(()))]);

    let mut bench = Bench::new();
    bench.connect();
    bench.clock.pass(10 * MS);
    bench.hears_itself();
    assert_eq!(bench.pass(139 * MS), []);
    assert_eq!(bench.pass(25 * MS), [Effect::Started(Ok(()))]);
}

#[test]
fn a_start_ends_where_its_own_word_never_comes_back() {
    let mut bench = Bench::new();
    bench.connect();
    let started = bench.pass(4 * SECOND);
    assert_eq!(started.iter().filter(|effect| is_start(effect)).count(), 1, "{started:?}");
}

#[test]
fn a_start_fails_where_another_node_was_there_first() {
    let mut bench = Bench::new();
    bench.connect();
    let rival = Rival { host: "elsewhere".to_owned(), incarnation: Incarnation::from_u128(7) };
    bench.link = false;
    let failed = bench.say(|it, around| it.stood_back(around, rival.clone()));
    assert_eq!(failed, [Effect::Started(Err(rival.clone()))]);
    assert!(!bench.pass(5 * SECOND).iter().any(is_start));
    // One that comes later is for the program's monitors.
    let mut bench = Bench::new();
    bench.runs();
    assert_eq!(bench.say(|it, around| it.stood_back(around, rival)), []);
}

#[test]
fn a_process_that_stood_still_says_so_before_all_else() {
    let mut bench = Bench::new();
    bench.runs();
    bench.pass(3 * SECOND);
    bench.clock.pass(990 * MS);
    assert!(!bench.it.is_late(bench.counted()), "a timer may be late by that");
    bench.clock.pass(20 * MS);
    assert!(bench.it.is_late(bench.counted()));
    assert_eq!(bench.say(Lifecycle::look), [Effect::StoodStill, Effect::Doubt]);
    assert!(!bench.it.is_late(bench.counted()), "once");
    assert_eq!(bench.say(Lifecycle::look), []);
}

#[test]
fn a_machine_that_was_suspended_stood_still_whatever_its_timers_say() {
    let mut bench = Bench::new();
    bench.runs();
    bench.suspended += 5 * SECOND;
    assert!(bench.it.is_late(bench.counted()));
    assert_eq!(bench.say(Lifecycle::look), [Effect::StoodStill, Effect::Doubt]);
}

#[test]
fn nobody_takes_the_place_of_a_node_without_a_connection() {
    let mut bench = Bench::new();
    bench.pass(2 * SECOND);
    bench.clock.pass(MINUTE / 2);
    assert!(bench.it.is_late(bench.counted()));
    assert_eq!(bench.say(Lifecycle::look), []);
    // The next connection begins anew.
    bench.clock.pass(10 * SECOND);
    bench.connect();
    assert!(!bench.it.is_late(bench.counted()));
}

#[test]
fn once_a_minute_the_clock_is_looked_at_and_now_and_then_peers_are_noted() {
    let mut bench = Bench::new();
    let mut looks = 0;
    for minute in 1..=20 {
        let done = bench.pass(MINUTE);
        let noted = done.contains(&Effect::NotePeers);
        assert_eq!(noted, minute % 10 == 0, "{minute}: {done:?}");
        looks += done.iter().filter(|effect| **effect == Effect::LookAtClock).count();
        let at = |wanted: &Effect| done.iter().position(|effect| effect == wanted);
        assert!(!noted || at(&Effect::NotePeers) < at(&Effect::LookAtClock), "in one commit");
        assert!(!done.iter().any(|effect| matches!(effect, Effect::Suspended(_))), "{done:?}");
    }
    assert_eq!(looks, 20);
}

#[test]
fn time_that_a_machine_was_suspended_is_told_once() {
    let mut bench = Bench::new();
    bench.pass(2 * SECOND);
    bench.suspended += HOUR;
    let done = bench.pass(MINUTE);
    assert!(done.starts_with(&[Effect::Suspended(HOUR)]), "{done:?}");
    let done = bench.pass(MINUTE);
    assert!(!done.iter().any(|effect| matches!(effect, Effect::Suspended(_))), "{done:?}");
    // Two clocks that are read one after the other.
    bench.suspended += 900 * MS;
    assert!(!bench.pass(MINUTE).contains(&Effect::Suspended(900 * MS)));
}

#[test]
fn a_file_is_cleaned_early_and_then_from_time_to_time() {
    let cleans = |done: &[Effect]| done.iter().filter(|effect| **effect == Effect::CleanUp).count();
    let mut bench = Bench::new();
    assert_eq!(cleans(&bench.pass(59 * SECOND)), 0);
    assert_eq!(cleans(&bench.pass(2 * SECOND)), 1);
    assert_eq!(cleans(&bench.pass(3 * HOUR)), 0, "it is being done");
    bench.say(Lifecycle::cleaned);
    assert_eq!(cleans(&bench.pass(HOUR)), 1);
    assert_eq!(cleans(&Bench::cleaning_every(15 * SECOND).pass(16 * SECOND)), 1);
    let mut bench = Bench::cleaning_every(Duration::MAX);
    assert_eq!(cleans(&bench.pass(MINUTE)), 1);
    bench.say(Lifecycle::cleaned);
    assert_eq!(cleans(&bench.pass(HOUR)), 0, "never again");
}

#[test]
fn a_stop_begins_in_order_and_once() {
    let mut bench = Bench::new();
    bench.runs();
    let (begins, done) = bench.decide(|it, around| it.stop(around, SECOND, true));
    assert!(begins && bench.it.is_stopping());
    let steps = [
        Begin::GiveBack,
        Begin::Inbox,
        Begin::Peers,
        Begin::Admin,
        Begin::Notices,
        Begin::Leadership,
    ];
    assert_eq!(done, steps.map(Effect::Begin));
    let (begins, done) = bench.decide(|it, around| it.stop(around, HOUR, true));
    assert!(!begins && done.is_empty());
    bench.it.handed_over();
    assert!(bench.it.is_over(bench.clock.now().mono, false));
}

#[test]
fn a_stop_is_over_when_nothing_is_under_way_or_at_its_time() {
    let now = |bench: &Bench| bench.clock.now().mono;
    let mut bench = Bench::new();
    bench.runs();
    assert!(!bench.it.is_over(now(&bench), false), "it was not told to");
    bench.say(|it, around| it.stop(around, SECOND, false));
    assert!(!bench.it.is_over(now(&bench), true));
    assert!(bench.it.is_over(now(&bench), false));
    bench.pass(999 * MS);
    assert!(!bench.it.is_over(now(&bench), true));
    assert_eq!(bench.wake_at, Some(now(&bench) + MS), "it is woken for that");
    bench.clock.pass(MS);
    assert!(bench.it.is_over(now(&bench), true));
}

#[test]
fn a_stop_waits_until_the_role_is_handed_over() {
    let mut bench = Bench::new();
    bench.runs();
    // Of before: it was no master then.
    bench.it.handed_over();
    bench.say(|it, around| it.stop(around, 5 * SECOND, true));
    let now = bench.clock.now().mono;
    assert!(!bench.it.is_over(now, false));
    bench.it.handed_over();
    assert!(bench.it.is_over(now, false) && !bench.it.is_over(now, true));
}

#[test]
fn a_stop_may_have_no_time_and_all_of_it() {
    let mut bench = Bench::new();
    bench.runs();
    bench.say(|it, around| it.stop(around, Duration::ZERO, true));
    assert!(bench.it.is_over(bench.clock.now().mono, true));
    let mut bench = Bench::new();
    bench.runs();
    bench.say(|it, around| it.stop(around, Duration::MAX, false));
    bench.pass(HOUR);
    assert!(!bench.it.is_over(bench.clock.now().mono, true));
    assert!(bench.it.is_over(bench.clock.now().mono, false));
}

#[test]
fn the_role_ends_before_the_goodbye_and_the_file_is_closed_last() {
    let mut bench = Bench::new();
    bench.runs();
    bench.say(|it, around| it.stop(around, SECOND, true));
    let End { first, hang_up, then } = bench.it.end();
    let at =
        |is: fn(&Last) -> bool| first.iter().position(is).unwrap_or_else(|| panic!("{first:?}"));
    let order = [
        at(|step| matches!(step, Last::Resign { .. })),
        at(|step| matches!(step, Last::CutShort { .. })),
        at(|step| matches!(step, Last::Commit { .. })),
        at(|step| *step == Last::Unnote),
        at(|step| *step == Last::Goodbye),
        at(|step| *step == Last::Settle),
    ];
    assert!(order.is_sorted(), "{first:?}");
    assert!(hang_up > MS, "the goodbye has time to leave");
    assert!(matches!(then[..], [Offline::Note { .. }, Offline::Close]), "{then:?}");
}

#[test]
fn a_node_that_nobody_holds_ends_without_a_word() {
    let mut bench = Bench::new();
    bench.runs();
    let silent = bench.it.end();
    assert!(!silent.first.contains(&Last::Goodbye));
    assert_eq!(silent.hang_up, Duration::ZERO);
    bench.say(|it, around| it.stop(around, SECOND, true));
    let mut said = bench.it.end();
    said.first.retain(|step| *step != Last::Goodbye);
    assert_eq!((said.first, said.then), (silent.first, silent.then), "all else is done");
}
