//! How far this node has committed each sender's topics.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, Row, ToSql, params, params_from_iter};

use super::audit;
use super::columns::{all, id, lane, parsed};
use super::crc::StoredInbox;
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use super::spans;
use super::types::{InboxAdvance, InboxRow};
use crate::message::StoreId;

/// Most store ids of one sender that are known. It gets a new one when its file is made anew, or turns out to be an old copy.
const STORES_OF_A_SENDER: usize = 16;

/// An update and, for a new row, an insertion: as one statement that also says which of them it was it costs three times as much.
pub(super) const ADVANCE: &str = "UPDATE waypost_inbox SET last_id = ?6, count = count + 1, at_ms = ?7, crc = ?8 WHERE sender = ?1 AND store_id = ?2 AND channel = ?3 AND direct = ?4 AND lane = ?5 AND last_id < ?6";
pub(super) const BEGIN: &str = "INSERT INTO waypost_inbox (sender, store_id, channel, direct, lane, first_id, last_id, count, at_ms, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 1, ?7, ?8) ON CONFLICT (sender, store_id, channel, direct, lane) DO NOTHING";
pub(super) const TRIM: &str = "DELETE FROM waypost_inbox WHERE sender = ?1 AND store_id IN (SELECT store_id FROM waypost_inbox WHERE sender = ?1 AND store_id <> ?2 GROUP BY store_id ORDER BY max(at_ms) DESC, max(last_id) DESC LIMIT -1 OFFSET ?3)";
pub(super) const SEALED: &str =
    "SELECT sender, store_id, channel, direct, lane, last_id, crc FROM waypost_inbox";
pub(super) const FORGET: &str = "DELETE FROM waypost_inbox WHERE sender = ?1 AND store_id = ?2 AND channel = ?3 AND direct = ?4 AND lane = ?5";
pub(super) const SELECT: &str = "SELECT sender, store_id, channel, direct, lane, last_id, crc, first_id, count FROM waypost_inbox";

/// Notes that the message is done with. `false`: it, or a later one, had been noted before; a row never goes back.
pub(super) fn advance(group: &Group<'_>, to: &InboxAdvance) -> Result<bool, StoreError> {
    let _span = spans::receipt(to).entered();
    let crc = StoredInbox {
        last_id: to.id,
        sender: to.sender.as_str(),
        channel: to.channel.as_str(),
        direct: to.direct,
        lane: to.lane,
        store_id: to.store_id,
    }
    .crc();
    let key: &[&dyn ToSql] = params![
        to.sender.as_str(),
        to.store_id.to_bytes(),
        to.channel.as_str(),
        to.direct,
        to.lane.index(),
        to.id.to_bytes(),
        group.now_ms,
        crc
    ];
    let write = |sql| group.conn.prepare_cached(sql).and_then(|mut write| write.execute(key));
    if write(ADVANCE).at("advance the inbox")? > 0 {
        return Ok(true);
    }
    let begun = write(BEGIN).at("begin a sender's row in the inbox")? > 0;
    if begun {
        trim(group, to)?;
    }
    Ok(begun)
}

/// Forgets the rows that were damaged: a place further on would pass over messages that never came. Their senders say where they
/// are, and what they have not seen acknowledged comes again.
pub(super) fn forget_damaged(conn: &Connection, at_ms: u64, path: &Path) -> Result<(), StoreError> {
    let mut damaged = Vec::new();
    {
        let mut select = conn.prepare(SEALED).at("check the inbox")?;
        let mut rows = select.query([]).at("check the inbox")?;
        while let Some(row) = rows.next().at("check the inbox")? {
            if !is_intact(row) {
                let key = (0..5).map(|column| row.get(column));
                damaged.push(key.collect::<Result<Vec<Value>, _>>().at("check the inbox")?);
            }
        }
    }
    for key in damaged {
        let text = |value: &Value| match value {
            Value::Text(text) => text.clone(),
            other => format!("{other:?}"),
        };
        let detail = format!(
            "what was received from {} in {} is not known any more: the row was damaged",
            text(&key[0]),
            text(&key[2])
        );
        tracing::error!(path = %path.display(), "{detail}");
        conn.execute(FORGET, params_from_iter(&key)).at("forget a damaged row")?;
        audit::note(conn, at_ms, "inbox damaged", path, &detail)?;
    }
    Ok(())
}

/// Whether the checksum of a row fits, or it is from before there was one.
pub(super) fn is_intact(row: &Row<'_>) -> bool {
    let read = || -> rusqlite::Result<bool> {
        let stored = StoredInbox {
            last_id: id(row, 5)?,
            sender: row.get_ref(0)?.as_str()?,
            channel: row.get_ref(2)?.as_str()?,
            direct: row.get(3)?,
            lane: lane(row, 4)?,
            store_id: StoreId::from_bytes(row.get(1)?),
        };
        let crc: Option<i64> = row.get(6)?;
        Ok(crc.is_none_or(|crc| crc == i64::from(stored.crc())))
    };
    read().unwrap_or(false)
}

/// Forgets the store ids that the sender has not used for the longest time, where it has too many. Only a new row can be one too
/// many.
fn trim(group: &Group<'_>, to: &InboxAdvance) -> Result<(), StoreError> {
    let others = STORES_OF_A_SENDER - 1;
    let deleted = group
        .conn
        .prepare_cached(TRIM)
        .and_then(|mut delete| {
            delete.execute(params![to.sender.as_str(), to.store_id.to_bytes(), others])
        })
        .at("trim the inbox")?;
    if deleted > 0 {
        tracing::warn!(sender = %to.sender, rows = deleted, "old store ids of a sender are forgotten");
    }
    Ok(())
}

pub(super) fn rows(conn: &Connection) -> Result<Vec<InboxRow>, StoreError> {
    let read = |row: &Row<'_>| -> rusqlite::Result<InboxRow> {
        Ok(InboxRow {
            sender: parsed(row, 0)?,
            store_id: StoreId::from_bytes(row.get(1)?),
            channel: parsed(row, 2)?,
            direct: row.get(3)?,
            lane: lane(row, 4)?,
            last_id: id(row, 5)?,
            first_id: id(row, 7)?,
            count: row.get(8)?,
        })
    };
    // What is damaged is not believed, even where it could not be deleted.
    let rows = all(conn, SELECT, |row| Ok(if is_intact(row) { read(row).ok() } else { None }))?;
    Ok(rows.into_iter().flatten().collect())
}
