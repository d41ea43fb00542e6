//! What became of what the file was to do.

use super::{Answered, Core, Effect, Job, NotDone, Output, Outside, Turn};
use crate::event::Event;
use crate::message::{ChannelName, Mode, StartAt};
use crate::protocol::frame::Frame;
use crate::protocol::leadership::Ticket;
use crate::protocol::lifecycle::Lifecycle;
use crate::protocol::peers::Peers;
use crate::protocol::report::{About, Report};
use crate::protocol::{inbox, looks, membership};

impl<B: Clone, C> Core<B, C> {
    pub(super) fn answered<O>(&mut self, turn: &mut Turn<'_, O>, answered: Answered<B>)
    where
        O: Outside<Queued = B, Content = C>,
    {
        match answered {
            Answered::Page { age, request, read } => {
                self.with_outbound(turn, |it, around| it.page_read(around, (age, request), read));
            }
            Answered::Settled { taken } => {
                self.with_outbound(turn, |it, around| it.recorded(around, taken));
            }
            Answered::NewStore { from, store: Some(store) } => {
                turn.out.push_back(Effect::Renewed);
                self.with_outbound(turn, |it, around| it.new_store(around, from, store));
                self.meet(turn, membership::Event::Changed);
            }
            // The next answer that proves it tries again.
            Answered::NewStore { store: None, .. } => self.outbound.no_new_store(),
            Answered::Committed { source, id, taken: true } => {
                self.receive(turn, inbox::Event::Committed { source, id });
            }
            Answered::Committed { source, id, taken: false } => {
                self.receive(turn, inbox::Event::CommitFailed { source, id });
            }
            Answered::Joined { channel, how, ticket, joined_ms: Some(since) } => {
                self.joined(turn, (channel, how, since), ticket);
            }
            Answered::Joined { joined_ms: None, .. } => {}
            Answered::Left { channel, taken } => {
                if taken && self.peers.has_joined(&channel) {
                    self.has_left(turn, channel);
                }
            }
            Answered::Subscribed { node, channel, taken } => {
                self.peers.subscribed(node.clone(), channel.clone(), taken);
                if taken {
                    turn.out.push_back(Effect::Output(Output::Event(Event::ReaderJoined {
                        node,
                        channel,
                    })));
                }
            }
            Answered::Unsubscribed { node, channel, purged } => {
                self.with_outbound(turn, |it, around| it.given_up(around, &node));
                self.peers.unsubscribed(node.clone(), channel.clone(), purged.is_some());
                if let Some(purged) = purged {
                    turn.out.push_back(Effect::Output(Output::AccountsChanged));
                    turn.out.push_back(Effect::Output(Output::Event(Event::ReaderLeft {
                        node,
                        channel,
                        purged,
                    })));
                }
            }
            Answered::Purged { node } => {
                self.with_outbound(turn, |it, around| it.given_up(around, &node));
            }
            Answered::Forgotten { node, pending } => {
                self.with_outbound(turn, |it, around| it.given_up(around, &node));
                let Some(pending) = pending else { return self.peers.not_forgotten(&node) };
                self.with_peers(turn, |it, around| it.forgotten(around, node.clone()));
                turn.out.push_back(Effect::Output(Output::Event(Event::PeerForgotten {
                    node,
                    pending,
                })));
                turn.out.push_back(Effect::Output(Output::AccountsChanged));
            }
            Answered::OrderNoted { order, result } => {
                self.with_admin(turn, |it, around| it.noted(around, *order, result));
            }
            Answered::ElectionSaved { seq, taken } => {
                self.with_leadership(turn, |it, around| it.saved(around, seq, taken));
            }
            Answered::CleanedUp => self.with_lifecycle(turn, Lifecycle::cleaned),
            Answered::Executed { work, done } => {
                self.with_admin(turn, |it, around| it.executed(around, *work, done));
            }
            Answered::Waiting(waiting) => {
                self.with_admin(turn, |it, around| it.waiting(around, waiting));
            }
            Answered::Pending(pending) => {
                self.with_looks(turn, |it, around| it.counted(around, pending));
            }
            Answered::Measured(found) => {
                self.with_looks(turn, |it, around| it.measured(around, found));
            }
            Answered::Expired { took, next_ms } => {
                self.with_looks(turn, |it, around| it.expired(around, took, next_ms));
            }
            Answered::Report { report, pending, about } => {
                self.report(turn, report, pending, about.as_ref());
            }
        }
    }

    /// The file has it as joined.
    fn joined<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (channel, how, since_ms): (ChannelName, (Mode, StartAt), u64),
        ticket: Ticket,
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        if let Some(by) = self.admin.closed().out_of(&channel).cloned() {
            // It was kicked while it joined.
            turn.out.push_back(Effect::Job(Job::Leave { channel, ticket: None }));
            let result = Err(NotDone::Kicked { by });
            return turn.out.push_back(Effect::Output(Output::Channel { ticket, result }));
        }
        self.with_peers(turn, |it, around| it.joined(around, channel, how, since_ms));
        turn.out.push_back(Effect::Output(Output::Channel { ticket, result: Ok(()) }));
    }

    pub(super) fn has_left<O>(&mut self, turn: &mut Turn<'_, O>, channel: ChannelName)
    where
        O: Outside<Queued = B, Content = C>,
    {
        turn.out.push_back(Effect::Detached { channel: channel.clone() });
        self.with_peers(turn, |it: &mut Peers, around| it.left(around, channel));
    }

    fn report<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        mut report: Box<Report>,
        pending: Option<Vec<looks::Pending>>,
        about: Option<&About>,
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        let told = self.with_looks(turn, |it, around| it.report(around, pending, about));
        (report.reasons, report.reasons_left) = told;
        // A frame that the server does not take would be no answer.
        while Frame::Report(report.clone()).encode().len() > self.max_frame && report.cut() {}
        self.with_admin(turn, |it, around| it.report(around, report));
    }
}
