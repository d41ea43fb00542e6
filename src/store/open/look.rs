//! Looks at a file without changing a byte of it, before anything else does.
//!
//! Only SQLite may open the database: closing any other handle to it would drop the locks of every connection of this
//! process. And SQLite itself must be kept from changing anything: an ordinary connection to a file in WAL mode creates `-wal` and
//! `-shm`, checkpoints what a killed process left, and rolls back a foreign journal.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::generation::Main;
use super::log::{self, Examined};
use super::{OpenError, invariants, schema};
use crate::store::disk::beside;
use crate::store::migrate::{APPLICATION_ID, SCHEMA_VERSION, user_version};

/// What a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// A file of no bytes.
    Blank,
    /// A database.
    Database(Identity),
}

/// Whose database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Nobody's: no tables, no version.
    Empty,
    /// Ours, with this schema.
    Ours {
        /// At least 1, at most [`SCHEMA_VERSION`].
        version: u32,
    },
}

/// How thoroughly to look for damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Every page, where the file is small enough for a start not to be held up.
    Quick,
    /// Every page, however long it takes.
    Full,
}

/// Files up to this size are checked at every start.
const QUICK_CHECK_BYTES: u64 = 64 * 1024 * 1024;
/// SQLite's smallest page. It takes a file with less than one as empty, whatever is in it, and overwrites it.
const MIN_PAGE_BYTES: u64 = 512;
/// And its largest: the first transaction of a file makes no second one.
const MAX_PAGE_BYTES: u64 = 65_536;
/// The first bytes of a rollback journal that SQLite has not finished with.
pub(crate) const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// How long to wait for another connection that writes.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const COUNT_TABLES: &str = r"SELECT count(*) FILTER (WHERE name NOT LIKE 'sqlite\_%' ESCAPE '\'),
    count(*) FILTER (WHERE type = 'table' AND name = 'waypost_meta') FROM sqlite_schema";
const HAS_OWNER: &str = "SELECT count(*) > 0 FROM waypost_meta";
const EXCLUSIVE: &str = "PRAGMA locking_mode = EXCLUSIVE";
const QUICK_CHECK: &str = "PRAGMA quick_check(1)";

/// What is there, with foreign, newer and damaged files refused.
pub(crate) fn look(path: &Path, depth: Depth) -> Result<Found, OpenError> {
    let length = match measure(path)? {
        None => return Ok(Found::Nothing),
        Some(0) => return Ok(Found::Blank),
        Some(length) => length,
    };
    let thorough = depth == Depth::Full || length <= QUICK_CHECK_BYTES;
    let wal = beside(path, "-wal");
    let immutable = !wal.exists();
    match examine(path, thorough) {
        // Somebody began to write in this moment, which an immutable connection does not notice.
        Err(OpenError::Corrupt { .. }) if immutable && wal.exists() => examine(path, thorough),
        examined => examined,
    }
}

/// The size of the file, if there is one, with all refused that SQLite would overwrite without asking: also with a rollback journal that is
/// not its own. Comes before any connection to it. A file whose first transaction was cut short has none: SQLite takes back what there is of
/// it.
pub(crate) fn measure(path: &Path) -> Result<Option<u64>, OpenError> {
    let length = match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            return Err(OpenError::NotAFile { path: path.to_owned() });
        }
        Ok(metadata) => Some(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(OpenError::io(path, "examined", error)),
    };
    let wal = beside(path, "-wal");
    match length {
        // SQLite would delete the log, and with it all that was not yet copied into the database.
        None | Some(0) if bytes(&wal)? > 0 => {
            Err(OpenError::StrayWal { path: path.to_owned(), wal })
        }
        Some(length @ 1..) if is_rolled_back_to_nothing(path, length)? => Ok(Some(0)),
        Some(1..MIN_PAGE_BYTES) => Err(OpenError::NotADatabase { path: path.to_owned() }),
        length => Ok(length),
    }
}

/// Looks through the log beside the database, and refuses one that was written for another database, or for another state of this one.
pub(crate) fn own_log(path: &Path) -> Result<Examined, OpenError> {
    let wal = beside(path, "-wal");
    let log = log::examine(&wal).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => OpenError::NotReadable { path: path.to_owned() },
        _ => OpenError::io(&wal, "examined", error),
    })?;
    if log.has_transactions() && matches!(measure(path)?, Some(1..)) {
        // What a power cut left of a checkpoint may not be readable without the log: that proves nothing.
        let main = immutable(path).and_then(|connection| Main::read(&connection));
        if let Some(reason) = main.ok().and_then(|main| log.contradicts(&main)) {
            return Err(OpenError::ForeignLog { path: path.to_owned(), wal, reason });
        }
    }
    Ok(log)
}

/// Damage that is there only with the log is the log's.
pub(crate) fn blame_log(path: &Path, log: &Examined, error: OpenError) -> OpenError {
    let OpenError::Corrupt { reason, .. } = &error else { return error };
    if !log.has_transactions() || log.lost.is_some() {
        return error;
    }
    let alone = immutable(path).map_err(|error| OpenError::sql(path, "looking at it", error));
    let is_sound = alone.and_then(|connection| {
        identify(&connection, path)?;
        quick_check(&connection, path)
    });
    match is_sound {
        Ok(()) => OpenError::ForeignLog {
            path: path.to_owned(),
            wal: beside(path, "-wal"),
            reason: format!("the database is sound without it, and with it: {reason}"),
        },
        Err(_) => error,
    }
}

/// Whether a rollback journal says that its database was empty before the transaction that it belongs to: all that is in the
/// database then was never committed. A new file is in that state until it has switched to a write-ahead log, and a power cut in
/// that moment can leave any part of its first page.
///
/// # Errors
/// The journal does not belong to this file: a node's file has a log from its first row on, and never a journal again. SQLite would play it
/// back all the same, or take all pages away.
fn is_rolled_back_to_nothing(path: &Path, length: u64) -> Result<bool, OpenError> {
    let journal = beside(path, "-journal");
    let Some(pages) = rolled_back_pages(&journal)? else { return Ok(false) };
    let wal = beside(path, "-wal");
    if has_owner(path)? || log::examine(&wal).is_ok_and(|log| log.has_owner()) {
        return Err(OpenError::ForeignJournal { path: path.to_owned(), journal });
    }
    Ok(pages == 0 && bytes(&wal)? == 0 && length <= MAX_PAGE_BYTES)
}

/// Whether the database, its log and journal left aside, is a node's, or so much damaged that nobody knows. Not of one whose first page was
/// torn, or to which nothing was committed yet.
fn has_owner(path: &Path) -> Result<bool, OpenError> {
    let sql = |error| OpenError::sql(path, "looking at it", error);
    let connection = immutable(path).map_err(sql)?;
    match identify(&connection, path) {
        Ok(Identity::Ours { .. }) => {
            connection.query_row(HAS_OWNER, [], |row| row.get(0)).map_err(sql)
        }
        Ok(Identity::Empty) | Err(OpenError::NotADatabase { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How many pages a rollback journal would leave of its database; `None` where SQLite would not use it.
fn rolled_back_pages(journal: &Path) -> Result<Option<u32>, OpenError> {
    // Magic, number of pages, nonce, pages of the database before, each of 4 bytes but for the magic.
    let mut header = [0; 20];
    let read = match fs::File::open(journal) {
        Ok(mut file) => file.read_exact(&mut header),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) => Ok((header[..8] == JOURNAL_MAGIC)
            .then(|| u32::from_be_bytes(header[16..].try_into().expect("four bytes")))),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
        {
            Ok(None)
        }
        Err(error) => Err(OpenError::io(journal, "examined", error)),
    }
}

fn examine(path: &Path, thorough: bool) -> Result<Found, OpenError> {
    let connection = peek(path)?;
    let identity = identify(&connection, path)?;
    if let Identity::Ours { version } = identity {
        check_schema(&connection, path, version)?;
    }
    if thorough {
        quick_check(&connection, path)?;
    }
    if let Identity::Ours { .. } = identity {
        check_invariants(&connection, path)?;
    }
    Ok(Found::Database(identity))
}

/// Refuses a file whose tables contradict each other, so that messages would be passed over.
fn check_invariants(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let fault = invariants::fault(connection)
        .map_err(|error| OpenError::sql(path, "comparing its tables", error))?;
    match fault {
        Some(reason) => Err(OpenError::Contradiction { path: path.to_owned(), reason }),
        None => Ok(()),
    }
}

/// Whose database this is.
pub(crate) fn identify(connection: &Connection, path: &Path) -> Result<Identity, OpenError> {
    let sql = |error| OpenError::sql(path, "reading its schema", error);
    let version = user_version(connection).map_err(sql)?;
    let application: i32 =
        connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(sql)?;
    let (objects, ours): (u64, u64) = connection
        .query_row(COUNT_TABLES, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(sql)?;
    match (ours > 0, u32::try_from(version)) {
        // A program that keeps its tables in our file may have set an application id of its own: the table decides.
        (true, Ok(version)) if (1..=SCHEMA_VERSION).contains(&version) => {
            Ok(Identity::Ours { version })
        }
        (true, _) if version > i64::from(SCHEMA_VERSION) => Err(OpenError::Newer {
            path: path.to_owned(),
            found: version,
            supported: SCHEMA_VERSION,
        }),
        (true, _) => Err(OpenError::Corrupt {
            path: path.to_owned(),
            reason: format!(
                "it has waypost's tables, but another program set user_version to {version}"
            ),
        }),
        (false, Ok(0)) if objects == 0 && [0, APPLICATION_ID].contains(&application) => {
            Ok(Identity::Empty)
        }
        (false, _) => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Refuses a file whose tables are not as the migrations made them.
fn check_schema(connection: &Connection, path: &Path, version: u32) -> Result<(), OpenError> {
    let fault = schema::fault(connection, version)
        .map_err(|error| OpenError::sql(path, "checking its schema", error))?;
    match fault {
        Some(reason) => Err(OpenError::Corrupt { path: path.to_owned(), reason }),
        None => Ok(()),
    }
}

/// The first fault in the structure of the file, if it has one.
pub(crate) fn quick_check(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let answer: String = connection
        .query_row(QUICK_CHECK, [], |row| row.get(0))
        .map_err(|error| OpenError::sql(path, "checking its pages", error))?;
    if answer == "ok" {
        return Ok(());
    }
    // The first line is only the heading "*** in database main ***".
    let reason =
        answer.lines().find(|line| !line.starts_with("***")).unwrap_or("quick_check failed");
    Err(OpenError::Corrupt { path: path.to_owned(), reason: reason.to_owned() })
}

/// A connection that sees all that is committed and leaves no trace.
fn peek(path: &Path) -> Result<Connection, OpenError> {
    let sql = |error| OpenError::sql(path, "looking at it", error);
    if !beside(path, "-wal").exists() {
        // The database is all there is, and nobody writes it: immutable means no locks, no log and no recovery.
        return immutable(path).map_err(sql);
    }
    // A log that a killed process left, or that somebody has open. With the exclusive lock its index is built in memory and not in a -shm file; without
    // the checkpoint at the end nothing is copied.
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
    if connection.is_readonly(rusqlite::MAIN_DB).map_err(sql)? {
        return Err(OpenError::NotWritable { path: path.to_owned() });
    }
    connection.busy_timeout(Duration::ZERO).map_err(sql)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(sql)?;
    connection.execute_batch(EXCLUSIVE).map_err(sql)?;
    match user_version(&connection) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) => {}
        Err(error) => return Err(sql(error)),
        Ok(_) => return Ok(connection),
    }
    // Somebody else has it open (an inspector, a database browser), so that the -shm file is there and stays.
    drop(connection);
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    Ok(connection)
}

/// A connection that takes the file as it is, without its log. Only for a file without one.
pub(crate) fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    Connection::open_with_flags(uri(path, "immutable=1"), flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// A connection that reads the database with its log and writes nothing, not even the log's index: it keeps one in memory. It takes no locks,
/// so that nobody may be writing.
pub(crate) fn unshared(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let flags = flags | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(path, "vfs=unix-none"), flags)?;
    connection.execute_batch(EXCLUSIVE)?;
    Ok(connection)
}

/// A connection to a file that exists.
pub(crate) fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
}

/// The size of a file; 0 where there is none.
pub(crate) fn bytes(path: &Path) -> Result<u64, OpenError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(OpenError::io(path, "examined", error)),
    }
}

/// The one true path of the file: links followed, so that two names of a file have the same lock and the same log.
pub(crate) fn resolve(given: &Path) -> Result<PathBuf, OpenError> {
    let bad = |reason| OpenError::BadPath { path: given.to_owned(), reason };
    if given.as_os_str().as_bytes().contains(&0) {
        return Err(bad("it contains a zero byte"));
    }
    let (Some(name), Some(folder)) = (given.file_name(), given.parent()) else {
        return Err(if given.is_dir() {
            OpenError::NotAFile { path: given.to_owned() }
        } else {
            bad("it has no file name")
        });
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    match fs::canonicalize(given) {
        Ok(path) if path.is_file() => Ok(path),
        Ok(path) => Err(OpenError::NotAFile { path }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if given.is_symlink() {
                return Err(bad("it is a link to a file that does not exist"));
            }
            match fs::canonicalize(folder) {
                Ok(folder) => Ok(folder.join(name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(OpenError::FolderMissing { folder: folder.to_owned() })
                }
                Err(error) => Err(OpenError::io(folder, "examined", error)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
            Err(bad("a part of it is a file and not a folder"))
        }
        Err(_) if given.is_symlink() => Err(bad("its links go round in a circle")),
        Err(error) => Err(OpenError::io(given, "examined", error)),
    }
}

/// A path as a `file:` URI for SQLite, which takes `?`, `#` and `%` for its own.
fn uri(path: &Path, parameters: &str) -> String {
    use std::fmt::Write as _;
    let mut uri = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            write!(uri, "%{byte:02X}").expect("a String takes everything");
        }
    }
    uri + "?" + parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::open::{self, tests::me};

    /// What a power cut can leave of the switch to a write-ahead log, the first thing that is ever written: found by the test of
    /// power cuts.
    #[test]
    fn a_file_whose_first_page_was_torn_by_a_power_cut_counts_as_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = resolve(&folder.path().join("a.db")).expect("a path");
        let journal = beside(&path, "-journal");
        // One sector of the header says: no pages, and the database was empty before.
        let mut header = [0; 512];
        header[..8].copy_from_slice(&JOURNAL_MAGIC);
        header[20..28].copy_from_slice(&[0, 0, 2, 0, 0, 0, 16, 0]);
        fs::write(&path, [7; 1024]).expect("written");
        fs::write(&journal, header).expect("written");
        assert!(matches!(look(&path, Depth::Quick), Ok(Found::Blank)));
        let inspected = crate::inspect::Inspector::open(&path);
        assert!(matches!(inspected, Err(crate::inspect::InspectError::NoNode { .. })));
        assert!(open::open(&path, &me()).expect("opened").fresh);
        assert!(!journal.exists());
        assert!(matches!(look(&path, Depth::Full), Ok(Found::Database(Identity::Ours { .. }))));
        // A journal of a database that held something says nothing of the kind.
        fs::write(&path, [7; 1024]).expect("written");
        header[19] = 1;
        fs::write(&journal, header).expect("written");
        assert!(!is_rolled_back_to_nothing(&path, 1024).expect("readable"));
        fs::write(&journal, &header[..10]).expect("written");
        assert!(!is_rolled_back_to_nothing(&path, 1024).expect("readable"));
    }

    #[test]
    fn a_uri_escapes_what_sqlite_would_take_for_its_own() {
        let path = Path::new("/a b/c?d#e%f/ü.db");
        assert_eq!(uri(path, "immutable=1"), "file:///a%20b/c%3Fd%23e%25f/%C3%BC.db?immutable=1");
    }
}
