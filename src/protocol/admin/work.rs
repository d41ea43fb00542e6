//! What an order asks of the file.

use super::Closed;
use crate::message::{ChannelName, NodeId, Term};
use crate::protocol::orders::{Done, Order, Task};

/// What the audit calls an order.
const ACTION: &str = "order";
/// What it calls one that came, before anything was done.
const RECEIVED: &str = "order received";

/// For the audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub action: &'static str,
    /// Who gave the order.
    pub by: NodeId,
    pub term: Option<Term>,
    pub detail: String,
}

impl Row {
    pub(super) fn received(order: &Order) -> Self {
        let (by, term, detail) = (order.from.clone(), order.term, order.task.to_string());
        Self { action: RECEIVED, by, term, detail }
    }

    pub(super) fn ended(
        by: NodeId,
        term: Option<Term>,
        task: &Task,
        how: impl std::fmt::Display,
    ) -> Self {
        Self { action: ACTION, by, term, detail: format!("{task}: {how}") }
    }
}

/// What is done with the file, one after the other. All but [`Step::Settle`] add to what the order has [`Done`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A peer is forgotten, as if the program had asked for it.
    Forget(NodeId),
    /// What is known to be settled goes on record, so that it neither counts as waiting nor as purged.
    Settle,
    /// Channels are left for good.
    Leave(Vec<ChannelName>),
    /// Whether the node is being drained, and for whom, over restarts.
    Drain(Option<NodeId>),
    /// What waits for known receivers is given up.
    PurgeQueue,
    /// What was settled before this time, by the file's clock, is deleted; without one, all that is settled by then.
    PurgeSent { before_ms: Option<u64> },
    /// What still waits is counted.
    Count,
}

/// An order that is being obeyed.
#[derive(Debug)]
pub struct Work {
    pub(super) from: NodeId,
    pub(super) order: u64,
    pub(super) term: Option<Term>,
    pub(super) task: Task,
    /// Those that are left.
    pub(super) channels: Vec<ChannelName>,
    /// What was closed before it.
    pub(super) before: Closed,
    /// Whose deliveries stand still for it.
    pub(super) held: Vec<NodeId>,
    pub(super) audited: bool,
    pub(super) steps: Vec<Step>,
}

impl Work {
    /// Who gave it, and its number.
    pub fn key(&self) -> (NodeId, u64) {
        (self.from.clone(), self.order)
    }

    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What goes into the audit after the last step, if anything does. Where it can't, the order is obeyed all the same.
    pub fn row(&self, done: &Done) -> Option<Row> {
        let row = || Row::ended(self.from.clone(), self.term, &self.task, done);
        self.audited.then(row)
    }
}

pub(super) fn steps(
    task: &Task,
    from: &NodeId,
    channels: &[ChannelName],
    now_ms: u64,
) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Task::Forget { node } = task {
        steps.push(Step::Forget(node.clone()));
    }
    steps.push(Step::Settle);
    // What the node keeps in memory as well comes last: where it fails, nothing has happened.
    match task {
        Task::Kick | Task::KickChannel { .. } if !channels.is_empty() => {
            return [steps, vec![Step::Count, Step::Leave(channels.to_vec())]].concat();
        }
        Task::Drain => return [steps, vec![Step::Count, Step::Drain(Some(from.clone()))]].concat(),
        Task::Readmit => return [steps, vec![Step::Count, Step::Drain(None)]].concat(),
        Task::PurgeQueue => steps.push(Step::PurgeQueue),
        Task::PurgeSent => steps.push(Step::PurgeSent { before_ms: Some(now_ms) }),
        // What was purged a moment ago is settled as well.
        Task::PurgeAll => steps.extend([Step::PurgeQueue, Step::PurgeSent { before_ms: None }]),
        _ => {}
    }
    steps.push(Step::Count);
    steps
}
