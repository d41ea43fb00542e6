//! What nodes tell each other and operators about themselves.

use serde::{Deserialize, Serialize};

pub use crate::condition::{Counters, Latency};
use crate::condition::{Link, StorageUse};
use crate::election::{ElectionInfo, Version};
use crate::message::{ChannelName, Incarnation, Mode, NodeId, StoreId};
use crate::reason::Told;

mod observer;
mod orders;
mod permissions;
mod servers;

pub use observer::{ObserveError, Observer, ServerCheck};
pub use orders::{Answered, Done, Network, OrderError, Scope, Task, Whom};
#[doc(hidden)]
pub use orders::{Order, Outcome, Verdict};
pub use permissions::{Permissions, permissions};
pub use servers::{ServerAt, servers};

/// Most rows of one kind in a report.
pub(crate) const MAX_ROWS: usize = 1000;

/// A question to nodes: tell about yourself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Query {
    /// Who asks.
    pub from: NodeId,
    /// Repeated in the answer.
    pub query: u64,
    /// Whether the master's state is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub state: bool,
    /// Which reasons are wanted; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<About>,
}

/// Messages of which it is asked why they don't move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Their channel.
    pub channel: ChannelName,
    /// For whom they wait, of whom the first [`MOST_RECEIVERS`](Self::MOST_RECEIVERS) count; empty: for the channel's first reader.
    pub receivers: Vec<NodeId>,
}

impl About {
    /// Most receivers in one question.
    pub const MOST_RECEIVERS: usize = 100;
}

/// What a node says about itself. Lists are cut at 1,000 rows; `truncated` says so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Who asked.
    pub to: NodeId,
    /// The node.
    pub node: NodeId,
    /// The number of the question that this answers.
    pub query: u64,
    /// This run of it.
    pub incarnation: Incarnation,
    /// Its file.
    pub store: StoreId,
    /// Its host.
    pub host: String,
    /// Its version of waypost.
    pub version: String,
    /// Time since its start, in milliseconds.
    pub uptime_ms: u64,
    /// The node's time when it answered, in milliseconds since 1970; none from an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<u64>,
    /// Its connection.
    pub link: Link,
    /// Its file's state: `healthy`, `full`, or what failed.
    pub storage: String,
    /// The channels that it has joined.
    pub channels: Vec<ChannelInfo>,
    /// The peers that it knows.
    pub peers: Vec<PeerInfo>,
    /// Its accounts, one a receiver.
    pub accounts: Vec<Account>,
    /// Its counters since the start.
    pub counters: Counters,
    /// Its part in an election; none where it takes part in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub election: Option<ElectionInfo>,
    /// The newest state of a master that it has, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ReportedState>,
    /// Why messages don't move there, the most important first, counted when it was asked. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Told>,
    /// How many more reasons there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reasons_left: u64,
    /// How long what it does takes; none where it is built without the feature `metrics`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Whether a list was cut.
    #[serde(default)]
    pub truncated: bool,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// A master's state, as one node has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ReportedState {
    /// Which one.
    pub version: Version,
    /// What it is.
    pub value: serde_json::Value,
}

/// A channel that a node has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelInfo {
    /// The channel.
    pub name: ChannelName,
    /// How the node takes part.
    pub mode: Mode,
    /// Whether it takes messages at present.
    pub paused: bool,
    /// How long ago it joined, in milliseconds.
    pub age_ms: u64,
}

/// A peer, as a node knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The peer.
    pub node: NodeId,
    /// Whether it was heard lately.
    pub online: bool,
    /// How long ago it was last heard, in milliseconds.
    pub heard_ms_ago: u64,
    /// Its last known run.
    pub incarnation: Incarnation,
    /// Its host.
    pub host: String,
    /// Its version of waypost, as last heard; empty where that was by a version of waypost that kept none.
    pub version: String,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Its channels, as last announced.
    pub channels: Vec<ChannelInfo>,
}

/// What became of the messages for one receiver: `accepted = pending + acknowledged + expired + dead + purged`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Account {
    /// The receiver; none for messages whose channel has no known reader yet.
    pub receiver: Option<NodeId>,
    /// Messages committed for it.
    pub accepted: u64,
    /// Still to be settled.
    pub pending: u64,
    /// Acknowledged by the receiver.
    pub acknowledged: u64,
    /// Expired before they could be delivered.
    pub expired: u64,
    /// Dead letters.
    pub dead: u64,
    /// Purged: by an operator, by leaving the channel, or to make room.
    pub purged: u64,
    /// When the oldest pending message was sent, in milliseconds since 1970; none where none waits, or where it was not found within a quarter of a
    /// second: in a log of millions of messages for others.
    pub oldest_pending_ms: Option<u64>,
}

impl Account {
    /// Whether the account adds up.
    pub fn is_balanced(&self) -> bool {
        // A report's numbers are a stranger's.
        let parts = [self.pending, self.acknowledged, self.expired, self.dead, self.purged];
        u128::from(self.accepted) == parts.into_iter().map(u128::from).sum()
    }
}

/// Messages that one receiver will not get: see [`Node::lost`](crate::Node::lost).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Lost {
    /// Who; none where no reader was known.
    pub receiver: Option<NodeId>,
    /// How many expired.
    pub expired: u64,
    /// How many became dead letters.
    pub dead: u64,
}

/// Who takes part in what, as one node sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Topology {
    /// The node that sees it so.
    pub node: NodeId,
    /// Its part in an election; none where it takes part in none.
    pub election: Option<ElectionInfo>,
    /// Its own channels.
    pub channels: Vec<ChannelInfo>,
    /// The peers, with theirs.
    pub peers: Vec<PeerInfo>,
}

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
