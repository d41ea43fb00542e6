//! What an answer means.

use std::time::Duration;

use super::{Action, Delivery, HANDLER_FAILED, Reply, Settled};
use crate::message::{MessageId, TopicId};
use crate::protocol::Now;
use crate::protocol::frame::Verdict;
use crate::protocol::origin::Judgement;

impl<B: Clone> Delivery<B> {
    pub(super) fn answered(&mut self, now: Now, reply: Reply, out: &mut Vec<Action<B>>) {
        let Reply { topic, id, last, verdict, judgement } = reply;
        if judgement == Judgement::OtherStore || !self.is_waiting_for_answer(topic, id) {
            // An answer is matched by the message that it names, never by what happens to be in flight: a late one is still proof.
            return out.push(Action::Unmatched);
        }
        if let Judgement::WentBack { genuine } = judgement {
            // However far ahead it claims to be: a clock that ran years ahead leaves such ids with its receivers. A new store id makes
            // a wild claim harmless, and the store takes no id over that would use up the rest.
            out.extend(last.map(|newest| Action::WentBack { newest }));
            if !genuine {
                // It may be of another message, which the lost part of the file had under this id or a later one: no proof of this one.
                return;
            }
        }
        if let Some(queue) = self.queues.get_mut(&topic) {
            queue.silences = 0;
        }
        match verdict {
            Verdict::Ack => self.acknowledged(topic, id, out),
            Verdict::Working => {
                if let Some(flight) = self.flight.as_mut().filter(|flight| flight.topic == topic) {
                    flight.deadline = now.mono + self.limits.ack_timeout;
                    flight.excused = false;
                    flight.working = true;
                }
            }
            refusal => {
                // Whatever lies before what the receiver has is passed over there, also where it had that from a part of our file that is lost.
                let last = last.filter(|last| *last < id);
                if let Some(newest) = last.and_then(|last| self.in_flight_up_to(topic, last)) {
                    self.acknowledged(topic, newest, out);
                }
                self.refused(now, topic, id, refusal, out);
            }
        }
    }

    /// In flight, or, with nothing of the topic in flight, at the front of the queue: a message that was sent, refused and rests
    /// before its next attempt, or one sent by an earlier run of this node.
    fn is_waiting_for_answer(&mut self, topic: TopicId, id: MessageId) -> bool {
        match &self.flight {
            Some(flight) if flight.topic == topic => flight.heads.iter().any(|h| h.id == id),
            _ => {
                let front = self.queues.get(&topic).and_then(|queue| queue.front());
                front.is_some_and(|head| head.id == id)
            }
        }
    }

    /// The newest message of the topic in flight that is not behind this id.
    fn in_flight_up_to(&self, topic: TopicId, last: MessageId) -> Option<MessageId> {
        let flight = self.flight.as_ref().filter(|flight| flight.topic == topic)?;
        flight.heads.iter().map(|head| head.id).take_while(|id| *id <= last).last()
    }

    fn acknowledged(&mut self, topic: TopicId, id: MessageId, out: &mut Vec<Action<B>>) {
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        let mut done: Vec<_> = match self.flight.take_if(|flight| flight.topic == topic) {
            Some(mut flight) => {
                let rest = flight.heads.split_off(flight.heads.partition_point(|h| h.id <= id));
                let done = std::mem::replace(&mut flight.heads, rest);
                if !flight.heads.is_empty() {
                    self.flight = Some(flight);
                }
                done
            }
            None => queue.take_front().into_iter().collect(),
        };
        // A purge may have settled some of them since they were sent.
        done.retain(|head| head.seq > queue.acked_seq);
        if let (Some(first), Some(newest)) = (done.first(), done.last()) {
            out.push(Action::Settle {
                topic,
                first_seq: first.seq,
                last_seq: newest.seq,
                last_id: newest.id,
                count: done.len() as u64,
                how: Settled::Acknowledged,
            });
            queue.settle_to(newest.seq);
            queue.acked_id = Some(newest.id);
            queue.skipped = 0;
        }
        if self.flight.as_ref().is_some_and(|flight| flight.topic == topic) {
            queue.attempts = 1;
        }
    }

    fn refused(
        &mut self,
        now: Now,
        topic: TopicId,
        id: MessageId,
        refusal: Verdict,
        out: &mut Vec<Action<B>>,
    ) {
        if let Some(flight) = self.flight.take_if(|flight| flight.topic == topic) {
            self.return_to_queue(flight);
        }
        let (max_attempts, backoff) = (self.limits.max_attempts, self.limits.backoff);
        let Some(queue) = self.queues.get_mut(&topic) else { return };
        // A refusal of a later message of the frame leaves those before it unanswered: they go first, as if never sent.
        let Some(front) = queue.front().filter(|head| head.id == id) else {
            queue.attempts = queue.attempts.saturating_sub(1);
            queue.rest_until = Some(now.mono + backoff.first);
            return;
        };
        let (seq, attempt) = (front.seq, queue.attempts.max(1));
        match refusal {
            Verdict::Busy { retry_ms } => {
                queue.attempts = queue.attempts.saturating_sub(1);
                let pause = Duration::from_millis(retry_ms.clamp(10, 60_000));
                queue.rest_until = Some(now.mono + pause);
            }
            Verdict::Paused | Verdict::NotJoined => {
                queue.attempts = queue.attempts.saturating_sub(1);
                queue.active = false;
            }
            Verdict::Failed { detail } => {
                let answer = format!("{HANDLER_FAILED}{detail}");
                out.push(Action::Attempted { topic, seq, id, attempt, answer: answer.clone() });
                if attempt >= max_attempts {
                    self.kill_front(topic, format!("{answer} (attempt {attempt})"), out);
                } else {
                    queue.refused = true;
                    queue.rest_until = Some(now.mono + backoff.pause(attempt, &mut self.jitter));
                }
            }
            Verdict::Refused { detail } => {
                let answer = format!("the receiver can't take it: {detail}");
                out.push(Action::Attempted { topic, seq, id, attempt, answer: answer.clone() });
                self.kill_front(topic, answer, out);
            }
            Verdict::Ack | Verdict::Working => {}
        }
    }
}
