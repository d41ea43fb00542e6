//! Joining, leaving, pausing, and what handles ask.

use super::command::Reply;
use super::{Command, Completion, Consumer, ConsumerId, Driver};
use crate::message::{ChannelName, NodeId};
use crate::protocol::frame::MAX_CHANNELS;
use crate::protocol::peers::Refused;
use crate::refusal::{ChannelError, NodeError};
use crate::transport::Transport;

fn refused(why: Refused, channel: ChannelName) -> ChannelError {
    match why {
        Refused::NotJoined => ChannelError::NotJoined { channel },
        Refused::NotAReader => ChannelError::NotAReader { channel },
        Refused::TooMany => ChannelError::TooMany { limit: MAX_CHANNELS },
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Join { channel, mode, start, reply } => {
                if let Some(by) = self.admin.closed().out_of(&channel).cloned() {
                    let _ = reply.send(Err(ChannelError::Kicked { channel, by }));
                    return;
                }
                if let Err(why) = self.peers.may_join(&channel) {
                    let _ = reply.send(Err(refused(why, channel)));
                    return;
                }
                let (answer, how) = (self.store.join(channel.clone()), (mode, start));
                self.await_job(answer, move |result| Completion::Joined {
                    channel,
                    how,
                    result,
                    reply,
                });
            }
            Command::Leave { channel, reply } => {
                if !self.peers.has_joined(&channel) {
                    let _ = reply.send(Err(ChannelError::NotJoined { channel }));
                    return;
                }
                let answer = self.store.leave(vec![channel.clone()]);
                self.await_job(answer, |result| Completion::Left { channel, result, reply });
            }
            Command::Pause { channel, paused, reply } => {
                let result = self.with_peers(|it, around| it.pause(around, &channel, paused));
                let _ = reply.send(result.map_err(|why| refused(why, channel)));
            }
            Command::Attach { channel, consumer, reply } => {
                let result = self.attach(channel, consumer);
                let _ = reply.send(result);
            }
            Command::Detach { channel, consumer } => {
                self.detach(&channel, consumer);
            }
            Command::Reasons { reply } => self.ask_for_reasons(reply),
            Command::Topology { reply } => {
                let _ = reply.send(self.topology());
            }
            Command::Subscribers { channel, reply } => {
                let _ = reply.send(self.peers.readers(&channel).cloned().collect());
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
        // The first message may be handed to it right away.
        self.consumers.entry(channel.clone()).or_default().push((id, consumer));
        let attached = self.with_peers(|it, around| it.attach(around, &channel, id));
        if attached.is_err() {
            self.drop_consumer(&channel, id);
        }
        attached.map(|()| id).map_err(|why| refused(why, channel))
    }

    pub(super) fn detach(&mut self, channel: &ChannelName, consumer: ConsumerId) {
        self.drop_consumer(channel, consumer);
        self.with_peers(|it, around| it.detach(around, channel, consumer));
    }

    fn drop_consumer(&mut self, channel: &ChannelName, consumer: ConsumerId) {
        let Some(consumers) = self.consumers.get_mut(channel) else { return };
        consumers.retain(|(id, _)| *id != consumer);
        if consumers.is_empty() {
            self.consumers.remove(channel);
        }
    }

    pub(super) fn has_left(&mut self, channel: ChannelName) {
        self.consumers.remove(&channel);
        self.with_peers(|it, around| it.left(around, channel));
    }

    pub(super) fn forget(&mut self, node: NodeId, reply: Option<Reply<Result<u64, NodeError>>>) {
        self.outbound.stand_still(node.clone());
        let answer = self.store.forget(node.clone());
        self.await_job(answer, |result| Completion::Forgotten { node, result, reply });
    }
}
