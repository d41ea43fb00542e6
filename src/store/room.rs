//! How much the database may still grow. What is committed stands in the log first, and has to fit into the database later, however full
//! the disk is by then: so no more is accepted than the reserve and the disk can take.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;
use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};

use super::disk::beside;
use super::error::StoreError;
use super::fault::At;
use super::reserve::{self, Reserve};
use crate::condition::StorageUse;

/// The most that the files take where the settings say nothing, and the disk is large.
const DEFAULT_LIMIT: u64 = 10 * 1024 * 1024 * 1024;
/// So much below the limit, or a hundredth of it, is left to settling and deleting.
const KEPT_BYTES: u64 = 256 * 1024;
/// A log of so many bytes is copied into the database, where the reserve is large enough.
const LONG_LOG_BYTES: u64 = 4 * 1024 * 1024;
/// And one of so many pages in any case not yet.
const SHORT_LOG_PAGES: u64 = 8;
/// A disk that has less is called full before anything fails.
const LITTLE_BYTES: u64 = 64 * 1024;
/// With room for so much nobody is held to a bound of its own.
const PLENTY_BYTES: u64 = 32 * 1024 * 1024;

pub(super) const PAGE_SIZE: &str = "PRAGMA page_size";
pub(super) const PAGE_COUNT: &str = "PRAGMA page_count";
pub(super) const FREE_PAGES: &str = "PRAGMA freelist_count";

/// Whose pages they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// New messages, and what a program writes.
    New,
    /// Settling, deleting, receipts.
    Upkeep,
}

/// What was seen the last time, for those who ask.
#[derive(Debug, Default)]
pub(super) struct Seen {
    own_bytes: AtomicU64,
    limit_bytes: AtomicU64,
    page_bytes: AtomicU64,
}

impl Seen {
    /// With so many pages free in the database.
    pub(super) fn in_use(&self, free_pages: u64) -> StorageUse {
        let free = free_pages * self.page_bytes.load(Ordering::Relaxed);
        StorageUse {
            used_bytes: self.own_bytes.load(Ordering::Relaxed).saturating_sub(free),
            limit_bytes: self.limit_bytes.load(Ordering::Relaxed),
        }
    }
}

#[derive(Debug)]
pub(super) struct Room {
    path: PathBuf,
    pub(super) reserve: Reserve,
    /// As it was set.
    limit: Option<u64>,
    page_bytes: u64,
    /// Pages of the database that are on the disk.
    file_pages: u64,
    /// The log and its index.
    log_bytes: u64,
    /// On the disk, for us.
    free_bytes: u64,
    /// The largest file that this process may write.
    file_limit: u64,
    /// The disk refused something for want of room.
    pub(super) disk_full: bool,
    /// New messages are looked at one by one, whether there is room for them.
    pub(super) tight: bool,
    bound: u64,
    seen: Arc<Seen>,
    /// A disk of a test's, which ends at this page.
    #[cfg(test)]
    pub(super) last_page: Option<u64>,
}

const fn kept_of(limit: u64) -> u64 {
    let (hundredth, eighth) = (limit / 100, limit / 8);
    let kept = if hundredth > KEPT_BYTES { hundredth } else { KEPT_BYTES };
    if kept < eighth { kept } else { eighth }
}

impl Room {
    /// Looks at the disk, and fills the reserve if it can.
    pub(super) fn new(
        path: &Path,
        limit: Option<u64>,
        conn: &Connection,
    ) -> Result<Self, StoreError> {
        let mut room = Self {
            path: path.to_owned(),
            reserve: Reserve::of(path),
            limit,
            page_bytes: conn.query_row(PAGE_SIZE, [], |row| row.get(0)).at("read its page size")?,
            file_pages: 0,
            log_bytes: 0,
            free_bytes: 0,
            file_limit: u64::MAX,
            disk_full: false,
            tight: false,
            bound: 0,
            seen: Arc::default(),
            #[cfg(test)]
            last_page: None,
        };
        room.seen.page_bytes.store(room.page_bytes, Ordering::Relaxed);
        room.look();
        room.aim();
        if room.reserve.fill().is_err() || room.is_low() {
            (room.disk_full, room.tight) = (true, true);
        }
        room.look();
        Ok(room)
    }

    /// Decides how much is to be kept back of what the disk has now.
    pub(super) fn aim(&mut self) {
        let files = self.limit_bytes().min(self.file_limit);
        let free = self.free_bytes.saturating_add(self.reserve.bytes());
        self.reserve.aim_at(reserve::target(free, files));
    }

    /// Whether the disk has next to nothing.
    pub(super) const fn is_low(&self) -> bool {
        self.free_bytes < LITTLE_BYTES
    }

    /// Asks the disk again.
    pub(super) fn look(&mut self) {
        let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.file_pages = bytes(&self.path) / self.page_bytes;
        self.log_bytes = bytes(&beside(&self.path, "-wal")) + bytes(&beside(&self.path, "-shm"));
        let folder = self.path.parent().unwrap_or(&self.path);
        // Where the disk does not say, it is found out by writing.
        self.free_bytes =
            statvfs(folder).map_or(u64::MAX / 4, |disk| disk.f_bavail * disk.f_frsize);
        self.file_limit = getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
        self.seen.own_bytes.store(self.own_bytes(), Ordering::Relaxed);
        self.seen.limit_bytes.store(self.limit_bytes(), Ordering::Relaxed);
    }

    /// The most that all the files may take together.
    pub(super) fn limit_bytes(&self) -> u64 {
        let disk = self.free_bytes.saturating_add(self.own_bytes()) / 5 * 4;
        self.limit.unwrap_or(DEFAULT_LIMIT.min(disk))
    }

    fn own_bytes(&self) -> u64 {
        self.file_pages * self.page_bytes + self.log_bytes + self.reserve.bytes()
    }

    /// Whether it is the disk, and not a setting, that ends first.
    pub(super) fn is_by_disk(&self) -> bool {
        let (disk, limit) = self.ends(Whose::New);
        let is_derived = self.limit.is_none() && self.limit_bytes() < DEFAULT_LIMIT;
        self.disk_full || is_derived || disk < limit
    }

    pub(super) fn in_use(&self, free_pages: u64) -> StorageUse {
        self.seen.in_use(free_pages)
    }

    /// Where others see it.
    pub(super) fn seen(&self) -> Arc<Seen> {
        Arc::clone(&self.seen)
    }

    pub(super) const fn pages(&self, bytes: u64) -> u64 {
        bytes.div_ceil(self.page_bytes)
    }

    pub(super) const fn bytes(&self, pages: u64) -> u64 {
        pages * self.page_bytes
    }

    /// Pages that the database has in the log, and not yet on the disk.
    pub(super) const fn unwritten(&self, pages: u64) -> u64 {
        pages.saturating_sub(self.file_pages)
    }

    /// How many pages the database may have.
    pub(super) fn most_pages(&self, whose: Whose) -> u64 {
        let (disk, limit) = self.ends(whose);
        disk.min(limit)
    }

    /// Where the disk ends for the database, and where the limit does, in pages.
    fn ends(&self, whose: Whose) -> (u64, u64) {
        let (reserve, free) = (self.reserve.bytes(), self.free_bytes / 2);
        let (growth, kept, kept_of_file) = match whose {
            Whose::New if self.disk_full => (0, self.kept_bytes(), self.kept_of_file()),
            Whose::New => (reserve / 4 * 3 + free, self.kept_bytes(), self.kept_of_file()),
            Whose::Upkeep => (reserve + free, 0, 0),
        };
        let file_limit = self.file_limit.saturating_sub(kept_of_file) / self.page_bytes;
        let disk = (self.file_pages + growth / self.page_bytes).min(file_limit);
        #[cfg(test)]
        let disk = self.last_page.map_or(disk, |last| last.min(disk));
        let beside = self.log_bytes + self.reserve.bytes();
        let limit = self.limit_bytes().saturating_sub(beside).saturating_sub(kept);
        let limit = limit / self.page_bytes;
        match whose {
            Whose::New => (disk, limit),
            // Also where the limit was lowered, or others have filled the disk: what is settled has to be noted before it can be deleted.
            Whose::Upkeep => (disk, limit.max(self.file_pages + self.pages(KEPT_BYTES))),
        }
    }

    fn kept_bytes(&self) -> u64 {
        kept_of(self.limit_bytes())
    }

    /// The same of the largest file that this process may write, which can be far below what all files may take.
    fn kept_of_file(&self) -> u64 {
        kept_of(self.limit_bytes().min(self.file_limit))
    }

    /// Free pages that are left to settling and deleting in a database of this size that cannot grow.
    pub(super) fn kept_pages(&self, pages: u64) -> u64 {
        let most = self.pages(KEPT_BYTES);
        (pages / 16).clamp(most / 4, most)
    }

    /// Whether a log that somebody keeps from beginning again has taken what these may take.
    pub(super) fn log_is_too_long(&self, whose: Whose) -> bool {
        let kept = if whose == Whose::New { self.kept_bytes() } else { 0 };
        let limit = self.limit_bytes();
        // One as long as it becomes by itself is none of this.
        self.log_bytes > limit / 4 && self.own_bytes() > limit - kept
    }

    /// Holds the connection to that. Costs nothing where there is plenty.
    pub(super) fn hold(&mut self, conn: &Connection, whose: Whose) -> Result<(), StoreError> {
        let new = self.most_pages(Whose::New);
        let is_plenty = new > self.file_pages + self.pages(PLENTY_BYTES);
        let most = if is_plenty { new } else { self.most_pages(whose) };
        // The most that SQLite knows.
        let most = most.clamp(1, u64::from(u32::MAX) - 2);
        if most != self.bound {
            conn.query_row(&format!("PRAGMA max_page_count = {most}"), [], |_| Ok(()))
                .at("bound the file")?;
            self.bound = most;
        }
        Ok(())
    }

    /// The connection is another one.
    pub(super) const fn forget_bound(&mut self) {
        self.bound = 0;
    }

    /// A log of so many pages is to be copied: what it holds has to fit into the reserve.
    pub(super) fn long_log_pages(&self) -> u64 {
        let most = self.reserve.covers().min(self.file_limit) / self.page_bytes / 4;
        most.clamp(SHORT_LOG_PAGES, LONG_LOG_BYTES / self.page_bytes)
    }

    /// Whether the disk has room for more than the reserve.
    pub(super) fn has_room(&mut self) -> bool {
        #[cfg(test)]
        if self.last_page.is_some() {
            return false;
        }
        self.reserve.fill().is_ok() && self.reserve.can_grow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn room(limit: Option<u64>) -> (tempfile::TempDir, Room) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let conn = Connection::open(&path).expect("created");
        let room = Room::new(&path, limit, &conn).expect("looked at");
        (folder, room)
    }

    /// Whether it has taken too much for new messages, and for all.
    fn is_too_long(room: &mut Room, log_mib: u64, free_mib: u64) -> (bool, bool) {
        (room.log_bytes, room.free_bytes) = (log_mib * MIB, free_mib * MIB);
        (room.log_is_too_long(Whose::New), room.log_is_too_long(Whose::Upkeep))
    }

    #[test]
    fn without_a_setting_the_limit_is_ten_gib_or_four_fifths_of_what_there_is() {
        let (_folder, mut room) = room(None);
        let reserve = room.reserve.bytes();
        for (free_mib, own_mib, limit_mib) in [
            (1_000_000, 0, 10_240),
            (12_800, 0, 10_240),
            (0, 12_800, 10_240),
            (10_000, 0, 8_000),
            (600, 400, 800),
            (100, 5, 84),
        ] {
            room.file_pages = 0;
            // What is kept back is of its own, too.
            room.log_bytes = own_mib * MIB;
            room.free_bytes = (free_mib * MIB).saturating_sub(reserve);
            assert_eq!(room.limit_bytes() / MIB, limit_mib, "{free_mib} free, {own_mib} own");
        }
        // As the disk is here.
        room.look();
        let disk = statvfs(room.path.parent().expect("a folder")).expect("a disk");
        let all = disk.f_bavail * disk.f_frsize + room.own_bytes();
        let expected = DEFAULT_LIMIT.min(all / 5 * 4);
        assert!(room.limit_bytes().abs_diff(expected) <= expected / 20, "{}", room.limit_bytes());
        let (_folder, room) = self::room(Some(7 * MIB));
        assert_eq!(room.limit_bytes(), 7 * MIB, "a setting counts");
    }

    #[test]
    fn a_held_log_is_bounded_by_the_limit_and_without_one_by_the_disk() {
        let (_folder, mut room) = room(Some(100 * MIB));
        assert_eq!(is_too_long(&mut room, 50, 1_000), (false, false));
        assert_eq!(is_too_long(&mut room, 120, 1_000), (true, true));
        let (_folder, mut room) = self::room(None);
        assert_eq!(is_too_long(&mut room, 700, 300), (false, false));
        assert_eq!(is_too_long(&mut room, 850, 150), (true, true), "a fifth of the disk is left");
        // And that is not more than on a large disk.
        assert_eq!(is_too_long(&mut room, 11 * 1024, 1_000_000), (true, true));
    }
}
