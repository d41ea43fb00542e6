//! What the nodes' reports say, and what has changed since the ones before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use waypost::election::{Role, Term};
use waypost::management::{Latency, Report};
use waypost::{Link, NodeId};

use crate::output::{count, printable};

/// Changes that are remembered.
const CHANGES: usize = 200;
/// Most nodes; more are not shown.
const NODES: usize = 2_000;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It answers, and all is well with it.
    Up,
    /// It answers, and this is wrong.
    Trouble(String),
    /// It answered before, and does not.
    Silent,
    /// Others know it, and it never answered.
    Offline,
}

/// A line of the table. What takes two reports is none after the first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) node: NodeId,
    pub(super) state: State,
    pub(super) master: bool,
    /// Messages a second: taken by `send`.
    pub(super) accepted: Option<f64>,
    /// Acknowledged by receivers.
    pub(super) delivered: Option<f64>,
    /// Taken by handlers.
    pub(super) processed: Option<f64>,
    /// What waits at this node.
    pub(super) waiting: u64,
    /// What waits at others for this node.
    pub(super) owed: u64,
    pub(super) oldest_ms: Option<u64>,
    /// Mean time from acceptance to acknowledgement, of what was acknowledged between the reports.
    pub(super) latency: Option<Duration>,
    /// Mean time of a commit with an fsync.
    pub(super) fsync: Option<Duration>,
    /// Peers that are online, of how many.
    pub(super) peers: Option<(usize, usize)>,
    pub(super) uptime: Option<Duration>,
    pub(super) host: String,
}

/// Something that changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) at: SystemTime,
    pub(super) what: String,
}

/// The reports of one node: the last, and the one before it.
#[derive(Debug)]
struct Seen {
    last: Report,
    before: Option<Report>,
    answers: bool,
}

#[derive(Debug, Default)]
pub(super) struct Watch {
    nodes: BTreeMap<NodeId, Seen>,
    rows: Vec<Row>,
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
            if seen.answers && !names.contains(node) {
                seen.answers = false;
                told.push(format!("{node} does not answer"));
            }
        }
        for report in reports {
            self.report(report, first, &mut told);
        }
        self.elected(first, &mut told);
        for what in told {
            self.note(wall, what);
        }
        self.rows = self.lines();
    }

    fn note(&mut self, at: SystemTime, what: String) {
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { at, what: printable(&what) });
    }

    fn report(&mut self, report: Report, first: bool, told: &mut Vec<String>) {
        let node = report.node.clone();
        let room = self.nodes.len() < NODES;
        match self.nodes.get_mut(&node) {
            Some(seen) => {
                differences(&seen.last, &report, seen.answers, told);
                let before = std::mem::replace(&mut seen.last, report);
                // Counters begin anew with a run.
                seen.before = Some(before).filter(|b| b.incarnation == seen.last.incarnation);
                seen.answers = true;
            }
            None if room => {
                if !first {
                    told.push(format!("{node} answers, from {}", report.host));
                }
                self.nodes.insert(node, Seen { last: report, before: None, answers: true });
            }
            None => {}
        }
    }

    fn elected(&mut self, first: bool, told: &mut Vec<String>) {
        let answering = self.nodes.values().filter(|seen| seen.answers);
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

    fn lines(&self) -> Vec<Row> {
        let mut rows: BTreeMap<&NodeId, Row> = BTreeMap::new();
        let mut owed: BTreeMap<&NodeId, u64> = BTreeMap::new();
        for Seen { last, answers, .. } in self.nodes.values() {
            for account in last.accounts.iter().filter(|_| *answers) {
                if let Some(receiver) = &account.receiver {
                    *owed.entry(receiver).or_default() += account.pending;
                }
            }
            for peer in &last.peers {
                if rows.len() < NODES && !self.nodes.contains_key(&peer.node) {
                    rows.insert(&peer.node, absent(&peer.node, &peer.host));
                }
            }
        }
        for (node, seen) in &self.nodes {
            let master = self.master.as_ref().is_some_and(|(master, _)| master == node);
            rows.insert(node, Row { master, ..line(seen) });
        }
        for (node, row) in &mut rows {
            row.owed = owed.get(node).copied().unwrap_or(0);
        }
        rows.into_values().collect()
    }
}

fn absent(node: &NodeId, host: &str) -> Row {
    Row {
        node: node.clone(),
        state: State::Offline,
        master: false,
        accepted: None,
        delivered: None,
        processed: None,
        waiting: 0,
        owed: 0,
        oldest_ms: None,
        latency: None,
        fsync: None,
        peers: None,
        uptime: None,
        host: printable(host),
    }
}

fn line(Seen { last, before, answers }: &Seen) -> Row {
    if !answers {
        return Row { state: State::Silent, ..absent(&last.node, &last.host) };
    }
    let before = before.as_ref();
    let seconds = before.map(|b| last.uptime_ms.saturating_sub(b.uptime_ms) as f64 / 1e3);
    let seconds = seconds.filter(|seconds| *seconds > 0.0);
    let rate = |of: fn(&Report) -> u64| {
        let count = of(last).saturating_sub(of(before?));
        Some(count as f64 / seconds?)
    };
    let mean = |of: fn(&Latency) -> (u64, u64)| {
        let (count, micros) = of(last.latency.as_ref()?);
        let (count_before, micros_before) = of(before?.latency.as_ref()?);
        let count = count.checked_sub(count_before).filter(|count| *count > 0)?;
        Some(Duration::from_micros(micros.saturating_sub(micros_before) / count))
    };
    let online = last.peers.iter().filter(|peer| peer.online).count();
    Row {
        state: state(last),
        accepted: rate(|report| report.counters.accepted),
        delivered: rate(|report| report.counters.delivered),
        processed: rate(|report| report.counters.processed),
        waiting: last.accounts.iter().fold(0, |sum, account| sum.saturating_add(account.pending)),
        oldest_ms: last.accounts.iter().filter_map(|account| account.oldest_pending_ms).min(),
        latency: mean(|latency| (latency.deliveries, latency.delivery_micros)),
        fsync: mean(|latency| (latency.fsyncs, latency.fsync_micros)),
        peers: Some((online, last.peers.len())),
        uptime: Some(Duration::from_millis(last.uptime_ms)),
        ..absent(&last.node, &last.host)
    }
}

fn state(report: &Report) -> State {
    match (&report.link, report.storage.as_str()) {
        (_, "full") => State::Trouble("disk full".to_owned()),
        (_, storage) if storage != "healthy" => State::Trouble("file fails".to_owned()),
        (Link::Connected { .. }, _) => State::Up,
        (Link::Unauthorized { .. }, _) => State::Trouble("refused".to_owned()),
        (Link::Conflict { .. }, _) => State::Trouble("twice".to_owned()),
        // It has answered, so that it was connected by then.
        _ => State::Trouble("cut off".to_owned()),
    }
}

/// What is different of a node, in words.
fn differences(old: &Report, new: &Report, answered: bool, told: &mut Vec<String>) {
    let node = &new.node;
    if old.incarnation != new.incarnation {
        return told.push(format!("{node} was restarted, on {}", new.host));
    }
    if !answered {
        told.push(format!("{node} answers again"));
    }
    if old.storage != new.storage {
        told.push(format!("{node}: its file is {}", new.storage));
    }
    let more = |of: fn(&Report) -> u64| of(new).saturating_sub(of(old));
    let messages = |n| count(n, "message");
    for (n, what) in [
        (more(|r| r.counters.dead_lettered), "became dead letters"),
        (more(|r| r.counters.expired), "expired"),
        (more(|r| r.counters.dropped), "gave way or were purged"),
        (more(|r| r.counters.failed), "refused by handlers"),
    ] {
        if n > 0 {
            told.push(format!("{node}: {} {what}", messages(n)));
        }
    }
    if more(|r| r.counters.reconnects) > 0 {
        told.push(format!("{node} was cut off and is connected again"));
    }
    for channel in new.channels.iter().filter(|c| old.channels.iter().all(|o| o.name != c.name)) {
        told.push(format!("{node} joined {} ({})", channel.name, channel.mode));
    }
    for channel in old.channels.iter().filter(|c| new.channels.iter().all(|n| n.name != c.name)) {
        told.push(format!("{node} left {}", channel.name));
    }
}

#[cfg(test)]
pub(super) mod tests;
