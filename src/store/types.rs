//! What goes into the store and comes out of it.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::condition::{LogCut, StorageUse};
use crate::config::{Durability, Overflow, WallClock};
use crate::message::{
    ChannelName, Entry, Incarnation, Kind, MessageId, NodeId, Priority, StoreId, TopicId,
};
use crate::protocol::delivery::Settled;
use crate::protocol::election::Durable;
use crate::protocol::frame::ChannelPresence;
pub(crate) use crate::protocol::outbound::PageRequest;
pub(crate) use crate::protocol::peers::Start;
use crate::protocol::settling::{Run, Settling};

#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) path: PathBuf,
    /// Who the file must belong to; `None`: whoever it belongs to.
    pub(crate) id: Option<NodeId>,
    /// Who a new file belongs to where `id` is `None`.
    pub(crate) fallback_id: NodeId,
    pub(crate) host: String,
    pub(crate) durability: Durability,
    pub(crate) inbox_durability: Durability,
    pub(crate) queue_limit: usize,
    pub(crate) storage_limit: Option<u64>,
    pub(crate) overflow: Overflow,
    pub(crate) retention: Duration,
    pub(crate) audit_retention: Duration,
    pub(crate) wall_clock: WallClock,
}

/// What the file held when it was opened.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) node: NodeId,
    /// Under which store id a message travels: the last one whose `from_id` is not above the message's id. Ascending.
    pub(crate) stores: Vec<(MessageId, StoreId)>,
    pub(crate) last_id: MessageId,
    /// The highest seq ever given out.
    #[cfg(test)]
    pub(crate) end_seq: u64,
    pub(crate) topics: Vec<Topic>,
    /// The open ones.
    pub(crate) cursors: Vec<Cursor>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) inbox: Vec<InboxRow>,
    /// The channels that this node has left for good, the latest first.
    pub(crate) left: Vec<ChannelName>,
    /// What was promised in elections; `None` where that is damaged.
    pub(crate) election: Option<Durable>,
    /// At whose order this node is being drained, if it is.
    pub(crate) draining: Option<NodeId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) topic: TopicId,
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    /// Messages ever put into it.
    pub(crate) accepted: u64,
    /// The place of the last one that is still there; 0 for none.
    pub(crate) last_seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) receiver: NodeId,
    pub(crate) topic: TopicId,
    /// All messages of the topic up to here are settled, or were never meant for this receiver.
    pub(crate) acked_seq: u64,
    /// The last acknowledged one among them.
    pub(crate) acked_id: Option<MessageId>,
    /// How many of the topic's messages wait behind `acked_seq`.
    pub(crate) pending: u64,
    /// How many of those before it were settled otherwise since the last acknowledged one: the receiver may not have been told.
    pub(crate) skipped: u64,
    /// A message behind it that the receiver's handler has failed, and how many attempts there were.
    pub(crate) failed: Option<(u64, u32)>,
    /// The topic's newest message, whether the receiver has it or not.
    pub(crate) last_seq: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) store_id: StoreId,
    pub(crate) incarnation: Incarnation,
    pub(crate) host: String,
    /// As it last said of itself.
    pub(crate) version: String,
    pub(crate) channels: Vec<ChannelPresence>,
    pub(crate) last_seen_ms: u64,
    /// How long this node has been connected since, and how often it asked it since.
    pub(crate) linked: Duration,
    pub(crate) questions: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub(crate) node: NodeId,
    pub(crate) channel: ChannelName,
    pub(crate) since_ms: u64,
}

/// How far this node has committed one sender's topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InboxRow {
    pub(crate) sender: NodeId,
    pub(crate) store_id: StoreId,
    pub(crate) channel: ChannelName,
    pub(crate) direct: bool,
    pub(crate) lane: Priority,
    pub(crate) first_id: MessageId,
    pub(crate) last_id: MessageId,
    pub(crate) count: u64,
}

/// A message that a handler has finished with.
#[derive(Debug, Clone)]
pub(crate) struct InboxAdvance {
    pub(crate) sender: NodeId,
    pub(crate) store_id: StoreId,
    pub(crate) channel: ChannelName,
    pub(crate) direct: bool,
    pub(crate) lane: Priority,
    pub(crate) id: MessageId,
}

/// How a message ended for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged,
    Expired,
    Dead { reason: String },
    Purged,
}

impl Outcome {
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::Expired => "expired",
            Self::Dead { .. } => "dead",
            Self::Purged => "purged",
        }
    }
}

/// A run of a topic's messages that ended in the same way for one receiver.
#[derive(Debug, Clone)]
pub(crate) struct Settlement {
    pub(crate) receiver: NodeId,
    pub(crate) topic: TopicId,
    pub(crate) first_seq: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_id: MessageId,
    pub(crate) outcome: Outcome,
    /// How many of the topic's messages it covers.
    pub(crate) count: u64,
    pub(crate) at_ms: u64,
}

impl From<Run> for Settlement {
    fn from(run: Run) -> Self {
        let Run { receiver, topic, first_seq, last_seq, last_id, count, how, at_ms } = run;
        let outcome = match how {
            Settled::Acknowledged => Outcome::Acknowledged,
            Settled::Expired => Outcome::Expired,
            Settled::Dead { reason } => Outcome::Dead { reason },
        };
        Self { receiver, topic, first_seq, last_seq, last_id, outcome, count, at_ms }
    }
}

/// What the driver knows to be settled and has not brought here. The writer takes it over before it gives up anything that waits for a
/// receiver, so that what was acknowledged is never booked as purged.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnderWay(Arc<Mutex<Settling>>);

impl UnderWay {
    /// Held by the driver while it decides something, by the writer for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Settling> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was known of a receiver that has been forgotten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Waited for it, and does so no longer.
    pub(crate) pending: u64,
    pub(crate) acknowledged: u64,
    pub(crate) expired: u64,
    pub(crate) dead: u64,
    pub(crate) purged: u64,
}

/// A message that a receiver refused or failed too often.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Who did not take it.
    pub receiver: NodeId,
    /// Its place in the log.
    pub seq: u64,
    /// Its id.
    pub id: MessageId,
    /// Its channel.
    pub channel: ChannelName,
    /// Its lane.
    pub lane: Priority,
    /// When it was sent, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was given up, in milliseconds since 1970.
    pub died_ms: u64,
    /// Why.
    pub reason: String,
    /// What it is about; none where the stored message was damaged.
    pub kind: Option<Kind>,
    /// The message that was sent in its place, once it was.
    pub redriven_as: Option<MessageId>,
}

/// What a clean-up removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cleaned {
    /// Settled messages past the retention.
    pub(crate) messages: u64,
    /// Messages that expired before any reader was known.
    pub(crate) expired_unclaimed: u64,
    /// Rows of settlements, attempts, audit and dead letters past the retention, and dead letters beyond their number.
    pub(crate) records: u64,
}

#[derive(Debug)]
pub(crate) struct Page {
    /// In seq order.
    pub(crate) entries: Vec<Loaded>,
    /// All wanted messages up to this seq are in `entries`.
    pub(crate) scanned_to: u64,
    /// Whether that was all that had been committed.
    pub(crate) end: bool,
    /// Messages of wanted topics whose rows are damaged so that they say otherwise: they are missing in `entries`.
    pub(crate) strays: Vec<Stray>,
}

/// A message at a place where it says that it is of another topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stray {
    pub(crate) seq: u64,
    pub(crate) topic: TopicId,
}

#[derive(Debug, Clone)]
pub(crate) enum Loaded {
    Good(Arc<Entry>),
    /// Its checksum is wrong, or it cannot be decoded. The id may be damaged too.
    Damaged {
        seq: u64,
        topic: TopicId,
        id: MessageId,
    },
}

/// What the writer tells the driver, always after the commit.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Appended(Arc<Entry>),
    /// Messages up to this seq did not fit into memory: read them from the file.
    Missed {
        end_seq: u64,
    },
    TopicOpened(Topic),
    /// Where a receiver's cursor begins, or where it stands as far as the file knows.
    CursorOpened(Cursor),
    /// Where a cursor stands that has to begin anew from there: a run of it was ignored, because messages lie before it of which nothing is
    /// known, or a message turned up that nobody had seen.
    CursorBehind(Cursor),
    /// Nothing of the topic is for this receiver any more.
    CursorClosed {
        receiver: NodeId,
        topic: TopicId,
    },
    /// Waiting messages gave way to new ones, or were purged.
    Dropped {
        receiver: NodeId,
        topic: TopicId,
        up_to_seq: u64,
        count: u64,
    },
    /// Messages that waited for a channel's first reader gave way to new ones.
    DroppedUnclaimed {
        channel: ChannelName,
        count: u64,
    },
    ExpiredUnclaimed {
        channel: ChannelName,
        count: u64,
    },
    /// A message that waits for a first reader may expire then, by the file's clock; none does before.
    UnclaimedExpires {
        at_ms: u64,
    },
    /// What waits for somebody has reached a mark below the queue limit, or the files one below theirs.
    Filling,
    /// Nothing can be written before the file was opened again and checked.
    Down,
    /// It can be written again. `received`: how far this node has committed each sender's topics, a commit included of which nobody could
    /// tell whether it had come about.
    Up {
        received: Vec<InboxRow>,
    },
    StorageFull,
    StorageLimitReached(StorageUse),
    StorageRecovered,
    StorageFailed(String),
    /// Somebody else's reading keeps the log from beginning again.
    LogHeld {
        bytes: u64,
        /// The processes, where the system tells.
        readers: Vec<u32>,
    },
    /// It begins again.
    LogReleased,
    ClockJumped {
        by_ms: i64,
    },
    LogCut(LogCut),
}
