//! Room on the disk that is kept back: a file of real blocks beside the database. Where the disk is full, parts of it are given up, so that
//! the log can be copied into the database and what is settled can be noted and deleted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::disk::{beside, lacks_room};

/// Smallest and largest reserve.
const LEAST_BYTES: u64 = 256 * 1024;
const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// More than that is not asked for to find out whether there is room.
const PROBE_BYTES: u64 = 1024 * 1024;
/// What the system counts a file's blocks in.
const BLOCK_BYTES: u64 = 512;
/// So much of the free space becomes the reserve, and of what the files may take.
const PART: u64 = 8;

/// How many bytes to keep back where so many are free, and files may become so large.
pub(super) fn target(free: u64, files: u64) -> u64 {
    (free / PART).clamp(LEAST_BYTES, MOST_BYTES).min(files / PART)
}

#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    target: u64,
}

impl Reserve {
    /// The one beside this database, as it was left; none yet for a new one. One that was copied may have become a file of holes: it holds
    /// nothing, and is to be filled anew.
    pub(super) fn of(database: &Path) -> Self {
        let path = beside(database, "-reserve");
        let (bytes, blocks) = std::fs::metadata(&path)
            .map_or((0, 0), |metadata| (metadata.len(), metadata.blocks() * BLOCK_BYTES));
        Self { path, bytes: if blocks < bytes { 0 } else { bytes }, target: bytes }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn is_whole(&self) -> bool {
        self.bytes >= self.target
    }

    /// What it lets be pending. Without one, as much as with the largest.
    pub(super) const fn covers(&self) -> u64 {
        if self.target == 0 { MOST_BYTES } else { self.bytes }
    }

    /// Whether the disk has more room than that, for something larger than a few messages.
    pub(super) fn can_grow(&mut self) -> bool {
        let bytes = self.bytes;
        let grown = self.resize(bytes + self.target.clamp(PROBE_BYTES / 16, PROBE_BYTES));
        if grown.is_ok() {
            // What is left behind is only a larger reserve.
            let _ = self.resize(bytes);
        }
        grown.is_ok()
    }

    /// How much is missing.
    pub(super) const fn missing(&self) -> u64 {
        self.target.saturating_sub(self.bytes)
    }

    /// From now on it is to have so many bytes.
    pub(super) const fn aim_at(&mut self, target: u64) {
        self.target = target;
    }

    /// Takes what is missing from the disk, or nothing.
    ///
    /// # Errors
    /// There is no room for it. Where the system refuses it for another reason, the node goes on without.
    pub(super) fn fill(&mut self) -> io::Result<()> {
        if self.is_whole() {
            return Ok(());
        }
        match self.resize(self.target) {
            Err(error) if lacks_room(&error) => Err(error),
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no room can be kept back for a full disk");
                self.target = self.bytes;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Takes as much of what is missing as there is.
    pub(super) fn fill_partly(&mut self) {
        let mut part = self.missing();
        while part >= 4_096 {
            if self.resize(self.bytes + part).is_err() {
                part /= 2;
            }
            part = part.min(self.missing());
        }
    }

    /// Gives up so much of it. Whether it gave anything.
    pub(super) fn release(&mut self, bytes: u64) -> bool {
        let left = self.bytes.saturating_sub(bytes);
        if self.bytes == 0 {
            return false;
        }
        match self.resize(left) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the reserve could not be given up");
                false
            }
        }
    }

    fn resize(&mut self, to: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&self.path)?;
        if to < self.bytes {
            file.set_len(to)?;
        } else if let Err(error) = allocate(&file, self.bytes, to) {
            // What it had, it keeps.
            let _ = file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes = to;
        Ok(())
    }
}

/// Lets the file have blocks of its own up to there.
fn allocate(file: &File, from: u64, to: u64) -> io::Result<()> {
    loop {
        match fallocate(file, FallocateFlags::empty(), from, to - from) {
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break,
            allocated => return Ok(allocated?),
        }
    }
    write_noise(file, from, to)
}

/// For a filesystem that cannot allocate: bytes that it cannot compress.
fn write_noise(mut file: &File, from: u64, to: u64) -> io::Result<()> {
    use std::io::Seek as _;
    file.seek(io::SeekFrom::Start(from))?;
    let mut noise = vec![0; 64 * 1024];
    let mut left = to - from;
    while left > 0 {
        fastrand::fill(&mut noise);
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(noise.len());
        file.write_all(&noise[..part])?;
        left -= part as u64;
    }
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_real_blocks_and_gives_them_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        let mut reserve = Reserve::of(&database);
        assert!(reserve.is_whole(), "nothing is wanted yet");
        reserve.aim_at(1 << 20);
        assert_eq!(reserve.missing(), 1 << 20);
        reserve.fill().expect("there is room");
        let on_disk = || std::fs::metadata(beside(&database, "-reserve")).expect("it is there");
        assert!(on_disk().blocks() * 512 >= 1 << 20);
        assert!(reserve.release(1 << 19));
        assert_eq!((on_disk().len(), reserve.missing()), (1 << 19, 1 << 19));
        let mut again = Reserve::of(&database);
        assert_eq!(again.bytes(), 1 << 19);
        assert!(again.release(u64::MAX));
        assert!(!again.release(1), "there is nothing left");
        write_noise(&File::create(beside(&database, "-noise")).expect("a file"), 0, 100_000)
            .expect("written");
    }

    #[test]
    fn one_that_a_copy_made_of_holes_is_filled_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let database = folder.path().join("a.db");
        let path = beside(&database, "-reserve");
        File::create(&path).and_then(|file| file.set_len(1 << 20)).expect("a hole");
        let mut reserve = Reserve::of(&database);
        assert_eq!((reserve.bytes(), reserve.missing()), (0, 1 << 20));
        reserve.fill().expect("there is room");
        assert!(std::fs::metadata(&path).expect("it is there").blocks() * BLOCK_BYTES >= 1 << 20);
        assert_eq!(Reserve::of(&database).bytes(), 1 << 20);
    }

    #[test]
    fn its_size_follows_the_disk_and_what_files_may_take() {
        assert_eq!(target(u64::MAX, u64::MAX), MOST_BYTES);
        assert_eq!(target(0, u64::MAX), LEAST_BYTES);
        assert_eq!(target(16 << 20, u64::MAX), 2 << 20);
        assert_eq!(target(u64::MAX, 800_000), 100_000);
    }
}
