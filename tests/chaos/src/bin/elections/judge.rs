//! Whether what was written is what an election promises. Pure: logs in, a verdict out.

use std::collections::{BTreeMap, BTreeSet};

use crate::evidence::Evidence;
use crate::log::{At, Cause, Deed, Said, VOTERS};
use crate::plan::Kind;
use crate::verdict::{Finding, Row, Times, Verdict, Wrong};

#[cfg(test)]
mod tests;

/// How long it may take, with the default times.
const FAILOVER_P50_US: u64 = 4_000_000;
const FAILOVER_MAX_US: u64 = 6_000_000;
const HANDOFF_MAX_US: u64 = 1_000_000;

/// What is asked of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demands {
    /// What the library promises.
    Promises,
    /// And how long it may take.
    WithTimes,
}

pub(crate) fn judge(evidence: &Evidence, demands: Demands) -> Verdict {
    let mut judge = Judge { evidence, masters: masters(evidence), verdict: Verdict::default() };
    judge.count();
    judge.one_master_a_term();
    judge.one_master_at_a_time();
    judge.states_are_kept();
    judge.terms_grow();
    judge.commands_never_go_back();
    judge.deeds();
    judge.enough();
    judge.verdict.rows = judge.rows();
    if demands == Demands::WithTimes {
        judge.times();
    }
    judge.verdict
}

/// Somebody became master.
#[derive(Debug, Clone)]
struct Master<'a> {
    at_us: u64,
    term: u64,
    node: &'a str,
    n: u64,
}

/// By time.
fn masters(evidence: &Evidence) -> Vec<Master<'_>> {
    let mut masters: Vec<_> = lines(evidence)
        .filter_map(|(node, line)| match line.what {
            Said::BecameMaster { term, n, .. } => Some(Master { at_us: line.at_us, term, node, n }),
            _ => None,
        })
        .collect();
    masters.sort_by_key(|master| master.at_us);
    masters
}

fn lines(evidence: &Evidence) -> impl Iterator<Item = (&str, &At<Said>)> {
    evidence.said.iter().flat_map(|(node, lines)| lines.iter().map(move |line| (&**node, line)))
}

/// A time in which somebody was master.
struct Led<'a> {
    term: u64,
    node: &'a str,
    from: u64,
    to: u64,
}

struct Judge<'a> {
    evidence: &'a Evidence,
    masters: Vec<Master<'a>>,
    verdict: Verdict,
}

impl<'a> Judge<'a> {
    fn wrong(&mut self, wrong: Wrong, text: String) {
        self.verdict.findings.push(Finding { wrong, text });
    }

    fn count(&mut self) {
        let verdict = &mut self.verdict;
        for (_, line) in lines(self.evidence) {
            match &line.what {
                Said::Acknowledged { .. } => verdict.acknowledged += 1,
                Said::Unset { .. } => verdict.unset += 1,
                Said::Refused { .. } => verdict.refused += 1,
                Said::Unfenced { .. } => verdict.unfenced += 1,
                _ => {}
            }
        }
        verdict.commands = self.evidence.commands.len();
        verdict.masters = self.masters.len();
        let deeds = &self.evidence.deeds;
        let kills = deeds.iter().filter(|deed| matches!(deed.what, Deed::Kill { .. }));
        verdict.kills = kills.count();
        let ends = [deeds.first(), deeds.last()].map(|deed| deed.map_or(0, |deed| deed.at_us));
        verdict.seconds = ends[1].saturating_sub(ends[0]) / 1_000_000;
        for deed in deeds {
            if let Deed::Plan { seed, server, .. } = &deed.what {
                (verdict.seed, verdict.server) = (*seed, server.clone());
            }
        }
    }

    /// Whatever a node did as master counts, not only that it said so.
    fn one_master_a_term(&mut self) {
        let mut of_term: BTreeMap<u64, BTreeSet<&str>> = BTreeMap::new();
        for (node, line) in lines(self.evidence) {
            if let Said::BecameMaster { term, .. }
            | Said::Led { term, .. }
            | Said::Acknowledged { term, .. } = line.what
            {
                of_term.entry(term).or_default().insert(node);
            }
        }
        for At { what, .. } in &self.evidence.commands {
            of_term.entry(what.term).or_default().insert(&what.node);
        }
        for (term, nodes) in of_term {
            if nodes.len() > 1 {
                self.wrong(Wrong::TwoInATerm, format!("term {term}: {nodes:?}"));
            }
            for node in nodes.into_iter().filter(|node| !VOTERS.contains(node)) {
                self.wrong(Wrong::NoVoter, format!("term {term}: {node}"));
            }
        }
    }

    fn one_master_at_a_time(&mut self) {
        // The same time is told again and again while it grows.
        let mut times: BTreeMap<(u64, &'a str, u64), u64> = BTreeMap::new();
        for (node, line) in lines(self.evidence) {
            if let Said::Led { term, from_us, to_us } = line.what {
                let last = times.entry((from_us, node, term)).or_default();
                *last = to_us.max(*last);
            }
        }
        let mut times: Vec<Led<'_>> = times
            .into_iter()
            .map(|((from, node, term), to)| Led { term, node, from, to })
            .collect();
        times.sort_by_key(|led| led.term);
        for (nth, later) in times.iter().enumerate() {
            for led in times[..nth].iter().filter(|led| led.node != later.node) {
                let (from, to) = (led.from.max(later.from), led.to.min(later.to));
                let between = format!(
                    "{} (term {}) and {} (term {})",
                    led.node, led.term, later.node, later.term
                );
                if from < to {
                    let ms = (to - from) as f64 / 1e3;
                    self.wrong(Wrong::TwoAtOnce, format!("{between} for {ms:.1} ms, from {from}"));
                } else if led.term < later.term && led.to > later.from {
                    let text = format!("{between}: the first at {}, after {}", led.to, later.from);
                    self.wrong(Wrong::LateLeader, text);
                }
            }
        }
    }

    fn states_are_kept(&mut self) {
        let mut newest: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, line) in lines(self.evidence) {
            if let Said::Acknowledged { term, n } = line.what {
                let newest = newest.entry(term).or_default();
                *newest = n.max(*newest);
            }
        }
        for Master { term, node, n, .. } in self.masters.clone() {
            let before = newest.range(..term).max_by_key(|(_, n)| **n);
            if let Some((of, acknowledged)) = before.filter(|(_, acknowledged)| **acknowledged > n)
            {
                let text = format!(
                    "{acknowledged} was acknowledged in term {of}, {node} took over {n} in term {term}"
                );
                self.wrong(Wrong::StateLost, text);
            }
        }
    }

    fn terms_grow(&mut self) {
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for Master { term, node, .. } in self.masters.clone() {
            if let Some(before) = last.insert(node, term).filter(|before| *before >= term) {
                self.wrong(Wrong::TermFell, format!("{node}: {term} after {before}"));
            }
        }
    }

    fn commands_never_go_back(&mut self) {
        let commands = &self.evidence.commands;
        for pair in commands.windows(2) {
            let [before, after] = [&pair[0].what, &pair[1].what];
            if (after.term, &after.node) < (before.term, &before.node) {
                let text = format!(
                    "of {} (term {}) after one of {} (term {})",
                    after.node, after.term, before.node, before.term
                );
                self.wrong(Wrong::StaleCommand, text);
            }
        }
    }

    fn deeds(&mut self) {
        for At { what, .. } in &self.evidence.deeds {
            match what {
                Deed::Disagreed { seen } => self.wrong(Wrong::NoAgreement, seen.clone()),
                Deed::End { node, run, cause: Cause::Itself, code } => {
                    let text = format!("{node}, run {run}, ended by itself with code {code:?}");
                    self.wrong(Wrong::Process, text);
                }
                Deed::End { node, run, cause: Cause::Asked, code } if *code != Some(0) => {
                    let text = format!("{node}, run {run}, was asked to end: code {code:?}");
                    self.wrong(Wrong::Process, text);
                }
                _ => {}
            }
        }
        // Of its own log and of that of commands.
        let (torn, kills) = (self.evidence.torn, self.verdict.kills);
        if torn > 2 * kills {
            self.wrong(Wrong::Process, format!("{torn} lines are torn, with {kills} kills"));
        }
    }

    /// A run in which too little happened shows nothing.
    fn enough(&mut self) {
        let planned = self.evidence.deeds.iter().find_map(|deed| match deed.what {
            Deed::Plan { kills, .. } => Some(kills),
            _ => None,
        });
        let done = self
            .evidence
            .deeds
            .iter()
            .filter(|deed| matches!(deed.what, Deed::Fault { kind: Kind::Kill, .. }));
        let (planned, done) = (planned.unwrap_or(0), done.count() as u64);
        if done < planned {
            self.wrong(
                Wrong::TooLittle,
                format!("the master was killed {done} times of {planned}"),
            );
        }
        if !self.evidence.deeds.iter().any(|deed| deed.what == Deed::Over) {
            self.wrong(Wrong::TooLittle, "the run did not come to its end".to_owned());
        }
        let Verdict { acknowledged, commands, masters, .. } = self.verdict;
        for (count, what) in
            [(acknowledged, "state was acknowledged"), (commands, "command passed the fence")]
        {
            if count < masters {
                let text = format!("{what} {count} times only, by {masters} masters");
                self.wrong(Wrong::TooLittle, text);
            }
        }
    }

    /// Who was master last at this time.
    fn master_at(&self, at_us: u64) -> Option<&Master<'a>> {
        let until = self.masters.partition_point(|master| master.at_us <= at_us);
        self.masters[..until].iter().max_by_key(|master| master.term)
    }

    /// By kind of fault: how often it was, how often it took the master away, and for how long.
    fn rows(&mut self) -> Vec<Row> {
        let mut rows: BTreeMap<Kind, (Row, Vec<u64>)> = BTreeMap::new();
        let mut current = None;
        let mut leaving = "";
        let deeds = &self.evidence.deeds;
        for (nth, At { at_us, what }) in deeds.iter().enumerate() {
            let mut lost = None;
            match what {
                Deed::Fault { kind, node } => {
                    let (row, _) =
                        rows.entry(*kind).or_insert_with(|| (Row::new(*kind), Vec::new()));
                    row.faults += 1;
                    (current, leaving) = (Some(*kind), "");
                    let is_signal = matches!(
                        kind,
                        Kind::Kill | Kind::HandOver | Kind::KillLeaving | Kind::KillSuccessor
                    );
                    lost = (!is_signal).then_some(node);
                }
                Deed::Terminate { node } => {
                    leaving = node;
                    lost = (current == Some(Kind::HandOver)).then_some(node);
                }
                Deed::Kill { node } => lost = Some(node),
                Deed::Over => break,
                _ => {}
            }
            let (Some(node), Some(kind)) = (lost, current) else { continue };
            let Some(master) = self.master_at(*at_us) else { continue };
            if master.node != node && master.node != leaving {
                continue;
            }
            let next = deeds[nth + 1..]
                .iter()
                .find(|deed| matches!(deed.what, Deed::Fault { .. } | Deed::Over));
            let until = next.map_or(u64::MAX, |deed| deed.at_us);
            let after = self
                .masters
                .iter()
                .find(|next| next.term > master.term && next.at_us > *at_us && next.at_us < until);
            if let (Some(after), Some((_, times))) = (after, rows.get_mut(&kind)) {
                times.push(after.at_us - at_us);
            }
        }
        let rows = rows.into_values().map(|(row, times)| Row { times: Times::of(times), ..row });
        rows.collect()
    }

    fn times(&mut self) {
        let times = |kind| {
            let row = self.verdict.rows.iter().find(|row| row.kind == kind);
            row.map_or(Times::default(), |row| row.times)
        };
        let (failover, handoff) = (times(Kind::Kill), times(Kind::HandOver));
        for (what, value, limit) in [
            ("half of the failovers", failover.p50_us, FAILOVER_P50_US),
            ("a failover", failover.max_us, FAILOVER_MAX_US),
            ("a handing over", handoff.max_us, HANDOFF_MAX_US),
        ] {
            if value > limit {
                let [value, limit] = [value, limit].map(|us| us as f64 / 1e6);
                let text = format!("{what} took {value:.3} s, limit {limit} s");
                self.wrong(Wrong::Slow, text);
            }
        }
    }
}
