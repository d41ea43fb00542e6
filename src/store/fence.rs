//! The fence of whoever guards a resource: no token below the highest one that was seen.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::election::{highest, raise};
use super::tx::Tx;
use crate::protocol::election::{Admission, StaleToken, Token, admit};

/// How long a call waits for another process that is at the same fence.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// `wayf`: says what the file is, and that it is no node's.
const APPLICATION_ID: i32 = 0x7761_7966;
/// As in a node's file, in `migrations/0003_election.sql`.
const CREATE: &str = "CREATE TABLE IF NOT EXISTS waypost_fences (
    resource    TEXT PRIMARY KEY CHECK (length(CAST(resource AS BLOB)) BETWEEN 1 AND 255),
    term        INTEGER NOT NULL CHECK (term >= 0),
    node        TEXT NOT NULL CHECK (length(node) BETWEEN 1 AND 64),
    crc         INTEGER NOT NULL
) STRICT, WITHOUT ROWID";
/// Most bytes of a resource's name.
const MAX_RESOURCE_BYTES: usize = 255;

/// A [`Fence`](crate::election::Fence) did not take a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// Another master was seen since: whoever shows this token is master no longer.
    #[error(transparent)]
    Stale(#[from] StaleToken),
    /// The resource's name is empty or too long.
    #[error("a resource's name has from 1 to {limit} bytes, not {bytes}")]
    Name {
        /// How many it has.
        bytes: usize,
        /// How many it may have.
        limit: usize,
    },
    /// The fence's file could not be read or written: nobody knows whether the token is the highest.
    #[error("the fence {path} cannot be read or written: do nothing with this token")]
    Storage {
        /// The fence's file.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

/// Guards resources against masters that are masters no longer: it remembers the highest [`Token`] that was shown for each, in a small
/// SQLite file of its own, and refuses lower ones.
///
/// A master that stood still, and acts when it wakes up, shows the token of its term. By then the next master has shown a higher one, and the
/// old one is refused. Whoever has the resource has the fence: the process that drives the valve, writes the file, answers for the printer.
/// A node that keeps what it guards in its own file uses [`Tx::fence`] instead, and has both in one commit.
///
/// Several processes may open the same file. All calls block; most of them read a file, those with a new highest token wait for an fsync.
#[derive(Debug)]
pub struct Fence {
    path: PathBuf,
    connection: Connection,
}

impl Fence {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`FenceError::Storage`]: it can't be opened, or is none of a fence's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, FenceError> {
        let path = path.as_ref().to_owned();
        let failed = |source| FenceError::Storage { path: path.clone(), source };
        let connection = connect(&path).map_err(failed)?;
        Ok(Self { path, connection })
    }

    /// Takes the token, or refuses it. Once this has returned `Ok`, every lower token is refused for good, power cuts included.
    ///
    /// Between this call and what is then done another master may be elected; [`guard`](Self::guard) has no such gap.
    ///
    /// # Errors
    /// [`FenceError::Stale`]: a higher token was seen. [`FenceError::Storage`]: nothing is known, so do nothing.
    pub fn admit(&mut self, resource: &str, token: &Token) -> Result<(), FenceError> {
        self.guard(resource, token, || ())
    }

    /// Takes the token and runs `effect`, which keeps everybody else from this fence until it returns, so that no higher token can come in
    /// between. Keep it short. If it panics, the token was taken all the same.
    ///
    /// # Errors
    /// As [`admit`](Self::admit); `effect` was not run.
    pub fn guard<R>(
        &mut self,
        resource: &str,
        token: &Token,
        effect: impl FnOnce() -> R,
    ) -> Result<R, FenceError> {
        check_name(resource)?;
        let failed = |source| FenceError::Storage { path: self.path.clone(), source };
        let mut tx = begin(&mut self.connection).map_err(&failed)?;
        if pass(&tx, resource, token, &failed)? {
            // Durable before anything is done in its name.
            raise(&tx, resource, token).map_err(&failed)?;
            tx.commit().map_err(&failed)?;
            tx = begin(&mut self.connection).map_err(&failed)?;
            pass(&tx, resource, token, &failed)?;
        }
        let result = effect();
        // It has written nothing, and kept the others out.
        drop(tx);
        Ok(result)
    }

    /// The highest token that was seen.
    ///
    /// # Errors
    /// [`FenceError::Storage`].
    pub fn highest(&self, resource: &str) -> Result<Option<Token>, FenceError> {
        let failed = |source| FenceError::Storage { path: self.path.clone(), source };
        highest(&self.connection, resource).map_err(failed)
    }
}

impl Tx<'_> {
    /// Takes the token for this resource, or refuses it. With the transaction's commit, the rest of the transaction included, every lower
    /// token is refused for good; if it is rolled back, nothing was taken.
    ///
    /// # Errors
    /// [`FenceError::Stale`]: a higher token was seen: write nothing. [`FenceError::Storage`]: what SQLite says.
    pub fn fence(&self, resource: &str, token: &Token) -> Result<(), FenceError> {
        check_name(resource)?;
        let path = self.path();
        let failed = |source| FenceError::Storage { path: path.clone(), source };
        if pass(self, resource, token, &failed)? {
            self.write(|connection| raise(connection, resource, token)).map_err(failed)?;
        }
        Ok(())
    }
}

fn begin(connection: &mut Connection) -> rusqlite::Result<rusqlite::Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

/// Whether the token is higher than all before.
fn pass(
    connection: &Connection,
    resource: &str,
    token: &Token,
    failed: &impl Fn(rusqlite::Error) -> FenceError,
) -> Result<bool, FenceError> {
    let highest = highest(connection, resource).map_err(failed)?;
    Ok(admit(highest.as_ref(), token)? == Admission::Newer)
}

fn check_name(resource: &str) -> Result<(), FenceError> {
    match resource.len() {
        1..=MAX_RESOURCE_BYTES => Ok(()),
        bytes => Err(FenceError::Name { bytes, limit: MAX_RESOURCE_BYTES }),
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let tx = begin(&mut connection)?;
    let id: i32 = tx.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = tx.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if id != APPLICATION_ID && (id != 0 || tables != 0) {
        let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB);
        let text = "the file is there already, and is no fence's: give another path".to_owned();
        return Err(rusqlite::Error::SqliteFailure(code, Some(text)));
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.execute_batch(CREATE)?;
    tx.commit()?;
    // A rollback journal, one fsync of which more hardly counts here: nothing but the file itself is ever left behind.
    connection.pragma_update(None, "synchronous", "EXTRA")?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::NodeId;
    use crate::protocol::election::Term;

    fn token(term: u64, node: &str) -> Token {
        let node = NodeId::new(node).expect("a valid name");
        Token { term: Term::new(term).expect("a term"), node }
    }

    fn is_stale(result: Result<(), FenceError>) -> bool {
        matches!(result, Err(FenceError::Stale(_)))
    }

    #[test]
    fn lower_tokens_are_refused_for_good_each_resource_by_itself() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fence.db");
        let mut fence = Fence::open(&path).expect("opened");
        assert_eq!(fence.highest("valve").expect("read"), None);
        for token in [token(3, "a"), token(3, "a"), token(5, "b")] {
            fence.admit("valve", &token).expect("not lower");
        }
        for token in [token(3, "a"), token(4, "z"), token(5, "a")] {
            assert!(is_stale(fence.admit("valve", &token)), "{token:?}");
        }
        fence.admit("pump", &token(1, "a")).expect("another resource");
        drop(fence);
        let mut again = Fence::open(&path).expect("opened again");
        let mut other = Fence::open(&path).expect("twice");
        assert_eq!(again.highest("valve").expect("read"), Some(token(5, "b")));
        again.admit("valve", &token(6, "a")).expect("higher");
        assert!(is_stale(other.admit("valve", &token(5, "b"))), "what another process saw counts");
        assert_eq!(other.guard("valve", &token(6, "a"), || 7).expect("the highest"), 7);
    }

    #[test]
    fn an_effect_is_not_run_for_a_stale_token_and_a_panic_keeps_the_fence() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fence.db");
        let mut fence = Fence::open(&path).expect("opened");
        fence.admit("valve", &token(2, "a")).expect("the first");
        let mut ran = false;
        assert!(is_stale(fence.guard("valve", &token(1, "a"), || ran = true)));
        assert!(!ran);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            fence.guard("valve", &token(3, "a"), || panic!("as wanted"))
        }));
        assert!(panicked.is_err());
        assert!(is_stale(fence.admit("valve", &token(2, "a"))));
        fence.admit("valve", &token(3, "a")).expect("it goes on");
    }

    #[test]
    fn a_flipped_bit_lets_nothing_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fence.db");
        let mut fence = Fence::open(&path).expect("opened");
        fence.admit("valve", &token(5, "b")).expect("the first");
        for harm in ["term = 4", "node = 'a'", "resource = 'valwe'", "crc = crc + 1"] {
            let other = Connection::open(&path).expect("opened");
            let keep = "CREATE TEMP TABLE kept AS SELECT * FROM waypost_fences";
            other.execute_batch(keep).expect("kept");
            other.execute(&format!("UPDATE waypost_fences SET {harm}"), []).expect("harmed");
            let resource = if harm.starts_with("resource") { "valwe" } else { "valve" };
            let refused = fence.admit(resource, &token(9, "z"));
            assert!(matches!(refused, Err(FenceError::Storage { .. })), "{harm}: {refused:?}");
            let mend = "DELETE FROM waypost_fences; INSERT INTO waypost_fences SELECT * FROM kept";
            other.execute_batch(mend).expect("mended");
        }
        fence.admit("valve", &token(5, "b")).expect("as before");
    }

    #[test]
    fn names_and_files_that_are_none_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fence.db");
        let mut fence = Fence::open(&path).expect("opened");
        for name in [String::new(), "x".repeat(256)] {
            let refused = fence.admit(&name, &token(1, "a"));
            assert!(matches!(refused, Err(FenceError::Name { .. })), "{refused:?}");
        }
        let text = folder.path().join("text");
        std::fs::write(&text, "no database, and longer than a header of one would be ".repeat(9))
            .expect("written");
        let other = folder.path().join("other.db");
        Connection::open(&other)
            .expect("opened")
            .execute_batch("CREATE TABLE t (x)")
            .expect("made");
        for bad in [text, other.clone(), folder.path().join("none/fence.db")] {
            let refused = Fence::open(&bad);
            assert!(matches!(refused, Err(FenceError::Storage { .. })), "{refused:?}");
        }
        let tables: i64 = Connection::open(&other)
            .and_then(|file| {
                file.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            })
            .expect("read");
        assert_eq!(tables, 1, "the other file is as it was");
    }
}
