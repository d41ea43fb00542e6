//! What can go wrong at the crate's boundaries: one enum each.

use std::path::{Path, PathBuf};

use crate::condition::Health;
pub use crate::config::ConfigError;
pub use crate::inspect::InspectError;
pub use crate::management::OrderError;
use crate::message::{ChannelName, Incarnation, MessageId, NodeId};
pub use crate::message::{InvalidMessage, NameError};
pub use crate::protocol::election::StaleToken;
use crate::protocol::election::Term;
use crate::reason::Reason;
pub use crate::store::open::OpenError;
pub use crate::transport::nats::ConnectError;

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

/// A state that was not set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetStateError {
    /// Another node is master, or none.
    #[error("only the master sets the state, and {}", match master {
        Some((node, term)) => format!("that is {node} (term {term}): set it there"),
        None => "there is none at the moment".to_owned(),
    })]
    NotMaster {
        /// Who is, as this node knows.
        master: Option<(NodeId, Term)>,
    },
    /// This node is about to hand its mastership over.
    #[error("this node is handing its mastership over: set the state on the next master")]
    HandingOver,
    /// The state is too large.
    #[error(
        "the state would be {actual} bytes, limit {limit}: keep it small, or raise max_state_bytes, and the NATS server's max_payload with it"
    )]
    TooLarge {
        /// How large it would be, as JSON.
        actual: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Too many calls wait for their majority.
    #[error("{limit} calls wait for their majority already: wait for some of them")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// Mastership was lost meanwhile.
    #[error(
        "mastership was lost while the state was on its way: it may be set or not; read it from the next master"
    )]
    Unknown,
    /// The value is none that JSON can express.
    #[error("the state cannot be written as JSON")]
    NotJson(#[from] serde_json::Error),
    /// A field was to be set in a state that has none.
    #[error("the state is no JSON object, so it has no fields: set the whole of it")]
    NotAnObject,
    /// There is no election.
    #[error("this node takes part in no election: name voters in its settings")]
    Off,
    /// The node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

/// A mastership that was not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandOverError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// This node is not master.
    #[error("this node is not master: it has nothing to hand over")]
    NotMaster,
    /// The node that was named has no vote, or is not seen.
    #[error("{node} has no vote, or is not seen: it cannot be master")]
    NoVoter {
        /// Who was named.
        node: NodeId,
    },
    /// Nobody took it over in time. This node is master no longer; the others elect.
    #[error("nobody took over in time: this node is master no longer, and the others elect one")]
    NobodyTookOver,
    /// There is no election.
    #[error("this node takes part in no election")]
    Off,
    /// The node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
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
        self.is_no_room() || matches!(self, Self::Failed { .. })
    }

    /// Whether the same call may succeed later without anyone changing the program.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Limit { .. } | Self::Failed { .. } | Self::Unanswered => true,
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
    /// Other consumers of the channel follow the one that asked.
    #[error(
        "{channel} has consumers that get the message after this one: attach the one that takes messages in a transaction last"
    )]
    NotLast {
        /// The message's channel.
        channel: ChannelName,
    },
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
    #[error("{} (node {id}, run {incarnation})", Reason::NameTaken { host: host.clone() })]
    DuplicateNode {
        /// The id.
        id: NodeId,
        /// The other's host.
        host: String,
        /// The other's run.
        incarnation: Incarnation,
    },
    /// What this node has promised in elections is damaged in its file: it could vote twice in a term.
    #[error(
        "what this node has promised in elections is damaged in {path}: it could vote twice. Start it with election = \"off\", or with a new file under a new name, which replaces the old one in the lists of voters"
    )]
    ElectionDamaged {
        /// The node's file.
        path: PathBuf,
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
    #[error("{}", Reason::KickedFrom { by: by.clone(), channel: channel.clone() })]
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
