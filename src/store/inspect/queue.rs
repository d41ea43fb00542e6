//! What waits for whom, and the account of what was accepted.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;
use serde::Serialize;

use super::records::{Failure, last_failure};
use super::{InspectError, Inspector, row};
use crate::message::{MessageId, NodeId};

/// One receiver's account: `accepted = pending + acknowledged + expired + dead + purged`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct QueueRow {
    /// For whom; none for messages on channels that no reader is known for.
    pub receiver: Option<NodeId>,
    /// Messages ever committed for it.
    pub accepted: u64,
    /// Those that still wait.
    pub pending: u64,
    /// Those that it confirmed.
    pub acknowledged: u64,
    /// Those whose time to live ended first.
    pub expired: u64,
    /// Those that became dead letters.
    pub dead: u64,
    /// Those that were dropped: the limit was reached, it left, or an operator said so.
    pub purged: u64,
    /// The oldest one that waits.
    pub oldest: Option<Oldest>,
    /// The last attempt that went wrong.
    pub last_failure: Option<Failure>,
}

/// The message that has waited longest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Oldest {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted, in milliseconds since 1970.
    pub created_ms: u64,
}

pub(super) const CURSORS: &str = "SELECT c.receiver, c.topic, c.open, c.acked_seq,
        CASE c.open WHEN 1 THEN t.accepted - c.base - c.acknowledged - c.expired - c.dead - c.purged ELSE 0 END,
        c.acknowledged, c.expired, c.dead, c.purged, t.last_seq
    FROM waypost_cursors c JOIN waypost_topics t USING (topic) ORDER BY c.receiver, c.topic";
/// Topics that nobody reads, and up to where somebody did. A direct message is for its target, known or not.
pub(super) const UNREAD_TOPICS: &str = "SELECT t.topic, max(coalesce(max(c.acked_seq), 0),
        (SELECT coalesce(max(s.last_seq), 0) FROM waypost_settlements s WHERE s.topic = t.topic))
    FROM waypost_topics t LEFT JOIN waypost_cursors c USING (topic)
    WHERE t.target IS NULL GROUP BY t.topic HAVING coalesce(max(c.open), 0) = 0";
pub(super) const UNCLAIMED_EXPIRED: &str =
    "SELECT coalesce(sum(unclaimed_expired), 0) FROM waypost_topics";
pub(super) const COUNT_PAST: &str =
    "SELECT count(*), min(seq) FROM waypost_outbox WHERE topic = ?1 AND seq > ?2";
/// The topic's first message past a place, found forwards: good where most of what follows is of this topic.
pub(super) const FIRST_PAST: &str =
    "SELECT seq FROM waypost_outbox WHERE topic = ?1 AND seq > ?2 ORDER BY seq LIMIT 1";
/// The same, from the topic's last message backwards: good where little of a long log is of this topic.
pub(super) const FIRST_BACKWARDS: &str = "WITH RECURSIVE chain (seq, previous_seq) AS (
        SELECT seq, previous_seq FROM waypost_outbox WHERE seq = ?1
        UNION ALL
        SELECT o.seq, o.previous_seq FROM chain JOIN waypost_outbox o ON o.seq = chain.previous_seq
        WHERE chain.previous_seq > ?2)
    SELECT min(seq) FROM chain WHERE seq > ?2";
pub(super) const MESSAGE_AT: &str = "SELECT id, created_ms FROM waypost_outbox WHERE seq = ?1";

/// Up to so many steps backwards are cheaper than reading the log from a place on.
const MAX_STEPS_BACK: u64 = 1000;

/// How far one receiver is in one topic.
pub(super) struct Cursor {
    pub(super) receiver: NodeId,
    pub(super) topic: i64,
    pub(super) open: bool,
    pub(super) acked_seq: u64,
    /// Below zero only where the file is damaged.
    pub(super) pending: i64,
    acknowledged: u64,
    expired: u64,
    dead: u64,
    purged: u64,
    last_seq: u64,
}

impl Inspector {
    /// A row for each receiver, by name, and at the end one for messages that no reader is known for, if there are any. Whether a
    /// receiver is online is known to the running node only.
    ///
    /// # Errors
    /// An [`OpenError`](crate::store::open::OpenError) where the file cannot be read.
    pub fn queue(&self) -> Result<Vec<QueueRow>, InspectError> {
        self.read_timed("reading the queues", |connection| {
            let mut rows: BTreeMap<NodeId, (QueueRow, Option<u64>)> = BTreeMap::new();
            let mut first = FirstPending::default();
            for cursor in cursors(connection)? {
                let (row, oldest_seq) = rows.entry(cursor.receiver.clone()).or_default();
                row.add(&cursor);
                if let Some(seq) = first.find(connection, &cursor)? {
                    *oldest_seq = Some(oldest_seq.map_or(seq, |oldest| oldest.min(seq)));
                }
            }
            let mut all = Vec::with_capacity(rows.len() + 1);
            for (receiver, (mut row, oldest_seq)) in rows {
                row.oldest = oldest_seq.map(|seq| oldest(connection, seq)).transpose()?.flatten();
                row.last_failure = last_failure(connection, &receiver)?;
                row.receiver = Some(receiver);
                all.push(row);
            }
            all.extend(unclaimed(connection)?);
            Ok(all)
        })
    }
}

impl QueueRow {
    fn add(&mut self, cursor: &Cursor) {
        let pending = u64::try_from(cursor.pending).unwrap_or(0);
        self.pending += pending;
        self.acknowledged += cursor.acknowledged;
        self.expired += cursor.expired;
        self.dead += cursor.dead;
        self.purged += cursor.purged;
        self.accepted +=
            pending + cursor.acknowledged + cursor.expired + cursor.dead + cursor.purged;
    }
}

/// Finds the oldest waiting message of a cursor, once for all that stand at the same place.
#[derive(Default)]
struct FirstPending {
    known: HashMap<(i64, u64), Option<u64>>,
}

impl FirstPending {
    fn find(&mut self, connection: &Connection, cursor: &Cursor) -> rusqlite::Result<Option<u64>> {
        let Ok(pending @ 1..) = u64::try_from(cursor.pending) else { return Ok(None) };
        let place = (cursor.topic, cursor.acked_seq);
        if let Some(&seq) = self.known.get(&place) {
            return Ok(seq);
        }
        let seq = if pending <= MAX_STEPS_BACK {
            connection
                .prepare_cached(FIRST_BACKWARDS)?
                .query_row((cursor.last_seq, cursor.acked_seq), |row| row.get(0))?
        } else {
            row::optional(
                connection.prepare_cached(FIRST_PAST)?.query_row(place, |row| row.get(0)),
            )?
        };
        self.known.insert(place, seq);
        Ok(seq)
    }
}

pub(super) fn cursors(connection: &Connection) -> rusqlite::Result<Vec<Cursor>> {
    connection
        .prepare(CURSORS)?
        .query_map([], |row| {
            Ok(Cursor {
                receiver: row::text(row, 0)?,
                topic: row.get(1)?,
                open: row.get(2)?,
                acked_seq: row.get(3)?,
                pending: row.get(4)?,
                acknowledged: row.get(5)?,
                expired: row.get(6)?,
                dead: row.get(7)?,
                purged: row.get(8)?,
                last_seq: row.get(9)?,
            })
        })?
        .collect()
}

/// Messages past everything that any reader has settled, on topics that nobody reads now.
fn unclaimed(connection: &Connection) -> rusqlite::Result<Option<QueueRow>> {
    let mut row = QueueRow::default();
    let mut oldest_seq: Option<u64> = None;
    let topics: Vec<(i64, u64)> = connection
        .prepare(UNREAD_TOPICS)?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for place in topics {
        let (count, first): (u64, Option<u64>) = connection
            .prepare_cached(COUNT_PAST)?
            .query_row(place, |row| Ok((row.get(0)?, row.get(1)?)))?;
        row.pending += count;
        oldest_seq = oldest_seq.into_iter().chain(first).min();
    }
    row.expired = connection.query_row(UNCLAIMED_EXPIRED, [], |row| row.get(0))?;
    row.accepted = row.pending + row.expired;
    row.oldest = oldest_seq.map(|seq| oldest(connection, seq)).transpose()?.flatten();
    Ok((row.accepted > 0).then_some(row))
}

fn oldest(connection: &Connection, seq: u64) -> rusqlite::Result<Option<Oldest>> {
    let mut statement = connection.prepare_cached(MESSAGE_AT)?;
    row::optional(
        statement
            .query_row([seq], |row| Ok(Oldest { id: row::id(row, 0)?, created_ms: row.get(1)? })),
    )
}
