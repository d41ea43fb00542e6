//! So many in a time, and no more.

use std::time::{Duration, Instant};

/// What may be done so often in each span of time, which begins with the first that is done in it.
#[derive(Debug)]
pub(super) struct Allowance {
    most: u32,
    each: Duration,
    since: Option<Instant>,
    count: u32,
}

impl Allowance {
    pub(super) const fn new(most: u32, each: Duration) -> Self {
        Self { most, each, since: None, count: 0 }
    }

    /// Whether it may be done once more, which counts.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| since + self.each <= now) {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(1);
        self.count <= self.most
    }
}
