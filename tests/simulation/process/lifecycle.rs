//! The node's life: what the part that decides about it wants done, up to the last step of a stop.

use std::time::Duration;

use waypost::protocol::leadership::Leadership;
use waypost::protocol::lifecycle::{Around, Begin, Effect, End, Last, Lifecycle, Offline};
use waypost::protocol::looks::Looks;
use waypost::protocol::outbound::Outbound;
use waypost::protocol::peers::Peers;
use waypost::protocol::{delivery, inbox};

use super::{Process, Timer};
use crate::file::Work;
use crate::world::World;

impl Process {
    /// Has it decided what follows from something, and does that, up to a crash.
    pub(super) fn with_lifecycle<R>(
        &mut self,
        world: &mut World,
        decide: impl FnOnce(&mut Lifecycle, &mut Around<'_>) -> R,
    ) -> R {
        let (now, counted, mut out) = (self.now(world), world.truly(), Vec::new());
        let (link, peers) = (self.link, &self.peers);
        let around = &mut Around { now, counted, link, peers, out: &mut out };
        let decided = decide(&mut self.lifecycle, around);
        for effect in out {
            // To set a timer leaves nothing behind.
            if !matches!(effect, Effect::WakeAt(_)) && !world.goes_on(self.me) {
                break;
            }
            self.perform_for_life(world, effect);
        }
        decided
    }

    fn perform_for_life(&mut self, world: &mut World, effect: Effect) {
        match effect {
            Effect::Started(Ok(())) => {
                world.note_started(self.me, self.link);
                self.tell_stalls(world);
            }
            Effect::Started(Err(rival)) => {
                world.violated(format!("{} does not start for {rival:?}", self.id));
            }
            Effect::StoodStill => self.with_peers(world, Peers::stood_still),
            Effect::Doubt => self.receive(world, inbox::Event::Doubted),
            Effect::Suspended(_) => {
                self.deliver_all(world, || delivery::Event::Woke);
                self.with_looks(world, Looks::wake);
            }
            Effect::NotePeers => self.note_peers(world),
            Effect::LookAtClock => world.look_at_clock(self.me),
            Effect::CleanUp => world.submit(self.me, Work::CleanUp),
            Effect::Begin(step) => self.begin_to_stop(world, step),
            Effect::WakeAt(at) => {
                let at = at.map(|at| world.since_base(at));
                self.arm(world, Timer::Lifecycle, at);
            }
        }
    }

    fn note_peers(&mut self, world: &mut World) {
        self.with_peers(world, |it, around| it.note(around, None));
    }

    pub(super) fn stop(&mut self, world: &mut World, within: Duration) {
        let elects = self.leadership.is_some();
        if !self.lifecycle.is_stopping() {
            world.note_stop(self.me, self.run, within);
        }
        self.with_lifecycle(world, |it, around| it.stop(around, within, elects));
    }

    fn begin_to_stop(&mut self, world: &mut World, step: Begin) {
        match step {
            // Nobody reads messages from a stream here.
            Begin::GiveBack => {}
            Begin::Inbox => self.receive(world, inbox::Event::Stop),
            Begin::Peers => self.with_peers(world, Peers::stop),
            Begin::Admin => self.admin.stop(),
            Begin::Notices => self.take_notices(world),
            Begin::Leadership => self.with_leadership(world, Leadership::stop),
        }
    }

    pub(super) fn has_stopped(&self, world: &World) -> bool {
        let busy = self.inbound.busy() > 0 || self.outbound.is_busy();
        self.lifecycle.is_over(world.instant(self.me), busy)
    }

    /// The end of a stop, step by step. What waits on the disk does so no longer than it is given, and here takes no time.
    pub(crate) fn finish(&mut self, world: &mut World) {
        let End { first, then, .. } = self.lifecycle.end();
        for step in first {
            if world.machines[self.me].blown {
                return;
            }
            match step {
                Last::NotePeers => self.note_peers(world),
                Last::Resign { .. } => {
                    self.with_leadership(world, Leadership::close);
                    self.leadership = None;
                }
                Last::CutShort { .. } => self.cut_short(world),
                Last::Commit { .. } => self.await_commits(world),
                Last::Unnote => {
                    let notes = self.inbound.noted_at_end().into_iter().collect();
                    world.machines[self.me].notes = notes;
                }
                Last::Goodbye => self.with_peers(world, Peers::goodbye),
                Last::Settle => {
                    let (runs, attempts) = self.with_outbound(world, Outbound::unrecorded);
                    world.submit(self.me, Work::Settle(runs, attempts));
                }
            }
        }
        for step in then {
            match step {
                Offline::Note { .. } => drop(world.write_all(self.me)),
                Offline::Close => world.oracle.lives.closes(self.me),
            }
        }
    }

    fn await_commits(&mut self, world: &mut World) {
        if self.inbound.committing() > 0 {
            for (work, answer) in world.write_all(self.me) {
                self.completed(world, work, answer);
            }
        }
    }
}
