//! What handles ask goes to the core, and its answers to whoever asked.

use super::command::Reply;
use super::{Command, Consumer, ConsumerId, Driver};
use crate::core::{Command as It, Input, NotDone};
use crate::message::{ChannelName, NodeId};
use crate::protocol::admin::{Answer, Failure, MAX_ASKED};
use crate::protocol::frame::MAX_CHANNELS;
use crate::protocol::leadership::Ticket;
use crate::protocol::orders::Done;
use crate::protocol::peers::Refused;
use crate::protocol::report::Report;
use crate::refusal::{ChannelError, HandOverError, NodeError, OrderError, SetStateError};
use crate::store::StoreError;
use crate::transport::Transport;

/// Who waits for what came of a command.
pub(super) enum Asker {
    Channel(ChannelName, Reply<Result<(), ChannelError>>),
    Attach(ChannelName, ConsumerId, Reply<Result<ConsumerId, ChannelError>>),
    Purge(Reply<Result<u64, StoreError>>),
    Forget(Reply<Result<u64, NodeError>>),
}

/// Who waits for another node's answer.
pub(super) enum Ordering {
    Outcome(Reply<Result<Done, OrderError>>),
    Report(Reply<Result<Box<Report>, OrderError>>),
}

fn channel_error(why: NotDone, channel: ChannelName) -> ChannelError {
    match why {
        NotDone::Kicked { by } => ChannelError::Kicked { channel, by },
        NotDone::Refused(Refused::NotJoined) => ChannelError::NotJoined { channel },
        NotDone::Refused(Refused::NotAReader) => ChannelError::NotAReader { channel },
        NotDone::Refused(Refused::TooMany) => ChannelError::TooMany { limit: MAX_CHANNELS },
    }
}

fn order_error(node: NodeId, why: Failure) -> OrderError {
    match why {
        Failure::Refused(reason) => OrderError::Refused { node, reason },
        Failure::TooMany => OrderError::TooMany { limit: MAX_ASKED },
        Failure::NotConnected => OrderError::NotConnected,
        Failure::Offline => OrderError::Offline { node },
        Failure::Unanswered { within } => OrderError::Unanswered { node, within },
    }
}

impl<T: Transport> Driver<T> {
    pub(super) fn command(&mut self, command: Command) {
        let Some(command) = self.answer(command) else { return };
        let command = match command {
            Command::Join { channel, mode, start, reply } => {
                let ticket = self.ticket(Asker::Channel(channel.clone(), reply));
                It::Join { channel, how: (mode, start), ticket }
            }
            Command::Leave { channel, reply } => {
                let ticket = self.ticket(Asker::Channel(channel.clone(), reply));
                It::Leave { channel, ticket }
            }
            Command::Pause { channel, paused, reply } => {
                let ticket = self.ticket(Asker::Channel(channel.clone(), reply));
                It::Pause { channel, paused, ticket }
            }
            Command::Attach { channel, consumer, reply } => {
                self.last_consumer += 1;
                let id = ConsumerId(self.last_consumer);
                // The first message may be handed to it right away.
                self.consumers.entry(channel.clone()).or_default().push((id, consumer));
                let ticket = self.ticket(Asker::Attach(channel.clone(), id, reply));
                It::Attach { channel, consumer: id, ticket }
            }
            Command::Detach { channel, consumer } => return self.detach(channel, consumer),
            Command::Reasons { reply } => {
                self.asking_for_reasons.push(reply);
                It::Reasons
            }
            Command::SettleNow { reply } => {
                self.settle_waiters.push(reply);
                It::Record
            }
            Command::Forget { node, reply } => {
                It::Forget { node, ticket: self.ticket(Asker::Forget(reply)) }
            }
            Command::Purge { node, channel, reply } => {
                It::Purge { node, channel, ticket: self.ticket(Asker::Purge(reply)) }
            }
            Command::Order { to, task, within, reply } => {
                It::Order { number: self.number(Ordering::Outcome(reply)), to, task, within }
            }
            Command::Ask { to, within, reply } => {
                It::Ask { number: self.number(Ordering::Report(reply)), to, within }
            }
            Command::Shutdown { deadline: within, reply } => {
                // The first one gets the answer; the channel's closing tells the others that it is done.
                self.stop_reply.get_or_insert(reply);
                It::Stop { within }
            }
            Command::Register { callback, reply } => {
                let moment = callback.moment();
                self.outlets.register(callback);
                self.say(Input::Command(It::Registered(moment)));
                let _ = reply.send(());
                return;
            }
            Command::SetState { change, reply } => {
                It::SetState { change, ticket: self.outlets.setting(reply) }
            }
            Command::HandOver { to, reply } => {
                It::HandOver { to, ticket: self.outlets.handing(reply) }
            }
            Command::Topology { .. }
            | Command::Subscribers { .. }
            | Command::WatchSettled { .. } => return,
        };
        self.say(Input::Command(command));
    }

    /// Answers what changes nothing, and gives back the rest.
    fn answer(&self, command: Command) -> Option<Command> {
        match command {
            Command::SetState { reply, .. } if !self.core.elects() => {
                let _ = reply.send(Err(SetStateError::Off));
            }
            Command::HandOver { reply, .. } if !self.core.elects() => {
                let _ = reply.send(Err(HandOverError::Off));
            }
            Command::Topology { reply } => drop(reply.send(self.core.topology(self.at()))),
            Command::Subscribers { channel, reply } => {
                let _ = reply.send(self.core.readers(&channel).cloned().collect());
            }
            Command::WatchSettled { reply } => drop(reply.send(self.around.watch_accounts())),
            command => return Some(command),
        }
        None
    }

    fn ticket(&mut self, asker: Asker) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.askers.insert(ticket, asker);
        ticket
    }

    fn number(&mut self, asker: Ordering) -> u64 {
        let number = fastrand::u64(..);
        self.ordering.insert(number, asker);
        number
    }

    pub(super) fn answer_about_channel(&mut self, ticket: Ticket, result: Result<(), NotDone>) {
        // Whoever asked may have gone.
        match self.askers.remove(&ticket) {
            Some(Asker::Channel(channel, reply)) => {
                let _ = reply.send(result.map_err(|why| channel_error(why, channel)));
            }
            Some(Asker::Attach(channel, id, reply)) => {
                if result.is_err() {
                    self.drop_consumer(&channel, id);
                }
                let _ = reply.send(result.map(|()| id).map_err(|why| channel_error(why, channel)));
            }
            Some(Asker::Purge(_) | Asker::Forget(_)) | None => {}
        }
    }

    /// What the file says to whoever asked.
    pub(super) fn answer_asker(&mut self, ticket: Ticket, result: Result<u64, StoreError>) {
        match self.askers.remove(&ticket) {
            Some(Asker::Channel(_, reply)) => {
                drop(reply.send(result.map(drop).map_err(Into::into)))
            }
            Some(Asker::Purge(reply)) => drop(reply.send(result)),
            Some(Asker::Forget(reply)) => drop(reply.send(result.map_err(Into::into))),
            Some(Asker::Attach(..)) | None => {}
        }
    }

    pub(super) fn answer_order(&mut self, number: u64, node: NodeId, answer: Answer) {
        match (self.ordering.remove(&number), answer) {
            (Some(Ordering::Outcome(reply)), Answer::Done(done)) => drop(reply.send(Ok(done))),
            (Some(Ordering::Report(reply)), Answer::Report(report)) => drop(reply.send(Ok(report))),
            (Some(Ordering::Outcome(reply)), Answer::Failed(why)) => {
                let _ = reply.send(Err(order_error(node, why)));
            }
            (Some(Ordering::Report(reply)), Answer::Failed(why)) => {
                let _ = reply.send(Err(order_error(node, why)));
            }
            // An answer of the other kind is not let through to here.
            (None, _) | (Some(_), Answer::Done(_) | Answer::Report(_)) => {}
        }
    }

    pub(super) fn detach(&mut self, channel: ChannelName, consumer: ConsumerId) {
        self.drop_consumer(&channel, consumer);
        self.say(Input::Command(It::Detach { channel, consumer }));
    }

    fn drop_consumer(&mut self, channel: &ChannelName, consumer: ConsumerId) {
        let Some(consumers) = self.consumers.get_mut(channel) else { return };
        consumers.retain(|(id, _): &(ConsumerId, Consumer)| *id != consumer);
        if consumers.is_empty() {
            self.consumers.remove(channel);
        }
    }
}
