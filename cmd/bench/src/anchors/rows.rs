//! Plain rows, beside which it is judged what a message writes and what it costs: a table with a log, each row committed alone.

use std::path::Path;

use waypost::rusqlite::{self, Connection};

/// As a program would do it that knows nothing of memory cards.
const MAKE: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
    CREATE TABLE rows (row INTEGER PRIMARY KEY, body BLOB NOT NULL)";
/// What comes after that: nothing is synced.
const UNSYNCED: &str = "PRAGMA synchronous = OFF";
const ADD: &str = "INSERT INTO rows (body) VALUES (?1)";

/// A database of plain rows.
pub(crate) struct Rows(Connection);

impl Rows {
    /// # Errors
    /// It cannot be made there.
    pub(crate) fn make(path: &Path) -> rusqlite::Result<Self> {
        let made = Connection::open(path)?;
        made.execute_batch(MAKE)?;
        Ok(Self(made))
    }

    /// The same, and nothing is ever synced.
    ///
    /// # Errors
    /// It cannot be made there.
    pub(crate) fn unsynced(path: &Path) -> rusqlite::Result<Self> {
        let made = Self::make(path)?;
        made.0.execute_batch(UNSYNCED)?;
        Ok(made)
    }

    /// Commits one more. Blocks until it is synced, where it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn add(&self, body: &[u8]) -> rusqlite::Result<()> {
        self.0.prepare_cached(ADD)?.execute([body]).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_committed_into_a_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("rows.db");
        let rows = Rows::make(&path).expect("made");
        rows.add(b"one").expect("added");
        rows.add(b"two").expect("added");
        let count = |conn: &Connection| {
            conn.query_row("SELECT count(*) FROM rows", [], |row| row.get::<_, i64>(0))
        };
        assert_eq!(count(&Connection::open(&path).expect("opened")), Ok(2));
        assert!(folder.path().join("rows.db-wal").exists());
        let synced = |rows: &Rows| {
            rows.0.query_row("PRAGMA synchronous", [], |row| row.get::<_, i64>(0)).expect("set")
        };
        let fast = Rows::unsynced(&folder.path().join("fast.db")).expect("made");
        fast.add(b"one").expect("added");
        assert_eq!((synced(&rows), synced(&fast)), (2, 0));
        assert!(Rows::make(Path::new("/no/such/folder/rows.db")).is_err());
    }
}
