//! Whether a file has the schema that the migrations made.
//!
//! SQLite checks the pages of its own tables, and not what their words mean: a flipped bit can give a column another name, and leave
//! all else sound. Statements then fail one by one, where the node first needs that column.

use std::collections::BTreeSet;

use rusqlite::{Connection, Row};

use crate::store::migrate::migrated;

const OBJECTS: &str = r"SELECT type, name, tbl_name, sql FROM sqlite_schema
    WHERE tbl_name LIKE 'waypost\_%' ESCAPE '\' OR name LIKE 'waypost\_%' ESCAPE '\'";

/// A table or an index: its type, its name, its table's name, and the statement that made it; SQLite's own indexes have none.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Object {
    kind: String,
    name: String,
    table: String,
    sql: Option<String>,
}

/// What is wrong with the schema of a file that says it has this many migrations. Tables, indexes and triggers that a program added are
/// its own affair.
pub(crate) fn fault(connection: &Connection, version: u32) -> rusqlite::Result<Option<String>> {
    let there = objects(connection)?;
    let missing = objects(&migrated(version)?)?.into_iter().find(|object| !there.contains(object));
    Ok(missing.map(|Object { kind, name, .. }| {
        format!("the definition of its {kind} {name} is not the one that waypost made")
    }))
}

fn objects(connection: &Connection) -> rusqlite::Result<BTreeSet<Object>> {
    let mut statement = connection.prepare(OBJECTS)?;
    let rows = statement.query_map([], |row| {
        Ok(Object {
            kind: text(row, 0)?.unwrap_or_default(),
            name: text(row, 1)?.unwrap_or_default(),
            table: text(row, 2)?.unwrap_or_default(),
            sql: text(row, 3)?,
        })
    })?;
    rows.collect()
}

/// A text that may be damaged.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    let bytes = row.get_ref(column)?.as_bytes_or_null()?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::inspect::Inspector;
    use crate::store::migrate::SCHEMA_VERSION;
    use crate::store::open::tests::{created, listing, me, sql};
    use crate::store::open::{OpenError, PAGE_BYTES, open};

    /// A file where no page has anything left of what was moved away.
    fn packed(folder: &tempfile::TempDir) -> PathBuf {
        let path = folder.path().join("a.db");
        created(&path);
        sql(&path, "VACUUM");
        path
    }

    fn schema_of(path: &Path) -> rusqlite::Result<BTreeSet<Object>> {
        objects(&Connection::open(path)?)
    }

    #[test]
    fn every_version_has_the_schema_of_its_migrations_and_of_no_other() {
        for version in 1..=SCHEMA_VERSION {
            let file = migrated(version).expect("migrated");
            assert_eq!(fault(&file, version).expect("readable"), None);
            for later in version + 1..=SCHEMA_VERSION {
                assert!(fault(&file, later).expect("readable").is_some(), "{version} as {later}");
            }
        }
    }

    #[test]
    fn what_a_program_adds_is_its_own_affair() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        created(&path);
        sql(
            &path,
            "CREATE TABLE orders (id INTEGER PRIMARY KEY);
             CREATE INDEX outbox_by_kind ON waypost_outbox (kind);
             CREATE TRIGGER noted AFTER INSERT ON waypost_audit BEGIN INSERT INTO orders VALUES (NULL); END;",
        );
        open(&path, &me()).expect("opened");
    }

    #[test]
    fn a_column_that_is_called_otherwise_is_refused_by_name_and_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = packed(&folder);
        let (right, wrong) = (
            b"at_ms       INTEGER NOT NULL,\n    PRIMARY KEY (receiver, topic, last_seq)",
            b"atWms",
        );
        let mut bytes = fs::read(&path).expect("readable");
        let at = bytes.windows(right.len()).rposition(|window| window == right).expect("there");
        bytes[at..at + wrong.len()].copy_from_slice(wrong);
        fs::write(&path, &bytes).expect("written");
        let before = listing(&path);
        let reason = match open(&path, &me()) {
            Err(OpenError::Corrupt { reason, .. }) => reason,
            other => panic!("{other:?}"),
        };
        assert!(reason.contains("table waypost_settlements"), "{reason}");
        assert!(before == listing(&path), "something changed");
        let report = Inspector::open(&path).expect("opened").check(|_| ()).expect("checked");
        assert!(report.findings.iter().any(|finding| finding.detail == reason), "{report:?}");
    }

    /// One bit of every eleventh byte of the pages that hold the schema.
    #[test]
    fn no_bit_of_a_schema_flips_unnoticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = packed(&folder);
        let right = schema_of(&path).expect("a schema");
        let bytes = fs::read(&path).expect("readable");
        let is_of_schema = |page: &[u8]| {
            let mut texts = right.iter().filter_map(|object| object.sql.as_deref());
            texts.any(|sql| page.windows(sql.len()).any(|window| window == sql.as_bytes()))
        };
        // The first page leads to the others, and has what stood there before they were needed.
        let page_bytes = PAGE_BYTES as usize;
        let pages =
            bytes.chunks(page_bytes).enumerate().skip(1).filter(|(_, page)| is_of_schema(page));
        let places: Vec<usize> = pages
            .flat_map(|(number, page)| {
                (0..page.len()).filter(|&at| page[at] != 0).map(move |at| number * page_bytes + at)
            })
            .collect();
        let (mut refused, damaged) = (0, folder.path().join("damaged.db"));
        for &at in places.iter().step_by(11) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&damaged, &bytes).expect("written");
            match open(&damaged, &me()) {
                Err(_) => refused += 1,
                Ok(file) => assert_eq!(objects(&file.writer).expect("readable"), right, "at {at}"),
            }
        }
        let tried = places.len().div_ceil(11);
        println!("{refused} of {tried} refused");
        // The rest are places that hold nothing any more.
        assert!(refused * 10 > tried * 8);
    }
}
