//! Brings a file's schema up to date: numbered SQL files, each in one transaction of its own, counted by `user_version`.

use rusqlite::{Connection, TransactionBehavior};

/// One numbered file of `migrations/`.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// All of them, in order; a file's `user_version` is how many of them it has. Frozen once released: a change is a new file.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { name: "0001_initial.sql", sql: include_str!("../../migrations/0001_initial.sql") },
    Migration {
        name: "0002_more_checksums.sql",
        sql: include_str!("../../migrations/0002_more_checksums.sql"),
    },
    Migration {
        name: "0003_election.sql",
        sql: include_str!("../../migrations/0003_election.sql"),
    },
    Migration { name: "0004_field.sql", sql: include_str!("../../migrations/0004_field.sql") },
    Migration {
        name: "0005_less_wear.sql",
        sql: include_str!("../../migrations/0005_less_wear.sql"),
    },
];

/// The schema that this version reads and writes.
pub(crate) const SCHEMA_VERSION: u32 = MIGRATIONS.len() as u32;

/// `wayp`: says what the file is to tools such as `file`.
pub(crate) const APPLICATION_ID: i32 = 0x7761_7970;

/// A migration that failed. The file is as it was before it.
#[derive(Debug)]
pub(crate) struct MigrateError {
    /// The migration's file.
    pub(crate) name: &'static str,
    pub(crate) source: rusqlite::Error,
}

/// Applies what the file does not have yet, and says how many that were.
pub(crate) fn migrate(connection: &mut Connection) -> Result<u32, MigrateError> {
    apply(connection, MIGRATIONS)
}

fn apply(connection: &mut Connection, migrations: &[Migration]) -> Result<u32, MigrateError> {
    let mut applied = 0;
    for (version, migration) in (1..).zip(migrations) {
        if step(connection, version, migration)
            .map_err(|source| MigrateError { name: migration.name, source })?
        {
            applied += 1;
        }
    }
    Ok(applied)
}

fn step(
    connection: &mut Connection,
    version: u32,
    migration: &Migration,
) -> rusqlite::Result<bool> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if user_version(&transaction)? >= i64::from(version) {
        return Ok(false);
    }
    transaction.execute_batch(migration.sql)?;
    if version == 1 {
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()?;
    Ok(true)
}

/// A database in memory with the first so many migrations: what a file with that version looks like.
pub(crate) fn migrated(version: u32) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    let migrations = &MIGRATIONS[..(version as usize).min(MIGRATIONS.len())];
    apply(&mut connection, migrations).map_err(|error| error.source)?;
    Ok(connection)
}

/// How many migrations the file has.
pub(crate) fn user_version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::store::open::end_seq;

    /// The CRC-32 of each released file. A failure here means that a file changed which databases out there already have: put
    /// the change into a new file instead.
    const FROZEN: &[(&str, u32)] = &[
        ("0001_initial.sql", 3_802_445_223),
        ("0002_more_checksums.sql", 3_123_101_080),
        ("0003_election.sql", 1_577_966_352),
        ("0004_field.sql", 714_530_292),
    ];

    fn tables(connection: &Connection) -> Vec<String> {
        connection
            .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
            .expect("a schema")
    }

    #[test]
    fn the_embedded_list_is_the_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let on_disk: BTreeMap<String, String> = fs::read_dir(folder)
            .expect("the folder")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let text = fs::read_to_string(entry.path()).expect("a text");
                (entry.file_name().into_string().expect("a name"), text)
            })
            .collect();
        let embedded: Vec<_> =
            MIGRATIONS.iter().map(|m| (m.name.to_owned(), m.sql.to_owned())).collect();
        assert_eq!(on_disk.into_iter().collect::<Vec<_>>(), embedded);
        for (number, migration) in (1..).zip(MIGRATIONS) {
            assert!(migration.name.starts_with(&format!("{number:04}_")), "{}", migration.name);
        }
    }

    #[test]
    fn released_migrations_are_frozen() {
        let found: Vec<_> =
            MIGRATIONS.iter().map(|m| (m.name, crc32fast::hash(m.sql.as_bytes()))).collect();
        // The last one may still change until it is released.
        assert_eq!(found[..FROZEN.len()], *FROZEN);
        assert!(found.len() <= FROZEN.len() + 1);
    }

    #[test]
    fn applying_twice_changes_nothing() {
        let mut connection = Connection::open_in_memory().expect("a database");
        assert_eq!(migrate(&mut connection).expect("applied"), SCHEMA_VERSION);
        let before = tables(&connection);
        assert!(before.contains(&"waypost_meta".to_owned()));
        assert_eq!(migrate(&mut connection).expect("nothing to do"), 0);
        assert_eq!(tables(&connection), before);
        assert_eq!(user_version(&connection).expect("a version"), i64::from(SCHEMA_VERSION));
        let id: i32 =
            connection.pragma_query_value(None, "application_id", |row| row.get(0)).expect("an id");
        assert_eq!(id, APPLICATION_ID);
    }

    #[test]
    fn the_last_seq_outlives_the_table_that_kept_it() {
        let mut file = migrated(4).expect("as before");
        let message = |seq: u64| {
            format!(
                "INSERT INTO waypost_outbox VALUES ({seq}, zeroblob(16), 1, 1, 0, 1, NULL, 'k', NULL, 0, 1, x'00');"
            )
        };
        let filled = "INSERT INTO waypost_meta (only, node, last_id, created_ms) VALUES (1, 'alice', zeroblob(16), 7);";
        let gone = "DELETE FROM waypost_outbox WHERE seq = 41;";
        file.execute_batch(&[filled, &message(7), &message(41), gone].concat()).expect("filled");
        assert_eq!(end_seq(&file), Ok(41), "as it was");
        assert_eq!(migrate(&mut file).expect("applied"), SCHEMA_VERSION - 4);
        assert_eq!(end_seq(&file), Ok(41), "though the message is gone");
        file.execute_batch(&message(50)).expect("another");
        assert_eq!(end_seq(&file), Ok(50));
        let text = |sql| file.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a text");
        assert_eq!(text("PRAGMA integrity_check"), "ok");
        assert_eq!(text("SELECT group_concat(seq) FROM waypost_outbox"), "7,50");
        assert_eq!(
            text("SELECT count(*) || '' FROM sqlite_sequence"),
            "0",
            "nothing is written there"
        );
        assert!(
            !text("SELECT sql FROM sqlite_schema WHERE name = 'waypost_outbox'")
                .contains("AUTOINCREMENT")
        );
    }

    #[test]
    fn a_migration_that_fails_leaves_the_version_before_it() {
        let list = [
            Migration { name: "0001_good.sql", sql: "CREATE TABLE one (x);" },
            Migration {
                name: "0002_bad.sql",
                sql: "CREATE TABLE two (x); INSERT INTO no VALUES (1);",
            },
            Migration { name: "0003_good.sql", sql: "CREATE TABLE three (x);" },
        ];
        let mut connection = Connection::open_in_memory().expect("a database");
        let error = apply(&mut connection, &list).expect_err("the second fails");
        assert_eq!(error.name, "0002_bad.sql");
        assert_eq!(user_version(&connection).expect("a version"), 1);
        assert_eq!(tables(&connection), ["one"]);
        let repaired = [
            Migration { name: "0001_good.sql", sql: "not even SQL" },
            Migration { name: "0002_good.sql", sql: "CREATE TABLE two (x);" },
        ];
        assert_eq!(apply(&mut connection, &repaired).expect("applied"), 1);
        assert_eq!(tables(&connection), ["one", "two"]);
    }
}
