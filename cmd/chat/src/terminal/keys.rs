//! Keys that do something to the terminal itself, and its state between two lines.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Signal, kill_current_process_group};
use rustix::stdio::stdin;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use rustyline::error::ReadlineError;
use rustyline::{Cmd, ConditionalEventHandler, Event, EventContext, RepeatCount};

/// A signal to all threads may come to another one first.
const UNTIL_STOPPED: Duration = Duration::from_millis(50);

/// What the keys' handlers and the end of the program know of the editor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Signs {
    /// Something else was done to the screen.
    pub(super) moved: Arc<AtomicBool>,
    /// There is something in the line.
    pub(super) typed: Arc<AtomicBool>,
}

/// Has what is typed between two lines wait for the next one, not shown, as it was typed, and Ctrl-C with it.
pub(super) fn be_quiet(before: &Termios) {
    let mut quiet = before.clone();
    quiet.local_modes &=
        !(LocalModes::ECHO | LocalModes::ICANON | LocalModes::IEXTEN | LocalModes::ISIG);
    quiet.input_modes &= !(InputModes::ICRNL | InputModes::IXON);
    quiet.special_codes[SpecialCodeIndex::VMIN] = 1;
    quiet.special_codes[SpecialCodeIndex::VTIME] = 0;
    // The terminal may be gone, and the first look at the keyboard tells.
    let _ = tcsetattr(stdin(), OptionalActions::Drain, &quiet);
}

/// Ctrl-L: what was on the screen is there no more.
pub(super) struct ClearScreen {
    pub(super) signs: Signs,
}

impl ConditionalEventHandler for ClearScreen {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        self.signs.moved.store(true, Ordering::SeqCst);
        Some(Cmd::ClearScreen)
    }
}

/// Ctrl-Z: the shell gets the terminal as it was found.
pub(super) struct Suspend {
    pub(super) before: Termios,
    pub(super) signs: Signs,
}

impl ConditionalEventHandler for Suspend {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, _: &EventContext<'_>) -> Option<Cmd> {
        let editing = tcgetattr(stdin()).ok()?;
        tcsetattr(stdin(), OptionalActions::Drain, &self.before).ok()?;
        if kill_current_process_group(Signal::TSTP).is_ok() {
            std::thread::sleep(UNTIL_STOPPED);
        }
        self.signs.moved.store(true, Ordering::SeqCst);
        let _ = tcsetattr(stdin(), OptionalActions::Drain, &editing);
        Some(Cmd::Repaint)
    }
}

/// What ends a line, but not the terminal: its size has changed at a bad moment, or a byte is no UTF-8.
pub(super) fn is_passing(error: &ReadlineError) -> bool {
    match error {
        ReadlineError::Signal(_) => true,
        ReadlineError::Io(error) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::Interrupted)
        }
        _ => false,
    }
}
