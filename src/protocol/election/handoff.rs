//! Giving mastership up in favour of another node.
//!
//! The master first sees that the other has its state. Then it is master no longer, for good, and only then says so: from that moment
//! others may vote although they have just heard it.

use std::time::Instant;

use super::{Action, Deposed, Election, Role, Said, Term};
use crate::message::NodeId;

/// The master looks for a successor that has its state.
#[derive(Debug, Clone)]
pub(super) struct Handing {
    pub(super) to: Option<NodeId>,
    pub(super) until: Instant,
}

/// It has given up, and waits until the successor is master.
#[derive(Debug, Clone)]
pub(super) struct Parting {
    pub(super) to: NodeId,
    pub(super) term: Term,
    pub(super) again: Instant,
    pub(super) until: Instant,
}

impl Parting {
    pub(super) fn due(&self) -> Instant {
        self.again.min(self.until)
    }
}

impl Election {
    pub(super) fn hand_over(&mut self, now: Instant, to: Option<NodeId>, out: &mut Vec<Action>) {
        let until = now + self.settings.times.handoff;
        if self.parting.is_some() {
            return;
        }
        if let Role::Master(master) = &mut self.role
            && master.ready
        {
            master.handing = Some(Handing { to, until });
            self.beat_soon(now);
            self.try_to_hand_over(now, out);
            // Whoever is still behind has missed it.
            if self.successor(now, None).is_none() {
                self.push_again(now, out);
            }
            return;
        }
        if self.office().is_some() {
            self.resign(now, out);
            self.nobody_took_over = true;
        } else {
            out.push(Action::HandoffDone { to: None });
        }
        if !matches!(self.role, Role::Follower) {
            self.role = Role::Follower;
            self.wait_for_a_master(now);
        }
    }

    /// The voter that has all of the state, and that answered last.
    fn successor(&self, now: Instant, wanted: Option<&NodeId>) -> Option<NodeId> {
        let Role::Master(master) = &self.role else { return None };
        let lease = self.settings.times.lease();
        let fit = master.answers.iter().filter(|(node, answer)| {
            wanted.is_none_or(|wanted| wanted == *node)
                && self.has_a_say(node)
                && answer.version == self.state.version
                && answer.sent.is_some_and(|sent| now < sent + lease)
        });
        fit.max_by_key(|(_, answer)| answer.sent).map(|(node, _)| node.clone())
    }

    pub(super) fn try_to_hand_over(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Master(master) = &self.role else { return };
        let Some(handing) = &master.handing else { return };
        if handing.until <= now || self.is_alone() {
            self.resign(now, out);
            return;
        }
        // Whoever waits for a majority is answered first.
        if master.stored != Some(self.state.version) {
            return;
        }
        let Some(to) = self.successor(now, handing.to.as_ref()) else { return };
        self.step_down(now, Deposed::HandedOver { to: to.clone() }, out);
        let (term, times) = (self.term, self.settings.times);
        let (again, until) = (now + times.beat / 10, now + times.handoff);
        self.parting = Some(Parting { to: to.clone(), term, again, until });
        self.say(Said::Handoff { to }, out);
    }

    fn resign(&mut self, now: Instant, out: &mut Vec<Action>) {
        let elected = matches!(self.role, Role::Master(_));
        self.step_down(now, Deposed::Resigned, out);
        if elected {
            self.say(Said::Resign, out);
        }
    }

    /// What remains to be done after mastership was given up.
    pub(super) fn part(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(parting) = &mut self.parting else { return };
        let pending = parting.term == self.term;
        if parting.until <= now {
            self.parting = None;
            if pending {
                self.say(Said::Resign, out);
            }
            out.push(Action::HandoffDone { to: None });
        } else if parting.again <= now {
            parting.again = now + self.settings.times.beat / 10;
            let to = parting.to.clone();
            if pending {
                self.say(Said::Handoff { to }, out);
            }
        }
    }

    /// A master is in office, in a later term than the one that we gave up.
    pub(super) fn taken_over(&mut self, master: &NodeId, term: Term, out: &mut Vec<Action>) {
        if self.parting.take_if(|parting| parting.term < term).is_some() {
            out.push(Action::HandoffDone { to: Some(master.clone()) });
        }
    }

    /// Whether the master that we hear says this; it is master no longer.
    fn lets_go(&mut self, now: Instant, from: &NodeId, term: Term) -> bool {
        let current = self.term == term;
        let heard = self
            .heard
            .as_mut()
            .filter(|heard| current && heard.term == term && heard.master == *from && !heard.gone);
        let Some(heard) = heard else { return false };
        heard.gone = true;
        heard.at = now;
        true
    }

    pub(super) fn handed(
        &mut self,
        now: Instant,
        from: &NodeId,
        term: Term,
        to: NodeId,
        out: &mut Vec<Action>,
    ) {
        if !self.lets_go(now, from, term) {
            return;
        }
        if to == self.me && self.is_candidate() && self.disk.is_sound() {
            let need = self.need(self.visible.len() + 1);
            self.stand(now, need, Some(term), out);
        } else {
            let beat = self.settings.times.beat;
            self.campaign_at = now + beat + self.jitter.up_to(beat);
        }
    }

    pub(super) fn resigned(&mut self, now: Instant, from: &NodeId, term: Term) {
        if self.lets_go(now, from, term) {
            self.campaign_at = now + self.jitter.up_to(self.settings.times.beat / 4);
        }
    }
}
