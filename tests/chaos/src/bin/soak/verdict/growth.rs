//! Whether memory and files stop growing. Every cycle of a run has the same outages at the same places, so that whole cycles are
//! compared with whole cycles.

use std::time::Duration;

use super::{Lines, State, mib};
use crate::plan::{READERS, SENDER};
use crate::run::Seen;
use crate::sample::Sample;
use crate::traffic;

const WAL_BOUND: u64 = 64 << 20;
/// Growth of the median from the first fifth of the cycles to the last one.
const MEMORY_BOUND: f64 = 0.10;
/// Pools and caches of a young process still fill: memory is judged in runs of at least this length.
const MEMORY_JUDGED_FROM: Duration = Duration::from_secs(20 * 60);
/// Growth of the largest size from the first half of the cycles to the second one.
const FILE_BOUND: f64 = 0.10;

pub(super) fn judge(seen: &Seen, lines: &mut Lines) {
    for node in READERS.into_iter().chain([SENDER]) {
        let most = seen.wal_bytes.get(node).copied().unwrap_or(0);
        lines.at_most("write-ahead log, largest", node, most, WAL_BOUND);
    }
    let row = traffic::row_bytes();
    for node in READERS.into_iter().chain([SENDER]) {
        let cycles = Cycles::of(seen, node);
        // Readers send a report now and then.
        let share = if node == SENDER { 1.0 } else { 1.0 / traffic::REPORT_EVERY as f64 };
        let largest = cycles.largest(|s| s.file.db_bytes);
        lines.at_most("file, largest", node, largest, seen.plan.file_bound_bytes(share, row));
        let grown = cycles.halves(|s| s.file.db_bytes);
        add_growth(lines, "file, second half against first", node, grown, FILE_BOUND, true);
        let judged = seen.sending >= MEMORY_JUDGED_FROM;
        let grown = cycles.fifths(|s| s.rss_kib);
        add_growth(lines, "resident memory, drift", node, grown, MEMORY_BOUND, judged);
        let grown = cycles.fifths(|s| s.anon_kib);
        add_growth(lines, "its own part of it, drift", node, grown, MEMORY_BOUND, judged);
        let peak = mib(cycles.largest(|s| s.rss_kib * 1024));
        lines.add("resident memory, largest", node, peak, "", State::Told);
        let pending = cycles.largest(|s| s.pending);
        lines.add("waiting, most", node, pending, "", State::Told);
        let cpu = format!("{:.1} %", cycles.cpu_percent());
        lines.add("processor", node, cpu, "", State::Told);
    }
}

fn add_growth(
    lines: &mut Lines,
    what: &'static str,
    node: &'static str,
    grown: Option<f64>,
    bound: f64,
    judged: bool,
) {
    let percent = |part: f64| format!("{:+.1} %", part * 100.0);
    let (value, state) = match grown {
        None => ("too short".to_owned(), State::Told),
        Some(grown) if !judged => (percent(grown), State::Told),
        Some(grown) if grown <= bound => (percent(grown), State::Good),
        Some(grown) => (percent(grown), State::Bad),
    };
    let bound = if judged { format!("<= {}", percent(bound)) } else { "20 min or more".to_owned() };
    lines.add(what, node, value, bound, state);
}

/// The samples of a node, those of each whole cycle after the warm-up together.
struct Cycles<'a> {
    all: Vec<&'a Sample>,
    cycles: Vec<Vec<&'a Sample>>,
}

impl<'a> Cycles<'a> {
    fn of(seen: &'a Seen, node: &str) -> Self {
        let all: Vec<_> = seen.samples.iter().filter(|sample| sample.node == node).collect();
        let number = |at: Duration| (at.as_secs_f64() / seen.plan.cycle.as_secs_f64()) as usize;
        let whole = number(seen.sending + seen.plan.sample_interval());
        let first = number(seen.plan.warm_up());
        let of_cycle = |n| all.iter().copied().filter(|s| number(s.at) == n).collect();
        Self { cycles: (first..whole).map(of_cycle).collect(), all }
    }

    fn largest(&self, value: fn(&Sample) -> u64) -> u64 {
        self.all.iter().map(|sample| value(sample)).max().unwrap_or(0)
    }

    /// How much the median of the last fifth of the cycles is above that of the first, as a part of it.
    fn fifths(&self, value: fn(&Sample) -> u64) -> Option<f64> {
        let count = (self.cycles.len() / 5).max(1);
        self.compare(count, |samples| median(samples.iter().map(|sample| value(sample)).collect()))
    }

    /// The same for the largest values of the two halves.
    fn halves(&self, value: fn(&Sample) -> u64) -> Option<f64> {
        self.compare(self.cycles.len() / 2, |samples| {
            samples.iter().map(|sample| value(sample)).max()
        })
    }

    fn compare(&self, count: usize, sum_up: impl Fn(Vec<&Sample>) -> Option<u64>) -> Option<f64> {
        if self.cycles.len() < 2 {
            return None;
        }
        let first = sum_up(self.cycles[..count].concat())? as f64;
        let last = sum_up(self.cycles[self.cycles.len() - count..].concat())? as f64;
        Some((last - first) / first)
    }

    /// Processor time as a part of the time between samples of one process.
    fn cpu_percent(&self) -> f64 {
        let same = self.all.windows(2).filter(|pair| pair[0].pid == pair[1].pid);
        let (mut used, mut passed) = (Duration::ZERO, Duration::ZERO);
        for pair in same {
            used += pair[1].cpu.saturating_sub(pair[0].cpu);
            passed += pair[1].at - pair[0].at;
        }
        if passed.is_zero() { 0.0 } else { used.as_secs_f64() / passed.as_secs_f64() * 100.0 }
    }
}

fn median(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}
