//! Who the file belongs to, under which store ids its messages travel, and the writer's books as they stand in it.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{all, id, lane, parse, parsed};
use super::cursors::skipped;
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::ledger::{CursorState, Ledger, TopicState, Totals};
use super::open::{SELECT_END_SEQ, generation};
use super::types::{Cursor, Restored, Topic};
use super::{drain, election, inbox, members, outbox};
use crate::fresh;
use crate::message::{MessageId, NodeId, StoreId, TopicId};
use crate::protocol::delivery::HANDLER_FAILED;

/// How far beyond the file's own time an id may lie that somebody else tells of: 366 days.
const MAX_AHEAD_MS: u64 = 366 * 86_400_000;

pub(super) const SELECT_META: &str = "SELECT node, last_id FROM waypost_meta";
pub(super) const INSERT_META: &str =
    "INSERT INTO waypost_meta (only, node, last_id, created_ms) VALUES (1, ?1, ?2, ?3)";
pub(super) const RAISE_LAST: &str = "UPDATE waypost_meta SET last_id = max(last_id, ?1), end_seq = max(end_seq, ?2) WHERE last_id < ?1 OR end_seq < ?2";
pub(super) const SELECT_STORES: &str =
    "SELECT from_id, store_id FROM waypost_stores ORDER BY from_id";
pub(super) const INSERT_STORE: &str =
    "INSERT OR REPLACE INTO waypost_stores (from_id, store_id) VALUES (?1, ?2)";
pub(super) const SELECT_LAST_CREATED: &str =
    "SELECT created_ms FROM waypost_outbox ORDER BY seq DESC LIMIT 1";
pub(super) const SELECT_TOPICS: &str = "SELECT topic, channel, target, lane, accepted, last_seq, unclaimed_expired FROM waypost_topics ORDER BY topic";
pub(super) const SELECT_CURSORS: &str = "SELECT receiver, topic, open, acked_seq, acked_id, base, acknowledged, expired, dead, purged FROM waypost_cursors";
pub(super) const SELECT_SETTLED: &str =
    "SELECT topic, max(last_seq) FROM waypost_settlements GROUP BY topic";
pub(super) const SELECT_FAILED: &str = "SELECT a.seq, max(a.attempt) FROM waypost_attempts a JOIN waypost_outbox m ON m.seq = a.seq WHERE a.receiver = ?1 AND m.topic = ?2 AND a.seq > ?3 AND substr(a.answer, 1, length(?4)) = ?4 GROUP BY a.seq ORDER BY a.seq LIMIT 1";

/// Names the owner of a file that has none yet.
pub(super) fn initialise(
    conn: &Connection,
    node: &NodeId,
    created_ms: u64,
) -> Result<(), StoreError> {
    let transaction = conn.unchecked_transaction().at("begin a transaction")?;
    let cookie = generation::cookie(&transaction).at("name the file's owner")?;
    let first = MessageId::ZERO.to_bytes();
    transaction
        .execute(INSERT_META, params![node.as_str(), first, created_ms])
        .and_then(|_| {
            transaction.execute(INSERT_STORE, params![first, fresh::store_id().to_bytes()])
        })
        .and_then(|_| generation::begin_log(&transaction, cookie))
        .at("name the file's owner")?;
    transaction.commit().at("commit")
}

/// Who the file belongs to; `None` for a new one.
pub(super) fn owner(conn: &Connection) -> Result<Option<NodeId>, StoreError> {
    conn.query_row(SELECT_META, [], |row| parsed(row, 0)).optional().at("read the file's owner")
}

/// The youngest time of a message in the file.
pub(super) fn last_created_ms(conn: &Connection) -> Result<u64, StoreError> {
    let last = conn.query_row(SELECT_LAST_CREATED, [], |row| row.get(0)).optional();
    Ok(last.at("read the last message's time")?.unwrap_or(0))
}

/// The writer's books, from the file.
pub(super) fn load(conn: &Connection) -> Result<Ledger, StoreError> {
    let last_id = conn.query_row(SELECT_META, [], |row| id(row, 1)).at("read the last id")?;
    let totals = Totals {
        last_id,
        end_seq: conn.query_row(SELECT_END_SEQ, [], |row| row.get(0)).at("read the log's end")?,
        last_created_ms: last_created_ms(conn)?,
        appended: 0,
        dropped: 0,
        told_expiry_ms: u64::MAX,
    };
    let mut ledger = Ledger::new(totals);
    let settled: HashMap<TopicId, u64> =
        all(conn, SELECT_SETTLED, |row| Ok((TopicId(row.get(0)?), row.get(1)?)))?
            .into_iter()
            .collect();
    let cursors = all(conn, SELECT_CURSORS, |row| {
        Ok((parsed::<NodeId>(row, 0)?, TopicId(row.get(1)?), cursor(row)?))
    })?;
    let mut passed = settled;
    for (_, topic, cursor) in &cursors {
        let passed = passed.entry(*topic).or_default();
        *passed = cursor.acked_seq.max(*passed);
    }
    for mut state in all(conn, SELECT_TOPICS, topic)? {
        let Topic { topic, target, last_seq, .. } = &state.topic;
        // A direct message is for its target, known or not: it is never without a reader.
        state.claimed_seq = match target {
            Some(_) => *last_seq,
            None => passed.get(topic).copied().unwrap_or(0),
        };
        ledger.add_topic(state);
    }
    for subscription in members::subscriptions(conn)? {
        ledger.set_subscribed(&subscription.channel, &subscription.node, true);
    }
    for (receiver, topic, cursor) in cursors {
        ledger.set_cursor(&receiver, topic, Some(cursor));
    }
    let unclaimed = ledger.topics().filter(|state| state.open == 0 && state.topic.target.is_none());
    for TopicState { topic, claimed_seq, .. } in unclaimed.cloned().collect::<Vec<_>>() {
        let backlog = outbox::backlog(conn, &topic, claimed_seq)?;
        ledger.change_topic(topic.topic, |state| {
            state.unclaimed = backlog.count;
            state.unclaimed_expiry_ms = backlog.expiry_ms;
        });
    }
    ledger.totals.told_expiry_ms = ledger.next_unclaimed_expiry_ms();
    ledger.keep();
    Ok(ledger)
}

/// What the driver begins with.
pub(super) fn restored(
    conn: &Connection,
    ledger: &Ledger,
    node: NodeId,
) -> Result<Restored, StoreError> {
    Ok(Restored {
        node,
        stores: all(conn, SELECT_STORES, |row| {
            Ok((id(row, 0)?, StoreId::from_bytes(row.get(1)?)))
        })?,
        last_id: ledger.totals.last_id,
        #[cfg(test)]
        end_seq: ledger.totals.end_seq,
        topics: ledger.topics().map(|state| state.topic.clone()).collect(),
        cursors: cursors(conn, ledger)?,
        peers: members::peers(conn)?,
        subscriptions: members::subscriptions(conn)?,
        inbox: inbox::rows(conn)?,
        left: members::left(conn)?,
        election: election::load(conn)?,
        draining: drain::load(conn)?,
    })
}

/// The open ones, as they stand in the file.
pub(super) fn cursors(conn: &Connection, ledger: &Ledger) -> Result<Vec<Cursor>, StoreError> {
    let mut cursors = ledger.open_cursors();
    for cursor in &mut cursors {
        cursor.skipped = skipped(conn, &cursor.receiver, cursor.topic)?;
        cursor.failed = failed(conn, cursor)?;
    }
    Ok(cursors)
}

/// The first message behind a cursor that a handler has failed, and at which attempt it did last: runs of a sender may be too short for all of them.
fn failed(conn: &Connection, cursor: &Cursor) -> Result<Option<(u64, u32)>, StoreError> {
    conn.prepare_cached(SELECT_FAILED)
        .and_then(|mut select| {
            let Cursor { receiver, topic, acked_seq, .. } = cursor;
            let found = params![receiver.as_str(), topic.0, acked_seq, HANDLER_FAILED];
            select.query_row(found, |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .at("read what has failed")
}

/// Lets messages with an id above this one travel under a new store id.
pub(super) fn new_store(group: &mut Group<'_>, from_id: MessageId) -> Result<StoreId, StoreError> {
    let store_id = fresh::store_id();
    let first = MessageId::from_u128(from_id.as_u128().saturating_add(1));
    group
        .conn
        .prepare_cached(INSERT_STORE)
        .and_then(|mut insert| insert.execute(params![first.to_bytes(), store_id.to_bytes()]))
        .at("add a store id")?;
    super::audit::record(
        group,
        "new store id",
        &store_id.to_string(),
        &format!("for messages after {from_id}"),
    )?;
    Ok(store_id)
}

impl Group<'_> {
    /// No message gets an id at or below this one. An id from a time that nobody's clock can show is ignored: it would use up
    /// all that are left.
    pub(super) fn raise_last_id(&mut self, id: MessageId) {
        let last = self.ledger.totals.last_id;
        let latest_ms = self.now_ms.max(last.timestamp_ms()).saturating_add(MAX_AHEAD_MS);
        if id.timestamp_ms() > latest_ms {
            tracing::error!(%id, %last, "an id from the far future is not taken over");
            return;
        }
        self.ledger.totals.last_id = id.max(last);
    }

    /// The next message's id, larger than all before it.
    pub(super) fn next_id(&self) -> Result<MessageId, StoreError> {
        let last = self.ledger.totals.last_id;
        let id = MessageId::after(last, self.id_ms, fastrand::u128(..));
        if id > last {
            return Ok(id);
        }
        // Not `Failed`: opening the file again, as after a failing disk, would not help, and hold up everybody else.
        let reason = format!("the last one, {last}, is the largest there is: use a new file");
        let source = rusqlite::Error::ToSqlConversionFailure(reason.into());
        Err(StoreError::Sql { operation: "give a message an id", source })
    }

    /// Writes the last id and the last seq given out; they never go back.
    pub(super) fn write_last(&self) -> Result<(), StoreError> {
        let Totals { last_id, end_seq, .. } = self.ledger.totals;
        self.conn
            .prepare_cached(RAISE_LAST)
            .and_then(|mut update| update.execute(params![last_id.to_bytes(), end_seq]))
            .at("write the last id")?;
        Ok(())
    }
}

fn topic(row: &Row<'_>) -> rusqlite::Result<TopicState> {
    let mut state = TopicState::new(Topic {
        topic: TopicId(row.get(0)?),
        channel: parsed(row, 1)?,
        target: row.get::<_, Option<String>>(2)?.map(|target| parse(2, &target)).transpose()?,
        lane: lane(row, 3)?,
        accepted: row.get(4)?,
        last_seq: row.get(5)?,
    });
    state.unclaimed_expired = row.get(6)?;
    Ok(state)
}

fn cursor(row: &Row<'_>) -> rusqlite::Result<CursorState> {
    Ok(CursorState {
        open: row.get(2)?,
        acked_seq: row.get(3)?,
        acked_id: row.get::<_, Option<[u8; 16]>>(4)?.map(MessageId::from_bytes),
        base: row.get(5)?,
        acknowledged: row.get(6)?,
        expired: row.get(7)?,
        dead: row.get(8)?,
        purged: row.get(9)?,
    })
}
