//! What the tables of a node's file say of each other, as far as it is quickly compared: a file that is put together from two states
//! of itself passes SQLite's checks.
//!
//! Rows that hold a damaged message are left aside: that message becomes a dead letter.

use rusqlite::{Connection, OptionalExtension as _, Row};

use crate::message::{MessageId, TopicId};
use crate::store::crc::Stored;
use crate::store::migrate;

const PASSED_ITS_TOPIC: &str = "SELECT receiver, channel, acked_seq, last_seq FROM waypost_cursors JOIN waypost_topics USING (topic)
    WHERE acked_seq > last_seq LIMIT 1";
const OF_NO_TOPIC: &str = "SELECT receiver, topic FROM waypost_cursors
    WHERE NOT EXISTS (SELECT 1 FROM waypost_topics t WHERE t.topic = waypost_cursors.topic) LIMIT 1";
const SETTLED_MORE: &str =
    "SELECT receiver, channel, base + acknowledged + expired + dead + purged, accepted
    FROM waypost_cursors JOIN waypost_topics USING (topic)
    WHERE open AND base + acknowledged + expired + dead + purged > accepted LIMIT 1";
const BEHIND_THE_LOG: &str = "SELECT channel, last_seq FROM waypost_topics WHERE last_seq > ?1 ORDER BY last_seq DESC LIMIT 1";
const OWNER: &str = "SELECT last_id, (SELECT count(*) FROM waypost_stores) FROM waypost_meta";
/// The highest seq ever used, also of messages that have been deleted.
pub(in crate::store) const SELECT_END_SEQ: &str = "SELECT max(coalesce((SELECT end_seq FROM waypost_meta), 0), coalesce((SELECT max(seq) FROM waypost_outbox), 0))";
/// The same in a file of before schema 5.
const SELECT_END_SEQ_4: &str = "SELECT max(coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'waypost_outbox'), 0), coalesce((SELECT max(seq) FROM waypost_outbox), 0))";
const END_OF_TOPIC: &str = "SELECT last_seq FROM waypost_topics WHERE topic = ?1";
const LAST: &str =
    "SELECT seq, id, topic, created_ms, expires_ms, kind, headers, encoding, crc, payload
    FROM waypost_outbox ORDER BY seq DESC LIMIT 1";

/// The highest seq ever used in a file of any version.
pub(in crate::store) fn end_seq(conn: &Connection) -> rusqlite::Result<i64> {
    let is_old = migrate::user_version(conn)? < 5;
    let sql = if is_old { SELECT_END_SEQ_4 } else { SELECT_END_SEQ };
    conn.query_row(sql, [], |row| row.get(0))
}

/// The first contradiction.
pub(in crate::store) fn fault(connection: &Connection) -> rusqlite::Result<Option<String>> {
    for find in [passed_its_topic, of_no_topic, settled_more, behind_the_log, owner] {
        if let Some(reason) = find(connection)? {
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

fn passed_its_topic(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let describe = |row: &Row<'_>| {
        let (receiver, channel) = (text(row, 0)?, text(row, 1)?);
        let (acked, last): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok(format!(
            "{receiver} has settled {channel} up to {acked}, where its last message is {last}"
        ))
    };
    connection.query_row(PASSED_ITS_TOPIC, [], describe).optional()
}

fn of_no_topic(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let describe = |row: &Row<'_>| {
        let (receiver, topic) = (text(row, 0)?, row.get::<_, i64>(1)?);
        Ok(format!("{receiver} has a place in topic {topic}, which does not exist"))
    };
    connection.query_row(OF_NO_TOPIC, [], describe).optional()
}

fn settled_more(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let describe = |row: &Row<'_>| {
        let (receiver, channel) = (text(row, 0)?, text(row, 1)?);
        let (settled, accepted): (i64, i64) = (row.get(2)?, row.get(3)?);
        Ok(format!("{receiver} has settled {settled} messages of {channel}, which has {accepted}"))
    };
    connection.query_row(SETTLED_MORE, [], describe).optional()
}

fn behind_the_log(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let end = end_seq(connection)?;
    let describe = |row: &Row<'_>| {
        let (channel, last) = (text(row, 0)?, row.get::<_, i64>(1)?);
        Ok(format!("the last message of {channel} is {last}, and that of all channels {end}"))
    };
    connection.query_row(BEHIND_THE_LOG, [end], describe).optional()
}

fn owner(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let last = connection.query_row(LAST, [], last_message).optional()?;
    let owner = connection
        .query_row(OWNER, [], |row| Ok((MessageId::from_bytes(row.get(0)?), row.get::<_, u64>(1)?)))
        .optional()?;
    Ok(match (owner, last) {
        (None, Some(_)) => Some("it has messages, and no row says whose it is".to_owned()),
        (Some((_, 0)), _) => Some("it has no store id".to_owned()),
        (Some((given, _)), Some(Some(Last { id, .. }))) if id > given => {
            Some(format!("its last message has the id {id}, above the last one given out, {given}"))
        }
        (Some(_), Some(Some(Last { seq, topic, .. }))) => {
            let end = connection
                .query_row(END_OF_TOPIC, [topic], |row| row.get::<_, i64>(0))
                .optional()?;
            end.filter(|end| *end < seq).map(|end| {
                format!("its last message is {seq}, and that message's topic ends at {end}")
            })
        }
        _ => None,
    })
}

/// The last message of the log.
struct Last {
    seq: i64,
    id: MessageId,
    topic: i64,
}

/// `None` where the message is damaged.
fn last_message(row: &Row<'_>) -> rusqlite::Result<Option<Last>> {
    let read = || {
        let id = MessageId::from_bytes(row.get(1)?);
        let stored = Stored {
            seq: row.get(0)?,
            id,
            topic: TopicId(row.get(2)?),
            created_ms: row.get(3)?,
            expires_ms: row.get(4)?,
            kind: row.get_ref(5)?.as_str()?,
            headers: row.get_ref(6)?.as_str_or_null()?,
            encoding: row.get(7)?,
            payload: row.get_ref(9)?.as_blob()?,
        };
        let last = Last { seq: row.get(0)?, id, topic: row.get(2)? };
        Ok::<_, rusqlite::Error>(stored.fits(row.get(8)?).then_some(last))
    };
    Ok(read().unwrap_or(None))
}

/// A name that may be damaged, fit to be shown.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(column)?.as_bytes()?;
    Ok(String::from_utf8_lossy(bytes).escape_debug().to_string())
}

#[cfg(test)]
mod tests {
    use crate::store::open::tests::{created, listing, me, sql};
    use crate::store::open::{OpenError, open};

    const FILLED: &str = "INSERT INTO waypost_meta (only, node, last_id, created_ms) VALUES (1, 'alice', zeroblob(16), 7);
        INSERT INTO waypost_stores VALUES (zeroblob(16), randomblob(16));
        UPDATE waypost_meta SET end_seq = 9;
        INSERT INTO waypost_topics (topic, channel, lane, accepted, last_seq) VALUES (1, 'work', 1, 8, 9);
        INSERT INTO waypost_cursors VALUES ('bob', 1, 1, 9, NULL, 0, 8, 0, 0, 0)";

    #[test]
    fn a_file_that_contradicts_itself_is_refused_by_name_and_nothing_changes() {
        for (harm, words) in [
            ("", ""),
            ("UPDATE waypost_cursors SET acked_seq = 10", "bob has settled work up to 10"),
            ("UPDATE waypost_topics SET last_seq = 8", "where its last message is 8"),
            ("UPDATE waypost_topics SET accepted = 7", "settled 8 messages of work, which has 7"),
            ("UPDATE waypost_meta SET end_seq = 5", "and that of all channels 5"),
            ("PRAGMA foreign_keys = OFF; UPDATE waypost_cursors SET topic = 2", "topic 2"),
            ("DELETE FROM waypost_stores", "no store id"),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = std::fs::canonicalize(folder.path()).expect("a path").join("a.db");
            created(&path);
            sql(&path, FILLED);
            sql(&path, harm);
            let before = listing(&path);
            match open(&path, &me()) {
                Ok(_) => assert_eq!(harm, ""),
                Err(OpenError::Contradiction { reason, .. }) if !harm.is_empty() => {
                    assert!(reason.contains(words), "{harm}: {reason}");
                    assert!(before == listing(&path), "something changed");
                }
                Err(error) => panic!("{harm}: {error}"),
            }
        }
    }
}
