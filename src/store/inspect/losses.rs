//! What of a sender's messages did not arrive.

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::{Connection, params};
use serde::Serialize;

use super::story::{COUNT_BETWEEN, ENDS, ID_FROM};
use super::{InspectError, Inspector, row};
use crate::message::{MessageId, NodeId};

/// What the file says of a message and all later ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Losses {
    /// How many it still has, settled ones included. One that expired before any reader was known is deleted when the file is cleaned up.
    pub kept: u64,
    /// How many of these have no known reader and are past their time.
    pub overdue: u64,
    /// What expired or became a dead letter, by receiver.
    pub receivers: Vec<Lost>,
}

/// Messages that one receiver will not get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Who; none where no reader was known.
    pub receiver: Option<NodeId>,
    /// How many expired.
    pub expired: u64,
    /// How many became dead letters.
    pub dead: u64,
}

pub(super) const KEPT_FROM: &str = "SELECT count(*) FROM waypost_outbox WHERE seq >= ?1";
pub(super) const OVERDUE_FROM: &str = "SELECT count(*) FROM waypost_outbox o
    WHERE o.seq >= ?1
        AND o.expires_ms <= (SELECT created_ms FROM waypost_outbox ORDER BY seq DESC LIMIT 1) + ?2
        AND NOT EXISTS (SELECT 1 FROM waypost_cursors c WHERE c.topic = o.topic)";
pub(super) const LOSSES_FROM: &str =
    "SELECT receiver, outcome = 'dead', topic, first_seq, last_seq, count
    FROM waypost_settlements WHERE last_seq >= ?1 AND outcome IN ('expired', 'dead')";

impl Inspector {
    /// What became of this message and of all later ones, as far as they are lost. Settlements are known for the retention time. `since_last` is how
    /// long ago the last of them was sent, whatever the wall clock says.
    ///
    /// # Errors
    /// An [`OpenError`](crate::error::OpenError) where the file cannot be read.
    pub fn losses(&self, first: MessageId, since_last: Duration) -> Result<Losses, InspectError> {
        let read = |connection: &Connection| losses(connection, first, since_last);
        self.read("looking for what was lost", read)
    }
}

fn losses(
    connection: &Connection,
    first: MessageId,
    since_last: Duration,
) -> rusqlite::Result<Losses> {
    let Some(from) = place_from(connection, first)? else {
        return Ok(Losses { kept: 0, overdue: 0, receivers: Vec::new() });
    };
    let mut lost: BTreeMap<NodeId, Lost> = BTreeMap::new();
    let mut statement = connection.prepare(LOSSES_FROM)?;
    let mut rows = statement.query([from])?;
    while let Some(row) = rows.next()? {
        let receiver: NodeId = row::text(row, 0)?;
        let (dead, topic, first_seq, last_seq, count): (bool, i64, i64, i64, u64) =
            (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
        // A run may have begun before.
        let count = match first_seq >= from {
            true => count,
            false => connection
                .prepare_cached(COUNT_BETWEEN)?
                .query_row(params![topic, from - 1, last_seq + 1], |row| row.get(0))?,
        };
        let empty = Lost { receiver: Some(receiver.clone()), expired: 0, dead: 0 };
        let entry = lost.entry(receiver).or_insert(empty);
        let place = if dead { &mut entry.dead } else { &mut entry.expired };
        *place += count;
    }
    let kept = connection.query_row(KEPT_FROM, [from], |row| row.get(0))?;
    let receivers = lost.into_values().filter(|lost| lost.expired + lost.dead > 0).collect();
    let since_last = i64::try_from(since_last.as_millis()).unwrap_or(i64::MAX / 2);
    let overdue = connection.query_row(OVERDUE_FROM, [from, since_last], |row| row.get(0))?;
    Ok(Losses { kept, overdue, receivers })
}

/// The place of the first message in the log whose id is not below this one.
fn place_from(connection: &Connection, id: MessageId) -> rusqlite::Result<Option<i64>> {
    let (mut low, mut high): (i64, i64) =
        connection.query_row(ENDS, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut statement = connection.prepare(ID_FROM)?;
    let mut place = None;
    while low <= high {
        let middle = low + (high - low) / 2;
        let (seq, found): (i64, MessageId) =
            statement.query_row([middle], |row| Ok((row.get(0)?, row::id(row, 1)?)))?;
        if found < id {
            low = seq + 1;
        } else {
            place = Some(seq);
            high = middle - 1;
        }
    }
    Ok(place)
}
