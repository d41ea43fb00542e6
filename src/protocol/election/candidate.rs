//! Standing for election, and voting.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Accession, Action, Deposed, Election, Master, Mode, Role, Said, Term, Version};
use crate::message::NodeId;

/// Asking whether we would be elected. Costs nobody a term.
#[derive(Debug, Clone)]
pub(super) struct Asking {
    pub(super) answers: BTreeMap<NodeId, bool>,
    pub(super) until: Instant,
}

/// Asking for votes.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// Our own among them, once it is on disk.
    pub(super) votes: BTreeSet<NodeId>,
    /// So many are needed.
    pub(super) need: usize,
    pub(super) until: Instant,
    /// The term that its master gave up for us.
    pub(super) handoff: Option<Term>,
    /// We are master meanwhile, in an earlier term.
    pub(super) reign: Option<Box<Master>>,
}

impl Election {
    pub(super) fn may_campaign(&self, now: Instant) -> bool {
        // Without a quorum a node that hears nobody is a side of its own.
        let reaches = self.link || self.is_alone() || self.settings.mode == Mode::Visible;
        self.is_candidate()
            && reaches
            && self.quiet_until <= now
            && !self.hears_a_master(now)
            && self.disk.is_sound()
            && self.parting.is_none()
    }

    /// So many votes elect: with a list of voters always the same number.
    pub(super) fn need(&self, seen: usize) -> usize {
        match &self.settings.mode {
            Mode::Quorum { voters } => voters.len() / 2 + 1,
            Mode::Visible => seen / 2 + 1,
        }
    }

    /// Asks for pre-votes.
    pub(super) fn ask(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Some(proposed) = self.term.next() else { return };
        self.round += 1;
        let quarter = self.settings.times.beat / 4;
        let until = now + quarter + self.jitter.up_to(quarter);
        self.role = Role::Asking(Asking { answers: BTreeMap::new(), until });
        if self.is_alone() {
            self.stand(now, 1, None, out);
        } else {
            let (round, version) = (self.round, self.state.version);
            self.say(Said::PreVote { round, proposed, version }, out);
        }
    }

    pub(super) fn ask_or_wait(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.may_campaign(now) {
            self.ask(now, out);
        } else {
            self.role = Role::Follower;
            self.wait_for_a_master(now);
        }
    }

    pub(super) fn asked_long_enough(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Asking(asking) = &self.role else { return };
        let granted = asking.answers.values().filter(|granted| **granted).count() + 1;
        // Whoever has not answered is not seen.
        let need = self.need(asking.answers.len() + 1);
        if granted >= need && self.may_campaign(now) {
            self.stand(now, need, None, out);
        } else {
            self.ask_or_wait(now, out);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one frame")]
    pub(super) fn pre_vote(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        round: u64,
        proposed: Term,
        version: Version,
        out: &mut Vec<Action>,
    ) {
        if !self.is_voter() {
            return;
        }
        // Nobody who hears a master helps to unseat it, and our own lease is as good.
        let granted = proposed > self.term
            && version >= self.state.version
            && self.office().is_none()
            && !self.hears_a_master(now)
            && self.quiet_until <= now;
        if granted && matches!(self.role, Role::Asking(_)) && self.yields_to(&from, version) {
            self.role = Role::Follower;
            self.campaign_at = self.next_try(now);
        }
        self.say(Said::PreVoteAnswer { to: from, round, granted }, out);
        // A node with a higher term could never follow us.
        if term > self.term && self.office().is_some() {
            self.renew(now, term, out);
        }
    }

    /// Of two that stand at the same time one tries again later, so that they do not meet again.
    fn yields_to(&self, rival: &NodeId, version: Version) -> bool {
        (version, rival) > (self.state.version, &self.me)
    }

    fn next_try(&mut self, now: Instant) -> Instant {
        let beat = self.settings.times.beat;
        now + beat + self.jitter.up_to(beat / 2)
    }

    pub(super) fn pre_vote_answer(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        round: u64,
        granted: bool,
        out: &mut Vec<Action>,
    ) {
        if !granted && term > self.term {
            self.higher_term(now, term, out);
            return;
        }
        let Role::Asking(asking) = &mut self.role else { return };
        if round != self.round {
            return;
        }
        asking.answers.insert(from, granted);
        let answers = asking.answers.len();
        let granted = asking.answers.values().filter(|granted| **granted).count() + 1;
        let enough = match &self.settings.mode {
            Mode::Quorum { .. } => granted >= self.need(0),
            Mode::Visible => answers >= self.visible.len(),
        };
        if enough {
            self.asked_long_enough(now, out);
        }
    }

    /// Takes the next term and votes for itself; asks the others once that is on disk.
    pub(super) fn stand(
        &mut self,
        now: Instant,
        need: usize,
        handoff: Option<Term>,
        out: &mut Vec<Action>,
    ) {
        let Some(term) = self.term.next() else { return };
        let reign = match std::mem::replace(&mut self.role, Role::Follower) {
            Role::Master(master) => Some(Box::new(master)),
            Role::Standing(standing) => standing.reign,
            _ => None,
        };
        self.adopt(term);
        self.vote = Some(self.me.clone());
        let until = now + self.settings.times.lost_after;
        let votes = BTreeSet::new();
        self.role = Role::Standing(Standing { votes, need, until, handoff, reign });
        self.save(now, out);
    }

    /// Our own vote counts, and is told, once it is on disk.
    pub(super) fn own_vote_written(&mut self, now: Instant, out: &mut Vec<Action>) {
        let durable = self.vote_is_durable(&self.me);
        let Role::Standing(standing) = &mut self.role else { return };
        if !durable || standing.votes.contains(&self.me) {
            return;
        }
        standing.votes.insert(self.me.clone());
        self.ask_for_votes(now, out);
        self.win(now, out);
    }

    fn ask_for_votes(&mut self, now: Instant, out: &mut Vec<Action>) {
        let half = self.settings.times.beat / 2;
        let until = now + half + self.jitter.up_to(half);
        let version = self.state.version;
        let Role::Standing(standing) = &mut self.role else { return };
        standing.until = until;
        if !standing.votes.contains(&self.me) {
            return;
        }
        let handoff = standing.handoff;
        self.say(Said::VoteRequest { version, handoff }, out);
    }

    pub(super) fn stood_long_enough(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Standing(standing) = &self.role else { return };
        if standing.reign.is_some() {
            // The lease of the earlier term says when to give up.
            self.ask_for_votes(now, out);
            return;
        }
        self.ask_or_wait(now, out);
    }

    pub(super) fn vote_request(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        version: Version,
        handoff: Option<Term>,
        out: &mut Vec<Action>,
    ) {
        if !self.is_voter() {
            return;
        }
        if term < self.term {
            self.refused.stale += 1;
            self.say(Said::VoteAnswer { to: from, granted: false }, out);
            return;
        }
        if self.office().is_some() {
            if term > self.term {
                self.renew(now, term, out);
            }
            return;
        }
        if !self.may_vote(now, term, handoff) {
            return;
        }
        if term > self.term {
            self.adopt(term);
            self.role = Role::Follower;
        }
        let free = self.vote.as_ref().is_none_or(|vote| *vote == from);
        if !free || version < self.state.version {
            if matches!(self.role, Role::Standing(_)) && self.yields_to(&from, version) {
                let later = self.next_try(now);
                let Role::Standing(standing) = &mut self.role else { return };
                standing.until = standing.until.max(later);
            }
            self.say(Said::VoteAnswer { to: from, granted: false }, out);
            return;
        }
        if self.vote.is_none() {
            self.vote = Some(from.clone());
            self.role = Role::Follower;
        }
        self.wait_for_a_master(now);
        self.owed.vote = Some(from);
        self.settle(now, out);
    }

    /// Not while a master may be in office that counts on us; but where it gave its term up, or takes the next itself, it says so.
    fn may_vote(&self, now: Instant, term: Term, handoff: Option<Term>) -> bool {
        let newest = self.heard.as_ref().map_or(Term::ZERO, |heard| heard.term);
        let given_up = handoff.is_some_and(|of| of < term && newest <= of);
        given_up || (!self.hears_a_master(now) && self.quiet_until <= now)
    }

    pub(super) fn vote_answer(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        granted: bool,
        out: &mut Vec<Action>,
    ) {
        if term > self.term {
            self.higher_term(now, term, out);
            return;
        }
        let Role::Standing(standing) = &mut self.role else { return };
        // Before our own vote is on disk nobody was asked.
        if granted && term == self.term && standing.votes.contains(&self.me) {
            standing.votes.insert(from);
            self.win(now, out);
        }
    }

    fn win(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Standing(standing) = &mut self.role else { return };
        if standing.votes.len() < standing.need {
            return;
        }
        let reason = match standing.handoff {
            _ if standing.need == 1 => Accession::OnlyNode,
            Some(_) => Accession::HandedOver,
            None => Accession::Elected,
        };
        let reign = standing.reign.take();
        self.take_office(now, reason, reign, out);
    }

    /// A voter is ahead of us.
    pub(super) fn higher_term(&mut self, now: Instant, term: Term, out: &mut Vec<Action>) {
        if term <= self.term {
            return;
        }
        if self.is_master(now) {
            self.renew(now, term, out);
        } else if self.office().is_some() || !self.hears_a_master(now) {
            self.step_down(now, Deposed::HigherTerm, out);
            let campaigns = !matches!(self.role, Role::Follower);
            self.adopt(term);
            self.role = Role::Follower;
            if campaigns {
                // It was asked for, and no master is there: once more soon, in a term that they can take.
                self.campaign_at = now + self.jitter.up_to(self.settings.times.beat / 4);
            }
        }
    }

    /// A master that is in office takes a term above one that a voter has already, so that this voter can follow it. It stays in office
    /// meanwhile: whoever votes for it keeps what it promised in the earlier term.
    pub(super) fn renew(&mut self, now: Instant, above: Term, out: &mut Vec<Action>) {
        if !self.is_master(now) {
            self.higher_term(now, above, out);
            return;
        }
        let Some(office) = self.office() else { return };
        let standing = matches!(&self.role, Role::Standing(_));
        if standing && above <= self.term {
            return;
        }
        if above.next().is_none() {
            return;
        }
        if above > self.term {
            self.adopt(above);
        }
        let need = self.need(self.visible.len() + 1);
        self.stand(now, need, Some(office), out);
    }
}
