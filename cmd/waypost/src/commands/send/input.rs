//! Standard input, as one payload or line by line, never held as a whole.

use std::io::{self, Read};

use anyhow::Context;
use bytes::Bytes;
use tokio::sync::mpsc;
use waypost::InvalidMessage;
use waypost_process::streams;

/// Bytes asked for at once.
const READ_BYTES: usize = 64 * 1024;
/// Pieces of input that wait for their commit; with more, the pipe's writer has to wait.
const PIECES: usize = 4;

/// A piece of the input.
#[derive(Debug)]
pub(super) enum Input {
    /// Whole lines, without their line breaks.
    Lines(Vec<Bytes>),
    /// A line is larger than a payload may be. Nothing follows.
    TooLong { line: u64, bytes: usize },
    /// Reading failed. Nothing follows.
    Failed(io::Error),
}

/// Everything up to the end, as one payload.
///
/// # Errors
/// It is larger than the limit, or reading failed.
pub(super) async fn whole(limit: usize) -> anyhow::Result<Bytes> {
    let (to, mut from) = mpsc::channel(1);
    in_thread(move || {
        // Nobody waits for it any more after a signal.
        let _ = to.blocking_send(read_whole(&mut streams::Input, limit));
    })?;
    from.recv().await.context("the thread that reads standard input sends what it read")?
}

fn read_whole(from: &mut impl Read, limit: usize) -> anyhow::Result<Bytes> {
    let mut payload = Vec::new();
    from.take(limit as u64).read_to_end(&mut payload).context("reading standard input")?;
    // The rest is only counted, so that the error can tell the size.
    let more = io::copy(from, &mut io::sink()).context("reading standard input")?;
    if more > 0 {
        let actual = payload.len().saturating_add(usize::try_from(more).unwrap_or(usize::MAX));
        return Err(InvalidMessage::PayloadTooLarge { actual, limit }.into());
    }
    Ok(payload.into())
}

/// The lines as they arrive. A last line without a line break counts; line breaks of other systems stay part of the line.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn lines(limit: usize) -> io::Result<mpsc::Receiver<Input>> {
    let (to, from) = mpsc::channel(PIECES);
    in_thread(move || {
        read_lines(streams::Input, limit, |input| to.blocking_send(input).is_ok());
    })?;
    Ok(from)
}

/// A thread that nobody waits for: nothing can end a read of a terminal.
fn in_thread(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("stdin".to_owned()).spawn(work).map(|_| ())
}

/// Gives away what each read completes, until nobody wants it.
fn read_lines(mut from: impl Read, limit: usize, mut give: impl FnMut(Input) -> bool) {
    let mut buffer = vec![0; READ_BYTES];
    let mut line = Line::new(limit);
    let mut done: u64 = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                give(Input::Failed(error));
                return;
            }
        };
        let mut lines = Vec::new();
        let mut too_long = None;
        for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
            line.push(piece.strip_suffix(b"\n").unwrap_or(piece));
            if piece.ends_with(b"\n") {
                done += 1;
                match line.take() {
                    Ok(line) => lines.push(line),
                    Err(bytes) => {
                        too_long = Some(Input::TooLong { line: done, bytes });
                        break;
                    }
                }
            }
        }
        if !lines.is_empty() && !give(Input::Lines(lines)) {
            return;
        }
        if let Some(too_long) = too_long {
            give(too_long);
            return;
        }
    }
    if !line.is_empty() {
        give(match line.take() {
            Ok(line) => Input::Lines(vec![line]),
            Err(bytes) => Input::TooLong { line: done + 1, bytes },
        });
    }
}

/// A line that is not complete yet. What goes beyond the limit is only counted.
struct Line {
    start: Vec<u8>,
    beyond: usize,
    limit: usize,
}

impl Line {
    fn new(limit: usize) -> Self {
        Self { start: Vec::new(), beyond: 0, limit }
    }

    fn push(&mut self, piece: &[u8]) {
        let kept = piece.len().min(self.limit - self.start.len());
        self.start.extend_from_slice(&piece[..kept]);
        self.beyond += piece.len() - kept;
    }

    fn is_empty(&self) -> bool {
        self.start.is_empty()
    }

    /// The line, or its size where it is too long.
    fn take(&mut self) -> Result<Bytes, usize> {
        let start = std::mem::take(&mut self.start);
        match std::mem::take(&mut self.beyond) {
            0 => Ok(start.into()),
            beyond => Err(start.len() + beyond),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte a read.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.len().min(1).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn split(from: impl Read) -> (Vec<Bytes>, Option<String>) {
        let (mut lines, mut end) = (Vec::new(), None);
        read_lines(from, 4, |input| {
            match input {
                Input::Lines(more) => lines.extend(more),
                other => end = Some(format!("{other:?}")),
            }
            true
        });
        (lines, end)
    }

    #[test]
    fn lines_are_split_however_the_bytes_arrive() {
        for text in [&b"a\n\nbc\r\n\xff"[..], b"a\n\nbc\r\n\xff\n"] {
            for (lines, end) in [split(text), split(Slow(text))] {
                assert_eq!(lines, [&b"a"[..], b"", b"bc\r", b"\xff"]);
                assert_eq!(end, None);
            }
        }
        assert_eq!(split(&b""[..]), (Vec::new(), None));
    }

    #[test]
    fn a_line_over_the_limit_ends_the_input_and_tells_its_size() {
        for text in [&b"ok\n12345\nnever\n"[..], b"ok\n12345"] {
            for (lines, end) in [split(text), split(Slow(text))] {
                assert_eq!(lines, [&b"ok"[..]]);
                assert_eq!(end.as_deref(), Some("TooLong { line: 2, bytes: 5 }"));
            }
        }
    }

    #[test]
    fn a_whole_input_over_the_limit_is_refused_with_both_sizes() {
        assert_eq!(read_whole(&mut &b"1234"[..], 4).expect("it fits"), &b"1234"[..]);
        let error = read_whole(&mut &b"123456"[..], 4).expect_err("too large").to_string();
        assert!(error.contains("6 bytes, limit 4"), "{error}");
    }
}
