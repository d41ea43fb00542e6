//! P1: what `send` said Ok to is on disk. P2: every message ends in one recorded way, and the accounts always add up.

use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use crate::nodes::child::Child;
use crate::nodes::*;
use crate::support::eventually_async;
use crate::support::nats_server::NatsServer;
use waypost::inspect::{Inspector, ReceiverState};
use waypost::management::Scope;
use waypost::{Batching, Event, MessageId, Mode, NewMessage, Overflow};

/// The number and the id in a sender's line.
fn sent(line: &str) -> (usize, MessageId) {
    let (number, id) = line.split_once(' ').expect("a number and an id");
    (number.parse().expect("a number"), id.parse().expect("an id"))
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_sender_killed_right_after_an_id_was_printed_has_the_message_in_its_file() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let mut printed = Vec::new();
    for round in 0..4 {
        let first = round * 100_000;
        let child =
            Child::start(&format!("send {first} 100000"), "nats://127.0.0.1:1", &dir, "alice");
        child.wrote(20).await;
        printed.extend(child.kill().iter().map(|line| sent(line)));
    }
    let inspector = Inspector::open(dir.path().join("alice.db")).expect("a node's file");
    for (number, id) in &printed {
        let story = inspector.why(*id).expect("readable");
        assert!(story.is_some_and(|story| story.accepted.is_some()), "{number} {id} is missing");
    }
    assert!(inspector.check(|_| ()).expect("readable").is_sound());
    drop(inspector);

    let alice = start(&server, &dir, "alice").await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join_from("work", Mode::Reader, waypost::StartAt::All).await.expect("joined");
    let got = collect(&work).await;
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    let got: Vec<usize> = seen(&got).iter().map(|text| text.parse().expect("a number")).collect();
    assert!(got.is_sorted_by(|a, b| a < b), "each once, in order");
    let got: BTreeSet<usize> = got.into_iter().collect();
    let missing: Vec<_> = printed.iter().filter(|(number, _)| !got.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // At most the one whose id was on its way to the terminal comes on top in each round.
    assert!(got.len() <= printed.len() + 4, "{} of {}", got.len(), printed.len());
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_ids_grow_over_kills_and_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut ids = Vec::new();
    for _ in 0..3 {
        let child = Child::start("send 0 100000", "nats://127.0.0.1:1", &dir, "alice");
        child.wrote(5).await;
        ids.extend(child.kill().iter().map(|line| sent(line).1));
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_every_outcome_is_on_record_and_the_accounts_add_up() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let builder = builder(&server, &dir, "alice").max_attempts(NonZeroU32::new(2).expect("two"));
    let alice = begin(builder.clone()).await;
    let bob = start(&server, &dir, "bob").await;
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    work.on_message(|message| async move {
        if message.text()?.starts_with("bad") { Err("it is bad".into()) } else { Ok(()) }
    })
    .await
    .expect("attached");
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    send_numbers(&out, 0..3).await;
    let bad = out.send("bad").await.expect("sent");
    out.send("good").await.expect("sent");
    account_is(&alice, "bob", |account| account.pending == 0).await;
    assert_eq!(columns(&alice, "bob").await, [5, 0, 4, 0, 1, 0], "acknowledged and dead");

    work.pause().await.expect("paused");
    let short = NewMessage::text("short").ttl(Duration::from_millis(100));
    let short = out.send(short).await.expect("sent");
    account_is(&alice, "bob", |account| account.expired == 1).await;
    let purged = out.send("to be purged").await.expect("sent");
    assert_eq!(alice.purge("bob", None).await.expect("purged"), 1);
    assert_eq!(columns(&alice, "bob").await, [7, 0, 4, 1, 1, 1]);

    send_numbers(&out, 3..5).await;
    alice.shutdown().await;
    let alice = begin(builder).await;
    assert_eq!(columns(&alice, "bob").await, [9, 2, 4, 1, 1, 1], "over a restart");
    let file = Inspector::open(alice.storage()).expect("a node's file");
    for (id, state) in [(bad, "dead"), (short, "expired"), (purged, "purged")] {
        let story = file.why(id).expect("readable").expect("on record");
        let found = &story.receivers[0].state;
        let fits = matches!(found, ReceiverState::Settled { outcome, .. } if outcome == state);
        assert!(fits, "{id}: {found:?}");
    }
    assert_eq!(alice.forget("bob").await.expect("forgotten"), 2);
    assert_eq!(columns(&alice, "bob").await, [0; 6]);
    let audit = file.audit(10).expect("readable");
    let forgotten = audit.iter().find(|entry| entry.action == "forget").expect("on record");
    assert_eq!(forgotten.subject, "bob");
    assert_eq!(forgotten.detail, "2 pending, 4 acknowledged, 1 expired, 1 dead, 1 purged");
    bob.shutdown().await;
    alice.shutdown().await;
}

/// What makes messages for a reader go, right after it has acknowledged all that it was sent.
#[derive(Debug, Clone, Copy)]
enum Going {
    Leaves,
    IsKicked,
    IsForgotten,
    IsPurged,
    IsPurgedByOrder,
}

async fn all_acknowledged(server: &NatsServer, going: Going, batch: usize) {
    const COUNT: usize = 100;
    let dir = tempfile::tempdir().expect("a folder");
    let open = |id| {
        let batch = NonZeroUsize::new(batch).expect("above zero");
        builder(server, &dir, id).batching(Batching::up_to(batch))
    };
    let (alice, bob) = (begin(open("alice")).await, begin(open("bob")).await);
    let work = bob.join("work", Mode::Reader).await.expect("joined");
    let got = collect(&work).await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    reader_is_known(&alice, "work", "bob").await;
    peer_is(&bob, "alice", true).await;
    let mut events = alice.events();
    let numbers = numbers(0..COUNT).into_iter().map(NewMessage::text).collect();
    let ids = out.send_all(numbers).await.expect("sent");
    if matches!(going, Going::Leaves | Going::IsKicked) {
        // Its last answers may still be on their way.
        arrived(&got, COUNT).await;
        eventually_async(SOON, "all is answered", async || {
            bob.statistics().await.expect("it runs").counters.acks_sent as usize * batch >= COUNT
        })
        .await;
    } else {
        let last = *ids.last().expect("a hundred");
        let is_last = |event: &Event| matches!(event, Event::Delivered { id, .. } if *id == last);
        event(&mut events, "the last is delivered", |event| is_last(event).then_some(())).await;
    }
    let bob_id = bob.id().clone();
    match going {
        Going::Leaves => work.leave().await.expect("left"),
        Going::IsKicked => {
            alice.kick("bob").await.expect("obeyed");
        }
        Going::IsForgotten => assert_eq!(alice.forget("bob").await.expect("forgotten"), 0),
        Going::IsPurged => assert_eq!(alice.purge("bob", None).await.expect("purged"), 0),
        Going::IsPurgedByOrder => {
            let scope = Scope::Node(alice.id().clone());
            let answered = bob.purge_queue(scope).await.expect("asked");
            assert_eq!(answered[0].result.as_ref().expect("obeyed").purged, 0);
        }
    }
    if let Going::Leaves | Going::IsKicked = going {
        let purged = event(&mut events, "the reader left", |event| match event {
            Event::ReaderLeft { node, purged, .. } if *node == bob_id => Some(*purged),
            _ => None,
        });
        assert_eq!(purged.await, 0, "{going:?}");
    }
    if !matches!(going, Going::IsForgotten) {
        assert_eq!(columns(&alice, "bob").await, [100, 0, 100, 0, 0, 0], "{going:?}");
    }
    let file = Inspector::open(alice.storage()).expect("a node's file");
    for id in [ids[0], ids[COUNT / 2], ids[COUNT - 1]] {
        let story = file.why(id).expect("readable").expect("on record");
        let found = story.receivers.iter().find(|receiver| receiver.receiver == bob_id);
        let found = &found.expect("it was for bob").state;
        let fits =
            matches!(found, ReceiverState::Settled { outcome, .. } if outcome == "acknowledged");
        assert!(fits, "{going:?}: {id}: {found:?}");
    }
    bob.shutdown().await;
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_what_a_reader_acknowledged_stays_acknowledged_when_it_goes() {
    let server = NatsServer::start();
    for going in [
        // Two of three rounds lost their accounts once.
        Going::Leaves,
        Going::Leaves,
        Going::Leaves,
        Going::IsKicked,
        Going::IsForgotten,
        Going::IsPurged,
        Going::IsPurgedByOrder,
    ] {
        for batch in [1, 10] {
            all_acknowledged(&server, going, batch).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_what_was_acknowledged_a_moment_ago_is_neither_dropped_nor_fills_the_queue() {
    let server = NatsServer::start();
    for overflow in [Overflow::DropOldest, Overflow::Reject] {
        let dir = tempfile::tempdir().expect("a folder");
        let five = NonZeroUsize::new(5).expect("above zero");
        let alice = builder(&server, &dir, "alice").queue_limit(five).overflow(overflow);
        let (alice, bob) = (begin(alice).await, start(&server, &dir, "bob").await);
        let work = bob.join("work", Mode::Reader).await.expect("joined");
        let got = collect(&work).await;
        let out = alice.join("work", Mode::Writer).await.expect("joined");
        reader_is_known(&alice, "work", "bob").await;
        let mut events = alice.events();
        for round in 0..10 {
            let five: Vec<_> = (5 * round..5 * round + 5)
                .map(|n: usize| NewMessage::text(n.to_string()))
                .collect();
            let ids = if round % 2 == 0 {
                out.send_all(five).await.expect("all before are acknowledged")
            } else {
                let out = out.clone();
                let send = move |tx: &waypost::Tx<'_>| {
                    five.into_iter().map(|message| out.send_in(tx, message)).collect()
                };
                let sent: Result<Vec<_>, _> = alice.transaction(send).await;
                sent.expect("in a transaction, too")
            };
            let is_last =
                |event: &Event| matches!(event, Event::Delivered { id, .. } if *id == ids[4]);
            event(&mut events, "the last is delivered", |event| is_last(event).then_some(())).await;
        }
        assert_eq!(arrived(&got, 50).await, numbers(0..50));
        assert_eq!(columns(&alice, "bob").await, [50, 0, 50, 0, 0, 0]);
        bob.shutdown().await;
        alice.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_accounts_add_up_at_any_moment_while_either_side_is_killed() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let alice = start(&server, &dir, "alice").await;
    let out = alice.join("work", Mode::Writer).await.expect("joined");
    let mut bob = Child::start("recv", &server.url(), &dir, "bob");
    reader_is_known(&alice, "work", "bob").await;
    let (mut accepted, mut handled) = (0, Vec::new());
    for _ in 0..4 {
        for _ in 0..60 {
            out.send("x").await.expect("sent");
            accepted += 1;
            let account = account(&alice, "bob").await;
            assert_eq!(account.accepted, accepted, "{account:?}");
        }
        bob.wrote(1).await;
        handled.extend(bob.kill());
        bob = Child::start("recv", &server.url(), &dir, "bob");
    }
    settled(&alice).await;
    handled.extend(bob.kill());
    assert_eq!(columns(&alice, "bob").await, [240, 0, 240, 0, 0, 0]);
    // One message that was handled and not yet acknowledged can come again for each kill.
    assert!((240..=244).contains(&handled.len()), "{}", handled.len());
    alice.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_killed_sender_finds_its_accounts_again() {
    let server = NatsServer::start();
    let dir = tempfile::tempdir().expect("a folder");
    let bob = start(&server, &dir, "bob").await;
    let got = collect(&bob.join("work", Mode::Reader).await.expect("joined")).await;
    let mut sent = 0;
    for round in 0..3 {
        let first = round * 100_000;
        let child = Child::start(&format!("send {first} 100000"), &server.url(), &dir, "alice");
        child.wrote(30).await;
        sent += child.kill().len();
    }
    let alice = start(&server, &dir, "alice").await;
    reader_is_known(&alice, "work", "bob").await;
    settled(&alice).await;
    let account = account(&alice, "bob").await;
    let got = seen(&got).len();
    assert_eq!(account.acknowledged, u64::try_from(got).expect("a count"), "{account:?}");
    assert_eq!(account.accepted, account.acknowledged);
    assert!((sent..=sent + 3).contains(&got), "{got} of {sent}");
    eventually_async(SOON, "the sender's own counter agrees", async || {
        let file = Inspector::open(alice.storage()).expect("a node's file");
        file.queue().expect("readable").iter().all(|row| row.pending == 0)
    })
    .await;
    bob.shutdown().await;
    alice.shutdown().await;
}
