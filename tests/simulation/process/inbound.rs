//! Receiving: frames to the inbox, and what it decides is done.

use std::collections::VecDeque;
use std::time::Duration;

use waypost::MessageId;
use waypost::protocol::frame::{Answer, Frame, MessageFrame, Verdict};
use waypost::protocol::inbox::begun::{Note, Standing};
use waypost::protocol::inbox::{self, Action, Done, Incoming, Source};
use waypost::protocol::membership;

use super::{Process, Timer};
use crate::file::{Uid, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

/// A sender that is no peer yet is asked to come again after this; by then the two have met.
const MEET_FIRST: Duration = Duration::from_millis(250);
/// Largest payload of the simulation: a message's number.
const MAX_PAYLOAD_BYTES: usize = 8;

/// A message on its way to its handler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Content {
    pub(crate) uid: Uid,
    pub(crate) attempt: u32,
}

/// Messages that were handed out together.
#[derive(Debug)]
pub(super) struct Handing {
    /// Not begun.
    todo: VecDeque<(MessageId, Content)>,
    results: Vec<(MessageId, Result<Done, String>)>,
}

impl Process {
    pub(super) fn messages(&mut self, world: &mut World, frame: MessageFrame) {
        let source = Source { sender: frame.from, store: frame.store, stream: frame.stream };
        let Some(first) = frame.messages.first().map(|message| message.id) else { return };
        if !self.membership.is_peer(&source.sender) {
            let retry_ms = MEET_FIRST.as_millis() as u64;
            let sender = source.sender.clone();
            self.answer(world, source, first, Verdict::Busy { retry_ms }, None);
            return self.meet(world, membership::Event::Unknown(sender));
        }
        let attempt = frame.attempt;
        let messages = frame.messages.into_iter().map(|message| {
            let payload = message.body.payload(MAX_PAYLOAD_BYTES).expect("as it was sent");
            let uid = Uid::from_be_bytes(payload[..].try_into().expect("eight bytes were sent"));
            Incoming { id: message.id, bytes: 1024, body: Content { uid, attempt } }
        });
        let arrival = inbox::Arrival {
            source,
            previous: frame.previous,
            skipped: frame.skipped,
            ack_timeout: Duration::from_millis(frame.ack_timeout_ms),
            messages: messages.collect(),
        };
        self.receive(world, inbox::Event::Frame(arrival));
    }

    /// Says this to the inbox, and does what it decides.
    pub(super) fn receive(&mut self, world: &mut World, event: inbox::Event<Content>) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            self.inbox.handle(self.now(world), event, &mut actions);
            for action in actions {
                if !world.goes_on(self.me) {
                    return;
                }
                events.extend(self.perform_inbox(world, action));
            }
        }
        let wake_at = self.inbox.wake_at().map(|at| world.since_base(at));
        self.arm(world, Timer::Inbox, wake_at);
    }

    fn perform_inbox(
        &mut self,
        world: &mut World,
        action: Action<Content>,
    ) -> Option<inbox::Event<Content>> {
        match action {
            Action::Handle { source, messages, note } => {
                if let (Some((slot, ends)), Some((last, _))) = (note, messages.last()) {
                    let (first, last) = (messages[0].0, *last);
                    let (source, standing) = (source.clone(), Standing::Begun);
                    let note = Note { source, first, last, ends, standing };
                    world.machines[self.me].notes.insert(slot, note);
                }
                let mut todo = VecDeque::from(messages);
                let (id, first) = todo.pop_front()?;
                let joined = self.channels.get(&source.stream.channel);
                if joined.is_none_or(|joined| joined.consumers == 0) {
                    let results = vec![(id, Ok(Done::Returned))];
                    return Some(inbox::Event::Finished { source, results });
                }
                let handing = Handing { todo, results: Vec::new() };
                self.handing.insert(source.clone(), handing);
                world.start_handler(self.me, self.run, source, id, first);
            }
            Action::Unnote { slot } => {
                world.machines[self.me].notes.remove(&slot);
            }
            Action::Cease { source } => {
                self.handing.entry(source).and_modify(|handing| handing.todo.clear());
            }
            Action::Commit { source, id } => {
                let taken = world.oracle.take_finished(self.me, &source);
                let work = Work::Accept { source, id, taken, by_handler: false };
                world.submit(self.me, work);
            }
            Action::Answer { source, id, verdict, last } => {
                self.answer(world, source, id, verdict, last);
            }
            Action::Gap { .. } | Action::Repeated { .. } => {}
        }
        None
    }

    pub(super) fn handled(
        &mut self,
        world: &mut World,
        source: Source,
        id: MessageId,
        result: Result<Done, String>,
    ) {
        let Some(handing) = self.handing.get_mut(&source) else { return };
        let goes_on = matches!(result, Ok(Done::Handled | Done::Committed));
        handing.results.push((id, result));
        if goes_on && let Some((id, next)) = handing.todo.pop_front() {
            return world.start_handler(self.me, self.run, source, id, next);
        }
        let results = std::mem::take(&mut handing.results);
        self.handing.remove(&source);
        if !goes_on {
            self.take_notices(world);
        }
        self.receive(world, inbox::Event::Finished { source, results });
    }

    fn answer(
        &mut self,
        world: &mut World,
        source: Source,
        id: MessageId,
        verdict: Verdict,
        last: Option<MessageId>,
    ) {
        let to = Some(source.sender.clone());
        let answer = Answer {
            from: self.id.clone(),
            to: source.sender,
            store: source.store,
            stream: source.stream,
            id,
            last,
            verdict,
        };
        let sent = Sent::new(Kind::Ack, self.id.clone(), to, Frame::Answer(answer));
        // An answer that does not leave is asked for again by the sender.
        let _ = world.publish(self.me, sent);
    }
}
