//! `send --lines`: each line a message, committed as lines arrive, many in one commit where they come faster than the disk.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use tokio::sync::mpsc::Receiver;
use tracing::warn;
use waypost::error::{SendError, StoreError};
use waypost::{Channel, NodeId};

use super::ids::Ids;
use super::input::Input;
use super::{Sent, message};
use crate::args::Send;
use waypost_process::Signals;

/// Most lines in one commit.
const MAX_LINES: usize = 512;
/// A commit takes no further line above this many bytes.
const MAX_BYTES: usize = 1024 * 1024;
/// Between two tries while a receiver's queue is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(100);
/// Least time until another receiver is named.
const SAY_AGAIN: Duration = Duration::from_secs(10);
/// Between two tries while the disk is full.
const DISK_PAUSE: Duration = Duration::from_secs(1);

/// Sends all lines. An id is printed after the commit of its line, in the order of the lines, those of one commit in one write.
pub(super) async fn send(
    channel: &Channel,
    args: &Send,
    mut input: Receiver<Input>,
    ids: &mut Ids<'_>,
    signals: &mut Signals,
) -> anyhow::Result<Sent> {
    let mut waiting = Waiting::default();
    // Smaller only while there is less room than that.
    let mut most = MAX_LINES;
    let mut told = Told::default();
    loop {
        if waiting.lines.is_empty() {
            if waiting.end.is_some() {
                return waiting.ended(ids);
            }
            tokio::select! {
                biased;
                number = signals.caught() => return Ok(Sent::Interrupted(number)),
                piece = input.recv() => match piece {
                    Some(piece) => waiting.add(piece),
                    None => return Ok(Sent::All),
                },
            }
        }
        waiting.fill(&mut input);
        let batch = waiting.batch(most);
        if batch.is_empty() {
            continue;
        }
        let size = batch.len();
        let messages = batch.into_iter().map(|line| message(args, line)).collect();
        match channel.send_all(messages).await {
            Ok(sent) => {
                waiting.lines.drain(..size);
                // Said again only after a time without stalls: a reader that is slower than the input has many short ones.
                if most == MAX_LINES {
                    told = Told::default();
                }
                most = (2 * most).min(MAX_LINES);
                if let Some(number) = ids.print(&sent, signals).await {
                    return Ok(Sent::Interrupted(number));
                }
            }
            // None of them has stored anything, so that the same lines can be sent again.
            Err(error) if may_pass(&error) => {
                if let Some(fewer) = fewer(size, &error) {
                    most = fewer;
                    continue;
                }
                let is_queue = matches!(error, SendError::QueueFull { .. });
                told.stalled(&error);
                tokio::select! {
                    number = signals.caught() => return Ok(Sent::Interrupted(number)),
                    () = tokio::time::sleep(if is_queue { QUEUE_PAUSE } else { DISK_PAUSE }) => {}
                }
            }
            Err(error) => return Err(error).with_context(|| stopped(ids)),
        }
    }
}

/// What was said of a stall: once, and again where another receiver is the one that is furthest behind.
#[derive(Default)]
struct Told {
    stall: Option<(Option<NodeId>, Instant)>,
}

impl Told {
    fn stalled(&mut self, error: &SendError) {
        let receiver = match error {
            SendError::QueueFull { receiver, .. } => receiver.clone(),
            _ => None,
        };
        let is_told = self
            .stall
            .as_ref()
            .is_some_and(|(before, at)| *before == receiver || at.elapsed() < SAY_AGAIN);
        if !is_told {
            warn!("standard input has to wait: {error}");
            self.stall = Some((receiver, Instant::now()));
        }
    }
}

/// How many lines to try instead of so many that failed. `None`: fewer would fail as well.
fn fewer(lines: usize, error: &SendError) -> Option<usize> {
    (lines > 1 && is_no_room(error)).then_some(lines / 2)
}

/// Whether it is only room that is missing.
fn is_no_room(error: &SendError) -> bool {
    matches!(
        error,
        SendError::QueueFull { .. }
            | SendError::StorageFull { .. }
            | SendError::StorageLimit { .. }
    )
}

/// Whether it is only room that is missing, or another program that holds the file: both are waited out.
fn may_pass(error: &SendError) -> bool {
    match error {
        SendError::Storage(StoreError::Locked { .. }) => true,
        error => is_no_room(error),
    }
}

/// Lines that were read and are not committed yet, and what came after the last one.
#[derive(Default)]
struct Waiting {
    lines: VecDeque<Bytes>,
    end: Option<Input>,
}

impl Waiting {
    fn add(&mut self, piece: Input) {
        match piece {
            Input::Lines(lines) => self.lines.extend(lines),
            end => self.end = Some(end),
        }
    }

    /// Takes in what has arrived meanwhile, up to a commit's worth.
    fn fill(&mut self, input: &mut Receiver<Input>) {
        while self.end.is_none() && self.lines.len() < MAX_LINES {
            let Ok(piece) = input.try_recv() else { return };
            self.add(piece);
        }
    }

    /// The next commit's lines, at least one where there is one.
    fn batch(&self, most: usize) -> Vec<Bytes> {
        let mut bytes = 0;
        let fits = |line: &&Bytes| {
            let first = bytes == 0;
            bytes += line.len().max(1);
            first || bytes <= MAX_BYTES
        };
        self.lines.iter().take(most).take_while(fits).cloned().collect()
    }

    fn ended(self, ids: &Ids<'_>) -> anyhow::Result<Sent> {
        match self.end {
            None | Some(Input::Lines(_)) => Ok(Sent::All),
            Some(Input::TooLong { line, bytes }) => bail!(
                "{}: line {line} has {bytes} bytes, more than max_payload_bytes allows",
                stopped(ids)
            ),
            Some(Input::Failed(error)) => Err(error).with_context(|| stopped(ids)),
        }
    }
}

fn stopped(ids: &Ids<'_>) -> String {
    format!("{}; the rest of standard input was not sent", ids.told())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_room_is_missing_fewer_lines_are_tried_and_one_alone_waits() {
        let path = || std::path::PathBuf::from("a.db");
        let limit = SendError::StorageLimit { path: path(), used_bytes: 2, limit_bytes: 1 };
        for error in [SendError::StorageFull { path: path() }, limit] {
            assert_eq!(fewer(MAX_LINES, &error), Some(MAX_LINES / 2), "{error}");
            assert_eq!(fewer(3, &error), Some(1), "{error}");
            assert_eq!(fewer(1, &error), None, "{error}");
            assert!(may_pass(&error), "{error}");
        }
        let failed = StoreError::Failed { path: path(), reason: String::new() };
        let failed = SendError::Storage(failed);
        assert_eq!((fewer(2, &failed), may_pass(&failed)), (None, false));
    }
}
