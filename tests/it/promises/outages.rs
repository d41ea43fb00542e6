//! P6: NATS away, frozen or half gone, either side away or killed, for whatever time: the other promises hold, and delivery
//! resumes by itself.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::*;
use crate::support::eventually;
use crate::support::nats_server::NatsServer;
use crate::support::tcp_proxy::TcpProxy;
use tempfile::TempDir;
use waypost::rusqlite::Connection;
use waypost::{Batching, Channel, Event, Mode, NewMessage, Node, StartAt};

/// Alice, who writes, and Bob, who reads, each at its own address of the server.
async fn pair(dir: &TempDir, alice: &str, bob: &str) -> (Node, Node, Channel, Got) {
    // Few attempts: if an outage were counted as some, it would make dead letters, and show.
    let few = NonZeroU32::new(3).expect("three");
    let alice = begin(builder_at(alice, dir, "alice").max_attempts(few)).await;
    let bob = begin(builder_at(bob, dir, "bob")).await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    (alice, bob, out, got)
}

async fn all_arrived(alice: &Node, got: &Got, count: usize) {
    settled(alice).await;
    assert_eq!(seen(got), numbers(0..count));
    let all = u64::try_from(count).expect("a count");
    assert_eq!(columns(alice, "bob").await, [all, 0, all, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_the_server_is_killed_again_and_again_while_messages_are_sent() {
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob, out, got) = pair(&dir, &server.url(), &server.url()).await;
    for round in 0..4 {
        let first = round * 40;
        send_numbers(&out, first..first + 20).await;
        server.kill();
        send_numbers(&out, first + 20..first + 40).await;
        disconnected(&alice).await;
        server.restart();
        connected(&alice).await;
    }
    all_arrived(&alice, &got, 160).await;
    assert!(alice.statistics().await.expect("it runs").counters.reconnects >= 4);
    bob.shutdown().await;
    alice.shutdown().await;
}

/// A server that is one of a cluster tells its clients of addresses, and these may be out of reach. Between two tries at the address of the
/// settings lies one of these at most, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn p6_addresses_that_a_server_tells_of_and_nobody_reaches_delay_no_reconnection() {
    let nowhere: Vec<TcpProxy> = (0..3).map(|_| TcpProxy::start(1)).collect();
    nowhere.iter().for_each(TcpProxy::cut);
    let tried = || nowhere.iter().map(TcpProxy::accepted).sum::<usize>();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let routes = free.local_addr().expect("a bound socket");
    drop(free);
    let member = |n: usize| {
        let told = nowhere[n].url().replace("nats://", "");
        let (listen, others) = match n {
            0 => (routes.to_string(), String::new()),
            _ => ("127.0.0.1:-1".to_owned(), format!("routes: [\"nats://{routes}\"]")),
        };
        format!(
            "client_advertise: \"{told}\"\ncluster {{ name: c, listen: \"{listen}\", {others} }}"
        )
    };
    let mut server = NatsServer::with_config(member(0));
    let others = [1, 2].map(|n| NatsServer::with_config(member(n)));
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob, out, got) = pair(&dir, &server.url(), &server.url()).await;
    for round in 0..3 {
        server.kill();
        send_numbers(&out, round..round + 1).await;
        // Both clients know of all three, and try them.
        let all = || nowhere.iter().all(|one| one.accepted() > 2 * round);
        disconnected(&alice).await;
        disconnected(&bob).await;
        eventually(Duration::from_secs(60), "all addresses are tried", all);
        server.restart();
        let before = tried();
        connected(&alice).await;
        connected(&bob).await;
        // For each of the two one try that had begun, and one before the turn of the settings' server.
        assert!(tried() <= before + 4, "{} tries", tried() - before);
    }
    all_arrived(&alice, &got, 3).await;
    bob.shutdown().await;
    alice.shutdown().await;
    drop(others);
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_the_server_freezes_and_nothing_is_lost_and_nobody_waits_for_it() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let (alice, bob, out, got) = pair(&dir, &server.url(), &server.url()).await;
    send_numbers(&out, 0..10).await;
    server.pause();
    // Sending goes on: it needs the file alone.
    send_numbers(&out, 10..40).await;
    disconnected(&alice).await;
    send_numbers(&out, 40..50).await;
    server.resume();
    all_arrived(&alice, &got, 50).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_half_open_connection_of_the_sender_is_noticed_and_replaced() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = TcpProxy::start(server.port());
    let (alice, bob, out, got) = pair(&dir, &proxy.url(), &server.url()).await;
    send_numbers(&out, 0..10).await;
    proxy.half_open();
    send_numbers(&out, 10..20).await;
    disconnected(&alice).await;
    proxy.heal();
    all_arrived(&alice, &got, 20).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_connection_that_takes_nothing_more_holds_up_no_answer_and_no_shutdown() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = TcpProxy::start(server.port());
    // What waits for the connection would wait for all of them, one after the other.
    let names: Vec<_> = (0..200).map(|n| format!("reader-{n}")).collect();
    let mut readers = Vec::new();
    for name in &names {
        readers.push(crate::nodes::wire::Puppet::start(&server, name).await);
    }
    let patient = builder_at(&proxy.url(), &dir, "alice").ack_timeout(Duration::from_secs(60));
    let alice = begin(patient.shutdown_timeout(Duration::from_secs(2))).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    for name in &names {
        reader_is_known(&alice, "work", name).await;
        peer_is(&alice, name, true).await;
    }
    proxy.one_way();
    // The first fill all buffers on the way, the others find no room.
    let large: Vec<u8> = (0..300_000).map(|_| fastrand::u8(..)).collect();
    for _ in 0..2 {
        out.send(large.clone()).await.expect("sent: it needs the file alone");
    }
    for _ in 0..10 {
        out.send("small").await.expect("sent");
        let asked = tokio::time::timeout(Duration::from_secs(3), alice.topology()).await;
        asked.expect("an answer, whatever waits").expect("it runs");
    }
    let sent = alice.statistics().await.expect("it runs").counters.sent;
    assert!(sent < 60, "{sent} frames found room: the connection is not stuck");
    tokio::time::timeout(Duration::from_secs(20), alice.shutdown()).await.expect("it ends in time");
    // What could not be published was no attempt, and goes out when there is a way.
    proxy.heal();
    let alice = begin(builder_at(&proxy.url(), &dir, "alice").max_attempts(NonZeroU32::MIN)).await;
    let mut answering = tokio::task::JoinSet::new();
    for mut reader in readers {
        answering.spawn(async move {
            loop {
                let frame = reader.next().await;
                reader.answer(&frame, "ack").await;
            }
        });
    }
    settled(&alice).await;
    let counters = alice.statistics().await.expect("it runs").counters;
    assert_eq!((counters.dead_lettered, counters.expired), (0, 0));
    alice.shutdown().await;
}

/// Both words are read together, as after a pause of the sender's.
#[tokio::test(flavor = "multi_thread")]
async fn p1_a_reader_that_leaves_and_is_back_at_once_gets_what_is_sent_from_then_on() {
    let (server, dir) = (NatsServer::start(), tempfile::tempdir().expect("a folder"));
    let mut bob = crate::nodes::wire::Puppet::start(&server, "bob").await;
    let alice = begin(builder(&server, &dir, "alice")).await;
    let mut events = alice.events();
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let joined = |event: &Event| matches!(event, Event::ReaderJoined { .. }).then_some(());
    event(&mut events, "joined", joined).await;
    let mut leaves = crate::nodes::wire::keepalive("bob", 42, 1_000_000);
    leaves["channels"] = serde_json::json!([]);
    leaves["left"] = serde_json::json!(["work"]);
    let returns = crate::nodes::wire::keepalive("bob", 42, 1_000_001);
    let client = crate::nodes::wire::stranger(&server).await;
    for keepalive in [leaves, returns] {
        let frame = crate::nodes::wire::frame(&keepalive, &[]);
        client.publish("waypost.keepalive.bob", frame.into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    let left = |event: &Event| matches!(event, Event::ReaderLeft { .. }).then_some(());
    event(&mut events, "left", left).await;
    event(&mut events, "joined again", joined).await;
    out.send("here?").await.expect("sent");
    let frame = bob.next().await;
    bob.answer(&frame, "ack").await;
    settled(&alice).await;
    assert_eq!(columns(&alice, "bob").await, [1, 0, 1, 0, 0, 0]);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_half_open_connection_of_the_receiver_costs_no_attempt_that_counts() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = TcpProxy::start(server.port());
    // The sender may try for as long as the receiver still counts as online.
    let alice = begin(builder(&server, &dir, "alice")).await;
    let bob = begin(builder_at(&proxy.url(), &dir, "bob")).await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    proxy.half_open();
    send_numbers(&out, 0..20).await;
    peer_is(&alice, "bob", false).await;
    proxy.cut();
    disconnected(&bob).await;
    proxy.heal();
    all_arrived(&alice, &got, 20).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_receiver_whose_answers_do_not_leave_gets_all_once_and_no_attempt_counts() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let proxy = TcpProxy::start(server.port());
    let (alice, bob, out, got) = pair(&dir, &server.url(), &proxy.url()).await;
    send_numbers(&out, 0..10).await;
    settled(&alice).await;
    // What is sent to it still arrives, and what it says to that does not.
    proxy.one_way();
    send_numbers(&out, 10..30).await;
    disconnected(&bob).await;
    proxy.heal();
    all_arrived(&alice, &got, 30).await;
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_receiver_killed_and_away_for_longer_than_offline_after_gets_all_and_no_attempt_counts()
 {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = begin(builder(&server, &dir, "alice").max_attempts(NonZeroU32::MIN)).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..10).await;
    settled(&alice).await;
    let mut lines = bob.kill();
    peer_is(&alice, "bob", false).await;
    send_numbers(&out, 10..30).await;
    let waiting = alice.flush(Duration::ZERO).await.expect("it runs").waiting;
    assert_eq!((waiting[0].pending, waiting[0].online), (20, false));
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    settled(&alice).await;
    lines.extend(bob.kill());
    assert_eq!(lines, numbers(0..30));
    assert_eq!(columns(&alice, "bob").await, [30, 0, 30, 0, 0, 0]);
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_killed_receiver_gets_the_rest_as_soon_as_it_is_back() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    // A repetition by timer alone would come after a minute.
    let patient = builder(&server, &dir, "alice").ack_timeout(Duration::from_secs(60));
    let alice = begin(patient).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    reader_is_known(&alice, "work", "bob").await;
    let mut events = alice.events();
    drop(bob);
    // The receiver is dead and still counts as online: this one's answer does not come.
    send_numbers(&out, 0..10).await;
    event(&mut events, "sent", |event| matches!(event, Event::Sent { .. }).then_some(())).await;
    let bob = Child::start("recv", &server.url(), &dir, "bob");
    settled(&alice).await;
    assert_eq!(bob.kill(), numbers(0..10));
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_sender_receiver_and_server_are_killed_in_turn_and_every_effect_happens_once() {
    const EACH: usize = 100_000;
    let mut server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let sender = |round: usize| {
        let role = format!("send {} {EACH}", round * EACH);
        Child::start(&role, &server.url(), &dir, "alice")
    };
    let url = server.url();
    let receiver = || Child::start("recv-in", &url, &dir, "bob");
    let (mut alice, mut bob) = (sender(0), receiver());
    let mut printed = Vec::new();
    let mut first_of_round = vec![0];
    for round in 1..=4 {
        let before = bob.lines().len();
        bob.wrote(before + 15).await;
        match round {
            1 | 3 => {
                drop(bob);
                bob = Child::start("recv-in", &url, &dir, "bob");
            }
            2 => {
                server.kill();
                server.restart();
            }
            _ => {
                printed.extend(alice.kill());
                let role = format!("send {} 20", printed.len() * EACH);
                first_of_round.push(printed.len() * EACH);
                alice = Child::start(&role, &url, &dir, "alice");
                alice.wrote(20).await;
            }
        }
    }
    printed.extend(alice.kill());
    let alice = start(&server, &dir, "alice").await;
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    drop(bob);
    let texts = |file: &str, sql: &str| -> Vec<String> {
        let file = Connection::open(dir.path().join(file)).expect("a file");
        let mut select = file.prepare(sql).expect("a table");
        let rows = select.query_map([], |row| row.get(0)).expect("rows");
        rows.collect::<Result<_, _>>().expect("texts")
    };
    let sent = texts("alice.db", "SELECT CAST(payload AS TEXT) FROM waypost_outbox ORDER BY seq");
    let done = texts("bob.db", "SELECT text FROM effects ORDER BY at");
    assert_eq!(done, sent, "each effect once, in the order of the sender's log");
    let printed: Vec<&str> = printed.iter().filter_map(|line| line.split(' ').next()).collect();
    assert!(printed.iter().all(|number| sent.iter().any(|text| text == number)));
    alice.shutdown().await;
}

/// Checksums as the first release wrote them, which say nothing of times: those in the file fit no more.
fn seal_without_times(file: &Connection) {
    let mut rows = file
        .prepare("SELECT seq, id, topic, kind, headers, encoding, payload FROM waypost_outbox")
        .expect("the columns");
    let sums: Vec<(i64, u32)> = rows
        .query_map([], |row| {
            let mut sum = crc32fast::Hasher::new();
            sum.update(&row.get::<_, Vec<u8>>(1)?);
            sum.update(&row.get::<_, i64>(2)?.to_le_bytes());
            for text in
                [row.get::<_, String>(3)?, row.get::<_, Option<String>>(4)?.unwrap_or_default()]
            {
                sum.update(&u32::try_from(text.len()).expect("short").to_le_bytes());
                sum.update(text.as_bytes());
            }
            sum.update(&[row.get(5)?]);
            sum.update(&row.get::<_, Vec<u8>>(6)?);
            Ok((row.get(0)?, sum.finalize()))
        })
        .and_then(Iterator::collect)
        .expect("whole rows");
    for (seq, sum) in sums {
        file.execute("UPDATE waypost_outbox SET crc = ?2 WHERE seq = ?1", (seq, sum))
            .expect("sealed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_file_written_by_a_clock_a_year_ahead_neither_expires_nor_disorders_anything() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 0..5).await;
    alice.shutdown().await;
    // As if the clock had been a year ahead when these were sent, and is right again.
    let file = Connection::open(dir.path().join("alice.db")).expect("a file");
    let year_ms = 365 * 86_400_000_i64;
    let sql =
        "UPDATE waypost_outbox SET created_ms = created_ms + ?1, expires_ms = expires_ms + ?1";
    file.execute(sql, [year_ms]).expect("moved");
    seal_without_times(&file);
    drop(file);
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    send_numbers(&out, 5..10).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join_from("work", Mode::Reader, waypost::StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    assert_eq!(arrived(&got, 10).await, numbers(0..10));
    settled(&alice).await;
    assert_eq!(account(&alice, "bob").await.expired, 0);
    bob.shutdown().await;
    alice.shutdown().await;
}

/// Starts the receiver again as often as it ends, until all is settled; what its lives wrote.
async fn supervised(alice: &Node, server: &NatsServer, dir: &TempDir) -> Vec<Vec<String>> {
    let mut lives = Vec::new();
    let mut bob = Child::start("recv-abort", &server.url(), dir, "bob");
    loop {
        let is_stuck = bob.lines().last().is_some_and(|line| line == "stuck");
        if bob.has_ended() || is_stuck {
            let next = "a receiver that ends is started again";
            lives.push(bob.kill());
            assert!(lives.len() < 30, "{next}, but not for ever: {lives:?}");
            bob = Child::start("recv-abort", &server.url(), dir, "bob");
        }
        let account = account(alice, "bob").await;
        if account.accepted > 0 && account.pending == 0 {
            lives.push(bob.kill());
            return lives;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_message_that_ends_its_receiver_is_dead_after_its_attempts_and_the_queue_goes_on() {
    let server = NatsServer::start();
    let two = NonZeroU32::new(2).expect("above zero");
    for (batch, fatal) in [(1, "abort"), (1, "stuck"), (20, "abort")] {
        let dir = tempfile::tempdir().expect("a folder");
        let batching = Batching::up_to(NonZeroUsize::new(batch).expect("above zero"));
        let alice = builder(&server, &dir, "alice").max_attempts(two).batching(batching);
        let alice = begin(alice).await;
        let out = alice.join("work", Mode::Writer).await.expect("joined");
        let mut texts = numbers(0..10);
        texts.insert(5, fatal.to_owned());
        let messages = texts.iter().map(|text| NewMessage::text(text.clone())).collect();
        let ids = out.send_all(messages).await.expect("sent");
        let lives = supervised(&alice, &server, &dir).await;
        assert_eq!(columns(&alice, "bob").await, [11, 0, 10, 0, 1, 0], "{fatal}: {lives:?}");
        let dead = alice.dead_letters(10).await.expect("readable");
        assert_eq!(dead.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[5]]);
        assert!(dead[0].reason.contains("process ended while it handled"), "{}", dead[0].reason);
        let ended = lives.iter().flatten().filter(|line| *line == fatal).count();
        // Of a frame of many it takes one life more to find out which it was.
        assert_eq!(ended, if batch == 1 { 2 } else { 3 }, "{lives:?}");
        let mut last = lives.concat();
        last.retain(|line| line != fatal);
        last.sort_unstable();
        last.dedup();
        assert_eq!(last, numbers(0..10), "all others were handled");
        alice.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_handler_that_an_orderly_end_cuts_short_has_not_failed() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let id = out.send("x").await.expect("sent");
    for orderly in [true, true, false] {
        let bob = builder(&server, &dir, "bob").shutdown_timeout(Duration::from_millis(10));
        let bob = begin(bob).await;
        let work = bob.join_from("work", Mode::Reader, StartAt::All).await.expect("joined");
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        work.on_message(move |message| {
            begun.send(message.attempt()).expect("somebody looks");
            std::future::pending()
        })
        .await
        .expect("attached");
        let attempt = tokio::time::timeout(SOON, begins.recv()).await.expect("it begins");
        assert_eq!(attempt, Some(1));
        if orderly {
            bob.shutdown().await;
        }
    }
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    assert_eq!(arrived(&got, 1).await, ["x"]);
    settled(&alice).await;
    let file = waypost::inspect::Inspector::open(alice.storage()).expect("a node's file");
    let story = file.why(id).expect("readable").expect("on record");
    let failures = &story.receivers[0].failures;
    assert!(!failures.iter().any(|failure| failure.answer.contains("failed")), "{failures:?}");
    bob.shutdown().await;
    alice.shutdown().await;
}
