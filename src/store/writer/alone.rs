//! A receipt that is committed by whoever asks for it, in its own thread, where nobody else writes: to wake the writer's thread and to be
//! woken by it takes longer than the commit.

use std::time::Duration;

use super::{LOOK_EVERY, Writer, choose};
use crate::condition::Health;
use crate::config::Durability;
use crate::metering::Stopwatch;
use crate::store::error::StoreError;
use crate::store::fault::{self, At};
use crate::store::inbox;
use crate::store::job::{Group, PAGE_BYTES};
use crate::store::open::look::BUSY_TIMEOUT;
use crate::store::types::InboxAdvance;

/// A receipt is committed.
pub(in crate::store) struct Alone {
    /// The thread has to look at the log's length.
    pub(in crate::store) look: bool,
}

impl Writer {
    /// Commits this receipt now, without an fsync. `None` where the file is in any trouble, or where the writer's thread has something to look at
    /// first: then it is left to that.
    pub(in crate::store) fn commit_alone(&mut self, receipt: &InboxAdvance) -> Option<Alone> {
        let idle = self.down.is_none()
            && self.failed_alone.is_none()
            && !self.room.tight
            && !self.log_begins
            && self.looked.elapsed() < LOOK_EVERY
            && self.shared.health() == Health::Healthy;
        if !idle {
            return None;
        }
        let stopwatch = Stopwatch::start();
        match self.write_alone(receipt) {
            Ok(true) => {
                self.shared.meter.committed(&stopwatch, self.fsync(), 1);
                self.unlooked_bytes = self.unlooked_bytes.saturating_add(PAGE_BYTES);
                Some(Alone { look: self.unlooked_bytes >= self.look_after_bytes() })
            }
            Ok(false) => None,
            Err(error) => {
                self.failed_alone = Some(fault::sorted(error, &self.shared.path));
                None
            }
        }
    }

    /// It is one statement, which commits by itself. `false`: there is no file.
    fn write_alone(&mut self, receipt: &InboxAdvance) -> Result<bool, StoreError> {
        let Some(file) = &self.file else { return Ok(false) };
        let conn = &file.writer;
        choose(conn, &mut self.durability, Durability::Normal)?;
        let (mut notices, now_ms) = (Vec::new(), self.shared.clock.now_ms());
        let group = Group {
            conn,
            ledger: &mut self.ledger,
            notices: &mut notices,
            settings: &self.settings,
            guard: &self.guard,
            path: &self.shared.path,
            now_ms,
            id_ms: now_ms,
        };
        // Whoever else holds the file is waited for by the thread, not here.
        conn.busy_timeout(Duration::ZERO).at("wait for nobody")?;
        let advanced = inbox::advance(&group, receipt);
        conn.busy_timeout(BUSY_TIMEOUT).at("wait for others again")?;
        advanced.map(|_| true)
    }

    /// What went wrong with a receipt alone is dealt with as if the thread had met it.
    pub(super) fn take_over(&mut self) {
        if let Some(error) = self.failed_alone.take() {
            self.recover(Vec::new(), error);
        }
    }
}
