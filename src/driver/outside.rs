//! What the core looks at while it decides.

use std::ops::DerefMut;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::convert::{Body, Held, content};
use crate::condition::Health;
use crate::core::Outside;
use crate::protocol::frame::FrameMessage;
use crate::protocol::inbox::{Incoming, Source};
use crate::protocol::settling::Settling;
use crate::reason::Reason;
use crate::store::{Store, UnderWay};

pub(super) struct Surroundings {
    store: Store,
    settling: UnderWay,
    /// Changes whenever the accounts do.
    accounts: watch::Sender<u64>,
    max_payload_bytes: usize,
    /// Where a message's receipt runs.
    runtime: Handle,
}

impl Surroundings {
    pub(super) fn new(store: Store, max_payload_bytes: usize, runtime: Handle) -> Self {
        let settling = store.under_way();
        Self { store, settling, accounts: watch::Sender::new(0), max_payload_bytes, runtime }
    }

    pub(super) fn accounts_changed(&self) {
        self.accounts.send_modify(|changes| *changes += 1);
    }

    pub(super) fn watch_accounts(&self) -> watch::Receiver<u64> {
        self.accounts.subscribe()
    }
}

impl Outside for Surroundings {
    type Queued = Body;
    type Content = Held;

    fn settling(&self) -> impl DerefMut<Target = Settling> {
        self.settling.lock()
    }

    fn is_awaited(&self) -> bool {
        self.accounts.receiver_count() > 0
    }

    fn is_tight(&self) -> bool {
        self.store.health() != Health::Healthy
    }

    fn hindrances(&self) -> Vec<Reason> {
        self.store.reasons().collect()
    }

    fn wrong_clock(&self) -> Option<Reason> {
        self.store.clock_reason()
    }

    fn open(
        &self,
        source: &Source,
        message: FrameMessage,
        attempt: u32,
    ) -> Result<Incoming<Held>, String> {
        content(source, message, attempt, self.max_payload_bytes, &self.runtime)
    }
}
