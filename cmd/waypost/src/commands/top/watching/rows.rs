//! The lines of the table, from the last report of a node and what is kept of the one before.

use std::time::Duration;

use waypost::event::Counters;
use waypost::management::{Latency, Report};
use waypost::{Incarnation, Link, NodeId};

use crate::output::printable;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::commands::top) enum State {
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
pub(in crate::commands::top) struct Row {
    pub(in crate::commands::top) node: NodeId,
    pub(in crate::commands::top) state: State,
    pub(in crate::commands::top) master: bool,
    /// Messages a second: taken by `send`.
    pub(in crate::commands::top) accepted: Option<f64>,
    /// Acknowledged by receivers.
    pub(in crate::commands::top) delivered: Option<f64>,
    /// Taken by handlers.
    pub(in crate::commands::top) processed: Option<f64>,
    /// What waits at this node.
    pub(in crate::commands::top) waiting: u64,
    /// Age of the oldest of them when the node answered, by its own clock.
    pub(in crate::commands::top) oldest: Option<Duration>,
    /// Whether its report was cut: there may be more waiting, an older one, more peers.
    pub(in crate::commands::top) cut: bool,
    /// What waits at others for this node.
    pub(in crate::commands::top) owed: u64,
    /// Whether some other's report was cut: more may be owed.
    pub(in crate::commands::top) owed_cut: bool,
    /// Mean time from acceptance to acknowledgement, of what was acknowledged between the reports.
    pub(in crate::commands::top) latency: Option<Duration>,
    /// Mean time of a commit with an fsync.
    pub(in crate::commands::top) fsync: Option<Duration>,
    /// Peers that are online, of how many.
    pub(in crate::commands::top) peers: Option<(usize, usize)>,
    pub(in crate::commands::top) uptime: Option<Duration>,
    pub(in crate::commands::top) host: String,
}

/// What rates are made of.
#[derive(Debug)]
pub(super) struct Before {
    incarnation: Incarnation,
    uptime_ms: u64,
    counters: Counters,
    latency: Option<Latency>,
}

impl From<&Report> for Before {
    fn from(report: &Report) -> Self {
        Self {
            incarnation: report.incarnation,
            uptime_ms: report.uptime_ms,
            counters: report.counters.clone(),
            latency: report.latency,
        }
    }
}

/// A node that tells nothing itself.
pub(super) fn absent(node: &NodeId, host: &str, state: State) -> Row {
    Row {
        node: node.clone(),
        state,
        master: false,
        accepted: None,
        delivered: None,
        processed: None,
        waiting: 0,
        oldest: None,
        cut: false,
        owed: 0,
        owed_cut: false,
        latency: None,
        fsync: None,
        peers: None,
        uptime: None,
        host: printable(host),
    }
}

/// A node that has answered. All numbers are a stranger's, and any number.
pub(super) fn present(last: &Report, before: Option<&Before>) -> Row {
    // Counters begin anew with a run.
    let before = before.filter(|before| before.incarnation == last.incarnation);
    let seconds = before.map(|b| last.uptime_ms.saturating_sub(b.uptime_ms) as f64 / 1e3);
    let seconds = seconds.filter(|seconds| *seconds > 0.0);
    let rate = |of: fn(&Counters) -> u64| {
        let count = of(&last.counters).saturating_sub(of(&before?.counters));
        Some(count as f64 / seconds?)
    };
    let mean = |of: fn(&Latency) -> (u64, u64)| {
        let (count, micros) = of(last.latency.as_ref()?);
        let (count_before, micros_before) = of(before?.latency.as_ref()?);
        let count = count.checked_sub(count_before).filter(|count| *count > 0)?;
        Some(Duration::from_micros(micros.saturating_sub(micros_before) / count))
    };
    let oldest_ms = last.accounts.iter().filter_map(|account| account.oldest_pending_ms).min();
    let age =
        |(now_ms, oldest_ms): (u64, u64)| Duration::from_millis(now_ms.saturating_sub(oldest_ms));
    let online = last.peers.iter().filter(|peer| peer.online).count();
    Row {
        accepted: rate(|counters| counters.accepted),
        delivered: rate(|counters| counters.delivered),
        processed: rate(|counters| counters.processed),
        waiting: last.accounts.iter().fold(0, |sum, account| sum.saturating_add(account.pending)),
        oldest: last.now_ms.zip(oldest_ms).map(age),
        cut: last.truncated,
        latency: mean(|latency| (latency.deliveries, latency.delivery_micros)),
        fsync: mean(|latency| (latency.fsyncs, latency.fsync_micros)),
        peers: Some((online, last.peers.len())),
        uptime: Some(Duration::from_millis(last.uptime_ms)),
        ..absent(&last.node, &last.host, state(last))
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
