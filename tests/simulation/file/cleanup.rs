//! What nobody waits for: messages that have no reader yet, and those that everybody has passed.

use std::collections::BTreeMap;
use std::rc::Rc;

use waypost::protocol::TopicId;
use waypost::protocol::looks::Pending;
use waypost::protocol::report::Account;
use waypost::{ChannelName, NodeId};

use super::{Op, Row, Tables, TopicRow, Transaction};

impl Tables {
    /// Up to here some reader has dealt with the topic's messages.
    fn claimed_seq(&self, topic: TopicId) -> u64 {
        let row = &self.topics[&topic];
        if row.target.is_some() {
            return row.last_seq;
        }
        let settled = self.settlements.keys().filter(|(_, of, _)| *of == topic);
        let settled = settled.map(|(_, _, last_seq)| *last_seq);
        let passed = self.cursors.iter().filter(|((_, of), _)| *of == topic);
        settled.chain(passed.map(|(_, cursor)| cursor.acked_seq)).max().unwrap_or(0)
    }

    fn is_read(&self, topic: TopicId) -> bool {
        self.cursors.iter().any(|((_, of), cursor)| *of == topic && cursor.open)
    }

    /// What waits for a first reader; nothing where there is one.
    pub(crate) fn unclaimed(&self, topic: TopicId) -> impl Iterator<Item = &Rc<Row>> {
        let from = if self.is_read(topic) { u64::MAX - 1 } else { self.claimed_seq(topic) };
        self.behind(topic, from)
    }

    /// When the next message expires that waits for a first reader.
    pub(crate) fn unclaimed_expires(&self) -> Option<u64> {
        let topics = self.topics.keys().flat_map(|topic| self.unclaimed(*topic));
        topics.filter_map(|row| row.expires_ms).min()
    }

    /// What waits, by topic.
    pub(crate) fn all_pending(&self) -> Vec<Pending> {
        let pending = |receiver: Option<&NodeId>, topic: TopicId, count| {
            let (receiver, channel) = (receiver.cloned(), self.topics[&topic].channel.clone());
            Pending { receiver, topic, channel, count }
        };
        let cursors = self.cursors.iter().map(|((receiver, topic), cursor)| {
            let accepted = self.topics[topic].accepted;
            pending(Some(receiver), *topic, cursor.pending(accepted))
        });
        let topics = self.topics.keys();
        let first =
            topics.map(|topic| pending(None, *topic, self.unclaimed(*topic).count() as u64));
        cursors.chain(first).filter(|pending| pending.count > 0).collect()
    }

    /// The same as accounts, one a receiver.
    pub(crate) fn accounts(&self) -> Vec<Account> {
        let mut sums = BTreeMap::<Option<NodeId>, u64>::new();
        for Pending { receiver, count, .. } in self.all_pending() {
            *sums.entry(receiver).or_default() += count;
        }
        let accounts = sums.into_iter().map(|(receiver, pending)| {
            let mut account = Account::default();
            (account.receiver, account.accepted, account.pending) = (receiver, pending, pending);
            account
        });
        accounts.collect()
    }
}

impl Transaction<'_> {
    pub(crate) fn broadcasts(&self, channel: &ChannelName) -> Vec<TopicId> {
        let of = |row: &TopicRow| row.channel == *channel && row.target.is_none();
        self.tables.topics.iter().filter(|(_, row)| of(row)).map(|(topic, _)| *topic).collect()
    }

    pub(crate) fn claimed_seq(&self, topic: TopicId) -> u64 {
        self.tables.claimed_seq(topic)
    }

    pub(crate) fn unclaimed(&self, topic: TopicId) -> impl Iterator<Item = &Rc<Row>> {
        self.tables.unclaimed(topic)
    }

    pub(crate) fn expire_unclaimed(&mut self) {
        let topics: Vec<TopicId> = self.tables.topics.keys().copied().collect();
        for topic in topics {
            let now_ms = self.now_ms;
            let expired = |row: &&Rc<Row>| row.expires_ms.is_some_and(|at| at <= now_ms);
            let doomed = self.unclaimed(topic).filter(expired).map(|row| row.seq).collect();
            self.delete_unclaimed(topic, doomed);
        }
    }

    pub(crate) fn drop_unclaimed(&mut self, channel: &ChannelName, mut excess: u64) {
        for topic in self.broadcasts(channel) {
            let doomed: Vec<u64> =
                self.unclaimed(topic).take(excess as usize).map(|row| row.seq).collect();
            excess -= doomed.len() as u64;
            self.delete_unclaimed(topic, doomed);
        }
    }

    fn delete_unclaimed(&mut self, topic: TopicId, doomed: Vec<u64>) {
        if doomed.is_empty() {
            return;
        }
        for seq in &doomed {
            let uid = self.tables.outbox[seq].uid;
            self.put(Op::Unread(uid));
            self.put(Op::Delete(*seq));
        }
        let row = self.tables.topics[&topic].clone();
        let left = self.tables.behind(topic, 0).last().map(|row| row.seq);
        let last_seq = left.unwrap_or_else(|| self.claimed_seq(topic));
        let unclaimed_expired = row.unclaimed_expired + doomed.len() as u64;
        self.put(Op::Topic(topic, TopicRow { last_seq, unclaimed_expired, ..row }));
    }

    /// Deletes what is settled and older than the retention, and what expired before it had a reader.
    pub(crate) fn clean_up(&mut self) {
        self.delete_settled(self.now_ms.saturating_sub(self.limits.retention_ms));
        self.expire_unclaimed();
    }

    /// Deletes what is settled and older than that.
    pub(crate) fn delete_settled(&mut self, keep_from_ms: u64) {
        let passed = |row: &Row| {
            let open = self.tables.cursors.iter();
            let open = open.filter(|((_, topic), cursor)| *topic == row.topic && cursor.open);
            let lowest = open.map(|(_, cursor)| cursor.acked_seq).min();
            row.seq <= lowest.unwrap_or_else(|| self.claimed_seq(row.topic))
        };
        let old = self.tables.outbox.values().take_while(|row| row.created_ms < keep_from_ms);
        let doomed: Vec<u64> = old.filter(|row| passed(row)).map(|row| row.seq).collect();
        for seq in doomed {
            self.put(Op::Delete(seq));
        }
        let old = self.tables.settlements.iter().filter(|(_, row)| row.at_ms < keep_from_ms);
        let doomed: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        for (receiver, topic, last_seq) in doomed {
            self.put(Op::Settlement(receiver, topic, last_seq, None));
        }
        let old = self.tables.attempts.iter().filter(|(_, (_, at_ms))| *at_ms < keep_from_ms);
        let doomed: Vec<_> = old.map(|(key, _)| key.clone()).collect();
        for (receiver, seq) in doomed {
            self.put(Op::Attempts(receiver, seq, None));
        }
    }
}
