//! The clock's rows.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{Kept, Note};
use crate::protocol::life::{Machine, Reading, Record, Segment, Shown, Trust};
use crate::store::crc::StoredClock;
use crate::store::error::StoreError;
use crate::store::fault::At;
use crate::store::open::generation;

pub(in crate::store) const SELECT: &str = "SELECT base_ms, base_up_ms, seen_ms, seen_up_ms, seen_wall_ms, trust, synchronised_ms, host, boot, time_namespace, crc FROM waypost_clock";
pub(in crate::store) const UPSERT: &str = "INSERT INTO waypost_clock (only, base_ms, base_up_ms, seen_ms, seen_up_ms, seen_wall_ms, trust, synchronised_ms, host, boot, time_namespace, crc) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (only) DO UPDATE SET base_ms = excluded.base_ms, base_up_ms = excluded.base_up_ms, seen_ms = excluded.seen_ms, seen_up_ms = excluded.seen_up_ms, seen_wall_ms = excluded.seen_wall_ms, trust = excluded.trust, synchronised_ms = excluded.synchronised_ms, host = excluded.host, boot = excluded.boot, time_namespace = excluded.time_namespace, crc = excluded.crc";
pub(in crate::store) const SELECT_SEGMENTS: &str =
    "SELECT from_ms, offset_ms, trust FROM waypost_clock_segments ORDER BY from_ms";
pub(in crate::store) const UPSERT_SEGMENT: &str = "INSERT INTO waypost_clock_segments (from_ms, offset_ms, trust) VALUES (?1, ?2, ?3) ON CONFLICT (from_ms) DO UPDATE SET offset_ms = excluded.offset_ms, trust = excluded.trust WHERE offset_ms <> excluded.offset_ms OR trust <> excluded.trust";
pub(in crate::store) const AGE_JOINS: &str =
    "UPDATE waypost_joins SET joined_ms = max(0, joined_ms - ?1) WHERE left_ms IS NULL";
pub(in crate::store) const DELETE_SEGMENT: &str =
    "DELETE FROM waypost_clock_segments WHERE from_ms = ?1";

/// What the file remembers. A damaged row is as good as none.
pub(in crate::store) fn load(conn: &Connection) -> Result<Kept, StoreError> {
    read(conn).at("read the file's clock")
}

/// The same, for whoever only looks.
pub(in crate::store) fn read(conn: &Connection) -> rusqlite::Result<Kept> {
    let record = conn.query_row(SELECT, [], |row| Ok(record(row).ok())).optional()?;
    let mut select = conn.prepare(SELECT_SEGMENTS)?;
    let segments = select.query_map([], |row| Ok(segment(row).ok()))?;
    let segments: Vec<Option<Segment>> = segments.collect::<Result<_, _>>()?;
    Ok(Kept {
        damaged: record == Some(None),
        record: record.flatten(),
        shown: Shown::new(segments.into_iter().flatten().collect()),
    })
}

/// Whether the row is as it was written.
pub(in crate::store) fn is_intact(conn: &Connection) -> rusqlite::Result<bool> {
    read(conn).map(|kept| !kept.damaged)
}

/// Notes it in the transaction that is open, or in one of its own.
pub(in crate::store) fn write(conn: &Connection, note: &Note) -> Result<(), StoreError> {
    let Record { base_ms, base_up_ms, seen_ms, seen, synchronised_ms } = note.record;
    let Machine { host, boot, time_namespace } = seen.machine;
    conn.prepare_cached(UPSERT)
        .and_then(|mut upsert| {
            upsert.execute(params![
                base_ms,
                base_up_ms,
                seen_ms,
                seen.up_ms,
                seen.wall_ms,
                seen.trust.number(),
                synchronised_ms,
                host,
                boot,
                time_namespace,
                StoredClock(&note.record).crc()
            ])
        })
        .and_then(|_| put(conn, &note.segment))
        .at("note the file's clock")
}

fn put(conn: &Connection, segment: &Segment) -> rusqlite::Result<()> {
    let Segment { from_ms, offset_ms, trust } = segment;
    conn.prepare_cached(UPSERT_SEGMENT)?
        .execute(params![from_ms, offset_ms, trust.number()])
        .map(drop)
}

/// Notes it in a transaction of its own.
pub(in crate::store) fn keep(conn: &Connection, note: &Note) -> Result<(), StoreError> {
    let transaction = conn.unchecked_transaction().at("begin a transaction")?;
    write(&transaction, note)?;
    transaction.commit().at("commit")
}

/// Notes a clock that has just been started, with all its segments, as the first transaction of a log.
///
/// `missing_ms`: how much more may have passed than is counted. What this node has joined is by so much older, so that senders that do not know it
/// yet begin early enough.
pub(in crate::store) fn begin(
    conn: &Connection,
    note: &Note,
    segments: &[Segment],
    missing_ms: u64,
) -> Result<(), StoreError> {
    let transaction = conn.unchecked_transaction().at("begin a transaction")?;
    let cookie = generation::cookie(&transaction).at("begin a log")?;
    write(&transaction, note)?;
    if missing_ms > 0 {
        transaction.execute(AGE_JOINS, [missing_ms]).at("age what was joined")?;
    }
    let kept = read(&transaction).at("read the file's clock")?;
    let gone = kept.shown.segments().iter().filter(|segment| !segments.contains(segment));
    for segment in gone {
        transaction.execute(DELETE_SEGMENT, [segment.from_ms]).at("forget a wall clock")?;
    }
    generation::begin_log(&transaction, cookie).at("begin a log")?;
    transaction.commit().at("commit")
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let machine = Machine { host: row.get(7)?, boot: row.get(8)?, time_namespace: row.get(9)? };
    let seen = Reading { machine, wall_ms: row.get(4)?, trust: trust(row, 5)?, up_ms: row.get(3)? };
    let record = Record {
        base_ms: row.get(0)?,
        base_up_ms: row.get(1)?,
        seen_ms: row.get(2)?,
        seen,
        synchronised_ms: row.get(6)?,
    };
    let crc: i64 = row.get(10)?;
    if i64::from(StoredClock(&record).crc()) == crc {
        Ok(record)
    } else {
        Err(rusqlite::Error::IntegralValueOutOfRange(10, crc))
    }
}

fn segment(row: &Row<'_>) -> rusqlite::Result<Segment> {
    Ok(Segment { from_ms: row.get(0)?, offset_ms: row.get(1)?, trust: trust(row, 2)? })
}

fn trust(row: &Row<'_>, column: usize) -> rusqlite::Result<Trust> {
    let number: i64 = row.get(column)?;
    let trust = u8::try_from(number).ok().and_then(Trust::from_number);
    trust.ok_or(rusqlite::Error::IntegralValueOutOfRange(column, number))
}
