//! What this node has promised in elections, the state that masters hand on, and the highest fencing tokens.

use std::sync::Arc;

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::audit::{self, Entry};
use super::columns::parsed;
use super::crc::{StoredElection, StoredFence};
use super::error::StoreError;
use super::fault::At;
use super::job::Group;
use crate::message::NodeId;
use crate::protocol::election::{
    Admission, Durable, Record, StaleToken, State, Term, Token, Version, admit,
};

pub(super) const SELECT: &str =
    "SELECT term, vote, state_term, state_rev, state, crc FROM waypost_election";
pub(super) const UPSERT: &str = "INSERT INTO waypost_election (only, term, vote, state_term, state_rev, state, crc) VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (only) DO UPDATE SET term = excluded.term, vote = excluded.vote, state_term = excluded.state_term, state_rev = excluded.state_rev, state = excluded.state, crc = excluded.crc";
pub(super) const SELECT_FENCED: &str = "SELECT resource FROM waypost_fences";
pub(super) const SELECT_FENCE: &str =
    "SELECT term, node, crc FROM waypost_fences WHERE resource = ?1";
pub(super) const UPSERT_FENCE: &str = "INSERT INTO waypost_fences (resource, term, node, crc) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (resource) DO UPDATE SET term = excluded.term, node = excluded.node, crc = excluded.crc";

/// What the file holds; `None` where that is damaged, and nobody knows any more what was promised.
pub(super) fn load(conn: &Connection) -> Result<Option<Durable>, StoreError> {
    row(conn).at("read what was promised in elections")
}

/// Whether the row is as it was written.
pub(in crate::store) fn is_intact(conn: &Connection) -> rusqlite::Result<bool> {
    Ok(row(conn)?.is_some())
}

/// The resources whose fence is not as it was written.
pub(in crate::store) fn damaged_fences(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut names = conn.prepare(SELECT_FENCED)?;
    let names: Vec<String> = names.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names.into_iter().filter(|resource| highest(conn, resource).is_err()).collect())
}

fn row(conn: &Connection) -> rusqlite::Result<Option<Durable>> {
    let row = conn.query_row(SELECT, [], |row| Ok(read(row).ok())).optional()?;
    Ok(row.unwrap_or_else(|| Some(Durable::default())))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Durable> {
    let term = |column| {
        let number: u64 = row.get(column)?;
        let error = |_| rusqlite::Error::IntegralValueOutOfRange(column, i64::MAX);
        Term::new(number).map_err(error)
    };
    let vote: Option<NodeId> = match row.get_ref(1)?.as_str_or_null()? {
        Some(_) => Some(parsed(row, 1)?),
        None => None,
    };
    let version = Version { term: term(2)?, rev: row.get(3)? };
    let json: Arc<[u8]> = row.get_ref(4)?.as_blob()?.into();
    let durable = Durable { term: term(0)?, vote, state: State { version, json } };
    let crc: i64 = row.get(5)?;
    if i64::from(stored(&durable).crc()) == crc {
        Ok(durable)
    } else {
        Err(rusqlite::Error::IntegralValueOutOfRange(5, crc))
    }
}

fn stored(durable: &Durable) -> StoredElection<'_> {
    let Durable { term, vote, state } = durable;
    StoredElection {
        term: term.get(),
        vote: vote.as_ref().map(NodeId::as_str),
        state_term: state.version.term.get(),
        state_rev: state.version.rev,
        state: &state.json,
    }
}

/// Writes the record, and why, in one.
pub(super) fn save(
    group: &Group<'_>,
    record: &Record,
    entries: &[Entry],
) -> Result<(), StoreError> {
    let state = match &record.state {
        Some(state) => state.clone(),
        // Where it has rotted since the file was opened, whoever asked writes all of it next.
        None => match load(group.conn)? {
            Some(durable) => durable.state,
            None => {
                let source = rusqlite::Error::IntegralValueOutOfRange(5, 0);
                return Err(StoreError::Sql { operation: "read the election's row", source });
            }
        },
    };
    let durable = Durable { term: record.term, vote: record.vote.clone(), state };
    let row = stored(&durable);
    group
        .conn
        .prepare_cached(UPSERT)
        .and_then(|mut upsert| {
            upsert.execute(params![
                row.term,
                row.vote,
                row.state_term,
                row.state_rev,
                row.state,
                row.crc()
            ])
        })
        .at("write what was promised in an election")?;
    entries.iter().try_for_each(|entry| audit::write(group, entry))
}

/// For orders, which are fenced like what a program guards.
const ORDERS: &str = "waypost.orders";

/// Raises the orders' fence to this token, and writes why; neither, where a higher one was seen.
pub(super) fn note_order(
    group: &Group<'_>,
    token: Option<&Token>,
    entries: &[Entry],
) -> Result<Result<(), StaleToken>, StoreError> {
    if let Some(token) = token {
        let highest = highest(group.conn, ORDERS).at("read the highest token")?;
        match admit(highest.as_ref(), token) {
            Ok(Admission::Same) => {}
            Ok(Admission::Newer) => {
                raise(group.conn, ORDERS, token).at("write the highest token")?;
            }
            Err(stale) => return Ok(Err(stale)),
        }
    }
    entries.iter().try_for_each(|entry| audit::write(group, entry))?;
    Ok(Ok(()))
}

/// The highest token that was seen for the resource.
pub(super) fn highest(conn: &Connection, resource: &str) -> rusqlite::Result<Option<Token>> {
    let read = |row: &Row<'_>| {
        let number: u64 = row.get(0)?;
        let crc: i64 = row.get(2)?;
        let stored = StoredFence { resource, term: number, node: row.get_ref(1)?.as_str()? };
        if i64::from(stored.crc()) != crc {
            let reason = format!("the fence of {resource:?} is damaged");
            return Err(rusqlite::Error::FromSqlConversionFailure(2, Type::Integer, reason.into()));
        }
        let term =
            Term::new(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, i64::MAX))?;
        Ok(Token { term, node: parsed(row, 1)? })
    };
    conn.prepare_cached(SELECT_FENCE)?.query_row([resource], read).optional()
}

pub(super) fn raise(conn: &Connection, resource: &str, token: &Token) -> rusqlite::Result<()> {
    let (term, node) = (token.term.get(), token.node.as_str());
    let row = params![resource, term, node, StoredFence { resource, term, node }.crc()];
    conn.prepare_cached(UPSERT_FENCE)?.execute(row).map(drop)
}
