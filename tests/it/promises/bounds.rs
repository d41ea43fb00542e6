//! P7: memory does not grow with the backlog, queues have limits, and what happens there is chosen and never silent.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::nodes::child::{BACKLOG_DELIVERED, BACKLOG_MESSAGES, BACKLOG_PAYLOAD_BYTES, Child};
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use waypost::error::SendError;
use waypost::{Event, Mode, NewMessage, Node, Overflow};

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_program_that_waits_costs_no_processor_whatever_it_waits_for() {
    let states = ["nobody", "disconnected", "denied", "unauthorized", "paused", "silent"];
    super::waiting::costs_nothing(&states).await;
    let states = ["working", "full-disk", "locked", "no-quorum", "laggard", "reader"];
    super::waiting::costs_nothing(&states).await;
}

fn five() -> NonZeroUsize {
    NonZeroUsize::new(5).expect("above zero")
}

fn assert_full(error: &SendError, by: Option<&str>, waits: u64) {
    match error {
        SendError::QueueFull { receiver, backlog, limit } => {
            let receiver = receiver.as_ref().map(|id| id.as_str());
            assert_eq!((receiver, *backlog, *limit), (by, waits, 5));
        }
        other => panic!("{other:?}"),
    }
    assert!(error.is_transient());
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_at_the_limit_send_fails_and_names_the_receiver_its_backlog_and_the_limit() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder(&server, &dir, "alice").queue_limit(five())).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..5).await;
    let error = out.send("5").await.expect_err("one too many");
    assert_full(&error, Some("bob"), 5);
    assert_eq!(
        error.to_string(),
        "5 messages wait for bob, limit 5: wait until it takes some, raise queue_limit, or purge"
    );
    let direct = out.send(NewMessage::text("direct").to("bob")).await.expect_err("one too many");
    assert_full(&direct, Some("bob"), 5);
    assert_eq!(columns(&alice, "bob").await, [5, 5, 0, 0, 0, 0], "nothing was stored");
    let got = collect(&work).await;
    settled(&alice).await;
    out.send("5").await.expect("there is room again");
    assert_eq!(arrived(&got, 6).await, numbers(0..6));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_what_expires_without_any_reader_is_told_at_its_time_and_by_itself() {
    let dir = tempfile::tempdir().expect("a folder");
    // Nothing else looks: there is no server, and clean-ups are rare.
    let alice = || begin(builder_at("nats://127.0.0.1:1", &dir, "alice"));
    let short = || NewMessage::text("short").ttl(Duration::from_millis(700));
    let unclaimed = async |node: &Node| {
        let mut events = node.events();
        let told = event(&mut events, "one expired", |event| match event {
            Event::ExpiredUnclaimed { channel, count } => Some((channel.to_string(), *count)),
            _ => None,
        });
        told.await
    };
    let node = alice().await;
    let work = node.join("work", Mode::Writer).await.expect("joined");
    let (told, sent) = tokio::join!(unclaimed(&node), work.send(short()));
    sent.expect("sent");
    assert_eq!(told, ("work".to_owned(), 1));
    // Who waits until nothing waits is woken, too.
    work.send(short()).await.expect("sent");
    let flushed = tokio::time::timeout(SOON, node.flush(Duration::from_secs(3_600))).await;
    let flushed = flushed.expect("woken").expect("it runs");
    assert!(flushed.waiting.is_empty(), "{flushed:?}");
    // One that lasts is in nobody's way.
    work.send("lasts").await.expect("sent");
    work.send(NewMessage::text("over").ttl(Duration::from_millis(1_500))).await.expect("sent");
    work.send("lasts, too").await.expect("sent");
    node.shutdown().await;
    // And what expires while no node runs, by the next one.
    let node = alice().await;
    assert_eq!(unclaimed(&node).await, ("work".to_owned(), 1));
    node.shutdown().await;
}

/// The next warning: percent, whom it names, how many wait for it.
async fn limit_near(events: &mut waypost::Events) -> (u64, String, u64) {
    event(events, "a limit is near", |event| match event {
        Event::LimitNear(near) => {
            assert!(near.oldest_age_ms.is_some(), "{near}");
            let receiver = near.receiver.as_ref().map_or(String::new(), ToString::to_string);
            Some((near.percent, receiver, near.pending))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_the_receiver_furthest_behind_is_named_before_the_limit_and_again_when_it_is_another() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let limit = NonZeroUsize::new(20).expect("above zero");
    let alice = begin(builder(&server, &dir, "alice").queue_limit(limit)).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut readers = Vec::new();
    for name in ["bob", "dave"] {
        let node = start(&server, &dir, name).await;
        let work = node.join("work", Mode::Reader).await.expect("joined");
        reader_is_known(&alice, "work", name).await;
        readers.push((node, work));
    }
    let mut events = alice.events();
    let at_dave = collect(&readers[1].1).await;
    for n in 0..10 {
        send_numbers(&out, n..n + 1).await;
        // The quick one is never behind.
        account_is(&alice, "dave", |account| account.pending == 0).await;
    }
    assert_eq!(limit_near(&mut events).await, (50, "bob".to_owned(), 10));
    let reasons = alice.status().reasons;
    let near = reasons.iter().find(|reason| reason.name() == "limit_near").expect("a reason");
    assert!(near.sentence().contains("10 messages wait for bob"), "{near}");
    let queues = alice.readiness().await;
    assert!(queues.checks.iter().any(|check| check.name == Some("limit_near")), "{queues:?}");
    send_numbers(&out, 10..16).await;
    assert_eq!(limit_near(&mut events).await, (80, "bob".to_owned(), 16));
    arrived(&at_dave, 16).await;
    readers[1].1.pause().await.expect("joined");
    let at_bob = collect(&readers[0].1).await;
    account_is(&alice, "bob", |account| account.pending == 0).await;
    account_is(&alice, "dave", |account| account.pending == 0).await;
    send_numbers(&out, 16..26).await;
    arrived(&at_bob, 26).await;
    assert_eq!(limit_near(&mut events).await, (50, "dave".to_owned(), 10));
    for (node, _) in readers {
        node.shutdown().await;
    }
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_one_reader_that_takes_nothing_holds_up_no_other_at_the_default_limit() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let (bob, dave) = (start(&server, &dir, "bob").await, start(&server, &dir, "dave").await);
    bob.join("work", Mode::Reader).await.expect("joined");
    let got = collect(&dave.join("work", Mode::Reader).await.expect("joined")).await;
    for reader in ["bob", "dave"] {
        reader_is_known(&alice, "work", reader).await;
    }
    // More than waited for one receiver before the disk was the limit.
    for chunk in numbers(0..12_000).chunks(500) {
        let batch = chunk.iter().map(|text| NewMessage::text(text.clone())).collect();
        out.send_all(batch).await.expect("accepted");
    }
    // So many take their time on a machine that does much else.
    eventually_async(Duration::from_secs(240), "all arrive", async || seen(&got).len() >= 12_000)
        .await;
    assert_eq!(seen(&got).len(), 12_000);
    assert_eq!(columns(&alice, "bob").await[1], 12_000);
    for node in [dave, bob, alice] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_the_limit_holds_for_a_channel_whose_reader_is_yet_to_come() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder(&server, &dir, "alice").queue_limit(five())).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..3).await;
    let three = (3..6).map(|n| NewMessage::text(n.to_string())).collect();
    let error = out.send_all(three).await.expect_err("six are one too many");
    assert_full(&error, None, 3);
    send_numbers(&out, 3..5).await;
    assert_full(&out.send("5").await.expect_err("one too many"), None, 5);
    assert_eq!(account(&alice, "").await.pending, 5);
    alice.shutdown().await;
}

/// A sender that drops its oldest, a reader that does not take anything yet, and 12 messages for it.
async fn twelve_for_a_queue_of_five(server: &NatsServer, dir: &tempfile::TempDir) -> (Node, Node) {
    let builder = builder(server, dir, "alice").queue_limit(five()).overflow(Overflow::DropOldest);
    let alice = begin(builder).await;
    let bob = start(server, dir, "bob").await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    let mut events = alice.events();
    send_numbers(&out, 0..12).await;
    let mut dropped = 0;
    while dropped < 7 {
        dropped += event(&mut events, "dropped", |event| match event {
            Event::Dropped { receiver, count } if receiver.as_str() == "bob" => Some(*count),
            _ => None,
        })
        .await;
    }
    assert_eq!(dropped, 7);
    assert_eq!(columns(&alice, "bob").await, [12, 5, 0, 0, 0, 7]);
    assert_eq!(alice.statistics().await.expect("it runs").counters.dropped, 7);
    (alice, bob)
}

async fn gap(events: &mut waypost::Events) -> (String, String, u64) {
    event(events, "a gap", |event| match event {
        Event::Gap { sender, channel, count, .. } => {
            Some((sender.to_string(), channel.to_string(), *count))
        }
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_the_oldest_give_way_where_that_was_chosen_and_both_sides_are_told() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = twelve_for_a_queue_of_five(&server, &dir).await;
    let mut events = bob.events();
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    settled(&alice).await;
    assert_eq!(seen(&got), numbers(7..12));
    assert_eq!(gap(&mut events).await, ("alice".to_owned(), "work".to_owned(), 7));
    assert_eq!(columns(&alice, "bob").await, [12, 0, 5, 0, 0, 7]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_the_receiver_is_told_of_the_gap_also_after_a_restart_of_the_sender() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = twelve_for_a_queue_of_five(&server, &dir).await;
    alice.shutdown().await;
    let alice = start(&server, &dir, "alice").await;
    let mut events = bob.events();
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    settled(&alice).await;
    assert_eq!(seen(&got), numbers(7..12));
    assert_eq!(gap(&mut events).await, ("alice".to_owned(), "work".to_owned(), 7));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_backlog_of_twenty_thousand_messages_takes_no_more_memory_than_a_small_one() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = Child::start("backlog", &server.url(), &dir, "alice");
    alice.wrote(1).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join_from("work", Mode::Reader, waypost::StartAt::All).await.expect("joined");
    let next = Arc::new(Mutex::new(0_u64));
    let count = next.clone();
    work.on_message(move |message| {
        let count = count.clone();
        async move {
            let mut next = count.lock().expect("not poisoned");
            assert_eq!(message.payload().len(), BACKLOG_PAYLOAD_BYTES);
            assert_eq!(message.payload()[..8], next.to_be_bytes());
            *next += 1;
            Ok(())
        }
    })
    .await
    .expect("attached");
    let goal = BACKLOG_DELIVERED as u64;
    eventually_async(Duration::from_secs(240), "much of it arrives", async || {
        *next.lock().expect("not poisoned") >= goal
    })
    .await;
    alice.wrote(2).await;
    let lines = alice.kill();
    let peak_kb = |line: &str| line.split_once(' ').expect("two words").1.parse::<u64>();
    let payloads_kb = BACKLOG_MESSAGES as u64 * BACKLOG_PAYLOAD_BYTES as u64 / 1024;
    for line in &lines {
        let peak_kb = peak_kb(line).expect("a number");
        assert!(peak_kb < payloads_kb * 3 / 4, "{line} KB with {payloads_kb} KB of payloads");
    }
    bob.shutdown().await;
}
