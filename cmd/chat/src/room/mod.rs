//! What was said on a channel, as every node shows it: events in, view out. No clock, no file, no network.
//!
//! What is kept of each message is a union of what was said about it: of edits, reactions and read marks the one with the greatest id, and a deletion for
//! good. Nothing depends on what other senders have said so far, and the view joins all of it. That is why the order in which events of
//! different senders arrive does not matter, why an edit can come before its message, and why one that comes twice changes nothing.
//! Only which messages are still in memory is a matter of arrival: whose clock is ahead must not push out what is said now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use waypost::{MessageId, NodeId};

mod change;
mod notes;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use change::{
    Change, File, KIND_TYPING, MAX_READ_SENDERS, MAX_TEXT_BYTES, Refusal, TypingBody,
};
pub(crate) use notes::{MAX_OWN_REACTIONS, MAX_REACTIONS};

use notes::{Notes, Waiting};

/// Most messages of a room.
const MAX_POSTS: usize = 4096;
/// Senders up to whose messages one reader's mark is kept.
pub(crate) const MAX_READ_AUTHORS: usize = 1024;

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
    /// Its number by arrival at this node; greater than those before it.
    pub(crate) seq: u64,
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
    /// Its number by arrival at this node.
    pub(crate) seq: u64,
    /// When it was sent, by its sender's clock, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    pub(crate) to: Option<NodeId>,
    pub(crate) content: Content,
    pub(crate) edited: bool,
    /// Who reacted with what, both sorted.
    pub(crate) reactions: BTreeMap<String, Vec<NodeId>>,
    /// Who has read it, sorted; of a direct message only the one that it is for.
    #[serde(skip)]
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
    seq: u64,
}

/// How far a reader has read, by sender.
pub(crate) type Upto = BTreeMap<NodeId, MessageId>;

/// Messages to all and those to one node have orders of their own, so each have their marks.
#[derive(Debug, Default)]
struct Reads {
    all: Upto,
    direct: Upto,
}

/// The state of a channel's conversation.
#[derive(Debug)]
pub(crate) struct Room {
    said: BTreeMap<Key, Said>,
    arrivals: BTreeSet<(u64, Key)>,
    /// What was said about these messages.
    notes: BTreeMap<Key, Notes>,
    /// What was said about messages that are not here.
    waiting: Waiting,
    reads: BTreeMap<NodeId, Reads>,
    ignored: Ignored,
    limit: usize,
}

impl Room {
    /// An empty room that holds at most this many messages, those that came last, and at most 4,096.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            said: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            notes: BTreeMap::new(),
            waiting: Waiting::default(),
            reads: BTreeMap::new(),
            ignored: Ignored::default(),
            limit: limit.clamp(1, MAX_POSTS),
        }
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
        let direct = event.to.is_some();
        let (id, key) = (event.id, Key { id: event.id, sender: event.sender.clone() });
        // Only the author's edits and deletions name the author's messages.
        let own = |target| Key { id: target, sender: event.sender.clone() };
        match change {
            Change::Text(text) => self.say(key, event, Content::Text(text)),
            Change::File(file) => self.say(key, event, Content::File(file)),
            Change::Edit { target, text } => {
                self.note(own(target), direct, |notes| notes.edit(id, text))
            }
            Change::Delete { target } => self.note(own(target), direct, Notes::delete),
            Change::React { target, emoji, on } => {
                let sender = event.sender.clone();
                self.note(target, direct, |notes| notes.react(sender, emoji, (id, on)))
            }
            Change::Read(upto) => self.read(&event.sender, direct, upto),
        }
    }

    /// The messages, in their order.
    pub(crate) fn view(&self) -> Vec<Post> {
        self.said.iter().map(|(key, said)| self.show(key, said)).collect()
    }

    /// Those of the messages that came last, in their order.
    pub(crate) fn last(&self, limit: usize) -> Vec<Post> {
        let keys: BTreeSet<_> =
            self.arrivals.iter().rev().take(limit).map(|(_, key)| key).collect();
        keys.into_iter().filter_map(|key| self.post(key)).collect()
    }

    /// One message.
    pub(crate) fn post(&self, key: &Key) -> Option<Post> {
        self.said.get(key).map(|said| self.show(key, said))
    }

    /// Whether the message is here.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.said.contains_key(key)
    }

    /// This sender's messages up to an id, the latest first.
    pub(crate) fn said_by<'a>(
        &'a self,
        sender: &'a NodeId,
        upto: MessageId,
    ) -> impl Iterator<Item = &'a Key> {
        self.said
            .keys()
            .rev()
            .skip_while(move |key| key.id > upto)
            .filter(|key| key.sender == *sender)
    }

    /// How far this reader has read of what was said to all, and to it alone.
    pub(crate) fn read_upto(&self, reader: &NodeId) -> (Upto, Upto) {
        let reads = self.reads.get(reader);
        reads.map(|reads| (reads.all.clone(), reads.direct.clone())).unwrap_or_default()
    }

    /// How many events were no part of the protocol.
    pub(crate) fn ignored(&self) -> Ignored {
        self.ignored
    }

    fn say(&mut self, key: Key, event: &Event, content: Content) -> Applied {
        if self.said.contains_key(&key) {
            return Applied::Nothing;
        }
        let (to, seq) = (event.to.clone(), event.seq);
        if let Some(notes) = self.waiting.take(&key, to.is_some()) {
            self.notes.insert(key.clone(), notes);
        }
        self.said.insert(key.clone(), Said { to, content, seq });
        self.arrivals.insert((seq, key.clone()));
        if self.said.len() > self.limit
            && let Some((_, oldest)) = self.arrivals.pop_first()
        {
            self.said.remove(&oldest);
            self.notes.remove(&oldest);
            if oldest == key {
                return Applied::Nothing;
            }
        }
        Applied::New(key)
    }

    /// Notes something about a message. What goes to one node says nothing about what went to all, or the nodes would differ; nor the other way.
    fn note(
        &mut self,
        target: Key,
        direct: bool,
        what: impl FnOnce(&mut Notes) -> bool,
    ) -> Applied {
        let changed = match self.said.get(&target) {
            Some(said) if said.to.is_some() != direct => false,
            Some(_) => what(self.notes.entry(target.clone()).or_default()),
            None => self.waiting.note(&target, direct, what),
        };
        if changed { Applied::Changed(target) } else { Applied::Nothing }
    }

    fn read(&mut self, reader: &NodeId, direct: bool, upto: Upto) -> Applied {
        let reads = self.reads.entry(reader.clone()).or_default();
        let reads = if direct { &mut reads.direct } else { &mut reads.all };
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

    fn show(&self, key: &Key, said: &Said) -> Post {
        let nothing = Notes::default();
        let notes = self.notes.get(key).unwrap_or(&nothing);
        let (content, edited) = notes.content(&said.content);
        let has_read = |reads: &Upto| reads.get(&key.sender).is_some_and(|id| *id >= key.id);
        let read_by = match &said.to {
            Some(to) => {
                let read = self.reads.get(to).is_some_and(|reads| has_read(&reads.direct));
                read.then(|| to.clone()).into_iter().collect()
            }
            None => {
                let readers = self.reads.iter().filter(|(reader, _)| **reader != key.sender);
                let readers = readers.filter(|(_, reads)| has_read(&reads.all));
                readers.map(|(reader, _)| reader.clone()).collect()
            }
        };
        Post {
            key: key.clone(),
            seq: said.seq,
            time_ms: key.id.timestamp_ms(),
            to: said.to.clone(),
            content,
            edited,
            reactions: notes.reactions(),
            read_by,
        }
    }
}
