//! Settlements on their way to the store, merged as the driver merges them.

use std::collections::BTreeMap;

use waypost::NodeId;
use waypost::protocol::TopicId;

use crate::file::{Outcome, Settlement};

#[derive(Debug, Default)]
pub(super) struct Settling {
    runs: BTreeMap<(NodeId, TopicId), Vec<Settlement>>,
    urgent: bool,
}

impl Settling {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether the messages behind a dead letter wait for its being on record.
    pub(super) fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Adds a run, which begins after all earlier ones of its cursor.
    pub(super) fn add(&mut self, settlement: Settlement) {
        self.urgent |= settlement.outcome == Outcome::Dead;
        let runs = self.runs.entry((settlement.receiver.clone(), settlement.topic)).or_default();
        match runs.last_mut() {
            Some(run) if run.outcome == settlement.outcome && run.outcome != Outcome::Dead => {
                run.last_seq = settlement.last_seq;
                run.last_id = settlement.last_id;
                run.count += settlement.count;
                run.at_ms = settlement.at_ms;
            }
            _ => runs.push(settlement),
        }
    }

    pub(super) fn take(&mut self) -> Vec<Settlement> {
        self.urgent = false;
        std::mem::take(&mut self.runs).into_values().flatten().collect()
    }

    /// They could not be written: they come before what was added since.
    pub(super) fn put_back(&mut self, settlements: Vec<Settlement>) {
        let later = self.take();
        settlements.into_iter().chain(later).for_each(|settlement| self.add(settlement));
    }
}
