//! What a node tells Prometheus, read strictly, while messages flow; readiness; the pages and the dashboard that speak of it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::exposition::Page;
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use waypost::management::{CheckState, Readiness};
use waypost::{Mode, NewMessage, Node};

const PAGE: &str = include_str!("../../../docs/metrics.md");
const DASHBOARD: &str = include_str!("../../../docs/grafana/waypost.json");

async fn metrics(node: &Node) -> Page {
    crate::exposition::read(&node.metrics().encode().await)
}

/// Waits until a page is so.
async fn told(node: &Node, what: &str, is_so: impl Fn(&Page) -> bool) -> Page {
    eventually_async(SOON, what, async || is_so(&metrics(node).await)).await;
    metrics(node).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_follow_the_messages() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let orders = alice.join("orders", Mode::Writer).await.expect("joined");
    let got = collect(&bob.join("orders", Mode::Reader).await.expect("joined")).await;
    reader_is_known(&alice, "orders", "bob").await;
    let before = metrics(&alice).await;
    assert_eq!(before.value("waypost_messages_accepted_total"), 0.0);
    assert_eq!(before.value("waypost_delivery_seconds_count"), 0.0);
    assert_eq!(before.value("waypost_peers_online"), 1.0);
    assert_eq!(before.value("waypost_connected"), 1.0);
    send_numbers(&orders, 0..10).await;
    arrived(&got, 10).await;
    let after = told(&alice, "all are delivered", |page| {
        page.value("waypost_messages_delivered_total") == 10.0
    })
    .await;
    assert_eq!(after.value("waypost_messages_accepted_total"), 10.0);
    assert_eq!(after.value("waypost_messages_sent_total"), 10.0);
    assert_eq!(after.value("waypost_delivery_seconds_count"), 10.0);
    let acks = after.value("waypost_ack_seconds_count");
    assert!(acks > 0.0 && acks <= after.value("waypost_acks_received_total"), "{after:?}");
    assert!(after.value("waypost_ack_seconds_sum") > 0.0);
    let fsyncs = |page: &Page| page.get("waypost_commit_seconds_count", &[("fsync", "yes")]);
    assert!(fsyncs(&after) >= fsyncs(&before).map(|count| count + 1.0), "{after:?}");
    assert!(after.value("waypost_commit_jobs_sum") >= 10.0);
    assert!(after.value("waypost_wal_bytes") > 0.0);
    let used = after.value("waypost_storage_used_bytes");
    assert!(used > 0.0 && used < after.value("waypost_storage_limit_bytes"), "{used}");
    told(&bob, "bob took them", |page| page.value("waypost_messages_processed_total") == 10.0)
        .await;
    let info = [("node", "alice"), ("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(after.get("waypost_node_info", &info), Some(1.0));
    assert_eq!(after.get("waypost_election_term", &[]), None, "no election");

    bob.shutdown().await;
    send_numbers(&orders, 10..13).await;
    let waiting = told(&alice, "three wait, for some time", |page| {
        let bob = [("receiver", "bob")];
        page.get("waypost_queue_messages", &bob) == Some(3.0)
            && page.get("waypost_queue_oldest_age_seconds", &bob) > Some(0.0)
            && page.value("waypost_peers_online") == 0.0
    });
    assert_eq!(waiting.await.value("waypost_messages_accepted_total"), 13.0);
    alice.shutdown().await;
    let last = metrics(&alice).await;
    assert_eq!(last.value("waypost_messages_accepted_total"), 13.0);
    assert_eq!(last.get("waypost_queue_messages", &[("receiver", "bob")]), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_shows_and_passes() {
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    assert_eq!(alice.readiness().await.state(), CheckState::Passed);
    server.stop();
    told(&alice, "it is cut off", |page| page.value("waypost_connected") == 0.0).await;
    let away = alice.readiness().await;
    assert_eq!(away.state(), CheckState::Waiting);
    assert!(reason(&away, "nats").contains("messages wait"), "{away:?}");
    server.restart();
    let back = told(&alice, "it is back", |page| page.value("waypost_connected") == 1.0).await;
    assert_eq!(back.value("waypost_reconnects_total"), 1.0);
    assert_eq!(alice.readiness().await.state(), CheckState::Passed);
    alice.shutdown().await;
    let ended = alice.readiness().await;
    assert_eq!(ended.state(), CheckState::Failed);
    assert!(reason(&ended, "node").contains("has ended"), "{ended:?}");
    let last = metrics(&alice).await;
    assert_eq!(last.value("waypost_connected"), 0.0, "what the driver said last is true no more");
    assert_eq!(last.value("waypost_peers_online"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_refuses_messages_is_not_ready_and_expiry_without_a_reader_counts() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let three = 3.try_into().expect("more than none");
    let alice = begin(builder(&server, &dir, "alice").queue_limit(three)).await;
    let orders = alice.join("orders", Mode::Writer).await.expect("joined");
    let to_bob = || NewMessage::text("x").to("bob");
    orders.send(to_bob()).await.expect("sent");
    // Below half of the limit, from which on it is near.
    assert_eq!(reason(&alice.readiness().await, "queues"), "have room");
    orders.send_all(vec![to_bob(), to_bob()]).await.expect("sent");
    orders.send(to_bob()).await.expect_err("three wait for bob");
    let full = alice.readiness().await;
    assert_eq!(full.state(), CheckState::Failed);
    assert!(reason(&full, "queues").starts_with("3 messages wait for bob, limit 3:"), "{full:?}");
    assert_eq!(metrics(&alice).await.value("waypost_messages_accepted_total"), 3.0);
    let brief = || NewMessage::text("x").ttl(Duration::from_millis(1));
    // As one transaction: they expire in the same millisecond.
    orders.send_all(vec![brief(), brief(), brief()]).await.expect("sent");
    let expired = "they expired before there was a reader, and made room";
    eventually_async(SOON, expired, async || orders.send("x").await.is_ok()).await;
    told(&alice, expired, |page| page.value("waypost_messages_expired_total") == 3.0).await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_is_not_ready_before_anything_was_sent() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    assert_eq!(alice.readiness().await.state(), CheckState::Passed);
    let mut blocked = alice.storage().into_os_string();
    blocked.push("-probe");
    // Where the probe would be, something is that cannot be written: as good as a disk that is not writable, also for root.
    std::fs::create_dir(&blocked).expect("a folder");
    let readiness = alice.readiness().await;
    assert_eq!(readiness.state(), CheckState::Failed);
    assert!(reason(&readiness, "file").contains("nothing can be written"), "{readiness:?}");
    std::fs::remove_dir(&blocked).expect("an empty folder");
    assert_eq!(alice.readiness().await.state(), CheckState::Passed);
    alice.shutdown().await;
}

fn reason(readiness: &Readiness, name: &str) -> String {
    let check = readiness.checks.iter().find(|check| check.check == name);
    check.unwrap_or_else(|| panic!("no {name} in {readiness:?}")).reason.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_file_is_not_ready_and_still_counts() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    std::fs::rename(alice.storage(), dir.path().join("elsewhere")).expect("renamed");
    eventually_async(SOON, "it is not ready", async || {
        alice.readiness().await.state() == CheckState::Failed
    })
    .await;
    let page = metrics(&alice).await;
    assert_eq!(page.value("waypost_file_writable"), 0.0);
    assert!(!page.families().contains("waypost_queue_messages"));
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_drained_is_not_ready() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    alice.wait_for(|status| status.peers_online == 1).await.expect("it runs");
    alice.drain("bob").await.expect("obeyed");
    let drained = bob.readiness().await;
    assert_eq!(drained.state(), CheckState::Failed);
    let why = reason(&drained, "intake");
    assert!(why.starts_with("this node is being drained by alice"), "{why}");
    for node in [alice, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_master_shows() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let a = begin(voter(builder(&server, &dir, "a"))).await;
    let b = begin(voter(builder(&server, &dir, "b"))).await;
    let mastery = async || {
        let pages = [metrics(&a).await, metrics(&b).await];
        pages.map(|page| {
            (page.value("waypost_election_master"), page.value("waypost_election_term"))
        })
    };
    eventually_async(SOON, "one of them leads, in a term that both know", async || {
        let [a, b] = mastery().await;
        a.0 + b.0 == 1.0 && a.1 == b.1 && a.1 > 0.0
    })
    .await;
    for node in [a, b] {
        node.shutdown().await;
    }
}

/// The names of metrics in a text, without what makes a sample of a histogram.
fn names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !is_part(c)).filter(|word| word.starts_with("waypost_"));
    let base = |word: &str| {
        let parts = ["_bucket", "_sum", "_count"].into_iter();
        let base = parts.filter_map(|part| word.strip_suffix(part)).next();
        base.unwrap_or(word).to_owned()
    };
    words.map(base).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_the_dashboard_name_what_a_node_tells() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let a = begin(voter(builder(&server, &dir, "a")).ack_timeout(Duration::from_secs(2))).await;
    // Of a queue it speaks once there is one.
    a.join("orders", Mode::Writer).await.expect("joined").send("one").await.expect("sent");
    let told = metrics(&a).await.families();
    assert_eq!(names(PAGE), told, "docs/metrics.md names all, and no others");
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).expect("valid JSON");
    let panels = dashboard["panels"].as_array().expect("a list").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let shown: BTreeSet<String> =
        targets.flat_map(|target| names(target["expr"].as_str().expect("an expression"))).collect();
    assert!(shown.len() > 15, "{shown:?}");
    let unknown: Vec<_> = shown.difference(&told).collect();
    assert!(unknown.is_empty(), "the dashboard asks for {unknown:?}");
    a.shutdown().await;
}
