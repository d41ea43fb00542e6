//! The open file, and whether it is still the one at its path.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use rusqlite::Connection;

use super::fault::{self, At};
use super::lock::FileLock;
use super::open::{self, NotReopened, OpenError, OpenFile, TRUNCATE_LOG, generation};
use super::tx::Guard;
use super::writer::{self, Shared};
use crate::error::StoreError;

/// All statements of this module and some of the user's.
const CACHED_STATEMENTS: usize = 128;

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
            Err(error) => Err((lock, error)),
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
        drop(writer);
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
        if fresh {
            return Err((file.lock, failed("it holds nothing any more".to_owned())));
        }
        // The log is copied into the database and begun anew: after a failed fsync the disk may lack a part of the log that everybody still
        // reads from the system's memory, and which the next fsync does not write either; what is written behind it would be lost with it
        // (Rebello and others, "Can Applications Recover from fsync Failures?", USENIX ATC 2020). Where others read the file, the log they
        // share ends before what failed, and that is written over. Its first commit is made at once: until then a power cut could bring back
        // the old log, which is older than the database now.
        let begun = writer::without_waiting(&file.writer, TRUNCATE_LOG)
            .and_then(|()| generation::begin_log_alone(&file.writer).at("begin a log"));
        if let Err(error) = begun {
            let error = match fault::sorted(error, &shared.path) {
                full @ StoreError::Full { .. } => full,
                other => failed(format!("copy the log into the database: {other}")),
            };
            return Err((file.lock, error));
        }
        *readers = Some(pool);
        Ok(file)
    }
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
