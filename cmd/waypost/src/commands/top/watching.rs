//! What the nodes' reports say, and what has changed since the ones before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use waypost::NodeId;
use waypost::election::{Role, Term};
use waypost::management::Report;

use crate::output::printable;
use differences::differences;
use rows::{Before, absent, present};
pub(super) use rows::{Row, State};

mod differences;
mod rows;

/// Changes that are remembered.
const CHANGES: usize = 200;
/// Most nodes; those without a place are counted.
const NODES: usize = 2_000;
/// Up to here they are.
const MORE: usize = 10_000;

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: SystemTime,
    pub(super) what: String,
}

/// What is kept of one node: its last report, and of the one before what rates are made of.
#[derive(Debug)]
struct Seen {
    last: Report,
    before: Option<Before>,
    /// The look in which it did not answer first; none while it answers.
    silent: Option<Instant>,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    nodes: BTreeMap<NodeId, Seen>,
    /// Those that answered the last time and have no place.
    unplaced: BTreeSet<NodeId>,
    rows: Vec<Row>,
    left_out: usize,
    changes: VecDeque<Change>,
    master: Option<(NodeId, Term)>,
    asked: bool,
    answered: Option<Instant>,
    trouble: Option<String>,
}

impl Watch {
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// How many more nodes there are, and whether there may be more than that.
    pub(super) fn left_out(&self) -> (usize, bool) {
        (self.left_out, self.left_out >= MORE)
    }

    /// The newest first.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().rev()
    }

    pub(super) fn master(&self) -> Option<&(NodeId, Term)> {
        self.master.as_ref()
    }

    /// Why nobody can be asked at present.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether anybody was asked yet.
    pub(super) fn has_asked(&self) -> bool {
        self.asked
    }

    /// How long ago nodes were last asked with success.
    pub(super) fn answered(&self) -> Option<Duration> {
        self.answered.map(|at| at.elapsed())
    }

    /// Takes over what was asked, at this time.
    pub(super) fn take(
        &mut self,
        sample: Result<Vec<Report>, String>,
        at: Instant,
        wall: SystemTime,
    ) {
        self.asked = true;
        let reports = match sample {
            Ok(reports) => reports,
            Err(reason) => {
                let reason = printable(&reason);
                if self.trouble.as_ref() != Some(&reason) {
                    self.note(wall, format!("nobody can be asked: {reason}"));
                }
                self.trouble = Some(reason);
                return;
            }
        };
        if self.trouble.take().is_some() {
            self.note(wall, "nodes can be asked again".to_owned());
        }
        let first = self.answered.replace(at).is_none();
        let mut told = Vec::new();
        let names: BTreeSet<NodeId> = reports.iter().map(|report| report.node.clone()).collect();
        for (node, seen) in &mut self.nodes {
            if seen.silent.is_none() && !names.contains(node) {
                seen.silent = Some(at);
                told.push(format!("{node} does not answer"));
            }
        }
        self.unplaced.clear();
        let mut giving_way = self.silent(&names);
        for report in reports {
            self.report(report, first, &mut giving_way, &mut told);
        }
        self.elected(first, &mut told);
        for what in told {
            self.note(wall, what);
        }
        (self.rows, self.left_out) = self.lines();
    }

    fn note(&mut self, at: SystemTime, what: String) {
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { at, what: printable(&what) });
    }

    /// Those that do not answer, also not in this look; the one that has been silent longest is the last.
    fn silent(&self, answering: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let silent = self.nodes.iter().filter(|(node, _)| !answering.contains(*node));
        let mut silent: Vec<_> = silent.map(|(node, seen)| (seen.silent, node)).collect();
        silent.sort_by(|(a, _), (b, _)| b.cmp(a));
        silent.into_iter().map(|(_, node)| node.clone()).collect()
    }

    fn report(
        &mut self,
        report: Report,
        first: bool,
        giving_way: &mut Vec<NodeId>,
        told: &mut Vec<String>,
    ) {
        if let Some(seen) = self.nodes.get_mut(&report.node) {
            differences(&seen.last, &report, seen.silent.is_none(), told);
            let before = Some(Before::from(&seen.last));
            *seen = Seen { last: report, before, silent: None };
            return;
        }
        if self.nodes.len() >= NODES {
            let Some(silent) = giving_way.pop() else {
                self.unplaced.insert(report.node);
                return;
            };
            self.nodes.remove(&silent);
        }
        if !first {
            told.push(format!("{} answers, from {}", report.node, report.host));
        }
        self.nodes.insert(report.node.clone(), Seen { last: report, before: None, silent: None });
    }

    fn elected(&mut self, first: bool, told: &mut Vec<String>) {
        let answering = self.nodes.values().filter(|seen| seen.silent.is_none());
        let masters = answering.filter_map(|seen| {
            let election = seen.last.election.as_ref()?;
            (election.role == Role::Master)
                .then_some((seen.last.node.clone(), election.master_term?))
        });
        let master = masters.max_by_key(|(_, term)| *term);
        if master != self.master && !first {
            told.push(match &master {
                Some((node, term)) => format!("{node} is master, in term {term}"),
                None => "nobody is master".to_owned(),
            });
        }
        self.master = master;
    }

    /// All lines, and how many nodes have none.
    fn lines(&self) -> (Vec<Row>, usize) {
        let mut rows: BTreeMap<&NodeId, Row> = BTreeMap::new();
        let mut more: BTreeSet<&NodeId> = self.unplaced.iter().collect();
        let room = NODES.saturating_sub(self.nodes.len());
        for peer in self.nodes.values().flat_map(|seen| &seen.last.peers) {
            let node = &peer.node;
            if self.nodes.contains_key(node) || rows.contains_key(node) {
                continue;
            }
            if rows.len() < room {
                rows.insert(node, absent(node, &peer.host, State::Offline));
            } else if more.len() < MORE {
                more.insert(node);
            }
        }
        for (node, Seen { last, before, silent }) in &self.nodes {
            let row = match silent {
                None => present(last, before.as_ref()),
                Some(_) => absent(node, &last.host, State::Silent),
            };
            let master = self.master.as_ref().is_some_and(|(master, _)| master == node);
            rows.insert(node, Row { master, ..row });
        }
        self.owed(&mut rows);
        (rows.into_values().collect(), more.len())
    }

    /// Adds up what waits at all who answer, by whom it waits for.
    fn owed(&self, rows: &mut BTreeMap<&NodeId, Row>) {
        let answering = || self.nodes.values().filter(|seen| seen.silent.is_none());
        for account in answering().flat_map(|seen| &seen.last.accounts) {
            let row = account.receiver.as_ref().and_then(|receiver| rows.get_mut(receiver));
            if let Some(row) = row {
                row.owed = row.owed.saturating_add(account.pending);
            }
        }
        let cut: Vec<&NodeId> =
            answering().filter(|seen| seen.last.truncated).map(|seen| &seen.last.node).collect();
        for (node, row) in rows {
            row.owed_cut = cut.iter().any(|other| other != node);
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
