//! A node of this command's own, and what it says on standard error about its connection.

use anyhow::Context;
use tokio::sync::watch;
use tracing::{info, warn};
use waypost::{Config, Event, Link, Node, Reason};

/// Starts a node and reports from then on what its user should know.
pub(super) async fn start(config: Config) -> anyhow::Result<(Node, Standing)> {
    let node = Node::builder().config(config).start().await.context("the node does not start")?;
    let mut events = node.events();
    let (stood_back, standing) = watch::channel(None);
    match node.status().link {
        Link::Connected { server } => info!("connected to {server}"),
        Link::Conflict { host } => drop(stood_back.send_replace(Some(host))),
        // The node's own log lines have told it.
        _ => {}
    }
    // Ends with the node's events.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            note(&event, &stood_back);
        }
    });
    Ok((node, Standing(standing)))
}

/// Whether another node with our name was there first.
#[derive(Debug, Clone)]
pub(super) struct Standing(watch::Receiver<Option<String>>);

impl Standing {
    /// Waits until this node has to stand back for another, and tells where that one runs. Cancelling loses nothing.
    pub(super) async fn lost(&mut self) -> anyhow::Error {
        match self.0.wait_for(Option::is_some).await.map(|host| host.clone()) {
            Ok(Some(host)) => anyhow::anyhow!("{}", Reason::NameTaken { host }),
            // The node has stopped; whoever waits for it as well hears of that.
            _ => std::future::pending().await,
        }
    }
}

fn note(event: &Event, stood_back: &watch::Sender<Option<String>>) {
    match event {
        Event::Connected { server } => info!("connected to {server}"),
        Event::Conflict { host, stopped: true, .. } => {
            stood_back.send_replace(Some(host.clone()));
        }
        Event::Conflict { host, .. } => {
            warn!("another node with this name was started on {host}; it should stand back");
        }
        Event::PeerOnline { node, .. } => info!("{node} is online"),
        Event::PeerOffline { node, .. } => info!("{node} is offline"),
        Event::PeerLostItsFile { node } => warn!("{node} came back with another file"),
        Event::DeadLettered { receiver, id, reason } => {
            warn!("{receiver} does not take message {id}, which is a dead letter now: {reason}");
        }
        Event::Expired { receiver, count, .. } => {
            warn!("{count} expired before {receiver} took them");
        }
        Event::ExpiredUnclaimed { channel, count } => {
            warn!("{count} on {:?} expired before any reader was known", channel.as_str());
        }
        Event::Gap { sender, channel, count, .. } => {
            warn!(
                "{count} of {sender} on {:?} will not come: expired, dropped or dead there",
                channel.as_str()
            );
        }
        Event::InboxWentBack { sender, .. } => {
            warn!(
                "this file knows less of {sender}'s messages than it once did: is it an older copy?"
            );
        }
        Event::OutboxWentBack { receiver, .. } => {
            warn!("{receiver} knows newer messages of ours than this file: is it an older copy?");
        }
        // For monitors, or told by the node itself as why messages don't move; the library's own log lines tell them with -v.
        _ => {}
    }
}
