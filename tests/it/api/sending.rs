//! Joining and sending: everything that a program can ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use serde_json::json;
use tempfile::TempDir;
use waypost::error::{ChannelError, SendError, TransactionError};
use waypost::{InvalidMessage, Message, MessageId, Mode, NewMessage, Node, Priority, StartAt};

/// Alice, who writes, and Bob, who reads and keeps what he gets in a stream.
async fn pair(server: &NatsServer, dir: &TempDir) -> (Node, Node) {
    let alice = start(server, dir, "alice").await;
    let bob = start(server, dir, "bob").await;
    (alice, bob)
}

async fn next(messages: &mut waypost::Messages) -> Message {
    let next = tokio::time::timeout(SOON, messages.next()).await;
    next.expect("a message comes").expect("the node runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_is_the_same_channel() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = pair(&server, &dir).await;
    let first = bob.join("work", Mode::Reader).await.expect("joined");
    let got = collect(&first).await;
    let again = bob.join("work", Mode::Reader).await.expect("joined");
    assert_eq!((first.name(), first.mode()), (again.name(), again.mode()));
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    alice.join("work", Mode::Writer).await.expect("joined").send("0").await.expect("sent");
    out.send("1").await.expect("sent");
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    assert_eq!(seen(&got), numbers(0..2), "one handler, each message once");
    again.pause().await.expect("paused");
    let channels = bob.channels().await.expect("it runs");
    assert_eq!(channels.len(), 1);
    assert!(channels[0].paused, "through whichever handle");
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_cannot_send_and_a_writer_cannot_receive_and_both_are_told_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at("nats://127.0.0.1:1", &dir, "alice")).await;
    let reader = alice.join("in", Mode::Reader).await.expect("joined");
    let error = reader.send("x").await.expect_err("it only reads");
    assert!(matches!(error, SendError::NotAWriter { .. }));
    let text = "this node only reads \"in\": join it as Writer or ReadWrite to send";
    assert_eq!(error.to_string(), text);
    let writer = alice.join("out", Mode::Writer).await.expect("joined");
    let error = writer.on_message(async |_| Ok(())).await.expect_err("it only writes");
    assert!(matches!(error, ChannelError::NotAReader { .. }));
    let text = "this node only writes \"out\": join it as Reader or ReadWrite to receive";
    assert_eq!(error.to_string(), text);
    assert!(matches!(writer.messages().await, Err(ChannelError::NotAReader { .. })));
    let both = alice.join("both", Mode::ReadWrite).await.expect("joined");
    both.on_message(async |_| Ok(())).await.expect("attached");
    both.send("x").await.expect("sent");
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_message_carries_arrives_as_it_was_sent() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = pair(&server, &dir).await;
    let mut messages =
        bob.join("work", Mode::Reader).await.expect("joined").messages().await.expect("a stream");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;

    let id = out.send(vec![0_u8, 159, 146, 150]).await.expect("sent");
    let bytes = next(&mut messages).await;
    assert_eq!((bytes.id(), &bytes.payload()[..]), (id, &[0, 159, 146, 150][..]));
    assert_eq!((bytes.sender().as_str(), bytes.channel().as_str()), ("alice", "work"));
    assert_eq!((bytes.content_type(), bytes.kind().as_str()), (None, "message"));
    assert_eq!((bytes.attempt(), bytes.is_direct()), (1, false));
    assert!(bytes.text().is_err(), "it is no UTF-8");
    let week = Duration::from_secs(7 * 86_400);
    assert!(bytes.ttl_left().is_some_and(|left| left <= week && left > week / 2), "the default");
    assert!(bytes.created().elapsed().expect("in the past") < SOON);
    bytes.ack().await.expect("taken");

    out.send("grüße 🚢").await.expect("sent");
    let text = next(&mut messages).await;
    assert_eq!(text.text().expect("UTF-8"), "grüße 🚢");
    assert_eq!(text.content_type(), Some("text/plain; charset=utf-8"));
    text.ack().await.expect("taken");

    let value: BTreeMap<String, u32> = [("reactor".to_owned(), 80)].into();
    out.send_json(&value).await.expect("sent");
    let message = next(&mut messages).await;
    assert_eq!(message.json::<BTreeMap<String, u32>>().expect("of that shape"), value);
    assert_eq!(message.content_type(), Some("application/json"));
    message.ack().await.expect("taken");

    let all = NewMessage::json(&json!([1, 2]))
        .kind("reading.raw")
        .priority(Priority::High)
        .ttl(Duration::from_secs(60))
        .header("unit", "percent");
    out.send(all).await.expect("sent");
    let message = next(&mut messages).await;
    assert_eq!((message.kind().as_str(), message.priority()), ("reading.raw", Priority::High));
    assert_eq!((message.header("unit"), message.headers().len()), (Some("percent"), 2));
    assert!(message.ttl_left().is_some_and(|left| left <= Duration::from_secs(60)));
    message.ack().await.expect("taken");

    out.send(NewMessage::bytes("x".repeat(900_000)).no_ttl()).await.expect("sent");
    let message = next(&mut messages).await;
    assert_eq!((message.payload().len(), message.ttl_left()), (900_000, None));
    message.ack().await.expect("taken");
    settled(&alice).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_message_reaches_its_node_alone_also_one_that_was_never_seen() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = pair(&server, &dir).await;
    let eve = start(&server, &dir, "eve").await;
    let at_bob = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let at_eve = collect(&eve.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    for to in ["bob", "eve", "ida"] {
        out.send(NewMessage::text(format!("for {to}")).to(to)).await.expect("sent");
    }
    assert_eq!(arrived(&at_bob, 1).await, ["for bob"]);
    assert_eq!(arrived(&at_eve, 1).await, ["for eve"]);
    let ida = start(&server, &dir, "ida").await;
    let mut messages =
        ida.join("work", Mode::Reader).await.expect("joined").messages().await.expect("a stream");
    let message = next(&mut messages).await;
    assert_eq!((message.text().expect("text"), message.is_direct()), ("for ida", true));
    message.ack().await.expect("taken");
    settled(&alice).await;
    assert_eq!((seen(&at_bob).len(), seen(&at_eve).len()), (1, 1));
    for node in [ida, eve, bob, alice] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn send_all_stores_all_or_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at("nats://127.0.0.1:1", &dir, "alice")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let batch = |last: NewMessage| vec![NewMessage::text("a"), NewMessage::text("b"), last];
    let error = out.send_all(batch(NewMessage::text("c").ttl(Duration::ZERO))).await;
    assert!(matches!(error, Err(SendError::Invalid(InvalidMessage::ZeroTtl))));
    assert!(out.send_all(batch(NewMessage::text("c").to("no.such"))).await.is_err());
    assert_eq!(account(&alice, "").await.pending, 0);
    let ids = out.send_all(batch(NewMessage::text("c"))).await.expect("sent");
    assert!(ids.is_sorted_by(|a, b| a < b));
    assert_eq!((ids.len(), account(&alice, "").await.pending), (3, 3));
    assert_eq!(out.send_all(Vec::new()).await.expect("nothing to do"), []);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn business_rows_and_message_are_committed_together_or_not_at_all() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = pair(&server, &dir).await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    alice.transaction(|tx| tx.execute("CREATE TABLE orders (n INTEGER)", [])).await.expect("made");
    type Either = Box<dyn std::error::Error + Send + Sync>;
    for n in 0..4 {
        let out = out.clone();
        let done: Result<MessageId, TransactionError<Either>> = alice
            .transaction(move |tx| {
                tx.execute("INSERT INTO orders VALUES (?1)", [n])?;
                let id = out.send_in(tx, n.to_string())?;
                match n {
                    1 => Err("the customer left".into()),
                    2 => panic!("in the middle"),
                    _ => Ok(id),
                }
            })
            .await;
        match (n, done) {
            (1, Err(TransactionError::User(error))) => {
                assert_eq!(error.to_string(), "the customer left");
            }
            (2, Err(TransactionError::Panicked(text))) => assert_eq!(text, "in the middle"),
            (0 | 3, Ok(_)) => {}
            (_, other) => panic!("{n}: {other:?}"),
        }
    }
    settled(&alice).await;
    assert_eq!(seen(&got), ["0", "3"]);
    let rows = alice.transaction(|tx| {
        let mut select = tx.prepare("SELECT n FROM orders ORDER BY n")?;
        select.query_map([], |row| row.get(0))?.collect::<Result<Vec<u32>, _>>()
    });
    assert_eq!(rows.await.expect("readable"), [0, 3]);
    let ours = "UPDATE waypost_meta SET node = 'mallory'";
    assert!(alice.transaction(move |tx| tx.execute(ours, [])).await.is_err(), "not its tables");
    assert!(alice.transaction(|tx| tx.execute("COMMIT", [])).await.is_err(), "not its commit");
    assert!(alice.transaction(|tx| tx.execute("PRAGMA synchronous = OFF", [])).await.is_err());
    bob.shutdown().await;
    alice.shutdown().await;
}

/// Half of the time between two messages, long enough for a busy machine to join a reader in.
const HALF_WAY: Duration = Duration::from_secs(3);

/// What a reader that comes now gets, of messages sent long and just before it joined, and after. Where it starts depends on when the second of
/// them was sent.
async fn from(start: fn(std::time::Instant) -> StartAt) -> Vec<String> {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let quick = builder(&server, &dir, "alice").keepalive_interval(Duration::from_millis(100));
    let alice = begin(quick).await;
    let first = begin(builder(&server, &dir, "first")).await;
    let got = collect(&first.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "first").await;
    out.send("long ago").await.expect("sent");
    settled(&alice).await;
    let sent_at = std::time::Instant::now();
    // Longer than any announcement takes, by which a start is early.
    crate::support::eventually_async(SOON, "time passes", async || {
        sent_at.elapsed() > 2 * HALF_WAY
    })
    .await;
    let sent_at = std::time::Instant::now();
    out.send("lately").await.expect("sent");
    settled(&alice).await;
    crate::support::eventually_async(SOON, "time passes", async || {
        sent_at.elapsed() > Duration::from_millis(1_500)
    })
    .await;
    let bob = begin(builder(&server, &dir, "bob")).await;
    let work = bob.join_from("work", Mode::Reader, start(sent_at)).await.expect("joined");
    let at_bob = collect(&work).await;
    reader_is_known(&alice, "work", "bob").await;
    crate::support::eventually_async(SOON, "it has an account", async || {
        let accounts = alice.statistics().await.expect("it runs").accounts;
        accounts.iter().any(|a| a.receiver.as_ref().is_some_and(|id| id.as_str() == "bob"))
    })
    .await;
    out.send("now").await.expect("sent");
    settled(&alice).await;
    assert_eq!(seen(&got).len(), 3);
    for node in [bob, first, alice] {
        node.shutdown().await;
    }
    seen(&at_bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_says_where_it_begins() {
    let (now, joined, since, all) = tokio::join!(
        tokio::spawn(from(|_| StartAt::Now)),
        tokio::spawn(from(|_| StartAt::Joined)),
        tokio::spawn(from(|lately| StartAt::since(lately.elapsed() + HALF_WAY))),
        tokio::spawn(from(|_| StartAt::All)),
    );
    assert_eq!(now.expect("it ran"), ["now"]);
    assert_eq!(joined.expect("it ran"), ["now"]);
    assert_eq!(since.expect("it ran"), ["lately", "now"]);
    assert_eq!(all.expect("it ran"), ["long ago", "lately", "now"]);
}
