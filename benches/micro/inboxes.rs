//! What a receiver decides: a frame arrives, its messages are handled, committed, answered.

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use waypost::protocol::Now;
use waypost::protocol::inbox::{
    Action, Arrival, Consumer, Done, Event, Inbox, Incoming, Limits, Source,
};

use crate::frames::{STORE, id, node, stream};
use crate::meter::{Case, Meter};
use crate::{PAYLOAD_BYTES, noise};

const FRAME: u64 = 256;
const SENDERS: u64 = 1_000;

pub(crate) fn measure(meter: &mut impl Meter) {
    let payload = noise(PAYLOAD_BYTES);
    let mut receiver = Receiver::new();
    let mut sender = Sender::new("alice", &payload);
    let make = || [sender.frame(1)];
    meter.measure(Case::one("receive", "one message"), make, |frames| {
        assert_eq!(receiver.take(frames), Taken { handled: 1, answered: 1 });
    });

    let mut sender = Sender::new("bob", &payload);
    let make = || [sender.frame(FRAME)];
    let case = Case::large("receive", "256 messages in one frame", FRAME);
    meter.measure(case, make, |frames| {
        assert_eq!(receiver.take(frames), Taken { handled: FRAME, answered: 1 });
    });

    let mut sender = Sender::new("carol", &payload);
    assert_eq!(receiver.take([sender.frame(1)]).handled, 1);
    let make = || [sender.repetition()];
    meter.measure(Case::one("receive", "a repetition"), make, |frames| {
        assert_eq!(receiver.take(frames), Taken { handled: 0, answered: 1 });
    });

    let names = (0..SENDERS).map(|n| format!("sender-{n}"));
    let mut senders: Vec<_> = names.map(|name| Sender::new(&name, &payload)).collect();
    let make = || senders.iter_mut().map(|sender| sender.frame(1)).collect::<Vec<_>>();
    let case = Case::large("receive", "one message each of 1,000 senders at once", SENDERS);
    meter.measure(case, make, |frames| {
        assert_eq!(receiver.take(frames), Taken { handled: SENDERS, answered: SENDERS });
    });
}

struct Sender {
    source: Source,
    payload: Bytes,
    seq: u64,
}

impl Sender {
    fn new(name: &str, payload: &Bytes) -> Self {
        let source = Source { sender: node(name), store: STORE, stream: stream() };
        Self { source, payload: payload.clone(), seq: 0 }
    }

    fn frame(&mut self, messages: u64) -> Arrival<Bytes> {
        let first = self.seq + 1;
        self.seq += messages;
        self.arrival(first)
    }

    /// The last message again.
    fn repetition(&self) -> Arrival<Bytes> {
        self.arrival(self.seq)
    }

    fn arrival(&self, first: u64) -> Arrival<Bytes> {
        let messages = (first..=self.seq).map(|seq| Incoming {
            id: id(seq),
            bytes: 2 * PAYLOAD_BYTES,
            body: self.payload.clone(),
        });
        Arrival {
            source: self.source.clone(),
            previous: (first > 1).then(|| id(first - 1)),
            skipped: 0,
            ack_timeout: Duration::from_secs(10),
            messages: messages.collect(),
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Taken {
    handled: u64,
    answered: u64,
}

struct Receiver {
    inbox: Inbox<Bytes>,
    now: Now,
    events: VecDeque<Event<Bytes>>,
    out: Vec<Action<Bytes>>,
}

impl Receiver {
    fn new() -> Self {
        // As a node's are by default.
        let limits = Limits { handlers: 64, held_bytes: 64 * 1024 * 1024 };
        let now = Now { mono: Instant::now(), file_ms: 1_800_000_000_000 };
        let ready = Event::Consumer { channel: stream().channel, consumer: Some(Consumer::Ready) };
        let mut me =
            Self { inbox: Inbox::new(limits, []), now, events: VecDeque::new(), out: Vec::new() };
        me.hear(ready);
        me
    }

    /// Takes these frames to the end, as fast as handlers and file can be.
    fn take(&mut self, frames: impl IntoIterator<Item = Arrival<Bytes>>) -> Taken {
        let mut taken = Taken { handled: 0, answered: 0 };
        self.events.extend(frames.into_iter().map(Event::Frame));
        while let Some(event) = self.events.pop_front() {
            self.hear(event);
            for action in self.out.drain(..) {
                match action {
                    Action::Handle { source, messages, .. } => {
                        taken.handled += messages.len() as u64;
                        let results = messages.into_iter().map(|(id, _)| (id, Ok(Done::Handled)));
                        let results = results.collect();
                        self.events.push_back(Event::Finished { source, results });
                    }
                    Action::Commit { source, id } => {
                        self.events.push_back(Event::Committed { source, id });
                    }
                    Action::Answer { .. } => taken.answered += 1,
                    _ => {}
                }
            }
        }
        taken
    }

    /// As the driver does it: after each event, the time of the next timer is asked for.
    fn hear(&mut self, event: Event<Bytes>) {
        self.inbox.handle(self.now, event, &mut self.out);
        black_box(self.inbox.wake_at());
    }
}
