//! Who is furthest behind: when that is looked at, and what of it is told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::condition::{Limit, LimitNear, StorageUse};
use crate::message::NodeId;
use crate::protocol::Now;
use crate::protocol::laggard::{Laggard, MARKS, Used, Warning, Watch, mark_at};
use crate::protocol::report::Account;
use crate::reason::Reason;

/// Least time between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// How often it is looked at while a mark is reached: who is furthest behind may change without a message being sent.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// What the file says of those who are behind, and of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    pub accounts: Vec<Account>,
    /// What the files take, and may take.
    pub used_bytes: u64,
    pub limit_bytes: u64,
}

/// What has been told of each limit, and when that was looked at.
#[derive(Debug, Default)]
pub(super) struct Behind {
    queues: Watched,
    files: Watched,
    looked: Option<Instant>,
    looking: bool,
    look_at: Option<Instant>,
}

#[derive(Debug, Default)]
struct Watched {
    watch: Watch,
    /// What was told last, while a mark is reached.
    near: Option<Reason>,
}

impl Behind {
    /// What was told last of each limit, while a mark of it is reached.
    pub(super) fn near(&self) -> impl Iterator<Item = &Reason> {
        self.queues.near.iter().chain(&self.files.near)
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks at once where so much waits at the start.
    pub(super) fn restored<'a>(
        &mut self,
        now: Instant,
        queue_limit: u64,
        pending: impl Iterator<Item = (&'a NodeId, u64)>,
    ) {
        let mut sums = BTreeMap::<&NodeId, u64>::new();
        for (receiver, pending) in pending {
            let sum = sums.entry(receiver).or_default();
            *sum = sum.saturating_add(pending);
        }
        if sums.into_values().any(|pending| pending >= mark_at(queue_limit, MARKS[0])) {
            self.look_soon(now);
        }
    }

    pub(super) fn look_soon(&mut self, now: Instant) {
        if !self.looking {
            self.look_at = Some(self.looked.map_or(now, |looked| now.max(looked + PAUSE)));
        }
    }

    /// Whether it is to be looked at now; then that begins.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.look_at.take_if(|at| *at <= now).is_some();
        if is_due {
            (self.looked, self.looking) = (Some(now), true);
        }
        is_due
    }

    /// What is to be told of what was found; none was found where the file failed.
    pub(super) fn measured(
        &mut self,
        now: Now,
        queue_limit: u64,
        found: Option<Filled>,
    ) -> Vec<LimitNear> {
        self.looking = false;
        let Some(Filled { accounts, used_bytes, limit_bytes }) = found else {
            self.look_at = Some(now.mono + LOOK_AGAIN);
            return Vec::new();
        };
        let waits = accounts.into_iter().filter(|account| account.pending > 0);
        let waiting: Vec<Laggard> = waits.map(Laggard::from).collect();
        let limits =
            [Limit::Queue(queue_limit), Limit::Storage(StorageUse { used_bytes, limit_bytes })];
        let told = limits.into_iter().filter_map(|limit| self.watch(now, limit, &waiting));
        let told = told.collect();
        if self.near().next().is_some() {
            self.look_at = Some(now.mono + LOOK_AGAIN);
        }
        told
    }

    /// What is to be told where a mark of this limit is reached.
    fn watch(&mut self, now: Now, limit: Limit, waiting: &[Laggard]) -> Option<LimitNear> {
        let (watched, most, used) = match limit {
            Limit::Queue(limit) => (&mut self.queues, limit, Used::Messages),
            Limit::Storage(StorageUse { used_bytes, limit_bytes }) => {
                (&mut self.files, limit_bytes, Used::Bytes(used_bytes))
            }
        };
        let warning = watched.watch.look(most, used, waiting);
        if !watched.watch.is_alert() {
            watched.near = None;
        }
        let Warning { percent, laggard } = warning?;
        let Laggard { receiver, pending, oldest_ms } = laggard;
        let oldest_age_ms = oldest_ms.map(|sent| now.file_ms.saturating_sub(sent));
        let near = LimitNear { limit, percent, receiver, pending, oldest_age_ms };
        watched.near = Some(near.reason());
        Some(near)
    }
}

impl From<Account> for Laggard {
    fn from(account: Account) -> Self {
        let Account { receiver, pending, oldest_pending_ms: oldest_ms, .. } = account;
        Self { receiver, pending, oldest_ms }
    }
}
