//! How far each receiver is in each topic, and how its messages ended.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::ledger::CursorState;
use super::outbox;
use super::types::{Cursor, Forgotten, Loaded, Notice, Outcome, Settlement, Start};
use crate::message::{ChannelName, MessageId, NodeId, TopicId};
use crate::protocol::report::Account;
use crate::protocol::settling::Attempt;

pub(super) const UPSERT: &str = "INSERT INTO waypost_cursors (receiver, topic, open, acked_seq, acked_id, base, acknowledged, expired, dead, purged) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT (receiver, topic) DO UPDATE SET open = excluded.open, acked_seq = excluded.acked_seq, acked_id = excluded.acked_id, base = excluded.base, acknowledged = excluded.acknowledged, expired = excluded.expired, dead = excluded.dead, purged = excluded.purged";
pub(super) const DELETE_OF: &str = "DELETE FROM waypost_cursors WHERE receiver = ?1";
// A receiver that was forgotten and came back may pass a place a second time.
pub(super) const INSERT_SETTLEMENT: &str = "INSERT OR REPLACE INTO waypost_settlements (receiver, topic, last_seq, first_seq, outcome, count, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const INSERT_ATTEMPT: &str = "INSERT OR REPLACE INTO waypost_attempts (receiver, seq, attempt, at_ms, answer) VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const SELECT_SKIPPED: &str = "SELECT coalesce(sum(count), 0) FROM waypost_settlements WHERE receiver = ?1 AND topic = ?2 AND outcome <> 'acknowledged' AND last_seq > coalesce((SELECT last_seq FROM waypost_settlements WHERE receiver = ?1 AND topic = ?2 AND outcome = 'acknowledged' ORDER BY last_seq DESC LIMIT 1), 0)";

/// Takes over what the driver has seen: the file has the last word about where a cursor is.
pub(super) fn settle(
    group: &mut Group<'_>,
    settlements: &[Settlement],
    attempts: &[Attempt],
) -> Result<(), StoreError> {
    let mut behind = BTreeSet::new();
    for settlement in settlements {
        if let Run::Gap = settle_run(group, settlement)? {
            behind.insert((&settlement.receiver, settlement.topic));
        }
    }
    for (receiver, topic) in behind {
        if let Some(mut cursor) = group.ledger.shown(receiver, topic) {
            cursor.skipped = skipped(group.conn, receiver, topic)?;
            group.notices.push(Notice::CursorBehind(cursor));
        }
    }
    let mut insert = group.conn.prepare_cached(INSERT_ATTEMPT).at("note an attempt")?;
    for Attempt { receiver, seq, attempt, at_ms, answer } in attempts {
        insert
            .execute(params![receiver.as_str(), seq, attempt, at_ms, answer])
            .at("note an attempt")?;
    }
    Ok(())
}

/// How many messages a cursor has passed otherwise since the last acknowledged one.
pub(super) fn skipped(
    conn: &Connection,
    receiver: &NodeId,
    topic: TopicId,
) -> Result<u64, StoreError> {
    conn.prepare_cached(SELECT_SKIPPED)
        .and_then(|mut select| {
            select.query_row(params![receiver.as_str(), topic.0], |row| row.get(0))
        })
        .at("read what was skipped")
}

impl Group<'_> {
    /// Takes over what the driver has seen of this receiver and not brought yet. Before anything of it is given up.
    pub(super) fn settle_under_way(&mut self, receiver: &NodeId) -> Result<(), StoreError> {
        let runs = self.settings.under_way.lock().of(receiver);
        if runs.is_empty() {
            return Ok(());
        }
        let runs: Vec<Settlement> = runs.into_iter().map(Into::into).collect();
        settle(self, &runs, &[])
    }
}

/// What became of a run.
enum Run {
    /// It is settled, or was before.
    Known,
    /// Messages of which nothing is known lie before it.
    Gap,
}

fn settle_run(group: &mut Group<'_>, run: &Settlement) -> Result<Run, StoreError> {
    let (receiver, topic) = (&run.receiver, run.topic);
    let Some(cursor) = group.ledger.cursor(receiver, topic).copied() else { return Ok(Run::Known) };
    let Some(state) = group.ledger.topic(topic) else { return Ok(Run::Known) };
    let (accepted, end) = (state.topic.accepted, state.topic.last_seq);
    let pending = cursor.pending(accepted);
    if run.last_seq <= cursor.acked_seq || pending == 0 {
        return Ok(Run::Known);
    }
    let overlaps = run.first_seq <= cursor.acked_seq;
    let starts = !overlaps && starts_at(group, topic, cursor.acked_seq, run.first_seq)?;
    if !overlaps && !starts && waits_before(group, topic, cursor.acked_seq, run.first_seq)? {
        tracing::error!(
            %receiver,
            topic = topic.0,
            acked_seq = cursor.acked_seq,
            first = run.first_seq,
            last = run.last_seq,
            outcome = run.outcome.as_str(),
            "a run that leaves out messages is ignored: they are sent again"
        );
        return Ok(Run::Gap);
    }
    let last_seq = run.last_seq.min(end);
    let ends = if last_seq == end { run.count == pending } else { run.count < pending };
    // More than there are places for is a mistake, whoever made it.
    let possible = (1..=last_seq.saturating_sub(run.first_seq) + 1).contains(&run.count);
    let fits = starts && ends && possible;
    if !fits {
        tracing::debug!(%receiver, first = run.first_seq, last = run.last_seq, "counting a run again");
    }
    let count = if fits { run.count } else { group.count(topic, cursor.acked_seq, last_seq)? };
    let count = if last_seq == end { pending } else { count.min(pending) };
    let id = matches!(run.outcome, Outcome::Acknowledged).then_some(run.last_id);
    if let Outcome::Dead { reason } = &run.outcome {
        bury(group, run, cursor.acked_seq + 1, last_seq, reason)?;
    }
    group.settled(receiver, topic, last_seq, count, &run.outcome, id, run.at_ms)?;
    Ok(Run::Known)
}

/// Whether there is such a message, and the one before it is settled.
fn starts_at(
    group: &Group<'_>,
    topic: TopicId,
    acked_seq: u64,
    first_seq: u64,
) -> Result<bool, StoreError> {
    Ok(group.link(topic, first_seq)?.is_some_and(|(previous, _)| previous <= acked_seq))
}

/// Whether a message lies between the cursor and a run, which would be passed without anyone knowing how it ended. Links alone do
/// not tell: they may lead to a row that is gone.
fn waits_before(
    group: &Group<'_>,
    topic: TopicId,
    acked_seq: u64,
    first_seq: u64,
) -> Result<bool, StoreError> {
    Ok(group.next_of(topic, acked_seq, 0)?.is_some_and(|next| next < first_seq))
}

fn bury(
    group: &mut Group<'_>,
    run: &Settlement,
    first_seq: u64,
    last_seq: u64,
    reason: &str,
) -> Result<(), StoreError> {
    for (loaded, created_ms) in group.run(run.topic, first_seq, last_seq)? {
        let created_ms = match &loaded {
            Loaded::Good(entry) => entry.created_ms,
            Loaded::Damaged { .. } => created_ms,
        };
        super::dead_letters::bury(group, run, &loaded, created_ms, reason)?;
    }
    Ok(())
}

/// Opens a cursor for each of the channel's topics in which the node has none open.
pub(super) fn open_all(
    group: &mut Group<'_>,
    node: &NodeId,
    channel: &ChannelName,
    start: Start,
) -> Result<Vec<Cursor>, StoreError> {
    let mut opened = Vec::new();
    for topic in group.ledger.broadcasts(channel) {
        let known = group.ledger.cursor(node, topic).copied();
        if known.is_some_and(|cursor| cursor.open) {
            continue;
        }
        let settled = known.map_or(0, |cursor| cursor.acked_seq);
        let after = group.position(topic, start)?.max(settled);
        let Some(state) = group.ledger.topic(topic) else { continue };
        let backlog = outbox::backlog(group.conn, &state.topic, after)?;
        let end = state.topic.last_seq;
        let acked_seq =
            if backlog.count == 0 { end.max(settled) } else { backlog.first_seq.saturating_sub(1) };
        opened.push(group.open_cursor(node, topic, acked_seq, backlog.count)?);
    }
    Ok(opened)
}

/// Closes the node's cursors in the channel's broadcasts. What waited is purged.
pub(super) fn close_all(
    group: &mut Group<'_>,
    node: &NodeId,
    channel: &ChannelName,
) -> Result<u64, StoreError> {
    group.settle_under_way(node)?;
    let mut purged = 0;
    for topic in group.ledger.broadcasts(channel) {
        purged += group.purge(node, topic)?.map_or(0, |(_, count)| count);
        if let Some(cursor) = group.ledger.cursor(node, topic).copied().filter(|it| it.open) {
            group.write_cursor(node, topic, CursorState { open: false, ..cursor })?;
            group.notices.push(Notice::CursorClosed { receiver: node.clone(), topic });
        }
    }
    Ok(purged)
}

/// Purges what waits for a receiver, in one channel or in all.
pub(super) fn purge(
    group: &mut Group<'_>,
    receiver: &NodeId,
    channel: Option<&ChannelName>,
) -> Result<u64, StoreError> {
    group.settle_under_way(receiver)?;
    let topics: Vec<TopicId> = group.ledger.cursors_of(receiver).map(|(topic, _)| topic).collect();
    let mut purged = 0;
    for topic in topics {
        let matches = |state: &super::ledger::TopicState| {
            channel.is_none_or(|channel| *channel == state.topic.channel)
        };
        if !group.ledger.topic(topic).is_some_and(matches) {
            continue;
        }
        if let Some((up_to_seq, count)) = group.purge(receiver, topic)? {
            let receiver = receiver.clone();
            group.notices.push(Notice::Dropped { receiver, topic, up_to_seq, count });
            purged += count;
        }
    }
    let subject =
        channel.map_or_else(|| receiver.to_string(), |channel| format!("{receiver} in {channel}"));
    super::audit::record(group, "purge", &subject, &format!("{purged} messages"))?;
    Ok(purged)
}

/// Purges what waits for each known receiver.
pub(super) fn purge_queue(group: &mut Group<'_>) -> Result<u64, StoreError> {
    let receivers: Vec<NodeId> = group.ledger.receivers().cloned().collect();
    let mut purged = 0;
    for receiver in receivers {
        if group.ledger.pending(&receiver) > 0 {
            purged += purge(group, &receiver, None)?;
        }
    }
    Ok(purged)
}

/// Takes away all that was known of a receiver's progress. What waited for it is on record as purged.
pub(super) fn forget(group: &mut Group<'_>, node: &NodeId) -> Result<Forgotten, StoreError> {
    group.settle_under_way(node)?;
    let mut sum = Forgotten::default();
    let cursors: Vec<(TopicId, CursorState)> =
        group.ledger.cursors_of(node).map(|(topic, state)| (topic, *state)).collect();
    for (topic, cursor) in cursors {
        sum.pending += group.purge(node, topic)?.map_or(0, |(_, count)| count);
        sum.acknowledged += cursor.acknowledged;
        sum.expired += cursor.expired;
        sum.dead += cursor.dead;
        sum.purged += cursor.purged;
        group.ledger.set_cursor(node, topic, None);
        if cursor.open {
            group.notices.push(Notice::CursorClosed { receiver: node.clone(), topic });
        }
    }
    group
        .conn
        .prepare_cached(DELETE_OF)
        .and_then(|mut delete| delete.execute([node.as_str()]))
        .at("forget a receiver")?;
    Ok(sum)
}

/// The accounts of P2, without the age of what waits, and where each receiver's waiting messages begin.
pub(super) fn accounts(group: &Group<'_>) -> Vec<(Account, Vec<(TopicId, u64)>)> {
    let of = |receiver: &NodeId| {
        let mut account = Account { receiver: Some(receiver.clone()), ..Account::default() };
        let mut waiting = Vec::new();
        for (topic, cursor) in group.ledger.cursors_of(receiver) {
            let accepted = group.ledger.topic(topic).map_or(0, |state| state.topic.accepted);
            let pending = cursor.pending(accepted);
            account.accepted += cursor.meant_for_it(accepted);
            account.pending += pending;
            account.acknowledged += cursor.acknowledged;
            account.expired += cursor.expired;
            account.dead += cursor.dead;
            account.purged += cursor.purged;
            if pending > 0 {
                waiting.push((topic, cursor.acked_seq));
            }
        }
        (account, waiting)
    };
    group.ledger.receivers().map(of).chain(unclaimed(group)).collect()
}

/// What waits, or expired, before any reader was known.
fn unclaimed(group: &Group<'_>) -> Option<(Account, Vec<(TopicId, u64)>)> {
    let mut account = Account::default();
    let mut waiting = Vec::new();
    for state in group.ledger.topics() {
        account.expired += state.unclaimed_expired;
        if state.open == 0 && state.unclaimed > 0 {
            account.pending += state.unclaimed;
            waiting.push((state.topic.topic, state.claimed_seq));
        }
    }
    account.accepted = account.pending + account.expired;
    (account.accepted > 0).then_some((account, waiting))
}

impl Group<'_> {
    /// Opens a receiver's cursor, or opens it again: what it settled before stays in its account.
    pub(super) fn open_cursor(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        acked_seq: u64,
        pending: u64,
    ) -> Result<Cursor, StoreError> {
        let accepted = self.ledger.topic(topic).map_or(0, |state| state.topic.accepted);
        let known = self.ledger.cursor(receiver, topic).copied();
        let mut state = known.unwrap_or(CursorState {
            open: true,
            acked_seq,
            acked_id: None,
            base: 0,
            acknowledged: 0,
            expired: 0,
            dead: 0,
            purged: 0,
        });
        let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        state.base = signed(accepted) - signed(pending) - signed(state.settled());
        state.open = true;
        state.acked_seq = acked_seq;
        self.write_cursor(receiver, topic, state)?;
        let shown = self.ledger.shown(receiver, topic).expect("it was put there a line above");
        self.notices.push(Notice::CursorOpened(shown.clone()));
        Ok(shown)
    }

    /// Purges all that waits for a receiver in a topic: up to where, and how many.
    fn purge(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        let Some(cursor) = self.ledger.cursor(receiver, topic) else { return Ok(None) };
        let Some(state) = self.ledger.topic(topic) else { return Ok(None) };
        let (end, pending) = (state.topic.last_seq, cursor.pending(state.topic.accepted));
        if pending == 0 {
            return Ok(None);
        }
        self.advance(receiver, topic, end, pending, &Outcome::Purged, None)?;
        Ok(Some((end, pending)))
    }

    /// Moves a cursor over so many messages that ended in the same way, now.
    pub(super) fn advance(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        last_seq: u64,
        count: u64,
        outcome: &Outcome,
        acked_id: Option<MessageId>,
    ) -> Result<(), StoreError> {
        let now_ms = self.now_ms;
        self.settled(receiver, topic, last_seq, count, outcome, acked_id, now_ms)
    }

    #[allow(clippy::too_many_arguments)] // One row's columns.
    fn settled(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        last_seq: u64,
        count: u64,
        outcome: &Outcome,
        acked_id: Option<MessageId>,
        at_ms: u64,
    ) -> Result<(), StoreError> {
        let Some(mut cursor) = self.ledger.cursor(receiver, topic).copied() else { return Ok(()) };
        let first_seq = cursor.acked_seq + 1;
        let settled = match outcome {
            Outcome::Acknowledged => &mut cursor.acknowledged,
            Outcome::Expired => &mut cursor.expired,
            Outcome::Dead { .. } => &mut cursor.dead,
            Outcome::Purged => &mut cursor.purged,
        };
        *settled += count;
        self.note_lost(receiver, topic, (cursor.acked_seq, last_seq), count, outcome)?;
        if matches!(outcome, Outcome::Purged) {
            self.ledger.totals.dropped += count;
        }
        cursor.acked_seq = last_seq;
        cursor.acked_id = acked_id.or(cursor.acked_id);
        self.write_cursor(receiver, topic, cursor)?;
        if count > 0 {
            self.conn
                .prepare_cached(INSERT_SETTLEMENT)
                .and_then(|mut insert| {
                    insert.execute(params![
                        receiver.as_str(),
                        topic.0,
                        last_seq,
                        first_seq,
                        outcome.as_str(),
                        count,
                        at_ms
                    ])
                })
                .at("note a settlement")?;
        }
        Ok(())
    }

    /// Counts what of a run is of messages that were accepted since the node was started, where they will not arrive.
    fn note_lost(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        (after, last_seq): (u64, u64),
        count: u64,
        outcome: &Outcome,
    ) -> Result<(), StoreError> {
        let began = self.ledger.began_seq();
        if last_seq <= began || matches!(outcome, Outcome::Acknowledged | Outcome::Purged) {
            return Ok(());
        }
        let own = match after >= began {
            true => count,
            false => self.count(topic, began, last_seq)?.min(count),
        };
        let (expired, dead) = if *outcome == Outcome::Expired { (own, 0) } else { (0, own) };
        self.ledger.lose(Some(receiver), expired, dead);
        Ok(())
    }

    fn write_cursor(
        &mut self,
        receiver: &NodeId,
        topic: TopicId,
        state: CursorState,
    ) -> Result<(), StoreError> {
        self.conn
            .prepare_cached(UPSERT)
            .and_then(|mut upsert| {
                upsert.execute(params![
                    receiver.as_str(),
                    topic.0,
                    state.open,
                    state.acked_seq,
                    state.acked_id.map(MessageId::to_bytes),
                    state.base,
                    state.acknowledged,
                    state.expired,
                    state.dead,
                    state.purged
                ])
            })
            .at("write a cursor")?;
        self.ledger.set_cursor(receiver, topic, Some(state));
        Ok(())
    }
}
