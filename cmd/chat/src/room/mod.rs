//! What was said on a channel, as every node shows it: events in, view out. No clock, no file, no network.
//!
//! What is kept of each sender is a union of its events: messages by their ids, and of edits, deletions, reactions and read marks the
//! one with the greatest id. Nothing depends on what other senders have said so far, and the view joins all of it. That is why the order in
//! which events of different senders arrive does not matter, why an edit can come before its message, and why one that comes twice changes
//! nothing. Every bound keeps what has the greatest ids, for the same reason.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use waypost::{MessageId, NodeId};

mod change;
#[cfg(test)]
mod tests;

pub(crate) use change::{
    Change, File, KIND_TYPING, MAX_READ_SENDERS, MAX_TEXT_BYTES, Refusal, TypingBody,
};

/// Edits, deletions and reactions that are kept of one sender, each by its message, the newest messages first. As many as a room has
/// messages at most, so that only those of messages that are not shown any more are given up.
const MAX_NOTES: usize = 4096;
/// Different reactions that are kept of one sender to one message.
const MAX_REACTIONS: usize = 16;
/// Senders up to whose messages one reader's mark is kept.
const MAX_READ_AUTHORS: usize = 4096;

/// One message of the channel, whatever it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// Who sent it.
    pub(crate) sender: NodeId,
    /// Its id; strictly increasing for a sender. It holds the sender's time, too.
    pub(crate) id: MessageId,
    /// Its kind.
    pub(crate) kind: String,
    /// The one node that it is for, if it is.
    pub(crate) to: Option<NodeId>,
    /// Its payload.
    pub(crate) body: Vec<u8>,
}

/// Names a message of the room; they are shown in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) id: MessageId,
    pub(crate) sender: NodeId,
}

/// What a post holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Content {
    Text(String),
    File(File),
    Deleted,
}

/// One message as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Post {
    #[serde(flatten)]
    pub(crate) key: Key,
    /// When it was sent, by its sender's clock, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    pub(crate) to: Option<NodeId>,
    pub(crate) content: Content,
    pub(crate) edited: bool,
    /// Who reacted with what, both sorted.
    pub(crate) reactions: BTreeMap<String, Vec<NodeId>>,
    /// Who has read it, sorted.
    pub(crate) read_by: Vec<NodeId>,
}

/// What an event has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applied {
    /// There is a new message.
    New(Key),
    /// This message looks different now, or will once it is here.
    Changed(Key),
    /// This reader has read on.
    Read,
    /// Nothing: it was here before, or something newer was.
    Nothing,
}

/// How many events were no part of the protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Ignored {
    /// Of a kind that is not known here.
    pub(crate) unknown: u64,
    /// Of a known kind, with a body that is not as it should be.
    pub(crate) malformed: u64,
}

#[derive(Debug)]
struct Said {
    to: Option<NodeId>,
    content: Content,
}

/// What one sender has done to messages, its own and others'.
#[derive(Debug, Default)]
struct Person {
    edits: BTreeMap<MessageId, (MessageId, String)>,
    deleted: BTreeSet<MessageId>,
    reactions: BTreeMap<Key, BTreeMap<String, (MessageId, bool)>>,
    reads: BTreeMap<NodeId, MessageId>,
}

/// The state of a channel's conversation.
#[derive(Debug)]
pub(crate) struct Room {
    said: BTreeMap<Key, Said>,
    people: BTreeMap<NodeId, Person>,
    ignored: Ignored,
    limit: usize,
}

impl Room {
    /// An empty room that shows at most this many messages, the newest, and at most `MAX_NOTES`.
    pub(crate) fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, MAX_NOTES);
        Self { said: BTreeMap::new(), people: BTreeMap::new(), ignored: Ignored::default(), limit }
    }

    /// Reads the event and applies it.
    ///
    /// # Errors
    /// It is no part of the protocol. It was counted, and changed nothing.
    pub(crate) fn handle(&mut self, event: &Event) -> Result<Applied, Refusal> {
        match Change::of(event) {
            Ok(change) => Ok(self.apply(event, change)),
            Err(refusal) => {
                self.refuse(refusal);
                Err(refusal)
            }
        }
    }

    /// Counts an event that was refused before it came here.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        match refusal {
            Refusal::UnknownKind => self.ignored.unknown += 1,
            Refusal::Malformed => self.ignored.malformed += 1,
        }
    }

    /// Applies an event that was read before.
    pub(crate) fn apply(&mut self, event: &Event, change: Change) -> Applied {
        let key = Key { id: event.id, sender: event.sender.clone() };
        match change {
            Change::Text(text) => self.say(key, event.to.clone(), Content::Text(text)),
            Change::File(file) => self.say(key, event.to.clone(), Content::File(file)),
            Change::Edit { target, text } => self.edit(key, target, text),
            Change::Delete { target } => self.delete(key, target),
            Change::React { target, emoji, on } => self.react(key, target, emoji, on),
            Change::Read(upto) => self.read(key.sender, upto),
        }
    }

    /// The messages, in their order.
    pub(crate) fn view(&self) -> Vec<Post> {
        self.said.iter().map(|(key, said)| self.show(key, said)).collect()
    }

    /// One message.
    pub(crate) fn post(&self, key: &Key) -> Option<Post> {
        self.said.get(key).map(|said| self.show(key, said))
    }

    /// How far this reader has read, by sender.
    pub(crate) fn read_by(&self, reader: &NodeId) -> BTreeMap<NodeId, MessageId> {
        self.people.get(reader).map(|person| person.reads.clone()).unwrap_or_default()
    }

    /// How many events were no part of the protocol.
    pub(crate) fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn say(&mut self, key: Key, to: Option<NodeId>, content: Content) -> Applied {
        if self.said.contains_key(&key) {
            return Applied::Nothing;
        }
        self.said.insert(key.clone(), Said { to, content });
        if self.said.len() > self.limit
            && let Some((oldest, _)) = self.said.pop_first()
            && oldest == key
        {
            return Applied::Nothing;
        }
        Applied::New(key)
    }

    fn edit(&mut self, by: Key, target: MessageId, text: String) -> Applied {
        let edits = &mut self.person(&by.sender).edits;
        if edits.get(&target).is_some_and(|(id, _)| *id >= by.id) {
            return Applied::Nothing;
        }
        edits.insert(target, (by.id, text));
        if edits.len() > MAX_NOTES {
            edits.pop_first();
        }
        Applied::Changed(Key { id: target, sender: by.sender })
    }

    fn delete(&mut self, by: Key, target: MessageId) -> Applied {
        let person = self.person(&by.sender);
        if !person.deleted.insert(target) {
            return Applied::Nothing;
        }
        if person.deleted.len() > MAX_NOTES {
            person.deleted.pop_first();
        }
        Applied::Changed(Key { id: target, sender: by.sender })
    }

    fn react(&mut self, by: Key, target: Key, emoji: String, on: bool) -> Applied {
        let reactions = &mut self.person(&by.sender).reactions;
        let own = reactions.entry(target.clone()).or_default();
        if own.get(&emoji).is_some_and(|(id, _)| *id >= by.id) {
            return Applied::Nothing;
        }
        own.insert(emoji, (by.id, on));
        if own.len() > MAX_REACTIONS {
            let oldest = own.iter().min_by_key(|(_, (id, _))| *id).map(|(emoji, _)| emoji.clone());
            oldest.map(|oldest| own.remove(&oldest));
        }
        if reactions.len() > MAX_NOTES {
            reactions.pop_first();
        }
        Applied::Changed(target)
    }

    fn read(&mut self, reader: NodeId, upto: BTreeMap<NodeId, MessageId>) -> Applied {
        let reads = &mut self.person(&reader).reads;
        let mut applied = Applied::Nothing;
        for (author, id) in upto {
            if reads.get(&author).is_none_or(|known| *known < id) {
                reads.insert(author, id);
                applied = Applied::Read;
            }
        }
        while reads.len() > MAX_READ_AUTHORS {
            let oldest = reads.iter().min_by_key(|(author, id)| (**id, *author));
            let Some(oldest) = oldest.map(|(author, _)| author.clone()) else { break };
            reads.remove(&oldest);
        }
        applied
    }

    fn person(&mut self, name: &NodeId) -> &mut Person {
        self.people.entry(name.clone()).or_default()
    }

    fn show(&self, key: &Key, said: &Said) -> Post {
        let author = self.people.get(&key.sender);
        let deleted = author.is_some_and(|author| author.deleted.contains(&key.id));
        let edit = author.and_then(|author| author.edits.get(&key.id));
        let (content, edited) = match (&said.content, edit) {
            _ if deleted => (Content::Deleted, false),
            // Only texts can be edited.
            (Content::Text(_), Some((_, text))) => (Content::Text(text.clone()), true),
            (content, _) => (content.clone(), false),
        };
        let mut reactions: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
        let mut read_by = Vec::new();
        for (name, person) in &self.people {
            if *name != key.sender && person.reads.get(&key.sender).is_some_and(|id| *id >= key.id)
            {
                read_by.push(name.clone());
            }
            for (emoji, _) in person.reactions.get(key).into_iter().flatten().filter(|r| r.1.1) {
                reactions.entry(emoji.clone()).or_default().push(name.clone());
            }
        }
        if deleted {
            reactions.clear();
        }
        let time_ms = key.id.timestamp_ms();
        Post { key: key.clone(), time_ms, to: said.to.clone(), content, edited, reactions, read_by }
    }
}
