//! `waypost topology`: who takes part in which channel.

use std::collections::BTreeMap;

use serde::Serialize;
use waypost::management::{ChannelInfo, Report};
use waypost::{ChannelName, Config, Mode, NodeId};

use super::reports;
use crate::output::Output;
use crate::run::Outcome;

/// A channel and its members.
#[derive(Debug, Serialize)]
struct Row {
    channel: ChannelName,
    members: Vec<Member>,
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

pub(super) async fn run(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let reports = reports::collect(config).await?;
    if reports.is_empty() {
        return Ok(reports::unanswered("no node"));
    }
    let rows = rows(&reports);
    if output.json() {
        output.print_json(&rows).await?;
    } else {
        let cells = rows.iter().map(|row| {
            [row.channel.to_string(), names(row, Mode::reads), names(row, Mode::writes)]
        });
        output.print_rows(["channel", "readers", "writers"], cells).await?;
    }
    Ok(Outcome::Done)
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
