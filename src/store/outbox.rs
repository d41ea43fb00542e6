//! The log of accepted messages, and its topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::crc::Stored;
use super::error::{SendError, StoreError};
use super::fault::At;
use super::job::Group;
use super::ledger::TopicState;
use super::limits;
use super::types::{Loaded, Notice, Start, Topic};
use crate::message::{
    Body, ChannelName, Encoding, Entry, Headers, Kind, MessageId, NodeId, Prepared, Priority,
    TopicId,
};

pub(super) const INSERT_TOPIC: &str = "INSERT INTO waypost_topics (topic, channel, target, lane, accepted, last_seq) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(super) const UPDATE_TOPIC: &str = "UPDATE waypost_topics SET accepted = ?2, last_seq = ?3, unclaimed_expired = ?4 WHERE topic = ?1";
pub(super) const INSERT: &str = "INSERT INTO waypost_outbox (seq, id, topic, lane, previous_seq, created_ms, expires_ms, kind, headers, encoding, crc, payload) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
pub(super) const LINK: &str =
    "SELECT previous_seq, expires_ms FROM waypost_outbox WHERE seq = ?1 AND topic = ?2";
pub(super) const NEXT: &str =
    "SELECT seq FROM waypost_outbox WHERE seq > ?1 AND topic = ?2 ORDER BY seq LIMIT 1 OFFSET ?3";
pub(super) const COUNT: &str =
    "SELECT count(*) FROM waypost_outbox WHERE seq > ?1 AND seq <= ?2 AND topic = ?3";
pub(super) const AT_OR_AFTER: &str =
    "SELECT seq, created_ms FROM waypost_outbox WHERE seq >= ?1 ORDER BY seq LIMIT 1";
pub(super) const RUN: &str = "SELECT seq, topic, created_ms, id, expires_ms, kind, headers, encoding, crc, payload FROM waypost_outbox WHERE seq >= ?1 AND seq <= ?2 AND topic = ?3 ORDER BY seq";

/// Puts all of them into the log, or none. Nothing is written before everything that can be refused has been.
pub(super) fn send(group: &mut Group<'_>, batch: &[Prepared]) -> Result<Vec<MessageId>, SendError> {
    limits::make_room(group, batch)?;
    let ids = batch.iter().map(|message| append(group, message)).collect::<Result<_, _>>()?;
    Ok(ids)
}

fn append(group: &mut Group<'_>, message: &Prepared) -> Result<MessageId, StoreError> {
    let topic = topic_for(group, &message.channel, message.target.as_ref(), message.lane)?;
    let totals = group.ledger.totals;
    let seq = totals.end_seq + 1;
    let id = group.next_id()?;
    let created_ms = group.now_ms.max(totals.last_created_ms);
    // SQLite's integers end earlier than ours.
    const FOREVER_MS: u64 = i64::MAX as u64;
    let expires_ms = message.ttl_ms.map(|ttl| created_ms.saturating_add(ttl).min(FOREVER_MS));
    let headers = (!message.headers.is_empty())
        .then(|| serde_json::to_string(&message.headers).expect("a map of texts is JSON"));
    let (kind, data) = (message.kind.as_str(), &message.body.data);
    let encoding = encoding_number(message.body.encoding);
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let crc = Stored {
        id,
        topic,
        seq: signed(seq),
        created_ms: signed(created_ms),
        expires_ms: expires_ms.map(signed),
        kind,
        headers: headers.as_deref(),
        encoding,
        payload: data,
    }
    .crc();
    let previous_seq = group.ledger.topic(topic).map_or(0, |state| state.topic.last_seq);
    let lane = message.lane.index();
    group
        .conn
        .prepare_cached(INSERT)
        .and_then(|mut insert| {
            insert.execute(params![
                seq,
                id.to_bytes(),
                topic.0,
                lane,
                previous_seq,
                created_ms,
                expires_ms,
                kind,
                headers,
                encoding,
                crc,
                &data[..]
            ])
        })
        .at("append a message")?;
    let totals = &mut group.ledger.totals;
    (totals.end_seq, totals.last_id, totals.last_created_ms) = (seq, id, created_ms);
    totals.appended += 1;
    group.ledger.change_topic(topic, |state| {
        state.topic.accepted += 1;
        state.topic.last_seq = seq;
        if state.open == 0 {
            state.unclaimed += 1;
            let expiry = expires_ms.unwrap_or(u64::MAX);
            state.unclaimed_expiry_ms = expiry.min(state.unclaimed_expiry_ms);
        }
    });
    if group.ledger.topic(topic).is_some_and(|state| state.open == 0) {
        group.tell_unclaimed_expiry(expires_ms);
    }
    group.notices.push(Notice::Appended(Arc::new(Entry {
        seq,
        id,
        topic,
        channel: message.channel.clone(),
        target: message.target.clone(),
        lane: message.lane,
        kind: message.kind.clone(),
        headers: message.headers.clone(),
        body: message.body.clone(),
        created_ms,
        expires_ms,
    })));
    Ok(id)
}

/// The topic, made if need be, with a cursor for everyone whom its next message is for.
fn topic_for(
    group: &mut Group<'_>,
    channel: &ChannelName,
    target: Option<&NodeId>,
    lane: Priority,
) -> Result<TopicId, StoreError> {
    if let Some(topic) = group.ledger.named(channel, target, lane) {
        // Who was forgotten and is written to again begins anew.
        if let Some(target) = target
            && !group.ledger.cursor(target, topic).is_some_and(|cursor| cursor.open)
        {
            let last_seq = group.ledger.topic(topic).map_or(0, |state| state.topic.last_seq);
            group.open_cursor(target, topic, last_seq, 0)?;
        }
        return Ok(topic);
    }
    let topic = Topic {
        topic: group.ledger.next_topic(),
        channel: channel.clone(),
        target: target.cloned(),
        lane,
        accepted: 0,
        last_seq: 0,
    };
    group
        .conn
        .prepare_cached(INSERT_TOPIC)
        .and_then(|mut insert| {
            let target = target.map(NodeId::as_str);
            insert.execute(params![
                topic.topic.0,
                channel.as_str(),
                target,
                lane.index(),
                topic.accepted,
                topic.last_seq
            ])
        })
        .at("add a topic")?;
    let id = topic.topic;
    group.notices.push(Notice::TopicOpened(topic.clone()));
    group.ledger.add_topic(TopicState::new(topic));
    let receivers: Vec<NodeId> = match target {
        Some(target) => vec![target.clone()],
        None => group.ledger.subscribers(channel).cloned().collect(),
    };
    // Nothing of it lies before the log's end, so that no reader has to look there.
    let end_seq = group.ledger.totals.end_seq;
    for receiver in &receivers {
        group.open_cursor(receiver, id, end_seq, 0)?;
    }
    Ok(id)
}

/// A topic's messages past a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) count: u64,
    /// The seq of the first; 0 for none.
    pub(super) first_seq: u64,
    /// When the first of them to expire does; `u64::MAX` for never.
    pub(super) expiry_ms: u64,
}

/// Counts the topic's messages past a place, from its last one back: what it costs depends on them alone.
pub(super) fn backlog(conn: &Connection, topic: &Topic, after: u64) -> Result<Backlog, StoreError> {
    let mut backlog = Backlog { count: 0, first_seq: 0, expiry_ms: u64::MAX };
    let mut seq = topic.last_seq;
    while seq > after {
        let Some((previous, expires_ms)) = link(conn, topic.topic, seq)? else { break };
        backlog.count += 1;
        backlog.first_seq = seq;
        backlog.expiry_ms = expires_ms.unwrap_or(u64::MAX).min(backlog.expiry_ms);
        seq = previous;
    }
    Ok(backlog)
}

fn link(
    conn: &Connection,
    topic: TopicId,
    seq: u64,
) -> Result<Option<(u64, Option<u64>)>, StoreError> {
    conn.prepare_cached(LINK)
        .and_then(|mut select| {
            select.query_row(params![seq, topic.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .at("follow a topic")
}

impl Group<'_> {
    /// A message's place in its topic: the seq before it, and when it expires. `None`: it is not there any more.
    pub(super) fn link(
        &self,
        topic: TopicId,
        seq: u64,
    ) -> Result<Option<(u64, Option<u64>)>, StoreError> {
        link(self.conn, topic, seq)
    }

    /// The seq of the topic's message that has so many others between it and a place.
    pub(super) fn next_of(
        &self,
        topic: TopicId,
        after: u64,
        skip: u64,
    ) -> Result<Option<u64>, StoreError> {
        self.conn
            .prepare_cached(NEXT)
            .and_then(|mut select| {
                select.query_row(params![after, topic.0, skip], |row| row.get(0)).optional()
            })
            .at("look for a message")
    }

    /// How many of the topic's messages lie past `after` and up to `to`.
    pub(super) fn count(&self, topic: TopicId, after: u64, to: u64) -> Result<u64, StoreError> {
        self.conn
            .prepare_cached(COUNT)
            .and_then(|mut select| select.query_row(params![after, to, topic.0], |row| row.get(0)))
            .at("count messages")
    }

    /// Behind which seq a reader begins.
    pub(super) fn position(&self, topic: TopicId, start: Start) -> Result<u64, StoreError> {
        match start {
            Start::Now => Ok(self.ledger.topic(topic).map_or(0, |state| state.topic.last_seq)),
            Start::All => Ok(0),
            Start::Joined { age_ms } => {
                let since = self.position(topic, Start::Since { age_ms })?;
                let waits = |state: &&TopicState| state.open == 0 && state.unclaimed > 0;
                let state = self.ledger.topic(topic).filter(waits);
                Ok(state.map_or(since, |state| since.min(state.claimed_seq)))
            }
            Start::Since { age_ms } => self.last_before(self.now_ms.saturating_sub(age_ms)),
        }
    }

    /// The last seq whose message is older than this: a binary search, because `created_ms` never decreases with the seq.
    fn last_before(&self, time_ms: u64) -> Result<u64, StoreError> {
        let (mut older, mut younger) = (0, self.ledger.totals.end_seq + 1);
        let mut at_or_after = self.conn.prepare_cached(AT_OR_AFTER).at("search by time")?;
        while younger - older > 1 {
            let middle = older + (younger - older) / 2;
            let found: Option<(u64, u64)> = at_or_after
                .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
                .at("search by time")?;
            match found {
                Some((seq, created_ms)) if created_ms < time_ms => older = seq,
                _ => younger = middle,
            }
        }
        Ok(older)
    }

    /// The topic's messages from one seq to another.
    pub(super) fn run(
        &self,
        topic: TopicId,
        first: u64,
        last: u64,
    ) -> Result<Vec<(Loaded, u64)>, StoreError> {
        let Some(state) = self.ledger.topic(topic) else { return Ok(Vec::new()) };
        let mut select = self.conn.prepare_cached(RUN).at("read messages")?;
        select
            .query_map(params![first, last, topic.0], |row| {
                Ok((loaded(row, &state.topic)?, row.get(2).unwrap_or(0)))
            })
            .and_then(Iterator::collect)
            .at("read messages")
    }

    /// Writes the rows of the topics that changed.
    pub(super) fn write_topics(&mut self) -> Result<(), StoreError> {
        let dirty = self.ledger.take_dirty();
        let mut update = self.conn.prepare_cached(UPDATE_TOPIC).at("update a topic")?;
        for TopicState { topic, unclaimed_expired, .. } in dirty {
            update
                .execute(params![topic.topic.0, topic.accepted, topic.last_seq, unclaimed_expired])
                .at("update a topic")?;
        }
        Ok(())
    }
}

const fn encoding_number(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Raw => 0,
        Encoding::Snappy => 1,
    }
}

/// Turns a row (seq, topic, created_ms, id, expires_ms, kind, headers, encoding, crc, payload) into a message. Whatever is wrong
/// with what it holds makes it a damaged one, never an error.
pub(super) fn loaded(row: &Row<'_>, topic: &Topic) -> rusqlite::Result<Loaded> {
    let seq = row.get(0)?;
    let id = row.get::<_, [u8; 16]>(3).map_or(MessageId::ZERO, MessageId::from_bytes);
    let entry = decoded(row, topic, seq, id).map(|entry| Loaded::Good(Arc::new(entry)));
    Ok(entry.unwrap_or(Loaded::Damaged { seq, topic: topic.topic, id }))
}

/// What a row of those columns holds, if its checksum fits.
fn sealed<'a>(row: &'a Row<'_>, topic: TopicId, id: MessageId) -> Option<Stored<'a>> {
    let stored = Stored {
        id,
        topic,
        seq: row.get(0).ok()?,
        created_ms: row.get(2).ok()?,
        expires_ms: row.get(4).ok()?,
        kind: row.get_ref(5).ok()?.as_str().ok()?,
        headers: row.get_ref(6).ok()?.as_str_or_null().ok()?,
        encoding: row.get(7).ok()?,
        payload: row.get_ref(9).ok()?.as_blob().ok()?,
    };
    stored.fits(row.get(8).ok()?).then_some(stored)
}

/// Whether a row of those columns is an undamaged message of this topic.
pub(super) fn is_intact(row: &Row<'_>, topic: TopicId) -> bool {
    row.get(3).is_ok_and(|id| sealed(row, topic, MessageId::from_bytes(id)).is_some())
}

fn decoded(row: &Row<'_>, topic: &Topic, seq: u64, id: MessageId) -> Option<Entry> {
    let Stored { kind, headers, encoding, payload, .. } = sealed(row, topic.topic, id)?;
    Some(Entry {
        seq,
        id,
        topic: topic.topic,
        channel: topic.channel.clone(),
        target: topic.target.clone(),
        lane: topic.lane,
        kind: Kind::new(kind).ok()?,
        headers: match headers {
            Some(headers) => serde_json::from_str::<BTreeMap<_, _>>(headers).ok()?,
            None => Headers::new(),
        },
        body: body(encoding, payload)?,
        created_ms: row.get(2).ok()?,
        expires_ms: row.get(4).ok()?,
    })
}

/// A stored payload.
pub(super) fn body(encoding: u8, payload: &[u8]) -> Option<Body> {
    let encoding = match encoding {
        0 => Encoding::Raw,
        1 => Encoding::Snappy,
        _ => return None,
    };
    Some(Body { encoding, data: payload.to_vec().into() })
}
