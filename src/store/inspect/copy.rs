//! Copies a file, and gives its free pages back.
//!
//! The copy is made with SQLite's backup interface and not with `VACUUM INTO`: it is the same database page by page, while `VACUUM` may
//! give new rowids to the tables of a program that lives in the same file and counts on them.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::{InspectError, Inspector};
use crate::store::checkpoint::TRUNCATE_LOG;
use crate::store::disk::{beside, lacks_room, remove_companions, remove_unfinished};
use crate::store::lock::Holder;
use crate::store::open::look::{
    self, BUSY_TIMEOUT, Depth, Found, Identity, bytes, identify, look, quick_check, resolve,
};
use crate::store::open::{OpenError, acquire, generation, sync_folder};
use crate::store::room::FREE_PAGES;

/// A finished copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Copied {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// What shrinking a file has brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Vacuumed {
    /// Size of the database and its log before.
    pub before_bytes: u64,
    /// Size after.
    pub after_bytes: u64,
}

const BEGIN: &str = "SELECT count(*) FROM sqlite_schema";
pub(super) const AUTO_VACUUM: &str = "PRAGMA auto_vacuum";
/// In steps, so that the log stays small.
pub(super) const GIVE_BACK: &str = "PRAGMA incremental_vacuum(4096)";
/// For a file that was set up by something else: rewrites it, and keeps it able to shrink in steps.
const REWRITE: &str = "PRAGMA auto_vacuum = INCREMENTAL; VACUUM";

/// Pages copied in one step.
const STEP_PAGES: i32 = 1024;

impl Inspector {
    /// Copies the file as it is at this moment, while a node may go on writing to it, checks the copy and puts it on disk. It is private to
    /// its owner (`0600`), and appears under its name only when it is complete. It has the same store id: a node that is started with it
    /// notices from its peers' answers that it is an older copy.
    ///
    /// # Errors
    /// [`InspectError::TargetExists`] where there is something already; an [`OpenError`] that names the source or the copy. Nothing is left
    /// behind.
    pub fn backup(&self, to: impl AsRef<Path>) -> Result<Copied, InspectError> {
        let to = to.as_ref();
        refuse_existing(to)?;
        let to = resolve(to)?;
        for suffix in ["-wal", "-journal"] {
            // SQLite would take it for the copy's own.
            refuse_existing(&beside(&to, suffix))?;
        }
        let partial = Partial::create(&to)?;
        self.copy_pages(&partial.path)?;
        partial.publish(&to)?;
        Ok(Copied { bytes: bytes(&to)?, path: to })
    }

    pub(super) fn copy_pages(&self, to: &Path) -> Result<(), InspectError> {
        let target_error = |error| OpenError::sql(to, "copying into it", error);
        let mut target = look::open(to, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(target_error)?;
        self.read("copying it", |connection| {
            // The state that is copied is the one of the first read, however long the copying takes.
            connection.query_row(BEGIN, [], |_| Ok(()))?;
            // An error of the target names the target: that one is told apart by being wrapped.
            Ok(copy(connection, &mut target))
        })?
        .map_err(target_error)?;
        identify(&target, to)?;
        quick_check(&target, to)?;
        generation::make_own(&target).map_err(target_error)?;
        finish(target, to)
    }
}

/// Has all that was written through this connection in the file alone, and on disk. Closing it would copy the log too, but not tell of a
/// failure: and then the log is all that has it.
pub(super) fn finish(connection: Connection, path: &Path) -> Result<(), InspectError> {
    let sql = |error| OpenError::sql(path, "copying its log into it", error);
    empty_log(&connection).map_err(sql)?;
    connection.close().map_err(|(_, error)| sql(error))?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| OpenError::io(path, "written to disk", error).into())
}

/// # Errors
/// Also where somebody reads from the log, so that it stays.
fn empty_log(connection: &Connection) -> rusqlite::Result<()> {
    match connection.query_row(TRUNCATE_LOG, [], |row| row.get(0))? {
        0 => Ok(()),
        _ => Err(rusqlite::Error::SqliteFailure(busy(), None)),
    }
}

fn copy(from: &Connection, to: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(from, to)?;
    loop {
        match backup.step(STEP_PAGES)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else knows the target, and the source is read in WAL mode, where nobody waits for a reader.
            _ => return Err(rusqlite::Error::SqliteFailure(busy(), None)),
        }
    }
}

fn busy() -> rusqlite::ffi::Error {
    rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY)
}

fn refuse_existing(path: &Path) -> Result<(), InspectError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(InspectError::TargetExists { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(OpenError::io(path, "examined", error).into()),
    }
}

/// A copy that is not finished: goes away with its value, unless it is kept.
pub(super) struct Partial {
    pub(super) path: PathBuf,
    kept: bool,
}

impl Partial {
    fn create(to: &Path) -> Result<Self, InspectError> {
        Self::create_as(beside(to, "-partial"), to)
    }

    pub(super) fn create_as(path: PathBuf, to: &Path) -> Result<Self, InspectError> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Ok(Self { path, kept: false }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(InspectError::TargetExists { path })
            }
            Err(error) if lacks_room(&error) => Err(OpenError::Full { path }.into()),
            Err(source) => {
                let folder = to.parent().unwrap_or(to).to_owned();
                Err(OpenError::FolderNotWritable { folder, source }.into())
            }
        }
    }

    /// One that is there already, to be made anew, and kept whatever happens.
    pub(super) fn again(path: PathBuf) -> Result<Self, InspectError> {
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .map_err(|error| OpenError::io(&path, "emptied", error))?;
        remove_companions(&path);
        Ok(Self { path, kept: true })
    }

    /// From now on it does not go away.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }

    /// Gives the copy its name, without replacing anything that has come there in the meantime.
    fn publish(self, to: &Path) -> Result<(), InspectError> {
        match fs::hard_link(&self.path, to) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(InspectError::TargetExists { path: to.to_owned() });
            }
            // A filesystem without links, as memory sticks have.
            Err(_) => {
                refuse_existing(to)?;
                fs::rename(&self.path, to)
                    .map_err(|error| OpenError::io(to, "given its name", error))?;
            }
        }
        drop(self);
        Ok(sync_folder(to)?)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            remove_unfinished(&self.path);
        }
    }
}

/// Gives the free pages of the file back to the disk. No node may have it open.
///
/// # Errors
/// [`OpenError::InUse`] that names the node which has it open; any other [`OpenError`] that keeps a node from starting with it.
pub fn vacuum(path: impl AsRef<Path>) -> Result<Vacuumed, InspectError> {
    let path = resolve(path.as_ref())?;
    if look::measure(&path)?.is_none() {
        return Err(OpenError::Missing { path }.into());
    }
    let holder = Holder {
        node: "waypost db vacuum".to_owned(),
        pid: std::process::id(),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    };
    let _lock = acquire(&path, &holder)?;
    look::own_log(&path)?;
    if !matches!(look(&path, Depth::Quick)?, Found::Database(Identity::Ours { .. })) {
        return Err(InspectError::NoNode { path });
    }
    let sql = |error| OpenError::sql(&path, "giving its free pages back", error);
    let connection = look::open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sql)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(sql)?;
    let before_bytes = bytes(&path)? + bytes(&beside(&path, "-wal"))?;
    let read_only = fs::metadata(&path).is_ok_and(|file| file.permissions().readonly());
    if read_only || connection.is_readonly(rusqlite::MAIN_DB).map_err(sql)? {
        return Err(OpenError::NotWritable { path }.into());
    }
    give_back(&connection).map_err(sql)?;
    connection.close().map_err(|(_, error)| sql(error))?;
    Ok(Vacuumed { before_bytes, after_bytes: bytes(&path)? + bytes(&beside(&path, "-wal"))? })
}

fn give_back(connection: &Connection) -> rusqlite::Result<()> {
    const INCREMENTAL: u32 = 2;
    let number = |sql| connection.query_row(sql, [], |row| row.get::<_, u32>(0));
    if number(AUTO_VACUUM)? == INCREMENTAL {
        let mut free = number(FREE_PAGES)?;
        while free > 0 {
            // One row a page: only who takes all of them frees all of them.
            let mut statement = connection.prepare(GIVE_BACK)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            let left = number(FREE_PAGES)?;
            if left >= free {
                break;
            }
            free = left;
        }
    } else {
        connection.execute_batch(REWRITE)?;
    }
    empty_log(connection)
}
