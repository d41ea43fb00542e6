//! The open file, and whether it is still the one at its path.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use rusqlite::Connection;

use super::checkpoint::{TRUNCATE_LOG, without_waiting};
use super::error::StoreError;
use super::fault::{self, At};
use super::guard::Guard;
use super::lock::FileLock;
use super::open::{self, NotReopened, OpenError, OpenFile, generation};
use super::shared::Shared;

/// All statements of this module and some of the user's.
const CACHED_STATEMENTS: usize = 128;

pub(super) const FULL: &str = "PRAGMA synchronous = FULL";
pub(super) const NORMAL: &str = "PRAGMA synchronous = NORMAL";

#[derive(Debug)]
pub(super) struct File {
    // The order in which they are dropped: the lock last.
    pub(super) writer: Connection,
    pub(super) lock: FileLock,
}

impl File {
    /// Takes over a file that was just opened.
    pub(super) fn new(
        writer: Connection,
        lock: FileLock,
        guard: &Arc<Guard>,
    ) -> Result<Self, (FileLock, StoreError)> {
        writer.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        match guard.install(&writer).at("guard the connection") {
            Ok(()) => Ok(Self { writer, lock }),
            Err(error) => {
                open::leave_log(&writer);
                Err((lock, error))
            }
        }
    }

    /// Closes the file, and opens it again under the same lock. That comes back with an error.
    pub(super) fn again(
        writer: Option<Connection>,
        lock: FileLock,
        shared: &Shared,
        guard: &Arc<Guard>,
    ) -> Result<Self, (FileLock, StoreError)> {
        let mut readers = shared.readers.write().unwrap_or_else(PoisonError::into_inner);
        readers.take();
        if let Some(writer) = writer {
            // What was refused is not to be found in the log, and what was not is not to depend on when the file can be opened again.
            if let Err(error) = begin_log_anew(&writer) {
                tracing::debug!(%error, "the log stays as it is");
            }
            open::leave_log(&writer);
        }
        let failed = |reason: String| StoreError::Failed { path: shared.path.clone(), reason };
        let OpenFile { writer, readers: pool, lock, fresh, .. } =
            match open::reopen(lock, &shared.path) {
                Ok(opened) => opened,
                Err(error) => {
                    let NotReopened { lock, error } = *error;
                    let error = match error {
                        OpenError::Full { path } => StoreError::Full { path },
                        other => failed(other.to_string()),
                    };
                    return Err((lock, error));
                }
            };
        let file = Self::new(writer, lock, guard)?;
        let given_up = |file: Self, error| {
            open::leave_log(&file.writer);
            Err((file.lock, error))
        };
        if fresh {
            return given_up(file, failed("it holds nothing any more".to_owned()));
        }
        if let Err(error) = begin_log_anew(&file.writer) {
            let error = match fault::sorted(error, &shared.path) {
                full @ StoreError::Full { .. } => full,
                other => failed(format!("copy the log into the database: {other}")),
            };
            return given_up(file, error);
        }
        *readers = Some(pool);
        Ok(file)
    }
}

/// Copies the log into the database and begins it anew: after a failed fsync the disk may lack a part of the log that everybody still
/// reads from the system's memory, and which the next fsync does not write either; what is written behind it would be lost with it
/// (Rebello and others, "Can Applications Recover from fsync Failures?", USENIX ATC 2020). Where others read the file, the log they
/// share ends before what failed, and that is written over. Its first commit is made at once: until then a power cut could bring back
/// the old log, which is older than the database now.
fn begin_log_anew(writer: &Connection) -> Result<(), StoreError> {
    writer.execute_batch(FULL).at("choose the durability")?;
    without_waiting(writer, TRUNCATE_LOG)?;
    generation::begin_log_alone(writer).at("begin a log")
}

/// Which file it is, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

impl Identity {
    /// Of the file at this path now. Only asks for its attributes: to open and close it would drop SQLite's locks.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self(metadata.dev(), metadata.ino()))
        }
        #[cfg(not(unix))]
        {
            // Windows keeps an open file from being replaced.
            drop(metadata);
            Some(Self(0, 0))
        }
    }
}
