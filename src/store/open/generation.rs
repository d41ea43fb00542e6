//! Which write-ahead log belongs to which state of the database.
//!
//! SQLite applies any sound log that stands beside a database: nothing in either names the other. So the first transaction of
//! each log writes a mark into the owner's row: a random number, the number before it, and the schema cookie. The database
//! that the log was written for has one of both numbers; a restored backup, an older log or another node's file has neither.
//!
//! The last transaction before a log is copied into the database writes a new mark too: a copy that SQLite's own tools
//! (`.backup`, `VACUUM INTO`) made meanwhile then has a number that no later log continues. Beside the very log that was in use it
//! is known by its schema cookie: those tools give a copy another one.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

/// `waypost_meta.generation`: see [`Mark::to_bytes`].
pub(crate) const UPDATE: &str = "UPDATE waypost_meta SET generation = ?1";
pub(crate) const SELECT: &str = "SELECT generation FROM waypost_meta";
/// With whether the row is what it must be: where a page was half written, its header may point beside the row.
const SELECT_SOUND: &str = "SELECT generation, typeof(node) = 'text' AND typeof(last_id) = 'blob' AND length(last_id) = 16 FROM waypost_meta";
const HAS_COLUMN: &str =
    "SELECT count(*) FROM pragma_table_info('waypost_meta') WHERE name = 'generation'";
const COOKIE: &str = "PRAGMA schema_version";
const PAGE_BYTES: &str = "PRAGMA page_size";

const MAGIC: [u8; 4] = *b"wpg1";
const MARK_BYTES: usize = 44;
/// Serial types in a row of `waypost_meta`: the rowid's place, a blob of 16 bytes, a mark.
const NOTHING: usize = 0;
const OF_ID: usize = 12 + 2 * 16;
const OF_MARK: usize = 12 + 2 * MARK_BYTES;
const TABLE_LEAF: u8 = 0x0d;

/// A random number. All zero where the database has none yet.
pub(crate) type Generation = [u8; 16];

/// What the first transaction of a log writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) generation: Generation,
    /// The one that the database had.
    pub(crate) before: Generation,
    /// The database's schema cookie.
    pub(crate) cookie: u32,
}

impl Mark {
    /// Magic, generation, the one before, cookie, and a CRC-32 of all that.
    fn to_bytes(self) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..20].copy_from_slice(&self.generation);
        bytes[20..36].copy_from_slice(&self.before);
        bytes[36..40].copy_from_slice(&self.cookie.to_be_bytes());
        let crc = crc32fast::hash(&bytes[..40]);
        bytes[40..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None`: it is damaged, or none.
    fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; MARK_BYTES] = bytes.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four"));
        let is_sound = bytes[..4] == MAGIC && crc32fast::hash(&bytes[..40]) == word(40);
        is_sound.then(|| Self {
            generation: bytes[4..20].try_into().expect("sixteen"),
            before: bytes[20..36].try_into().expect("sixteen"),
            cookie: word(36),
        })
    }

    /// The mark on a page, if it is the page of `waypost_meta`: a leaf with one row that begins as that table's does. No message
    /// can look like it: no other table of ours has a text and then an id behind its rowid.
    pub(super) fn on_page(page: &[u8]) -> Option<Self> {
        if page.first() != Some(&TABLE_LEAF) || page.get(3..5) != Some(&[0, 1]) {
            return None;
        }
        let mut at = usize::from(u16::from_be_bytes([*page.get(8)?, *page.get(9)?]));
        varint(page, &mut at)?;
        if varint(page, &mut at)? != 1 {
            return None;
        }
        let record = at;
        let types_end = record + varint(page, &mut at)?;
        let (mut place, mut column, mut mark) = (types_end, 0, None);
        while at < types_end {
            let kind = varint(page, &mut at)?;
            let is_fitting = match column {
                0 => kind == NOTHING,
                1 => kind >= 13 && kind % 2 == 1,
                2 => kind == OF_ID,
                _ => true,
            };
            if !is_fitting {
                return None;
            }
            let end = place + length(kind)?;
            if kind == OF_MARK {
                mark = mark.or_else(|| Self::read(page.get(place..end)?));
            }
            (place, column) = (end, column + 1);
        }
        mark
    }
}

/// The bytes of a column with this serial type.
fn length(kind: usize) -> Option<usize> {
    Some(match kind {
        0 | 8 | 9 => 0,
        1..=4 => kind,
        5 => 6,
        6 | 7 => 8,
        _ => kind.checked_sub(12)? / 2,
    })
}

fn varint(page: &[u8], at: &mut usize) -> Option<usize> {
    let mut number = 0_usize;
    loop {
        let byte = *page.get(*at)?;
        *at += 1;
        number = number << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
        if number > 1 << 30 {
            return None;
        }
    }
}

/// The schema cookie as the open transaction sees it.
pub(crate) fn cookie(connection: &Connection) -> rusqlite::Result<u32> {
    // SQLite gives it as a signed number.
    connection.query_row(COOKIE, [], |row| row.get::<_, i32>(0)).map(|it| it.cast_unsigned())
}

/// Puts a new mark into the open transaction, which is the first of a log. `cookie`: as it was when the transaction began.
pub(crate) fn begin_log(connection: &Connection, cookie: u32) -> rusqlite::Result<()> {
    put_mark(connection, cookie)?;
    // The same number again: the first page has to be in the log, because the cookie is on it.
    let version = crate::store::migrate::user_version(connection)?;
    connection.pragma_update(None, "user_version", version)
}

/// Commits the mark with which a log begins.
pub(crate) fn begin_log_alone(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let cookie = cookie(&transaction)?;
    begin_log(&transaction, cookie)?;
    transaction.commit()
}

/// Commits a new mark, before the log is copied into the database.
pub(crate) fn end_log(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    put_mark(&transaction, cookie(&transaction)?)?;
    transaction.commit()
}

fn put_mark(connection: &Connection, cookie: u32) -> rusqlite::Result<()> {
    let before = mark(connection)?.map_or([0; 16], |mark| mark.generation);
    let generation = fastrand::u128(..).to_be_bytes();
    let bytes = Mark { generation, before, cookie }.to_bytes();
    connection.prepare_cached(UPDATE)?.execute(params![bytes]).map(drop)
}

/// Makes a finished copy a file of its own, to which no log belongs.
pub(crate) fn make_own(copy: &Connection) -> rusqlite::Result<()> {
    if copy.query_row(HAS_COLUMN, [], |row| row.get::<_, u32>(0))? == 0 {
        return Ok(());
    }
    let generation = fastrand::u128(..).to_be_bytes();
    let mark = Mark { generation, before: [0; 16], cookie: cookie(copy)? };
    copy.execute(UPDATE, params![mark.to_bytes()]).map(drop)
}

fn mark(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    let bytes: Option<Option<Vec<u8>>> =
        connection.prepare_cached(SELECT)?.query_row([], |row| row.get(0)).optional()?;
    Ok(bytes.flatten().and_then(|bytes| Mark::read(&bytes)))
}

/// What a database says of itself, its log left aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Main {
    /// `None`: it is damaged.
    pub(super) generation: Option<Generation>,
    pub(super) cookie: u32,
    pub(super) page_bytes: usize,
}

impl Main {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let generation = if connection.query_row(HAS_COLUMN, [], |row| row.get::<_, u32>(0))? == 0 {
            Some([0; 16])
        } else {
            let row = |row: &Row<'_>| {
                Ok((row.get_ref(0)?.as_blob_or_null()?.map(<[u8]>::to_vec), row.get(1)?))
            };
            let row: Option<(Option<Vec<u8>>, bool)> =
                connection.query_row(SELECT_SOUND, [], row).optional()?;
            match row {
                None | Some((None, true)) => Some([0; 16]),
                Some((None, false)) => None,
                Some((Some(bytes), _)) => Mark::read(&bytes).map(|mark| mark.generation),
            }
        };
        let page_bytes = connection.query_row(PAGE_BYTES, [], |row| row.get::<_, u32>(0))?;
        Ok(Self { generation, cookie: cookie(connection)?, page_bytes: page_bytes as usize })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { generation: [7; 16], before: [6; 16], cookie: 0x0102_0304 };

    #[test]
    fn a_mark_survives_and_no_flipped_bit_does() {
        let bytes = MARK.to_bytes();
        assert_eq!(Mark::read(&bytes), Some(MARK));
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::read(&bytes), None, "bit {bit}");
        }
        assert_eq!(Mark::read(&[]), None);
    }

    #[test]
    fn bytes_that_only_look_like_a_page_are_no_mark() {
        let mut dice = fastrand::Rng::with_seed(3);
        for _ in 0..20_000 {
            let mut page = vec![0; 512];
            page.fill_with(|| dice.u8(..));
            page[..5].copy_from_slice(&[TABLE_LEAF, 0, 0, 0, 1]);
            page[8] &= 1;
            assert_eq!(Mark::on_page(&page), None);
        }
        for length in 0..12 {
            assert_eq!(
                Mark::on_page(&[TABLE_LEAF, 0, 0, 0, 1, 0, 0, 0, 0, 10, 1, 1][..length]),
                None
            );
        }
    }

    /// A page that was half written when the power failed: its header is of one state and its row of another. The log beside it mends that.
    #[test]
    fn a_page_that_points_beside_its_row_is_damaged_and_not_without_a_mark() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        crate::store::open::tests::created(&path);
        let connection = Connection::open(&path).expect("opened");
        let insert = "INSERT INTO waypost_meta (only, node, last_id, created_ms, generation) VALUES (1, 'alice', zeroblob(16), 7, ?1)";
        connection.execute(insert, params![MARK.to_bytes()]).expect("written");
        let page_bytes = Main::read(&connection).expect("read").page_bytes;
        drop(connection);
        let sound = std::fs::read(&path).expect("readable");
        let at = sound.chunks(page_bytes).position(|page| Mark::on_page(page).is_some());
        let at = at.expect("its page") * page_bytes + 8;
        let place = u16::from_be_bytes([sound[at], sound[at + 1]]);
        for beside in (1..=60).flat_map(|by: u16| [place - by, place + by]) {
            let mut torn = sound.clone();
            torn[at..at + 2].copy_from_slice(&beside.to_be_bytes());
            std::fs::write(&path, torn).expect("written");
            let main = Connection::open(&path).and_then(|torn| Main::read(&torn));
            let generation = main.ok().and_then(|main| main.generation);
            assert_eq!(generation, None, "{beside} instead of {place}");
        }
    }

    /// What a message can hold must not speak for the file.
    #[test]
    fn a_mark_in_a_message_is_not_the_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        crate::store::open::tests::created(&path);
        let connection = Connection::open(&path).expect("opened");
        let write = |sql: &str| connection.execute(sql, params![MARK.to_bytes()]).expect("written");
        write(
            "INSERT INTO waypost_outbox VALUES (1, zeroblob(16), 1, 1, 0, 1, NULL, 'k', NULL, 0, 1, ?1)",
        );
        write(
            "INSERT INTO waypost_meta (only, node, last_id, created_ms, generation) VALUES (1, 'alice', zeroblob(16), 7, ?1)",
        );
        let main = Main::read(&connection).expect("read");
        drop(connection);
        let pages = std::fs::read(&path).expect("readable");
        let marked: Vec<_> = pages.chunks(main.page_bytes).filter_map(Mark::on_page).collect();
        assert_eq!(marked, [MARK]);
        assert_eq!(main.generation, Some(MARK.generation));
    }
}
