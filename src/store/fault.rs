//! What SQLite's errors mean for the file.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;
use rusqlite::ffi;
use rustix::process::{Resource, getrlimit};

use super::disk::{beside, lacks_room};
use super::error::{SendError, StoreError};

/// Names what was to be done when a statement fails.
pub(super) trait At<T> {
    fn at(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> At<T> for rusqlite::Result<T> {
    fn at(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sql { operation, source })
    }
}

/// Sorts a plain SQLite error: a full disk, a failing disk, a damaged file, one that somebody else has locked, or only this statement.
pub(super) fn sorted(error: StoreError, path: &Path) -> StoreError {
    let StoreError::Sql { operation, source } = error else { return error };
    let Some(cause) = source.sqlite_error() else { return StoreError::Sql { operation, source } };
    let path = path.to_owned();
    let reason = format!("{operation}: {source}");
    if is_for_want_of_room(&source, &path) {
        return StoreError::Full { path };
    }
    match cause.code {
        // Nobody knows what is on the disk: that has to be found out, whatever the reason is.
        ErrorCode::SystemIoFailure if no_space(&path) => {
            StoreError::Failed { path, reason: format!("{reason}; the disk is full") }
        }
        ErrorCode::SystemIoFailure
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::FileLockingProtocolFailed => StoreError::Failed { path, reason },
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
            StoreError::Corrupt { path, reason }
        }
        ErrorCode::DatabaseBusy => StoreError::Locked { path },
        _ => StoreError::Sql { operation, source },
    }
}

/// Whether this failed for want of room. SQLite says so only of `ENOSPC`, and not where it is its shared memory that cannot be had.
pub(super) fn is_for_want_of_room(error: &rusqlite::Error, path: &Path) -> bool {
    let Some(cause) = error.sqlite_error() else { return false };
    match cause.extended_code {
        ffi::SQLITE_IOERR_WRITE
        | ffi::SQLITE_IOERR_TRUNCATE
        | ffi::SQLITE_IOERR_SHMSIZE
        | ffi::SQLITE_IOERR_SHMOPEN
        | ffi::SQLITE_IOERR_SHMMAP
        | ffi::SQLITE_CANTOPEN => no_space(path),
        _ => cause.code == ErrorCode::DiskFull,
    }
}

/// Whether there is no room for the file to grow: on the disk, in a quota, or in what this process may write into one file.
fn no_space(path: &Path) -> bool {
    const PROBE_BYTES: usize = 64 * 1024;
    is_at_file_limit(path) || probe(path, PROBE_BYTES).is_err_and(|error| lacks_room(&error))
}

/// Whether the database with its log comes near to what this process may write into one file (`ulimit -f`).
fn is_at_file_limit(path: &Path) -> bool {
    /// The largest page, and a frame's header.
    const STEP_BYTES: u64 = 66_000;
    let Some(limit) = getrlimit(Resource::Fsize).current else { return false };
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    bytes(path) + bytes(&beside(path, "-wal")) + STEP_BYTES > limit
}

/// Whether a little can be written beside the file at all.
pub(super) fn can_write(path: &Path) -> io::Result<()> {
    probe(path, 4096)
}

/// Writes so many bytes beside the file and takes them back: only a write knows of quotas.
fn probe(path: &Path, bytes: usize) -> io::Result<()> {
    let probe = beside(path, "-probe");
    let written = std::fs::write(&probe, vec![0; bytes]);
    // What is left behind is overwritten and removed by the next probe.
    let _ = std::fs::remove_file(&probe);
    written
}

/// The same error again, for each of those whose work it undid.
pub(crate) fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Full { path } => StoreError::Full { path: path.clone() },
        StoreError::Limit { path, used_bytes, limit_bytes } => StoreError::Limit {
            path: path.clone(),
            used_bytes: *used_bytes,
            limit_bytes: *limit_bytes,
        },
        StoreError::Failed { path, reason } => {
            StoreError::Failed { path: path.clone(), reason: reason.clone() }
        }
        StoreError::Corrupt { path, reason } => {
            StoreError::Corrupt { path: path.clone(), reason: reason.clone() }
        }
        StoreError::Replaced { path } => StoreError::Replaced { path: path.clone() },
        StoreError::Locked { path } => StoreError::Locked { path: path.clone() },
        StoreError::Closed => StoreError::Closed,
        StoreError::Unanswered => StoreError::Unanswered,
        StoreError::Interrupted => StoreError::Interrupted,
        StoreError::Sql { operation, source } => {
            let source = match source.sqlite_error() {
                Some(cause) => rusqlite::Error::SqliteFailure(*cause, Some(source.to_string())),
                None => rusqlite::Error::ToSqlConversionFailure(source.to_string().into()),
            };
            StoreError::Sql { operation, source }
        }
    }
}

/// An error of one job, which may hold one of the store.
pub(super) trait JobError: Send + 'static {
    fn from_store(error: StoreError) -> Self;
    /// The store's error in it, or itself.
    fn into_store(self) -> Result<StoreError, Self>
    where
        Self: Sized;
}

impl JobError for StoreError {
    fn from_store(error: StoreError) -> Self {
        error
    }

    fn into_store(self) -> Result<StoreError, Self> {
        Ok(self)
    }
}

impl JobError for SendError {
    fn from_store(error: StoreError) -> Self {
        error.into()
    }

    fn into_store(self) -> Result<StoreError, Self> {
        match self {
            Self::Storage(error) => Ok(error),
            Self::StorageFull { path } => Ok(StoreError::Full { path }),
            Self::StorageLimit { path, used_bytes, limit_bytes } => {
                Ok(StoreError::Limit { path, used_bytes, limit_bytes })
            }
            other => Err(other),
        }
    }
}
