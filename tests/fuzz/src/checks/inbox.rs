//! Frames of anybody: what was committed is handled once (P5), one message of a source at a time and in order (P3), nothing is
//! acknowledged before it is committed, and what is held is bounded (P7, P8).

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waypost::protocol::Now;
use waypost::protocol::frame::{Stream, Verdict};
use waypost::protocol::inbox::{
    Action, Arrival, Consumer, Done, Event, Gap, Inbox, Incoming, Limits, Source,
};
use waypost::{ChannelName, MessageId, NodeId, Priority, StoreId};

use super::choices::Choices;

const HANDLERS: usize = 3;
const HELD_BYTES: usize = 10_000;
const LARGEST: usize = 4_000;
const MOST_IN_A_FRAME: usize = 4;
/// How many store ids of one sender's stream a node remembers.
const MAX_STORES: usize = 16;

/// A body that counts itself as long as it is held.
#[derive(Debug)]
struct Held {
    bytes: usize,
    all: Rc<Cell<usize>>,
}

impl Held {
    fn new(bytes: usize, all: &Rc<Cell<usize>>) -> Self {
        all.set(all.get() + bytes);
        Self { bytes, all: Rc::clone(all) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.all.set(self.all.get() - self.bytes);
    }
}

/// What was handed out together.
struct Running {
    source: Source,
    messages: Vec<(MessageId, Held)>,
    ceased: bool,
}

struct Model {
    inbox: Inbox<Held>,
    start: Instant,
    now: Duration,
    held: Rc<Cell<usize>>,
    running: Vec<Running>,
    committing: Vec<(Source, MessageId)>,
    /// Commits that the file refused, to be tried again.
    refused: Vec<(Source, MessageId)>,
    /// The newest message of each source that is surely in the file, or that its sender says we acknowledged.
    committed: BTreeMap<Source, MessageId>,
    /// The newest message of each source whose handler did well.
    handled: BTreeMap<Source, MessageId>,
    stopping: bool,
}

/// Bytes that choose what happens to what a node receives.
pub fn check(input: &[u8]) {
    let mut choices = Choices::new(input);
    let limits = Limits { handlers: HANDLERS, held_bytes: HELD_BYTES };
    let mut model = Model {
        inbox: Inbox::new(limits, []),
        start: Instant::now(),
        now: Duration::ZERO,
        held: Rc::default(),
        running: Vec::new(),
        committing: Vec::new(),
        refused: Vec::new(),
        committed: BTreeMap::new(),
        handled: BTreeMap::new(),
        stopping: false,
    };
    model.consumer(0, Some(Consumer::Ready));
    while !choices.is_empty() {
        model.step(&mut choices);
    }
    model.ends_well();
}

fn channel(n: usize) -> ChannelName {
    ChannelName::new(["work", "other"][n % 2]).expect("a valid name")
}

fn source(choices: &mut Choices) -> Source {
    let sender = NodeId::new(["alice", "eve"][choices.below(2)]).expect("a valid name");
    let how = choices.byte();
    let lane = Priority::ALL[usize::from(how >> 4) % 3];
    let stream = Stream { channel: channel(usize::from(how & 1)), direct: how & 2 != 0, lane };
    let stores = if how & 4 != 0 { 2 * MAX_STORES } else { 1 };
    let store = StoreId::from_u128(1 + choices.below(stores) as u128);
    Source { sender, store, stream }
}

impl Model {
    fn step(&mut self, choices: &mut Choices) {
        match choices.below(12) {
            0..=4 => self.frame(choices),
            5..=7 => self.finish(choices),
            8 | 9 => {
                if self.committing.is_empty() {
                    return;
                }
                let (source, id) = self.committing.remove(choices.below(self.committing.len()));
                if choices.below(4) == 0 {
                    self.refused.push((source.clone(), id));
                    return self.say(Event::CommitFailed { source, id });
                }
                self.commit(&source, id);
                self.say(Event::Committed { source, id });
            }
            10 => {
                let consumer = [None, Some(Consumer::Paused), Some(Consumer::Ready)];
                let n = choices.below(2);
                self.consumer(n, consumer[choices.below(3)]);
            }
            _ if choices.below(32) == 31 => {
                self.stopping = true;
                self.say(Event::Stop);
            }
            _ => {
                self.now += choices.time();
                self.say(Event::Woke);
            }
        }
    }

    fn frame(&mut self, choices: &mut Choices) {
        let source = source(choices);
        let mut id = choices.id();
        let mut messages = Vec::new();
        for _ in 0..=choices.below(MOST_IN_A_FRAME) {
            let bytes = 1 + usize::from(choices.byte()) * (LARGEST - 1) / 255;
            let body = Held::new(bytes, &self.held);
            messages.push(Incoming { id: MessageId::from_u128(id), bytes, body });
            // Decoding has refused a frame whose ids do not grow.
            let Some(next) = id.checked_add(1 + u128::from(choices.byte() % 4)) else { break };
            id = next;
        }
        let first = messages[0].id;
        let previous = choices.coin().then(|| MessageId::from_u128(choices.id()));
        self.say(Event::Frame(Arrival {
            source,
            previous: previous.filter(|previous| *previous < first),
            skipped: choices.number(),
            ack_timeout: Duration::from_millis(choices.number()),
            messages,
        }));
    }

    fn finish(&mut self, choices: &mut Choices) {
        if self.running.is_empty() {
            return;
        }
        let Running { source, messages, ceased } =
            self.running.remove(choices.below(self.running.len()));
        let mut results = Vec::new();
        for (id, held) in messages {
            if ceased && !results.is_empty() && choices.coin() {
                break;
            }
            drop(held);
            let result = match choices.below(8) {
                0..=3 => Ok(Done::Handled),
                4 | 5 => {
                    self.commit(&source, id);
                    Ok(Done::Committed)
                }
                6 => Ok(Done::Returned),
                _ => Err("it failed".repeat(choices.below(100))),
            };
            let goes_on = matches!(result, Ok(Done::Handled | Done::Committed));
            results.push((id, result));
            if !goes_on {
                break;
            }
            self.handled.insert(source.clone(), id);
        }
        self.say(Event::Finished { source, results });
    }

    fn commit(&mut self, source: &Source, id: MessageId) {
        let newest = self.committed.entry(source.clone()).or_insert(id);
        *newest = id.max(*newest);
    }

    fn consumer(&mut self, n: usize, consumer: Option<Consumer>) {
        self.say(Event::Consumer { channel: channel(n), consumer });
    }

    fn say(&mut self, event: Event<Held>) {
        let now = Now { mono: self.start + self.now, file_ms: 0 };
        let mut actions = Vec::new();
        self.inbox.handle(now, event, &mut actions);
        for action in actions {
            self.judge(action);
        }
        let most = HELD_BYTES.max(LARGEST * MOST_IN_A_FRAME);
        assert!(self.held.get() <= most, "{} bytes are held", self.held.get());
        let busy = self.running.len() + self.committing.len() + self.refused.len();
        assert_eq!(self.inbox.busy(), busy);
        let wake_at = self.inbox.wake_at();
        assert!(wake_at.is_none_or(|at| at > now.mono), "a timer that is due was not acted upon");
    }

    fn judge(&mut self, action: Action<Held>) {
        match action {
            Action::Handle { source, messages, .. } => self.handle(source, messages),
            Action::Unnote { .. } => {}
            Action::Cease { source } => {
                let run = self.running.iter_mut().find(|run| run.source == source);
                run.expect("something was handed out").ceased = true;
            }
            Action::Commit { source, id } => {
                assert!(
                    self.handled.get(&source) >= Some(&id),
                    "what was not handled is not committed"
                );
                assert!(!self.committing.contains(&(source.clone(), id)), "one commit at a time");
                self.refused.retain(|refused| *refused != (source.clone(), id));
                self.committing.push((source, id));
            }
            Action::Answer { source, id, verdict, last } => {
                let committed = self.committed.get(&source);
                if verdict == Verdict::Ack {
                    assert!(committed >= Some(&id), "{id} is not committed");
                }
                assert!(last.as_ref() <= committed, "more than is committed: {last:?}");
            }
            Action::Gap { source, gap: Gap::WeWentBack { sender_says } } => {
                self.commit(&source, sender_says);
            }
            Action::Gap { .. } => {}
            Action::Repeated { source, id } => {
                assert!(self.committed.get(&source) >= Some(&id), "{id} is no repetition");
            }
        }
    }

    fn handle(&mut self, source: Source, messages: Vec<(MessageId, Held)>) {
        assert!(!self.stopping, "nothing new is taken");
        assert!(self.running.len() < HANDLERS, "too many handlers");
        assert!(!self.running.iter().any(|run| run.source == source), "one at a time");
        assert!(!messages.is_empty() && messages.is_sorted_by_key(|(id, _)| *id), "in order");
        // A sender that invents store ids has its own oldest ones forgotten, and nobody else's.
        let same = |other: &&Source| other.sender == source.sender && other.stream == source.stream;
        if self.committed.keys().filter(same).count() <= MAX_STORES {
            let id = messages[0].0;
            assert!(self.committed.get(&source) < Some(&id), "{id} was committed before");
            assert!(self.handled.get(&source) < Some(&id), "{id} was handled before");
        }
        self.running.push(Running { source, messages, ceased: false });
    }

    /// When handlers end well and the file takes what it is given, nothing is held any more.
    fn ends_well(&mut self) {
        for _ in 0..10_000 {
            if let Some(Running { source, messages, .. }) = self.running.pop() {
                let ids: Vec<MessageId> = messages.iter().map(|(id, _)| *id).collect();
                drop(messages);
                self.handled.extend(ids.last().map(|id| (source.clone(), *id)));
                let results = ids.into_iter().map(|id| (id, Ok(Done::Handled))).collect();
                self.say(Event::Finished { source, results });
            } else if let Some((source, id)) = self.committing.pop() {
                self.commit(&source, id);
                self.say(Event::Committed { source, id });
            } else if let Some(at) = self.inbox.wake_at() {
                self.now = at.saturating_duration_since(self.start).max(self.now);
                self.say(Event::Woke);
            } else {
                assert_eq!((self.held.get(), self.inbox.busy()), (0, 0), "something is left");
                return;
            }
        }
        panic!("it does not come to an end");
    }
}
