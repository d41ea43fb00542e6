//! What is seen, as cells of a buffer: the same on a terminal, in a test, and printed once.

use std::cmp::Ordering;
use std::ops::Add;
use std::time::{Duration, SystemTime};

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row as Cells, Table, Widget};

use super::numbers::{at_least, compact, millis, of_known, rate, short};
use super::view::{Sort, View};
use super::watching::{Row, State, Watch};
use crate::output::{printable, time};

/// Lines besides the nodes' in what is printed once.
const AROUND: u16 = 3;
/// Columns at least where nothing tells how many there are.
pub(super) const WIDTH: u16 = 80;
/// From this width on there is room for more columns.
const WIDE: u16 = 110;
/// Of the columns besides the node's name, with a space before each.
const NARROW: [u16; 8] = [9, 6, 6, 6, 7, 7, 7, 7];
const CLOCK: u16 = 13;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const GOOD: Style = Style::new().fg(Color::Green);
const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
const KEY: Style = Style::new().add_modifier(Modifier::REVERSED);
const HEADER: Style = Style::new().add_modifier(Modifier::UNDERLINED);

const HELP: [&str; 11] = [
    "q, Esc      quit                 s      sort by the next: name, waiting, rate",
    "space, p    pause, go on         n w r  sort by name, waiting, rate",
    "+ -         ask more, less often up down PgUp PgDn Home  more nodes",
    "",
    "IN/S        messages a second that the node's program sends",
    "OUT/S       acknowledged by receivers       TOOK/S  taken by its handlers",
    "WAITING     for its receivers, all together OLDEST  age of the oldest of them",
    "LATENCY     mean from send to acknowledgement, of those since the look before",
    "PEERS       online of known                 * master",
    "On a wide terminal: FSYNC of a commit, OWED to it by others, UP, HOST",
    "1200+       at least so many: a node tells of 1000 peers and receivers at most",
];

/// All of the terminal.
pub(super) fn whole(
    buffer: &mut Buffer,
    area: Rect,
    watched: &Watch,
    view: &mut View,
    now: SystemTime,
) {
    let changes = (area.height / 4).clamp(3, 12);
    let rows = [1, 1].map(Constraint::Length).into_iter();
    let rows = rows.chain([Constraint::Min(2), Constraint::Length(changes), Constraint::Length(1)]);
    let [title, sums, nodes, below, keys] = Layout::vertical(rows).areas(area);
    top_line(buffer, title, watched, now);
    totals(buffer, sums, watched);
    let room = usize::from(nodes.height.saturating_sub(1));
    view.first = view.first.min(watched.rows().len().saturating_sub(room));
    table(buffer, nodes, watched, view, area.width >= WIDE);
    recent(buffer, below, watched);
    key_line(buffer, keys, view);
    if view.help {
        help(buffer, area);
    }
}

/// The nodes, sorted by name, and what stands above them; cut to this width, or else wide enough for all.
pub(super) fn once(watched: &Watch, width: Option<u16>, now: SystemTime) -> Buffer {
    let nodes = u16::try_from(watched.rows().len()).unwrap_or(u16::MAX).min(u16::MAX - AROUND);
    let area = Rect::new(0, 0, width.unwrap_or_else(|| fitting(watched)), nodes + AROUND);
    let rows = [Constraint::Length(1), Constraint::Length(1), Constraint::Min(1)];
    let [title, sums, nodes] = Layout::vertical(rows).areas(area);
    let mut buffer = Buffer::empty(area);
    top_line(&mut buffer, title, watched, now);
    totals(&mut buffer, sums, watched);
    let wide = width.is_some_and(|width| width >= WIDE);
    table(&mut buffer, nodes, watched, &View::new(Duration::ZERO), wide);
    buffer
}

/// The width in which nothing is cut, without the columns of wide terminals.
fn fitting(watched: &Watch) -> u16 {
    let columns = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let longest = watched.rows().iter().map(|row| columns(row.node.as_str().len()) + 2).max();
    let table = NARROW.iter().fold(longest.unwrap_or(0), |sum, column| sum + 1 + column);
    let title = columns(title(watched).width()).saturating_add(CLOCK);
    [WIDTH, table, title, columns(sums(watched).width())].into_iter().fold(0, u16::max)
}

/// The characters of a buffer, without what is empty at the end of lines.
pub(super) fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let lines = buffer.content().chunks(width);
    let lines = lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>());
    lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// For those who want none.
pub(super) fn without_color(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
    }
}

fn top_line(buffer: &mut Buffer, area: Rect, watched: &Watch, now: SystemTime) {
    title(watched).render(area, buffer);
    let clock = time(now);
    let clock = clock.get(11..19).unwrap_or_default();
    Line::styled(format!(" {clock} UTC"), DIM).right_aligned().render(area, buffer);
}

fn title(watched: &Watch) -> Line<'static> {
    let rows = watched.rows();
    let answering = rows.iter().filter(|row| row.peers.is_some()).count();
    let more = match watched.left_out() {
        (0, _) => String::new(),
        (count, more) => format!(", and {} more", at_least(count.to_string(), more)),
    };
    let master = match watched.master() {
        Some((node, term)) => format!("master {node}, term {term}"),
        None => "no master".to_owned(),
    };
    let nodes = format!("  {answering} of {} nodes answering{more}  {master}", rows.len());
    Line::from(vec![Span::styled("waypost top", BOLD), Span::raw(nodes)])
}

fn totals(buffer: &mut Buffer, area: Rect, watched: &Watch) {
    sums(watched).render(area, buffer);
}

fn sums(watched: &Watch) -> Line<'static> {
    if let Some(trouble) = watched.trouble() {
        let since = watched.answered().map(|since| format!(", last {} ago", short(since)));
        return Line::styled(format!("no answers{}: {trouble}", since.unwrap_or_default()), BAD);
    }
    if !watched.has_asked() {
        return Line::styled("asking ...", DIM);
    }
    let rows = watched.rows();
    let sum = |of: fn(&Row) -> Option<f64>| rate(rows.iter().filter_map(of).reduce(f64::add));
    let waiting = rows.iter().fold(0_u64, |sum, row| sum.saturating_add(row.waiting));
    let more = rows.iter().any(|row| row.cut) || watched.left_out().0 > 0;
    Line::raw(format!(
        "{} in/s  {} out/s  {} taken/s  {} waiting",
        sum(|row| row.accepted),
        sum(|row| row.delivered),
        sum(|row| row.processed),
        at_least(compact(waiting), more),
    ))
}

fn table(buffer: &mut Buffer, area: Rect, watched: &Watch, view: &View, wide: bool) {
    let mut rows: Vec<&Row> = watched.rows().iter().collect();
    let busy = |row: &Row| row.accepted.unwrap_or(0.0) + row.delivered.unwrap_or(0.0);
    rows.sort_by(|a, b| match view.sort {
        Sort::Name => Ordering::Equal,
        Sort::Waiting => b.waiting.cmp(&a.waiting),
        Sort::Rate => busy(b).total_cmp(&busy(a)),
    });
    let narrow =
        ["NODE", "STATE", "IN/S", "OUT/S", "TOOK/S", "WAITING", "OLDEST", "LATENCY", "PEERS"];
    let more = ["FSYNC", "OWED", "UP", "HOST"];
    let more = more.into_iter().filter(|_| wide);
    let header = narrow.into_iter().chain(more).map(|name| match name {
        "NODE" | "STATE" | "HOST" => Text::raw(name),
        _ => Text::raw(name).right_aligned(),
    });
    let widths = NARROW.map(Constraint::Length).into_iter();
    let more = [7, 7, 7].map(Constraint::Length).into_iter();
    let more = more.chain([Constraint::Fill(1)]).filter(|_| wide);
    let widths = [Constraint::Fill(2)].into_iter().chain(widths).chain(more);
    let shown = rows.into_iter().skip(view.first).map(|row| cells(row, wide));
    let table = Table::new(shown.take(usize::from(area.height)), widths);
    let table = table.header(Cells::new(header).style(HEADER)).column_spacing(1);
    Widget::render(table, area, buffer);
}

fn cells(row: &Row, wide: bool) -> Cells<'static> {
    let right = |text: String| Cell::from(Text::raw(text).right_aligned());
    let (state, style) = match &row.state {
        State::Up => ("up".to_owned(), GOOD),
        State::Trouble(what) => (what.clone(), BAD),
        State::Silent => ("silent".to_owned(), BAD),
        State::Offline => ("offline".to_owned(), DIM),
    };
    let name = if row.master { format!("* {}", row.node) } else { format!("  {}", row.node) };
    let name = Cell::from(name).style(if row.master { BOLD } else { Style::new() });
    let answers = row.peers.is_some();
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let peers = row.peers.map(|peers| of_known(peers, row.cut));
    let oldest = row.oldest.map(|age| at_least(short(age), row.cut));
    let waiting = answers.then(|| at_least(compact(row.waiting), row.cut));
    let narrow = [
        name,
        Cell::from(state).style(style),
        right(rate(row.accepted)),
        right(rate(row.delivered)),
        right(rate(row.processed)),
        right(dash(waiting)),
        right(dash(oldest)),
        right(dash(row.latency.map(millis))),
        right(dash(peers)),
    ];
    let more = [
        right(dash(row.fsync.map(short))),
        right(at_least(compact(row.owed), row.owed_cut)),
        right(dash(row.uptime.map(short))),
        Cell::from(printable(&row.host)),
    ];
    Cells::new(narrow.into_iter().chain(more.into_iter().filter(|_| wide)))
}

fn recent(buffer: &mut Buffer, area: Rect, watched: &Watch) {
    let block = Block::new().borders(Borders::TOP).title(" recent ").border_style(DIM);
    let inside = block.inner(area);
    block.render(area, buffer);
    let lines = watched.changes().take(usize::from(inside.height)).map(|change| {
        let clock = time(change.at);
        let clock = clock.get(11..19).unwrap_or_default().to_owned();
        Line::from(vec![Span::styled(format!("{clock}  "), DIM), Span::raw(change.what.clone())])
    });
    Paragraph::new(lines.collect::<Vec<_>>()).render(inside, buffer);
}

fn key_line(buffer: &mut Buffer, area: Rect, view: &View) {
    let pause = if view.paused { "go on" } else { "pause" };
    let every = match view.paused {
        true => "paused".to_owned(),
        false => format!("every {}", short(view.every)),
    };
    let keys = [
        ("q", "quit".to_owned()),
        ("space", pause.to_owned()),
        ("s", format!("sort: {}", view.sort.word())),
        ("+ -", every),
        ("up down", "scroll".to_owned()),
        ("?", "help".to_owned()),
    ];
    let spans = keys.into_iter().flat_map(|(key, what)| {
        let key = Span::styled(key, KEY);
        [key, Span::raw(format!(" {what}  "))]
    });
    Line::from_iter(spans).render(area, buffer);
}

fn help(buffer: &mut Buffer, area: Rect) {
    let height = u16::try_from(HELP.len() + 2).unwrap_or(u16::MAX).min(area.height);
    let width = 80.min(area.width);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    Clear.render(place, buffer);
    let block = Block::bordered().title(" help, ? or Esc closes it ");
    Paragraph::new(HELP.map(Line::raw).to_vec()).block(block).render(place, buffer);
}

#[cfg(test)]
mod tests;
