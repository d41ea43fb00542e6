//! The chat in a terminal, or on standard input and output.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::Instant;

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
/// A terminal that takes nothing for so long after the end is left alone.
const FAREWELL: Duration = Duration::from_secs(2);
/// How long the terminal gets to take the last bytes.
const LAST_WORD: Duration = Duration::from_millis(200);

/// Why the conversation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The user leaves.
    Quit,
    /// There is no more input, and there is nobody at a terminal; so many lines could not be done.
    InputEnded { not_done: u64 },
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
        let both = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let before = both.then(|| tcgetattr(rustix::stdio::stdin()).ok()).flatten();
        let is_dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let no_color =
            is_dumb || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
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
                let mut out = std::io::stdout().lock();
                let _ = out.write_all(end).and_then(|()| out.flush());
                let _ = written.send(());
            };
            // The terminal may take nothing any more, and whoever prints hold it: that is no reason to go on running.
            if std::thread::Builder::new().spawn(write).is_ok() {
                let _ = is_written.recv_timeout(LAST_WORD);
            }
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
                Some(Input::Ended) | None if session.is_interactive() => return Ok(End::Quit),
                Some(Input::Ended) | None if after == After::GoOn => input_open = false,
                Some(Input::Ended) | None => {
                    return Ok(End::InputEnded { not_done: session.not_done() });
                }
                Some(Input::Interrupted) if interrupted => return Ok(End::Quit),
                Some(typed) => {
                    if !matches!(typed, Input::Typing) {
                        interrupted = matches!(typed, Input::Interrupted);
                    }
                    if session.take(typed).await? {
                        return Ok(End::Quit);
                    }
                }
            },
            notice = notices.recv() => {
                match notice {
                    Ok(notice) => session.show(notice).await?,
                    Err(RecvError::Lagged(_)) => session.catch_up().await?,
                    Err(RecvError::Closed) => return Ok(End::Quit),
                }
                if session.is_interactive() && session.has_unread() && read_at.is_none() {
                    read_at = Some(Instant::now() + READ_DELAY);
                }
            }
            () = reading => {
                read_at = None;
                session.tell_read().await;
            }
        }
    }
}
