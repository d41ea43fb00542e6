//! Decisions only: time and events in, actions out. Nothing here does I/O, reads a clock or draws a random number, so that
//! all of it can be simulated.
//!
//! Public for the project's own simulation and fuzz targets, and hidden: it is no part of the crate's interface and changes in any
//! release.

use std::time::Instant;

pub use crate::message::{Body, BodyError, Encoding, TopicId};

pub mod admin;
mod allowance;
pub mod backoff;
pub mod delivery;
pub mod election;
pub mod frame;
pub mod inbound;
pub mod inbox;
pub mod laggard;
pub mod lapse;
pub mod leadership;
pub mod life;
pub mod lifecycle;
pub mod looks;
pub mod membership;
pub mod orders;
pub mod origin;
pub mod outbound;
pub mod peers;
pub mod report;
pub mod settling;
pub mod stalls;

/// The time of an event: monotonic for deadlines, the file's clock for expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub mono: Instant,
    /// Milliseconds since 1970 by the file's clock.
    pub file_ms: u64,
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
