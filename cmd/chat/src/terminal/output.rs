//! What waits to be printed. Whoever prints takes all of it at once, in the thread that owns the screen, and so never waits for those who
//! have more to print.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

/// Pieces that wait at most; then the senders wait.
const MAX_PIECES: usize = 256;
/// Log lines cannot wait: with so many pieces before them they are left out.
const MAX_PIECES_WITH_LOG: usize = 4096;

/// What is printed above the line being typed.
#[derive(Debug)]
pub(crate) enum Piece {
    Lines(String),
    /// An own message, by its number.
    Own(usize, String),
    /// The mark of an own message: in its columns, and in words for where they cannot be reached.
    Mark(usize, String, Option<String>),
    /// All that belongs to the beginning was sent: lines may be typed.
    Begun,
    /// Nothing; whoever sees it taken knows that what came before the last one was printed.
    End,
}

#[derive(Debug, Default)]
struct State {
    pieces: VecDeque<Piece>,
    /// Whoever prints was told that there is something.
    called: bool,
    /// Why what is taken is not printed any more.
    failure: Option<String>,
    left_out: usize,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    taken: Notify,
}

/// Both ends of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    shared: Arc<Shared>,
}

impl Output {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that is done under the lock can break off half-way.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has it printed; waits while too much waits.
    pub(crate) async fn send(&self, piece: Piece) {
        loop {
            {
                let mut state = self.state();
                if state.pieces.len() < MAX_PIECES {
                    state.pieces.push_back(piece);
                    self.shared.filled.notify_all();
                    return;
                }
            }
            self.shared.taken.notified().await;
        }
    }

    /// Has log lines printed. Never waits: with too much before them they are counted only.
    pub(crate) fn log(&self, text: String) {
        let mut state = self.state();
        if state.pieces.len() < MAX_PIECES_WITH_LOG {
            state.pieces.push_back(Piece::Lines(text));
            self.shared.filled.notify_all();
        } else {
            state.left_out += 1;
        }
    }

    /// Waits until all was printed.
    pub(crate) async fn finish(&self) {
        // The second is taken after what came with the first was printed.
        for _ in 0..2 {
            self.send(Piece::End).await;
            while !self.is_taken() {
                self.shared.taken.notified().await;
            }
        }
    }

    fn is_taken(&self) -> bool {
        self.state().pieces.is_empty()
    }

    /// What is taken from now on is lost, for this reason.
    pub(crate) fn fail(&self, reason: String) {
        self.state().failure.get_or_insert(reason);
    }

    /// Why what is taken is lost, if it is.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state().failure.clone()
    }

    /// Takes what waits.
    pub(crate) fn take(&self) -> Vec<Piece> {
        let mut state = self.state();
        state.called = false;
        let mut pieces: Vec<_> = state.pieces.drain(..).collect();
        if std::mem::take(&mut state.left_out) > 0 {
            pieces.push(Piece::Lines("log lines were left out: they came too fast".to_owned()));
        }
        self.shared.taken.notify_one();
        pieces
    }

    /// Waits until something new is there.
    pub(crate) fn wait(&self) {
        let nothing_new = |state: &mut State| state.pieces.is_empty() || state.called;
        let waited = self.shared.filled.wait_while(self.state(), nothing_new);
        waited.unwrap_or_else(PoisonError::into_inner).called = true;
    }

    /// Waits for at most this long for something to print.
    pub(crate) fn wait_for(&self, time: Duration) {
        let nothing = |state: &mut State| state.pieces.is_empty();
        drop(self.shared.filled.wait_timeout_while(self.state(), time, nothing));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: Vec<Piece>) -> Vec<String> {
        let text = |piece| match piece {
            Piece::Lines(text) => Some(text),
            _ => None,
        };
        pieces.into_iter().filter_map(text).collect()
    }

    #[tokio::test]
    async fn senders_wait_and_log_lines_do_not() {
        let output = Output::default();
        for number in 0..MAX_PIECES {
            output.send(Piece::Lines(number.to_string())).await;
        }
        let more = tokio::spawn({
            let output = output.clone();
            async move { output.send(Piece::Lines("more".to_owned())).await }
        });
        tokio::task::yield_now().await;
        assert!(!more.is_finished());
        output.log("a log line".to_owned());
        let first = lines(output.take());
        assert_eq!(first.len(), MAX_PIECES + 1);
        more.await.expect("no panic");
        assert_eq!(lines(output.take()), ["more"]);
    }

    #[tokio::test]
    async fn the_end_is_after_all_was_printed() {
        let output = Output::default();
        let printed = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let (output, printed) = (output.clone(), printed.clone());
            move || {
                loop {
                    output.wait();
                    let pieces = lines(output.take());
                    std::thread::yield_now();
                    printed.lock().expect("no panic").extend(pieces);
                }
            }
        });
        output.send(Piece::Lines("last words".to_owned())).await;
        output.finish().await;
        assert_eq!(*printed.lock().expect("no panic"), ["last words"]);
    }
}
