//! The node's file: SQLite, and the only place with SQL.
//!
//! One thread writes. It takes whatever waits, commits it as one transaction and answers all who asked for it; reading goes
//! over connections of its own.

mod audit;
mod begun;
mod checkpoint;
mod cleanup;
pub(crate) mod clock;
mod columns;
pub(crate) mod crc;
mod cursors;
pub(crate) mod dead_letters;
pub(crate) mod disk;
mod drain;
mod election;
mod error;
mod fault;
mod fence;
mod file;
pub(crate) mod filesystem;
mod guard;
mod inbox;
pub mod inspect;
mod job;
mod ledger;
mod limits;
pub(crate) mod lock;
mod mailbox;
mod members;
mod meta;
pub(crate) mod migrate;
pub(crate) mod open;
mod outbox;
mod pager;
mod readers;
mod requests;
mod reserve;
mod room;
mod shared;
pub(crate) mod spans;
mod strays;
mod tx;
mod types;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::condition::{Health, LogCut, Tally};
use crate::config::Durability;
use crate::message::StoreId;
use crate::metering::Meter;
use crate::protocol::inbox::begun::Note;
use crate::protocol::life::Gap;
use crate::reason::Reason;
pub(crate) use audit::Entry;
pub(crate) use begun::Notes;
use clock::{Clock, TimeSource};
pub use dead_letters::RedriveError;
pub use error::{SendError, StoreError};
pub(crate) use fault::again;
use fault::{At, JobError};
pub use fence::{Fence, FenceError};
use file::File;
use guard::Guard;
use job::{Group, Job, Settings, Task};
use lock::Holder;
use mailbox::Mailbox;
pub(crate) use mailbox::Notices;
use open::OpenFile;
use open::log::Lost;
pub use open::{OpenError, StoreOpenError};
use room::Room;
use shared::Shared;
pub use tx::{TransactionError, Tx};
pub use types::DeadLetter;
pub(crate) use types::*;
use writer::{Begin, Message, Thread, Writer};

/// Messages and transactions of the program that may wait for the writer; later ones wait for a place. Questions and what the node itself has to
/// write wait for none.
const QUEUE_JOBS: usize = 1_024;
/// What the payloads that wait for the writer may take together, in units of a KiB.
const QUEUE_KIB: usize = 64 * 1024;
const KIB: usize = 1_024;

/// The node's file, open. A cheap clone.
///
/// A method that is no `async fn` has queued its job when it returns, behind all earlier ones: the order of the calls is the order of the writes,
/// and dropping what it returns changes nothing. A future of one of the others that is dropped before its job was queued has done nothing;
/// afterwards, the job is done all the same.
#[derive(Clone)]
pub(crate) struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    jobs: mpsc::UnboundedSender<Message>,
    writer: Arc<Mutex<Writer>>,
    shared: Arc<Shared>,
    closed: AtomicBool,
    intake_stopped: AtomicBool,
    places: Arc<Semaphore>,
    room: Arc<Semaphore>,
    thread: Mutex<Option<JoinHandle<()>>>,
    done: watch::Receiver<bool>,
    durability: Durability,
    inbox_durability: Durability,
    under_way: UnderWay,
}

pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) notices: Notices,
    pub(crate) restored: Restored,
    pub(crate) cut: Option<LogCut>,
    /// Where to note what is handed out, and what the last process had noted.
    pub(crate) begun: (Notes, Vec<Note>),
}

impl Store {
    /// Opens the file, or makes it, and starts its writer. Blocks.
    pub(crate) fn open(options: Options) -> Result<Opened, StoreOpenError> {
        let time = clock::SystemTime(options.wall_clock);
        Self::open_at(options, Box::new(time))
    }

    /// With a clock of the caller's.
    pub(crate) fn open_at(
        options: Options,
        time: Box<dyn TimeSource>,
    ) -> Result<Opened, StoreOpenError> {
        let asked = options.id.as_ref().unwrap_or(&options.fallback_id);
        let holder =
            Holder { node: asked.to_string(), pid: std::process::id(), host: options.host.clone() };
        let OpenFile { writer, readers, lock, path, lost, .. } =
            open::open(&options.path, &holder)?;
        let sorted = |error| fault::sorted(error, &path);
        let guard = Arc::new(Guard::default());
        let file = File::new(writer, lock, &guard).map_err(|(_, error)| sorted(error))?;
        // Before anything is written.
        let kept = meta::owner(&file.writer).map_err(sorted)?;
        if let (Some(kept), Some(asked)) = (&kept, &options.id)
            && kept != asked
        {
            let (kept, asked) = (kept.clone(), asked.clone());
            return Err(StoreOpenError::WrongNode { path, kept, asked });
        }
        let clock = start_clock(&file.writer, time, &path).map_err(sorted)?;
        let node = match kept {
            None => {
                meta::initialise(&file.writer, asked, clock.now_ms()).map_err(sorted)?;
                asked.clone()
            }
            Some(kept) => kept,
        };
        let ledger = meta::load(&file.writer).map_err(sorted)?;
        inbox::forget_damaged(&file.writer, clock.now_ms(), &path).map_err(sorted)?;
        let restored = meta::restored(&file.writer, &ledger, node).map_err(sorted)?;
        let mailbox = Arc::new(Mailbox::default());
        let cut = lost.map(|Lost { frame, transactions }| {
            LogCut::new(frame, transactions, ledger.totals.last_id)
        });
        if let Some(cut) = &cut {
            record_cut(&file.writer, clock.now_ms(), cut, &path).map_err(sorted)?;
            mailbox.put([Notice::LogCut(*cut)]);
        }
        let at_ms = ledger.totals.told_expiry_ms;
        mailbox.put((at_ms < u64::MAX).then_some(Notice::UnclaimedExpires { at_ms }));
        let (done, is_done) = watch::channel(false);
        let room = Room::new(&path, options.storage_limit, &file.writer).map_err(sorted)?;
        let shared = Arc::new(Shared {
            seen: room.seen(),
            path,
            clock,
            mailbox: Arc::clone(&mailbox),
            health: Mutex::new(Health::Healthy),
            meter: Arc::default(),
            tally: Arc::default(),
            damage: Mutex::new(None),
            held: Mutex::new(None),
            readers: RwLock::new(Some(readers)),
            done,
        });
        let (jobs, queue) = mpsc::unbounded_channel();
        let under_way = UnderWay::default();
        let settings = settings(&options, &under_way);
        let begin = Begin { shared: Arc::clone(&shared), settings, ledger, guard, file, room };
        let writer = Arc::new(Mutex::new(Writer::new(begin)));
        let thread = spawn(Thread::new(queue, Arc::clone(&writer)), &shared.path)?;
        let inner = Inner {
            jobs,
            writer,
            shared,
            closed: AtomicBool::new(false),
            intake_stopped: AtomicBool::new(false),
            places: Arc::new(Semaphore::new(QUEUE_JOBS)),
            room: Arc::new(Semaphore::new(QUEUE_KIB)),
            thread: Mutex::new(Some(thread)),
            done: is_done,
            durability: options.durability,
            inbox_durability: options.inbox_durability,
            under_way,
        };
        let store = Self { inner: Arc::new(inner) };
        let own = restored.stores.first().map_or(StoreId::from_u128(0), |(_, store)| *store);
        let begun = Notes::read(store.path(), own);
        Ok(Opened { store, notices: Notices(mailbox), restored, cut, begun })
    }

    /// The file's time in milliseconds since 1970; see [`clock`].
    pub(crate) fn now_ms(&self) -> u64 {
        self.inner.shared.clock.now_ms()
    }

    /// A file time as the wall clock's, in milliseconds since 1970, for people.
    pub(crate) fn wall_ms(&self, file_ms: u64) -> u64 {
        self.inner.shared.clock.wall_ms(file_ms)
    }

    /// Looks whether somebody has set the wall clock, and notes the file's time where nothing else was written for long.
    pub(crate) fn watch_clock(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let shared = &self.inner.shared;
        shared.look_at_clock();
        let is_due = shared.clock.is_due(shared.clock.now_ms(), false);
        let noted = is_due.then(|| self.run(Durability::Normal, |_| Ok(())));
        async move {
            match noted {
                Some(noted) => noted.await,
                None => Ok(()),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.inner.shared.path
    }

    /// What is measured of this node.
    pub(crate) fn meter(&self) -> &Arc<Meter> {
        &self.inner.shared.meter
    }

    /// What is counted of this node.
    pub(crate) fn tally(&self) -> &Arc<Tally> {
        &self.inner.shared.tally
    }

    /// Why the file cannot be written, or parts of it not read, and who keeps its log from beginning again. Empty where all is well.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = Reason> {
        let shared = &self.inner.shared;
        let failing = self.health().reason(&shared.path).or_else(|| shared.damage());
        failing.into_iter().chain(shared.held())
    }

    /// Whether the wall clock is far from what is known to have passed.
    pub(crate) fn clock_reason(&self) -> Option<Reason> {
        self.inner.shared.clock.apart_ms().map(|by_ms| Reason::ClockApart { by_ms })
    }

    pub(crate) fn health(&self) -> Health {
        self.inner.shared.health()
    }

    /// The size of the write-ahead log.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let wal = disk::beside(self.path(), "-wal");
        std::fs::metadata(wal).map_or(0, |metadata| metadata.len())
    }

    /// Refuses messages and transactions from now on; what else the node has to write goes on.
    pub(crate) fn stop_intake(&self) {
        self.inner.intake_stopped.store(true, Ordering::SeqCst);
    }

    /// Refuses what comes from now on and what waits for a place, does what is queued, empties the log, closes the file and releases its lock; afterwards no
    /// thread is left. May be called again, and cancelled: the file closes all the same.
    pub(crate) async fn close(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        // It can only fail if the writer is closing already.
        let _ = self.inner.jobs.send(Message::Close);
        let mut done = self.inner.done.clone();
        let _ = done.wait_for(|done| *done).await;
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the store's writer panicked");
        }
    }

    /// The same for a caller that may block. To be called once, with nothing else under way.
    fn close_blocking(&self) {
        self.inner.closed.store(true, Ordering::SeqCst);
        let _ = self.inner.jobs.send(Message::Close);
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's writer panicked");
        }
    }

    /// Has the writer do this in one of its next transactions, behind all that was asked of it before.
    fn run<R, E, F>(&self, durability: Durability, work: F) -> Answer<R, E>
    where
        R: Send + 'static,
        E: JobError,
        F: FnMut(&mut Group<'_>) -> Result<R, E> + Send + 'static,
    {
        let (task, answer) = Task::new(durability, work);
        self.hand_over(Box::new(task));
        Answer(answer)
    }

    /// The same for a job of the program's: waits for a place in the queue first, and for room for what it brings.
    async fn submit<R, E, F>(
        &self,
        mut task: Task<R, E, F>,
        answer: oneshot::Receiver<Result<R, E>>,
    ) -> Result<R, E>
    where
        R: Send + 'static,
        E: JobError,
        F: FnMut(&mut Group<'_>) -> Result<R, E> + Send + 'static,
    {
        let closed = |_| E::from_store(StoreError::Closed);
        // Room first: what brings nothing must not wait behind what waits for room.
        if task.bytes > 0 {
            let kib = task.bytes.div_ceil(KIB).min(QUEUE_KIB);
            let kib = u32::try_from(kib).expect("not above the constant");
            let room = Arc::clone(&self.inner.room).acquire_many_owned(kib).await;
            task.permits.push(room.map_err(closed)?);
        }
        let place = Arc::clone(&self.inner.places).acquire_owned().await.map_err(closed)?;
        task.permits.push(place);
        self.hand_over(Box::new(task));
        Answer(answer).await
    }

    /// Gives the writer a job, or answers it in its place where there is none any more.
    fn hand_over(&self, job: Box<dyn Job>) {
        if self.inner.closed.load(Ordering::SeqCst) {
            return job.fail(StoreError::Closed);
        }
        if let Err(mpsc::error::SendError(Message::Job(job))) =
            self.inner.jobs.send(Message::Job(job))
        {
            job.fail(StoreError::Closed);
        }
    }

    /// Outside of any transaction: see [`cleanup::maintain`].
    async fn maintain(&self) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.inner.jobs.send(Message::Maintain(reply));
        sent.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Unanswered)?
    }

    /// Reads on a connection that only reads. Blocks.
    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let shared = &self.inner.shared;
        let failed = |reason| StoreError::Failed { path: shared.path.clone(), reason };
        if let Health::Failed(reason) = shared.health() {
            return Err(failed(reason.sentence()));
        }
        let readers = shared.readers.read().unwrap_or_else(PoisonError::into_inner);
        let pool = readers.as_ref().ok_or(StoreError::Closed)?;
        let conn = pool.get().map_err(|error| failed(error.to_string()))?;
        work(&conn).map_err(|error| {
            let error = fault::sorted(error, &shared.path);
            if let StoreError::Corrupt { .. } = error {
                shared.tell_damage(&error);
            }
            error
        })
    }

    /// The same, on a thread that may block.
    async fn read_aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let read = tokio::task::spawn_blocking(move || store.read(work)).await;
        read.unwrap_or(Err(StoreError::Unanswered))
    }
}

/// What will come of a job that the writer has. Cancel-safe; dropped, the job is done all the same.
#[must_use = "a job may fail"]
pub(crate) struct Answer<R, E = StoreError>(oneshot::Receiver<Result<R, E>>);

impl<R, E: JobError> Future for Answer<R, E> {
    type Output = Result<R, E>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.0).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(E::from_store(StoreError::Unanswered))))
    }
}

/// What the writer works by.
fn settings(options: &Options, under_way: &UnderWay) -> Settings {
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Settings {
        queue_limit: u64::try_from(options.queue_limit).unwrap_or(u64::MAX),
        overflow: options.overflow,
        retention_ms: millis(options.retention),
        audit_retention_ms: millis(options.audit_retention),
        under_way: under_way.clone(),
    }
}

fn spawn(thread: Thread, path: &Path) -> Result<JoinHandle<()>, StoreError> {
    let builder = std::thread::Builder::new().name("waypost-writer".to_owned());
    builder.spawn(move || thread.run()).map_err(|error| StoreError::Failed {
        path: path.to_owned(),
        reason: format!("no thread for the writer: {error}"),
    })
}

/// Puts on record what a log has lost.
fn record_cut(conn: &Connection, now_ms: u64, cut: &LogCut, path: &Path) -> Result<(), StoreError> {
    audit::note(conn, now_ms, LogCut::ACTION, path, cut)?;
    // What is left of those transactions is not to be found again, once they are on record. Where somebody reads the file, it may be.
    let _ = conn.query_row(checkpoint::TRUNCATE_LOG, [], |_| Ok(()));
    tracing::warn!(path = %path.display(), "{cut}");
    Ok(())
}

/// The clock of a file that was just opened, and how the time since its last use was counted.
fn start_clock(
    conn: &Connection,
    time: Box<dyn TimeSource>,
    path: &Path,
) -> Result<Clock, StoreError> {
    let kept = clock::rows::load(conn)?;
    let damaged = kept.damaged;
    let (clock, gap) = Clock::start(time, kept, meta::last_created_ms(conn)?);
    // A new file's clock is noted with what is written first.
    if clock.is_due(clock.now_ms(), true) && meta::owner(conn)?.is_some() {
        let note = clock.note(false);
        // No fsync: of what a power cut takes, it takes the boot too, and a time that was noted earlier counts less.
        let noted = conn.execute_batch(file::NORMAL).at("choose the durability");
        let noted = noted
            .and_then(|()| clock::rows::begin(conn, &note, &clock.segments(), gap.missing_ms()));
        conn.execute_batch(file::FULL).at("choose the durability")?;
        match noted {
            Ok(()) => clock.noted(&note),
            // A full disk above all: it is tried again with what is written next.
            Err(error) => tracing::warn!(%error, "the file's clock was not noted"),
        }
    }
    if damaged {
        let detail = "it begins with the wall clock, but not before the youngest message";
        tell_of_clock(conn, &clock, path, "clock damaged", detail);
    }
    if let Gap::Uncounted { counted_ms, wall_ms } = gap
        && wall_ms.saturating_sub_unsigned(counted_ms) > clock::APART_MS
    {
        let detail = format!(
            "by the wall clock {} passed since this file was used last, but nothing shows that it was right both times: {} are counted",
            span(wall_ms.unsigned_abs()),
            span(counted_ms)
        );
        tell_of_clock(conn, &clock, path, "time not counted", &detail);
    }
    Ok(clock)
}

/// On record where there is room.
fn tell_of_clock(conn: &Connection, clock: &Clock, path: &Path, what: &str, detail: &str) {
    tracing::warn!(path = %path.display(), "{what}: {detail}");
    if let Err(error) = audit::note(conn, clock.now_ms(), what, path, &detail) {
        tracing::debug!(%error, "it is not on record");
    }
}

fn span(ms: u64) -> humantime::FormattedDuration {
    humantime::format_duration(std::time::Duration::from_secs(ms / 1_000))
}
