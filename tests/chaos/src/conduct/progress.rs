//! What was accepted and what arrived so far, read from what processes print: to feed no faster than receivers take it, and to tell how it goes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use crate::payload::is_large;

/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(100);
/// What stands in a line before the sender's name.
const MARK: &[u8] = b"\"text\":\"m|";

/// Sums over a part.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Messages whose acceptance was printed.
    pub(super) accepted: AtomicU64,
    /// Lines that receivers printed.
    pub(super) delivered: AtomicU64,
    /// By receiver: small messages accepted for it less those that it printed. Large ones may never arrive.
    backlogs: HashMap<String, AtomicI64>,
    /// By sender: lines fed and not accepted yet.
    in_doubt: HashMap<String, AtomicU64>,
    /// What was printed by runs that have ended: more of their lines may arrive than count as accepted here.
    printed: Mutex<HashMap<(String, u32), u64>>,
    /// Messages that a restored file may have forgotten: they count as waiting here for ever.
    forgotten: AtomicI64,
    over: AtomicBool,
}

impl Progress {
    pub(super) fn new(senders: &[String], receivers: &[String]) -> Self {
        Self {
            backlogs: receivers.iter().map(|name| (name.clone(), AtomicI64::new(0))).collect(),
            in_doubt: senders.iter().map(|name| (name.clone(), AtomicU64::new(0))).collect(),
            ..Self::default()
        }
    }

    /// The longest queue in front of any of these.
    pub(super) fn backlog<'a>(&self, of: impl IntoIterator<Item = &'a String>) -> i64 {
        let backlogs = of.into_iter().filter_map(|name| self.backlogs.get(name));
        backlogs.map(|backlog| backlog.load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    /// The longest queue of all.
    pub(super) fn longest(&self) -> i64 {
        self.backlog(self.backlogs.keys())
    }

    /// So many more lines of a run were printed, `small` of them small, for these receivers.
    pub(super) fn accept<'a>(
        &self,
        lines: u64,
        small: u64,
        readers: impl IntoIterator<Item = &'a String>,
    ) {
        self.accepted.fetch_add(lines, Ordering::Relaxed);
        for backlog in readers.into_iter().filter_map(|name| self.backlogs.get(name)) {
            backlog.fetch_add(small.cast_signed(), Ordering::Relaxed);
        }
    }

    pub(super) fn forgotten(&self) -> i64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// So many messages may be forgotten by a restored file.
    pub(super) fn forget(&self, lines: u64) {
        self.forgotten.fetch_add(lines.cast_signed(), Ordering::Relaxed);
    }

    pub(super) fn doubt(&self, sender: &str, lines: u64) {
        self.in_doubt[sender].store(lines, Ordering::Relaxed);
    }

    /// Whether every line that was fed is accepted.
    pub(super) fn is_certain(&self) -> bool {
        self.in_doubt.values().all(|lines| lines.load(Ordering::Relaxed) == 0)
    }

    pub(super) fn ended(&self, sender: &str, run: u32, printed: u64) {
        self.doubt(sender, 0);
        self.printed
            .lock()
            .expect("no panic while it is held")
            .insert((sender.to_owned(), run), printed);
    }

    /// Ends [`follow`](Self::follow) and [`count`](Self::count).
    pub(super) fn finish(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Follows what this receiver prints, run after run, until the end. Blocks.
    pub(super) fn follow(&self, folder: &Path, receiver: &str) {
        let mut tail = Tail::new(folder.join(receiver));
        while !self.over.load(Ordering::Relaxed) {
            let mut small = 0;
            let lines = tail.read(|line| small += i64::from(self.counts(line)));
            self.delivered.fetch_add(lines, Ordering::Relaxed);
            self.backlogs[receiver].fetch_sub(small, Ordering::Relaxed);
            std::thread::sleep(LOOK);
        }
    }

    /// Counts what this seller prints. Blocks.
    pub(super) fn count(&self, folder: &Path, seller: &str) {
        let mut tail = Tail::new(folder.join(seller));
        while !self.over.load(Ordering::Relaxed) {
            self.accepted.fetch_add(tail.read(|_| {}), Ordering::Relaxed);
            std::thread::sleep(LOOK);
        }
    }

    fn counts(&self, line: &[u8]) -> bool {
        let Some(at) = line.windows(MARK.len()).position(|window| window == MARK) else {
            return false;
        };
        let mut fields =
            line[at + MARK.len()..].split(|byte| *byte == b'|').map(std::str::from_utf8);
        let (Some(Ok(sender)), Some(Ok(run)), Some(Ok(number))) =
            (fields.next(), fields.next(), fields.next())
        else {
            return false;
        };
        let (Ok(run), Ok(number)) = (run.parse(), number.parse::<u64>()) else { return false };
        let printed = self.printed.lock().expect("no panic while it is held");
        let most = printed.get(&(sender.to_owned(), run)).copied().unwrap_or(u64::MAX);
        number <= most && !is_large(number)
    }
}

/// The files that one node's processes print to, one after the other.
struct Tail {
    path: PathBuf,
    run: u32,
    file: Option<File>,
    offset: u64,
    /// What was read of a line that is not whole yet.
    rest: Vec<u8>,
}

impl Tail {
    fn new(path: PathBuf) -> Self {
        Self { path, run: 1, file: None, offset: 0, rest: Vec::new() }
    }

    fn of_run(&self, run: u32) -> PathBuf {
        self.path.with_extension(run.to_string())
    }

    /// Gives away every line that is new; their number.
    fn read(&mut self, mut give: impl FnMut(&[u8])) -> u64 {
        let mut lines = 0;
        loop {
            // Looked at before the file is read: what there is then is all of it.
            let is_over = self.of_run(self.run + 1).exists();
            if self.file.is_none() {
                self.file = File::open(self.of_run(self.run)).ok();
            }
            let Some(file) = &mut self.file else { return lines };
            let mut new = std::mem::take(&mut self.rest);
            let read =
                file.seek(SeekFrom::Start(self.offset)).and_then(|_| file.read_to_end(&mut new));
            self.offset += read.unwrap_or(0) as u64;
            let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            self.rest = new.split_off(whole);
            for line in new.split_inclusive(|byte| *byte == b'\n') {
                give(line);
                lines += 1;
            }
            if !is_over {
                return lines;
            }
            *self = Self { run: self.run + 1, ..Self::new(std::mem::take(&mut self.path)) };
        }
    }
}
