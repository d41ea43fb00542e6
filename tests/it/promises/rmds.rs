//! The seven experiments at which RMDS, a system with the same aim, loses messages.

use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::wire::{Puppet, id_of};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use crate::support::tcp_proxy::TcpProxy;
use waypost::{Event, Mode};

#[tokio::test(flavor = "multi_thread")]
async fn rmds_1_an_ack_that_never_comes_is_retried_and_is_no_refusal() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let two = std::num::NonZeroU32::new(2).expect("above zero");
    let alice = begin(builder(&server, &dir, "alice").max_attempts(two)).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut bob = Puppet::start(&server, "bob").await;
    reader_is_known(&alice, "work", "bob").await;
    let mut events = alice.events();
    let id = out.send("0").await.expect("sent").to_string();
    out.send("1").await.expect("sent");
    // Three times the same message, none of them answered, and none a refusal.
    for _ in 1..=3 {
        let frame = bob.next().await;
        assert_eq!(id_of(&frame), id);
        assert_eq!(frame["try"], 1);
    }
    event(&mut events, "no answer", |event| match event {
        Event::Unanswered { times: 3, .. } => Some(()),
        _ => None,
    })
    .await;
    assert_eq!(columns(&alice, "bob").await, [2, 2, 0, 0, 0, 0], "it waits, however often");
    let file = waypost::inspect::Inspector::open(alice.storage()).expect("a node's file");
    let story = file.why(id.parse().expect("an id")).expect("readable").expect("on record");
    let answer = &story.receivers[0].failures[0].answer;
    assert!(answer.contains("it may have been handled"), "{answer}");
    let frame = bob.next().await;
    bob.answer(&frame, "ack").await;
    let mut frame = bob.next().await;
    while id_of(&frame) == id {
        frame = bob.next().await;
    }
    bob.answer(&frame, "ack").await;
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [2, 0, 2, 0, 0, 0]);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_1_an_ack_that_is_lost_on_the_way_is_asked_for_again_and_the_handler_is_not() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = std::sync::Arc::new(TcpProxy::start(server.port()));
    let alice = start(&server, &dir, "alice").await;
    let bob = begin(builder_at(&proxy.url(), &dir, "bob")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let handled = Got::default();
    let (seen_by, wire, node) = (handled.clone(), proxy.clone(), bob.clone());
    work.on_message(move |message| {
        let (seen, wire, node) = (seen_by.clone(), wire.clone(), node.clone());
        async move {
            // What it says after this does not get through.
            wire.cut();
            disconnected(&node).await;
            seen.lock().expect("not poisoned").push(message.text()?.to_owned());
            Ok(())
        }
    })
    .await
    .expect("attached");
    reader_is_known(&alice, "work", "bob").await;
    let mut events = bob.events();
    for n in 0..3 {
        let acks = async || bob.statistics().await.expect("it runs").counters.acks_sent;
        let before = acks().await;
        out.send(n.to_string()).await.expect("sent");
        arrived(&handled, n + 1).await;
        eventually_async(SOON, "it tried to answer", async || acks().await > before).await;
        proxy.heal();
        event(&mut events, "repeated", |event| {
            matches!(event, Event::Repeated { .. }).then_some(())
        })
        .await;
        settled(&alice).await;
    }
    assert_eq!(seen(&handled), numbers(0..3));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_2_what_was_sent_before_any_reader_was_known_arrives() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    // Bob joined first, and has not met Alice when she sends: there is no server in between yet.
    let proxy = TcpProxy::start(server.port());
    proxy.cut();
    let bob = begin(builder_at(&proxy.url(), &dir, "bob")).await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..20).await;
    assert_eq!(account(&alice, "").await.pending, 20, "they wait for a first reader");
    assert!(!alice.flush(Duration::ZERO).await.expect("it runs").is_complete());
    proxy.heal();
    assert_eq!(arrived(&got, 20).await, numbers(0..20));
    settled(&alice).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_3_nodes_that_start_without_a_server_deliver_when_there_is_one() {
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    // Only its port is taken; no node has seen it.
    server.stop();
    let url = server.url();
    let mut nodes = Vec::new();
    for name in ["alice", "bob", "eve", "ida"] {
        let node = begin(builder_at(&url, &dir, name)).await;
        let work = node.join("work", Mode::ReadWrite).await.expect("joined");
        let got = collect(&work).await;
        nodes.push((node, work, got));
    }
    for n in 0..10 {
        for (node, work, _) in &nodes {
            work.send(format!("{} {n}", node.id())).await.expect("sent");
        }
    }
    server.restart();
    for (node, _, got) in &nodes {
        let got = arrived(got, 30).await;
        for sender in
            ["alice", "bob", "eve", "ida"].into_iter().filter(|s| *s != node.id().as_str())
        {
            let from: Vec<String> = got.iter().filter(|t| t.starts_with(sender)).cloned().collect();
            let expected: Vec<String> = (0..10).map(|n| format!("{sender} {n}")).collect();
            assert_eq!(from, expected);
        }
        assert_eq!(got.len(), 30);
    }
    for (node, ..) in &nodes {
        settled(node).await;
    }
    for (node, ..) in &nodes {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_4_a_reader_killed_in_mid_stream_loses_nothing_and_repeats_at_most_one() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..100).await;
    bob.wrote(50).await;
    let more = out.clone();
    let sending = tokio::spawn(async move { send_numbers(&more, 100..400).await });
    let mut lines = bob.kill();
    sending.await.expect("it was sent");
    send_numbers(&out, 400..500).await;
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    settled(&alice).await;
    lines.extend(bob.kill());
    let total = lines.len();
    lines.dedup();
    assert_eq!(lines, numbers(0..500));
    assert!(total <= 501, "{total}");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_5_a_sender_killed_with_messages_pending_delivers_them_after_its_restart() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let alice = Child::start("send 0 50", &server.url(), &dir, "alice");
    alice.wrote(50).await;
    drop(alice);
    let got = collect(&work).await;
    let alice = start(&server, &dir, "alice").await;
    // It does not have to join the channel again for what it sent before.
    assert_eq!(arrived(&got, 50).await, numbers(0..50));
    settled(&alice).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_6_two_late_acks_settle_their_message_once_and_nothing_else() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut bob = Puppet::start(&server, "bob").await;
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..3).await;
    let first = bob.next().await;
    let again = bob.next().await;
    assert_eq!(id_of(&first), id_of(&again), "it was sent again in the meantime");
    // Both attempts are answered, late.
    bob.answer(&first, "ack").await;
    bob.answer(&again, "ack").await;
    let mut second = bob.next().await;
    while id_of(&second) == id_of(&first) {
        second = bob.next().await;
    }
    bob.answer(&first, "ack").await;
    let unmatched = async || alice.statistics().await.expect("it runs").counters.unmatched_answers;
    eventually_async(SOON, "the two late ones fit nothing", async || unmatched().await == 2).await;
    assert_eq!(columns(&alice, "bob").await, [3, 2, 1, 0, 0, 0]);
    bob.answer(&second, "ack").await;
    let mut third = bob.next().await;
    while id_of(&third) == id_of(&second) {
        third = bob.next().await;
    }
    bob.answer(&third, "ack").await;
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [3, 0, 3, 0, 0, 0]);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rmds_7_a_receiver_away_for_longer_than_the_offline_timeout_gets_everything() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..5).await;
    settled(&alice).await;
    let mut events = alice.events();
    // Without a goodbye: the node is cancelled, and falls silent.
    drop(bob);
    let goodbye = event(&mut events, "offline", |event| match event {
        Event::PeerOffline { node, goodbye } => (node.as_str() == "bob").then_some(*goodbye),
        _ => None,
    });
    assert!(!goodbye.await);
    send_numbers(&out, 5..25).await;
    let bob = start(&server, &dir, "bob").await;
    collect_into(&bob.join("work", Mode::Reader).await.expect("joined"), &got).await;
    assert_eq!(arrived(&got, 25).await, numbers(0..25));
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [25, 0, 25, 0, 0, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_receiver_that_is_silent_gets_one_message_again_and_again_and_no_other() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let builder = builder(&server, &dir, "alice").max_retry_delay(Duration::from_millis(200));
    let alice = begin(builder).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut bob = Puppet::start(&server, "bob").await;
    reader_is_known(&alice, "work", "bob").await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(out.send(n.to_string()).await.expect("sent").to_string());
    }
    for id in ids {
        let mut frame = bob.next().await;
        while id_of(&frame) < id {
            // A repetition that was on its way when its ack came.
            frame = bob.next().await;
        }
        for _ in 0..3 {
            assert_eq!(id_of(&frame), id);
            frame = bob.next().await;
        }
        bob.answer(&frame, "ack").await;
    }
    settled(&alice).await;
    alice.shutdown().await;
}
