//! What the store and the core call the same thing by.

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::Config;
use crate::core::AuditRow;
use crate::incoming::{Content, Receipt};
use crate::message::{Entry, MessageId, Term};
use crate::protocol::backoff::Backoff;
use crate::protocol::delivery::{Head, Limits};
use crate::protocol::frame::{FrameMessage, MAX_HEADER_BYTES, Stream};
use crate::protocol::inbox::{Incoming, Source};
use crate::protocol::membership::Known;
use crate::protocol::outbound::{self, BUFFER_BYTES_EACH, Read};
use crate::protocol::settling::Position;
use crate::store::{self, Cursor, InboxAdvance, InboxRow, Loaded, Page, Peer, Topic};

/// Messages of one queue that are kept in memory: enough that the next page is there before they run out.
const BUFFER_MESSAGES: usize = 256;
/// The same in frames, where these hold many.
const FRAMES_AHEAD: usize = 8;
/// What a message costs in a frame's header besides its own headers, at most: names, numbers and the kind.
const MESSAGE_BYTES: usize = 256;
/// A frame's own part of its header, at most: two node ids, a channel whose every character is escaped, numbers.
const FRAME_BYTES: usize = 4 * 1024;
/// Bytes of messages that handlers may hold together, those waiting for one included; more stays with the senders.
pub(super) const HELD_BYTES: usize = 64 * 1024 * 1024;
/// What a message costs besides its headers and payload, roughly.
const HELD_EACH: usize = 1024;

/// A message that waits to be sent.
pub(super) type Body = Arc<Entry>;

/// A message on its way to its handlers.
pub(super) type Held = Arc<Content>;

pub(super) fn head(entry: Arc<Entry>) -> Head<Body> {
    // In JSON every character of a header may be escaped, and has quotes around it.
    let own = entry.headers.iter().map(|(name, value)| name.len() + 2 * value.len() + 6);
    let header_bytes = MESSAGE_BYTES + own.sum::<usize>();
    Head {
        seq: entry.seq,
        id: entry.id,
        topic: entry.topic,
        expires_ms: entry.expires_ms,
        bytes: entry.body.data.len() + header_bytes,
        header_bytes,
        body: Some(entry),
    }
}

pub(super) fn delivery_limits(config: &Config) -> Limits {
    Limits {
        ack_timeout: config.ack_timeout,
        backoff: Backoff { first: config.retry_delay, cap: config.max_retry_delay },
        max_attempts: config.max_attempts.get(),
        frame_messages: config.batching.max_messages.get(),
        frame_bytes: config.max_payload_bytes,
        frame_header_bytes: MAX_HEADER_BYTES - FRAME_BYTES,
        frame_wait: config.batching.max_wait,
        buffer_messages: BUFFER_MESSAGES.max(FRAMES_AHEAD * config.batching.max_messages.get()),
        buffer_bytes: BUFFER_BYTES_EACH,
    }
}

/// How far a source is, as the inbox wants it.
pub(super) fn received(row: InboxRow) -> (Source, MessageId) {
    let stream = Stream { channel: row.channel, direct: row.direct, lane: row.lane };
    (Source { sender: row.sender, store: row.store_id, stream }, row.last_id)
}

pub(super) fn advance(source: &Source, id: MessageId) -> InboxAdvance {
    let Source { sender, store, stream } = source;
    InboxAdvance {
        sender: sender.clone(),
        store_id: *store,
        channel: stream.channel.clone(),
        direct: stream.direct,
        lane: stream.lane,
        id,
    }
}

/// A message as its handler gets it.
pub(super) fn content(
    source: &Source,
    message: FrameMessage,
    attempt: u32,
    max_payload_bytes: usize,
    runtime: &Handle,
) -> Result<Incoming<Held>, String> {
    let payload = message.body.payload(max_payload_bytes).map_err(|error| error.to_string())?;
    let content = Content {
        id: message.id,
        sender: source.sender.clone(),
        channel: source.stream.channel.clone(),
        direct: source.stream.direct,
        priority: source.stream.lane,
        kind: message.kind,
        headers: message.headers,
        payload,
        created_ms: message.created_ms,
        ttl_left_ms: message.ttl_left_ms,
        attempt,
        advance: advance(source, message.id),
        receipt: Receipt::new(runtime.clone()),
    };
    let headers: usize = content.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bytes = HELD_EACH + headers + content.payload.len();
    Ok(Incoming { id: content.id, bytes, body: Arc::new(content) })
}

/// A peer as it stands in the file, for the membership.
pub(super) fn known(peer: Peer) -> Known {
    Known {
        node: peer.node,
        incarnation: peer.incarnation,
        store: peer.store_id,
        host: peer.host,
        version: peer.version,
        channels: peer.channels,
        seen_ms: peer.last_seen_ms,
        linked: peer.linked,
        questions: peer.questions,
    }
}

pub(super) fn noted(known: Known) -> Peer {
    Peer {
        node: known.node,
        store_id: known.store,
        incarnation: known.incarnation,
        host: known.host,
        version: known.version,
        channels: known.channels,
        last_seen_ms: known.seen_ms,
        linked: known.linked,
        questions: known.questions,
    }
}

pub(super) fn entry(row: AuditRow) -> store::Entry {
    let AuditRow { action, subject, term, detail } = row;
    store::Entry { action, subject, detail, term: term.map(Term::get) }
}

impl From<Topic> for outbound::Topic {
    fn from(Topic { channel, target, lane, .. }: Topic) -> Self {
        Self { channel, target, lane }
    }
}

impl From<Cursor> for outbound::Cursor {
    fn from(cursor: Cursor) -> Self {
        let Cursor { receiver, topic, acked_seq, acked_id, pending, skipped, failed, last_seq } =
            cursor;
        let at = Position { acked_seq, acked_id, skipped };
        Self { receiver, topic, at, pending, last_seq, failed }
    }
}

impl From<Page> for Read<Body> {
    fn from(page: Page) -> Self {
        let heads = page.entries.into_iter().map(|loaded| match loaded {
            Loaded::Good(entry) => head(entry),
            Loaded::Damaged { seq, topic, id } => {
                let (expires_ms, bytes, header_bytes, body) = (None, 0, 0, None);
                Head { seq, id, topic, expires_ms, bytes, header_bytes, body }
            }
        });
        Self { heads: heads.collect(), scanned_to: page.scanned_to, end: page.end }
    }
}
