//! Nodes for tests: quick to notice, quick to retry; and waiting for what they are to do.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

pub mod child;
pub mod wire;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waypost::event::Event;
use waypost::management::Account;
use waypost::{Builder, Channel, Events, Node};

use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;

/// What has not happened by then does not happen any more.
pub const SOON: Duration = Duration::from_secs(45);

/// A builder with a file in this folder and short times.
pub fn builder(server: &NatsServer, dir: impl AsRef<Path>, id: &str) -> Builder {
    builder_at(&server.url(), dir, id)
}

/// The same, for a server at this address.
pub fn builder_at(url: &str, dir: impl AsRef<Path>, id: &str) -> Builder {
    Node::builder()
        .id(id)
        .nats([url])
        .storage(dir.as_ref().join("{id}.db"))
        .keepalive_interval(Duration::from_millis(500))
        .offline_after(Duration::from_secs(3))
        .ack_timeout(Duration::from_secs(1))
        .retry_delay(Duration::from_millis(100))
        .shutdown_timeout(Duration::from_secs(5))
}

/// The same as one of the voters a, b and c, with an election that is quick, and not upset by a machine that is busy.
pub fn voter(builder: Builder) -> Builder {
    let times = waypost::ElectionTimes {
        beat: Duration::from_millis(250),
        lost_after: Duration::from_millis(1500),
        jitter: Duration::from_millis(300),
        lease_margin: Duration::from_millis(300),
        handoff: Duration::from_secs(2),
    };
    let election = waypost::Election::quorum(["a", "b", "c"]).expect("valid names");
    builder.election(election).election_times(times)
}

/// A node with a file in this folder and short times.
pub async fn start(server: &NatsServer, dir: impl AsRef<Path>, id: &str) -> Node {
    begin(builder(server, dir, id)).await
}

/// Starts the node as soon as its file is free: one that was dropped or killed needs a moment to let go of it.
pub async fn begin(builder: Builder) -> Node {
    let end = tokio::time::Instant::now() + SOON;
    loop {
        match builder.clone().start().await {
            Ok(node) => return node,
            Err(error) if is_in_use(&error) && tokio::time::Instant::now() < end => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("no start: {error:?}"),
        }
    }
}

fn is_in_use(error: &waypost::error::StartError) -> bool {
    use waypost::error::{OpenError, StartError, StoreOpenError};
    matches!(
        error,
        StartError::Storage(StoreOpenError::Open(OpenError::InUse { .. } | OpenError::Busy { .. }))
    )
}

/// What has arrived.
pub type Got = Arc<Mutex<Vec<String>>>;

/// Collects the texts of all messages of this channel.
pub async fn collect(channel: &Channel) -> Got {
    let got = Got::default();
    collect_into(channel, &got).await;
    got
}

/// The same, behind what has arrived already.
pub async fn collect_into(channel: &Channel, got: &Got) {
    let seen = got.clone();
    channel
        .on_message(move |message| {
            let seen = seen.clone();
            async move {
                seen.lock().expect("not poisoned").push(message.text()?.to_owned());
                Ok(())
            }
        })
        .await
        .expect("attached");
}

/// What has arrived so far.
pub fn seen(got: &Got) -> Vec<String> {
    got.lock().expect("not poisoned").clone()
}

/// Waits until so many have arrived; what they are.
pub async fn arrived(got: &Got, count: usize) -> Vec<String> {
    let what = format!("{count} messages arrive");
    eventually_async(SOON, &what, async || seen(got).len() >= count).await;
    seen(got)
}

/// The texts that [`send_numbers`] sends.
pub fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// Sends these numbers one by one.
pub async fn send_numbers(channel: &Channel, range: std::ops::Range<usize>) {
    for text in numbers(range) {
        channel.send(text).await.expect("sent");
    }
}

/// Waits until all is settled.
#[track_caller]
pub fn settled(node: &Node) -> impl Future<Output = ()> {
    let (node, caller) = (node.clone(), std::panic::Location::caller());
    async move {
        let flushed = node.flush(SOON).await.expect("it runs");
        assert!(flushed.is_complete(), "{caller}: {flushed:?}");
    }
}

/// The account of this receiver; of the first reader to come for "".
pub async fn account(node: &Node, receiver: &str) -> Account {
    let accounts = node.statistics().await.expect("it runs").accounts;
    let its =
        |account: &Account| account.receiver.as_ref().map_or("", |id| id.as_str()) == receiver;
    let account = accounts.into_iter().find(its).unwrap_or_default();
    assert!(account.is_balanced(), "{account:?}");
    account
}

/// The account as (accepted, pending, acknowledged, expired, dead, purged).
pub async fn columns(node: &Node, receiver: &str) -> [u64; 6] {
    let Account { accepted, pending, acknowledged, expired, dead, purged, .. } =
        account(node, receiver).await;
    [accepted, pending, acknowledged, expired, dead, purged]
}

/// Waits until the account stands so.
pub async fn account_is(node: &Node, receiver: &str, what: impl Fn(&Account) -> bool) {
    let found = Mutex::new(Account::default());
    let end = tokio::time::Instant::now() + SOON;
    loop {
        let now = account(node, receiver).await;
        if what(&now) {
            return;
        }
        *found.lock().expect("not poisoned") = now;
        assert!(tokio::time::Instant::now() < end, "{receiver}: {found:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until this peer is online, or is not.
pub async fn peer_is(node: &Node, peer: &str, online: bool) {
    let what = format!("{peer} is online for {}: {online}", node.id());
    eventually_async(SOON, &what, async || {
        let peers = node.peers().await.expect("it runs");
        peers.iter().any(|p| p.node.as_str() == peer && p.online) == online
    })
    .await;
}

/// Waits until this peer has a cursor: what is sent from now on is for it.
pub async fn reader_is_known(node: &Node, channel: &str, reader: &str) {
    let what = format!("{} knows that {reader} reads {channel}", node.id());
    eventually_async(SOON, &what, async || {
        let readers = node.subscribers(channel).await.expect("a valid name");
        readers.iter().any(|id| id.as_str() == reader)
    })
    .await;
}

/// Waits until the node is connected.
pub async fn connected(node: &Node) {
    let wait = node.wait_for(|status| status.link.is_connected());
    tokio::time::timeout(SOON, wait).await.expect("it connects").expect("it runs");
}

/// Waits until the node is not connected.
pub async fn disconnected(node: &Node) {
    let wait = node.wait_for(|status| !status.link.is_connected());
    tokio::time::timeout(SOON, wait).await.expect("it notices").expect("it runs");
}

/// The first event that this function likes.
pub async fn event<T>(events: &mut Events, what: &str, like: impl Fn(&Event) -> Option<T>) -> T {
    let next = async {
        loop {
            let event = events.next().await.expect("the node runs");
            if let Some(found) = like(&event) {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(SOON, next).await;
    found.unwrap_or_else(|_| panic!("no event: {what}"))
}
