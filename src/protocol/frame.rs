//! Bytes to frames and back, bounded: every length is checked before it is believed.
//!
//! A frame is `W P`, a version byte, a reserved byte (0), the length of the JSON header (4 bytes, most significant first),
//! the header, and then the bodies of the messages one after the other, each as long as the header says.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::message::{
    Body, ChannelName, Headers, Incarnation, Kind, MessageId, Mode, NodeId, Priority, StartAt,
    StoreId,
};

pub use crate::policy::MAX_MESSAGES;

use super::election::{self, MAX_STATE_BYTES};
use super::orders::{Order, Outcome, Verdict as OrderVerdict};
use super::report::{Query, Report};

mod wire;

const MAGIC: [u8; 2] = *b"WP";
/// The major version of the wire; another one is refused.
pub const VERSION: u8 = 1;
const PREAMBLE: usize = 8;
/// Largest JSON header of a frame in bytes.
pub const MAX_HEADER_BYTES: usize = 512 * 1024;
/// Most channels in one keepalive.
pub const MAX_CHANNELS: usize = 1024;
/// Longest text that explains a refusal, in bytes.
pub const MAX_DETAIL_BYTES: usize = 512;
/// Longest host name or version in a keepalive, in bytes.
const MAX_LABEL_BYTES: usize = 255;

/// What goes over the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    Messages(MessageFrame),
    Answer(Answer),
    Keepalive(Keepalive),
    /// "Who are you?", with the asker's own keepalive.
    Hello {
        nonce: u64,
        keepalive: Keepalive,
    },
    /// The reply to a hello.
    Welcome {
        nonce: u64,
        keepalive: Keepalive,
    },
    Query(Query),
    Report(Box<Report>),
    Election(election::Frame),
    Order(Order),
    Outcome(Outcome),
}

/// Which order a message belongs to, as its receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stream {
    pub channel: ChannelName,
    pub direct: bool,
    pub lane: Priority,
}

impl Stream {
    /// A stream in which no message is: for frames that only have to look like one.
    pub fn nowhere() -> Self {
        let channel = ChannelName::new("nowhere").expect("a valid name");
        Self { channel, direct: true, lane: Priority::Low }
    }
}

/// One or more messages of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct MessageFrame {
    pub from: NodeId,
    pub to: NodeId,
    pub store: StoreId,
    pub stream: Stream,
    /// The last message of this stream that this receiver acknowledged.
    pub previous: Option<MessageId>,
    /// How many were settled otherwise since then: expired, dead, purged.
    pub skipped: u64,
    pub attempt: u32,
    /// How long the sender waits for an answer, in milliseconds.
    pub ack_timeout_ms: u64,
    pub messages: Vec<FrameMessage>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FrameMessage {
    pub id: MessageId,
    pub kind: Kind,
    pub headers: Headers,
    /// By the sender's clock, for people to read.
    pub created_ms: u64,
    /// Time left to live when the frame was made, by the sender's clock.
    pub ttl_left_ms: Option<u64>,
    pub body: Body,
}

/// What a receiver says to a message: up to `id` for an ack, about `id` for the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "wire::Answer", into = "wire::Answer")]
pub struct Answer {
    pub from: NodeId,
    pub to: NodeId,
    pub store: StoreId,
    pub stream: Stream,
    pub id: MessageId,
    /// The newest message of this stream that the receiver has committed.
    pub last: Option<MessageId>,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Committed up to this id.
    Ack,
    /// Still busy with it.
    Working,
    /// No room at the moment: try again after so many milliseconds.
    Busy { retry_ms: u64 },
    /// The channel is paused, or nobody consumes it yet.
    Paused,
    /// The node has not joined the channel as a reader.
    NotJoined,
    /// The handler failed.
    Failed { detail: String },
    /// The receiver can never take it: an attempt more would change nothing.
    Refused { detail: String },
}

/// The periodic broadcast by which nodes find each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Keepalive {
    pub from: NodeId,
    pub incarnation: Incarnation,
    pub store: StoreId,
    /// Grows with each keepalive of an incarnation, so that a late one is recognised.
    pub counter: u64,
    /// Which connection of this incarnation this is: what was sent to an earlier one may not have arrived.
    #[serde(default)]
    pub session: u64,
    pub uptime_ms: u64,
    pub version: String,
    pub host: String,
    pub channels: Vec<ChannelPresence>,
    /// Channels that this node left for good.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<ChannelName>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The last one of a graceful stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub goodbye: bool,
    /// Whether it takes part in an election.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub elects: bool,
    /// Another incarnation that was heard under this node's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rival: Option<Incarnation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPresence {
    pub name: ChannelName,
    pub mode: Mode,
    /// How long ago the node joined, in milliseconds: an age, so that clocks need not agree.
    pub age_ms: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
    #[serde(default)]
    pub start: StartAt,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("not a frame of ours")]
    NotAFrame,
    #[error("wire version {0}, this node speaks {VERSION}")]
    Version(u8),
    #[error("cut short: {expected} bytes expected, {actual} there")]
    Truncated { expected: usize, actual: usize },
    #[error("the header declares {0} bytes")]
    HeaderTooLarge(usize),
    #[error("the header is not valid: {0}")]
    Header(String),
    #[error("{0}")]
    Content(&'static str),
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "t", rename_all = "snake_case")]
enum Header {
    Msg(wire::Messages),
    Answer(Answer),
    Keepalive(Keepalive),
    Hello { nonce: u64, keepalive: Keepalive },
    Welcome { nonce: u64, keepalive: Keepalive },
    Query(Query),
    Report(Box<Report>),
    Order(Order),
    Outcome(Outcome),
    Election(election::Header),
}

impl Header {
    /// What is sent most often says first what it is, and is then read without keeping it in between until that is known.
    fn read(json: &[u8]) -> serde_json::Result<Self> {
        if json.starts_with(br#"{"t":"msg","#) {
            serde_json::from_slice(json).map(Self::Msg)
        } else if json.starts_with(br#"{"t":"answer","#) {
            serde_json::from_slice(json).map(Self::Answer)
        } else {
            serde_json::from_slice(json)
        }
    }
}

impl Frame {
    /// The bytes of this frame.
    pub fn encode(self) -> Bytes {
        let mut bodies = Vec::new();
        let header = match self {
            Self::Messages(frame) => Header::Msg(wire::Messages::strip(frame, &mut bodies)),
            Self::Answer(answer) => Header::Answer(answer),
            Self::Keepalive(keepalive) => Header::Keepalive(keepalive),
            Self::Hello { nonce, keepalive } => Header::Hello { nonce, keepalive },
            Self::Welcome { nonce, keepalive } => Header::Welcome { nonce, keepalive },
            Self::Query(query) => Header::Query(query),
            Self::Report(report) => Header::Report(report),
            Self::Order(order) => Header::Order(order),
            Self::Outcome(outcome) => Header::Outcome(outcome),
            Self::Election(frame) => {
                let (header, state) = frame.strip();
                bodies.extend(state.map(Bytes::from_owner));
                Header::Election(header)
            }
        };
        let body_bytes: usize = bodies.iter().map(|b: &Bytes| b.len()).sum();
        let mut bytes = Vec::with_capacity(PREAMBLE + 512 + body_bytes);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
        serde_json::to_writer(&mut bytes, &header).expect("a header has text keys only");
        let length = u32::try_from(bytes.len() - PREAMBLE).expect("headers are bounded");
        bytes[4..PREAMBLE].copy_from_slice(&length.to_be_bytes());
        for body in bodies {
            bytes.extend_from_slice(&body);
        }
        bytes.into()
    }

    /// The frame that these bytes are.
    ///
    /// # Errors
    /// Any bytes that this version would not have written, apart from unknown header fields, which are ignored.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        let preamble = bytes.get(..PREAMBLE).ok_or(FrameError::NotAFrame)?;
        if preamble[..2] != MAGIC {
            return Err(FrameError::NotAFrame);
        }
        if preamble[2] != VERSION {
            return Err(FrameError::Version(preamble[2]));
        }
        let length = u32::from_be_bytes([preamble[4], preamble[5], preamble[6], preamble[7]]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_HEADER_BYTES {
            return Err(FrameError::HeaderTooLarge(length));
        }
        let expected = PREAMBLE + length;
        let header = bytes
            .get(PREAMBLE..expected)
            .ok_or(FrameError::Truncated { expected, actual: bytes.len() })?;
        let header = Header::read(header).map_err(|error| FrameError::Header(brief(&error)))?;
        let bodies = bytes.slice(expected..);
        if !bodies.is_empty() && !matches!(header, Header::Msg(_) | Header::Election(_)) {
            return Err(FrameError::Content("bytes after the header"));
        }
        match header {
            Header::Msg(messages) => messages.join(&bodies).map(Self::Messages),
            Header::Answer(answer) => check_answer(&answer).map(|()| Self::Answer(answer)),
            Header::Keepalive(k) => check_keepalive(&k).map(|()| Self::Keepalive(k)),
            Header::Hello { nonce, keepalive } => {
                check_keepalive(&keepalive).map(|()| Self::Hello { nonce, keepalive })
            }
            Header::Welcome { nonce, keepalive } => {
                check_keepalive(&keepalive).map(|()| Self::Welcome { nonce, keepalive })
            }
            Header::Query(query) => Ok(Self::Query(query)),
            Header::Report(report) => Ok(Self::Report(report)),
            Header::Order(order) => Ok(Self::Order(order)),
            Header::Outcome(outcome) => check_outcome(&outcome).map(|()| Self::Outcome(outcome)),
            Header::Election(header) => match header.join(&bodies, MAX_STATE_BYTES) {
                Ok(frame) => Ok(Self::Election(frame)),
                Err(_) => {
                    Err(FrameError::Content("a state that is none, or not as long as it says"))
                }
            },
        }
    }

    /// Who says that he sent this frame.
    pub fn from(&self) -> &NodeId {
        match self {
            Self::Messages(frame) => &frame.from,
            Self::Answer(answer) => &answer.from,
            Self::Keepalive(keepalive)
            | Self::Hello { keepalive, .. }
            | Self::Welcome { keepalive, .. } => &keepalive.from,
            Self::Query(query) => &query.from,
            Self::Report(report) => &report.node,
            Self::Order(order) => &order.from,
            Self::Outcome(outcome) => &outcome.node,
            Self::Election(frame) => &frame.from,
        }
    }
}

/// A parser's message without the excerpt of a stranger's text that it may repeat.
fn brief(error: &serde_json::Error) -> String {
    format!("{:?} error at column {}", error.classify(), error.column())
}

fn check_answer(answer: &Answer) -> Result<(), FrameError> {
    match &answer.verdict {
        Verdict::Failed { detail } | Verdict::Refused { detail }
            if detail.len() > MAX_DETAIL_BYTES =>
        {
            Err(FrameError::Content("a reason that is too long"))
        }
        _ => Ok(()),
    }
}

fn check_outcome(outcome: &Outcome) -> Result<(), FrameError> {
    match &outcome.result {
        OrderVerdict::Refused(reason) if reason.len() > MAX_DETAIL_BYTES => {
            Err(FrameError::Content("a reason that is too long"))
        }
        _ => Ok(()),
    }
}

fn check_keepalive(keepalive: &Keepalive) -> Result<(), FrameError> {
    if keepalive.channels.len() > MAX_CHANNELS || keepalive.left.len() > MAX_CHANNELS {
        return Err(FrameError::Content("too many channels"));
    }
    let label = |text: &str| text.len() <= MAX_LABEL_BYTES && !text.chars().any(char::is_control);
    if !label(&keepalive.version) || !label(&keepalive.host) {
        return Err(FrameError::Content("a version or host that is no label"));
    }
    Ok(())
}

/// The text, cut to what a frame may carry.
pub fn detail(text: &str) -> String {
    let mut end = text.len().min(MAX_DETAIL_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
