//! Messages that a receiver refused or failed too often.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::columns::{id, lane, parsed};
use super::crc::StoredLetter;
use super::error::{SendError, StoreError};
use super::fault::{At, JobError};
use super::job::Group;
use super::types::{DeadLetter, Loaded, Settlement};
use super::{audit, outbox};
use crate::message::{
    Body, ChannelName, Encoding, Headers, Kind, MAX_HEADERS, MessageId, NameError, NodeId,
    Prepared, Priority,
};

/// The header of a redriven message that names the dead letter.
pub(crate) const REDRIVE_OF: &str = "waypost-redrive-of";

pub(super) const INSERT: &str = "INSERT OR IGNORE INTO waypost_dead_letters (receiver, seq, id, channel, lane, created_ms, died_ms, reason, kind, headers, encoding, payload, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
pub(super) const SELECT: &str = "SELECT receiver, seq, id, channel, lane, created_ms, died_ms, reason, kind, redriven_as FROM waypost_dead_letters ORDER BY died_ms DESC, seq DESC LIMIT ?1";
pub(super) const FIND: &str = "SELECT seq, channel, lane, kind, headers, encoding, payload, redriven_as, created_ms, crc FROM waypost_dead_letters WHERE receiver = ?1 AND id = ?2";
pub(super) const REDRIVEN: &str =
    "UPDATE waypost_dead_letters SET redriven_as = ?3 WHERE receiver = ?1 AND seq = ?2";

/// A dead letter that was not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The receiver's name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such dead letter.
    #[error("there is no dead letter {id} of {receiver}")]
    NotFound {
        /// The receiver that was asked for.
        receiver: NodeId,
        /// The message that was asked for.
        id: MessageId,
    },
    /// It has been sent again already.
    #[error("dead letter {id} has been sent again already, as {redriven_as}")]
    AlreadyRedriven {
        /// The message that was asked for.
        id: MessageId,
        /// The message that was sent in its place.
        redriven_as: MessageId,
    },
    /// The file no longer holds it as it was sent.
    #[error("dead letter {id} is damaged and cannot be sent again")]
    Damaged {
        /// The message that was asked for.
        id: MessageId,
    },
    /// The new message was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl From<StoreError> for RedriveError {
    fn from(error: StoreError) -> Self {
        Self::Send(error.into())
    }
}

impl JobError for RedriveError {
    fn from_store(error: StoreError) -> Self {
        error.into()
    }

    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Send(error) => error.into_store().map_err(Self::Send),
            other => Err(other),
        }
    }
}

/// Keeps a message that its receiver will not get.
pub(super) fn bury(
    group: &Group<'_>,
    run: &Settlement,
    loaded: &Loaded,
    created_ms: u64,
    reason: &str,
) -> Result<(), StoreError> {
    let Some(state) = group.ledger.topic(run.topic) else { return Ok(()) };
    let (seq, id, entry) = match loaded {
        Loaded::Good(entry) => (entry.seq, entry.id, Some(entry)),
        Loaded::Damaged { seq, id, .. } => (*seq, *id, None),
    };
    let headers = entry
        .filter(|entry| !entry.headers.is_empty())
        .map(|entry| serde_json::to_string(&entry.headers).expect("a map of texts is JSON"));
    let encoding = entry.map(|entry| match entry.body.encoding {
        Encoding::Raw => 0,
        Encoding::Snappy => 1,
    });
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let lane = state.topic.lane;
    let crc = entry.zip(encoding).map(|(entry, encoding)| {
        let letter = StoredLetter {
            id,
            receiver: run.receiver.as_str(),
            seq: signed(seq),
            channel: state.topic.channel.as_str(),
            lane,
            created_ms: signed(created_ms),
            kind: entry.kind.as_str(),
            headers: headers.as_deref(),
            encoding,
            payload: &entry.body.data,
        };
        letter.crc()
    });
    group
        .conn
        .prepare_cached(INSERT)
        .and_then(|mut insert| {
            insert.execute(params![
                run.receiver.as_str(),
                seq,
                id.to_bytes(),
                state.topic.channel.as_str(),
                lane.index(),
                created_ms,
                run.at_ms,
                reason,
                entry.map(|entry| entry.kind.as_str()),
                headers,
                encoding,
                entry.map(|entry| &entry.body.data[..]),
                crc
            ])
        })
        .at("keep a dead letter")?;
    Ok(())
}

/// The latest ones, the latest first.
pub(super) fn list(conn: &Connection, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    conn.prepare_cached(SELECT)
        .and_then(|mut select| {
            let rows = select.query_map([limit], |row| {
                Ok(DeadLetter {
                    receiver: parsed(row, 0)?,
                    seq: row.get(1)?,
                    id: id(row, 2)?,
                    channel: parsed(row, 3)?,
                    lane: lane(row, 4)?,
                    created_ms: row.get(5)?,
                    died_ms: row.get(6)?,
                    reason: row.get(7)?,
                    kind: row.get::<_, Option<String>>(8)?.and_then(|kind| Kind::new(kind).ok()),
                    redriven_as: row.get::<_, Option<_>>(9)?.map(MessageId::from_bytes),
                })
            })?;
            rows.collect()
        })
        .at("read the dead letters")
}

type Content = (Kind, Headers, Body);

/// A dead letter as it was sent.
struct Kept {
    seq: u64,
    channel: ChannelName,
    lane: Priority,
    content: Option<Content>,
    redriven_as: Option<MessageId>,
}

/// Sends a dead letter again, to the receiver that it was for, as a new message at the end of its queue.
pub(super) fn redrive(
    group: &mut Group<'_>,
    receiver: &NodeId,
    id: MessageId,
    ttl_ms: Option<u64>,
) -> Result<MessageId, RedriveError> {
    let Some(kept) = find(group, receiver, id)? else {
        return Err(RedriveError::NotFound { receiver: receiver.clone(), id });
    };
    if let Some(redriven_as) = kept.redriven_as {
        return Err(RedriveError::AlreadyRedriven { id, redriven_as });
    }
    let Some((kind, mut headers, body)) = kept.content else {
        return Err(RedriveError::Damaged { id });
    };
    // A message that is full of headers goes without: `redriven_as` names it all the same.
    if headers.len() < MAX_HEADERS {
        headers.insert(REDRIVE_OF.to_owned(), id.to_string());
    }
    let message = Prepared {
        channel: kept.channel,
        target: Some(receiver.clone()),
        lane: kept.lane,
        kind,
        headers,
        body,
        ttl_ms,
    };
    let new = outbox::send(group, &[message])?[0];
    group
        .conn
        .prepare_cached(REDRIVEN)
        .and_then(|mut update| update.execute(params![receiver.as_str(), kept.seq, new.to_bytes()]))
        .at("mark a dead letter as redriven")?;
    audit::record(group, "redrive", &id.to_string(), &format!("to {receiver} as {new}"))?;
    Ok(new)
}

fn find(group: &Group<'_>, receiver: &NodeId, id: MessageId) -> Result<Option<Kept>, StoreError> {
    group
        .conn
        .prepare_cached(FIND)
        .and_then(|mut select| {
            let row = select.query_row(params![receiver.as_str(), id.to_bytes()], |row| {
                Ok(Kept {
                    seq: row.get(0)?,
                    channel: parsed(row, 1)?,
                    lane: lane(row, 2)?,
                    content: content(row, receiver, id),
                    redriven_as: row.get::<_, Option<_>>(7)?.map(MessageId::from_bytes),
                })
            });
            row.optional()
        })
        .at("read a dead letter")
}

/// What a row holds of the message. `None`: nothing, or it is damaged.
fn content(row: &Row<'_>, receiver: &NodeId, id: MessageId) -> Option<Content> {
    let kind = row.get_ref(3).ok()?.as_str().ok()?;
    let headers = row.get_ref(4).ok()?.as_str_or_null().ok()?;
    let encoding = row.get(5).ok()?;
    let payload = row.get_ref(6).ok()?.as_blob().ok()?;
    let letter = StoredLetter {
        id,
        receiver: receiver.as_str(),
        seq: row.get(0).ok()?,
        channel: row.get_ref(1).ok()?.as_str().ok()?,
        lane: lane(row, 2).ok()?,
        created_ms: row.get(8).ok()?,
        kind,
        headers,
        encoding,
        payload,
    };
    // A letter of before schema 2 has no checksum.
    if row.get::<_, Option<i64>>(9).ok()?.is_some_and(|crc| crc != i64::from(letter.crc())) {
        return None;
    }
    let headers = match headers {
        Some(headers) => serde_json::from_str(headers).ok()?,
        None => Headers::new(),
    };
    Some((Kind::new(kind).ok()?, headers, outbox::body(encoding, payload)?))
}
