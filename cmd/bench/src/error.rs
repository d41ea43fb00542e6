//! How a run can fail.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use waypost::error::{ChannelError, NodeError, SendError, StartError, StoreError};

/// Why a run ended before its results.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// Nobody answers there.
    #[error(
        "no NATS server at {url}: start one (scripts/bench gets its own), or name another with --nats"
    )]
    NoServer {
        /// Where.
        url: String,
        /// What the client says.
        #[source]
        source: async_nats::ConnectError,
    },
    /// Somebody answers, and does not let us in.
    #[error("the NATS server at {url} refuses our credentials")]
    Refused {
        /// Where.
        url: String,
        /// What the client says.
        #[source]
        source: async_nats::ConnectError,
    },
    /// What the client says about a file of ours.
    #[error("the credentials or certificates for the NATS server can't be used")]
    Credentials(#[source] io::Error),
    /// The server of a run went away.
    #[error(
        "the NATS server at {url} went away during {during}: what was measured is worth nothing, run it again"
    )]
    ServerLost {
        /// Which.
        url: String,
        /// What was being measured.
        during: String,
    },
    /// The client of an anchor failed.
    #[error("request and reply through {url} failed: {reason}")]
    Request {
        /// The server.
        url: String,
        /// What the client says.
        reason: String,
    },
    /// A folder or file cannot be used.
    #[error("{path} can't be used: {reason}")]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// No room.
    #[error(
        "the disk of {path} is full: choose another with --dir; `drain` and `backlog` need 3 GB"
    )]
    Full {
        /// Where the nodes' files lie.
        path: PathBuf,
    },
    /// Nothing happens.
    #[error("{what}: nothing came for {}", humantime::format_duration(*.after))]
    Stalled {
        /// What was awaited.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// It was over before it could be measured.
    #[error("{what}: over before it could be measured; give a longer --seconds")]
    Short {
        /// What.
        what: String,
    },
    /// A node in a process of its own failed.
    #[error("{what} failed: {reason}")]
    Part {
        /// What it was asked for.
        what: String,
        /// What it said.
        reason: String,
    },
    /// A node did not start.
    #[error("a node of the bench does not start")]
    Start(#[from] StartError),
    /// A message was refused.
    #[error("a node of the bench refused a message")]
    Send(#[source] SendError),
    /// A node failed.
    #[error("a node of the bench failed")]
    Node(#[from] NodeError),
    /// A channel failed.
    #[error("a node of the bench failed")]
    Channel(#[from] ChannelError),
    /// A task of the bench panicked.
    #[error("a task of the bench failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

impl From<SendError> for BenchError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::StorageFull { path } => Self::Full { path },
            SendError::Storage(StoreError::Full { path }) => Self::Full { path },
            other => Self::Send(other),
        }
    }
}

/// What the disk says of this folder or file.
pub(crate) fn unusable(path: &Path, error: &io::Error) -> BenchError {
    match error.kind() {
        io::ErrorKind::StorageFull => BenchError::Full { path: path.to_owned() },
        _ => BenchError::Folder { path: path.to_owned(), reason: error.to_string() },
    }
}
