//! Answers that are kept for a moment, so that whoever asks often costs no more than whoever asks once.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// An answer that is made by one request at a time, begun at most once in this time, and given to all who ask within it.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    time: Duration,
    last: Mutex<Last<T>>,
}

#[derive(Debug)]
struct Last<T> {
    begun: Option<Instant>,
    made: Option<(Instant, T)>,
}

impl<T: Clone> Kept<T> {
    pub(crate) fn new(time: Duration) -> Self {
        Self { time, last: Mutex::new(Last { begun: None, made: None }) }
    }

    /// The answer that is kept, or a new one. Others wait for it. Where it is cancelled the next who waits makes one, once the time since the
    /// last beginning is over: what was begun may still be worked on elsewhere.
    pub(crate) async fn get(&self, make: impl AsyncFnOnce() -> T) -> T {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = &last.made
            && at.elapsed() < self.time
        {
            return answer.clone();
        }
        if let Some(begun) = last.begun {
            sleep_until(begun + self.time).await;
        }
        last.begun = Some(Instant::now());
        let answer = make().await;
        last.made = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;
    use tokio::time::{advance, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_for_its_time_and_then_made_anew() {
        let kept = Kept::new(SECOND);
        assert_eq!(kept.get(async || 1).await, 1);
        advance(SECOND - Duration::from_millis(1)).await;
        assert_eq!(kept.get(async || 2).await, 1);
        advance(Duration::from_millis(1)).await;
        assert_eq!(kept.get(async || 3).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn many_at_once_share_one_that_takes_long() {
        let (kept, made) = (Arc::new(Kept::new(SECOND)), Arc::new(AtomicUsize::new(0)));
        let mut asking = JoinSet::new();
        for _ in 0..100 {
            let (kept, made) = (kept.clone(), made.clone());
            asking.spawn(async move {
                kept.get(async || {
                    sleep(SECOND * 5).await;
                    made.fetch_add(1, Ordering::Relaxed)
                })
                .await
            });
        }
        assert!(asking.join_all().await.iter().all(|answer| *answer == 0));
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_ask_and_go_away_begin_no_more_often() {
        let (kept, begun, start) = (Kept::new(SECOND), AtomicUsize::new(0), Instant::now());
        let make = async || {
            begun.fetch_add(1, Ordering::Relaxed);
            sleep(SECOND / 2).await;
        };
        for _ in 0..10 {
            tokio::select! {
                biased;
                () = kept.get(make) => panic!("it takes longer"),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        kept.get(make).await;
        assert_eq!((begun.load(Ordering::Relaxed), start.elapsed()), (2, SECOND * 3 / 2));
    }
}
