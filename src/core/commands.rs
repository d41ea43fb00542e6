//! What programs ask of their node.

use super::{Command, Core, Effect, Job, NotDone, Output, Outside, Turn};
use crate::message::ChannelName;
use crate::protocol::leadership::Ticket;
use crate::protocol::looks::Looks;
use crate::protocol::outbound::Outbound;
use crate::protocol::peers::Refused;

impl<B: Clone, C> Core<B, C> {
    pub(super) fn command<O>(&mut self, turn: &mut Turn<'_, O>, command: Command)
    where
        O: Outside<Queued = B, Content = C>,
    {
        match command {
            Command::Join { channel, how, ticket } => match self.may_join(&channel) {
                Ok(()) => turn.out.push_back(Effect::Job(Job::Join { channel, how, ticket })),
                Err(why) => {
                    turn.out.push_back(Effect::Output(Output::Channel { ticket, result: Err(why) }))
                }
            },
            Command::Leave { channel, ticket } => {
                turn.out.push_back(match self.peers.has_joined(&channel) {
                    true => Effect::Job(Job::Leave { channel, ticket: Some(ticket) }),
                    false => Effect::Output(Output::Channel {
                        ticket,
                        result: Err(NotDone::Refused(Refused::NotJoined)),
                    }),
                });
            }
            Command::Pause { channel, paused, ticket } => {
                let result = self.with_peers(turn, |it, around| it.pause(around, &channel, paused));
                channel_done(turn, ticket, result);
            }
            Command::Attach { channel, consumer, ticket } => {
                let result =
                    self.with_peers(turn, |it, around| it.attach(around, &channel, consumer));
                channel_done(turn, ticket, result);
            }
            Command::Detach { channel, consumer } => {
                self.with_peers(turn, |it, around| it.detach(around, &channel, consumer));
            }
            Command::Reasons => self.with_looks(turn, Looks::ask),
            Command::Record => self.with_outbound(turn, Outbound::record),
            Command::Forget { node, ticket } => {
                self.outbound.stand_still(node.clone());
                turn.out.push_back(Effect::Job(Job::Forget { node, ticket: Some(ticket) }));
            }
            Command::Purge { node, channel, ticket } => {
                self.outbound.stand_still(node.clone());
                turn.out.push_back(Effect::Job(Job::Purge { node, channel, ticket }));
            }
            Command::Order { number, to, task, within } => {
                self.with_admin(turn, |it, around| it.give(around, number, to, task, within));
            }
            Command::Ask { number, to, within } => {
                self.with_admin(turn, |it, around| it.ask_about(around, number, to, within));
            }
            Command::SetState { change, ticket } => {
                self.with_leadership(turn, |it, around| it.set_state(around, ticket, change));
            }
            Command::HandOver { to, ticket } => {
                self.with_leadership(turn, |it, around| it.hand_over(around, ticket, to));
            }
            Command::Registered(moment) => {
                self.with_leadership(turn, |it, around| it.registered(around, moment));
            }
            Command::Stop { within } => {
                let elects = self.leadership.is_some();
                self.with_lifecycle(turn, |it, around| it.stop(around, within, elects));
            }
        }
    }

    fn may_join(&self, channel: &ChannelName) -> Result<(), NotDone> {
        match self.admin.closed().out_of(channel) {
            Some(by) => Err(NotDone::Kicked { by: by.clone() }),
            None => self.peers.may_join(channel).map_err(NotDone::Refused),
        }
    }
}

fn channel_done<O: Outside>(turn: &mut Turn<'_, O>, ticket: Ticket, result: Result<(), Refused>) {
    turn.out.push_back(Effect::Output(Output::Channel {
        ticket,
        result: result.map_err(NotDone::Refused),
    }));
}
