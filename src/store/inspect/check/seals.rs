//! The checksums of dead letters and of the inbox.

use rusqlite::{Connection, Row};

use super::{Report, Stage, is_of_the_row};
use crate::store::crc::StoredLetter;
use crate::store::inspect::row;
use crate::store::migrate::user_version;
use crate::store::{clock, election, inbox};

pub(in crate::store) const LETTERS: &str =
    "SELECT receiver, seq, id, channel, lane, created_ms, kind, headers, encoding, payload, crc
    FROM waypost_dead_letters";

pub(super) fn check(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    // Only then have they a checksum.
    if user_version(connection)? < 2 {
        return Ok(());
    }
    let mut statement = connection.prepare(LETTERS)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        match check_letter(row, report) {
            Err(error) if is_of_the_row(&error) => {
                report.add(Stage::Messages, None, format!("a damaged dead letter ({error})"));
            }
            read => read?,
        }
    }
    let mut statement = connection.prepare(inbox::SEALED)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if !inbox::is_intact(row) {
            let sender = row.get_ref(0)?.as_str().unwrap_or("a sender");
            let detail = format!(
                "what says up to where messages of {sender} were received is damaged: the next start forgets it"
            );
            report.add(Stage::Messages, None, detail);
        }
    }
    check_election(connection, report)?;
    check_clock(connection, report)
}

fn check_clock(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    if user_version(connection)? >= 4 && !clock::rows::is_intact(connection)? {
        let detail = "the file's clock is damaged: the next start begins with the wall clock, but not before the youngest message";
        report.add(Stage::Messages, None, detail.to_owned());
    }
    Ok(())
}

fn check_election(connection: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    if user_version(connection)? < 3 {
        return Ok(());
    }
    for resource in election::damaged_fences(connection)? {
        let detail = format!("the fence of {resource:?} is damaged: it takes no token");
        report.add(Stage::Messages, None, detail);
    }
    if !election::is_intact(connection)? {
        let detail = "what this node has promised in elections is damaged: with an election in its settings it does not start";
        report.add(Stage::Messages, None, detail.to_owned());
    }
    Ok(())
}

fn check_letter(row: &Row<'_>, report: &mut Report) -> rusqlite::Result<()> {
    let id = row::id(row, 2)?;
    let Some(crc) = row.get::<_, Option<i64>>(10)? else { return Ok(()) };
    let read = || -> rusqlite::Result<_> {
        let letter = StoredLetter {
            id,
            receiver: row.get_ref(0)?.as_str()?,
            seq: row.get(1)?,
            channel: row.get_ref(3)?.as_str()?,
            lane: row::lane(row, 4)?,
            created_ms: row.get(5)?,
            kind: row.get_ref(6)?.as_str()?,
            headers: row.get_ref(7)?.as_str_or_null()?,
            encoding: row.get(8)?,
            payload: row.get_ref(9)?.as_blob()?,
        };
        Ok(i64::from(letter.crc()) == crc)
    };
    if !read().unwrap_or(false) {
        let detail =
            "the dead letter's checksum does not fit: it is damaged and cannot be redriven";
        report.add(Stage::Messages, Some(id), detail.to_owned());
    }
    Ok(())
}
