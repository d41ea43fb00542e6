//! How a node is: its connection, its file, and what it has counted. Plain values, which everything above them tells.

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{MessageId, NodeId};
use crate::reason::{Reason, size};

/// What kind of reason there is for no connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outage {
    /// No server answers, or none was found.
    #[default]
    NoServer,
    /// This process may open no more files, and a connection is one.
    NoFiles,
    /// A certificate, a key or a file of the settings keeps the connection from being encrypted.
    NoTrust,
    /// The server is there, and refuses something without which there is no connection: by a limit, or by permissions.
    Refused,
}

impl Outage {
    pub(crate) fn reason(self, said: String) -> Reason {
        match self {
            Self::NoServer => Reason::NoServer { said },
            Self::NoFiles => Reason::NoFiles { said },
            Self::NoTrust => Reason::NoTrust { said },
            Self::Refused => Reason::refused(said),
        }
    }
}

/// How a node's connection is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Link {
    /// Not connected yet.
    Connecting,
    /// Connected, every subscription proven live.
    Connected {
        /// The server's name and version.
        server: String,
    },
    /// The connection was lost, or could not be made; it is tried again.
    Disconnected {
        /// What the client or the server says about it.
        reason: String,
        /// What kind of reason that is.
        #[serde(default)]
        outage: Outage,
    },
    /// The server refuses our credentials; it is tried again.
    Unauthorized {
        /// What the server says.
        reason: String,
    },
    /// Another node with our id was there first: this one neither sends nor receives.
    Conflict {
        /// The other's host.
        host: String,
    },
}

impl Link {
    /// Whether messages can be sent.
    pub const fn is_connected(&self) -> bool {
        matches!(self, Self::Connected { .. })
    }

    pub(crate) fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Connected { .. } => return None,
            Self::Connecting => Reason::NoServer { said: "no answer yet".to_owned() },
            Self::Disconnected { reason, outage } => outage.reason(reason.clone()),
            Self::Unauthorized { reason } => Reason::Unauthorized { said: reason.clone() },
            Self::Conflict { host } => Reason::NameTaken { host: host.clone() },
        })
    }
}

/// Counts and sums since the start: the difference of two reports gives the mean of the time between them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Latency {
    /// Messages whose way from acceptance to acknowledgement was measured.
    pub deliveries: u64,
    /// What that took together, in microseconds.
    pub delivery_micros: u64,
    /// Frames whose way from sending to acknowledgement was measured.
    pub acks: u64,
    /// What that took together, in microseconds.
    pub ack_micros: u64,
    /// Commits that waited for an fsync.
    pub fsyncs: u64,
    /// What they took together, in microseconds.
    pub fsync_micros: u64,
}

/// How much of the disk a node's files take: the database, its log and index, and the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StorageUse {
    /// What they take, less what is free in the database for new messages.
    pub used_bytes: u64,
    /// The most that they may take: `storage_limit`, or what it is by default at this moment.
    pub limit_bytes: u64,
}

/// A limit that what waits has come near to, and who is furthest behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LimitNear {
    /// Which limit.
    pub limit: Limit,
    /// How much of it is used, in percent.
    pub percent: u64,
    /// Who is furthest behind; none: a channel's first reader, yet to come.
    pub receiver: Option<NodeId>,
    /// How many messages wait for it.
    pub pending: u64,
    /// For how many milliseconds the oldest of them has waited; none where it was not found in time.
    pub oldest_age_ms: Option<u64>,
}

/// A limit of a node's settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Most messages that may wait for one receiver: `queue_limit`.
    Queue(u64),
    /// Most that the node's files may take: `storage_limit`. The receiver that is named is the one for whom most messages wait.
    Storage(StorageUse),
}

impl LimitNear {
    /// The same as a reason, with what to do.
    pub fn reason(&self) -> Reason {
        let (receiver, near) = (self.receiver.clone(), self.to_string());
        match self.limit {
            Limit::Queue(_) => Reason::LimitNear { receiver, near },
            Limit::Storage(_) => Reason::StorageNear { receiver, near },
        }
    }
}

impl fmt::Display for LimitNear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, percent, receiver, pending, oldest_age_ms } = self;
        let whom = receiver.as_ref().map_or("a channel's first reader", NodeId::as_str);
        match (pending, receiver) {
            (0, None) => write!(f, "no message waits")?,
            (1, _) => write!(f, "1 message waits for {whom}")?,
            _ => write!(f, "{pending} messages wait for {whom}")?,
        }
        if let Some(age) = oldest_age_ms {
            let age = humantime::format_duration(Duration::from_secs(age / 1000));
            write!(f, ", the oldest for {age}")?;
        }
        match limit {
            Limit::Queue(limit) => write!(f, ": {percent} % of queue_limit ({limit})"),
            Limit::Storage(StorageUse { used_bytes, limit_bytes }) => {
                let (used, limit) = (size(*used_bytes), size(*limit_bytes));
                write!(f, ": the files take {used}, {percent} % of storage_limit ({limit})")
            }
        }
    }
}

/// How a node's file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "why", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Health {
    /// It can be read and written.
    Healthy,
    /// There is no space for messages; it is tried again with each.
    Full,
    /// The node's files take as much as they may; it is tried again with each message.
    AtLimit(StorageUse),
    /// It cannot be written; why, and what to do.
    Failed(Reason),
}

impl Health {
    /// Whether it is the same state, with other numbers perhaps.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self == other || matches!((self, other), (Self::AtLimit(_), Self::AtLimit(_)))
    }

    /// What hinders a node whose file, at this path, is so.
    pub(crate) fn reason(&self, path: &Path) -> Option<Reason> {
        match self {
            Self::Healthy => None,
            Self::Full => Some(Reason::DiskFull { path: path.display().to_string() }),
            Self::AtLimit(StorageUse { used_bytes, limit_bytes }) => Some(Reason::StorageLimit {
                path: path.display().to_string(),
                used_bytes: *used_bytes,
                limit_bytes: *limit_bytes,
            }),
            Self::Failed(reason) => Some(reason.clone()),
        }
    }
}

/// SQLite could not read its write-ahead log to the end when the node was started, although committed transactions follow: what
/// was accepted, received or settled in them may be lost. After a power cut that is in order for what had not been synced yet (receipts
/// and settlements, which are made good with the peers); otherwise the disk has damaged the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LogCut {
    /// The first frame of the log that could not be read, counted from 1; 0 for its header.
    pub frame: u64,
    /// How many transactions are known to be lost, at least.
    pub transactions: u64,
    /// The last message id that the file knows now: messages of this node above it may be lost.
    pub last_id: MessageId,
}

impl LogCut {
    /// How it is named in the audit.
    pub const ACTION: &str = "log cut short";

    pub(crate) const fn new(frame: u64, transactions: u64, last_id: MessageId) -> Self {
        Self { frame, transactions, last_id }
    }
}

impl fmt::Display for LogCut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frame, transactions, last_id } = self;
        write!(
            f,
            "the write-ahead log could not be read from frame {frame} on, and with it at least {transactions} later transactions: \
             messages that were accepted after {last_id} may be lost. After a power cut, receipts and settlements are lost in this way \
             and made good; otherwise check the disk"
        )
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counters since the node was started.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default)]
        #[non_exhaustive]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)+
        }

        /// The same, shared by the threads that count.
        #[derive(Debug, Default)]
        pub(crate) struct Tally {
            $(pub(crate) $name: Tick,)+
        }

        impl Tally {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Tick(AtomicU64);

impl Tick {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
}

counters! {
    /// Messages committed for sending: by `send`, in a transaction, or by sending a dead letter again.
    accepted,
    /// Messages sent to a receiver, repetitions not counted.
    sent,
    /// Messages sent to a receiver again.
    redelivered,
    /// Messages acknowledged by a receiver.
    delivered,
    /// Messages that expired for a receiver.
    expired,
    /// Messages that became dead letters.
    dead_lettered,
    /// Messages that gave way to newer ones, were purged, or waited for a receiver that was forgotten or has left.
    dropped,
    /// Messages that a handler took.
    processed,
    /// Messages that a handler refused, or in which it panicked.
    failed,
    /// Messages that came again and were recognised.
    repeated,
    /// Acknowledgements sent.
    acks_sent,
    /// Acknowledgements received.
    acks_received,
    /// Refusals sent.
    nacks_sent,
    /// Refusals received.
    nacks_received,
    /// Answers that fitted nothing.
    unmatched_answers,
    /// Keepalives sent.
    keepalives_sent,
    /// Keepalives received.
    keepalives_received,
    /// Frames that were refused: not ours, of another version, damaged, or from another sender than they say.
    refused_frames,
    /// Connections to a NATS server after the first.
    reconnects,
}
