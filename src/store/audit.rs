//! What was decided about peers, messages and the file.

use std::fmt::Display;
use std::path::Path;

use rusqlite::{Connection, params};

use super::fault::At;
use super::job::Group;
use crate::error::StoreError;

pub(super) const INSERT: &str =
    "INSERT INTO waypost_audit (at_ms, action, subject, detail) VALUES (?1, ?2, ?3, ?4)";

pub(super) fn record(
    group: &Group<'_>,
    action: &str,
    subject: &str,
    detail: &str,
) -> Result<(), StoreError> {
    group
        .conn
        .prepare_cached(INSERT)
        .and_then(|mut insert| insert.execute(params![group.now_ms, action, subject, detail]))
        .at("write the audit")?;
    Ok(())
}

/// The same about the file itself, outside of a group.
pub(super) fn note(
    conn: &Connection,
    at_ms: u64,
    action: &str,
    path: &Path,
    detail: &impl Display,
) -> Result<(), StoreError> {
    let subject = path.to_string_lossy();
    conn.execute(INSERT, params![at_ms, action, subject, detail.to_string()])
        .at("write the audit")?;
    Ok(())
}
