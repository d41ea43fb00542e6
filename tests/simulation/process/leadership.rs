//! The election: what the part that decides about leadership wants done.

use std::collections::BTreeSet;
use std::time::Instant;

use waypost::NodeId;
use waypost::protocol::Now;
use waypost::protocol::frame::Frame;
use waypost::protocol::leadership::{Around, Call, Change, Effect, Leadership, Moment, Ticket};

use super::{Process, Timer};
use crate::file::Work;
use crate::network::{Kind, Sent};
use crate::world::World;

/// Who waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Askers {
    waiting: BTreeSet<Ticket>,
    last: u64,
}

impl Askers {
    fn next(&mut self) -> Ticket {
        self.last += 1;
        self.waiting.insert(Ticket(self.last));
        Ticket(self.last)
    }
}

impl Process {
    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_leadership(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Leadership, &mut Around<'_>),
    ) {
        // A lease ends although the machine sleeps.
        let (now, mut out) = (Now { mono: world.truly(), ..self.now(world) }, Vec::new());
        let Self { leadership: Some(leadership), peers, link, .. } = self else { return };
        let (link, max_frame) = (*link, usize::MAX);
        decide(leadership, &mut Around { now, peers, link, max_frame, out: &mut out });
        for effect in out {
            if !world.goes_on(self.me) {
                break;
            }
            self.perform_for_leadership(world, effect);
        }
    }

    fn perform_for_leadership(&mut self, world: &mut World, effect: Effect) {
        match effect {
            Effect::Show(view) => world.note_shown(self.me, view),
            Effect::Say(frame) => {
                world.note_election_frame(self.me, &frame);
                let frame = Frame::Election(frame);
                let sent = Sent::new(Kind::Election, self.id.clone(), None, frame);
                // Whatever matters is said again.
                let _ = world.publish(self.me, sent);
            }
            Effect::Save { seq, record, .. } => {
                world.submit(self.me, Work::SaveElection { seq, record });
            }
            Effect::Enter(_) => world.note_entered(self.me),
            Effect::Tell(notice) => world.note_told(self.me, &notice),
            Effect::Call(call) => {
                world.note_called(self.me, &call);
                if let Call::ShuttingDown { .. } = call {
                    world.function_runs(self.me, self.run);
                }
            }
            Effect::StateSet { ticket, result } => {
                self.answered_once(world, ticket);
                world.note_set(self.me, ticket, result.ok());
            }
            Effect::HandedOver { ticket, .. } => self.answered_once(world, ticket),
            Effect::Free => self.lifecycle.handed_over(),
            Effect::WakeAt { at } => {
                let left = |at: Instant| at.saturating_duration_since(world.truly());
                let at = at.map(|at| world.mono(self.me) + left(at));
                self.arm(world, Timer::Election, at);
            }
        }
    }

    fn answered_once(&mut self, world: &mut World, ticket: Ticket) {
        if !self.askers.waiting.remove(&ticket) {
            world.violated(format!("{}: an answer to {ticket:?}, which nobody awaits", self.id));
        }
    }

    pub(super) fn listen(&mut self, world: &mut World) {
        // In this order, so that whoever becomes a follower was called as master before.
        for moment in [Moment::BecameFollower, Moment::BecameMaster, Moment::Shutdown] {
            self.with_leadership(world, |it, around| it.registered(around, moment));
        }
    }

    pub(super) fn set_state(&mut self, world: &mut World, change: Change) {
        if self.leadership.is_none() {
            return;
        }
        let (ticket, wanted) = (self.askers.next(), change.clone());
        let before = world.oracle.elections.state(self.me);
        self.with_leadership(world, |it, around| it.set_state(around, ticket, change));
        if self.askers.waiting.contains(&ticket) {
            world.note_setting(self.me, ticket, &before, wanted);
        }
    }

    pub(super) fn hand_over(&mut self, world: &mut World, to: Option<NodeId>) {
        if self.leadership.is_none() {
            return;
        }
        world.oracle.elections.hands_over(self.me);
        let ticket = self.askers.next();
        self.with_leadership(world, |it, around| it.hand_over(around, ticket, to));
    }

    /// Whoever waits in vain.
    pub(super) fn awaits_an_answer(&self) -> bool {
        !self.askers.waiting.is_empty()
    }
}
