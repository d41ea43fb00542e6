//! What the file records one by one: decisions, dead letters, failed attempts.

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::{InspectError, Inspector, row};
use crate::message::{ChannelName, Kind, MessageId, NodeId, Priority};
use crate::store::migrate::user_version;

/// One decision about a peer, a message or the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was done.
    pub action: String,
    /// To whom or what.
    pub subject: String,
    /// With which values.
    pub detail: String,
    /// The election's term, where it is about an election.
    pub term: Option<u64>,
}

/// A message that a receiver refused or failed too often. Its payload stays in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Who did not take it.
    pub receiver: NodeId,
    /// The message.
    pub id: MessageId,
    /// Its channel.
    pub channel: ChannelName,
    /// Its lane.
    pub lane: Priority,
    /// When it was accepted, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it was given up, in milliseconds since 1970.
    pub died_ms: u64,
    /// Why.
    pub reason: String,
    /// Its kind; none where the message was damaged.
    pub kind: Option<Kind>,
    /// Size of its payload as it is stored; none where the message was damaged.
    pub stored_bytes: Option<u64>,
    /// The message that was sent in its place, once it was.
    pub redriven_as: Option<MessageId>,
}

/// An attempt that went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Failure {
    /// Which attempt it was, the first being 1.
    pub attempt: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What the receiver answered, or that it did not.
    pub answer: String,
}

pub(super) const AUDIT: &str =
    "SELECT at_ms, action, subject, detail, term FROM waypost_audit ORDER BY audit DESC LIMIT ?1";
/// The same of a file that no version with elections has opened yet.
pub(super) const AUDIT_WITHOUT_TERMS: &str =
    "SELECT at_ms, action, subject, detail, NULL FROM waypost_audit ORDER BY audit DESC LIMIT ?1";
pub(super) const DEAD_LETTERS: &str =
    "SELECT receiver, id, channel, lane, created_ms, died_ms, reason, kind, length(payload), redriven_as
    FROM waypost_dead_letters ORDER BY died_ms DESC, seq DESC, receiver LIMIT ?1";
pub(super) const DEAD_LETTERS_OF: &str =
    "SELECT receiver, id, channel, lane, created_ms, died_ms, reason, kind, length(payload), redriven_as
    FROM waypost_dead_letters WHERE id = ?1 ORDER BY receiver";
pub(super) const LAST_FAILURE: &str = "SELECT attempt, at_ms, answer FROM waypost_attempts
    WHERE receiver = ?1 ORDER BY at_ms DESC, seq DESC, attempt DESC LIMIT 1";
pub(super) const FAILURES_OF: &str = "SELECT attempt, at_ms, answer, receiver FROM waypost_attempts WHERE seq = ?1 ORDER BY receiver, attempt";

impl Inspector {
    /// The last decisions, the newest first.
    ///
    /// # Errors
    /// An [`OpenError`](crate::store::open::OpenError) where the file cannot be read.
    pub fn audit(&self, limit: u32) -> Result<Vec<AuditEntry>, InspectError> {
        self.read_timed("reading the audit", |connection| {
            let sql = if user_version(connection)? < 3 { AUDIT_WITHOUT_TERMS } else { AUDIT };
            connection
                .prepare(sql)?
                .query_map([limit], |row| {
                    Ok(AuditEntry {
                        at_ms: row.get(0)?,
                        action: row.get(1)?,
                        subject: row.get(2)?,
                        detail: row.get(3)?,
                        term: row.get(4)?,
                    })
                })?
                .collect()
        })
    }

    /// The last dead letters, the newest first, those sent again included.
    ///
    /// # Errors
    /// An [`OpenError`](crate::store::open::OpenError) where the file cannot be read.
    pub fn dead_letters(&self, limit: u32) -> Result<Vec<DeadLetter>, InspectError> {
        self.read_timed("reading the dead letters", |connection| {
            connection.prepare(DEAD_LETTERS)?.query_map([limit], dead_letter)?.collect()
        })
    }
}

pub(super) fn dead_letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        receiver: row::text(row, 0)?,
        id: row::id(row, 1)?,
        channel: row::text(row, 2)?,
        lane: row::lane(row, 3)?,
        created_ms: row.get(4)?,
        died_ms: row.get(5)?,
        reason: row.get(6)?,
        kind: row::optional_text(row, 7)?,
        stored_bytes: row.get(8)?,
        redriven_as: row::optional_id(row, 9)?,
    })
}

pub(super) fn failure(row: &Row<'_>) -> rusqlite::Result<Failure> {
    Ok(Failure { attempt: row.get(0)?, at_ms: row.get(1)?, answer: row.get(2)? })
}

pub(super) fn last_failure(
    connection: &Connection,
    receiver: &NodeId,
) -> rusqlite::Result<Option<Failure>> {
    let mut statement = connection.prepare_cached(LAST_FAILURE)?;
    row::optional(statement.query_row([receiver.as_str()], failure))
}
