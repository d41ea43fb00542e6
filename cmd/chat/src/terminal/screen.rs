//! Where on the terminal this node's own messages are, so that their marks can change in place while the line being typed stays below.

use std::collections::VecDeque;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::paint::MARK_AT;

/// Own messages whose place is known.
const MAX_PLACES: usize = 200;
/// Rows that the line being typed may fill before a mark could miss its row.
const PROMPT_ROWS: usize = 6;

/// Columns and rows of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) columns: usize,
    pub(crate) rows: usize,
}

/// Counts rows.
#[derive(Debug)]
pub(crate) struct Screen {
    size: Size,
    /// Rows printed so far; the cursor stands at the beginning of the next.
    row: usize,
    places: VecDeque<(usize, usize)>,
}

impl Screen {
    pub(crate) fn new(size: Size) -> Self {
        Self { size, row: 0, places: VecDeque::new() }
    }

    /// After this every place is known by the terminal's new size only.
    pub(crate) fn resize(&mut self, size: Size) {
        if size != self.size {
            self.size = size;
            self.places.clear();
        }
    }

    /// What prints these lines.
    pub(crate) fn print(&mut self, text: &str) -> String {
        for line in text.split('\n') {
            let width = width(line);
            if width * 2 > self.size.columns && !line.is_ascii() && is_uncertain(line) {
                // Terminals do not agree on how wide this is, and so on how many rows it fills.
                self.places.clear();
            }
            self.row += width.div_ceil(self.size.columns.max(1)).max(1);
        }
        format!("{text}\n")
    }

    /// The same for the message with this number, whose mark may change.
    pub(crate) fn print_own(&mut self, number: usize, text: &str) -> String {
        let row = self.row;
        let printed = self.print(text);
        self.places.push_back((number, row));
        if self.places.len() > MAX_PLACES {
            self.places.pop_front();
        }
        printed
    }

    /// Takes note of a line that the editor has left on the screen.
    pub(crate) fn typed(&mut self, rows: usize) {
        self.row += rows;
    }

    /// What changes this message's mark; none where it cannot be reached any more.
    pub(crate) fn mark(&self, number: usize, mark: &str) -> Option<String> {
        let (_, row) = self.places.iter().find(|(known, _)| *known == number)?;
        let up = self.row - row;
        if up + PROMPT_ROWS >= self.size.rows {
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

    #[test]
    fn a_mark_goes_up_to_its_row_and_comes_back() {
        let mut screen = Screen::new(SIZE);
        assert_eq!(screen.print_own(1, "10:22   … "), "10:22   … \n");
        assert_eq!(screen.mark(1, "x").as_deref(), Some("\x1b[1A\x1b[7Gx\r\n"));
        screen.print("0123456789a");
        screen.print("\x1b[31mten col.\x1b[0m");
        screen.typed(2);
        assert_eq!(screen.mark(1, "x").as_deref(), Some("\x1b[6A\x1b[7Gx\x1b[5B\r\n"));
    }

    #[test]
    fn what_is_out_of_reach_is_left_alone() {
        let mut screen = Screen::new(SIZE);
        screen.print_own(1, "a");
        screen.print_own(2, "b");
        assert_eq!(screen.mark(3, "x"), None);
        screen.resize(SIZE);
        assert!(screen.mark(2, "x").is_some());
        (0..18).for_each(|_| drop(screen.print("more")));
        assert_eq!(screen.mark(1, "x"), None);
        screen.resize(Size { columns: 11, rows: 100 });
        assert_eq!(screen.mark(2, "x"), None, "its row is not known any more");
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
