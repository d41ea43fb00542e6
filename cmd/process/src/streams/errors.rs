//! Standard error, written by a thread of its own: whoever says something there never waits for who reads it, and never fails.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::stdio::stderr;
use tracing_subscriber::fmt::MakeWriter;

use super::write_whole;

/// How long the end of the program waits for standard error to take what was said.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(1);
/// Log lines that wait at most, in bytes; what comes then is left out and counted.
const MAX_BYTES: usize = 1024 * 1024;

/// What waits to be written.
#[derive(Debug)]
struct Waiting {
    pieces: VecDeque<Vec<u8>>,
    bytes: usize,
    left_out: u64,
    /// A piece was taken and is not written yet.
    writing: bool,
}

static WAITING: Mutex<Waiting> =
    Mutex::new(Waiting { pieces: VecDeque::new(), bytes: 0, left_out: 0, writing: false });
static FILLED: Condvar = Condvar::new();
static WRITTEN: Condvar = Condvar::new();
/// Whether there is a thread that writes.
static WRITER: OnceLock<bool> = OnceLock::new();

/// Says a line on standard error.
pub fn say(line: impl Display) {
    show(format!("{line}\n"));
}

/// Shows text on standard error as it is: a question, or progress.
pub fn show(text: impl Into<String>) {
    put(text.into().into_bytes(), usize::MAX);
}

/// Where log lines go. Each is one piece; with too many that wait, the next are left out, and that is said.
#[derive(Debug, Clone, Copy)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        put(line.to_vec(), MAX_BYTES);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Waits until all is written, for so long at most.
pub fn finish(limit: Duration) {
    let end = Instant::now() + limit;
    let mut waiting = waiting();
    while waiting.writing || !waiting.is_empty() {
        let Some(left) = end.checked_duration_since(Instant::now()) else { return };
        let waited = WRITTEN.wait_timeout(waiting, left);
        waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.left_out == 0
    }

    /// The next piece; after all of them, how many were left out.
    fn next(&mut self) -> Option<Vec<u8>> {
        let piece = self.pieces.pop_front().or_else(|| {
            let count = std::mem::take(&mut self.left_out);
            let text = format!("{count} log lines were left out: standard error was too slow\n");
            (count > 0).then(|| text.into_bytes())
        });
        self.bytes -= piece.as_ref().map_or(0, Vec::len).min(self.bytes);
        self.writing = piece.is_some();
        piece
    }
}

fn waiting() -> MutexGuard<'static, Waiting> {
    // Nothing that is done under the lock can break off half-way.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put(piece: Vec<u8>, max_bytes: usize) {
    {
        let mut waiting = waiting();
        if waiting.bytes.saturating_add(piece.len()) > max_bytes {
            waiting.left_out += 1;
        } else {
            waiting.bytes += piece.len();
            waiting.pieces.push_back(piece);
        }
    }
    FILLED.notify_one();
    let has_writer = WRITER.get_or_init(|| {
        let writer = std::thread::Builder::new().name("stderr".to_owned());
        writer.spawn(write_for_ever).is_ok()
    });
    if !has_writer {
        // No thread is to be had, and the program will not go far.
        write_out();
    }
}

fn write_for_ever() {
    loop {
        drop(FILLED.wait_while(waiting(), |waiting| waiting.is_empty()));
        write_out();
    }
}

fn write_out() {
    loop {
        let Some(piece) = waiting().next() else { return };
        // Nobody is left to be told.
        let _ = write_whole(stderr(), &piece);
        waiting().writing = false;
        WRITTEN.notify_all();
    }
}
