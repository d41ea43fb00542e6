//! One transaction: rows written, and what to tell the driver once they are committed.

use std::rc::Rc;

use waypost::protocol::TopicId;
use waypost::protocol::election::Record;
use waypost::protocol::inbox::Source;
use waypost::protocol::membership::Known;
use waypost::protocol::settling::Settling;
use waypost::{ChannelName, MessageId, NodeId, StoreId};

use super::{Cursor, JoinRow, Op, Receipt, Row, Tables, TopicRow, Uid};
use crate::dice::Dice;

/// How far beyond the file's own time an id may lie that somebody else tells of: 366 days.
const MAX_AHEAD_MS: u64 = 366 * 86_400_000;

/// Settings of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) queue: u64,
    pub(crate) drop_oldest: bool,
    pub(crate) retention_ms: u64,
    /// Messages that may wait for the driver to take them; further ones it has to read.
    pub(crate) notices: usize,
}

/// What the writer tells the driver after a commit.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    Appended(Rc<Row>),
    Missed {
        end_seq: u64,
    },
    TopicOpened(TopicId, TopicRow),
    CursorOpened(Cursor),
    CursorBehind(Cursor),
    CursorClosed {
        receiver: NodeId,
        topic: TopicId,
    },
    Dropped {
        receiver: NodeId,
        topic: TopicId,
        up_to_seq: u64,
        count: u64,
    },
    /// A message that waits for a first reader may expire then, by the file's clock; none does before.
    UnclaimedExpires {
        at_ms: u64,
    },
    /// What waits for somebody has reached a mark below the queue limit.
    Filling,
    Down,
    Up {
        received: Vec<(Source, MessageId)>,
    },
}

/// The open transaction of a group of jobs.
pub(crate) struct Transaction<'a> {
    pub(crate) tables: &'a mut Tables,
    pub(crate) ops: Vec<Op>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) limits: Limits,
    pub(crate) now_ms: u64,
    pub(crate) dice: &'a mut Dice,
    /// What the process knows to be settled and has not brought here.
    pub(crate) under_way: Option<&'a Settling>,
    /// What the model found wrong with what it was asked to write.
    pub(crate) complaints: Vec<String>,
}

impl Transaction<'_> {
    pub(crate) fn put(&mut self, op: Op) {
        self.tables.apply(&op);
        self.ops.push(op);
    }

    /// Notes that messages are done with: the newest one's row is all that the node writes. `false`: it was noted before.
    pub(crate) fn advance(
        &mut self,
        source: &Source,
        id: MessageId,
        taken: &[Uid],
        how: Receipt,
    ) -> bool {
        if self.tables.inbox.get(source).is_some_and(|last| *last >= id) {
            return false;
        }
        self.put(Op::Inbox(source.clone(), id));
        // Of several messages the first may have come before, and not the last, whose id this is: each was looked at when it was handled.
        let sent_anew = self.tables.was_taken_elsewhere(source, MessageId::ZERO);
        for uid in taken {
            if let Some(before) = self.tables.receipts.get(uid).filter(|_| !sent_anew) {
                self.complaints.push(format!("P5: message {uid} is taken again, after {before:?}"));
            }
            self.put(Op::Receipt(*uid, how));
        }
        true
    }

    pub(crate) fn know_peer(&mut self, peer: &Known) {
        self.put(Op::Peer(peer.node.clone(), Some(peer.clone())));
    }

    pub(crate) fn join(&mut self, channel: &ChannelName) -> u64 {
        let known = self.tables.joins.get(channel).filter(|row| row.left_ms.is_none());
        if let Some(row) = known {
            return row.joined_ms;
        }
        self.put(Op::Join(channel.clone(), JoinRow { joined_ms: self.now_ms, left_ms: None }));
        self.now_ms
    }

    pub(crate) fn leave(&mut self, channel: &ChannelName) {
        let row = self.tables.joins.get(channel).copied().filter(|row| row.left_ms.is_none());
        if let Some(row) = row {
            self.put(Op::Join(channel.clone(), JoinRow { left_ms: Some(self.now_ms), ..row }));
        }
    }

    pub(crate) fn raise_last_id(&mut self, id: MessageId) {
        let last = self.last_id();
        let latest_ms = self.now_ms.max(last.timestamp_ms()).saturating_add(MAX_AHEAD_MS);
        if id.timestamp_ms() <= latest_ms && id > last {
            self.put(Op::LastId(id));
        }
    }

    pub(crate) fn new_store(&mut self, from: MessageId) -> StoreId {
        let store = StoreId::from_u128(self.dice.wide());
        let first = MessageId::from_u128(from.as_u128().saturating_add(1));
        self.put(Op::Store(first, store));
        store
    }

    /// Terms only grow, and one has one vote.
    pub(crate) fn save_election(&mut self, record: Record) {
        let before = self.tables.election.clone();
        let mut row = before.clone();
        row.write(record);
        let other_vote =
            row.term == before.term && before.vote.is_some() && row.vote != before.vote;
        if row.term < before.term || other_vote {
            self.complaints.push(format!("P9: {row:?} takes the place of {before:?}"));
        }
        self.put(Op::Election(row));
    }

    pub(crate) fn last_id(&self) -> MessageId {
        self.tables.last_id.unwrap_or(MessageId::ZERO)
    }
}
