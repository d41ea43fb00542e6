//! What nodes tell each other and operators about themselves.

use serde::Serialize;

use crate::condition::StorageUse;
pub use crate::condition::{Counters, Latency};
use crate::message::NodeId;
pub use crate::protocol::orders::{Done, Task};
#[doc(hidden)]
pub use crate::protocol::orders::{Order, Outcome, Verdict};
#[doc(hidden)]
pub use crate::protocol::report::Query;
pub use crate::protocol::report::{
    About, Account, ChannelInfo, Lost, PeerInfo, Report, ReportedState, Topology,
};

mod observer;
mod orders;
mod permissions;
mod servers;

pub use observer::{ObserveError, Observer, ServerCheck};
pub use orders::{Answered, Network, OrderError, Scope, Whom};
pub use permissions::{Permissions, permissions};
pub use servers::{ServerAt, servers};

/// The accounts and counters of a node.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Statistics {
    /// One row a receiver.
    pub accounts: Vec<Account>,
    /// Messages that wait, over all receivers.
    pub queued: u64,
    /// Counters since the start.
    pub counters: Counters,
    /// Bytes in SQLite's write-ahead log.
    pub wal_bytes: u64,
    /// How much of the disk the node's files take, and may take.
    pub storage: StorageUse,
    /// Time since the start.
    pub uptime: std::time::Duration,
}

/// Whether a node can do its work now: see [`Node::readiness`](crate::Node::readiness).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Readiness {
    /// The node.
    pub node: NodeId,
    /// `node`, `file`, `queues`, `intake`, `nats` and `receivers`; several of one kind where there is more than one reason.
    pub checks: Vec<Check>,
}

impl Readiness {
    /// The worst of all checks.
    pub fn state(&self) -> CheckState {
        self.checks.iter().map(|check| check.state).max().unwrap_or(CheckState::Passed)
    }
}

/// One thing that a node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Check {
    /// Which.
    pub check: &'static str,
    /// How it is.
    pub state: CheckState,
    /// What was found; where something is in the way, its sentence and remedy.
    pub reason: String,
    /// The name of the [`Reason`](crate::Reason), where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
}

/// How something is that a node needs, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CheckState {
    /// As it should be.
    Passed,
    /// NATS is away: messages are taken and wait, as they are meant to.
    Waiting,
    /// It does not work, and may not by itself.
    Failed,
}

/// What a flush left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Flushed {
    /// Who still has messages waiting; empty when all is settled.
    pub waiting: Vec<Waiting>,
}

impl Flushed {
    /// Whether nothing waits any more.
    pub fn is_complete(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Messages that wait for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Waiting {
    /// The receiver; none where no reader of the channel is known yet.
    pub receiver: Option<NodeId>,
    /// How many messages.
    pub pending: u64,
    /// Whether the receiver is online.
    pub online: bool,
}
