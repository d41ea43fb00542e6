//! Receiving: frames to the inbox, and what it decides is done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Completion, Driver, Timer};
use crate::condition::{Link, Outage};
use crate::event::Event;
use crate::incoming::{Content, Receipt};
use crate::message::MessageId;
use crate::protocol::frame::{Answer, Frame, FrameMessage, MessageFrame, Stream, Verdict, detail};
use crate::protocol::inbox::begun::{ENDED, Note, Standing};
use crate::protocol::inbox::{self, Action, Gap, Incoming, Source};
use crate::protocol::membership;
use crate::spans;
use crate::store::InboxAdvance;
use crate::transport::{Audience, Subject, Transport, TransportEvent};

/// A message on its way to its handlers.
pub(super) type Held = Arc<Content>;

/// Bytes of messages that handlers may hold together, those waiting for one included; more stays with the senders.
pub(super) const HELD_BYTES: usize = 64 * 1024 * 1024;
/// What a message costs besides its headers and payload, roughly.
const HELD_EACH: usize = 1024;
/// A sender that is no peer yet is asked to come again after this; by then the two have met.
const MEET_FIRST: Duration = Duration::from_millis(250);

impl<T: Transport> Driver<T> {
    pub(super) fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Up { server, max_payload } => {
                self.max_frame = max_payload;
                self.link_up(server);
            }
            TransportEvent::Down { reason, outage } => self.link_down(reason, outage),
            TransportEvent::Unauthorized { reason } => self.unauthorized(reason),
            TransportEvent::Denied { reason } => {
                if !self.link && !self.conflict {
                    let outage = Outage::Refused;
                    self.set_link(Link::Disconnected { reason: reason.clone(), outage });
                }
                self.denied(reason.clone());
                self.tell(Event::Denied { reason });
            }
            TransportEvent::Room => self.send_unsent(),
            TransportEvent::Slow => {
                tracing::warn!(node = %self.me, "too slow for the frames that arrive; some were dropped");
            }
            TransportEvent::Stray => self.refuse(None, "a subject that is none of ours".to_owned()),
            TransportEvent::Frame { from, bytes } => self.frame(from, &bytes),
        }
    }

    fn frame(&mut self, subject: Subject, bytes: &Bytes) {
        let sender = subject.from().clone();
        let frame = match Frame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => return self.refuse(Some(sender), error.to_string()),
        };
        if *frame.from() != sender {
            return self
                .refuse(Some(sender), format!("a frame that says it is from {}", frame.from()));
        }
        if self.conflict {
            return;
        }
        match (subject, frame) {
            (Subject::Message { .. }, Frame::Messages(frame)) if frame.to == self.me => {
                let span = spans::receive(&self.me, &frame);
                span.in_scope(|| self.messages(frame));
            }
            (Subject::Ack { .. }, Frame::Answer(answer)) if answer.to == self.me => {
                self.membership.spoke(self.now(), &answer.from);
                let span = spans::ack(&answer);
                span.in_scope(|| self.answered(answer));
            }
            (Subject::Keepalive { .. }, Frame::Keepalive(keepalive)) => {
                if keepalive.from != self.me {
                    self.tally.keepalives_received.add(1);
                }
                self.meet(membership::Event::Keepalive(keepalive));
            }
            (
                Subject::Management { to: Audience::Node(_), .. },
                Frame::Hello { nonce, keepalive },
            ) => {
                self.meet(membership::Event::Hello { nonce, keepalive });
            }
            (
                Subject::Management { to: Audience::Node(_), .. },
                Frame::Welcome { nonce, keepalive },
            ) => {
                self.meet(membership::Event::Welcome { nonce, keepalive });
            }
            (Subject::Election { .. }, Frame::Election(frame)) => self.heard_election(frame),
            (Subject::Management { to, .. }, Frame::Query(mut query)) => {
                // One question to all is not to bring all states.
                query.state &= to != Audience::All;
                self.report(&query);
            }
            (Subject::Order { .. }, Frame::Order(order)) if order.to == self.me => {
                self.ordered(order);
            }
            // An operator on this machine asks under our name, and hears it as well.
            (Subject::Management { to: Audience::Node(_), .. }, Frame::Report(report)) => {
                self.reported(report);
            }
            (Subject::Management { to: Audience::Node(_), .. }, Frame::Outcome(outcome)) => {
                self.outcome_came(outcome);
            }
            _ => self
                .refuse(Some(sender), "a frame on a subject where it has no business".to_owned()),
        }
    }

    fn messages(&mut self, frame: MessageFrame) {
        let source = Source { sender: frame.from, store: frame.store, stream: frame.stream };
        let Some(first) = frame.messages.first().map(|message| message.id) else { return };
        let now = self.now();
        if self.membership.is_in_doubt() {
            // Another node may have taken our place, and handle this as well.
            let retry_ms = MEET_FIRST.as_millis() as u64;
            return self.answer(source, first, Verdict::Busy { retry_ms }, None);
        }
        let online = self.membership.spoke(now, &source.sender);
        if !self.membership.is_peer(&source.sender) {
            let retry_ms = MEET_FIRST.as_millis() as u64;
            let sender = source.sender.clone();
            self.answer(source, first, Verdict::Busy { retry_ms }, None);
            return self.meet(membership::Event::Unknown(sender));
        }
        if !online {
            self.meet(membership::Event::Unknown(source.sender.clone()));
        }
        let mut messages = Vec::with_capacity(frame.messages.len());
        for message in frame.messages {
            let id = message.id;
            match self.content(&source, message, frame.attempt) {
                Ok(incoming) => messages.push(incoming),
                // Those before it are taken; its own turn comes when it is the first.
                Err(_) if !messages.is_empty() => break,
                Err(reason) => {
                    self.refuse(Some(source.sender.clone()), reason.clone());
                    let verdict = Verdict::Refused { detail: detail(&reason) };
                    return self.answer(source, id, verdict, None);
                }
            }
        }
        let event = inbox::Event::Frame(inbox::Arrival {
            source,
            previous: frame.previous,
            skipped: frame.skipped,
            ack_timeout: Duration::from_millis(frame.ack_timeout_ms),
            messages,
        });
        self.receive(event);
    }

    fn content(
        &self,
        source: &Source,
        message: FrameMessage,
        attempt: u32,
    ) -> Result<Incoming<Held>, String> {
        let limit = self.config.max_payload_bytes;
        let payload = message.body.payload(limit).map_err(|error| error.to_string())?;
        let Source { sender, store, stream } = source;
        let advance = InboxAdvance {
            sender: sender.clone(),
            store_id: *store,
            channel: stream.channel.clone(),
            direct: stream.direct,
            lane: stream.lane,
            id: message.id,
        };
        let content = Content {
            id: message.id,
            sender: sender.clone(),
            channel: stream.channel.clone(),
            direct: stream.direct,
            priority: stream.lane,
            kind: message.kind,
            headers: message.headers,
            payload,
            created_ms: message.created_ms,
            ttl_left_ms: message.ttl_left_ms,
            attempt,
            advance,
            receipt: Receipt::new(self.handlers.runtime().clone()),
        };
        let headers: usize =
            content.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let bytes = HELD_EACH + headers + content.payload.len();
        Ok(Incoming { id: content.id, bytes, body: Arc::new(content) })
    }

    /// What the last process was at when it ended.
    pub(super) fn take_up(&mut self, noted: Vec<Note>) {
        let notes = self.inbox.noted(noted);
        for (_, note) in notes.iter().filter(|(_, note)| note.standing == Standing::Blamed) {
            let (sender, id) = (&note.source.sender, note.first);
            tracing::error!(node = %self.me, %sender, %id, "{ENDED}; that is a failed attempt");
        }
        self.begun.begin_anew(&notes);
    }

    /// Says this to the inbox, and does what it decides.
    pub(super) fn receive(&mut self, event: inbox::Event<Held>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.inbox.handle(self.now(), event, &mut actions);
            for action in actions {
                events.extend(self.perform_inbox(action));
            }
        }
        let wake_at = self.inbox.wake_at();
        self.arm(Timer::Inbox, wake_at);
        if !self.parting.is_empty() {
            self.part();
        }
    }

    fn perform_inbox(&mut self, action: Action<Held>) -> Option<inbox::Event<Held>> {
        match action {
            Action::Handle { source, messages, note } => {
                if let (Some((slot, ends)), [(first, _), ..], Some((last, _))) =
                    (note, &messages[..], messages.last())
                {
                    self.begun.note(slot, &source, (*first, *last), ends);
                }
                self.start_handlers(source, messages)
            }
            Action::Unnote { slot } => {
                self.begun.clear(slot);
                None
            }
            Action::Cease { source } => {
                self.handlers.cease(&source);
                None
            }
            Action::Commit { source, id } => {
                let Source { sender, store: store_id, stream } = source.clone();
                let advance = InboxAdvance {
                    sender,
                    store_id,
                    channel: stream.channel,
                    direct: stream.direct,
                    lane: stream.lane,
                    id,
                };
                if self.handlers.is_idle() && self.store.accept_alone(&advance) {
                    return Some(inbox::Event::Committed { source, id });
                }
                let answer = self.store.accept(advance);
                self.await_job(answer, move |result| Completion::Committed { source, id, result });
                None
            }
            Action::Answer { source, id, verdict, last } => {
                self.answer(source, id, verdict, last);
                None
            }
            Action::Gap { source, gap } => {
                let Stream { channel, lane, .. } = source.stream;
                let sender = source.sender;
                self.tell(match gap {
                    Gap::Skipped(count) => Event::Gap { sender, channel, lane, count },
                    Gap::WeWentBack { sender_says } => {
                        Event::InboxWentBack { sender, channel, sender_says }
                    }
                });
                None
            }
            Action::Repeated { source, id } => {
                self.tally.repeated.add(1);
                self.tell(Event::Repeated { sender: source.sender, id });
                None
            }
        }
    }

    fn answer(&mut self, source: Source, id: MessageId, verdict: Verdict, last: Option<MessageId>) {
        match verdict {
            Verdict::Ack => self.tally.acks_sent.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_sent.add(1),
        }
        let to = Subject::Ack { to: source.sender.clone(), from: self.me.clone() };
        let answer = Answer {
            from: self.me.clone(),
            to: source.sender,
            store: source.store,
            stream: source.stream,
            id,
            last,
            verdict,
        };
        let _entered = spans::ack(&answer).entered();
        // An answer that does not leave is asked for again by the sender.
        let _ = self.transport.try_publish(&to, Frame::Answer(answer).encode());
    }
}
