//! A user's own transactions.

use super::*;
use crate::store::tx::TransactionError;
use std::sync::atomic::AtomicU64;

async fn with_table() -> Bench {
    let bench = Bench::new();
    let create = |tx: &Tx<'_>| tx.execute_batch("CREATE TABLE orders (n INTEGER) STRICT");
    bench.store.transaction(create).await.expect("a table");
    bench
}

fn advance(id: u128) -> InboxAdvance {
    InboxAdvance {
        sender: node("b"),
        store_id: StoreId::from_bytes([1; 16]),
        channel: name("c"),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::from_u128(id),
    }
}

#[tokio::test]
async fn rows_and_message_are_committed_together() {
    let bench = with_table().await;
    let id = bench
        .store
        .transaction(|tx| {
            tx.execute("INSERT INTO orders VALUES (1)", []).expect("a row");
            tx.send(text_to("c", "order 1"))
        })
        .await
        .expect("committed");
    assert_eq!(bench.count("SELECT count(*) FROM orders"), 1);
    let page = page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]);
    assert!(matches!(&page.entries[..], [Loaded::Good(entry)] if entry.id == id));
}

#[tokio::test]
async fn an_error_undoes_rows_messages_and_books_of_its_own_savepoint_only() {
    let bench = with_table().await;
    bench.subscribe("a", "c", Start::Now).await;
    bench.notices.take();
    let store = bench.store.clone();
    let fail = store.transaction(|tx| {
        tx.execute("INSERT INTO orders VALUES (1)", []).expect("a row");
        tx.send(text_to("c", "never")).expect("accepted so far");
        Err::<(), _>("changed my mind")
    });
    let panic = store.transaction(|tx| -> Result<(), ()> {
        tx.execute("INSERT INTO orders VALUES (2)", []).expect("a row");
        tx.send(text_to("other", "never")).expect("accepted so far");
        panic!("{}", "oh no")
    });
    let fine = store.transaction(|tx| tx.execute("INSERT INTO orders VALUES (3)", []));
    let sent = store.send(vec![text_to("c", "always")]);
    let (fail, panic, fine, sent) = tokio::join!(fail, panic, fine, sent);
    assert!(matches!(fail, Err(TransactionError::User("changed my mind"))));
    assert!(matches!(panic, Err(TransactionError::Panicked(text)) if text == "oh no"));
    fine.expect("committed");
    sent.expect("accepted");
    assert_eq!(bench.count("SELECT sum(n) FROM orders"), 3);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
    assert_eq!(bench.count("SELECT count(*) FROM waypost_topics"), 1);
    assert_eq!(bench.account("a").await.accepted, 1);
    let appended =
        bench.notices.take().into_iter().filter(|it| matches!(it, Notice::Appended(_))).count();
    assert_eq!(appended, 1);
}

#[tokio::test]
async fn the_last_id_is_rolled_back_with_the_transaction_that_raised_it() {
    let bench = with_table().await;
    let kept = bench.send("c", "x").await;
    let failed = bench
        .store
        .transaction(|tx| {
            tx.send(text_to("c", "never")).expect("accepted so far");
            Err::<(), _>(())
        })
        .await;
    assert!(failed.is_err());
    let bench = bench.reopened().await;
    assert_eq!((bench.restored.last_id, bench.restored.end_seq), (kept, 1));
}

#[tokio::test]
async fn a_closure_can_neither_end_the_group_nor_touch_the_store() {
    let bench = with_table().await;
    bench.send("c", "x").await;
    for refused in [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "ATTACH ':memory:' AS other",
        "DETACH main",
        "PRAGMA synchronous = OFF",
        "PRAGMA journal_mode = DELETE",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "PRAGMA defer_foreign_keys = ON",
        "PRAGMA user_version = 9",
        "PRAGMA writable_schema = ON",
        "RELEASE waypost_job",
        "ROLLBACK TO waypost_job",
        "SAVEPOINT Waypost_job",
        "DELETE FROM waypost_outbox",
        "UPDATE Waypost_Meta SET node = 'x'",
        "INSERT INTO waypost_audit (at_ms, action, subject, detail) VALUES (1, '', '', '')",
        "DROP TABLE waypost_inbox",
        "ALTER TABLE waypost_inbox ADD COLUMN x INTEGER",
        "CREATE TABLE waypost_mine (n INTEGER)",
        "CREATE INDEX mine ON waypost_outbox (topic)",
        "CREATE TRIGGER mine AFTER INSERT ON waypost_outbox BEGIN SELECT 1; END",
        "DROP INDEX waypost_topics_name",
        "CREATE TRIGGER mine AFTER INSERT ON orders BEGIN DELETE FROM waypost_outbox; END; INSERT INTO orders VALUES (1)",
    ] {
        let result = bench.store.transaction(move |tx| tx.execute_batch(refused)).await;
        assert!(matches!(result, Err(TransactionError::User(_))), "{refused}: {result:?}");
    }
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
    assert_eq!(bench.count("SELECT count(*) FROM orders"), 0);
    bench
        .store
        .transaction(|tx| {
            tx.query_row("SELECT count(*) FROM waypost_outbox", [], |row| row.get::<_, u64>(0))?;
            tx.query_row("PRAGMA table_info(orders)", [], |_| Ok(()))?;
            tx.execute_batch("SAVEPOINT mine; INSERT INTO orders VALUES (1); ROLLBACK TO mine; RELEASE mine; CREATE TABLE more (n INTEGER); CREATE INDEX more_n ON more (n); INSERT INTO more VALUES (1)")
        })
        .await
        .expect("all of this is allowed");
    assert_eq!(bench.count("SELECT count(*) FROM more"), 1);
}

#[tokio::test]
async fn a_conflict_that_rolls_back_everything_hurts_only_its_own_transaction() {
    let bench = with_table().await;
    let create = |tx: &Tx<'_>| {
        tx.execute_batch(
            "CREATE TABLE once (n INTEGER PRIMARY KEY) STRICT; INSERT INTO once VALUES (1)",
        )
    };
    bench.store.transaction(create).await.expect("a table");
    let store = bench.store.clone();
    let sent = store.send(vec![text_to("c", "x")]);
    let broken = store.transaction(|tx| {
        let _ = tx.execute("INSERT OR ROLLBACK INTO once VALUES (1)", []);
        // Would be committed on its own now.
        let _ = tx.execute("INSERT INTO orders VALUES (9)", []);
        Ok::<_, ()>(())
    });
    let (sent, broken) = tokio::join!(sent, broken);
    sent.expect("sent all the same");
    assert!(
        matches!(broken, Err(TransactionError::Storage(StoreError::Interrupted))),
        "{broken:?}"
    );
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
    assert_eq!(bench.count("SELECT count(*) FROM orders"), 0);
    assert_eq!(bench.store.health(), Health::Healthy);
}

#[tokio::test]
async fn a_constraint_that_fails_at_the_commit_hurts_nobody_who_only_sends() {
    let bench = with_table().await;
    let create = |tx: &Tx<'_>| {
        tx.execute_batch("CREATE TABLE parent (id INTEGER PRIMARY KEY); CREATE TABLE child (p INTEGER REFERENCES parent DEFERRABLE INITIALLY DEFERRED)")
    };
    bench.store.transaction(create).await.expect("tables");
    let store = bench.store.clone();
    let broken = store.transaction(|tx| tx.execute("INSERT INTO child VALUES (7)", []));
    let sent = store.send(vec![text_to("c", "x")]);
    let (broken, sent) = tokio::join!(broken, sent);
    assert!(matches!(broken, Err(TransactionError::Storage(StoreError::Sql { .. }))), "{broken:?}");
    sent.expect("accepted");
    assert_eq!(bench.count("SELECT count(*) FROM child"), 0);
}

#[tokio::test]
async fn p5_the_handlers_writes_and_the_inbox_row_are_one() {
    let bench = with_table().await;
    let calls = Arc::new(AtomicU64::new(0));
    let accept = |id, fails: bool| {
        let calls = Arc::clone(&calls);
        bench.store.accept_in(advance(id), move |tx| {
            calls.fetch_add(1, Ordering::SeqCst);
            tx.execute("INSERT INTO orders VALUES (1)", []).expect("a row");
            if fails { Err("no") } else { Ok(()) }
        })
    };
    assert!(matches!(accept(5, true).await, Err(TransactionError::User("no"))));
    assert_eq!(bench.count("SELECT count(*) FROM waypost_inbox"), 0);
    accept(5, false).await.expect("accepted");
    assert!(matches!(accept(5, false).await, Err(TransactionError::AlreadyAccepted)));
    assert!(matches!(accept(4, false).await, Err(TransactionError::AlreadyAccepted)));
    assert_eq!(calls.load(Ordering::SeqCst), 2, "an accepted message is not worked on again");
    assert_eq!(bench.count("SELECT count(*) FROM orders"), 1);
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.inbox[0].last_id, MessageId::from_u128(5));
}

#[tokio::test]
async fn a_refused_send_inside_a_transaction_is_the_closures_business() {
    let bench = Bench::with(|options| options.queue_limit = 1);
    bench.subscribe("a", "c", Start::Now).await;
    let sent = bench
        .store
        .transaction(|tx| {
            tx.send(text_to("c", "1")).expect("the first fits");
            Ok::<_, ()>(tx.send(text_to("c", "2")))
        })
        .await
        .expect("committed");
    assert!(matches!(sent, Err(SendError::QueueFull { backlog: 1, limit: 1, .. })));
    assert_eq!(bench.account("a").await.pending, 1);
}
