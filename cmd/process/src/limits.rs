//! What the system allows this process.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::Signal;

/// Files that a program with one node opens at its start, with some to spare: the runtime, signals, the database, the connection.
const FILES: usize = 24;

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
    /// The signal of the file-size limit could not be taken.
    #[error("the signal of the file-size limit cannot be handled")]
    Signal(#[source] io::Error),
}

/// Prepares the process. Call it first in `main`.
///
/// A write beyond the file-size limit (`ulimit -f`) fails from here on, and kills nobody. A process that can open too few files is refused here, where
/// that can be said: later it would fail in the middle of something.
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
    Ok(())
}

fn is_of_a_limit(error: &io::Error) -> bool {
    let limits = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    limits.iter().any(|limit| error.raw_os_error() == Some(limit.raw_os_error()))
}
