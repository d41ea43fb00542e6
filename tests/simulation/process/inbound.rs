//! Receiving: frames to the inbox, and what it decides is done.

use std::collections::VecDeque;

use waypost::MessageId;
use waypost::protocol::frame::{Frame, FrameMessage, MessageFrame};
use waypost::protocol::inbound::{Around, Effect, Inbound};
use waypost::protocol::inbox::begun::{Note, Standing};
use waypost::protocol::inbox::{self, Done, Incoming, Source};
use waypost::protocol::membership;
use waypost::protocol::peers::Peers;

use super::{Process, Timer};
use crate::file::{By, Uid, Work};
use crate::network::{Kind, Sent};
use crate::world::World;

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
    beside_others: bool,
}

impl Process {
    pub(super) fn messages(&mut self, world: &mut World, frame: MessageFrame) {
        let (attempt, refused) = (frame.attempt, world.machines[self.me].style.refused);
        let open = |_: &Source, message: FrameMessage| {
            let payload = message.body.payload(MAX_PAYLOAD_BYTES).expect("as it was sent");
            let uid = Uid::from_be_bytes(payload[..].try_into().expect("eight bytes were sent"));
            match refused > 0 && uid.is_multiple_of(refused) {
                true => Err("it is too large for this one".to_owned()),
                false => {
                    Ok(Incoming { id: message.id, bytes: 1024, body: Content { uid, attempt } })
                }
            }
        };
        self.with_inbound(world, |it, around| it.messages(around, frame, open));
    }

    /// Says this to the inbox, and does what it decides.
    pub(super) fn receive(&mut self, world: &mut World, event: inbox::Event<Content>) {
        self.with_inbound(world, |it, around| it.say(around, event));
    }

    /// Has it decided what follows from something, and does that, up to a crash.
    fn with_inbound(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Inbound<Content>, &mut Around<'_, Content>),
    ) {
        let mut effects = self.decide_inbound(world, decide);
        let mut events = VecDeque::new();
        loop {
            for effect in effects {
                if !world.goes_on(self.me) {
                    return;
                }
                events.extend(self.perform_inbound(world, effect));
            }
            let Some(event) = events.pop_front() else { break };
            effects = self.decide_inbound(world, |it, around| it.say(around, event));
        }
        if self.peers.is_parting() {
            self.with_peers(world, Peers::part);
        }
    }

    fn decide_inbound(
        &mut self,
        world: &World,
        decide: impl FnOnce(&mut Inbound<Content>, &mut Around<'_, Content>),
    ) -> Vec<Effect<Content>> {
        let (now, mut out) = (self.now(world), Vec::new());
        decide(&mut self.inbound, &mut Around { now, peers: &mut self.peers, out: &mut out });
        out
    }

    /// What follows from it at once.
    fn perform_inbound(
        &mut self,
        world: &mut World,
        effect: Effect<Content>,
    ) -> Option<inbox::Event<Content>> {
        match effect {
            Effect::Handle { source, messages, note, beside_others } => {
                if let (Some((slot, ends)), Some((last, _))) = (note, messages.last()) {
                    let (first, last) = (messages[0].0, *last);
                    let (source, standing) = (source.clone(), Standing::Begun);
                    let note = Note { source, first, last, ends, standing };
                    world.machines[self.me].notes.insert(slot, note);
                }
                let mut todo = VecDeque::from(messages);
                let (id, first) = todo.pop_front()?;
                if !self.handled_here.contains(&source.stream.channel) {
                    let results = vec![(id, Ok(Done::Returned))];
                    return Some(inbox::Event::Finished { source, results });
                }
                let handing = Handing { todo, results: Vec::new(), beside_others };
                self.handing.insert(source.clone(), handing);
                world.start_handler(self.me, self.run, source, id, first);
            }
            Effect::Unnote { slot } => {
                world.machines[self.me].notes.remove(&slot);
            }
            Effect::Cease { source } => {
                self.handing.entry(source).and_modify(|handing| handing.todo.clear());
            }
            Effect::Commit { source, id, alone } => {
                let taken = world.oracle.take_finished(self.me, &source);
                let work = Work::Accept { source: source.clone(), id, taken, by: By::Node };
                if alone && world.commit_alone(self.me, work.clone()) {
                    return Some(inbox::Event::Committed { source, id });
                }
                world.submit(self.me, work);
            }
            Effect::Answer(answer) => {
                let to = Some(answer.to.clone());
                let sent = Sent::new(Kind::Ack, self.id.clone(), to, Frame::Answer(answer));
                let _ = world.publish(self.me, sent);
            }
            Effect::Unknown { sender } => self.meet(world, membership::Event::Unknown(sender)),
            Effect::WakeAt { at } => {
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Inbox, at);
            }
            Effect::Gap { source, gap } => world.note_gap(self.me, &source, gap),
            Effect::Repeated { .. } | Effect::Refused { .. } => {}
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
        let handled = result == Ok(Done::Handled);
        handing.results.push((id, result));
        if goes_on && let Some((id, next)) = handing.todo.pop_front() {
            return world.start_handler(self.me, self.run, source, id, next);
        }
        if handled && handing.beside_others {
            let taken = world.oracle.take_finished(self.me, &source);
            return world.submit(self.me, Work::Accept { source, id, taken, by: By::Runner });
        }
        if !goes_on {
            self.take_notices(world);
        }
        self.run_ended(world, source);
    }

    /// A run's last receipt is in the file, or could not be written: then the inbox tries again.
    pub(super) fn run_is_noted(&mut self, world: &mut World, source: Source, failed: bool) {
        let last = self.handing.get_mut(&source).and_then(|handing| handing.results.last_mut());
        if let Some((_, result)) = last.filter(|_| !failed) {
            *result = Ok(Done::Committed);
        }
        self.run_ended(world, source);
    }

    fn run_ended(&mut self, world: &mut World, source: Source) {
        let Some(Handing { results, .. }) = self.handing.remove(&source) else { return };
        self.receive(world, inbox::Event::Finished { source, results });
    }

    /// Handlers end where they are. What they took before that of the same frame is taken.
    pub(super) fn cut_short(&mut self, world: &mut World) {
        for (source, mut handing) in std::mem::take(&mut self.handing) {
            world.oracle.handler_gone(self.me, &source);
            handing.results.retain(|(_, result)| result.is_ok());
            if !handing.results.is_empty() {
                let results = handing.results;
                self.receive(world, inbox::Event::Finished { source, results });
            }
        }
    }
}
