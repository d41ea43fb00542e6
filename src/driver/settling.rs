//! Settlements and failed attempts on their way to the store.

use crate::protocol::delivery::Settled;
use crate::protocol::settling::{self, Run};
use crate::store::{Attempt, Outcome, Settlement};

/// Failed attempts that may wait to be written.
const MAX_ATTEMPTS: usize = 10_000;

/// What the store does not know yet.
#[derive(Debug, Default)]
pub(super) struct Settling {
    pub(super) runs: settling::Settling,
    pub(super) attempts: Vec<Attempt>,
}

impl Settling {
    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.attempts.is_empty()
    }

    /// Notes a failed attempt, unless too many wait for a disk that is full: they tell why a message is late, and decide nothing.
    pub(super) fn attempted(&mut self, attempt: Attempt) {
        if self.attempts.len() < MAX_ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    /// All of it, to be written.
    pub(super) fn take(&mut self) -> (Vec<Settlement>, Vec<Attempt>) {
        let runs = self.runs.take().into_iter().map(into_settlement).collect();
        (runs, std::mem::take(&mut self.attempts))
    }

    /// It could not be written: it comes before what was added since.
    pub(super) fn failed(&mut self, mut attempts: Vec<Attempt>) {
        self.runs.failed();
        attempts.append(&mut self.attempts);
        self.attempts = attempts;
    }
}

fn into_settlement(run: Run) -> Settlement {
    let Run { receiver, topic, first_seq, last_seq, last_id, count, how, at_ms } = run;
    let outcome = match how {
        Settled::Acknowledged => Outcome::Acknowledged,
        Settled::Expired => Outcome::Expired,
        Settled::Dead { reason } => Outcome::Dead { reason },
    };
    Settlement { receiver, topic, first_seq, last_seq, last_id, outcome, count, at_ms }
}
