//! A disk that can be full, which is a small filesystem of its own, and one on which writes fail: a limit on the files of a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::journal;

/// As much as a run of a million messages can need.
const ROOMY: &str = "size=4g";
/// A page, the least by which such a filesystem grows.
const PAGE: u64 = 4096;
/// Below this, SQLite's log cannot grow to the size at which it is copied.
const LIMIT_BYTES: u64 = 600_000;

/// How space is taken away.
#[derive(Debug, Clone)]
pub(super) enum Disk {
    /// The folder is a filesystem in memory, which shrinks to what is in it.
    Mounted(PathBuf),
    /// Writes beyond a size fail in the process.
    Limited,
}

impl Disk {
    /// Mounts a filesystem on this folder.
    pub(super) fn mount(folder: &Path) -> anyhow::Result<Self> {
        mount(&["-t", "tmpfs", "-o", ROOMY, "tmpfs"], folder)?;
        Ok(Self::Mounted(folder.to_owned()))
    }

    /// What its fault is called in the journal.
    pub(super) fn fault(&self) -> &'static str {
        match self {
            Self::Mounted(_) => journal::DISK_FULL,
            Self::Limited => journal::WRITES_FAIL,
        }
    }

    /// Takes the space away, or gives it back. Whether there was anybody to take it from.
    pub(super) fn leave(&self, room: Room, process: Option<u32>) -> anyhow::Result<bool> {
        match (self, room) {
            (Self::Mounted(folder), Room::Enough) => {
                mount(&["-o", &format!("remount,{ROOMY}")], folder).map(|()| true)
            }
            (Self::Mounted(folder), Room::None) => {
                let stat = rustix::fs::statvfs(folder).context("looking at a filesystem")?;
                let used = (stat.f_blocks - stat.f_bfree) * stat.f_frsize;
                // It may grow while we look: then the system refuses, and there is no fault this time.
                let size = used.next_multiple_of(PAGE).max(PAGE);
                mount(&["-o", &format!("remount,size={size}")], folder).map(|()| true)
            }
            (Self::Limited, room) => limit(process, room),
        }
    }
}

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    None,
}

fn mount(options: &[&str], folder: &Path) -> anyhow::Result<()> {
    let done = Command::new("mount").args(options).arg(folder).output().context("running mount")?;
    ensure!(done.status.success(), "mount: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}

fn limit(process: Option<u32>, room: Room) -> anyhow::Result<bool> {
    // It has ended meanwhile: the next one begins without a limit.
    let Some(pid) = process.and_then(|pid| Pid::from_raw(pid.try_into().ok()?)) else {
        return Ok(false);
    };
    let current = if room == Room::Enough { None } else { Some(LIMIT_BYTES) };
    prlimit(Some(pid), Resource::Fsize, Rlimit { current, maximum: None })
        .context("limiting file sizes")?;
    Ok(true)
}
