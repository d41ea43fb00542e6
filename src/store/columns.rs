//! What columns hold, as checked values.

use std::str::FromStr;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};

use super::error::StoreError;
use super::fault::At;
use crate::message::{MessageId, Priority};

/// All rows of a statement without parameters.
pub(super) fn all<T>(
    conn: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<Vec<T>, StoreError> {
    conn.prepare(sql)
        .and_then(|mut select| select.query_map([], read)?.collect())
        .at("read the file")
}

/// A column's text as a checked name.
pub(super) fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    parse(column, row.get_ref(column)?.as_str()?)
}

pub(super) fn parse<T>(column: usize, text: &str) -> rusqlite::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get(column).map(MessageId::from_bytes)
}

pub(super) fn lane(row: &Row<'_>, column: usize) -> rusqlite::Result<Priority> {
    let index = row.get(column)?;
    Priority::from_index(index).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, index))
}
