//! Who has the file: one process, for as long as it lives.
//!
//! SQLite's own locks let several processes write in turn, which two nodes on one file must never do. So a node holds an
//! exclusive `flock` on `<path>-lock` beside the database, and its name stands in that file. The kernel gives the lock back when
//! the process ends, however it ends; a lock file that a killed process left behind locks nothing.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::disk::{beside, lacks_room};

/// Who has a file open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The node's name.
    pub node: String,
    /// Its process id on that host.
    pub pid: u32,
    /// The host's name.
    pub host: String,
}

/// The exclusive lock. Dropping it removes the lock file and gives the lock back.
#[derive(Debug)]
pub(crate) struct FileLock {
    file: File,
    path: PathBuf,
}

/// Why there is no lock.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody else has it; none where the lock file does not say who.
    Held(Option<Holder>),
    /// The lock file could not be created, locked or written.
    Io(io::Error),
}

/// A lock file is one short line; what is longer is not ours and is not read.
const MAX_HOLDER_BYTES: u64 = 4096;
/// Whoever has just taken the lock has not yet written its name: how often and how long to wait for that.
const HOLDER_TRIES: u32 = 20;
const HOLDER_PAUSE: Duration = Duration::from_millis(10);

impl FileLock {
    /// Takes the lock for the database at this path, or says at once who has it.
    pub(crate) fn acquire(database: &Path, holder: &Holder) -> Result<Self, LockError> {
        let path = lock_path(database);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)
                .map_err(LockError::Io)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LockError::Held(read_holder(file))),
                Err(TryLockError::Error(error)) => return Err(LockError::Io(error)),
            }
            let mut lock = Self { file, path: path.clone() };
            // The holder before us may have removed this very file between our open and our lock. Then the next
            // process would create a new one and lock that: only the file that still has the name counts.
            if lock.is_intact() {
                match lock.write(holder) {
                    // It is the lock that counts. On a full disk others are not told the name.
                    Err(error) if lacks_room(&error) => {
                        tracing::debug!(path = %lock.path.display(), %error, "the lock file names nobody");
                    }
                    written => written.map_err(LockError::Io)?,
                }
                return Ok(lock);
            }
        }
    }

    /// Whether the locked file still has its name. If it does not, another process can take a lock of its own.
    pub(crate) fn is_intact(&self) -> bool {
        match (self.file.metadata(), fs::symlink_metadata(&self.path)) {
            (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
            _ => false,
        }
    }

    fn write(&mut self, holder: &Holder) -> io::Result<()> {
        let mut line = serde_json::to_vec(holder).map_err(io::Error::other)?;
        line.push(b'\n');
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&line)
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Still locked here: nobody else can hold the file that is removed. Closing it afterwards ends the lock.
        if self.is_intact()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::debug!(path = %self.path.display(), %error, "the lock file stays behind");
        }
    }
}

/// Whether somebody has a file open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Use {
    /// Nobody has.
    Free,
    /// A node has, or a command that must not run beside one; none where the lock file does not say who.
    By(Option<Holder>),
}

/// Whether the database at this path is open. A lock of an instant shows it, for which a node that starts then has to wait.
pub(crate) fn in_use(database: &Path) -> io::Result<Use> {
    let file = match File::open(lock_path(database)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Use::Free),
        Err(error) => return Err(error),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Use::Free),
        Err(TryLockError::WouldBlock) => Ok(Use::By(read_holder(file))),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Where the lock of the database at this path is.
pub(crate) fn lock_path(database: &Path) -> PathBuf {
    beside(database, "-lock")
}

fn read_holder(mut file: File) -> Option<Holder> {
    for attempt in 0..HOLDER_TRIES {
        if attempt > 0 {
            thread::sleep(HOLDER_PAUSE);
        }
        let mut line = Vec::new();
        file.rewind().ok()?;
        (&mut file).take(MAX_HOLDER_BYTES).read_to_end(&mut line).ok()?;
        if let Ok(holder) = serde_json::from_slice(&line) {
            return Some(holder);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn holder(node: &str) -> Holder {
        Holder { node: node.to_owned(), pid: 42, host: "ship".to_owned() }
    }

    fn acquire(path: &Path, node: &str) -> FileLock {
        FileLock::acquire(path, &holder(node)).expect("the lock is free")
    }

    #[test]
    fn a_second_lock_is_refused_and_names_the_holder_even_in_one_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let lock = acquire(&path, "alice");
        match FileLock::acquire(&path, &holder("bob")) {
            Err(LockError::Held(found)) => assert_eq!(found, Some(holder("alice"))),
            other => panic!("not refused: {other:?}"),
        }
        drop(lock);
        assert!(!lock_path(&path).exists());
        acquire(&path, "bob");
    }

    #[test]
    fn whether_a_file_is_in_use_can_be_asked_without_taking_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        assert_eq!(in_use(&path).expect("an answer"), Use::Free);
        let lock = acquire(&path, "alice");
        assert_eq!(in_use(&path).expect("an answer"), Use::By(Some(holder("alice"))));
        drop(lock);
        fs::write(lock_path(&path), "{}").expect("one that a killed node left behind");
        assert_eq!(in_use(&path).expect("an answer"), Use::Free);
        acquire(&path, "bob");
    }

    #[test]
    fn a_lock_file_left_behind_is_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let long = format!("{{\"node\":\"{}\"", "x".repeat(10_000));
        fs::write(lock_path(&path), long).expect("a stale file");
        let _lock = acquire(&path, "alice");
        let text = fs::read_to_string(lock_path(&path)).expect("a lock file");
        assert_eq!(text, "{\"node\":\"alice\",\"pid\":42,\"host\":\"ship\"}\n");
    }

    #[test]
    fn a_lock_file_that_says_nothing_is_still_a_lock() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let lock = acquire(&path, "alice");
        fs::write(lock_path(&path), "garbage").expect("overwritten");
        let refused = FileLock::acquire(&path, &holder("bob"));
        assert!(matches!(refused, Err(LockError::Held(None))), "{refused:?}");
        drop(lock);
    }

    #[test]
    fn a_lock_file_that_was_replaced_is_noticed_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let first = acquire(&path, "alice");
        assert!(first.is_intact());
        fs::remove_file(lock_path(&path)).expect("somebody tidied up");
        assert!(!first.is_intact());
        let second = acquire(&path, "bob");
        drop(first);
        assert!(second.is_intact(), "the first one removed the second one's file");
    }

    #[test]
    fn a_lock_file_that_is_being_removed_never_gives_two_locks() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let inside = AtomicU32::new(0);
        let taken = AtomicU32::new(0);
        thread::scope(|scope| {
            for node in ["a", "b", "c", "d"] {
                let (path, inside, taken) = (&path, &inside, &taken);
                scope.spawn(move || {
                    while taken.load(Ordering::SeqCst) < 400 {
                        if let Ok(lock) = FileLock::acquire(path, &holder(node)) {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            taken.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(lock);
                        }
                    }
                });
            }
        });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_folder_that_takes_no_files_is_an_error() {
        let refused = FileLock::acquire(Path::new("/proc/waypost.db"), &holder("alice"));
        assert!(matches!(refused, Err(LockError::Io(_))), "{refused:?}");
    }
}
