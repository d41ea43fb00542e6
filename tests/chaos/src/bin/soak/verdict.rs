//! Each bound, the value that was seen, and whether it holds.

use std::fmt;

use serde::Serialize;

use crate::plan::{READERS, SENDER};
use crate::run::Seen;
use crate::told::{Told, lane_name};
use crate::traffic;

mod growth;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) seconds: u64,
    pub(crate) messages_sent: u64,
    pub(crate) messages_received: u64,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Good,
    Bad,
    /// There is no bound, or the run was too short for it.
    Told,
}

/// One value.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) node: &'static str,
    pub(crate) value: String,
    pub(crate) bound: String,
    pub(crate) state: State,
}

/// Messages per second that were sent, against those that should have been.
const LEAST_OF_THE_RATE: f64 = 0.95;

impl Verdict {
    pub(crate) fn of(seen: &Seen) -> Self {
        let mut told = seen.told.clone();
        end_sequences(&mut told);
        let sender = &told[SENDER];
        let mut lines = Lines(Vec::new());
        lines.traffic(seen, sender);
        for reader in READERS {
            lines.reader(seen, reader, sender, &told[reader]);
        }
        lines.files(seen);
        growth::judge(seen, &mut lines);
        Self {
            seconds: seen.sending.as_secs(),
            messages_sent: sender.sent_in_all(),
            messages_received: READERS.iter().map(|reader| told[reader].received_in_all()).sum(),
            lines: lines.0,
        }
    }

    pub(crate) fn is_good(&self) -> bool {
        self.lines.iter().all(|line| line.state != State::Bad)
    }
}

/// Nothing more comes: what is missing now is missing for good.
fn end_sequences(told: &mut std::collections::BTreeMap<&'static str, Told>) {
    let sent = told[SENDER].sent.clone();
    for reader in READERS {
        let reports = told[reader].sent.values().sum();
        let of_sender = told.get_mut(SENDER).expect("the sender told something");
        of_sender.received.entry(reader.to_owned()).or_default().end(reports, |_| false);
        let of_reader = told.get_mut(reader).expect("every reader told something");
        for (lane, &last) in &sent {
            of_reader.received.entry(lane.clone()).or_default().end(last, traffic::may_expire);
        }
    }
}

struct Lines(Vec<Line>);

impl Lines {
    fn add(
        &mut self,
        what: &'static str,
        node: &'static str,
        value: impl fmt::Display,
        bound: impl fmt::Display,
        state: State,
    ) {
        self.0.push(Line { what, node, value: value.to_string(), bound: bound.to_string(), state });
    }

    fn exactly(&mut self, what: &'static str, node: &'static str, value: u64, wanted: u64) {
        let state = if value == wanted { State::Good } else { State::Bad };
        self.add(what, node, value, format_args!("= {wanted}"), state);
    }

    fn at_most(&mut self, what: &'static str, node: &'static str, bytes: u64, bound: u64) {
        let state = if bytes <= bound { State::Good } else { State::Bad };
        self.add(what, node, mib(bytes), format_args!("<= {}", mib(bound)), state);
    }

    fn traffic(&mut self, seen: &Seen, sender: &Told) {
        let rate = sender.sent_in_all() as f64 / seen.sending.as_secs_f64();
        let least = f64::from(seen.plan.rate) * LEAST_OF_THE_RATE;
        let state = if rate >= least { State::Good } else { State::Bad };
        self.add(
            "messages sent per second",
            SENDER,
            format_args!("{rate:.1}"),
            format_args!(">= {least:.0}"),
            state,
        );
        let state = if seen.settled_after.is_some() { State::Good } else { State::Bad };
        let took =
            seen.settled_after.map_or("never".to_owned(), |took| format!("{} s", took.as_secs()));
        let patience = crate::END_PATIENCE.as_secs();
        self.add(
            "settled after the last message",
            SENDER,
            took,
            format_args!("<= {patience} s"),
            state,
        );
    }

    /// What a reader received, against the sender's account of it.
    fn reader(&mut self, seen: &Seen, reader: &'static str, sender: &Told, told: &Told) {
        let sum = |value: fn(&crate::sequence::Sequence) -> u64| {
            told.received.values().map(value).sum::<u64>()
        };
        self.exactly("lost", reader, sum(|s| s.lost), 0);
        self.exactly("repeated or out of order", reader, sum(|s| s.repeated), 0);
        self.exactly("damaged", reader, sum(|s| s.damaged), 0);
        let high = told.received.get(lane_name(waypost::Priority::High)).map_or(0, |s| s.received);
        self.exactly("effects of transactions", reader, told.effects, high);
        let reports = sender.received.get(reader).cloned().unwrap_or_default();
        self.exactly(
            "reports lost or repeated",
            reader,
            reports.lost + reports.repeated + reports.damaged,
            0,
        );
        let rows = &seen.queues[SENDER];
        let is_its = |row: &&waypost::inspect::QueueRow| {
            row.receiver.as_ref().is_some_and(|node| node.as_str() == reader)
        };
        let row = rows.iter().find(is_its).cloned().unwrap_or_default();
        self.exactly("account: accepted", reader, row.accepted, sender.sent_in_all());
        self.exactly("account: acknowledged", reader, row.acknowledged, told.received_in_all());
        self.exactly("account: expired", reader, row.expired, sum(|s| s.expired));
        self.exactly(
            "account: dead, purged or pending",
            reader,
            row.dead + row.purged + row.pending,
            0,
        );
    }

    fn files(&mut self, seen: &Seen) {
        for node in READERS.into_iter().chain([SENDER]) {
            let of_node = seen.reports.iter().filter(|(name, _)| *name == node);
            let findings: usize = of_node.map(|(_, report)| report.findings.len()).sum();
            self.exactly("findings of the checks", node, findings as u64, 0);
            let is_balanced = |row: &&waypost::inspect::QueueRow| {
                row.accepted == row.pending + row.acknowledged + row.expired + row.dead + row.purged
            };
            let wrong = seen.queues[node].iter().filter(|row| !is_balanced(row)).count();
            self.exactly("accounts that do not add up", node, wrong as u64, 0);
            self.add("lines in the log", node, seen.log_lines[node], "", State::Told);
        }
    }
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<34} {:<6} {:>14}  {:<14}", "what", "node", "value", "bound")?;
        for line in &self.lines {
            let mark = if line.state == State::Bad { "  BEYOND" } else { "" };
            writeln!(
                f,
                "{:<34} {:<6} {:>14}  {:<14}{mark}",
                line.what, line.node, line.value, line.bound
            )?;
        }
        let bad = self.lines.iter().filter(|line| line.state == State::Bad).count();
        let Self { seconds, messages_sent, messages_received, .. } = self;
        writeln!(
            f,
            "\n{messages_sent} messages sent in {seconds} s, {messages_received} received by {} readers.",
            READERS.len()
        )?;
        match bad {
            0 => writeln!(f, "All values are within their bounds."),
            _ => writeln!(f, "{bad} values are beyond their bounds."),
        }
    }
}
