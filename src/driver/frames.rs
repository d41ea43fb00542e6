//! Frames of messages: made, made ahead, published.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::outbound::Body;
use super::{Driver, newest};
use crate::event::Event;
use crate::message::{MessageId, NodeId, TopicId};
use crate::protocol::delivery::{self, Foreseen, Head, Unsent};
use crate::protocol::frame::{Frame, FrameMessage, MessageFrame, Stream};
use crate::transport::{PublishError, Subject, Transport};

/// Bytes of frames that are made ahead of their time and kept, of all receivers together.
const AHEAD_BYTES: usize = 8 * 1024 * 1024;

/// Frames that were made while an answer was awaited, one a receiver.
#[derive(Default)]
pub(super) struct Ahead {
    /// Whose next frame is worth a look.
    candidates: Vec<NodeId>,
    made: BTreeMap<NodeId, (Foreseen<Body>, Bytes)>,
    bytes: usize,
}

impl Ahead {
    pub(super) fn is_wanted(&self) -> bool {
        !self.candidates.is_empty()
    }

    fn take(&mut self, receiver: &NodeId) -> Option<(Foreseen<Body>, Bytes)> {
        let taken = self.made.remove(receiver)?;
        self.bytes -= taken.1.len();
        Some(taken)
    }

    fn keep(&mut self, receiver: NodeId, foreseen: Foreseen<Body>, bytes: Bytes) {
        self.take(&receiver);
        if self.bytes + bytes.len() <= AHEAD_BYTES {
            self.bytes += bytes.len();
            self.made.insert(receiver, (foreseen, bytes));
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

/// Receivers whose frames found no room in the connection, the first refused first.
#[derive(Default)]
pub(super) struct Waiting {
    waiting: VecDeque<NodeId>,
    known: BTreeSet<NodeId>,
    /// The one that was taken out is being asked; others wait behind those that are here.
    turn: bool,
}

impl Waiting {
    fn add(&mut self, receiver: &NodeId) {
        if self.known.insert(receiver.clone()) {
            self.waiting.push_back(receiver.clone());
        }
    }

    fn take_first(&mut self) -> Option<NodeId> {
        let first = self.waiting.pop_front()?;
        self.known.remove(&first);
        Some(first)
    }

    /// The connection is gone, and all is sent again when it is back.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.known.clear();
    }
}

/// What a delivery wants to be published.
pub(super) struct Outgoing<'a> {
    pub(super) receiver: &'a NodeId,
    pub(super) topic: TopicId,
    pub(super) heads: Vec<Head<Body>>,
    pub(super) attempt: u32,
    pub(super) previous: Option<MessageId>,
    pub(super) skipped: u64,
}

impl<T: Transport> Driver<T> {
    /// Makes the frames that are likely to come next, once those that were just published have left.
    pub(super) async fn make_ahead(&mut self) {
        // The connection has a task of its own, which writes when this one lets it.
        tokio::task::yield_now().await;
        for receiver in std::mem::take(&mut self.ahead.candidates) {
            let now = self.now();
            let foreseen = self.receivers.get(&receiver).and_then(|d| d.foresee(now));
            let Some(foreseen) = foreseen else { continue };
            let Foreseen { topic, heads, previous, skipped } = foreseen;
            let next =
                Outgoing { receiver: &receiver, topic, heads, attempt: 1, previous, skipped };
            let Some(bytes) = self.message_frame(&next).map(Frame::encode) else { continue };
            let Outgoing { heads, .. } = next;
            let foreseen = Foreseen { topic, heads, previous, skipped };
            self.ahead.keep(receiver, foreseen, bytes);
        }
    }

    fn message_frame(&self, outgoing: &Outgoing<'_>) -> Option<Frame> {
        let Outgoing { receiver, heads, attempt, previous, skipped, .. } = outgoing;
        let topic = self.topics.get(&outgoing.topic)?;
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
        let store = self.origin.store_of(heads.first()?.id);
        Some(Frame::Messages(MessageFrame {
            from: self.me.clone(),
            to: (*receiver).clone(),
            store,
            stream: Stream {
                channel: topic.channel.clone(),
                direct: topic.target.is_some(),
                lane: topic.lane,
            },
            // An id of another store means nothing to the receiver in this one's stream.
            previous: previous.filter(|id| self.origin.store_of(*id) == store),
            skipped: *skipped,
            attempt: *attempt,
            ack_timeout_ms: u64::try_from(self.config.ack_timeout.as_millis()).unwrap_or(u64::MAX),
            messages: messages.collect(),
        }))
    }

    /// There is room again: those whose frames found none send them now, in the order in which they were refused.
    pub(super) async fn send_unsent(&mut self) {
        for _ in 0..self.unsent.waiting.len() {
            let Some(receiver) = self.unsent.take_first() else { break };
            self.unsent.turn = true;
            self.deliver(&receiver, delivery::Event::Room).await;
            self.unsent.turn = false;
            // No room for it: it comes first the next time.
            if self.unsent.waiting.back() == Some(&receiver) {
                self.unsent.waiting.rotate_right(1);
                break;
            }
        }
    }

    pub(super) fn publish_messages(
        &mut self,
        outgoing: Outgoing<'_>,
        repeated: usize,
    ) -> Option<delivery::Event<Body>> {
        let is_behind = !self.unsent.turn && !self.unsent.waiting.is_empty();
        if is_behind || !self.transport.has_room() {
            self.unsent.add(outgoing.receiver);
            return Some(delivery::Event::Unsent(Unsent::Busy));
        }
        let Outgoing { receiver, topic, ref heads, attempt, previous, skipped } = outgoing;
        let is_it =
            |made: &(Foreseen<Body>, _)| made.0.is(topic, heads, attempt, (previous, skipped));
        let bytes = match self.ahead.take(receiver).filter(is_it) {
            Some((_, bytes)) => bytes,
            None => self.message_frame(&outgoing)?.encode(),
        };
        let id = heads.first()?.id;
        self.origin.sent(receiver, topic, newest(heads)?);
        let to = Subject::Message { to: receiver.clone(), from: self.me.clone() };
        let receiver = receiver.clone();
        match self.transport.try_publish(&to, bytes) {
            Ok(()) => {
                self.ahead.candidates.push(receiver.clone());
                let accepted = heads.iter().filter_map(|head| head.body.as_ref());
                let accepted = accepted.map(|entry| (entry.id, entry.created_ms));
                self.flights.left(&receiver, (topic, repeated > 0), accepted);
                if repeated > 0 {
                    self.tally.redelivered.add(repeated as u64);
                    let receiver = receiver.clone();
                    self.tell(Event::Redelivered { receiver, id, attempt });
                }
                if let Some(first) = heads.get(repeated) {
                    let (id, count) = (first.id, (heads.len() - repeated) as u64);
                    self.tally.sent.add(count);
                    self.tell(Event::Sent { receiver, id, count });
                }
                None
            }
            Err(PublishError::NotConnected) => Some(delivery::Event::Unsent(Unsent::NotConnected)),
            Err(PublishError::Busy) => {
                self.unsent.add(&receiver);
                Some(delivery::Event::Unsent(Unsent::Busy))
            }
            Err(PublishError::TooLarge { size, limit }) => {
                Some(delivery::Event::Unsent(Unsent::TooLarge { size, limit }))
            }
        }
    }
}
