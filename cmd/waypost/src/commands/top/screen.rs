//! The terminal, taken and given back.

use std::io;
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use crossterm::cursor::Show;
use ratatui::DefaultTerminal;
use rustix::stdio::stdout;
use rustix::termios::{Action, QueueSelector, tcflow, tcflush};

use super::draw;
use super::view::View;
use super::watching::Watch;
use waypost_process::{Signals, streams};

/// How long a terminal gets to take what gives it back.
const GIVING_BACK: Duration = Duration::from_secs(1);

/// The whole terminal, without echo and with a screen of its own. Given back when dropped, before a panic is told, and before a second signal ends
/// the program.
pub(super) struct Screen {
    terminal: DefaultTerminal,
    color: bool,
    signals: Signals,
}

impl Screen {
    /// # Errors
    /// It is no terminal that can do this.
    pub(super) fn open(signals: Signals) -> io::Result<Self> {
        streams::own_terminals();
        // Before anything is written: a terminal that nobody reads may hold up even that.
        signals.before_exit(give_back_at_once);
        let terminal = ratatui::try_init().inspect_err(|_| {
            // It was never ours, or not all of it.
            let _ = ratatui::try_restore();
            signals.exit_at_once();
        })?;
        Ok(Self { terminal, color: streams::has_colour(), signals })
    }

    pub(super) fn draw(&mut self, watched: &Watch, view: &mut View) -> io::Result<()> {
        let color = self.color;
        self.terminal.draw(|frame| {
            let area = frame.area();
            draw::whole(frame.buffer_mut(), area, watched, view, SystemTime::now());
            if !color {
                draw::without_color(frame.buffer_mut());
            }
        })?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = self.terminal.show_cursor();
        let _ = ratatui::try_restore();
        self.signals.exit_at_once();
    }
}

/// Gives the terminal back where a drawing is stuck in it, because nobody reads it. What it has not taken of that is thrown away, which lets the
/// drawing go on, and then what gives it back.
fn give_back_at_once() {
    // Nothing of this can be told to anybody.
    let _ = tcflush(stdout(), QueueSelector::OFlush);
    // That alone wakes nobody who waits for room.
    let _ = tcflow(stdout(), Action::OOff);
    let _ = tcflow(stdout(), Action::OOn);
    let (done, given_back) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = ratatui::try_restore();
        let _ = crossterm::execute!(streams::Screen, Show);
        let _ = done.send(());
    });
    let _ = given_back.recv_timeout(GIVING_BACK);
}
