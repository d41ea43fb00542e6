//! What must be durable before it is said.

use std::time::{Duration, Instant};

use super::{Action, Deposed, Election, Mode, Notice, Role, Said, State, Term, Version};
use crate::message::NodeId;

/// Pause before a writing that failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the file holds of the election; all of it at zero in a new file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durable {
    pub term: Term,
    /// For whom this node voted in that term.
    pub vote: Option<NodeId>,
    pub state: State,
}

/// What is to be in the file next. Written in one transaction.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub term: Term,
    pub vote: Option<NodeId>,
    /// None: as it is.
    pub state: Option<State>,
}

impl Durable {
    /// The file after this was written.
    pub fn write(&mut self, record: Record) {
        (self.term, self.vote) = (record.term, record.vote);
        if let Some(state) = record.state {
            self.state = state;
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) term: Term,
    pub(super) vote: Option<NodeId>,
    pub(super) version: Version,
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    /// What is surely there; none after a failure, until the next success.
    pub(super) holds: Option<Written>,
    pub(super) writing: Option<(u64, Written)>,
    pub(super) retry_at: Option<Instant>,
    pub(super) seq: u64,
}

/// Answers that wait for the disk. All of them are about the present term.
#[derive(Debug, Clone, Default)]
pub(super) struct Owed {
    pub(super) vote: Option<NodeId>,
    /// The master, and the number of its beat.
    pub(super) beat: Option<(NodeId, u64)>,
    /// The master whose state came.
    pub(super) stored: Option<NodeId>,
}

impl Disk {
    pub(super) fn holding(term: Term, vote: Option<NodeId>, version: Version) -> Self {
        let holds = Some(Written { term, vote, version });
        Self { holds, writing: None, retry_at: None, seq: 0 }
    }

    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    pub(super) fn is_sound(&self) -> bool {
        self.holds.is_some()
    }

    /// No state that was written, or is being written, counts as newer than this.
    pub(super) fn doubt(&mut self, most: Version) {
        let writing = self.writing.iter_mut().map(|(_, written)| written);
        for written in self.holds.iter_mut().chain(writing) {
            written.version = written.version.min(most);
        }
    }

    /// The state that is surely on disk.
    pub(super) fn version(&self) -> Option<Version> {
        self.holds.as_ref().map(|written| written.version)
    }
}

impl Election {
    /// What the file holds is perhaps not on its disk: the process that wrote it may have been killed before its fsync, and whoever reads the
    /// file afterwards does not see that. It is written once more, before anything is said that rests on it.
    pub fn unsure(mut self) -> Self {
        // Nothing was promised in a new file.
        let promised = self.term > Term::ZERO || self.state.version > Version::default();
        self.disk.holds.take_if(|_| promised);
        self
    }

    fn wanted(&self) -> Written {
        Written { term: self.term, vote: self.vote.clone(), version: self.state.version }
    }

    /// Whether our term is on disk, and with it that nothing of an earlier one is obeyed after a crash.
    fn term_is_durable(&self) -> bool {
        self.disk.holds.as_ref().is_some_and(|written| written.term == self.term)
    }

    pub(super) fn vote_is_durable(&self, node: &NodeId) -> bool {
        self.term_is_durable()
            && self.disk.holds.as_ref().is_some_and(|written| written.vote.as_ref() == Some(node))
    }

    /// Has what changed written, one writing at a time: what changes meanwhile goes with the next.
    pub(super) fn save(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.disk.writing.is_some() || self.disk.retry_at.is_some_and(|at| now < at) {
            return;
        }
        let wanted = self.wanted();
        if self.disk.holds.as_ref() == Some(&wanted) {
            return;
        }
        self.disk.retry_at = None;
        self.disk.seq += 1;
        let same_state = self.disk.version() == Some(wanted.version);
        let record = Record {
            term: wanted.term,
            vote: wanted.vote.clone(),
            state: (!same_state).then(|| self.state.clone()),
        };
        self.disk.writing = Some((self.disk.seq, wanted));
        out.push(Action::Persist { seq: self.disk.seq, record });
    }

    pub(super) fn persisted(&mut self, now: Instant, seq: u64, out: &mut Vec<Action>) {
        let Some((_, written)) = self.disk.writing.take_if(|(number, _)| *number == seq) else {
            return;
        };
        let before = self.disk.holds.replace(written.clone());
        if before.is_none() && matches!(self.settings.mode, Mode::Quorum { .. }) && self.is_alone()
        {
            // There is nobody to wait for.
            self.campaign_at = now;
        }
        if before.is_some_and(|before| before.version != written.version)
            && !matches!(self.role, Role::Master(_))
        {
            out.push(Action::Notice(Notice::StateChanged { version: written.version }));
        }
        self.settle(now, out);
    }

    /// Nobody knows what the file holds: nothing is said that rests on it, until it was written anew.
    pub(super) fn persist_failed(&mut self, now: Instant, seq: u64, out: &mut Vec<Action>) {
        if self.disk.writing.take_if(|(number, _)| *number == seq).is_none() {
            return;
        }
        self.disk.holds = None;
        self.disk.retry_at = Some(now + AGAIN);
        self.step_down(now, Deposed::Disk, out);
        self.role = Role::Follower;
    }

    /// Says what waited for the disk.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Action>) {
        if let Some(node) = self.owed.vote.take() {
            if self.vote_is_durable(&node) {
                self.say(Said::VoteAnswer { to: node, granted: true }, out);
            } else {
                self.owed.vote = Some(node);
            }
        }
        if let Some(version) = self.disk.version().filter(|_| self.term_is_durable()) {
            if let Some((to, number)) = self.owed.beat.take() {
                self.say(Said::BeatAnswer { to, number, version }, out);
            }
            if version.term == self.term
                && let Some(to) = self.owed.stored.clone()
            {
                self.say(Said::StateStored { to, version }, out);
                if version == self.state.version {
                    self.owed.stored = None;
                }
            }
        }
        self.own_vote_written(now, out);
        self.count(now, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by the simulation: what was on disk was older, and was called newer.
    #[test]
    fn a_state_that_is_in_doubt_counts_as_older_and_an_older_one_as_it_is() {
        let term = |number| Term::new(number).expect("a low one");
        let version = |number| Version::first_of(term(number));
        let mut disk = Disk::holding(term(4), None, version(2));
        let next = Written { term: term(4), vote: None, version: version(4) };
        disk.writing = Some((1, next));
        disk.doubt(version(3));
        assert_eq!(disk.version(), Some(version(2)));
        assert_eq!(disk.writing.map(|(_, written)| written.version), Some(version(3)));
    }
}
