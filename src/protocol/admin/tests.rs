use super::*;
use crate::message::{Mode, StartAt, StoreId};
use crate::protocol::membership::Event;
use crate::protocol::orders::REPEAT;
use crate::protocol::peers::{self, testing};
use crate::protocol::testing::Clock;

const RUN: Incarnation = Incarnation::from_u128(100);
const WITHIN: Duration = Duration::from_secs(3);

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).expect("a valid name")
}

fn order(number: u64, task: Task) -> Order {
    let (from, to) = (node("hq"), node("me"));
    Order { from, to, order: number, incarnation: None, term: None, task }
}

fn term() -> Term {
    Term::new(4).expect("a low one")
}

fn done(waiting: u64) -> Done {
    Done { waiting, ..Done::default() }
}

/// What an outcome says that is sent.
fn said(effects: &[Effect]) -> Option<&Verdict> {
    effects.iter().find_map(|effect| match effect {
        Effect::Say { frame, .. } => match &**frame {
            Frame::Outcome(outcome) => Some(&outcome.result),
            _ => None,
        },
        _ => None,
    })
}

fn answers(effects: &[Effect]) -> Vec<(u64, &Answer)> {
    let answer = |effect: &Effect| matches!(effect, Effect::Answer { .. });
    let answers = effects.iter().filter(|effect| answer(effect));
    let answers = answers.map(|effect| match effect {
        Effect::Answer { number, answer, .. } => (*number, answer),
        _ => unreachable!(),
    });
    answers.collect()
}

struct Bench {
    clock: Clock,
    link: bool,
    peers: Peers,
    admin: Admin,
}

impl Bench {
    fn new(policy: Management) -> Self {
        Self::of(policy, None)
    }

    /// Of a node that knows hq, and has joined two channels.
    fn of(policy: Management, draining: Option<NodeId>) -> Self {
        let clock = Clock::new();
        let mut peers = testing::peers(clock.now());
        testing::handle(&mut peers, clock.now(), Event::LinkUp);
        testing::meet(&mut peers, clock.now(), "hq");
        for name in ["a", "b"] {
            let mut out = Vec::new();
            let around = &mut peers::Around {
                now: clock.now(),
                store: StoreId::from_u128(1),
                sends_to: &|_| false,
                works_for: &|_| false,
                out: &mut out,
            };
            peers.joined(around, channel(name), (Mode::Reader, StartAt::Joined), 1);
        }
        let admin = Admin::new(node("me"), RUN, policy, true, draining);
        Self { clock, link: true, peers, admin }
    }

    fn decide(&mut self, decide: impl FnOnce(&mut Admin, &mut Around<'_>)) -> Vec<Effect> {
        let mut out = Vec::new();
        let around = &mut Around {
            now: self.clock.now(),
            link: self.link,
            term: None,
            peers: &self.peers,
            receivers: &|| vec![node("ship"), node("shore")],
            out: &mut out,
        };
        decide(&mut self.admin, around);
        out
    }

    fn order(&mut self, order: Order) -> Vec<Effect> {
        self.decide(|it, around| it.ordered(around, order, false))
    }

    fn noted(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        let order = effects.into_iter().find_map(|effect| match effect {
            Effect::Note { order, .. } => Some(order),
            _ => None,
        });
        let order = *order.expect("an order that is to be noted");
        self.decide(|it, around| it.noted(around, order, Ok(())))
    }

    /// Up to the point at which the file has its work.
    fn begin(&mut self, number: u64, task: Task) -> (Vec<Effect>, Work) {
        let effects = self.order(order(number, task));
        let mut effects = self.noted(effects);
        let Some(Effect::Execute(work)) = effects.pop() else { panic!("{effects:?}") };
        (effects, *work)
    }

    fn obey(&mut self, number: u64, task: Task) -> Vec<Effect> {
        let (_, work) = self.begin(number, task);
        self.decide(|it, around| it.executed(around, work, Some(done(0))))
    }

    fn fail(&mut self, number: u64, task: Task) -> Vec<Effect> {
        let (_, work) = self.begin(number, task);
        self.decide(|it, around| it.executed(around, work, None))
    }

    fn wake(&mut self) -> Vec<Effect> {
        self.decide(Admin::woke)
    }
}

#[test]
fn an_order_is_on_record_before_anything_is_done() {
    let mut bench = Bench::new(Management::Anyone);
    let effects = bench.order(order(1, Task::Kick));
    let [Effect::Note { token: None, row: Some(row), .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!((row.action, row.detail.as_str()), ("order received", "kick"));
    assert_eq!(*bench.admin.closed(), Closed::default());
    let effects = bench.noted(effects);
    let [Effect::Close(closed), Effect::Execute(work)] = &effects[..] else {
        panic!("{effects:?}")
    };
    assert_eq!(closed.out_of(&channel("x")), Some(&node("hq")));
    let steps = [Step::Settle, Step::Count, Step::Leave(vec![channel("a"), channel("b")])];
    assert_eq!(work.steps(), steps);
    let row = work.row(&done(3)).expect("it is audited");
    assert_eq!((row.action, row.by.as_str()), ("order", "hq"));
    assert!(row.detail.starts_with("kick: left 0 channels"), "{}", row.detail);
}

#[test]
fn an_order_that_cannot_be_noted_is_refused_and_changes_nothing() {
    let mut bench = Bench::new(Management::Anyone);
    for (why, said_why) in [(None, FILE_FAILED), (Some("stale".to_owned()), "stale")] {
        bench.order(order(1, Task::Drain));
        let of = order(1, Task::Drain);
        let effects = bench.decide(|it, around| it.noted(around, of, Err(why)));
        assert_eq!(said(&effects), Some(&Verdict::Refused(said_why.to_owned())));
        assert_eq!(effects.len(), 1, "{effects:?}");
        assert_eq!(*bench.admin.closed(), Closed::default());
        bench = Bench::new(Management::Anyone);
    }
}

#[test]
fn a_refused_order_is_told_and_audited_and_repeated_without_either() {
    let mut bench = Bench::new(Management::Off);
    let effects = bench.order(order(1, Task::Kick));
    let [Effect::Enter(row), Effect::Tell(News::Refused { task, .. }), Effect::Say { .. }] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert!(row.detail.starts_with("kick: refused, management is off"), "{}", row.detail);
    assert_eq!(task, "kick");
    let again = bench.order(order(1, Task::Kick));
    assert!(matches!(again[..], [Effect::Say { .. }]), "{again:?}");
    assert_eq!(said(&again), said(&effects));
}

#[test]
fn p5_an_order_that_is_said_again_is_obeyed_once() {
    let mut bench = Bench::new(Management::Anyone);
    let (_, work) = bench.begin(1, Task::PurgeSent);
    assert!(bench.order(order(1, Task::PurgeSent)).is_empty(), "it is under way");
    let effects = bench.decide(|it, around| it.executed(around, work, Some(done(2))));
    assert_eq!(said(&effects), Some(&Verdict::Done(done(2))));
    let again = bench.order(order(1, Task::PurgeSent));
    assert!(matches!(again[..], [Effect::Say { .. }]), "{again:?}");
    assert_eq!(said(&again), Some(&Verdict::Done(done(2))));
}

#[test]
fn the_master_alone_is_obeyed_where_the_settings_say_so_and_its_token_is_noted() {
    let mut bench = Bench::new(Management::MasterOnly);
    let by_master = Order { term: Some(term()), ..order(1, Task::Drain) };
    let refused = bench.order(by_master.clone());
    assert!(matches!(said(&refused), Some(Verdict::Refused(_))), "{refused:?}");
    let by_master = Order { order: 2, ..by_master };
    let effects = bench.decide(|it, around| it.ordered(around, by_master, true));
    let [Effect::Note { token: Some(token), .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((&token.node, token.term), (&node("hq"), term()));
}

#[test]
fn each_task_asks_the_file_for_what_it_says() {
    let mut bench = Bench::new(Management::Anyone);
    let mut steps = |number, task| bench.begin(number, task).1.steps;
    let now = Clock::new().now().file_ms;
    let between = |steps: &[Step]| steps[1..steps.len() - 1].to_vec();
    let forget = Task::Forget { node: node("ship") };
    assert_eq!(steps(1, forget), [Step::Forget(node("ship")), Step::Settle, Step::Count]);
    assert_eq!(between(&steps(2, Task::PurgeQueue)), [Step::PurgeQueue]);
    let sent = Step::PurgeSent { before_ms: Some(now) };
    assert_eq!(between(&steps(3, Task::PurgeSent)), [sent]);
    let all = [Step::PurgeQueue, Step::PurgeSent { before_ms: None }];
    assert_eq!(between(&steps(4, Task::PurgeAll)), all);
    // Last, so that nothing has happened where the file fails.
    let last = |step| [Step::Settle, Step::Count, step];
    assert_eq!(steps(5, Task::Drain), last(Step::Drain(Some(node("hq")))));
    assert_eq!(steps(6, Task::Readmit), last(Step::Drain(None)));
    let kick = Task::KickChannel { channel: channel("b") };
    assert_eq!(steps(7, kick), last(Step::Leave(vec![channel("b")])));
    let kick = Task::KickChannel { channel: channel("z") };
    assert_eq!(between(&steps(8, kick)), [], "it has not joined it");
}

#[test]
fn nothing_is_sent_to_whom_a_purge_gives_up() {
    let mut bench = Bench::new(Management::Anyone);
    for (number, task) in [(1, Task::PurgeQueue), (2, Task::PurgeAll)] {
        let (effects, work) = bench.begin(number, task);
        let [Effect::StandStill(first), Effect::StandStill(second)] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!((first.as_str(), second.as_str()), ("ship", "shore"));
        let failed = (number == 2).then(|| done(0));
        let effects = bench.decide(|it, around| it.executed(around, work, failed));
        assert!(
            matches!(effects[..], [Effect::GoOn(_), Effect::GoOn(_), Effect::Settled, ..]),
            "{effects:?}"
        );
    }
}

#[test]
fn a_node_that_is_kicked_leaves_and_stays_out_until_it_is_readmitted() {
    let mut bench = Bench::new(Management::Anyone);
    let kick = Task::KickChannel { channel: channel("a") };
    let effects = bench.obey(1, kick);
    let [Effect::Left(left), Effect::Tell(News::Kicked { channel: Some(_), .. }), ..] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(*left, channel("a"));
    assert_eq!(bench.admin.closed().out_of(&channel("b")), None);
    bench.obey(2, Task::Kick);
    assert_eq!(bench.admin.closed().out_of(&channel("b")), Some(&node("hq")));
    assert_eq!(bench.admin.closed().reasons().count(), 2);
    let effects = bench.obey(3, Task::Readmit);
    assert!(matches!(effects[0], Effect::Tell(News::Readmitted { .. })), "{effects:?}");
    assert_eq!(*bench.admin.closed(), Closed::default());
}

#[test]
fn p6_what_the_file_does_not_take_keeps_nobody_out_and_lets_nobody_in() {
    let mut bench = Bench::new(Management::Anyone);
    let kick = |name: &str| Task::KickChannel { channel: channel(name) };
    let tasks = [Task::Kick, kick("a"), Task::Drain];
    for (number, task) in (1..).zip(tasks.clone()) {
        let effects = bench.fail(number, task.clone());
        assert_eq!(said(&effects), Some(&Verdict::Refused(FILE_FAILED.to_owned())));
        assert_eq!(*bench.admin.closed(), Closed::default(), "{task}");
        assert!(
            effects.iter().any(|it| matches!(it, Effect::Close(it) if *it == Closed::default()))
        );
        assert!(!effects.iter().any(|it| matches!(it, Effect::Left(_) | Effect::Tell(_))));
    }
    for (number, task) in (11..).zip(tasks) {
        bench.obey(number, task);
    }
    let before = bench.admin.closed().clone();
    for (number, task) in [(21, kick("a")), (22, Task::Drain), (23, Task::Readmit)] {
        bench.fail(number, task.clone());
        assert_eq!(*bench.admin.closed(), before, "{task}");
    }
}

#[test]
fn a_node_is_kept_out_of_so_many_channels_and_no_more() {
    let mut bench = Bench::new(Management::Anyone);
    let by = node("hq");
    let names = (0..MAX_CHANNELS).map(|n| (channel(&format!("n{n}")), by.clone()));
    bench.admin.closed.channels = names.collect();
    let effects = bench.order(order(1, Task::KickChannel { channel: channel("z") }));
    let effects = bench.noted(effects);
    let Some(Verdict::Refused(reason)) = said(&effects) else { panic!("{effects:?}") };
    assert!(reason.contains("readmit it"), "{reason}");
    let known = Task::KickChannel { channel: channel("n0") };
    bench.obey(2, known);
}

#[test]
fn a_drain_takes_nothing_and_looks_until_nothing_waits_over_restarts_too() {
    let mut bench = Bench::new(Management::Anyone);
    let (effects, work) = bench.begin(1, Task::Drain);
    assert!(matches!(effects[..], [Effect::Close(_), Effect::Hold(true)]), "{effects:?}");
    let effects = bench.decide(|it, around| it.executed(around, work, Some(done(2))));
    assert!(
        matches!(effects[..2], [Effect::Tell(News::Draining { .. }), Effect::Count]),
        "{effects:?}"
    );
    let mut bench = Bench::of(Management::Anyone, Some(node("hq")));
    let effects = bench.decide(Admin::start);
    assert!(
        matches!(effects[..], [Effect::Tell(News::Draining { .. }), Effect::Count]),
        "{effects:?}"
    );
    for waiting in [Some(2), None] {
        let effects = bench.decide(|it, around| it.waiting(around, waiting));
        assert!(matches!(effects[..], [Effect::WakeAt(Some(_))]), "{effects:?}");
        assert!(matches!(bench.wake()[..], [Effect::WakeAt(Some(_))]), "it is not time yet");
        bench.clock.pass(LOOK_AGAIN);
        assert!(matches!(bench.wake()[..], [Effect::Count, Effect::WakeAt(None)]));
    }
    let effects = bench.decide(|it, around| it.waiting(around, Some(0)));
    assert!(matches!(effects[..], [Effect::Tell(News::Drained), Effect::WakeAt(None)]));
    // It is readmitted while it counts.
    let (effects, _) = bench.begin(2, Task::Readmit);
    assert!(matches!(effects[1], Effect::Hold(false)), "{effects:?}");
    assert!(bench.decide(|it, around| it.waiting(around, Some(0))).is_empty());
}

#[test]
fn an_order_of_ours_is_said_again_until_it_is_answered_or_its_time_is_over() {
    let mut bench = Bench::new(Management::Anyone);
    let give = |it: &mut Admin, around: &mut Around<'_>, number| {
        it.give(around, number, node("hq"), Task::Kick, WITHIN);
    };
    let effects = bench.decide(|it, around| give(it, around, 1));
    let [Effect::Say { frame, .. }, Effect::WakeAt(Some(_))] = &effects[..] else {
        panic!("{effects:?}")
    };
    let Frame::Order(said) = &**frame else { panic!("{frame:?}") };
    assert_eq!((said.order, said.incarnation), (1, Some(testing::keepalive("hq").incarnation)));
    bench.decide(|it, around| give(it, around, 2));
    bench.clock.pass(REPEAT);
    let again = bench.wake();
    assert!(matches!(again[..], [Effect::Say { .. }, Effect::Say { .. }, Effect::WakeAt(_)]));
    let outcome = |from: &str| {
        let result = Verdict::Done(done(7));
        Outcome { node: node(from), to: node("me"), order: 1, result }
    };
    let effects = bench.decide(|it, around| it.outcome_came(around, outcome("eve")));
    assert!(effects.is_empty(), "it was not asked: {effects:?}");
    let effects = bench.decide(|it, around| it.outcome_came(around, outcome("hq")));
    assert_eq!(answers(&effects), [(1, &Answer::Done(done(7)))]);
    bench.clock.pass(WITHIN);
    let effects = bench.wake();
    let unanswered = Answer::Failed(Failure::Unanswered { within: WITHIN });
    assert_eq!(answers(&effects), [(2, &unanswered)]);
    assert!(matches!(effects[..], [Effect::Answer { .. }, Effect::WakeAt(None)]), "{effects:?}");
}

#[test]
fn a_question_is_not_answered_by_an_outcome() {
    let mut bench = Bench::new(Management::Anyone);
    bench.decide(|it, around| it.ask_about(around, 1, node("hq"), WITHIN));
    let outcome = Outcome {
        node: node("hq"),
        to: node("me"),
        order: 1,
        result: Verdict::Refused("no".to_owned()),
    };
    assert!(bench.decide(|it, around| it.outcome_came(around, outcome)).is_empty());
    assert!(bench.admin.awaits(1));
}

#[test]
fn what_cannot_be_said_is_answered_at_once() {
    let mut bench = Bench::new(Management::Anyone);
    let offline = bench.decide(|it, around| it.ask_about(around, 1, node("eve"), WITHIN));
    assert_eq!(answers(&offline), [(1, &Answer::Failed(Failure::Offline))]);
    bench.link = false;
    let away = bench.decide(|it, around| it.ask_about(around, 2, node("hq"), WITHIN));
    assert_eq!(answers(&away), [(2, &Answer::Failed(Failure::NotConnected))]);
    bench.link = true;
    for number in 10..10 + MAX_ASKED as u64 {
        bench.decide(|it, around| it.ask_about(around, number, node("hq"), WITHIN));
    }
    let many = bench.decide(|it, around| it.give(around, 3, node("hq"), Task::Kick, WITHIN));
    assert_eq!(answers(&many), [(3, &Answer::Failed(Failure::TooMany))]);
    bench.admin.stop();
    assert!(!bench.admin.awaits(10));
}

#[test]
fn a_node_obeys_and_answers_itself_without_a_word_on_the_network() {
    let mut bench = Bench::new(Management::Off);
    bench.link = false;
    let me = || node("me");
    let effects = bench.decide(|it, around| it.give(around, 1, me(), Task::PurgeSent, WITHIN));
    assert!(!effects.iter().any(|it| matches!(it, Effect::Say { .. })), "{effects:?}");
    let effects = bench.noted(effects);
    let Some(Effect::Execute(work)) = effects.into_iter().last() else { panic!("nothing to do") };
    bench.clock.pass(REPEAT);
    assert!(matches!(bench.wake()[..], [Effect::WakeAt(Some(_))]), "it is not said again");
    let effects = bench.decide(|it, around| it.executed(around, *work, Some(done(0))));
    assert_eq!(answers(&effects), [(1, &Answer::Done(done(0)))]);
    let effects = bench.decide(|it, around| it.ask_about(around, 2, me(), WITHIN));
    assert!(matches!(effects[1], Effect::Report(Query { query: 2, .. })), "{effects:?}");
}

#[test]
fn p8_a_stranger_gets_so_many_reports_a_second_and_our_own_are_not_counted() {
    let mut bench = Bench::new(Management::Anyone);
    let query = |number| Query { from: node("eve"), query: number, state: false, about: None };
    let mut told = 0;
    for number in 0..100 {
        told += bench.decide(|it, around| it.queried(around, query(number))).len();
    }
    assert_eq!(told, REPORTS_A_SECOND as usize);
    let ours = bench.decide(|it, around| it.ask_about(around, 1, node("me"), WITHIN));
    assert!(ours.iter().any(|it| matches!(it, Effect::Report(_))), "{ours:?}");
    bench.clock.pass(Duration::from_secs(1));
    assert_eq!(bench.decide(|it, around| it.queried(around, query(100))).len(), 1);
}
