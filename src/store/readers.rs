//! Who else reads the file: a connection that has an old state open holds a lock in the log's index.

use std::fs;
use std::path::Path;

use super::lock::beside;

/// Where SQLite locks the index for reading, but for the first place, which holds up no log.
const READ_LOCKS: std::ops::RangeInclusive<u64> = 124..=127;

/// The processes, other than this one, that have an old state of the file open; as far as the system tells.
pub(super) fn reader_pids(database: &Path) -> Vec<u32> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let Ok(index) = fs::metadata(beside(database, "-shm")) else { return Vec::new() };
        // Absent on other systems than Linux.
        let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
        let mut pids: Vec<u32> =
            locks.lines().filter_map(|line| reader(line, index.ino())).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| *pid != std::process::id());
        pids
    }
    #[cfg(not(unix))]
    Vec::new()
}

/// `5: POSIX  ADVISORY  READ 1234 08:01:5678 124 124`: the process, where it reads this file.
fn reader(line: &str, inode: u64) -> Option<u32> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    if (fields.next()?, fields.nth(1)?) != ("POSIX", "READ") {
        return None;
    }
    let pid = fields.next()?.parse().ok()?;
    let (_, found) = fields.next()?.rsplit_once(':')?;
    let (first, last): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let is_read = first <= *READ_LOCKS.end() && last >= *READ_LOCKS.start();
    (is_read && found.parse() == Ok(inode)).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_found_by_its_lock_on_the_index() {
        let line = "5: POSIX  ADVISORY  READ 1234 08:01:5678 124 124";
        assert_eq!(reader(line, 5678), Some(1234));
        assert_eq!(reader(line, 5679), None);
        for other in [
            "5: POSIX  ADVISORY  WRITE 1234 08:01:5678 124 124",
            "5: FLOCK  ADVISORY  READ 1234 08:01:5678 0 EOF",
            "5: POSIX  ADVISORY  READ 1234 08:01:5678 128 128",
            "5: POSIX  ADVISORY  READ 1234 08:01:5678 123 123",
            "5: -> POSIX  ADVISORY  READ 1234 08:01:5678 124 124",
            "",
            "5: POSIX",
        ] {
            assert_eq!(reader(other, 5678), None, "{other}");
        }
        assert!(reader_pids(Path::new("/nowhere/a.db")).is_empty());
    }
}
