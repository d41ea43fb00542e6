//! Why a file is not opened. Every variant names the path and what to do; none leaves anything created or changed.

use std::io;
use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::message::NodeId;
use crate::reason::Reason;
use crate::store::disk::lacks_room;
use crate::store::error::StoreError;
use crate::store::fault::is_for_want_of_room;
use crate::store::filesystem::filesystem;
use crate::store::lock::Holder;

/// Why a node's file was not opened. Nothing was created and nothing changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// SQLite before 3.51.3 can damage a file that two connections use.
    #[error(
        "SQLite {found} can damage files that two connections use: build with the bundled SQLite, or with 3.51.3 or newer"
    )]
    SqliteTooOld {
        /// The version that is linked.
        found: &'static str,
    },
    /// A path that cannot name a file.
    #[error("{path:?} cannot be a node's file, {reason}: give the path of a file", path = path)]
    BadPath {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The folder for the file does not exist. It is not created: a disk that is not mounted must not be written beside.
    #[error("folder {folder:?} does not exist: create it, or mount what belongs there")]
    FolderMissing {
        /// The folder.
        folder: PathBuf,
    },
    /// The folder takes no new files. SQLite keeps two more beside the database, so it must.
    #[error(
        "no file can be created in folder {folder:?}: make it writable for this user, or store the file elsewhere"
    )]
    FolderNotWritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a device or a socket.
    #[error("{path:?} is not a regular file: give the path of a file")]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Only the file was mounted into a container, not its folder.
    #[error(
        "{path:?} is mounted by itself, so its write-ahead log would be lost with the container: mount its folder instead"
    )]
    MountedAlone {
        /// The path.
        path: PathBuf,
    },
    /// There is no file. Only a node's first start creates one.
    #[error(
        "{path:?} does not exist: check the path, or restore it from a backup if it was there before"
    )]
    Missing {
        /// The path.
        path: PathBuf,
    },
    /// Another node, or this one a second time, has the file open.
    #[error("{}", Reason::FileInUse { path: lossy(path), who: in_use(holder.as_ref()) })]
    InUse {
        /// The path.
        path: PathBuf,
        /// Who has it; none where the lock file does not say.
        holder: Option<Holder>,
    },
    /// Another program holds a lock of SQLite's on it, or has written to it for long.
    #[error("{}", Reason::FileLocked { path: lossy(path) })]
    Busy {
        /// The path.
        path: PathBuf,
    },
    /// The lock file beside it could not be locked or written.
    #[error(
        "the lock file {lock:?} cannot be used: check its owner and permissions, and that the filesystem supports locks"
    )]
    Lock {
        /// The lock file.
        lock: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is something else than an SQLite database.
    #[error(
        "{path:?} is not an SQLite database: give the node a path of its own; the file was left as it is"
    )]
    NotADatabase {
        /// The path.
        path: PathBuf,
    },
    /// The database belongs to another program.
    #[error(
        "{path:?} is another program's database: give waypost a file of its own; your tables can be created in it, beside waypost's"
    )]
    Foreign {
        /// The path.
        path: PathBuf,
    },
    /// A newer version of waypost has written it.
    #[error(
        "{path:?} has schema {found}, this version knows {supported}: update waypost, or restore a backup from before the update"
    )]
    Newer {
        /// The path.
        path: PathBuf,
        /// The file's schema version.
        found: i64,
        /// The newest that this version knows.
        supported: u32,
    },
    /// The database is damaged.
    #[error("{}", Reason::FileDamaged { path: lossy(path), said: reason.clone() })]
    Corrupt {
        /// The path.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The database is gone or empty, but its write-ahead log holds data. Creating a new one would destroy that.
    #[error("{}", Reason::StrayLog { path: lossy(path), log: lossy(wal) })]
    StrayWal {
        /// The path.
        path: PathBuf,
        /// The log.
        wal: PathBuf,
    },
    /// The write-ahead log beside the database was written for another database, or for another state of this one: a restored
    /// backup, or an older log that was put back. Together they would be neither of both.
    #[error("{}", Reason::ForeignLog { path: lossy(path), log: lossy(wal), said: reason.clone() })]
    ForeignLog {
        /// The path.
        path: PathBuf,
        /// The log.
        wal: PathBuf,
        /// How that shows.
        reason: String,
    },
    /// `waypost db restore` was cut short after it had moved the old file away.
    #[error(
        "a restore of {path:?} was cut short, and {half:?} is what it left: run `waypost db restore BACKUP --yes` again"
    )]
    HalfRestored {
        /// The path.
        path: PathBuf,
        /// What the restore left.
        half: PathBuf,
    },
    /// A rollback journal stands beside the database. A node's file never has one, and SQLite would overwrite pages with it.
    #[error(
        "the journal {journal:?} does not belong to {path:?}: move it away, or open the file once with the program that wrote the journal"
    )]
    ForeignJournal {
        /// The path.
        path: PathBuf,
        /// The journal.
        journal: PathBuf,
    },
    /// Its tables contradict each other. A node would pass over messages without a word.
    #[error(
        "{path:?} contradicts itself, {reason}: look with `waypost db check`, and restore the last backup with `waypost db restore`"
    )]
    Contradiction {
        /// The path.
        path: PathBuf,
        /// What contradicts what.
        reason: String,
    },
    /// The file is marked as read-only, or this user may not write it.
    #[error("{path:?} cannot be written: make it writable for this user")]
    NotWritable {
        /// The path.
        path: PathBuf,
    },
    /// This user may not read the database, or what stands beside it.
    #[error(
        "{path:?} cannot be opened by this user: run this as the owner of the file, or copy it to another folder, with its -wal if it has one"
    )]
    NotReadable {
        /// The path.
        path: PathBuf,
    },
    /// SQLite could not keep a write-ahead log there.
    #[error(
        "{path:?} cannot have a write-ahead log on this filesystem ({filesystem}): store it on a local disk"
    )]
    NoWal {
        /// The path.
        path: PathBuf,
        /// What the system calls the filesystem.
        filesystem: String,
    },
    /// No space for a new file, for what SQLite keeps beside it, or for a migration: the disk is full, a quota is used up, or a file may not
    /// become so large.
    #[error("{}", Reason::DiskFull { path: lossy(path) })]
    Full {
        /// The path.
        path: PathBuf,
    },
    /// SQLite got no memory from the system.
    #[error(
        "there is not enough memory to open {path:?}: give this process more (ulimit -v, MemoryMax=), or end others"
    )]
    NoMemory {
        /// The path.
        path: PathBuf,
    },
    /// A setting that safety depends on did not take.
    #[error(
        "{path:?}: SQLite has {pragma} = {found:?} instead of {wanted:?}: build with the bundled SQLite"
    )]
    Setting {
        /// The path.
        path: PathBuf,
        /// The setting.
        pragma: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: String,
    },
    /// The schema could not be brought up to date. The file has the version before.
    #[error("migration {name} of {path:?} failed: restore a backup, or report this with the cause")]
    Migration {
        /// The path.
        path: PathBuf,
        /// The migration's file.
        name: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The system refused something else.
    #[error(
        "{path:?} could not be {operation}: see the cause; permissions and the disk's state are the usual ones"
    )]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused something else.
    #[error(
        "SQLite failed on {path:?} while {operation}: see the cause; permissions and the disk's state are the usual ones"
    )]
    Sql {
        /// The path.
        path: PathBuf,
        /// What was tried.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

fn lossy(path: &Path) -> String {
    path.display().to_string()
}

fn in_use(holder: Option<&Holder>) -> String {
    match holder {
        Some(Holder { node, pid, host }) => format!("node {node} (process {pid} on {host})"),
        None => "another node".to_owned(),
    }
}

/// The node's file could not be opened. Nothing was created or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreOpenError {
    /// It could not be opened at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It belongs to another node.
    #[error(
        "{path} belongs to node {kept:?}, not to {asked:?}: configure that id or none, or give {asked:?} a file of its own"
    )]
    WrongNode {
        /// The node's file.
        path: PathBuf,
        /// Whose it is.
        kept: NodeId,
        /// Who was to use it.
        asked: NodeId,
    },
    /// It opened, but could not be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl OpenError {
    /// What keeps a node from its file, where a running node can have the same reason.
    pub fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::InUse { path, holder } => {
                Reason::FileInUse { path: lossy(path), who: in_use(holder.as_ref()) }
            }
            Self::Busy { path } => Reason::FileLocked { path: lossy(path) },
            Self::Full { path } => Reason::DiskFull { path: lossy(path) },
            Self::Corrupt { path, reason } => {
                Reason::FileDamaged { path: lossy(path), said: reason.clone() }
            }
            Self::StrayWal { path, wal } => Reason::StrayLog { path: lossy(path), log: lossy(wal) },
            Self::ForeignLog { path, wal, reason } => {
                Reason::ForeignLog { path: lossy(path), log: lossy(wal), said: reason.clone() }
            }
            _ => return None,
        })
    }

    /// Sorts what SQLite said while this was tried into what the caller can do about it.
    pub(crate) fn sql(path: &Path, operation: &'static str, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if is_for_want_of_room(&source, &path) {
            return Self::Full { path };
        }
        let Some(failure) = source.sqlite_error() else {
            return match source {
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::InvalidColumnType(..) => {
                    Self::Corrupt { path, reason: source.to_string() }
                }
                _ => Self::Sql { path, operation, source },
            };
        };
        match (failure.code, failure.extended_code) {
            (ErrorCode::NotADatabase, _) => Self::NotADatabase { path },
            (ErrorCode::DatabaseCorrupt, _)
            | (_, ffi::SQLITE_IOERR_SHORT_READ | ffi::SQLITE_IOERR_CORRUPTFS) => {
                Self::Corrupt { path, reason: source.to_string() }
            }
            (ErrorCode::OutOfMemory, _) | (_, ffi::SQLITE_IOERR_NOMEM) => Self::NoMemory { path },
            (ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked, _) => Self::Busy { path },
            (ErrorCode::ReadOnly, _) => Self::NotWritable { path },
            (ErrorCode::CannotOpen, _) => Self::NotReadable { path },
            (
                _,
                ffi::SQLITE_IOERR_SHMOPEN
                | ffi::SQLITE_IOERR_SHMSIZE
                | ffi::SQLITE_IOERR_SHMMAP
                | ffi::SQLITE_IOERR_SHMLOCK,
            ) => Self::no_wal(path),
            _ => Self::Sql { path, operation, source },
        }
    }

    pub(crate) fn no_wal(path: PathBuf) -> Self {
        let filesystem = filesystem(&path).unwrap_or_else(|| "of a kind unknown".to_owned());
        Self::NoWal { path, filesystem }
    }

    pub(crate) fn io(path: &Path, operation: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        if lacks_room(&source) {
            return Self::Full { path };
        }
        Self::Io { path, operation, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32) -> OpenError {
        let failure = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        OpenError::sql(Path::new("/proc/a.db"), "testing", failure)
    }

    #[test]
    fn what_sqlite_says_is_sorted_by_what_can_be_done() {
        assert!(matches!(said(ffi::SQLITE_FULL), OpenError::Full { .. }));
        assert!(matches!(said(ffi::SQLITE_BUSY), OpenError::Busy { .. }));
        assert!(matches!(said(ffi::SQLITE_NOMEM), OpenError::NoMemory { .. }));
        assert!(matches!(said(ffi::SQLITE_IOERR_NOMEM), OpenError::NoMemory { .. }));
        assert!(matches!(said(ffi::SQLITE_READONLY_DIRECTORY), OpenError::NotWritable { .. }));
        assert!(matches!(said(ffi::SQLITE_CANTOPEN), OpenError::NotReadable { .. }));
        assert!(matches!(said(ffi::SQLITE_NOTADB), OpenError::NotADatabase { .. }));
        assert!(matches!(said(ffi::SQLITE_CORRUPT_INDEX), OpenError::Corrupt { .. }));
        assert!(matches!(said(ffi::SQLITE_IOERR_SHORT_READ), OpenError::Corrupt { .. }));
        assert!(matches!(said(ffi::SQLITE_IOERR_SHMMAP), OpenError::NoWal { .. }));
        assert!(matches!(said(ffi::SQLITE_IOERR_FSYNC), OpenError::Sql { .. }));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let error = OpenError::io(Path::new("/a.db"), "created", full);
        assert!(matches!(error, OpenError::Full { .. }));
    }

    #[test]
    fn a_message_names_the_path_and_the_remedy_and_leaves_the_cause_to_the_chain() {
        use std::error::Error as _;
        let error = said(ffi::SQLITE_IOERR_FSYNC);
        let (text, cause) = (error.to_string(), error.source().expect("a cause").to_string());
        assert!(text.contains("/proc/a.db") && !text.contains(&cause), "{text}");
        let text = said(ffi::SQLITE_IOERR_SHMMAP).to_string();
        assert!(text.contains("store it on a local disk"), "{text}");
        let path = PathBuf::from("/a.db");
        assert_eq!(
            OpenError::InUse { path, holder: None }.to_string(),
            "\"/a.db\" is in use by another node: stop that one, or give this node a file of its own"
        );
    }
}
