//! Frames of several messages between real nodes: still in order, still once, whatever ends in the middle of one.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use tokio::sync::Semaphore;
use waypost::{Batching, Channel, Mode, NewMessage, Node};

fn up_to(messages: usize) -> Batching {
    Batching::up_to(NonZeroUsize::new(messages).expect("not zero"))
}

async fn sender(server: &NatsServer, dir: impl AsRef<Path>, batching: Batching) -> (Node, Channel) {
    let alice = begin(builder(server, dir, "alice").batching(batching)).await;
    let out = alice.join("c", Mode::Writer).await.expect("joined");
    (alice, out)
}

async fn send_all(out: &Channel, texts: Vec<String>) {
    out.send_all(texts.into_iter().map(NewMessage::text).collect()).await.expect("sent");
}

/// How many frames of messages the node has published, by its own count of answers.
async fn acks(node: &Node) -> u64 {
    node.statistics().await.expect("it runs").counters.acks_received
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_p5_a_backlog_travels_in_few_frames_in_order_and_once() {
    const COUNT: usize = 2_000;
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(100)).await;
    let bob = start(&server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    send_all(&out, numbers(0..COUNT)).await;
    let got = collect(&channel).await;
    assert_eq!(arrived(&got, COUNT).await, numbers(0..COUNT));
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [COUNT as u64, 0, COUNT as u64, 0, 0, 0]);
    let frames = acks(&alice).await;
    assert!(frames < COUNT as u64 / 10, "{frames} frames");
    assert_eq!(seen(&got).len(), COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_fails_in_the_middle_of_a_frame_comes_again_and_those_before_it_do_not() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(64)).await;
    let bob = start(&server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    send_all(&out, numbers(0..64)).await;
    let (got, failed) = (Got::default(), Arc::new(AtomicBool::new(false)));
    let (seen_here, failed_here) = (got.clone(), failed.clone());
    channel
        .on_message(move |message| {
            let (got, failed) = (seen_here.clone(), failed_here.clone());
            async move {
                if message.text()? == "37" && !failed.swap(true, Ordering::SeqCst) {
                    return Err("not now".into());
                }
                got.lock().expect("not poisoned").push(message.text()?.to_owned());
                Ok(())
            }
        })
        .await
        .expect("attached");
    assert_eq!(arrived(&got, 64).await, numbers(0..64));
    settled(&alice).await;
    assert!(failed.load(Ordering::SeqCst));
    assert_eq!(seen(&got).len(), 64);
    assert_eq!(columns(&alice, "bob").await, [64, 0, 64, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pause_leaves_of_a_frame_comes_once_the_channel_goes_on() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(64)).await;
    let bob = start(&server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    send_all(&out, numbers(0..64)).await;
    let (got, begun) = (Got::default(), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(10));
    let (seen_here, begun_here, gate_here) = (got.clone(), begun.clone(), gate.clone());
    channel
        .on_message(move |message| {
            let (got, begun, gate) = (seen_here.clone(), begun_here.clone(), gate_here.clone());
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await?.forget();
                got.lock().expect("not poisoned").push(message.text()?.to_owned());
                Ok(())
            }
        })
        .await
        .expect("attached");
    eventually_async(SOON, "the eleventh waits", async || begun.load(Ordering::SeqCst) == 11).await;
    channel.pause().await.expect("paused");
    gate.add_permits(1_000);
    let account_of_bob = async || columns(&alice, "bob").await[2] == 11;
    eventually_async(SOON, "the eleventh is the last", account_of_bob).await;
    assert_eq!(seen(&got), numbers(0..11));
    channel.resume().await.expect("resumed");
    assert_eq!(arrived(&got, 64).await, numbers(0..64));
    settled(&alice).await;
    assert_eq!(begun.load(Ordering::SeqCst), 64, "nothing was begun twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_fit_into_what_the_server_takes() {
    const COUNT: usize = 300;
    let server = NatsServer::with_config("max_payload: 20000");
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(1_024)).await;
    let bob = start(&server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    let text = |n: usize| {
        // Does not compress to nothing.
        let noise: String = (0..700).map(|_| fastrand::alphanumeric()).collect();
        format!("{n} {noise}")
    };
    let texts: Vec<String> = (0..COUNT).map(text).collect();
    let header = |text: &String| NewMessage::text(text.clone()).header("quoted", "\"".repeat(200));
    out.send_all(texts.iter().map(header).collect()).await.expect("sent");
    let got = collect(&channel).await;
    assert_eq!(arrived(&got, COUNT).await, texts);
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await[4], 0, "dead letters");
    assert!(acks(&alice).await < COUNT as u64 / 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_may_wait_for_others_arrives_alone_where_none_come() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let mut batching = up_to(100);
    batching.max_wait = Duration::from_millis(300);
    let (alice, out) = sender(&server, &dir, batching).await;
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("c", Mode::Reader).await.expect("joined")).await;
    reader_is_known(&alice, "c", "bob").await;
    send_numbers(&out, 0..1).await;
    assert_eq!(arrived(&got, 1).await, numbers(0..1));
    settled(&alice).await;
    let before = acks(&alice).await;
    // These wait for each other.
    send_all(&out, numbers(1..51)).await;
    send_all(&out, numbers(51..101)).await;
    assert_eq!(arrived(&got, 101).await, numbers(0..101));
    settled(&alice).await;
    let frames = acks(&alice).await - before;
    assert!(frames <= 2, "{frames} frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_batching_takes_frames_of_many_and_stops_in_the_middle_of_one() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(200)).await;
    let got = Got::default();
    let bob = start(&server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    send_all(&out, numbers(0..200)).await;
    let (begun, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(3)));
    let (seen_here, begun_here, gate_here) = (got.clone(), begun.clone(), gate.clone());
    channel
        .on_message(move |message| {
            let (got, begun, gate) = (seen_here.clone(), begun_here.clone(), gate_here.clone());
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                gate.acquire().await?.forget();
                got.lock().expect("not poisoned").push(message.text()?.to_owned());
                Ok(())
            }
        })
        .await
        .expect("attached");
    eventually_async(SOON, "the fourth waits", async || begun.load(Ordering::SeqCst) == 4).await;
    // What is being handled may finish, and nothing else is begun: what was handled is on record.
    let is_draining = async || {
        let peers = alice.peers().await.expect("it runs");
        peers.iter().any(|peer| peer.node.as_str() == "bob" && peer.draining)
    };
    tokio::join!(bob.shutdown(), async {
        eventually_async(SOON, "it says that it stops", is_draining).await;
        gate.add_permits(1_000);
    });
    assert_eq!(seen(&got), numbers(0..4));
    let bob = start(&server, &dir, "bob").await;
    collect_into(&bob.join("c", Mode::Reader).await.expect("joined"), &got).await;
    assert_eq!(arrived(&got, 200).await, numbers(0..200));
    settled(&alice).await;
    assert_eq!(seen(&got).len(), 200, "none came twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_what_was_handled_of_a_frame_does_not_come_again_where_a_stop_cuts_the_next_short() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(200)).await;
    let impatient = Duration::from_millis(50);
    let bob = begin(builder(&server, &dir, "bob").shutdown_timeout(impatient)).await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    send_all(&out, numbers(0..20)).await;
    let (got, begun) = (Got::default(), Arc::new(AtomicUsize::new(0)));
    let (seen_here, begun_here) = (got.clone(), begun.clone());
    channel
        .on_message(move |message| {
            let (got, begun) = (seen_here.clone(), begun_here.clone());
            async move {
                if begun.fetch_add(1, Ordering::SeqCst) == 3 {
                    std::future::pending::<()>().await;
                }
                got.lock().expect("not poisoned").push(message.text()?.to_owned());
                Ok(())
            }
        })
        .await
        .expect("attached");
    eventually_async(SOON, "the fourth waits", async || begun.load(Ordering::SeqCst) == 4).await;
    bob.shutdown().await;
    assert_eq!(seen(&got), numbers(0..3));
    let bob = start(&server, &dir, "bob").await;
    collect_into(&bob.join("c", Mode::Reader).await.expect("joined"), &got).await;
    assert_eq!(arrived(&got, 20).await, numbers(0..20));
    settled(&alice).await;
    assert_eq!(seen(&got).len(), 20, "none came twice");
    assert_eq!(columns(&alice, "bob").await, [20, 0, 20, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_p5_readers_that_share_pages_of_a_backlog_get_all_of_it_each_from_its_place() {
    const COUNT: usize = 3_000;
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out) = sender(&server, &dir, up_to(32)).await;
    let mut readers = Vec::new();
    for n in 0..5 {
        let node = start(&server, &dir, &format!("bob-{n}")).await;
        let channel = node.join("c", Mode::Reader).await.expect("joined");
        reader_is_known(&alice, "c", &format!("bob-{n}")).await;
        readers.push((node, channel, Got::default()));
    }
    // The first is ahead of the others, who are all at one place.
    let (_, first, got) = &readers[0];
    collect_into(first, got).await;
    send_all(&out, numbers(0..500)).await;
    assert_eq!(arrived(got, 500).await, numbers(0..500));
    first.pause().await.expect("paused");
    send_all(&out, numbers(500..COUNT)).await;
    for (_, channel, got) in &readers[1..] {
        collect_into(channel, got).await;
    }
    first.resume().await.expect("resumed");
    for (_, _, got) in &readers {
        assert_eq!(arrived(got, COUNT).await, numbers(0..COUNT));
    }
    settled(&alice).await;
    for (n, (_, _, got)) in readers.iter().enumerate() {
        assert_eq!(seen(got).len(), COUNT, "none came twice");
        let count = COUNT as u64;
        assert_eq!(columns(&alice, &format!("bob-{n}")).await, [count, 0, count, 0, 0, 0]);
    }
}
