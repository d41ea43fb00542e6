//! A node of this command's own, and what it says on standard error about its connection.

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{info, warn};
use waypost::{Config, Event, Link, Node, Reason};

use crate::output::count;

/// Starts a node and reports from then on what its user should know.
pub(super) async fn start(config: Config) -> anyhow::Result<(Node, Standing)> {
    let node = Node::builder().config(config).start().await.context("the node does not start")?;
    // Also what expired while it did not run, which is noticed at once.
    let mut events = node.events_since_start();
    let (stood_back, standing) = watch::channel(None);
    match node.status().link {
        Link::Connected { server } => info!("connected to {server}"),
        Link::Conflict { host } => drop(stood_back.send_replace(Some(host))),
        // The node's own log lines have told it.
        _ => {}
    }
    // Ends with the node's events.
    let telling = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            note(&event, &stood_back);
        }
    });
    Ok((node, Standing { stood_back: standing, telling }))
}

/// Whether another node with our name was there first; and who tells what happens.
#[derive(Debug)]
pub(super) struct Standing {
    stood_back: watch::Receiver<Option<String>>,
    telling: JoinHandle<()>,
}

impl Standing {
    /// Waits until this node has to stand back for another, and tells where that one runs. Cancelling loses nothing.
    pub(super) async fn lost(&mut self) -> anyhow::Error {
        match self.stood_back.wait_for(Option::is_some).await.map(|host| host.clone()) {
            Ok(Some(host)) => anyhow::anyhow!("{}", Reason::NameTaken { host }),
            // The node has stopped; whoever waits for it as well hears of that.
            _ => std::future::pending().await,
        }
    }

    /// Waits until all that happened is told. To be called once the node is shut down.
    pub(super) async fn told(self) {
        // It only panics where standard error does.
        let _ = self.telling.await;
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
            warn!("{} for {receiver} expired undelivered", messages(*count));
        }
        Event::ExpiredUnclaimed { channel, count } => {
            let channel = channel.as_str();
            warn!(
                "{} on {channel:?} expired undelivered: no reader of it is known",
                messages(*count)
            );
        }
        Event::Dropped { receiver, count } => {
            warn!(
                "{} for {receiver} given up: dropped for newer ones, or purged",
                messages(*count)
            );
        }
        Event::DroppedUnclaimed { channel, count } => {
            let (channel, count) = (channel.as_str(), messages(*count));
            warn!("{count} on {channel:?} dropped for newer ones: no reader of it is known");
        }
        Event::PeerForgotten { node, pending: 1.. } => {
            warn!("{node} was forgotten, with the messages that waited for it");
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

fn messages(number: u64) -> String {
    count(number, "message")
}
