//! What this node tells other nodes to do, and asks them.

use std::time::Duration;

use futures_util::future::join_all;

use super::Node;
use crate::driver::Command;
use crate::management::{Answered, Network, Scope, Whom};
use crate::message::{ChannelName, NodeId};
use crate::protocol::orders::{Done, Task};
use crate::protocol::report::Report;
use crate::refusal::OrderError;

/// How long an answer is waited for. An order is said again in the meantime, and obeyed once.
const PATIENCE: Duration = Duration::from_secs(5);

/// Orders to other nodes. Each is obeyed, or refused with a reason, by the node that it names, as that node's `management` says, and noted in its
/// audit. None waits for a node that is offline. Cancelling leaves open whether it was obeyed. Where a NATS server has the permissions of
/// `docs/security.md`, only operators may give orders.
impl Node {
    /// Has a node leave all channels for good and stay out until it is readmitted or started again; what waits for it there is purged by its
    /// senders. Its program gets [`Event::Kicked`](crate::Event::Kicked).
    ///
    /// # Errors
    /// The node is offline, refuses, or does not answer in time; this node is not connected.
    pub async fn kick(&self, node: impl AsRef<str>) -> Result<Done, OrderError> {
        self.order(NodeId::new(node)?, Task::Kick).await
    }

    /// The same for one channel.
    ///
    /// # Errors
    /// A name is not valid. What became of each node's order stands in the answer.
    pub async fn kick_channel(
        &self,
        channel: impl AsRef<str>,
        whom: Whom,
    ) -> Result<Vec<Answered>, OrderError> {
        let task = Task::KickChannel { channel: ChannelName::new(channel)? };
        let nodes = match whom {
            Whom::All => self.online().await?,
            Whom::Node(node) => vec![node],
        };
        Ok(self.order_all(nodes, task).await)
    }

    /// Gives up what waits for known receivers in the queues of these nodes; accounted as purged.
    ///
    /// # Errors
    /// This node is shut down. What became of each node's order stands in the answer.
    pub async fn purge_queue(&self, scope: Scope) -> Result<Vec<Answered>, OrderError> {
        self.in_scope(scope, Task::PurgeQueue).await
    }

    /// Deletes what is settled in the files of these nodes, whatever their retention.
    ///
    /// # Errors
    /// As [`purge_queue`](Self::purge_queue).
    pub async fn purge_sent(&self, scope: Scope) -> Result<Vec<Answered>, OrderError> {
        self.in_scope(scope, Task::PurgeSent).await
    }

    /// Both.
    ///
    /// # Errors
    /// As [`purge_queue`](Self::purge_queue).
    pub async fn purge_all(&self, scope: Scope) -> Result<Vec<Answered>, OrderError> {
        self.in_scope(scope, Task::PurgeAll).await
    }

    /// Has these nodes forget a peer, as [`forget`](Self::forget) does here.
    ///
    /// # Errors
    /// As [`purge_queue`](Self::purge_queue), or the name is not valid.
    pub async fn forget_on(
        &self,
        node: impl AsRef<str>,
        scope: Scope,
    ) -> Result<Vec<Answered>, OrderError> {
        self.in_scope(scope, Task::Forget { node: NodeId::new(node)? }).await
    }

    /// Has a node take no new messages, neither of its program nor for its channels, and deliver what it has. That lasts until it is readmitted; a
    /// restart does not end it. The answer says how many
    /// wait; calls of `send` that were under way may still add theirs. The node tells its program [`Event::Drained`](crate::Event::Drained)
    /// when none waits.
    ///
    /// # Errors
    /// As [`kick`](Self::kick).
    pub async fn drain(&self, node: impl AsRef<str>) -> Result<Done, OrderError> {
        self.order(NodeId::new(node)?, Task::Drain).await
    }

    /// Ends what a kick or a drain of this node began. It is in no channel that it was kicked from until it joins again.
    ///
    /// # Errors
    /// The file cannot be written, or the node is shut down.
    pub async fn readmit(&self) -> Result<Done, OrderError> {
        self.order(self.id().clone(), Task::Readmit).await
    }

    /// The same for another node.
    ///
    /// # Errors
    /// As [`kick`](Self::kick).
    pub async fn readmit_node(&self, node: impl AsRef<str>) -> Result<Done, OrderError> {
        self.order(NodeId::new(node)?, Task::Readmit).await
    }

    /// What a node says about itself: channels, peers, accounts, counters.
    ///
    /// # Errors
    /// The node is offline or does not answer in time; this node is not connected.
    pub async fn statistics_of(&self, node: impl AsRef<str>) -> Result<Report, OrderError> {
        self.ask_about(NodeId::new(node)?).await
    }

    /// What this node and every peer that is online say about themselves: who reads what, who is online, what waits for whom.
    ///
    /// # Errors
    /// The node is shut down. Who did not answer is named.
    pub async fn network(&self) -> Result<Network, OrderError> {
        let mut nodes = self.online().await?;
        nodes.push(self.id().clone());
        nodes.sort();
        let answers = join_all(nodes.iter().map(|node| self.ask_about(node.clone()))).await;
        let mut network = Network { reports: Vec::new(), unanswered: Vec::new() };
        for (node, answer) in nodes.into_iter().zip(answers) {
            match answer {
                Ok(report) => network.reports.push(report),
                Err(OrderError::ShutDown) => return Err(OrderError::ShutDown),
                Err(_) => network.unanswered.push(node),
            }
        }
        Ok(network)
    }

    async fn in_scope(&self, scope: Scope, task: Task) -> Result<Vec<Answered>, OrderError> {
        let mut nodes = match scope {
            Scope::All => self.online().await?,
            Scope::Own => Vec::new(),
            Scope::Node(node) => return Ok(self.order_all(vec![node], task).await),
        };
        nodes.push(self.id().clone());
        Ok(self.order_all(nodes, task).await)
    }

    async fn online(&self) -> Result<Vec<NodeId>, OrderError> {
        let peers = self.peers().await?;
        Ok(peers.into_iter().filter(|peer| peer.online).map(|peer| peer.node).collect())
    }

    async fn order_all(&self, nodes: Vec<NodeId>, task: Task) -> Vec<Answered> {
        let one = |node: NodeId| {
            let task = task.clone();
            async move { Answered { result: self.order(node.clone(), task).await, node } }
        };
        join_all(nodes.into_iter().map(one)).await
    }

    async fn order(&self, to: NodeId, task: Task) -> Result<Done, OrderError> {
        let ask = |reply| Command::Order { to, task, within: PATIENCE, reply };
        self.shared.line.ask(ask).await?
    }

    async fn ask_about(&self, to: NodeId) -> Result<Report, OrderError> {
        let ask = |reply| Command::Ask { to, within: PATIENCE, reply };
        self.shared.line.ask(ask).await?.map(|report| *report)
    }
}
