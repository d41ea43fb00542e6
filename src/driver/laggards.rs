//! Who is furthest behind, told where what waits comes near a limit.

use std::time::{Duration, Instant};

use super::{Completion, Driver, Timer};
use crate::condition::StorageUse;
use crate::event::{Event, Limit, LimitNear};
use crate::protocol::laggard::{self, Laggard, Used, mark_at};
use crate::protocol::report::Account;
use crate::reason::Reason;
use crate::store::{Cursor, StoreError};
use crate::transport::Transport;

/// Least time between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked at while a mark is reached: who is furthest behind may change without a message being sent.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What has been told of each limit, and when that was looked at.
#[derive(Debug, Default)]
pub(super) struct Laggards {
    queues: Watched,
    files: Watched,
    looked: Option<Instant>,
    looking: bool,
}

#[derive(Debug, Default)]
struct Watched {
    watch: laggard::Watch,
    /// What was told last, while a mark is reached.
    near: Option<Reason>,
}

impl Laggards {
    /// What was told last of each limit, while a mark of it is reached.
    pub(super) fn near(&self) -> impl Iterator<Item = &Reason> {
        self.queues.near.iter().chain(&self.files.near)
    }
}

impl<T: Transport> Driver<T> {
    /// Whether these cursors are a reason to look at once, after a start.
    pub(super) fn look_at_restored(&mut self, cursors: &[Cursor]) {
        let mark = mark_at(self.queue_limit(), laggard::MARKS[0]);
        let mut pending = std::collections::BTreeMap::new();
        for cursor in cursors {
            *pending.entry(&cursor.receiver).or_insert(0) += cursor.pending;
        }
        if pending.values().any(|pending| *pending >= mark) {
            self.look_for_laggards_soon();
        }
    }

    pub(super) fn look_for_laggards_soon(&mut self) {
        let now = Instant::now();
        let at = self.laggards.looked.map_or(now, |looked| now.max(looked + PAUSE));
        if !self.laggards.looking {
            self.arm(Timer::Laggards, Some(at));
        }
    }

    /// Has the file say what waits for whom, once what has been settled is on its way there.
    pub(super) fn look_for_laggards(&mut self) {
        self.laggards.looked = Some(Instant::now());
        self.laggards.looking = true;
        self.settle();
        let (accounts, storage) = (self.store.accounts(), self.store.storage());
        let found = async { Ok((accounts.await?, storage.await?)) };
        self.await_job(found, Completion::Laggards);
    }

    pub(super) fn found_laggards(&mut self, found: Result<(Vec<Account>, StorageUse), StoreError>) {
        self.laggards.looking = false;
        let Ok((accounts, storage)) = found else {
            return self.arm(Timer::Laggards, Some(Instant::now() + LOOK_AGAIN));
        };
        let waits = accounts.into_iter().filter(|account| account.pending > 0);
        let waits = waits.map(|Account { receiver, pending, oldest_pending_ms, .. }| Laggard {
            receiver,
            pending,
            oldest_ms: oldest_pending_ms,
        });
        let waiting: Vec<Laggard> = waits.collect();
        self.watch(Limit::Queue(self.queue_limit()), &waiting);
        self.watch(Limit::Storage(storage), &waiting);
        if self.laggards.near().next().is_some() {
            self.arm(Timer::Laggards, Some(Instant::now() + LOOK_AGAIN));
        }
        self.tell_stalls();
    }

    /// Tells where a mark of this limit is reached.
    fn watch(&mut self, limit: Limit, waiting: &[Laggard]) {
        let (watched, most, used) = match limit {
            Limit::Queue(limit) => (&mut self.laggards.queues, limit, Used::Messages),
            Limit::Storage(StorageUse { used_bytes, limit_bytes }) => {
                (&mut self.laggards.files, limit_bytes, Used::Bytes(used_bytes))
            }
        };
        let warning = watched.watch.look(most, used, waiting);
        if !watched.watch.is_alert() {
            watched.near = None;
        }
        let Some(laggard::Warning { percent, laggard }) = warning else { return };
        let Laggard { receiver, pending, oldest_ms } = laggard;
        let oldest_age_ms = oldest_ms.map(|sent| self.store.now_ms().saturating_sub(sent));
        let near = LimitNear { limit, percent, receiver, pending, oldest_age_ms };
        let reason = near.reason();
        tracing::warn!(node = %self.me, "{reason}");
        match limit {
            Limit::Queue(_) => self.laggards.queues.near = Some(reason),
            Limit::Storage(_) => self.laggards.files.near = Some(reason),
        }
        self.tell_stalls();
        self.tell(Event::LimitNear(near));
    }

    fn queue_limit(&self) -> u64 {
        u64::try_from(self.config.queue_limit.get()).unwrap_or(u64::MAX)
    }
}
