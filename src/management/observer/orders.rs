//! Orders of an operator, who is no node.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::{ObserveError, Observer};
use crate::management::{Answered, Done, Order, Task, Verdict};
use crate::message::{Incarnation, NodeId};
use crate::protocol::frame::Frame;
use crate::protocol::orders::REPEAT;
use crate::refusal::OrderError;
use crate::transport::{Subject, Transport, TransportEvent};

type Results = BTreeMap<NodeId, Result<Done, OrderError>>;

impl Observer {
    /// Has these nodes do this, and collects what they did, in the order in which they were named. Nodes are first asked about themselves, so
    /// that an order reaches the run that is there now; those of which nothing is heard get none, and nothing waits for them. Takes up to
    /// twice the time. Cancelling leaves open who obeyed.
    ///
    /// # Errors
    /// The connection is gone, or the server does not let us give orders. What became of each node's order stands in the answer.
    pub async fn order(
        &mut self,
        nodes: &[NodeId],
        task: &Task,
        within: Duration,
    ) -> Result<Vec<Answered>, ObserveError> {
        let reports = self.reports(within, nodes).await?;
        let runs: BTreeMap<&NodeId, Incarnation> =
            reports.iter().map(|report| (&report.node, report.incarnation)).collect();
        let peers = || reports.iter().flat_map(|report| &report.peers);
        let is_online = |node: &NodeId| peers().any(|peer| peer.node == *node && peer.online);
        let mut results = Results::new();
        let mut waiting = BTreeMap::new();
        for node in nodes {
            let (to, from) = (node.clone(), self.me.clone());
            match runs.get(node) {
                Some(run) => {
                    let (incarnation, task) = (Some(*run), task.clone());
                    let order = fastrand::u64(..);
                    let order = Order { from, to, order, incarnation, term: None, task };
                    waiting.insert(node.clone(), order);
                }
                None if is_online(node) => {
                    results.insert(to, Err(OrderError::Unanswered { node: node.clone(), within }));
                }
                None => {
                    results.insert(to, Err(OrderError::Offline { node: node.clone() }));
                }
            }
        }
        self.collect_outcomes(waiting, within, &mut results).await?;
        let answer = |node: &NodeId| {
            let result = results.remove(node)?;
            Some(Answered { node: node.clone(), result })
        };
        Ok(nodes.iter().filter_map(answer).collect())
    }

    async fn collect_outcomes(
        &mut self,
        mut waiting: BTreeMap<NodeId, Order>,
        within: Duration,
        results: &mut Results,
    ) -> Result<(), ObserveError> {
        let end = Instant::now() + within;
        let mut again = Instant::now();
        while !waiting.is_empty() && Instant::now() < end {
            if again <= Instant::now() {
                again = Instant::now() + REPEAT;
                for order in waiting.values() {
                    let to = Subject::Order { to: order.to.clone(), from: self.me.clone() };
                    // It is said again.
                    let _ = self.transport.try_publish(&to, Frame::Order(order.clone()).encode());
                }
            }
            let next = tokio::time::timeout_at(again.min(end), self.transport.next());
            match next.await {
                Ok(TransportEvent::Frame { from: Subject::Management { from, .. }, bytes }) => {
                    let Ok(Frame::Outcome(outcome)) = Frame::decode(&bytes) else { continue };
                    let fits = |order: &Order| order.order == outcome.order && outcome.node == from;
                    if !waiting.get(&from).is_some_and(fits) {
                        continue;
                    }
                    waiting.remove(&from);
                    let result = match outcome.result {
                        Verdict::Done(done) => Ok(done),
                        Verdict::Refused(reason) => {
                            Err(OrderError::Refused { node: from.clone(), reason })
                        }
                    };
                    results.insert(from, result);
                }
                Ok(TransportEvent::Down { reason, outage }) => {
                    return Err(ObserveError::NotConnected { reason, outage });
                }
                Ok(TransportEvent::Unauthorized { reason }) => {
                    return Err(ObserveError::Unauthorized { reason });
                }
                Ok(TransportEvent::Denied { reason }) => {
                    return Err(ObserveError::Denied { reason });
                }
                Ok(_) | Err(_) => {}
            }
        }
        for node in waiting.into_keys() {
            results.insert(node.clone(), Err(OrderError::Unanswered { node, within }));
        }
        Ok(())
    }
}
