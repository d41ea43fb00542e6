//! The conversation in the node's own file. What is written is part of the transaction that sends a message or takes one, so that no
//! message is taken without being here, or is here twice.

use std::collections::BTreeMap;

use waypost::rusqlite::{self, Connection, OptionalExtension};
use waypost::{MessageId, NodeId};

use crate::marks::{Mark, Standing};
use crate::room::{Change, Event, Key, MAX_OWN_REACTIONS, MAX_READ_AUTHORS};

mod reading;

pub(crate) use reading::Reader;
use reading::notes;

/// Events that are kept, the newest by their arrival. Older ones are deleted in small steps.
pub(crate) const MAX_EVENTS: u64 = 100_000;
/// Between two looks for events that are too many.
const PRUNE_EVERY: u64 = 256;
/// The names of more receivers of a message are not written down.
pub(crate) const MAX_NAMED: usize = 256;
/// Orders of pages that are remembered.
const MAX_ORDERS: i64 = 10_000;
const VERSION: i64 = 1;
/// What stays of a deleted message.
const BLANK: &[u8] = br#"{"text":"(deleted)"}"#;

const CREATE: &str = "
CREATE TABLE IF NOT EXISTS chat_version (version INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS chat_events (
    seq INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    sender TEXT NOT NULL,
    kind TEXT NOT NULL,
    to_node TEXT,
    body BLOB NOT NULL,
    -- Of an edit, a deletion or a reaction: the message, and what makes a later one take its place: edit, delete, +EMOJI; where it is for one node
    -- alone with an @ before it.
    author TEXT,
    target BLOB CHECK (target IS NULL OR length(target) = 16),
    place TEXT,
    UNIQUE (channel, id, sender)
) STRICT;
CREATE INDEX IF NOT EXISTS chat_posts ON chat_events (channel, seq) WHERE target IS NULL;
CREATE INDEX IF NOT EXISTS chat_notes ON chat_events (channel, target, author) WHERE target IS NOT NULL;
CREATE TABLE IF NOT EXISTS chat_reads (
    channel TEXT NOT NULL,
    reader TEXT NOT NULL,
    -- Messages to all, and those to this reader alone.
    direct INTEGER NOT NULL CHECK (direct IN (0, 1)),
    author TEXT NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    PRIMARY KEY (channel, reader, direct, author)
) STRICT;
CREATE TABLE IF NOT EXISTS chat_marks (
    seq INTEGER PRIMARY KEY,
    channel TEXT NOT NULL,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    readers INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0,
    -- Who has it, in one text; empty where they are too many.
    names TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX IF NOT EXISTS chat_marks_open ON chat_marks (channel, id) WHERE settled = 0;
CREATE TABLE IF NOT EXISTS chat_orders (seq INTEGER PRIMARY KEY, nonce TEXT NOT NULL UNIQUE) STRICT;";
const VERSION_OF: &str = "SELECT version FROM chat_version";
const SET_VERSION: &str = "INSERT INTO chat_version (version) VALUES (?1)";
const INSERT: &str = "INSERT OR IGNORE INTO chat_events
    (channel, id, sender, kind, to_node, body, author, target, place)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const HAS_LATER: &str =
    "SELECT EXISTS (SELECT 1 FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND sender = ?4 AND place = ?5 AND id >= ?6)";
const DELETE_EARLIER: &str = "DELETE FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND sender = ?4 AND place = ?5 AND id < ?6";
const DELETE_NOTES: &str = "DELETE FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND place <> ?4 AND (to_node IS NOT NULL) = ?5";
// The sender's reactions that are too many: those with the lowest ids.
const TRIM_REACTIONS: &str = "DELETE FROM chat_events WHERE seq IN (SELECT seq FROM chat_events
    WHERE channel = ?1 AND target = ?2 AND author = ?3 AND sender = ?4 AND place LIKE ?5 ORDER BY id DESC LIMIT -1 OFFSET ?6)";
const BLANK_POST: &str = "UPDATE chat_events SET kind = 'chat.text', body = ?4
    WHERE channel = ?1 AND id = ?2 AND sender = ?3 AND target IS NULL AND (to_node IS NOT NULL) = ?5";
const IS_DELETED: &str =
    "SELECT EXISTS (SELECT 1 FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND sender = ?3 AND place = ?4)";
const PRUNE: &str = "DELETE FROM chat_events WHERE seq <= ?1";
const PRUNE_MARKS: &str =
    "DELETE FROM chat_marks WHERE seq <= (SELECT coalesce(max(seq), 0) FROM chat_marks) - ?1";
const MARK_READ: &str =
    "INSERT INTO chat_reads (channel, reader, direct, author, id) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET id = excluded.id WHERE excluded.id > id";
const PRUNE_READS: &str = "DELETE FROM chat_reads WHERE channel = ?1 AND reader = ?2 AND direct = ?3 AND author IN
    (SELECT author FROM chat_reads WHERE channel = ?1 AND reader = ?2 AND direct = ?3 ORDER BY id DESC, author LIMIT -1 OFFSET ?4)";
const NEW_MARK: &str = "INSERT OR IGNORE INTO chat_marks (channel, id) VALUES (?1, ?2)";
const NEW_ORDER: &str = "INSERT OR IGNORE INTO chat_orders (nonce) VALUES (?1)";
const PRUNE_ORDERS: &str = "DELETE FROM chat_orders WHERE seq <= ?1";
const SET_MARK: &str = "UPDATE chat_marks SET delivered = ?2, failed = ?3, readers = ?4, settled = ?5, names = ?6 WHERE id = ?1";
const SETTLE_MARK: &str = "UPDATE chat_marks SET settled = 1 WHERE id = ?1";

/// Why the history cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HistoryError {
    #[error(
        "the history in this file is of version {0}, this program knows {VERSION}: use a newer program, or another --db"
    )]
    Newer(i64),
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
}

/// Makes the tables, where they are not there yet.
///
/// # Errors
/// A newer program has used the file, or what SQLite says.
pub(crate) fn prepare(connection: &Connection) -> Result<(), HistoryError> {
    connection.execute_batch(CREATE)?;
    match connection.query_row(VERSION_OF, [], |row| row.get(0)).optional()? {
        None => {
            connection.execute(SET_VERSION, [VERSION])?;
            Ok(())
        }
        Some(VERSION) => Ok(()),
        Some(version) => Err(HistoryError::Newer(version)),
    }
}

/// What the file knows of an event that was written down.
#[derive(Debug, Default)]
pub(crate) struct Recorded {
    /// Its number by arrival.
    pub(crate) seq: u64,
    /// What was said about a new message before it came, in an earlier run perhaps.
    pub(crate) notes: Vec<Event>,
}

/// Writes an event down, as this program would send it; part of the caller's transaction.
///
/// # Errors
/// What SQLite says; the transaction must not be kept.
pub(crate) fn record(
    tx: &Connection,
    channel: &str,
    event: &Event,
    change: &Change,
) -> rusqlite::Result<Recorded> {
    let place = Place { tx, channel, direct: event.to.is_some() };
    let own = |id: &MessageId| Key { id: *id, sender: event.sender.clone() };
    match change {
        Change::Text(_) | Change::File(_) => {
            let key = Key { id: event.id, sender: event.sender.clone() };
            let blank = place.is_deleted(&key)?;
            let seq = place.insert(event, change, None, blank)?;
            return Ok(Recorded { seq, notes: notes(tx, channel, &key, place.direct)? });
        }
        Change::Edit { target, .. } => place.note(event, change, &own(target), "edit")?,
        Change::Delete { target } => {
            let target = own(target);
            place.note(event, change, &target, "delete")?;
            place.blank(&target)?;
        }
        Change::React { target, emoji, .. } => {
            place.note(event, change, target, &format!("+{emoji}"))?;
            let which = place.named("+%");
            let own = MAX_OWN_REACTIONS;
            let (author, sender) = (target.sender.as_str(), event.sender.as_str());
            let of = (channel, target.id.to_bytes(), author, sender, which, own);
            tx.prepare_cached(TRIM_REACTIONS)?.execute(of)?;
        }
        Change::Read(upto) => place.read(event.sender.as_str(), upto)?,
    }
    Ok(Recorded::default())
}

/// Where events of one transaction go.
struct Place<'a> {
    tx: &'a Connection,
    channel: &'a str,
    direct: bool,
}

impl Place<'_> {
    fn named(&self, what: &str) -> String {
        if self.direct { format!("@{what}") } else { what.to_owned() }
    }

    fn is_deleted(&self, key: &Key) -> rusqlite::Result<bool> {
        let place = self.named("delete");
        let parameters = (self.channel, key.id.to_bytes(), key.sender.as_str(), place);
        self.tx.prepare_cached(IS_DELETED)?.query_row(parameters, |row| row.get(0))
    }

    /// Takes the place of what the sender said before about the same.
    fn note(
        &self,
        event: &Event,
        change: &Change,
        target: &Key,
        what: &str,
    ) -> rusqlite::Result<()> {
        if self.is_deleted(target)? {
            return Ok(());
        }
        let (author, sender) = (target.sender.as_str(), event.sender.as_str());
        let (place, id) = (self.named(what), event.id.to_bytes());
        let row = (self.channel, target.id.to_bytes(), author, sender, &place, id);
        if !self.tx.prepare_cached(HAS_LATER)?.query_row(row, |row| row.get(0))? {
            self.tx.prepare_cached(DELETE_EARLIER)?.execute(row)?;
            self.insert(event, change, Some((target, &place)), false)?;
        }
        Ok(())
    }

    /// Leaves nothing of a message but that there was one.
    fn blank(&self, target: &Key) -> rusqlite::Result<()> {
        let (id, author) = (target.id.to_bytes(), target.sender.as_str());
        let notes = (self.channel, id, author, self.named("delete"), self.direct);
        self.tx.prepare_cached(DELETE_NOTES)?.execute(notes)?;
        let post = (self.channel, id, author, BLANK, self.direct);
        self.tx.prepare_cached(BLANK_POST)?.execute(post).map(|_| ())
    }

    fn read(&self, reader: &str, upto: &BTreeMap<NodeId, MessageId>) -> rusqlite::Result<()> {
        let mut statement = self.tx.prepare_cached(MARK_READ)?;
        for (author, id) in upto {
            let row = (self.channel, reader, self.direct, author.as_str(), id.to_bytes());
            statement.execute(row)?;
        }
        let most = (self.channel, reader, self.direct, MAX_READ_AUTHORS);
        self.tx.prepare_cached(PRUNE_READS)?.execute(most).map(|_| ())
    }

    fn insert(
        &self,
        event: &Event,
        change: &Change,
        note: Option<(&Key, &str)>,
        blank: bool,
    ) -> rusqlite::Result<u64> {
        // Fields that are not known here are no reason to keep much.
        let unfit =
            |error: serde_json::Error| rusqlite::Error::ToSqlConversionFailure(error.into());
        let (kind, body) = match blank {
            true => ("chat.text", BLANK.to_vec()),
            false => change.encode().map_err(unfit)?,
        };
        let inserted = self.tx.prepare_cached(INSERT)?.execute((
            self.channel,
            event.id.to_bytes(),
            event.sender.as_str(),
            kind,
            event.to.as_ref().map(NodeId::as_str),
            body,
            note.map(|(target, _)| target.sender.as_str()),
            note.map(|(target, _)| target.id.to_bytes()),
            note.map(|(_, place)| place),
        ))?;
        let seq = u64::try_from(self.tx.last_insert_rowid()).unwrap_or(0);
        if inserted > 0 && seq.is_multiple_of(PRUNE_EVERY) && seq > MAX_EVENTS {
            self.tx.prepare_cached(PRUNE)?.execute([seq - MAX_EVENTS])?;
            self.tx.prepare_cached(PRUNE_MARKS)?.execute([MAX_EVENTS])?;
        }
        Ok(seq)
    }
}

/// Notes that a message of this node's was sent, and is delivered to nobody yet.
///
/// # Errors
/// As [`record`].
pub(crate) fn begin_mark(tx: &Connection, channel: &str, id: MessageId) -> rusqlite::Result<()> {
    tx.prepare_cached(NEW_MARK)?.execute((channel, id.to_bytes())).map(|_| ())
}

/// Notes that an order of a page is carried out with this transaction. False: it was carried out before, by an earlier run perhaps.
///
/// # Errors
/// As [`record`].
pub(crate) fn begin_order(tx: &Connection, nonce: &str) -> rusqlite::Result<bool> {
    if tx.prepare_cached(NEW_ORDER)?.execute([nonce])? == 0 {
        return Ok(false);
    }
    tx.prepare_cached(PRUNE_ORDERS)?.execute([tx.last_insert_rowid() - MAX_ORDERS])?;
    Ok(true)
}

/// Writes down how far these messages of this node's are; none: the file no longer says, and it stays as it is.
///
/// # Errors
/// As [`record`].
pub(crate) fn set_marks(
    tx: &Connection,
    marks: &[(MessageId, Option<Standing>)],
) -> rusqlite::Result<()> {
    let (mut set, mut settle) = (tx.prepare_cached(SET_MARK)?, tx.prepare_cached(SETTLE_MARK)?);
    for (id, standing) in marks {
        let Some(Standing { mark, names }) = standing else {
            settle.execute([id.to_bytes()])?;
            continue;
        };
        let names: Vec<_> = match names.len() {
            0..=MAX_NAMED => names.iter().map(NodeId::as_str).collect(),
            _ => Vec::new(),
        };
        let Mark { delivered, failed, readers, settled, .. } = mark;
        set.execute((id.to_bytes(), delivered, failed, readers, settled, names.join(",")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
