//! Orders: whom they go to, and what came of them.

use serde::Serialize;

use super::{Done, Report};
use crate::message::NodeId;
pub use crate::refusal::OrderError;

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
