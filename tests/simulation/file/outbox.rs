//! Accepting messages: topics, places, ids, the queue limit.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use waypost::protocol::TopicId;
use waypost::protocol::laggard::{MARKS, mark_at};
use waypost::{ChannelName, MessageId, NodeId, Priority};

use super::{Notice, Op, Outcome, Row, TopicRow, Transaction, Uid};

/// A message that a program wants to send.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) uid: Uid,
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    pub(crate) ttl_ms: Option<u64>,
}

/// Who a message counts against at the queue limit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Waiting {
    /// The first reader, yet to come, of a channel.
    Channel(ChannelName),
    Node(NodeId),
}

impl Transaction<'_> {
    /// All of the batch, or `None`: some receiver has no room.
    pub(crate) fn send(&mut self, batch: &[Draft]) -> Option<Vec<Rc<Row>>> {
        self.make_room(batch)?;
        Some(batch.iter().map(|draft| self.append(draft)).collect())
    }

    fn append(&mut self, draft: &Draft) -> Rc<Row> {
        let topic = self.topic_for(draft);
        let seq = self.tables.end_seq + 1;
        let id = MessageId::after(self.last_id(), self.now_ms, self.dice.wide());
        let created_ms = self.now_ms.max(self.tables.last_created_ms());
        let row = Rc::new(Row {
            uid: draft.uid,
            seq,
            id,
            topic,
            channel: draft.channel.clone(),
            target: draft.target.clone(),
            lane: draft.lane,
            created_ms,
            expires_ms: draft.ttl_ms.map(|ttl| created_ms + ttl),
        });
        self.put(Op::Append(row.clone()));
        self.put(Op::LastId(id));
        let before = &self.tables.topics[&topic];
        let accepted = before.accepted + 1;
        self.put(Op::Topic(topic, TopicRow { accepted, last_seq: seq, ..before.clone() }));
        let open: Vec<NodeId> = self.readers_of(topic);
        if let (true, None, Some(at_ms)) = (open.is_empty(), &row.target, row.expires_ms) {
            self.notices.push(Notice::UnclaimedExpires { at_ms });
        }
        for receiver in open {
            self.put(Op::Fate(receiver, topic, seq, None));
        }
        self.notices.push(Notice::Appended(row.clone()));
        row
    }

    fn readers_of(&self, topic: TopicId) -> Vec<NodeId> {
        let open = self.tables.cursors.iter().filter(|((_, of), row)| *of == topic && row.open);
        open.map(|((receiver, _), _)| receiver.clone()).collect()
    }

    fn named(&self, draft: &Draft) -> Option<TopicId> {
        let fits = |row: &TopicRow| {
            row.channel == draft.channel && row.target == draft.target && row.lane == draft.lane
        };
        self.tables.topics.iter().find(|(_, row)| fits(row)).map(|(topic, _)| *topic)
    }

    /// The topic, made if need be, with a cursor for everyone whom its next message is for.
    fn topic_for(&mut self, draft: &Draft) -> TopicId {
        if let Some(topic) = self.named(draft) {
            if let Some(target) = &draft.target
                && !self.tables.cursors.get(&(target.clone(), topic)).is_some_and(|row| row.open)
            {
                let last_seq = self.tables.topics[&topic].last_seq;
                self.open_cursor(target, topic, last_seq);
            }
            return topic;
        }
        let topic = TopicId(self.tables.topics.last_key_value().map_or(1, |(last, _)| last.0 + 1));
        let row = TopicRow {
            channel: draft.channel.clone(),
            target: draft.target.clone(),
            lane: draft.lane,
            accepted: 0,
            last_seq: 0,
            unclaimed_expired: 0,
        };
        self.notices.push(Notice::TopicOpened(topic, row.clone()));
        self.put(Op::Topic(topic, row));
        let receivers = match &draft.target {
            Some(target) => vec![target.clone()],
            None => self.subscribers(&draft.channel),
        };
        let end_seq = self.tables.end_seq;
        for receiver in &receivers {
            self.open_cursor(receiver, topic, end_seq);
        }
        topic
    }

    fn subscribers(&self, channel: &ChannelName) -> Vec<NodeId> {
        let of = self.tables.subscriptions.iter().filter(|(of, _)| of == channel);
        of.map(|(_, node)| node.clone()).collect()
    }

    fn make_room(&mut self, batch: &[Draft]) -> Option<()> {
        let limit = self.limits.queue;
        let mut more: BTreeMap<Waiting, (u64, BTreeSet<TopicId>)> = BTreeMap::new();
        for draft in batch {
            let audience = match &draft.target {
                Some(target) => vec![Waiting::Node(target.clone())],
                None => match self.subscribers(&draft.channel) {
                    nobody if nobody.is_empty() => vec![Waiting::Channel(draft.channel.clone())],
                    readers => readers.into_iter().map(Waiting::Node).collect(),
                },
            };
            let topic = self.named(draft);
            for waiting in audience {
                let (count, topics) = more.entry(waiting).or_default();
                *count += 1;
                topics.extend(topic);
            }
        }
        let mut over = Vec::new();
        let mark = mark_at(limit, MARKS[0]);
        for (waiting, (count, topics)) in more {
            let mut pending = self.backlog(&waiting);
            if pending + count >= mark && !matches!(self.notices.last(), Some(Notice::Filling)) {
                self.notices.push(Notice::Filling);
            }
            if pending + count > limit
                && let Waiting::Node(node) = &waiting
            {
                // Nothing of what is known to be settled gives way.
                self.take_over(node);
                pending = self.backlog(&waiting);
            }
            if pending + count <= limit {
                continue;
            }
            if !self.limits.drop_oldest || count > limit {
                return None;
            }
            over.push((waiting, topics, pending + count - limit));
        }
        for (waiting, topics, excess) in over {
            match waiting {
                Waiting::Node(node) => self.drop_waiting(&node, &topics, excess),
                Waiting::Channel(channel) => self.drop_unclaimed(&channel, excess),
            }
        }
        Some(())
    }

    fn backlog(&mut self, waiting: &Waiting) -> u64 {
        match waiting {
            Waiting::Node(node) => self.tables.pending(node),
            Waiting::Channel(channel) => {
                self.expire_unclaimed();
                self.broadcasts(channel).into_iter().map(|t| self.unclaimed(t).count() as u64).sum()
            }
        }
    }

    /// The receiver's oldest: of the topics that get new ones first, then of those whose oldest are oldest.
    fn drop_waiting(&mut self, receiver: &NodeId, first: &BTreeSet<TopicId>, mut excess: u64) {
        let waits = self.tables.cursors_of(receiver).map(|(topic, cursor)| {
            let pending = cursor.pending(self.tables.topics[&topic].accepted);
            (!first.contains(&topic), cursor.acked_seq, topic, pending)
        });
        let mut candidates: Vec<_> = waits.collect();
        candidates.sort_unstable();
        for (_, acked_seq, topic, pending) in candidates {
            let count = pending.min(excess);
            if count == 0 {
                continue;
            }
            let up_to_seq = self
                .tables
                .behind(topic, acked_seq)
                .nth(count as usize - 1)
                .map_or(self.tables.topics[&topic].last_seq, |row| row.seq);
            self.advance_cursor(receiver, topic, up_to_seq, count, Outcome::Purged, None);
            let receiver = receiver.clone();
            self.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
            excess -= count;
        }
    }
}
