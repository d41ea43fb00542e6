//! What has been settled and is not on record yet.

use std::collections::BTreeMap;

use super::TopicId;
use crate::message::{MessageId, NodeId};

/// A run of a topic's messages that ended in the same way for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub receiver: NodeId,
    pub topic: TopicId,
    pub first_seq: u64,
    pub last_seq: u64,
    pub last_id: MessageId,
    /// How many of the topic's messages it covers.
    pub count: u64,
    pub how: Settled,
    /// By the file's clock.
    pub at_ms: u64,
}

/// How a message ended for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    Acknowledged,
    Expired,
    Dead { reason: String },
}

/// Where a receiver stands in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// All up to here are settled.
    pub acked_seq: u64,
    /// The last acknowledged one among them.
    pub acked_id: Option<MessageId>,
    /// Settled in another way since then.
    pub skipped: u64,
}

/// One sending of a message that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    pub receiver: NodeId,
    pub seq: u64,
    /// From 1.
    pub attempt: u32,
    /// By the file's clock.
    pub at_ms: u64,
    pub answer: String,
}

type Runs = BTreeMap<(NodeId, TopicId), Vec<Run>>;

/// So many settled messages are brought to the file soon, fewer when there is time: after a crash they would be sent again, to receivers that
/// know them.
const MANY: u64 = 100;

/// Runs on their way to the file: merged, so that they cost one row a run and not one a message. Grows with the number of cursors, not of
/// messages, as long as messages are acknowledged.
#[derive(Debug, Default)]
pub struct Settling {
    waiting: Runs,
    /// Given to the file, which has not answered.
    writing: Runs,
    /// Messages among those that wait.
    messages: u64,
    urgent: bool,
}

impl Settling {
    /// Whether nothing waits to be written.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether messages wait for it: what is behind a dead letter or an expired message is not sent before that is on record.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether so many messages wait to be written that it is worth a commit of its own.
    pub fn is_many(&self) -> bool {
        self.messages >= MANY
    }

    /// Adds a run, which begins after all earlier ones of its cursor.
    pub fn add(&mut self, run: Run) {
        self.urgent |= run.how != Settled::Acknowledged;
        self.messages += run.count;
        let runs = self.waiting.entry((run.receiver.clone(), run.topic)).or_default();
        match runs.last_mut() {
            Some(last) if last.how == run.how && is_mergeable(&run.how) => {
                last.last_seq = run.last_seq;
                last.last_id = run.last_id;
                last.count += run.count;
                last.at_ms = run.at_ms;
            }
            _ => runs.push(run),
        }
    }

    /// All that is not on record, to be written: then say `written` or `failed`.
    pub fn take(&mut self) -> Vec<Run> {
        self.failed();
        (self.urgent, self.messages) = (false, 0);
        self.writing = std::mem::take(&mut self.waiting);
        self.writing.values().flatten().cloned().collect()
    }

    /// What was taken is on record. Returns it.
    pub fn written(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.writing).into_values().flatten().collect()
    }

    /// What was taken could not be written: it comes before what was added since.
    pub fn failed(&mut self) {
        let later = std::mem::replace(&mut self.waiting, std::mem::take(&mut self.writing));
        let settled_otherwise = |run: &Run| run.how != Settled::Acknowledged;
        self.urgent |= self.waiting.values().flatten().any(settled_otherwise);
        self.messages = count(&self.waiting);
        later.into_values().flatten().for_each(|run| self.add(run));
    }

    /// What is not on record of this receiver: of each cursor in order.
    pub fn of(&self, receiver: &NodeId) -> Vec<Run> {
        let from = (receiver.clone(), TopicId(0));
        let of = |runs: &Runs| -> Vec<Run> {
            let its = runs.range(from.clone()..).take_while(|((node, _), _)| node == receiver);
            its.flat_map(|(_, runs)| runs.clone()).collect()
        };
        [of(&self.writing), of(&self.waiting)].concat()
    }

    /// The cursor is gone, or the file did not take its runs: they mean nothing any more.
    pub fn forget(&mut self, receiver: &NodeId, topic: TopicId) {
        let key = (receiver.clone(), topic);
        self.waiting.remove(&key);
        self.writing.remove(&key);
        self.messages = count(&self.waiting);
    }

    /// Where a cursor stands once all is on record that belongs to it, if the file has it here.
    pub fn ahead(&self, receiver: &NodeId, topic: TopicId, mut at: Position) -> Position {
        let key = (receiver.clone(), topic);
        let runs = [&self.writing, &self.waiting].into_iter().filter_map(|runs| runs.get(&key));
        for run in runs.flatten() {
            if run.last_seq <= at.acked_seq {
                continue;
            }
            at.acked_seq = run.last_seq;
            if run.how == Settled::Acknowledged {
                at.acked_id = Some(run.last_id);
                at.skipped = 0;
            } else {
                at.skipped += run.count;
            }
        }
        at
    }
}

fn count(runs: &Runs) -> u64 {
    runs.values().flatten().map(|run| run.count).sum()
}

/// A dead letter keeps its own row and reason.
fn is_mergeable(how: &Settled) -> bool {
    !matches!(how, Settled::Dead { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: TopicId = TopicId(1);

    fn bob() -> NodeId {
        NodeId::new("bob").expect("a valid name")
    }

    fn id(seq: u64) -> MessageId {
        MessageId::from_u128(u128::from(seq))
    }

    fn run(seq: u64, how: Settled) -> Run {
        Run {
            receiver: bob(),
            topic: TOPIC,
            first_seq: seq,
            last_seq: seq,
            last_id: id(seq),
            count: 1,
            how,
            at_ms: seq,
        }
    }

    fn dead() -> Settled {
        Settled::Dead { reason: "no".to_owned() }
    }

    fn shape(runs: &[Run]) -> Vec<(u64, u64, u64)> {
        runs.iter().map(|run| (run.first_seq, run.last_seq, run.count)).collect()
    }

    #[test]
    fn acknowledgements_merge_and_dead_letters_stay_apart() {
        let mut settling = Settling::default();
        for (seq, how) in [
            (1, Settled::Acknowledged),
            (3, Settled::Acknowledged),
            (4, dead()),
            (5, dead()),
            (6, Settled::Acknowledged),
        ] {
            settling.add(run(seq, how));
        }
        assert!(settling.is_urgent());
        let taken = settling.take();
        assert_eq!(shape(&taken), [(1, 3, 2), (4, 4, 1), (5, 5, 1), (6, 6, 1)]);
        assert!(settling.is_empty() && !settling.is_urgent());
        assert_eq!(settling.written(), taken);
        assert_eq!(settling.take(), []);
    }

    #[test]
    fn many_are_worth_a_commit_of_their_own() {
        let mut settling = Settling::default();
        (1..MANY).for_each(|seq| settling.add(run(seq, Settled::Acknowledged)));
        assert!(!settling.is_many());
        settling.add(run(MANY, Settled::Acknowledged));
        assert!(settling.is_many());
        settling.take();
        assert!(!settling.is_many(), "they are on their way");
        settling.failed();
        assert!(settling.is_many(), "they still have to be written");
        settling.forget(&bob(), TOPIC);
        assert!(!settling.is_many() && settling.is_empty());
    }

    #[test]
    fn what_could_not_be_written_comes_first_the_next_time() {
        let mut settling = Settling::default();
        settling.add(run(1, Settled::Acknowledged));
        settling.take();
        settling.add(run(2, Settled::Acknowledged));
        settling.failed();
        assert_eq!(shape(&settling.take()), [(1, 2, 2)]);
    }

    #[test]
    fn what_expired_is_written_at_once_and_what_was_acknowledged_is_not() {
        let mut settling = Settling::default();
        settling.add(run(1, Settled::Acknowledged));
        assert!(!settling.is_urgent());
        settling.add(run(2, Settled::Expired));
        assert!(settling.is_urgent());
    }

    #[test]
    fn a_dead_letter_that_could_not_be_written_is_still_waited_for() {
        let mut settling = Settling::default();
        settling.add(run(1, dead()));
        settling.take();
        settling.failed();
        assert!(settling.is_urgent());
    }

    #[test]
    fn a_cursor_stands_behind_what_is_on_its_way_to_the_file() {
        let mut settling = Settling::default();
        settling.add(run(2, Settled::Acknowledged));
        settling.take();
        settling.add(run(3, Settled::Expired));
        let at = Position { acked_seq: 1, acked_id: Some(id(1)), skipped: 4 };
        let ahead = settling.ahead(&bob(), TOPIC, at);
        assert_eq!(ahead, Position { acked_seq: 3, acked_id: Some(id(2)), skipped: 1 });
        // The file has more: what is on its way was there already.
        let further = Position { acked_seq: 9, acked_id: Some(id(9)), skipped: 0 };
        assert_eq!(settling.ahead(&bob(), TOPIC, further), further);
        assert_eq!(shape(&settling.of(&bob())), [(2, 2, 1), (3, 3, 1)]);
        settling.forget(&bob(), TOPIC);
        assert_eq!(settling.of(&bob()), []);
        assert_eq!(settling.ahead(&bob(), TOPIC, at), at);
    }
}
