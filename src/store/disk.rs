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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_full_disk_a_quota_and_a_limit_of_file_sizes_are_want_of_room_and_nothing_else_is() {
        let lacks = |errno: Errno| lacks_room(&io::Error::from_raw_os_error(errno.raw_os_error()));
        for errno in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert!(lacks(errno), "{errno}");
        }
        let others =
            [Errno::IO, Errno::ACCESS, Errno::ROFS, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
        for errno in others {
            assert!(!lacks(errno), "{errno}");
        }
    }
}
