//! Columns into the crate's own types. What does not fit is an error of the row: the file is damaged.

use std::error::Error;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::Type;

use crate::message::{MessageId, Priority};

pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<MessageId> {
    row.get(column).map(MessageId::from_bytes)
}

pub(super) fn optional_id(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<MessageId>> {
    Ok(row.get::<_, Option<_>>(column)?.map(MessageId::from_bytes))
}

pub(super) fn text<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    parse(row.get_ref(column)?.as_str()?, column)
}

pub(super) fn optional_text<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    row.get_ref(column)?.as_str_or_null()?.map(|text| parse(text, column)).transpose()
}

fn parse<T>(text: &str, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Into<Box<dyn Error + Send + Sync>>,
{
    text.parse().map_err(|error: T::Err| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, error.into())
    })
}

pub(super) fn lane(row: &Row<'_>, column: usize) -> rusqlite::Result<Priority> {
    let index = row.get(column)?;
    Priority::from_index(index).ok_or(rusqlite::Error::IntegralValueOutOfRange(column, index))
}

/// No row is no error.
pub(super) fn optional<T>(found: rusqlite::Result<T>) -> rusqlite::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
        Err(error) => Err(error),
    }
}
