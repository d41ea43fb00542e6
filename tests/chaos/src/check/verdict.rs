//! What the judge found, as a table and as JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Findings of one kind that are shown; all are counted.
const SHOWN: usize = 5;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Accepted, and neither delivered nor recorded as a dead letter.
    Lost,
    /// Delivered, and never sent so.
    Unexpected,
    /// Delivered again, without a kill that would excuse it.
    Repeated,
    /// Delivered after a later one of the same sender, channel and lane.
    Reordered,
    /// Waits still, or ended in a way that nobody asked for.
    Unsettled,
    /// A dead letter that the server's `max_payload` does not explain.
    DeadLetter,
    /// A file's own account is not what was seen.
    Account,
    /// More messages were committed and not printed than one kill can explain.
    Unprinted,
    /// Ids that are malformed or do not grow.
    Id,
    /// A process ended by itself, or a line was cut without a kill.
    Process,
    /// Too few messages or kills for the run to count, or a receiver that got nothing at all.
    TooLittle,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// Where, and with which values.
    pub text: String,
}

/// What became of one receiver's messages.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Who.
    pub receiver: String,
    /// What it reads.
    pub channel: String,
    /// Messages accepted for it.
    pub accepted: u64,
    /// Different messages that it printed.
    pub delivered: u64,
    /// Accepted and never printed nor recorded as dead.
    pub lost: u64,
    /// Printed and never sent to it.
    pub unexpected: u64,
    /// Printed again after a kill between printing and acknowledging.
    pub repeated_by_kill: u64,
    /// Printed again after a process ended whose disk was full: it could note nothing of what it had printed.
    pub repeated_by_full_disk: u64,
    /// Printed again without such an excuse.
    pub repeated: u64,
    /// Printed too late.
    pub reordered: u64,
    /// Recorded as too large for the server.
    pub dead: u64,
    /// Still waiting, by the senders' accounts.
    pub unsettled: u64,
    /// How often it was killed.
    pub kills: u64,
    /// From the calm until nothing waited for it.
    pub caught_up_ms: Option<u64>,
}

/// How often something was broken on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Of those who send or sell.
    pub senders: u64,
    /// Of those who receive or buy.
    pub receivers: u64,
    /// Of the server.
    pub server: u64,
    /// Of all these, those that nobody felt: no connection was there to be cut, nothing was carried while a link was slow.
    pub unfelt: u64,
}

/// All that is known in the end.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// What the faults were drawn from.
    pub seed: u64,
    /// Messages accepted by all senders, each counted once.
    pub accepted: u64,
    /// Those of them whose ids nobody printed, because their sender was killed first.
    pub accepted_unprinted: u64,
    /// Nodes that took part.
    pub nodes: u64,
    /// Processes killed, by node.
    pub kills: BTreeMap<String, u64>,
    /// All faults, kills too, by what they were.
    pub faults: BTreeMap<String, Fault>,
    /// Lines that a kill cut short; they count as not printed.
    pub torn: u64,
    /// From the beginning to the calm.
    pub busy_ms: u64,
    /// From the calm until nothing waited for anybody.
    pub settled_ms: Option<u64>,
    /// By receiver.
    pub receivers: Vec<Row>,
    /// How much was wrong, by kind.
    pub wrong: BTreeMap<Kind, u64>,
    /// The first findings of each kind.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether nothing at all was wrong.
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// All kills together.
    pub fn killed(&self) -> u64 {
        self.kills.values().sum()
    }

    /// Counts something wrong, and keeps the first ones of its kind.
    pub(super) fn find(&mut self, kind: Kind, text: impl FnOnce() -> String) {
        self.find_many(kind, 1, text);
    }

    /// Counts so many that one text tells of.
    pub(super) fn find_many(&mut self, kind: Kind, count: u64, text: impl FnOnce() -> String) {
        if count == 0 {
            return;
        }
        *self.wrong.entry(kind).or_default() += count;
        if self.findings.iter().filter(|finding| finding.kind == kind).count() < SHOWN {
            self.findings.push(Finding { kind, text: text() });
        }
    }

    fn total(&self) -> Row {
        let mut total = Row { receiver: "total".to_owned(), ..Row::default() };
        for row in &self.receivers {
            total.accepted += row.accepted;
            total.delivered += row.delivered;
            total.lost += row.lost;
            total.unexpected += row.unexpected;
            total.repeated_by_kill += row.repeated_by_kill;
            total.repeated_by_full_disk += row.repeated_by_full_disk;
            total.repeated += row.repeated;
            total.reordered += row.reordered;
            total.dead += row.dead;
            total.unsettled += row.unsettled;
            total.kills += row.kills;
        }
        total.caught_up_ms = self.settled_ms;
        total
    }
}

const HEADER: [&str; 13] = [
    "receiver",
    "channel",
    "accepted",
    "delivered",
    "lost",
    "unexpected",
    "repeated",
    "(by a kill)",
    "(full disk)",
    "reordered",
    "too large",
    "unsettled",
    "caught up",
];

fn cells(row: &Row) -> [String; 13] {
    let seconds = |ms: u64| format!("{:.1} s", ms as f64 / 1000.0);
    [
        row.receiver.clone(),
        row.channel.clone(),
        row.accepted.to_string(),
        row.delivered.to_string(),
        row.lost.to_string(),
        row.unexpected.to_string(),
        row.repeated.to_string(),
        row.repeated_by_kill.to_string(),
        row.repeated_by_full_disk.to_string(),
        row.reordered.to_string(),
        row.dead.to_string(),
        row.unsettled.to_string(),
        row.caught_up_ms.map_or("never".to_owned(), seconds),
    ]
}

const FAULTS: [&str; 5] = ["fault", "senders", "receivers", "server", "(unfelt)"];

fn fault_cells(what: &str, fault: &Fault) -> [String; 5] {
    let numbers = [fault.senders, fault.receivers, fault.server, fault.unfelt];
    let [senders, receivers, server, unfelt] = numbers.map(|number| number.to_string());
    [what.to_owned(), senders, receivers, server, unfelt]
}

/// Columns as wide as they need to be, the first ones, with names, to the left; then an empty line.
fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: &[[String; N]],
    names: usize,
) -> fmt::Result {
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[at].len()).max().unwrap_or(0);
            let gap = if at == 0 { "" } else { "  " };
            if at < names {
                write!(f, "{gap}{cell:<width$}")?
            } else {
                write!(f, "{gap}{cell:>width$}")?
            }
        }
        writeln!(f)?;
    }
    writeln!(f)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.receivers.is_empty() {
            let rows: Vec<[String; 13]> = std::iter::once(HEADER.map(str::to_owned))
                .chain(self.receivers.iter().map(cells))
                .chain(std::iter::once(cells(&self.total())))
                .collect();
            table(f, &rows, 2)?;
        }
        let faults: Vec<[String; 5]> = std::iter::once(FAULTS.map(str::to_owned))
            .chain(self.faults.iter().map(|(what, fault)| fault_cells(what, fault)))
            .collect();
        if !self.faults.is_empty() {
            table(f, &faults, 1)?;
        }
        let each = |counts: &BTreeMap<String, u64>| {
            let each: Vec<String> = counts.iter().map(|(what, n)| format!("{what} {n}")).collect();
            if each.is_empty() { "none".to_owned() } else { each.join(", ") }
        };
        let (nodes, busy_s, seed) = (self.nodes, self.busy_ms / 1000, self.seed);
        writeln!(
            f,
            "{nodes} nodes, {busy_s} s of trouble, seed {seed}; {} kills ({})",
            self.killed(),
            each(&self.kills)
        )?;
        if !self.receivers.is_empty() {
            let (accepted, unprinted, torn) = (self.accepted, self.accepted_unprinted, self.torn);
            writeln!(
                f,
                "{accepted} messages accepted, {unprinted} of them by senders that were killed before they said so; {torn} lines cut short by a kill"
            )?;
        }
        for finding in &self.findings {
            writeln!(f, "WRONG {:?}: {}", finding.kind, finding.text)?;
        }
        for (kind, count) in &self.wrong {
            writeln!(f, "WRONG {kind:?}: {count} in all")?;
        }
        Ok(())
    }
}
