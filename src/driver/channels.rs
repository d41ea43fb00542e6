//! Joining, leaving, pausing, and what handles ask.

use super::{Command, Completion, Consumer, ConsumerId, Driver};
use crate::message::{ChannelName, Mode, StartAt};
use crate::protocol::frame::MAX_CHANNELS;
use crate::protocol::inbox;
use crate::protocol::membership;
use crate::refusal::ChannelError;
use crate::transport::Transport;

/// A channel that this node has joined.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) mode: Mode,
    pub(super) start: StartAt,
    /// By the file's clock.
    pub(super) joined_ms: u64,
    pub(super) paused: bool,
    /// The node is being drained.
    pub(super) held: bool,
    pub(super) consumers: Vec<(ConsumerId, Consumer)>,
}

impl Joined {
    /// Whether messages are taken now.
    pub(super) fn is_ready(&self) -> bool {
        self.mode.reads() && !self.paused && !self.held && !self.consumers.is_empty()
    }

    /// Whether it is by this program's own doing that nothing is taken.
    pub(super) fn is_deaf(&self) -> bool {
        self.mode.reads() && (self.paused || self.consumers.is_empty())
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Join { channel, mode, start, reply } => {
                if let Err(error) = self.may_join(&channel) {
                    let _ = reply.send(Err(error));
                    return;
                }
                if self.channels.len() >= MAX_CHANNELS && !self.channels.contains_key(&channel) {
                    let _ = reply.send(Err(ChannelError::TooMany { limit: MAX_CHANNELS }));
                    return;
                }
                let joined = Joined {
                    mode,
                    start,
                    joined_ms: 0,
                    paused: false,
                    held: false,
                    consumers: Vec::new(),
                };
                let answer = self.store.join(channel.clone());
                self.await_job(answer, |result| Completion::Joined {
                    channel,
                    joined,
                    result,
                    reply,
                });
            }
            Command::Leave { channel, reply } => {
                if !self.channels.contains_key(&channel) {
                    let _ = reply.send(Err(ChannelError::NotJoined { channel }));
                    return;
                }
                let answer = self.store.leave(vec![channel.clone()]);
                self.await_job(answer, |result| Completion::Left { channel, result, reply });
            }
            Command::Pause { channel, paused, reply } => {
                let result = self.change(channel, |joined| joined.paused = paused);
                let _ = reply.send(result);
            }
            Command::Attach { channel, consumer, reply } => {
                let result = self.attach(channel, consumer);
                let _ = reply.send(result);
            }
            Command::Detach { channel, consumer } => {
                let gone = |joined: &mut Joined| joined.consumers.retain(|(id, _)| *id != consumer);
                // It may have been left before.
                let _ = self.change(channel, gone);
            }
            Command::Reasons { reply } => self.ask_for_reasons(reply),
            Command::Topology { reply } => {
                let _ = reply.send(self.topology());
            }
            Command::Subscribers { channel, reply } => {
                let _ = reply.send(self.membership.readers(&channel).cloned().collect());
            }
            Command::SettleNow { reply } => {
                self.settle_waiters.push(reply);
                self.settle();
            }
            Command::WatchSettled { reply } => {
                let _ = reply.send(self.settled.subscribe());
            }
            Command::Forget { node, reply } => self.forget(node, Some(reply)),
            Command::Purge { node, channel, reply } => {
                self.outbound.stand_still(node.clone());
                let answer = self.store.purge(node.clone(), channel);
                self.await_job(answer, |result| Completion::Purged { node, result, reply });
            }
            Command::Order { to, task, within, reply } => {
                self.give_order(to, task, within, reply);
            }
            Command::Ask { to, within, reply } => self.ask_about(to, within, reply),
            Command::SetState { change, reply } => self.set_state(change, reply),
            Command::HandOver { to, reply } => self.hand_over(to, reply),
            Command::Register { callback, reply } => {
                self.register(callback);
                let _ = reply.send(());
            }
            Command::Shutdown { deadline, reply } => self.stop(deadline, reply),
        }
    }

    fn attach(
        &mut self,
        channel: ChannelName,
        consumer: Consumer,
    ) -> Result<ConsumerId, ChannelError> {
        self.last_consumer += 1;
        let id = ConsumerId(self.last_consumer);
        if self.channels.get(&channel).is_some_and(|joined| !joined.mode.reads()) {
            return Err(ChannelError::NotAReader { channel });
        }
        self.change(channel, |joined| joined.consumers.push((id, consumer)))?;
        Ok(id)
    }

    /// Changes a joined channel, and lets the inbox and the peers know.
    fn change(
        &mut self,
        channel: ChannelName,
        change: impl FnOnce(&mut Joined),
    ) -> Result<(), ChannelError> {
        let Some(joined) = self.channels.get_mut(&channel) else {
            return Err(ChannelError::NotJoined { channel });
        };
        let before = joined.is_ready();
        change(joined);
        if joined.is_ready() != before {
            self.announce(channel);
        }
        Ok(())
    }

    pub(super) fn announce(&mut self, channel: ChannelName) {
        let consumer =
            self.channels.get(&channel).filter(|joined| joined.mode.reads()).map(|joined| {
                match joined.is_ready() {
                    true => inbox::Consumer::Ready,
                    false => inbox::Consumer::Paused,
                }
            });
        self.receive(inbox::Event::Consumer { channel, consumer });
        self.meet(membership::Event::Changed);
    }

    pub(super) fn joined(&mut self, channel: ChannelName, mut joined: Joined) {
        self.left.remove(&channel);
        self.parting.remove(&channel);
        joined.held = self.gate.look().draining.is_some();
        if let Some(before) = self.channels.remove(&channel) {
            joined.paused = before.paused;
            joined.consumers = before.consumers;
            // Another handle may still send or receive in the mode in which it joined.
            if before.mode != joined.mode {
                joined.mode = Mode::ReadWrite;
            }
        }
        let writes = joined.mode.writes();
        self.channels.insert(channel.clone(), joined);
        self.announce(channel.clone());
        if writes {
            self.subscribe_known(&channel);
        }
    }

    pub(super) fn has_left(&mut self, channel: ChannelName) {
        self.channels.remove(&channel);
        self.left.insert(channel.clone());
        if self.inbound.works_for(&channel) {
            self.parting.insert(channel.clone());
        }
        if self.left.len() > MAX_CHANNELS {
            // Who has not heard of this one by now learns it from a refusal, and an operator can purge.
            self.left.pop_first();
        }
        self.announce(channel);
    }

    /// Says which channels were left for good, once nothing of theirs is in work any more: senders purge what has no answer by then.
    pub(super) fn part(&mut self) {
        let before = self.parting.len();
        let inbound = &self.inbound;
        self.parting.retain(|channel| inbound.works_for(channel));
        if self.parting.len() < before {
            self.meet(membership::Event::Changed);
        }
    }

    pub(super) fn forget(
        &mut self,
        node: crate::message::NodeId,
        reply: Option<super::command::Reply<Result<u64, crate::refusal::NodeError>>>,
    ) {
        self.outbound.stand_still(node.clone());
        let answer = self.store.forget(node.clone());
        self.await_job(answer, |result| Completion::Forgotten { node, result, reply });
    }
}
