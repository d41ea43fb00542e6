//! What a delivery is told, and what it decides.

use std::sync::Arc;

use super::Head;
use crate::message::{MessageId, Priority, TopicId};
use crate::protocol::frame::Verdict;
use crate::protocol::origin::Judgement;
use crate::protocol::settling::{Position, Settled};

/// How the record of an attempt begins that the receiver's handler has failed.
pub const HANDLER_FAILED: &str = "the handler failed: ";

/// What a receiver said about a message.
#[derive(Debug)]
pub struct Reply {
    pub topic: TopicId,
    pub id: MessageId,
    /// The newest message of the topic that it has committed.
    pub last: Option<MessageId>,
    pub verdict: Verdict,
    pub judgement: Judgement,
}

#[derive(Debug)]
pub enum Event<B> {
    /// A cursor: this receiver takes messages of this topic from here on. `last_seq`: the topic's newest.
    Opened {
        topic: TopicId,
        lane: Priority,
        at: Position,
        last_seq: u64,
    },
    /// The message at this place was failed by the receiver's handler in an earlier run, at this attempt.
    Failed {
        topic: TopicId,
        seq: u64,
        attempt: u32,
    },
    Closed {
        topic: TopicId,
    },
    /// The receiver says whether it takes this topic's messages now.
    Activity {
        topic: TopicId,
        active: bool,
    },
    /// Messages were just committed, these in this order. Those of topics that this receiver does not read are passed over, so that one list
    /// does for all receivers.
    Appended(Arc<[Head<B>]>),
    /// Messages were committed, up to this one, that memory had no room for.
    Missed {
        end_seq: u64,
    },
    /// The same of one topic, while the receiver was not told.
    Slept {
        topic: TopicId,
        end_seq: u64,
    },
    /// A page that was asked for.
    Loaded {
        token: u64,
        /// As they were asked for.
        topics: Vec<(TopicId, u64)>,
        heads: Vec<Head<B>>,
        scanned_to: u64,
        end: bool,
    },
    LoadFailed {
        token: u64,
    },
    Answered(Reply),
    Online,
    Offline,
    /// A keepalive of the receiver's came.
    Heard,
    /// The receiver is another incarnation now, or on another connection: what was in flight may be gone with the old one.
    Restarted,
    LinkUp,
    LinkDown,
    /// The frame did not leave.
    Unsent(Unsent),
    /// A frame that did not leave because the transport was busy may leave now.
    Room,
    /// Messages from this one on travel under another store id from now on.
    StoreChanged {
        from: MessageId,
    },
    /// What was settled otherwise than by an acknowledgement is in the file, up to here.
    Recorded {
        topic: TopicId,
        up_to_seq: u64,
    },
    /// The store purged all up to here.
    Dropped {
        topic: TopicId,
        up_to_seq: u64,
        count: u64,
    },
    Woke,
}

/// Why a frame did not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsent {
    NotConnected,
    Busy,
    TooLarge { size: usize, limit: usize },
}

#[derive(Debug, Clone, PartialEq)]
pub enum Action<B> {
    /// Read a page of these topics of one lane, each from after the given `seq`, and say `Loaded` with the same token.
    Load { token: u64, lane: Priority, topics: Vec<(TopicId, u64)>, max_messages: usize },
    Publish {
        topic: TopicId,
        heads: Vec<Head<B>>,
        attempt: u32,
        /// So many of its first messages went out before, which need not have been attempts.
        repeated: usize,
        previous: Option<MessageId>,
        skipped: u64,
    },
    /// These messages are settled; tell the store.
    Settle {
        topic: TopicId,
        first_seq: u64,
        last_seq: u64,
        last_id: MessageId,
        count: u64,
        how: Settled,
    },
    /// The frame that begins with this message had no answer, so many times in a row, although the receiver was heard; note it.
    Unanswered { topic: TopicId, seq: u64, id: MessageId, attempt: u32, times: u32 },
    /// An attempt failed; note it.
    Attempted { topic: TopicId, seq: u64, id: MessageId, attempt: u32, answer: String },
    /// An answer proves that our file is an older copy of itself.
    WentBack { newest: MessageId },
    /// An answer that fits nothing.
    Unmatched,
}

/// A frame that is likely to go out next.
#[derive(Debug)]
pub struct Foreseen<B> {
    pub topic: TopicId,
    pub heads: Vec<Head<B>>,
    pub previous: Option<MessageId>,
    pub skipped: u64,
}
