use super::*;
use crate::condition::{Limit, Outage};
use crate::protocol::laggard::MARKS;
use crate::protocol::membership::Event;
use crate::protocol::peers::testing;
use crate::protocol::report::Account;
use crate::protocol::testing::Clock;

const SECOND: Duration = Duration::from_secs(1);
const LIMITS: Limits = Limits { queue: 100, rejects: true };

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel() -> ChannelName {
    ChannelName::new("c").expect("a valid name")
}

fn waits(receiver: Option<&str>, count: u64) -> Pending {
    Pending { receiver: receiver.map(node), topic: TopicId(1), channel: channel(), count }
}

fn account(receiver: &str, pending: u64) -> Account {
    Account { receiver: Some(node(receiver)), pending, ..Account::default() }
}

/// A node that knows ann, who is there and has joined nothing.
struct Bench {
    clock: Clock,
    wall: SystemTime,
    starting: bool,
    link: bool,
    connection: Link,
    file: Vec<Reason>,
    closed: Closed,
    peers: Peers,
    it: Looks,
    wake_at: Option<Instant>,
}

impl Bench {
    fn new() -> Self {
        let clock = Clock::new();
        let mut peers = testing::peers(clock.now());
        testing::handle(&mut peers, clock.now(), Event::LinkUp);
        testing::meet(&mut peers, clock.now(), "ann");
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let connection = Link::Connected { server: "one".to_owned() };
        let (file, closed, it) = (Vec::new(), Closed::default(), Looks::new(LIMITS));
        let (starting, link, wake_at) = (false, true, None);
        Self { clock, wall, starting, link, connection, file, closed, peers, it, wake_at }
    }

    fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Looks, &mut Around<'_>) -> R,
    ) -> (R, Vec<Effect>) {
        let (now, mut out) = (self.clock.now(), Vec::new());
        let Self { it, connection, file, closed, peers, .. } = self;
        let around = &mut Around {
            now,
            counted: now.mono,
            wall: self.wall,
            starting: self.starting,
            link: self.link,
            connection,
            file: &|| file.clone(),
            apart: &|| None,
            closed,
            peers,
            leadership: None,
            standing: &|_, _| Standing::Moving,
            out: &mut out,
        };
        let decided = decide(it, around);
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
    fn say<R>(&mut self, decide: impl FnOnce(&mut Looks, &mut Around<'_>) -> R) -> Vec<Effect> {
        self.decide(decide).1
    }

    /// What its timer brings within this time.
    fn pass(&mut self, time: Duration) -> Vec<Effect> {
        let (end, mut done) = (self.clock.now().mono + time, Vec::new());
        while let Some(at) = self.wake_at.filter(|at| *at <= end) {
            self.clock.pass(at.saturating_duration_since(self.clock.now().mono));
            done.append(&mut self.say(Looks::woke));
            assert!(self.wake_at.is_none_or(|next| next > at), "a timer that goes off at once");
        }
        self.clock.pass(end.saturating_duration_since(self.clock.now().mono));
        done
    }

    fn lose_connection(&mut self) -> Vec<Effect> {
        self.link = false;
        let (reason, outage) = ("gone".to_owned(), Outage::NoServer);
        self.connection = Link::Disconnected { reason, outage };
        self.it.link_down();
        self.say(Looks::tell)
    }
}

fn names(effects: &[Effect]) -> Vec<String> {
    let name = |effect: &Effect| match effect {
        Effect::Count => "count".to_owned(),
        Effect::Measure => "measure".to_owned(),
        Effect::Expire => "expire".to_owned(),
        Effect::Show(reasons) => {
            let reasons: Vec<&str> = reasons.iter().map(Reason::name).collect();
            format!("show {}", reasons.join(" "))
        }
        Effect::Tell(News::Begins(reason)) => format!("{} begins", reason.name()),
        Effect::Tell(News::Ends(reason)) => format!("{} ends", reason.name()),
        Effect::Near(near) => format!("{} %", near.percent),
        Effect::Answer(reasons) => format!("answer {}", reasons.len()),
        Effect::WakeAt(_) => "wake".to_owned(),
    };
    effects.iter().map(name).collect()
}

fn full() -> Reason {
    Reason::DiskFull { path: "a.db".to_owned() }
}

#[test]
fn what_waits_is_counted_every_few_seconds_and_never_twice_at_once() {
    let mut bench = Bench::new();
    assert_eq!(bench.say(Looks::start), [Effect::Count]);
    assert_eq!(bench.pass(20 * SECOND), [], "the file has not answered");
    bench.say(|it, around| it.counted(around, Some(Vec::new())));
    assert_eq!(bench.pass(LOOK_EVERY), [Effect::Count]);
    // One that failed is made again.
    bench.say(|it, around| it.counted(around, None));
    assert_eq!(bench.pass(LOOK_EVERY), [Effect::Count]);
}

#[test]
fn a_reason_is_shown_before_it_is_told_and_again_when_it_ends() {
    let mut bench = Bench::new();
    bench.say(Looks::start);
    bench.file = vec![full()];
    assert_eq!(names(&bench.say(Looks::tell)), ["show disk_full", "disk_full begins"]);
    assert_eq!(bench.say(Looks::tell), []);
    bench.file.clear();
    assert_eq!(names(&bench.say(Looks::tell)), ["show ", "disk_full ends"]);
}

#[test]
fn a_receiver_in_the_way_is_told_when_it_has_been_for_a_while() {
    let mut bench = Bench::new();
    bench.say(Looks::start);
    let waiting = || Some(vec![waits(Some("ann"), 3)]);
    let done = bench.say(|it, around| it.counted(around, waiting()));
    assert_eq!(names(&done), ["show not_joined"]);
    let mut told = Vec::new();
    for _ in 0..12 {
        for effect in bench.pass(SECOND) {
            assert_eq!(effect, Effect::Count);
            told.append(&mut bench.say(|it, around| it.counted(around, waiting())));
        }
    }
    assert_eq!(names(&told), ["not_joined begins"]);
    // Where the file does not say what waits, what was found before goes on.
    assert_eq!(bench.say(|it, around| it.counted(around, None)), []);
    let done = bench.say(|it, around| it.counted(around, Some(Vec::new())));
    assert_eq!(names(&done), ["show ", "not_joined ends"]);
}

#[test]
fn what_stands_at_the_very_start_is_no_news() {
    let mut bench = Bench::new();
    (bench.starting, bench.link, bench.connection) = (true, false, Link::Connecting);
    assert_eq!(bench.say(Looks::start), [Effect::Count]);
    let counted = |bench: &mut Bench| bench.say(|it, around| it.counted(around, Some(Vec::new())));
    assert_eq!(counted(&mut bench), []);
    bench.starting = false;
    assert_eq!(names(&bench.say(Looks::tell)), ["show no_server", "no_server begins"]);
}

#[test]
fn who_asks_gets_all_reasons_counted_anew() {
    let mut bench = Bench::new();
    bench.file = vec![full()];
    assert_eq!(bench.say(Looks::ask), [Effect::Count]);
    assert_eq!(bench.say(Looks::ask), [], "one count is for both");
    let done = bench.say(|it, around| it.counted(around, Some(vec![waits(None, 1)])));
    assert_eq!(names(&done).last().map(String::as_str), Some("answer 2"));
    let done = bench.say(|it, around| it.counted(around, None));
    assert!(!names(&done).iter().any(|name| name.starts_with("answer")), "{done:?}");
}

#[test]
fn a_report_says_what_waits_now_and_how_much_more_there_is() {
    let mut bench = Bench::new();
    let pending: Vec<Pending> =
        (0..150).map(|n| waits(Some(&format!("b{n}")), 1)).chain([waits(Some("ann"), 1)]).collect();
    let ((told, left), done) =
        bench.decide(|it, around| it.report(around, Some(pending.clone()), None));
    assert_eq!((told.len(), left, done), (MAX_SHOWN, 51, Vec::new()));
    let about = About { channel: channel(), receivers: vec![node("ann")] };
    let ((told, left), _) = bench.decide(|it, around| it.report(around, None, Some(&about)));
    assert_eq!((told.len(), left), (1, 0), "{told:?}");
    assert_eq!(told[0].receiver, Some(node("ann")));
}

#[test]
fn refusals_of_a_server_are_bounded_and_end_with_its_connection() {
    let mut bench = Bench::new();
    for number in 0..40 {
        let said = format!("Permissions Violation for Publish to {number}");
        bench.say(|it, around| it.denied(around, said.clone()));
        bench.say(|it, around| it.denied(around, said));
    }
    assert_eq!(bench.it.denied.len(), MAX_DENIED);
    assert_eq!(bench.it.shown.len(), 1, "alike with alike: {:?}", bench.it.shown);
    assert_eq!(names(&bench.lose_connection()), ["show no_server", "no_server begins"]);
    bench.link = true;
    bench.connection = Link::Connected { server: "two".to_owned() };
    bench.it.link_up(vec!["maximum subscriptions exceeded".to_owned()]);
    let told = names(&bench.say(Looks::tell));
    assert_eq!(told, ["show server_limit", "no_server ends", "server_limit begins"]);
}

#[test]
fn who_is_behind_is_looked_at_when_a_mark_may_be_reached() {
    let mut bench = Bench::new();
    bench.say(Looks::filling);
    assert_eq!(bench.pass(Duration::ZERO), [Effect::Measure]);
    bench.say(Looks::filling);
    assert_eq!(bench.pass(60 * SECOND), [], "that is being looked at");
    let accounts = vec![account("ann", MARKS[0]), account("bob", 3)];
    let filled = Filled { accounts, used_bytes: 1, limit_bytes: 100 };
    let done = bench.say(|it, around| it.measured(around, Some(filled)));
    assert_eq!(names(&done), ["show limit_near", "50 %"]);
    let Effect::Near(near) = &done[1] else { panic!("{done:?}") };
    assert_eq!((&near.receiver, near.limit), (&Some(node("ann")), Limit::Queue(100)));

    // As long as a mark is reached it is looked at again, and once that is over no more.
    assert_eq!(bench.pass(29 * SECOND), []);
    assert_eq!(bench.pass(SECOND), [Effect::Measure]);
    assert_eq!(bench.say(|it, around| it.measured(around, None)), [], "the file failed");
    assert_eq!(bench.pass(30 * SECOND), [Effect::Measure]);
    let done = bench.say(|it, around| it.measured(around, Some(Filled::default())));
    assert_eq!(names(&done), ["show "]);
    assert_eq!(bench.pass(300 * SECOND), []);
}

#[test]
fn looks_at_who_is_behind_have_a_pause_between_them() {
    let mut bench = Bench::new();
    bench.say(Looks::filling);
    bench.pass(Duration::ZERO);
    bench.say(|it, around| it.measured(around, Some(Filled::default())));
    bench.say(Looks::filling);
    assert_eq!(bench.pass(1_999 * SECOND / 1_000), []);
    assert_eq!(bench.pass(SECOND / 1_000), [Effect::Measure]);
}

#[test]
fn a_file_that_fills_is_told_with_the_one_for_whom_most_waits() {
    let mut bench = Bench::new();
    let accounts = vec![account("ann", 7)];
    let filled = Filled { accounts, used_bytes: 81, limit_bytes: 100 };
    let done = bench.say(|it, around| it.measured(around, Some(filled)));
    assert_eq!(names(&done), ["show storage_near", "81 %"]);
    // Sizes that nobody should believe.
    let filled = Filled { used_bytes: u64::MAX, limit_bytes: 0, ..Filled::default() };
    bench.say(|it, around| it.measured(around, Some(filled)));
}

#[test]
fn a_start_with_much_that_waits_is_looked_at() {
    let (ann, bob) = (node("ann"), node("bob"));
    let mut bench = Bench::new();
    let now = bench.clock.now().mono;
    bench.it.restored(now, [(&ann, 30), (&bob, 49)].into_iter());
    assert_eq!(bench.say(Looks::start), [Effect::Count]);
    assert_eq!(bench.pass(SECOND), []);
    let mut bench = Bench::new();
    let now = bench.clock.now().mono;
    bench.it.restored(now, [(&ann, 30), (&bob, u64::MAX), (&ann, 20), (&bob, 9)].into_iter());
    assert_eq!(bench.say(Looks::start), [Effect::Count]);
    assert_eq!(bench.pass(SECOND), [Effect::Measure]);
}

#[test]
fn who_is_behind_at_the_very_start_is_told_once_that_is_shown() {
    let mut bench = Bench::new();
    (bench.starting, bench.link, bench.connection) = (true, false, Link::Connecting);
    bench.say(Looks::start);
    bench.say(Looks::filling);
    assert_eq!(bench.pass(SECOND), []);
    bench.starting = false;
    bench.say(Looks::tell);
    assert_eq!(bench.pass(Duration::ZERO), [Effect::Measure]);
    let filled = Filled { accounts: vec![account("ann", 60)], ..Filled::default() };
    let done = bench.say(|it, around| it.measured(around, Some(filled)));
    assert_eq!(names(&done), ["show no_server limit_near", "60 %"]);
}

#[test]
fn what_expires_without_a_reader_is_looked_for_at_its_time() {
    let mut bench = Bench::new();
    let at_ms = bench.clock.now().file_ms + 3_000;
    bench.say(|it, around| it.unclaimed_expires(around, at_ms));
    assert_eq!(bench.pass(3 * SECOND), []);
    assert_eq!(bench.pass(SECOND / 1_000), [Effect::Expire]);
    assert_eq!(bench.pass(60 * SECOND), [], "it is being looked for");
    bench.say(|it, around| it.expired(around, SECOND, Err(())));
    assert_eq!(bench.pass(29 * SECOND), []);
    assert_eq!(bench.pass(SECOND), [Effect::Expire], "what failed is made again");
    bench.say(|it, around| it.expired(around, SECOND, Ok(None)));
    assert_eq!(bench.pass(300 * SECOND), []);
    // A time that is none.
    bench.say(|it, around| it.unclaimed_expires(around, u64::MAX));
    assert_eq!(bench.pass(300 * SECOND), []);
}

#[test]
fn a_wall_clock_that_was_never_set_is_a_reason() {
    let mut bench = Bench::new();
    bench.wall = SystemTime::UNIX_EPOCH;
    assert_eq!(names(&bench.say(Looks::tell)), ["show clock_wrong", "clock_wrong begins"]);
}
