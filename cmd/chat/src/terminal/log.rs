//! Log lines: to standard error, and through the line editor's output while that is the same terminal.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt::MakeWriter;
use waypost_process::streams;

use super::output::Output;
use super::paint;

/// Where log lines go.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    output: Arc<Mutex<Option<Output>>>,
}

impl Log {
    /// As long as this is kept, lines for a terminal go through this output.
    pub(super) fn divert(&self, output: &Output) -> Diverted {
        if streams::errors_are_terminal() {
            self.set(Some(output.clone()));
        }
        Diverted { log: self.clone() }
    }

    fn set(&self, output: Option<Output>) {
        *self.output.lock().unwrap_or_else(PoisonError::into_inner) = output;
    }
}

/// See [`Log::divert`].
pub(super) struct Diverted {
    log: Log,
}

impl Drop for Diverted {
    fn drop(&mut self) {
        self.log.set(None);
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Write for Log {
    /// Takes whole lines, as the subscriber writes them.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        let output = self.output.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match output {
            Some(output) => output.log(paint::harmless(&String::from_utf8_lossy(lines), 2)),
            None => streams::Log.write_all(lines)?,
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
