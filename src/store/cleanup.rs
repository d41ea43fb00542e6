//! What nobody needs any more is deleted, in steps that are jobs of their own, so that sending goes on between them.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::Store;
use super::checkpoint::COPY_LOG;
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::limits::DELETE;
use super::strays;
use super::types::Cleaned;
use crate::config::Durability;
use crate::message::TopicId;
use crate::protocol::report::Lost;

/// Most rows that one step deletes.
const STEP_ROWS: usize = 500;
/// Most rows that one step looks at.
const SCAN_ROWS: usize = 4_000;

pub(super) const SCAN: &str =
    "SELECT seq, topic, created_ms FROM waypost_outbox WHERE seq > ?1 ORDER BY seq LIMIT ?2";
pub(super) const SETTLEMENTS_STEP: &str = "SELECT receiver, topic, last_seq FROM waypost_settlements WHERE (receiver, topic, last_seq) > (?1, ?2, ?3) ORDER BY receiver, topic, last_seq LIMIT 1 OFFSET ?4";
pub(super) const DELETE_SETTLEMENTS: &str = "DELETE FROM waypost_settlements WHERE (receiver, topic, last_seq) > (?1, ?2, ?3) AND (receiver, topic, last_seq) <= (?4, ?5, ?6) AND at_ms < ?7";
pub(super) const ATTEMPTS_STEP: &str = "SELECT receiver, seq, attempt FROM waypost_attempts WHERE (receiver, seq, attempt) > (?1, ?2, ?3) ORDER BY receiver, seq, attempt LIMIT 1 OFFSET ?4";
pub(super) const DELETE_ATTEMPTS: &str = "DELETE FROM waypost_attempts WHERE (receiver, seq, attempt) > (?1, ?2, ?3) AND (receiver, seq, attempt) <= (?4, ?5, ?6) AND at_ms < ?7";
pub(super) const DELETE_AUDIT: &str = "DELETE FROM waypost_audit WHERE audit IN (SELECT audit FROM waypost_audit ORDER BY audit LIMIT ?2) AND at_ms < ?1";
// A place has three columns, of which these have two: ?3 and ?6 are not used.
pub(super) const DEAD_LETTERS_STEP: &str = "SELECT receiver, seq, 0 FROM waypost_dead_letters WHERE (receiver, seq) > (?1, ?2) ORDER BY receiver, seq LIMIT 1 OFFSET ?4";
pub(super) const DELETE_DEAD_LETTERS: &str = "DELETE FROM waypost_dead_letters WHERE (receiver, seq) > (?1, ?2) AND (receiver, seq) <= (?4, ?5) AND died_ms < ?7";
pub(super) const SURPLUS_DEAD_LETTERS: &str = "SELECT receiver, seq FROM waypost_dead_letters ORDER BY died_ms, seq, receiver LIMIT min(?2, max(0, (SELECT count(*) FROM waypost_dead_letters) - ?1))";
pub(super) const DELETE_DEAD_LETTER: &str =
    "DELETE FROM waypost_dead_letters WHERE receiver = ?1 AND seq = ?2";
pub(super) const OPTIMIZE: &str = "PRAGMA optimize";

/// Most dead letters that a file keeps.
const DEAD_LETTERS: usize = 100_000;
/// Most keys of dead letters that are held in memory.
const SURPLUS_KEYS: usize = 50_000;

/// A place in a table whose key is a receiver and two numbers.
type Key = (String, i64, i64);

impl Store {
    /// Deletes settled messages and records that are older than the retention, and messages that expired before they had any
    /// reader. What waits for anybody stays. Cancelling it leaves the rest for the next time.
    pub(crate) async fn cleanup(&self) -> Result<Cleaned, StoreError> {
        let messages = self.clean_settled(None).await?;
        let mut cleaned = Cleaned { messages, ..Cleaned::default() };
        (cleaned.expired_unclaimed, _) = self.expire_unclaimed().await?;
        cleaned.records += self.clean_records(SETTLEMENTS_STEP, DELETE_SETTLEMENTS, None).await?;
        cleaned.records += self.clean_records(ATTEMPTS_STEP, DELETE_ATTEMPTS, None).await?;
        loop {
            let deleted = self.run(Durability::Normal, audit).await?;
            cleaned.records += deleted;
            if deleted == 0 {
                break;
            }
        }
        cleaned.records += self.clean_records(DEAD_LETTERS_STEP, DELETE_DEAD_LETTERS, None).await?;
        cleaned.records += self.clean_surplus().await?;
        self.maintain().await?;
        Ok(cleaned)
    }

    /// Deletes and counts what expired before it had any reader. Returns how many messages those were, and when the next one expires by the
    /// file's clock; an earlier one that comes is told by a notice. In steps: cancelling it leaves the rest for the next time.
    pub(crate) async fn expire_unclaimed(&self) -> Result<(u64, Option<u64>), StoreError> {
        let topics =
            self.run(Durability::Normal, |group| Ok::<_, StoreError>(unclaimed(group))).await?;
        let mut expired = 0;
        for topic in topics {
            let mut before = None;
            loop {
                let step =
                    move |group: &mut Group<'_>| group.expire_unclaimed(topic, before, STEP_ROWS);
                let walk = self.run(Durability::Normal, step).await?;
                expired += walk.expired;
                if !walk.more {
                    break;
                }
                before = Some(walk);
            }
        }
        let next = |group: &mut Group<'_>| Ok::<_, StoreError>(group.next_unclaimed_expiry());
        Ok((expired, self.run(Durability::Normal, next).await?))
    }

    /// What will not arrive of the messages that were accepted since the file was opened, by receiver; what has expired without a reader is
    /// looked for first.
    pub(crate) async fn lost(&self) -> Result<Vec<Lost>, StoreError> {
        self.expire_unclaimed().await?;
        self.run(Durability::Normal, |group| Ok::<_, StoreError>(group.ledger.lost())).await
    }

    /// Deletes what was settled before this time, and the records of it, whatever the retention. Dead letters and the audit stay.
    pub(crate) async fn purge_sent(&self, before_ms: u64) -> Result<Cleaned, StoreError> {
        let before_ms = Some(before_ms);
        let messages = self.clean_settled(before_ms).await?;
        let mut records =
            self.clean_records(SETTLEMENTS_STEP, DELETE_SETTLEMENTS, before_ms).await?;
        records += self.clean_records(ATTEMPTS_STEP, DELETE_ATTEMPTS, before_ms).await?;
        self.maintain().await?;
        Ok(Cleaned { messages, records, ..Cleaned::default() })
    }

    async fn clean_settled(&self, before_ms: Option<u64>) -> Result<u64, StoreError> {
        let (mut sum, mut after, mut rows) = (0, Some(0), STEP_ROWS);
        while let Some(from) = after {
            let step = move |group: &mut Group<'_>| settled(group, from, before_ms, rows);
            match self.run(Durability::Normal, step).await {
                Ok((deleted, next)) => {
                    sum += deleted;
                    after = next;
                }
                // A full disk leaves a small log.
                Err(error) if error.is_no_room() && rows > 1 => rows = (rows / 8).max(1),
                Err(error) => return Err(error),
            }
        }
        Ok(sum)
    }

    /// Deletes the oldest dead letters where there are too many, so that a receiver that refuses everything does not fill the disk.
    async fn clean_surplus(&self) -> Result<u64, StoreError> {
        let mut sum = 0;
        loop {
            let doomed = Arc::new(self.read_aside(surplus).await?);
            let mut deleted = 0;
            for first in (0..doomed.len()).step_by(STEP_ROWS) {
                let doomed = Arc::clone(&doomed);
                let step = move |group: &mut Group<'_>| {
                    let rest = doomed.get(first..).unwrap_or_default();
                    delete_dead_letters(group, rest.get(..STEP_ROWS).unwrap_or(rest))
                };
                deleted += self.run(Durability::Normal, step).await?;
            }
            sum += deleted;
            if deleted == 0 || doomed.len() < SURPLUS_KEYS {
                break;
            }
        }
        if sum > 0 {
            tracing::warn!(
                count = sum,
                limit = DEAD_LETTERS,
                "the oldest dead letters were deleted"
            );
        }
        Ok(sum)
    }

    async fn clean_records(
        &self,
        step: &'static str,
        delete: &'static str,
        before_ms: Option<u64>,
    ) -> Result<u64, StoreError> {
        let mut sum = 0;
        let mut after = Some((String::new(), 0, 0));
        while let Some(from) = after {
            let work = move |group: &mut Group<'_>| records(group, step, delete, &from, before_ms);
            let (deleted, next) = self.run(Durability::Normal, work).await?;
            sum += deleted;
            after = next;
        }
        Ok(sum)
    }
}

/// What is older may be deleted.
fn retained_from_ms(group: &Group<'_>) -> u64 {
    group.now_ms.saturating_sub(group.settings.retention_ms)
}

/// Deletes so many messages from the log's beginning that every open cursor of their topic has passed. Where to go on, if anywhere.
pub(super) fn settled(
    group: &mut Group<'_>,
    after: u64,
    before_ms: Option<u64>,
    most: usize,
) -> Result<(u64, Option<u64>), StoreError> {
    let keep_from_ms = before_ms.unwrap_or_else(|| retained_from_ms(group));
    let passed = group.ledger.passed_by_all();
    let is_done_with = |topic: TopicId, seq: u64| match group.ledger.topic(topic) {
        Some(state) => seq <= passed.get(&topic).copied().unwrap_or(state.claimed_seq),
        // It may belong to another: its row may name a wrong one.
        None => false,
    };
    let (mut doomed, mut next, mut seen) = (Vec::new(), None, 0);
    let mut scan = group.conn.prepare_cached(SCAN).at("look for old messages")?;
    let mut rows = scan.query(params![after, SCAN_ROWS]).at("look for old messages")?;
    while let Some(row) = rows.next().at("look for old messages")? {
        let read = || Ok((row.get(0)?, TopicId(row.get(1)?), row.get(2)?));
        let (seq, topic, created_ms): (u64, TopicId, u64) = read().at("look for old messages")?;
        if created_ms >= keep_from_ms {
            next = None;
            break;
        }
        if is_done_with(topic, seq) && strays::belongs(group.conn, seq, topic)? {
            doomed.push(seq);
        }
        seen += 1;
        next = (seen == SCAN_ROWS || doomed.len() == most).then_some(seq);
        if next.is_some() {
            break;
        }
    }
    drop(rows);
    drop(scan);
    let mut delete = group.conn.prepare_cached(DELETE).at("delete a message")?;
    for seq in &doomed {
        delete.execute([seq]).at("delete a message")?;
    }
    Ok((u64::try_from(doomed.len()).unwrap_or(u64::MAX), next))
}

/// The topics whose messages wait for a first reader.
fn unclaimed(group: &Group<'_>) -> Vec<TopicId> {
    let waiting = group.ledger.topics().filter(|state| state.open == 0 && state.unclaimed > 0);
    waiting.map(|state| state.topic.topic).collect()
}

/// Deletes what is too old among the next rows of a table of records. Where to go on, if anywhere.
fn records(
    group: &Group<'_>,
    step: &str,
    delete: &str,
    after: &Key,
    before_ms: Option<u64>,
) -> Result<(u64, Option<Key>), StoreError> {
    let before_ms = before_ms.unwrap_or_else(|| retained_from_ms(group));
    let next: Option<Key> = group
        .conn
        .prepare_cached(step)
        .and_then(|mut select| {
            let last = STEP_ROWS - 1;
            select
                .query_row(params![after.0, after.1, after.2, last], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })
        .at("look for old records")?;
    // Behind the last node id there can be.
    let end = || ("\u{7f}".to_owned(), i64::MAX, i64::MAX);
    let to = next.clone().unwrap_or_else(end);
    let deleted = group
        .conn
        .prepare_cached(delete)
        .and_then(|mut delete| {
            delete.execute(params![after.0, after.1, after.2, to.0, to.1, to.2, before_ms])
        })
        .at("delete old records")?;
    Ok((u64::try_from(deleted).unwrap_or(u64::MAX), next))
}

/// What is kept about messages, and can be done without.
pub(super) const RECORDS: [&str; 2] = [
    "DELETE FROM waypost_attempts WHERE (receiver, seq, attempt) IN (SELECT receiver, seq, attempt FROM waypost_attempts LIMIT ?1)",
    "DELETE FROM waypost_settlements WHERE (receiver, topic, last_seq) IN (SELECT s.receiver, s.topic, s.last_seq FROM waypost_settlements s JOIN waypost_cursors c ON c.receiver = s.receiver AND c.topic = s.topic WHERE c.open AND s.last_seq < c.acked_seq LIMIT ?1)",
];

/// Deletes some of these records, however young they are.
pub(super) fn oldest_records(group: &mut Group<'_>, records: &str) -> Result<u64, StoreError> {
    let deleted = group
        .conn
        .prepare_cached(records)
        .and_then(|mut delete| delete.execute([STEP_ROWS]))
        .at("delete old records")?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

fn audit(group: &mut Group<'_>) -> Result<u64, StoreError> {
    let before_ms = group.now_ms.saturating_sub(group.settings.audit_retention_ms);
    let deleted = group
        .conn
        .prepare_cached(DELETE_AUDIT)
        .and_then(|mut delete| delete.execute(params![before_ms, STEP_ROWS]))
        .at("delete old audit rows")?;
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

/// The oldest dead letters beyond the number that is kept.
fn surplus(conn: &Connection) -> Result<Vec<(String, i64)>, StoreError> {
    conn.prepare_cached(SURPLUS_DEAD_LETTERS)
        .and_then(|mut select| {
            let keys = params![DEAD_LETTERS, SURPLUS_KEYS];
            select.query_map(keys, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
        .at("look for old dead letters")
}

fn delete_dead_letters(group: &Group<'_>, doomed: &[(String, i64)]) -> Result<u64, StoreError> {
    let mut delete = group.conn.prepare_cached(DELETE_DEAD_LETTER).at("delete old dead letters")?;
    let mut deleted = 0;
    for (receiver, seq) in doomed {
        deleted += delete.execute(params![receiver, seq]).at("delete old dead letters")?;
    }
    Ok(u64::try_from(deleted).unwrap_or(u64::MAX))
}

/// Lets SQLite look after its statistics, and gives the log's pages back to the main file; in this order, so that the next
/// log begins with a transaction of the writer's, which marks it. Outside of any transaction.
pub(super) fn maintain(conn: &Connection) -> Result<(), StoreError> {
    for sql in [OPTIMIZE, COPY_LOG] {
        let mut statement = conn.prepare(sql).at("maintain the file")?;
        let mut rows = statement.query([]).at("maintain the file")?;
        while rows.next().at("maintain the file")?.is_some() {}
    }
    Ok(())
}
