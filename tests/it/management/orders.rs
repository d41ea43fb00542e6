//! Orders between nodes: obeyed by the one that they name, once, audited there, or refused with a reason.

use std::time::Duration;

use crate::nodes::wire::{frame, header, overhear, say, stranger};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use serde_json::{Value, json};
use tempfile::TempDir;
use waypost::error::{ChannelError, OrderError, SendError};
use waypost::inspect::Inspector;
use waypost::management::{Observer, Scope, Task, Whom};
use waypost::{Config, Event, Management, Mode, NewMessage, Node, NodeId};

fn id(name: &str) -> NodeId {
    NodeId::new(name).expect("a valid name")
}

/// Two nodes that know each other.
async fn pair(server: &NatsServer, dir: &TempDir) -> (Node, Node) {
    let (hq, bob) = (start(server, dir, "hq").await, start(server, dir, "bob").await);
    peer_is(&hq, "bob", true).await;
    peer_is(&bob, "hq", true).await;
    (hq, bob)
}

/// What the node's audit says of orders, the newest first.
fn audit(node: &Node) -> Vec<String> {
    let rows = Inspector::open(node.storage()).and_then(|file| file.audit(100)).expect("its file");
    let orders = rows.into_iter().filter(|row| row.action == "order");
    orders.map(|row| format!("{}: {}", row.subject, row.detail)).collect()
}

async fn refusals(node: &Node) -> u64 {
    node.statistics().await.expect("it runs").counters.refused_frames
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_kicked_leaves_its_channels_and_stays_out_until_it_is_readmitted() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let mut events = bob.events();
    let work = bob.join("work", Mode::ReadWrite).await.expect("joined");
    let mut messages = work.messages().await.expect("attached");
    let done = hq.kick("bob").await.expect("obeyed");
    assert_eq!(done.left, 1);
    let by = event(&mut events, "kicked", |event| match event {
        Event::Kicked { by, channel: None } => Some(by.clone()),
        _ => None,
    });
    assert_eq!(by.await, id("hq"));
    assert!(messages.next().await.is_none(), "the stream has ended");
    let refused = bob.join("work", Mode::Reader).await;
    assert!(matches!(refused, Err(ChannelError::Kicked { by, .. }) if by == id("hq")));
    assert!(matches!(work.send("x").await, Err(SendError::Kicked { .. })));
    assert!(bob.channels().await.expect("it runs").is_empty());
    assert!(audit(&bob)[0].starts_with("hq: kick: left 1 channels"), "{:?}", audit(&bob));

    hq.readmit_node("bob").await.expect("obeyed");
    bob.join("work", Mode::ReadWrite).await.expect("joined again");
    hq.kick("bob").await.expect("obeyed");
    bob.readmit().await.expect("by itself");
    bob.join("work", Mode::Reader).await.expect("joined again");
    hq.kick("bob").await.expect("obeyed");
    bob.shutdown().await;
    let bob = start(&server, &dir, "bob").await;
    bob.join("work", Mode::Reader).await.expect("a restart ends it");
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_be_kicked_from_one_channel_alone() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let work = bob.join("work", Mode::ReadWrite).await.expect("joined");
    let chat = bob.join("chat", Mode::ReadWrite).await.expect("joined");
    let answers = hq.kick_channel("work", Whom::All).await.expect("sent");
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].result.as_ref().expect("obeyed").left, 1);
    assert!(matches!(work.send("x").await, Err(SendError::Kicked { .. })));
    chat.send("x").await.expect("the other one is as it was");
    assert!(bob.join("work", Mode::Reader).await.is_err());
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_what_is_purged_at_an_order_is_accounted_for() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    let got = collect(&hq.join("work", Mode::Reader).await.expect("joined")).await;
    reader_is_known(&bob, "work", "hq").await;
    send_numbers(&work, 0..3).await;
    arrived(&got, 3).await;
    settled(&bob).await;
    for _ in 0..5 {
        work.send(NewMessage::text("waits").to("carol")).await.expect("sent");
    }
    let answers = hq.purge_queue(Scope::Node(id("bob"))).await.expect("sent");
    let done = answers[0].result.as_ref().expect("obeyed");
    assert_eq!((done.purged, done.waiting), (5, 0));
    assert_eq!(columns(&bob, "carol").await, [5, 0, 0, 0, 0, 5]);
    let answers = hq.purge_all(Scope::Node(id("bob"))).await.expect("sent");
    let done = answers[0].result.as_ref().expect("obeyed");
    assert_eq!((done.purged, done.deleted), (0, 8));
    assert_eq!(columns(&bob, "hq").await, [3, 0, 3, 0, 0, 0]);
    send_numbers(&work, 3..6).await;
    assert_eq!(arrived(&got, 6).await, numbers(0..6));
    settled(&bob).await;
    bob.shutdown().await;
    let bob = start(&server, &dir, "bob").await;
    assert_eq!(columns(&bob, "hq").await, [6, 0, 6, 0, 0, 0]);
    assert_eq!(columns(&bob, "carol").await, [5, 0, 0, 0, 0, 5]);
    let own = bob.purge_sent(Scope::Own).await.expect("done");
    assert_eq!(own[0].result.as_ref().expect("obeyed").deleted, 3);
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_outlives_a_restart_and_readmit_ends_it_for_good() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    hq.drain("bob").await.expect("obeyed");
    assert_eq!(bob.status().draining, Some(id("hq")));
    // Killed, as far as its file can tell.
    drop(bob);
    let bob = start(&server, &dir, "bob").await;
    let mut events = bob.events_since_start();
    let by = event(&mut events, "draining", |event| match event {
        Event::Draining { by } => Some(by.clone()),
        _ => None,
    });
    assert_eq!(by.await, id("hq"));
    assert_eq!(bob.status().draining, Some(id("hq")));
    let work = bob.join("work", Mode::ReadWrite).await.expect("joined");
    let got = collect(&work).await;
    let refused = work.send("x").await.expect_err("it takes nothing");
    assert!(matches!(&refused, SendError::Draining { by } if *by == id("hq")), "{refused}");
    assert!(refused.to_string().contains("readmit"), "{refused}");
    let theirs = hq.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&hq, "work", "bob").await;
    theirs.send("waits").await.expect("sent");
    assert_eq!(columns(&hq, "bob").await[1], 1);
    assert!(seen(&got).is_empty());

    peer_is(&hq, "bob", true).await;
    hq.readmit_node("bob").await.expect("obeyed");
    assert_eq!(arrived(&got, 1).await, ["waits"]);
    assert_eq!(bob.status().draining, None);
    bob.shutdown().await;
    let bob = start(&server, &dir, "bob").await;
    assert_eq!(bob.status().draining, None);
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    work.send("x").await.expect("it takes messages");
    // A kick is over with a restart, and a drain is not taken away by one.
    hq.drain("bob").await.expect("obeyed");
    hq.kick("bob").await.expect("obeyed");
    assert_eq!(work.kicked_by(), Some(id("hq")));
    bob.shutdown().await;
    let bob = start(&server, &dir, "bob").await;
    let status = bob.status();
    assert_eq!((status.kicked, status.draining), (None, Some(id("hq"))));
    bob.readmit().await.expect("by itself");
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_drained_takes_nothing_and_tells_when_it_is_empty() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let mut events = bob.events();
    let work = bob.join("work", Mode::ReadWrite).await.expect("joined");
    let got = collect(&work).await;
    work.send(NewMessage::text("for hq").to("hq")).await.expect("sent");
    let done = hq.drain("bob").await.expect("obeyed");
    assert_eq!(done.waiting, 1);
    assert!(matches!(work.send("x").await, Err(SendError::Draining { by }) if by == id("hq")));
    let theirs = hq.join("work", Mode::ReadWrite).await.expect("joined");
    let at_hq = collect(&theirs).await;
    theirs.send(NewMessage::text("for bob").to("bob")).await.expect("sent");
    assert_eq!(arrived(&at_hq, 1).await, ["for hq"]);
    event(&mut events, "drained", |event| matches!(event, Event::Drained).then_some(())).await;
    assert!(seen(&got).is_empty());
    hq.readmit_node("bob").await.expect("obeyed");
    assert_eq!(arrived(&got, 1).await, ["for bob"]);
    work.send(NewMessage::text("again").to("hq")).await.expect("sent");
    assert_eq!(arrived(&at_hq, 2).await[1], "again");
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_forgets_whom_it_is_told_to_forget() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    work.send(NewMessage::text("waits").to("carol")).await.expect("sent");
    let answers = hq.forget_on("carol", Scope::Node(id("bob"))).await.expect("sent");
    assert_eq!(answers[0].result.as_ref().expect("obeyed").purged, 1);
    assert_eq!(columns(&bob, "carol").await, [0; 6]);
    hq.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_settings_of_a_node_say_whom_it_obeys() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let hq = start(&server, &dir, "hq").await;
    let only = Management::Only(vec![id("hq")]);
    let bob = begin(builder(&server, &dir, "bob").management(only)).await;
    let off = begin(builder(&server, &dir, "off").management(Management::Off)).await;
    for (one, other) in [(&hq, "bob"), (&hq, "off"), (&off, "bob")] {
        peer_is(one, other, true).await;
    }
    hq.drain("bob").await.expect("obeyed");
    for (by, to, word) in [(&off, "bob", "give no orders"), (&hq, "off", "management is off")] {
        let refused = by.kick(to).await;
        let Err(OrderError::Refused { node, reason }) = refused else { panic!("{refused:?}") };
        assert_eq!(node, id(to));
        assert!(reason.contains(word), "{reason}");
    }
    let what = "the refusals are in the audits";
    eventually_async(SOON, what, async || {
        audit(&off).iter().any(|row| row.starts_with("hq: kick: refused"))
            && audit(&bob).iter().any(|row| row.starts_with("off: kick: refused"))
    })
    .await;
    for node in [hq, bob, off] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_comes_again_is_answered_again_and_obeyed_once() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let bob = start(&server, &dir, "bob").await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let client = stranger(&server).await;
    let mut answers = overhear(&client, "waypost.mgmt.node.ops.*").await;
    let order = |task: Value, incarnation: Option<String>| {
        let order = json!({
            "t": "order", "from": "ops", "to": "bob", "order": u64::MAX, "incarnation": incarnation, "task": task
        });
        frame(&order, b"")
    };
    let kick = order(json!({"do": "kick"}), Some(bob.status().incarnation.to_string()));
    let mut left = Vec::new();
    for _ in 0..2 {
        say(&client, "waypost.order.bob.ops", kick.clone()).await;
        let answer = futures_util::StreamExt::next(&mut answers);
        let answer = tokio::time::timeout(SOON, answer).await.expect("in time").expect("an answer");
        left.push(header(&answer.payload)["result"]["done"]["left"].clone());
    }
    assert_eq!(left, [1, 1], "the first answer again: there was nothing left to leave");
    assert_eq!(audit(&bob).len(), 1);
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_orders_that_are_forged_or_malformed_do_nothing() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let client = stranger(&server).await;
    let order = |from: &str, to: &str, task: Value| {
        frame(&json!({"t": "order", "from": from, "to": to, "order": 1, "task": task}), b"")
    };
    let kick = || json!({"do": "kick"});
    let outcome =
        json!({"t": "outcome", "node": "bob", "to": "bob", "order": 1, "result": {"done": {}}});
    let before = refusals(&bob).await;
    let bad = [
        ("waypost.order.bob.eve", order("hq", "bob", kick())),
        ("waypost.order.bob.hq", order("hq", "carol", kick())),
        ("waypost.msg.bob.hq", order("hq", "bob", kick())),
        ("waypost.mgmt.node.bob.hq", order("hq", "bob", kick())),
        ("waypost.mgmt.all.hq", order("hq", "bob", kick())),
        ("waypost.order.bob.hq", order("hq", "bob", json!({"do": "kick_channel", "channel": ""}))),
        ("waypost.order.bob.hq", order("hq", "bob", json!({"do": "forget"}))),
        ("waypost.order.bob.hq", order("hq", "bob", json!("kick"))),
        ("waypost.order.bob.hq", b"WP\x01\x00\xff\xff\xff\xff{}".to_vec()),
        ("waypost.order.bob.bob", frame(&outcome, b"")),
    ];
    let count = bad.len() as u64;
    for (subject, bytes) in bad {
        say(&client, subject, bytes).await;
    }
    eventually_async(SOON, "all are refused", async || refusals(&bob).await == before + count)
        .await;
    assert_eq!(bob.channels().await.expect("it runs").len(), 1);
    assert!(audit(&bob).is_empty());
    for node in [hq, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_a_node_that_is_away_fails_and_does_not_wait_for_it() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    bob.shutdown().await;
    peer_is(&hq, "bob", false).await;
    for name in ["bob", "nobody"] {
        let failed = hq.kick(name).await;
        assert!(matches!(failed, Err(OrderError::Offline { node }) if node == id(name)));
    }
    let bob = start(&server, &dir, "bob").await;
    peer_is(&hq, "bob", true).await;
    bob.join("work", Mode::Reader).await.expect("nothing waited for it");
    assert!(audit(&bob).is_empty());

    // One that is there by its keepalives, and deaf.
    let _deaf = wire::Puppet::start(&server, "deaf").await;
    peer_is(&hq, "deaf", true).await;
    let unanswered = hq.drain("deaf").await;
    assert!(matches!(unanswered, Err(OrderError::Unanswered { node, .. }) if node == id("deaf")));
    let network = hq.network().await.expect("asked");
    assert_eq!(network.unanswered, [id("deaf")]);
    assert_eq!(network.reports.iter().map(|r| r.node.as_str()).collect::<Vec<_>>(), ["bob", "hq"]);
    for node in [hq, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_an_operator_see_the_whole_network() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let work = bob.join("work", Mode::Writer).await.expect("joined");
    work.send(NewMessage::text("waits").to("hq")).await.expect("sent");
    let network = hq.network().await.expect("asked");
    let backlog: Vec<_> = network.backlog().collect();
    assert_eq!(backlog, [(&id("bob"), Some(&id("hq")), 1)]);
    let report = hq.statistics_of("bob").await.expect("asked");
    assert_eq!((report.node.as_str(), report.counters.accepted), ("bob", 1));

    let mut config = Config::default();
    config.id = Some(id("ops"));
    config.nats = vec![server.url()];
    let mut observer = Observer::connect(&config).await.expect("connected");
    let nodes = [id("bob"), id("hq"), id("nobody")];
    let within = Duration::from_secs(2);
    let answers = observer.order(&nodes, &Task::PurgeQueue, within).await.expect("sent");
    observer.close().await;
    assert_eq!(answers[0].result.as_ref().expect("obeyed").purged, 1);
    assert_eq!(answers[1].result.as_ref().expect("obeyed").purged, 0);
    assert!(
        matches!(&answers[2].result, Err(OrderError::Offline { node }) if *node == id("nobody"))
    );
    assert!(audit(&bob)[0].starts_with("ops: purge queue: "));
    for node in [hq, bob] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_server_would_not_take_comes_shorter() {
    let (server, dir) =
        (NatsServer::with_config("max_payload: 4096"), tempfile::tempdir().expect("a folder"));
    let (hq, bob) = pair(&server, &dir).await;
    let out = bob.join("many", Mode::Writer).await.expect("joined");
    // An account each.
    for n in 0..100 {
        out.send(NewMessage::text("x").to(format!("receiver-{n:04}"))).await.expect("sent");
    }
    let report = hq.statistics_of("bob").await.expect("it answers");
    assert!(report.truncated && !report.accounts.is_empty(), "{}", report.accounts.len());
    for node in [hq, bob] {
        node.shutdown().await;
    }
}
