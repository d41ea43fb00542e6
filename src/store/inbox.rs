//! How far this node has committed each sender's topics.

use rusqlite::{Connection, OptionalExtension, params};

use super::fault::At;
use super::job::Group;
use super::meta::{all, id, lane, parsed};
use super::types::{InboxAdvance, InboxRow};
use crate::error::StoreError;
use crate::message::StoreId;

/// Most store ids of one sender that are known. It gets a new one when its file is made anew, or turns out to be an old copy.
const STORES_OF_A_SENDER: usize = 16;

pub(super) const ADVANCE: &str = "INSERT INTO waypost_inbox (sender, store_id, channel, direct, lane, first_id, last_id, count, at_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 1, ?7) ON CONFLICT (sender, store_id, channel, direct, lane) DO UPDATE SET last_id = excluded.last_id, count = count + 1, at_ms = excluded.at_ms WHERE excluded.last_id > last_id RETURNING count";
pub(super) const TRIM: &str = "DELETE FROM waypost_inbox WHERE sender = ?1 AND store_id IN (SELECT store_id FROM waypost_inbox WHERE sender = ?1 AND store_id <> ?2 GROUP BY store_id ORDER BY max(at_ms) DESC, max(last_id) DESC LIMIT -1 OFFSET ?3)";
pub(super) const SELECT: &str =
    "SELECT sender, store_id, channel, direct, lane, first_id, last_id, count FROM waypost_inbox";

/// Notes that the message is done with. `false`: it, or a later one, had been noted before; a row never goes back.
pub(super) fn advance(group: &Group<'_>, to: &InboxAdvance) -> Result<bool, StoreError> {
    let key = params![
        to.sender.as_str(),
        to.store_id.to_bytes(),
        to.channel.as_str(),
        to.direct,
        to.lane.index(),
        to.id.to_bytes(),
        group.now_ms
    ];
    let count: Option<u64> = group
        .conn
        .prepare_cached(ADVANCE)
        .and_then(|mut upsert| upsert.query_row(key, |row| row.get(0)).optional())
        .at("advance the inbox")?;
    if count == Some(1) {
        trim(group, to)?;
    }
    Ok(count.is_some())
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
    all(conn, SELECT, |row| {
        Ok(InboxRow {
            sender: parsed(row, 0)?,
            store_id: StoreId::from_bytes(row.get(1)?),
            channel: parsed(row, 2)?,
            direct: row.get(3)?,
            lane: lane(row, 4)?,
            first_id: id(row, 5)?,
            last_id: id(row, 6)?,
            count: row.get(7)?,
        })
    })
}
