//! The chat in a terminal, or on standard input and output.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::sync::mpsc;

use crate::hub::{Hub, Notice};
use crate::room::{Content, MAX_TEXT_BYTES};

mod command;
mod editor;
mod paint;
mod reports;
mod screen;
mod session;

use editor::{Console, Input, Piece};
use paint::Colours;
use session::Session;

/// Messages that are shown at the start.
const SHOWN_AT_START: usize = 10;
/// Own texts that the arrow keys bring back.
const LINES_TO_RECALL: usize = 100;
/// What is read within this time is told together.
const READ_DELAY: Duration = Duration::from_millis(300);
/// A longer line cannot be a message.
const MAX_LINE_BYTES: u64 = MAX_TEXT_BYTES as u64 + 1024;

/// Why the conversation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The user leaves.
    Quit,
    /// There is no more input, and there is nobody at a terminal.
    InputEnded,
}

/// What comes after the end of the input where there is no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    Stop,
    GoOn,
}

/// The terminal as it was found.
pub(crate) struct Terminal {
    before: Option<Termios>,
    colours: Colours,
}

impl Terminal {
    /// The one that this process runs in.
    pub(crate) fn here() -> Self {
        let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let before = both.then(|| tcgetattr(rustix::stdio::stdin()).ok()).flatten();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colours = if before.is_some() && !no_color { Colours::On } else { Colours::Off };
        Self { before, colours }
    }

    /// Leaves it as it was found, whatever the line editor was doing.
    pub(crate) fn restore(&self) {
        if let Some(before) = &self.before {
            // It may be gone.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
            let mut out = std::io::stdout().lock();
            let _ = out.write_all(b"\x1b[?2004l\r\x1b[K").and_then(|()| out.flush());
        }
    }

    /// Converses until the user leaves or the input ends; with `After::GoOn`, goes on showing what happens after that.
    ///
    /// # Errors
    /// Nothing can be written any more.
    pub(crate) async fn run(
        &self,
        hub: Arc<Hub>,
        greeting: Option<String>,
        after: After,
    ) -> anyhow::Result<End> {
        let earlier = hub.last(LINES_TO_RECALL * 10).into_iter();
        let own = earlier.filter(|post| post.key.sender == *hub.me());
        let texts = own.filter_map(|post| match post.content {
            Content::Text(text) if !text.contains('\n') => Some(text),
            _ => None,
        });
        let texts: Vec<_> = texts.collect();
        let recalled = texts[texts.len().saturating_sub(LINES_TO_RECALL)..].to_vec();
        let console = match &self.before {
            Some(_) => editor::start(hub.clone(), recalled).ok(),
            None => None,
        };
        let interactive = console.is_some();
        let Console { input, output } = console.unwrap_or_else(plain);
        let session = Session::new(hub, output, self.colours, interactive);
        converse(session, input, greeting, after).await
    }
}

async fn converse(
    mut session: Session,
    mut input: mpsc::Receiver<Input>,
    greeting: Option<String>,
    after: After,
) -> anyhow::Result<End> {
    let mut notices = session.hub().notices();
    session.begin(SHOWN_AT_START, greeting).await?;
    let mut interrupted = false;
    let mut input_open = true;
    let mut read_at = None;
    loop {
        let reading = async {
            match read_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            typed = input.recv(), if input_open => match typed {
                Some(Input::Line(line)) => {
                    interrupted = false;
                    if session.enter(&line).await? {
                        return Ok(End::Quit);
                    }
                }
                Some(Input::Typing) => {
                    let hub = session.hub().clone();
                    tokio::spawn(async move { hub.tell_typing(true).await });
                }
                Some(Input::Interrupted) if interrupted => return Ok(End::Quit),
                Some(Input::Interrupted) => {
                    interrupted = true;
                    session.say("press Ctrl-C once more, or enter /quit, to leave").await?;
                }
                Some(Input::Ended) | None if session.is_interactive() => return Ok(End::Quit),
                Some(Input::Ended) | None if after == After::GoOn => input_open = false,
                Some(Input::Ended) | None => return Ok(End::InputEnded),
            },
            notice = notices.recv() => match notice {
                Ok(notice) => {
                    let is_new = matches!(notice, Notice::Said(_));
                    session.show(notice).await?;
                    if is_new && session.is_interactive() {
                        read_at.get_or_insert_with(|| tokio::time::Instant::now() + READ_DELAY);
                    }
                }
                Err(tokio::sync::broadcast::error::RecvError::Lagged(missed)) => {
                    session.say(&format!("{missed} notices came too fast to show; /history has the messages")).await?;
                }
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return Ok(End::Quit),
            },
            () = reading => {
                read_at = None;
                session.tell_read().await;
            }
        }
    }
}

/// Lines from standard input, and to standard output.
fn plain() -> Console {
    let (lines, input) = mpsc::channel(64);
    let (output, mut pieces) = mpsc::channel(256);
    tokio::spawn(async move {
        let mut stdin = BufReader::new(tokio::io::stdin());
        loop {
            let mut line = Vec::new();
            let mut read = (&mut stdin).take(MAX_LINE_BYTES).read_until(b'\n', &mut line).await;
            let mut rest = Vec::new();
            while matches!(read, Ok(1..))
                && line.len() as u64 == MAX_LINE_BYTES
                && !rest.ends_with(b"\n")
            {
                // What is too long is refused as a whole.
                rest.clear();
                read = (&mut stdin).take(MAX_LINE_BYTES).read_until(b'\n', &mut rest).await;
            }
            let input = match read {
                Ok(_) if !line.is_empty() => {
                    Input::Line(String::from_utf8_lossy(&line).into_owned())
                }
                _ => Input::Ended,
            };
            let ended = matches!(input, Input::Ended);
            if lines.send(input).await.is_err() || ended {
                return;
            }
        }
    });
    std::thread::spawn(move || {
        while let Some(piece) = pieces.blocking_recv() {
            let text = match piece {
                Piece::Lines(text) | Piece::Own(_, text) | Piece::Mark(_, _, Some(text)) => text,
                Piece::Mark(..) | Piece::Typed(_) => continue,
            };
            let mut out = std::io::stdout().lock();
            if writeln!(out, "{text}").and_then(|()| out.flush()).is_err() {
                // Nobody reads any more, and whoever sends the next piece learns it.
                return;
            }
        }
    });
    Console { input, output }
}
