//! What was decided about peers, messages and the file.

use std::fmt::Display;
use std::path::Path;

use rusqlite::{Connection, params};

use super::error::StoreError;
use super::fault::At;
use super::job::Group;

pub(super) const INSERT: &str =
    "INSERT INTO waypost_audit (at_ms, action, subject, detail, term) VALUES (?1, ?2, ?3, ?4, ?5)";

/// A decision, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) action: &'static str,
    /// Who decided, or whom it is about.
    pub(crate) subject: String,
    pub(crate) detail: String,
    /// The election's term, where it is about one.
    pub(crate) term: Option<u64>,
}

pub(super) fn write(group: &Group<'_>, entry: &Entry) -> Result<(), StoreError> {
    let Entry { action, subject, detail, term } = entry;
    group
        .conn
        .prepare_cached(INSERT)
        .and_then(|mut insert| insert.execute(params![group.now_ms, action, subject, detail, term]))
        .at("write the audit")?;
    Ok(())
}

pub(super) fn record(
    group: &Group<'_>,
    action: &'static str,
    subject: &str,
    detail: &str,
) -> Result<(), StoreError> {
    let (subject, detail) = (subject.to_owned(), detail.to_owned());
    write(group, &Entry { action, subject, detail, term: None })
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
    conn.execute(INSERT, params![at_ms, action, subject, detail.to_string(), None::<u64>])
        .at("write the audit")?;
    Ok(())
}
