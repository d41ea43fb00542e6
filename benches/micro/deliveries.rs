//! What a sender decides: a message is committed, published, acknowledged.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use waypost::protocol::backoff::Backoff;
use waypost::protocol::delivery::{Action, Delivery, Event, Head, Limits, Reply, Settled};
use waypost::protocol::frame::{MAX_HEADER_BYTES, Verdict};
use waypost::protocol::origin::Judgement;
use waypost::protocol::settling::{Position, Run, Settling};
use waypost::protocol::{Now, TopicId};
use waypost::{NodeId, Priority};

use crate::PAYLOAD_BYTES;
use crate::frames::{id, node};
use crate::meter::{Case, Meter};

const FRAME: u64 = 256;
/// What a message without headers of its own counts for besides its payload.
const HEADER_BYTES: usize = 256;
const RECEIVERS: u64 = 1_000;
const TOPIC: TopicId = TopicId(1);

pub(crate) fn measure(meter: &mut impl Meter) {
    one_in_flight(meter, "one message", 1);
    one_in_flight(meter, "one message, the receiver reads 64 channels", 64);
    frames(meter, "256 messages in one frame", 0);
    frames(meter, "256 messages in one frame, 1,000 wait", 1_000);
    many_receivers(meter);
    settling(meter);
}

/// A message is appended, and published at once, because nothing else waits; then its acknowledgement comes.
fn one_in_flight(meter: &mut impl Meter, name: &'static str, topics: i64) {
    let mut receiver = Receiver::new(1, topics);
    let mut seq = 0;
    let make = || {
        seq += 1;
        (Event::Appended([head(seq)].into()), acknowledged(seq))
    };
    meter.measure(Case::one("deliver", name), make, |(appended, acknowledged)| {
        assert_eq!(receiver.hear(appended).published, 1);
        assert_eq!(receiver.hear(acknowledged).settled, 1);
    });
}

/// While a frame is in flight, as many messages are appended, behind those that wait already; then the acknowledgement of the frame comes.
fn frames(meter: &mut impl Meter, name: &'static str, waiting: u64) {
    let mut receiver = Receiver::new(FRAME, 1);
    assert_eq!(receiver.hear(Event::Appended([head(1)].into())).published, 1);
    for seq in 2..2 + waiting {
        assert_eq!(receiver.hear(Event::Appended([head(seq)].into())).published, 0);
    }
    let (mut in_flight, mut last) = (1, 1 + waiting);
    let make = || {
        let appended: Vec<_> =
            (last + 1..=last + FRAME).map(|seq| Event::Appended([head(seq)].into())).collect();
        let acknowledged = acknowledged(in_flight);
        (in_flight, last) = (in_flight + FRAME, last + FRAME);
        (appended, acknowledged)
    };
    meter.measure(Case::large("deliver", name, FRAME), make, |(appended, acknowledged)| {
        for event in appended {
            assert_eq!(receiver.hear(event).published, 0);
        }
        assert_eq!(receiver.hear(acknowledged).published, FRAME);
    });
}

/// One message for each of them, all of which acknowledge it.
fn many_receivers(meter: &mut impl Meter) {
    let mut receivers: Vec<_> = (0..RECEIVERS).map(|_| Receiver::new(1, 1)).collect();
    let mut seq = 0;
    let make = || {
        seq += 1;
        let appended: Vec<_> =
            (0..RECEIVERS).map(|_| Event::Appended([head(seq)].into())).collect();
        let acknowledged: Vec<_> = (0..RECEIVERS).map(|_| acknowledged(seq)).collect();
        (appended, acknowledged)
    };
    let case = Case::large("deliver", "one message to 1,000 receivers", RECEIVERS);
    meter.measure(case, make, |(appended, acknowledged)| {
        for (receiver, event) in receivers.iter_mut().zip(appended) {
            assert_eq!(receiver.hear(event).published, 1);
        }
        for (receiver, event) in receivers.iter_mut().zip(acknowledged) {
            assert_eq!(receiver.hear(event).settled, 1);
        }
    });
}

/// What 64 receivers acknowledged, 16 times each, is gathered and taken to the file.
fn settling(meter: &mut impl Meter) {
    const ROUNDS: u64 = 16;
    let names: Vec<NodeId> = (0..64).map(|n| node(&format!("reader-{n}"))).collect();
    let mut settling = Settling::default();
    let mut seq = 0;
    let run = |receiver: &NodeId, seq: u64| Run {
        receiver: receiver.clone(),
        topic: TOPIC,
        first_seq: seq,
        last_seq: seq,
        last_id: id(seq),
        count: 1,
        how: Settled::Acknowledged,
        at_ms: seq,
    };
    let make = || {
        let first = seq + 1;
        seq += ROUNDS;
        let rounds = first..=seq;
        rounds.flat_map(|seq| names.iter().map(move |name| run(name, seq))).collect::<Vec<_>>()
    };
    let case = Case::large("settle", "16 messages to each of 64 receivers", ROUNDS * 64);
    meter.measure(case, make, |runs| {
        runs.into_iter().for_each(|run| settling.add(run));
        let taken = settling.take();
        assert_eq!(taken.len(), 64);
        (taken, settling.written())
    });
}

/// A receiver that is there and reads so many topics, of which only the first ever has messages.
struct Receiver {
    delivery: Delivery<Arc<[u8; PAYLOAD_BYTES]>>,
    now: Now,
    out: Vec<Action<Arc<[u8; PAYLOAD_BYTES]>>>,
}

/// What was decided, in messages.
struct Decided {
    published: u64,
    settled: u64,
}

impl Receiver {
    fn new(frame_messages: u64, topics: i64) -> Self {
        // As a node's are by default; the buffer as with frames of 256.
        let limits = Limits {
            ack_timeout: Duration::from_secs(10),
            backoff: Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) },
            max_attempts: 10,
            frame_messages: usize::try_from(frame_messages).expect("a small number"),
            frame_bytes: 1_000_000,
            frame_header_bytes: MAX_HEADER_BYTES,
            frame_wait: Duration::ZERO,
            buffer_messages: 2_048,
            buffer_bytes: 1024 * 1024,
        };
        let now = Now { mono: Instant::now(), file_ms: 1_800_000_000_000 };
        let mut me = Self { delivery: Delivery::new(limits, 1, vec![]), now, out: Vec::new() };
        for topic in (1..=topics).map(TopicId) {
            let at = Position { acked_seq: 0, acked_id: None, skipped: 0 };
            me.hear(Event::Opened { topic, lane: Priority::Normal, at, last_seq: 0 });
            me.hear(Event::Activity { topic, active: true });
        }
        me.hear(Event::LinkUp);
        me.hear(Event::Online);
        me
    }

    /// As the driver does it: after each event, the time of the next timer is asked for.
    fn hear(&mut self, event: Event<Arc<[u8; PAYLOAD_BYTES]>>) -> Decided {
        self.delivery.handle(self.now, event, &mut self.out);
        black_box(self.delivery.wake_at(self.now));
        let mut decided = Decided { published: 0, settled: 0 };
        for action in self.out.drain(..) {
            match action {
                Action::Publish { heads, .. } => decided.published += heads.len() as u64,
                Action::Settle { count, .. } => decided.settled += count,
                _ => {}
            }
        }
        decided
    }
}

fn head(seq: u64) -> Head<Arc<[u8; PAYLOAD_BYTES]>> {
    Head {
        seq,
        id: id(seq),
        topic: TOPIC,
        expires_ms: Some(1_800_086_400_000),
        bytes: PAYLOAD_BYTES + HEADER_BYTES,
        header_bytes: HEADER_BYTES,
        body: Some(Arc::new([7; PAYLOAD_BYTES])),
    }
}

fn acknowledged<B>(seq: u64) -> Event<B> {
    Event::Answered(Reply {
        topic: TOPIC,
        id: id(seq),
        last: Some(id(seq)),
        verdict: Verdict::Ack,
        judgement: Judgement::Fits,
    })
}
