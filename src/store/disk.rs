//! What lies beside the database on the disk, and what the system says where there is no room.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The path with this text behind it, as SQLite names its own companions (`-wal`, `-shm`).
pub(crate) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut path = OsString::from(database);
    path.push(suffix);
    PathBuf::from(path)
}

/// Whether the system refused this for want of room: the disk, a quota, or how large a file may be.
pub(crate) fn lacks_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Removes a copy that nobody will finish.
pub(crate) fn remove_unfinished(path: &Path) {
    // Not even that one is there after a rename.
    let _ = fs::remove_file(path);
    remove_companions(path);
}

/// Usually there is none.
pub(crate) fn remove_companions(path: &Path) {
    for suffix in ["-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(beside(path, suffix));
    }
}
