//! Where on the terminal this node's own messages are, so that their marks can change in place while the line being typed stays below.

use std::collections::VecDeque;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::paint::MARK_AT;

/// Own messages whose place is known.
const MAX_PLACES: usize = 200;
/// Lines that are printed again where the editor has taken them away.
const LAST_LINES: usize = 16;

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

impl Size {
    /// Of the terminal on standard output, now.
    pub(crate) fn of_terminal() -> Self {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout());
        let (columns, rows) = size.map_or((0, 0), |size| (size.ws_col.into(), size.ws_row.into()));
        match (columns, rows) {
            (0, _) | (_, 0) => Self { columns: 80, rows: 24 },
            (columns, rows) => Self { columns, rows },
        }
    }
}

/// Whether the terminal wraps long lines anew when its size changes. Most do.
pub(crate) fn rewraps() -> bool {
    let is_set = |name| std::env::var_os(name).is_some();
    let term = std::env::var("TERM").unwrap_or_default();
    // Within tmux it does, wherever that runs; `STY` is set by GNU screen.
    let does_not = is_set("XTERM_VERSION") || is_set("STY");
    is_set("TMUX") || !(does_not || term.starts_with("linux") || term.starts_with("rxvt"))
}

/// Counts rows.
#[derive(Debug)]
pub(crate) struct Screen {
    size: Size,
    /// Rows printed so far; the cursor stands at the beginning of the next.
    row: usize,
    places: VecDeque<(usize, usize)>,
    /// Rows by which the cursor may stand above the last one on a screen that is full: those of longer lines that were erased.
    lifted: usize,
    /// The lines printed last.
    last: VecDeque<String>,
}

/// What became of a line that was typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    There,
    Erased,
}

impl Screen {
    pub(crate) fn new(size: Size) -> Self {
        Self { size, row: 0, places: VecDeque::new(), lifted: 0, last: VecDeque::new() }
    }

    /// After this every place is known by the terminal's new size only.
    pub(crate) fn resize(&mut self, size: Size) {
        if size != self.size {
            self.size = size;
            self.forget();
        }
    }

    /// What prints these lines.
    pub(crate) fn print(&mut self, text: &str) -> String {
        let before = self.row;
        for line in text.split('\n') {
            if self.is_uncertain(line) {
                // Terminals do not agree on how many rows this fills.
                self.forget();
            }
            self.row += self.rows(line);
            self.keep(line);
        }
        self.lifted = self.lifted.saturating_sub(self.row - before);
        format!("{text}\n")
    }

    fn rows(&self, line: &str) -> usize {
        width(line).div_ceil(self.size.columns.max(1)).max(1)
    }

    fn keep(&mut self, line: &str) {
        self.last.push_back(line.to_owned());
        if self.last.len() > LAST_LINES {
            self.last.pop_front();
        }
    }

    /// What mends the screen of a terminal that has wrapped all lines anew. The editor, which does not know, has taken the line being typed away
    /// as if the cursor was still in its row `before`, while it is in row `now`.
    pub(crate) fn rewrapped(&self, before: usize, now: usize) -> String {
        let too_few = now.saturating_sub(before);
        if too_few > 0 {
            return format!("\x1b[{too_few}A\x1b[J");
        }
        let too_many = before.saturating_sub(now);
        let mut rows = 0;
        let mut again = VecDeque::new();
        for line in self.last.iter().rev() {
            if rows >= too_many {
                break;
            }
            rows += self.rows(line);
            again.push_front(format!("{line}\n"));
        }
        let up = match rows.saturating_sub(too_many) {
            0 => String::new(),
            more => format!("\x1b[{more}A\x1b[J"),
        };
        again.into_iter().fold(up, |text, line| text + &line)
    }

    /// The same for the message with this number, whose mark may change.
    pub(crate) fn print_own(&mut self, number: usize, text: &str) -> String {
        let row = self.row;
        let printed = self.print(text);
        if !text.split('\n').any(|line| self.is_uncertain(line)) {
            self.places.push_back((number, row));
        }
        if self.places.len() > MAX_PLACES {
            self.places.pop_front();
        }
        printed
    }

    /// Whether terminals may disagree on how many rows this fills.
    fn is_uncertain(&self, line: &str) -> bool {
        width(line) * 2 > self.size.columns && !line.is_ascii() && is_uncertain(line)
    }

    /// Takes note of the line being typed, which filled `rows` when the editor left it and at most `most` before; what is not certain is
    /// `None`.
    pub(crate) fn typed(
        &mut self,
        text: &str,
        rows: Option<usize>,
        most: Option<usize>,
        left: Left,
    ) {
        if left == Left::There {
            text.split('\n').for_each(|line| self.keep(line));
        }
        let (Some(rows), Some(most)) = (rows, most) else { return self.forget() };
        let lifted = self.lifted.max(most.saturating_sub(1));
        match left {
            Left::There => {
                self.row += rows;
                self.lifted = lifted.saturating_sub(rows);
            }
            Left::Erased => self.lifted = lifted.max(rows),
        }
    }

    /// Something else has moved what is on the screen: no place is known any more.
    pub(crate) fn forget(&mut self) {
        self.places.clear();
        self.lifted = 0;
    }

    /// What changes this message's mark, printed where the line being typed begins, of which so many rows were on the screen at most. None
    /// where the mark cannot be reached any more, or that number is not certain.
    pub(crate) fn mark(&self, number: usize, mark: &str, typed: Option<usize>) -> Option<String> {
        let (_, row) = self.places.iter().rfind(|(known, _)| *known == number)?;
        let up = self.row - row;
        if up + self.lifted.max(typed?.saturating_sub(1)) >= self.size.rows {
            return None;
        }
        let down = match up {
            0 => return None,
            1 => String::new(),
            up => format!("\x1b[{}B", up - 1),
        };
        Some(format!("\x1b[{up}A\x1b[{}G{mark}{down}\r\n", MARK_AT + 1))
    }
}

/// Rows that the editor fills with this prompt and line; none where that is not certain.
pub(crate) fn typed_rows(prompt: usize, line: &str, size: Size) -> Option<usize> {
    if line.contains(|character: char| character.is_control() && character != '\n')
        || is_uncertain(line)
    {
        return None;
    }
    let mut at = prompt;
    let mut rows = 0;
    for part in line.split('\n') {
        // At the end of a full row the cursor is on the next one.
        rows += (at + part.width()) / size.columns.max(1) + 1;
        at = 0;
    }
    Some(rows)
}

/// The row, from 0, in which the cursor is behind this line, after a terminal has wrapped it anew. Behind its first `broken` bytes the editor
/// has ended a full row by itself.
pub(crate) fn wrapped_row(
    prompt: usize,
    line: &str,
    broken: Option<usize>,
    size: Size,
) -> Option<usize> {
    let rows = typed_rows(prompt, line, size)?;
    match broken.and_then(|broken| line.split_at_checked(broken)) {
        Some(_) if line.contains('\n') => None,
        Some((before, after)) => {
            let columns = size.columns.max(1);
            Some((prompt + before.width()).div_ceil(columns) + after.width() / columns)
        }
        None => Some(rows - 1),
    }
}

fn is_uncertain(text: &str) -> bool {
    text.chars().any(|character| {
        let width = character.width();
        !character.is_ascii() && (width != Some(1) || matches!(character, '\u{590}'..='\u{8ff}'))
    })
}

/// Columns of a line, its colours left out.
fn width(line: &str) -> usize {
    let mut columns = 0;
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        columns += before.width();
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    columns + rest.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { columns: 10, rows: 24 };
    const ONE: Option<usize> = Some(1);

    #[test]
    fn a_mark_goes_up_to_its_row_and_comes_back() {
        let mut screen = Screen::new(SIZE);
        assert_eq!(screen.print_own(1, "10:22   … "), "10:22   … \n");
        assert_eq!(screen.mark(1, "x", ONE).as_deref(), Some("\x1b[1A\x1b[7Gx\r\n"));
        screen.print("0123456789a");
        screen.print("\x1b[31mten col.\x1b[0m");
        screen.typed("> ", Some(2), Some(2), Left::There);
        assert_eq!(screen.mark(1, "x", ONE).as_deref(), Some("\x1b[6A\x1b[7Gx\x1b[5B\r\n"));
        // Shown once more, it is where it was shown last.
        screen.print_own(1, "again");
        assert_eq!(screen.mark(1, "x", ONE).as_deref(), Some("\x1b[1A\x1b[7Gx\r\n"));
    }

    #[test]
    fn what_is_out_of_reach_is_left_alone() {
        let mut screen = Screen::new(SIZE);
        screen.print_own(1, "a");
        screen.print_own(2, "b");
        assert_eq!(screen.mark(3, "x", ONE), None);
        screen.resize(SIZE);
        assert!(screen.mark(2, "x", ONE).is_some());
        (0..21).for_each(|_| drop(screen.print("more")));
        assert_eq!(screen.mark(1, "x", ONE), Some("\x1b[23A\x1b[7Gx\x1b[22B\r\n".to_owned()));
        assert_eq!(screen.mark(1, "x", Some(2)), None, "the line being typed has pushed it out");
        assert_eq!(screen.mark(2, "x", None), None, "nobody knows where that line begins");
        screen.print("more");
        assert_eq!(screen.mark(1, "x", ONE), None);
        screen.resize(Size { columns: 11, rows: 100 });
        assert_eq!(screen.mark(2, "x", ONE), None, "its row is not known any more");
    }

    #[test]
    fn after_rows_that_are_not_certain_no_place_is_known() {
        let mut screen = Screen::new(SIZE);
        for uncertain in
            [|screen: &mut Screen| screen.typed("", None, Some(1), Left::There), Screen::forget]
        {
            screen.print_own(1, "a");
            assert!(screen.mark(1, "x", ONE).is_some());
            uncertain(&mut screen);
            assert_eq!(screen.mark(1, "x", ONE), None);
        }
        screen.print_own(1, "👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦");
        assert_eq!(screen.mark(1, "x", ONE), None);
        screen.print_own(1, "a");
        screen.print("👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦");
        assert_eq!(screen.mark(1, "x", ONE), None);
    }

    #[test]
    fn an_erased_line_has_pushed_out_what_was_above_it() {
        let mut screen = Screen::new(SIZE);
        screen.print_own(1, "a");
        screen.print_own(2, "b");
        (0..17).for_each(|_| drop(screen.print("more")));
        screen.typed("> ", Some(5), Some(5), Left::Erased);
        assert_eq!(screen.mark(1, "x", ONE), None, "its row is above the screen");
        assert!(screen.mark(2, "x", ONE).is_some());
        // As much comes again as was erased: nothing scrolls.
        (0..5).for_each(|_| drop(screen.print("more")));
        assert!(screen.mark(2, "x", ONE).is_some());
        screen.typed("> ", Some(1), Some(4), Left::There);
        assert_eq!(screen.mark(2, "x", ONE), None, "the line had four rows for a while");
    }

    #[test]
    fn lines_that_were_taken_away_after_a_rewrap_come_again() {
        let mut screen = Screen::new(SIZE);
        screen.print("first");
        screen.print("0123456789abc");
        assert_eq!(screen.rewrapped(0, 0), "");
        assert_eq!(screen.rewrapped(1, 3), "\x1b[2A\x1b[J", "its first rows are still there");
        assert_eq!(screen.rewrapped(3, 2), "\x1b[1A\x1b[J0123456789abc\n", "half of it is there");
        assert_eq!(screen.rewrapped(3, 1), "0123456789abc\n");
        assert_eq!(screen.rewrapped(4, 1), "first\n0123456789abc\n");
        screen.typed("> /nodes", Some(1), Some(1), Left::There);
        screen.typed("> hello", Some(1), Some(1), Left::Erased);
        assert_eq!(screen.rewrapped(1, 0), "> /nodes\n");
    }

    #[test]
    fn a_row_that_the_editor_has_ended_stays_ended() {
        let narrow = Size { columns: 8, rows: 24 };
        assert_eq!(wrapped_row(2, "12345678abc", None, SIZE), Some(1));
        assert_eq!(wrapped_row(2, "12345678abc", Some(8), SIZE), Some(1));
        assert_eq!(wrapped_row(2, "12345678abc", None, narrow), Some(1));
        assert_eq!(wrapped_row(2, "12345678abc", Some(8), narrow), Some(2), "2 + 6, 2, 3");
        assert_eq!(wrapped_row(2, "12345678", Some(8), narrow), Some(2));
        // The cursor stands before it.
        assert_eq!(wrapped_row(2, "123", Some(8), narrow), Some(0));
    }

    #[test]
    fn rows_of_a_typed_line_are_known_or_it_is_said_that_they_are_not() {
        assert_eq!(typed_rows(2, "1234567", SIZE), Some(1));
        assert_eq!(typed_rows(2, "12345678", SIZE), Some(2));
        assert_eq!(typed_rows(2, "one\ntwo", SIZE), Some(2));
        assert_eq!(typed_rows(2, "ü", SIZE), Some(1));
        assert_eq!(typed_rows(2, "a\tb", SIZE), None);
        assert_eq!(typed_rows(2, "👩‍👩‍👧‍👦", SIZE), None);
    }
}
