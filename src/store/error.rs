//! What the store's calls say where they fail.

use std::path::{Path, PathBuf};

use crate::condition::Health;
use crate::message::{ChannelName, InvalidMessage, NodeId};
use crate::reason::Reason;

/// The node's file could not be read or written. Unless a variant says otherwise, nothing of the failed call was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no space for it.
    #[error("{}", Reason::DiskFull { path: path.display().to_string() })]
    Full {
        /// The node's file.
        path: PathBuf,
    },
    /// The node's files take as much as they may, and nothing settled is left that could give way.
    #[error("{}", Reason::StorageLimit { path: path.display().to_string(), used_bytes: *used_bytes, limit_bytes: *limit_bytes })]
    Limit {
        /// The node's file.
        path: PathBuf,
        /// What they take, less what is free in the database.
        used_bytes: u64,
        /// The most that they may take.
        limit_bytes: u64,
    },
    /// Reading or writing failed below SQLite. The file is checked and opened again before anything else is written.
    #[error("{}", Reason::FileFailed { path: path.display().to_string(), said: reason.clone() })]
    Failed {
        /// The node's file.
        path: PathBuf,
        /// What the failed call said.
        reason: String,
    },
    /// The file's structure is damaged.
    #[error("{}", Reason::FileDamaged { path: path.display().to_string(), said: reason.clone() })]
    Corrupt {
        /// The node's file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The file was deleted, or another one stands in its place, while it was open. What is written now would be lost, so nothing is.
    #[error("{}", Reason::FileReplaced { path: path.display().to_string() })]
    Replaced {
        /// The node's file.
        path: PathBuf,
    },
    /// Another program has held a lock of SQLite's on the file for seconds. It is tried again twice a second, and until then nothing waits
    /// for it.
    #[error("{}", Reason::FileLocked { path: path.display().to_string() })]
    Locked {
        /// The node's file.
        path: PathBuf,
    },
    /// The node has been shut down.
    #[error("the node has been shut down")]
    Closed,
    /// The node's file closed before the call was answered. A write may or may not have been kept.
    #[error(
        "the node's file was closed before it answered: what was being written may have been kept"
    )]
    Unanswered,
    /// A user's transaction broke up the transaction that it ran in, by `ON CONFLICT ROLLBACK` or the like.
    #[error(
        "the transaction was rolled back as a whole from within (ON CONFLICT ROLLBACK, RAISE(ROLLBACK)?): use ABORT instead"
    )]
    Interrupted,
    /// Any other answer of SQLite.
    #[error("SQLite could not {operation}")]
    Sql {
        /// What was to be done.
        operation: &'static str,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Why nothing can be written as long as this lasts; none for what is wrong with one call only.
    pub fn reason(&self) -> Option<Reason> {
        let shown = |path: &Path| path.display().to_string();
        Some(match self {
            Self::Full { path } => Reason::DiskFull { path: shown(path) },
            Self::Failed { path, reason } => {
                Reason::FileFailed { path: shown(path), said: reason.clone() }
            }
            Self::Corrupt { path, reason } => {
                Reason::FileDamaged { path: shown(path), said: reason.clone() }
            }
            Self::Replaced { path } => Reason::FileReplaced { path: shown(path) },
            Self::Locked { path } => Reason::FileLocked { path: shown(path) },
            Self::Closed => Reason::Ended {},
            Self::Limit { .. } | Self::Unanswered | Self::Interrupted | Self::Sql { .. } => {
                return None;
            }
        })
    }

    /// How a file is that cannot be written because of this.
    pub(crate) fn health(&self) -> Health {
        let broken = || Reason::Broken { what: format!("the node's file ({self})") };
        Health::Failed(self.reason().unwrap_or_else(broken))
    }

    /// Whether it is room that is missing.
    pub(crate) const fn is_no_room(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Limit { .. })
    }

    /// Whether it is told of by itself, as long as it lasts, to whoever watches the node.
    pub(crate) const fn is_told(&self) -> bool {
        self.is_no_room() || matches!(self, Self::Failed { .. } | Self::Locked { .. })
    }

    /// Whether the same call may succeed later without anyone changing the program.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. }
            | Self::Limit { .. }
            | Self::Failed { .. }
            | Self::Locked { .. }
            | Self::Unanswered => true,
            Self::Corrupt { .. } | Self::Replaced { .. } | Self::Closed | Self::Interrupted => {
                false
            }
            Self::Sql { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            ),
        }
    }
}

/// A message that was not accepted. Nothing of the call was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The message itself is not valid.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The node joined the channel as a reader.
    #[error("this node only reads {channel:?}: join it as Writer or ReadWrite to send")]
    NotAWriter {
        /// The channel.
        channel: ChannelName,
    },
    /// A receiver has as many messages waiting as the configuration allows.
    #[error("{}", Reason::QueueFull { receiver: receiver.clone(), waiting: *backlog, limit: *limit })]
    QueueFull {
        /// Who they wait for; `None`: for the channel's first reader.
        receiver: Option<NodeId>,
        /// How many wait.
        backlog: u64,
        /// The limit.
        limit: u64,
    },
    /// The node was kicked, from all channels or from this one.
    #[error("{}", Reason::KickedFrom { by: by.clone(), channel: channel.clone() })]
    Kicked {
        /// From where.
        channel: ChannelName,
        /// Who.
        by: NodeId,
    },
    /// The node is being drained: it delivers what it has, and takes no more.
    #[error("{}", Reason::Draining { by: by.clone() })]
    Draining {
        /// Who.
        by: NodeId,
    },
    /// There is no space for it.
    #[error("{}", Reason::DiskFull { path: path.display().to_string() })]
    StorageFull {
        /// The node's file.
        path: PathBuf,
    },
    /// The node's files take as much as they may, and nothing settled is left that could give way.
    #[error("{}", Reason::StorageLimit { path: path.display().to_string(), used_bytes: *used_bytes, limit_bytes: *limit_bytes })]
    StorageLimit {
        /// The node's file.
        path: PathBuf,
        /// What they take, less what is free in the database.
        used_bytes: u64,
        /// The most that they may take.
        limit_bytes: u64,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(StoreError),
    /// The node has been shut down.
    #[error("the node has been shut down")]
    Closed,
}

impl SendError {
    /// Whether the same message may be accepted later without anyone changing the program.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::StorageFull { .. } | Self::StorageLimit { .. } => true,
            Self::Storage(error) => error.is_transient(),
            Self::Invalid(_)
            | Self::NotAWriter { .. }
            | Self::Kicked { .. }
            | Self::Draining { .. }
            | Self::Closed => false,
        }
    }
}

impl From<StoreError> for SendError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { path } => Self::StorageFull { path },
            StoreError::Limit { path, used_bytes, limit_bytes } => {
                Self::StorageLimit { path, used_bytes, limit_bytes }
            }
            StoreError::Closed => Self::Closed,
            error => Self::Storage(error),
        }
    }
}
