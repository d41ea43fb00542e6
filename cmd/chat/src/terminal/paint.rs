//! How things look on a terminal: what strangers wrote is made harmless, names have colours, times are local.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use waypost::{MessageId, NodeId};

use crate::marks::Mark;
use crate::room::{Content, File, Post};

/// Columns of the mark: `12/40`.
pub(crate) const MARK_COLUMNS: usize = 5;
/// Where the mark begins: after `10:22 `.
pub(crate) const MARK_AT: usize = 6;
/// Characters of what a message is called.
pub(crate) const CALLED: usize = 4;
/// Colours that can be read on dark and on light ground.
const NAME_COLOURS: [u8; 6] = [31, 32, 33, 34, 35, 36];

/// Clocks may differ by so much and be called right.
const MAX_AHEAD_MS: u64 = 10 * 60 * 1000;

/// Whether colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    On,
    Off,
}

impl Colours {
    fn paint(self, text: &str, code: u8) -> String {
        match self {
            Self::On => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Off => text.to_owned(),
        }
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(text, 2)
    }

    /// A node's name; the same colour at every node.
    pub(crate) fn name(self, name: &NodeId) -> String {
        let sum =
            name.as_str().bytes().fold(7_usize, |sum, byte| sum * 31 % 9973 + usize::from(byte));
        self.paint(name.as_str(), NAME_COLOURS[sum % NAME_COLOURS.len()])
    }
}

/// Text of a stranger on one or more lines: nothing in it can move the cursor, change colours or the direction of writing.
pub(crate) fn harmless(text: &str, indent: usize) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.trim_end().chars() {
        match character {
            '\n' => {
                shown.push('\n');
                shown.extend(std::iter::repeat_n(' ', indent));
            }
            '\t' => shown.push_str("    "),
            // Control pictures: what was there can be seen.
            '\0'..='\u{1f}' => shown.extend(char::from_u32(0x2400 + u32::from(character))),
            '\u{7f}' => shown.push('\u{2421}'),
            '\u{80}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                shown.push('\u{fffd}');
            }
            '\u{2028}' | '\u{2029}' => shown.push(' '),
            other => shown.push(other),
        }
    }
    shown
}

/// The same on one line, whatever is in it.
pub(crate) fn harmless_line(text: &str) -> String {
    harmless(&text.trim_end().replace(['\r', '\n', '\u{2028}', '\u{2029}'], " "), 0)
}

/// Whether a clock goes wrong that said this time by now.
pub(crate) fn is_ahead(time_ms: u64, now_ms: u64) -> bool {
    time_ms.saturating_sub(now_ms) > MAX_AHEAD_MS
}

/// The local time of day.
pub(crate) fn clock(time_ms: u64) -> String {
    local(time_ms).map_or_else(|| "--:--".to_owned(), |time| time.strftime("%H:%M").to_string())
}

/// The local day.
pub(crate) fn day(time_ms: u64) -> String {
    local(time_ms).map_or_else(String::new, |time| time.strftime("%A, %-d %B %Y").to_string())
}

fn local(time_ms: u64) -> Option<jiff::Zoned> {
    let time = Timestamp::from_millisecond(i64::try_from(time_ms).ok()?).ok()?;
    Some(time.to_zoned(TimeZone::system()))
}

/// A mark in its columns.
pub(crate) fn mark(mark: Option<Mark>) -> String {
    let text = match mark {
        None => String::new(),
        Some(mark) if mark.is_read() => "✓✓".to_owned(),
        Some(Mark { settled: true, failed: 0, .. }) => "✓".to_owned(),
        Some(Mark { settled: true, delivered: 0, .. }) => "✗".to_owned(),
        Some(Mark { delivered: 0, .. }) => "…".to_owned(),
        Some(Mark { delivered, readers, .. }) => format!("{delivered}/{readers}"),
    };
    format!("{text:^MARK_COLUMNS$}")
}

/// What a mark says, in words.
pub(crate) fn in_words(mark: Mark) -> String {
    match mark {
        mark if mark.is_read() => "read by everybody".to_owned(),
        Mark { readers: 0, .. } => "waits for a reader".to_owned(),
        Mark { delivered, readers, failed: 0, .. } => {
            format!("delivered to {delivered} of {readers}")
        }
        Mark { delivered, readers, failed, .. } => {
            format!("delivered to {delivered} of {readers}, {failed} will not get it")
        }
    }
}

/// What people call a message: the end of its id, the same on every screen.
pub(crate) fn called(id: MessageId) -> String {
    let id = id.to_string();
    id[id.len() - CALLED..].to_owned()
}

/// A message as it is shown at this moment, without a line break at its end.
pub(crate) fn post(post: &Post, own: Option<Mark>, colours: Colours, now_ms: u64) -> String {
    let mut line = format!(
        "{} {} {} {}",
        colours.dim(&clock(post.time_ms)),
        mark(own),
        colours.dim(&format!("#{}", called(post.key.id))),
        colours.name(&post.key.sender),
    );
    if let Some(to) = &post.to {
        let _ = write!(line, " to {}", colours.name(to));
    }
    if is_ahead(post.time_ms, now_ms) {
        let _ = write!(line, ", {} (clock ahead)", day(post.time_ms));
    }
    line.push_str(": ");
    match &post.content {
        Content::Text(text) => line.push_str(&harmless(text, MARK_AT + MARK_COLUMNS + 1)),
        Content::File(file) => line.push_str(&describe(file)),
        Content::Deleted => line.push_str(&colours.dim("(deleted)")),
    }
    if post.edited {
        let _ = write!(line, " {}", colours.dim("(edited)"));
    }
    for (emoji, by) in &post.reactions {
        let _ = write!(line, " [{} {}]", harmless_line(emoji), by.len());
    }
    line
}

pub(crate) fn describe(file: &File) -> String {
    format!(
        "file {} ({}, {})",
        harmless_line(&file.name),
        size(file.size),
        harmless_line(&file.media_type)
    )
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

/// A length of time in words: `5 s`, `3 min`, `2 h 5 min`.
pub(crate) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Key;

    #[test]
    fn a_stranger_cannot_paint_on_the_terminal() {
        let shown = harmless("\u{1b}[2Jx\u{9b}31m\u{202e}y\r\u{7}\u{2028}z\nnext", 2);
        assert_eq!(shown, "␛[2Jx�31m�y␍␇ z\n  next");
        assert!(!shown.replace('\n', "").contains(char::is_control));
    }

    #[test]
    fn what_belongs_on_one_line_stays_on_it() {
        assert_eq!(
            harmless_line("one\r\ntwo\n* alice is here\u{1b}[1A\n"),
            "one  two * alice is here␛[1A"
        );
    }

    #[test]
    fn a_message_from_the_future_says_so() {
        let key = Key { id: MessageId::from_u128(3), sender: NodeId::new("bob").expect("a name") };
        let content = Content::Text("hello".to_owned());
        let (to, edited) = (None, false);
        let (reactions, read_by) = Default::default();
        let hour = 3_600_000;
        let message =
            Post { key, seq: 1, time_ms: 100 * hour, to, content, edited, reactions, read_by };
        let shown = |now_ms| post(&message, None, Colours::Off, now_ms);
        assert!(shown(99 * hour + hour * 5 / 6).ends_with("#0003 bob: hello"));
        let ahead = shown(99 * hour);
        let expected = format!("#0003 bob, {} (clock ahead): hello", day(100 * hour));
        assert!(ahead.ends_with(&expected), "{ahead}");
        assert!(expected.contains("January 1970"));
    }

    #[test]
    fn marks_fill_their_columns() {
        let some = |delivered, readers, settled| {
            Some(Mark { delivered, readers, settled, ..Mark::default() })
        };
        let shown = [None, some(0, 0, false), some(12, 40, false), some(2, 2, true)];
        let shown = shown.map(mark);
        assert_eq!(shown, ["     ", "  …  ", "12/40", "  ✓  "]);
        let read = some(2, 2, true).map(|mark| Mark { read: 2, ..mark });
        assert_eq!(mark(read), " ✓✓  ");
    }
}
