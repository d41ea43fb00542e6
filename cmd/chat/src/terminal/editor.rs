//! The line editor. It has a thread of its own, which alone writes to the terminal: what is printed goes above the line being typed whenever that
//! is drawn, and straight to the terminal between two lines. That thread waits for the keyboard and for nothing else, so that nobody who
//! waits for it can wait for ever.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::termios::Termios;
use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{History as _, MemHistory};
use rustyline::validate::Validator;
use rustyline::{
    ColorMode, CompletionType, Config, Context, Editor, EventHandler, ExternalPrinter as _, Helper,
    KeyEvent,
};
use tokio::sync::mpsc;
use unicode_width::UnicodeWidthStr as _;
use waypost_process::streams;

use super::keys::{ClearScreen, Signs, Suspend, is_passing};
use super::output::{Output, Piece};
use super::screen::{Left, Screen, Size, rewraps, typed_rows, wrapped_row};
use super::{command, keys};
use crate::hub::Hub;

const PROMPT: &str = "> ";
/// Lines of typing that are kept.
const LINES: usize = 500;
/// Lines that were typed and wait to be understood.
const MAX_LINES_AHEAD: usize = 64;
/// Between two attempts to hand over a line, where nothing is to be printed meanwhile.
const HAND_OVER_INTERVAL: Duration = Duration::from_millis(20);
/// Between two words of typing.
const TYPING_INTERVAL: Duration = Duration::from_secs(4);
/// Has the editor draw the line again, and moves nothing: it would end a text without a line break with one.
const CALL: &str = "\x1b[A\n";

/// What comes from the keyboard.
#[derive(Debug)]
pub(crate) enum Input {
    Line(String),
    /// A line of so many bytes, which is more than any line can need.
    TooLong(u64),
    /// Bytes that are no UTF-8 were typed, and left out.
    NoText,
    Typing,
    Interrupted,
    Ended,
}

/// The line being typed.
#[derive(Debug)]
struct Line {
    text: String,
    pos: usize,
    /// Rows that it filled at most; none where that is not certain.
    most_rows: Option<usize>,
    /// A list of completions may stand below it.
    listed: bool,
    /// The terminal's size when the line was drawn last.
    size: Size,
    /// So much of the text filled its rows exactly when all of it was drawn last: the editor has begun the next row by itself.
    broken: Option<usize>,
    /// The rows in which the cursor was before and after the terminal has wrapped the line anew.
    rewrapped: Option<(usize, usize)>,
}

impl Line {
    fn new() -> Self {
        let (most_rows, size) = (Some(1), Size::of_terminal());
        let (text, rewrapped) = (String::new(), None);
        Self { text, pos: 0, most_rows, listed: false, size, broken: None, rewrapped }
    }
}

/// The editor's eyes and ears, and its mouth.
struct Ear {
    hub: Arc<Hub>,
    lines: mpsc::Sender<Input>,
    output: Output,
    screen: RefCell<Screen>,
    line: RefCell<Line>,
    told_typing: Cell<Option<Instant>>,
    begun: Cell<bool>,
    rewraps: bool,
    signs: Signs,
}

impl Ear {
    /// Takes what waits to be printed, as it is written where the line being typed begins.
    fn take(&self) -> String {
        let (mut screen, mut line) = (self.screen.borrow_mut(), self.line.borrow_mut());
        screen.resize(Size::of_terminal());
        if self.signs.moved.swap(false, Ordering::SeqCst) || line.listed {
            screen.forget();
        }
        let columns = PROMPT.len() + line.text.width();
        line.broken = columns.is_multiple_of(line.size.columns.max(1)).then_some(line.text.len());
        let rewrapped = line.rewrapped.take();
        let mut text =
            rewrapped.map_or_else(String::new, |(before, now)| screen.rewrapped(before, now));
        for piece in self.output.take() {
            let shown = match piece {
                Piece::Lines(lines) => screen.print(&lines),
                Piece::Own(number, lines) => screen.print_own(number, &lines),
                Piece::Mark(number, mark, words) => {
                    match (screen.mark(number, &mark, line.most_rows), words) {
                        (Some(shown), _) => shown,
                        (None, Some(words)) => screen.print(&words),
                        (None, None) => continue,
                    }
                }
                Piece::Begun => {
                    self.begun.set(true);
                    continue;
                }
                Piece::End => continue,
            };
            text.push_str(&shown);
        }
        if line.listed {
            // The list may come after this.
            screen.forget();
        }
        text
    }

    /// Prints until all that belongs to the beginning is there.
    fn begin(&self) {
        while !self.begun.get() {
            self.output.wait();
            self.print();
        }
    }

    /// Prints what waits, between two lines.
    fn print(&self) {
        // The terminal may be gone, and the next look at the keyboard tells.
        let _ = streams::Screen.write_all(self.take().as_bytes());
    }

    /// Notes how the line looks that is about to be drawn.
    fn see(&self, text: &str, pos: usize) {
        let size = Size::of_terminal();
        let rows = typed_rows(PROMPT.len(), text, size);
        let mut line = self.line.borrow_mut();
        let before = std::mem::replace(&mut line.size, size);
        if before.columns != size.columns && self.rewraps {
            let row =
                |size| wrapped_row(PROMPT.len(), line.text.get(..line.pos)?, line.broken, size);
            line.rewrapped = row(before).zip(row(size));
        }
        line.most_rows = line.most_rows.zip(rows).map(|(most, rows)| most.max(rows));
        line.pos = pos;
        if line.text != text {
            text.clone_into(&mut line.text);
            self.signs.typed.store(!text.is_empty(), Ordering::SeqCst);
        }
    }

    /// The editor has left its line, and the cursor is below `rows` of it. A message comes again with its time and mark, so that the typed
    /// line goes; a command stays.
    fn leave(&self, rows: Option<usize>, wanted: Left) {
        let line = self.line.replace(Line::new());
        self.signs.typed.store(false, Ordering::SeqCst);
        self.told_typing.set(None);
        let mut screen = self.screen.borrow_mut();
        if line.listed {
            screen.forget();
        }
        let left = rows.map_or(Left::There, |_| wanted);
        if let (Some(rows), Left::Erased) = (rows, left) {
            let erase = format!("\x1b[{rows}A\r\x1b[J");
            let _ = streams::Screen.write_all(erase.as_bytes());
        }
        screen.typed(&format!("{PROMPT}{}", line.text), rows, line.most_rows, left);
    }

    /// Rows of the line being typed, up to this place in it.
    fn rows_to(&self, pos: usize) -> Option<usize> {
        let line = self.line.borrow();
        typed_rows(PROMPT.len(), line.text.get(..pos)?, Size::of_terminal())
    }

    /// Takes the line back that was left in the middle: what stood before the cursor and behind it.
    fn take_back(&self) -> (String, String) {
        let (mut text, pos) = {
            let line = self.line.borrow();
            (line.text.clone(), line.pos.min(line.text.len()))
        };
        self.leave(self.rows_to(pos), Left::Erased);
        let right = text.split_off(pos);
        (text, right)
    }

    /// Hands over what was typed, and prints meanwhile if there is too much of it. False: nobody takes it any more.
    fn hand_over(&self, mut input: Input) -> bool {
        loop {
            input = match self.lines.try_send(input) {
                Ok(()) => return true,
                Err(mpsc::error::TrySendError::Closed(_)) => return false,
                Err(mpsc::error::TrySendError::Full(input)) => input,
            };
            self.output.wait_for(HAND_OVER_INTERVAL);
            self.print();
        }
    }
}

impl Helper for Ear {}

impl Validator for Ear {}

impl Highlighter for Ear {
    /// Called whenever the line is drawn, when the cursor is where it begins and its old rows are gone.
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(
        &'s self,
        prompt: &'p str,
        default: bool,
    ) -> Cow<'b, str> {
        if !default {
            // A search has a prompt of its own.
            self.line.borrow_mut().most_rows = None;
        }
        match self.take() {
            text if text.is_empty() => Cow::Borrowed(prompt),
            text => Cow::Owned(text + prompt),
        }
    }
}

impl Hinter for Ear {
    type Hint = String;

    /// Called whenever the line has changed.
    fn hint(&self, line: &str, pos: usize, _context: &Context<'_>) -> Option<String> {
        self.see(line, pos);
        let last = self.told_typing.get();
        if !line.is_empty()
            && !line.starts_with('/')
            && last.is_none_or(|at| at.elapsed() >= TYPING_INTERVAL)
        {
            self.told_typing.set(Some(Instant::now()));
            // Nobody misses it.
            let _ = self.lines.try_send(Input::Typing);
        }
        None
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
            return Ok(self.listing(4, fitting.map(|node| pair(format!("{node} "))).collect()));
        }
        let fitting = command::NAMES
            .into_iter()
            .filter(|name| typed.starts_with('/') && name.starts_with(typed));
        Ok(self.listing(0, fitting.map(|name| pair(name.to_owned())).collect()))
    }
}

impl Ear {
    fn listing(&self, start: usize, pairs: Vec<Pair>) -> (usize, Vec<Pair>) {
        if pairs.len() > 1 {
            self.line.borrow_mut().listed = true;
        }
        (start, pairs)
    }
}

/// Keyboard and screen; they end with the program.
pub(crate) struct Console {
    pub(crate) input: mpsc::Receiver<Input>,
    pub(crate) output: Output,
}

/// Starts editing and printing in the terminal that was found like this.
///
/// # Errors
/// This terminal cannot be edited on.
pub(crate) fn start(
    hub: Arc<Hub>,
    earlier: Vec<String>,
    before: &Termios,
    signs: Signs,
) -> rustyline::Result<Console> {
    let config = Config::builder()
        // The highlighter, which prints, is asked with colours alone. It adds none.
        .color_mode(ColorMode::Forced)
        .completion_type(CompletionType::List)
        .max_history_size(LINES)?
        .build();
    let mut editor: Editor<Ear, MemHistory> =
        Editor::with_history(config.clone(), MemHistory::with_config(&config))?;
    for line in earlier {
        editor.history_mut().add(&line)?;
    }
    let mut printer = editor.create_external_printer()?;
    let suspend = Suspend { before: before.clone(), signs: signs.clone() };
    editor.bind_sequence(KeyEvent::ctrl('Z'), EventHandler::Conditional(Box::new(suspend)));
    let clear = ClearScreen { signs: signs.clone() };
    editor.bind_sequence(KeyEvent::ctrl('L'), EventHandler::Conditional(Box::new(clear)));
    let (lines, input) = mpsc::channel(MAX_LINES_AHEAD);
    let output = Output::default();
    editor.set_helper(Some(Ear {
        hub,
        lines,
        output: output.clone(),
        screen: RefCell::new(Screen::new(Size::of_terminal())),
        line: RefCell::new(Line::new()),
        told_typing: Cell::new(None),
        begun: Cell::new(false),
        rewraps: rewraps(),
        signs,
    }));
    keys::be_quiet(before);
    let console = Console { input, output: output.clone() };
    std::thread::spawn(move || {
        if let Some(ear) = editor.helper() {
            ear.begin();
        }
        let calls = output.clone();
        std::thread::spawn(move || {
            // What is printed was taken by then, or is when the next line is begun.
            loop {
                calls.wait();
                if printer.print(CALL.to_owned()).is_err() {
                    return;
                }
            }
        });
        edit(&mut editor);
        // There may be something to say yet.
        while let Some(ear) = editor.helper() {
            output.wait_for(HAND_OVER_INTERVAL);
            ear.print();
        }
    });
    Ok(console)
}

/// Reads lines until there are no more.
fn edit(editor: &mut Editor<Ear, MemHistory>) {
    let mut kept = (String::new(), String::new());
    loop {
        let result = editor.readline_with_initial(PROMPT, (&kept.0, &kept.1));
        kept = (String::new(), String::new());
        let Some(ear) = editor.helper() else { return };
        let input = match &result {
            Ok(line) => {
                ear.see(line, line.len());
                let wanted = if line.starts_with('/') { Left::There } else { Left::Erased };
                ear.leave(ear.rows_to(line.len()), wanted);
                Input::Line(line.clone())
            }
            Err(ReadlineError::Interrupted) => {
                let end = ear.line.borrow().text.len();
                ear.leave(ear.rows_to(end), Left::There);
                Input::Interrupted
            }
            Err(error) if is_passing(error) => {
                kept = ear.take_back();
                match error {
                    ReadlineError::Signal(_) => continue,
                    _ => Input::NoText,
                }
            }
            // The end of the input, or the terminal is gone.
            Err(_) => Input::Ended,
        };
        let ended = matches!(input, Input::Ended);
        if !ear.hand_over(input) || ended {
            return;
        }
        if let Ok(line) = result
            && !line.trim().is_empty()
        {
            // Full, or the same as the last one.
            let _ = editor.add_history_entry(line);
        }
    }
}
