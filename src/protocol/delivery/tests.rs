use super::*;
use crate::protocol::frame::Verdict;
use crate::protocol::origin::Judgement;
use crate::protocol::testing::Clock;

mod batches;
mod lanes;

const HIGH: TopicId = TopicId(1);
const A: TopicId = TopicId(2);
const B: TopicId = TopicId(3);

fn limits() -> Limits {
    Limits {
        ack_timeout: Duration::from_secs(10),
        backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) },
        max_attempts: 3,
        frame_messages: 1,
        frame_bytes: 1000,
        frame_header_bytes: 100_000,
        frame_wait: Duration::ZERO,
        buffer_messages: 8,
        buffer_bytes: 1000,
    }
}

fn id(seq: u64) -> MessageId {
    MessageId::from_u128(u128::from(seq) * 10)
}

fn head(topic: TopicId, seq: u64) -> Head<()> {
    Head { seq, id: id(seq), topic, expires_ms: None, bytes: 10, header_bytes: 5, body: Some(()) }
}

struct Bench {
    clock: Clock,
    delivery: Delivery<()>,
    /// The page that was asked for last.
    asked: Option<(u64, Vec<(TopicId, u64)>)>,
}

impl Bench {
    /// A receiver that is reachable and takes three topics, of which one is urgent.
    fn new(limits: Limits) -> Self {
        let mut bench =
            Self { clock: Clock::new(), delivery: Delivery::new(limits, 1, vec![]), asked: None };
        for (topic, lane) in [(HIGH, Priority::High), (A, Priority::Normal), (B, Priority::Normal)]
        {
            bench.open(topic, lane, 0, 0);
            bench.say(Event::Activity { topic, active: true });
        }
        bench.say(Event::LinkUp);
        bench.say(Event::Online);
        bench
    }

    fn open(&mut self, topic: TopicId, lane: Priority, acked_seq: u64, last_seq: u64) {
        let at = Position { acked_seq, acked_id: None, skipped: 0 };
        self.say(Event::Opened { topic, lane, at, last_seq });
    }

    fn say(&mut self, event: Event<()>) -> Vec<Action<()>> {
        let mut out = Vec::new();
        self.delivery.handle(self.clock.now(), event, &mut out);
        for action in &out {
            if let Action::Load { token, topics, .. } = action {
                self.asked = Some((*token, topics.clone()));
            }
        }
        out
    }

    /// The page that was asked for holds these.
    fn page(&mut self, heads: Vec<Head<()>>, scanned_to: u64, end: bool) -> Vec<Action<()>> {
        let (token, topics) = self.asked.take().expect("a page was asked for");
        self.say(Event::Loaded { token, topics, heads, scanned_to, end })
    }

    fn append(&mut self, topic: TopicId, seq: u64) -> Vec<Action<()>> {
        self.say(Event::Appended([head(topic, seq)].into()))
    }

    fn answer(&mut self, topic: TopicId, seq: u64, verdict: Verdict) -> Vec<Action<()>> {
        let judgement = Judgement::Fits;
        self.say(Event::Answered(Reply { topic, id: id(seq), last: None, verdict, judgement }))
    }

    /// The file has it that everything up to here ended otherwise than by an acknowledgement.
    fn record(&mut self, topic: TopicId, up_to_seq: u64) -> Vec<Action<()>> {
        self.say(Event::Recorded { topic, up_to_seq })
    }

    fn ack(&mut self, topic: TopicId, seq: u64) -> Vec<Action<()>> {
        self.answer(topic, seq, Verdict::Ack)
    }

    /// Lets time pass, in which the receiver is heard.
    fn pass(&mut self, time: Duration) -> Vec<Action<()>> {
        self.say(Event::Heard);
        self.pass_in_silence(time)
    }

    fn pass_in_silence(&mut self, time: Duration) -> Vec<Action<()>> {
        self.clock.pass(time);
        self.say(Event::Woke)
    }

    /// Lets the time pass that the delivery asked for.
    fn wake(&mut self) -> Vec<Action<()>> {
        let now = self.clock.now();
        let at = self.delivery.wake_at(now).expect("a timer");
        self.pass(at.saturating_duration_since(now.mono))
    }
}

/// How many messages of the last frame went out before, and how many there are.
fn repeated(actions: &[Action<()>]) -> (usize, usize) {
    match actions.last() {
        Some(Action::Publish { repeated, heads, attempt: 1, .. }) => (*repeated, heads.len()),
        other => panic!("{other:?}"),
    }
}

/// The messages that are published, with their attempts.
fn sent(actions: &[Action<()>]) -> Vec<(u64, u32)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Publish { heads, attempt, .. } => Some((heads, *attempt)),
            _ => None,
        })
        .flat_map(|(heads, attempt)| heads.iter().map(move |head| (head.seq, attempt)))
        .collect()
}

fn settled(actions: &[Action<()>]) -> Vec<(u64, u64, u64, &Settled)> {
    actions
        .iter()
        .filter_map(|action| match action {
            Action::Settle { first_seq, last_seq, count, how, .. } => {
                Some((*first_seq, *last_seq, *count, how))
            }
            _ => None,
        })
        .collect()
}

#[test]
fn one_message_is_in_flight_and_the_next_follows_its_ack() {
    let mut bench = Bench::new(limits());
    assert_eq!(sent(&bench.append(A, 1)), [(1, 1)]);
    assert_eq!(bench.append(A, 2), []);
    assert_eq!(bench.append(B, 3), []);
    let actions = bench.ack(A, 1);
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Acknowledged)]);
    assert_eq!(sent(&actions), [(2, 1)]);
    assert_eq!(sent(&bench.ack(A, 2)), [(3, 1)]);
    assert_eq!(bench.delivery.in_flight(), 1);
    bench.ack(B, 3);
    assert!(!bench.delivery.is_busy());
    assert_eq!(bench.delivery.wake_at(bench.clock.now()), None);
}

#[test]
fn a_lost_ack_causes_one_resend() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    assert_eq!(bench.pass(Duration::from_secs(9)), []);
    let actions = bench.pass(Duration::from_secs(1));
    assert!(matches!(actions[0], Action::Unanswered { seq: 1, attempt: 1, times: 1, .. }));
    assert_eq!(sent(&actions), [(1, 1)]);
    assert_eq!(settled(&bench.ack(A, 1)), [(1, 1, 1, &Settled::Acknowledged)]);
}

#[test]
fn a_late_ack_and_a_repeated_one_are_matched_by_id() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(A, 2);
    bench.answer(A, 1, Verdict::Failed { detail: "no".to_owned() });
    // The message rests; its earlier ack comes late and settles it all the same.
    let actions = bench.ack(A, 1);
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Acknowledged)]);
    assert_eq!(sent(&actions), [(2, 1)]);
    assert_eq!(bench.ack(A, 1), [Action::Unmatched]);
    assert_eq!(bench.ack(B, 2), [Action::Unmatched]);
    assert_eq!(bench.ack(A, 99), [Action::Unmatched]);
    assert_eq!(bench.delivery.in_flight(), 1);
}

#[test]
fn attempts_count_only_while_the_receiver_is_online() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.say(Event::Offline);
    assert_eq!(bench.pass(Duration::from_secs(7 * 86_400)), []);
    assert_eq!(sent(&bench.say(Event::Online)), [(1, 1)]);
    bench.say(Event::LinkDown);
    assert_eq!(bench.pass(Duration::from_secs(86_400)), []);
    assert_eq!(sent(&bench.say(Event::LinkUp)), [(1, 1)]);
    bench.say(Event::Unsent(Unsent::NotConnected));
    assert_eq!(sent(&bench.say(Event::LinkUp)), [(1, 1)]);
}

#[test]
fn an_unanswered_frame_is_no_attempt_while_nothing_at_all_is_heard_of_the_receiver() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    // The connection is dead, and neither the client nor the keepalives' absence has shown it yet.
    for _ in 0..20 {
        assert_eq!(sent(&bench.pass_in_silence(Duration::from_secs(10))), [(1, 1)]);
    }
    let actions = bench.pass(Duration::from_secs(10));
    assert!(matches!(actions[0], Action::Unanswered { seq: 1, times: 1, .. }));
    assert_eq!(sent(&actions), [(1, 1)]);
}

/// P4: the file was opened again after a failure, and tells all cursors anew.
#[test]
fn a_cursor_that_is_told_anew_leaves_in_flight_what_is_in_flight() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(HIGH, 2);
    assert_eq!(bench.delivery.in_flight(), 1);
    bench.open(A, Priority::Normal, 0, 1);
    assert_eq!(bench.delivery.in_flight(), 1);
    // A purge that nobody told of is in the file.
    bench.open(A, Priority::Normal, 1, 1);
    assert_eq!(bench.delivery.in_flight(), 1);
    assert_eq!(bench.ack(HIGH, 2).len(), 1);
}

#[test]
fn where_the_file_is_behind_all_is_read_again_from_there() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.ack(A, 1);
    bench.append(A, 2);
    bench.open(A, Priority::Normal, 0, 2);
    assert_eq!(bench.delivery.in_flight(), 0);
    assert_eq!(bench.asked.take().map(|(_, topics)| topics), Some(vec![(A, 0)]));
}

#[test]
fn what_was_skipped_before_a_restart_is_told_after_it() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Closed { topic: A });
    let at = Position { acked_seq: 7, acked_id: Some(id(3)), skipped: 4 };
    let topic = TopicId(9);
    let lane = Priority::Normal;
    bench.say(Event::Opened { topic, lane, at, last_seq: 7 });
    bench.say(Event::Activity { topic, active: true });
    let actions = bench.append(topic, 8);
    let Some(Action::Publish { skipped: 4, previous, .. }) = actions.last() else {
        panic!("the receiver is told of the gap: {actions:?}");
    };
    assert_eq!(*previous, Some(id(3)));
}

#[test]
fn past_its_attempts_a_message_is_dead_and_the_queue_goes_on() {
    let mut bench = Bench::new(limits());
    let failed = || Verdict::Failed { detail: "no".to_owned() };
    bench.append(A, 1);
    bench.append(A, 2);
    bench.answer(A, 1, failed());
    assert_eq!(sent(&bench.wake()), [(1, 2)]);
    bench.answer(A, 1, failed());
    assert_eq!(sent(&bench.wake()), [(1, 3)]);
    let actions = bench.answer(A, 1, failed());
    assert!(matches!(settled(&actions)[..], [(1, 1, 1, Settled::Dead { .. })]));
    let actions = bench.record(A, 1);
    assert_eq!(sent(&actions), [(2, 1)]);
    let Some(Action::Publish { skipped: 1, .. }) = actions.last() else {
        panic!("the receiver is told of the gap: {actions:?}");
    };
}

/// A sender that cron starts once a minute has no time for all of them in one run.
#[test]
fn the_attempts_of_an_earlier_run_count() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Failed { topic: A, seq: 1, attempt: 2 });
    assert_eq!(sent(&bench.append(A, 1)), [(1, 3)]);
    let actions = bench.answer(A, 1, Verdict::Failed { detail: "no".to_owned() });
    assert!(matches!(settled(&actions)[..], [(1, 1, 1, Settled::Dead { .. })]), "{actions:?}");
    // Those of a message that is settled are no other's.
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.say(Event::Failed { topic: A, seq: 1, attempt: 2 });
    bench.ack(A, 1);
    assert_eq!(sent(&bench.append(A, 2)), [(2, 1)]);
}

/// What is silent may have handled it: nobody refused anything.
#[test]
fn a_receiver_that_is_online_and_silent_costs_no_attempt_and_kills_nothing() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(A, 2);
    let mut waited = Duration::ZERO;
    for round in 1..=50 {
        let before = bench.clock.now().mono;
        let actions = bench.wake();
        assert!(
            matches!(actions[0], Action::Unanswered { seq: 1, attempt: 1, times, .. } if times == round)
        );
        assert_eq!((sent(&actions), settled(&actions)), (vec![(1, 1)], vec![]));
        let pause = bench.clock.now().mono - before;
        assert!(round > 4 || pause >= waited, "{pause:?} after {waited:?}");
        waited = pause;
    }
    // A refusal that comes in the end is the first.
    let actions = bench.answer(A, 1, Verdict::Failed { detail: "no".to_owned() });
    assert!(matches!(actions[..], [Action::Attempted { seq: 1, attempt: 1, .. }]), "{actions:?}");
    assert_eq!(sent(&bench.wake()), [(1, 2)]);
    // So does a word that it is at it, and a restart, begin the count anew.
    let times = |actions: &[Action<()>]| match actions.first() {
        Some(Action::Unanswered { times, .. }) => *times,
        other => panic!("{other:?}"),
    };
    assert_eq!(times(&bench.wake()), 1);
    assert_eq!(times(&bench.wake()), 2);
    bench.answer(A, 1, Verdict::Working);
    assert_eq!(times(&bench.wake()), 1);
    assert_eq!(sent(&bench.say(Event::Restarted)), [(1, 2)]);
    assert_eq!(times(&bench.wake()), 1);
    assert_eq!(settled(&bench.ack(A, 1)), [(1, 1, 1, &Settled::Acknowledged)]);
}

#[test]
fn a_failed_handler_backs_off_and_holds_only_its_own_topic() {
    let mut bench = Bench::new(limits());
    let failed = || Verdict::Failed { detail: "no".to_owned() };
    bench.append(A, 1);
    bench.append(A, 2);
    bench.append(B, 3);
    assert_eq!(sent(&bench.answer(A, 1, failed())), [(3, 1)]);
    bench.ack(B, 3);
    assert_eq!(sent(&bench.wake()), [(1, 2)]);
    bench.answer(A, 1, failed());
    assert_eq!(sent(&bench.wake()), [(1, 3)]);
    let actions = bench.answer(A, 1, failed());
    assert!(matches!(settled(&actions)[..], [(1, 1, 1, Settled::Dead { .. })]));
    assert_eq!(sent(&bench.record(A, 1)), [(2, 1)]);
}

#[test]
fn p2_nothing_follows_a_dead_or_expired_message_before_that_is_on_record() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(A, 2);
    bench.append(B, 3);
    let refused = Verdict::Refused { detail: "too large".to_owned() };
    // Another topic does not wait for it.
    assert_eq!(sent(&bench.answer(A, 1, refused)), [(3, 1)]);
    bench.ack(B, 3);
    for event in [Event::Restarted, Event::Woke, Event::Heard] {
        assert_eq!(sent(&bench.say(event)), []);
    }
    assert_eq!(bench.delivery.wake_at(bench.clock.now()), None);
    let expires_ms = Some(bench.clock.now().file_ms);
    let actions = bench.say(Event::Appended([Head { expires_ms, ..head(B, 4) }].into()));
    assert_eq!(settled(&actions), [(4, 4, 1, &Settled::Expired)]);
    assert_eq!(bench.append(B, 5), []);
    assert_eq!(sent(&bench.record(A, 1)), [(2, 1)]);
    bench.ack(A, 2);
    assert_eq!(sent(&bench.record(B, 3)), []);
    assert_eq!(sent(&bench.record(B, 4)), [(5, 1)]);
}

#[test]
fn a_refused_message_is_dead_at_once() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    let actions = bench.answer(A, 1, Verdict::Refused { detail: "too large".to_owned() });
    assert!(matches!(settled(&actions)[..], [(1, 1, 1, Settled::Dead { .. })]));
}

#[test]
fn a_paused_channel_waits_for_the_next_word_and_is_no_attempt() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    for verdict in [Verdict::Paused, Verdict::NotJoined] {
        assert_eq!(bench.answer(A, 1, verdict), []);
        assert_eq!(bench.pass(Duration::from_secs(3600)), []);
        let actions = bench.say(Event::Activity { topic: A, active: true });
        assert_eq!(sent(&actions), [(1, 1)]);
    }
    assert_eq!(bench.answer(A, 1, Verdict::Busy { retry_ms: 500 }), []);
    assert_eq!(sent(&bench.pass(Duration::from_millis(500))), [(1, 1)]);
}

#[test]
fn working_extends_the_timer() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    for _ in 0..100 {
        assert_eq!(bench.pass(Duration::from_secs(9)), []);
        assert_eq!(bench.answer(A, 1, Verdict::Working), []);
    }
    assert_eq!(sent(&bench.pass(Duration::from_secs(10))), [(1, 1)]);
}

#[test]
fn expired_messages_are_skipped_and_counted_also_while_the_receiver_is_away() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Offline);
    let expires_ms = Some(bench.clock.now().file_ms + 5_000);
    bench.say(Event::Appended([Head { expires_ms, ..head(A, 1) }].into()));
    let actions = bench.wake();
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Expired)]);
    bench.append(A, 2);
    assert_eq!(sent(&bench.say(Event::Online)), []);
    let actions = bench.record(A, 1);
    assert_eq!(sent(&actions), [(2, 1)]);
    let Some(Action::Publish { skipped: 1, .. }) = actions.last() else {
        panic!("the receiver is told of the gap: {actions:?}");
    };
}

#[test]
fn a_message_that_expires_in_flight_is_not_sent_again() {
    let mut bench = Bench::new(limits());
    let expires_ms = Some(bench.clock.now().file_ms + 5_000);
    bench.say(Event::Appended([Head { expires_ms, ..head(A, 1) }].into()));
    assert_eq!(bench.pass(Duration::from_secs(6)), []);
    let actions = bench.pass(Duration::from_secs(4));
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Expired)]);
    assert_eq!(sent(&actions), []);
}

#[test]
fn a_restarted_receiver_gets_what_was_in_flight_at_once() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    assert_eq!(sent(&bench.say(Event::Restarted)), [(1, 1)]);
}

#[test]
fn a_repetition_is_told_from_a_first_sending_also_where_it_is_no_attempt() {
    let mut bench = Bench::new(limits());
    assert_eq!(repeated(&bench.append(A, 1)), (0, 1));
    assert_eq!(repeated(&bench.say(Event::Restarted)), (1, 1));
    bench.append(A, 2);
    assert_eq!(repeated(&bench.ack(A, 1)), (0, 1));
    bench.append(A, 3);
    bench.append(A, 4);
    let both = repeated(&bench.say(Event::Restarted));
    assert_eq!(both, (1, limits().frame_messages.min(3)), "only some of a frame's went out before");
}

#[test]
fn a_frame_too_large_for_the_server_is_dead_and_the_queue_goes_on() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.append(A, 2);
    let too_large = Unsent::TooLarge { size: 2000, limit: 1000 };
    let actions = bench.say(Event::Unsent(too_large));
    assert!(matches!(settled(&actions)[..], [(1, 1, 1, Settled::Dead { .. })]));
    assert_eq!(sent(&bench.record(A, 1)), [(2, 1)]);
}

#[test]
fn a_busy_transport_is_tried_again_and_is_no_attempt() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    assert_eq!(bench.say(Event::Unsent(Unsent::Busy)), []);
    let again = bench.say(Event::Room);
    assert_eq!((sent(&again), repeated(&again)), (vec![(1, 1)], (0, 1)));
    assert_eq!(bench.say(Event::Room), [], "it has left");
    // If the transport's word did not come.
    assert_eq!(bench.say(Event::Unsent(Unsent::Busy)), []);
    assert_eq!(sent(&bench.wake()), [(1, 1)]);
    assert_eq!(sent(&bench.say(Event::Restarted)), [(1, 1)]);
    // It had left once before it was refused.
    bench.say(Event::Unsent(Unsent::Busy));
    assert_eq!(repeated(&bench.say(Event::Room)), (1, 1));
}

#[test]
fn a_backlog_is_read_in_pages_and_the_next_page_before_the_last_is_used_up() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Closed { topic: A });
    let topic = TopicId(9);
    bench.open(topic, Priority::Normal, 100, 200);
    let actions = bench.say(Event::Activity { topic, active: true });
    // The first, small page was asked for before the receiver was known to take the topic.
    assert_eq!(actions, []);
    let first = vec![head(topic, 101)];
    let actions = bench.page(first, 101, false);
    assert_eq!(sent(&actions), [(101, 1)]);
    // Half of what may be kept, so that the other half is sent meanwhile.
    let Some(Action::Load { topics, max_messages: 4, .. }) = actions.last() else {
        panic!("a page is asked for: {actions:?}");
    };
    assert_eq!(topics[..], [(topic, 101)]);
    // Meanwhile another message is committed: it must not be taken for the next one.
    assert_eq!(bench.append(topic, 300), []);
    let rest = (102..=105).map(|seq| head(topic, seq)).collect();
    assert_eq!(bench.page(rest, 105, true), []);
    let mut next = 101;
    let mut asked_after = None;
    while asked_after.is_none() {
        let actions = bench.ack(topic, next);
        next += 1;
        assert_eq!(sent(&actions), [(next, 1)]);
        asked_after = actions.iter().find_map(|action| match action {
            Action::Load { topics, .. } => Some(topics[0].1),
            _ => None,
        });
    }
    assert!(next < 105, "{next}");
    assert_eq!(asked_after, Some(105), "the page began before message 300 was committed");
}

#[test]
fn what_expires_while_nobody_is_there_is_read_in_pages_and_the_rest_is_not_kept() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Offline);
    let expiring = |seq: u64, ms: u64| Head { expires_ms: Some(ms), ..head(A, seq) };
    let soon = bench.clock.now().file_ms + 1_000;
    bench.say(Event::Appended([expiring(1, soon), expiring(9, soon + 60_000)].into()));
    let asked = |actions: &[Action<()>]| match actions.last() {
        Some(Action::Load { max_messages, topics, .. }) => Some((*max_messages, topics[0].1)),
        _ => None,
    };
    let actions = bench.wake();
    assert_eq!(asked(&actions), Some((4, 1)), "half of what may be kept, not one by one");
    let settled = |actions: &[Action<()>]| -> u64 {
        let count = |action: &Action<()>| match action {
            Action::Settle { count, how: Settled::Expired, .. } => *count,
            _ => 0,
        };
        actions.iter().map(count).sum()
    };
    assert_eq!(settled(&actions), 1);
    let page = (2..=5).map(|seq| expiring(seq, soon)).collect();
    let actions = bench.page(page, 5, false);
    assert_eq!((settled(&actions), asked(&actions)), (4, Some((4, 5))), "in one run");
    let later = soon + 60_000;
    let actions = bench.page((6..=9).map(|seq| expiring(seq, later)).collect(), 9, true);
    assert_eq!((settled(&actions), asked(&actions)), (0, None));
    // Only the first of them is kept.
    let actions = bench.wake();
    assert_eq!((settled(&actions), asked(&actions)), (1, Some((4, 6))));
}

#[test]
fn who_takes_nothing_now_need_not_be_told_of_more_and_gets_it_all_later() {
    let mut bench = Bench::new(limits());
    bench.say(Event::Activity { topic: A, active: false });
    assert!(!bench.delivery.may_sleep(A), "it has nothing yet");
    assert_eq!(bench.append(A, 1), []);
    assert!(!bench.delivery.may_sleep(A), "the next one would be its second");
    assert_eq!(bench.append(A, 2), []);
    assert!(bench.delivery.may_sleep(A) && !bench.delivery.may_sleep(B));
    // It sleeps until it takes messages again.
    bench.say(Event::Slept { topic: A, end_seq: 5 });
    assert_eq!(sent(&bench.say(Event::Activity { topic: A, active: true })), [(1, 1)]);
    assert!(!bench.delivery.may_sleep(A));
    assert_eq!(bench.asked.as_ref().map(|(_, topics)| &topics[..]), Some(&[(A, 1)][..]));
    bench.page((2..=4).map(|seq| head(A, seq)).collect(), 4, true);
    for next in 2..=4 {
        assert_eq!(sent(&bench.ack(A, next - 1)), [(next, 1)]);
    }
    assert_eq!(
        bench.asked.as_ref().map(|(_, topics)| &topics[..]),
        Some(&[(A, 4)][..]),
        "5 is missing"
    );
}

#[test]
fn nothing_is_sent_past_a_topic_whose_messages_are_not_known_yet() {
    let mut bench = Bench::new(limits());
    let late = TopicId(9);
    bench.open(late, Priority::Normal, 0, 50);
    bench.say(Event::Activity { topic: late, active: true });
    assert_eq!(sent(&bench.append(A, 60)), []);
    let heads = vec![head(late, 50)];
    let actions = bench.page(heads, 50, true);
    assert_eq!(sent(&actions), [(50, 1)]);
    assert_eq!(sent(&bench.ack(late, 50)), [(60, 1)]);
}

#[test]
fn a_damaged_message_is_dead_when_its_turn_comes() {
    let mut bench = Bench::new(limits());
    let topic = TopicId(9);
    bench.open(topic, Priority::Normal, 0, 3);
    bench.say(Event::Activity { topic, active: true });
    let damaged = Head { body: None, ..head(topic, 2) };
    let heads = vec![head(topic, 1), damaged, head(topic, 3)];
    let actions = bench.page(heads, 3, true);
    assert_eq!((sent(&actions), settled(&actions)), (vec![(1, 1)], vec![]));
    let actions = bench.ack(topic, 1);
    assert!(matches!(
        settled(&actions)[..],
        [(1, 1, 1, Settled::Acknowledged), (2, 2, 1, Settled::Dead { .. })]
    ));
    assert_eq!(sent(&bench.record(topic, 2)), [(3, 1)]);
}

#[test]
fn purged_messages_are_not_sent_and_their_late_ack_counts_nothing() {
    let mut bench = Bench::new(limits());
    for seq in 1..=4 {
        bench.append(A, seq);
    }
    let actions = bench.say(Event::Dropped { topic: A, up_to_seq: 3, count: 3 });
    assert_eq!(sent(&actions), [(4, 1)]);
    assert_eq!(bench.ack(A, 1), [Action::Unmatched]);
    assert_eq!(settled(&bench.ack(A, 4)), [(4, 4, 1, &Settled::Acknowledged)]);
}

#[test]
fn an_ack_that_proves_our_file_went_back_is_told_and_a_new_message_is_not_settled_by_it() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    let went_back = |genuine| {
        Event::Answered(Reply {
            topic: A,
            id: id(1),
            last: Some(id(1000)),
            verdict: Verdict::Ack,
            judgement: Judgement::WentBack { genuine },
        })
    };
    let newest = id(1000);
    assert_eq!(bench.say(went_back(false)), [Action::WentBack { newest }]);
    assert_eq!(sent(&bench.say(Event::StoreChanged { from: id(1) })), [(1, 1)]);
    let actions = bench.say(went_back(true));
    assert_eq!(actions[0], Action::WentBack { newest });
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Acknowledged)]);
}

#[test]
fn memory_does_not_grow_with_the_backlog() {
    let mut bench = Bench::new(limits());
    for seq in 1..=10_000 {
        bench.append(A, seq);
    }
    let held = bench.delivery.queues[&A].len();
    assert!(held <= 8, "{held}");
    bench.say(Event::Offline);
    assert!(bench.delivery.queues[&A].len() <= 1);
}

#[test]
fn p2_a_page_that_was_asked_for_before_the_queue_was_cut_back_is_not_taken() {
    let mut bench = Bench::new(limits());
    let topic = TopicId(9);
    bench.open(topic, Priority::Normal, 0, 100);
    bench.page(vec![head(topic, 1)], 1, false);
    bench.say(Event::Activity { topic, active: true });
    bench.page((2..=9).map(|seq| head(topic, seq)).collect(), 9, false);
    for seq in 1..=7 {
        bench.ack(topic, seq);
    }
    let late = bench.asked.take().expect("the next page");
    assert_eq!(late.1, [(topic, 9)]);
    bench.say(Event::Offline);
    // Eight is in flight, nine is all that is kept of the rest; the page after nine comes now, and those after it are cut again.
    bench.asked = Some(late);
    bench.page((10..=17).map(|seq| head(topic, seq)).collect(), 17, false);
    bench.say(Event::Offline);
    bench.say(Event::Online);
    for seq in 8..=10 {
        assert_eq!(settled(&bench.ack(topic, seq)), [(seq, seq, 1, &Settled::Acknowledged)]);
        if let Some((_, topics)) = &bench.asked {
            let after = topics[0].1;
            bench.page(
                (after + 1..=after + 8).map(|seq| head(topic, seq)).collect(),
                after + 8,
                false,
            );
        }
    }
}

#[test]
fn p2_a_page_of_a_queue_that_was_forgotten_meanwhile_is_not_taken() {
    let mut bench = Bench::new(limits());
    let topic = TopicId(9);
    bench.open(topic, Priority::Normal, 50, 100);
    assert_eq!(bench.asked.as_ref().expect("a page").1, [(topic, 50)]);
    bench.say(Event::Closed { topic });
    bench.open(topic, Priority::Normal, 10, 100);
    bench.say(Event::Activity { topic, active: true });
    assert_eq!(sent(&bench.page(vec![head(topic, 51)], 51, false)), []);
    assert_eq!(bench.asked.as_ref().expect("a page").1, [(topic, 10)]);
    assert_eq!(sent(&bench.page(vec![head(topic, 11)], 11, false)), [(11, 1)]);
}

#[test]
fn p2_a_message_that_memory_had_no_room_for_is_not_skipped() {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    bench.say(Event::Missed { end_seq: 5 });
    assert_eq!(bench.asked.as_ref().expect("a page").1, [(HIGH, 0)]);
    bench.page(vec![], 5, true);
    // Its page is still being read when the first is acknowledged and a third one is committed.
    assert_eq!(sent(&bench.ack(A, 1)), []);
    assert_eq!(sent(&bench.append(A, 6)), []);
    assert_eq!(sent(&bench.page(vec![head(A, 4)], 5, true)), [(4, 1)]);
    // What was read before that came says nothing of it.
    bench.page(vec![head(A, 6)], 6, true);
    assert_eq!(sent(&bench.ack(A, 4)), [(6, 1)]);
}

#[test]
fn what_is_in_flight_to_somebody_away_expires_with_what_is_behind_it() {
    let mut bench = Bench::new(limits());
    let expires_ms = Some(bench.clock.now().file_ms + 5_000);
    for seq in 1..=2 {
        bench.say(Event::Appended([Head { expires_ms, ..head(A, seq) }].into()));
    }
    bench.say(Event::LinkDown);
    let actions = bench.wake();
    assert_eq!(settled(&actions), [(1, 1, 1, &Settled::Expired), (2, 2, 1, &Settled::Expired)]);
    assert_eq!(bench.delivery.wake_at(bench.clock.now()), None);
}

#[test]
fn a_timer_is_never_set_for_what_cannot_be_done_yet() {
    let mut bench = Bench::new(limits());
    let failed = Verdict::Failed { detail: "no".to_owned() };
    bench.append(A, 1);
    bench.answer(A, 1, failed);
    let expires_ms = Some(bench.clock.now().file_ms + 2_000);
    bench.append(B, 2);
    bench.say(Event::Appended([Head { expires_ms, ..head(B, 3) }].into()));
    // A's rest ends and B's second message expires while B's first is being handled.
    for _ in 0..5 {
        bench.pass(Duration::from_secs(2));
        bench.answer(B, 2, Verdict::Working);
        let now = bench.clock.now();
        assert!(bench.delivery.wake_at(now).is_none_or(|at| at > now.mono));
    }
    let actions = bench.ack(B, 2);
    assert_eq!(settled(&actions).last(), Some(&(3, 3, 1, &Settled::Expired)));
    assert_eq!(sent(&actions), [(1, 2)]);
}

#[test]
fn an_answer_that_fits_no_message_proves_nothing_and_one_from_the_far_future_that_the_file_went_back()
 {
    let mut bench = Bench::new(limits());
    bench.append(A, 1);
    let claim = |seq: u64, last: u128| {
        Event::Answered(Reply {
            topic: A,
            id: id(seq),
            last: Some(MessageId::from_u128(last)),
            verdict: Verdict::Ack,
            judgement: Judgement::WentBack { genuine: false },
        })
    };
    assert_eq!(bench.say(claim(77, 1000)), [Action::Unmatched]);
    let newest = MessageId::from_u128(u128::MAX);
    assert_eq!(bench.say(claim(1, u128::MAX)), [Action::WentBack { newest }]);
    assert_eq!(sent(&bench.say(Event::StoreChanged { from: id(1) })), [(1, 1)]);
}

#[test]
fn what_is_damaged_or_expired_behind_a_message_that_died_is_settled_and_never_sent() {
    let mut bench = Bench::new(Limits { max_attempts: 1, ..limits() });
    let expires_ms = Some(bench.clock.now().file_ms + 1_000);
    bench.append(A, 1);
    bench.say(Event::Appended([Head { expires_ms, ..head(A, 2) }].into()));
    bench.say(Event::Appended([Head { body: None, ..head(A, 3) }].into()));
    bench.append(A, 4);
    bench.pass(Duration::from_secs(2));
    let actions = bench.answer(A, 1, Verdict::Failed { detail: "no".to_owned() });
    assert!(matches!(
        settled(&actions)[..],
        [
            (1, 1, 1, Settled::Dead { .. }),
            (2, 2, 1, Settled::Expired),
            (3, 3, 1, Settled::Dead { .. })
        ]
    ));
    assert_eq!(sent(&bench.record(A, 3)), [(4, 1)]);
}
