//! Looks into a node's file, whether the node is running or not: what waits for whom, what became of a message, whether the
//! file is sound; and copies, restores or shrinks it.
//!
//! An [`Inspector`] only reads. It takes no lock, so that it works beside a running node, in the same process or another.
//!
//! ```no_run
//! # fn main() -> Result<(), waypost::inspect::InspectError> {
//! let inspector = waypost::inspect::Inspector::open("waypost-alice.db")?;
//! for row in inspector.queue()? {
//!     println!("{:?}: {} waiting", row.receiver, row.pending);
//! }
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::Serialize;

use crate::message::{MessageId, NodeId, StoreId};
use crate::reason::{Reason, span};
use crate::store::disk::beside;
use crate::store::error::StoreError;
use crate::store::fault::is_for_want_of_room;
use crate::store::filesystem;
use crate::store::lock;
pub use crate::store::lock::{Holder, Use};
use crate::store::migrate::user_version;
use crate::store::open::OpenError;
use crate::store::open::look::{self, BUSY_TIMEOUT, Identity, bytes, identify, measure, resolve};

mod believe;
mod check;
mod copy;
mod queue;
mod records;
mod restore;
mod row;
mod story;
mod times;

pub use crate::exposure::{Exposure, exposure};
pub use believe::{Believed, believe_clock};
pub use check::{Finding, Progress, Report, Stage};
pub use copy::{Copied, Vacuumed, vacuum};
pub use queue::{Oldest, QueueRow};
pub use records::{AuditEntry, DeadLetter, Failure};
pub use restore::{Newer, Replace, Restored, restore};
pub use story::{Accepted, InboxSpan, ReceiverState, ReceiverStory, Story};

/// Reads a node's file. Every method reads one consistent state of it.
#[derive(Debug)]
pub struct Inspector {
    connection: Connection,
    path: PathBuf,
}

/// Why a file could not be inspected, copied, restored or shrunk. The file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InspectError {
    /// The file cannot be opened or read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An empty file: no node has ever started with it.
    #[error("{path:?} is empty, no node has used it yet: check the path")]
    NoNode {
        /// The path.
        path: PathBuf,
    },
    /// A copy never replaces anything.
    #[error("{path:?} exists already: give another path, or move it away first")]
    TargetExists {
        /// What exists.
        path: PathBuf,
    },
    /// A backup that is damaged is not restored.
    #[error(
        "the backup {path:?} is not sound, {findings} findings, first: {first}; take an older one, or look with `waypost db check`"
    )]
    NotSound {
        /// The backup.
        path: PathBuf,
        /// How many.
        findings: u64,
        /// The first one.
        first: String,
    },
    /// The backup is of another node than the file.
    #[error(
        "the backup {path:?} is of node {node}, the file {file:?} is of node {theirs}: give the right file with --db"
    )]
    OtherNode {
        /// The backup.
        path: PathBuf,
        /// Whose it is.
        node: NodeId,
        /// The file that it was to replace.
        file: PathBuf,
        /// Whose that is.
        theirs: NodeId,
    },
    /// The file holds what the backup lacks.
    #[error(
        "{path:?} holds what the backup lacks: {newer}; to restore it all the same, give --yes: the old file is kept, but no node sends from it"
    )]
    WouldLose {
        /// The file.
        path: PathBuf,
        /// What it holds.
        newer: Newer,
    },
    /// Nobody can believe a clock that was never set.
    #[error("{0}")]
    Clock(Reason),
    /// The file's time never goes back.
    #[error(
        "the wall clock is {} behind the time of {path:?}, which never goes back: set the clock if it is wrong; else nothing is to be done",
        span(*behind_ms)
    )]
    ClockBehind {
        /// The file.
        path: PathBuf,
        /// By how much.
        behind_ms: u64,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

impl InspectError {
    /// Why no node can start with the file as long as this lasts; none for what is wrong otherwise.
    pub fn reason(&self) -> Option<Reason> {
        match self {
            Self::Open(error) => error.reason(),
            Self::Storage(error) => error.reason(),
            Self::Clock(reason) => Some(reason.clone()),
            _ => None,
        }
    }
}

/// What a file is, in a few numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// The file's one true path, links followed.
    pub path: PathBuf,
    /// Whose it is; none where the node's first start was cut short.
    pub node: Option<NodeId>,
    /// When it was created, in milliseconds since 1970.
    pub created_ms: Option<u64>,
    /// The last message id that was given out.
    pub last_id: Option<MessageId>,
    /// The store ids under which its messages travel, the oldest first. More than one where the file turned out to be an older copy of itself.
    pub stores: Vec<Store>,
    /// The schema's version.
    pub schema: u32,
    /// Messages in the log, settled ones within their retention included.
    pub messages: u64,
    /// Dead letters, redriven ones included.
    pub dead_letters: u64,
    /// Size of the database file.
    pub file_bytes: u64,
    /// Part of it that is free for new messages, and that `vacuum` would give back.
    pub free_bytes: u64,
    /// Size of its write-ahead log.
    pub wal_bytes: u64,
}

/// A store id and from which message on it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Store {
    /// The store id.
    pub store_id: StoreId,
    /// Messages with this id or a later one travel under it.
    pub from_id: MessageId,
}

const META: &str = "SELECT node, created_ms, last_id FROM waypost_meta";
const STORES: &str = "SELECT store_id, from_id FROM waypost_stores ORDER BY from_id";
const COUNT_MESSAGES: &str = "SELECT count(*) FROM waypost_outbox";
const COUNT_DEAD: &str = "SELECT count(*) FROM waypost_dead_letters";
const FREE_BYTES: &str =
    "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size";
const QUERY_ONLY: &str = "PRAGMA query_only = ON; PRAGMA trusted_schema = OFF";

impl Inspector {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// An [`OpenError`] where the file is missing (it is never created), another program's, newer or damaged, or beside a log that is not
    /// its own;
    /// [`InspectError::NoNode`] where it is empty.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, InspectError> {
        let path = resolve(path.as_ref())?;
        match measure(&path)? {
            None => return Err(OpenError::Missing { path }.into()),
            Some(0) => return Err(InspectError::NoNode { path }),
            Some(_) => {}
        }
        refuse_foreign_log(&path)?;
        let connection = connect(&path)?;
        match identify(&connection, &path)? {
            Identity::Ours { .. } => Ok(Self { connection, path }),
            Identity::Empty => Err(InspectError::NoNode { path }),
        }
    }

    /// The file's one true path, links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether a node has the file open.
    ///
    /// # Errors
    /// What the system says about the lock file beside it.
    pub fn in_use(&self) -> std::io::Result<Use> {
        lock::in_use(&self.path)
    }

    /// What the file is, in a few numbers.
    ///
    /// # Errors
    /// An [`OpenError`] where the file cannot be read.
    pub fn summary(&self) -> Result<Summary, InspectError> {
        let file_bytes = bytes(&self.path)?;
        let wal_bytes = bytes(&beside(&self.path, "-wal"))?;
        self.read_timed("reading its summary", |connection| {
            let meta = row::optional(connection.query_row(META, [], |row| {
                Ok((row::text(row, 0)?, row.get(1)?, row::id(row, 2)?))
            }))?;
            let (node, created_ms, last_id) = match meta {
                Some((node, created_ms, last_id)) => (Some(node), Some(created_ms), Some(last_id)),
                None => (None, None, None),
            };
            let store = |row: &rusqlite::Row<'_>| {
                let store_id = StoreId::from_bytes(row.get(0)?);
                Ok(Store { store_id, from_id: row::id(row, 1)? })
            };
            Ok(Summary {
                path: self.path.clone(),
                node,
                created_ms,
                last_id,
                stores: connection
                    .prepare(STORES)?
                    .query_map([], store)?
                    .collect::<Result<_, _>>()?,
                // At least 1: only such files are opened.
                schema: u32::try_from(user_version(connection)?).unwrap_or(0),
                messages: connection.query_row(COUNT_MESSAGES, [], |row| row.get(0))?,
                dead_letters: connection.query_row(COUNT_DEAD, [], |row| row.get(0))?,
                file_bytes,
                free_bytes: connection.query_row(FREE_BYTES, [], |row| row.get(0))?,
                wal_bytes,
            })
        })
    }

    /// Runs this on one consistent state of the file.
    fn read<R>(
        &self,
        operation: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<R>,
    ) -> Result<R, InspectError> {
        // Rolled back by its drop: it only holds the state that it reads.
        self.connection
            .unchecked_transaction()
            .and_then(|transaction| read(&transaction))
            .map_err(|error| OpenError::sql(&self.path, operation, error).into())
    }
}

/// Whether a node has the file open, also where the file itself is gone or cannot be read.
///
/// # Errors
/// An [`OpenError`] where the path cannot be a file's, or the lock file beside it cannot be read.
pub fn in_use(path: impl AsRef<Path>) -> Result<Use, InspectError> {
    let path = resolve(path.as_ref())?;
    let failed = |source| OpenError::Lock { lock: lock::lock_path(&path), source };
    lock::in_use(&path).map_err(|error| failed(error).into())
}

/// What kind of filesystem a file or folder lies on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Filesystem {
    /// Its name, as the kernel calls it: `ext4`, `nfs4`.
    pub name: String,
    /// Whether it is on another machine, or passes files on without the locks and the shared memory that SQLite needs.
    pub is_remote: bool,
}

/// The filesystem that holds this file or folder; none where the system does not tell.
pub fn filesystem(path: impl AsRef<Path>) -> Option<Filesystem> {
    let name = filesystem::filesystem(path.as_ref())?;
    Some(Filesystem { is_remote: filesystem::is_remote(&name), name })
}

/// Refuses a log that was written for another database. Beside a running node, which may begin its log anew in this moment, nothing is
/// proven.
fn refuse_foreign_log(path: &Path) -> Result<(), OpenError> {
    match look::own_log(path) {
        Err(OpenError::ForeignLog { .. }) if !matches!(lock::in_use(path), Ok(Use::By(_))) => {
            look::own_log(path).map(drop)
        }
        examined => examined.map(drop).or_else(|error| match error {
            OpenError::ForeignLog { .. } => Ok(()),
            error => Err(error),
        }),
    }
}

/// A connection that changes nothing, whatever the state in which the file was left.
fn connect(path: &Path) -> Result<Connection, InspectError> {
    let sql = |error| OpenError::sql(path, "opening it for reading", error);
    let connection = if beside(path, "-wal").exists() {
        with_log(path).map_err(sql)?
    } else {
        without_log(path).map_err(sql)?
    };
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    connection.execute_batch(QUERY_ONLY).map_err(sql)?;
    Ok(connection)
}

/// To a file that is in use, or that a killed process left. A connection that cannot write the database cannot copy the log into it
/// when it closes, nor remove it.
fn with_log(path: &Path) -> rusqlite::Result<Connection> {
    let ordinary = look::open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    ordinary.busy_timeout(BUSY_TIMEOUT)?;
    match user_version(&ordinary).map_err(|error| (error.sqlite_error_code(), error)) {
        Ok(_) => Ok(ordinary),
        // There is no index of the log, and none can be made: on a read-only filesystem, in a folder of somebody else's. Whoever uses
        // the file has made one, so nobody does.
        Err((Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly), _))
            if !beside(path, "-shm").exists() =>
        {
            look::unshared(path)
        }
        // On a full disk there is no room for it. An index that is in use is longer than what is left of one that could not be made.
        Err((_, error)) if is_for_want_of_room(&error, path) && !has_index(path) => {
            look::unshared(path)
        }
        Err((_, error)) => Err(error),
    }
}

/// Whether the log has an index that somebody may be using.
fn has_index(path: &Path) -> bool {
    /// What SQLite makes of it at once, and never less.
    const REGION_BYTES: u64 = 32 * 1024;
    let is_whole = |bytes| bytes >= REGION_BYTES;
    bytes(&beside(path, "-shm")).map_or(true, is_whole)
        || !matches!(lock::in_use(path), Ok(Use::Free))
}

/// To a file that is at rest. Reading it through a read-only connection would leave an empty log behind, an immutable one
/// would not notice a node that starts: so an ordinary one, that removes the log when it closes, if the file and its folder allow that.
fn without_log(path: &Path) -> rusqlite::Result<Connection> {
    let connection = look::immutable(path)?;
    // Not SQLite, or not ours: found out before anything is touched; `open` says what it is.
    if !matches!(identify(&connection, path), Ok(Identity::Ours { .. })) {
        return Ok(connection);
    }
    let ordinary = look::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    if ordinary.is_readonly(rusqlite::MAIN_DB)? {
        return Ok(connection);
    }
    match user_version(&ordinary).map_err(|error| (error.sqlite_error_code(), error)) {
        Ok(_) => Ok(ordinary),
        Err((Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly), _)) => Ok(connection),
        // On a full disk there is no room for the log's index.
        Err((_, error)) if is_for_want_of_room(&error, path) => Ok(connection),
        Err((_, error)) => Err(error),
    }
}

#[cfg(test)]
mod tests;
