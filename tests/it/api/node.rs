//! A node's life: starting under all circumstances, being somebody, stopping and leaving nothing behind.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::wire::{Puppet, message, say, stranger};
use crate::nodes::*;
use crate::support::nats_server::NatsServer;
use tempfile::TempDir;
use waypost::error::{NodeError, OpenError, SendError, StartError, StoreOpenError};
use waypost::{Auth, Event, Link, Mode, NewMessage, Node};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_starts_without_a_server_and_says_so() {
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder_at("nats://127.0.0.1:1", &dir, "alice")).await;
    let status = alice.wait_for(|s| matches!(s.link, Link::Disconnected { .. })).await;
    assert_eq!(status.expect("it runs").peers_online, 0);
    alice.join("work", Mode::Writer).await.expect("joined").send("x").await.expect("sent");
    let flushed = alice.flush(Duration::from_millis(50)).await.expect("it runs");
    assert_eq!((flushed.waiting.len(), flushed.waiting[0].pending), (1, 1));
    assert_eq!(flushed.waiting[0].receiver, None);
    alice.shutdown().await;
}

fn auth(change: impl FnOnce(&mut Auth)) -> Auth {
    let mut auth = Auth::default();
    change(&mut auth);
    auth
}

/// A node with these credentials, and its link once that is no longer open.
async fn logged_in(server: &NatsServer, dir: &TempDir, id: &str, auth: Auth) -> (Node, Link) {
    let node = begin(builder(server, dir, id).auth(auth)).await;
    let decided = |link: &Link| matches!(link, Link::Connected { .. } | Link::Unauthorized { .. });
    let wait = node.wait_for(|status| decided(&status.link));
    let status = tokio::time::timeout(SOON, wait).await.expect("in time").expect("it runs");
    (node, status.link)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_said_and_the_right_ones_let_everything_out() {
    let mut server = NatsServer::with_config("authorization { token: right }");
    let dir = tempfile::tempdir().expect("a folder");
    let wrong = auth(|auth| auth.token = Some("wrong".to_owned()));
    let (alice, link) = logged_in(&server, &dir, "alice", wrong.clone()).await;
    assert!(matches!(link, Link::Unauthorized { .. }), "{link:?}");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    out.send("0").await.expect("it can queue");
    alice.shutdown().await;

    let (bob, link) = {
        let right = auth(|auth| auth.token = Some("right".to_owned()));
        logged_in(&server, &dir, "bob", right).await
    };
    assert!(link.is_connected());
    let work = bob.join_from("work", Mode::Reader, waypost::StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    let right = auth(|auth| auth.token = Some("right".to_owned()));
    let (alice, link) = logged_in(&server, &dir, "alice", right).await;
    assert!(link.is_connected());
    assert_eq!(arrived(&got, 1).await, ["0"]);

    // While it runs the server changes its mind, twice.
    let mut events = alice.events();
    server.restart_with("authorization { token: other }");
    event(&mut events, "unauthorized", |event| {
        matches!(event, Event::Unauthorized { .. }).then_some(())
    })
    .await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    out.send("1").await.expect("it can queue");
    server.restart_with("authorization { token: right }");
    assert_eq!(arrived(&got, 2).await, numbers(0..2));
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_and_an_nkey_log_in() {
    let key = nkeys::KeyPair::new_user();
    let config = format!(
        "authorization {{ users = [ {{ user: ship, password: seven }}, {{ nkey: {} }} ] }}",
        key.public_key()
    );
    let server = NatsServer::with_config(config);
    let dir = tempfile::tempdir().expect("a folder");
    let user = |password: &str| {
        auth(|auth| {
            auth.user = Some("ship".to_owned());
            auth.password = Some(password.to_owned());
        })
    };
    let nkey = auth(|auth| auth.nkey = Some(key.seed().expect("a seed")));
    let stranger = nkeys::KeyPair::new_user().seed().expect("a seed");
    for (id, auth, connects) in [
        ("alice", user("seven"), true),
        ("bob", nkey, true),
        ("eve", user("six"), false),
        ("ida", auth(|auth| auth.nkey = Some(stranger)), false),
        ("ivo", Auth::default(), false),
    ] {
        let (node, link) = logged_in(&server, &dir, id, auth).await;
        assert_eq!(link.is_connected(), connects, "{id}: {link:?}");
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_with_the_same_id_is_refused_and_told_where_the_first_one_is() {
    let server = NatsServer::start();
    let (dir, other) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    match builder(&server, &other, "alice").start().await {
        Err(StartError::DuplicateNode { id, host, incarnation }) => {
            assert_eq!(id.as_str(), "alice");
            assert_eq!(host, gethostname::gethostname().to_string_lossy());
            assert_eq!(incarnation, alice.status().incarnation);
        }
        other => panic!("{other:?}"),
    }
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..5).await;
    assert_eq!(arrived(&got, 5).await, numbers(0..5), "the first one goes on");
    alice.shutdown().await;
    begin(builder(&server, &other, "alice")).await.shutdown().await;
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_use_is_refused_and_its_holder_named() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let at_once = || builder(&server, &dir, "alice").lock_wait(Duration::ZERO);
    let refused = async |pid: Option<u32>| match at_once().start().await {
        Err(StartError::Storage(StoreOpenError::Open(OpenError::InUse { holder, path }))) => {
            let holder = holder.expect("it is named");
            assert_eq!(holder.node, "alice");
            assert!(pid.is_none_or(|pid| holder.pid == pid));
            assert!(path.ends_with("alice.db"));
        }
        other => panic!("{other:?}"),
    };
    let alice = start(&server, &dir, "alice").await;
    refused(Some(std::process::id())).await;
    alice.shutdown().await;
    let child = Child::start("hold", &server.url(), &dir, "alice");
    child.wrote(1).await;
    refused(None).await;
    drop(child);
    // A dead process holds nothing.
    begin(builder(&server, &dir, "alice")).await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_use_is_waited_for_and_many_get_it_in_turn() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let wait = || builder(&server, &dir, "alice").lock_wait(Duration::from_secs(60));
    let alice = start(&server, &dir, "alice").await;
    let waiting: Vec<_> = (0..6).map(|_| tokio::spawn(wait().start())).collect();
    let short = builder(&server, &dir, "alice").lock_wait(Duration::from_millis(50));
    let begun = std::time::Instant::now();
    let refused = short.start().await;
    assert!(matches!(refused, Err(StartError::Storage(_))), "{refused:?}");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    alice.shutdown().await;
    let turns = waiting.into_iter().map(async |start| {
        start.await.expect("it does not panic").expect("its turn").shutdown().await;
    });
    futures_util::future::join_all(turns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_id_the_hosts_name_is_taken_and_kept_in_the_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("node.db");
    let nameless = || Node::builder().nats(["nats://127.0.0.1:1"]).storage(&path);
    let node = begin(nameless()).await;
    let id = node.id().clone();
    let host = gethostname::gethostname().to_string_lossy().into_owned();
    assert_eq!(id.as_str().len(), host.chars().count().min(64));
    node.shutdown().await;
    let node = begin(nameless()).await;
    assert_eq!(*node.id(), id);
    node.shutdown().await;
    match nameless().id("somebody-else").start().await {
        Err(StartError::Storage(StoreOpenError::WrongNode { kept, asked, .. })) => {
            assert_eq!((kept, asked.as_str()), (id, "somebody-else"));
        }
        other => panic!("{other:?}"),
    }
    let node = begin(nameless().storage(dir.path().join("other.db")).id("named")).await;
    node.shutdown().await;
    let node = begin(nameless().storage(dir.path().join("other.db"))).await;
    assert_eq!(node.id().as_str(), "named");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_leaves_no_thread_and_no_task_connected_or_not() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    for (id, url) in [("alice", server.url()), ("bob", "nats://127.0.0.1:1".to_owned())] {
        let child = Child::start("leave-nothing", &url, &dir, id);
        child.wrote(3).await;
        assert_eq!(child.kill(), ["0 threads, 0 tasks"; 3], "{id}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_running_handlers_finish_and_delivers_what_can_be_delivered() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = (start(&server, &dir, "alice").await, start(&server, &dir, "bob").await);
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let begun = Arc::new(tokio::sync::Notify::new());
    let (begin_it, done) = (begun.clone(), Got::default());
    let note = done.clone();
    work.on_message(move |message| {
        let (begun, note) = (begin_it.clone(), note.clone());
        async move {
            begun.notify_one();
            tokio::time::sleep(Duration::from_millis(300)).await;
            note.lock().expect("not poisoned").push(message.text()?.to_owned());
            Ok(())
        }
    })
    .await
    .expect("attached");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..2).await;
    begun.notified().await;
    // The first is being handled, the second comes too late for this node.
    bob.shutdown().await;
    assert_eq!(seen(&done), ["0"]);
    account_is(&alice, "bob", |account| account.acknowledged == 1 && account.pending == 1).await;
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    assert_eq!(arrived(&got, 1).await, ["1"]);
    settled(&alice).await;
    let many = (2..40).map(|n| NewMessage::text(n.to_string())).collect();
    out.send_all(many).await.expect("sent");
    alice.shutdown().await;
    assert_eq!(seen(&got), numbers(1..40), "all had left before it ended");
    bob.shutdown().await;
}

/// A sender, and a receiver whose `shutdown` would wait for much longer than the test.
async fn patient_pair(server: &NatsServer, dir: &TempDir) -> (Node, waypost::Channel, Node) {
    let alice = start(server, dir, "alice").await;
    let bob = builder(server, dir, "bob").shutdown_timeout(Duration::from_secs(600));
    let bob = begin(bob).await;
    bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    (alice, out, bob)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_can_shut_its_node_down_and_its_message_is_acknowledged() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob) = patient_pair(&server, &dir).await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let (node, returned) = (bob.clone(), Arc::new(tokio::sync::Notify::new()));
    let note = returned.clone();
    work.on_message(move |_| {
        let (node, note) = (node.clone(), note.clone());
        async move {
            node.shutdown().await;
            note.notify_one();
            Ok(())
        }
    })
    .await
    .expect("attached");
    send_numbers(&out, 0..2).await;
    let ended = async {
        returned.notified().await;
        // Elsewhere it waits for the end, as ever.
        bob.shutdown().await;
    };
    tokio::time::timeout(SOON, ended).await.expect("it ends");
    account_is(&alice, "bob", |account| account.acknowledged == 1 && account.pending == 1).await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_took_out_of_a_stream_holds_no_shutdown_and_costs_no_attempt() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, out, bob) = patient_pair(&server, &dir).await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    work.on_message(move |_| std::future::ready(begun.send(()).map_err(Into::into)))
        .await
        .expect("attached");
    let mut messages = work.messages().await.expect("a stream");
    out.send("x").await.expect("sent");
    // A handler has taken it, and the stream is next.
    tokio::time::timeout(SOON, begins.recv()).await.expect("in time").expect("it runs");
    tokio::time::timeout(SOON, bob.shutdown()).await.expect("it ends");
    assert!(messages.next().await.is_none(), "it was given back");
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let mut messages = work.messages().await.expect("a stream");
    let next = tokio::time::timeout(SOON, messages.next()).await.expect("it comes");
    let message = next.expect("it runs");
    assert_eq!(message.attempt(), 1);
    // One that was taken out is waited for, and dropping it is an answer.
    let ending = tokio::spawn({
        let bob = bob.clone();
        async move { bob.shutdown().await }
    });
    drop(message);
    tokio::time::timeout(SOON, ending).await.expect("it ends").expect("no panic");
    alice.shutdown().await;
}

/// As many as a stream has places for, and a few more.
const MORE_THAN_A_STREAM_TAKES: usize = 70;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_stream_that_nobody_reads_holds_no_shutdown() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let many = NonZeroUsize::new(2 * MORE_THAN_A_STREAM_TAKES).expect("above zero");
    let bob = || builder(&server, &dir, "bob").max_handlers(many);
    let ending = begin(bob().shutdown_timeout(Duration::from_secs(600))).await;
    let work = ending.join("work", Mode::Reader).await.expect("joined");
    let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
    work.on_message(move |_| std::future::ready(begun.send(()).map_err(Into::into)))
        .await
        .expect("attached");
    let _unread = work.messages().await.expect("a stream");
    // One of a sender is in work at a time, so that it takes many of them.
    let names: Vec<_> = (0..MORE_THAN_A_STREAM_TAKES).map(|n| format!("sender-{n}")).collect();
    let mut senders = Vec::new();
    for name in &names {
        senders.push(Puppet::start(&server, name).await);
        peer_is(&ending, name, true).await;
    }
    let client = stranger(&server).await;
    for name in &names {
        let (_, frame) = message(name, "bob", 1, name);
        say(&client, &format!("waypost.msg.bob.{name}"), frame).await;
    }
    // The handler has taken each, and the stream is next.
    for _ in &names {
        tokio::time::timeout(SOON, begins.recv()).await.expect("in time").expect("it runs");
    }
    tokio::time::timeout(SOON, ending.shutdown()).await.expect("it ends");
    // None of it was an attempt, or taken.
    let bob = begin(bob()).await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let mut messages = work.messages().await.expect("a stream");
    peer_is(&bob, &names[0], true).await;
    let (_, frame) = message(&names[0], "bob", 1, &names[0]);
    say(&client, &format!("waypost.msg.bob.{}", names[0]), frame).await;
    let next = tokio::time::timeout(SOON, messages.next()).await.expect("it comes");
    assert_eq!(next.expect("it runs").attempt(), 1);
    bob.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_every_call_says_so() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::ReadWrite).await.expect("joined");
    let mut events = alice.events();
    tokio::join!(alice.shutdown(), alice.shutdown());
    alice.shutdown().await;
    assert!(matches!(out.send("x").await, Err(SendError::Closed)));
    assert!(matches!(alice.statistics().await, Err(NodeError::ShutDown)));
    assert!(matches!(alice.flush(SOON).await, Err(NodeError::ShutDown)));
    assert!(alice.join("work", Mode::Reader).await.is_err());
    assert!(out.messages().await.is_err());
    assert!(alice.transaction(|tx| tx.execute("SELECT 1", [])).await.is_err());
    drop((alice, out));
    while events.next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_node_lets_go_of_its_file_and_loses_nothing() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    drop(alice);
    out.send("0").await.expect("a channel keeps its node alive");
    drop(out);
    let alice = start(&server, &dir, "alice").await;
    assert_eq!(account(&alice, "").await.pending, 1);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_every_second_stops_nobody() {
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob) = (start(&server, &dir, "alice").await, start(&server, &dir, "bob").await);
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    for round in 0..10 {
        send_numbers(&out, round * 10..round * 10 + 10).await;
        // The second between two restarts is what this test is about.
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.restart();
    }
    assert_eq!(arrived(&got, 100).await, numbers(0..100));
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [100, 0, 100, 0, 0, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_less_than_a_waiting_message_has_makes_it_a_dead_letter_and_no_more() {
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder(&server, &dir, "alice").compression(false)).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    out.send("0").await.expect("sent");
    let large = out.send(NewMessage::bytes(vec![0; 200_000])).await.expect("sent");
    out.send("1").await.expect("sent");
    server.restart_with("max_payload: 65536");
    let got = collect(&work).await;
    assert_eq!(arrived(&got, 2).await, numbers(0..2));
    settled(&alice).await;
    let dead = alice.dead_letters(10).await.expect("readable");
    assert_eq!((dead.len(), dead[0].id), (1, large));
    assert!(dead[0].reason.ends_with("the server takes 65536"), "{}", dead[0].reason);
    assert_eq!(columns(&alice, "bob").await, [3, 0, 2, 0, 1, 0]);
    bob.shutdown().await;
    alice.shutdown().await;
}
