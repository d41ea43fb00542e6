//! What the writer shares with everybody else.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::sync::watch;

use super::clock::{self, Clock};
use super::error::StoreError;
use super::mailbox::Mailbox;
use super::open::Readers;
use super::room::Seen;
use super::types::Notice;
use crate::condition::{Health, Tally};
use crate::metering::Meter;
use crate::reason::Reason;

/// What the writer shares with everybody else.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) clock: Clock,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) health: Mutex<Health>,
    pub(super) seen: Arc<Seen>,
    pub(super) meter: Arc<Meter>,
    pub(super) tally: Arc<Tally>,
    /// The damage that a reader has met since the file was opened.
    pub(super) damage: Mutex<Option<Reason>>,
    /// Who keeps the log from beginning again, while that lasts.
    pub(super) held: Mutex<Option<Reason>>,
    /// `None` once the store is closed.
    pub(super) readers: RwLock<Option<Readers>>,
    /// True once the file is closed and its lock released.
    pub(super) done: watch::Sender<bool>,
}

impl Shared {
    pub(super) fn health(&self) -> Health {
        self.health.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A reader met a damaged page: told once. Writing goes on until it meets one too.
    pub(super) fn tell_damage(&self, error: &StoreError) {
        let before =
            self.damage.lock().unwrap_or_else(PoisonError::into_inner).replace(
                error.reason().unwrap_or_else(|| Reason::Broken { what: error.to_string() }),
            );
        if before.is_none() {
            self.mailbox.put([Notice::StorageFailed(error.to_string())]);
        }
    }

    pub(super) fn damage(&self) -> Option<Reason> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn held(&self) -> Option<Reason> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What of the clock goes with a commit that takes place at this time, or alone. Also while the disk is full: that can last for days, of
    /// which none may be counted twice.
    pub(super) fn note_to_write(&self, now_ms: u64, committed: bool) -> Option<clock::Note> {
        self.clock.is_due(now_ms, committed).then(|| self.clock.note(false))
    }

    /// Looks whether somebody has set the wall clock, and tells.
    pub(super) fn look_at_clock(&self) {
        if let Some(by_ms) = self.clock.look() {
            tracing::warn!(by_ms, "the wall clock was set; the node goes on with its own");
            self.mailbox.put([Notice::ClockJumped { by_ms }]);
        }
    }

    /// Changes the state, and tells if it was another one.
    pub(super) fn set_health(&self, health: Health) {
        let mut current = self.health.lock().unwrap_or_else(PoisonError::into_inner);
        if current.is_like(&health) {
            return;
        }
        let notice = match &health {
            Health::Healthy => Notice::StorageRecovered,
            Health::Full => Notice::StorageFull,
            Health::AtLimit(storage) => Notice::StorageLimitReached(*storage),
            Health::Failed(reason) => Notice::StorageFailed(reason.to_string()),
        };
        *current = health;
        drop(current);
        self.mailbox.put([notice]);
    }
}
