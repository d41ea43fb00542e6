//! Who else reads the file: a connection that has an old state open holds a lock in the log's index.

use std::fs;
use std::path::Path;

#[cfg(unix)]
use rustix::fs::{major, minor};

use super::disk::beside;

/// Where SQLite locks the index for reading, but for the first place, which holds up no log.
const READ_LOCKS: std::ops::RangeInclusive<u64> = 124..=127;

/// The processes that have an old state of the file open, as far as the system tells. This one only where there is no other: its own short
/// reads hold up nothing.
pub(super) fn reader_pids(database: &Path) -> Vec<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(index) = fs::metadata(beside(database, "-shm")) else { return Vec::new() };
        // Absent on other systems than Linux.
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let place = Place { device: (major(index.dev()), minor(index.dev())), inode: index.ino() };
        let pids = locks.lines().filter_map(|line| reader(line, place)).collect();
        without_own(pids, std::process::id())
    }
    #[cfg(not(unix))]
    Vec::new()
}

/// All of them but this one, unless it is the only one.
fn without_own(mut pids: Vec<u32>, own: u32) -> Vec<u32> {
    pids.sort_unstable();
    pids.dedup();
    if pids != [own] {
        pids.retain(|pid| *pid != own);
    }
    pids
}

/// A file as the system's list of locks names it.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Major and minor number.
    device: (u32, u32),
    inode: u64,
}

impl Place {
    /// `08:01:5678`, the device in hexadecimal. Filesystems without a device of their own (btrfs, overlays) may have another number there than
    /// their files say, but none of a disk.
    fn is(self, named: &str) -> bool {
        let mut parts = named.splitn(3, ':');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let (Some(major), Some(minor), Some(inode)) = (number(16), number(16), number(10)) else {
            return false;
        };
        let (own_major, own_minor) = (u64::from(self.device.0), u64::from(self.device.1));
        inode == self.inode && major == own_major && (major == 0 || minor == own_minor)
    }
}

/// `5: POSIX  ADVISORY  READ 1234 08:01:5678 124 124`: the process, where it reads this file.
fn reader(line: &str, place: Place) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if (fields.next()?, fields.nth(1)?) != ("POSIX", "READ") {
        return None;
    }
    let pid = fields.next()?.parse().ok()?;
    let found = fields.next()?;
    let (first, last): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let is_read = first <= *READ_LOCKS.end() && last >= *READ_LOCKS.start();
    (is_read && place.is(found)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_found_by_its_lock_on_the_index() {
        let line = "5: POSIX  ADVISORY  READ 1234 08:01:5678 124 124";
        let place = |major, minor, inode| Place { device: (major, minor), inode };
        assert_eq!(reader(line, place(8, 1, 5678)), Some(1234));
        assert_eq!(reader(line, place(8, 1, 5679)), None);
        assert_eq!(reader(line, place(8, 2, 5678)), None, "the same number on another disk");
        assert_eq!(reader(line, place(0, 1, 5678)), None);
        let anonymous = "5: POSIX  ADVISORY  READ 1234 00:2f:5678 124 124";
        assert_eq!(reader(anonymous, place(0, 0x31, 5678)), Some(1234));
        for other in [
            "5: POSIX  ADVISORY  WRITE 1234 08:01:5678 124 124",
            "5: FLOCK  ADVISORY  READ 1234 08:01:5678 0 EOF",
            "5: POSIX  ADVISORY  READ 1234 08:01:5678 128 128",
            "5: POSIX  ADVISORY  READ 1234 08:01:5678 123 123",
            "5: -> POSIX  ADVISORY  READ 1234 08:01:5678 124 124",
            "",
            "5: POSIX",
        ] {
            assert_eq!(reader(other, place(8, 1, 5678)), None, "{other}");
        }
        assert!(reader_pids(Path::new("/nowhere/a.db")).is_empty());
    }

    #[test]
    fn a_process_names_itself_only_where_there_is_no_other() {
        assert_eq!(without_own(vec![7, 5, 7, 6], 7), [5, 6]);
        assert_eq!(without_own(vec![7, 7], 7), [7], "a backup of its own, say");
        assert_eq!(without_own(Vec::new(), 7), Vec::<u32>::new());
    }
}
