//! How far this node's own messages are: waiting, delivered to n of m. The node's file is the truth; what it says is asked for again
//! when something was delivered, so that marks outlive restarts and missed events.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use waypost::MessageId;
use waypost::inspect::{InspectError, Inspector, ReceiverState, Story};

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
}

impl Mark {
    fn of(story: &Story) -> Self {
        let mut mark = Self::default();
        for receiver in &story.receivers {
            match &receiver.state {
                ReceiverState::NotForIt => continue,
                ReceiverState::Settled { outcome, .. } if outcome == "acknowledged" => {
                    mark.delivered += 1;
                }
                ReceiverState::Settled { .. } => mark.failed += 1,
                _ => {}
            }
            mark.readers += 1;
        }
        mark.settled = mark.readers > 0 && mark.delivered + mark.failed == mark.readers;
        mark
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

/// Asks the file. A message that it no longer has was settled long ago.
///
/// # Errors
/// The file cannot be read.
pub(crate) fn ask(path: &Path, ids: &[MessageId]) -> Result<Vec<(MessageId, Mark)>, InspectError> {
    let inspector = Inspector::open(path)?;
    let mut marks = Vec::with_capacity(ids.len());
    for id in ids {
        let story = inspector.why(*id)?.filter(|story| story.accepted.is_some());
        let mark = story.map(|story| Mark::of(&story));
        marks.push((*id, mark.unwrap_or(Mark { settled: true, ..Mark::default() })));
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
