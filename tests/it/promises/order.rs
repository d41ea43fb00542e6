//! P3: each sender's messages arrive in the order of their commits. P4: one unacknowledged frame a receiver, seen on the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use futures_util::StreamExt;
use waypost::{Mode, NewMessage, Node, Priority};

/// What a handler saw: sender, channel, lane and text.
type Seen = Arc<Mutex<Vec<(String, String, Priority, String)>>>;

async fn watch(node: &Node, channel: &str, seen: &Seen) {
    let channel = node.join(channel, Mode::Reader).await.expect("joined");
    let seen = seen.clone();
    channel
        .on_message(move |message| {
            let seen = seen.clone();
            async move {
                let text = message.text()?.to_owned();
                let (sender, channel) =
                    (message.sender().to_string(), message.channel().to_string());
                seen.lock().expect("not poisoned").push((
                    sender,
                    channel,
                    message.priority(),
                    text,
                ));
                Ok(())
            }
        })
        .await
        .expect("attached");
}

/// Every sender's every channel's every lane counts up from 0 to `count` without a hole or a step back.
fn assert_in_order(seen: &Seen, orders: usize, count: usize) {
    let mut by_order: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (sender, channel, lane, text) in seen.lock().expect("not poisoned").iter() {
        let number = text.parse().expect("a number");
        by_order.entry((sender.clone(), channel.clone(), *lane)).or_default().push(number);
    }
    assert_eq!(by_order.len(), orders);
    let expected: Vec<usize> = (0..count).collect();
    for (order, numbers) in by_order {
        assert_eq!(numbers, expected, "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_three_senders_two_channels_three_lanes_each_in_order_over_a_restart_of_everybody() {
    const COUNT: usize = 40;
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let seen = Seen::default();
    let mut senders = Vec::new();
    for name in ["alice", "anna", "arno"] {
        senders.push(start(&server, &dir, name).await);
    }
    let mut bob = start(&server, &dir, "bob").await;
    for channel in ["red", "blue"] {
        watch(&bob, channel, &seen).await;
    }
    for half in [0..COUNT / 2, COUNT / 2..COUNT] {
        for n in half.clone() {
            for node in &senders {
                for channel in ["red", "blue"] {
                    let channel = node.join(channel, Mode::Writer).await.expect("joined");
                    let each = |lane| NewMessage::text(n.to_string()).priority(lane);
                    channel.send_all(Priority::ALL.map(each).into()).await.expect("sent");
                }
            }
            if n == COUNT / 4 {
                server.kill();
            }
        }
        if half.start == 0 {
            // Everybody starts again while much of it still waits.
            for node in &mut senders {
                node.shutdown().await;
                *node = start(&server, &dir, node.id().as_str()).await;
            }
            bob.shutdown().await;
            server.restart();
            bob = start(&server, &dir, "bob").await;
            for channel in ["red", "blue"] {
                watch(&bob, channel, &seen).await;
            }
        }
    }
    for node in &senders {
        reader_is_known(node, "red", "bob").await;
        settled(node).await;
    }
    assert_in_order(&seen, 3 * 2 * 3, COUNT);
    for node in senders.iter().chain([&bob]) {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_message_is_never_handled_before_its_predecessor_is_settled() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let tries: Got = Got::default();
    let seen = tries.clone();
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    work.on_message(move |message| {
        let seen = seen.clone();
        async move {
            let text = message.text()?.to_owned();
            let mut tries = seen.lock().expect("not poisoned");
            tries.push(text.clone());
            let before = tries.iter().filter(|other| **other == text).count();
            if before < 3 { Err("not yet".into()) } else { Ok(()) }
        }
    })
    .await
    .expect("attached");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..4).await;
    let tries = arrived(&tries, 12).await;
    settled(&alice).await;
    let thrice = |n: usize| [n, n, n].map(|n| n.to_string());
    assert_eq!(tries, (0..4).flat_map(thrice).collect::<Vec<_>>());
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_an_urgent_message_overtakes_a_backlog_and_nothing_else_changes_places() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..600).await;
    out.send(NewMessage::text("low").priority(Priority::Low)).await.expect("sent");
    out.send(NewMessage::text("high").priority(Priority::High)).await.expect("sent");
    out.send("600").await.expect("sent");
    let got = collect(&work).await;
    settled(&alice).await;
    let expected: Vec<String> = std::iter::once("high".to_owned())
        .chain(numbers(0..601))
        .chain(["low".to_owned()])
        .collect();
    assert_eq!(seen(&got), expected);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_handlers_of_one_sender_never_run_side_by_side_and_those_of_two_do() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, anna) = (start(&server, &dir, "alice").await, start(&server, &dir, "anna").await);
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let running: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    // Both senders' first handlers wait for each other, which only handlers side by side can.
    let meeting = Arc::new(tokio::sync::Barrier::new(2));
    let busy = running.clone();
    work.on_message(move |message| {
        let (busy, meeting) = (busy.clone(), meeting.clone());
        async move {
            let sender = message.sender().to_string();
            assert!(busy.lock().expect("not poisoned").insert(sender.clone()), "{sender} twice");
            if message.text()? == "0" {
                meeting.wait().await;
            }
            tokio::task::yield_now().await;
            busy.lock().expect("not poisoned").remove(&sender);
            Ok(())
        }
    })
    .await
    .expect("attached");
    for node in [&alice, &anna] {
        let out = node.join("work", Mode::Writer).await.expect("joined");
        send_numbers(&out, 0..20).await;
        reader_is_known(node, "work", "bob").await;
    }
    settled(&alice).await;
    settled(&anna).await;
    let counters = bob.statistics().await.expect("it runs").counters;
    assert_eq!((counters.processed, counters.failed), (40, 0));
    for node in [alice, anna, bob] {
        node.shutdown().await;
    }
}

/// What went over the wire between nodes: who to whom, and which message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Overheard {
    Frame { receiver: String, id: String, messages: usize },
    Ack { receiver: String, id: String },
    Refusal { receiver: String, id: String },
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_on_the_wire_a_receiver_never_has_two_unacknowledged_frames() {
    const COUNT: usize = 60;
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let client = wire::stranger(&server).await;
    // One subscription, so that frames and acks are seen in the order in which the server passed them on.
    let mut both = wire::overhear(&client, "waypost.*.*.*").await;
    let heard: Arc<Mutex<Vec<Overheard>>> = Arc::default();
    let note = heard.clone();
    let listening = tokio::spawn(async move {
        while let Some(message) = both.next().await {
            let header = wire::header(&message.payload);
            let text = |field: &str| header[field].as_str().unwrap_or_default().to_owned();
            let overheard = match text("t").as_str() {
                "msg" => Overheard::Frame {
                    receiver: text("to"),
                    id: header["messages"][0]["id"].as_str().expect("an id").to_owned(),
                    messages: header["messages"].as_array().expect("a list").len(),
                },
                _ => {
                    let (receiver, id) = (text("from"), text("id"));
                    match text("v").as_str() {
                        "ack" => Overheard::Ack { receiver, id },
                        "working" => continue,
                        // By a node that has started again and not joined yet, for one.
                        _ => Overheard::Refusal { receiver, id },
                    }
                }
            };
            note.lock().expect("not poisoned").push(overheard);
        }
    });
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let eve = Child::start("recv", &server.url(), &dir, "eve");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    reader_is_known(&alice, "work", "eve").await;
    for n in 0..COUNT {
        let lane = Priority::ALL[n % 3];
        out.send(NewMessage::text(n.to_string()).priority(lane)).await.expect("sent");
        if n == COUNT / 2 {
            // Its frame in flight is lost with it, and is sent again to the next one.
            eve.wrote(1).await;
        }
    }
    let before = eve.kill().len();
    let eve = Child::start("recv", &server.url(), &dir, "eve");
    settled(&alice).await;
    assert_eq!(arrived(&got, COUNT).await.len(), COUNT);
    eve.wrote(COUNT - before).await;
    let heard_acks = || {
        let heard = heard.lock().expect("not poisoned");
        heard.iter().filter(|it| matches!(it, Overheard::Ack { .. })).count()
    };
    crate::support::eventually_async(SOON, "all acks are overheard", async || {
        heard_acks() >= 2 * COUNT
    })
    .await;
    listening.abort();
    for receiver in ["bob", "eve"] {
        assert_one_in_flight(&heard.lock().expect("not poisoned"), receiver, COUNT);
    }
    drop(eve);
    bob.shutdown().await;
    alice.shutdown().await;
}

/// A frame with another message comes only after an answer to the one before.
fn assert_one_in_flight(heard: &[Overheard], to: &str, count: usize) {
    let mut in_flight: Option<&str> = None;
    let (mut sent, mut acked) = (BTreeSet::new(), BTreeSet::new());
    for event in heard {
        match event {
            Overheard::Frame { receiver, id, messages } if receiver == to => {
                assert_eq!(*messages, 1, "batching is off");
                let unanswered = in_flight.replace(id).filter(|before| before != id);
                assert_eq!(unanswered, None, "{to}: {id} was sent before an answer");
                sent.insert(id);
            }
            Overheard::Refusal { receiver, id } if receiver == to => {
                in_flight.take_if(|before| before == id);
            }
            Overheard::Ack { receiver, id } if receiver == to => {
                in_flight.take_if(|before| before == id);
                acked.insert(id);
            }
            _ => {}
        }
    }
    assert_eq!(sent.len(), count);
    assert_eq!(sent, acked);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_a_receiver_that_does_not_answer_keeps_nobody_else_waiting() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = builder(&server, &dir, "bob").shutdown_timeout(Duration::from_millis(200));
    let (bob, eve) = (begin(bob).await, start(&server, &dir, "eve").await);
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    work.on_message(|_| async {
        std::future::pending::<()>().await;
        Ok(())
    })
    .await
    .expect("attached");
    let got = collect(&eve.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    reader_is_known(&alice, "work", "eve").await;
    send_numbers(&out, 0..50).await;
    assert_eq!(arrived(&got, 50).await, numbers(0..50));
    assert_eq!(account(&alice, "bob").await.pending, 50);
    let flushed = alice.flush(Duration::ZERO).await.expect("it runs");
    let waiting: Vec<_> = flushed.waiting.iter().map(|w| (w.pending, w.online)).collect();
    assert_eq!(waiting, [(50, true)]);
    for node in [eve, bob, alice] {
        node.shutdown().await;
    }
}
