//! Joining, leaving, pausing: what programs ask.

use waypost::ChannelName;
use waypost::protocol::leadership::Leadership;
use waypost::protocol::peers::ConsumerId;

use super::{Command, Process};
use crate::file::Work;
use crate::world::World;

/// A program's only handler of a channel.
const HANDLER: ConsumerId = ConsumerId(1);

impl Process {
    pub(super) fn command(&mut self, world: &mut World, command: Command) {
        match command {
            Command::Join(channel, mode, start) if !self.may_join(&channel) => {
                world.join_later(self.me, channel, mode, start);
            }
            Command::Join(channel, mode, start) => {
                world.submit(self.me, Work::Join(channel, mode, start));
            }
            Command::Leave(channel) => {
                if self.peers.has_joined(&channel) {
                    world.submit(self.me, Work::Leave(channel));
                }
            }
            Command::Pause(channel, paused) => {
                let _ = self.with_peers(world, |it, around| it.pause(around, &channel, paused));
            }
            Command::Attach(channel) => {
                self.handled_here.insert(channel.clone());
                let attached =
                    self.with_peers(world, |it, around| it.attach(around, &channel, HANDLER));
                if attached.is_err() {
                    self.handled_here.remove(&channel);
                }
            }
            Command::Detach(channel) => {
                self.handled_here.remove(&channel);
                self.with_peers(world, |it, around| it.detach(around, &channel, HANDLER));
            }
            Command::Order(to, task) => self.give(world, to, task),
            Command::Readmit => self.readmit(world),
            Command::Forget(node) => self.forget(world, node),
            Command::Purge(node, channel) => {
                self.outbound.stand_still(node.clone());
                world.submit(self.me, Work::Purge(node, channel));
            }
            Command::Listen => self.listen(world),
            Command::SetState(change) => self.set_state(world, change),
            Command::HandOver(to) => self.hand_over(world, to),
            Command::Returned => {
                world.oracle.elections.function_returned(self.me);
                self.with_leadership(world, Leadership::told_of_shutdown);
            }
            Command::Stop { within } => self.stop(world, within),
        }
    }

    pub(super) fn has_left(&mut self, world: &mut World, channel: ChannelName) {
        self.handled_here.remove(&channel);
        self.with_peers(world, |it, around| it.left(around, channel));
    }

    pub(super) fn forget(&mut self, world: &mut World, node: waypost::NodeId) {
        self.outbound.stand_still(node.clone());
        world.submit(self.me, Work::Forget(node));
    }
}
