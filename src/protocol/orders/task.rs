//! What one node, or an operator, tells another to do, and what came of it, as it goes over the wire.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::{ChannelName, Incarnation, NodeId, Term};

/// What a node can be told to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// Leave all channels for good, and stay out until it is readmitted or started again.
    Kick,
    /// The same for one channel.
    KickChannel {
        /// Which.
        channel: ChannelName,
    },
    /// Give up what waits for known receivers. It is accounted as purged.
    PurgeQueue,
    /// Delete what is settled, and kept only for the retention. Dead letters and the audit stay.
    PurgeSent,
    /// Both.
    PurgeAll,
    /// Forget this peer, with what waits for it.
    Forget {
        /// Whom.
        node: NodeId,
    },
    /// Take no new messages, neither of its program nor for its channels, and deliver what waits; until it is readmitted, over restarts.
    Drain,
    /// End what a kick or a drain began.
    Readmit,
    /// A task that this version does not know.
    #[serde(other)]
    Unknown,
}

impl Task {
    /// The task in a word, as the command has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kick => "kick",
            Self::KickChannel { .. } => "kick-channel",
            Self::PurgeQueue => "purge queue",
            Self::PurgeSent => "purge sent",
            Self::PurgeAll => "purge all",
            Self::Forget { .. } => "forget",
            Self::Drain => "drain",
            Self::Readmit => "readmit",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KickChannel { channel } => write!(f, "{} {:?}", self.name(), channel.as_str()),
            Self::Forget { node } => write!(f, "{} {node}", self.name()),
            _ => f.write_str(self.name()),
        }
    }
}

/// A task for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Order {
    /// Who gives it.
    pub from: NodeId,
    /// Who is to obey.
    pub to: NodeId,
    /// Drawn at random; the same when it is said again because no answer came.
    pub order: u64,
    /// Which run of the node is meant; another one, which cannot know what that one obeyed, refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The term in which whoever gives it is master, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub term: Option<Term>,
    /// What to do.
    pub task: Task,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Outcome {
    /// Who was to obey.
    pub node: NodeId,
    /// Who gave the order.
    pub to: NodeId,
    /// Its number.
    pub order: u64,
    /// What was done, or why not.
    pub result: Verdict,
}

/// What was done at an order, or why not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[doc(hidden)]
pub enum Verdict {
    /// Obeyed.
    Done(Done),
    /// Refused, for this reason.
    Refused(String),
}

/// What a node did at an order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Done {
    /// Channels that it left.
    pub left: u64,
    /// Messages that were given up, accounted as purged or forgotten.
    pub purged: u64,
    /// Messages that were deleted, settled before.
    pub deleted: u64,
    /// Records of settlements and attempts that were deleted.
    pub records: u64,
    /// Messages that still wait, for all receivers.
    pub waiting: u64,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, purged, deleted, records, waiting } = self;
        write!(
            f,
            "left {left} channels, purged {purged} messages, deleted {deleted} messages and {records} records, {waiting} messages wait"
        )
    }
}
