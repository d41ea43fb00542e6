//! Rates: what a counter gained in a stretch of time.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::error::BenchError;

/// A counter that stands still for so long will not go on.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A window in which less was counted is longer than it was to be: its rate would be chance.
const LEAST: u64 = 16;
/// How exactly the end of what ends by itself is seen.
pub(crate) const LOOK: Duration = Duration::from_millis(1);

/// A stretch of time in which something is counted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// What goes by before it begins, from the first count on.
    pub(crate) warm: Duration,
    /// Its length.
    pub(crate) length: Duration,
    /// The last count that there will be; the window ends with it at the latest.
    pub(crate) end: Option<u64>,
}

impl Window {
    /// The rate a second. `what` is named where nothing comes.
    ///
    /// # Errors
    /// The counter stands still.
    pub(crate) async fn rate(self, what: &str, count: impl Fn() -> u64) -> Result<f64, BenchError> {
        let before = count();
        reach(what, || count() > before).await?;
        sleep(self.warm).await;
        let (begin, first) = (Instant::now(), count());
        let end = self.end.unwrap_or(u64::MAX);
        if first >= end {
            return Err(BenchError::Short { what: what.to_owned() });
        }
        let mut seen = (begin, first);
        loop {
            sleep(LOOK).await;
            let (now, counted) = (Instant::now(), count());
            if counted > seen.1 {
                seen = (now, counted);
            } else if now - seen.0 > PATIENCE {
                return Err(stalled(what));
            }
            let enough = counted - first >= LEAST;
            if counted >= end || (enough && now - begin >= self.length) {
                return Ok((counted - first) as f64 / (now - begin).as_secs_f64());
            }
        }
    }
}

/// Waits for something that comes soon or never.
///
/// # Errors
/// It does not come.
pub(crate) async fn reach(what: &str, reached: impl Fn() -> bool) -> Result<(), BenchError> {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        if Instant::now() > deadline {
            return Err(stalled(what));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

pub(crate) fn stalled(what: &str) -> BenchError {
    BenchError::Stalled { what: what.to_owned(), after: PATIENCE }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_that_of_the_window_and_not_of_the_time_before() {
        let begin = Instant::now();
        // Ten a millisecond, and a thousand at once before that.
        let count = || match begin.elapsed().as_millis() {
            0 => 0,
            ms => 1_000 + 10 * ms as u64,
        };
        let window = Window { warm: SECOND, length: SECOND, end: None };
        let rate = window.rate("nothing", count).await.expect("a rate");
        assert!((rate - 10_000.0).abs() < 100.0, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_window_ends_with_the_last_message() {
        let begin = Instant::now();
        let count = || (begin.elapsed().as_millis() as u64).min(500);
        let window = Window { warm: Duration::ZERO, length: SECOND, end: Some(500) };
        let rate = window.rate("nothing", count).await.expect("a rate");
        assert!((rate - 1_000.0).abs() < 10.0, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_counter_gets_a_longer_window() {
        let begin = Instant::now();
        let count = || begin.elapsed().as_secs() / 2;
        let window = Window { warm: Duration::ZERO, length: SECOND, end: None };
        let rate = window.rate("nothing", count).await.expect("a rate");
        assert!((rate - 0.5).abs() < 0.05, "{rate}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_comes_is_named() {
        let window = Window { warm: SECOND, length: SECOND, end: None };
        let error = window.rate("the dawn", || 0).await.expect_err("nothing comes");
        assert_eq!(error.to_string(), "the dawn: nothing came for 30s");
        // It begins and then stops.
        let looks = Cell::new(0);
        let begun = || {
            looks.set(looks.get() + 1);
            u64::from(looks.get() > 1)
        };
        let window = Window { length: Duration::from_secs(60), ..window };
        assert!(matches!(window.rate("x", begun).await, Err(BenchError::Stalled { .. })));
    }
}
