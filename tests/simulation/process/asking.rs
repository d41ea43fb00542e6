//! What programs ask, and who waits for what.

use std::collections::BTreeMap;
use std::time::Duration;

use waypost::core::{Command as It, Input, NotDone};
use waypost::protocol::admin::{Answer, Closed};
use waypost::protocol::leadership::{Moment, Ticket};
use waypost::protocol::orders::Task;
use waypost::protocol::peers::ConsumerId;
use waypost::{ChannelName, Mode, NodeId, StartAt};

use super::{Command, Process};
use crate::world::World;

/// A program's only handler of a channel.
const HANDLER: ConsumerId = ConsumerId(1);
/// How long an answer is waited for.
const WITHIN: Duration = Duration::from_secs(8);

#[derive(Debug)]
enum Asker {
    Join(ChannelName, Mode, StartAt),
    Attach(ChannelName),
    Election,
    /// Does not care.
    Other,
}

/// Who waits for an answer.
#[derive(Debug, Default)]
pub(super) struct Askers {
    waiting: BTreeMap<Ticket, Asker>,
    last: u64,
}

impl Askers {
    fn next(&mut self, asker: Asker) -> Ticket {
        self.last += 1;
        self.waiting.insert(Ticket(self.last), asker);
        Ticket(self.last)
    }

    pub(super) fn join(&mut self, channel: ChannelName, mode: Mode, start: StartAt) -> Ticket {
        self.next(Asker::Join(channel, mode, start))
    }

    fn waits(&self, ticket: Ticket) -> bool {
        self.waiting.contains_key(&ticket)
    }

    /// Whether somebody waits who is to have an answer before all is quiet.
    pub(super) fn wait(&self) -> bool {
        self.waiting.values().any(|asker| matches!(asker, Asker::Election))
    }
}

impl Process {
    pub(super) fn command(&mut self, world: &mut World, command: Command) {
        let command = match command {
            Command::Join(channel, mode, start) => {
                let ticket = self.askers.join(channel.clone(), mode, start);
                It::Join { channel, how: (mode, start), ticket }
            }
            Command::Leave(channel) => {
                It::Leave { channel, ticket: self.askers.next(Asker::Other) }
            }
            Command::Pause(channel, paused) => {
                It::Pause { channel, paused, ticket: self.askers.next(Asker::Other) }
            }
            Command::Attach(channel) => {
                self.handled_here.insert(channel.clone());
                let ticket = self.askers.next(Asker::Attach(channel.clone()));
                It::Attach { channel, consumer: HANDLER, ticket }
            }
            Command::Detach(channel) => {
                self.handled_here.remove(&channel);
                It::Detach { channel, consumer: HANDLER }
            }
            Command::Order(to, task) => {
                It::Order { number: world.dice.draw(), to, task, within: WITHIN }
            }
            Command::Readmit => return self.readmit(world),
            Command::Forget(node) => It::Forget { node, ticket: self.askers.next(Asker::Other) },
            Command::Purge(node, channel) => {
                It::Purge { node, channel, ticket: self.askers.next(Asker::Other) }
            }
            Command::Listen => return self.listen(world),
            Command::SetState(change) => return self.set_state(world, change),
            Command::HandOver(to) => {
                if !self.core.elects() {
                    return;
                }
                world.oracle.elections.hands_over(self.me);
                It::HandOver { to, ticket: self.askers.next(Asker::Election) }
            }
            Command::Returned => {
                world.oracle.elections.function_returned(self.me);
                return self.say(world, Input::ToldOfShutdown);
            }
            Command::Stop { within } => {
                if !self.core.is_stopping() {
                    world.note_stop(self.me, self.run, within);
                }
                It::Stop { within }
            }
        };
        self.say(world, Input::Command(command));
    }

    fn listen(&mut self, world: &mut World) {
        // In this order, so that whoever becomes a follower was called as master before.
        for moment in [Moment::BecameFollower, Moment::BecameMaster, Moment::Shutdown] {
            self.say(world, Input::Command(It::Registered(moment)));
        }
    }

    fn set_state(&mut self, world: &mut World, change: waypost::protocol::leadership::Change) {
        if !self.core.elects() {
            return;
        }
        let (ticket, wanted) = (self.askers.next(Asker::Election), change.clone());
        let before = world.oracle.elections.state(self.me);
        self.say(world, Input::Command(It::SetState { change, ticket }));
        if self.askers.waits(ticket) {
            world.note_setting(self.me, ticket, &before, wanted);
        }
    }

    pub(super) fn answered_once(&mut self, world: &mut World, ticket: Ticket) {
        if self.askers.waiting.remove(&ticket).is_none() {
            world.violated(format!("{}: an answer to {ticket:?}, which nobody awaits", self.id));
        }
    }

    pub(super) fn is_done(
        &mut self,
        world: &mut World,
        ticket: Ticket,
        result: Result<(), NotDone>,
    ) {
        match (self.askers.waiting.remove(&ticket), result) {
            // One that may not join asks again where nothing else goes wrong.
            (Some(Asker::Join(channel, mode, start)), Err(NotDone::Kicked { .. })) => {
                world.join_later(self.me, channel, mode, start);
            }
            (Some(Asker::Attach(channel)), Err(_)) => drop(self.handled_here.remove(&channel)),
            (Some(_), _) => {}
            (None, _) => {
                let id = &self.id;
                world.violated(format!("{id}: an answer to {ticket:?}, which nobody awaits"));
            }
        }
    }

    pub(super) fn order_answered(
        &mut self,
        world: &mut World,
        number: u64,
        node: &NodeId,
        answer: &Answer,
    ) {
        let is_done = matches!(answer, Answer::Done(_));
        if let Err(what) = world.oracle.order_answered(&(self.id.clone(), number), is_done) {
            world.violated(format!("{} hears of {node} about its order: {what}", self.id));
        }
        if !is_done {
            // The file may have failed; it is tried again, as long as it is needed.
            self.readmit(world);
        }
    }

    /// Once there are no faults any more, an operator readmits whoever was kept out.
    pub(super) fn close(&mut self, world: &mut World, closed: &Closed) {
        if world.calm && *closed != Closed::default() {
            let command = Command::Order(self.id.clone(), Task::Readmit);
            world.command_later(self.me, command);
        }
    }

    /// The same, of what holds already.
    pub(super) fn readmit(&mut self, world: &mut World) {
        let closed = self.core.closed().clone();
        self.close(world, &closed);
    }

    /// Whether messages are taken from its program.
    pub(crate) fn admits(&self, channel: &ChannelName) -> bool {
        let closed = self.core.closed();
        closed.out_of(channel).is_none() && closed.draining.is_none()
    }
}
