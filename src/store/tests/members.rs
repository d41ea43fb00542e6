//! Readers that come, go and are forgotten; dead letters.

use super::*;
use crate::store::dead_letters::{REDRIVE_OF, RedriveError};

#[tokio::test]
async fn a_late_reader_begins_where_it_asks_to() {
    let bench = Bench::new();
    bench.send_many("c", 3).await;
    bench.clock.advance(60_000);
    bench.send("other", "x").await;
    bench.send_many("c", 2).await;
    for (reader, start, acked_seq, pending) in [
        ("now", Start::Now, 6, 0),
        ("all", Start::All, 0, 5),
        ("since", Start::Since { age_ms: 30_000 }, 4, 2),
        ("exactly", Start::Since { age_ms: 60_000 }, 0, 5),
        ("ever", Start::Since { age_ms: u64::MAX }, 0, 5),
        ("future", Start::Since { age_ms: 0 }, 4, 2),
    ] {
        let opened = bench.subscribe(reader, "c", start).await;
        assert_eq!((opened[0].acked_seq, opened[0].pending), (acked_seq, pending), "{reader}");
        assert!(bench.subscribe(reader, "c", Start::All).await.is_empty(), "it has begun");
    }
    bench.clock.advance(1);
    let opened = bench.subscribe("later", "c", Start::Since { age_ms: 0 }).await;
    assert_eq!((opened[0].acked_seq, opened[0].pending), (6, 0));
}

#[tokio::test]
async fn the_first_reader_ever_gets_what_has_waited_for_one_and_a_second_what_it_joined_for() {
    let bench = Bench::new();
    bench.send_many("c", 3).await;
    let bench = bench.reopened().await;
    bench.clock.advance(60_000);
    let just_now = Start::Joined { age_ms: 10 };
    assert_eq!(bench.subscribe("first", "c", just_now).await[0].pending, 3);
    bench.clock.advance(60_000);
    assert_eq!(bench.subscribe("second", "c", just_now).await[0].pending, 0);
    // What the first one has settled waits for nobody any more, also once it is forgotten.
    let topic = TopicId(1);
    bench.store.settle(vec![bench.ack("first", topic, (1, 2), 2)], vec![]).await.expect("settled");
    bench.store.forget(node("first")).await.expect("forgotten");
    bench.store.forget(node("second")).await.expect("forgotten");
    let bench = bench.reopened().await;
    assert!(bench.store.accounts().await.expect("accounts").is_empty());
    assert_eq!(bench.subscribe("third", "c", just_now).await[0].pending, 0);
}

#[tokio::test]
async fn who_comes_back_after_leaving_skips_what_lay_between_and_keeps_its_account() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send_many("c", 4).await;
    bench.store.settle(vec![bench.ack("a", TopicId(1), (1, 1), 1)], vec![]).await.expect("settled");
    assert_eq!(bench.store.unsubscribe(node("a"), name("c")).await.expect("left"), 3);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_settlements WHERE outcome = 'purged' AND first_seq = 2 AND last_seq = 4"), 1);
    bench.send_many("c", 2).await;
    let account = bench.account("a").await;
    assert_eq!((account.accepted, account.acknowledged, account.purged), (4, 1, 3));
    let bench = bench.reopened().await;
    assert!(bench.restored.cursors.is_empty() && bench.restored.subscriptions.is_empty());
    let again = bench.subscribe("a", "c", Start::All).await;
    assert_eq!((again[0].acked_seq, again[0].pending), (4, 2), "never behind what it had settled");
    let account = bench.account("a").await;
    assert_eq!((account.accepted, account.pending, account.purged), (6, 2, 3));
}

#[tokio::test]
async fn forgetting_a_peer_leaves_nothing_but_a_record() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send_many("c", 3).await;
    bench.store.settle(vec![bench.ack("a", TopicId(1), (1, 1), 1)], vec![]).await.expect("settled");
    let forgotten = bench.store.forget(node("a")).await.expect("forgotten");
    assert_eq!((forgotten.pending, forgotten.acknowledged), (2, 1));
    assert!(bench.store.accounts().await.expect("accounts").is_empty());
    let record = "SELECT count(*) FROM waypost_audit WHERE action = 'forget' AND subject = 'a' AND detail LIKE '2 pending, 1 acknowledged%'";
    assert_eq!(bench.count(record), 1);
    bench.send("c", "nobody reads this").await;
    let bench = bench.reopened().await;
    assert!(bench.restored.peers.is_empty() && bench.restored.cursors.is_empty());
}

#[tokio::test]
async fn a_purge_is_told_and_recorded() {
    let bench = Bench::new();
    for channel in ["c", "d"] {
        bench.subscribe("a", channel, Start::Now).await;
        bench.send_many(channel, 2).await;
    }
    bench.notices.take();
    assert_eq!(bench.store.purge(node("a"), Some(name("c"))).await.expect("purged"), 2);
    assert!(matches!(bench.notices.take()[..], [Notice::Dropped { up_to_seq: 2, count: 2, .. }]));
    assert_eq!(bench.store.purge(node("a"), None).await.expect("purged"), 2);
    assert_eq!(bench.account("a").await.purged, 4);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_audit WHERE action = 'purge'"), 2);
}

#[tokio::test]
async fn a_run_that_was_told_before_is_ignored_and_one_that_overlaps_is_recounted() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send_many("c", 10).await;
    let topic = TopicId(1);
    let settle = async |seqs, count| {
        bench
            .store
            .settle(vec![bench.ack("a", topic, seqs, count)], vec![])
            .await
            .expect("settled");
        let account = bench.account("a").await;
        (account.acknowledged, account.pending)
    };
    assert_eq!(settle((1, 4), 4).await, (4, 6));
    assert_eq!(settle((1, 4), 4).await, (4, 6), "told twice");
    assert_eq!(settle((3, 6), 4).await, (6, 4), "overlapping");
    assert_eq!(settle((7, 7), 3).await, (7, 3), "more than there are places for");
    assert_eq!(settle((8, 8), 1).await, (8, 2));
    assert_eq!(settle((9, 9), 7).await, (9, 1), "counted wrongly");
    assert_eq!(settle((10, 99), 90).await, (10, 0), "beyond the end");
    assert_eq!(settle((11, 99), 90).await, (10, 0));
}

#[tokio::test]
async fn a_run_behind_messages_of_which_nothing_is_known_is_ignored_and_the_driver_begins_anew() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("other", "x").await;
    bench.send_many("c", 6).await;
    let topic = TopicId(2);
    let expired = Settlement { outcome: Outcome::Expired, ..bench.ack("a", topic, (2, 3), 2) };
    bench.store.settle(vec![expired], vec![]).await.expect("settled");
    bench.notices.take();
    let runs = vec![bench.ack("a", topic, (5, 5), 1), bench.ack("a", topic, (6, 6), 1)];
    bench.store.settle(runs, vec![]).await.expect("answered");
    let account = bench.account("a").await;
    assert_eq!((account.acknowledged, account.expired, account.pending), (0, 2, 4));
    let notices = bench.notices.take();
    let [Notice::CursorBehind(cursor)] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!((cursor.acked_seq, cursor.pending, cursor.skipped), (3, 4, 2));
    // A row that somebody took out of the file is no reason to begin anew for ever.
    bench.sql().execute_batch("DELETE FROM waypost_outbox WHERE seq = 4").expect("harm is done");
    bench.store.settle(vec![bench.ack("a", topic, (5, 7), 3)], vec![]).await.expect("settled");
    assert_eq!(bench.account("a").await.pending, 0);
    assert!(bench.notices.take().is_empty());
}

#[tokio::test]
async fn the_end_of_a_cursor_is_told_in_its_place() {
    let bench = Bench::new();
    let told = || {
        let notices = bench.notices.take().into_iter();
        let told = notices.filter_map(|notice| match notice {
            Notice::CursorOpened(cursor) => Some(("opened", cursor.topic)),
            Notice::CursorClosed { receiver, topic } if receiver == node("a") => {
                Some(("closed", topic))
            }
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    bench.send("c", "x").await;
    bench.send("d", "x").await;
    let (c, d) = (TopicId(1), TopicId(2));
    let store = &bench.store;
    bench.subscribe("a", "c", Start::All).await;
    store.unsubscribe(node("a"), name("c")).await.expect("left");
    store.unsubscribe(node("a"), name("c")).await.expect("left already");
    bench.subscribe("a", "d", Start::All).await;
    assert_eq!(told(), [("opened", c), ("closed", c), ("opened", d)]);
    store.forget(node("a")).await.expect("forgotten");
    assert_eq!(told(), [("closed", d)], "the other one was closed before");
}

fn dead(bench: &Bench, seq: u64) -> Settlement {
    let outcome = Outcome::Dead { reason: "handler said no".to_owned() };
    Settlement { outcome, ..bench.ack("a", TopicId(1), (seq, seq), 1) }
}

#[tokio::test]
async fn a_dead_letter_is_sent_again_once_to_its_receiver_alone() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.subscribe("b", "c", Start::Now).await;
    let message = NewMessage::text("order").kind("order").header("n", "7");
    let old = bench.store.send(vec![prepared("c", message)]).await.expect("accepted")[0];
    bench.store.settle(vec![dead(&bench, 1)], vec![]).await.expect("settled");
    let letters = bench.store.dead_letters(10).await.expect("letters");
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].id, letters[0].reason.as_str()), (old, "handler said no"));
    let new = bench.store.redrive(node("a"), old, Some(60_000)).await.expect("sent again");
    assert!(new > old);
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(2), 0)]);
    let [Loaded::Good(entry)] = &page.entries[..] else { panic!("{page:?}") };
    assert_eq!((entry.id, entry.target.clone()), (new, Some(node("a"))));
    assert_eq!((entry.kind.as_str(), &entry.body.data[..]), ("order", &b"order"[..]));
    assert_eq!(entry.headers.get("n").map(String::as_str), Some("7"));
    assert_eq!(entry.headers.get(REDRIVE_OF), Some(&old.to_string()));
    assert_eq!(entry.expires_ms, Some(START_MS + 60_000));
    assert_eq!((bench.account("a").await.dead, bench.account("b").await.accepted), (1, 1));
    let again = bench.store.redrive(node("a"), old, None).await;
    assert!(
        matches!(again, Err(RedriveError::AlreadyRedriven { redriven_as, .. }) if redriven_as == new)
    );
    let unknown = bench.store.redrive(node("b"), old, None).await;
    assert!(matches!(unknown, Err(RedriveError::NotFound { .. })));
    assert_eq!(bench.store.dead_letters(10).await.expect("letters")[0].redriven_as, Some(new));
}

#[tokio::test]
async fn a_damaged_message_becomes_a_dead_letter_that_cannot_be_sent_again() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    let id = bench.send("c", "x").await;
    bench.sql().execute_batch("UPDATE waypost_outbox SET payload = X'00'").expect("harm is done");
    bench.store.settle(vec![dead(&bench, 1)], vec![]).await.expect("settled");
    assert_eq!(bench.store.dead_letters(1).await.expect("letters")[0].kind, None);
    let again = bench.store.redrive(node("a"), id, None).await;
    assert!(matches!(again, Err(RedriveError::Damaged { .. })), "{again:?}");
}

#[tokio::test]
async fn a_dead_letter_that_was_damaged_later_is_not_sent_again() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    for (seq, damage) in (1..).zip([
        "payload = X'00'",
        "kind = 'other'",
        "channel = 'd'",
        "lane = 0",
        "created_ms = 7",
    ]) {
        let id = bench.send("c", "x").await;
        bench.store.settle(vec![dead(&bench, seq)], vec![]).await.expect("settled");
        bench
            .sql()
            .execute(&format!("UPDATE waypost_dead_letters SET {damage} WHERE seq = ?1"), [seq])
            .expect("harm is done");
        let again = bench.store.redrive(node("a"), id, None).await;
        assert!(matches!(again, Err(RedriveError::Damaged { .. })), "{damage}: {again:?}");
    }
    let id = bench.send("c", "x").await;
    bench.store.settle(vec![dead(&bench, 6)], vec![]).await.expect("settled");
    bench.store.redrive(node("a"), id, None).await.expect("sound");
    bench.store.close().await;
    let report = crate::inspect::Inspector::open(bench.path()).expect("opened").check(|_| ());
    assert_eq!(report.expect("checked").findings.len(), 5);
}
