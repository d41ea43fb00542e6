//! What the system allows this process.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;

/// Files that a program with one node opens at its start, with some to spare: the runtime, signals, the database, the connection.
const FILES: usize = 24;

/// Threads that it starts beside one for each processor.
const THREADS: usize = 8;

/// Why a program cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Too few files can be opened.
    #[error(
        "only {free} more files can be opened, and {FILES} are needed: raise the limit (ulimit -n, LimitNOFILE=)"
    )]
    Files {
        /// How many can be.
        free: usize,
        /// What the system says about the next one.
        source: io::Error,
    },
    /// Too few threads can be started: there are too many, or no memory for their stacks.
    #[error(
        "only {free} more threads can be started, and {needed} are needed: raise the limits (ulimit -u, ulimit -v, TasksMax=)"
    )]
    Threads {
        /// How many can be.
        free: usize,
        /// How many are needed on a machine with so many processors.
        needed: usize,
        /// What the system says about the next one.
        source: io::Error,
    },
    /// The signal of the file-size limit could not be taken.
    #[error("the signal of the file-size limit cannot be handled")]
    Signal(#[source] io::Error),
}

/// Prepares the process. Call it first in `main`.
///
/// A write beyond the file-size limit (`ulimit -f`) fails from here on, and kills nobody. A process that can open too few files, or start too few
/// threads, is refused here, where that can be said: later it would panic, or fail in the middle of something.
///
/// # Errors
/// The limit that is too low.
pub fn begin() -> Result<(), LimitError> {
    // With a handler the write returns an error, as it does where the signal is ignored.
    let seen = Arc::new(AtomicBool::new(false));
    signal_hook::flag::register(Signal::XFSZ.as_raw(), seen).map_err(LimitError::Signal)?;
    let mut spare = Vec::with_capacity(FILES);
    while spare.len() < FILES {
        match File::open("/dev/null") {
            Ok(file) => spare.push(file),
            Err(error) if is_of_a_limit(&error) => {
                return Err(LimitError::Files { free: spare.len(), source: error });
            }
            // This says nothing about the limit.
            Err(_) => break,
        }
    }
    drop(spare);
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    room_for_threads(processors + THREADS)
}

/// Starts so many threads at the same time, and ends them again.
fn room_for_threads(needed: usize) -> Result<(), LimitError> {
    let ended = Arc::new(AtomicBool::new(false));
    let (mut threads, mut refused) = (Vec::new(), None);
    while threads.len() < needed && refused.is_none() {
        let ended = Arc::clone(&ended);
        let wait = move || {
            while !ended.load(Ordering::Acquire) {
                std::thread::park();
            }
        };
        match std::thread::Builder::new().spawn(wait) {
            Ok(thread) => threads.push(thread),
            Err(source) => refused = Some(source),
        }
    }
    let free = threads.len();
    ended.store(true, Ordering::Release);
    for thread in threads {
        thread.thread().unpark();
        // It only waits.
        let _ = thread.join();
    }
    refused.map_or(Ok(()), |source| Err(LimitError::Threads { free, needed, source }))
}

fn is_of_a_limit(error: &io::Error) -> bool {
    let limits = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    limits.iter().any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_room_may_begin_and_nothing_of_the_look_is_left() {
        let descriptors = || std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        let before = descriptors();
        for _ in 0..3 {
            begin().expect("room");
        }
        // Other tests have files of their own open meanwhile.
        assert!(descriptors() < before + FILES, "{before} before, {} after", descriptors());
        room_for_threads(20).expect("room");
    }
}
