//! `waypost topology`: who takes part in which channel.

use std::collections::BTreeMap;

use serde::Serialize;
use waypost::management::{ChannelInfo, Report};
use waypost::{ChannelName, Config, Mode, NodeId};

use super::master::master;
use super::reports;
use crate::args::Topology;
use crate::output::{Output, count, printable};
use crate::run::Outcome;

/// A channel and its members.
#[derive(Debug, Serialize)]
struct Row {
    channel: ChannelName,
    members: Vec<Member>,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    master: Option<&'a NodeId>,
    channels: &'a [Row],
    backlog: Vec<Edge<'a>>,
}

/// Messages of one node that wait for another; no receiver: for a channel's first reader.
#[derive(Debug, Serialize)]
struct Edge<'a> {
    from: &'a NodeId,
    to: Option<&'a NodeId>,
    pending: u64,
}

/// How a node takes part.
#[derive(Debug, Clone, Serialize)]
struct Member {
    node: NodeId,
    mode: Mode,
    paused: bool,
    online: bool,
    joined_ms_ago: u64,
}

pub(super) async fn run(
    config: &Config,
    args: Topology,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let reports = reports::collect(config).await?;
    if reports.is_empty() {
        return Ok(reports::unanswered("no node"));
    }
    let rows = rows(&reports);
    if args.dot {
        output.print(dot(&reports, &rows)).await?;
    } else if output.terminal() && !output.json() {
        output.print(tree(&reports, &rows)).await?;
    } else if output.json() {
        let backlog = backlog(&reports).collect();
        let master = master(&reports).map(|(node, _)| node);
        output.print_json(&Whole { master, channels: &rows, backlog }).await?;
    } else {
        let cells = rows.iter().map(|row| {
            [row.channel.to_string(), names(row, Mode::reads), names(row, Mode::writes)]
        });
        output.print_rows(["channel", "readers", "writers"], cells).await?;
    }
    Ok(reports::with_all(&reports, Outcome::Done))
}

fn backlog(reports: &[Report]) -> impl Iterator<Item = Edge<'_>> {
    reports.iter().flat_map(|report| {
        let waiting = report.accounts.iter().filter(|account| account.pending > 0);
        waiting.map(|account| Edge {
            from: &report.node,
            to: account.receiver.as_ref(),
            pending: account.pending,
        })
    })
}

impl Edge<'_> {
    fn receiver(&self) -> &str {
        self.to.map_or("(no reader yet)", NodeId::as_str)
    }
}

/// For people: each channel with its members, each node with what waits in it.
fn tree(reports: &[Report], rows: &[Row]) -> String {
    let mut lines = Vec::new();
    if let Some((node, term)) = master(reports) {
        lines.push(format!("master: {node} (term {term})"));
    }
    for row in rows {
        lines.push(row.channel.to_string());
        for (n, member) in row.members.iter().enumerate() {
            let branch = if n + 1 == row.members.len() { "└─" } else { "├─" };
            let state = match (member.online, member.paused) {
                (false, _) => ", offline",
                (true, true) => ", paused",
                (true, false) => "",
            };
            lines.push(format!("{branch} {} ({}{state})", member.node, member.mode));
        }
    }
    let waiting = backlog(reports).map(|edge| {
        let pending = count(edge.pending, "message");
        format!("{} -> {}: {pending} waiting", edge.from, edge.receiver())
    });
    lines.extend(waiting);
    lines.iter().map(|line| printable(line)).collect::<Vec<_>>().join("\n")
}

/// For Graphviz. Names of nodes hold nothing that would have to be escaped.
fn dot(reports: &[Report], rows: &[Row]) -> String {
    let mut nodes: BTreeMap<&NodeId, bool> = BTreeMap::new();
    nodes.extend(rows.iter().flat_map(|row| &row.members).map(|m| (&m.node, m.online)));
    nodes.extend(reports.iter().map(|report| (&report.node, true)));
    let mut lines = vec!["digraph waypost {".to_owned()];
    let master = master(reports).map(|(node, _)| node);
    for (node, online) in nodes {
        let style = match online {
            _ if master == Some(node) => " [style=bold, xlabel=\"master\"]",
            true => "",
            false => " [style=dashed]",
        };
        lines.push(format!("  \"{node}\"{style};"));
    }
    for row in rows {
        let channel = printable(row.channel.as_str()).replace('\\', "\\\\").replace('"', "\\\"");
        lines.push(format!("  \"#{channel}\" [shape=box];"));
        for member in &row.members {
            if member.mode.writes() {
                lines.push(format!("  \"{}\" -> \"#{channel}\";", member.node));
            }
            if member.mode.reads() {
                lines.push(format!("  \"#{channel}\" -> \"{}\";", member.node));
            }
        }
    }
    for edge in backlog(reports) {
        let (from, to, pending) = (edge.from, edge.receiver(), edge.pending);
        lines.push(format!("  \"{from}\" -> \"{to}\" [color=red, label=\"{pending}\"];"));
    }
    lines.push("}".to_owned());
    lines.join("\n")
}

fn rows(reports: &[Report]) -> Vec<Row> {
    // Others' word first, so that a node's own replaces it.
    let mut nodes: BTreeMap<&NodeId, (bool, &[ChannelInfo])> = BTreeMap::new();
    for peer in reports.iter().flat_map(|report| &report.peers) {
        let (online, channels) = nodes.entry(&peer.node).or_insert((peer.online, &peer.channels));
        if peer.online && !*online {
            (*online, *channels) = (true, &peer.channels);
        }
    }
    nodes.extend(reports.iter().map(|report| (&report.node, (true, &report.channels[..]))));

    let mut channels: BTreeMap<&ChannelName, Vec<Member>> = BTreeMap::new();
    for (node, (online, joined)) in nodes {
        for channel in joined {
            channels.entry(&channel.name).or_default().push(Member {
                node: node.clone(),
                mode: channel.mode,
                paused: channel.paused,
                online,
                joined_ms_ago: channel.age_ms,
            });
        }
    }
    let row = |(channel, members): (&ChannelName, _)| Row { channel: channel.clone(), members };
    channels.into_iter().map(row).collect()
}

fn names(row: &Row, takes_part: fn(Mode) -> bool) -> String {
    let name = |member: &Member| match (member.online, member.paused) {
        (false, _) => format!("{} (offline)", member.node),
        (true, true) => format!("{} (paused)", member.node),
        (true, false) => member.node.to_string(),
    };
    let members = row.members.iter().filter(|member| takes_part(member.mode));
    members.map(name).collect::<Vec<_>>().join(", ")
}
