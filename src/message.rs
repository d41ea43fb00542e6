//! Validated names, identifiers and the message itself.
//!
//! Every type here can only be built from a value that passed its check, so the rest of the crate never
//! meets a bad name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

mod body;
mod names;
mod token;

use names::{excerpt, only};

pub use body::{Body, BodyError, Encoding};
pub use names::{
    ChannelName, Incarnation, Kind, MAX_CHANNEL_BYTES, MAX_KIND_BYTES, MAX_NODE_ID_BYTES,
    MessageId, NameError, NodeId, StoreId,
};
pub use token::{NotAToken, TOKEN_HEADER, Term, TermTooHigh, Token};

/// Most headers that one message may carry.
pub const MAX_HEADERS: usize = 64;
/// Most bytes that the names and values of all headers of one message may have together.
pub const MAX_HEADER_BYTES: usize = 16 * 1024;

/// The header that says what the payload is; set by [`NewMessage::text`] and [`NewMessage::json`].
pub const CONTENT_TYPE: &str = "content-type";

/// A message's lane. Lanes are delivered high first; order holds within a lane.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others.
    High,
    /// The default.
    #[default]
    Normal,
    /// When nothing else waits.
    Low,
}

impl Priority {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The number that stands for the lane in the file and on the wire; the most urgent is 0.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::High => 0,
            Self::Normal => 1,
            Self::Low => 2,
        }
    }

    /// The lane with this number.
    pub(crate) fn from_index(index: i64) -> Option<Self> {
        usize::try_from(index).ok().and_then(|i| Self::ALL.get(i).copied())
    }

    /// The lane's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|lane| lane.as_str() == text)
            .ok_or_else(|| format!("priority {:?} is not one of high, normal, low", excerpt(text)))
    }
}

/// How a node takes part in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Receives only.
    Reader,
    /// Sends only.
    Writer,
    /// Sends and receives. A node does not receive its own messages.
    ReadWrite,
}

impl Mode {
    /// Whether the node receives.
    pub const fn reads(self) -> bool {
        matches!(self, Self::Reader | Self::ReadWrite)
    }

    /// Whether the node sends.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Writer | Self::ReadWrite)
    }

    /// The mode's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Writer => "writer",
            Self::ReadWrite => "readwrite",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a new reader of a channel begins in what others sent before they knew it. It counts only at the first
/// acquaintance of a sender and this reader; afterwards the sender's file remembers where the reader is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// With what is sent after the sender heard of this reader.
    Now,
    /// With what was sent since this node joined the channel, and what waits there because nobody has ever read it. The default.
    /// As the announcement of a join takes time, messages of up to one keepalive interval before it can be among them.
    #[default]
    Joined,
    /// With all that the sender still has, settled messages within its retention included.
    All,
    /// With what was sent within this many milliseconds before the join.
    SinceMs(u64),
}

impl StartAt {
    /// With what was sent within this time before the join.
    pub fn since(age: Duration) -> Self {
        Self::SinceMs(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }
}

/// Headers: short text values that travel with a message, sorted by name.
pub type Headers = BTreeMap<String, String>;

pub(crate) fn check_headers(headers: &Headers) -> Result<(), NameError> {
    let bytes = headers.iter().map(|(k, v)| k.len() + v.len()).sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        let count = headers.len();
        return Err(NameError::HeadersTooLarge { count, bytes });
    }
    for (name, value) in headers {
        if !only(name, 128, b"_-.") {
            return Err(NameError::HeaderName(excerpt(name)));
        }
        if value.chars().any(char::is_control) {
            return Err(NameError::HeaderValue(excerpt(name)));
        }
    }
    Ok(())
}

/// What was wrong with a message that was to be sent. Nothing was stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// A kind, target or header was refused.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The value could not be turned into JSON.
    #[error("the value does not serialize to JSON")]
    Json(#[source] serde_json::Error),
    /// The payload is larger than the node's configuration allows.
    #[error("payload is {actual} bytes, limit {limit}: split it or raise max_payload_bytes")]
    PayloadTooLarge {
        /// The payload's size in bytes.
        actual: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A time to live of zero.
    #[error(
        "a time to live of zero would expire the message before it is sent: give a longer one, or none"
    )]
    ZeroTtl,
}

/// A message to be sent: a payload and how to deliver it. Built from text, bytes or JSON; checked by the `send` that takes
/// it, so that building never fails.
///
/// ```
/// use std::time::Duration;
/// use waypost::{NewMessage, Priority};
/// let message = NewMessage::text("reactor at 80 %")
///     .kind("reading")
///     .priority(Priority::High)
///     .ttl(Duration::from_secs(60))
///     .header("unit", "percent");
/// # let _ = message;
/// ```
#[derive(Debug)]
#[must_use = "a message does nothing until it is sent"]
pub struct NewMessage {
    payload: Result<Bytes, serde_json::Error>,
    kind: Option<String>,
    target: Option<String>,
    priority: Priority,
    ttl: Ttl,
    headers: Headers,
}

/// How long a message may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ttl {
    Default,
    Never,
    After(Duration),
}

impl NewMessage {
    /// A message of these bytes, without a content type.
    pub fn bytes(payload: impl Into<Bytes>) -> Self {
        Self {
            payload: Ok(payload.into()),
            kind: None,
            target: None,
            priority: Priority::default(),
            ttl: Ttl::Default,
            headers: Headers::new(),
        }
    }

    /// A message of this text, with the content type `text/plain; charset=utf-8`.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes(text.into().into_bytes()).header(CONTENT_TYPE, "text/plain; charset=utf-8")
    }

    /// This value as JSON, with the content type `application/json`. A value that does not serialize is reported by `send`.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Self {
        let mut message = Self::bytes(Bytes::new()).header(CONTENT_TYPE, "application/json");
        message.payload = serde_json::to_vec(value).map(Bytes::from);
        message
    }

    /// What the message is about; `message` by default. See [`Kind`] for what is allowed.
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.kind = Some(kind.into());
        self
    }

    /// Only for this node. It need not be known yet: the message waits for it.
    pub fn to(mut self, node: impl Into<String>) -> Self {
        self.target = Some(node.into());
        self
    }

    /// The lane; [`Priority::Normal`] by default.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.priority = priority;
        self
    }

    /// How long the message may wait, by the sender's clock; the node's `message_ttl` by default. A message that is still
    /// waiting after it is counted as expired.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Ttl::After(ttl);
        self
    }

    /// The message waits for ever.
    pub fn no_ttl(mut self) -> Self {
        self.ttl = Ttl::Never;
        self
    }

    /// Adds a header; a later value replaces an earlier one of the same name. At most [`MAX_HEADERS`] and
    /// [`MAX_HEADER_BYTES`].
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Says which master sends this: its fencing token goes along in the header [`TOKEN_HEADER`](crate::election::TOKEN_HEADER), and the
    /// receiver's [`Message::fencing_token`](crate::Message::fencing_token) is for its [`Fence`](crate::election::Fence), which refuses it
    /// once it has seen a later master's.
    pub fn fenced(self, token: &Token) -> Self {
        self.header(TOKEN_HEADER, token.to_string())
    }

    /// Checks everything; nothing is stored yet.
    pub(crate) fn prepare(
        self,
        channel: &ChannelName,
        default_ttl: Option<Duration>,
        max_payload_bytes: usize,
    ) -> Result<Prepared, InvalidMessage> {
        let payload = self.payload.map_err(InvalidMessage::Json)?;
        if payload.len() > max_payload_bytes {
            return Err(InvalidMessage::PayloadTooLarge {
                actual: payload.len(),
                limit: max_payload_bytes,
            });
        }
        check_headers(&self.headers)?;
        let ttl = match self.ttl {
            Ttl::Default => default_ttl,
            Ttl::Never => None,
            Ttl::After(ttl) => Some(ttl),
        };
        if ttl == Some(Duration::ZERO) {
            return Err(InvalidMessage::ZeroTtl);
        }
        Ok(Prepared {
            channel: channel.clone(),
            target: self.target.map(NodeId::new).transpose()?,
            lane: self.priority,
            kind: self.kind.map(Kind::new).transpose()?.unwrap_or_default(),
            headers: self.headers,
            body: Body::new(payload),
            // Rounded up, so that a time to live below a millisecond is not zero.
            ttl_ms: ttl
                .map(|ttl| u64::try_from(ttl.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)),
        })
    }
}

impl From<&str> for NewMessage {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for NewMessage {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<Vec<u8>> for NewMessage {
    fn from(payload: Vec<u8>) -> Self {
        Self::bytes(payload)
    }
}

impl From<&[u8]> for NewMessage {
    fn from(payload: &[u8]) -> Self {
        Self::bytes(payload.to_vec())
    }
}

impl From<Bytes> for NewMessage {
    fn from(payload: Bytes) -> Self {
        Self::bytes(payload)
    }
}

/// A checked message, ready for the writer, which gives it its id and place.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    pub(crate) kind: Kind,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    /// `None`: never expires.
    pub(crate) ttl_ms: Option<u64>,
}

/// A message of the outbox: committed, with its place in the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) seq: u64,
    pub(crate) id: MessageId,
    pub(crate) topic: TopicId,
    pub(crate) channel: ChannelName,
    pub(crate) target: Option<NodeId>,
    pub(crate) lane: Priority,
    pub(crate) kind: Kind,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    /// By this file's clock (see `store::clock`), in milliseconds since 1970.
    pub(crate) created_ms: u64,
    pub(crate) expires_ms: Option<u64>,
}

/// The number that this file gives to a combination of channel, target and lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_checked_before_it_is_stored() {
        let channel = ChannelName::new("c").expect("a valid name");
        let day = Some(Duration::from_secs(86_400));
        let prepare = |message: NewMessage| message.prepare(&channel, day, 10);
        assert!(matches!(
            prepare(NewMessage::text("eleven byte")),
            Err(InvalidMessage::PayloadTooLarge { actual: 11, limit: 10 })
        ));
        assert!(matches!(
            prepare(NewMessage::text("x").ttl(Duration::ZERO)),
            Err(InvalidMessage::ZeroTtl)
        ));
        assert!(matches!(prepare(NewMessage::text("x").to("a.b")), Err(InvalidMessage::Name(_))));
        assert!(matches!(prepare(NewMessage::text("x").kind("")), Err(InvalidMessage::Name(_))));
        assert!(prepare(NewMessage::text("x").header("a b", "")).is_err());
        assert!(prepare(NewMessage::text("x").header("a", "line\nbreak")).is_err());
        assert!(prepare(NewMessage::text("x").header("a", "x".repeat(MAX_HEADER_BYTES))).is_err());
        let many =
            (0..=MAX_HEADERS).fold(NewMessage::text("x"), |m, i| m.header(i.to_string(), ""));
        assert!(matches!(
            prepare(many),
            Err(InvalidMessage::Name(NameError::HeadersTooLarge { .. }))
        ));
        let ok = prepare(NewMessage::text("x")).expect("a valid message");
        assert_eq!((ok.ttl_ms, ok.kind.as_str()), (Some(86_400_000), "message"));
        let short = prepare(NewMessage::text("x").ttl(Duration::from_nanos(1))).expect("valid");
        assert_eq!(short.ttl_ms, Some(1));
        assert_eq!(prepare(NewMessage::text("x").no_ttl()).expect("valid").ttl_ms, None);
    }

    #[test]
    fn a_value_that_is_not_json_is_reported() {
        let channel = ChannelName::new("c").expect("a valid name");
        let keys_are_not_text: std::collections::HashMap<(u8, u8), u8> = [((1, 2), 3)].into();
        let result = NewMessage::json(&keys_are_not_text).prepare(&channel, None, 100);
        assert!(matches!(result, Err(InvalidMessage::Json(_))));
    }
}
