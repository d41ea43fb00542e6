//! What others want to know of the election.

use std::time::Instant;

use super::Leadership;
use crate::message::{NodeId, Term};
use crate::protocol::election::Mode;
use crate::protocol::peers::Peers;
use crate::protocol::report::{ElectionInfo, ReportedState, Role};
use crate::reason::Reason;

/// Largest state that goes into a report.
const REPORTED_BYTES: usize = 256 * 1024;

impl Leadership {
    fn voters(&self) -> &[NodeId] {
        match &self.mode {
            Mode::Quorum { voters } => voters,
            Mode::Visible => &[],
        }
    }

    /// What a report says of it.
    pub fn info(&self, now: Instant) -> ElectionInfo {
        let election = &self.election;
        let (master, master_term) = election.master(now).unzip();
        let role = match election.is_voter() {
            _ if election.is_master(now) => Role::Master,
            true => Role::Voter,
            false => Role::Observer,
        };
        let state = election.state();
        ElectionInfo {
            voters: self.voters().to_vec(),
            role,
            term: election.term(),
            master,
            master_term,
            state: state.version,
            state_bytes: state.json.len() as u64,
            refused: election.refused(),
        }
    }

    /// The newest state, where a report has room for it.
    pub fn state_to_report(&self) -> Option<ReportedState> {
        let state = self.election.state();
        let json = Some(&state.json).filter(|json| json.len() <= REPORTED_BYTES)?;
        Some(ReportedState { version: state.version, value: serde_json::from_slice(json).ok()? })
    }

    /// Whether too few voters are there to elect a master, where there is none.
    pub fn stall(&self, now: Instant, peers: &Peers) -> Option<Reason> {
        if self.mode == Mode::Visible || self.election.master(now).is_some() {
            return None;
        }
        let voters = self.voters();
        let is_there = |voter: &&NodeId| **voter == self.me || peers.is_online(voter);
        let (online, needed) = (voters.iter().filter(is_there).count(), voters.len() / 2 + 1);
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        (online < needed).then(|| Reason::NoQuorum {
            online: wide(online),
            voters: wide(voters.len()),
            needed: wide(needed),
        })
    }

    /// Whether orders of this node are a master's.
    pub fn obeys(&self, now: Instant, node: &NodeId, term: Option<Term>) -> bool {
        term.is_some_and(|term| self.election.commands(now, node, term))
    }

    /// The term in which this node is master at this moment.
    pub fn term_in_office(&self, now: Instant) -> Option<Term> {
        self.election.token(now).map(|token| token.term)
    }
}
