//! `waypost peers`: who is there.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use waypost::management::{ChannelInfo, PeerInfo, Report};
use waypost::{Config, NodeId};

use super::reports;
use crate::output::{Output, span};
use crate::run::Outcome;

/// A node, by its own word, or by others' if it did not answer.
#[derive(Debug, Serialize)]
struct Row {
    node: NodeId,
    /// `running` by its own word; `online` or `offline` by others'.
    state: &'static str,
    /// How long ago another node heard it; none where it answered itself.
    heard_ms_ago: Option<u64>,
    uptime_ms: Option<u64>,
    host: String,
    version: String,
    channels: Vec<ChannelInfo>,
}

pub(super) async fn run(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let reports = reports::collect(config).await?;
    if reports.is_empty() {
        return Ok(reports::unanswered("no node"));
    }
    let rows = rows(&reports);
    if output.json() {
        output.print_json(&rows).await?;
    } else {
        let header = ["node", "state", "uptime", "host", "version", "channels"];
        output.print_rows(header, rows.iter().map(cells)).await?;
    }
    Ok(Outcome::Done)
}

fn rows(reports: &[Report]) -> Vec<Row> {
    let mut rows: BTreeMap<&NodeId, Row> = BTreeMap::new();
    for peer in reports.iter().flat_map(|report| &report.peers) {
        let newest = rows.get(&peer.node).and_then(|row| row.heard_ms_ago);
        if newest.is_none_or(|newest| peer.heard_ms_ago < newest) {
            rows.insert(&peer.node, by_others(peer));
        }
    }
    for report in reports {
        rows.insert(&report.node, by_itself(report));
    }
    rows.into_values().collect()
}

fn by_others(peer: &PeerInfo) -> Row {
    Row {
        node: peer.node.clone(),
        state: if peer.online { "online" } else { "offline" },
        heard_ms_ago: Some(peer.heard_ms_ago),
        uptime_ms: None,
        host: peer.host.clone(),
        version: peer.version.clone(),
        channels: peer.channels.clone(),
    }
}

fn by_itself(report: &Report) -> Row {
    Row {
        node: report.node.clone(),
        state: "running",
        heard_ms_ago: None,
        uptime_ms: Some(report.uptime_ms),
        host: report.host.clone(),
        version: report.version.clone(),
        channels: report.channels.clone(),
    }
}

fn cells(row: &Row) -> [String; 6] {
    let millis = |ms: u64| span(Duration::from_millis(ms));
    let state = match row.heard_ms_ago {
        None => row.state.to_owned(),
        Some(ms) => format!("{} (heard {} ago)", row.state, millis(ms)),
    };
    let channel = |channel: &ChannelInfo| {
        let paused = if channel.paused { ", paused" } else { "" };
        format!("{} ({}{paused})", channel.name, channel.mode)
    };
    [
        row.node.to_string(),
        state,
        row.uptime_ms.map(millis).unwrap_or_default(),
        row.host.clone(),
        row.version.clone(),
        row.channels.iter().map(channel).collect::<Vec<_>>().join(", "),
    ]
}
