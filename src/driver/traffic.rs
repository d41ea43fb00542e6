//! Frames from the network to the core, and from it to the network.

use bytes::Bytes;

use super::Driver;
use super::convert::Body;
use crate::core::{Address, Input, Port, ServerUp};
use crate::event::Event;
use crate::message::NodeId;
use crate::protocol::delivery::Unsent;
use crate::protocol::frame::{Answer, Frame, FrameMessage, MessageFrame, Stream, Verdict};
use crate::protocol::outbound::Outgoing;
use crate::spans;
use crate::transport::{Audience, PublishError, Subject, Transport, TransportEvent};

impl<T: Transport> Driver<T> {
    pub(super) fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Up { server, max_payload, denied } => {
                if self.core.sessions() > 0 {
                    self.tally.reconnects.add(1);
                }
                let name = format!("{} {}", server.name, server.version);
                self.say(Input::LinkUp(ServerUp { name, max_frame: max_payload, denied }));
            }
            TransportEvent::Down { reason, outage } => {
                self.say(Input::LinkDown { reason, outage });
            }
            TransportEvent::Unauthorized { reason } => self.say(Input::Unauthorized { reason }),
            TransportEvent::Denied { reason } => self.say(Input::Denied { reason }),
            TransportEvent::Room => self.send_unsent(),
            TransportEvent::Slow => {
                tracing::warn!(node = %self.me, "too slow for the frames that arrive; some were dropped");
            }
            TransportEvent::Stray => self.refuse(None, "a subject that is none of ours".to_owned()),
            TransportEvent::Frame { from, bytes } => self.frame(&from, &bytes),
        }
    }

    fn frame(&mut self, subject: &Subject, bytes: &Bytes) {
        let from = subject.from().clone();
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(Some(from), error.to_string()),
        };
        let port = match subject {
            Subject::Message { .. } => Port::Message,
            Subject::Ack { .. } => Port::Ack,
            Subject::Keepalive { .. } => Port::Keepalive,
            Subject::Election { .. } => Port::Election,
            Subject::Order { .. } => Port::Order,
            Subject::Management { to, .. } => Port::Management { all: *to == Audience::All },
        };
        let span = match &frame {
            Frame::Messages(frame) => spans::receive(&self.me, frame),
            Frame::Answer(answer) => {
                self.count_answer(answer);
                spans::ack(answer)
            }
            Frame::Keepalive(keepalive) => {
                self.tally.keepalives_received.add(u64::from(keepalive.from != self.me));
                tracing::Span::none()
            }
            _ => tracing::Span::none(),
        };
        span.in_scope(|| self.say(Input::Frame { port, from, frame }));
    }

    fn count_answer(&self, answer: &Answer) {
        match answer.verdict {
            Verdict::Ack => self.tally.acks_received.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_received.add(1),
        }
    }

    /// There is room again: those whose frames found none send them now, in the order in which they were refused.
    fn send_unsent(&mut self) {
        let mut waiting = self.core.waits_for_room();
        while waiting > 0 && self.transport.has_room() {
            self.say(Input::Room);
            let left = self.core.waits_for_room();
            if std::mem::replace(&mut waiting, left) <= left {
                // There was none after all.
                break;
            }
        }
        self.say(Input::RoomEnds);
    }

    /// Makes the frames that are likely to come next, once those that were just published have left.
    pub(super) async fn make_ahead(&mut self) {
        // The connection has a task of its own, which writes when this one lets it.
        tokio::task::yield_now().await;
        for receiver in self.ahead.candidates() {
            let now = self.at().now;
            let Some(outgoing) = self.core.foresee(&receiver, now) else { continue };
            let Some(bytes) = self.message_frame(&outgoing).map(Frame::encode) else { continue };
            self.ahead.keep(outgoing, bytes);
        }
    }

    fn message_frame(&self, outgoing: &Outgoing<Body>) -> Option<Frame> {
        let Outgoing { receiver, store, heads, attempt, previous, skipped, .. } = outgoing;
        let topic = self.core.topic(outgoing.topic)?;
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

    /// Publishes the next frame to this receiver, where there is one and nobody comes before it.
    pub(super) fn publish_messages(&mut self, receiver: &NodeId) -> Result<(), Unsent> {
        if self.core.is_behind(receiver) || !self.transport.has_room() {
            return Err(Unsent::Busy);
        }
        let Some(outgoing) = self.core.next_frame(receiver) else { return Ok(()) };
        let (id, count, attempt) = (outgoing.first(), outgoing.heads.len(), outgoing.attempt);
        let span = spans::publish((&self.me, receiver), id, count, attempt);
        let _entered = span.entered();
        let made = self.ahead.take(&outgoing);
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
        self.ahead.follows(receiver.clone());
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

    pub(super) fn send_answer(&mut self, answer: Answer) {
        match answer.verdict {
            Verdict::Ack => self.tally.acks_sent.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_sent.add(1),
        }
        let to = Subject::Ack { to: answer.to.clone(), from: self.me.clone() };
        let _entered = spans::ack(&answer).entered();
        let _ = self.transport.try_publish(&to, Frame::Answer(answer).encode());
    }

    /// One that does not leave is made good by what is said next, but for one that never fits.
    pub(super) fn send(&mut self, to: Address, frame: Frame) {
        let from = self.me.clone();
        let subject = match &to {
            Address::All => Subject::Keepalive { from },
            Address::Voters => Subject::Election { from },
            Address::Order(to) => Subject::Order { to: to.clone(), from },
            Address::Node(to) => Subject::Management { to: Audience::Node(to.clone()), from },
        };
        match (to, self.transport.try_publish(&subject, frame.encode())) {
            (Address::All, Ok(())) => self.tally.keepalives_sent.add(1),
            (Address::All, Err(error @ PublishError::TooLarge { .. })) => {
                tracing::error!(node = %self.me, %error, "nobody can find this node: it has joined too many channels for this server");
                self.tell(Event::Denied { reason: format!("the keepalive does not fit: {error}") });
            }
            (Address::Voters, Err(error @ PublishError::TooLarge { .. })) => {
                tracing::error!(node = %self.me, %error, "the master's state does not fit through the NATS server: raise its max_payload");
                self.tell(Event::Denied { reason: format!("the state does not fit: {error}") });
            }
            (Address::Node(_) | Address::Order(_), Err(error @ PublishError::TooLarge { .. })) => {
                tracing::warn!(node = %self.me, %error, "an answer or an order does not fit through the NATS server: raise its max_payload");
            }
            (_, Ok(()) | Err(_)) => {}
        }
    }
}
