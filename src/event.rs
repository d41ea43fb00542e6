//! What a node tells its monitors.

use std::time::Duration;

use serde::Serialize;

pub use crate::condition::{Counters, Limit, LimitNear, Link, Outage};
use crate::condition::{Health, LogCut, StorageUse};
use crate::message::{ChannelName, Incarnation, MessageId, NodeId, Priority};
use crate::reason::Reason;

pub(crate) mod election;

use election::ElectionEvent;

/// Something that happened in a node. Events are hints for people and monitors: a slow listener misses the oldest,
/// and nothing that matters is known from events alone.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// Something is in the way of messages, now or, where that often passes by itself, for ten seconds. Each is told once, and at most once a
    /// minute. [`Status::reasons`] has all that hold.
    Stalled {
        /// What, and what to do.
        reason: Reason,
    },
    /// What was told as [`Stalled`](Self::Stalled) is over.
    Resumed {
        /// What it was.
        reason: Reason,
    },
    /// Connected to a NATS server, and every subscription is proven live.
    Connected {
        /// The server's name and version.
        server: String,
    },
    /// The connection is gone. Messages wait.
    Disconnected {
        /// What the client says about it.
        reason: String,
    },
    /// The server refuses our credentials. It is tried again all the same.
    Unauthorized {
        /// What the server says.
        reason: String,
    },
    /// The server refuses one of our subscriptions or publications: its permissions or limits are too narrow.
    Denied {
        /// What the server says.
        reason: String,
    },
    /// Another node with our id is alive. `stopped`: it was there first, and this one neither sends nor receives any more.
    Conflict {
        /// The other's host.
        host: String,
        /// The other's run.
        incarnation: Incarnation,
        /// Whether this node stands back.
        stopped: bool,
    },
    /// A frame with these messages went out to a receiver for the first time.
    Sent {
        /// To whom.
        receiver: NodeId,
        /// The first message.
        id: MessageId,
        /// How many messages.
        count: u64,
    },
    /// A frame went out again.
    Redelivered {
        /// To whom.
        receiver: NodeId,
        /// The first message.
        id: MessageId,
        /// Which attempt this is.
        attempt: u32,
    },
    /// A receiver acknowledged messages up to this one.
    Delivered {
        /// Who.
        receiver: NodeId,
        /// The last message.
        id: MessageId,
        /// How many messages.
        count: u64,
    },
    /// Messages for a receiver expired before they could be delivered.
    Expired {
        /// For whom.
        receiver: NodeId,
        /// On which channel.
        channel: ChannelName,
        /// In which lane.
        lane: Priority,
        /// The last message.
        id: MessageId,
        /// How many messages.
        count: u64,
    },
    /// Messages expired before any reader of their channel was known.
    ExpiredUnclaimed {
        /// Which channel.
        channel: ChannelName,
        /// How many messages.
        count: u64,
    },
    /// Messages that waited for a channel's first reader gave way to newer ones.
    DroppedUnclaimed {
        /// Which channel.
        channel: ChannelName,
        /// How many messages.
        count: u64,
    },
    /// A receiver refused a message or failed too often; it is a dead letter now.
    DeadLettered {
        /// Whose.
        receiver: NodeId,
        /// The message.
        id: MessageId,
        /// Why.
        reason: String,
    },
    /// A receiver is online and has not answered a message. It may have handled it, so this is no attempt that failed: the message is sent
    /// again after pauses that grow, until it is answered or expires.
    Unanswered {
        /// Who.
        receiver: NodeId,
        /// The first message of the frame.
        id: MessageId,
        /// How often in a row.
        times: u32,
    },
    /// An attempt failed.
    AttemptFailed {
        /// With whom.
        receiver: NodeId,
        /// The message.
        id: MessageId,
        /// Which attempt it was.
        attempt: u32,
        /// What was answered.
        answer: String,
    },
    /// A receiver's waiting messages gave way to newer ones, or were purged.
    Dropped {
        /// Whose.
        receiver: NodeId,
        /// How many messages.
        count: u64,
    },
    /// A message came again that had been committed before; it was acknowledged again.
    Repeated {
        /// From whom.
        sender: NodeId,
        /// The message.
        id: MessageId,
    },
    /// Messages of a sender will not arrive: they expired, were dropped, or became dead letters there.
    Gap {
        /// Whose.
        sender: NodeId,
        /// In which channel.
        channel: ChannelName,
        /// In which lane.
        lane: Priority,
        /// How many messages.
        count: u64,
    },
    /// Our file knows less of a sender's messages than that sender says we acknowledged: it is an older copy of itself, or new.
    InboxWentBack {
        /// The sender.
        sender: NodeId,
        /// In which channel.
        channel: ChannelName,
        /// Up to where the sender says we acknowledged.
        sender_says: MessageId,
    },
    /// A receiver has seen a newer message of ours than our file ever gave out: the file is an older copy of itself. New
    /// messages travel under a new store id from here on.
    OutboxWentBack {
        /// Who proved it.
        receiver: NodeId,
        /// The newest message that it has.
        newest: MessageId,
    },
    /// Something happened in the election.
    Election(ElectionEvent),
    /// A peer has come.
    PeerOnline {
        /// Who.
        node: NodeId,
        /// Whether it was restarted since it was last heard.
        restarted: bool,
    },
    /// A peer has gone.
    PeerOffline {
        /// Who.
        node: NodeId,
        /// It said goodbye; otherwise it was not heard for too long.
        goodbye: bool,
    },
    /// A peer came back with another file: it has forgotten what it received before.
    PeerLostItsFile {
        /// Who.
        node: NodeId,
    },
    /// A peer was forgotten, with what waited for it.
    PeerForgotten {
        /// Who.
        node: NodeId,
        /// How many messages waited for it.
        pending: u64,
    },
    /// There is no room for another peer.
    PeersFull {
        /// Who was refused.
        refused: NodeId,
    },
    /// A peer reads a channel of ours now.
    ReaderJoined {
        /// Who.
        node: NodeId,
        /// Which channel.
        channel: ChannelName,
    },
    /// A peer left a channel of ours for good.
    ReaderLeft {
        /// Who.
        node: NodeId,
        /// Which channel.
        channel: ChannelName,
        /// How many messages waited for it there.
        purged: u64,
    },
    /// What waits has come near a limit. Told once at 50, 80 and 95 % of it, and again when another receiver is furthest behind.
    LimitNear(LimitNear),
    /// The disk is full: `send` fails until there is room.
    StorageFull,
    /// The node's files take as much as they may (`storage_limit`): `send` fails until messages were settled. Told once for as long as
    /// that lasts, and where only a large message finds no room, not at all.
    StorageLimitReached(StorageUse),
    /// There is room again, after [`StorageFull`](Self::StorageFull) or [`StorageLimitReached`](Self::StorageLimitReached).
    StorageRecovered,
    /// The file failed.
    StorageFailed {
        /// What went wrong, and what to do.
        reason: String,
    },
    /// The file's write-ahead log grows, because another program keeps reading an old state of the file (a backup, a database browser).
    LogHeld {
        /// How long it is.
        bytes: u64,
        /// The processes that read it, where the system tells.
        readers: Vec<u32>,
    },
    /// Some of the file's write-ahead log could not be read when the node was started; see also [`Status::log_cut`].
    LogCut(LogCut),
    /// The wall clock jumped; ids and times to live go on undisturbed.
    ClockJumped {
        /// By how many milliseconds, ahead if above zero.
        by_ms: i64,
    },
    /// Another node, or an operator, kicked this node: it has left the channel, or all, and stays out until it is readmitted or started again.
    Kicked {
        /// Who.
        by: NodeId,
        /// From which channel; none: from all.
        channel: Option<ChannelName>,
    },
    /// This node is being drained, until it is readmitted: it takes no new messages, and delivers what it has. Told again at each start.
    Draining {
        /// At whose order.
        by: NodeId,
    },
    /// Nothing waits any more in a node that is being drained.
    Drained,
    /// A kick or a drain is over: the node may join and send again.
    Readmitted {
        /// Who said so.
        by: NodeId,
    },
    /// An order was refused.
    OrderRefused {
        /// Whose.
        by: NodeId,
        /// What was to be done.
        task: String,
        /// Why not.
        reason: String,
    },
    /// Bytes from the network were refused.
    Refused {
        /// From whom, as far as it can be told.
        from: Option<NodeId>,
        /// Why.
        reason: String,
    },
}

/// A node's state in short.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Status {
    /// The node's name.
    pub id: NodeId,
    /// This run of it.
    pub incarnation: Incarnation,
    /// The connection.
    pub link: Link,
    /// The file.
    pub storage: Health,
    /// Why messages don't move, as last looked at, the most important first; empty where nothing is in the way. At most 100.
    /// [`Node::reasons`](crate::Node::reasons) looks anew and gives all.
    pub reasons: Vec<Reason>,
    /// What was missing of the file when the node was started, if anything was.
    pub log_cut: Option<LogCut>,
    /// Who kicked this node from all channels, until it is readmitted or started again.
    pub kicked: Option<NodeId>,
    /// At whose order this node is being drained, until it is readmitted.
    pub draining: Option<NodeId>,
    /// How many peers are online.
    pub peers_online: usize,
    /// Since the start.
    pub uptime: Duration,
}
