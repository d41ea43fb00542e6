//! The queue limit.

use super::*;

async fn recounts(store: &Store) -> u64 {
    let read = |group: &mut Group<'_>| Ok::<_, StoreError>(group.ledger.recounts);
    store.run(Durability::Normal, read).await.expect("a count")
}

#[tokio::test]
async fn the_receiver_that_is_full_is_named() {
    let bench = Bench::with(|options| options.queue_limit = 3);
    bench.subscribe("quick", "c", Start::Now).await;
    bench.subscribe("slow", "c", Start::Now).await;
    bench.send_many("c", 3).await;
    let topic = TopicId(1);
    bench.store.settle(vec![bench.ack("quick", topic, (1, 3), 3)], vec![]).await.expect("settled");
    for _ in 0..2 {
        let error = bench.store.send(vec![text_to("c", "x")]).await.expect_err("full");
        let SendError::QueueFull { receiver, backlog: 3, limit: 3 } = error else {
            panic!("{error}")
        };
        assert_eq!(receiver, Some(node("slow")));
    }
    // What is sent elsewhere, and to others, goes on.
    bench.send("other", "x").await;
    let direct = prepared("c", NewMessage::text("x").to("quick"));
    bench.store.send(vec![direct]).await.expect("accepted");
    let direct = prepared("d", NewMessage::text("x").to("slow"));
    assert!(bench.store.send(vec![direct]).await.is_err(), "the limit is the receiver's");
    bench.store.settle(vec![bench.ack("slow", topic, (1, 1), 1)], vec![]).await.expect("settled");
    bench.send("c", "x").await;
}

#[tokio::test]
async fn of_several_that_are_full_the_one_furthest_behind_is_named() {
    let bench = Bench::with(|options| options.queue_limit = 4);
    // The one that has taken some of it is first by name, and last.
    for reader in ["a-quick", "slow", "z-quick"] {
        bench.subscribe(reader, "c", Start::Now).await;
        bench.subscribe(reader, "d", Start::Now).await;
    }
    bench.send_many("c", 3).await;
    for reader in ["a-quick", "z-quick"] {
        let ack = bench.ack(reader, TopicId(1), (1, 2), 2);
        bench.store.settle(vec![ack], vec![]).await.expect("settled");
    }
    bench.send("d", "x").await;
    let others = ["a-quick", "z-quick"].map(|to| prepared("d", NewMessage::text("x").to(to)));
    for other in [&others[..], &others[..]].concat() {
        bench.store.send(vec![other]).await.expect("accepted");
    }
    // All three have four waiting now.
    let error = bench.store.send(vec![text_to("d", "x")]).await.expect_err("full");
    let SendError::QueueFull { receiver, backlog: 4, limit: 4 } = error else { panic!("{error}") };
    assert_eq!(receiver, Some(node("slow")), "its oldest is older");
}

#[tokio::test]
async fn a_mark_below_the_limit_is_told_when_it_is_reached_and_not_before() {
    let bench = Bench::with(|options| options.queue_limit = 100);
    bench.subscribe("slow", "c", Start::Now).await;
    let told = || {
        let filling = |notice: &Notice| matches!(notice, Notice::Filling);
        bench.notices.take().iter().filter(|notice| filling(notice)).count()
    };
    told();
    bench.send_many("c", 49).await;
    assert_eq!(told(), 0);
    bench.send("c", "x").await;
    assert_eq!(told(), 1, "50 %");
    bench.send_many("c", 29).await;
    assert_eq!(told(), 0);
    bench.send_many("c", 1).await;
    assert_eq!(told(), 1, "80 %");
    let before = recounts(&bench.store).await;
    bench.send_many("c", 20).await;
    assert_eq!(told(), 1, "95 %, and what many of a commit say is said once");
    assert!(recounts(&bench.store).await - before <= 3, "counted at the marks alone");
    assert!(bench.store.send(vec![text_to("c", "x")]).await.is_err());
}

#[tokio::test]
async fn the_oldest_give_way_and_are_counted() {
    let bench = Bench::with(|options| {
        options.queue_limit = 3;
        options.overflow = Overflow::DropOldest;
    });
    bench.subscribe("slow", "c", Start::Now).await;
    bench.subscribe("quick", "c", Start::Now).await;
    bench.send_many("c", 3).await;
    let topic = TopicId(1);
    bench.store.settle(vec![bench.ack("quick", topic, (1, 3), 3)], vec![]).await.expect("settled");
    bench.notices.take();
    bench.send_many("c", 2).await;
    let account = bench.account("slow").await;
    assert_eq!((account.accepted, account.pending, account.purged), (5, 3, 2));
    let account = bench.account("quick").await;
    assert_eq!((account.pending, account.purged), (2, 0));
    let dropped: Vec<Notice> = bench
        .notices
        .take()
        .into_iter()
        .filter(|it| matches!(it, Notice::Dropped { .. }))
        .collect();
    assert!(
        matches!(&dropped[..], [Notice::Dropped { up_to_seq: 2, count: 2, .. }]),
        "{dropped:?}"
    );
    let record = "SELECT count(*) FROM waypost_settlements WHERE receiver = 'slow' AND outcome = 'purged' AND first_seq = 1 AND last_seq = 2 AND count = 2";
    assert_eq!(bench.count(record), 1);
    // More than the limit at once would push itself out.
    let batch = (0..4).map(|n| text_to("c", &n.to_string())).collect();
    assert!(matches!(bench.store.send(batch).await, Err(SendError::QueueFull { .. })));
    assert_eq!(bench.account("slow").await.pending, 3);
}

#[tokio::test]
async fn other_topics_give_way_where_the_own_has_nothing() {
    let bench = Bench::with(|options| {
        options.queue_limit = 3;
        options.overflow = Overflow::DropOldest;
    });
    bench.subscribe("slow", "c", Start::Now).await;
    bench.subscribe("slow", "d", Start::Now).await;
    bench.send_many("c", 3).await;
    bench.send_many("d", 2).await;
    let account = bench.account("slow").await;
    assert_eq!((account.accepted, account.pending, account.purged), (5, 3, 2));
}

#[tokio::test]
async fn what_waits_for_a_first_reader_is_limited_too() {
    let bench = Bench::with(|options| options.queue_limit = 3);
    let short = || prepared("c", NewMessage::text("x").ttl(Duration::from_secs(60)));
    bench.store.send(vec![short(), text_to("c", "y"), short()]).await.expect("accepted");
    let error = bench.store.send(vec![short()]).await.expect_err("full");
    assert!(
        matches!(error, SendError::QueueFull { receiver: None, backlog: 3, limit: 3 }),
        "{error}"
    );
    bench.send("other", "x").await;
    bench.clock.advance(61_000);
    let bench = bench.reopened_with(|options| options.queue_limit = 3).await;
    bench.store.send(vec![short(), short()]).await.expect("two have expired");
    assert!(bench.store.send(vec![short()]).await.is_err());
    assert_eq!(bench.count("SELECT unclaimed_expired FROM waypost_topics WHERE channel = 'c'"), 2);
    // A late reader gets what is left, and its account is exact.
    let cursors = bench.subscribe("late", "c", Start::All).await;
    assert_eq!(cursors[0].pending, 3);
    let page = page_of(&bench.store, Priority::Normal, &[(cursors[0].topic, cursors[0].acked_seq)]);
    assert_eq!(page.entries.len(), 3);
}

#[tokio::test]
async fn the_oldest_for_a_first_reader_give_way() {
    let bench = Bench::with(|options| {
        options.queue_limit = 3;
        options.overflow = Overflow::DropOldest;
    });
    bench.send_many("c", 3).await;
    bench.send_many("c", 2).await;
    let notices = bench.notices.take();
    let Some(Notice::DroppedUnclaimed { channel, count: 2 }) = notices.last() else {
        panic!("{notices:?}")
    };
    assert_eq!(*channel, name("c"));
    assert_eq!(bench.subscribe("late", "c", Start::All).await[0].pending, 3);
}

#[tokio::test]
async fn a_thousand_readers_are_counted_once_in_a_limit_not_at_every_send() {
    let bench = Bench::with(|options| options.queue_limit = 5_000);
    let subscribes = (0..1_000).map(|n| {
        let store = bench.store.clone();
        tokio::spawn(
            async move { store.subscribe(node(&format!("r{n}")), name("c"), Start::Now).await },
        )
    });
    for subscribe in subscribes.collect::<Vec<_>>() {
        subscribe.await.expect("no panic").expect("subscribed");
    }
    bench.send("c", "first").await;
    let before = recounts(&bench.store).await;
    for _ in 0..100 {
        bench.send_many("c", 20).await;
    }
    assert!(recounts(&bench.store).await - before <= 2, "counted at most once more");
    let cursors = (0..1_000).map(|n| bench.ack(&format!("r{n}"), TopicId(1), (1, 2_001), 2_001));
    bench.store.settle(cursors.collect(), vec![]).await.expect("settled");
    assert_eq!(bench.account("r999").await.acknowledged, 2_001);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 2_001, "one row a message");
}

#[tokio::test]
async fn a_full_receiver_is_remembered_while_it_is_full() {
    let bench = Bench::with(|options| options.queue_limit = 2);
    for n in 0..50 {
        bench.subscribe(&format!("r{n}"), "c", Start::Now).await;
    }
    bench.send_many("c", 2).await;
    assert!(bench.store.send(vec![text_to("c", "x")]).await.is_err());
    let before = recounts(&bench.store).await;
    for _ in 0..20 {
        assert!(bench.store.send(vec![text_to("c", "x")]).await.is_err());
    }
    assert_eq!(recounts(&bench.store).await, before);
}
