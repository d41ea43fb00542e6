//! Headers as they stand in a frame: flat, so that they are read in one go.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FrameError, FrameMessage, MAX_MESSAGES, MessageFrame, Stream, Verdict};
use crate::message::{
    Body, ChannelName, Encoding, Headers, Kind, MessageId, NodeId, Priority, StoreId,
};

#[derive(Serialize, Deserialize)]
pub(super) struct Messages {
    from: NodeId,
    to: NodeId,
    store: StoreId,
    ch: ChannelName,
    #[serde(rename = "dir", default, skip_serializing_if = "std::ops::Not::not")]
    direct: bool,
    #[serde(default)]
    lane: Priority,
    #[serde(rename = "prev", default, skip_serializing_if = "Option::is_none")]
    previous: Option<MessageId>,
    #[serde(rename = "skip", default, skip_serializing_if = "is_zero")]
    skipped: u64,
    #[serde(rename = "try")]
    attempt: u32,
    #[serde(rename = "wait")]
    ack_timeout_ms: u64,
    messages: Vec<Message>,
}

#[derive(Serialize, Deserialize)]
struct Message {
    id: MessageId,
    #[serde(default, skip_serializing_if = "Kind::is_default")]
    kind: Kind,
    #[serde(rename = "hdr", default, skip_serializing_if = "Headers::is_empty")]
    headers: Headers,
    /// Where it is not the time in the id.
    #[serde(rename = "at", default, skip_serializing_if = "Option::is_none")]
    created_ms: Option<u64>,
    #[serde(rename = "ttl", default, skip_serializing_if = "Option::is_none")]
    ttl_left_ms: Option<u64>,
    #[serde(rename = "len")]
    bytes: usize,
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    compressed: bool,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Messages {
    /// The header of this frame; what goes behind it is added to `bodies`.
    pub(super) fn strip(frame: MessageFrame, bodies: &mut Vec<Bytes>) -> Self {
        let messages = frame.messages.into_iter().map(|m| {
            let message = Message {
                id: m.id,
                kind: m.kind,
                headers: m.headers,
                created_ms: (m.created_ms != m.id.timestamp_ms()).then_some(m.created_ms),
                ttl_left_ms: m.ttl_left_ms,
                bytes: m.body.data.len(),
                compressed: m.body.encoding == Encoding::Snappy,
            };
            bodies.push(m.body.data);
            message
        });
        Self {
            messages: messages.collect(),
            from: frame.from,
            to: frame.to,
            store: frame.store,
            ch: frame.stream.channel,
            direct: frame.stream.direct,
            lane: frame.stream.lane,
            previous: frame.previous,
            skipped: frame.skipped,
            attempt: frame.attempt,
            ack_timeout_ms: frame.ack_timeout_ms,
        }
    }

    /// The frame that this header and these bodies are.
    pub(super) fn join(self, bodies: &Bytes) -> Result<MessageFrame, FrameError> {
        if self.messages.is_empty() || self.messages.len() > MAX_MESSAGES {
            return Err(FrameError::Content("a frame holds from 1 to 1024 messages"));
        }
        let mut at = 0_usize;
        let mut messages = Vec::with_capacity(self.messages.len());
        let mut newest = self.previous;
        for m in self.messages {
            if newest.is_some_and(|newest| m.id <= newest) {
                return Err(FrameError::Content("ids do not increase"));
            }
            newest = Some(m.id);
            crate::message::check_headers(&m.headers)
                .map_err(|_| FrameError::Content("headers that no message may have"))?;
            let end = at.saturating_add(m.bytes);
            if end > bodies.len() {
                return Err(FrameError::Truncated { expected: end, actual: bodies.len() });
            }
            let encoding = if m.compressed { Encoding::Snappy } else { Encoding::Raw };
            messages.push(FrameMessage {
                id: m.id,
                kind: m.kind,
                headers: m.headers,
                created_ms: m.created_ms.unwrap_or_else(|| m.id.timestamp_ms()),
                ttl_left_ms: m.ttl_left_ms,
                body: Body { encoding, data: bodies.slice(at..end) },
            });
            at = end;
        }
        if at != bodies.len() {
            return Err(FrameError::Content("bytes after the last message"));
        }
        Ok(MessageFrame {
            messages,
            from: self.from,
            to: self.to,
            store: self.store,
            stream: Stream { channel: self.ch, direct: self.direct, lane: self.lane },
            previous: self.previous,
            skipped: self.skipped,
            attempt: self.attempt,
            ack_timeout_ms: self.ack_timeout_ms,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(super) struct Answer {
    from: NodeId,
    to: NodeId,
    store: StoreId,
    ch: ChannelName,
    #[serde(rename = "dir", default, skip_serializing_if = "std::ops::Not::not")]
    direct: bool,
    #[serde(default)]
    lane: Priority,
    id: MessageId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last: Option<MessageId>,
    #[serde(rename = "v")]
    verdict: Word,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Ack,
    Working,
    Busy,
    Paused,
    NotJoined,
    Failed,
    Refused,
}

impl From<super::Answer> for Answer {
    fn from(answer: super::Answer) -> Self {
        let (verdict, retry_ms, detail) = match answer.verdict {
            Verdict::Ack => (Word::Ack, None, None),
            Verdict::Working => (Word::Working, None, None),
            Verdict::Busy { retry_ms } => (Word::Busy, Some(retry_ms), None),
            Verdict::Paused => (Word::Paused, None, None),
            Verdict::NotJoined => (Word::NotJoined, None, None),
            Verdict::Failed { detail } => (Word::Failed, None, Some(detail)),
            Verdict::Refused { detail } => (Word::Refused, None, Some(detail)),
        };
        let Stream { channel, direct, lane } = answer.stream;
        Self {
            from: answer.from,
            to: answer.to,
            store: answer.store,
            ch: channel,
            direct,
            lane,
            id: answer.id,
            last: answer.last,
            verdict,
            retry_ms,
            detail,
        }
    }
}

impl TryFrom<Answer> for super::Answer {
    type Error = &'static str;

    fn try_from(answer: Answer) -> Result<Self, Self::Error> {
        let verdict = match (answer.verdict, answer.retry_ms, answer.detail) {
            (Word::Ack, ..) => Verdict::Ack,
            (Word::Working, ..) => Verdict::Working,
            (Word::Busy, Some(retry_ms), _) => Verdict::Busy { retry_ms },
            (Word::Busy, None, _) => return Err("busy, and no retry_ms"),
            (Word::Paused, ..) => Verdict::Paused,
            (Word::NotJoined, ..) => Verdict::NotJoined,
            (Word::Failed, _, Some(detail)) => Verdict::Failed { detail },
            (Word::Refused, _, Some(detail)) => Verdict::Refused { detail },
            (Word::Failed | Word::Refused, _, None) => return Err("a refusal without a detail"),
        };
        Ok(Self {
            from: answer.from,
            to: answer.to,
            store: answer.store,
            stream: Stream { channel: answer.ch, direct: answer.direct, lane: answer.lane },
            id: answer.id,
            last: answer.last,
            verdict,
        })
    }
}
