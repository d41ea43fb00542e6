//! How far each receiver is in each topic, and how its messages ended.

use waypost::protocol::TopicId;
use waypost::protocol::delivery::HANDLER_FAILED;
use waypost::protocol::peers::Start;
use waypost::protocol::settling::{Attempt, Run};
use waypost::{ChannelName, MessageId, NodeId};

use super::{CursorRow, Notice, Op, Outcome, SettlementRow, Tables, Transaction};

/// A cursor as the driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) receiver: NodeId,
    pub(crate) topic: TopicId,
    pub(crate) acked_seq: u64,
    pub(crate) acked_id: Option<MessageId>,
    pub(crate) pending: u64,
    pub(crate) skipped: u64,
    /// The first message behind it that the receiver's handler has failed, and how often.
    pub(crate) failed: Option<(u64, u32)>,
    pub(crate) last_seq: u64,
}

impl Tables {
    /// A cursor as the driver sees it.
    pub(crate) fn shown(&self, receiver: &NodeId, topic: TopicId) -> Option<Cursor> {
        let row = self.cursors.get(&(receiver.clone(), topic))?;
        Some(Cursor {
            receiver: receiver.clone(),
            topic,
            acked_seq: row.acked_seq,
            acked_id: row.acked_id,
            pending: row.pending(self.topics[&topic].accepted),
            skipped: 0,
            failed: None,
            last_seq: self.topics[&topic].last_seq,
        })
    }

    /// How many messages a cursor has passed otherwise since the last acknowledged one.
    pub(crate) fn skipped(&self, receiver: &NodeId, topic: TopicId) -> u64 {
        let of = (receiver.clone(), topic, 0)..=(receiver.clone(), topic, u64::MAX);
        let back = self.settlements.range(of).rev().map(|(_, row)| row);
        back.take_while(|row| row.outcome != Outcome::Acknowledged).map(|row| row.count).sum()
    }

    fn failed(&self, receiver: &NodeId, topic: TopicId, acked_seq: u64) -> Option<(u64, u32)> {
        let of = (receiver.clone(), acked_seq + 1)..=(receiver.clone(), u64::MAX);
        let rows = self.attempts.range(of);
        let is_of = |seq: &u64| self.outbox.get(seq).is_some_and(|row| row.topic == topic);
        rows.map(|((_, seq), (count, _))| (*seq, *count)).find(|(seq, _)| is_of(seq))
    }

    pub(crate) fn open_keys(&self) -> Vec<(NodeId, TopicId)> {
        let open = self.cursors.iter().filter(|(_, row)| row.open);
        open.map(|(key, _)| key.clone()).collect()
    }

    pub(crate) fn open_cursors(&self) -> Vec<Cursor> {
        let open = self.cursors.iter().filter(|(_, row)| row.open);
        open.filter_map(|((receiver, topic), row)| {
            let skipped = self.skipped(receiver, *topic);
            let failed = self.failed(receiver, *topic, row.acked_seq);
            Some(Cursor { skipped, failed, ..self.shown(receiver, *topic)? })
        })
        .collect()
    }
}

impl Transaction<'_> {
    /// Takes over what the driver has seen: the file has the last word about where a cursor is.
    pub(crate) fn settle(&mut self, runs: &[Run]) {
        let mut behind = std::collections::BTreeSet::new();
        for run in runs {
            if !self.settle_run(run) {
                behind.insert((run.receiver.clone(), run.topic));
            }
        }
        for (receiver, topic) in behind {
            if let Some(mut cursor) = self.tables.shown(&receiver, topic) {
                cursor.skipped = self.tables.skipped(&receiver, topic);
                self.notices.push(Notice::CursorBehind(cursor));
            }
        }
    }

    pub(crate) fn note_attempts(&mut self, attempts: &[Attempt]) {
        for Attempt { receiver, seq, attempt, at_ms, answer } in attempts {
            let key = (receiver.clone(), *seq);
            let before = self.tables.attempts.get(&key).map_or(0, |(count, _)| *count);
            if answer.starts_with(HANDLER_FAILED) {
                let row = Some(((*attempt).max(before), *at_ms));
                self.put(Op::Attempts(receiver.clone(), *seq, row));
            }
        }
    }

    /// Takes over what the process has seen of this receiver and not brought yet. Before anything of it is given up.
    pub(crate) fn take_over(&mut self, receiver: &NodeId) {
        let runs = self.under_way.map(|settling| settling.of(receiver)).unwrap_or_default();
        self.settle(&runs);
    }

    /// `false`: messages of which nothing is known lie before the run.
    fn settle_run(&mut self, run: &Run) -> bool {
        let key = (run.receiver.clone(), run.topic);
        let Some(cursor) = self.tables.cursors.get(&key).copied() else { return true };
        let topic = &self.tables.topics[&run.topic];
        let (pending, end) = (cursor.pending(topic.accepted), topic.last_seq);
        if run.last_seq <= cursor.acked_seq || pending == 0 {
            return true;
        }
        let next = self.tables.behind(run.topic, cursor.acked_seq).next().map(|row| row.seq);
        if run.first_seq > cursor.acked_seq && next.is_some_and(|next| next < run.first_seq) {
            return false;
        }
        let last_seq = run.last_seq.min(end);
        let rows = self.tables.behind(run.topic, cursor.acked_seq);
        let count = rows.take_while(|row| row.seq <= last_seq).count() as u64;
        if run.first_seq > cursor.acked_seq && run.count != count {
            let says = format!("{run:?} covers {count} messages");
            self.complaints.push(format!("P2: a run was miscounted: {says}"));
        }
        let outcome = Outcome::of(&run.how);
        let id = (outcome == Outcome::Acknowledged).then_some(run.last_id);
        self.advance_cursor(&run.receiver, run.topic, last_seq, count, outcome, id);
        true
    }

    /// Moves a cursor over so many messages that ended in the same way.
    pub(crate) fn advance_cursor(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        last_seq: u64,
        count: u64,
        outcome: Outcome,
        acked_id: Option<MessageId>,
    ) {
        let Some(mut cursor) = self.tables.cursors.get(&(receiver.clone(), topic)).copied() else {
            return;
        };
        self.note_fates(receiver, topic, (cursor.acked_seq, last_seq), count, outcome);
        let row =
            SettlementRow { first_seq: cursor.acked_seq + 1, outcome, count, at_ms: self.now_ms };
        match outcome {
            Outcome::Acknowledged => cursor.acknowledged += count,
            Outcome::Expired => cursor.expired += count,
            Outcome::Dead => cursor.dead += count,
            Outcome::Purged => cursor.purged += count,
        }
        cursor.acked_seq = last_seq;
        cursor.acked_id = acked_id.or(cursor.acked_id);
        self.put(Op::Cursor(receiver.clone(), topic, Some(cursor)));
        if count > 0 {
            self.put(Op::Settlement(receiver.clone(), topic, last_seq, Some(row)));
        }
    }

    /// The oracle's own account of the same: each message's fate, decided once.
    fn note_fates(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        (after, to): (u64, u64),
        count: u64,
        outcome: Outcome,
    ) {
        let fates = self.tables.fates.get(&(receiver.clone(), topic));
        let of = fates.into_iter().flat_map(|fates| fates.range(after + 1..=to));
        let of: Vec<(u64, Option<Outcome>)> = of.map(|(seq, fate)| (*seq, *fate)).collect();
        if of.len() as u64 != count || of.iter().any(|(_, fate)| fate.is_some()) {
            self.complaints.push(format!(
                "P2: {count} messages of {topic:?} up to {to} end as {outcome:?} for {receiver}, where {of:?} stood"
            ));
        }
        for (seq, _) in of {
            self.put(Op::Fate(receiver.clone(), topic, seq, Some(outcome)));
            let uid = self.tables.outbox.get(&seq).map(|row| row.uid);
            if let Some(uid) = uid.filter(|_| outcome != Outcome::Acknowledged) {
                self.put(Op::GivenUp(receiver.clone(), uid));
            }
        }
    }

    /// Opens a receiver's cursor, or opens it again: what it settled before stays in its account.
    pub(crate) fn open_cursor(&mut self, receiver: &NodeId, topic: TopicId, acked_seq: u64) {
        let key = (receiver.clone(), topic);
        let waiting: Vec<u64> = self.tables.behind(topic, acked_seq).map(|row| row.seq).collect();
        let mut row = self.tables.cursors.get(&key).copied().unwrap_or(CursorRow {
            open: true,
            acked_seq,
            acked_id: None,
            base: 0,
            acknowledged: 0,
            expired: 0,
            dead: 0,
            purged: 0,
        });
        let accepted = self.tables.topics[&topic].accepted as i64;
        row.base = accepted - waiting.len() as i64 - row.settled() as i64;
        row.open = true;
        row.acked_seq = acked_seq;
        self.put(Op::Cursor(receiver.clone(), topic, Some(row)));
        for seq in waiting {
            self.put(Op::Fate(receiver.clone(), topic, seq, None));
        }
        let shown = self.tables.shown(receiver, topic).expect("it was put there above");
        self.notices.push(Notice::CursorOpened(shown));
    }

    pub(crate) fn subscribe(&mut self, node: &NodeId, channel: &ChannelName, start: Start) {
        self.put(Op::Subscription(channel.clone(), node.clone(), true));
        for topic in self.broadcasts(channel) {
            let known = self.tables.cursors.get(&(node.clone(), topic)).copied();
            if known.is_some_and(|cursor| cursor.open) {
                continue;
            }
            let settled = known.map_or(0, |cursor| cursor.acked_seq);
            let after = self.position(topic, start).max(settled);
            let first = self.tables.behind(topic, after).next().map(|row| row.seq);
            let end = self.tables.topics[&topic].last_seq;
            let acked_seq = first.map_or(end.max(settled), |first| first - 1);
            self.open_cursor(node, topic, acked_seq);
        }
    }

    /// Behind which seq a reader begins.
    fn position(&self, topic: TopicId, start: Start) -> u64 {
        match start {
            Start::Now => self.tables.topics[&topic].last_seq,
            Start::All => 0,
            Start::Joined { age_ms } => {
                let since = self.position(topic, Start::Since { age_ms });
                match self.unclaimed(topic).next() {
                    Some(_) => since.min(self.claimed_seq(topic)),
                    None => since,
                }
            }
            Start::Since { age_ms } => {
                let from_ms = self.now_ms.saturating_sub(age_ms);
                let older = self.tables.outbox.values().take_while(|row| row.created_ms < from_ms);
                older.last().map_or(0, |row| row.seq)
            }
        }
    }

    /// The node has left the channel: what waited for it there is purged.
    pub(crate) fn unsubscribe(&mut self, node: &NodeId, channel: &ChannelName) {
        self.put(Op::Subscription(channel.clone(), node.clone(), false));
        self.take_over(node);
        for topic in self.broadcasts(channel) {
            self.purge_topic(node, topic);
            let row = self.tables.cursors.get(&(node.clone(), topic)).copied();
            if let Some(row) = row.filter(|row| row.open) {
                self.put(Op::Cursor(node.clone(), topic, Some(CursorRow { open: false, ..row })));
                self.notices.push(Notice::CursorClosed { receiver: node.clone(), topic });
            }
        }
    }

    pub(crate) fn purge(&mut self, receiver: &NodeId, channel: Option<&ChannelName>) {
        self.take_over(receiver);
        let topics: Vec<TopicId> = self.tables.cursors_of(receiver).map(|(t, _)| t).collect();
        for topic in topics {
            let of = &self.tables.topics[&topic].channel;
            if channel.is_some_and(|channel| channel != of) {
                continue;
            }
            if let Some((up_to_seq, count)) = self.purge_topic(receiver, topic) {
                let receiver = receiver.clone();
                self.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
            }
        }
    }

    fn purge_topic(&mut self, receiver: &NodeId, topic: TopicId) -> Option<(u64, u64)> {
        let cursor = self.tables.cursors.get(&(receiver.clone(), topic))?;
        let row = &self.tables.topics[&topic];
        let (end, pending) = (row.last_seq, cursor.pending(row.accepted));
        if pending == 0 {
            return None;
        }
        self.advance_cursor(receiver, topic, end, pending, Outcome::Purged, None);
        Some((end, pending))
    }

    /// Takes away all that was known of a receiver's progress.
    pub(crate) fn forget(&mut self, node: &NodeId) {
        self.take_over(node);
        let cursors: Vec<(TopicId, bool)> =
            self.tables.cursors_of(node).map(|(topic, row)| (topic, row.open)).collect();
        for (topic, open) in cursors {
            self.purge_topic(node, topic);
            self.put(Op::Cursor(node.clone(), topic, None));
            self.put(Op::ForgetFates(node.clone(), topic));
            if open {
                self.notices.push(Notice::CursorClosed { receiver: node.clone(), topic });
            }
        }
        // What was there before it came has no reader any more.
        if let Some(at_ms) = self.tables.unclaimed_expires() {
            self.notices.push(Notice::UnclaimedExpires { at_ms });
        }
        let subscriptions = self.tables.subscriptions.iter().filter(|(_, of)| of == node);
        let channels: Vec<ChannelName> =
            subscriptions.map(|(channel, _)| channel.clone()).collect();
        for channel in channels {
            self.put(Op::Subscription(channel, node.clone(), false));
        }
        self.put(Op::Peer(node.clone(), None));
    }
}
