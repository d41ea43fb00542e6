//! When room runs out: the log is copied into the database, the reserve gives some, settled messages give way, and new ones are looked at
//! one by one before they are accepted.

use std::sync::{PoisonError, mpsc};
use std::time::{Duration, Instant};

use rusqlite::{Connection, Row};

use super::Writer;
use crate::condition::{Health, StorageUse};
use crate::config::{Durability, Overflow};
use crate::protocol::laggard;
use crate::reason::Reason;
use crate::store::checkpoint::{COPY_LOG, LOG_PAGES, TRUNCATE_LOG, without_waiting};
use crate::store::cleanup;
use crate::store::error::StoreError;
use crate::store::fault::{self, At};
use crate::store::job::{Group, Job, Task};
use crate::store::limits;
use crate::store::open::generation;
use crate::store::readers::reader_pids;
use crate::store::room::{FREE_PAGES, PAGE_COUNT, Whose};
use crate::store::types::Notice;

/// How long a log may grow, while the checkpoint cannot get past somebody else's reading, before it is told of; or to this part of what all
/// files may take, where that is less.
const HELD_LOG_BYTES: u64 = if cfg!(test) { 1 } else { 64 } * 1024 * 1024;
const HELD_LOG_PART: u64 = 8;
/// What a message takes besides its payload, at most: pages of the tables, of their index, free pages.
const MESSAGE_BYTES: u64 = 32 * 1024;
/// So much more than is asked for is made free at once.
const MORE_BYTES: u64 = 256 * 1024;
/// The most that is given back to the disk at once, and in one transaction.
const GIVE_BACK_BYTES: u64 = 1024 * 1024;
const STEP_BYTES: u64 = 64 * 1024;
const LEAST_GROUP_BYTES: usize = 64 * 1024;
const GROUP_BYTES: usize = 4 * 1024 * 1024;
/// Most messages or records that give way in one transaction.
const STEP_ROWS: usize = 128;
/// A log that took more steps to look through is looked at again only after this time, whatever was settled since.
const FEW_STEPS: u32 = 8;
const SCAN_AGAIN: Duration = Duration::from_secs(2);
/// What a transaction of upkeep may need of the disk for the log.
pub(super) const SLACK_BYTES: u64 = 64 * 1024;

/// Up to where the log was looked through for settled messages that can give way.
#[derive(Debug, Clone, Copy)]
pub(super) struct GivenWay {
    /// `None`: to its end.
    after: Option<u64>,
    steps: u32,
    begun: Instant,
    /// What had been settled then.
    settled: u64,
}

impl GivenWay {
    pub(super) fn begin(settled: u64) -> Self {
        Self { after: Some(0), steps: 0, begun: Instant::now(), settled }
    }
}

impl Writer {
    /// On a disk that is full already, the log that was left is copied before anything else is asked for.
    pub(super) fn begin(&mut self) {
        if self.room.tight {
            self.shared.set_health(Health::Full);
            self.relieve();
        }
        self.tell_filling();
    }

    /// Tells where the files have come to a mark below their limit. Before the first one the file is not asked how much of it is free.
    pub(super) fn tell_filling(&mut self) {
        let Some(file) = &self.file else { return };
        let limit = self.room.limit_bytes();
        let at_mark = |used: u64| {
            let is_reached = |percent: &u64| used >= laggard::mark_at(limit, *percent);
            laggard::MARKS.into_iter().rev().find(is_reached).unwrap_or(0)
        };
        let mark = match at_mark(self.room.in_use(0).used_bytes) {
            0 => 0,
            _ => at_mark(self.room.in_use(count(&file.writer, FREE_PAGES)).used_bytes),
        };
        if mark > std::mem::replace(&mut self.mark, mark) {
            self.shared.mailbox.put([Notice::Filling]);
        }
    }

    /// A transaction takes no more jobs once it holds this much: a quarter of what the log may hold.
    pub(super) fn group_bytes(&self) -> usize {
        let part = self.room.reserve.covers() / 4;
        usize::try_from(part).unwrap_or(usize::MAX).clamp(LEAST_GROUP_BYTES, GROUP_BYTES)
    }

    /// Copies a log that has become long into the main file. SQLite would do it by itself, but not tell when an fsync failed: what was
    /// committed since the last one could be lost from the middle of the log, and what came later with it.
    pub(super) fn shorten_log(&mut self) {
        let Some(file) = &self.file else { return };
        let long = self.room.long_log_pages();
        let held = |row: &Row<'_>| Ok((row.get::<_, u64>(1)?, row.get::<_, u64>(2)?));
        let pages = file.writer.prepare_cached(LOG_PAGES);
        let pages = pages.and_then(|mut pages| pages.query_row([], held));
        let is_short = |(all, copied): (u64, u64)| {
            all.saturating_sub(copied) < long && (all == copied || all < 4 * long)
        };
        self.room.look();
        self.tell_filling();
        self.held_at = Instant::now();
        if pages.as_ref().is_ok_and(|pages| is_short(*pages)) {
            self.unlooked_bytes = 0;
            return self.tell_released();
        }
        self.unlooked_bytes = self.look_after_bytes();
        // Where a reader holds a log, it is copied at every commit: that is not to become two.
        if pages.is_ok_and(|(all, _)| all < 4 * long) {
            self.end_log();
        }
        let Some(file) = &self.file else { return };
        match copy_log(&file.writer).map_err(|error| fault::sorted(error, &self.shared.path)) {
            Ok(Copied { all, copied }) if copied < all => {
                let is_too_long = self.room.log_is_too_long(Whose::New);
                self.tell_held(all, is_too_long && !self.room.tight);
                self.room.tight |= is_too_long;
            }
            Ok(_) => {
                self.log_begins = true;
                self.tell_released();
            }
            // As soon as it is noticed: what new messages were promised is still in the reserve.
            Err(StoreError::Full { .. }) => self.relieve(),
            Err(error) => self.after_copying(Err(error)),
        }
    }

    /// About how much is written before the log's length is looked at.
    pub(super) fn look_after_bytes(&self) -> usize {
        let part = self.room.bytes(self.room.long_log_pages() / 4);
        usize::try_from(part).unwrap_or(usize::MAX).clamp(1, super::LOOK_AFTER_BYTES)
    }

    /// Tells that somebody keeps the log from beginning again, each time that it has become twice as long, and when it begins to keep new
    /// messages out.
    fn tell_held(&mut self, pages: u64, keeps_out: bool) {
        let bytes = self.room.bytes(pages);
        let is_news = match self.held_told {
            None => bytes >= HELD_LOG_BYTES.min(self.room.limit_bytes() / HELD_LOG_PART),
            Some(told) => bytes >= told.saturating_mul(2),
        };
        if !is_news && !keeps_out {
            return;
        }
        self.held_told = Some(bytes);
        let readers = reader_pids(&self.shared.path);
        let held = Reason::LogHeld { bytes, readers: readers.clone() };
        *self.shared.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        self.shared.mailbox.put([Notice::LogHeld { bytes, readers }]);
    }

    /// The log can begin again.
    fn tell_released(&mut self) {
        self.held_told = None;
        let held = self.shared.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.shared.mailbox.put(held.map(|_| Notice::LogReleased));
    }

    /// Makes what room there is without taking anything from anybody, and finds out whether the disk is full.
    pub(super) fn relieve(&mut self) {
        self.end_log();
        let Some(file) = &self.file else { return };
        self.room.look();
        let sorted = |error| fault::sorted(error, &self.shared.path);
        let mut copied = copy_log(&file.writer).map_err(sorted);
        if let Err(StoreError::Full { .. }) = copied {
            // It has to grow, and for that the reserve was made.
            let wanted = self.room.unwritten(count(&file.writer, PAGE_COUNT));
            let wanted = self.room.bytes(wanted) + SLACK_BYTES;
            if self.room.reserve.release(wanted) {
                copied = copy_log(&file.writer).map_err(sorted);
            }
        }
        let is_copied = copied.as_ref().is_ok_and(|it| it.all == it.copied);
        if is_copied && self.room.log_is_too_long(Whose::New) {
            // It keeps its length otherwise.
            copied = without_waiting(&file.writer, TRUNCATE_LOG).map(|()| Copied::default());
        }
        self.after_copying(copied.map(|it| it.all == it.copied));
        self.room.disk_full = !self.room.has_room();
        if self.room.disk_full && self.down.is_none() {
            self.room.tight = true;
            self.shared.set_health(Health::Full);
        }
        self.room.look();
    }

    /// What is left to be tried while there is no room: each job by itself, and a new message only where there is room for it.
    pub(super) fn attempt_alone(
        &mut self,
        alone: &mut [Box<dyn Job>; 1],
    ) -> Result<(), StoreError> {
        let [job] = &*alone;
        let (whose, bytes) = (job.whose(), job.bytes());
        if self.room.tight && self.room.log_is_too_long(whose) {
            self.relieve();
            self.is_up()?;
        }
        if self.room.tight
            && (self.room.log_is_too_long(whose) || (whose == Whose::New && !self.admits(bytes)?))
        {
            return Err(self.no_room());
        }
        match self.attempt(alone) {
            Err(StoreError::Full { .. }) => {}
            done => {
                if self.room.tight {
                    self.shorten_log();
                }
                return done;
            }
        }
        self.room.tight = true;
        self.relieve();
        self.is_up()?;
        let [job] = &*alone;
        let admitted = match whose {
            Whose::New => job.can_run() && self.admits(bytes)?,
            // The log itself may have to grow for it.
            Whose::Upkeep => {
                self.room.reserve.release(SLACK_BYTES);
                job.can_run()
            }
        };
        if !admitted {
            return Err(self.no_room());
        }
        match self.attempt(alone) {
            Err(StoreError::Full { .. }) => Err(self.no_room()),
            done => done,
        }
    }

    /// Whether there is room for a new message of so many bytes; settled ones give way to it.
    ///
    /// # Errors
    /// The file is down, or fails while they give way.
    fn admits(&mut self, bytes: usize) -> Result<bool, StoreError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX / 2);
        let need = self.room.pages(bytes + bytes / 8 + MESSAGE_BYTES);
        if self.has_pages(need) || self.give_way(need)? {
            return Ok(true);
        }
        // One that would need half of the file pushes nobody out.
        let fits = 2 * need <= self.room.most_pages(Whose::New);
        if fits && self.settings.overflow == Overflow::DropOldest {
            while room_for(self.step(|group| limits::drop_oldest(group, STEP_ROWS)))? > 0 {
                self.given_way = GivenWay::begin(self.ledger.settled());
                if self.give_way(need)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Whether the database has so many free pages, or may grow by them.
    fn has_pages(&self, need: u64) -> bool {
        let Some(file) = &self.file else { return false };
        let pages = count(&file.writer, PAGE_COUNT);
        let growth = self.room.most_pages(Whose::New).saturating_sub(pages);
        // Below a limit room is left in any case.
        let kept = if self.room.disk_full { self.room.kept_pages(pages) } else { 0 };
        count(&file.writer, FREE_PAGES) + growth >= need + kept
    }

    /// Deletes settled messages, and when there are none left the records of them, until there are so many pages and some more. Whether
    /// there are as many as were asked for.
    ///
    /// # Errors
    /// The file is down, or fails.
    fn give_way(&mut self, need: u64) -> Result<bool, StoreError> {
        let GivenWay { after, steps, begun, settled } = self.given_way;
        let settled_now = self.ledger.settled();
        if after.is_none()
            && settled != settled_now
            && (steps <= FEW_STEPS || begun.elapsed() >= SCAN_AGAIN)
        {
            self.given_way = GivenWay::begin(settled_now);
        }
        let mut rows = STEP_ROWS;
        let more = self.room.pages(MORE_BYTES);
        while let Some(after) = self.given_way.after
            && !self.has_pages(need + more)
        {
            match self.step(move |group| cleanup::settled(group, after, Some(u64::MAX), rows)) {
                Ok((_, next)) => {
                    self.given_way.after = next;
                    self.given_way.steps += 1;
                }
                Err(StoreError::Full { .. }) if rows > 1 => rows = (rows / 4).max(1),
                Err(error) if is_of_the_file(&error) => return Err(error),
                Err(_) => break,
            }
            self.shorten_log();
            self.is_up()?;
        }
        if self.given_way.after.is_none() && !self.has_pages(need) {
            for records in cleanup::RECORDS {
                let step = move |group: &mut Group<'_>| cleanup::oldest_records(group, records);
                while !self.has_pages(need + more) && room_for(self.step(step))? > 0 {
                    self.shorten_log();
                    self.is_up()?;
                }
            }
        }
        Ok(self.has_pages(need))
    }

    /// Does this in a transaction of its own, at once.
    fn step<R: Send + 'static>(
        &mut self,
        work: impl FnMut(&mut Group<'_>) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (to, from) = mpsc::channel();
        // The receiving end is below.
        let reply = move |result| drop(to.send(result));
        let mut alone: [Box<dyn Job>; 1] =
            [Box::new(Task::replying(Durability::Normal, work, reply))];
        self.attempt(&mut alone)?;
        let [job] = alone;
        job.answer();
        from.recv().unwrap_or(Err(StoreError::Unanswered))
    }

    /// Looks whether there is room again, and makes some for the reserve.
    pub(super) fn look_for_room(&mut self) {
        self.relieve();
        if !self.room.reserve.is_whole() && self.down.is_none() {
            let missing = self.room.pages(self.room.reserve.missing().min(GIVE_BACK_BYTES));
            self.makes_way(missing);
            self.give_back(missing);
            self.relieve();
            self.room.reserve.fill_partly();
        }
        let is_over = self.down.is_none() && self.room.reserve.is_whole();
        let is_over = is_over && !self.room.log_is_too_long(Whose::New);
        let more = self.room.pages(MORE_BYTES);
        if is_over && (self.has_pages(more) || self.makes_way(more)) {
            (self.room.tight, self.room.disk_full) = (false, false);
            // Where there is more room than at the start, more is kept back. If that fails, what is there is enough.
            self.room.aim();
            let _ = self.room.reserve.fill();
            self.shared.set_health(Health::Healthy);
        }
    }

    /// The same as [`Self::give_way`] where nobody waits for it: a failure is dealt with.
    fn makes_way(&mut self, need: u64) -> bool {
        self.give_way(need).unwrap_or_else(|error| {
            self.go_down(Vec::new(), error);
            false
        })
    }

    /// Gives free pages back to the disk.
    fn give_back(&mut self, pages: u64) {
        let step = self.room.pages(STEP_BYTES);
        let give_back = format!("PRAGMA incremental_vacuum({step})");
        for _ in 0..pages.div_ceil(step) {
            let Some(file) = &self.file else { return };
            let free = count(&file.writer, FREE_PAGES);
            if free < step + self.room.kept_pages(count(&file.writer, PAGE_COUNT)) {
                return;
            }
            if self.log_begins {
                // Each log begins with a mark.
                if generation::begin_log_alone(&file.writer).is_err() {
                    return;
                }
                self.log_begins = false;
            }
            let given = file.writer.prepare(&give_back).and_then(|mut step| {
                let mut rows = step.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            });
            let given = given.at("give pages back to the disk");
            match given.map_err(|error| fault::sorted(error, &self.shared.path)) {
                Ok(()) => self.shorten_log(),
                Err(error) => return self.after_copying(Err(error)),
            }
        }
    }

    /// For tests: how long to wait for whoever else writes.
    #[cfg(test)]
    pub(in crate::store) fn wait_for(&self, time: Duration) {
        let file = self.file.as_ref().expect("it is open");
        file.writer.busy_timeout(time).expect("set");
    }

    /// For tests: a disk that ends so many pages behind the database.
    #[cfg(test)]
    pub(in crate::store) fn end_at(&mut self, more: Option<u64>) {
        let file = self.file.as_ref().expect("it is open");
        self.room.last_page = more.map(|more| count(&file.writer, PAGE_COUNT) + more);
        self.room.hold(&file.writer, Whose::Upkeep).expect("bounded");
    }

    /// There is no room for something, whatever was tried.
    fn no_room(&mut self) -> StoreError {
        if let Some(down) = &self.down {
            return fault::again(&down.error);
        }
        (self.room.tight, self.full_at) = (true, Instant::now());
        let path = self.shared.path.clone();
        if self.room.is_by_disk() {
            self.shared.set_health(Health::Full);
            return StoreError::Full { path };
        }
        let free = self.file.as_ref().map_or(0, |file| count(&file.writer, FREE_PAGES));
        let storage @ StorageUse { used_bytes, limit_bytes } = self.room.in_use(free);
        // A large message may find no room where others still do.
        if self.room.log_is_too_long(Whose::New) || !self.has_pages(self.room.pages(MORE_BYTES)) {
            self.shared.set_health(Health::AtLimit(storage));
        }
        StoreError::Limit { path, used_bytes, limit_bytes }
    }
}

/// How much of the log is in the database.
#[derive(Default)]
struct Copied {
    all: u64,
    copied: u64,
}

/// Copies what can be copied, and waits for nobody.
fn copy_log(conn: &Connection) -> Result<Copied, StoreError> {
    // None where there is no log yet.
    let pages = |row: &Row<'_>, column| {
        row.get::<_, i64>(column).map(|pages| u64::try_from(pages).unwrap_or(0))
    };
    conn.query_row(COPY_LOG, [], |row| Ok(Copied { all: pages(row, 1)?, copied: pages(row, 2)? }))
        .at("copy the log")
}

/// Whether it is the file that failed, and not only this statement.
const fn is_of_the_file(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed { .. } | StoreError::Corrupt { .. })
}

/// How much a step did; nothing where there was no room even for that.
fn room_for(step: Result<u64, StoreError>) -> Result<u64, StoreError> {
    match step {
        Err(error) if !is_of_the_file(&error) => Ok(0),
        done => done,
    }
}

/// A number that the connection knows by itself.
fn count(conn: &Connection, pragma: &str) -> u64 {
    conn.prepare_cached(pragma)
        .and_then(|mut pragma| pragma.query_row([], |row| row.get(0)))
        .unwrap_or(0)
}
