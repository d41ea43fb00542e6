//! Standard input, output and error. No other code of the programs reads or writes them.
//!
//! Whatever they are connected to, none of this panics, spins or tears a line where that can be helped:
//!
//! - *closed* at the start: the standard library opens `/dev/null` in its place, so that no file of ours takes its number;
//! - *not blocking* (`O_NONBLOCK`, set by whoever shares the pipe or the terminal): waits until it is ready, and goes on;
//! - *full*: an error of standard output; what was written in part is taken back where it is a file, so that the next run does not continue half a
//!   line;
//! - *gone*: an error of standard output ([`io::ErrorKind::BrokenPipe`]), which [`abandoned`] also notices while nothing is written; what is said on
//!   standard error is lost, and nothing else with it;
//! - *slow*: standard error has a thread of its own, which log lines never wait for.

use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, Mode, OFlags, SeekFrom, fcntl_getfl, fstat, ftruncate, open, seek};
use rustix::io::Errno;
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout, stderr, stdin, stdout};
use rustix::termios::isatty;
use tokio::sync::oneshot;

mod errors;

pub use errors::{Log, finish, say, show};

/// Standard input, without a buffer.
#[derive(Debug, Clone, Copy)]
pub struct Input;

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        when_ready(stdin(), PollFlags::IN, || rustix::io::read(stdin(), &mut *buffer))
    }
}

/// Standard output, without a buffer, for what is drawn on a terminal. Lines are written with [`write()`].
#[derive(Debug, Clone, Copy)]
pub struct Screen;

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        write_some(stdout(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes these lines to standard output, in one write where the system takes them at once. Waits for a slow reader. Where it fails in the middle
/// and standard output is a file, the part that was written is taken back.
///
/// # Errors
/// What the system says; [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
pub fn write(lines: &[u8]) -> io::Result<()> {
    write_whole(stdout(), lines)
}

/// Ends a line that an earlier run left unfinished in the file to which standard output is appended, before another is written behind it.
///
/// Only for a file that is appended to (`>>`), so that `{ printf 'id: '; waypost ..; } > file` stays one line. One that cannot be read is left alone.
///
/// # Errors
/// As [`write()`].
pub fn end_torn_line() -> io::Result<()> {
    let appends = fcntl_getfl(stdout()).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    if appends && is_unfinished() == Ok(true) { write(b"\n") } else { Ok(()) }
}

/// Whether the last byte of the file on standard output is another than a line break.
fn is_unfinished() -> Result<bool, Errno> {
    let stat = fstat(stdout())?;
    let Some(last) = u64::try_from(stat.st_size).ok().and_then(|size| size.checked_sub(1)) else {
        return Ok(false);
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    // A handle of its own: standard output is open for writing only.
    let file = open("/dev/fd/1", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut byte = [0];
    let count = rustix::io::pread(&file, &mut byte, last)?;
    Ok(count == 1 && byte != *b"\n")
}

/// Whether standard input is a terminal.
pub fn input_is_terminal() -> bool {
    isatty(stdin())
}

/// Whether standard output is a terminal.
pub fn output_is_terminal() -> bool {
    isatty(stdout())
}

/// Whether standard error is a terminal.
pub fn errors_are_terminal() -> bool {
    isatty(stderr())
}

/// Opens the terminals among the three anew, before an editor or a full screen takes them over: the descriptors that were inherited share their
/// `O_NONBLOCK` with whoever else has them, and neither expects it. What cannot be opened is left as it is.
pub fn own_terminals() {
    let anew = |path| {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty())
    };
    if input_is_terminal() {
        let _ = anew("/dev/fd/0").and_then(dup2_stdin);
    }
    if output_is_terminal() {
        let _ = anew("/dev/fd/1").and_then(dup2_stdout);
    }
    if errors_are_terminal() {
        let _ = anew("/dev/fd/2").and_then(dup2_stderr);
    }
}

/// Waits until nobody can read standard output any more, also while nothing is written. Never returns where that cannot be told: for a file.
/// Cancelling is safe.
pub fn abandoned() -> impl Future<Output = ()> {
    let kind = fstat(stdout()).map(|stat| FileType::from_raw_mode(stat.st_mode));
    let can_go = matches!(kind, Ok(FileType::Fifo | FileType::Socket)) || output_is_terminal();
    let (gone, is_gone) = oneshot::channel();
    if can_go {
        let watch = move || {
            // Asks for nothing: an error and a hang-up are told all the same.
            while poll(&mut [PollFd::new(&stdout(), PollFlags::empty())], None).is_err() {}
            let _ = gone.send(());
        };
        // Without a thread the next write tells.
        let _ = std::thread::Builder::new().name("stdout-gone".to_owned()).spawn(watch);
    }
    async {
        if is_gone.await.is_err() {
            std::future::pending().await
        }
    }
}

/// Prints what the command line's parser has to say, a help text or an error, and ends the program.
pub fn explain(error: &clap::Error) -> ! {
    let to_errors = error.use_stderr();
    let terminal = if to_errors { errors_are_terminal() } else { output_is_terminal() };
    let text = error.render();
    let text = if terminal && has_colour() { text.ansi().to_string() } else { text.to_string() };
    if to_errors {
        show(text);
    } else if let Err(error) = write(text.as_bytes())
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        say(format_args!("standard output: {error}"));
        exit(1);
    }
    exit(error.exit_code())
}

/// Whether the user wants colours, where there is a terminal.
pub fn has_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Ends the program after what was said on standard error is out, as far as somebody takes it.
pub fn exit(code: i32) -> ! {
    finish(errors::LAST_WORDS);
    #[allow(clippy::disallowed_methods)]
    std::process::exit(code)
}

fn write_whole(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match write_some(to, &bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) => {
                if written > 0 {
                    // The first error is the one to tell.
                    let _ = take_back(to, written as u64);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Takes back the last bytes written, if this is a file and nobody wrote behind them.
fn take_back(to: BorrowedFd<'_>, count: u64) -> Result<(), Errno> {
    let stat = fstat(to)?;
    let end = seek(to, SeekFrom::Current(0))?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    match end.checked_sub(count) {
        Some(start) if is_file && u64::try_from(stat.st_size) == Ok(end) => {
            ftruncate(to, start)?;
            seek(to, SeekFrom::Start(start)).map(drop)
        }
        _ => Ok(()),
    }
}

fn write_some(to: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    when_ready(to, PollFlags::OUT, || rustix::io::write(to, bytes))
}

/// Tries until it is done or fails for another reason than that it would have to wait.
fn when_ready(
    stream: BorrowedFd<'_>,
    ready: PollFlags,
    mut attempt: impl FnMut() -> Result<usize, Errno>,
) -> io::Result<usize> {
    loop {
        match attempt() {
            Ok(count) => return Ok(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&stream, ready)], None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsFd, OwnedFd};

    fn not_blocking(stream: &impl AsFd) {
        let flags = fcntl_getfl(stream).expect("flags");
        rustix::fs::fcntl_setfl(stream, flags | OFlags::NONBLOCK).expect("set");
    }

    #[test]
    fn a_pipe_that_does_not_block_is_waited_for_in_both_directions() {
        let (from, to) = io::pipe().expect("a pipe");
        let (from, to) = (OwnedFd::from(from), OwnedFd::from(to));
        not_blocking(&from);
        not_blocking(&to);
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
        let sent = bytes.clone();
        let writer = std::thread::spawn(move || write_whole(to.as_fd(), &sent));
        let mut got = Vec::new();
        let mut piece = [0; 1000];
        loop {
            let read =
                when_ready(from.as_fd(), PollFlags::IN, || rustix::io::read(&from, &mut piece));
            match read.expect("read") {
                0 => break,
                count => got.extend_from_slice(&piece[..count]),
            }
        }
        writer.join().expect("no panic").expect("written");
        assert!(got == bytes);
    }

    #[test]
    fn half_a_line_is_taken_back_from_a_file_and_nothing_else_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("out");
        for append in [false, true] {
            std::fs::write(&path, "").expect("a file");
            let file = File::options().write(true).append(append).open(&path).expect("opened");
            write_whole(file.as_fd(), b"whole\nhalf").expect("written");
            take_back(file.as_fd(), 4).expect("taken back");
            write_whole(file.as_fd(), b"next\n").expect("written");
            assert_eq!(std::fs::read(&path).expect("read"), b"whole\nnext\n");
            // Another has written behind it: that stays.
            let mut other = File::options().append(true).open(&path).expect("opened");
            other.write_all(b"other\n").expect("written");
            take_back(file.as_fd(), 5).expect("left alone");
            assert_eq!(std::fs::read(&path).expect("read"), b"whole\nnext\nother\n");
        }
        let (_from, to) = io::pipe().expect("a pipe");
        assert!(take_back(to.as_fd(), 1).is_err(), "a pipe keeps what it has");
    }

    #[test]
    fn a_reader_that_has_gone_is_an_error() {
        let (from, to) = io::pipe().expect("a pipe");
        drop(from);
        let error = write_whole(to.as_fd(), b"x").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
