//! What was said about messages: edits, deletions, reactions.

use std::collections::BTreeMap;

use waypost::{MessageId, NodeId};

use super::{Content, Key};

/// Different reactions of one sender to one message that are kept, those with the greatest ids.
pub(crate) const MAX_OWN_REACTIONS: usize = 16;
/// Reactions to one message that are kept, those with the greatest ids, taken back or not.
pub(crate) const MAX_REACTIONS: usize = 512;
/// Messages that are not here of which it is kept in memory what was said about them, and how much. Whoever has a file finds the rest there when
/// the message comes.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// What was said about one message.
#[derive(Debug, Default)]
pub(super) struct Notes {
    edit: Option<(MessageId, String)>,
    deleted: bool,
    reactions: BTreeMap<(NodeId, String), (MessageId, bool)>,
}

impl Notes {
    /// True if this changed something; so with the others.
    pub(super) fn edit(&mut self, id: MessageId, text: String) -> bool {
        let newer = self.edit.as_ref().is_none_or(|(known, _)| *known < id);
        let changes = newer && !self.deleted;
        if changes {
            self.edit = Some((id, text));
        }
        changes
    }

    pub(super) fn delete(&mut self) -> bool {
        let changes = !self.deleted;
        *self = Self { deleted: true, ..Self::default() };
        changes
    }

    pub(super) fn react(&mut self, by: NodeId, emoji: String, what: (MessageId, bool)) -> bool {
        let which = (by, emoji);
        if self.deleted || self.reactions.get(&which).is_some_and(|(known, _)| *known >= what.0) {
            return false;
        }
        self.reactions.insert(which.clone(), what);
        self.keep(MAX_OWN_REACTIONS, |name| *name == which.0);
        self.keep(MAX_REACTIONS, |_| true);
        self.reactions.contains_key(&which)
    }

    /// Of these senders' reactions one is given up where they are too many: the one with the lowest id.
    fn keep(&mut self, most: usize, whose: impl Fn(&NodeId) -> bool) {
        let theirs = || self.reactions.iter().filter(|((name, _), _)| whose(name));
        if theirs().count() > most
            && let Some((_, which)) = theirs().map(|(which, (id, _))| (*id, which)).min()
        {
            let which = which.clone();
            self.reactions.remove(&which);
        }
    }

    /// What is left of the message, and whether it was edited.
    pub(super) fn content(&self, said: &Content) -> (Content, bool) {
        match (said, &self.edit) {
            _ if self.deleted => (Content::Deleted, false),
            // Only texts can be edited.
            (Content::Text(_), Some((_, text))) => (Content::Text(text.clone()), true),
            (said, _) => (said.clone(), false),
        }
    }

    pub(super) fn reactions(&self) -> BTreeMap<String, Vec<NodeId>> {
        let mut reactions: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
        for ((name, emoji), _) in self.reactions.iter().filter(|(_, (_, on))| *on) {
            reactions.entry(emoji.clone()).or_default().push(name.clone());
        }
        reactions
    }

    fn bytes(&self) -> usize {
        let edit = self.edit.as_ref().map_or(0, |(_, text)| text.len());
        let reactions =
            self.reactions.keys().map(|(name, emoji)| name.as_str().len() + emoji.len());
        edit + reactions.sum::<usize>()
    }
}

/// What was said about messages that are not here, to all and to this node alone.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    notes: BTreeMap<(Key, bool), Notes>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn note(
        &mut self,
        target: &Key,
        direct: bool,
        what: impl FnOnce(&mut Notes) -> bool,
    ) -> bool {
        let notes = self.notes.entry((target.clone(), direct)).or_default();
        let before = notes.bytes();
        let changed = what(notes);
        self.bytes = self.bytes - before + notes.bytes();
        while self.notes.len() > MAX_WAITING || self.bytes > MAX_WAITING_BYTES {
            let Some((_, notes)) = self.notes.pop_first() else { break };
            self.bytes -= notes.bytes();
        }
        changed
    }

    /// The message is here now.
    pub(super) fn take(&mut self, key: &Key, direct: bool) -> Option<Notes> {
        let mut of = |direct| {
            let notes = self.notes.remove(&(key.clone(), direct))?;
            self.bytes -= notes.bytes();
            Some(notes)
        };
        // What was said to the others about it is no part of it.
        of(!direct);
        of(direct)
    }

    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.notes.len(), self.bytes)
    }
}
