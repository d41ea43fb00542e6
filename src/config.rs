//! A node's settings: defaults, units, and what contradicts what.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::message::{NameError, NodeId};
use crate::notation::{duration, optional_duration};
use crate::policy::{MAX_MESSAGES, MAX_STATE_BYTES};

mod election;
mod secret;
mod size;

pub use crate::policy::{Management, Times as ElectionTimes};
pub use election::Election;

/// When a committed write is safe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Every commit waits for an fsync: a power cut loses nothing (`synchronous=FULL`).
    #[default]
    Full,
    /// The operating system writes when it likes: a killed process loses nothing, a power cut can lose the last
    /// seconds (`synchronous=NORMAL`).
    Normal,
}

/// What `send` does when a receiver has as many messages waiting as [`Config::queue_limit`] allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// `send` fails, naming the receiver and its backlog. Nothing is stored.
    #[default]
    Reject,
    /// The receiver's oldest waiting messages give way. They are counted as purged, monitors get an event, and the receiver
    /// is told of the gap.
    DropOldest,
}

/// Whether the wall clock counts the time in which the machine was off. While it is on, even suspended, the time is known exactly, whatever the
/// wall clock shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WallClock {
    /// Where something shows that it was right before and after: it was synchronised, or agrees with a battery-backed clock.
    #[default]
    Auto,
    /// Always. A wall clock that starts at a wrong time and is corrected later then ends the life of messages.
    Always,
    /// Never: only the time in which the machine is on counts.
    Never,
}

/// How a node proves to the NATS server who it is. `Debug` masks its secrets; serialized it holds them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A token.
    #[serde(deserialize_with = "secret::text")]
    pub token: Option<String>,
    /// A user name; needs `password`.
    #[serde(deserialize_with = "secret::text")]
    pub user: Option<String>,
    /// The user's password.
    #[serde(deserialize_with = "secret::text")]
    pub password: Option<String>,
    /// An nkey seed (`SU...`).
    #[serde(deserialize_with = "secret::text")]
    pub nkey: Option<String>,
    /// A `.creds` file with a JWT and its seed.
    pub creds_file: Option<PathBuf>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mask = |secret: &Option<String>| secret.as_ref().map(|_| "***");
        f.debug_struct("Auth")
            .field("token", &mask(&self.token))
            .field("user", &self.user)
            .field("password", &mask(&self.password))
            .field("nkey", &mask(&self.nkey))
            .field("creds_file", &self.creds_file)
            .finish()
    }
}

/// How the connection to the NATS server is encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// Refuse a connection that is not encrypted.
    pub required: bool,
    /// PEM files of certificates to trust besides the system's.
    pub root_certificates: Vec<PathBuf>,
    /// The client's certificate, a PEM file; needs `client_key`.
    pub client_certificate: Option<PathBuf>,
    /// The client's key, a PEM file.
    pub client_key: Option<PathBuf>,
}

/// How many messages travel together. One frame is in flight to a receiver at any time, whatever it holds, and it is answered once all
/// its messages are handled and committed. That is several times the throughput, and costs this: a receiver that is killed may be handed
/// again what it had handled of the frame without a transaction of the message's own, instead of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Batching {
    /// Most messages in one frame, at most 1,024. Default: 1, which turns batching off.
    pub max_messages: NonZeroUsize,
    /// How long a message waits for others to travel with, while fewer than `max_messages` wait; at most 10 s. Default: 0: what waits
    /// when the last answer comes travels together.
    #[serde(with = "duration")]
    pub max_wait: Duration,
}

impl Batching {
    /// Frames of up to so many messages, of those that wait anyway.
    pub fn up_to(max_messages: NonZeroUsize) -> Self {
        Self { max_messages, ..Self::default() }
    }
}

impl Default for Batching {
    fn default() -> Self {
        Self { max_messages: NonZeroUsize::MIN, max_wait: Duration::ZERO }
    }
}

/// What of a node's decisions is kept on record in its file; `waypost audit` shows it. What is done to messages (purged, forgotten, expired
/// peers) and to the file always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Audit {
    /// Who became master and when, and why it no longer was. Default: true.
    pub elections: bool,
    /// Each state that a master handed on, by its version and size. Default: false.
    pub states: bool,
    /// Orders that this node was given, obeyed or refused. Default: true.
    pub management: bool,
    /// How long all of it is kept. Default: 90 days.
    #[serde(with = "duration")]
    pub retention: Duration,
}

impl Default for Audit {
    fn default() -> Self {
        let retention = Duration::from_secs(90 * 86_400);
        Self { elections: true, states: false, management: true, retention }
    }
}

/// All settings of a node. `Config::default()` is what most want; [`Config::validate`] is called by every start.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// This node's name, unique among all nodes with the same prefix. Default: none: the one kept in the file, or for a new file one made from
    /// the host's name.
    pub id: Option<NodeId>,
    /// NATS servers, tried in turn. Default: `nats://localhost:4222`.
    #[serde(deserialize_with = "secret::addresses")]
    pub nats: Vec<String>,
    /// Who we are to the NATS server. Default: nobody.
    #[serde(deserialize_with = "secret::section")]
    pub auth: Auth,
    /// Encryption of the connection. Default: as the server asks, with the system's certificates.
    pub tls: Tls,
    /// The node's file; `{id}` stands for the node's name. Default: `./waypost-{id}.db`, or `./waypost.db` where no id is given.
    pub storage: Option<PathBuf>,
    /// How long a start waits for the file while another process, or another node of this one, has it. Default: 10 s. At 0 it is
    /// refused at once.
    #[serde(with = "duration")]
    pub lock_wait: Duration,
    /// The first part of every subject; nodes with different prefixes do not see each other. Default: `waypost`.
    pub prefix: String,
    /// Compress payloads where that makes them smaller. Default: true.
    pub compression: bool,
    /// Largest payload in bytes. Default: 1,000,000, which leaves room for a frame's header in a NATS server's usual 1 MiB.
    /// Memory in use grows with it.
    pub max_payload_bytes: usize,
    /// Time between two keepalives. Default: 10 s. Shorter finds losses faster and costs a small broadcast each.
    #[serde(with = "duration")]
    pub keepalive_interval: Duration,
    /// A peer that was not heard for this long is offline. Default: 30 s.
    #[serde(with = "duration")]
    pub offline_after: Duration,
    /// A peer that has been offline for this long is forgotten, with what still waited for it. Default: 7 days.
    #[serde(with = "duration")]
    pub peer_expiry: Duration,
    /// Most peers that are remembered. Default: 4,096. Memory grows with it, by about a kilobyte each.
    pub max_peers: NonZeroUsize,
    /// How long a message may wait if it says nothing itself; none: for ever. Default: 7 days.
    #[serde(with = "optional_duration")]
    pub message_ttl: Option<Duration>,
    /// How many messages travel together. Default: one at a time.
    pub batching: Batching,
    /// How long to wait for an answer to a frame before it is sent again. Default: 10 s.
    #[serde(with = "duration")]
    pub ack_timeout: Duration,
    /// The pause after a first failed attempt; doubles with each further one, with jitter. Default: 1 s.
    #[serde(with = "duration")]
    pub retry_delay: Duration,
    /// The longest pause between two attempts. Default: 5 min.
    #[serde(with = "duration")]
    pub max_retry_delay: Duration,
    /// Attempts at one message, made while its receiver is online, before it becomes a dead letter. Default: 10.
    pub max_attempts: NonZeroU32,
    /// Most messages that may wait for one receiver. Default: 1,000,000. A backlog costs disk, not memory. Warnings name the receiver that is
    /// furthest behind at 50, 80 and 95 %: [`Event::LimitNear`](crate::Event::LimitNear).
    pub queue_limit: NonZeroUsize,
    /// Most bytes that the node's files take together: the database, its log and index, and the reserve for a full disk; what is free in the
    /// database counts as free. Warnings at 50, 80 and 95 % name the receiver for whom most waits. At the limit settled messages give way, whatever `retention` says; then `overflow` decides. At least
    /// 4 MiB. Default: none: 10 GiB, or 0.8 times what the files take and the disk has free, if that is less.
    #[serde(with = "size")]
    pub storage_limit: Option<NonZeroU64>,
    /// What happens at `queue_limit` and `storage_limit`. Default: [`Overflow::Reject`].
    pub overflow: Overflow,
    /// When `send` says Ok. Default: [`Durability::Full`].
    pub durability: Durability,
    /// When a plain `Ok` of a handler is acknowledged. Default: [`Durability::Normal`]: the inbox row is committed, not fsynced, so that a power
    /// cut at the receiver can make it receive a last message again. A transaction of the handler's own is always fsynced.
    pub inbox_durability: Durability,
    /// Most handlers that run at the same time. Default: 64. Handlers of one sender's lane never run side by side.
    pub max_handlers: NonZeroUsize,
    /// A handler that runs longer is taken for failed. Default: none: it may take as long as it likes.
    #[serde(with = "optional_duration")]
    pub handler_timeout: Option<Duration>,
    /// How long settled messages stay in the file. Default: 3 days.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// Time between two clean-ups of the file. Default: 1 h.
    #[serde(with = "duration")]
    pub cleanup_interval: Duration,
    /// How long `shutdown` waits for handlers and for what still waits for peers that are online. Default: 10 s.
    #[serde(with = "duration")]
    pub shutdown_timeout: Duration,
    /// Who may give this node orders: kick it, purge its queue, drain it. Default: anyone whom the NATS server lets publish orders.
    pub management: Management,
    /// Who elects a master. Default: nobody.
    pub election: Election,
    /// How long everything takes in an election. Default: a master that dies is followed by another within 3 to 4 seconds.
    pub election_times: ElectionTimes,
    /// Largest state, in bytes of JSON, that a master hands on. Default: 262,144. All of it goes to every node whenever it is set.
    pub max_state_bytes: usize,
    /// Whether the wall clock counts the time in which the machine was off. Default: [`WallClock::Auto`].
    pub clock: WallClock,
    /// What of a node's decisions is kept on record. Default: what elections and orders decide, for 90 days.
    pub audit: Audit,
}

impl Default for Config {
    fn default() -> Self {
        const fn nonzero<const N: usize>() -> NonZeroUsize {
            NonZeroUsize::new(N).expect("a constant above zero")
        }
        Self {
            id: None,
            nats: vec!["nats://localhost:4222".to_owned()],
            auth: Auth::default(),
            tls: Tls::default(),
            storage: None,
            lock_wait: Duration::from_secs(10),
            prefix: "waypost".to_owned(),
            compression: true,
            max_payload_bytes: 1_000_000,
            keepalive_interval: Duration::from_secs(10),
            offline_after: Duration::from_secs(30),
            peer_expiry: Duration::from_secs(7 * 86_400),
            max_peers: nonzero::<4096>(),
            message_ttl: Some(Duration::from_secs(7 * 86_400)),
            batching: Batching::default(),
            ack_timeout: Duration::from_secs(10),
            retry_delay: Duration::from_secs(1),
            max_retry_delay: Duration::from_secs(300),
            max_attempts: NonZeroU32::new(10).expect("ten is not zero"),
            queue_limit: nonzero::<1_000_000>(),
            storage_limit: None,
            overflow: Overflow::default(),
            durability: Durability::default(),
            inbox_durability: Durability::Normal,
            max_handlers: nonzero::<64>(),
            handler_timeout: None,
            retention: Duration::from_secs(3 * 86_400),
            cleanup_interval: Duration::from_secs(3_600),
            shutdown_timeout: Duration::from_secs(10),
            management: Management::default(),
            election: Election::default(),
            election_times: ElectionTimes::default(),
            max_state_bytes: 256 * 1024,
            clock: WallClock::default(),
            audit: Audit::default(),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As TOML-like pairs; `Auth` masks its secrets, and so must the servers' addresses.
        f.debug_struct("Config")
            .field("id", &self.id)
            .field("nats", &self.nats.iter().map(|url| mask_url(url)).collect::<Vec<_>>())
            .field("auth", &self.auth)
            .field("tls", &self.tls)
            .field("storage", &self.storage)
            .field("prefix", &self.prefix)
            .field("max_payload_bytes", &self.max_payload_bytes)
            .field("keepalive_interval", &self.keepalive_interval)
            .field("offline_after", &self.offline_after)
            .field("message_ttl", &self.message_ttl)
            .field("ack_timeout", &self.ack_timeout)
            .field("queue_limit", &self.queue_limit)
            .field("storage_limit", &self.storage_limit)
            .field("overflow", &self.overflow)
            .field("durability", &self.durability)
            .field("management", &self.management)
            .field("election", &self.election)
            .finish_non_exhaustive()
    }
}

/// The address without a user, password or token that stands in it.
pub(crate) fn mask_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(s, r)| (s, r));
    let shown = match rest.rsplit_once('@') {
        Some((_, host)) => format!("***@{host}"),
        None => rest.to_owned(),
    };
    if scheme.is_empty() { shown } else { format!("{scheme}://{shown}") }
}

/// A hundred years. Added to the clock, a much longer time would overflow it.
const LONGEST: Duration = Duration::from_secs(100 * 31_557_600);
/// The least that a node's files may be held to, in bytes.
const LEAST_STORAGE: u64 = 4 * 1024 * 1024;
/// Longest time that a message waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// A setting that is wrong by itself or contradicts another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The node's name is not valid.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A value, or two values together, that make no sense. The text names the fields and their values.
    #[error("{0}")]
    Contradiction(String),
}

impl Config {
    /// Checks every field and every pair of fields that can contradict each other.
    ///
    /// # Errors
    /// The first contradiction, with the names and values of the fields.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let fail = |text: String| Err(ConfigError::Contradiction(text));
        let show = |d: Duration| humantime::format_duration(d).to_string();
        for (name, value) in [
            ("keepalive_interval", self.keepalive_interval),
            ("offline_after", self.offline_after),
            ("peer_expiry", self.peer_expiry),
            ("ack_timeout", self.ack_timeout),
            ("retry_delay", self.retry_delay),
            ("cleanup_interval", self.cleanup_interval),
        ] {
            if value < Duration::from_millis(1) {
                return fail(format!("{name} ({}) must be at least 1ms", show(value)));
            }
        }
        for (name, value) in self.durations() {
            if value > LONGEST {
                return fail(format!("{name} ({}) must be at most {}", show(value), show(LONGEST)));
            }
        }
        let Batching { max_messages, max_wait } = self.batching;
        if max_messages.get() > MAX_MESSAGES {
            return fail(format!(
                "batching.max_messages ({max_messages}) must be at most {MAX_MESSAGES}"
            ));
        }
        if max_wait > LONGEST_WAIT {
            return fail(format!(
                "batching.max_wait ({}) must be at most {}",
                show(max_wait),
                show(LONGEST_WAIT)
            ));
        }
        if self.message_ttl == Some(Duration::ZERO) {
            return fail(
                "message_ttl (0s) would expire every message at once: give a time, or none"
                    .to_owned(),
            );
        }
        if self.handler_timeout == Some(Duration::ZERO) {
            return fail(
                "handler_timeout (0s) would fail every handler: give a time, or none".to_owned(),
            );
        }
        for (short, shorter, long, longer) in [
            ("keepalive_interval", self.keepalive_interval, "offline_after", self.offline_after),
            ("offline_after", self.offline_after, "peer_expiry", self.peer_expiry),
        ] {
            if shorter >= longer {
                return fail(format!(
                    "{short} ({}) must be shorter than {long} ({})",
                    show(shorter),
                    show(longer)
                ));
            }
        }
        if self.retry_delay > self.max_retry_delay {
            return fail(format!(
                "retry_delay ({}) must not be longer than max_retry_delay ({})",
                show(self.retry_delay),
                show(self.max_retry_delay)
            ));
        }
        if !(1..=64 * 1024 * 1024).contains(&self.max_payload_bytes) {
            return fail(format!(
                "max_payload_bytes ({}) must be from 1 to 67108864, the most that a NATS server allows",
                self.max_payload_bytes
            ));
        }
        if let Some(limit) = self.storage_limit.filter(|limit| limit.get() < LEAST_STORAGE) {
            return fail(format!("storage_limit ({limit}) must be at least {LEAST_STORAGE} bytes"));
        }
        let named = self.storage.as_ref().and_then(|path| path.to_str());
        if self.id.is_none() && named.is_some_and(|path| path.contains("{id}")) {
            return fail("storage holds {id}, and there is no id: give the node's name with --id, or id in the settings".to_owned());
        }
        let prefix_is_a_subject = self.prefix.len() <= 128
            && self.prefix.split('.').all(|token| {
                !token.is_empty()
                    && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
            });
        if !prefix_is_a_subject {
            let start: String = self.prefix.chars().take(80).collect();
            return fail(format!(
                "prefix {start:?} is not valid: use words of A-Z a-z 0-9 _ - with dots between them, at most 128 bytes"
            ));
        }
        if self.management == Management::Only(Vec::new()) {
            return fail(
                "management names nobody: give names, or \"off\" for no orders at all".to_owned(),
            );
        }
        if !(2..=MAX_STATE_BYTES).contains(&self.max_state_bytes) {
            return fail(format!(
                "max_state_bytes ({}) must be from 2 to {MAX_STATE_BYTES}",
                self.max_state_bytes
            ));
        }
        if let Err(error) = self.validate_election() {
            return fail(error.to_string());
        }
        if let Some(voter) = self.odd_voter() {
            return fail(format!(
                "election names {:?} as a voter: write \"off\" or \"visible\" as a text, or give the node another name",
                voter.as_str()
            ));
        }
        self.validate_connection()
    }

    fn durations(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        [
            ("keepalive_interval", Some(self.keepalive_interval)),
            ("offline_after", Some(self.offline_after)),
            ("peer_expiry", Some(self.peer_expiry)),
            ("message_ttl", self.message_ttl),
            ("ack_timeout", Some(self.ack_timeout)),
            ("retry_delay", Some(self.retry_delay)),
            ("max_retry_delay", Some(self.max_retry_delay)),
            ("handler_timeout", self.handler_timeout),
            ("retention", Some(self.retention)),
            ("audit.retention", Some(self.audit.retention)),
            ("cleanup_interval", Some(self.cleanup_interval)),
            ("shutdown_timeout", Some(self.shutdown_timeout)),
            ("lock_wait", Some(self.lock_wait)),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    fn validate_connection(&self) -> Result<(), ConfigError> {
        let fail = |text: &str| Err(ConfigError::Contradiction(text.to_owned()));
        if self.nats.is_empty() {
            return fail("nats is empty: name at least one server, like nats://localhost:4222");
        }
        if let Some(bad) =
            self.nats.iter().find(|url| url.trim().is_empty() || url.contains(char::is_whitespace))
        {
            return Err(ConfigError::Contradiction(format!(
                "nats server {:?} is not an address: write it like nats://localhost:4222",
                mask_url(bad)
            )));
        }
        let Auth { token, user, password, nkey, creds_file } = &self.auth;
        if user.is_some() != password.is_some() {
            return fail("auth.user and auth.password belong together: give both or neither");
        }
        let ways = [token.is_some(), user.is_some(), nkey.is_some(), creds_file.is_some()];
        if ways.into_iter().filter(|given| *given).count() > 1 {
            return fail(
                "auth has several ways to log in: give one of token, user and password, nkey, creds_file",
            );
        }
        if self.tls.client_certificate.is_some() != self.tls.client_key.is_some() {
            return fail(
                "tls.client_certificate and tls.client_key belong together: give both or neither",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
