//! Joining, leaving, pausing.

use waypost::protocol::{inbox, membership};
use waypost::{ChannelName, Mode, StartAt};

use super::{Command, Process};
use crate::file::Work;
use crate::world::World;

/// A channel that this node has joined.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) mode: Mode,
    pub(super) start: StartAt,
    pub(super) joined_ms: u64,
    pub(super) paused: bool,
    pub(super) consumers: u32,
}

impl Joined {
    /// Whether messages are taken now.
    pub(super) fn is_ready(&self) -> bool {
        self.mode.reads() && !self.paused && self.consumers > 0
    }
}

impl Process {
    pub(super) fn command(&mut self, world: &mut World, command: Command) {
        match command {
            Command::Join(channel, mode, start) => {
                world.submit(self.me, Work::Join(channel, mode, start));
            }
            Command::Leave(channel) => {
                if self.channels.contains_key(&channel) {
                    world.submit(self.me, Work::Leave(channel));
                }
            }
            Command::Pause(channel, paused) => {
                self.change(world, channel, |joined| joined.paused = paused);
            }
            Command::Attach(channel) => {
                self.change(world, channel, |joined| joined.consumers = 1);
            }
            Command::Detach(channel) => {
                self.change(world, channel, |joined| joined.consumers = 0);
            }
            Command::Forget(node) => self.forget(world, node),
            Command::Purge(node, channel) => {
                self.outbound.stand_still(node.clone());
                world.submit(self.me, Work::Purge(node, channel));
            }
            Command::Stop { within } => self.stop(world, within),
        }
    }

    fn change(
        &mut self,
        world: &mut World,
        channel: ChannelName,
        change: impl FnOnce(&mut Joined),
    ) {
        let Some(joined) = self.channels.get_mut(&channel) else { return };
        let before = joined.is_ready();
        change(joined);
        if joined.is_ready() != before {
            self.announce(world, channel);
        }
    }

    fn announce(&mut self, world: &mut World, channel: ChannelName) {
        let joined = self.channels.get(&channel).filter(|joined| joined.mode.reads());
        let consumer = joined.map(|joined| match joined.is_ready() {
            true => inbox::Consumer::Ready,
            false => inbox::Consumer::Paused,
        });
        self.receive(world, inbox::Event::Consumer { channel, consumer });
        self.meet(world, membership::Event::Changed);
    }

    pub(super) fn joined(
        &mut self,
        world: &mut World,
        channel: ChannelName,
        mode: Mode,
        start: StartAt,
        joined_ms: u64,
    ) {
        self.left.remove(&channel);
        let mut joined = Joined { mode, start, joined_ms, paused: false, consumers: 0 };
        if let Some(before) = self.channels.remove(&channel) {
            joined.paused = before.paused;
            joined.consumers = before.consumers;
            if before.mode != joined.mode {
                joined.mode = Mode::ReadWrite;
            }
        }
        let writes = joined.mode.writes();
        self.channels.insert(channel.clone(), joined);
        self.announce(world, channel.clone());
        if writes {
            self.subscribe_known(world, &channel);
        }
    }

    pub(super) fn has_left(&mut self, world: &mut World, channel: ChannelName) {
        self.channels.remove(&channel);
        self.left.insert(channel.clone());
        self.announce(world, channel);
    }

    pub(super) fn forget(&mut self, world: &mut World, node: waypost::NodeId) {
        self.outbound.stand_still(node.clone());
        world.submit(self.me, Work::Forget(node));
    }
}
