//! What a node says where it does not do what its program, or another node, asks: the errors of its calls, which the driver answers.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::ConfigError;
use crate::message::{ChannelName, Incarnation, NameError, NodeId, Term};
use crate::reason::Reason;
use crate::store::{StoreError, StoreOpenError};
use crate::transport::nats::ConnectError;

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

/// An order, or a question, that was not obeyed or answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OrderError {
    /// The name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The node is not online. Nothing is kept for it.
    #[error("{node} is not online: nothing was sent, and nothing waits for it")]
    Offline {
        /// Who.
        node: NodeId,
    },
    /// No answer came in time: it may have been obeyed.
    #[error(
        "{node} did not answer within {within:?}: it may have obeyed; see its audit, and whether the NATS server lets us give orders"
    )]
    Unanswered {
        /// Who.
        node: NodeId,
        /// How long was waited.
        within: Duration,
    },
    /// The node refused.
    #[error("{node} refused: {reason}")]
    Refused {
        /// Who.
        node: NodeId,
        /// In its words.
        reason: String,
    },
    /// This node is not connected to its NATS server.
    #[error("this node is not connected: nothing was sent, and nothing waits")]
    NotConnected,
    /// This node has too many orders under way.
    #[error("{limit} orders are under way: wait until some are answered")]
    TooMany {
        /// How many may be.
        limit: usize,
    },
    /// The own file could not be read or written.
    #[error(transparent)]
    Storage(#[from] StoreError),
    /// This node has been shut down.
    #[error("the node has been shut down")]
    ShutDown,
}

impl From<NodeError> for OrderError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::ShutDown => Self::ShutDown,
            NodeError::Name(error) => Self::Name(error),
            NodeError::Storage(error) => Self::Storage(error),
        }
    }
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
