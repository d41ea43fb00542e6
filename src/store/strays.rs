//! Messages whose rows name another topic than they belong to, because a bit of that flipped. Nobody who reads their topic would see
//! them, and so nobody would miss them.
//!
//! The next message of the topic names the one before it, and the topic its last one: where that row says otherwise, and its checksum
//! does not fit what it says, it is put back. If nothing but the topic was damaged, the checksum then fits; else it is a
//! damaged message like any other.

use rusqlite::{Connection, OptionalExtension, params};

use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::types::{Cursor, Notice, Stray};
use super::{audit, cursors, outbox};
use crate::message::TopicId;

pub(super) const FIND: &str = "SELECT seq, topic, created_ms, id, expires_ms, kind, headers, encoding, crc, payload FROM waypost_outbox WHERE seq = ?1";
pub(super) const PUT_BACK: &str = "UPDATE waypost_outbox SET topic = ?2 WHERE seq = ?1";

const NO_TOPIC: TopicId = TopicId(0);

/// Whether there is a message at this place that says, wrongly, that it is of another topic.
pub(super) fn is_stray(conn: &Connection, stray: Stray) -> Result<bool, StoreError> {
    conn.prepare_cached(FIND)
        .and_then(|mut select| {
            let says_otherwise = select.query_row([stray.seq], |row| {
                let says = row.get(1).map(TopicId).ok();
                Ok(says != Some(stray.topic) && !says.is_some_and(|it| outbox::is_intact(row, it)))
            });
            says_otherwise.optional()
        })
        .map(|found| found.unwrap_or(false))
        .at("look for a message out of place")
}

/// Whether the message at this place is surely of this topic: of one that is damaged nobody knows who waits for it.
pub(super) fn belongs(conn: &Connection, seq: u64, topic: TopicId) -> Result<bool, StoreError> {
    conn.prepare_cached(FIND)
        .and_then(|mut select| select.query_row([seq], |row| Ok(outbox::is_intact(row, topic))))
        .at("look whose message it is")
}

/// Puts them back, and tells all who may have read past them.
pub(super) fn put_back(group: &mut Group<'_>, strays: &[Stray]) -> Result<(), StoreError> {
    for stray in strays {
        let Stray { seq, topic } = *stray;
        // This connection may have the page in memory as it was before it was damaged, and SQLite writes no page in which nothing
        // changes.
        for topic in [NO_TOPIC, topic] {
            group
                .conn
                .prepare_cached(PUT_BACK)
                .and_then(|mut update| update.execute(params![seq, topic.0]))
                .at("put a message back")?;
        }
        let detail = format!("its row named another topic than {}: the disk damaged it", topic.0);
        audit::record(group, "put back", &format!("message at {seq}"), &detail)?;
        tracing::error!(
            seq,
            topic = topic.0,
            "a message's row named another topic: it was damaged"
        );
        let behind = |cursor: &Cursor| cursor.topic == topic && cursor.acked_seq < seq;
        for mut cursor in group.ledger.open_cursors().into_iter().filter(behind) {
            cursor.skipped = cursors::skipped(group.conn, &cursor.receiver, topic)?;
            group.notices.push(Notice::CursorBehind(cursor));
        }
    }
    Ok(())
}
