//! Receiving: frames to the inbox, and what it decides is done.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{Completion, Driver, Timer};
use crate::clock;
use crate::condition::{Link, Outage};
use crate::event::Event;
use crate::incoming::{Content, Receipt};
use crate::message::MessageId;
use crate::protocol::frame::{Answer, Frame, FrameMessage, MessageFrame, Stream, Verdict};
use crate::protocol::inbound::{Around, Effect, Inbound};
use crate::protocol::inbox::begun::{ENDED, Note, Standing};
use crate::protocol::inbox::{self, Gap, Incoming, Source};
use crate::protocol::leadership::Leadership;
use crate::protocol::membership;
use crate::protocol::peers::Peers;
use crate::spans;
use crate::store::{InboxAdvance, InboxRow};
use crate::transport::{Audience, Subject, Transport, TransportEvent};

/// A message on its way to its handlers.
pub(super) type Held = Arc<Content>;

/// Bytes of messages that handlers may hold together, those waiting for one included; more stays with the senders.
pub(super) const HELD_BYTES: usize = 64 * 1024 * 1024;
/// What a message costs besides its headers and payload, roughly.
const HELD_EACH: usize = 1024;

/// How far a source is, as the inbox wants it.
pub(super) fn received(row: InboxRow) -> (Source, MessageId) {
    let stream = Stream { channel: row.channel, direct: row.direct, lane: row.lane };
    (Source { sender: row.sender, store: row.store_id, stream }, row.last_id)
}

impl<T: Transport> Driver<T> {
    pub(super) fn transport_event(&mut self, event: TransportEvent) {
        match event {
            TransportEvent::Up { server, max_payload, denied } => {
                self.max_frame = max_payload;
                self.link_up(server, denied);
            }
            TransportEvent::Down { reason, outage } => self.link_down(reason, outage),
            TransportEvent::Unauthorized { reason } => self.unauthorized(reason),
            TransportEvent::Denied { reason } => {
                if !self.link && !self.peers.has_stood_back() {
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
        if self.peers.has_stood_back() {
            return;
        }
        match (subject, frame) {
            (Subject::Message { .. }, Frame::Messages(frame)) if frame.to == self.me => {
                let span = spans::receive(&self.me, &frame);
                span.in_scope(|| self.messages(frame));
            }
            (Subject::Ack { .. }, Frame::Answer(answer)) if answer.to == self.me => {
                self.peers.spoke(self.now(), &answer.from);
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
            (Subject::Election { .. }, Frame::Election(frame)) => {
                self.with_leadership(|it, around| it.heard(around, frame));
            }
            (Subject::Management { to, .. }, Frame::Query(mut query)) => {
                // One question to all is not to bring all states.
                query.state &= to != Audience::All;
                self.with_admin(|it, around| it.queried(around, query));
            }
            (Subject::Order { .. }, Frame::Order(order)) if order.to == self.me => {
                let obeys = |it: &Leadership| it.obeys(clock::now(), &order.from, order.term);
                let by_master = self.leadership.as_ref().is_some_and(obeys);
                self.with_admin(|it, around| it.ordered(around, order, by_master));
            }
            // An operator on this machine asks under our name, and hears it as well.
            (Subject::Management { to: Audience::Node(_), .. }, Frame::Report(report)) => {
                self.with_admin(|it, around| it.reported(around, report));
            }
            (Subject::Management { to: Audience::Node(_), .. }, Frame::Outcome(outcome)) => {
                self.with_admin(|it, around| it.outcome_came(around, outcome));
            }
            _ => self
                .refuse(Some(sender), "a frame on a subject where it has no business".to_owned()),
        }
    }

    fn messages(&mut self, frame: MessageFrame) {
        let (limit, attempt) = (self.config.max_payload_bytes, frame.attempt);
        let runtime = self.handlers.runtime().clone();
        let open = |source: &Source, message| content(source, message, attempt, limit, &runtime);
        self.with_inbound(|it, around| it.messages(around, frame, open));
    }

    /// What the last process was at when it ended.
    pub(super) fn take_up(&mut self, noted: Vec<Note>) {
        let notes = self.inbound.noted(noted);
        for (_, note) in notes.iter().filter(|(_, note)| note.standing == Standing::Blamed) {
            let (sender, id) = (&note.source.sender, note.first);
            tracing::error!(node = %self.me, %sender, %id, "{ENDED}; that is a failed attempt");
        }
        self.begun.begin_anew(&notes);
    }

    /// Says this to the inbox, and does what it decides.
    pub(super) fn receive(&mut self, event: inbox::Event<Held>) {
        self.with_inbound(|it, around| it.say(around, event));
    }

    /// Has it decided what follows from something, and does that.
    fn with_inbound(&mut self, decide: impl FnOnce(&mut Inbound<Held>, &mut Around<'_, Held>)) {
        let mut effects = self.decide_inbound(decide);
        let mut events = VecDeque::new();
        loop {
            for effect in effects {
                events.extend(self.perform_inbound(effect));
            }
            let Some(event) = events.pop_front() else { break };
            effects = self.decide_inbound(|it, around| it.say(around, event));
        }
        if self.peers.is_parting() {
            self.with_peers(Peers::part);
        }
    }

    fn decide_inbound(
        &mut self,
        decide: impl FnOnce(&mut Inbound<Held>, &mut Around<'_, Held>),
    ) -> Vec<Effect<Held>> {
        let (now, mut out) = (self.now(), Vec::new());
        let around = &mut Around { now, peers: &mut self.peers, out: &mut out };
        decide(&mut self.inbound, around);
        out
    }

    /// What follows from it at once.
    fn perform_inbound(&mut self, effect: Effect<Held>) -> Option<inbox::Event<Held>> {
        match effect {
            Effect::Handle { source, messages, note, beside_others } => {
                if let (Some((slot, ends)), [(first, _), ..], Some((last, _))) =
                    (note, &messages[..], messages.last())
                {
                    self.begun.note(slot, &source, (*first, *last), ends);
                }
                return self.start_handlers(source, messages, beside_others);
            }
            Effect::Unnote { slot } => self.begun.clear(slot),
            Effect::Cease { source } => self.handlers.cease(&source),
            Effect::Commit { source, id, alone } => {
                let advance = advance(&source, id);
                if alone && self.store.accept_alone(&advance) {
                    return Some(inbox::Event::Committed { source, id });
                }
                let answer = self.store.accept(advance);
                self.await_job(answer, move |result| Completion::Committed { source, id, result });
            }
            Effect::Answer(answer) => self.answer(answer),
            Effect::Gap { source, gap } => {
                let Stream { channel, lane, .. } = source.stream;
                let sender = source.sender;
                self.tell(match gap {
                    Gap::Skipped(count) => Event::Gap { sender, channel, lane, count },
                    Gap::WeWentBack { sender_says } => {
                        Event::InboxWentBack { sender, channel, sender_says }
                    }
                });
            }
            Effect::Repeated { source, id } => {
                self.tally.repeated.add(1);
                self.tell(Event::Repeated { sender: source.sender, id });
            }
            Effect::Refused { sender, reason } => self.refuse(Some(sender), reason),
            Effect::Unknown { sender } => self.meet(membership::Event::Unknown(sender)),
            Effect::WakeAt { at } => self.arm(Timer::Inbox, at),
        }
        None
    }

    fn answer(&mut self, answer: Answer) {
        match answer.verdict {
            Verdict::Ack => self.tally.acks_sent.add(1),
            Verdict::Working => {}
            _ => self.tally.nacks_sent.add(1),
        }
        let to = Subject::Ack { to: answer.to.clone(), from: self.me.clone() };
        let _entered = spans::ack(&answer).entered();
        let _ = self.transport.try_publish(&to, Frame::Answer(answer).encode());
    }
}

fn advance(source: &Source, id: MessageId) -> InboxAdvance {
    let Source { sender, store, stream } = source;
    InboxAdvance {
        sender: sender.clone(),
        store_id: *store,
        channel: stream.channel.clone(),
        direct: stream.direct,
        lane: stream.lane,
        id,
    }
}

/// A message as its handler gets it.
fn content(
    source: &Source,
    message: FrameMessage,
    attempt: u32,
    max_payload_bytes: usize,
    runtime: &Handle,
) -> Result<Incoming<Held>, String> {
    let payload = message.body.payload(max_payload_bytes).map_err(|error| error.to_string())?;
    let content = Content {
        id: message.id,
        sender: source.sender.clone(),
        channel: source.stream.channel.clone(),
        direct: source.stream.direct,
        priority: source.stream.lane,
        kind: message.kind,
        headers: message.headers,
        payload,
        created_ms: message.created_ms,
        ttl_left_ms: message.ttl_left_ms,
        attempt,
        advance: advance(source, message.id),
        receipt: Receipt::new(runtime.clone()),
    };
    let headers: usize = content.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = HELD_EACH + headers + content.payload.len();
    Ok(Incoming { id: content.id, bytes, body: Arc::new(content) })
}
