//! What comes from other nodes: whose business it is.

use super::{Core, Effect, Outside, Port, Turn};
use crate::message::NodeId;
use crate::protocol::frame::Frame;
use crate::protocol::leadership::Leadership;
use crate::protocol::membership;

impl<B: Clone, C> Core<B, C> {
    pub(super) fn frame<O>(
        &mut self,
        turn: &mut Turn<'_, O>,
        (port, from): (Port, NodeId),
        frame: Frame,
    ) where
        O: Outside<Queued = B, Content = C>,
    {
        if *frame.from() != from {
            let reason = format!("a frame that says it is from {}", frame.from());
            return turn.out.push_back(Effect::Refused { from, reason });
        }
        if self.peers.has_stood_back() {
            return;
        }
        match (port, frame) {
            (Port::Message, Frame::Messages(frame)) if frame.to == self.me => {
                let (outside, attempt) = (turn.outside, frame.attempt);
                self.with_inbound(turn, |it, around| {
                    it.messages(around, frame, |source, message| {
                        outside.open(source, message, attempt)
                    });
                });
            }
            (Port::Ack, Frame::Answer(answer)) if answer.to == self.me => {
                self.peers.spoke(turn.at.now, &answer.from);
                self.with_outbound(turn, |it, around| it.answered(around, answer));
            }
            (Port::Keepalive, Frame::Keepalive(keepalive)) => {
                self.meet(turn, membership::Event::Keepalive(keepalive));
            }
            (Port::Management { all: false }, Frame::Hello { nonce, keepalive }) => {
                self.meet(turn, membership::Event::Hello { nonce, keepalive });
            }
            (Port::Management { all: false }, Frame::Welcome { nonce, keepalive }) => {
                self.meet(turn, membership::Event::Welcome { nonce, keepalive });
            }
            (Port::Election, Frame::Election(frame)) => {
                self.with_leadership(turn, |it, around| it.heard(around, frame));
            }
            (Port::Management { all }, Frame::Query(mut query)) => {
                // One question to all is not to bring all states.
                query.state &= !all;
                self.with_admin(turn, |it, around| it.queried(around, query));
            }
            (Port::Order, Frame::Order(order)) if order.to == self.me => {
                let counted = turn.at.counted;
                let obeys = |it: &Leadership| it.obeys(counted, &order.from, order.term);
                let by_master = self.leadership.as_ref().is_some_and(obeys);
                self.with_admin(turn, |it, around| it.ordered(around, order, by_master));
            }
            // An operator on this machine asks under our name, and hears it as well.
            (Port::Management { all: false }, Frame::Report(report)) => {
                self.with_admin(turn, |it, around| it.reported(around, report));
            }
            (Port::Management { all: false }, Frame::Outcome(outcome)) => {
                self.with_admin(turn, |it, around| it.outcome_came(around, outcome));
            }
            _ => {
                let reason = "a frame on a subject where it has no business".to_owned();
                turn.out.push_back(Effect::Refused { from, reason });
            }
        }
    }
}
