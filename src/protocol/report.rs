//! What nodes say about themselves where they are asked: what goes over the wire, and its rows.

use serde::{Deserialize, Serialize};

use super::election::{Refused, Version};
use crate::condition::{Counters, Latency, Link};
use crate::message::{ChannelName, Incarnation, Mode, NodeId, StoreId, Term};
use crate::reason::Told;

/// Most rows of one kind in a report.
pub const MAX_ROWS: usize = 1000;

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

impl Report {
    /// Leaves away half of what is in its lists, and the state. Whether anything was left to be left away.
    pub(crate) fn cut(&mut self) -> bool {
        let Self { channels, peers, accounts, reasons, .. } = self;
        let before = channels.len() + peers.len() + accounts.len() + reasons.len();
        let had_state = self.state.take().is_some();
        channels.truncate(channels.len() / 2);
        peers.truncate(peers.len() / 2);
        accounts.truncate(accounts.len() / 2);
        let left_away = reasons.len() - reasons.len() / 2;
        reasons.truncate(reasons.len() / 2);
        self.reasons_left += left_away as u64;
        self.truncated = true;
        before > 0 || had_state
    }
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

/// What part a node has in an election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Role {
    /// It is master.
    Master,
    /// It has a vote, and may become master.
    Voter,
    /// It has none: it knows the master and keeps the state.
    Observer,
}

/// A node's part in an election, and what it knows of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ElectionInfo {
    /// The voters of its settings; empty where all that are seen elect.
    pub voters: Vec<NodeId>,
    /// Its part.
    pub role: Role,
    /// The highest term that it knows.
    pub term: Term,
    /// Who is master, as it knows.
    pub master: Option<NodeId>,
    /// The master's term.
    pub master_term: Option<Term>,
    /// The newest state that it has.
    pub state: Version,
    /// How large that is, in bytes of JSON.
    pub state_bytes: u64,
    /// What it heard and did not obey since its start.
    #[serde(default)]
    pub refused: Refused,
}
