use std::time::Duration;

use super::*;
use crate::protocol::backoff::Backoff;
use crate::protocol::frame::{Stream, Verdict};
use crate::protocol::peers::testing;
use crate::protocol::settling::Settled;
use crate::protocol::testing::Clock;

const A: TopicId = TopicId(1);
const B: TopicId = TopicId(2);
const STORE: StoreId = StoreId::from_u128(7);

fn node(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

fn channel(topic: TopicId) -> ChannelName {
    ChannelName::new(format!("channel-{}", topic.0)).expect("a valid name")
}

fn id(seq: u64) -> MessageId {
    MessageId::from_u128(u128::from(seq) * 10)
}

fn head(topic: TopicId, seq: u64) -> Head<()> {
    Head { seq, id: id(seq), topic, expires_ms: None, bytes: 10, header_bytes: 5, body: Some(()) }
}

fn cursor(receiver: &str, topic: TopicId, pending: u64) -> Cursor {
    let at = Position { acked_seq: 0, acked_id: None, skipped: 0 };
    Cursor { receiver: node(receiver), topic, at, pending, last_seq: pending, failed: None }
}

/// What the connection does with a frame.
type Connection = Box<dyn FnMut(&Outgoing<()>) -> Result<(), Unsent>>;

struct Bench {
    clock: Clock,
    peers: Peers,
    settling: Settling,
    outbound: Outbound<()>,
    connection: Connection,
    /// Whether somebody waits to hear what is settled, and whether room is tight.
    hurry: (bool, bool),
    record_at: Option<Instant>,
}

/// What came of something.
#[derive(Debug, Default)]
struct Came {
    /// To whom frames went, with their first messages.
    sent: Vec<(String, u128)>,
    /// How many frames were given to the connection.
    tried: usize,
    /// What was to be written: settled runs with their last ids, and attempts.
    written: Option<(Vec<Run>, Vec<Attempt>)>,
    /// All else, but for timers.
    effects: Vec<Effect>,
}

impl Came {
    #[track_caller]
    fn sent(&self, expected: &[(&str, u128)]) {
        let sent: Vec<_> = self.sent.iter().map(|(node, first)| (node.as_str(), *first)).collect();
        assert_eq!(sent, expected);
    }

    fn loads(&self) -> Vec<(u64, PageRequest)> {
        let loads = self.effects.iter().filter_map(|effect| match effect {
            Effect::Load { age, request } => Some((*age, request.clone())),
            _ => None,
        });
        loads.collect()
    }
}

impl Bench {
    /// These take both topics, and can be reached.
    fn with(receivers: &[&str]) -> Self {
        Self::batching(receivers, 1, Duration::ZERO)
    }

    fn batching(receivers: &[&str], frame_messages: usize, frame_wait: Duration) -> Self {
        let clock = Clock::new();
        let limits = Limits {
            ack_timeout: Duration::from_secs(10),
            backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) },
            max_attempts: 3,
            frame_messages,
            frame_bytes: 1000,
            frame_header_bytes: 100_000,
            frame_wait,
            buffer_messages: 8,
            buffer_bytes: 1000,
        };
        let peers = testing::peers(clock.now());
        let origin = Origin::new(vec![(MessageId::ZERO, STORE)], MessageId::ZERO);
        let outbound = Outbound::new(limits, 1, origin);
        let (settling, connection) = (Settling::default(), Box::new(|_: &_| Ok(())));
        let mut bench = Self {
            clock,
            peers,
            settling,
            outbound,
            connection,
            hurry: (false, false),
            record_at: None,
        };
        for topic in [A, B] {
            let of = Topic { channel: channel(topic), target: None, lane: Priority::Normal };
            bench.outbound.know_topic(topic, of);
        }
        for receiver in receivers {
            bench.reach(receiver, 0);
        }
        bench
    }

    fn reach(&mut self, receiver: &str, pending: u64) -> Came {
        self.say(|it, around| {
            for topic in [A, B] {
                it.open(around, cursor(receiver, topic, pending));
                let active = Event::Activity { topic, active: true };
                it.deliver(around, &node(receiver), active);
            }
            it.deliver(around, &node(receiver), Event::Online);
        })
    }

    /// As the shell does it.
    fn say<R>(&mut self, decide: impl FnOnce(&mut Outbound<()>, &mut Around<'_>) -> R) -> Came {
        let mut came = Came::default();
        let mut todo = VecDeque::from(self.decide(decide));
        while let Some(effect) = todo.pop_front() {
            let receiver = match effect {
                Effect::Publish { receiver } => receiver,
                Effect::Wake { .. } => continue,
                Effect::RecordAt { at } => {
                    self.record_at = at;
                    continue;
                }
                Effect::Record { runs, attempts } => {
                    assert!(came.written.is_none(), "written twice at once");
                    came.written = Some((runs, attempts));
                    continue;
                }
                other => {
                    came.effects.push(other);
                    continue;
                }
            };
            let tried = match self.outbound.is_behind(&receiver) {
                true => Err(Unsent::Busy),
                false => {
                    let Some(frame) = self.outbound.next_frame(&receiver) else { continue };
                    came.tried += 1;
                    (self.connection)(&frame).map(|()| frame.first().as_u128() / 10)
                }
            };
            match tried {
                Ok(first) => came.sent.push((receiver.to_string(), first)),
                Err(why) => {
                    let next = self.decide(|it, around| it.unsent(around, &receiver, why));
                    next.into_iter().rev().for_each(|effect| todo.push_front(effect));
                }
            }
        }
        came
    }

    fn decide<R>(
        &mut self,
        decide: impl FnOnce(&mut Outbound<()>, &mut Around<'_>) -> R,
    ) -> Vec<Effect> {
        let (now, mut out) = (self.clock.now(), Vec::new());
        let Self { peers, settling, outbound, .. } = self;
        let (awaited, tight) = self.hurry;
        let out = &mut out;
        let around = &mut Around { now, link: true, peers, settling, awaited, tight, out };
        decide(outbound, around);
        outbound.finish(around);
        std::mem::take(around.out)
    }

    /// The connection takes nothing.
    fn refuse(&mut self, why: Unsent) {
        self.connection = Box::new(move |_| Err(why));
    }

    /// The file has taken what it was given, or not.
    fn recorded(&mut self, taken: bool) -> Came {
        self.say(|it, around| it.recorded(around, taken))
    }

    fn take(&mut self) {
        self.connection = Box::new(|_| Ok(()));
    }

    fn append(&mut self, topic: TopicId, seq: u64) -> Came {
        self.say(|it, around| it.appended(around, vec![head(topic, seq)]))
    }

    fn next(&mut self) -> Came {
        self.say(|it, around| it.send_next(around))
    }

    fn answer(&mut self, from: &str, topic: TopicId, seq: u64) -> Came {
        self.reply(from, topic, seq, Verdict::Ack)
    }

    fn reply(&mut self, from: &str, topic: TopicId, seq: u64, verdict: Verdict) -> Came {
        let stream = Stream { channel: channel(topic), direct: false, lane: Priority::Normal };
        let answer = Answer {
            from: node(from),
            to: node("me"),
            store: STORE,
            stream,
            id: id(seq),
            last: Some(id(seq)),
            verdict,
        };
        self.say(|it, around| it.answered(around, answer))
    }
}

#[test]
fn a_frame_that_was_decided_on_twice_goes_out_once_as_it_was_decided_last() {
    let wait = Duration::from_millis(20);
    let mut bench = Bench::batching(&["ann"], 3, wait);
    bench.append(A, 1).sent(&[]);
    bench.append(A, 2).sent(&[]);
    let paused = Event::Activity { topic: A, active: false };
    bench.say(|it, around| it.deliver(around, &node("ann"), paused));
    bench.clock.pass(wait);
    // The server takes one message at a time.
    bench.connection = Box::new(|frame| match frame.heads.len() {
        1 => Ok(()),
        _ => Err(Unsent::TooLarge { size: 20, limit: 10 }),
    });
    let came = bench.say(|it, around| {
        let active = Event::Activity { topic: A, active: true };
        it.deliver(around, &node("ann"), active);
        it.deliver(around, &node("ann"), Event::Restarted);
    });
    came.sent(&[("ann", 1)]);
    assert_eq!((came.tried, came.effects.len()), (2, 0), "{:?}", came.effects);
    bench.answer("ann", A, 1).sent(&[("ann", 2)]);
}

#[test]
fn a_frame_of_a_topic_that_was_closed_meanwhile_is_not_sent() {
    let mut bench = Bench::with(&["ann"]);
    let came = bench.say(|it, around| {
        it.appended(around, vec![head(A, 1)]);
        it.close(around, &node("ann"), A);
        it.appended(around, vec![head(B, 2)]);
    });
    came.sent(&[("ann", 2)]);
    assert_eq!(came.tried, 1);
}

#[test]
fn a_message_that_alone_is_too_large_dies_and_the_next_goes_out() {
    let mut bench = Bench::with(&["ann"]);
    bench.connection = Box::new(|frame| match frame.first() == id(1) {
        true => Err(Unsent::TooLarge { size: 20, limit: 10 }),
        false => Ok(()),
    });
    let came = bench.append(A, 1);
    assert!(matches!(&came.effects[..], [Effect::Settled(run)] if run.last_id == id(1)));
    assert_eq!(came.written.expect("at once").0.len(), 1);
    bench.append(A, 2).sent(&[]);
    // Only once it is on record what became of its predecessor.
    bench.recorded(true).sent(&[("ann", 2)]);
}

#[test]
fn who_was_refused_first_is_sent_first_and_nobody_overtakes() {
    let mut bench = Bench::with(&["ann", "bob", "cat"]);
    bench.refuse(Unsent::Busy);
    let came = bench.append(A, 1);
    came.sent(&[]);
    assert_eq!(came.tried, 1, "the others are behind the first");
    bench.take();
    // Whoever comes now waits behind them.
    bench.reach("dan", 0).sent(&[]);
    bench.append(B, 2).sent(&[]);
    assert_eq!(bench.outbound.wait_for_room(), 4);
    bench.refuse(Unsent::Busy);
    bench.next().sent(&[]);
    bench.outbound.end_turns();
    bench.take();
    // There was no room after all: it has kept its place.
    for expected in [("ann", 1), ("bob", 1), ("cat", 1), ("dan", 2)] {
        bench.next().sent(&[expected]);
    }
    bench.next().sent(&[]);
    assert_eq!(bench.outbound.wait_for_room(), 0);
    bench.answer("ann", A, 1).sent(&[("ann", 2)]);
}

#[test]
fn what_found_no_room_is_tried_again_within_a_second_whoever_tells_of_room() {
    let mut bench = Bench::with(&["ann"]);
    bench.refuse(Unsent::Busy);
    bench.append(A, 1).sent(&[]);
    let now = bench.clock.now();
    let wake_at = bench.outbound.wake_at(&node("ann"), now);
    assert_eq!(wake_at, Some(now.mono + Duration::from_secs(1)));
}

#[test]
fn those_who_wait_for_room_begin_anew_with_the_next_connection() {
    let mut bench = Bench::with(&["ann"]);
    bench.refuse(Unsent::Busy);
    bench.append(A, 1).sent(&[]);
    bench.take();
    bench.say(Outbound::link_down).sent(&[]);
    assert_eq!(bench.outbound.wait_for_room(), 0);
    bench.say(|it, around| it.deliver_all(around, || Event::LinkUp)).sent(&[("ann", 1)]);
}

#[test]
fn a_page_that_several_want_is_read_once_and_kept_for_others_until_it_may_be_another() {
    let mut bench = Bench::with(&[]);
    let asked = [bench.reach("ann", 9).loads(), bench.reach("bob", 9).loads()].concat();
    let [(age, request)] = asked.try_into().expect("one page");
    let heads = (1..=4).map(|seq| head(A, seq)).collect();
    let read = Some(Read { heads, scanned_to: 4, end: false });
    let came = bench.say(|it, around| it.page_read(around, (age, request.clone()), read));
    came.sent(&[("ann", 1), ("bob", 1)]);
    let asks = |came: &Came| came.loads().iter().any(|(_, asked)| *asked == request);
    let third = bench.reach("cat", 9);
    third.sent(&[("cat", 1)]);
    assert!(!asks(&third));
    bench.outbound.outdate_pages();
    let fourth = bench.reach("dan", 9);
    fourth.sent(&[]);
    assert!(asks(&fourth));
}

#[test]
fn a_page_that_could_not_be_read_is_asked_for_again_after_a_rest() {
    let mut bench = Bench::with(&[]);
    let [(age, request)] = bench.reach("ann", 9).loads().try_into().expect("one page");
    let came = bench.say(|it, around| it.page_read(around, (age, request), None));
    assert!(came.loads().is_empty());
    bench.clock.pass(Duration::from_secs(2));
    let again = bench.say(|it, around| it.deliver(around, &node("ann"), Event::Woke));
    assert_eq!(again.loads().len(), 1);
}

#[test]
fn deliveries_stand_still_while_the_file_gives_up_what_waits() {
    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1).sent(&[("ann", 1)]);
    bench.outbound.stand_still(node("ann"));
    bench.outbound.stand_still(node("ann"));
    assert!(bench.answer("ann", A, 1).effects.is_empty(), "nothing becomes known meanwhile");
    assert!(bench.say(|it, around| it.close(around, &node("ann"), A)).effects.is_empty());
    let one_of_two = bench.say(|it, around| it.given_up(around, &node("ann")));
    assert!(one_of_two.effects.is_empty());
    let after = bench.say(|it, around| it.given_up(around, &node("ann"))).effects;
    assert!(matches!(after[..], [Effect::Unmatched]), "closed before the answer: {after:?}");
    let gone = bench.say(|it, around| it.close(around, &node("ann"), B)).effects;
    assert!(matches!(gone[..], [Effect::Gone { .. }]), "{gone:?}");
}

#[test]
fn a_topic_that_is_opened_and_closed_while_deliveries_stand_still_is_not_sent() {
    let mut bench = Bench::with(&[]);
    bench.outbound.stand_still(node("ann"));
    bench.reach("ann", 0);
    bench.append(A, 1);
    bench.append(B, 2);
    bench.say(|it, around| it.close(around, &node("ann"), A));
    bench.say(|it, around| it.close(around, &node("ann"), B));
    // And one of them anew, after it was given up.
    bench.say(|it, around| {
        it.open(around, cursor("ann", B, 0));
        it.deliver(around, &node("ann"), Event::Activity { topic: B, active: true });
    });
    bench.append(B, 3);
    bench.say(|it, around| it.given_up(around, &node("ann"))).sent(&[("ann", 3)]);
    bench.answer("ann", B, 3).sent(&[]);
}

#[test]
fn an_answer_that_proves_an_older_file_asks_once_for_a_new_store_id() {
    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1).sent(&[("ann", 1)]);
    let went_back = |bench: &mut Bench| {
        let stream = Stream { channel: channel(A), direct: false, lane: Priority::Normal };
        let (from, to, verdict) = (node("ann"), node("me"), Verdict::Ack);
        let last = Some(id(90));
        let answer = Answer { from, to, store: STORE, stream, id: id(1), last, verdict };
        let effects = bench.say(|it, around| it.answered(around, answer)).effects;
        effects.iter().filter(|effect| matches!(effect, Effect::WentBack { .. })).count()
    };
    assert_eq!((went_back(&mut bench), went_back(&mut bench)), (1, 0));
    bench.outbound.no_new_store();
    assert_eq!(went_back(&mut bench), 1, "the file refused it");
    let new = StoreId::from_u128(8);
    bench.connection = Box::new(move |frame| {
        assert_eq!(frame.store, new);
        Ok(())
    });
    bench.say(|it, around| it.new_store(around, MessageId::ZERO, new)).sent(&[("ann", 1)]);
    assert_eq!(bench.outbound.store(), new);
}

#[test]
fn answers_of_strangers_and_about_unknown_topics_fit_nothing() {
    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1).sent(&[("ann", 1)]);
    assert!(matches!(bench.answer("eve", A, 1).effects[..], [Effect::Unmatched]));
    assert!(matches!(bench.answer("ann", TopicId(9), 1).effects[..], [Effect::Unmatched]));
    let settled = bench.answer("ann", A, 1).effects;
    assert!(matches!(&settled[..], [Effect::Settled(run)] if run.how == Settled::Acknowledged));
    assert_eq!(bench.settling.of(&node("ann")).len(), 1);
}

#[test]
fn a_frame_that_is_foreseen_is_the_one_that_goes_out_next() {
    let mut bench = Bench::with(&["ann"]);
    bench.append(A, 1).sent(&[("ann", 1)]);
    bench.append(A, 2).sent(&[]);
    let foreseen = bench.outbound.foresee(&node("ann"), bench.clock.now()).expect("a frame");
    let differ = [
        Outgoing { attempt: 2, heads: foreseen.heads.clone(), receiver: node("ann"), ..foreseen },
        Outgoing { heads: vec![head(A, 3)], receiver: node("ann"), ..foreseen },
        Outgoing { skipped: 1, heads: foreseen.heads.clone(), receiver: node("ann"), ..foreseen },
    ];
    assert!(differ.iter().all(|other| !foreseen.is_same_frame(other)));
    bench.connection = Box::new(move |frame| {
        assert!(foreseen.is_same_frame(frame), "{foreseen:?} {frame:?}");
        Ok(())
    });
    bench.answer("ann", A, 1).sent(&[("ann", 2)]);
}

mod record;
