//! What of an election goes on record.

use std::time::{Duration, Instant};

use crate::message::{NodeId, Term};
use crate::protocol::allowance::Allowance;
use crate::protocol::election::{Notice, Record};

/// Most rows about what an election decided in a minute; what is beyond them is only told. Nobody is to fill the disk by claims.
pub const ROWS_A_MINUTE: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// What is to be kept on record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Audited {
    /// What elections decide.
    pub elections: bool,
    /// Which states masters set.
    pub states: bool,
}

/// A row of the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who decided, or whom it is about.
    pub subject: NodeId,
    pub term: Option<Term>,
    pub detail: String,
}

#[derive(Debug)]
pub(super) struct Journal {
    audited: Audited,
    rows: Allowance,
}

impl Journal {
    pub(super) fn new(audited: Audited) -> Self {
        Self { audited, rows: Allowance::new(ROWS_A_MINUTE, MINUTE) }
    }

    pub(super) fn of_notice(
        &mut self,
        now: Instant,
        me: &NodeId,
        notice: &Notice,
    ) -> Option<Entry> {
        let entry = told(me, notice)?;
        (self.audited.elections && self.rows.take(now)).then_some(entry)
    }

    /// What of a writing goes on record, `by` being the master.
    pub(super) fn of_state(&self, by: &NodeId, record: &Record) -> Option<Entry> {
        let state = record.state.as_ref().filter(|_| self.audited.states)?;
        let detail = format!("state {}, {} bytes", state.version, state.json.len());
        Some(Entry { subject: by.clone(), term: Some(state.version.term), detail })
    }
}

fn told(me: &NodeId, notice: &Notice) -> Option<Entry> {
    let (subject, term, detail) = match notice {
        Notice::BecameMaster { term, reason, .. } => {
            (me, Some(*term), format!("became master, {reason}"))
        }
        Notice::BecameFollower { term, reason } => {
            (me, Some(*term), format!("is master no longer: {reason}"))
        }
        Notice::MasterChanged { master, term } => (master, Some(*term), "is master".to_owned()),
        Notice::MasterLost { master, term } => {
            (master, Some(*term), "is not heard any more".to_owned())
        }
        Notice::SplitSeen { other, term } => {
            (other, Some(*term), "is master too: two sides have met".to_owned())
        }
        Notice::OtherVoters { node } => (node, None, "names other voters".to_owned()),
        Notice::StateChanged { .. } => return None,
    };
    Some(Entry { subject: subject.clone(), term, detail })
}
