//! Orders: what one node, or an operator, tells another to do, and what came of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Account, Report};
use crate::election::Term;
use crate::error::{NodeError, StoreError};
use crate::message::{ChannelName, Incarnation, NameError, NodeId};

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

impl std::fmt::Display for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { left, purged, deleted, records, waiting } = self;
        write!(
            f,
            "left {left} channels, purged {purged} messages, deleted {deleted} messages and {records} records, {waiting} messages wait"
        )
    }
}

/// What one node answered to an order that went to several.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The node.
    pub node: NodeId,
    /// What it did, or why not.
    pub result: Result<Done, OrderError>,
}

/// Whose queue, or whose settled messages.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// Those of this node and of every peer that is online.
    All,
    /// This node's own.
    Own,
    /// This node's.
    Node(NodeId),
}

/// Which nodes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Whom {
    /// Every peer that is online.
    All,
    /// This one.
    Node(NodeId),
}

/// The nodes that are online, by their own word.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Network {
    /// What they say about themselves, by name.
    pub reports: Vec<Report>,
    /// Who did not answer in time.
    pub unanswered: Vec<NodeId>,
}

impl Network {
    /// What waits between each pair: sender, receiver (none: a channel's first reader), messages.
    pub fn backlog(&self) -> impl Iterator<Item = (&NodeId, Option<&NodeId>, u64)> {
        self.reports.iter().flat_map(|report| {
            let waits = |account: &&Account| account.pending > 0;
            let pair = |a| (&report.node, Account::receiver_of(a), a.pending);
            report.accounts.iter().filter(waits).map(pair)
        })
    }
}

impl Account {
    fn receiver_of(account: &Self) -> Option<&NodeId> {
        account.receiver.as_ref()
    }
}

/// An order, or a question, that was not obeyed or answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The node is not online. Nothing is kept for it.
    #[error("{node} is not online: nothing was sent, and nothing waits for it")]
    Offline {
        /// Who.
        node: NodeId,
    },
    /// No answer came in time: it may have been obeyed.
    #[error(
        "{node} did not answer within {within:?}: it may have obeyed; see its audit, and whether the NATS server lets us give orders"
    )]
    Unanswered {
        /// Who.
        node: NodeId,
        /// How long was waited.
        within: Duration,
    },
    /// The node refused.
    #[error("{node} refused: {reason}")]
    Refused {
        /// Who.
        node: NodeId,
        /// In its words.
        reason: String,
    },
    /// This node is not connected to its NATS server.
    #[error("this node is not connected: nothing was sent, and nothing waits")]
    NotConnected,
    /// This node has too many orders under way.
    #[error("{limit} orders are under way: wait until some are answered")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
    /// The own file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// This node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

impl From<NodeError> for OrderError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::ShutDown => Self::ShutDown,
            NodeError::Name(error) => Self::Name(error),
            NodeError::Storage(error) => Self::Storage(error),
        }
    }
}
