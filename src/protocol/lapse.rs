//! When to look for messages that expired before any reader was known: at their time, and never for more than a small part of the time.
//!
//! What waits for a receiver expires in its [delivery](super::delivery). What waits for a channel's first reader has none; it is found by going
//! through the channel, which costs the more, the more waits there.

use std::time::{Duration, Instant};

use super::Now;

/// Least time between two looks. What expires in the meantime is told together.
const PAUSE: Duration = Duration::from_secs(1);
/// A look that took long is followed by a pause that is so many times as long.
const REST: u32 = 20;
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(30);

/// What is known of the messages that wait for a first reader.
#[derive(Debug, Default)]
pub struct Lapses {
    /// None of them expires before this file time; `None`: never.
    due_ms: Option<u64>,
    not_before: Option<Instant>,
    looking: bool,
}

impl Lapses {
    /// One of them may expire at this file time.
    pub fn expires(&mut self, at_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(at_ms, |due_ms| due_ms.min(at_ms)));
    }

    /// When to look; `None` where nothing will expire, or while it is looked.
    pub fn wake_at(&self, now: Now) -> Option<Instant> {
        let due_ms = self.due_ms.filter(|_| !self.looking)?;
        // By the next millisecond it has passed, however the file's clock is rounded.
        let wait = due_ms.checked_sub(now.file_ms).map_or(0, |wait| wait.saturating_add(1));
        // A time too far away to be one is never reached.
        let at = now.mono.checked_add(Duration::from_millis(wait))?;
        Some(self.not_before.map_or(at, |not_before| at.max(not_before)))
    }

    /// A look begins: what [`expires`](Self::expires) says from now on may not be found by it.
    pub fn begin(&mut self) {
        (self.due_ms, self.looking) = (None, true);
    }

    /// It is over and took so long; the next message expires at `next_ms`.
    pub fn looked(&mut self, now: Instant, took: Duration, next_ms: Option<u64>) {
        self.looking = false;
        self.not_before = now.checked_add(PAUSE.max(took.saturating_mul(REST)));
        next_ms.into_iter().for_each(|at_ms| self.expires(at_ms));
    }

    /// It failed: what was to be found is still there.
    pub fn failed(&mut self, now: Instant) {
        self.looking = false;
        self.not_before = now.checked_add(RETRY);
        self.expires(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::Clock;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn nothing_that_expires_wakes_nobody() {
        let (mut lapses, clock) = (Lapses::default(), Clock::new());
        assert_eq!(lapses.wake_at(clock.now()), None);
        lapses.begin();
        lapses.looked(clock.now().mono, MS, None);
        assert_eq!(lapses.wake_at(clock.now()), None);
        lapses.expires(u64::MAX);
        let wake = lapses.wake_at(clock.now());
        assert!(wake.is_none_or(|at| at > clock.now().mono + 1_000_000 * RETRY), "{wake:?}");
    }

    #[test]
    fn the_first_that_expires_is_looked_for_right_after_its_time() {
        let (mut lapses, mut clock) = (Lapses::default(), Clock::new());
        let now = clock.now();
        lapses.expires(now.file_ms + 5_000);
        lapses.expires(now.file_ms + 3_000);
        lapses.expires(now.file_ms + 9_000);
        assert_eq!(lapses.wake_at(now), Some(now.mono + 3_001 * MS));
        // However late it is asked.
        let now = clock.pass(3_500 * MS);
        assert_eq!(lapses.wake_at(now), Some(now.mono));
        lapses.begin();
        assert_eq!(lapses.wake_at(now), None, "it is being looked for");
        lapses.looked(now.mono, MS, Some(now.file_ms + 1_500));
        assert_eq!(lapses.wake_at(now), Some(now.mono + 1_501 * MS));
    }

    #[test]
    fn what_is_accepted_during_a_look_is_looked_for_too() {
        let (mut lapses, clock) = (Lapses::default(), Clock::new());
        let now = clock.now();
        lapses.expires(now.file_ms);
        lapses.begin();
        lapses.expires(now.file_ms + 2_000);
        lapses.looked(now.mono, MS, Some(now.file_ms + 60_000));
        assert_eq!(lapses.wake_at(now), Some(now.mono + 2_001 * MS));
    }

    #[test]
    fn looks_take_a_twentieth_of_the_time_at_most() {
        let (mut lapses, mut clock) = (Lapses::default(), Clock::new());
        for took in [Duration::ZERO, MS, 49 * MS, 50 * MS, 700 * MS, Duration::from_secs(9)] {
            lapses.expires(0);
            lapses.begin();
            let now = clock.pass(took);
            lapses.looked(now.mono, took, Some(now.file_ms));
            let at = lapses.wake_at(now).expect("one is due");
            assert_eq!(at - now.mono, PAUSE.max(took * REST), "{took:?}");
            clock.pass(at - now.mono);
        }
        lapses.looked(clock.now().mono, Duration::MAX, Some(0));
    }

    #[test]
    fn a_look_that_failed_is_made_again() {
        let (mut lapses, clock) = (Lapses::default(), Clock::new());
        let now = clock.now();
        lapses.expires(now.file_ms);
        lapses.begin();
        lapses.failed(now.mono);
        assert_eq!(lapses.wake_at(now), Some(now.mono + RETRY));
    }
}
