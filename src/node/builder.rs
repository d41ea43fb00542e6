//! The settings of a node, one call each, and the start.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::Node;
use crate::config::{
    Audit, Auth, Batching, Config, Durability, Election, ElectionTimes, Management, Overflow, Tls,
    WallClock,
};
use crate::message::{NameError, NodeId};
use crate::refusal::StartError;

/// Collects settings; see [`Config`] for what each means, its default and its unit. Nothing is checked before
/// [`start`](Self::start).
#[derive(Debug, Clone, Default)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    config: Config,
    bad_name: Option<NameError>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty),+ $(,)?) => {
        $($(#[$doc])*
        pub fn $name(mut self, $name: $type) -> Self {
            self.config.$name = $name;
            self
        })+
    };
}

impl Builder {
    /// Begins with these settings instead of the defaults.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// The node's name.
    pub fn id(mut self, id: impl AsRef<str>) -> Self {
        match NodeId::new(id) {
            Ok(id) => self.config.id = Some(id),
            Err(error) => self.bad_name = Some(error),
        }
        self
    }

    /// The NATS servers, tried in turn.
    pub fn nats<S: Into<String>>(mut self, servers: impl IntoIterator<Item = S>) -> Self {
        self.config.nats = servers.into_iter().map(Into::into).collect();
        self
    }

    /// The node's file; `{id}` stands for the node's name.
    pub fn storage(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.storage = Some(path.into());
        self
    }

    /// The first part of every subject.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.config.prefix = prefix.into();
        self
    }

    setters! {
        /// How long a start waits for the file while somebody else has it.
        lock_wait: Duration,
        /// Who we are to the NATS server.
        auth: Auth,
        /// Encryption of the connection.
        tls: Tls,
        /// Compress payloads where that makes them smaller.
        compression: bool,
        /// Largest payload in bytes.
        max_payload_bytes: usize,
        /// Time between two keepalives.
        keepalive_interval: Duration,
        /// A peer that was not heard for this long is offline.
        offline_after: Duration,
        /// A peer that has been offline for this long is forgotten.
        peer_expiry: Duration,
        /// How long a message may wait if it says nothing itself.
        message_ttl: Option<Duration>,
        /// How many messages travel together.
        batching: Batching,
        /// How long to wait for an answer to a frame.
        ack_timeout: Duration,
        /// The pause after a first failed attempt.
        retry_delay: Duration,
        /// The longest pause between two attempts.
        max_retry_delay: Duration,
        /// Attempts at one message before it becomes a dead letter.
        max_attempts: NonZeroU32,
        /// Most messages that may wait for one receiver.
        queue_limit: NonZeroUsize,
        /// Most bytes that the node's files take together.
        storage_limit: Option<NonZeroU64>,
        /// What happens at the queue limit and the storage limit.
        overflow: Overflow,
        /// When `send` says Ok.
        durability: Durability,
        /// When a plain `Ok` of a handler is acknowledged.
        inbox_durability: Durability,
        /// Most handlers that run at the same time.
        max_handlers: NonZeroUsize,
        /// A handler that runs longer is taken for failed.
        handler_timeout: Option<Duration>,
        /// How long settled messages stay in the file.
        retention: Duration,
        /// Who elects a master.
        election: Election,
        /// How long everything takes in an election.
        election_times: ElectionTimes,
        /// Largest state that a master hands on.
        max_state_bytes: usize,
        /// Whether the wall clock counts the time in which the machine was off.
        clock: WallClock,
        /// What of the node's decisions is kept on record.
        audit: Audit,
        /// How long `shutdown` waits.
        shutdown_timeout: Duration,
        /// Who may give this node orders.
        management: Management,
    }

    /// Starts the node. Must be called in a tokio runtime, on which handlers will run.
    ///
    /// When this returns, the file is open and messages can be sent; they wait where there is no NATS server yet. With a server
    /// that answers within a second the node is connected; with one that refuses our credentials the node starts all the same,
    /// and [`Node::status`] says so. Cancelling closes what was opened.
    ///
    /// # Errors
    /// The settings are wrong or contradict each other; a certificate or credentials file can't be read; the file can't be
    /// opened, is not ours, is from a newer version, is damaged, or in use; another node with this id is alive.
    pub async fn start(self) -> Result<Node, StartError> {
        if let Some(error) = self.bad_name {
            return Err(StartError::Config(error.into()));
        }
        super::start::start(self.config).await
    }
}
