//! Where a message lies in a file, by SQLite's file format.

use std::ops::Range;

use waypost::MessageId;

pub const PAGE_BYTES: usize = 1024;
const TABLE_LEAF: u8 = 0x0d;
const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;

/// The outbox's columns, in their order.
pub const COLUMNS: [&str; 12] = [
    "seq",
    "id",
    "topic",
    "lane",
    "previous_seq",
    "created_ms",
    "expires_ms",
    "kind",
    "headers",
    "encoding",
    "crc",
    "payload",
];

/// The cell of one row. All places count from the file's beginning.
#[derive(Debug, Clone)]
pub struct Cell {
    pub page: usize,
    /// The sizes and types.
    pub head: Range<usize>,
    /// What the columns hold.
    pub body: Range<usize>,
    columns: Vec<Range<usize>>,
}

impl Cell {
    /// Of which column this place is.
    pub fn column(&self, at: usize) -> &'static str {
        let found = self.columns.iter().position(|range| range.contains(&at));
        COLUMNS[found.expect("within the row")]
    }
}

/// The message's row in a database without a log.
pub fn in_database(file: &[u8], id: MessageId) -> Cell {
    let pages = (0..file.len()).step_by(PAGE_BYTES);
    pages.filter_map(|page| in_page(file, page, id)).next().expect("the message is in the file")
}

/// The message's row where it stands last in a log.
pub fn in_log(wal: &[u8], id: MessageId) -> Cell {
    let frames = frames(wal).rev();
    frames.filter_map(|page| in_page(wal, page, id)).next().expect("the message is in the log")
}

/// Where the pages of a log begin.
pub fn frames(wal: &[u8]) -> impl DoubleEndedIterator<Item = usize> {
    let frame = FRAME_HEADER_BYTES + PAGE_BYTES;
    let count = wal.len().saturating_sub(WAL_HEADER_BYTES) / frame;
    (0..count).map(move |number| WAL_HEADER_BYTES + number * frame + FRAME_HEADER_BYTES)
}

fn in_page(file: &[u8], page: usize, id: MessageId) -> Option<Cell> {
    // Of the first page, the file's header is left out, which no message is behind.
    if file[page] != TABLE_LEAF {
        return None;
    }
    let number = |at: usize| usize::from(u16::from_be_bytes([file[at], file[at + 1]]));
    let cells = (0..number(page + 3)).map(|cell| page + number(page + 8 + 2 * cell));
    cells.filter_map(|start| cell(file, page, start)).find(|cell| {
        let found = cell.columns.get(1).map(|range| &file[range.clone()]);
        cell.columns.len() == COLUMNS.len() && found == Some(&id.to_bytes()[..])
    })
}

/// `None`: it has no columns that lie within the page.
fn cell(file: &[u8], page: usize, start: usize) -> Option<Cell> {
    let mut at = start;
    let bytes = varint(file, &mut at)?;
    varint(file, &mut at)?;
    let record = at;
    let types_end = record + varint(file, &mut at)?;
    let (mut columns, mut from) = (Vec::new(), types_end);
    while at < types_end {
        let length = match varint(file, &mut at)? {
            0 | 8 | 9 => 0,
            length @ 1..=4 => length,
            5 => 6,
            6 | 7 => 8,
            of_text => of_text.checked_sub(12)? / 2,
        };
        columns.push(from..from + length);
        from += length;
    }
    let fits = record + bytes == from && from <= page + PAGE_BYTES;
    fits.then_some(Cell { page, head: start..types_end, body: types_end..from, columns })
}

fn varint(file: &[u8], at: &mut usize) -> Option<usize> {
    let mut number = 0;
    loop {
        let byte = *file.get(*at)?;
        *at += 1;
        number = number << 7 | usize::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
        if number > 1 << 40 {
            return None;
        }
    }
}
