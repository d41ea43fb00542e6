//! A node of this command's own, and what it says on standard error about its connection.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};
use waypost::{Config, Event, Link, Node, Reason};

use crate::output::count;

/// What is given up within this time is told together.
const GATHER: Duration = Duration::from_secs(1);

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
        let mut given_up = GivenUp::default();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) if given_up.counts(&event) => {}
                    Some(event) => note(&event, &stood_back),
                    None => return given_up.say(),
                },
                () = given_up.is_due() => given_up.say(),
            }
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
        Event::LogHeld { bytes, readers } => warn!(
            "the log has {bytes} bytes, because another program{} keeps reading an old state of the file: end what it does (a backup, a database browser)",
            match readers.as_slice() {
                [] => String::new(),
                pids => format!(
                    " (process {})",
                    pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                ),
            }
        ),
        // For monitors, or told by the node itself as why messages don't move; the library's own log lines tell them with -v.
        _ => {}
    }
}

/// Messages that nobody will get: thousands may expire together, and are told in one line.
#[derive(Default)]
struct GivenUp {
    counts: BTreeMap<String, u64>,
    due: Option<Instant>,
}

impl GivenUp {
    /// Whether it is such an event.
    fn counts(&mut self, event: &Event) -> bool {
        let (what, count) = match event {
            Event::Expired { receiver, count, .. } => {
                (format!("for {receiver} expired undelivered"), count)
            }
            Event::ExpiredUnclaimed { channel, count } => {
                let channel = channel.as_str();
                (format!("on {channel:?} expired undelivered: no reader of it is known"), count)
            }
            Event::Dropped { receiver, count } => {
                (format!("for {receiver} given up: dropped for newer ones, or purged"), count)
            }
            Event::DroppedUnclaimed { channel, count } => {
                let channel = channel.as_str();
                (format!("on {channel:?} dropped for newer ones: no reader of it is known"), count)
            }
            _ => return false,
        };
        *self.counts.entry(what).or_default() += count;
        self.due.get_or_insert_with(|| Instant::now() + GATHER);
        true
    }

    async fn is_due(&self) {
        match self.due {
            Some(due) => tokio::time::sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    fn say(&mut self) {
        self.due = None;
        for (what, number) in std::mem::take(&mut self.counts) {
            warn!("{} {what}", count(number, "message"));
        }
    }
}
