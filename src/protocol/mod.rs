//! Decisions only: time and events in, actions out. Nothing here does I/O, reads a clock or draws a random number, so that
//! all of it can be simulated.

use std::time::Instant;

pub(crate) mod backoff;
pub(crate) mod delivery;
pub(crate) mod frame;
pub(crate) mod inbox;
pub(crate) mod membership;
pub(crate) mod origin;

/// The time of an event: monotonic for deadlines, the file's clock for expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Now {
    pub(crate) mono: Instant,
    /// Milliseconds since 1970 by the file's clock.
    pub(crate) file_ms: u64,
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::time::Duration;

    /// A clock that tests move by hand.
    pub(crate) struct Clock {
        start: Instant,
        at: Duration,
    }

    impl Clock {
        pub(crate) fn new() -> Self {
            Self { start: Instant::now(), at: Duration::ZERO }
        }

        pub(crate) fn now(&self) -> Now {
            let file_ms = 1_000_000 + u64::try_from(self.at.as_millis()).expect("a short test");
            Now { mono: self.start + self.at, file_ms }
        }

        pub(crate) fn pass(&mut self, time: Duration) -> Now {
            self.at += time;
            self.now()
        }
    }
}
