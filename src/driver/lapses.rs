//! Messages that expire before any reader of their channel is known: nobody's delivery has a timer for them.

use std::time::{Duration, Instant};

use super::{Completion, Driver, Timer};
use crate::store::StoreError;
use crate::transport::Transport;

impl<T: Transport> Driver<T> {
    /// One may expire at this file time.
    pub(super) fn unclaimed_expires(&mut self, at_ms: u64) {
        self.lapses.expires(at_ms);
        self.wake_for_lapses();
    }

    /// Sets the timer, by the file's clock: that goes on while the machine is suspended, and the timer does not.
    pub(super) fn wake_for_lapses(&mut self) {
        self.arm(Timer::Lapses, self.lapses.wake_at(self.now()));
    }

    pub(super) fn look_for_lapses(&mut self) {
        self.lapses.begin();
        let store = self.store.clone();
        self.jobs.push(Box::pin(async move {
            let begun = Instant::now();
            let next_ms = store.expire_unclaimed().await.map(|(_, next_ms)| next_ms);
            Completion::Lapsed { took: begun.elapsed(), next_ms }
        }));
    }

    pub(super) fn looked_for_lapses(
        &mut self,
        took: Duration,
        next_ms: Result<Option<u64>, StoreError>,
    ) {
        let now = Instant::now();
        match next_ms {
            Ok(next_ms) => self.lapses.looked(now, took, next_ms),
            Err(error) => {
                self.complain("note what expired without a reader", &error);
                self.lapses.failed(now);
            }
        }
        self.wake_for_lapses();
    }
}
