//! What nobody waits for: messages that have no reader yet, and those that everybody has passed.

use std::rc::Rc;

use waypost::ChannelName;
use waypost::protocol::TopicId;

use super::{Op, Row, TopicRow, Transaction};

impl Transaction<'_> {
    pub(crate) fn broadcasts(&self, channel: &ChannelName) -> Vec<TopicId> {
        let of = |row: &TopicRow| row.channel == *channel && row.target.is_none();
        self.tables.topics.iter().filter(|(_, row)| of(row)).map(|(topic, _)| *topic).collect()
    }

    /// Up to here some reader has dealt with the topic's messages.
    pub(crate) fn claimed_seq(&self, topic: TopicId) -> u64 {
        let row = &self.tables.topics[&topic];
        if row.target.is_some() {
            return row.last_seq;
        }
        let settled = self.tables.settlements.keys().filter(|(_, of, _)| *of == topic);
        let settled = settled.map(|(_, _, last_seq)| *last_seq);
        let passed = self.tables.cursors.iter().filter(|((_, of), _)| *of == topic);
        settled.chain(passed.map(|(_, cursor)| cursor.acked_seq)).max().unwrap_or(0)
    }

    fn is_read(&self, topic: TopicId) -> bool {
        self.tables.cursors.iter().any(|((_, of), cursor)| *of == topic && cursor.open)
    }

    /// What waits for a first reader; nothing where there is one.
    pub(crate) fn unclaimed(&self, topic: TopicId) -> impl Iterator<Item = &Rc<Row>> {
        let from = if self.is_read(topic) { u64::MAX - 1 } else { self.claimed_seq(topic) };
        self.tables.behind(topic, from)
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
