//! What other nodes send us: is a message new, a repetition, or not for us, and what to answer.
//!
//! Messages of one stream of one sender are handled one at a time, in order (P3). A message is committed before it is
//! acknowledged, and what was committed is never handled again (P5): a repetition is recognised by its id and acknowledged again. A message
//! that ends the process that handles it is known by what was noted before it was handed out: see [`begun`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Now;
use super::frame::{Stream, Verdict};
use crate::message::{ChannelName, MessageId, NodeId, StoreId};

pub mod begun;
mod handing;
mod work;

use begun::{Begun, ENDED, Note, Slot};
use work::{Stage, State};

/// One order of messages: a sender's file, a channel, a lane.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    pub sender: NodeId,
    pub store: StoreId,
    pub stream: Stream,
}

/// Whether somebody takes a channel's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumer {
    /// Joined as a reader, and something handles its messages.
    Ready,
    /// Joined, but paused, or nothing handles its messages yet.
    Paused,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most messages that are being handled at the same time.
    pub handlers: usize,
    /// Most bytes of messages that are held, being handled or waiting for it.
    pub held_bytes: usize,
}

/// A message as it came in. `B` is whatever the shell needs to handle it.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming<B> {
    pub id: MessageId,
    pub bytes: usize,
    pub body: B,
}

/// A frame as it came in.
#[derive(Debug)]
pub struct Arrival<B> {
    pub source: Source,
    /// The last message of this source that the sender says we acknowledged.
    pub previous: Option<MessageId>,
    /// How many the sender settled otherwise since then.
    pub skipped: u64,
    /// How long the sender waits for an answer.
    pub ack_timeout: Duration,
    pub messages: Vec<Incoming<B>>,
}

#[derive(Debug)]
pub enum Event<B> {
    Frame(Arrival<B>),
    /// How the messages ended that were handed out last of this source, in order. What is not named was not begun.
    Finished {
        source: Source,
        results: Vec<(MessageId, Result<Done, String>)>,
    },
    Committed {
        source: Source,
        id: MessageId,
    },
    /// The file took nothing.
    CommitFailed {
        source: Source,
        id: MessageId,
    },
    /// `None`: not joined as a reader.
    Consumer {
        channel: ChannelName,
        consumer: Option<Consumer>,
    },
    /// Nothing can be committed for the time being: handlers are not called in vain, and what was committed last is not known for sure.
    Suspended,
    /// Commits are possible again. `known`: what the file says is committed.
    Resumed {
        known: Vec<(Source, MessageId)>,
    },
    /// Another node may have taken our place: what waits is given back, and of what was handed out nothing more begins.
    Doubted,
    /// Nothing new is taken from now on; what is being handled may finish.
    Stop,
    Woke,
}

/// How a handler ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The inbox row is still to be written.
    Handled,
    /// The inbox row has been written: by the handler's own transaction, or by its answer.
    Committed,
    /// Nobody handled it: its consumer went away first. No fault of the message's, and no attempt.
    Returned,
}

#[derive(Debug, PartialEq)]
pub enum Action<B> {
    /// Let these be handled, one after the other, up to the first that does not end well; then say `Finished`. Before the first begins, note at
    /// this place that they did, and when so many processes had ended.
    Handle {
        source: Source,
        messages: Vec<(MessageId, B)>,
        note: Option<(Slot, u32)>,
    },
    /// What was noted there means nothing any more.
    Unnote {
        slot: Slot,
    },
    /// Begin none any more of those that were handed out of this source.
    Cease {
        source: Source,
    },
    /// Write the inbox row, then say `Committed` or `CommitFailed`.
    Commit {
        source: Source,
        id: MessageId,
    },
    Answer {
        source: Source,
        id: MessageId,
        verdict: Verdict,
        last: Option<MessageId>,
    },
    Gap {
        source: Source,
        gap: Gap,
    },
    /// A repetition was recognised.
    Repeated {
        source: Source,
        id: MessageId,
    },
}

/// Messages that this node will not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// The sender settled so many otherwise: they expired, were dropped, or became dead letters.
    Skipped(u64),
    /// The sender says that we acknowledged up to `sender_says`, and our file knows less: it is an older copy of itself, or new.
    WeWentBack { sender_says: MessageId },
}

/// Most store ids of one sender's stream that are remembered.
const MAX_STORES: usize = 16;
/// Pause before a commit that the file refused is tried again, and that a sender is asked for when there is no room.
const RETRY: Duration = Duration::from_millis(500);
const BUSY: Verdict = Verdict::Busy { retry_ms: RETRY.as_millis() as u64 };

/// A sender is asked for what is taken next.
const AT_ONCE: Verdict = Verdict::Busy { retry_ms: 10 };

/// A message that ended an earlier process.
struct Blamed {
    id: MessageId,
    slot: Slot,
    /// All before it is committed.
    is_next: bool,
}

/// All that this node receives.
#[derive(Debug)]
pub struct Inbox<B> {
    limits: Limits,
    /// The newest message of each source that is committed.
    last: HashMap<Source, MessageId>,
    active: BTreeMap<Source, State<B>>,
    consumers: HashMap<ChannelName, Consumer>,
    /// Sources whose next message waits for a free handler, in the order of arrival.
    ready: VecDeque<Source>,
    running: usize,
    begun: Begun,
    held_bytes: usize,
    suspended: bool,
    stopping: bool,
    /// Nothing that is in work is to be looked at before this time. Looked for only when it has come: to do that at every event
    /// would cost as much as there are senders.
    due: Option<Instant>,
}

impl<B> Inbox<B> {
    /// `known`: what the file says is committed.
    pub fn new(limits: Limits, known: impl IntoIterator<Item = (Source, MessageId)>) -> Self {
        Self {
            limits,
            last: known.into_iter().collect(),
            active: BTreeMap::new(),
            consumers: HashMap::new(),
            ready: VecDeque::new(),
            running: 0,
            begun: Begun::default(),
            held_bytes: 0,
            suspended: false,
            stopping: false,
            due: None,
        }
    }

    /// What earlier processes noted, told before anything else. Returns what is to be noted in its place.
    pub fn noted(&mut self, notes: Vec<Note>) -> Vec<(Slot, Note)> {
        let (begun, notes) = Begun::new(notes, &self.last);
        self.begun = begun;
        notes
    }

    /// What an orderly end leaves noted: whoever was cut short by it has not ended the process, but what ended an earlier one still did.
    pub fn noted_at_end(&self) -> Vec<(Slot, Note)> {
        self.begun.left()
    }

    /// Messages that are being handled or written.
    pub fn busy(&self) -> usize {
        self.running + self.committing()
    }

    /// Whether a message of this channel is in work.
    pub fn works_for(&self, channel: &ChannelName) -> bool {
        self.active.keys().any(|source| source.stream.channel == *channel)
    }

    /// Messages that are being written.
    pub fn committing(&self) -> usize {
        self.active.values().filter(|state| state.is_committing()).count()
    }

    /// Appends actions in the order in which the shell must perform them.
    pub fn handle(&mut self, now: Now, event: Event<B>, out: &mut Vec<Action<B>>) {
        match event {
            Event::Frame(arrival) => self.frame(now, arrival, out),
            Event::Finished { source, results } => self.finished(source, results, out),
            Event::Committed { source, id } => self.committed(&source, id, out),
            Event::CommitFailed { source, id } => self.commit_failed(now, &source, id),
            Event::Consumer { channel, consumer } => self.consumer(channel, consumer, out),
            Event::Suspended => self.suspend(out),
            Event::Resumed { known } => {
                self.suspended = false;
                for (source, last) in known {
                    let last = self.last.get(&source).copied().max(Some(last));
                    self.remember(&source, last);
                }
            }
            Event::Doubted => self.give_back_all(|_| true, &BUSY, out),
            Event::Stop => self.stop(out),
            Event::Woke => {}
        }
        self.start_ready(now, out);
        if self.due.is_some_and(|due| due <= now.mono) {
            self.remind(now, out);
        }
    }

    /// When to say `Woke`, if nothing happens before. It may come too early, for something that has ended since.
    pub fn wake_at(&self) -> Option<Instant> {
        self.due
    }

    /// Something is to be done by then.
    fn due_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn frame(&mut self, now: Now, arrival: Arrival<B>, out: &mut Vec<Action<B>>) {
        let Arrival { source, previous, skipped, ack_timeout, mut messages } = arrival;
        let blamed = self.blamed(&source, &mut messages);
        let (Some(first), Some(newest)) =
            (messages.first().map(|m| m.id), messages.last().map(|m| m.id))
        else {
            return;
        };
        let last = self.last.get(&source).copied();
        if last.is_some_and(|last| newest <= last) {
            out.push(Action::Repeated { source: source.clone(), id: newest });
            return out.push(Action::Answer { source, id: newest, verdict: Verdict::Ack, last });
        }
        if let Some(verdict) = self.refusal(&source, &messages) {
            return out.push(Action::Answer { source, id: first, verdict, last });
        }
        if let Some(Blamed { id, slot, is_next: true }) = blamed {
            self.begun.answered(slot);
            let verdict = Verdict::Failed { detail: ENDED.to_owned() };
            out.push(Action::Unnote { slot });
            return out.push(Action::Answer { source, id, verdict, last });
        }
        if let Some(state) = self.active.get(&source) {
            // Being worked on; or a late copy of what the sender has given up since, which must not overtake.
            if state.work.iter().any(|work| work.id == newest) {
                let verdict = Verdict::Working;
                return out.push(Action::Answer { source, id: newest, verdict, last });
            }
            if state.work.back().is_some_and(|work| newest < work.id) {
                return;
            }
        } else {
            self.tell_gap(&source, previous, skipped, last, out);
        }
        let last = self.last.get(&source).copied();
        let state = self.active.entry(source.clone()).or_insert_with(|| State::new(now));
        if let Some(Blamed { id, .. }) = blamed {
            // Those before it are taken, and it is asked for at once.
            state.then = Some((id, AT_ONCE));
        }
        self.held_bytes += state.take(now, ack_timeout, messages, last);
        let working_at = state.working_at;
        self.due_at(working_at);
        self.ready.push_back(source);
    }

    /// The message of these that ended an earlier process. What is new before it is taken without it and what follows.
    fn blamed(&self, source: &Source, messages: &mut Vec<Incoming<B>>) -> Option<Blamed> {
        let last = self.last.get(source).copied();
        let slots = messages.iter().map(|m| self.begun.blamed(source, m.id));
        let (at, slot) = slots.enumerate().find_map(|(at, slot)| Some((at, slot?)))?;
        let id = messages[at].id;
        let is_next = messages[..at].iter().all(|message| Some(message.id) <= last);
        if !is_next {
            messages.truncate(at);
        }
        (Some(id) > last).then_some(Blamed { id, slot, is_next })
    }

    fn tell_gap(
        &mut self,
        source: &Source,
        previous: Option<MessageId>,
        skipped: u64,
        last: Option<MessageId>,
        out: &mut Vec<Action<B>>,
    ) {
        if skipped > 0 {
            out.push(Action::Gap { source: source.clone(), gap: Gap::Skipped(skipped) });
        }
        if let Some(sender_says) = previous.filter(|previous| Some(*previous) > last) {
            if !self.was_taken_before(source, sender_says) {
                let gap = Gap::WeWentBack { sender_says };
                out.push(Action::Gap { source: source.clone(), gap });
            }
            self.remember(source, Some(sender_says));
        }
    }

    /// Whether this very message was taken under another store id of the sender's file: it turned out to be an older copy of itself after we had
    /// acknowledged the message, and before another had.
    fn was_taken_before(&self, source: &Source, id: MessageId) -> bool {
        self.last.iter().any(|(other, last)| {
            *last == id && other.sender == source.sender && other.stream == source.stream
        })
    }

    /// Why a frame is not taken now.
    fn refusal(&self, source: &Source, messages: &[Incoming<B>]) -> Option<Verdict> {
        if self.stopping || self.suspended {
            return Some(BUSY);
        }
        match self.consumers.get(&source.stream.channel) {
            None => return Some(Verdict::NotJoined),
            Some(Consumer::Paused) => return Some(Verdict::Paused),
            Some(Consumer::Ready) => {}
        }
        if self.is_held_up(source) {
            return Some(BUSY);
        }
        let bytes: usize = messages.iter().map(|m| m.bytes).sum();
        let full = self.held_bytes > 0 && self.held_bytes + bytes > self.limits.held_bytes;
        full.then_some(BUSY)
    }

    fn committed(&mut self, source: &Source, id: MessageId, out: &mut Vec<Action<B>>) {
        let last = self.last.get(source).copied().max(Some(id));
        self.remember(source, last);
        let Some(state) = self.active.get_mut(source) else { return };
        state.handled = None;
        if state.work.front().is_none_or(|work| work.id != id) {
            return;
        }
        let Some(work) = state.work.pop_front() else { return };
        self.held_bytes -= work.bytes;
        if work.last_of_frame {
            let (id, verdict) = state.then.take().unwrap_or((id, Verdict::Ack));
            out.push(Action::Answer { source: source.clone(), id, verdict, last });
        }
        if state.work.is_empty() {
            self.active.remove(source);
        } else {
            self.ready.push_back(source.clone());
        }
    }

    /// Notes how far a source is. A sender takes a new store id when its file turns out to be an old copy: of each stream only so many
    /// are remembered, so that a sender that invents them costs a bounded table.
    fn remember(&mut self, source: &Source, last: Option<MessageId>) {
        let Some(last) = last else { return };
        if self.last.insert(source.clone(), last).is_some() {
            return;
        }
        let same = |other: &Source| other.sender == source.sender && other.stream == source.stream;
        let stores = self.last.iter().filter(|(other, _)| same(other));
        if stores.clone().count() > MAX_STORES
            && let Some(oldest) = stores.min_by_key(|(_, last)| **last).map(|(s, _)| s.clone())
        {
            self.last.remove(&oldest);
        }
    }

    fn commit_failed(&mut self, now: Now, source: &Source, id: MessageId) {
        let front = self.active.get_mut(source).and_then(|state| state.work.front_mut());
        if let Some(work) = front.filter(|work| work.id == id) {
            work.stage = Stage::CommitLater(now.mono + RETRY);
            self.due_at(now.mono + RETRY);
        }
    }

    fn consumer(
        &mut self,
        channel: ChannelName,
        consumer: Option<Consumer>,
        out: &mut Vec<Action<B>>,
    ) {
        match consumer {
            Some(consumer) => self.consumers.insert(channel.clone(), consumer),
            None => self.consumers.remove(&channel),
        };
        if consumer == Some(Consumer::Ready) {
            return;
        }
        let verdict = if consumer.is_some() { Verdict::Paused } else { Verdict::NotJoined };
        self.give_back_all(|source| source.stream.channel == channel, &verdict, out);
    }

    fn stop(&mut self, out: &mut Vec<Action<B>>) {
        self.stopping = true;
        self.give_back_all(|_| true, &BUSY, out);
    }

    /// What waits may wait here; what was handed out and is not begun is not begun any more.
    fn suspend(&mut self, out: &mut Vec<Action<B>>) {
        self.suspended = true;
        for (source, state) in &mut self.active {
            state.cease(source, &BUSY, out);
        }
    }

    /// Tells senders that we are still at it, and tries again what the file refused.
    fn remind(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        self.due = None;
        for (source, state) in &mut self.active {
            let Some(work) = state.work.front_mut() else { continue };
            if let Stage::CommitLater(at) = work.stage
                && at <= now.mono
            {
                work.stage = Stage::Committing;
                out.push(Action::Commit { source: source.clone(), id: work.id });
            }
            if state.working_at <= now.mono {
                state.working_at = now.mono + state.working_every;
                out.push(Action::Answer {
                    source: source.clone(),
                    id: work.id,
                    verdict: Verdict::Working,
                    last: self.last.get(source).copied(),
                });
            }
            let due = match work.stage {
                Stage::CommitLater(at) => at.min(state.working_at),
                _ => state.working_at,
            };
            self.due = Some(self.due.map_or(due, |before| before.min(due)));
        }
        if let Some(at) = self.begun.look_at(now.mono) {
            self.due_at(at);
        }
    }
}

#[cfg(test)]
mod tests;
