//! The kinds of messages on a channel, and their bodies: see `docs/chat-protocol.md`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waypost::{MessageId, NodeId};

use super::{Event, Key};

/// Longest text of a message or an edit.
pub(crate) const MAX_TEXT_BYTES: usize = 16 * 1024;
/// Longest reaction: the longest emoji sequences in use have 35.
const MAX_EMOJI_BYTES: usize = 64;
/// Longest name of a file.
const MAX_FILE_NAME_BYTES: usize = 255;
/// Longest media type of a file.
const MAX_FILE_TYPE_BYTES: usize = 127;
/// Most senders in one read mark.
pub(crate) const MAX_READ_SENDERS: usize = 256;
/// No body is longer: a text of which every byte is written as `\u00XX`, and room for the rest.
const MAX_BODY_BYTES: usize = 6 * MAX_TEXT_BYTES + 1024;
/// Whole numbers up to here are the same in every JSON reader.
const MAX_FILE_BYTES: u64 = (1 << 53) - 1;

const KIND_TEXT: &str = "chat.text";
const KIND_FILE: &str = "chat.file";
const KIND_EDIT: &str = "chat.edit";
const KIND_DELETE: &str = "chat.delete";
const KIND_REACTION: &str = "chat.reaction";
const KIND_READ: &str = "chat.read";
/// Who is typing; no part of the room.
pub(crate) const KIND_TYPING: &str = "chat.typing";
/// What `waypost send` and programs without a kind of their own send: its payload is the text.
const KIND_PLAIN: &str = "message";

/// What an event does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Text(String),
    File(File),
    Edit { target: MessageId, text: String },
    Delete { target: MessageId },
    React { target: Key, emoji: String, on: bool },
    Read(BTreeMap<NodeId, MessageId>),
}

/// What is told of a file; its content stays where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) size: u64,
    #[serde(rename = "type")]
    pub(crate) media_type: String,
}

/// Why an event is no part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("its kind is not known here")]
    UnknownKind,
    #[error("its body is not as its kind asks for")]
    Malformed,
}

#[derive(Serialize, Deserialize)]
struct TextBody {
    text: String,
}

#[derive(Serialize, Deserialize)]
struct EditBody {
    id: MessageId,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct DeleteBody {
    id: MessageId,
}

#[derive(Serialize, Deserialize)]
struct ReactionBody {
    sender: NodeId,
    id: MessageId,
    emoji: String,
    on: bool,
}

#[derive(Serialize, Deserialize)]
struct ReadBody {
    upto: BTreeMap<NodeId, MessageId>,
}

/// Whether somebody is typing.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TypingBody {
    pub(crate) on: bool,
}

impl Change {
    /// Reads an event.
    ///
    /// # Errors
    /// It is no part of the protocol.
    pub(crate) fn of(event: &Event) -> Result<Self, Refusal> {
        if event.body.len() > MAX_BODY_BYTES {
            return Err(Refusal::Malformed);
        }
        let change = match event.kind.as_str() {
            KIND_TEXT => Self::Text(read::<TextBody>(&event.body)?.text),
            KIND_PLAIN => {
                let text = std::str::from_utf8(&event.body).map_err(|_| Refusal::Malformed)?;
                Self::Text(text.to_owned())
            }
            KIND_FILE => Self::File(read(&event.body)?),
            KIND_EDIT => {
                let EditBody { id: target, text } = read(&event.body)?;
                Self::Edit { target, text }
            }
            KIND_DELETE => Self::Delete { target: read::<DeleteBody>(&event.body)?.id },
            KIND_REACTION => {
                let ReactionBody { sender, id, emoji, on } = read(&event.body)?;
                Self::React { target: Key { id, sender }, emoji, on }
            }
            KIND_READ => Self::Read(read::<ReadBody>(&event.body)?.upto),
            _ => return Err(Refusal::UnknownKind),
        };
        // Whoever changes a message of its own has sent it before.
        let later = match &change {
            Self::Edit { target, .. } | Self::Delete { target } => *target < event.id,
            _ => true,
        };
        if later && change.is_valid() { Ok(change) } else { Err(Refusal::Malformed) }
    }

    /// Whether it keeps to the limits.
    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::Text(text) | Self::Edit { text, .. } => is_text(text),
            Self::Delete { .. } => true,
            Self::File(file) => {
                is_within(&file.name, MAX_FILE_NAME_BYTES)
                    && !file.name.contains(['/', '\\'])
                    && !matches!(file.name.as_str(), "." | "..")
                    && is_within(&file.media_type, MAX_FILE_TYPE_BYTES)
                    && file.size <= MAX_FILE_BYTES
            }
            Self::React { emoji, .. } => {
                is_within(emoji, MAX_EMOJI_BYTES) && !emoji.contains(char::is_whitespace)
            }
            Self::Read(upto) => !upto.is_empty() && upto.len() <= MAX_READ_SENDERS,
        }
    }

    /// The kind and the body by which it travels.
    ///
    /// # Errors
    /// The names and texts that it holds do not turn into JSON, which they always do.
    pub(crate) fn encode(&self) -> serde_json::Result<(&'static str, Vec<u8>)> {
        Ok(match self.clone() {
            Self::Text(text) => (KIND_TEXT, serde_json::to_vec(&TextBody { text })?),
            Self::File(file) => (KIND_FILE, serde_json::to_vec(&file)?),
            Self::Edit { target, text } => {
                (KIND_EDIT, serde_json::to_vec(&EditBody { id: target, text })?)
            }
            Self::Delete { target } => {
                (KIND_DELETE, serde_json::to_vec(&DeleteBody { id: target })?)
            }
            Self::React { target: Key { id, sender }, emoji, on } => {
                (KIND_REACTION, serde_json::to_vec(&ReactionBody { sender, id, emoji, on })?)
            }
            Self::Read(upto) => (KIND_READ, serde_json::to_vec(&ReadBody { upto })?),
        })
    }
}

impl TypingBody {
    /// Reads one.
    ///
    /// # Errors
    /// It is not one.
    pub(crate) fn read(body: &[u8]) -> Result<Self, Refusal> {
        read(body)
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    if body.len() > MAX_BODY_BYTES {
        return Err(Refusal::Malformed);
    }
    serde_json::from_slice(body).map_err(|_| Refusal::Malformed)
}

fn is_text(text: &str) -> bool {
    text.len() <= MAX_TEXT_BYTES && !text.trim().is_empty()
}

fn is_within(text: &str, limit: usize) -> bool {
    !text.is_empty() && text.len() <= limit && !text.contains(char::is_control)
}
