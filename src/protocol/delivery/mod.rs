//! One receiver's messages: what to send now, and what an answer means.
//!
//! At most one frame is unanswered at any time (P4). The next message is the lowest `seq` among the topics that the receiver
//! takes, the high lane first; a message is never sent before its predecessor in the topic is settled (P3), and where it was settled without
//! the receiver's word, that is in the file: after a crash it would else be sent again, and the receiver, which has taken the
//! successor, would acknowledge what it never handled (P2). An attempt is what the receiver answered with a refusal. Silence is none, neither in an
//! outage (P6) nor of a receiver that is heard: a message that may have been handled is never called dead because nobody said so.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Now;
use super::backoff::{Backoff, Jitter};
use super::settling::Position;
use super::stalls::Standing;
use crate::message::{MessageId, Priority, TopicId};

mod answers;
mod events;
mod queue;
mod readers;
mod sending;

pub use super::settling::Settled;
pub use events::{Action, Event, Foreseen, HANDLER_FAILED, Reply, Unsent};
pub use queue::Head;
use queue::Queue;
pub use readers::Readers;
use sending::settle_otherwise;

/// Settings of all deliveries of a node.
#[derive(Debug, Clone)]
pub struct Limits {
    pub ack_timeout: Duration,
    pub backoff: Backoff,
    pub max_attempts: u32,
    /// Most messages and bytes in one frame, and most bytes of its header.
    pub frame_messages: usize,
    pub frame_bytes: usize,
    pub frame_header_bytes: usize,
    /// How long a frame that is not full waits for more.
    pub frame_wait: Duration,
    /// Most messages and bytes of one queue that are kept in memory.
    pub buffer_messages: usize,
    pub buffer_bytes: usize,
}

/// When a frame that the transport could not take is tried again at the latest; it tells when it has room.
const BUSY_REST: Duration = Duration::from_secs(1);
/// Pause after a page could not be read.
const LOAD_REST: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Flight<B> {
    topic: TopicId,
    heads: Vec<Head<B>>,
    /// When to send it again; counts only while the receiver can be reached.
    deadline: Instant,
    /// The repetition has another reason than the receiver's silence.
    excused: bool,
    /// The receiver has said that it is still busy with it.
    working: bool,
    /// To be repeated as soon as it is on record what became of the messages before it.
    held: bool,
    /// It did not leave.
    unsent: bool,
    /// Up to where the topic had been published before it.
    published_before: u64,
}

/// One receiver.
#[derive(Debug)]
pub struct Delivery<B> {
    limits: Limits,
    jitter: Jitter,
    online: bool,
    link: bool,
    /// The receiver was heard since the last frame to it: if it does not answer, that is silence, and else an outage that nobody has noticed.
    heard: bool,
    queues: BTreeMap<TopicId, Queue<B>>,
    flight: Option<Flight<B>>,
    /// The page that was asked for.
    loading: Option<u64>,
    /// No page before this time.
    load_rest_until: Option<Instant>,
    /// Most bytes in one frame, as far as it is known what the server takes.
    frame_bytes: usize,
    /// From which messages on each further store id counts: a frame has one.
    stores: Vec<MessageId>,
}

impl<B: Clone> Delivery<B> {
    /// `stores`: from which messages on each store id counts, ascending.
    pub fn new(limits: Limits, seed: u64, stores: Vec<MessageId>) -> Self {
        Self {
            stores,
            frame_bytes: limits.frame_bytes,
            limits,
            jitter: Jitter::new(seed),
            online: false,
            link: false,
            heard: false,
            queues: BTreeMap::new(),
            flight: None,
            loading: None,
            load_rest_until: None,
        }
    }

    /// Several events of one moment, like the closing of all topics of a receiver that is forgotten: what would be sent in between, of a topic
    /// whose turn to be closed has not come yet, is not sent.
    pub fn handle_together(
        &mut self,
        now: Now,
        events: impl IntoIterator<Item = Event<B>>,
        out: &mut Vec<Action<B>>,
    ) {
        let mut actions = Vec::new();
        for event in events {
            let before = actions.len();
            self.handle(now, event, &mut actions);
            let is_sent = |action: &Action<B>| matches!(action, Action::Publish { .. });
            if self.flight.is_none() || actions[before..].iter().any(is_sent) {
                let mut at = 0;
                actions.retain(|action| {
                    at += 1;
                    at > before || !is_sent(action)
                });
            }
        }
        out.append(&mut actions);
    }

    /// Appends actions in the order in which the shell must perform them.
    pub fn handle(&mut self, now: Now, event: Event<B>, out: &mut Vec<Action<B>>) {
        let is_page = matches!(event, Event::Loaded { .. });
        match event {
            Event::Opened { topic, lane, at, last_seq } => self.open(topic, lane, at, last_seq),
            Event::Failed { topic, seq, attempt } => {
                if let Some(queue) = self.queues.get_mut(&topic) {
                    queue.failed = Some((seq, attempt));
                }
            }
            Event::Closed { topic } => {
                self.queues.remove(&topic);
                self.flight.take_if(|flight| flight.topic == topic);
            }
            Event::Activity { topic, active } => self.activity(topic, active),
            Event::Appended(heads) => self.append(now, &heads),
            Event::Missed { end_seq } => {
                self.queues.values_mut().for_each(|queue| queue.missed(end_seq));
            }
            Event::Slept { topic, end_seq } => {
                if let Some(queue) = self.queues.get_mut(&topic) {
                    queue.missed(end_seq);
                }
            }
            Event::Loaded { token, topics, heads, scanned_to, end } => {
                // Any other answers a question of a delivery that is gone.
                if self.loading.take_if(|loading| *loading == token).is_some() {
                    self.loaded(&topics, heads, scanned_to, end);
                }
            }
            Event::LoadFailed { token } if self.loading == Some(token) => {
                self.loading = None;
                self.load_rest_until = Some(now.mono + LOAD_REST);
            }
            Event::LoadFailed { .. } => {}
            Event::Answered(reply) => self.answered(now, reply, out),
            Event::Online => self.reachable(now, |me| me.online = true),
            Event::LinkUp => {
                // Another server may take more.
                self.frame_bytes = self.limits.frame_bytes;
                self.reachable(now, |me| me.link = true);
            }
            Event::Offline => self.offline(),
            Event::Heard => self.heard = true,
            Event::LinkDown => self.link = false,
            Event::Restarted => self.due(now),
            Event::StoreChanged { from } => self.store_changed(now, from),
            Event::Unsent(reason) => self.unsent(now, reason, out),
            Event::Room => {
                if let Some(flight) = self.flight.as_mut().filter(|flight| flight.unsent) {
                    flight.deadline = now.mono;
                }
            }
            Event::Recorded { topic, up_to_seq } => self.recorded(now, topic, up_to_seq),
            Event::Dropped { topic, up_to_seq, count } => self.dropped(topic, up_to_seq, count),
            Event::Woke => {}
        }
        self.act(now, out);
        if is_page {
            self.keep_first(now);
        }
    }

    /// When to say `Woke`, if nothing happens before.
    pub fn wake_at(&self, now: Now) -> Option<Instant> {
        let reachable = self.online && self.link;
        let busy = self.flight.as_ref().map(|flight| flight.topic);
        let flight = self.flight.as_ref().filter(|flight| reachable && !flight.held);
        let flight = flight.map(|flight| flight.deadline);
        let idle = self.flight.is_none();
        let gatherings = self.queues.values().filter_map(|queue| queue.gather_until);
        let rests = self.queues.values().filter_map(|queue| queue.rest_until);
        let rests = rests.chain(gatherings.filter(|_| idle));
        // Nothing behind a message in flight is settled before it.
        let first_out = self.flight.as_ref().filter(|_| !reachable).and_then(|f| f.heads.first());
        let fronts = self.queues.iter().filter(|(topic, _)| busy != Some(**topic));
        let expiries = fronts.filter_map(|(_, queue)| queue.front()).chain(first_out);
        let expiries = expiries.filter_map(|head| {
            let left = head.expires_ms?.saturating_sub(now.file_ms);
            now.mono.checked_add(Duration::from_millis(left))
        });
        let soonest = flight.into_iter().chain(self.load_rest_until);
        soonest.chain(rests.filter(|_| reachable)).chain(expiries).min()
    }

    /// Messages in the frame that has no answer yet.
    #[cfg(test)]
    pub fn in_flight(&self) -> usize {
        self.flight.as_ref().map_or(0, |flight| flight.heads.len())
    }

    /// Whether the frame that has no answer yet is the one of this topic that begins with this message.
    pub fn is_in_flight(&self, topic: TopicId, first: MessageId) -> bool {
        let begins = |flight: &Flight<B>| flight.heads.first().map(|head| head.id) == Some(first);
        self.flight.as_ref().is_some_and(|flight| flight.topic == topic && begins(flight))
    }

    /// Whether something could be sent to the receiver now, or is on its way.
    pub fn is_busy(&self) -> bool {
        self.online
            && self.link
            && (self.flight.is_some()
                || self.queues.values().any(|q| q.active && q.next_at_least().is_some()))
    }

    /// How it is with what waits in this topic, as far as the receiver is online and takes it.
    pub fn standing(&self, topic: TopicId) -> Standing {
        let Some(queue) = self.queues.get(&topic) else { return Standing::Moving };
        let flight = self.flight.as_ref().filter(|flight| flight.topic == topic);
        let head = flight.map_or_else(|| queue.front(), |flight| flight.heads.first());
        let Some(id) = head.map(|head| head.id) else { return Standing::Moving };
        if flight.is_some_and(|flight| flight.working) {
            return Standing::Working { id };
        }
        match (queue.silences, queue.attempts) {
            (0, attempts) if queue.refused && attempts > 0 => Standing::Refused { id, attempts },
            (0, _) => Standing::Moving,
            (silences, _) => Standing::Unanswered { id, attempts: silences.saturating_add(1) },
        }
    }

    pub fn topics(&self) -> impl Iterator<Item = TopicId> {
        self.queues.keys().copied()
    }

    fn activity(&mut self, topic: TopicId, active: bool) {
        if let Some(queue) = self.queues.get_mut(&topic) {
            queue.active = active;
            if active && queue.attempts == 0 {
                // It was only busy: whatever it was busy with, it says that it takes messages again.
                queue.rest_until = None;
            }
        }
    }

    /// Whether further messages of this topic change nothing before something else happens: they cannot be sent now, and are left in the file
    /// behind others that are there.
    pub fn may_sleep(&self, topic: TopicId) -> bool {
        let deliverable = self.online && self.link;
        let waits = |queue: &Queue<B>| {
            !(deliverable && queue.active) && queue.len() > 0 && queue.has_more()
        };
        self.queues.get(&topic).is_some_and(waits)
    }

    fn append(&mut self, now: Now, heads: &[Head<B>]) {
        let reachable = self.online && self.link;
        let Limits { buffer_messages, buffer_bytes, frame_wait, .. } = self.limits;
        for of_topic in heads.chunk_by(|one, other| one.topic == other.topic) {
            let (Some(first), Some(last)) = (of_topic.first(), of_topic.last()) else { continue };
            let Some(queue) = self.queues.get_mut(&first.topic) else { continue };
            if queue.len() == 0 && !frame_wait.is_zero() {
                queue.gather_until = Some(now.mono + frame_wait);
            }
            let deliverable = reachable && queue.active;
            for head in of_topic {
                let room = match queue.len() {
                    0 => true,
                    waiting => {
                        deliverable && waiting < buffer_messages && queue.bytes() < buffer_bytes
                    }
                };
                if !room || queue.has_more() {
                    // What is left in the file is followed by nothing that is not.
                    queue.left_in_file(last.seq);
                    break;
                }
                queue.append(head.clone());
            }
        }
    }

    /// A cursor, new or told anew. Where the file is behind what is in memory, it has the last word: all is read again from there.
    fn open(&mut self, topic: TopicId, lane: Priority, at: Position, last_seq: u64) {
        let mut queue = Queue::new(lane, at, last_seq);
        if let Some(before) = self.queues.get_mut(&topic) {
            if at.acked_seq >= before.acked_seq {
                // What is in flight stays there: nothing else is sent before its answer (P4).
                before.told(at, last_seq);
                return self.settled_elsewhere(topic, at.acked_seq);
            }
            queue.active = before.active;
        }
        self.flight.take_if(|flight| flight.topic == topic);
        self.queues.insert(topic, queue);
    }

    /// All up to here is settled in the file: what is in flight of it needs no answer any more.
    fn settled_elsewhere(&mut self, topic: TopicId, up_to_seq: u64) {
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        let before = (queue.attempts, queue.silences);
        queue.settle_to(up_to_seq);
        let settled = |head: &Head<B>| head.seq <= up_to_seq;
        self.flight.take_if(|flight| flight.topic == topic && flight.heads.iter().all(settled));
        if let Some(flight) = self.flight.as_ref().filter(|flight| flight.topic == topic) {
            // What is left of the frame has gone out, once at least.
            let is_another = flight.heads.iter().any(settled);
            (queue.attempts, queue.silences) = if is_another { (1, 0) } else { before };
        }
    }

    fn loaded(
        &mut self,
        topics: &[(TopicId, u64)],
        heads: Vec<Head<B>>,
        scanned_to: u64,
        end: bool,
    ) {
        // A queue that was cut back while the page was read has to be read again from there.
        let whole = |queue: &Queue<B>, after: u64| queue.known_to() >= after;
        let taken: Vec<TopicId> = topics
            .iter()
            .filter(|(topic, after)| self.queues.get(topic).is_some_and(|q| whole(q, *after)))
            .map(|(topic, _)| *topic)
            .collect();
        for head in heads.into_iter().filter(|head| taken.contains(&head.topic)) {
            if let Some(queue) = self.queues.get_mut(&head.topic) {
                queue.load(head);
            }
        }
        for topic in taken {
            if let Some(queue) = self.queues.get_mut(&topic) {
                queue.loaded_to(scanned_to, end);
            }
        }
    }

    fn reachable(&mut self, now: Now, change: impl FnOnce(&mut Self)) {
        let before = self.online && self.link;
        change(self);
        if self.online && self.link && !before {
            self.due(now);
        }
    }

    /// What is in flight is sent again at once: its answer can be lost, and a repetition does no harm.
    fn due(&mut self, now: Now) {
        if let Some(flight) = &mut self.flight {
            flight.deadline = now.mono;
            flight.excused = true;
            if let Some(queue) = self.queues.get_mut(&flight.topic) {
                queue.silences = 0;
            }
        }
    }

    fn store_changed(&mut self, now: Now, from: MessageId) {
        self.stores.push(from);
        // Also of messages above `from`, which went out under the older one until now.
        self.queues.values_mut().for_each(|queue| queue.acked_id = None);
        if let Some(flight) = &mut self.flight {
            let later = flight.heads.split_off(flight.heads.partition_point(|h| h.id < from));
            if flight.heads.is_empty() {
                flight.heads = later;
            } else if let Some(queue) = self.queues.get_mut(&flight.topic) {
                queue.put_back(later);
            }
        }
        self.due(now);
    }

    fn offline(&mut self) {
        self.online = false;
        self.queues.values_mut().for_each(|queue| queue.shrink(1));
    }

    fn recorded(&mut self, now: Now, topic: TopicId, up_to_seq: u64) {
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        let waited = queue.unrecorded_to.take_if(|to| *to <= up_to_seq).is_some();
        if waited && let Some(flight) = self.flight.as_mut().filter(|f| f.topic == topic && f.held)
        {
            flight.held = false;
            flight.deadline = now.mono;
        }
    }

    fn dropped(&mut self, topic: TopicId, up_to_seq: u64, count: u64) {
        self.settled_elsewhere(topic, up_to_seq);
        if let Some(queue) = self.queues.get_mut(&topic) {
            queue.skipped += count;
        }
    }

    fn unsent(&mut self, now: Now, reason: Unsent, out: &mut Vec<Action<B>>) {
        match reason {
            Unsent::NotConnected => self.link = false,
            Unsent::Busy => {
                if let Some(flight) = &mut self.flight {
                    flight.deadline = now.mono + BUSY_REST;
                    flight.excused = true;
                    flight.unsent = true;
                    if let Some(queue) = self.queues.get_mut(&flight.topic) {
                        queue.published_seq = flight.published_before;
                    }
                }
            }
            Unsent::TooLarge { size, limit } => {
                let Some(flight) = self.flight.take() else { return };
                let alone = flight.heads.len() == 1;
                let bytes: usize = flight.heads.iter().map(|head| head.bytes).sum();
                let topic = flight.topic;
                self.return_to_queue(flight);
                if alone {
                    let reason = format!("the frame is {size} bytes, the server takes {limit}");
                    self.kill_front(topic, reason, out);
                } else {
                    // As much less as this one was too large, and a tenth: sizes are estimates.
                    let fits = bytes as u128 * limit as u128 * 9 / (size.max(1) as u128 * 10);
                    let fits = usize::try_from(fits).unwrap_or(usize::MAX);
                    self.frame_bytes = fits.min(self.frame_bytes / 2).max(1);
                    // It did not leave, which is no attempt.
                    if let Some(queue) = self.queues.get_mut(&topic) {
                        queue.attempts = queue.attempts.saturating_sub(1);
                    }
                }
            }
        }
    }

    fn return_to_queue(&mut self, flight: Flight<B>) {
        if let Some(queue) = self.queues.get_mut(&flight.topic) {
            let acked = queue.acked_seq;
            let open = flight.heads.into_iter().filter(|head| head.seq > acked).collect();
            queue.put_back(open);
        }
    }

    /// The message at the front of this topic becomes a dead letter, and the queue goes on.
    fn kill_front(&mut self, topic: TopicId, reason: String, out: &mut Vec<Action<B>>) {
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        let front: Vec<_> = queue.take_front().into_iter().collect();
        settle_otherwise(topic, queue, &front, Settled::Dead { reason }, out);
    }
}

#[cfg(test)]
mod tests;
