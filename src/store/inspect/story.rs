//! What became of one message.

use std::collections::BTreeMap;

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::queue::{Cursor, cursors};
use super::records::{DEAD_LETTERS_OF, DeadLetter, FAILURES_OF, Failure, dead_letter, failure};
use super::{InspectError, Inspector, row};
use crate::message::{ChannelName, Headers, Kind, MessageId, NodeId, Priority, StoreId, TopicId};
use crate::store::crc::Stored;

/// All that the file knows about a message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Story {
    /// The message.
    pub id: MessageId,
    /// How it was accepted here, while it is in the log; none where it was sent by another node, or deleted after its retention.
    pub accepted: Option<Accepted>,
    /// What became of it for each receiver, by name. Empty where no reader is known yet.
    pub receivers: Vec<ReceiverStory>,
    /// Where this node did not send it: the senders from whom it may have been received. The file keeps the first and the last id that
    /// was committed from each sender, not every id, so that this says "between", not "this one".
    pub received: Vec<InboxSpan>,
}

/// A message's place in the log.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Accepted {
    /// Its place.
    pub seq: u64,
    /// When it was accepted, in milliseconds since 1970.
    pub created_ms: u64,
    /// When it expires, in milliseconds since 1970; none for never.
    pub expires_ms: Option<u64>,
    /// The store id under which it travels.
    pub store_id: Option<StoreId>,
    /// Its channel.
    pub channel: ChannelName,
    /// The one node that it is for, if it is.
    pub target: Option<NodeId>,
    /// Its lane.
    pub lane: Priority,
    /// Its kind; the default one where it is damaged.
    pub kind: Kind,
    /// Its headers; empty where they are damaged.
    pub headers: Headers,
    /// Size of its payload as it is stored, compressed where that made it smaller.
    pub stored_bytes: u64,
    /// Whether its checksum fits. A message for which it does not is never delivered.
    pub intact: bool,
}

/// What became of a message for one receiver.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ReceiverStory {
    /// The receiver.
    pub receiver: NodeId,
    /// Where the message is on its way.
    #[serde(flatten)]
    pub state: ReceiverState,
    /// Attempts that went wrong.
    pub failures: Vec<Failure>,
    /// The dead letter, if it became one.
    pub dead_letter: Option<DeadLetter>,
}

/// Where a message is on its way to one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
#[non_exhaustive]
pub enum ReceiverState {
    /// Nothing goes before it: it is under way, or waits for the receiver.
    Next,
    /// It waits for its turn.
    Waiting {
        /// How many messages go before it: earlier ones of its lane and all of the more urgent lanes.
        behind: u64,
    },
    /// It is done with.
    Settled {
        /// `acknowledged`, `expired`, `dead` or `purged`.
        outcome: String,
        /// When that was written down, in milliseconds since 1970.
        at_ms: u64,
    },
    /// It is not meant for this receiver, which began to read after it or had left before it.
    NotForIt,
}

/// What was committed from one sender's channel and lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct InboxSpan {
    /// The sender.
    pub sender: NodeId,
    /// Its file.
    pub store_id: StoreId,
    /// The channel.
    pub channel: ChannelName,
    /// Whether these were messages for this node alone.
    pub direct: bool,
    /// The lane.
    pub lane: Priority,
    /// The first message that was committed.
    pub first_id: MessageId,
    /// The last one: it and all of them before it are done with.
    pub last_id: MessageId,
    /// When the last one was committed, in milliseconds since 1970.
    pub at_ms: u64,
}

pub(super) const ENDS: &str =
    "SELECT coalesce(min(seq), 0), coalesce(max(seq), -1) FROM waypost_outbox";
pub(super) const ID_FROM: &str =
    "SELECT seq, id FROM waypost_outbox WHERE seq >= ?1 ORDER BY seq LIMIT 1";
pub(super) const MESSAGE: &str =
    "SELECT o.seq, o.created_ms, o.expires_ms, t.channel, t.target, o.lane, o.kind, o.headers,
        o.encoding, o.crc, o.payload, o.topic
    FROM waypost_outbox o JOIN waypost_topics t USING (topic) WHERE o.seq = ?1";
pub(super) const STORE_OF: &str =
    "SELECT store_id FROM waypost_stores WHERE from_id <= ?1 ORDER BY from_id DESC LIMIT 1";
pub(super) const SETTLEMENTS_OF: &str = "SELECT receiver, outcome, at_ms FROM waypost_settlements
    WHERE topic = ?1 AND first_seq <= ?2 AND last_seq >= ?2 ORDER BY at_ms";
pub(super) const COUNT_BETWEEN: &str =
    "SELECT count(*) FROM waypost_outbox WHERE topic = ?1 AND seq > ?2 AND seq < ?3";
pub(super) const LANES: &str = "SELECT topic, lane FROM waypost_topics";
pub(super) const INBOX_SPANS: &str =
    "SELECT sender, store_id, channel, direct, lane, first_id, last_id, at_ms
    FROM waypost_inbox WHERE first_id <= ?1 AND last_id >= ?1 ORDER BY sender, channel, lane";

impl Inspector {
    /// All that the file knows about a message; none where it knows nothing.
    ///
    /// # Errors
    /// An [`OpenError`](crate::store::open::OpenError) where the file cannot be read.
    pub fn why(&self, id: MessageId) -> Result<Option<Story>, InspectError> {
        self.read_timed("reading a message's story", |connection| story(connection, id))
    }
}

fn story(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<Story>> {
    let mut story = Story { id, accepted: None, receivers: Vec::new(), received: Vec::new() };
    let mut receivers = Receivers::default();
    if let Some(seq) = find(connection, id)? {
        let (topic, accepted) = accepted(connection, id, seq)?;
        receivers.add_states(connection, topic, &accepted)?;
        receivers.add_failures(connection, seq)?;
        story.accepted = Some(accepted);
    }
    receivers.add_dead_letters(connection, id)?;
    story.receivers = receivers.0.into_values().collect();
    if story.accepted.is_none() && story.receivers.is_empty() {
        let spans = connection
            .prepare(INBOX_SPANS)?
            .query_map([id.to_bytes()], inbox_span)?
            .collect::<Result<Vec<_>, _>>()?;
        if spans.is_empty() {
            return Ok(None);
        }
        story.received = spans;
    }
    Ok(Some(story))
}

/// The place of this id. Ids grow with their places, so that a few looks find it; places that were deleted are skipped.
fn find(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<u64>> {
    let (mut low, mut high): (i64, i64) =
        connection.query_row(ENDS, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut statement = connection.prepare(ID_FROM)?;
    while low <= high {
        let middle = low + (high - low) / 2;
        let (seq, found): (i64, MessageId) =
            statement.query_row([middle], |row| Ok((row.get(0)?, row::id(row, 1)?)))?;
        match found.cmp(&id) {
            std::cmp::Ordering::Equal => return Ok(u64::try_from(seq).ok()),
            std::cmp::Ordering::Less => low = seq + 1,
            std::cmp::Ordering::Greater => high = middle - 1,
        }
    }
    Ok(None)
}

fn accepted(connection: &Connection, id: MessageId, seq: u64) -> rusqlite::Result<(i64, Accepted)> {
    let store_id = row::optional(
        connection.query_row(STORE_OF, [id.to_bytes()], |row| row.get(0).map(StoreId::from_bytes)),
    )?;
    connection.query_row(MESSAGE, [seq], |row| {
        // A damaged row is shown as far as it can be: its checksum then says that it is.
        let headers = row.get_ref(7)?.as_bytes_or_null()?.map(String::from_utf8_lossy);
        let kind = String::from_utf8_lossy(row.get_ref(6)?.as_bytes()?);
        let payload = row.get_ref(10)?.as_blob()?;
        let topic = row.get(11)?;
        let stored = Stored {
            id,
            topic: TopicId(topic),
            seq: row.get(0)?,
            created_ms: row.get(1)?,
            expires_ms: row.get(2)?,
            kind: &kind,
            headers: headers.as_deref(),
            encoding: row.get(8)?,
            payload,
        };
        let intact = stored.fits(row.get(9)?);
        let accepted = Accepted {
            seq: row.get(0)?,
            created_ms: row.get(1)?,
            expires_ms: row.get(2)?,
            store_id,
            channel: row::text(row, 3)?,
            target: row::optional_text(row, 4)?,
            lane: row::lane(row, 5)?,
            kind: kind.parse().unwrap_or_default(),
            headers: headers.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            stored_bytes: payload.len() as u64,
            intact,
        };
        Ok((topic, accepted))
    })
}

fn inbox_span(row: &Row<'_>) -> rusqlite::Result<InboxSpan> {
    Ok(InboxSpan {
        sender: row::text(row, 0)?,
        store_id: StoreId::from_bytes(row.get(1)?),
        channel: row::text(row, 2)?,
        direct: row.get(3)?,
        lane: row::lane(row, 4)?,
        first_id: row::id(row, 5)?,
        last_id: row::id(row, 6)?,
        at_ms: row.get(7)?,
    })
}

#[derive(Default)]
struct Receivers(BTreeMap<NodeId, ReceiverStory>);

impl Receivers {
    /// A receiver of whom no more than a settlement or a dead letter is known was forgotten since.
    fn of(&mut self, receiver: NodeId) -> &mut ReceiverStory {
        self.0.entry(receiver.clone()).or_insert_with(|| ReceiverStory {
            receiver,
            state: ReceiverState::NotForIt,
            failures: Vec::new(),
            dead_letter: None,
        })
    }

    fn add_states(
        &mut self,
        connection: &Connection,
        topic: i64,
        message: &Accepted,
    ) -> rusqlite::Result<()> {
        let cursors = cursors(connection)?;
        let lanes: BTreeMap<i64, Priority> = connection
            .prepare(LANES)?
            .query_map([], |row| Ok((row.get(0)?, row::lane(row, 1)?)))?
            .collect::<Result<_, _>>()?;
        let mut between = Between::default();
        for cursor in cursors.iter().filter(|cursor| cursor.topic == topic) {
            let story = self.of(cursor.receiver.clone());
            if !cursor.open || cursor.acked_seq >= message.seq {
                continue;
            }
            let mut behind = 0;
            for other in cursors.iter().filter(|c| c.open && c.receiver == cursor.receiver) {
                behind += match lanes.get(&other.topic) {
                    Some(&lane) if lane < message.lane => u64::try_from(other.pending).unwrap_or(0),
                    Some(&lane) if lane == message.lane && other.pending > 0 => {
                        between.count(connection, other, message.seq)?
                    }
                    _ => 0,
                };
            }
            story.state =
                if behind == 0 { ReceiverState::Next } else { ReceiverState::Waiting { behind } };
        }
        let mut settlements = connection.prepare(SETTLEMENTS_OF)?;
        let mut rows = settlements.query((topic, message.seq))?;
        while let Some(row) = rows.next()? {
            let state = ReceiverState::Settled { outcome: row.get(1)?, at_ms: row.get(2)? };
            self.of(row::text(row, 0)?).state = state;
        }
        Ok(())
    }

    fn add_failures(&mut self, connection: &Connection, seq: u64) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(FAILURES_OF)?;
        let mut rows = statement.query([seq])?;
        while let Some(row) = rows.next()? {
            let failure = failure(row)?;
            self.of(row::text(row, 3)?).failures.push(failure);
        }
        Ok(())
    }

    fn add_dead_letters(&mut self, connection: &Connection, id: MessageId) -> rusqlite::Result<()> {
        let mut statement = connection.prepare(DEAD_LETTERS_OF)?;
        for letter in statement.query_map([id.to_bytes()], dead_letter)? {
            let letter = letter?;
            let story = self.of(letter.receiver.clone());
            // The letter outlives the message and its settlement.
            if story.state == ReceiverState::NotForIt {
                let outcome = "dead".to_owned();
                story.state = ReceiverState::Settled { outcome, at_ms: letter.died_ms };
            }
            story.dead_letter = Some(letter);
        }
        Ok(())
    }
}

/// Counts a topic's messages between a cursor and a message, once for all cursors at the same place.
#[derive(Default)]
struct Between(BTreeMap<(i64, u64), u64>);

impl Between {
    fn count(&mut self, connection: &Connection, from: &Cursor, to: u64) -> rusqlite::Result<u64> {
        let place = (from.topic, from.acked_seq);
        if let Some(&count) = self.0.get(&place) {
            return Ok(count);
        }
        let count = connection
            .prepare_cached(COUNT_BETWEEN)?
            .query_row((from.topic, from.acked_seq, to), |row| row.get(0))?;
        self.0.insert(place, count);
        Ok(count)
    }
}
