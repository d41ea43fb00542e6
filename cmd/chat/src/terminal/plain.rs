//! Lines from standard input, and to standard output, where there is no terminal.

use std::io::{BufRead, BufReader, Read as _};

use tokio::sync::mpsc;
use waypost_process::streams;

use super::editor::{Console, Input};
use super::output::{Output, Piece};
use crate::room::MAX_TEXT_BYTES;

/// A longer line cannot be a message.
const MAX_LINE_BYTES: usize = MAX_TEXT_BYTES + 1024;

/// Starts reading and printing.
pub(super) fn start() -> Console {
    let (lines, input) = mpsc::channel(64);
    let output = Output::default();
    std::thread::spawn(move || {
        let mut stdin = BufReader::new(streams::Input);
        loop {
            let input = next_line(&mut stdin);
            let ended = matches!(input, Input::Ended);
            if lines.blocking_send(input).is_err() || ended {
                return;
            }
        }
    });
    let printed = output.clone();
    std::thread::spawn(move || {
        loop {
            printed.wait();
            for piece in printed.take() {
                let (Piece::Lines(text) | Piece::Own(_, text) | Piece::Mark(_, _, Some(text))) =
                    piece
                else {
                    continue;
                };
                if printed.failure().is_some() {
                    continue;
                }
                if let Err(error) = streams::write(format!("{text}\n").as_bytes()) {
                    // What comes in is said all the same; only the end tells of this.
                    streams::say(format_args!(
                        "chat: standard output: {error}: nothing more is shown"
                    ));
                    printed.fail(error.to_string());
                }
            }
        }
    });
    Console { input, output }
}

/// The next line; of one that is too long, its length alone.
fn next_line(from: &mut impl BufRead) -> Input {
    let limit = MAX_LINE_BYTES as u64;
    let mut line = Vec::new();
    let mut read = (&mut *from).take(limit).read_until(b'\n', &mut line);
    let mut bytes = line.len() as u64;
    let mut is_whole = bytes < limit || line.ends_with(b"\n");
    while !is_whole && matches!(read, Ok(1..)) {
        let mut rest = Vec::new();
        read = (&mut *from).take(limit).read_until(b'\n', &mut rest);
        bytes += rest.len() as u64;
        is_whole = rest.ends_with(b"\n");
    }
    match read {
        Ok(_) if bytes > limit => Input::TooLong(bytes),
        Ok(_) if !line.is_empty() => Input::Line(String::from_utf8_lossy(&line).into_owned()),
        _ => Input::Ended,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_end_where_they_end() {
        let longest = "x".repeat(MAX_LINE_BYTES - 1);
        for line in [
            longest.clone(),
            format!("{longest}y"),
            format!("{longest}yy"),
            "z".repeat(5 * MAX_LINE_BYTES),
        ] {
            for end in ["\nnext\n", "\nnext", "\n", ""] {
                let text = format!("{line}{end}");
                let bytes = line.len() + usize::from(!end.is_empty());
                let mut from = BufReader::with_capacity(100, text.as_bytes());
                match next_line(&mut from) {
                    Input::Line(read) => {
                        assert!(bytes <= MAX_LINE_BYTES);
                        assert_eq!(read.trim_end(), line);
                    }
                    Input::TooLong(told) => {
                        assert!(bytes > MAX_LINE_BYTES);
                        assert_eq!(told, bytes as u64);
                    }
                    other => panic!("{other:?}"),
                }
                if end.contains("next") {
                    let next = next_line(&mut from);
                    assert!(
                        matches!(&next, Input::Line(next) if next.trim() == "next"),
                        "{next:?}"
                    );
                }
                assert!(matches!(next_line(&mut from), Input::Ended));
            }
        }
    }
}
