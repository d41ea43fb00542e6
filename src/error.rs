//! What can go wrong at the crate's boundaries: one enum each.

use std::path::PathBuf;

pub use crate::config::ConfigError;
pub use crate::inspect::InspectError;
pub use crate::management::OrderError;
use crate::message::{ChannelName, Incarnation, MessageId, NodeId};
pub use crate::message::{InvalidMessage, NameError};
pub use crate::store::open::OpenError;
pub use crate::transport::nats::ConnectError;

/// The node's file could not be read or written. Unless a variant says otherwise, nothing of the failed call was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no space for it.
    #[error(
        "no space left for {path}: free some; writing goes on by itself once there is space again"
    )]
    Full {
        /// The node's file.
        path: PathBuf,
    },
    /// Reading or writing failed below SQLite. The file is checked and opened again before anything else is written.
    #[error(
        "{path} cannot be read or written ({reason}): look at the disk; the node tries again by itself"
    )]
    Failed {
        /// The node's file.
        path: PathBuf,
        /// What the failed call said.
        reason: String,
    },
    /// The file's structure is damaged.
    #[error(
        "{path} is damaged ({reason}): stop the node, run `waypost db check`, restore a backup if it is confirmed"
    )]
    Corrupt {
        /// The node's file.
        path: PathBuf,
        /// What SQLite said.
        reason: String,
    },
    /// The file was deleted, or another one stands in its place, while it was open. What is written now would be lost, so nothing is.
    #[error(
        "{path} was deleted or replaced while it was open: put the right file back, then restart the node"
    )]
    Replaced {
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
    /// Whether the same call may succeed later without anyone changing the program.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Failed { .. } | Self::Unanswered => true,
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
    #[error(
        "{backlog} messages wait for {}, limit {limit}: wait until it takes some, raise queue_limit, or purge", shown(.receiver.as_ref())
    )]
    QueueFull {
        /// Who they wait for; `None`: for the channel's first reader.
        receiver: Option<NodeId>,
        /// How many wait.
        backlog: u64,
        /// The limit.
        limit: u64,
    },
    /// The node was kicked, from all channels or from this one.
    #[error(
        "{by} kicked this node from {channel:?}: it takes part again after readmit, or a restart"
    )]
    Kicked {
        /// From where.
        channel: ChannelName,
        /// Who.
        by: NodeId,
    },
    /// The node is being drained: it delivers what it has, and takes no more.
    #[error(
        "this node is being drained by {by}: it takes messages again after readmit, or a restart"
    )]
    Draining {
        /// Who.
        by: NodeId,
    },
    /// There is no space for it.
    #[error(
        "no space left for {path}: free some; sending works again by itself once there is space"
    )]
    StorageFull {
        /// The node's file.
        path: PathBuf,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(StoreError),
    /// The node has been shut down.
    #[error("the node has been shut down")]
    Closed,
}

fn shown(receiver: Option<&NodeId>) -> &str {
    receiver.map_or("a first reader", NodeId::as_str)
}

impl SendError {
    /// Whether the same message may be accepted later without anyone changing the program.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::QueueFull { .. } | Self::StorageFull { .. } => true,
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
            StoreError::Closed => Self::Closed,
            error => Self::Storage(error),
        }
    }
}

/// A transaction that was rolled back: nothing of it was kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError<E> {
    /// The closure said so.
    #[error(transparent)]
    User(E),
    /// The closure panicked.
    #[error("the transaction's closure panicked: {0}")]
    Panicked(String),
    /// The message had been accepted before, so that the closure was not run again.
    #[error("the message has been accepted before: its effects are kept already")]
    AlreadyAccepted,
    /// The file could not be written.
    #[error(transparent)]
    Storage(StoreError),
}

impl<E> From<StoreError> for TransactionError<E> {
    fn from(error: StoreError) -> Self {
        Self::Storage(error)
    }
}

/// A dead letter that was not sent again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// The receiver's name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There is no such dead letter.
    #[error("there is no dead letter {id} of {receiver}")]
    NotFound {
        /// The receiver that was asked for.
        receiver: NodeId,
        /// The message that was asked for.
        id: MessageId,
    },
    /// It has been sent again already.
    #[error("dead letter {id} has been sent again already, as {redriven_as}")]
    AlreadyRedriven {
        /// The message that was asked for.
        id: MessageId,
        /// The message that was sent in its place.
        redriven_as: MessageId,
    },
    /// The file no longer holds it as it was sent.
    #[error("dead letter {id} is damaged and cannot be sent again")]
    Damaged {
        /// The message that was asked for.
        id: MessageId,
    },
    /// The new message was not accepted.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl From<StoreError> for RedriveError {
    fn from(error: StoreError) -> Self {
        Self::Send(error.into())
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

/// A node that did not start. What was opened is closed again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings are wrong or contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The node's file.
    #[error(transparent)]
    Storage(#[from] StoreOpenError),
    /// A certificate, key or credentials file.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Another node with this id is alive.
    #[error(
        "another node named {id} is alive on host {host:?} (run {incarnation}): stop it, or give this one another id"
    )]
    DuplicateNode {
        /// The id.
        id: NodeId,
        /// The other's host.
        host: String,
        /// The other's run.
        incarnation: Incarnation,
    },
    /// The operating system gave no thread, or it ended at once.
    #[error("the node's thread could not be started")]
    Thread(#[source] std::io::Error),
}

/// A question to a running node that was not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
    /// A name that is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}

/// A channel could not be joined, left or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The channel's name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The node joined the channel as a writer.
    #[error("this node only writes {channel:?}: join it as Reader or ReadWrite to receive")]
    NotAReader {
        /// The channel.
        channel: ChannelName,
    },
    /// No keepalive could announce another one.
    #[error(
        "this node has joined {limit} channels, which is the limit: leave some, or use kinds to tell messages apart"
    )]
    TooMany {
        /// The most that a node can join.
        limit: usize,
    },
    /// The node was kicked, from all channels or from this one.
    #[error(
        "{by} kicked this node from {channel:?}: it can join again after readmit, or a restart"
    )]
    Kicked {
        /// From where.
        channel: ChannelName,
        /// Who.
        by: NodeId,
    },
    /// The channel was left.
    #[error("this node has left {channel:?}: join it again")]
    NotJoined {
        /// The channel.
        channel: ChannelName,
    },
    /// The file could not be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// The node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

impl From<NodeError> for ChannelError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::ShutDown => Self::ShutDown,
            NodeError::Name(error) => Self::Name(error),
            NodeError::Storage(error) => Self::Storage(error),
        }
    }
}

/// A message that could not be acknowledged. It comes again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// It was answered before.
    #[error("the message was answered before")]
    Answered,
    /// The file could not be written.
    #[error(transparent)]
    Storage(#[from] StoreError),
}
