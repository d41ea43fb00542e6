//! Receiving: handlers and streams, all answers, pausing and leaving.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use tempfile::TempDir;
use waypost::error::{ChannelError, TransactionError};
use waypost::{Channel, Event, Message, Mode, NewMessage, Node};

struct Pair {
    alice: Node,
    out: Channel,
    bob: Node,
    work: Channel,
    server: NatsServer,
    dir: TempDir,
}

impl Pair {
    async fn start() -> Self {
        let server = NatsServer::start();
        let dir = tempfile::tempdir().expect("a folder");
        let alice = start(&server, &dir, "alice").await;
        let bob = start(&server, &dir, "bob").await;
        let work = bob.join("work", Mode::Reader).await.expect("joined");
        let out = alice.join("work", Mode::Writer).await.expect("joined");
        reader_is_known(&alice, "work", "bob").await;
        Self { alice, out, bob, work, server, dir }
    }

    async fn end(self) {
        settled(&self.alice).await;
        self.bob.shutdown().await;
        self.alice.shutdown().await;
        drop((self.server, self.dir));
    }
}

async fn next(messages: &mut waypost::Messages) -> Message {
    let next = tokio::time::timeout(SOON, messages.next()).await;
    next.expect("a message comes").expect("the node runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_panics_and_own_nacks_refuse_a_message_and_it_comes_again() {
    let pair = Pair::start().await;
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    pair.work
        .on_message(move |message| {
            let attempt = count.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                assert_eq!(message.attempt() as usize, attempt);
                match attempt {
                    1 => Err("not today".into()),
                    2 => panic!("oh no"),
                    3 => {
                        message.nack("nor now");
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        })
        .await
        .expect("attached");
    let mut events = pair.alice.events();
    pair.out.send("x").await.expect("sent");
    for expected in ["not today", "panicked: oh no", "nor now"] {
        let failed = event(&mut events, "a failed attempt", |event| match event {
            Event::AttemptFailed { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        assert_eq!(failed.await, format!("the handler failed: {expected}"));
    }
    settled(&pair.alice).await;
    assert_eq!(tries.load(Ordering::SeqCst), 4);
    let counters = pair.bob.statistics().await.expect("it runs").counters;
    assert_eq!((counters.processed, counters.failed, counters.nacks_sent), (1, 3, 3));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_handlers_must_all_be_ok() {
    let pair = Pair::start().await;
    let (first, second) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let count = first.clone();
    let handler = move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(()))
    };
    pair.work.on_message(handler).await.expect("attached");
    let count = second.clone();
    let handler = move |_| {
        let tries = count.fetch_add(1, Ordering::SeqCst);
        std::future::ready(if tries < 2 { Err("not yet".into()) } else { Ok(()) })
    };
    pair.work.on_message(handler).await.expect("attached");
    pair.out.send("x").await.expect("sent");
    settled(&pair.alice).await;
    assert_eq!((first.load(Ordering::SeqCst), second.load(Ordering::SeqCst)), (3, 3));
    assert_eq!(columns(&pair.alice, "bob").await, [1, 0, 1, 0, 0, 0]);
    pair.end().await;
}

/// Ten messages for a stream that acknowledges all, and a handler that refuses some the first time.
async fn refused_beside_a_stream(stream_first: bool) {
    let pair = Pair::start().await;
    let taken = Got::default();
    let (refused, note) = (Arc::new(AtomicUsize::new(0)), taken.clone());
    let count = refused.clone();
    let handler = move |message: Message| {
        let again = message.attempt() > 1;
        let text = message.text().expect("text").to_owned();
        if text.parse::<usize>().expect("a number") % 3 == 0 && !again {
            count.fetch_add(1, Ordering::SeqCst);
            return std::future::ready(Err("not now".into()));
        }
        note.lock().expect("not poisoned").push(text);
        std::future::ready(Ok(()))
    };
    if !stream_first {
        pair.work.on_message(handler.clone()).await.expect("attached");
    }
    let mut messages = pair.work.messages().await.expect("a stream");
    if stream_first {
        pair.work.on_message(handler).await.expect("attached");
    }
    let streamed = tokio::spawn(async move {
        let mut texts = Vec::new();
        while let Some(message) = messages.next().await {
            texts.push(message.text().expect("text").to_owned());
            message.ack().await.expect("taken");
        }
        texts
    });
    send_numbers(&pair.out, 0..10).await;
    settled(&pair.alice).await;
    assert_eq!(seen(&taken), numbers(0..10), "stream first: {stream_first}");
    assert_eq!(refused.load(Ordering::SeqCst), 4);
    assert_eq!(columns(&pair.alice, "bob").await, [10, 0, 10, 0, 0, 0]);
    pair.end().await;
    let mut texts = streamed.await.expect("it ended");
    assert_eq!(texts.len(), if stream_first { 14 } else { 10 });
    texts.dedup();
    assert_eq!(texts, numbers(0..10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_stream_acknowledged_comes_again_if_a_handler_beside_it_refused_it() {
    refused_beside_a_stream(true).await;
    refused_beside_a_stream(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_last_consumer_takes_a_message_in_a_transaction() {
    let pair = Pair::start().await;
    let mut first = pair.work.messages().await.expect("a stream");
    let mut last = pair.work.messages().await.expect("a stream");
    pair.out.send("x").await.expect("sent");
    let table = |name| format!("CREATE TABLE {name} (n INTEGER)");
    let mut message = next(&mut first).await;
    let refused = message.ack_in(move |tx| tx.execute(&table("early"), [])).await;
    let Err(TransactionError::NotLast { channel }) = refused else { panic!("{refused:?}") };
    assert_eq!(channel.as_str(), "work");
    message.ack().await.expect("its part is done");
    let mut message = next(&mut last).await;
    message.ack_in(move |tx| tx.execute(&table("late"), [])).await.expect("kept");
    settled(&pair.alice).await;
    let mine = rusqlite::Connection::open(pair.bob.storage()).expect("its file");
    let tables = "SELECT name FROM sqlite_master WHERE name IN ('early', 'late')";
    let name: String = mine.query_row(tables, [], |row| row.get(0)).expect("one of them");
    assert_eq!(name, "late");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_each_message_until_it_is_acknowledged() {
    let pair = Pair::start().await;
    let mut messages = pair.work.messages().await.expect("a stream");
    send_numbers(&pair.out, 0..3).await;
    next(&mut messages).await.nack("later");
    drop(next(&mut messages).await);
    let mut again = next(&mut messages).await;
    assert_eq!((again.text().expect("text"), again.attempt()), ("0", 3));
    again.ack_in(|tx| tx.execute("CREATE TABLE seen (n INTEGER)", [])).await.expect("kept");
    let twice = again.ack_in(|tx| tx.execute("DROP TABLE seen", [])).await;
    assert!(matches!(twice, Err(TransactionError::AlreadyAccepted)), "{twice:?}");
    let one = next(&mut messages).await;
    assert_eq!(one.text().expect("text"), "1");
    one.ack().await.expect("taken");
    let two = next(&mut messages).await;
    // Its stream goes away while it holds a message: the message can still be answered.
    drop(messages);
    two.ack().await.expect("taken");
    settled(&pair.alice).await;
    assert_eq!(columns(&pair.alice, "bob").await, [3, 0, 3, 0, 0, 0]);
    // Nobody takes the next one until somebody does.
    pair.out.send("3").await.expect("sent");
    let mut messages = pair.work.messages().await.expect("a stream");
    next(&mut messages).await.ack().await.expect("taken");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_slower_than_the_ack_timeout_is_not_sent_the_message_again() {
    let pair = Pair::start().await;
    let mut messages = pair.work.messages().await.expect("a stream");
    pair.out.send("slow").await.expect("sent");
    let message = next(&mut messages).await;
    let taken = std::time::Instant::now();
    crate::support::eventually_async(SOON, "three ack timeouts pass", async || {
        taken.elapsed() > Duration::from_secs(3)
    })
    .await;
    message.ack().await.expect("taken");
    settled(&pair.alice).await;
    let counters = pair.alice.statistics().await.expect("it runs").counters;
    assert_eq!((counters.sent, counters.redelivered), (1, 0));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_takes_longer_than_its_timeout_has_failed() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let strict = builder(&server, &dir, "bob").handler_timeout(Some(Duration::from_millis(100)));
    let bob = begin(strict).await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    work.on_message(move |_| {
        let tries = count.fetch_add(1, Ordering::SeqCst);
        async move {
            if tries == 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    })
    .await
    .expect("attached");
    let mut events = alice.events();
    alice.join("work", Mode::Writer).await.expect("joined").send("x").await.expect("sent");
    let failed = event(&mut events, "a failed attempt", |event| match event {
        Event::AttemptFailed { answer, .. } => Some(answer.clone()),
        _ => None,
    });
    assert_eq!(failed.await, "the handler failed: the handler took longer than 100ms");
    settled(&alice).await;
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_channel_takes_nothing_and_costs_no_attempt() {
    let pair = Pair::start().await;
    let got = collect(&pair.work).await;
    send_numbers(&pair.out, 0..5).await;
    settled(&pair.alice).await;
    pair.work.pause().await.expect("paused");
    send_numbers(&pair.out, 5..10).await;
    crate::support::eventually_async(SOON, "Alice hears of it", async || {
        let peers = pair.alice.peers().await.expect("it runs");
        peers[0].channels[0].paused
    })
    .await;
    assert_eq!(account(&pair.alice, "bob").await.pending, 5);
    pair.work.resume().await.expect("resumed");
    assert_eq!(arrived(&got, 10).await, numbers(0..10));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_purges_what_waits_and_joining_again_begins_anew() {
    let pair = Pair::start().await;
    send_numbers(&pair.out, 0..5).await;
    let mut events = pair.alice.events();
    pair.work.leave().await.expect("left");
    let purged = event(&mut events, "left", |event| match event {
        Event::ReaderLeft { node, purged, .. } => (node.as_str() == "bob").then_some(*purged),
        _ => None,
    });
    assert_eq!(purged.await, 5);
    assert_eq!(columns(&pair.alice, "bob").await, [5, 0, 0, 0, 0, 5]);
    assert!(matches!(pair.work.leave().await, Err(ChannelError::NotJoined { .. })));
    assert!(matches!(pair.work.messages().await, Err(ChannelError::NotJoined { .. })));
    pair.out.send("for nobody").await.expect("sent");
    assert_eq!(columns(&pair.alice, "bob").await, [5, 0, 0, 0, 0, 5]);
    let start = waypost::StartAt::Now;
    let work = pair.bob.join_from("work", Mode::Reader, start).await.expect("joined");
    let got = collect(&work).await;
    event(&mut events, "joined", |event| matches!(event, Event::ReaderJoined { .. }).then_some(()))
        .await;
    pair.out.send("again").await.expect("sent");
    assert_eq!(arrived(&got, 1).await, ["again"]);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_handled_when_its_channel_is_left_is_still_acknowledged() {
    let pair = Pair::start().await;
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    let go_on = Arc::new(tokio::sync::Notify::new());
    let wait = go_on.clone();
    let handler = move |_| {
        let (begun, wait) = (begun.clone(), wait.clone());
        async move {
            begun.send(())?;
            wait.notified().await;
            Ok(())
        }
    };
    pair.work.on_message(handler).await.expect("attached");
    send_numbers(&pair.out, 0..3).await;
    tokio::time::timeout(SOON, begins.recv()).await.expect("in time").expect("it runs");
    let mut events = pair.alice.events();
    pair.work.leave().await.expect("left");
    // Its keepalives do not list the channel any more, and do not say that it was left.
    eventually_async(SOON, "it is known not to read", async || {
        pair.alice.subscribers("work").await.expect("a valid name").is_empty()
    })
    .await;
    assert_eq!(columns(&pair.alice, "bob").await, [3, 3, 0, 0, 0, 0]);
    go_on.notify_one();
    let purged = event(&mut events, "it left", |event| match event {
        Event::ReaderLeft { purged, .. } => Some(*purged),
        _ => None,
    });
    assert_eq!(purged.await, 2);
    assert_eq!(columns(&pair.alice, "bob").await, [3, 0, 1, 0, 0, 2]);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_while_disconnected_is_told_later_also_after_a_restart() {
    let mut pair = Pair::start().await;
    send_numbers(&pair.out, 0..5).await;
    pair.server.stop();
    disconnected(&pair.bob).await;
    pair.work.leave().await.expect("left");
    pair.bob.shutdown().await;
    pair.server.restart();
    let bob = start(&pair.server, &pair.dir, "bob").await;
    account_is(&pair.alice, "bob", |account| account.purged == 5).await;
    bob.shutdown().await;
    pair.alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_is_registered_late_gets_what_waited_for_it() {
    let pair = Pair::start().await;
    send_numbers(&pair.out, 0..10).await;
    assert_eq!(account(&pair.alice, "bob").await.pending, 10);
    let got = collect(&pair.work).await;
    assert_eq!(arrived(&got, 10).await, numbers(0..10));
    let counters = pair.alice.statistics().await.expect("it runs").counters;
    assert_eq!(counters.dead_lettered, 0, "waiting for it was no attempt");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expires_on_the_way_is_skipped_and_the_reader_told_of_the_gap() {
    let pair = Pair::start().await;
    let short = NewMessage::text("short").ttl(Duration::from_millis(50));
    pair.out.send("0").await.expect("sent");
    pair.out.send(short).await.expect("sent");
    pair.out.send("1").await.expect("sent");
    let mut events = pair.bob.events();
    let mut messages = pair.work.messages().await.expect("a stream");
    let first = next(&mut messages).await;
    account_is(&pair.alice, "bob", |account| account.pending == 3).await;
    let held = std::time::Instant::now();
    crate::support::eventually_async(SOON, "it expires", async || {
        held.elapsed() > Duration::from_millis(100)
    })
    .await;
    first.ack().await.expect("taken");
    let second = next(&mut messages).await;
    assert_eq!(second.text().expect("text"), "1");
    second.ack().await.expect("taken");
    let count = event(&mut events, "a gap", |event| match event {
        Event::Gap { count, .. } => Some(*count),
        _ => None,
    });
    assert_eq!(count.await, 1);
    settled(&pair.alice).await;
    assert_eq!(columns(&pair.alice, "bob").await, [3, 0, 2, 1, 0, 0]);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_names_its_reason_and_can_be_sent_again_once() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = builder(&server, &dir, "alice").max_attempts(NonZeroU32::new(2).expect("two"));
    let alice = begin(alice).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    let mut messages = work.messages().await.expect("a stream");
    let id = out.send(NewMessage::text("poison").header("unit", "mg")).await.expect("sent");
    for _ in 0..2 {
        next(&mut messages).await.nack("tastes odd");
    }
    account_is(&alice, "bob", |account| account.dead == 1).await;
    let dead = alice.dead_letters(10).await.expect("readable");
    assert_eq!((dead.len(), dead[0].id, dead[0].receiver.as_str()), (1, id, "bob"));
    assert_eq!(dead[0].reason, "the handler failed: tastes odd (attempt 2)");
    let again = alice.redrive("bob", id).await.expect("sent again");
    let message = next(&mut messages).await;
    assert_eq!((message.id(), message.text().expect("text")), (again, "poison"));
    assert_eq!(message.header("waypost-redrive-of"), Some(id.to_string().as_str()));
    assert_eq!(message.header("unit"), Some("mg"));
    message.ack().await.expect("taken");
    settled(&alice).await;
    use waypost::error::RedriveError;
    let error = alice.redrive("bob", id).await.expect_err("once is enough");
    assert!(
        matches!(error, RedriveError::AlreadyRedriven { redriven_as, .. } if redriven_as == again)
    );
    let error = alice.redrive("bob", again).await.expect_err("it was taken");
    assert!(matches!(error, RedriveError::NotFound { .. }));
    assert_eq!(columns(&alice, "bob").await, [2, 0, 1, 0, 1, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}
