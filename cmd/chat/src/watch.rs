//! Watches the node: who is there, the connection, and what was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use waypost::management::PeerInfo;
use waypost::{Event, Events, Link, Priority, Reason};

use crate::hub::{Hub, NOT_YET, Notice};

/// Between two looks at who is there and at marks, where no event tells of a change.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// What is delivered within this time is looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// Runs until the node has stopped.
pub(crate) async fn run(hub: Arc<Hub>, mut events: Events) {
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut marks_at: Option<Instant> = None;
    let mut waiting = 0;
    let mut given_up = GivenUp::default();
    let mut stalls = Stalls::default();
    loop {
        let gathered = async {
            match marks_at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            event = events.next() => match event {
                Some(Event::Stalled { reason }) => stalls.begin(&hub, reason),
                Some(Event::Resumed { reason }) => stalls.end(&hub, &reason),
                Some(event) => {
                    if note(&hub, &mut given_up, &event).await {
                        marks_at.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                }
                None => return,
            },
            () = hub.moved.notified() => {
                marks_at.get_or_insert_with(|| Instant::now() + GATHER);
            }
            () = gathered => {
                marks_at = None;
                refresh(&hub).await;
                given_up.say(&hub);
            }
            _ = ticks.tick() => {
                look(&hub).await;
                refresh(&hub).await;
                if let Err(error) = hub.sample().await {
                    tracing::debug!("statistics: {error:#}");
                }
            }
        }
        let now = hub.waiting();
        if now != waiting {
            waiting = now;
            hub.tell(Notice::Waiting(now));
        }
    }
}

async fn refresh(hub: &Hub) {
    if let Err(error) = hub.refresh_marks().await {
        tracing::debug!("marks: {error:#}");
    }
}

/// Who is there, and how the connection is.
async fn look(hub: &Hub) {
    show_link(hub, &hub.node().status().link);
    let Ok(topology) = hub.node().topology().await else { return };
    let takes_part = |peer: &PeerInfo| {
        peer.channels.iter().any(|channel| channel.name.as_str() == hub.channel())
    };
    let (mut online, mut away) = (BTreeSet::new(), BTreeSet::new());
    for peer in topology.peers.into_iter().filter(takes_part) {
        if peer.online { &mut online } else { &mut away }.insert(peer.node);
    }
    hub.set_present(online, away);
}

/// Messages that nobody will get: thousands may expire together, and are told in one line.
#[derive(Default)]
struct GivenUp(BTreeMap<String, u64>);

impl GivenUp {
    fn add(&mut self, what: String, count: u64) {
        *self.0.entry(what).or_default() += count;
    }

    fn say(&mut self, hub: &Hub) {
        for (what, count) in std::mem::take(&mut self.0) {
            let messages = if count == 1 { "message" } else { "messages" };
            hub.tell(Notice::Warning(format!("{count} {messages} {what}")));
        }
    }
}

/// Why messages don't move, as it was told here: in the node's own words.
#[derive(Default)]
struct Stalls(Vec<Reason>);

impl Stalls {
    fn begin(&mut self, hub: &Hub, reason: Reason) {
        if shown_by_the_link(&reason) || self.0.iter().any(|known| known.is_about_the_same(&reason))
        {
            return;
        }
        hub.tell(Notice::Warning(reason.to_string()));
        self.0.push(reason);
    }

    fn end(&mut self, hub: &Hub, reason: &Reason) {
        let before = self.0.len();
        self.0.retain(|known| !known.is_about_the_same(reason));
        if self.0.len() < before {
            hub.tell(Notice::Warning(reason.over()));
        }
    }
}

/// An outage is shown all the time that it lasts. Why else there is no connection needs somebody who does something about it.
const fn shown_by_the_link(reason: &Reason) -> bool {
    matches!(reason, Reason::NoServer { .. })
}

/// Whether marks may have changed.
async fn note(hub: &Hub, given_up: &mut GivenUp, event: &Event) -> bool {
    let warn = |text: String| hub.tell(Notice::Warning(text));
    match event {
        Event::Connected { .. } => hub.set_link(true, ""),
        Event::Disconnected { reason } => hub.set_link(false, reason),
        Event::Unauthorized { reason } => hub.set_link(false, reason),
        Event::PeerOnline { .. }
        | Event::PeerOffline { .. }
        | Event::PeerForgotten { .. }
        | Event::ReaderJoined { .. }
        | Event::ReaderLeft { .. } => {
            look(hub).await;
            return true;
        }
        Event::Delivered { .. } => return true,
        // In the low lane are read marks, and somebody who was typing.
        Event::Expired { lane: Priority::Low, .. } => return true,
        Event::Expired { receiver, count, .. } => {
            given_up.add(format!("for {receiver} expired undelivered"), *count);
            return true;
        }
        Event::Dropped { receiver, count } => {
            given_up
                .add(format!("for {receiver} given up: dropped for newer ones, or purged"), *count);
            return true;
        }
        Event::ExpiredUnclaimed { count, .. } => {
            given_up.add("expired undelivered: nobody reads the channel".to_owned(), *count);
            return true;
        }
        Event::LimitNear(near) => warn(near.reason().to_string()),
        Event::DeadLettered { receiver, reason, .. } => {
            warn(format!("{receiver} does not take a message: {reason}"));
            return true;
        }
        Event::Conflict { host, stopped: true, .. } => {
            let reason = format!("another node with this name runs on {host}");
            hub.set_link(false, &reason);
        }
        Event::Conflict { host, .. } => {
            warn(format!("another node with this name was started on {host}"));
        }
        // In the low lane somebody was typing, long ago.
        Event::Gap { lane: Priority::Low, .. } => {}
        Event::Gap { sender, count, .. } => {
            warn(format!(
                "{count} messages of {sender} will not come: they expired or were dropped there"
            ));
        }
        Event::InboxWentBack { .. } | Event::OutboxWentBack { .. } => {
            warn("this node's file is an older copy of itself".into());
        }
        // Told as why messages don't move, or for monitors.
        _ => {}
    }
    false
}

fn show_link(hub: &Hub, link: &Link) {
    match link {
        Link::Connected { .. } => hub.set_link(true, ""),
        Link::Disconnected { reason, .. } | Link::Unauthorized { reason } => {
            hub.set_link(false, reason)
        }
        Link::Conflict { host } => {
            hub.set_link(false, &format!("another node with this name runs on {host}"));
        }
        _ => hub.set_link(false, NOT_YET),
    }
}
