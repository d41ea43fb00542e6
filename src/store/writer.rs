//! All writing: what waits is committed as one transaction, then all are answered. [`thread`] is who does it, but for single receipts where
//! nothing else is to be written.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::checkpoint::{TRUNCATE_LOG, without_waiting};
use super::cleanup;
use super::clock;
use super::error::StoreError;
use super::fault::{self, At};
use super::file::{FULL, File, Identity, NORMAL};
use super::guard::Guard;
use super::job::{Group, Job, Settings};
use super::ledger::Ledger;
use super::lock::FileLock;
use super::open::{self, generation};
use super::room::{Room, Whose};
use super::shared::Shared;
use super::spans;
use super::types::Notice;
use crate::config::Durability;
use crate::metering::{Fsync, Stopwatch};

mod alone;
mod recovery;
mod space;
mod thread;

pub(super) use alone::Alone;
use space::GivenWay;
pub(super) use thread::Thread;

/// How often the file's place on the disk and the wall clock are looked at, and a failed file is tried again.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// So long after space was last missing a disk with room is believed to have some.
const CALM: Duration = Duration::from_secs(5);

/// How long the log is is asked after about so much more, with a reserve as large as can be.
const LOOK_AFTER_BYTES: usize = 512 * 1024;

pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";
pub(super) enum Message {
    Job(Box<dyn Job>),
    Maintain(oneshot::Sender<Result<(), StoreError>>),
    /// Something came up that only the writer's thread deals with.
    Look,
    Close,
}

/// Why nothing can be written now.
struct Down {
    error: StoreError,
    /// Nothing but a restart helps.
    for_good: bool,
    tried: Instant,
}

/// The file, and all that is known of it.
pub(super) struct Writer {
    shared: Arc<Shared>,
    settings: Settings,
    ledger: Ledger,
    guard: Arc<Guard>,
    file: Option<File>,
    /// Where there is no file: what keeps others from taking it.
    lock: Option<FileLock>,
    identity: Option<Identity>,
    /// What the connection's next commit survives.
    durability: Durability,
    down: Option<Down>,
    /// Another program has held the file for long, and is not waited for any more.
    locked: bool,
    /// How much of the disk there is for it.
    room: Room,
    given_way: GivenWay,
    /// How long a log was that is kept from beginning again, when that was last told.
    held_told: Option<u64>,
    /// When it was last tried to begin it again.
    held_at: Instant,
    /// The mark below the limit of the files that they have reached, in percent.
    mark: u64,
    /// When room was last missing.
    full_at: Instant,
    looked: Instant,
    /// What was written to the log since its length was looked at, roughly; most, if it was long.
    unlooked_bytes: usize,
    /// The next commit may be the first of a log, and marks it: see [`generation`].
    log_begins: bool,
    /// Why the last of these failed, until the thread has dealt with it.
    failed_alone: Option<StoreError>,
}

/// What a writer begins with.
pub(super) struct Begin {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Settings,
    pub(super) ledger: Ledger,
    pub(super) guard: Arc<Guard>,
    pub(super) file: File,
    pub(super) room: Room,
}

impl Writer {
    pub(super) fn new(begin: Begin) -> Self {
        let Begin { shared, settings, ledger, guard, file, room } = begin;
        Self {
            identity: Identity::of(&shared.path),
            shared,
            settings,
            ledger,
            guard,
            file: Some(file),
            lock: None,
            // As `open` leaves it.
            durability: Durability::Full,
            down: None,
            locked: false,
            room,
            given_way: GivenWay::begin(0),
            held_told: None,
            held_at: Instant::now(),
            mark: 0,
            full_at: Instant::now(),
            looked: Instant::now(),
            unlooked_bytes: 0,
            log_begins: true,
            failed_alone: None,
        }
    }

    fn commit_group(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        self.take_over();
        if let Err(error) = self.ready() {
            return fail_all(jobs, &error);
        }
        if self.room.tight {
            // Whatever waits for room must not use up what the others need.
            return self.one_by_one(jobs);
        }
        match self.attempt(&mut jobs) {
            Ok(()) => {
                let written = jobs.iter().map(|job| job.written_bytes());
                self.unlooked_bytes = written.fold(self.unlooked_bytes, usize::saturating_add);
                jobs.into_iter().for_each(Job::answer);
                if self.unlooked_bytes >= self.look_after_bytes() {
                    self.shorten_log();
                }
            }
            Err(error) => self.recover(jobs, error),
        }
    }

    /// Marks the state that the log is copied with, if anything was written to it.
    pub(super) fn end_log(&mut self) {
        if let Some(file) = self.file.as_ref().filter(|_| !self.log_begins) {
            let marked = generation::end_log(&file.writer).at("mark the log");
            self.after_copying(marked.map(|()| false));
        }
    }

    /// Commits these jobs, or leaves nothing of them.
    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
        let stopwatch = Stopwatch::start();
        let span = spans::commit(jobs.len()).entered();
        let changes = self.changes();
        let mut notices = Vec::new();
        let mark = self.ledger.mark();
        let before = self.ledger.totals;
        let result = self.transact(jobs, &mut notices);
        if let Err(error) = result {
            self.ledger.roll_back(mark);
            self.ledger.keep();
            if let Some(file) = &self.file
                && !file.writer.is_autocommit()
            {
                // If even this fails, the next BEGIN does too.
                let _ = file.writer.execute_batch(ROLLBACK);
            }
            let error = fault::sorted(error, &self.shared.path);
            if let StoreError::Locked { .. } = error {
                self.is_locked(&error);
            }
            return Err(error);
        }
        self.is_free();
        self.ledger.keep();
        self.log_begins &= self.changes() == changes;
        // One that only counted what waits, for a report say, is no commit to be measured.
        if self.changes() != changes {
            self.shared.meter.committed(&stopwatch, self.fsync(), jobs.len());
        }
        let now = self.ledger.totals;
        self.shared.tally.accepted.add(now.appended - before.appended);
        self.shared.tally.dropped.add(now.dropped - before.dropped);
        spans::appended(&span, &notices);
        self.shared.mailbox.put(notices);
        Ok(())
    }

    /// Rows written since the file was opened.
    fn changes(&self) -> u64 {
        self.file.as_ref().map_or(0, |file| file.writer.total_changes())
    }

    /// Whether the connection's commits wait for one.
    fn fsync(&self) -> Fsync {
        match self.durability {
            Durability::Full => Fsync::Yes,
            Durability::Normal => Fsync::No,
        }
    }

    fn transact(
        &mut self,
        jobs: &mut [Box<dyn Job>],
        notices: &mut Vec<Notice>,
    ) -> Result<(), StoreError> {
        self.is_up()?;
        let file = self.file.as_ref().expect("what is not down has its file");
        let conn = &file.writer;
        let full = jobs.iter().any(|job| job.durability() == Durability::Full);
        let asked = if full { Durability::Full } else { Durability::Normal };
        choose(conn, &mut self.durability, asked)?;
        let is_new = jobs.iter().any(|job| job.whose() == Whose::New);
        self.room.hold(conn, if is_new { Whose::New } else { Whose::Upkeep })?;
        execute(conn, BEGIN).at("begin a transaction")?;
        let cookie = if self.log_begins { Some(generation::cookie(conn)) } else { None };
        let (cookie, changes) = (cookie.transpose().at("begin a log")?, conn.total_changes());
        let before = self.ledger.totals;
        let now_ms = self.shared.clock.now_ms();
        let mut group = Group {
            conn,
            ledger: &mut self.ledger,
            notices,
            settings: &self.settings,
            guard: &self.guard,
            path: &self.shared.path,
            now_ms,
            id_ms: self.shared.clock.id_ms(now_ms),
        };
        for job in jobs {
            job.run(&mut group)?;
            if conn.is_autocommit() {
                return Err(StoreError::Interrupted);
            }
        }
        group.write_topics()?;
        if group.ledger.totals.last_id != before.last_id {
            group.write_last()?;
        }
        let note = self.shared.note_to_write(now_ms, conn.total_changes() != changes);
        if let Some(note) = &note {
            clock::rows::write(conn, note)?;
        }
        if let Some(cookie) = cookie
            && conn.total_changes() != changes
        {
            generation::begin_log(conn, cookie).at("begin a log")?;
        }
        execute(conn, COMMIT).at("commit")?;
        note.iter().for_each(|note| self.shared.clock.noted(note));
        Ok(())
    }

    /// Whether the file has to be looked at although nobody asks for anything.
    fn has_to_look(&self) -> bool {
        self.room.tight
            || self.locked
            || self.down.as_ref().is_some_and(|down| !down.for_good)
            || self.shared.held().is_some()
    }

    /// Whether the file can be written. Looks at it from time to time.
    fn ready(&mut self) -> Result<(), StoreError> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            self.look();
        }
        if self
            .down
            .as_ref()
            .is_some_and(|down| !down.for_good && down.tried.elapsed() >= LOOK_EVERY)
        {
            self.try_again();
        }
        self.is_up()
    }

    /// Why nothing can be written, as long as that is so.
    fn is_up(&self) -> Result<(), StoreError> {
        self.down.as_ref().map_or(Ok(()), |down| Err(fault::again(&down.error)))
    }

    fn look(&mut self) {
        self.shared.look_at_clock();
        self.look_whether_free();
        if !self.room.tight {
            self.room.look();
            if self.room.is_low() {
                // It is told before anything fails.
                self.relieve();
            }
        } else if self.room.disk_full || self.full_at.elapsed() >= CALM {
            self.look_for_room();
        }
        self.tell_filling();
        if self.shared.held().is_some() && self.held_at.elapsed() >= CALM {
            self.shorten_log();
        }
        if self.file.is_some() && Identity::of(&self.shared.path) != self.identity {
            let error = StoreError::Replaced { path: self.shared.path.clone() };
            self.shared.set_health(error.health());
            self.shared.mailbox.put([Notice::Down]);
            self.down = Some(Down { error, for_good: true, tried: Instant::now() });
        }
    }

    fn maintain(&mut self) -> Result<(), StoreError> {
        self.ready()?;
        self.end_log();
        self.is_up()?;
        let Some(file) = &self.file else { return Ok(()) };
        let done = cleanup::maintain(&file.writer);
        let done = done.map_err(|error| fault::sorted(error, &self.shared.path));
        self.log_begins = true;
        if let Err(error @ (StoreError::Failed { .. } | StoreError::Corrupt { .. })) = &done {
            self.go_down(Vec::new(), fault::again(error));
        }
        done
    }

    /// The next start counts from the last time that was noted. Not as the first transaction of a log, which has to mark it.
    fn note_clock_at_end(&self) {
        let (clock, usable) = (&self.shared.clock, self.down.is_none() && !self.log_begins);
        if let Some(file) = self.file.as_ref().filter(|_| usable)
            && clock.is_due(clock.now_ms(), true)
            && let Err(error) = clock::rows::keep(&file.writer, &clock.note(true))
        {
            tracing::debug!(%error, "the clock was not noted");
        }
    }

    /// Readers first: a checkpoint cannot empty the log while anyone reads. The lock last. Whoever else writes is not waited for: what is done
    /// here makes the next start easier, and nothing depends on it.
    fn close(&mut self) {
        self.shared.readers.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(file) = &self.file
            && let Err(error) = file.writer.busy_timeout(Duration::ZERO)
        {
            tracing::debug!(%error, "others may be waited for");
        }
        self.note_clock_at_end();
        if self.down.is_none()
            && !self.log_begins
            && let Some(file) = &self.file
            // The log is emptied right after that, and then fsynced.
            && let Err(error) = choose(&file.writer, &mut self.durability, Durability::Normal)
                .and_then(|()| generation::end_log(&file.writer).at("mark the log"))
        {
            tracing::debug!(%error, "the log was not marked");
        }
        if self.down.is_none() && self.room.tight {
            // What is in the log may need the reserve to get into the database.
            self.relieve();
        }
        let Some(File { writer, lock }) = self.file.take() else {
            self.lock = None;
            return;
        };
        if self.down.is_none()
            && let Err(error) = without_waiting(&writer, TRUNCATE_LOG)
        {
            tracing::warn!(%error, "the log was not emptied; the next start does it");
            open::leave_log(&writer);
        }
        drop(writer);
        // A next start on a full disk needs room for a log.
        self.room.reserve.fill_partly();
        drop(lock);
    }
}

/// Runs a statement that was prepared before.
fn execute(conn: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    conn.prepare_cached(sql)?.execute([]).map(drop)
}

/// SQLite allows it only between transactions.
fn choose(
    conn: &Connection,
    current: &mut Durability,
    asked: Durability,
) -> Result<(), StoreError> {
    if *current != asked {
        let sql = match asked {
            Durability::Full => FULL,
            Durability::Normal => NORMAL,
        };
        conn.execute_batch(sql).at("choose the durability")?;
        *current = asked;
    }
    Ok(())
}

fn fail_all(jobs: Vec<Box<dyn Job>>, error: &StoreError) {
    for job in jobs {
        job.fail(fault::again(error));
    }
}
