//! The end of a stop, step by step. What waits on the disk does so no longer than it is given, and here takes no time.

use waypost::core::Input;
use waypost::protocol::lifecycle::{End, Last, Offline};

use super::Process;
use crate::file::Work;
use crate::world::World;

impl Process {
    pub(crate) fn finish(&mut self, world: &mut World) {
        let End { first, then, .. } = self.core.end();
        for step in first {
            if world.machines[self.me].blown {
                return;
            }
            match step {
                Last::NotePeers => self.say(world, Input::NotePeers),
                Last::Resign { .. } => self.say(world, Input::Resign),
                Last::CutShort { .. } => self.cut_short(world),
                Last::Commit { .. } => self.await_commits(world),
                Last::Unnote => {
                    let notes = self.core.noted_at_end().into_iter().collect();
                    world.machines[self.me].notes = notes;
                }
                Last::Goodbye => self.say(world, Input::Goodbye),
                Last::Settle => self.settle_last(world),
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
        if self.core.committing() > 0 {
            for (work, answer) in world.write_all(self.me) {
                self.completed(world, work, answer);
            }
        }
    }

    fn settle_last(&mut self, world: &mut World) {
        let (around, at) = (self.around(world), self.at(world));
        let around = around.with(&self.settling);
        let (runs, attempts) = self.core.unrecorded((&around, at), &mut self.effects);
        world.submit(self.me, Work::Settle(runs, attempts));
    }
}
