//! The line editor in a thread of its own, and the thread that prints above the line being typed.

use std::borrow::Cow;
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{History as _, MemHistory};
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, CompletionType, Config, Context, Editor, ExternalPrinter, Helper};
use tokio::sync::mpsc;

use super::command;
use super::screen::{Screen, Size, typed_rows};
use crate::hub::Hub;

const PROMPT: &str = "> ";
/// Lines of typing that are kept.
const LINES: usize = 500;
/// The printer is never that slow; it may be waiting for the editor.
const PRINTER_WAIT: Duration = Duration::from_millis(50);
/// Between two words of typing.
const TYPING_INTERVAL: Duration = Duration::from_secs(4);

/// What comes from the keyboard.
#[derive(Debug)]
pub(crate) enum Input {
    Line(String),
    Typing,
    Interrupted,
    Ended,
}

/// What is printed above the line being typed.
#[derive(Debug)]
pub(crate) enum Piece {
    Lines(String),
    /// An own message, by its number.
    Own(usize, String),
    /// The mark of an own message: in its columns, and in words for where they cannot be reached.
    Mark(usize, String, Option<String>),
    /// The editor has left a line of so many rows on the screen.
    Typed(usize),
}

/// Prints go through the editor while it edits, and straight to the terminal otherwise. This keeps them from the moments in which it
/// begins or ends, and its line would be torn.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    /// A line was entered: nothing may be printed until the next one is begun.
    entered: AtomicBool,
}

#[derive(Debug, Default)]
struct GateState {
    editing: bool,
    printing: bool,
}

impl Gate {
    fn open(&self) {
        if !self.entered.load(Ordering::SeqCst) {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).editing = true;
            self.changed.notify_all();
        }
    }

    fn close(&self) {
        self.entered.store(true, Ordering::SeqCst);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.editing = false;
        // A printer that waits for the editor to take a piece would wait for ever: the next line takes it.
        drop(self.changed.wait_timeout_while(state, PRINTER_WAIT, |state| state.printing));
    }

    fn print(&self, print: impl FnOnce()) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(state, |state| !state.editing);
        waited.unwrap_or_else(PoisonError::into_inner).printing = true;
        print();
        self.state.lock().unwrap_or_else(PoisonError::into_inner).printing = false;
        self.changed.notify_all();
    }
}

/// The editor's eyes and ears.
struct Ear {
    gate: Arc<Gate>,
    hub: Arc<Hub>,
    input: mpsc::Sender<Input>,
    typed: Mutex<Option<Instant>>,
}

impl Helper for Ear {}

impl Highlighter for Ear {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        Cow::Borrowed(line)
    }
}

impl Hinter for Ear {
    type Hint = String;

    /// Called whenever the line is shown, and so a sign that it is.
    fn hint(&self, line: &str, _pos: usize, _context: &Context<'_>) -> Option<String> {
        self.gate.open();
        if !line.is_empty() && !line.starts_with('/') {
            let mut typed = self.typed.lock().unwrap_or_else(PoisonError::into_inner);
            if typed.is_none_or(|at| at.elapsed() >= TYPING_INTERVAL) {
                *typed = Some(Instant::now());
                // Nobody misses it.
                let _ = self.input.try_send(Input::Typing);
            }
        }
        None
    }
}

impl Validator for Ear {
    fn validate(
        &self,
        _context: &mut ValidationContext<'_>,
    ) -> rustyline::Result<ValidationResult> {
        self.gate.close();
        *self.typed.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(ValidationResult::Valid(None))
    }
}

impl Completer for Ear {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        pos: usize,
        _context: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = &line[..pos];
        let pair = |text: String| Pair { display: text.trim().to_owned(), replacement: text };
        if let Some(begun) = typed.strip_prefix("/to ") {
            let nodes = self.hub.online().into_iter().map(|node| node.as_str().to_owned());
            let fitting = nodes.filter(|node| node.starts_with(begun));
            return Ok((4, fitting.map(|node| pair(format!("{node} "))).collect()));
        }
        let fitting = command::NAMES
            .into_iter()
            .filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok((0, fitting.map(|name| pair(name.to_owned())).collect()))
    }
}

/// Keyboard and screen; they end with the program.
pub(crate) struct Console {
    pub(crate) input: mpsc::Receiver<Input>,
    pub(crate) output: mpsc::Sender<Piece>,
}

/// Starts editing and printing.
///
/// # Errors
/// This terminal cannot be edited on.
pub(crate) fn start(hub: Arc<Hub>, earlier: Vec<String>) -> rustyline::Result<Console> {
    let config = Config::builder()
        .color_mode(ColorMode::Disabled)
        .completion_type(CompletionType::List)
        .max_history_size(LINES)?
        .build();
    let mut editor: Editor<Ear, MemHistory> =
        Editor::with_history(config.clone(), MemHistory::with_config(&config))?;
    for line in earlier {
        editor.history_mut().add(&line)?;
    }
    let mut printer = editor.create_external_printer()?;
    let (lines, input) = mpsc::channel(64);
    let (output, mut pieces) = mpsc::channel(256);
    let gate = Arc::new(Gate::default());
    let ear = Ear { gate: gate.clone(), hub, input: lines.clone(), typed: Mutex::new(None) };
    editor.set_helper(Some(ear));
    let printing = gate.clone();
    std::thread::spawn(move || {
        let mut screen = Screen::new(size());
        while let Some(piece) = pieces.blocking_recv() {
            screen.resize(size());
            let text = match piece {
                Piece::Lines(text) => screen.print(&text),
                Piece::Own(number, text) => screen.print_own(number, &text),
                Piece::Typed(rows) => {
                    screen.typed(rows);
                    continue;
                }
                Piece::Mark(number, mark, words) => match (screen.mark(number, &mark), words) {
                    (Some(text), _) => text,
                    (None, Some(words)) => screen.print(&words),
                    (None, None) => continue,
                },
            };
            printing.print(|| {
                // The terminal may be gone, and the program is about to learn that.
                let _ = printer.print(text);
            });
        }
    });
    let typed = output.clone();
    std::thread::spawn(move || edit(&mut editor, &gate, &lines, &typed));
    Ok(Console { input, output })
}

fn edit(
    editor: &mut Editor<Ear, MemHistory>,
    gate: &Gate,
    lines: &mpsc::Sender<Input>,
    output: &mpsc::Sender<Piece>,
) {
    loop {
        gate.entered.store(false, Ordering::SeqCst);
        let result = editor.readline(PROMPT);
        gate.close();
        let input = match result {
            Ok(line) => {
                leave(&line, output);
                if !line.trim().is_empty() {
                    // Full, or the same as the last one.
                    let _ = editor.add_history_entry(line.as_str());
                }
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => {
                leave("/", output);
                Input::Interrupted
            }
            Err(_) => Input::Ended,
        };
        let ended = matches!(input, Input::Ended);
        if lines.blocking_send(input).is_err() || ended {
            return;
        }
    }
}

/// A message comes again with its time and mark, so that the typed line goes; a command stays.
fn leave(line: &str, output: &mpsc::Sender<Piece>) {
    match typed_rows(PROMPT.len(), line, size()) {
        Some(rows) if !line.starts_with('/') => {
            let mut out = std::io::stdout().lock();
            let _ = write!(out, "\x1b[{rows}A\r\x1b[J").and_then(|()| out.flush());
        }
        rows => {
            // The program is ending if nobody prints any more.
            let _ = output.blocking_send(Piece::Typed(rows.unwrap_or(1)));
        }
    }
}

fn size() -> Size {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
    let (columns, rows) = size.map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
    match (columns, rows) {
        (0, _) | (_, 0) => Size { columns: 80, rows: 24 },
        (columns, rows) => Size { columns, rows },
    }
}
