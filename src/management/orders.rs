//! Orders: whom they go to, and what came of them.

use std::time::Duration;

use serde::Serialize;

use super::{Done, Report};
use crate::error::{NodeError, StoreError};
use crate::message::{NameError, NodeId};

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
            let waits = report.accounts.iter().filter(|account| account.pending > 0);
            waits.map(|account| (&report.node, account.receiver.as_ref(), account.pending))
        })
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
