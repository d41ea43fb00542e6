//! What nodes say to each other about the election.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::terms::{State, Version};
use crate::message::{Incarnation, NodeId, Term};

/// One thing that is said. All of it may be broadcast: what is for one node names it.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub from: NodeId,
    pub incarnation: Incarnation,
    /// The sender's.
    pub term: Term,
    /// Differs where the voters in the settings do; 0 without a quorum.
    pub voters: u64,
    pub said: Said,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// The master lives. The answer repeats the number, from which the master knows when it sent the beat.
    Beat(Beat),
    /// A voter heard it, has its term on disk, and votes for nobody else for a while.
    BeatAnswer {
        to: NodeId,
        number: u64,
        version: Version,
    },
    /// What came from `to` is of a term before mine.
    Behind {
        to: NodeId,
    },
    /// Would I be elected?
    PreVote {
        round: u64,
        proposed: Term,
        version: Version,
    },
    PreVoteAnswer {
        to: NodeId,
        round: u64,
        granted: bool,
    },
    /// Elect me in this term. `handoff`: the master of that term gave it up for me.
    VoteRequest {
        version: Version,
        handoff: Option<Term>,
    },
    VoteAnswer {
        to: NodeId,
        granted: bool,
    },
    /// The master's state, whole.
    State(State),
    /// A node has it, or a newer one of the same term, on disk.
    StateStored {
        to: NodeId,
        version: Version,
    },
    /// A node is behind.
    StateRequest {
        to: NodeId,
        have: Version,
    },
    /// The master of this term is no longer master, and `to` shall take over at once.
    Handoff {
        to: NodeId,
    },
    /// The master of this term is no longer master.
    Resign,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Grows with each beat of a term.
    pub number: u64,
    /// The newest state.
    pub version: Version,
    /// A majority has the state with which it took office: it acts as master.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ready: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub handing_over: bool,
}

/// A frame as it stands in JSON: all but the state's bytes, which go behind it. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    from: NodeId,
    incarnation: Incarnation,
    term: Term,
    #[serde(default)]
    voters: u64,
    #[serde(flatten)]
    said: Wire,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
enum Wire {
    Beat(Beat),
    BeatAnswer {
        to: NodeId,
        number: u64,
        version: Version,
    },
    Behind {
        to: NodeId,
    },
    PreVote {
        round: u64,
        proposed: Term,
        version: Version,
    },
    PreVoteAnswer {
        to: NodeId,
        round: u64,
        granted: bool,
    },
    VoteRequest {
        version: Version,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handoff: Option<Term>,
    },
    VoteAnswer {
        to: NodeId,
        granted: bool,
    },
    State {
        version: Version,
        bytes: usize,
    },
    StateStored {
        to: NodeId,
        version: Version,
    },
    StateRequest {
        to: NodeId,
        have: Version,
    },
    Handoff {
        to: NodeId,
    },
    Resign,
}

/// Why a header and what stands behind it are no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("{declared} bytes declared behind the header, {actual} there, limit {limit}")]
    Length { declared: usize, actual: usize, limit: usize },
    #[error("a state that is not JSON")]
    NotJson,
}

impl Frame {
    /// The header, and what goes behind it.
    pub fn strip(self) -> (Header, Option<Arc<[u8]>>) {
        let mut behind = None;
        let said = match self.said {
            Said::Beat(beat) => Wire::Beat(beat),
            Said::BeatAnswer { to, number, version } => Wire::BeatAnswer { to, number, version },
            Said::Behind { to } => Wire::Behind { to },
            Said::PreVote { round, proposed, version } => {
                Wire::PreVote { round, proposed, version }
            }
            Said::PreVoteAnswer { to, round, granted } => {
                Wire::PreVoteAnswer { to, round, granted }
            }
            Said::VoteRequest { version, handoff } => Wire::VoteRequest { version, handoff },
            Said::VoteAnswer { to, granted } => Wire::VoteAnswer { to, granted },
            Said::State(State { version, json }) => {
                let bytes = json.len();
                behind = Some(json);
                Wire::State { version, bytes }
            }
            Said::StateStored { to, version } => Wire::StateStored { to, version },
            Said::StateRequest { to, have } => Wire::StateRequest { to, have },
            Said::Handoff { to } => Wire::Handoff { to },
            Said::Resign => Wire::Resign,
        };
        let Self { from, incarnation, term, voters, .. } = self;
        (Header { from, incarnation, term, voters, said }, behind)
    }
}

impl Header {
    /// The frame of which this is the header, and `behind` what stands behind it.
    ///
    /// # Errors
    /// Other bytes behind it than it declares, more than `limit`, or a state that is not JSON.
    pub fn join(self, behind: &[u8], limit: usize) -> Result<Frame, FrameError> {
        let declared = if let Wire::State { bytes, .. } = self.said { bytes } else { 0 };
        if declared != behind.len() || declared > limit {
            return Err(FrameError::Length { declared, actual: behind.len(), limit });
        }
        let said = match self.said {
            Wire::Beat(beat) => Said::Beat(beat),
            Wire::BeatAnswer { to, number, version } => Said::BeatAnswer { to, number, version },
            Wire::Behind { to } => Said::Behind { to },
            Wire::PreVote { round, proposed, version } => {
                Said::PreVote { round, proposed, version }
            }
            Wire::PreVoteAnswer { to, round, granted } => {
                Said::PreVoteAnswer { to, round, granted }
            }
            Wire::VoteRequest { version, handoff } => Said::VoteRequest { version, handoff },
            Wire::VoteAnswer { to, granted } => Said::VoteAnswer { to, granted },
            Wire::State { version, .. } => {
                serde_json::from_slice::<serde::de::IgnoredAny>(behind)
                    .map_err(|_| FrameError::NotJson)?;
                Said::State(State { version, json: Arc::from(behind) })
            }
            Wire::StateStored { to, version } => Said::StateStored { to, version },
            Wire::StateRequest { to, have } => Said::StateRequest { to, have },
            Wire::Handoff { to } => Said::Handoff { to },
            Wire::Resign => Said::Resign,
        };
        let Self { from, incarnation, term, voters, .. } = self;
        Ok(Frame { from, incarnation, term, voters, said })
    }
}
