//! Answers to `/stats`, `/nodes`, `/topology` and `/master`.

use std::fmt::Write as _;
use std::time::Duration;

use waypost::management::PeerInfo;
use waypost::{Mode, NodeId};

use super::paint::{Colours, span};
use crate::hub::Hub;

/// Who is online, and who is known besides.
pub(crate) async fn nodes(hub: &Hub, colours: Colours) -> anyhow::Result<String> {
    let mut peers = hub.node().peers().await?;
    peers.sort_by_key(|peer| (!peer.online, peer.node.clone()));
    let mut text = format!("{}  this node, {}", colours.name(hub.me()), hub.mode());
    for peer in peers {
        let here = peer.channels.iter().find(|channel| channel.name.as_str() == hub.channel());
        let part =
            here.map_or_else(|| "not on this channel".to_owned(), |here| here.mode.to_string());
        let state = match peer.online {
            true => "online".to_owned(),
            false => format!("away for {}", span(Duration::from_millis(peer.heard_ms_ago))),
        };
        let _ = write!(text, "\n{}  {state}, {part}, on {}", colours.name(&peer.node), host(&peer));
    }
    Ok(text)
}

/// A tree: channels, who takes part, and what waits for each.
pub(crate) async fn topology(hub: &Hub, colours: Colours) -> anyhow::Result<String> {
    let topology = hub.node().topology().await?;
    let statistics = hub.node().statistics().await?;
    let master = hub.node().master().map(|(node, _)| node);
    let pending = |node: &NodeId| {
        let account =
            statistics.accounts.iter().find(|account| account.receiver.as_ref() == Some(node));
        account.map_or(0, |account| account.pending)
    };
    let crown = |node: &NodeId| if master.as_ref() == Some(node) { ", master" } else { "" };
    let mut text = String::new();
    for channel in &topology.channels {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = write!(
            text,
            "{}\n  {}  {}, this node{}",
            channel.name,
            colours.name(&topology.node),
            part(channel.mode),
            crown(&topology.node)
        );
        for peer in &topology.peers {
            let Some(theirs) = peer.channels.iter().find(|theirs| theirs.name == channel.name)
            else {
                continue;
            };
            let state = if peer.online { "online" } else { "away" };
            let _ = write!(
                text,
                "\n  {}  {}, {state}{}",
                colours.name(&peer.node),
                part(theirs.mode),
                crown(&peer.node)
            );
            match pending(&peer.node) {
                0 => {}
                waiting => {
                    let _ = write!(text, ", {waiting} waiting for it");
                }
            }
        }
    }
    Ok(text)
}

/// The accounts of all receivers, and the counters.
pub(crate) async fn stats(hub: &Hub, colours: Colours) -> anyhow::Result<String> {
    let statistics = hub.node().statistics().await?;
    let counters = &statistics.counters;
    let mut text = format!(
        "up {}: {} accepted, {} delivered, {} sent again, {} received, {} repeated, {} reconnects",
        span(statistics.uptime),
        counters.accepted,
        counters.delivered,
        counters.redelivered,
        counters.processed,
        counters.repeated,
        counters.reconnects,
    );
    for account in &statistics.accounts {
        let name = account
            .receiver
            .as_ref()
            .map_or_else(|| "(no reader yet)".to_owned(), |name| colours.name(name));
        let _ = write!(
            text,
            "\n{name}  {} accepted = {} waiting + {} acknowledged + {} expired + {} dead + {} purged",
            account.accepted,
            account.pending,
            account.acknowledged,
            account.expired,
            account.dead,
            account.purged,
        );
    }
    let ignored = hub.ignored();
    if ignored.unknown + ignored.malformed > 0 {
        let _ = write!(
            text,
            "\nignored: {} of unknown kinds, {} malformed",
            ignored.unknown, ignored.malformed
        );
    }
    Ok(text)
}

/// Who leads.
pub(crate) fn master(hub: &Hub, colours: Colours) -> String {
    match hub.node().master() {
        Some((node, term)) if node == *hub.me() => format!("this node leads, in term {term}"),
        Some((node, term)) => format!("{} leads, in term {term}", colours.name(&node)),
        None => "nobody leads: no master is elected among the nodes that this one hears".to_owned(),
    }
}

fn part(mode: Mode) -> &'static str {
    match mode {
        Mode::Reader => "reads",
        Mode::Writer => "writes",
        Mode::ReadWrite => "reads and writes",
    }
}

fn host(peer: &PeerInfo) -> String {
    super::paint::harmless_line(&peer.host)
}
