//! A node of this command's own, and what it says on standard error about its connection.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::{info, warn};
use waypost::{Config, Event, Link, Node, NodeId, Reason};

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

/// Messages that nobody will get: thousands may expire or be refused together, and are told in one line.
#[derive(Default)]
struct GivenUp {
    counts: BTreeMap<String, u64>,
    /// By receiver: how many, and the first of them with why.
    dead: BTreeMap<NodeId, (u64, String)>,
    due: Option<Instant>,
}

impl GivenUp {
    /// Whether it is such an event.
    fn counts(&mut self, event: &Event) -> bool {
        let (what, count) = match event {
            Event::DeadLettered { receiver, id, reason } => {
                let first = || (0, format!("{id}: {reason}"));
                self.dead.entry(receiver.clone()).or_insert_with(first).0 += 1;
                self.due.get_or_insert_with(|| Instant::now() + GATHER);
                return true;
            }
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
        for line in self.take() {
            warn!("{line}");
        }
    }

    /// A line for each receiver and kind.
    fn take(&mut self) -> Vec<String> {
        let Self { counts, dead, .. } = std::mem::take(self);
        let dead = dead.into_iter().map(|(receiver, (number, first))| match number {
            1 => format!("{receiver} does not take message {first}; it is a dead letter now"),
            _ => format!(
                "{receiver} does not take {number} messages, which are dead letters now, the first of them {first}"
            ),
        });
        let counts =
            counts.into_iter().map(|(what, number)| format!("{} {what}", count(number, "message")));
        dead.chain(counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use waypost::MessageId;

    use super::*;

    #[tokio::test]
    async fn what_many_receivers_give_up_together_is_a_line_each() {
        let bob = NodeId::new("bob").expect("a valid name");
        let dead = |id| Event::DeadLettered {
            receiver: bob.clone(),
            id: MessageId::from_u128(id),
            reason: "not today".to_owned(),
        };
        let mut given_up = GivenUp::default();
        assert!(given_up.counts(&dead(1)));
        let first = MessageId::from_u128(1);
        assert_eq!(
            given_up.take(),
            [format!("bob does not take message {first}: not today; it is a dead letter now")]
        );
        for id in 1..=100_000 {
            assert!(given_up.counts(&dead(id)));
        }
        assert!(given_up.counts(&Event::Dropped { receiver: bob.clone(), count: 2 }));
        assert_eq!(
            given_up.take(),
            [
                format!(
                    "bob does not take 100000 messages, which are dead letters now, the first of them {first}: not today"
                ),
                "2 messages for bob given up: dropped for newer ones, or purged".to_owned(),
            ]
        );
        assert!(given_up.take().is_empty() && given_up.due.is_none());
        assert!(!given_up.counts(&Event::StorageFull));
    }
}
