//! Opens a node's file: guarded, examined before it is touched, with every setting that safety depends on asserted.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use r2d2::Pool;
use r2d2_sqlite::SqliteConnectionManager;
use rusqlite::config::DbConfig;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use scheduled_thread_pool::ScheduledThreadPool;

use crate::store::checkpoint::TRUNCATE_LOG;
use crate::store::disk::{beside, lacks_room, remove_unfinished};
use crate::store::filesystem::{filesystem, is_mounted_alone, is_remote};
use crate::store::lock::{FileLock, Holder, LockError, lock_path};
use crate::store::migrate::migrate;
use crate::store::reserve::Reserve;

mod error;
pub(crate) mod generation;
pub(in crate::store) mod invariants;
pub(crate) mod log;
pub(crate) mod look;
pub(crate) mod schema;

pub use error::{OpenError, StoreOpenError};
pub(in crate::store) use invariants::SELECT_END_SEQ;
#[cfg(test)]
pub(in crate::store) use invariants::end_seq;
use log::Lost;
use look::{BUSY_TIMEOUT, Depth, Found, Identity, bytes, identify, look, resolve};

/// A node's file, ready for use. To close it, drop the readers, then the writer, so that the writer is the last connection and
/// removes the log; the lock last.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) writer: Connection,
    pub(crate) readers: Readers,
    pub(crate) lock: FileLock,
    /// The file says nothing yet about whose it is: its `waypost_meta` has no row.
    pub(crate) fresh: bool,
    /// The file's one true path, links followed.
    pub(crate) path: PathBuf,
    /// Transactions of its log that SQLite has left out.
    pub(crate) lost: Option<Lost>,
}

/// A backup that is being restored, until it gets the file's name.
pub(crate) const RESTORING: &str = "-restoring";

/// The oldest SQLite without the defect that damages a log used by two connections: 3.51.3.
const MIN_SQLITE: i32 = 3_051_003;
const MAX_READERS: u32 = 4;
/// So much of the reserve is given up at once where there is no room to start.
const START_BYTES: u64 = 128 * 1024;
/// How long a read waits for a free connection.
const READER_TIMEOUT: Duration = Duration::from_secs(10);

const COUNT_META: &str = "SELECT count(*) FROM waypost_meta";
/// Name, what is set, and what SQLite then says it is.
type Setting = (&'static str, &'static str, &'static str);
/// The log is cut back to 16 MiB after a checkpoint. `auto_vacuum` is not here: see [`prepare`].
const WRITER_SETTINGS: &[Setting] = &[
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", "2"),
    ("foreign_keys", "ON", "1"),
    ("journal_size_limit", "16777216", "16777216"),
    // The writer does it itself.
    ("wal_autocheckpoint", "0", "0"),
    ("temp_store", "MEMORY", "2"),
    ("cache_size", "-8000", "-8000"),
    ("trusted_schema", "OFF", "0"),
];
const READER_SETTINGS: &[Setting] = &[
    ("query_only", "ON", "1"),
    ("temp_store", "MEMORY", "2"),
    // A backlog is read once, in order; what every connection keeps for good only adds up.
    ("cache_size", "-256", "-256"),
    ("trusted_schema", "OFF", "0"),
];
/// Of a new file. A commit writes whole pages, and the disk whole blocks: of small pages several fit into one. Smaller ones than this hold
/// little more than one message.
pub(crate) const PAGE_BYTES: u32 = 1_024;
const PAGE_SIZE: &str = "page_size";
const AUTO_VACUUM: &str = "auto_vacuum";
const INCREMENTAL: &str = "2";

/// Opens the file, or creates it where there is none; brings its schema up to date. Blocking.
pub(crate) fn open(path: &Path, holder: &Holder) -> Result<OpenFile, OpenError> {
    check_sqlite(rusqlite::version_number(), rusqlite::version())?;
    let path = resolve(path)?;
    if is_mounted_alone(&path) {
        return Err(OpenError::MountedAlone { path });
    }
    let lock = acquire(&path, holder)?;
    if let Some(kind) = filesystem(&path).filter(|kind| is_remote(kind)) {
        tracing::warn!(
            path = %path.display(), filesystem = kind,
            "the file is on a network filesystem: locks and shared memory may fail there and damage it; use a local disk"
        );
    }
    let half = beside(&path, RESTORING);
    if half.exists() {
        if bytes(&path)? == 0 {
            return Err(OpenError::HalfRestored { path, half });
        }
        // Whoever makes one has our lock: it was killed while it copied, and had moved nothing yet.
        remove_unfinished(&half);
    }
    // Before SQLite: once it has written to the log, nothing is left to be seen.
    let log = look::own_log(&path)?;
    let lost = log.lost;
    // A page may then be in the database as a later transaction left it, and its neighbour in the log as an earlier one did.
    let depth = if lost.is_some() { Depth::Full } else { Depth::Quick };
    let found = look(&path, depth).map_err(|error| look::blame_log(&path, &log, error))?;
    let mut connections = establish(&path, found);
    let mut reserve = Reserve::of(&path);
    // The log and its index need some room.
    while matches!(connections, Err(OpenError::Full { .. })) && reserve.release(START_BYTES) {
        connections = establish(&path, found);
    }
    let (writer, readers, fresh) = connections?;
    Ok(OpenFile { writer, readers, lock, fresh, path, lost })
}

/// Opens the file again after an input or output error, under the lock that never was given back. Every page is checked,
/// and a file that is gone is not created. The lock comes back with an error, so that nobody else can take the file before it is
/// tried again. Blocking.
pub(crate) fn reopen(lock: FileLock, path: &Path) -> Result<OpenFile, Box<NotReopened>> {
    let connections = if lock.is_intact() {
        look(path, Depth::Full).and_then(|found| match found {
            Found::Database(Identity::Ours { .. }) => connect(path, GivenUp::LeavesLog),
            _ => Err(OpenError::Missing { path: path.to_owned() }),
        })
    } else {
        Err(OpenError::InUse { path: path.to_owned(), holder: None })
    };
    match connections {
        Ok((writer, readers, fresh)) => {
            // What the connections before it had written, they saw themselves until they were closed.
            Ok(OpenFile { writer, readers, lock, fresh, path: path.to_owned(), lost: None })
        }
        Err(error) => Err(Box::new(NotReopened { lock, error })),
    }
}

/// A file that did not open again, still guarded.
#[derive(Debug)]
pub(crate) struct NotReopened {
    pub(crate) lock: FileLock,
    pub(crate) error: OpenError,
}

fn check_sqlite(number: i32, version: &'static str) -> Result<(), OpenError> {
    if number < MIN_SQLITE {
        return Err(OpenError::SqliteTooOld { found: version });
    }
    Ok(())
}

/// The lock for this database, with what went wrong in this boundary's words.
pub(crate) fn acquire(path: &Path, holder: &Holder) -> Result<FileLock, OpenError> {
    let lock = lock_path(path);
    let existed = lock.exists();
    FileLock::acquire(path, holder).map_err(|error| match error {
        LockError::Held(holder) => OpenError::InUse { path: path.to_owned(), holder },
        LockError::Io(source) if lacks_room(&source) => OpenError::Full { path: path.to_owned() },
        LockError::Io(source) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::NotWritable { path: path.to_owned() }
        }
        LockError::Io(source) if existed || lock.exists() => OpenError::Lock { lock, source },
        LockError::Io(source) => {
            let folder = path.parent().unwrap_or(path).to_owned();
            OpenError::FolderNotWritable { folder, source }
        }
    })
}

fn establish(path: &Path, found: Found) -> Result<Connections, OpenError> {
    if !matches!(found, Found::Database(_)) {
        warn_of_remains(path);
    }
    // Dropped after the connections.
    let mut undo = None;
    match found {
        Found::Nothing => {
            create(path)?;
            undo = Some(Undo { path: path.to_owned(), action: UndoAction::Remove });
        }
        Found::Blank => undo = Some(Undo { path: path.to_owned(), action: UndoAction::Truncate }),
        Found::Database(_) => {
            let metadata =
                fs::metadata(path).map_err(|error| OpenError::io(path, "examined", error))?;
            // Also for a superuser, who could write it: somebody marked it so.
            if metadata.permissions().readonly() {
                return Err(OpenError::NotWritable { path: path.to_owned() });
            }
        }
    }
    crate::exposure::warn_of("the node's file", path);
    let connections = connect(path, GivenUp::CopiesLog)?;
    if let Some(undo) = undo {
        sync_folder(path)?;
        undo.keep();
    }
    Ok(connections)
}

/// A node's file that was removed or emptied while no process had it leaves its reserve behind. It is begun anew all the same, as whoever removes it
/// expects; whoever did not is to hear of it.
fn warn_of_remains(path: &Path) {
    let reserve = beside(path, "-reserve");
    if fs::metadata(&reserve).is_ok_and(|found| found.len() > 0) {
        tracing::warn!(path = %path.display(), "a node's file was here, as {} shows, and is gone or empty: a new one is begun, and what waited in the old one is not in it; if that was not meant, end this process and restore a backup (waypost db restore)", reserve.display());
    }
}

/// Private to its owner from the first moment; SQLite gives its companions the same mode.
fn create(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|error| OpenError::io(path, "created", error))
}

/// The name of a new file must survive a power cut as surely as what is in it.
pub(crate) fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().unwrap_or(path);
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| OpenError::io(folder, "written to disk", error))
}

type Connections = (Connection, Readers, bool);

/// What a connection does with the log that could not be set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GivenUp {
    /// As SQLite does it.
    CopiesLog,
    /// After a failure: see [`leave_log`].
    LeavesLog,
}

fn connect(path: &Path, given_up: GivenUp) -> Result<Connections, OpenError> {
    let mut writer = look::open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .map_err(|error| OpenError::sql(path, "connecting", error))?;
    if let Err(error) = prepare(&mut writer, path) {
        if given_up == GivenUp::LeavesLog {
            leave_log(&writer);
        }
        return Err(error);
    }
    let fresh = writer
        .query_row(COUNT_META, [], |row| row.get::<_, u64>(0))
        .map_err(|error| OpenError::sql(path, "reading whose it is", error))?
        == 0;
    let readers = Readers::new(path, "waypost-reader");
    Ok((writer, readers, fresh))
}

fn prepare(writer: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sql = |error| OpenError::sql(path, "setting it up", error);
    writer.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    if writer.is_readonly(rusqlite::MAIN_DB).map_err(sql)? {
        return Err(OpenError::NotWritable { path: path.to_owned() });
    }
    // Whoever came between the look and now is found out here.
    if identify(writer, path)? == Identity::Empty {
        // Takes effect only where nothing is written yet, or with the next VACUUM: an empty file may have been set up otherwise.
        writer.pragma_update(None, PAGE_SIZE, PAGE_BYTES).map_err(sql)?;
        writer.pragma_update(None, AUTO_VACUUM, INCREMENTAL).map_err(sql)?;
        if setting(writer, AUTO_VACUUM).map_err(sql)? != INCREMENTAL || bytes(path)? > 0 {
            writer.execute_batch("VACUUM").map_err(sql)?;
        }
        expect(writer, path, (AUTO_VACUUM, INCREMENTAL, INCREMENTAL))?;
    }
    for &wanted in WRITER_SETTINGS {
        set(writer, wanted).map_err(sql)?;
        expect(writer, path, wanted)?;
    }
    let applied =
        migrate(writer).map_err(|error| match OpenError::sql(path, "migrating", error.source) {
            OpenError::Sql { path, source, .. } => {
                OpenError::Migration { path, name: error.name, source }
            }
            sorted => sorted,
        })?;
    if applied > 0 {
        // So that the next commit begins a log and marks it: see `generation`. Where somebody reads the file, a later one does.
        if let Err(error) = writer.query_row(TRUNCATE_LOG, [], |_| Ok(())) {
            leave_log(writer);
            return Err(sql(error));
        }
    }
    Ok(())
}

/// Has SQLite leave the log as it is when this connection is closed. It would copy it by itself, also after an fsync that failed: the disk may
/// lack the end of a log that is then in the database, and has the log again if the power fails before its deletion is on the disk.
pub(super) fn leave_log(writer: &Connection) {
    let _ = writer.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
}

/// Runs the statement to its end: the switch to a log is only committed there, and its failure would go unnoticed.
fn set(connection: &Connection, (name, value, _): Setting) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA {name} = {value}"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn setting(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, name, |row| {
        Ok(match row.get(0)? {
            Value::Integer(number) => number.to_string(),
            Value::Text(text) => text,
            other => format!("{other:?}"),
        })
    })
}

fn expect(
    connection: &Connection,
    path: &Path,
    (pragma, _, wanted): Setting,
) -> Result<(), OpenError> {
    let found = setting(connection, pragma)
        .map_err(|error| OpenError::sql(path, "checking its settings", error))?;
    if found == wanted {
        return Ok(());
    }
    Err(match pragma {
        "journal_mode" => OpenError::no_wal(path.to_owned()),
        _ => OpenError::Setting { path: path.to_owned(), pragma, wanted, found },
    })
}

/// Connections that can only read: at most [`MAX_READERS`], opened as they are needed and kept.
///
/// One thread makes them, which ends when the pool is dropped. Without time limits on connections there is no job that wakes
/// up to look for old ones.
pub(crate) struct Readers {
    pool: Pool<SqliteConnectionManager>,
    thread: Arc<ScheduledThreadPool>,
}

impl Readers {
    fn new(path: &Path, thread_name: &str) -> Self {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let manager =
            SqliteConnectionManager::file(path).with_flags(flags).with_init(prepare_reader);
        let thread =
            ScheduledThreadPool::builder().num_threads(1).thread_name_pattern(thread_name).build();
        let thread = Arc::new(thread);
        let pool = Pool::builder()
            .thread_pool(Arc::clone(&thread))
            .max_size(MAX_READERS)
            .min_idle(Some(0))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_on_check_out(false)
            .connection_timeout(READER_TIMEOUT)
            .build_unchecked(manager);
        Self { pool, thread }
    }
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.pool, f)
    }
}

impl Deref for Readers {
    type Target = Pool<SqliteConnectionManager>;
    fn deref(&self) -> &Self::Target {
        &self.pool
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        // The thread may not have let go of the pool yet after its last connection: then that thread, and not this one, would
        // close the connections, at some time after the writer's, and the log would stay behind.
        let (done, wait) = mpsc::channel();
        self.thread.execute(move || {
            // Nobody waits any longer where this fails.
            let _ = done.send(());
        });
        let _ = wait.recv_timeout(BUSY_TIMEOUT);
    }
}

fn prepare_reader(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    for &wanted in READER_SETTINGS {
        set(connection, wanted)?;
        if setting(connection, wanted.0)? != wanted.2 {
            return Err(rusqlite::Error::InvalidParameterName(wanted.0.to_owned()));
        }
    }
    Ok(())
}

enum UndoAction {
    Nothing,
    Remove,
    Truncate,
}

/// Takes back what a failed opening created.
struct Undo {
    path: PathBuf,
    action: UndoAction,
}

impl Undo {
    fn keep(mut self) {
        self.action = UndoAction::Nothing;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let main = match self.action {
            UndoAction::Nothing => return,
            UndoAction::Remove => fs::remove_file(&self.path),
            UndoAction::Truncate => {
                OpenOptions::new().write(true).truncate(true).open(&self.path).map(drop)
            }
        };
        if let Err(error) = main {
            tracing::warn!(path = %self.path.display(), %error, "a file that was just created stays behind");
        }
        for suffix in ["-wal", "-shm", "-journal"] {
            // Usually not there.
            let _ = fs::remove_file(beside(&self.path, suffix));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
