//! The history as it is read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use waypost::rusqlite::types::FromSqlError;
use waypost::rusqlite::{self, Connection, OpenFlags, OptionalExtension, Params, Row};
use waypost::{MessageId, NodeId};

use crate::marks::{Mark, Standing};
use crate::room::{Change, Event, Key, MAX_REACTIONS, Post, Room};

/// Notes to one message that are read: an edit, a deletion, and reactions.
const MAX_NOTES: usize = MAX_REACTIONS + 2;
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const POSTS: &str = "SELECT seq, id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target IS NULL AND seq < ?2 ORDER BY seq DESC LIMIT ?3";
const POST: &str = "SELECT seq, id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target IS NULL AND id = ?2 AND sender = ?3";
// The author's edit and deletion first, however many have reacted.
const NOTES: &str = "SELECT seq, id, sender, kind, to_node, body FROM chat_events
    WHERE channel = ?1 AND target = ?2 AND author = ?3 AND (to_node IS NOT NULL) = ?4
    ORDER BY place LIKE '+%' OR place LIKE '@+%', id DESC LIMIT ?5";
const READS: &str = "SELECT reader, direct, author, id FROM chat_reads WHERE channel = ?1";
const MARK: &str =
    "SELECT delivered, failed, readers, settled, names FROM chat_marks WHERE id = ?1";
const OPEN_MARKS: &str =
    "SELECT id FROM chat_marks WHERE channel = ?1 AND settled = 0 ORDER BY id DESC LIMIT ?2";

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

    /// The messages that came last before this number (without one: the last), at most `limit`, with all that belongs to them.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn page(
        &self,
        channel: &str,
        before: Option<u64>,
        limit: usize,
    ) -> rusqlite::Result<Room> {
        let tx = self.connection.unchecked_transaction()?;
        let end = before.and_then(|seq| i64::try_from(seq).ok()).unwrap_or(i64::MAX);
        let posts = events(&tx, POSTS, (channel, end, limit))?;
        gather(&tx, channel, posts, limit)
    }

    /// One message, with all that belongs to it.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn post(&self, channel: &str, key: &Key) -> rusqlite::Result<Option<Post>> {
        let tx = self.connection.unchecked_transaction()?;
        let posts = events(&tx, POST, (channel, key.id.to_bytes(), key.sender.as_str()))?;
        Ok(gather(&tx, channel, posts, 1)?.post(key))
    }

    /// How far a message of this node's is.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn standing(&self, id: MessageId) -> rusqlite::Result<Option<Standing>> {
        let standing = |row: &Row<'_>| {
            let (delivered, failed, readers) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let mark = Mark { delivered, failed, readers, settled: row.get(3)?, read: 0 };
            let names: String = row.get(4)?;
            let names = names.split(',').filter_map(|name| NodeId::new(name).ok()).collect();
            Ok(Standing { mark, names })
        };
        self.connection.query_row(MARK, [id.to_bytes()], standing).optional()
    }

    /// The newest messages of this node's that are not settled everywhere.
    ///
    /// # Errors
    /// What SQLite says.
    pub(crate) fn open_marks(
        &self,
        channel: &str,
        limit: usize,
    ) -> rusqlite::Result<Vec<MessageId>> {
        let mut statement = self.connection.prepare(OPEN_MARKS)?;
        let id = |row: &Row<'_>| row.get(0).map(MessageId::from_bytes);
        statement.query_map((channel, limit), id)?.collect()
    }
}

fn gather(
    tx: &Connection,
    channel: &str,
    posts: Vec<Event>,
    limit: usize,
) -> rusqlite::Result<Room> {
    let mut room = Room::new(limit);
    for post in posts {
        let key = Key { id: post.id, sender: post.sender.clone() };
        apply(&mut room, &post);
        for note in notes(tx, channel, &key, post.to.is_some())? {
            apply(&mut room, &note);
        }
    }
    for ((reader, direct), upto) in reads(tx, channel)? {
        room.apply(&read_event(reader, direct), Change::Read(upto));
    }
    Ok(room)
}

fn apply(room: &mut Room, event: &Event) {
    // It was read before it was written.
    let _ = room.handle(event);
}

fn read_event(reader: NodeId, direct: bool) -> Event {
    let (id, kind, to) = (MessageId::ZERO, String::new(), direct.then(|| reader.clone()));
    Event { sender: reader, id, kind, to, body: Vec::new(), seq: 0 }
}

type Reads = BTreeMap<(NodeId, bool), BTreeMap<NodeId, MessageId>>;

fn reads(connection: &Connection, channel: &str) -> rusqlite::Result<Reads> {
    let mut statement = connection.prepare_cached(READS)?;
    let mut rows = statement.query([channel])?;
    let mut reads = Reads::new();
    while let Some(row) = rows.next()? {
        let id = MessageId::from_bytes(row.get(3)?);
        reads.entry((name(row, 0)?, row.get(1)?)).or_default().insert(name(row, 2)?, id);
    }
    Ok(reads)
}

pub(super) fn notes(
    connection: &Connection,
    channel: &str,
    key: &Key,
    direct: bool,
) -> rusqlite::Result<Vec<Event>> {
    let target = (channel, key.id.to_bytes(), key.sender.as_str(), direct, MAX_NOTES);
    events(connection, NOTES, target)
}

fn events(connection: &Connection, sql: &str, of: impl Params) -> rusqlite::Result<Vec<Event>> {
    connection.prepare_cached(sql)?.query_map(of, event)?.collect()
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let to: Option<String> = row.get(4)?;
    Ok(Event {
        seq: row.get(0)?,
        id: MessageId::from_bytes(row.get(1)?),
        sender: name(row, 2)?,
        kind: row.get(3)?,
        to: to.map(NodeId::new).transpose().map_err(|error| FromSqlError::Other(error.into()))?,
        body: row.get(5)?,
    })
}

fn name(row: &Row<'_>, at: usize) -> rusqlite::Result<NodeId> {
    let name: String = row.get(at)?;
    Ok(NodeId::new(name).map_err(|error| FromSqlError::Other(error.into()))?)
}
