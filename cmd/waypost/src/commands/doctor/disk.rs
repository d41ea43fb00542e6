//! The node's folder: there, writable, on a disk that is its own machine's and has space; and the file in it.

use std::fs;
use std::io;
use std::path::Path;

use waypost::error::OpenError;
use waypost::inspect::{self, InspectError, Inspector};
use waypost::{LogCut, Reason};

use super::Check;
use crate::output::{age, bytes, count};

/// Less free space than this fails: a write-ahead log and a little more.
const FREE_LEAST: u64 = 32 * 1024 * 1024;
/// Less than this is warned of.
const FREE_COMFORT: u64 = 256 * 1024 * 1024;
/// With less there is no room at all: for the largest page.
const FREE_NONE: u64 = 64 * 1024;

pub(super) fn checks(path: &Path) -> Vec<Check> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if !folder.is_dir() {
        let remedy = "create it, or mount what belongs there";
        return vec![Check::fail("folder", format!("{} is no folder", folder.display()), remedy)];
    }
    let mut checks =
        vec![writable(folder, path), space(folder, path), filesystem(folder), file(path)];
    checks.extend(log(path));
    checks
}

fn writable(folder: &Path, path: &Path) -> Check {
    let name = format!(".waypost-doctor-{}", std::process::id());
    let probe = folder.join(name);
    let tried = fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    let tried = tried.and_then(|file| file.sync_all()).and_then(|()| fs::remove_file(&probe));
    match tried {
        Ok(()) => Check::ok("folder", format!("{} is writable", folder.display())),
        Err(error) => {
            // It may have been created before something else failed.
            let _ = fs::remove_file(&probe);
            if lacks_room(&error) {
                return full("folder", path);
            }
            let found = format!("no file can be created in {} ({error})", folder.display());
            Check::fail("folder", found, "make it writable for this user, or give another --db")
        }
    }
}

/// Whether it is no matter of permissions: the disk is full, a quota is used up, or no file may become so large.
fn lacks_room(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The sentence that a node has for it.
fn full(check: &'static str, path: &Path) -> Check {
    let reason = Reason::DiskFull { path: path.display().to_string() };
    Check::fail(check, reason.sentence(), reason.remedy())
}

fn space(folder: &Path, path: &Path) -> Check {
    let free = match rustix::fs::statvfs(folder) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            let found = format!("can't be told ({})", io::Error::from(error));
            return Check::warn("space", found, "look at the disk");
        }
    };
    let found = format!("{} free", bytes(free));
    let remedy = "free some: without space nothing can be sent";
    if free < FREE_NONE {
        full("space", path)
    } else if free < FREE_LEAST {
        Check::fail("space", found, remedy)
    } else if free < FREE_COMFORT {
        Check::warn("space", found, remedy)
    } else {
        Check::ok("space", found)
    }
}

fn filesystem(folder: &Path) -> Check {
    match inspect::filesystem(folder) {
        Some(filesystem) if filesystem.is_remote => Check::warn(
            "filesystem",
            format!(
                "{} is on another machine, or has no locks and shared memory that work",
                filesystem.name
            ),
            "store the file on a local disk: there, a second process or a lost connection can damage it",
        ),
        Some(filesystem) => Check::ok("filesystem", filesystem.name),
        None => Check::ok("filesystem", "this system does not tell its kind"),
    }
}

/// Whether there is a file, and whether it is ours. It is only looked at.
fn file(path: &Path) -> Check {
    let shown = path.display();
    match Inspector::open(path).and_then(|inspector| inspector.summary()) {
        Ok(summary) => {
            let node = summary.node.map_or("nobody yet".to_owned(), |node| node.to_string());
            let messages = count(summary.messages, "message");
            let size = bytes(summary.file_bytes + summary.wal_bytes);
            Check::ok("file", format!("{shown} is of node {node}, {messages}, {size}"))
        }
        Err(InspectError::Open(OpenError::Missing { .. }) | InspectError::NoNode { .. }) => {
            Check::ok("file", format!("{shown} is not there yet; the first start creates it"))
        }
        Err(error) => match error.reason() {
            Some(reason) => Check::fail("file", reason.sentence(), reason.remedy()),
            None => Check::fail("file", error.to_string(), "see there"),
        },
    }
}

/// Decisions that are looked through.
const AUDIT_ROWS: u32 = 1_000;

/// What is on record of a log that could not be read to its end.
fn log(path: &Path) -> Option<Check> {
    let file = Inspector::open(path).ok()?;
    let (audit, now_ms) = (file.audit(AUDIT_ROWS).ok()?, file.now_ms().ok()?);
    Some(match audit.into_iter().find(|entry| entry.action == LogCut::ACTION) {
        Some(cut) => {
            let found = format!("{} ago: {}", age(now_ms, cut.at_ms), cut.detail);
            Check::warn(
                "log",
                found,
                "compare with the receivers what arrived; look at the disk's own log",
            )
        }
        None => Check::ok("log", "nothing on record of one that could not be read"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_no_matter_of_permissions() {
        use io::ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, StorageFull};
        for kind in [StorageFull, QuotaExceeded, FileTooLarge] {
            assert!(lacks_room(&kind.into()), "{kind}");
        }
        assert!(!lacks_room(&PermissionDenied.into()));
        let found = full("folder", Path::new("a.db"));
        assert!(found.found.contains("no space left for a.db"), "{}", found.found);
    }
}
