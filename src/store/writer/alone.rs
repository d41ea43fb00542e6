//! A receipt that is committed by whoever asks for it, in its own thread, where nobody else writes: to wake the writer's thread and to be
//! woken by it takes longer than the commit.

use super::{LOOK_EVERY, Writer};
use crate::config::Durability;
use crate::store::job::Job;
use crate::store::types::Health;

/// The log's length is looked at after so many.
const LOOK_AFTER: u32 = 128;

impl Writer {
    /// Commits this job now. Without an fsync it takes a write to memory; it comes back where it needs one, where the file is in any trouble, or
    /// where the writer's thread has something to look at first.
    pub(in crate::store) fn commit_alone(
        &mut self,
        job: Box<dyn Job>,
    ) -> Result<Alone, Box<dyn Job>> {
        let idle = self.down.is_none()
            && self.failed_alone.is_none()
            && self.file.is_some()
            && !self.disk_is_full
            && self.looked.elapsed() < LOOK_EVERY
            && self.shared.health() == Health::Healthy;
        if !idle || job.durability() == Durability::Full {
            return Err(job);
        }
        let mut jobs = [job];
        let result = self.attempt(&mut jobs);
        let [job] = jobs;
        match result {
            Ok(()) => {
                job.answer();
                self.alone += 1;
                Ok(Alone { look: self.alone >= LOOK_AFTER })
            }
            Err(error) => {
                self.failed_alone = Some(error);
                Err(job)
            }
        }
    }

    /// What went wrong with a receipt alone is dealt with as if the thread had met it.
    pub(super) fn take_over(&mut self) {
        self.alone = 0;
        if let Some(error) = self.failed_alone.take() {
            self.recover(Vec::new(), error);
        }
    }
}

/// It is committed.
pub(in crate::store) struct Alone {
    /// The thread has to look at the log's length.
    pub(in crate::store) look: bool,
}
