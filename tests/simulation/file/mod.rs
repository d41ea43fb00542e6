//! A node's file: what its tables hold, and what of it a power cut leaves.
//!
//! The model keeps to what the real store promises its callers (docs/architecture.md, "The file"): one writer, transactions, an fsync only
//! where it was asked for. Everything is changed by writing rows, so that the durable half can follow the volatile one row by row.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use waypost::protocol::TopicId;
use waypost::protocol::delivery::Settled;
use waypost::protocol::election::Durable;
use waypost::protocol::inbox::Source;
use waypost::protocol::life::Record;
use waypost::protocol::membership::Known;
use waypost::{ChannelName, MessageId, NodeId, Priority, StoreId};

use crate::dice::Dice;

mod cleanup;
mod cursors;
mod mailbox;
mod opening;
mod outbox;
mod transaction;
mod writer;

pub(crate) use cursors::Cursor;
pub(crate) use mailbox::Mailbox;
pub(crate) use opening::Restored;
pub(crate) use outbox::Draft;
pub(crate) use transaction::{Limits, Notice, Transaction};
pub(crate) use writer::{Answer, By, Group, Work, Writer};

/// A number that no other message of a simulation has: what tells the oracle which one it sees.
pub(crate) type Uid = u64;

/// A message in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) uid: Uid,
    pub(crate) seq: u64,
    pub(crate) id: MessageId,
    pub(crate) topic: TopicId,
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicRow {
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    pub(crate) accepted: u64,
    pub(crate) last_seq: u64,
    pub(crate) unclaimed_expired: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CursorRow {
    pub(crate) open: bool,
    pub(crate) acked_seq: u64,
    pub(crate) acked_id: Option<MessageId>,
    pub(crate) base: i64,
    pub(crate) acknowledged: u64,
    pub(crate) expired: u64,
    pub(crate) dead: u64,
    pub(crate) purged: u64,
}

impl CursorRow {
    pub(crate) fn settled(&self) -> u64 {
        self.acknowledged + self.expired + self.dead + self.purged
    }

    pub(crate) fn pending(&self, accepted: u64) -> u64 {
        let meant = accepted as i64 - self.base;
        if self.open { u64::try_from(meant).unwrap_or(0).saturating_sub(self.settled()) } else { 0 }
    }
}

/// How a message ended for a receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Acknowledged,
    Expired,
    Dead,
    Purged,
}

impl Outcome {
    pub(crate) fn of(how: &Settled) -> Self {
        match how {
            Settled::Acknowledged => Self::Acknowledged,
            Settled::Expired => Self::Expired,
            Settled::Dead { .. } => Self::Dead,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SettlementRow {
    pub(crate) first_seq: u64,
    pub(crate) outcome: Outcome,
    pub(crate) count: u64,
    pub(crate) at_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JoinRow {
    pub(crate) joined_ms: u64,
    pub(crate) left_ms: Option<u64>,
}

/// How a receipt was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// A row that is not fsynced.
    Plain,
    /// Together with rows of the program's own.
    Transaction,
}

/// All tables. The last three are not the node's: two are the oracle's notes, written in the transactions that they speak of, so that a
/// power cut takes both, and one is a program's own table.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tables {
    /// What is remembered of the file's clock, and when that truly was.
    pub(crate) clock: Option<(Record, Duration)>,
    pub(crate) last_id: Option<MessageId>,
    pub(crate) end_seq: u64,
    pub(crate) stores: BTreeMap<MessageId, StoreId>,
    pub(crate) topics: BTreeMap<TopicId, TopicRow>,
    pub(crate) outbox: BTreeMap<u64, Rc<Row>>,
    pub(crate) cursors: BTreeMap<(NodeId, TopicId), CursorRow>,
    pub(crate) settlements: BTreeMap<(NodeId, TopicId, u64), SettlementRow>,
    /// How often a receiver's handler has failed a message, and when it did last.
    pub(crate) attempts: BTreeMap<(NodeId, u64), (u32, u64)>,
    pub(crate) inbox: BTreeMap<Source, MessageId>,
    pub(crate) peers: BTreeMap<NodeId, Known>,
    pub(crate) subscriptions: BTreeSet<(ChannelName, NodeId)>,
    pub(crate) joins: BTreeMap<ChannelName, JoinRow>,
    /// For whom the node is being drained.
    pub(crate) draining: Option<NodeId>,
    /// What was promised in elections.
    pub(crate) election: Durable,
    /// How each message ended for each receiver for whom a cursor stands; none while it waits.
    pub(crate) fates: BTreeMap<(NodeId, TopicId), BTreeMap<u64, Option<Outcome>>>,
    /// Messages that some receiver did not get, and that is on record.
    pub(crate) given_up: BTreeSet<(NodeId, Uid)>,
    /// Messages that ended before they had any reader.
    pub(crate) unread: BTreeSet<Uid>,
    pub(crate) receipts: BTreeMap<Uid, Receipt>,
    /// Whether records of attempts were deleted for their age.
    pub(crate) cleaned: bool,
    pub(crate) effects: BTreeMap<Uid, u32>,
}

/// One row written or deleted.
#[derive(Debug, Clone)]
pub(crate) enum Op {
    Clock(Record, Duration),
    LastId(MessageId),
    Store(MessageId, StoreId),
    Topic(TopicId, TopicRow),
    Append(Rc<Row>),
    Delete(u64),
    Cursor(NodeId, TopicId, Option<CursorRow>),
    Settlement(NodeId, TopicId, u64, Option<SettlementRow>),
    Attempts(NodeId, u64, Option<(u32, u64)>),
    Inbox(Source, MessageId),
    Peer(NodeId, Option<Known>),
    Subscription(ChannelName, NodeId, bool),
    Join(ChannelName, JoinRow),
    Draining(Option<NodeId>),
    Election(Durable),
    Fate(NodeId, TopicId, u64, Option<Outcome>),
    ForgetFates(NodeId, TopicId),
    GivenUp(NodeId, Uid),
    Unread(Uid),
    Receipt(Uid, Receipt),
    Effect(Uid),
}

/// Takes the row away for `None`.
fn put<K: Ord, V>(table: &mut BTreeMap<K, V>, key: K, row: Option<V>) {
    match row {
        Some(row) => table.insert(key, row),
        None => table.remove(&key),
    };
}

impl Tables {
    pub(crate) fn apply(&mut self, op: &Op) {
        match op.clone() {
            Op::Clock(record, truly) => self.clock = Some((record, truly)),
            Op::LastId(id) => self.last_id = self.last_id.max(Some(id)),
            Op::Store(from, store) => put(&mut self.stores, from, Some(store)),
            Op::Topic(topic, row) => put(&mut self.topics, topic, Some(row)),
            Op::Append(row) => {
                self.end_seq = row.seq;
                self.outbox.insert(row.seq, row);
            }
            Op::Delete(seq) => put(&mut self.outbox, seq, None),
            Op::Cursor(node, topic, row) => put(&mut self.cursors, (node, topic), row),
            Op::Settlement(node, topic, last_seq, row) => {
                put(&mut self.settlements, (node, topic, last_seq), row);
            }
            Op::Attempts(node, seq, row) => {
                self.cleaned |= row.is_none();
                put(&mut self.attempts, (node, seq), row);
            }
            Op::Inbox(source, id) => put(&mut self.inbox, source, Some(id)),
            Op::Peer(node, row) => put(&mut self.peers, node, row),
            Op::Subscription(channel, node, true) => {
                self.subscriptions.insert((channel, node));
            }
            Op::Subscription(channel, node, false) => {
                self.subscriptions.remove(&(channel, node));
            }
            Op::Join(channel, row) => put(&mut self.joins, channel, Some(row)),
            Op::Draining(by) => self.draining = by,
            Op::Election(row) => self.election = row,
            Op::Fate(node, topic, seq, fate) => {
                self.fates.entry((node, topic)).or_default().insert(seq, fate);
            }
            Op::ForgetFates(node, topic) => put(&mut self.fates, (node, topic), None),
            Op::GivenUp(node, uid) => {
                self.given_up.insert((node, uid));
            }
            Op::Unread(uid) => {
                self.unread.insert(uid);
            }
            Op::Receipt(uid, how) => put(&mut self.receipts, uid, Some(how)),
            Op::Effect(uid) => *self.effects.entry(uid).or_default() += 1,
        }
    }

    /// The topic's messages behind a place, in order.
    pub(crate) fn behind(&self, topic: TopicId, after: u64) -> impl Iterator<Item = &Rc<Row>> {
        let rows = self.outbox.range(after + 1..);
        rows.map(|(_, row)| row).filter(move |row| row.topic == topic)
    }

    pub(crate) fn pending(&self, receiver: &NodeId) -> u64 {
        self.cursors_of(receiver)
            .map(|(topic, cursor)| cursor.pending(self.topics[&topic].accepted))
            .sum()
    }

    pub(crate) fn cursors_of<'a>(
        &'a self,
        receiver: &'a NodeId,
    ) -> impl Iterator<Item = (TopicId, &'a CursorRow)> {
        let first = (receiver.clone(), TopicId(i64::MIN));
        let cursors =
            self.cursors.range(first..).take_while(move |((node, _), _)| node == receiver);
        cursors.map(|((_, topic), cursor)| (*topic, cursor))
    }

    pub(crate) fn last_created_ms(&self) -> u64 {
        self.outbox.last_key_value().map_or(0, |(_, row)| row.created_ms)
    }
}

/// The file on its disk.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// What a process sees.
    pub(crate) current: Tables,
    /// What a power cut certainly leaves.
    synced: Tables,
    /// The commits since then, of which a power cut leaves some first ones.
    since: Vec<Vec<Op>>,
}

impl File {
    /// A new one.
    pub(crate) fn new(store: StoreId) -> Self {
        let mut current = Tables::default();
        current.apply(&Op::Store(MessageId::ZERO, store));
        Self { synced: current.clone(), current, since: Vec::new() }
    }

    /// What no power cut takes of what was promised in elections.
    pub(crate) fn durable_election(&self) -> &Durable {
        &self.synced.election
    }

    /// The rows that a transaction has put into `current`.
    fn committed(&mut self, ops: Vec<Op>) {
        if !ops.is_empty() {
            self.since.push(ops);
        }
    }

    /// A process has opened it, or closes it. `missing_ms`: how much more may have passed than is counted.
    pub(crate) fn note_clock(&mut self, record: Record, truly: Duration, missing_ms: u64) {
        let joined = self.current.joins.iter().filter(|(_, row)| row.left_ms.is_none());
        let older = joined.filter(|_| missing_ms > 0).map(|(channel, row)| {
            let joined_ms = row.joined_ms.saturating_sub(missing_ms);
            Op::Join(channel.clone(), JoinRow { joined_ms, ..*row })
        });
        let ops: Vec<Op> = std::iter::once(Op::Clock(record, truly)).chain(older).collect();
        ops.iter().for_each(|op| self.current.apply(op));
        self.committed(ops);
    }

    pub(crate) fn sync(&mut self) {
        for ops in std::mem::take(&mut self.since) {
            ops.iter().for_each(|op| self.synced.apply(op));
        }
    }

    /// Takes back what an uncommitted transaction has put into `current`.
    fn roll_back(&mut self) {
        self.current = self.synced.clone();
        self.since.iter().flatten().for_each(|op| self.current.apply(op));
    }

    /// Returns how many commits were lost.
    pub(crate) fn power_cut(&mut self, dice: &mut Dice) -> usize {
        let kept = dice.index(self.since.len() + 1);
        let lost = self.since.len() - kept;
        self.since.truncate(kept);
        self.sync();
        self.current = self.synced.clone();
        lost
    }

    /// As it is, for a backup.
    pub(crate) fn copy(&self) -> Self {
        let current = self.current.clone();
        Self { synced: current.clone(), current, since: Vec::new() }
    }
}
