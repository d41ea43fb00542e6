//! Being master: beats, the lease, the state and who has it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use super::handoff::Handing;
use super::{
    Accession, Action, Beat, Deposed, Election, MAX_WAITING, Mode, Notice, Role, Said, SetError,
    State, Term, Version,
};
use crate::message::NodeId;

#[derive(Debug, Clone)]
pub(super) struct Master {
    pub(super) term: Term,
    pub(super) reason: Accession,
    pub(super) since: Instant,
    /// A majority has the state with which it took office, and its lease runs.
    pub(super) ready: bool,
    /// The numbers of the beats whose answers still extend the lease, and when they were sent.
    pub(super) beats: VecDeque<(u64, Instant)>,
    pub(super) number: u64,
    pub(super) next_beat: Instant,
    pub(super) answers: BTreeMap<NodeId, Answer>,
    /// The newest state that enough nodes have on disk.
    pub(super) stored: Option<Version>,
    /// Calls of `set_state`, and the version that each of them waits for.
    pub(super) waiting: VecDeque<(u64, Version)>,
    pub(super) pushed: Option<(Version, Instant)>,
    pub(super) handing: Option<Handing>,
    /// The earlier term in which we are still in office, and until when.
    pub(super) carried: Option<(Term, Instant)>,
}

/// What a voter has answered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Answer {
    /// When the newest beat that it answered was sent.
    pub(super) sent: Option<Instant>,
    pub(super) version: Version,
}

impl Master {
    /// When something is to be done.
    pub(super) fn due(&self) -> Instant {
        self.handing.as_ref().map_or(self.next_beat, |handing| handing.until.min(self.next_beat))
    }

    /// In which term it acts as master, as long as its lease runs.
    fn acts_in(&self) -> Option<Term> {
        if self.ready { Some(self.term) } else { self.carried.map(|(term, _)| term) }
    }
}

impl Election {
    /// Our reign, also while we stand for a higher term.
    pub(super) fn held(&self) -> Option<&Master> {
        match &self.role {
            Role::Master(master) => Some(master),
            Role::Standing(standing) => standing.reign.as_deref(),
            _ => None,
        }
    }

    /// The term in which we were elected, ready or not.
    pub(super) fn office(&self) -> Option<Term> {
        self.held().map(|master| master.term)
    }

    /// The term in which we are master at this moment.
    pub(super) fn term_in_office(&self, now: Instant) -> Option<Term> {
        let master = self.held()?;
        self.end_of(master).is_none_or(|end| now < end).then(|| master.acts_in())?
    }

    /// The last beat that a majority answered, by its sending.
    fn majority_heard(&self, master: &Master) -> Option<Instant> {
        let Mode::Quorum { voters } = &self.settings.mode else {
            // Nobody is asked. What counts is that we ran.
            return master.beats.back().map(|(_, sent)| *sent);
        };
        let others = voters.len() / 2;
        let mut sent: Vec<Instant> = master.answers.values().filter_map(|a| a.sent).collect();
        sent.sort_unstable_by(|a, b| b.cmp(a));
        sent.get(others.checked_sub(1)?).copied()
    }

    /// When this reign ends, if nothing more is heard; never, for the only voter.
    fn end_of(&self, master: &Master) -> Option<Instant> {
        if matches!(self.settings.mode, Mode::Quorum { .. }) && self.is_alone() {
            return None;
        }
        let lease = self.settings.times.lease();
        let end = self.majority_heard(master).unwrap_or(master.since) + lease;
        match master.carried.filter(|_| !master.ready) {
            Some((_, until)) => Some(until.min(end)),
            None => Some(end),
        }
    }

    /// When this node is master no longer, if nothing more is heard.
    pub fn lease_until(&self) -> Option<Instant> {
        self.end_of(self.held()?)
    }

    pub(super) fn check_lease(&mut self, now: Instant, out: &mut Vec<Action>) {
        if self.lease_until().is_some_and(|end| end <= now) {
            self.step_down(now, Deposed::LeaseOver, out);
        }
    }

    pub(super) fn take_office(
        &mut self,
        now: Instant,
        reason: Accession,
        reign: Option<Box<Master>>,
        out: &mut Vec<Action>,
    ) {
        let carried = reign.as_ref().and_then(|reign| {
            let until = self.end_of(reign).unwrap_or(now + self.settings.times.lost_after);
            Some((reign.acts_in()?, until))
        });
        let version = Version::first_of(self.term);
        let (waiting, handing) = reign.map(|reign| (reign.waiting, reign.handing)).unzip();
        let waiting = waiting.into_iter().flatten().map(|(ticket, _)| (ticket, version)).collect();
        // What was found becomes this term's own: only what a master of this term has written counts as stored by a majority.
        self.state.version = version;
        self.heard = None;
        self.told = None;
        self.role = Role::Master(Master {
            term: self.term,
            reason,
            since: now,
            ready: false,
            beats: VecDeque::new(),
            number: 0,
            next_beat: now,
            answers: BTreeMap::new(),
            stored: None,
            waiting,
            pushed: None,
            handing: handing.flatten(),
            carried,
        });
        self.reign(now, out);
        self.push(now, out);
    }

    pub(super) fn step_down(&mut self, now: Instant, reason: Deposed, out: &mut Vec<Action>) {
        let reign = match std::mem::replace(&mut self.role, Role::Follower) {
            Role::Master(master) => master,
            Role::Standing(mut standing) => match standing.reign.take() {
                Some(master) => *master,
                None => {
                    self.role = Role::Standing(standing);
                    return;
                }
            },
            other => {
                self.role = other;
                return;
            }
        };
        for (ticket, _) in &reign.waiting {
            out.push(Action::SetFailed { ticket: *ticket, why: SetError::Unknown });
        }
        self.nobody_took_over |=
            reign.handing.is_some() && !matches!(reason, Deposed::HandedOver { .. });
        if let Some(term) = reign.acts_in() {
            out.push(Action::Notice(Notice::BecameFollower { term, reason }));
        }
        self.told = None;
        self.wait_for_a_master(now);
    }

    /// What the master does by the clock.
    pub(super) fn reign(&mut self, now: Instant, out: &mut Vec<Action>) {
        let state = self.state.version;
        let times = self.settings.times;
        let Role::Master(master) = &mut self.role else { return };
        if master.next_beat <= now {
            master.number += 1;
            while master.beats.front().is_some_and(|(_, sent)| *sent + times.lease() <= now) {
                master.beats.pop_front();
            }
            master.beats.push_back((master.number, now));
            master.next_beat = now + times.beat;
            let beat = Beat {
                number: master.number,
                version: state,
                ready: master.ready,
                handing_over: master.handing.is_some(),
            };
            self.say(Said::Beat(beat), out);
        }
        self.try_to_hand_over(now, out);
    }

    /// Beats before its time, though never so often that others could make us flood the network.
    pub(super) fn beat_soon(&mut self, now: Instant) {
        let least = self.settings.times.beat / 10;
        let Role::Master(master) = &mut self.role else { return };
        let then = master.beats.back().map_or(now, |(_, sent)| now.max(*sent + least));
        master.next_beat = master.next_beat.min(then);
    }

    pub(super) fn answered(
        &mut self,
        now: Instant,
        from: NodeId,
        term: Term,
        number: Option<u64>,
        version: Version,
        out: &mut Vec<Action>,
    ) {
        let ours = self.state.version;
        let Role::Master(master) = &mut self.role else { return };
        if term != master.term {
            self.refused.stale += u64::from(term < master.term);
            return;
        }
        let answer = master.answers.entry(from).or_default();
        answer.version = answer.version.max(version);
        let beat = master.beats.iter().find(|(beat, _)| Some(*beat) == number);
        answer.sent = answer.sent.max(beat.map(|(_, sent)| *sent));
        self.count(now, out);
        if self.settings.mode == Mode::Visible && version > ours {
            // It comes from the other side of a partition; ours has to be above it.
            self.renew(now, term, out);
        }
    }

    /// How far the state is stored, and what follows from that.
    pub(super) fn count(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Master(master) = &self.role else { return };
        let term = master.term;
        let own = self.disk.version();
        let others = master.answers.values().map(|answer| Some(answer.version));
        let (mut versions, need): (Vec<Version>, usize) = match &self.settings.mode {
            Mode::Quorum { voters } => {
                (others.chain([own]).flatten().collect(), voters.len() / 2 + 1)
            }
            Mode::Visible => (own.into_iter().collect(), 1),
        };
        versions.retain(|version| version.term == term);
        versions.sort_unstable_by(|a, b| b.cmp(a));
        let stored = versions.get(need - 1).copied();
        let leased = self.is_alone() || self.majority_heard(master).is_some();
        let Role::Master(master) = &mut self.role else { return };
        master.stored = stored;
        while let Some(&(ticket, version)) = master.waiting.front()
            && stored >= Some(version)
        {
            master.waiting.pop_front();
            out.push(Action::SetDone { ticket, version });
        }
        if stored.is_some() && leased && !master.ready {
            master.ready = true;
            let carried = master.carried.take();
            let reason = master.reason;
            self.announce(term, reason, carried.is_some(), out);
            // Others hear at once that there is a master.
            if let Role::Master(master) = &mut self.role {
                master.next_beat = now;
            }
        }
        self.push_next(now, out);
        self.reign(now, out);
    }

    fn announce(&self, term: Term, reason: Accession, again: bool, out: &mut Vec<Action>) {
        out.push(Action::Notice(if again {
            Notice::MasterChanged { master: self.me.clone(), term }
        } else {
            Notice::BecameMaster { term, reason, state: self.state.clone() }
        }));
    }

    /// Sends the newest state once the one before is stored, so that many calls share one frame.
    fn push_next(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Master(master) = &self.role else { return };
        let arrived = |(version, _): (Version, Instant)| master.stored >= Some(version);
        let newest = |(version, _): (Version, Instant)| version == self.state.version;
        if master.pushed.is_none_or(|pushed| arrived(pushed) && !newest(pushed)) {
            self.push(now, out);
        }
    }

    /// A node is behind. What was just sent is on its way to it.
    pub(super) fn push_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        let pause = self.settings.times.beat / 4;
        let Role::Master(master) = &self.role else { return };
        if master.pushed.is_none_or(|(_, at)| at + pause <= now) {
            self.push(now, out);
        }
    }

    /// What was said while there was no link was heard by nobody.
    pub(super) fn say_all_again(&mut self, now: Instant, out: &mut Vec<Action>) {
        let Role::Master(master) = &mut self.role else { return };
        master.next_beat = now;
        self.push(now, out);
    }

    fn push(&mut self, now: Instant, out: &mut Vec<Action>) {
        let version = self.state.version;
        let Role::Master(master) = &mut self.role else { return };
        master.pushed = Some((version, now));
        self.say(Said::State(self.state.clone()), out);
    }

    pub(super) fn set_state(
        &mut self,
        now: Instant,
        ticket: u64,
        json: Arc<[u8]>,
        out: &mut Vec<Action>,
    ) {
        let limit = self.settings.max_state_bytes;
        let waiting = self.held().map_or(0, |master| master.waiting.len());
        let why = if !self.is_master(now) {
            Some(SetError::NotMaster { master: self.master(now) })
        } else if self.held().is_some_and(|master| master.handing.is_some()) {
            Some(SetError::HandingOver)
        } else if json.len() > limit {
            Some(SetError::TooLarge { actual: json.len(), limit })
        } else if waiting >= MAX_WAITING {
            Some(SetError::Busy { limit: MAX_WAITING })
        } else {
            None
        };
        if let Some(why) = why {
            out.push(Action::SetFailed { ticket, why });
            return;
        }
        let Version { term, rev } = self.state.version;
        let version = Version { term, rev: rev + 1 };
        self.state = State { version, json };
        let reign = match &mut self.role {
            Role::Master(master) => Some(master),
            Role::Standing(standing) => standing.reign.as_deref_mut(),
            _ => None,
        };
        reign.expect("a master holds office").waiting.push_back((ticket, version));
        self.push_next(now, out);
    }
}
