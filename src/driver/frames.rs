//! Frames of messages: made, made ahead, published.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Driver;
use super::outbound::Body;
use crate::event::Event;
use crate::message::NodeId;
use crate::protocol::delivery::Unsent;
use crate::protocol::frame::{Frame, FrameMessage, MessageFrame, Stream};
use crate::protocol::outbound::Outgoing;
use crate::spans;
use crate::transport::{PublishError, Subject, Transport};

/// Bytes of frames that are made ahead of their time and kept, of all receivers together.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

/// Frames that were made while an answer was awaited, one a receiver.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whose next frame is worth a look.
    candidates: Vec<NodeId>,
    made: BTreeMap<NodeId, (Outgoing<Body>, Bytes)>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn is_wanted(&self) -> bool {
        !self.candidates.is_empty()
    }

    fn take(&mut self, receiver: &NodeId) -> Option<(Outgoing<Body>, Bytes)> {
        let taken = self.made.remove(receiver)?;
        self.bytes -= taken.1.len();
        Some(taken)
    }

    fn keep(&mut self, outgoing: Outgoing<Body>, bytes: Bytes) {
        self.take(&outgoing.receiver);
        if self.bytes + bytes.len() <= AHEAD_BYTES {
            self.bytes += bytes.len();
            self.made.insert(outgoing.receiver.clone(), (outgoing, bytes));
        }
    }

    /// Messages travel under another store id from now on.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// This receiver is gone.
    pub(super) fn forget(&mut self, receiver: &NodeId) {
        self.take(receiver);
    }
}

impl<T: Transport> Driver<T> {
    /// Makes the frames that are likely to come next, once those that were just published have left.
    pub(super) async fn make_ahead(&mut self) {
        // The connection has a task of its own, which writes when this one lets it.
        tokio::task::yield_now().await;
        for receiver in std::mem::take(&mut self.ahead.candidates) {
            let Some(outgoing) = self.outbound.foresee(&receiver, self.now()) else { continue };
            let Some(bytes) = self.message_frame(&outgoing).map(Frame::encode) else { continue };
            self.ahead.keep(outgoing, bytes);
        }
    }

    fn message_frame(&self, outgoing: &Outgoing<Body>) -> Option<Frame> {
        let Outgoing { receiver, store, heads, attempt, previous, skipped, .. } = outgoing;
        let topic = self.outbound.topic(outgoing.topic)?;
        let now_ms = self.store.now_ms();
        let messages =
            heads.iter().filter_map(|head| head.body.as_ref()).map(|entry| FrameMessage {
                id: entry.id,
                kind: entry.kind.clone(),
                headers: entry.headers.clone(),
                created_ms: self.store.wall_ms(entry.created_ms),
                ttl_left_ms: entry.expires_ms.map(|expires| expires.saturating_sub(now_ms)),
                body: entry.body.clone(),
            });
        Some(Frame::Messages(MessageFrame {
            from: self.me.clone(),
            to: receiver.clone(),
            store: *store,
            stream: Stream {
                channel: topic.channel.clone(),
                direct: topic.target.is_some(),
                lane: topic.lane,
            },
            previous: *previous,
            skipped: *skipped,
            attempt: *attempt,
            ack_timeout_ms: u64::try_from(self.config.ack_timeout.as_millis()).unwrap_or(u64::MAX),
            messages: messages.collect(),
        }))
    }

    /// There is room again: those whose frames found none send them now, in the order in which they were refused.
    pub(super) fn send_unsent(&mut self) {
        let mut waiting = self.outbound.wait_for_room();
        while self.transport.has_room() && self.with_outbound(|it, around| it.send_next(around)) {
            let left = self.outbound.wait_for_room();
            if std::mem::replace(&mut waiting, left) <= left {
                // There was none after all.
                break;
            }
        }
        self.outbound.end_turns();
    }

    /// Publishes the next frame to this receiver, where there is one and nobody comes before it.
    pub(super) fn publish_messages(&mut self, receiver: &NodeId) -> Result<(), Unsent> {
        if self.outbound.is_behind(receiver) || !self.transport.has_room() {
            return Err(Unsent::Busy);
        }
        let Some(outgoing) = self.outbound.next_frame(receiver) else { return Ok(()) };
        let (id, count, attempt) = (outgoing.first(), outgoing.heads.len(), outgoing.attempt);
        let span = spans::publish((&self.me, receiver), id, count, attempt);
        let _entered = span.entered();
        let made = self.ahead.take(receiver).filter(|(made, _)| made.is_same_frame(&outgoing));
        let made = made.map(|(_, bytes)| bytes);
        // A topic is known before anything of it is sent.
        let bytes = made.or_else(|| self.message_frame(&outgoing).map(Frame::encode));
        let Some(bytes) = bytes else { return Ok(()) };
        let to = Subject::Message { to: receiver.clone(), from: self.me.clone() };
        self.transport.try_publish(&to, bytes).map_err(|error| match error {
            PublishError::NotConnected => Unsent::NotConnected,
            PublishError::Busy => Unsent::Busy,
            PublishError::TooLarge { size, limit } => Unsent::TooLarge { size, limit },
        })?;
        self.frame_left(&outgoing);
        Ok(())
    }

    /// Counts and tells of a frame that was published.
    fn frame_left(&mut self, outgoing: &Outgoing<Body>) {
        let Outgoing { receiver, topic, heads, attempt, repeated, .. } = outgoing;
        self.ahead.candidates.push(receiver.clone());
        let accepted = heads.iter().filter_map(|head| head.body.as_ref());
        let accepted = accepted.map(|entry| (entry.id, entry.created_ms));
        self.flights.left(receiver, (*topic, *repeated > 0), accepted);
        let (id, attempt) = (outgoing.first(), *attempt);
        if *repeated > 0 {
            self.tally.redelivered.add(*repeated as u64);
            self.tell(Event::Redelivered { receiver: receiver.clone(), id, attempt });
        }
        if let Some(first) = heads.get(*repeated) {
            let (id, count) = (first.id, (heads.len() - repeated) as u64);
            self.tally.sent.add(count);
            self.tell(Event::Sent { receiver: receiver.clone(), id, count });
        }
    }
}
