//! The file's clock: wall time at the start, then monotonic time, so that a wall clock that jumps neither expires a backlog
//! nor puts messages out of order.

use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A wall clock that moved by more than this against the monotonic one has jumped.
const JUMP_MS: i64 = 60_000;

/// Where time comes from; tests move it by hand.
pub(crate) trait TimeSource: Send + Sync + 'static {
    /// Milliseconds since 1970 by the wall clock.
    fn wall_ms(&self) -> u64;
    /// Time that only grows, from any beginning.
    fn elapsed(&self) -> Duration;
}

/// The machine's clocks.
pub(crate) struct SystemTimeSource(Instant);

impl Default for SystemTimeSource {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl TimeSource for SystemTimeSource {
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

pub(crate) struct Clock {
    source: Box<dyn TimeSource>,
    /// The file's time at the start.
    start_ms: u64,
    wall_at_start_ms: u64,
    elapsed_at_start: Duration,
    /// How far the wall clock was off when that was last told.
    told_ms: Mutex<i64>,
}

impl Clock {
    /// A clock that starts at the wall clock's time, but not before `not_before_ms`, the youngest time in the file: a wall clock
    /// that was set back while the node was down would else keep messages alive for as long as it was set back.
    pub(crate) fn start(source: Box<dyn TimeSource>, not_before_ms: u64) -> Self {
        let wall_at_start_ms = source.wall_ms();
        Self {
            start_ms: wall_at_start_ms.max(not_before_ms),
            wall_at_start_ms,
            elapsed_at_start: source.elapsed(),
            told_ms: Mutex::new(0),
            source,
        }
    }

    /// The file's time in milliseconds since 1970. Never goes back while the node runs.
    pub(crate) fn now_ms(&self) -> u64 {
        self.start_ms.saturating_add(self.elapsed_ms())
    }

    /// How far the wall clock has jumped since this was last asked, if that is worth telling. It changes nothing until
    /// the next start.
    pub(crate) fn jumped_by_ms(&self) -> Option<i64> {
        let expected = self.wall_at_start_ms.saturating_add(self.elapsed_ms());
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        let off = signed(self.source.wall_ms()).saturating_sub(signed(expected));
        let mut told = self.told_ms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let by = off.saturating_sub(*told);
        (by.saturating_abs() > JUMP_MS).then(|| {
            *told = off;
            by
        })
    }

    fn elapsed_ms(&self) -> u64 {
        let elapsed = self.source.elapsed().saturating_sub(self.elapsed_at_start);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
pub(crate) mod hand {
    //! Clocks that a test moves.

    use super::{Duration, TimeSource};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Clone)]
    pub(crate) struct HandClock {
        wall_ms: Arc<AtomicU64>,
        elapsed_ms: Arc<AtomicU64>,
    }

    impl HandClock {
        pub(crate) fn at(wall_ms: u64) -> Self {
            Self { wall_ms: Arc::new(AtomicU64::new(wall_ms)), elapsed_ms: Arc::default() }
        }

        /// Both clocks go on.
        pub(crate) fn advance(&self, ms: u64) {
            self.wall_ms.fetch_add(ms, Ordering::SeqCst);
            self.elapsed_ms.fetch_add(ms, Ordering::SeqCst);
        }

        /// Somebody sets the wall clock.
        pub(crate) fn set_wall(&self, wall_ms: u64) {
            self.wall_ms.store(wall_ms, Ordering::SeqCst);
        }
    }

    impl TimeSource for HandClock {
        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::SeqCst)
        }

        fn elapsed(&self) -> Duration {
            Duration::from_millis(self.elapsed_ms.load(Ordering::SeqCst))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::hand::HandClock;
    use super::*;

    #[test]
    fn a_wall_clock_that_jumps_is_told_once_and_changes_nothing() {
        let hand = HandClock::at(1_000_000_000);
        let clock = Clock::start(Box::new(hand.clone()), 0);
        hand.advance(5_000);
        assert_eq!((clock.now_ms(), clock.jumped_by_ms()), (1_000_005_000, None));
        hand.set_wall(1_000_005_000 + 86_400_000);
        assert_eq!(clock.now_ms(), 1_000_005_000);
        assert_eq!((clock.jumped_by_ms(), clock.jumped_by_ms()), (Some(86_400_000), None));
        hand.set_wall(1_000_005_000);
        assert_eq!(clock.jumped_by_ms(), Some(-86_400_000));
    }

    #[test]
    fn the_clock_starts_no_earlier_than_the_youngest_time_in_the_file() {
        let hand = HandClock::at(1_000);
        let clock = Clock::start(Box::new(hand.clone()), 5_000);
        hand.advance(7);
        assert_eq!((clock.now_ms(), clock.jumped_by_ms()), (5_007, None));
    }
}
