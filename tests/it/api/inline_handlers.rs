//! Handlers that run in the node's own thread: the same promises, a failure or a panic in them included.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use waypost::error::ChannelError;
use waypost::{Batching, Channel, Message, Mode, NewMessage, Node};

/// Alice writes a channel, which bob has joined as a reader.
async fn pair(
    server: &NatsServer,
    dir: impl AsRef<Path>,
    batch: usize,
) -> (Node, Channel, Node, Channel) {
    let batching = Batching::up_to(NonZeroUsize::new(batch).expect("not zero"));
    let alice = begin(builder(server, &dir, "alice").batching(batching)).await;
    let out = alice.join("c", Mode::Writer).await.expect("joined");
    let bob = start(server, &dir, "bob").await;
    let channel = bob.join("c", Mode::Reader).await.expect("joined");
    reader_is_known(&alice, "c", "bob").await;
    (alice, out, bob, channel)
}

async fn send_all(out: &Channel, count: usize) {
    let messages = numbers(0..count).into_iter().map(NewMessage::text);
    out.send_all(messages.collect()).await.expect("sent");
}

fn note(got: &Got, message: &Message) {
    let text = message.text().expect("a text").to_owned();
    got.lock().expect("not poisoned").push(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_p5_an_inline_handler_gets_every_message_in_order_and_once_in_the_nodes_own_thread() {
    for batch in [1, 64] {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().expect("a folder");
        let (alice, out, bob, channel) = pair(&server, &dir, batch).await;
        send_all(&out, 500).await;
        let (got, threads) = (Got::default(), Arc::new(Mutex::new(BTreeSet::new())));
        let (seen_here, threads_here) = (got.clone(), threads.clone());
        let handler = move |message: &Message| {
            note(&seen_here, message);
            let name = std::thread::current().name().map(str::to_owned);
            threads_here.lock().expect("not poisoned").insert(name);
            Ok(())
        };
        channel.on_message_inline(handler).await.expect("attached");
        assert_eq!(arrived(&got, 500).await, numbers(0..500));
        settled(&alice).await;
        assert_eq!(seen(&got).len(), 500);
        assert_eq!(columns(&alice, "bob").await, [500, 0, 500, 0, 0, 0]);
        assert_eq!(bob.statistics().await.expect("it runs").counters.processed, 500);
        let threads = threads.lock().expect("not poisoned");
        assert_eq!(*threads, BTreeSet::from([Some("waypost-driver".to_owned())]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_or_a_panic_in_an_inline_handler_refuses_its_message_and_no_other() {
    for batch in [1, 64] {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().expect("a folder");
        let (alice, out, bob, channel) = pair(&server, &dir, batch).await;
        send_all(&out, 20).await;
        let (got, calls) = (Got::default(), AtomicUsize::new(0));
        let seen_here = got.clone();
        let handler = move |message: &Message| {
            if message.text()? == "7" {
                match calls.fetch_add(1, Ordering::SeqCst) {
                    0 => return Err("not now".into()),
                    1 => panic!("worse"),
                    _ => {}
                }
            }
            note(&seen_here, message);
            Ok(())
        };
        channel.on_message_inline(handler).await.expect("attached");
        assert_eq!(arrived(&got, 20).await, numbers(0..20));
        settled(&alice).await;
        assert_eq!(seen(&got).len(), 20, "those before it were not repeated");
        assert_eq!(columns(&alice, "bob").await, [20, 0, 20, 0, 0, 0]);
        assert_eq!(bob.statistics().await.expect("it runs").counters.failed, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_another_handler_both_get_every_message() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, _bob, channel) = pair(&server, &dir, 1).await;
    let (inline, other) = (Got::default(), Got::default());
    let seen_here = inline.clone();
    let handler = move |message: &Message| {
        note(&seen_here, message);
        Ok(())
    };
    channel.on_message_inline(handler).await.expect("attached");
    send_all(&out, 10).await;
    assert_eq!(arrived(&inline, 10).await, numbers(0..10));
    collect_into(&channel, &other).await;
    send_numbers(&out, 10..20).await;
    assert_eq!(arrived(&other, 10).await, numbers(10..20));
    assert_eq!(arrived(&inline, 20).await, numbers(0..20));
    settled(&alice).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_takes_no_inline_handler() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (_alice, out, _bob, _channel) = pair(&server, &dir, 1).await;
    let refused = out.on_message_inline(|_| Ok(())).await;
    assert!(matches!(refused, Err(ChannelError::NotAReader { .. })), "{refused:?}");
}
