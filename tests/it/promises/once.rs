//! P5: what was acknowledged is never handed out again, and effects in the message's own transaction happen once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use waypost::rusqlite::Connection;
use waypost::{Mode, Node};

const COUNT: usize = 300;

/// A sender with its messages sent, and a receiver in this role that is killed over and over until all has arrived. All lines
/// of all its lives.
async fn killed_over_and_over(role: &str, dir: &Path, kills: usize) -> (Node, Vec<Vec<String>>) {
    let server = NatsServer::start();
    let alice = start(&server, dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut lives = Vec::new();
    let bob = Child::start(role, &server.url(), dir, "bob");
    reader_is_known(&alice, "work", "bob").await;
    lives.push(bob);
    let mut lines = Vec::new();
    let mut sent = 0;
    for _ in 0..kills {
        // Enough for this life, however late it is killed.
        let next = sent + COUNT / (kills + 1);
        send_numbers(&out, sent..next).await;
        sent = next;
        let bob = lives.pop().expect("one lives");
        // Anywhere between a line and its acknowledgement, or the next line.
        bob.wrote(5 + lines.len()).await;
        lines.push(bob.kill());
        lives.push(Child::start(role, &server.url(), dir, "bob"));
    }
    send_numbers(&out, sent..COUNT).await;
    settled(&alice).await;
    lines.extend(lives.into_iter().map(Child::kill));
    alice.shutdown().await;
    (alice, lines)
}

/// Within one life nothing comes twice; the next life begins with the last message of the one before, or with the next one.
fn assert_at_most_one_repeated_for_each_kill(lives: &[Vec<String>]) {
    let mut next = 0;
    for life in lives {
        let numbers: Vec<usize> = life.iter().map(|n| n.parse().expect("a number")).collect();
        let Some(first) = numbers.first().copied() else { continue };
        assert!(first == next || first + 1 == next, "{first} after {next}");
        assert_eq!(numbers, (first..first + numbers.len()).collect::<Vec<_>>());
        next = first + numbers.len();
    }
    assert_eq!(next, COUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_receiver_killed_many_times_repeats_only_what_it_had_not_acknowledged() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, lives) = killed_over_and_over("recv", dir.path(), 8).await;
    assert_at_most_one_repeated_for_each_kill(&lives);
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_effects_in_the_messages_transaction_happen_exactly_once_whatever_is_killed() {
    let dir = tempfile::tempdir().expect("a folder");
    let (_, lives) = killed_over_and_over("recv-in", dir.path(), 8).await;
    assert_at_most_one_repeated_for_each_kill(&lives);
    let file = Connection::open(dir.path().join("bob.db")).expect("a file");
    let mut select = file.prepare("SELECT text FROM effects ORDER BY at").expect("a table");
    let rows = select.query_map([], |row| row.get(0)).expect("rows");
    let rows: Vec<String> = rows.collect::<Result<_, _>>().expect("texts");
    assert_eq!(rows, numbers(0..COUNT), "the rows at the receiver are what was sent");
    let sent = Connection::open(dir.path().join("alice.db")).expect("a file");
    let count = "SELECT count(*), count(DISTINCT id) FROM waypost_outbox";
    let counts: (usize, usize) =
        sent.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("counts");
    assert_eq!(counts, (COUNT, COUNT), "and what stands at the sender");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_sender_killed_before_it_noted_an_acknowledgement_repeats_and_is_recognised() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    for round in 0..6 {
        let first = round * 100_000;
        let alice = Child::start(&format!("send {first} 100000"), &server.url(), &dir, "alice");
        alice.wrote(1).await;
        // Its cursor is written lazily: what arrives at this moment is acknowledged, and often not on its disk.
        let before = seen(&got).len();
        arrived(&got, before + 10).await;
        drop(alice);
    }
    let alice = start(&server, &dir, "alice").await;
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for text in seen(&got) {
        *times.entry(text).or_default() += 1;
    }
    times.retain(|_, times| *times > 1);
    assert!(times.is_empty(), "handled more than once: {times:?}");
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_repetition_after_any_time_is_recognised_and_acknowledged_again() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let client = wire::stranger(&server).await;
    let mut frames = wire::overhear(&client, "waypost.msg.bob.alice").await;
    let alice = start(&server, &dir, "alice").await;
    let mut bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..5).await;
    arrived(&got, 5).await;
    settled(&alice).await;
    let first = futures_util::StreamExt::next(&mut frames).await.expect("a frame").payload;
    // Not a window of time, but the file: a restart forgets nothing.
    bob.shutdown().await;
    bob = start(&server, &dir, "bob").await;
    collect_into(&bob.join("work", Mode::Reader).await.expect("joined"), &got).await;
    connected(&bob).await;
    let mut acks = wire::overhear(&client, "waypost.ack.alice.bob").await;
    let mut events = bob.events();
    for _ in 0..3 {
        wire::say(&client, "waypost.msg.bob.alice", first.to_vec()).await;
        event(&mut events, "repeated", |event| {
            matches!(event, waypost::Event::Repeated { .. }).then_some(())
        })
        .await;
        let ack = futures_util::StreamExt::next(&mut acks).await.expect("an ack");
        assert_eq!(wire::header(&ack.payload)["v"], "ack");
    }
    out.send("5").await.expect("sent");
    assert_eq!(arrived(&got, 6).await, numbers(0..6));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_handler_that_failed_after_its_transaction_is_not_run_again() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    bob.transaction(|tx| tx.execute("CREATE TABLE effects (text TEXT)", [])).await.expect("made");
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    work.on_message(move |mut message| {
        let count = count.clone();
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            message.ack_in(|tx| tx.execute("INSERT INTO effects VALUES ('x')", [])).await?;
            Err("too late to refuse".into())
        }
    })
    .await
    .expect("attached");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    out.send("x").await.expect("sent");
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    out.send("y").await.expect("sent");
    settled(&alice).await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let rows = bob.transaction(|tx| {
        tx.query_row("SELECT count(*) FROM effects", [], |row| row.get::<_, usize>(0))
    });
    assert_eq!(rows.await.expect("counted"), 2);
    assert_eq!(columns(&alice, "bob").await, [2, 0, 2, 0, 0, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_transaction_that_fails_leaves_nothing_and_the_message_comes_again() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    bob.transaction(|tx| tx.execute("CREATE TABLE effects (text TEXT)", [])).await.expect("made");
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let tries = Arc::new(AtomicUsize::new(0));
    let count = tries.clone();
    work.on_message(move |mut message| {
        let tries = count.fetch_add(1, Ordering::SeqCst);
        async move {
            message
                .ack_in(move |tx| {
                    tx.execute("INSERT INTO effects VALUES ('x')", [])
                        .map_err(|e| e.to_string())?;
                    match tries {
                        0 => Err("changed my mind".to_owned()),
                        1 => panic!("in the middle"),
                        _ => Ok(()),
                    }
                })
                .await
                .map_err(|error| error.to_string().into())
        }
    })
    .await
    .expect("attached");
    alice.join("work", Mode::Writer).await.expect("joined").send("x").await.expect("sent");
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    assert_eq!(tries.load(Ordering::SeqCst), 3);
    let rows = bob.transaction(|tx| {
        tx.query_row("SELECT count(*) FROM effects", [], |row| row.get::<_, usize>(0))
    });
    assert_eq!(rows.await.expect("counted"), 1);
    bob.shutdown().await;
    alice.shutdown().await;
    tokio::time::timeout(Duration::from_secs(5), alice.shutdown()).await.expect("again is allowed");
}
