//! Messages counted as they are sent and handled, and senders held back while too many wait.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::BenchError;
use crate::window::{LOOK, PATIENCE, stalled};

/// Senders wait while so many messages do.
const MOST_WAITING: u64 = 8_192;
/// They go on when no more are left, so that they send many at once and the queue never runs empty.
const GO_ON: u64 = MOST_WAITING / 2;
/// The handlers look at the senders after so many messages.
const LOOK_EVERY: u64 = 64;

/// What one set of senders sends and one set of receivers handles.
#[derive(Default)]
pub(crate) struct Flow {
    sent: AtomicU64,
    handled: AtomicU64,
    room: Notify,
    drain: Drain,
}

/// Messages whose times are noted, so that a backlog that is gone in milliseconds is still measured.
#[derive(Default)]
struct Drain {
    first: AtomicU64,
    last: AtomicU64,
    times: Mutex<[Option<Instant>; 2]>,
}

impl Flow {
    /// Messages handled so far.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Relaxed)
    }

    /// Messages sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Counts a message that was sent.
    pub(crate) fn count_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// Counts a message that was handled.
    pub(crate) fn count_handled(&self) {
        let handled = self.handled.fetch_add(1, Relaxed) + 1;
        if handled.is_multiple_of(LOOK_EVERY) && self.waiting() <= GO_ON {
            self.room.notify_waiters();
        }
        for (n, noted) in [&self.drain.first, &self.drain.last].into_iter().enumerate() {
            if handled == noted.load(Relaxed) {
                self.drain.times.lock().expect("nothing panics with it")[n] = Some(Instant::now());
            }
        }
    }

    /// Says that what is not handled yet, up to this count, is about to be drained.
    pub(crate) fn expect(&self, last: u64) {
        self.drain.first.store(self.handled() + 1, Relaxed);
        self.drain.last.store(last, Relaxed);
        *self.drain.times.lock().expect("nothing panics with it") = [None; 2];
    }

    /// Waits until the first message of the drain is handled; when that was.
    ///
    /// # Errors
    /// None comes.
    pub(crate) async fn begun(&self, what: &str) -> Result<Instant, BenchError> {
        let begin = Instant::now();
        loop {
            if let [Some(first), _] = self.times() {
                return Ok(first);
            }
            if begin.elapsed() > PATIENCE {
                return Err(stalled(what));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The rate of the drain from its first message to its last, or for so long.
    ///
    /// # Errors
    /// None comes, it comes to a stop, or it is one message long.
    pub(crate) async fn drained(&self, what: &str, longest: Duration) -> Result<f64, BenchError> {
        let first = self.begun(what).await?;
        let before = self.drain.first.load(Relaxed);
        let mut seen = (Instant::now(), before);
        loop {
            let handled = self.handled();
            let (count, time) = match self.times() {
                [_, Some(last)] => (self.drain.last.load(Relaxed), last - first),
                _ if first.elapsed() >= longest => (handled, first.elapsed()),
                _ => {
                    if handled > seen.1 {
                        seen = (Instant::now(), handled);
                    } else if seen.0.elapsed() > PATIENCE {
                        return Err(stalled(what));
                    }
                    tokio::time::sleep(LOOK).await;
                    continue;
                }
            };
            return match count.saturating_sub(before) {
                0 => Err(BenchError::Short { what: what.to_owned() }),
                drained => Ok(drained as f64 / time.as_secs_f64()),
            };
        }
    }

    fn times(&self) -> [Option<Instant>; 2] {
        *self.drain.times.lock().expect("nothing panics with it")
    }

    /// Waits while too many messages do.
    pub(crate) async fn room(&self) {
        if self.waiting() < MOST_WAITING {
            return;
        }
        loop {
            let mut room = std::pin::pin!(self.room.notified());
            room.as_mut().enable();
            if self.waiting() <= GO_ON {
                return;
            }
            room.await;
        }
    }

    fn waiting(&self) -> u64 {
        // A message can be counted as handled before it is counted as sent.
        self.sent().saturating_sub(self.handled())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn senders_wait_for_half_the_queue_and_then_go_on() {
        let flow = Flow::default();
        (0..MOST_WAITING).for_each(|_| flow.count_sent());
        let mut room = std::pin::pin!(flow.room());
        let poll = |room: std::pin::Pin<&mut _>| futures_util::FutureExt::now_or_never(room);
        assert!(poll(room.as_mut()).is_none());
        (1..MOST_WAITING - GO_ON).for_each(|_| flow.count_handled());
        assert!(poll(room.as_mut()).is_none(), "one too many waits");
        flow.count_handled();
        assert!(poll(room.as_mut()).is_some());
    }

    #[tokio::test]
    async fn a_drain_is_timed_from_its_first_message_to_its_last() {
        let flow = Flow::default();
        (0..5).for_each(|_| flow.count_handled());
        flow.expect(16);
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        for _ in 5..16 {
            flow.count_handled();
            std::thread::sleep(Duration::from_millis(2));
        }
        let took = begin.elapsed().as_secs_f64();
        // The time before the first of them is not the drain's, and what comes later is not either.
        std::thread::sleep(Duration::from_millis(20));
        let rate = flow.drained("x", Duration::from_secs(60)).await.expect("a rate");
        assert!((10.0 / took..=500.0).contains(&rate), "{rate} in {took} s");
        flow.expect(17);
        flow.count_handled();
        let one = flow.drained("one", Duration::from_secs(60)).await;
        assert!(matches!(one, Err(BenchError::Short { .. })), "{one:?}");
    }

    #[tokio::test]
    async fn a_drain_that_takes_too_long_is_timed_so_far() {
        let flow = Flow::default();
        flow.expect(1_000_000);
        (0..101).for_each(|_| flow.count_handled());
        let longest = Duration::from_millis(50);
        let rate = flow.drained("x", longest).await.expect("a rate");
        assert!(rate <= 100.0 / longest.as_secs_f64(), "{rate}");
    }
}
