use super::*;
use crate::message::Priority;

mod ends;

use crate::protocol::testing::Clock;

fn id(n: u128) -> MessageId {
    MessageId::from_u128(n)
}

fn channel() -> ChannelName {
    ChannelName::new("c").expect("a valid name")
}

fn source(sender: &str) -> Source {
    Source {
        sender: NodeId::new(sender).expect("a valid name"),
        store: StoreId::from_u128(1),
        stream: Stream { channel: channel(), direct: false, lane: Priority::Normal },
    }
}

struct Bench {
    clock: Clock,
    inbox: Inbox<u128>,
}

impl Bench {
    fn new(handlers: usize) -> Self {
        let limits = Limits { handlers, held_bytes: 100 };
        let mut bench = Self { clock: Clock::new(), inbox: Inbox::new(limits, []) };
        bench.say(Event::Consumer { channel: channel(), consumer: Some(Consumer::Ready) });
        bench
    }

    fn say(&mut self, event: Event<u128>) -> Vec<Action<u128>> {
        self.say_all(event).into_iter().filter_map(without_notes).collect()
    }

    /// The same, with what is to be noted.
    fn say_all(&mut self, event: Event<u128>) -> Vec<Action<u128>> {
        let mut out = Vec::new();
        self.inbox.handle(self.clock.now(), event, &mut out);
        out
    }

    fn frame(&mut self, sender: &str, ids: &[u128]) -> Vec<Action<u128>> {
        self.frame_after(sender, None, 0, ids)
    }

    fn frame_after(
        &mut self,
        sender: &str,
        previous: Option<MessageId>,
        skipped: u64,
        ids: &[u128],
    ) -> Vec<Action<u128>> {
        let messages = ids.iter().map(|n| Incoming { id: id(*n), bytes: 10, body: *n }).collect();
        let ack_timeout = Duration::from_secs(9);
        let source = source(sender);
        self.say(Event::Frame(Arrival { source, previous, skipped, ack_timeout, messages }))
    }

    fn finish(&mut self, sender: &str, n: u128, result: Result<Done, String>) -> Vec<Action<u128>> {
        self.finish_all(sender, [(n, result)])
    }

    fn finish_all<const N: usize>(
        &mut self,
        sender: &str,
        results: [(u128, Result<Done, String>); N],
    ) -> Vec<Action<u128>> {
        let results = results.into_iter().map(|(n, result)| (id(n), result)).collect();
        self.say(Event::Finished { source: source(sender), results })
    }

    fn commit(&mut self, sender: &str, n: u128) -> Vec<Action<u128>> {
        self.say(Event::Committed { source: source(sender), id: id(n) })
    }

    /// Handles one message that has been handed out, to the end.
    fn take(&mut self, sender: &str, n: u128) -> Vec<Action<u128>> {
        let mut out = self.finish(sender, n, Ok(Done::Handled));
        out.extend(self.commit(sender, n));
        out
    }
}

fn handle(sender: &str, n: u128) -> Action<u128> {
    handle_all(sender, &[n])
}

fn handle_all(sender: &str, ids: &[u128]) -> Action<u128> {
    let messages = ids.iter().map(|n| (id(*n), *n)).collect();
    Action::Handle { source: source(sender), messages, note: None }
}

/// Most tests are about what is done; what is noted before is the matter of `ends`.
fn without_notes(action: Action<u128>) -> Option<Action<u128>> {
    match action {
        Action::Handle { source, messages, .. } => {
            Some(Action::Handle { source, messages, note: None })
        }
        Action::Unnote { .. } => None,
        other => Some(other),
    }
}

fn cease(sender: &str) -> Action<u128> {
    Action::Cease { source: source(sender) }
}

fn answer(sender: &str, n: u128, verdict: Verdict, last: Option<u128>) -> Action<u128> {
    Action::Answer { source: source(sender), id: id(n), verdict, last: last.map(id) }
}

#[test]
fn a_message_is_handled_then_committed_then_acknowledged() {
    let mut bench = Bench::new(4);
    assert_eq!(bench.frame("a", &[1]), [handle("a", 1)]);
    let commit = Action::Commit { source: source("a"), id: id(1) };
    assert_eq!(bench.finish("a", 1, Ok(Done::Handled)), [commit]);
    assert_eq!(bench.commit("a", 1), [answer("a", 1, Verdict::Ack, Some(1))]);
    assert_eq!(bench.inbox.busy(), 0);
}

#[test]
fn a_repetition_is_acknowledged_again_and_not_handled() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    bench.take("a", 1);
    let repeated = Action::Repeated { source: source("a"), id: id(1) };
    assert_eq!(bench.frame("a", &[1]), [repeated, answer("a", 1, Verdict::Ack, Some(1))]);
    // Also after a restart, from what the file says.
    let limits = Limits { handlers: 1, held_bytes: 100 };
    bench.inbox = Inbox::new(limits, [(source("a"), id(1))]);
    assert_eq!(bench.frame("a", &[1])[1], answer("a", 1, Verdict::Ack, Some(1)));
}

#[test]
fn a_repetition_of_what_is_being_handled_is_told_so() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    assert_eq!(bench.frame("a", &[1]), [answer("a", 1, Verdict::Working, None)]);
    bench.finish("a", 1, Ok(Done::Handled));
    assert_eq!(bench.frame("a", &[1]), [answer("a", 1, Verdict::Working, None)]);
}

#[test]
fn one_sender_is_handled_in_order_and_several_side_by_side_up_to_the_limit() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.frame("a", &[1, 2]), [handle_all("a", &[1, 2])]);
    assert_eq!(bench.frame("b", &[1]), [handle("b", 1)]);
    assert_eq!(bench.frame("c", &[1]), []);
    assert_eq!(bench.finish("b", 1, Ok(Done::Handled)).last(), Some(&handle("c", 1)));
    let both = [(1, Ok(Done::Handled)), (2, Ok(Done::Handled))];
    let commit = Action::Commit { source: source("a"), id: id(2) };
    assert_eq!(bench.finish_all("a", both), [commit]);
    // A frame that comes while another is being handled is handed out once that one is committed.
    assert_eq!(bench.frame("a", &[3, 4]), []);
    let ack = answer("a", 2, Verdict::Ack, Some(2));
    assert_eq!(bench.commit("a", 2), [ack, handle_all("a", &[3, 4])]);
}

#[test]
fn a_failed_message_is_refused_and_those_before_it_are_committed_first() {
    let mut bench = Bench::new(4);
    let failed = || Verdict::Failed { detail: "no".to_owned() };
    bench.frame("a", &[1]);
    assert_eq!(bench.finish("a", 1, Err("no".to_owned())), [answer("a", 1, failed(), None)]);
    bench.frame("a", &[1, 2, 3]);
    let commit = Action::Commit { source: source("a"), id: id(1) };
    let second_fails = [(1, Ok(Done::Handled)), (2, Err("no".to_owned()))];
    assert_eq!(bench.finish_all("a", second_fails), [commit]);
    assert_eq!(bench.commit("a", 1), [answer("a", 2, failed(), Some(1))]);
    assert_eq!(bench.frame("a", &[2, 3]), [handle_all("a", &[2, 3])]);
}

#[test]
fn a_transaction_of_the_handlers_own_needs_no_further_commit() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    let ack = answer("a", 1, Verdict::Ack, Some(1));
    assert_eq!(bench.finish("a", 1, Ok(Done::Committed)), [ack]);
}

#[test]
fn a_refused_commit_is_tried_again_without_handling_the_message_again() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    bench.finish("a", 1, Ok(Done::Handled));
    assert_eq!(bench.say(Event::CommitFailed { source: source("a"), id: id(1) }), []);
    bench.clock.pass(RETRY);
    let commit = Action::Commit { source: source("a"), id: id(1) };
    assert_eq!(bench.say(Event::Woke), [commit]);
    assert_eq!(bench.commit("a", 1), [answer("a", 1, Verdict::Ack, Some(1))]);
}

#[test]
fn a_slow_handler_is_reported_three_times_within_the_senders_patience() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    for _ in 0..10 {
        let at = bench.inbox.wake_at().expect("a timer");
        let wait = at.saturating_duration_since(bench.clock.now().mono);
        assert_eq!(wait, Duration::from_secs(3));
        bench.clock.pass(wait);
        assert_eq!(bench.say(Event::Woke), [answer("a", 1, Verdict::Working, None)]);
    }
}

#[test]
fn without_a_consumer_messages_stay_with_their_senders() {
    let mut bench = Bench::new(4);
    let mut consumer = |consumer| {
        bench.say(Event::Consumer { channel: channel(), consumer });
        let answers = bench.frame("a", &[1]);
        assert_eq!(answers.len(), 1);
        answers
    };
    assert_eq!(consumer(None), [answer("a", 1, Verdict::NotJoined, None)]);
    assert_eq!(consumer(Some(Consumer::Paused)), [answer("a", 1, Verdict::Paused, None)]);
    assert_eq!(consumer(Some(Consumer::Ready)), [handle("a", 1)]);
}

#[test]
fn what_a_consumer_leaves_unhandled_goes_back_without_an_attempt() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1]);
    let busy = Verdict::Busy { retry_ms: 500 };
    assert_eq!(bench.finish("a", 1, Ok(Done::Returned)), [answer("a", 1, busy, None)]);
    bench.frame("a", &[1]);
    bench.say(Event::Consumer { channel: channel(), consumer: Some(Consumer::Paused) });
    let paused = answer("a", 1, Verdict::Paused, None);
    assert_eq!(bench.finish("a", 1, Ok(Done::Returned)), [paused]);
}

#[test]
fn pausing_lets_the_running_handler_finish_and_gives_back_the_rest_of_the_frame() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[1, 2, 3]);
    let pause = || Event::Consumer { channel: channel(), consumer: Some(Consumer::Paused) };
    assert_eq!(bench.say(pause()), [cease("a")]);
    assert_eq!(bench.say(pause()), [], "it has been told");
    let commit = Action::Commit { source: source("a"), id: id(1) };
    assert_eq!(bench.finish("a", 1, Ok(Done::Handled)), [commit]);
    assert_eq!(bench.commit("a", 1), [answer("a", 2, Verdict::Paused, Some(1))]);
}

/// Another node of our name may have taken our place.
#[test]
fn in_doubt_what_waits_is_given_back_and_nothing_more_begins() {
    let mut bench = Bench::new(1);
    bench.frame("a", &[1, 2]);
    bench.frame("b", &[1]);
    let busy = || Verdict::Busy { retry_ms: 500 };
    assert_eq!(bench.say(Event::Doubted), [cease("a"), answer("b", 1, busy(), None)]);
    let commit = Action::Commit { source: source("a"), id: id(1) };
    assert_eq!(bench.finish("a", 1, Ok(Done::Handled)), [commit], "and b's is not begun");
    assert_eq!(bench.commit("a", 1), [answer("a", 2, busy(), Some(1))]);
    assert_eq!(bench.frame("b", &[1]), [handle("b", 1)], "whoever comes again is taken");
}

#[test]
fn when_stopping_nothing_new_is_taken() {
    let mut bench = Bench::new(1);
    bench.frame("a", &[1]);
    bench.frame("b", &[1]);
    let busy = || Verdict::Busy { retry_ms: 500 };
    assert_eq!(bench.say(Event::Stop), [answer("b", 1, busy(), None)]);
    assert_eq!(bench.say(Event::Stop), []);
    assert_eq!(bench.frame("c", &[1]), [answer("c", 1, busy(), None)]);
    assert_eq!(bench.take("a", 1).last(), Some(&answer("a", 1, Verdict::Ack, Some(1))));
    assert_eq!(bench.inbox.busy(), 0);
}

#[test]
fn what_is_held_is_bounded() {
    let mut bench = Bench::new(1);
    let senders: Vec<String> = (0..11).map(|n| format!("s{n}")).collect();
    for sender in &senders[..10] {
        bench.frame(sender, &[1]);
    }
    let busy = Verdict::Busy { retry_ms: 500 };
    assert_eq!(bench.frame(&senders[10], &[1]), [answer(&senders[10], 1, busy, None)]);
    bench.take(&senders[0], 1);
    assert_eq!(bench.frame(&senders[10], &[1]), []);
}

#[test]
fn a_late_copy_of_what_the_sender_gave_up_does_not_overtake() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[6]);
    assert_eq!(bench.frame("a", &[5]), []);
    bench.take("a", 6);
    assert_eq!(bench.frame("a", &[5])[1], answer("a", 5, Verdict::Ack, Some(6)));
}

#[test]
fn gaps_are_told_once() {
    let mut bench = Bench::new(4);
    let gap = |gap| Action::Gap { source: source("a"), gap };
    let actions = bench.frame_after("a", Some(id(5)), 2, &[8]);
    let went_back = Gap::WeWentBack { sender_says: id(5) };
    assert_eq!(actions, [gap(Gap::Skipped(2)), gap(went_back), handle("a", 8)]);
    bench.frame_after("a", Some(id(5)), 2, &[8]);
    bench.take("a", 8);
    assert_eq!(bench.frame_after("a", Some(id(8)), 0, &[9]), [handle("a", 9)]);
}

#[test]
fn what_was_taken_under_the_senders_old_store_id_is_not_missing_under_its_new_one() {
    let mut bench = Bench::new(4);
    bench.frame("a", &[5]);
    bench.take("a", 5);
    let source = Source { store: StoreId::from_u128(2), ..source("a") };
    let messages = vec![Incoming { id: id(8), bytes: 10, body: 8 }];
    let (previous, ack_timeout) = (Some(id(5)), Duration::from_secs(9));
    let arrival = Arrival { source: source.clone(), previous, skipped: 0, ack_timeout, messages };
    let handed = Action::Handle { source, messages: vec![(id(8), 8)], note: None };
    assert_eq!(bench.say(Event::Frame(arrival)), [handed]);
}

#[test]
fn p8_a_sender_that_invents_store_ids_costs_a_bounded_table() {
    let mut bench = Bench::new(4);
    for n in 1..1000 {
        let source = Source { store: StoreId::from_u128(n), ..source("a") };
        let messages = vec![Incoming { id: id(n), bytes: 10, body: n }];
        let (previous, skipped, ack_timeout) = (None, 0, Duration::from_secs(9));
        let arrival = Arrival { source: source.clone(), previous, skipped, ack_timeout, messages };
        bench.say(Event::Frame(arrival));
        let results = vec![(id(n), Ok(Done::Committed))];
        bench.say(Event::Finished { source, results });
    }
    assert_eq!(bench.inbox.last.len(), MAX_STORES);
    assert!(bench.inbox.active.is_empty() && bench.inbox.ready.is_empty());
}

#[test]
fn while_nothing_can_be_committed_no_handler_is_called() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.frame("a", &[1]), [handle("a", 1)]);
    assert_eq!(bench.frame("b", &[1]), []);
    bench.say(Event::Suspended);
    let busy = answer("a", 1, Verdict::Busy { retry_ms: 500 }, None);
    assert_eq!(bench.finish("a", 1, Ok(Done::Returned)), [busy]);
    let busy = answer("a", 1, Verdict::Busy { retry_ms: 500 }, None);
    assert_eq!(bench.frame("a", &[1]), [busy]);
    assert_eq!(bench.say(Event::Resumed { known: vec![] }), [handle("b", 1)]);
}

#[test]
fn what_was_handed_out_and_is_not_begun_goes_back_when_the_file_fails() {
    let mut bench = Bench::new(1);
    bench.frame("a", &[1, 2, 3]);
    assert_eq!(bench.say(Event::Suspended), [cease("a")]);
    let commit = Action::Commit { source: source("a"), id: id(1) };
    assert_eq!(bench.finish("a", 1, Ok(Done::Handled)), [commit]);
    let busy = || Verdict::Busy { retry_ms: 500 };
    assert_eq!(bench.commit("a", 1), [answer("a", 2, busy(), Some(1))]);
    assert_eq!(bench.inbox.held_bytes, 0);
    bench.say(Event::Resumed { known: vec![] });
    // All of it was handled before the word to cease came.
    bench.frame("a", &[2, 3]);
    assert_eq!(bench.say(Event::Suspended), [cease("a")]);
    let both = [(2, Ok(Done::Handled)), (3, Ok(Done::Handled))];
    assert_eq!(bench.finish_all("a", both).len(), 1);
    assert_eq!(bench.commit("a", 3), [answer("a", 3, Verdict::Ack, Some(3))]);
    assert_eq!((bench.inbox.busy(), bench.inbox.held_bytes), (0, 0));
}

#[test]
fn a_transaction_in_the_middle_of_a_frame_covers_those_before_it() {
    let mut bench = Bench::new(1);
    bench.frame("a", &[1, 2, 3]);
    let ends = [(1, Ok(Done::Handled)), (2, Ok(Done::Committed)), (3, Err("no".to_owned()))];
    let failed = Verdict::Failed { detail: "no".to_owned() };
    assert_eq!(bench.finish_all("a", ends), [answer("a", 3, failed, Some(2))]);
    assert_eq!((bench.inbox.busy(), bench.inbox.held_bytes), (0, 0));
    assert!(bench.inbox.active.is_empty());
}

/// P5: an fsync failed, and the commit stands in the file all the same.
#[test]
fn what_was_committed_after_all_is_not_handled_again() {
    let mut bench = Bench::new(1);
    assert_eq!(bench.frame("a", &[1]), [handle("a", 1)]);
    assert_eq!(bench.frame("b", &[1, 2]), []);
    bench.say(Event::Suspended);
    bench.finish("a", 1, Ok(Done::Returned));
    let known = vec![(source("a"), id(1)), (source("b"), id(1))];
    assert_eq!(bench.say(Event::Resumed { known }), [handle_all("b", &[2])]);
    assert_eq!(bench.frame("a", &[1])[1], answer("a", 1, Verdict::Ack, Some(1)));
}

/// P3: the sender's file was replaced while one of its messages was being handled.
#[test]
fn messages_of_one_stream_are_handled_one_at_a_time_whatever_their_store() {
    let mut bench = Bench::new(4);
    let renewed = Source { store: StoreId::from_u128(2), ..source("a") };
    assert_eq!(bench.frame("a", &[1]), [handle("a", 1)]);
    let arrival = |source: &Source| Arrival {
        source: source.clone(),
        previous: None,
        skipped: 0,
        ack_timeout: Duration::from_secs(9),
        messages: vec![Incoming { id: id(2), bytes: 10, body: 2 }],
    };
    let verdict = Verdict::Busy { retry_ms: 500 };
    let busy = Action::Answer { source: renewed.clone(), id: id(2), verdict, last: None };
    assert_eq!(bench.say(Event::Frame(arrival(&renewed))), [busy]);
    bench.take("a", 1);
    let messages = vec![(id(2), 2)];
    let handled = Action::Handle { source: renewed.clone(), messages, note: None };
    assert_eq!(bench.say(Event::Frame(arrival(&renewed))), [handled]);
}
