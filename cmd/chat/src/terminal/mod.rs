//! The chat in a terminal, or on standard input and output.

use std::io::Write as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;
use waypost_process::streams;

use crate::hub::Hub;
use crate::room::Content;

mod command;
mod editor;
mod keys;
mod log;
mod outgoing;
mod output;
mod paint;
mod plain;
mod reports;
mod screen;
mod session;

use editor::{Console, Input};
use keys::Signs;
pub(crate) use log::Log;
use paint::Colours;
use session::Session;

/// Messages that are shown at the start.
const SHOWN_AT_START: usize = 10;
/// Own texts that the arrow keys bring back.
const LINES_TO_RECALL: usize = 100;
/// What is read within this time is told together.
const READ_DELAY: Duration = Duration::from_millis(300);
/// Where nobody reads the output any more: the input ends when nothing came for so long.
const LAST_INPUT: Duration = Duration::from_secs(1);
/// Said of it then.
const GONE: &str = "nobody reads it any more";
/// A terminal that takes nothing for so long after the end is left alone.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the terminal gets to take the last bytes.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Why the conversation has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// The user leaves.
    Quit,
    /// There is no more input, and there is nobody at a terminal; so many lines could not be done, and why nothing could be shown any more.
    InputEnded { not_done: u64, unshown: Option<String> },
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
    signs: Signs,
    log: Log,
}

impl Terminal {
    /// The one that this process runs in.
    pub(crate) fn here() -> Self {
        let both = streams::input_is_terminal() && streams::output_is_terminal();
        if both {
            streams::own_terminals();
        }
        let before = both.then(|| tcgetattr(rustix::stdio::stdin()).ok()).flatten();
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let no_color = is_dumb || !streams::has_colour();
        let colours = if before.is_some() && !no_color { Colours::On } else { Colours::Off };
        Self { before, colours, signs: Signs::default(), log: Log::default() }
    }

    /// Where log lines go, so that they do not tear the line being typed.
    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }

    /// Leaves it as it was found, whatever the line editor was doing.
    pub(crate) fn restore(&self) {
        if let Some(before) = &self.before {
            // It may be gone.
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before);
            // A line that nobody will read stays on the screen; a prompt alone goes.
            let end: &[u8] = match self.signs.typed.load(Ordering::SeqCst) {
                true => b"\x1b[?2004l\r\n\x1b[J",
                false => b"\x1b[?2004l\r\x1b[J",
            };
            let (written, is_written) = std::sync::mpsc::channel();
            let write = move || {
                let _ = streams::Screen.write_all(end);
                let _ = written.send(());
            };
            // The terminal may take nothing any more, and whoever prints hold it: that is no reason to go on running.
            if std::thread::Builder::new().spawn(write).is_ok() {
                let _ = is_written.recv_timeout(LAST_WORD);
            }
        }
    }

    /// Converses until the user leaves or the input ends; with `After::GoOn`, goes on showing what happens after that.
    pub(crate) async fn run(&self, hub: Arc<Hub>, greeting: Option<String>, after: After) -> End {
        let earlier = hub.last(LINES_TO_RECALL * 10).into_iter();
        let own = earlier.filter(|post| post.key.sender == *hub.me());
        let texts = own.filter_map(|post| match post.content {
            Content::Text(text) if !text.contains('\n') => Some(text),
            _ => None,
        });
        let texts: Vec<_> = texts.collect();
        let recalled = texts[texts.len().saturating_sub(LINES_TO_RECALL)..].to_vec();
        let console = self.before.as_ref().and_then(|before| {
            editor::start(hub.clone(), recalled, before, self.signs.clone()).ok()
        });
        let interactive = console.is_some();
        let Console { input, output } = console.unwrap_or_else(plain::start);
        let _diverted = interactive.then(|| self.log.divert(&output));
        let session = Session::new(hub, output.clone(), self.colours, interactive);
        let end = converse(session, input, greeting, after).await;
        match interactive {
            // It may have stopped taking anything.
            true => drop(tokio::time::timeout(FAREWELL, output.finish()).await),
            false => output.finish().await,
        }
        end
    }
}

impl Drop for Terminal {
    /// A panic leaves it as it was found, too.
    fn drop(&mut self) {
        self.restore();
    }
}

async fn converse(
    mut session: Session,
    mut input: mpsc::Receiver<Input>,
    greeting: Option<String>,
    after: After,
) -> End {
    let mut notices = session.hub().notices();
    session.begin(SHOWN_AT_START, greeting).await;
    // A terminal that is gone ends the input.
    let mut abandoned = pin!(streams::abandoned());
    let mut idle_at = None;
    let mut interrupted = false;
    let mut input_open = true;
    let mut read_at = None;
    let until = async |at| match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    };
    loop {
        tokio::select! {
            typed = input.recv(), if input_open => match typed {
                Some(Input::Ended) | None if session.is_interactive() => return End::Quit,
                Some(Input::Ended) | None if after == After::GoOn => input_open = false,
                Some(Input::Ended) | None => {
                    return End::InputEnded {
                        not_done: session.not_done(),
                        unshown: session.unshown(),
                    };
                }
                Some(Input::Interrupted) if interrupted => return End::Quit,
                Some(typed) => {
                    if !matches!(typed, Input::Typing) {
                        interrupted = matches!(typed, Input::Interrupted);
                    }
                    if session.take(typed).await {
                        return End::Quit;
                    }
                    idle_at = idle_at.map(|_| Instant::now() + LAST_INPUT);
                }
            },
            notice = notices.recv() => {
                match notice {
                    Ok(notice) => session.show(notice).await,
                    Err(RecvError::Lagged(_)) => session.catch_up().await,
                    Err(RecvError::Closed) => return End::Quit,
                }
                if session.is_interactive() && session.has_unread() && read_at.is_none() {
                    read_at = Some(Instant::now() + READ_DELAY);
                }
            }
            () = until(read_at) => {
                read_at = None;
                session.tell_read().await;
            }
            // Nobody sees the conversation. What is there to be said is said, and then it ends; with its page on it goes on.
            () = &mut abandoned, if after == After::Stop && !session.is_interactive() && idle_at.is_none() => {
                idle_at = Some(Instant::now() + LAST_INPUT);
            }
            () = until(idle_at) => {
                return End::InputEnded { not_done: session.not_done(), unshown: Some(GONE.to_owned()) };
            }
        }
    }
}
