//! What to do now: expire, repeat, send, load.

use super::queue::Queue;
use super::{Action, Delivery, Flight, Foreseen, Head, Limits, Settled};
use crate::message::{MessageId, Priority, TopicId};
use crate::protocol::Now;

/// Whether messages of this queue may be sent now, apart from what else may hinder it.
fn is_eligible<B>(queue: &Queue<B>, now: Now) -> bool {
    queue.active
        && queue.unrecorded_to.is_none()
        && queue.rest_until.is_none_or(|until| until <= now.mono)
}

impl<B: Clone> Delivery<B> {
    pub(super) fn act(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        self.load_rest_until.take_if(|until| *until <= now.mono);
        for queue in self.queues.values_mut() {
            queue.rest_until.take_if(|until| *until <= now.mono);
            queue.gather_until.take_if(|until| *until <= now.mono);
        }
        self.expire_in_flight(now, out);
        self.repeat(now, out);
        // After what can end a flight, so that nothing expired or damaged is at the front of a queue that is free now.
        let expired = self.expire(now, out);
        self.send_next(now, out);
        self.load_more(now, expired, out);
    }

    /// Settles what expired, or turned out to be damaged, before it was sent, and says whether there was any. The queue of a message in flight waits for that
    /// one's answer.
    fn expire(&mut self, now: Now, out: &mut Vec<Action<B>>) -> bool {
        let before = out.len();
        let busy = self.flight.as_ref().map(|flight| flight.topic);
        for (topic, queue) in self.queues.iter_mut().filter(|(topic, _)| busy != Some(**topic)) {
            loop {
                let mut expired = Vec::new();
                while queue.front().is_some_and(|h| h.body.is_some() && h.is_expired(now.file_ms)) {
                    expired.extend(queue.take_front());
                }
                settle_otherwise(*topic, queue, &expired, Settled::Expired, out);
                if queue.front().is_none_or(|head| head.body.is_some()) {
                    break;
                }
                let damaged: Vec<_> = queue.take_front().into_iter().collect();
                let reason = "the stored message is damaged".to_owned();
                settle_otherwise(*topic, queue, &damaged, Settled::Dead { reason }, out);
            }
        }
        out.len() > before
    }

    /// The frame in flight has had no answer in time, or has to be sent again for another reason.
    fn repeat(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        if !(self.online && self.link) {
            return;
        }
        let due = |flight: &mut Flight<B>| flight.deadline <= now.mono && !flight.held;
        let Some(flight) = self.flight.take_if(due) else { return };
        let topic = flight.topic;
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        // Silence that is not the frame's alone is an outage, of the wire or of the receiver.
        if !flight.excused && self.heard {
            queue.silences = queue.silences.saturating_add(1);
            let (attempt, times) = (queue.attempts.max(1), queue.silences);
            // The first may have been purged since it was sent.
            let open = flight.heads.iter().find(|head| head.seq > queue.acked_seq);
            if let Some(Head { seq, id, .. }) = open {
                out.push(Action::Unanswered { topic, seq: *seq, id: *id, attempt, times });
            }
        }
        self.flight = Some(flight);
        self.drop_expired_of_flight(now, out);
        let Some(mut flight) = self.flight.take() else { return };
        if self.queues.get(&topic).is_some_and(|queue| queue.unrecorded_to.is_some()) {
            flight.held = true;
            self.flight = Some(flight);
        } else {
            self.publish(now, topic, flight.heads, out);
        }
    }

    /// While the receiver cannot be reached, no answer can come, and what is in flight expires like everything else.
    fn expire_in_flight(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        if !(self.online && self.link) {
            self.drop_expired_of_flight(now, out);
        }
    }

    fn drop_expired_of_flight(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        let Some(mut flight) = self.flight.take() else { return };
        let Some(queue) = self.queues.get_mut(&flight.topic) else { return };
        flight.heads.retain(|head| head.seq > queue.acked_seq);
        let fresh = flight.heads.iter().position(|head| !head.is_expired(now.file_ms));
        let rest = flight.heads.split_off(fresh.unwrap_or(flight.heads.len()));
        let before = (queue.attempts, queue.silences);
        settle_otherwise(flight.topic, queue, &flight.heads, Settled::Expired, out);
        if !rest.is_empty() {
            let of_rest = if flight.heads.is_empty() { before } else { (1, 0) };
            (queue.attempts, queue.silences) = of_rest;
            self.flight = Some(Flight { heads: rest, ..flight });
        }
    }

    fn send_next(&mut self, now: Now, out: &mut Vec<Action<B>>) {
        if self.flight.is_some() || !(self.online && self.link) {
            return;
        }
        let Some(topic) = self.next_topic(now) else { return };
        let heads = self.take_frame(now, topic);
        if let Some(queue) = self.queues.get_mut(&topic) {
            queue.rest_until = None;
            queue.gather_until = None;
            let is_first =
                |(seq, _): &mut (u64, u32)| Some(*seq) == heads.first().map(|head| head.seq);
            if let Some((_, attempt)) = queue.failed.take_if(is_first) {
                (queue.attempts, queue.refused) = (attempt, true);
            }
            queue.attempts += 1;
            self.publish(now, topic, heads, out);
        }
    }

    /// Whether what waits there may still become more, and travel together.
    fn gathers(&self, queue: &Queue<B>) -> bool {
        let is_full =
            queue.len() >= self.limits.frame_messages || queue.bytes() >= self.frame_bytes;
        queue.gather_until.is_some() && !is_full && !queue.has_more() && queue.attempts == 0
    }

    /// The topic with the lowest waiting message of the highest lane that has any. None, too, where that one is still to be read from the file: a
    /// lower lane does not overtake it meanwhile.
    fn next_topic(&self, now: Now) -> Option<TopicId> {
        let (topic, in_memory) =
            Priority::ALL.into_iter().find_map(|lane| self.lowest(now, lane))?;
        in_memory.then_some(topic)
    }

    /// The topic of this lane with the lowest waiting message, and whether that is in memory.
    fn lowest(&self, now: Now, lane: Priority) -> Option<(TopicId, bool)> {
        self.queues
            .iter()
            .filter(|(_, queue)| queue.lane == lane && is_eligible(queue, now))
            .filter(|(_, queue)| !self.gathers(queue))
            .filter_map(|(topic, queue)| Some((queue.next_at_least()?, *topic, queue.len() > 0)))
            .min()
            .map(|(_, topic, in_memory)| (topic, in_memory))
    }

    /// The next messages of this topic for one frame.
    fn take_frame(&mut self, now: Now, topic: TopicId) -> Vec<Head<B>> {
        let count = self.frame_length(now, topic);
        let Some(queue) = self.queues.get_mut(&topic) else { return Vec::new() };
        (0..count).filter_map(|_| queue.take_front()).collect()
    }

    /// What goes out next if the frame in flight is acknowledged as a whole and nothing else happens: only a frame to which nothing can be added any
    /// more, and nothing that depends on when it goes. So the shell can make its bytes while it waits.
    pub fn foresee(&self, now: Now) -> Option<Foreseen<B>> {
        let flight = self.flight.as_ref().filter(|_| self.online && self.link)?;
        let topic = self.next_topic(now)?;
        let queue = self.queues.get(&topic)?;
        let count = self.frame_length(now, topic);
        let may_grow = count < self.limits.frame_messages && count == queue.len();
        let heads: Vec<_> = queue.iter().take(count).cloned().collect();
        if heads.is_empty() || may_grow || heads.iter().any(|head| head.expires_ms.is_some()) {
            return None;
        }
        let (previous, skipped) = match flight.heads.last() {
            Some(last) if flight.topic == topic => (self.previous(Some(last.id), &heads), 0),
            _ if queue.attempts > 0 || queue.failed.is_some() => return None,
            _ => (self.previous(queue.acked_id, &heads), queue.skipped),
        };
        Some(Foreseen { topic, heads, previous, skipped })
    }

    /// How many of this topic's messages fit into one frame: only those that come before any other topic's of its lane.
    fn frame_length(&self, now: Now, topic: TopicId) -> usize {
        let Some(lane) = self.queues.get(&topic).map(|queue| queue.lane) else { return 0 };
        let bound = self
            .queues
            .iter()
            .filter(|(t, queue)| **t != topic && queue.lane == lane && is_eligible(queue, now))
            .filter_map(|(_, queue)| queue.next_at_least())
            .min()
            .unwrap_or(u64::MAX);
        let (mut count, mut bytes, mut header_bytes) = (0, 0, 0);
        let Limits { frame_messages, frame_header_bytes, .. } = self.limits;
        let Some(queue) = self.queues.get(&topic) else { return 0 };
        let store = queue.front().map(|head| self.store_of(head.id));
        for head in queue.iter().take(frame_messages) {
            bytes += head.bytes;
            header_bytes += head.header_bytes;
            let fits = bytes <= self.frame_bytes && header_bytes <= frame_header_bytes;
            let fits = fits || count == 0;
            let sendable = head.body.is_some() && !head.is_expired(now.file_ms);
            if Some(self.store_of(head.id)) != store || !fits || !sendable || head.seq > bound {
                break;
            }
            count += 1;
        }
        count
    }

    /// Which of the store ids, in their order, this message travels under.
    fn store_of(&self, id: MessageId) -> usize {
        self.stores.partition_point(|from| *from <= id)
    }

    /// What the receiver of these is told that it acknowledged before them. What it acknowledged under an older store id says nothing to it:
    /// under the new one it has nothing, and would believe that its file lacks it.
    fn previous(&self, acked_id: Option<MessageId>, heads: &[Head<B>]) -> Option<MessageId> {
        let store = heads.first().map(|head| self.store_of(head.id));
        acked_id.filter(|acked| Some(self.store_of(*acked)) == store)
    }

    /// Sends these and starts the ack timer. A repetition waits longer for its answer, as the pauses between attempts grow: also one that had no
    /// answer, since nothing is known of the message but that it may have been handled.
    fn publish(&mut self, now: Now, topic: TopicId, heads: Vec<Head<B>>, out: &mut Vec<Action<B>>) {
        let acked_id = self.queues.get(&topic).and_then(|queue| queue.acked_id);
        let previous = self.previous(acked_id, &heads);
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        let attempt = queue.attempts.max(1);
        let published_before = queue.published_seq;
        let repeated = heads.partition_point(|head| head.seq <= published_before);
        queue.published_seq = heads.last().map_or(0, |head| head.seq).max(queue.published_seq);
        let mut patience = self.limits.ack_timeout;
        let rounds = (attempt - 1).saturating_add(queue.silences);
        if rounds > 0 {
            patience += self.limits.backoff.pause(rounds, &mut self.jitter);
        }
        out.push(Action::Publish {
            topic,
            heads: heads.clone(),
            attempt,
            repeated,
            previous,
            skipped: queue.skipped,
        });
        self.heard = false;
        let deadline = now.mono + patience;
        let (excused, working, held, unsent) = (false, false, false, false);
        self.flight = Some(Flight {
            topic,
            heads,
            deadline,
            excused,
            working,
            held,
            unsent,
            published_before,
        });
    }

    /// What cannot be sent now is not kept in memory, but for the first message, whose expiry is to be noticed.
    pub(super) fn keep_first(&mut self, now: Now) {
        let reachable = self.online && self.link;
        let unsendable = |queue: &&mut Queue<B>| !(reachable && is_eligible(queue, now));
        self.queues.values_mut().filter(unsendable).for_each(|queue| queue.shrink(1));
    }

    /// Asks for the next page where memory runs low. What cannot be sent now is loaded only so far that its expiry is noticed; where some has
    /// expired, more may have, and a whole page is looked at.
    fn load_more(&mut self, now: Now, expired: bool, out: &mut Vec<Action<B>>) {
        if self.loading.is_some() || self.load_rest_until.is_some() {
            return;
        }
        let reachable = self.online && self.link;
        for lane in Priority::ALL {
            let mut deliverable = false;
            let mut topics = Vec::new();
            for (topic, queue) in self.queues.iter().filter(|(_, queue)| queue.lane == lane) {
                let ready = reachable && is_eligible(queue, now);
                let low = if ready { self.limits.buffer_messages.div_ceil(2) } else { 1 };
                if queue.has_more() && queue.len() < low && (ready || queue.len() == 0) {
                    deliverable |= ready;
                    topics.push((*topic, queue.known_to()));
                }
            }
            if !topics.is_empty() {
                let max_messages = if deliverable || expired {
                    self.limits.buffer_messages.div_ceil(2)
                } else {
                    topics.len()
                };
                let token = self.jitter.draw();
                self.loading = Some(token);
                return out.push(Action::Load { token, lane, topics, max_messages });
            }
        }
    }
}

/// These messages of the front are settled, but not by an acknowledgement.
pub(super) fn settle_otherwise<B>(
    topic: TopicId,
    queue: &mut Queue<B>,
    heads: &[Head<B>],
    how: Settled,
    out: &mut Vec<Action<B>>,
) {
    let (Some(first), Some(last)) = (heads.first(), heads.last()) else { return };
    let count = heads.len() as u64;
    queue.settle_to(last.seq);
    queue.skipped += count;
    queue.unrecorded_to = Some(last.seq);
    let (first_seq, last_seq, last_id) = (first.seq, last.seq, last.id);
    out.push(Action::Settle { topic, first_seq, last_seq, last_id, count, how });
}
