//! Files that are an older copy of themselves, or new: noticed on both sides, and nothing new is swallowed.

use std::path::Path;

use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use tempfile::TempDir;
use waypost::inspect::Inspector;
use waypost::{Channel, Event, Mode, Node, StartAt};

async fn pair(server: &NatsServer, dir: &TempDir) -> (Node, Channel, Node, Got) {
    let alice = start(server, dir, "alice").await;
    let bob = start(server, dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    (alice, out, bob, got)
}

fn remove(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        // The log is gone already after an orderly end.
        let _ = std::fs::remove_file(path);
    }
    assert!(!file.exists());
}

/// The node's file goes back to the state of this copy.
fn roll_back(file: &Path, copy: &Path) {
    remove(file);
    std::fs::rename(copy, file).expect("renamed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_file_that_went_back_swallows_nothing_new() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob, got) = pair(&server, &dir).await;
    let (file, copy) = (alice.storage(), dir.path().join("copy.db"));
    send_numbers(&out, 0..10).await;
    settled(&alice).await;
    Inspector::open(&file).expect("a node's file").backup(&copy).expect("copied");
    send_numbers(&out, 10..30).await;
    settled(&alice).await;
    alice.shutdown().await;
    roll_back(&file, &copy);

    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    // It does not know that it ever gave out ids for 10 to 29; what it sends now must arrive, once and in order.
    send_numbers(&out, 100..120).await;
    settled(&alice).await;
    let expected: Vec<String> = numbers(0..30).into_iter().chain(numbers(100..120)).collect();
    assert_eq!(seen(&got), expected);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_file_that_went_back_with_messages_waiting_is_proven_by_an_answer() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob, got) = pair(&server, &dir).await;
    let (file, copy) = (alice.storage(), dir.path().join("copy.db"));
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    work.pause().await.expect("paused");
    send_numbers(&out, 0..10).await;
    // In this copy they all wait; Bob will have acknowledged them, and more.
    Inspector::open(&file).expect("a node's file").backup(&copy).expect("copied");
    work.resume().await.expect("resumed");
    send_numbers(&out, 10..30).await;
    settled(&alice).await;
    alice.shutdown().await;
    roll_back(&file, &copy);

    let alice = builder(&server, &dir, "alice").start().await.expect("it starts");
    let mut events = alice.events();
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 100..120).await;
    settled(&alice).await;
    let expected: Vec<String> = numbers(0..30).into_iter().chain(numbers(100..120)).collect();
    assert_eq!(seen(&got), expected);
    let stores = Inspector::open(&file).expect("a node's file").summary().expect("readable").stores;
    if stores.len() == 1 {
        // It was connected before anybody listened for events: the file tells as well.
        panic!("no new store id");
    }
    let told = event(&mut events, "went back", |event| match event {
        Event::OutboxWentBack { receiver, .. } => Some(receiver.to_string()),
        _ => None,
    });
    // The event may have come while the node was starting.
    if let Ok(receiver) = tokio::time::timeout(std::time::Duration::from_millis(10), told).await {
        assert_eq!(receiver, "bob");
    }
    let audit = Inspector::open(&file).expect("a node's file").audit(10).expect("readable");
    assert!(audit.iter().any(|entry| entry.action == "new store id"), "{audit:?}");
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receivers_lost_file_is_noticed_on_both_sides_and_deliveries_go_on() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob, got) = pair(&server, &dir).await;
    send_numbers(&out, 0..10).await;
    settled(&alice).await;
    let file = bob.storage();
    let mut at_alice = alice.events();
    bob.shutdown().await;
    remove(&file);

    let bob = start(&server, &dir, "bob").await;
    let mut at_bob = bob.events();
    collect_into(&bob.join("work", Mode::Reader).await.expect("joined"), &got).await;
    event(&mut at_alice, "lost its file", |event| match event {
        Event::PeerLostItsFile { node } => (node.as_str() == "bob").then_some(()),
        _ => None,
    })
    .await;
    send_numbers(&out, 10..20).await;
    settled(&alice).await;
    event(&mut at_bob, "went back", |event| match event {
        Event::InboxWentBack { sender, channel, .. } => {
            assert_eq!((sender.as_str(), channel.as_str()), ("alice", "work"));
            Some(())
        }
        _ => None,
    })
    .await;
    assert_eq!(seen(&got), numbers(0..20));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receivers_file_that_went_back_says_so_and_repeats_nothing() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob, got) = pair(&server, &dir).await;
    let (file, copy) = (bob.storage(), dir.path().join("copy.db"));
    send_numbers(&out, 0..5).await;
    settled(&alice).await;
    Inspector::open(&file).expect("a node's file").backup(&copy).expect("copied");
    send_numbers(&out, 5..10).await;
    settled(&alice).await;
    bob.shutdown().await;
    roll_back(&file, &copy);

    let bob = start(&server, &dir, "bob").await;
    let mut events = bob.events();
    collect_into(&bob.join("work", Mode::Reader).await.expect("joined"), &got).await;
    send_numbers(&out, 10..15).await;
    settled(&alice).await;
    event(&mut events, "went back", |event| {
        matches!(event, Event::InboxWentBack { .. }).then_some(())
    })
    .await;
    assert_eq!(seen(&got), numbers(0..15));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_senders_lost_file_begins_anew_and_what_it_sends_is_not_taken_for_old() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob, got) = pair(&server, &dir).await;
    send_numbers(&out, 0..10).await;
    settled(&alice).await;
    let file = alice.storage();
    alice.shutdown().await;
    remove(&file);
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 10..20).await;
    assert_eq!(arrived(&got, 20).await, numbers(0..20));
    settled(&alice).await;
    // What reads everything from the beginning gets what there is.
    let eve = start(&server, &dir, "eve").await;
    let work = eve.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
    assert_eq!(arrived(&collect(&work).await, 10).await, numbers(10..20));
    for node in [eve, bob, alice] {
        node.shutdown().await;
    }
}
