//! How far this node's own messages are: waiting, delivered to n of m. The node's file is the truth; what it says is asked for again
//! when something was delivered, so that marks outlive restarts and missed events.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use waypost::inspect::{InspectError, Inspector, ReceiverState, Story};
use waypost::{MessageId, NodeId};

/// Messages of either end of the queue, and of its middle, that are asked about at once.
const AT_ONCE: usize = 64;
/// Open marks that are remembered; of older ones the mark stays as it is.
pub(crate) const MAX_OPEN: usize = 10_000;

/// How far a message is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Mark {
    /// Readers that have it.
    pub(crate) delivered: u32,
    /// Readers that will not get it: it expired, was purged, or was refused.
    pub(crate) failed: u32,
    /// Readers that it is for, as far as they are known.
    pub(crate) readers: u32,
    /// Nothing will change any more.
    pub(crate) settled: bool,
    /// Readers that have it and have read it.
    pub(crate) read: u32,
}

impl Mark {
    /// Whether everybody that it is for has read it.
    pub(crate) fn is_read(self) -> bool {
        self.readers > 0 && self.read >= self.readers
    }
}

/// How far a message is, and who has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) mark: Mark,
    pub(crate) names: Vec<NodeId>,
}

impl Standing {
    fn of(story: &Story) -> Self {
        let (mut mark, mut names) = (Mark::default(), Vec::new());
        for receiver in &story.receivers {
            match &receiver.state {
                ReceiverState::NotForIt => continue,
                ReceiverState::Settled { outcome, .. } if outcome == "acknowledged" => {
                    mark.delivered += 1;
                    names.push(receiver.receiver.clone());
                }
                ReceiverState::Settled { .. } => mark.failed += 1,
                _ => {}
            }
            mark.readers += 1;
        }
        mark.settled = mark.readers > 0 && mark.delivered + mark.failed == mark.readers;
        Self { mark, names }
    }

    /// The mark, given who has read the message. Who of very many has it is not known: each of them counts.
    pub(crate) fn mark(&self, read_by: &[NodeId]) -> Mark {
        let all = self.names.is_empty();
        let read = read_by.iter().filter(|name| all || self.names.contains(name)).count();
        let read = u32::try_from(read).unwrap_or(u32::MAX).min(self.mark.delivered);
        Mark { read, ..self.mark }
    }
}

/// The messages whose marks may still change.
#[derive(Debug)]
pub(crate) struct Open {
    ids: BTreeSet<MessageId>,
    /// Where the look at the middle goes on.
    next: MessageId,
}

impl Open {
    pub(crate) fn new(ids: impl IntoIterator<Item = MessageId>) -> Self {
        Self { ids: ids.into_iter().collect(), next: MessageId::ZERO }
    }

    pub(crate) fn add(&mut self, id: MessageId) {
        self.ids.insert(id);
        if self.ids.len() > MAX_OPEN {
            self.ids.pop_first();
        }
    }

    pub(crate) fn remove(&mut self, id: MessageId) {
        self.ids.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whom to ask about now: the oldest and the newest, and in turn those between them.
    pub(crate) fn ask_next(&mut self) -> Vec<MessageId> {
        let oldest = self.ids.iter().take(AT_ONCE);
        let newest = self.ids.iter().rev().take(AT_ONCE);
        let middle: Vec<_> = self.ids.range(self.next..).take(AT_ONCE).copied().collect();
        let asked: BTreeSet<_> = oldest.chain(newest).chain(&middle).copied().collect();
        let after = middle.last().and_then(|last| self.ids.range(*last..).nth(1));
        self.next = after.copied().unwrap_or(MessageId::ZERO);
        asked.into_iter().collect()
    }
}

/// Asks the file. Of a message that it no longer has it says nothing: that was settled long ago.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn ask(
    path: &Path,
    ids: &[MessageId],
) -> Result<Vec<(MessageId, Option<Standing>)>, InspectError> {
    let inspector = Inspector::open(path)?;
    let mut marks = Vec::with_capacity(ids.len());
    for id in ids {
        let story = inspector.why(*id)?.filter(|story| story.accepted.is_some());
        marks.push((*id, story.map(|story| Standing::of(&story))));
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_asked_about_in_turn() {
        let ids = (1..=1000).map(MessageId::from_u128);
        let mut open = Open::new(ids);
        let mut asked = BTreeSet::new();
        for _ in 0..1000_usize.div_ceil(AT_ONCE) {
            let now = open.ask_next();
            assert!(now.len() <= 3 * AT_ONCE);
            asked.extend(now);
        }
        assert_eq!(asked.len(), 1000);
    }
}
