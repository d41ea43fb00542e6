//! Settlements and failed attempts on their way to the store.

use std::sync::MutexGuard;

use crate::protocol::settling;
use crate::store::{Attempt, Settlement, UnderWay};

/// Failed attempts that may wait to be written.
const MAX_ATTEMPTS: usize = 10_000;

/// What the store does not know yet.
#[derive(Debug)]
pub(super) struct Settling {
    /// The store looks at them too, before it gives up what waits for a receiver.
    runs: UnderWay,
    attempts: Vec<Attempt>,
}

impl Settling {
    pub(super) fn new(runs: UnderWay) -> Self {
        Self { runs, attempts: Vec::new() }
    }

    /// Held while something is decided, and never while anything is waited for: the store's writer may want it.
    pub(super) fn runs(&self) -> MutexGuard<'_, settling::Settling> {
        self.runs.lock()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs().is_empty() && self.attempts.is_empty()
    }

    /// Notes a failed attempt, unless too many wait for a disk that is full: they tell why a message is late, and decide nothing.
    pub(super) fn attempted(&mut self, attempt: Attempt) {
        if self.attempts.len() < MAX_ATTEMPTS {
            self.attempts.push(attempt);
        }
    }

    /// All of it, to be written.
    pub(super) fn take(&mut self) -> (Vec<Settlement>, Vec<Attempt>) {
        let runs = self.runs().take().into_iter().map(Settlement::from).collect();
        (runs, std::mem::take(&mut self.attempts))
    }

    /// It could not be written: it comes before what was added since.
    pub(super) fn failed(&mut self, mut attempts: Vec<Attempt>) {
        self.runs().failed();
        attempts.append(&mut self.attempts);
        self.attempts = attempts;
    }
}
