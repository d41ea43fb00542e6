//! What a write-ahead log that nobody has open says: what SQLite will leave out of it, and which database it was written for.
//!
//! Recovery reads a log up to the first frame whose checksum does not fit, and forgets what follows without a word. That is right
//! for the end of a log that was being written when the power failed. But where committed transactions follow that were written
//! into the same log, a frame before them was lost or damaged, and they go with it.
//!
//! Each frame's checksum continues the one before it, so that behind a bad frame the next ones can still be checked
//! against the sums that stand in the file. What cannot be told from an ordinary end of the log is damage in its last transaction.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use super::generation::Main;
use lineage::Lineage;

mod lineage;

/// Magic number (its last bit: checksums are of big-endian words), version, page size, number of checkpoints, two salts, and the
/// checksum of all that in two words. All words are big-endian.
const HEADER_BYTES: usize = 32;
const MAGIC: u32 = 0x377f_0682;
/// Page number, the database's size after a commit (0 in other frames), the log's salts, and the checksum.
const FRAME_HEADER_BYTES: usize = 24;
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// Transactions of a log that are on the disk, and that SQLite will not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    /// The first frame that cannot be read, counted from 1; 0 for the log's header.
    pub(crate) frame: u64,
    /// How many commits are known to lie behind it. There may have been more.
    pub(crate) transactions: u64,
}

/// What there is to say of a log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Examined {
    pub(crate) lost: Option<Lost>,
    lineage: Lineage,
}

/// Looks through the log at this path, if there is one. It has no locks that would be lost by closing it.
pub(crate) fn examine(wal: &Path) -> io::Result<Examined> {
    let mut header = [0; HEADER_BYTES];
    // Whoever stops beside us may cut it and remove it at any time: then there is none.
    let opened = File::open(wal).and_then(|mut file| file.read_exact(&mut header).map(|()| file));
    let file = match opened {
        Ok(file) => file,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
        {
            return Ok(Examined::default());
        }
        Err(error) => return Err(error),
    };
    if let Some(Header { form, salts, sum }) = Header::read(&header) {
        return scan(&file, form, Some(salts), [sum; 2]);
    }
    // The header is damaged. It was written before all frames and never since, so that they tell how it must have been.
    let sizes = std::iter::successors(Some(*PAGE_BYTES.start()), |size| Some(size * 2));
    for page_bytes in sizes.take_while(|size| PAGE_BYTES.contains(size)) {
        for big_endian in [false, true] {
            let form = Form { page_bytes, big_endian };
            let sums = [form.add([0, 0], &header[..24]), [word(&header, 24), word(&header, 28)]];
            let examined = scan(&file, form, None, sums)?;
            if examined.lost.is_some() {
                return Ok(examined);
            }
        }
    }
    Ok(Examined::default())
}

impl Examined {
    /// Why this log was not written for this database; `None` where it may have been.
    pub(super) fn contradicts(&self, main: &Main) -> Option<String> {
        // Of a log that lost something, it is not known how it began and went on.
        if self.lost.is_some() { None } else { self.lineage.contradicts(main) }
    }

    /// Whether a node has written to it.
    pub(super) fn has_owner(&self) -> bool {
        self.lineage.first.is_some()
    }

    /// Whether SQLite would apply anything of it.
    pub(super) fn has_transactions(&self) -> bool {
        self.lineage.transactions > 0
    }
}

type Sum = [u32; 2];
type Salts = [u8; 8];

/// How a log is written.
#[derive(Debug, Clone, Copy)]
struct Form {
    page_bytes: usize,
    big_endian: bool,
}

struct Header {
    form: Form,
    salts: Salts,
    sum: Sum,
}

impl Header {
    /// `None`: it is damaged.
    fn read(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let magic = word(bytes, 0);
        let page_bytes = usize::try_from(word(bytes, 8)).ok()?;
        let form = Form { page_bytes, big_endian: magic & 1 == 1 };
        let sum = form.add([0, 0], &bytes[..24]);
        let is_sound = magic & !1 == MAGIC
            && PAGE_BYTES.contains(&page_bytes)
            && page_bytes.is_power_of_two()
            && sum == [word(bytes, 24), word(bytes, 28)];
        let salts = bytes[16..24].try_into().expect("eight bytes");
        is_sound.then_some(Self { form, salts, sum })
    }
}

impl Form {
    /// SQLite's checksum: a whole number of pairs of words.
    fn add(self, sum: Sum, bytes: &[u8]) -> Sum {
        let number = |bytes: &[u8]| {
            let bytes = bytes.try_into().expect("four bytes");
            if self.big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) }
        };
        bytes.chunks_exact(8).fold(sum, |[first, second], pair| {
            let first = first.wrapping_add(number(&pair[..4])).wrapping_add(second);
            let second = second.wrapping_add(number(&pair[4..])).wrapping_add(first);
            [first, second]
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// Goes through the frames that are there. Without the salts of a sound header SQLite reads none of them. `sums`: what the first frame's checksum may
/// continue.
fn scan(
    mut file: &File,
    form: Form,
    mut salts: Option<Salts>,
    mut sums: [Sum; 2],
) -> io::Result<Examined> {
    file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut frame = vec![0; FRAME_HEADER_BYTES + form.page_bytes];
    let mut bad = salts.is_none().then_some(0);
    let (mut number, mut transactions) = (0, 0);
    let mut lineage = Lineage::of_pages(form.page_bytes);
    loop {
        match reader.read_exact(&mut frame) {
            Ok(()) => number += 1,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
        let (header, page) = frame.split_at(FRAME_HEADER_BYTES);
        let stored = [word(header, 16), word(header, 20)];
        // Of a log without a header, those of its first frame count.
        let salts: Salts = *salts.get_or_insert(header[8..16].try_into().expect("eight bytes"));
        // Others are left from before the log began again at its start.
        let found = sums.map(|before| form.add(form.add(before, &header[..8]), page));
        let fits = header[8..16] == salts && found.contains(&stored);
        let commits = word(header, 4) != 0;
        if !fits {
            bad.get_or_insert(number);
        } else if bad.is_none() {
            lineage.see(word(header, 0), page, commits);
        } else if commits {
            transactions += 1;
        }
        // It is the sum itself that may be damaged.
        sums = [stored, found[0]];
    }
    let lost = bad.filter(|_| transactions > 0).map(|frame| Lost { frame, transactions });
    Ok(Examined { lost, lineage })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;
    use rusqlite::config::DbConfig;

    use super::*;

    /// By whoever stops beside us.
    #[test]
    fn a_log_that_is_cut_while_it_is_looked_through_ends_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let bytes = left(folder.path(), 5);
        let header: &[u8; HEADER_BYTES] = bytes[..HEADER_BYTES].try_into().expect("a header");
        let Header { form, salts, sum } = Header::read(header).expect("a sound one");
        let path = folder.path().join("a.db-wal");
        let file = fs::OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        let whole = scan(&file, form, Some(salts), [sum; 2]).expect("read");
        assert_eq!((whole.lost, whole.lineage.transactions), (None, 5));
        fs::remove_file(&path).expect("removed");
        for length in [bytes.len() as u64 - 1, HEADER_BYTES as u64 + 7, 7, 0] {
            file.set_len(length).expect("cut");
            let examined = scan(&file, form, Some(salts), [sum; 2]).expect("read");
            assert_eq!(examined.lost, None, "{length}");
            assert!(examined.lineage.transactions < 5, "{length}");
        }
        assert_eq!(examine(&path).expect("gone"), Examined::default());
    }

    /// A log of so many transactions, left behind.
    fn left(folder: &Path, transactions: u32) -> Vec<u8> {
        let path = folder.join("a.db");
        let sql = Connection::open(&path).expect("opened");
        sql.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t (n)").expect("set up");
        sql.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("begun again");
        for n in 0..transactions {
            sql.execute("INSERT INTO t VALUES (?1)", [n]).expect("inserted");
        }
        sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("set");
        drop(sql);
        fs::read(folder.join("a.db-wal")).expect("left")
    }

    fn examined(folder: &Path, bytes: &[u8]) -> Option<Lost> {
        let wal = folder.join("other-wal");
        fs::write(&wal, bytes).expect("written");
        examine(&wal).expect("readable").lost
    }

    const PAGE: usize = 4096;

    #[test]
    fn a_sound_log_and_none_lose_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let sound = left(folder.path(), 6);
        assert!(sound.len() > 6 * PAGE);
        assert_eq!(examined(folder.path(), &sound), None);
        assert_eq!(examine(&folder.path().join("none")).expect("none"), Examined::default());
        // However far it was written when the power failed.
        for length in (0..sound.len()).step_by(97) {
            assert_eq!(examined(folder.path(), &sound[..length]), None, "{length}");
        }
    }

    #[test]
    fn every_flipped_bit_before_the_last_transaction_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let sound = left(folder.path(), 4);
        let frame = FRAME_HEADER_BYTES + PAGE;
        let frames = 4;
        // All of the header and of frames' headers, some of the pages.
        let places = (0..HEADER_BYTES + (frames - 1) * frame).filter(|at| {
            let at = at.saturating_sub(HEADER_BYTES) % frame;
            at < FRAME_HEADER_BYTES || at.is_multiple_of(101)
        });
        for place in places {
            let mut bytes = sound.clone();
            bytes[place] ^= 1 << (place % 8);
            let bad = match place.checked_sub(HEADER_BYTES) {
                None => 0,
                Some(at) => at as u64 / frame as u64 + 1,
            };
            let lost = examined(folder.path(), &bytes);
            let transactions = frames as u64 - bad;
            assert_eq!(lost, Some(Lost { frame: bad, transactions }), "at {place}");
        }
    }

    #[test]
    fn what_is_left_from_before_the_log_began_again_is_no_loss() {
        let folder = tempfile::tempdir().expect("a folder");
        left(folder.path(), 9);
        // Frames of the first log lie behind those of the second.
        let second = left_again(folder.path());
        assert!(second.len() > 9 * PAGE);
        assert_eq!(examined(folder.path(), &second), None);
    }

    fn left_again(folder: &Path) -> Vec<u8> {
        let sql = Connection::open(folder.join("a.db")).expect("opened");
        sql.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(())).expect("begun again");
        sql.execute("INSERT INTO t VALUES (100)", []).expect("inserted");
        sql.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("set");
        drop(sql);
        fs::read(folder.join("a.db-wal")).expect("left")
    }
}
