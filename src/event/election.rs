//! What happens in an election, as its nodes' monitors are told.

use serde::Serialize;

use crate::message::{NodeId, Term};
use crate::protocol::election::{Accession, Deposed, Notice, Version};

/// Something that happened in the election, as one node saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ElectionEvent {
    /// This node is master.
    BecameMaster {
        /// In which term.
        term: Term,
        /// How.
        reason: Accession,
    },
    /// This node is master no longer.
    BecameFollower {
        /// The term in which it was.
        term: Term,
        /// Why.
        reason: Deposed,
    },
    /// Another node is master, or the same in another term.
    MasterChanged {
        /// Who.
        master: NodeId,
        /// In which term.
        term: Term,
    },
    /// Nobody is master, as far as this node knows.
    MasterLost {
        /// Who was.
        master: NodeId,
        /// In which term.
        term: Term,
    },
    /// The master's new state is on this node's disk.
    StateChanged {
        /// Which one.
        version: Version,
    },
    /// Two masters have met, each of one side of a partition (only with [`Election::Visible`](crate::Election::Visible)).
    SplitSeen {
        /// The other.
        other: NodeId,
        /// Its term.
        term: Term,
    },
    /// A node's settings name other voters than this one's: what is guaranteed rests on equal lists.
    OtherVoters {
        /// Which node.
        node: NodeId,
    },
}

impl From<&Notice> for ElectionEvent {
    fn from(notice: &Notice) -> Self {
        match notice.clone() {
            Notice::BecameMaster { term, reason, .. } => Self::BecameMaster { term, reason },
            Notice::BecameFollower { term, reason } => Self::BecameFollower { term, reason },
            Notice::MasterChanged { master, term } => Self::MasterChanged { master, term },
            Notice::MasterLost { master, term } => Self::MasterLost { master, term },
            Notice::StateChanged { version } => Self::StateChanged { version },
            Notice::SplitSeen { other, term } => Self::SplitSeen { other, term },
            Notice::OtherVoters { node } => Self::OtherVoters { node },
        }
    }
}
