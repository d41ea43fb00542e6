//! Hearing a master, and keeping its state.

use std::time::Instant;

use super::{
    Action, Beat, Deposed, Election, MAX_STATE_BYTES, Mode, Notice, Role, Said, State, Term,
    Version,
};
use crate::message::NodeId;

/// The master that was heard last.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    pub(super) master: NodeId,
    pub(super) term: Term,
    /// When its last sign of life was received.
    pub(super) at: Instant,
    pub(super) ready: bool,
    /// It said itself that it is master no longer.
    pub(super) gone: bool,
}

impl Election {
    /// When a master that is not heard any more counts as lost.
    pub(super) fn lost_at(&self, heard: &Heard) -> Instant {
        if heard.gone { heard.at } else { heard.at + self.settings.times.lost_after }
    }

    /// Whether a master may be in office that counts on us not to vote for another.
    pub(super) fn hears_a_master(&self, now: Instant) -> bool {
        self.heard.as_ref().is_some_and(|heard| now < self.lost_at(heard))
    }

    pub(super) fn heard_master(&self, now: Instant) -> Option<(NodeId, Term)> {
        let heard = self.heard.as_ref().filter(|heard| heard.ready && now < self.lost_at(heard))?;
        Some((heard.master.clone(), heard.term))
    }

    /// Whether this node can be elected beside us.
    pub fn may_lead(&self, node: &NodeId) -> bool {
        *node != self.me && self.has_a_say(node)
    }

    /// Whether what this node orders as master of this term is to be obeyed: nobody later is known, and an election may have led there.
    pub fn commands(&self, now: Instant, node: &NodeId, term: Term) -> bool {
        let may_be =
            term >= self.term && !self.term.is_far_below(term, self.settings.max_term_jump);
        let later = |(master, in_term): (NodeId, Term)| master == *node || term > in_term;
        may_be && self.has_a_say(node) && self.master(now).is_none_or(later)
    }

    /// From now on we wait this long for a master.
    pub(super) fn wait_for_a_master(&mut self, now: Instant) {
        let times = self.settings.times;
        self.campaign_at = now + times.lost_after + self.jitter.up_to(times.jitter);
    }

    pub(super) fn forget_the_silent(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.hears_a_master(now) || self.office().is_some() {
            return;
        }
        if let Some((master, term)) = self.told.take() {
            out.push(Action::Notice(Notice::MasterLost { master, term }));
        }
    }

    /// A sign of life of a node that says it is master: whether we follow it.
    fn follow(&mut self, now: Instant, from: &NodeId, term: Term, out: &mut Vec<Action>) -> bool {
        if term < self.term {
            self.refused.stale += 1;
            self.met_lower(now, from, term, out);
            return false;
        }
        if term == self.term && self.office() == Some(term) {
            // With a quorum no two are elected in one term.
            out.push(Action::Notice(Notice::SplitSeen { other: from.clone(), term }));
            if *from < self.me {
                self.renew(now, term, out);
                return false;
            }
        }
        // What it said before it gave up can come after that.
        let late = |heard: &Heard| heard.gone && heard.term == term && heard.master == *from;
        if self.heard.as_ref().is_some_and(late) {
            self.refused.stale += 1;
            return false;
        }
        let rival = |heard: &Heard| heard.term == term && *from < heard.master;
        if self.hears_a_master(now) && self.heard.as_ref().is_some_and(rival) {
            self.refused.stale += 1;
            return false;
        }
        if term > self.term {
            self.tell_split(now, from, term, out);
        }
        self.step_down(now, Deposed::HigherTerm, out);
        if term > self.term {
            self.adopt(term);
        }
        self.role = Role::Follower;
        self.wait_for_a_master(now);
        let known = self.heard.take().filter(|heard| heard.term == term && heard.master == *from);
        if known.is_none() && self.settings.mode == Mode::Visible {
            self.doubt_the_state(term);
        }
        let ready = known.is_some_and(|heard| heard.ready);
        let (master, gone) = (from.clone(), false);
        self.heard = Some(Heard { master, term, at: now, ready, gone });
        true
    }

    /// Without a quorum a term may have had two masters, whose states go by the same versions. What did not come from the one that we
    /// follow from now on counts as older than all that it has, on our disk as well.
    fn doubt_the_state(&mut self, term: Term) {
        if self.state.version.term != term {
            return;
        }
        let before = Term::new(term.get().saturating_sub(1)).unwrap_or(Term::ZERO);
        self.state.version = Version::first_of(before);
        self.disk.doubt(self.state.version);
    }

    /// A master of an earlier term: it learns from the present one's beats that it is none, and where there is none, from us, since we
    /// could never follow it.
    fn met_lower(&mut self, now: Instant, from: &NodeId, term: Term, out: &mut Vec<Action>) {
        if self.office().is_some() {
            self.tell_split(now, from, term, out);
            self.beat_soon(now);
        } else if self.is_voter() && !self.hears_a_master(now) {
            self.say(Said::Behind { to: from.clone() }, out);
        }
    }

    /// Without a quorum the other side of a partition comes back with its master, and what one of the two has set is gone.
    fn tell_split(&self, now: Instant, other: &NodeId, term: Term, out: &mut Vec<Action>) {
        if self.settings.mode == Mode::Visible && self.is_master(now) {
            out.push(Action::Notice(Notice::SplitSeen { other: other.clone(), term }));
        }
    }

    pub(super) fn beat(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        beat: Beat,
        out: &mut Vec<Action>,
    ) {
        if !self.follow(now, &from, term, out) {
            return;
        }
        if let Some(heard) = &mut self.heard
            && beat.ready
        {
            heard.ready = true;
            let master = (from.clone(), term);
            if self.told.as_ref() != Some(&master) {
                self.told = Some(master);
                let master = from.clone();
                out.push(Action::Notice(Notice::MasterChanged { master, term }));
            }
            self.taken_over(&from, term, out);
        }
        if self.state.version < beat.version && self.can_have(beat.version, term) {
            let have = self.state.version;
            self.say(Said::StateRequest { to: from.clone(), have }, out);
        }
        // Only voters are counted, and only they promise anything.
        if self.is_voter() {
            self.owed.beat = Some((from, beat.number));
            self.settle(now, out);
        }
    }

    /// A master writes states under its own term only.
    fn can_have(&mut self, version: Version, term: Term) -> bool {
        let can = version.term == term && version.rev <= Term::LAST.get();
        if !can {
            self.refused.malformed += 1;
        }
        can
    }

    pub(super) fn state_came(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        state: State,
        out: &mut Vec<Action>,
    ) {
        // Not by our own limit, which is for states to be set: a master whose state was refused would stay without ever acting.
        if state.json.len() > MAX_STATE_BYTES {
            self.refused.malformed += 1;
            return;
        }
        if !self.can_have(state.version, term) || !self.follow(now, &from, term, out) {
            return;
        }
        if self.state.version < state.version {
            self.state = state;
        }
        if self.is_voter() {
            self.owed.stored = Some(from);
            // What is on disk already is answered at once; `save` has the rest written.
            if self.disk.version() == Some(self.state.version) {
                self.settle(now, out);
            }
        }
    }
}
