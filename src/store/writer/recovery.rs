//! After a failure: what can still be kept of a group, and the file opened anew.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::{BEGIN, Down, ROLLBACK, Writer, fail_all};
use crate::condition::Health;
use crate::config::Durability;
use crate::reason::Reason;
use crate::store::error::StoreError;
use crate::store::fault;
use crate::store::file::{File, Identity};
use crate::store::job::Job;
use crate::store::ledger::Ledger;
use crate::store::open::look::BUSY_TIMEOUT;
use crate::store::types::{Cursor, Notice};
use crate::store::{inbox, meta};

impl Writer {
    /// The group was rolled back. What can still be kept of it is.
    pub(super) fn recover(&mut self, jobs: Vec<Box<dyn Job>>, error: StoreError) {
        match &error {
            StoreError::Full { .. } => {
                self.full_at = Instant::now();
                self.relieve();
                match &self.down {
                    Some(down) => fail_all(jobs, &fault::again(&down.error)),
                    None => self.one_by_one_after(jobs, &error),
                }
            }
            StoreError::Failed { .. } | StoreError::Corrupt { .. } => self.go_down(jobs, error),
            StoreError::Locked { .. } => fail_all(jobs, &error),
            StoreError::Sql { .. } if error.is_transient() => fail_all(jobs, &error),
            _ if jobs.len() == 1 => fail_all(jobs, &error),
            _ => self.one_by_one_after(jobs, &error),
        }
    }

    /// Each job in a transaction of its own, where the group's failed with this. A closure that has been called already cannot be called
    /// again: it gets the group's error.
    fn one_by_one_after(&mut self, jobs: Vec<Box<dyn Job>>, error: &StoreError) {
        let (jobs, called): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| job.can_run());
        fail_all(called, error);
        self.one_by_one(jobs);
    }

    /// Each job in a transaction of its own, so that it fails alone.
    pub(super) fn one_by_one(&mut self, jobs: Vec<Box<dyn Job>>) {
        let mut jobs = jobs.into_iter();
        while let Some(job) = jobs.next() {
            if let Err(error) = self.is_up() {
                return fail_all(std::iter::once(job).chain(jobs).collect(), &error);
            }
            let mut alone = [job];
            let result = self.attempt_alone(&mut alone);
            let [job] = alone;
            match result {
                Ok(()) => job.answer(),
                Err(error @ (StoreError::Failed { .. } | StoreError::Corrupt { .. })) => {
                    let rest = std::iter::once(job).chain(jobs).collect();
                    return self.go_down(rest, error);
                }
                Err(error) => job.fail(error),
            }
        }
    }

    /// After a failed write or fsync nobody knows what is on the disk: nothing is written before the file was opened again and
    /// checked. Where that has been found out already, it is tried again in its time.
    pub(super) fn go_down(&mut self, jobs: Vec<Box<dyn Job>>, error: StoreError) {
        if self.down.is_some() {
            return fail_all(jobs, &error);
        }
        self.shared.set_health(error.health());
        self.shared.mailbox.put([Notice::Down]);
        fail_all(jobs, &error);
        self.down = Some(Down { error, for_good: false, tried: Instant::now() });
        self.try_again();
    }

    /// Another program has held the file for as long as anybody waits for it. From now on nobody does, so that whoever asks is answered; it is
    /// tried again in its time.
    pub(super) fn is_locked(&mut self, error: &StoreError) {
        if !self.locked && self.wait_for_others(Duration::ZERO) {
            self.locked = true;
            if self.shared.health() == Health::Healthy {
                self.shared.set_health(error.health());
            }
        }
    }

    /// The file could be written, or waited for again.
    pub(super) fn is_free(&mut self) {
        if std::mem::take(&mut self.locked) {
            self.wait_for_others(BUSY_TIMEOUT);
            if matches!(self.shared.health(), Health::Failed(Reason::FileLocked { .. })) {
                self.shared.set_health(Health::Healthy);
            }
        }
    }

    /// Tries whether others still hold the file.
    pub(super) fn look_whether_free(&mut self) {
        let Some(file) = self.file.as_ref().filter(|_| self.locked) else { return };
        if file.writer.execute_batch(BEGIN).is_ok() {
            // If this fails, the next transaction does too.
            let _ = file.writer.execute_batch(ROLLBACK);
            self.is_free();
        }
    }

    fn wait_for_others(&self, time: Duration) -> bool {
        self.file.as_ref().is_some_and(|file| file.writer.busy_timeout(time).is_ok())
    }

    /// Nothing is written after a failure before the file was opened again. `copied`: whether all of the log is in the database, so that the
    /// next commit may begin it anew.
    pub(super) fn after_copying(&mut self, copied: Result<bool, StoreError>) {
        match copied.map_err(|error| fault::sorted(error, &self.shared.path)) {
            Err(error @ (StoreError::Failed { .. } | StoreError::Corrupt { .. })) => {
                self.go_down(Vec::new(), error);
            }
            Err(error) => tracing::debug!(%error, "the log was not copied"),
            Ok(complete) => self.log_begins |= complete,
        }
    }

    /// Opens the file anew and takes over what it holds.
    pub(super) fn try_again(&mut self) {
        let (writer, lock) = match self.file.take() {
            Some(File { writer, lock }) => (Some(writer), Some(lock)),
            None => (None, self.lock.take()),
        };
        let Some(lock) = lock else { return };
        let opened = File::again(writer, lock, &self.shared, &self.guard);
        let at_ms = self.shared.clock.now_ms();
        let read = |file: &File| {
            let ledger = meta::load(&file.writer)?;
            inbox::forget_damaged(&file.writer, at_ms, &self.shared.path)?;
            Ok((ledger, inbox::rows(&file.writer)?))
        };
        let outcome = opened.and_then(|file| match read(&file) {
            Ok(held) => Ok((file, held)),
            Err(error) => Err((file.lock, error)),
        });
        match outcome {
            Ok((file, (mut ledger, received))) => {
                // Ids that were given out, but may not have reached the disk, are not given out again.
                let (old, new) = (self.ledger.totals, &mut ledger.totals);
                new.last_id = old.last_id.max(new.last_id);
                new.last_created_ms = old.last_created_ms.max(new.last_created_ms);
                ledger.carry_on(&self.ledger);
                let before = std::mem::replace(&mut self.ledger, ledger);
                self.identity = Identity::of(&self.shared.path);
                self.file = Some(file);
                self.room.forget_bound();
                self.durability = Durability::Full;
                self.log_begins = true;
                self.down = None;
                self.locked = false;
                self.shared.damage.lock().unwrap_or_else(PoisonError::into_inner).take();
                self.retell(&before);
                // Of what was not known to be committed, something may expire earlier.
                let at_ms = self.ledger.totals.told_expiry_ms;
                self.shared
                    .mailbox
                    .put([Notice::Up { received }, Notice::UnclaimedExpires { at_ms }]);
                tracing::info!("the node's file can be written again");
                self.shared.set_health(Health::Healthy);
            }
            Err((lock, error)) => {
                self.lock = Some(lock);
                let error = fault::sorted(error, &self.shared.path);
                if error.is_no_room() {
                    self.room.reserve.release(super::space::SLACK_BYTES);
                }
                self.shared.set_health(error.health());
                self.down = Some(Down { error, for_good: false, tried: Instant::now() });
            }
        }
    }

    /// What a failed commit left in the file all the same has not been told. Whoever knows of it already sees nothing new.
    fn retell(&self, before: &Ledger) {
        let topics = self.ledger.topics().map(|state| Notice::TopicOpened(state.topic.clone()));
        let read = self.file.as_ref().map(|file| meta::cursors(&file.writer, &self.ledger));
        let cursors = match read {
            Some(Ok(cursors)) => cursors,
            Some(Err(_)) | None => self.ledger.open_cursors(),
        };
        let cursors = cursors.into_iter().map(Notice::CursorOpened);
        let is_open =
            |it: &Cursor| self.ledger.cursor(&it.receiver, it.topic).is_some_and(|it| it.open);
        let closed = before.open_cursors().into_iter().filter(|it| !is_open(it));
        let closed =
            closed.map(|Cursor { receiver, topic, .. }| Notice::CursorClosed { receiver, topic });
        let missed = Notice::Missed { end_seq: self.ledger.totals.end_seq };
        self.shared.mailbox.put(topics.chain(closed).chain(cursors).chain([missed]));
    }
}
