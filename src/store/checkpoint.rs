//! The steps by which the write-ahead log gets into the database.

use std::time::Duration;

use rusqlite::Connection;

use super::error::StoreError;
use super::fault::At;

/// How many pages the log holds, and how many of them are in the main file: does nothing.
pub(super) const LOG_PAGES: &str = "PRAGMA wal_checkpoint(NOOP)";
pub(super) const COPY_LOG: &str = "PRAGMA wal_checkpoint(PASSIVE)";
pub(super) const TRUNCATE_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE)";

/// Runs one of the checkpoints that would wait for readers, without waiting.
pub(super) fn without_waiting(conn: &Connection, checkpoint: &str) -> Result<(), StoreError> {
    let before: u64 =
        conn.pragma_query_value(None, "busy_timeout", |row| row.get(0)).at("wait for nobody")?;
    conn.busy_timeout(Duration::ZERO).at("wait for nobody")?;
    let done = conn.query_row(checkpoint, [], |_| Ok(())).at("empty the log");
    conn.busy_timeout(Duration::from_millis(before)).at("wait for others again")?;
    done
}
