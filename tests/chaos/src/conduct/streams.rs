//! What processes print, read from pipes that can be closed: the reader of a log or of ids may go at any time.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::oneshot;

/// Read at once.
const PIECE_BYTES: usize = 8 * 1_024;

/// Which of a process's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stream {
    Output,
    Error,
}

/// A pipe that is being read.
#[derive(Debug)]
struct Relay {
    run: u32,
    /// Ends the reading when it is dropped.
    close: oneshot::Sender<()>,
}

/// The streams of all nodes that run.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<(String, Stream), Relay>>);

impl Streams {
    /// Copies what this run prints to the end of a file, until it has ended or its stream is closed.
    pub(super) fn relay(
        &self,
        (node, run, stream): (&str, u32, Stream),
        from: impl AsyncRead + Unpin + Send + 'static,
        to: &Path,
    ) -> anyhow::Result<()> {
        let file = File::options().create(true).append(true).open(to);
        let file = file.with_context(|| format!("opening {}", to.display()))?;
        let (close, closed) = oneshot::channel();
        tokio::spawn(copy(from, file, closed));
        self.relays().insert((node.to_owned(), stream), Relay { run, close });
        Ok(())
    }

    /// Reads a stream no further, and closes it; `before` is told of which run. Whether anything was left to close.
    pub(super) fn close(&self, node: &str, stream: Stream, before: impl FnOnce(u32)) -> bool {
        let Some(Relay { run, close }) = self.relays().remove(&(node.to_owned(), stream)) else {
            return false;
        };
        before(run);
        // Otherwise it had come to its end by itself.
        close.send(()).is_ok()
    }

    /// The run whose stream was opened last.
    pub(super) fn run(&self, node: &str, stream: Stream) -> Option<u32> {
        self.relays().get(&(node.to_owned(), stream)).map(|relay| relay.run)
    }

    /// Whether somebody reads it still.
    pub(super) fn is_read(&self, node: &str, stream: Stream) -> bool {
        let relays = self.relays();
        relays.get(&(node.to_owned(), stream)).is_some_and(|relay| !relay.close.is_closed())
    }

    fn relays(&self) -> std::sync::MutexGuard<'_, HashMap<(String, Stream), Relay>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: File, mut closed: oneshot::Receiver<()>) {
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = tokio::select! {
            biased;
            _ = &mut closed => return,
            read = from.read(&mut piece) => read,
        };
        match read {
            Ok(count) if count > 0 => {
                to.write_all(&piece[..count]).expect("the conductor's own files can be written");
            }
            Ok(_) | Err(_) => return,
        }
    }
}
