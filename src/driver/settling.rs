//! Settlements on their way to the store: merged, so that they cost one row a run and not one a message.

use std::collections::BTreeMap;

use crate::message::{MessageId, NodeId, TopicId};
use crate::store::{Attempt, Outcome, Settlement};

/// What has been settled and is not in the store yet. Grows with the number of cursors, not of messages, as long as
/// messages are acknowledged.
#[derive(Debug, Default)]
pub(super) struct Settling {
    runs: BTreeMap<(NodeId, TopicId), Vec<Settlement>>,
    attempts: Vec<Attempt>,
    urgent: bool,
}

impl Settling {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.attempts.is_empty()
    }

    /// Whether the messages behind a dead letter wait for its being on record.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    pub(super) fn attempted(&mut self, attempt: Attempt) {
        self.attempts.push(attempt);
    }

    /// Adds a run. It joins the one before it where it begins behind that one's end. It does not where the file failed in between and
    /// told its cursors anew: then messages are sent again that were settled and never written, and are settled again. Counted together
    /// they would be more than there are.
    pub(super) fn settled(&mut self, settlement: Settlement) {
        let key = (settlement.receiver.clone(), settlement.topic);
        let runs = self.runs.entry(key).or_default();
        self.urgent |= matches!(settlement.outcome, Outcome::Dead { .. });
        match runs.last_mut() {
            Some(run) if continues(run, &settlement) => {
                run.last_seq = settlement.last_seq;
                run.last_id = settlement.last_id;
                run.count += settlement.count;
                run.at_ms = settlement.at_ms;
            }
            _ => runs.push(settlement),
        }
    }

    /// All of it, to be written.
    pub(super) fn take(&mut self) -> (Vec<Settlement>, Vec<Attempt>) {
        self.urgent = false;
        let runs = std::mem::take(&mut self.runs).into_values().flatten().collect();
        (runs, std::mem::take(&mut self.attempts))
    }

    /// It could not be written: it comes before what was added since.
    pub(super) fn put_back(&mut self, settlements: Vec<Settlement>, attempts: Vec<Attempt>) {
        let later = std::mem::take(self);
        for settlement in settlements.into_iter().chain(later.runs.into_values().flatten()) {
            self.settled(settlement);
        }
        self.attempts = attempts;
        self.attempts.extend(later.attempts);
    }
}

/// Whether both can be one. A dead letter keeps its own row and reason.
fn continues(run: &Settlement, next: &Settlement) -> bool {
    let is_dead = matches!(run.outcome, Outcome::Dead { .. });
    run.outcome == next.outcome && !is_dead && run.last_seq < next.first_seq
}

/// A settlement as the protocol decided it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    pub(super) topic: TopicId,
    pub(super) first_seq: u64,
    pub(super) last_seq: u64,
    pub(super) last_id: MessageId,
    pub(super) count: u64,
}

impl Run {
    pub(super) fn into_settlement(
        self,
        receiver: NodeId,
        outcome: Outcome,
        at_ms: u64,
    ) -> Settlement {
        let Self { topic, first_seq, last_seq, last_id, count } = self;
        Settlement { receiver, topic, first_seq, last_seq, last_id, outcome, count, at_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seq: u64, outcome: Outcome) -> Settlement {
        let last_id = MessageId::from_u128(u128::from(seq));
        Run { topic: TopicId(1), first_seq: seq, last_seq: seq, last_id, count: 1 }.into_settlement(
            NodeId::new("bob").expect("a valid name"),
            outcome,
            seq,
        )
    }

    fn shape(settling: &mut Settling) -> Vec<(u64, u64, u64)> {
        settling.take().0.iter().map(|s| (s.first_seq, s.last_seq, s.count)).collect()
    }

    #[test]
    fn acknowledgements_merge_and_dead_letters_stay_apart() {
        let mut settling = Settling::default();
        let dead = || Outcome::Dead { reason: "no".to_owned() };
        for (seq, outcome) in [
            (1, Outcome::Acknowledged),
            (3, Outcome::Acknowledged),
            (4, dead()),
            (5, dead()),
            (6, Outcome::Acknowledged),
        ] {
            settling.settled(run(seq, outcome));
        }
        assert_eq!(shape(&mut settling), [(1, 3, 2), (4, 4, 1), (5, 5, 1), (6, 6, 1)]);
        assert!(settling.is_empty());
    }

    #[test]
    fn what_could_not_be_written_comes_first_the_next_time() {
        let mut settling = Settling::default();
        settling.settled(run(1, Outcome::Acknowledged));
        let (settlements, attempts) = settling.take();
        settling.settled(run(2, Outcome::Acknowledged));
        settling.put_back(settlements, attempts);
        assert_eq!(shape(&mut settling), [(1, 2, 2)]);
    }

    #[test]
    fn what_is_settled_again_because_the_file_failed_is_not_counted_twice() {
        let mut settling = Settling::default();
        for seq in [1, 2, 3] {
            settling.settled(run(seq, Outcome::Acknowledged));
        }
        let (settlements, attempts) = settling.take();
        // The file failed, and told its cursor anew: all of them are sent and acknowledged again.
        for seq in [1, 2, 3, 4] {
            settling.settled(run(seq, Outcome::Acknowledged));
        }
        settling.put_back(settlements, attempts);
        assert_eq!(shape(&mut settling), [(1, 3, 3), (1, 4, 4)]);
    }
}
