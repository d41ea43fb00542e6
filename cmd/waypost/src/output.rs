//! Results on standard output: lines in one write each, tables for people, columns for programs, JSON on request.

use std::io;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle, presets};
use serde::Serialize;
use waypost_process::{Number, Signals, streams};

/// Standard output.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    json: bool,
    terminal: bool,
}

impl Output {
    /// Takes standard output.
    pub(crate) fn new(json: bool) -> Self {
        Self { json, terminal: streams::output_is_terminal() }
    }

    /// Whether results are wanted as JSON.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at it.
    pub(crate) fn terminal(&self) -> bool {
        self.terminal
    }

    /// Writes these bytes, in one write where the system takes them at once. A reader that is slow blocks a thread of its own, not the caller.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
    pub(crate) async fn write(&self, bytes: Vec<u8>) -> io::Result<()> {
        in_thread(move || streams::write(&bytes)).await
    }

    /// Writes lines, unless a signal comes first and their reader does not take them within a moment: it is not to get half of one.
    ///
    /// # Errors
    /// The signal; inside, as [`Output::write`].
    pub(crate) async fn write_unless_ended(
        &self,
        lines: Vec<u8>,
        signals: &mut Signals,
    ) -> Result<io::Result<()>, Number> {
        let mut writing = pin!(self.write(lines));
        tokio::select! {
            biased;
            written = &mut writing => Ok(written),
            number = signals.caught() => {
                tokio::time::timeout(LAST_LINE, writing).await.map_err(|_| number)
            }
        }
    }

    /// Ends a line that an earlier run left unfinished in the same file.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(crate) async fn end_torn_line(&self) -> io::Result<()> {
        in_thread(streams::end_torn_line).await
    }

    /// Prints a value as one line of JSON.
    pub(crate) async fn print_json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.write(line).await.context(STDOUT)
    }

    /// Prints text and a line break.
    pub(crate) async fn print(&self, text: impl Into<String>) -> anyhow::Result<()> {
        let mut text = text.into();
        text.push('\n');
        self.write(text.into_bytes()).await.context(STDOUT)
    }

    /// Prints rows: as a table on a terminal, else as columns with a tab between them, the header first.
    pub(crate) async fn print_rows<const N: usize>(
        &self,
        header: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) -> anyhow::Result<()> {
        let rows = rows.into_iter().map(|row| row.map(|cell| printable(&cell)));
        self.print(if self.terminal { table(header, rows) } else { columns(header, rows) }).await
    }
}

/// How long a signal lets lines go on that are being written.
const LAST_LINE: Duration = Duration::from_secs(1);
/// What an error of it is told of.
pub(crate) const STDOUT: &str = "standard output";

async fn in_thread(write: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let written = tokio::task::spawn_blocking(write).await;
    written.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// A line below the header, and no other.
const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

fn table<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_header(header);
    table.add_rows(rows);
    table.trim_fmt()
}

fn columns<const N: usize>(header: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let rows = rows.map(|row| row.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    let lines = rows.map(|row| row.join("\t"));
    std::iter::once(header.map(|cell| cell.replace(' ', "_")).join("\t"))
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Text from elsewhere without characters that would move a terminal's cursor or break a column.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A time as RFC 3339, in UTC, to the millisecond.
pub(crate) fn time(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at).to_string()
}

/// Milliseconds since 1970 as RFC 3339. A time that the format cannot hold stays a number.
pub(crate) fn time_ms(at_ms: u64) -> String {
    // The last millisecond of the year 9999.
    const LAST_MS: u64 = 253_402_300_799_999;
    match at_ms {
        0..=LAST_MS => time(SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms)),
        _ => at_ms.to_string(),
    }
}

/// How long, to the second; below ten seconds to the tenth.
pub(crate) fn span(duration: Duration) -> String {
    if duration < Duration::from_secs(10) {
        return format!("{:.1}s", duration.as_secs_f64());
    }
    let coarse = match duration.as_secs() {
        secs @ 0..=3_599 => secs,
        secs @ 3_600..=86_399 => secs - secs % 60,
        secs => secs - secs % 3_600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string().replace(' ', "")
}

/// How long ago, both in milliseconds since 1970: the present is the file's ([`waypost::inspect::Inspector::now_ms`]), whose wall clock may be wrong.
pub(crate) fn age(now_ms: u64, at_ms: u64) -> String {
    span(Duration::from_millis(now_ms.saturating_sub(at_ms)))
}

/// A size with a unit.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut size = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        unit = larger;
    }
    if unit == "B" { format!("{count} B") } else { format!("{size:.1} {unit}") }
}

/// `1 message`, `2 messages`.
pub(crate) fn count(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(span(Duration::from_millis(1_250)), "1.2s");
        assert_eq!(span(Duration::from_secs(90_061)), "1day1h");
        assert_eq!((bytes(999).as_str(), bytes(1_536).as_str()), ("999 B", "1.5 KiB"));
        assert_eq!(count(1, "message") + &count(2, "message"), "1 message2 messages");
        assert_eq!(time_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(time_ms(u64::MAX), u64::MAX.to_string());
    }

    #[test]
    fn text_from_the_network_cannot_steer_the_terminal() {
        let rows = [["a\u{1b}[2J".to_owned(), String::new()]];
        let rows = rows.map(|row| row.map(|cell| printable(&cell)));
        assert_eq!(
            columns(["node", "last error"], rows.into_iter()),
            "node\tlast_error\na\u{fffd}[2J\t-"
        );
    }
}
