//! Reading pages, and cleaning up.

use super::*;
use crate::protocol::report::Lost;
use crate::protocol::settling::Attempt;

fn seqs(page: &Page) -> Vec<u64> {
    let seq = |loaded: &Loaded| match loaded {
        Loaded::Good(entry) => entry.seq,
        Loaded::Damaged { seq, .. } => *seq,
    };
    page.entries.iter().map(seq).collect()
}

#[tokio::test]
async fn a_page_merges_topics_in_commit_order_each_from_its_own_place() {
    let bench = Bench::new();
    for channel in ["a", "b", "a", "c", "b", "a"] {
        bench.send(channel, channel).await;
    }
    let (a, b) = (TopicId(1), TopicId(2));
    let page = page_of(&bench.store, Priority::Normal, &[(a, 1), (b, 0)]);
    assert_eq!((seqs(&page), page.scanned_to, page.end), (vec![2, 3, 5, 6], 6, true));
    let Loaded::Good(entry) = &page.entries[1] else { panic!("{page:?}") };
    assert_eq!((entry.channel.as_str(), &entry.body.data[..]), ("a", &b"a"[..]));
    assert_eq!(
        entry.headers.get("content-type").map(String::as_str),
        Some("text/plain; charset=utf-8")
    );
}

#[tokio::test]
async fn pages_end_at_their_limits_and_go_on_where_they_ended() {
    let bench = Bench::new();
    bench.send_many("c", 10).await;
    bench.store.send(vec![text_to("c", &"x".repeat(5_000))]).await.expect("accepted");
    let (mut after, mut all, mut pages) = (0, Vec::new(), 0);
    loop {
        let request = PageRequest {
            lane: Priority::Normal,
            topics: vec![(TopicId(1), after)],
            max_messages: 3,
            max_bytes: 1_000,
        };
        let page = bench.store.page(&request).expect("a page");
        assert!(page.entries.len() <= 3);
        all.extend(seqs(&page));
        after = page.scanned_to;
        pages += 1;
        if page.end {
            break;
        }
    }
    assert_eq!(all, (1..=11).collect::<Vec<_>>());
    assert_eq!(pages, 5, "the large message has a page of its own");
}

#[tokio::test]
async fn each_lane_has_its_own_pages() {
    let bench = Bench::new();
    for (n, lane) in
        [Priority::Normal, Priority::High, Priority::Low, Priority::High].into_iter().enumerate()
    {
        let message = NewMessage::text(n.to_string()).priority(lane);
        bench.store.send(vec![prepared("c", message)]).await.expect("accepted");
    }
    let topics = [(TopicId(1), 0), (TopicId(2), 0), (TopicId(3), 0)];
    assert_eq!(seqs(&page_of(&bench.store, Priority::High, &topics[1..2])), [2, 4]);
    assert_eq!(seqs(&page_of(&bench.store, Priority::Low, &topics[2..])), [3]);
    let page = page_of(&bench.store, Priority::Normal, &topics[..1]);
    assert_eq!((seqs(&page), page.scanned_to), (vec![1], 4));
}

#[tokio::test]
async fn a_sparse_topic_in_a_long_log_takes_several_pages() {
    let bench = Bench::new();
    bench.send("rare", "x").await;
    for _ in 0..6 {
        bench.send_many("busy", 10_000).await;
    }
    bench.send("rare", "y").await;
    let (mut after, mut all) = (0, Vec::new());
    let mut pages = 0;
    loop {
        let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), after)]);
        all.extend(seqs(&page));
        assert!(page.end || page.scanned_to > after);
        after = page.scanned_to;
        pages += 1;
        if page.end {
            break;
        }
    }
    assert_eq!(all, [1, 60_002]);
    assert!(pages > 1, "no call looks at the whole log");
}

#[tokio::test]
async fn a_damaged_message_is_reported_and_the_others_are_read() {
    let bench = Bench::new();
    let ids = bench.send_many("c", 6).await;
    let harm = bench.sql();
    for sql in [
        "UPDATE waypost_outbox SET payload = X'31' WHERE seq = 1",
        "UPDATE waypost_outbox SET kind = 'not a kind' WHERE seq = 3",
        "UPDATE waypost_outbox SET headers = '{' WHERE seq = 4",
        "UPDATE waypost_outbox SET id = zeroblob(16) WHERE seq = 5",
    ] {
        harm.execute_batch(sql).expect("harm is done");
    }
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    assert_eq!((seqs(&page), page.end), ((1..=6).collect(), true));
    let damaged: Vec<(u64, MessageId)> = page
        .entries
        .iter()
        .filter_map(|loaded| match loaded {
            Loaded::Damaged { seq, id, .. } => Some((*seq, *id)),
            Loaded::Good(_) => None,
        })
        .collect();
    let expected = [(1, ids[0]), (3, ids[2]), (4, ids[3]), (5, MessageId::ZERO)];
    assert_eq!(damaged, expected);
}

#[tokio::test]
async fn a_message_whose_topic_was_damaged_is_missed_and_put_back() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("d", "x").await;
    let ids = bench.send_many("c", 5).await;
    let harm = bench.sql();
    let (topic, places) = (TopicId(2), [2, 4, 6]);
    // The first, one between others, and the last; one of another topic that is there, and one whose payload is damaged, too.
    for sql in [
        "UPDATE waypost_outbox SET topic = 9 WHERE seq = 2",
        "UPDATE waypost_outbox SET topic = 1 WHERE seq = 4",
        "UPDATE waypost_outbox SET topic = 0, payload = X'00' WHERE seq = 6",
    ] {
        harm.execute_batch(sql).expect("harm is done");
    }
    let page = page_of(&bench.store, Priority::Normal, &[(topic, 0)]);
    assert_eq!(seqs(&page), [3, 5]);
    let strays: Vec<Stray> = places.into_iter().map(|seq| Stray { seq, topic }).collect();
    assert_eq!(page.strays, strays);
    // Also where the page before ended just behind it.
    let after = page_of(&bench.store, Priority::Normal, &[(topic, 4)]);
    assert_eq!(after.strays, strays[1..]);
    // Another topic has nothing to do with it, and gets none of it.
    let other = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    assert_eq!((seqs(&other), other.strays), (vec![1, 4], vec![]));
    assert!(matches!(other.entries[1], Loaded::Damaged { seq: 4, .. }));

    bench.notices.take();
    bench.store.put_back(strays).await.expect("put back");
    let told = bench.notices.take();
    let again = |it: &Notice| matches!(it, Notice::CursorBehind(cursor) if cursor.acked_seq < 2);
    assert!(told.iter().any(again), "who has read past them reads again: {told:?}");
    let page = page_of(&bench.store, Priority::Normal, &[(topic, 0)]);
    assert_eq!((seqs(&page), page.strays), (vec![2, 3, 4, 5, 6], vec![]));
    let sound = |at: usize| matches!(&page.entries[at], Loaded::Good(it) if it.id == ids[at]);
    assert!((0..4).all(sound));
    assert!(matches!(page.entries[4], Loaded::Damaged { seq: 6, .. }));
}

#[tokio::test]
async fn a_damaged_link_takes_no_message_from_another_topic() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    bench.send("d", "x").await;
    bench.send("c", "x").await;
    bench
        .sql()
        .execute_batch("UPDATE waypost_outbox SET previous_seq = 2 WHERE seq = 3")
        .expect("harm");
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    assert_eq!((seqs(&page), page.strays), (vec![1, 3], vec![]));
}

#[tokio::test]
async fn what_a_handler_has_failed_is_known_after_a_restart_and_silence_is_not() {
    let bench = Bench::new();
    bench.subscribe("b", "c", Start::Now).await;
    bench.send_many("c", 4).await;
    let attempt = |seq, attempt, answer: &str| {
        let (receiver, answer) = (node("b"), answer.to_owned());
        Attempt { receiver, seq, attempt, at_ms: START_MS, answer }
    };
    let attempts = vec![
        attempt(1, 9, "the handler failed: long ago"),
        attempt(2, 1, "the handler failed: no"),
        attempt(2, 2, "the handler failed: no"),
        attempt(2, 3, "no answer (1 in a row): it may have been handled"),
    ];
    bench.store.settle(vec![bench.ack("b", TopicId(1), (1, 1), 1)], attempts).await.expect("noted");
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.cursors[0].failed, Some((2, 2)));
    bench.store.settle(vec![bench.ack("b", TopicId(1), (2, 2), 1)], vec![]).await.expect("noted");
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.cursors[0].failed, None);
}

#[tokio::test]
async fn cleanup_keeps_what_anybody_waits_for_and_what_is_young() {
    let bench = Bench::new();
    bench.subscribe("quick", "c", Start::Now).await;
    bench.subscribe("slow", "c", Start::Now).await;
    bench.send_many("c", 1_200).await;
    let topic = TopicId(1);
    let store = &bench.store;
    store
        .settle(vec![bench.ack("quick", topic, (1, 1_200), 1_200)], vec![])
        .await
        .expect("settled");
    store.settle(vec![bench.ack("slow", topic, (1, 1_100), 1_100)], vec![]).await.expect("settled");
    let attempt = Attempt {
        receiver: node("slow"),
        seq: 5,
        attempt: 1,
        at_ms: START_MS,
        answer: "no".to_owned(),
    };
    store.settle(vec![], vec![attempt]).await.expect("noted");
    let (subject, detail) = ("subject".to_owned(), "detail".to_owned());
    let entry = Entry { action: "test", subject, detail, term: None };
    store.enter(vec![entry]).await.expect("noted");
    assert_eq!(store.cleanup().await.expect("clean"), Cleaned::default(), "all of it is young");
    bench.clock.advance(3 * DAY_MS + 1);
    bench.send("c", "young").await;
    let cleaned = store.cleanup().await.expect("clean");
    assert_eq!(cleaned, Cleaned { messages: 1_100, expired_unclaimed: 0, records: 4 });
    assert_eq!(bench.count("SELECT min(seq) FROM waypost_outbox"), 1_101);
    assert_eq!(bench.account("slow").await.pending, 101);
    let page = page_of(store, Priority::Normal, &[(topic, 1_100)]);
    assert_eq!(page.entries.len(), 101);
    let bench = bench.reopened().await;
    let last_seq = bench.restored.end_seq;
    assert_eq!((last_seq, bench.restored.topics[0].accepted), (1_201, 1_201));
}

#[tokio::test]
async fn messages_that_expired_before_any_reader_are_counted_and_told() {
    let bench = Bench::new();
    for n in 0..1_100_u32 {
        let message = NewMessage::text("x");
        let message =
            if n % 2 == 0 { message.ttl(Duration::from_secs(60)) } else { message.no_ttl() };
        bench.store.send(vec![prepared("c", message)]).await.expect("accepted");
    }
    bench.clock.advance(61_000);
    bench.notices.take();
    let cleaned = bench.store.cleanup().await.expect("clean");
    assert_eq!(cleaned.expired_unclaimed, 550);
    let told: u64 = bench
        .notices
        .take()
        .iter()
        .map(|notice| match notice {
            Notice::ExpiredUnclaimed { count, .. } => *count,
            _ => 0,
        })
        .sum();
    assert_eq!(told, 550);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 550);
    assert_eq!(bench.count("SELECT unclaimed_expired FROM waypost_topics"), 550);
    bench.clock.advance(30 * DAY_MS);
    bench.store.cleanup().await.expect("clean");
    assert_eq!(bench.subscribe("late", "c", Start::All).await[0].pending, 550);
}

/// When a message without a reader may expire, as it was told last, from the bench's beginning.
fn told_expiry(bench: &Bench) -> Option<u64> {
    let expires = |notice: Notice| match notice {
        Notice::UnclaimedExpires { at_ms } => Some(at_ms - START_MS),
        _ => None,
    };
    bench.notices.take().into_iter().find_map(expires)
}

async fn send_for(bench: &Bench, seconds: u64) {
    let message = NewMessage::text("x").ttl(Duration::from_secs(seconds));
    bench.store.send(vec![prepared("c", message)]).await.expect("accepted");
}

#[tokio::test]
async fn the_first_message_without_a_reader_that_expires_is_told_ahead() {
    let bench = Bench::new();
    bench.send("c", "for ever, as far as this goes").await;
    assert_eq!(told_expiry(&bench), None);
    // In one channel, and in another that somebody reads.
    for (seconds, told) in [(60, Some(60_000)), (90, None), (60, None), (20, Some(20_000))] {
        send_for(&bench, seconds).await;
        assert_eq!(told_expiry(&bench), told, "{seconds}");
    }
    bench.subscribe("b", "read", Start::All).await;
    let message = NewMessage::text("x").ttl(Duration::from_secs(1));
    bench.store.send(vec![prepared("read", message)]).await.expect("accepted");
    assert_eq!(told_expiry(&bench), None, "its reader's delivery looks after it");
    // Also by the next process.
    let bench = bench.reopened().await;
    assert_eq!(told_expiry(&bench), Some(20_000));
    bench.clock.advance(20_000);
    assert_eq!(bench.store.expire_unclaimed().await.expect("looked"), (1, Some(START_MS + 60_000)));
    send_for(&bench, 50).await;
    assert_eq!(told_expiry(&bench), None, "one is known that expires earlier");
    bench.clock.advance(40_000);
    assert_eq!(bench.store.expire_unclaimed().await.expect("looked"), (2, Some(START_MS + 70_000)));
    // A first reader takes what is left.
    bench.subscribe("late", "c", Start::All).await;
    bench.clock.advance(1_000_000);
    assert_eq!(bench.store.expire_unclaimed().await.expect("looked"), (0, None));
}

#[tokio::test]
async fn of_many_messages_without_a_reader_the_next_that_expires_is_found_too() {
    let bench = Bench::new();
    // More than one step goes through, with the shortest life in the middle.
    for n in 0..1_300_u64 {
        send_for(&bench, if n == 400 { 10 } else { 1_000 + n }).await;
    }
    assert_eq!(told_expiry(&bench), Some(10_000));
    bench.clock.advance(10_000);
    let next = START_MS + 1_000_000;
    assert_eq!(bench.store.expire_unclaimed().await.expect("looked"), (1, Some(next)));
    assert_eq!(bench.store.expire_unclaimed().await.expect("looked"), (0, Some(next)));
    bench.clock.advance(1_989_999);
    let (expired, next) = bench.store.expire_unclaimed().await.expect("looked");
    assert_eq!((expired, next), (999, Some(START_MS + 2_000_000)));
}

#[tokio::test]
async fn what_of_a_run_is_lost_is_known_whatever_is_deleted() {
    let short = || NewMessage::text("x").ttl(Duration::from_secs(60));
    let bench = Bench::new();
    bench.subscribe("bob", "c", Start::All).await;
    for channel in ["c", "nobody", "c", "nobody"] {
        bench.store.send(vec![prepared(channel, short())]).await.expect("accepted");
    }
    // What earlier runs have sent is not of this one.
    let bench = bench.reopened().await;
    for channel in ["c", "nobody", "c", "c", "nobody"] {
        bench.store.send(vec![prepared(channel, short())]).await.expect("accepted");
    }
    let lost = async || bench.store.lost().await.expect("counted");
    assert_eq!(lost().await, []);
    bench.clock.advance(61_000);
    let expired = |receiver, count| Lost { receiver, expired: count, dead: 0 };
    assert_eq!(lost().await, [expired(None, 2)], "two of an earlier run expired as well");
    // One run of five, of which two are of the earlier run, then one that is a dead letter.
    let topic = bench.restored.topics.iter().find(|it| it.channel.as_str() == "c");
    let topic = topic.expect("the channel").topic;
    let run = |seqs, count, outcome| Settlement { outcome, ..bench.ack("bob", topic, seqs, count) };
    let settlements = vec![
        run((1, 7), 4, Outcome::Expired),
        run((8, 8), 1, Outcome::Dead { reason: "no".to_owned() }),
    ];
    bench.store.settle(settlements.clone(), vec![]).await.expect("settled");
    let bob = Lost { receiver: Some(node("bob")), expired: 2, dead: 1 };
    assert_eq!(lost().await, [bob.clone(), expired(None, 2)]);
    // Said again, and with nothing of it left in the file.
    bench.store.settle(settlements, vec![]).await.expect("settled");
    bench.clock.advance(30 * DAY_MS);
    bench.store.cleanup().await.expect("clean");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 0);
    assert_eq!(lost().await, [bob, expired(None, 2)]);
}

#[tokio::test]
async fn a_page_reaches_the_logs_end_also_where_the_last_messages_are_gone() {
    let bench = Bench::new();
    bench.send("c", "stays").await;
    for _ in 0..2 {
        let short = NewMessage::text("x").ttl(Duration::from_secs(60));
        bench.store.send(vec![prepared("c", short)]).await.expect("accepted");
    }
    bench.clock.advance(61_000);
    assert_eq!(bench.store.cleanup().await.expect("clean").expired_unclaimed, 2);
    assert_eq!(bench.count("SELECT max(seq) FROM waypost_outbox"), 1);
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    assert_eq!((seqs(&page), page.scanned_to, page.end), (vec![1], 3, true));
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 1)]);
    assert_eq!((seqs(&page), page.scanned_to, page.end), (vec![], 3, true));
}

/// Puts so many dead letters into the file, the one with the lowest seq as the oldest.
fn bury(bench: &Bench, count: u64) {
    let sql = "WITH RECURSIVE n (seq) AS (SELECT 1 UNION ALL SELECT seq + 1 FROM n WHERE seq < ?1) INSERT INTO waypost_dead_letters (receiver, seq, id, channel, lane, created_ms, died_ms, reason, redriven_as) SELECT 'r' || (seq % 3), seq, zeroblob(16), 'c', 1, ?2, ?2 + seq, 'no', iif(seq % 2, zeroblob(16), NULL) FROM n";
    let start = i64::try_from(START_MS).expect("small");
    bench.sql().execute(sql, (i64::try_from(count).expect("small"), start)).expect("dead letters");
}

#[tokio::test]
async fn old_dead_letters_are_deleted_redriven_or_not() {
    let bench = Bench::new();
    bury(&bench, 1_500);
    bench.clock.advance(3 * DAY_MS + 1_201);
    assert_eq!(bench.store.cleanup().await.expect("clean").records, 1_200);
    let kept = "SELECT count(*) FROM waypost_dead_letters WHERE seq > 1200";
    assert_eq!(
        (bench.count(kept), bench.store.dead_letters(9_999).await.expect("letters").len()),
        (300, 300)
    );
}

#[tokio::test]
async fn the_oldest_of_too_many_dead_letters_are_deleted() {
    let bench = Bench::new();
    bury(&bench, 101_234);
    assert_eq!(bench.store.cleanup().await.expect("clean").records, 1_234);
    assert_eq!(bench.count("SELECT min(seq) FROM waypost_dead_letters"), 1_235);
    assert_eq!(bench.store.cleanup().await.expect("clean").records, 0);
}

#[tokio::test]
async fn the_log_is_given_back_by_a_cleanup() {
    let bench = Bench::new();
    bench.send_many("c", 2_000).await;
    assert!(bench.store.wal_bytes() > 0);
    bench.store.cleanup().await.expect("clean");
    let busy: u64 = bench
        .sql()
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            let (log, done): (u64, u64) = (row.get(1)?, row.get(2)?);
            Ok(log - done)
        })
        .expect("a checkpoint");
    assert_eq!(busy, 0, "everything is in the main file");
}
