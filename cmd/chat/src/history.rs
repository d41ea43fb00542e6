//! The conversation in the node's own file. What is written is part of the transaction that sends a message or takes one, so that no
//! message is taken without being here, or is here twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use waypost::rusqlite::types::FromSqlError;
use waypost::rusqlite::{self, Connection, OpenFlags, OptionalExtension, Params, Row};
use waypost::{MessageId, NodeId};

use crate::marks::Mark;
use crate::room::{Change, Event, Key, Room};

/// Events that are kept, the newest by their arrival. Older ones are deleted in small steps.
pub(crate) const MAX_EVENTS: u64 = 100_000;
/// Between two looks for events that are too many.
const PRUNE_EVERY: u64 = 256;
/// Senders up to whose messages one reader's mark is kept.
const MAX_READ_AUTHORS: u64 = 4096;
/// Notes to one message that are read at most.
const MAX_NOTES_READ: u64 = 5000;
/// Orders of pages that are remembered.
const MAX_ORDERS: i64 = 10_000;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
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
    -- Of an edit, a deletion or a reaction: the message, and what makes a later one take its place.
    author TEXT,
    target BLOB CHECK (target IS NULL OR length(target) = 16),
    place TEXT,
    UNIQUE (channel, id, sender)
) STRICT;
CREATE INDEX IF NOT EXISTS chat_posts ON chat_events (channel, id, sender) WHERE target IS NULL;
CREATE INDEX IF NOT EXISTS chat_notes ON chat_events (channel, target, author) WHERE target IS NOT NULL;
CREATE TABLE IF NOT EXISTS chat_reads (
    channel TEXT NOT NULL,
    reader TEXT NOT NULL,
    author TEXT NOT NULL,
    id BLOB NOT NULL CHECK (length(id) = 16),
    PRIMARY KEY (channel, reader, author)
) STRICT;
CREATE TABLE IF NOT EXISTS chat_marks (
    seq INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE CHECK (length(id) = 16),
    delivered INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    readers INTEGER NOT NULL DEFAULT 0,
    settled INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS chat_marks_open ON chat_marks (id) WHERE settled = 0;
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
const DELETE_EDITS: &str = "DELETE FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND sender = ?3 AND place = 'edit'";
const BLANK_POST: &str = "UPDATE chat_events SET kind = 'chat.text', body = ?4
    WHERE channel = ?1 AND id = ?2 AND sender = ?3 AND target IS NULL";
const IS_DELETED: &str =
    "SELECT EXISTS (SELECT 1 FROM chat_events WHERE channel = ?1 AND target = ?2
    AND author = ?3 AND sender = ?3 AND place = 'delete')";
const PRUNE: &str = "DELETE FROM chat_events WHERE seq <= ?1";
const PRUNE_MARKS: &str =
    "DELETE FROM chat_marks WHERE seq <= (SELECT coalesce(max(seq), 0) FROM chat_marks) - ?1";
const MARK_READ: &str =
    "INSERT INTO chat_reads (channel, reader, author, id) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT DO UPDATE SET id = excluded.id WHERE excluded.id > id";
const PRUNE_READS: &str = "DELETE FROM chat_reads WHERE channel = ?1 AND reader = ?2 AND author IN
    (SELECT author FROM chat_reads WHERE channel = ?1 AND reader = ?2 ORDER BY id DESC, author LIMIT -1 OFFSET ?3)";
const POSTS: &str = "SELECT id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target IS NULL AND (id, sender) < (?2, ?3) ORDER BY id DESC, sender DESC LIMIT ?4";
const POST: &str = "SELECT id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target IS NULL AND id = ?2 AND sender = ?3";
const NOTES: &str = "SELECT id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target = ?2 AND author = ?3 LIMIT ?4";
const READS: &str = "SELECT reader, author, id FROM chat_reads WHERE channel = ?1";
const NEW_MARK: &str = "INSERT OR IGNORE INTO chat_marks (id) VALUES (?1)";
const NEW_ORDER: &str = "INSERT OR IGNORE INTO chat_orders (nonce) VALUES (?1)";
const PRUNE_ORDERS: &str = "DELETE FROM chat_orders WHERE seq <= ?1";
const SET_MARK: &str =
    "UPDATE chat_marks SET delivered = ?2, failed = ?3, readers = ?4, settled = ?5 WHERE id = ?1";
const MARK: &str = "SELECT delivered, failed, readers, settled FROM chat_marks WHERE id = ?1";
const OPEN_MARKS: &str = "SELECT id FROM chat_marks WHERE settled = 0 ORDER BY id DESC LIMIT ?1";

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

/// Writes an event down; part of the caller's transaction. Returns what the file knew already about a message that is new: edits and the
/// like that came before it, in an earlier run perhaps.
///
/// # Errors
/// What SQLite says; the transaction must not be kept.
pub(crate) fn record(
    tx: &Connection,
    channel: &str,
    event: &Event,
    change: &Change,
) -> rusqlite::Result<Vec<Event>> {
    let sender = event.sender.as_str();
    match change {
        Change::Text(_) | Change::File(_) => {
            let deleted: bool = tx
                .prepare_cached(IS_DELETED)?
                .query_row((channel, event.id.to_bytes(), sender), |row| row.get(0))?;
            insert(tx, channel, event, None, deleted)?;
            let key = Key { id: event.id, sender: event.sender.clone() };
            return notes(tx, channel, &key);
        }
        Change::Edit { target, .. } => {
            let target = Key { id: *target, sender: event.sender.clone() };
            if !is_deleted(tx, channel, &target)? {
                replace(tx, channel, event, &target, "edit")?;
            }
        }
        Change::Delete { target } => {
            let target = Key { id: *target, sender: event.sender.clone() };
            replace(tx, channel, event, &target, "delete")?;
            let id = target.id.to_bytes();
            tx.prepare_cached(DELETE_EDITS)?.execute((channel, id, sender))?;
            tx.prepare_cached(BLANK_POST)?.execute((channel, id, sender, BLANK))?;
        }
        Change::React { target, emoji, .. } => {
            replace(tx, channel, event, target, &format!("+{emoji}"))?;
        }
        Change::Read(upto) => {
            let mut statement = tx.prepare_cached(MARK_READ)?;
            for (author, id) in upto {
                statement.execute((channel, sender, author.as_str(), id.to_bytes()))?;
            }
            tx.prepare_cached(PRUNE_READS)?.execute((channel, sender, MAX_READ_AUTHORS))?;
        }
    }
    Ok(Vec::new())
}

/// Notes that a message of this node's was sent, and is delivered to nobody yet.
///
/// # Errors
/// As [`record`].
pub(crate) fn begin_mark(tx: &Connection, id: MessageId) -> rusqlite::Result<()> {
    tx.prepare_cached(NEW_MARK)?.execute([id.to_bytes()]).map(|_| ())
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

/// Writes down how far these messages of this node's are.
///
/// # Errors
/// As [`record`].
pub(crate) fn set_marks(tx: &Connection, marks: &[(MessageId, Mark)]) -> rusqlite::Result<()> {
    let mut statement = tx.prepare_cached(SET_MARK)?;
    for (id, mark) in marks {
        let Mark { delivered, failed, readers, settled } = mark;
        statement.execute((id.to_bytes(), delivered, failed, readers, settled))?;
    }
    Ok(())
}

fn is_deleted(tx: &Connection, channel: &str, key: &Key) -> rusqlite::Result<bool> {
    let parameters = (channel, key.id.to_bytes(), key.sender.as_str());
    tx.prepare_cached(IS_DELETED)?.query_row(parameters, |row| row.get(0))
}

fn replace(
    tx: &Connection,
    channel: &str,
    event: &Event,
    target: &Key,
    place: &str,
) -> rusqlite::Result<()> {
    let sender = event.sender.as_str();
    let author = target.sender.as_str();
    let row = (channel, target.id.to_bytes(), author, sender, place, event.id.to_bytes());
    if !tx.prepare_cached(HAS_LATER)?.query_row(row, |row| row.get(0))? {
        tx.prepare_cached(DELETE_EARLIER)?.execute(row)?;
        insert(tx, channel, event, Some((target, place)), false)?;
    }
    Ok(())
}

fn insert(
    tx: &Connection,
    channel: &str,
    event: &Event,
    note: Option<(&Key, &str)>,
    blank: bool,
) -> rusqlite::Result<()> {
    let (kind, body) = match blank {
        true => ("chat.text", BLANK),
        false => (event.kind.as_str(), event.body.as_slice()),
    };
    let inserted = tx.prepare_cached(INSERT)?.execute((
        channel,
        event.id.to_bytes(),
        event.sender.as_str(),
        kind,
        event.to.as_ref().map(NodeId::as_str),
        body,
        note.map(|(target, _)| target.sender.as_str()),
        note.map(|(target, _)| target.id.to_bytes()),
        note.map(|(_, place)| place),
    ))?;
    let seq = u64::try_from(tx.last_insert_rowid()).unwrap_or(0);
    if inserted > 0 && seq.is_multiple_of(PRUNE_EVERY) && seq > MAX_EVENTS {
        tx.prepare_cached(PRUNE)?.execute([seq - MAX_EVENTS])?;
        tx.prepare_cached(PRUNE_MARKS)?.execute([MAX_EVENTS])?;
    }
    Ok(())
}

/// Reads the history, beside the node that writes it.
pub(crate) struct Reader {
    connection: Connection,
}

impl Reader {
    /// Opens the file of a running node for reading.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(Self { connection })
    }

    /// The last messages before this one (without one: the last), at most `limit`, with all that belongs to them.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn page(
        &self,
        channel: &str,
        before: Option<&Key>,
        limit: usize,
    ) -> rusqlite::Result<Room> {
        let tx = self.connection.unchecked_transaction()?;
        let end = before.map_or([0xff; 16], |key| key.id.to_bytes());
        // Behind every name.
        let sender = before.map_or("~", |key| key.sender.as_str());
        let posts = events(&tx, POSTS, (channel, end, sender, limit))?;
        let mut room = Room::new(limit);
        for post in posts {
            let key = Key { id: post.id, sender: post.sender.clone() };
            apply(&mut room, &post);
            for note in notes(&tx, channel, &key)? {
                apply(&mut room, &note);
            }
        }
        for (reader, upto) in reads(&tx, channel)? {
            room.apply(&read_event(reader), Change::Read(upto));
        }
        Ok(room)
    }

    /// One message as it was sent.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn post(&self, channel: &str, key: &Key) -> rusqlite::Result<Option<Event>> {
        let key = (channel, key.id.to_bytes(), key.sender.as_str());
        self.connection.query_row(POST, key, event).optional()
    }

    /// How far a message of this node's is.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn mark(&self, id: MessageId) -> rusqlite::Result<Option<Mark>> {
        let mark = |row: &Row<'_>| {
            let (delivered, failed) = (row.get(0)?, row.get(1)?);
            Ok(Mark { delivered, failed, readers: row.get(2)?, settled: row.get(3)? })
        };
        self.connection.query_row(MARK, [id.to_bytes()], mark).optional()
    }

    /// The newest messages of this node's that are not settled everywhere.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn open_marks(&self, limit: usize) -> rusqlite::Result<Vec<MessageId>> {
        let mut statement = self.connection.prepare(OPEN_MARKS)?;
        let ids = statement.query_map([limit], |row| row.get(0).map(MessageId::from_bytes))?;
        ids.collect()
    }
}

fn apply(room: &mut Room, event: &Event) {
    // It was read before it was written.
    let _ = room.handle(event);
}

fn read_event(reader: NodeId) -> Event {
    let (id, kind) = (MessageId::ZERO, String::new());
    Event { sender: reader, id, kind, to: None, body: Vec::new() }
}

type Reads = BTreeMap<NodeId, BTreeMap<NodeId, MessageId>>;

fn reads(connection: &Connection, channel: &str) -> rusqlite::Result<Reads> {
    let mut statement = connection.prepare_cached(READS)?;
    let mut rows = statement.query([channel])?;
    let mut reads = Reads::new();
    while let Some(row) = rows.next()? {
        let id = MessageId::from_bytes(row.get(2)?);
        reads.entry(name(row, 0)?).or_default().insert(name(row, 1)?, id);
    }
    Ok(reads)
}

fn notes(connection: &Connection, channel: &str, key: &Key) -> rusqlite::Result<Vec<Event>> {
    let target = (channel, key.id.to_bytes(), key.sender.as_str(), MAX_NOTES_READ);
    events(connection, NOTES, target)
}

fn events(connection: &Connection, sql: &str, of: impl Params) -> rusqlite::Result<Vec<Event>> {
    connection.prepare_cached(sql)?.query_map(of, event)?.collect()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let to: Option<String> = row.get(3)?;
    Ok(Event {
        id: MessageId::from_bytes(row.get(0)?),
        sender: name(row, 1)?,
        kind: row.get(2)?,
        to: to.map(NodeId::new).transpose().map_err(|error| FromSqlError::Other(error.into()))?,
        body: row.get(4)?,
    })
}

fn name(row: &Row<'_>, at: usize) -> rusqlite::Result<NodeId> {
    let name: String = row.get(at)?;
    Ok(NodeId::new(name).map_err(|error| FromSqlError::Other(error.into()))?)
}

#[cfg(test)]
mod tests;
