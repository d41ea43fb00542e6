//! Opening, sending, committing, closing.

use super::*;
use crate::fresh;
use crate::message::{Mode, StartAt};
use crate::protocol::frame::ChannelPresence;
use crate::store::open::StoreOpenError;
use crate::store::open::tests::listing;
use crate::store::tx::TransactionError;

#[tokio::test]
async fn p1_an_answer_comes_after_the_commit() {
    let bench = Bench::new();
    for n in 0..50 {
        let id = bench.send("c", &n.to_string()).await;
        let stored: Vec<u8> = bench
            .sql()
            .query_row("SELECT id FROM waypost_outbox WHERE seq = ?1", [n + 1], |row| row.get(0))
            .expect("the row is visible to others");
        assert_eq!(stored, id.to_bytes());
    }
}

#[tokio::test]
async fn many_senders_share_a_commit_and_each_gets_its_own_answer() {
    let bench = Bench::with(|options| options.durability = Durability::Full);
    let sends = (0..500).map(|n| {
        let store = bench.store.clone();
        tokio::spawn(async move { store.send(vec![text_to("c", &n.to_string())]).await })
    });
    let mut ids = Vec::new();
    for send in sends.collect::<Vec<_>>() {
        ids.push(send.await.expect("no panic").expect("accepted")[0]);
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 500);
    assert_eq!(bench.count("SELECT accepted FROM waypost_topics"), 500);
}

#[tokio::test]
async fn a_batch_is_accepted_whole_or_not_at_all() {
    let bench = Bench::with(|options| options.queue_limit = 10);
    bench.subscribe("a", "c", Start::Now).await;
    bench.send_many("c", 8).await;
    let batch = (0..3).map(|n| text_to("c", &n.to_string())).collect();
    let error = bench.store.send(batch).await.expect_err("over the limit");
    assert!(matches!(error, SendError::QueueFull { backlog: 8, limit: 10, .. }), "{error}");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 8);
    assert_eq!(bench.send_many("c", 2).await.len(), 2);
}

#[tokio::test]
async fn notices_come_in_the_order_in_which_they_are_needed() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    let id = bench.send("c", "x").await;
    bench.notices.wait().await;
    let taken = bench.notices.take();
    let [Notice::TopicOpened(topic), Notice::CursorOpened(cursor), Notice::Appended(entry)] =
        &taken[..]
    else {
        panic!("{taken:?}")
    };
    assert_eq!((entry.id, entry.topic, cursor.topic), (id, topic.topic, topic.topic));
    assert_eq!((cursor.receiver.clone(), cursor.pending), (node("a"), 0));
}

#[tokio::test]
async fn ages_are_found_wherever_in_the_log_they_are() {
    let bench = Bench::new();
    let mut expected = Vec::new();
    // Each reader's first message, then many of the others' between it and the next reader's.
    for (at, reader) in ["a", "b", "c"].into_iter().enumerate() {
        bench.subscribe(reader, reader, Start::Now).await;
        bench.clock.advance(1_000);
        bench.send(reader, "first").await;
        expected.push((reader, START_MS + 1_000 * (at as u64 + 1)));
        bench.send_many("busy", 700).await;
    }
    for (reader, at_ms) in &expected {
        assert_eq!(bench.account(reader).await.oldest_pending_ms, Some(*at_ms), "{reader}");
    }
    bench.store.settle(vec![bench.ack("a", TopicId(1), (1, 1), 1)], vec![]).await.expect("settled");
    assert_eq!(bench.account("a").await.oldest_pending_ms, None);
    assert_eq!(bench.account("c").await.oldest_pending_ms, Some(expected[2].1));
    let (past, places) = (std::time::Instant::now(), vec![(TopicId(1), 0), (TopicId(99), 0)]);
    let found = bench.store.read(|conn| pager::first_times(conn, places, past));
    let found = found.expect("read");
    assert_eq!(
        found.get(&(TopicId(1), 0)),
        Some(&expected[0].1),
        "what comes first is found at once"
    );
    assert_eq!(found.len(), 1, "a topic that is not there ends with the time");
}

#[tokio::test]
async fn what_is_counted_is_what_was_committed() {
    let bench = Bench::with(|options| options.queue_limit = 3);
    let accepted = || bench.store.tally().read().accepted;
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("c", "one").await;
    let undone: Result<(), TransactionError<SendError>> = bench
        .store
        .transaction(|tx| tx.send(text_to("c", "two")).and(Err(SendError::Closed)))
        .await;
    assert!(undone.is_err());
    assert_eq!(accepted(), 1, "what was undone does not count");
    let kept = bench.store.transaction(|tx| tx.send(text_to("c", "two"))).await;
    kept.expect("sent");
    let full = bench.store.send(vec![text_to("c", "three"), text_to("c", "four")]).await;
    assert!(matches!(full, Err(SendError::QueueFull { .. })), "{full:?}");
    assert_eq!(accepted(), 2);
    assert_eq!(bench.store.forget(node("a")).await.expect("forgotten").pending, 2);
    assert_eq!(bench.store.tally().read().dropped, 2);
}

#[tokio::test]
async fn a_direct_message_waits_for_a_node_that_nobody_knows() {
    let bench = Bench::new();
    let message = prepared("c", NewMessage::text("x").to("stranger"));
    bench.store.send(vec![message]).await.expect("accepted");
    let account = bench.account("stranger").await;
    assert_eq!((account.accepted, account.pending), (1, 1));
    assert_eq!(account.oldest_pending_ms, Some(START_MS));
    bench.store.forget(node("stranger")).await.expect("forgotten");
    let message = prepared("c", NewMessage::text("y").to("stranger"));
    bench.store.send(vec![message]).await.expect("accepted");
    let account = bench.account("stranger").await;
    assert_eq!((account.accepted, account.pending), (1, 1), "what was forgotten stays so");
}

#[tokio::test]
async fn ids_grow_across_a_restart_with_the_clock_set_back() {
    let bench = Bench::new();
    let before = bench.send("c", "x").await;
    bench.clock.set_wall(1_000);
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.last_id, before);
    let after = bench.send("c", "y").await;
    assert!(after > before, "{after} after {before}");
    let times = "SELECT count(*) FROM waypost_outbox a JOIN waypost_outbox b ON a.seq + 1 = b.seq WHERE a.created_ms <= b.created_ms AND a.id < b.id";
    assert_eq!(bench.count(times), 1);
}

#[tokio::test]
async fn ids_of_messages_that_are_gone_are_not_given_out_again() {
    let bench = Bench::new();
    let id = bench.send("c", "x").await;
    let far = MessageId::from_u128(id.as_u128() + (1 << 90));
    bench.store.new_store(id, far).await.expect("raised");
    bench.store.new_store(id, id).await.expect("no step back");
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.last_id, far);
    assert!(bench.send("c", "y").await > far);
}

#[tokio::test]
async fn a_new_store_id_counts_from_the_message_after() {
    let bench = Bench::new();
    let id = bench.send("c", "x").await;
    let new = bench.store.new_store(id, id).await.expect("a store id");
    let bench = bench.reopened().await;
    let stores = &bench.restored.stores;
    assert_eq!(stores.len(), 2);
    assert_eq!(stores[0].0, MessageId::ZERO);
    assert_eq!(stores[1], (MessageId::from_u128(id.as_u128() + 1), new));
}

#[tokio::test]
async fn reopening_restores_everything() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send_many("c", 3).await;
    let high = prepared("c", NewMessage::text("!").priority(Priority::High).to("b"));
    bench.store.send(vec![high]).await.expect("accepted");
    let peer = Peer {
        node: node("a"),
        store_id: fresh::store_id(),
        incarnation: fresh::incarnation(),
        host: "there".to_owned(),
        version: "1.2.3".to_owned(),
        channels: vec![ChannelPresence {
            name: name("c"),
            mode: Mode::Reader,
            age_ms: 7,
            paused: true,
            start: StartAt::All,
        }],
        last_seen_ms: 5,
        linked: Duration::from_secs(3),
        questions: 2,
    };
    bench.store.know_peers(vec![peer.clone()]).await.expect("known");
    let joined = bench.store.join(name("c")).await.expect("joined");
    bench.store.join(name("gone")).await.expect("joined");
    bench.store.leave(vec![name("gone")]).await.expect("left");
    let advance = InboxAdvance {
        sender: node("b"),
        store_id: fresh::store_id(),
        channel: name("c"),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::from_u128(7),
    };
    bench.store.accept(advance.clone()).await.expect("accepted");
    let topic = bench.restored_topic();
    bench.store.settle(vec![bench.ack("a", topic, (1, 2), 2)], vec![]).await.expect("settled");
    bench.clock.advance(1_000);

    let bench = bench.reopened().await;
    let restored = &bench.restored;
    assert_eq!(restored.node.clone(), node("home"));
    assert_eq!(restored.topics.len(), 2);
    assert_eq!((restored.topics[0].accepted, restored.topics[0].last_seq), (3, 3));
    assert_eq!(restored.topics[1].target, Some(node("b")));
    assert_eq!(restored.cursors.len(), 2);
    let cursor = &restored.cursors[0];
    assert_eq!((cursor.acked_seq, cursor.pending), (2, 1));
    assert_eq!(restored.peers, [peer]);
    assert_eq!(restored.subscriptions.len(), 1);
    assert_eq!(restored.left, [name("gone")]);
    assert_eq!((restored.inbox[0].last_id, restored.inbox[0].count), (advance.id, 1));
    assert_eq!(bench.store.join(name("c")).await.expect("joined"), joined);
}

impl Bench {
    /// The first topic there is.
    fn restored_topic(&self) -> TopicId {
        let topic = self.count("SELECT min(topic) FROM waypost_topics");
        TopicId(i64::try_from(topic).expect("a small number"))
    }
}

#[tokio::test]
async fn the_inbox_never_goes_back() {
    let bench = Bench::new();
    let advance = |id| InboxAdvance {
        sender: node("b"),
        store_id: StoreId::from_bytes([1; 16]),
        channel: name("c"),
        direct: true,
        lane: Priority::Low,
        id: MessageId::from_u128(id),
    };
    for id in [5, 9, 7, 9] {
        bench.store.accept(advance(id)).await.expect("accepted");
    }
    let bench = bench.reopened().await;
    let row = &bench.restored.inbox[0];
    let expected = (MessageId::from_u128(5), MessageId::from_u128(9), 2);
    assert_eq!((row.first_id, row.last_id, row.count), expected);
}

#[tokio::test]
async fn a_file_of_another_node_is_refused_and_stays_as_it_is() {
    let bench = Bench::new();
    let path = bench.path();
    bench.store.close().await;
    let before = listing(&path);
    // Another clock than its own is no reason to write either.
    bench.clock.advance(10 * DAY_MS);
    let mut wrong = options(&path);
    wrong.id = Some(node("other"));
    let error = Store::open_at(wrong, Box::new(bench.clock.clone())).err().expect("a refusal");
    assert!(before == listing(&path), "something changed");
    assert!(matches!(error, StoreOpenError::WrongNode { .. }), "{error}");
    assert!(error.to_string().contains("\"home\"") && error.to_string().contains("\"other\""));
    assert!(Store::open(options(&path)).is_ok(), "the refusal left no lock");
}

#[tokio::test]
async fn closing_finishes_what_waits_and_refuses_the_rest() {
    let bench = Bench::new();
    let sends: Vec<_> = (0..100)
        .map(|n| {
            let store = bench.store.clone();
            tokio::spawn(async move { store.send(vec![text_to("c", &n.to_string())]).await })
        })
        .collect();
    bench.send("c", "last").await;
    bench.store.close().await;
    bench.store.close().await;
    let mut accepted = 1;
    for send in sends {
        match send.await.expect("no panic") {
            Ok(_) => accepted += 1,
            Err(error) => assert!(matches!(error, SendError::Closed), "{error}"),
        }
    }
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), accepted);
    let error = bench.store.send(vec![text_to("c", "x")]).await.expect_err("closed");
    assert!(matches!(error, SendError::Closed));
    assert!(matches!(bench.store.cleanup().await, Err(StoreError::Closed)));
    let request =
        PageRequest { lane: Priority::Normal, topics: vec![], max_messages: 1, max_bytes: 1 };
    assert!(matches!(bench.store.page(&request), Err(StoreError::Closed)));
}

#[tokio::test]
async fn closing_leaves_no_thread_no_lock_and_an_empty_log() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    let thread = |_: &mut Group<'_>| {
        let thread = std::fs::read_link("/proc/thread-self").expect("the kernel names the thread");
        Ok::<_, StoreError>(std::path::Path::new("/proc").join(thread))
    };
    let thread = bench.store.run(Durability::Normal, thread).await.expect("a thread");
    let name = std::fs::read_to_string(thread.join("comm")).expect("it runs");
    assert_eq!(name.trim(), "waypost-writer");
    bench.store.close().await;
    assert!(!thread.exists());
    assert!(!bench.folder.path().join("node.db-wal").exists());
    assert!(!bench.folder.path().join("node.db-lock").exists());
}

#[tokio::test]
async fn dropping_the_last_handle_closes_the_file_too() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let Bench { folder, store, .. } = bench;
    let mut done = store.inner.done.clone();
    drop(store.clone());
    assert!(!*done.borrow());
    drop(store);
    tokio::time::timeout(Duration::from_secs(20), done.wait_for(|done| *done))
        .await
        .expect("the writer ends")
        .expect("it says so");
    assert!(Store::open(options(&folder.path().join("node.db"))).is_ok(), "the lock is released");
}

#[tokio::test]
async fn a_future_dropped_before_it_was_queued_does_nothing() {
    let bench = Bench::new();
    drop(bench.store.send(vec![text_to("c", "never polled")]));
    bench.send("c", "x").await;
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
}

#[tokio::test]
async fn only_those_who_ask_for_it_wait_for_the_disk() {
    let bench = Bench::with(|options| options.durability = Durability::Full);
    let mode = |store: Store| async move {
        let read = |group: &mut Group<'_>| {
            let mode = group.conn.query_row("PRAGMA synchronous", [], |row| row.get::<_, u8>(0));
            fault::At::at(mode, "ask")
        };
        let lazy = store.run(Durability::Normal, read).await.expect("a mode");
        (store.run(Durability::Full, read).await.expect("a mode"), lazy)
    };
    assert_eq!(mode(bench.store.clone()).await, (2, 1));
}

#[tokio::test]
async fn an_id_from_the_far_future_is_not_taken_over() {
    let bench = Bench::new();
    let id = |ms: u64| MessageId::from_u128(u128::from(ms) << 80);
    let last_id = async || {
        let read = |group: &mut Group<'_>| Ok::<_, StoreError>(group.ledger.totals.last_id);
        bench.store.run(Durability::Normal, read).await.expect("an id")
    };
    let near = id(START_MS + 366 * DAY_MS);
    for far in [MessageId::from_u128(u128::MAX), id(START_MS + 366 * DAY_MS + 1)] {
        bench.store.new_store(MessageId::ZERO, far).await.expect("ignored");
        assert_eq!(last_id().await, MessageId::ZERO);
    }
    bench.store.new_store(MessageId::ZERO, near).await.expect("raised");
    assert_eq!(last_id().await, near);
    assert!(bench.send("c", "x").await > near);
}

#[tokio::test]
async fn a_file_that_has_no_ids_left_refuses_messages_and_nothing_else() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let harm = "UPDATE waypost_meta SET last_id = X'ffffffffffffffffffffffffffffffff'";
    bench.sql().execute_batch(harm).expect("harm is done");
    let bench = bench.reopened().await;
    let store = bench.store.clone();
    let send = store.send(vec![text_to("c", "y")]);
    let join = store.join(name("c"));
    let (send, join) = tokio::join!(send, join);
    let Err(SendError::Storage(StoreError::Sql { operation, source })) = send else {
        panic!("{send:?}")
    };
    assert_eq!(operation, "give a message an id");
    assert!(source.to_string().contains("is the largest there is"), "{source}");
    join.expect("the rest goes on");
    assert_eq!(bench.store.health(), Health::Healthy);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
}

#[tokio::test]
async fn a_sender_with_ever_new_store_ids_takes_no_more_room() {
    let bench = Bench::new();
    let accept = async |sender: &str, store: u8, channel: &str, id| {
        let advance = InboxAdvance {
            sender: node(sender),
            store_id: StoreId::from_bytes([store; 16]),
            channel: name(channel),
            direct: false,
            lane: Priority::Normal,
            id: MessageId::from_u128(id),
        };
        bench.clock.advance(1);
        bench.store.accept(advance).await.expect("accepted");
    };
    accept("other", 1, "c", 1).await;
    for store in 1..=16 {
        accept("b", store, "c", 1).await;
        accept("b", store, "d", 1).await;
    }
    accept("b", 1, "c", 2).await;
    let stores = "SELECT count(DISTINCT store_id) FROM waypost_inbox WHERE sender = 'b'";
    assert_eq!(bench.count(stores), 16);
    accept("b", 17, "c", 1).await;
    assert_eq!(bench.count(stores), 16);
    let second = "SELECT count(*) FROM waypost_inbox WHERE sender = 'b' AND store_id = X'02020202020202020202020202020202'";
    assert_eq!(bench.count(second), 0, "the one not heard of for the longest time went");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_inbox"), 32);
}

#[tokio::test]
async fn a_damaged_row_of_the_inbox_is_forgotten_and_on_record() {
    let mut bench = Bench::new();
    let advance = |sender: &str, id: u128| InboxAdvance {
        sender: node(sender),
        store_id: StoreId::from_bytes([1; 16]),
        channel: name("c"),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::from_u128(id),
    };
    for (count, damage) in (1..).zip([
        "last_id = X'000000000000000000000000000000ff'",
        "channel = 'd'",
        "sender = 'not a name'",
        "lane = 2",
        "store_id = X'01010101010101010101010101010102'",
    ]) {
        for id in [5, 6] {
            bench.store.accept(advance("a", id)).await.expect("accepted");
            bench.store.accept(advance("b", id)).await.expect("accepted");
        }
        let harm = format!("UPDATE waypost_inbox SET {damage} WHERE sender = 'a'");
        bench.sql().execute_batch(&harm).expect("harm is done");
        let report = crate::inspect::Inspector::open(bench.path()).expect("opened").check(|_| ());
        assert_eq!(report.expect("checked").findings.len(), 1, "{damage}");
        bench = bench.reopened().await;
        let [row] = &bench.restored.inbox[..] else {
            panic!("{damage}: {:?}", bench.restored.inbox)
        };
        assert_eq!((row.sender.as_str(), row.last_id), ("b", MessageId::from_u128(6)));
        let noted = "SELECT count(*) FROM waypost_audit WHERE action = 'inbox damaged'";
        assert_eq!(bench.count(noted), count);
    }
}
