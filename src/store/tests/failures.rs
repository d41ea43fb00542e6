//! Full disks, failing disks, files that vanish.

use super::*;
use crate::reason::Reason;
use crate::store::tx::TransactionError;

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

/// A disk that ends so many pages behind the file, or one that has room.
pub(super) async fn limit_pages(store: &Store, more: Option<u64>) {
    let mut writer = store.inner.writer.lock().expect("nobody panicked");
    writer.end_at(more);
}

/// Sends as soon as there is room.
pub(super) async fn send_soon(bench: &Bench, payload: &str) -> MessageId {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        match bench.store.send(vec![text_to("c", payload)]).await {
            Ok(ids) => return ids[0],
            Err(SendError::StorageFull { .. }) => {}
            Err(other) => panic!("{other:?}"),
        }
        assert!(std::time::Instant::now() < deadline, "still full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn told(bench: &Bench) -> Vec<String> {
    let notices = bench.notices.take();
    let kept = notices.iter().filter(|it| {
        matches!(it, Notice::StorageFull | Notice::StorageRecovered | Notice::StorageFailed(_))
    });
    kept.map(|notice| format!("{notice:?}")).collect()
}

#[tokio::test]
async fn p6_a_full_disk_refuses_sends_keeps_acks_and_recovers_by_itself() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    let before = bench.send("c", "x").await;
    bench.store.accept(advance(1)).await.expect("accepted");
    limit_pages(&bench.store, Some(2)).await;
    let large = || vec![text_to("c", &"x".repeat(100_000))];
    let store = bench.store.clone();
    let send = store.send(large());
    let accept = store.accept(advance(2));
    let closure =
        store.transaction(|tx| tx.send(prepared("c", NewMessage::bytes(vec![7; 100_000]))));
    let settle = store.settle(vec![bench.ack("a", TopicId(1), (1, 1), 1)], vec![]);
    let (send, accept, closure, settle) = tokio::join!(send, accept, closure, settle);
    assert!(
        matches!(send, Err(SendError::StorageFull { ref path }) if *path == bench.path()),
        "{send:?}"
    );
    assert!(
        matches!(closure, Err(TransactionError::Storage(StoreError::Full { .. }))),
        "{closure:?}"
    );
    accept.expect("the inbox goes on");
    settle.expect("cursors go on");
    assert_eq!(bench.store.health(), Health::Full);
    assert_eq!(told(&bench), ["StorageFull"]);
    assert!(matches!(bench.store.send(large()).await, Err(SendError::StorageFull { .. })));
    assert!(told(&bench).is_empty(), "told once");
    let account = bench.account("a").await;
    assert_eq!(
        (account.accepted, account.acknowledged),
        (1, 1),
        "nothing of what failed is counted"
    );

    limit_pages(&bench.store, None).await;
    let after = send_soon(&bench, &"x".repeat(100_000)).await;
    assert!(after > before);
    assert_eq!(bench.store.health(), Health::Healthy);
    assert_eq!(told(&bench), ["StorageRecovered"]);
    let bench = bench.reopened().await;
    assert_eq!((bench.restored.last_id, bench.restored.end_seq), (after, 2));
    assert_eq!(bench.restored.inbox[0].last_id, MessageId::from_u128(2));
}

#[tokio::test]
async fn a_disk_that_was_full_for_a_moment_is_not_called_full_for_ever() {
    let bench = Bench::new();
    limit_pages(&bench.store, Some(2)).await;
    let large = vec![text_to("c", &"x".repeat(100_000))];
    assert!(matches!(bench.store.send(large).await, Err(SendError::StorageFull { .. })));
    assert_eq!(bench.store.health(), Health::Full);
    limit_pages(&bench.store, None).await;
    // Nobody sends any more: a node that only receives, say.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while bench.store.health() != Health::Healthy {
        assert!(std::time::Instant::now() < deadline, "still full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&bench), ["StorageFull", "StorageRecovered"]);
}

#[tokio::test]
async fn a_file_that_another_program_holds_for_long_is_told_once_and_then_nobody_waits_for_it() {
    let bench = Bench::new();
    let before = bench.send("c", "before").await;
    let other = bench.sql();
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let locked = Reason::FileLocked { path: bench.path().display().to_string() };
    let refused = || async {
        let refused = bench.store.send(vec![text_to("c", "x")]).await.expect_err("it is locked");
        let SendError::Storage(error @ StoreError::Locked { .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(error.is_transient());
        assert_eq!(error.to_string(), locked.to_string());
    };
    refused().await;
    assert_eq!(bench.store.reasons().collect::<Vec<_>>(), std::slice::from_ref(&locked));
    // Each would take seconds, if it waited.
    let many = async {
        for _ in 0..100 {
            refused().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), many).await.expect("at once");
    let told_so = told(&bench);
    assert!(told_so.len() == 1 && told_so[0].starts_with("StorageFailed"), "{told_so:?}");

    other.execute_batch("ROLLBACK").expect("ended");
    // Nobody asks for anything.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while bench.store.health() != Health::Healthy {
        assert!(std::time::Instant::now() < deadline, "still locked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&bench), ["StorageRecovered"]);
    assert!(bench.send("c", "after").await > before);
    // A short one is waited for again.
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let sent = bench.send("c", "last");
    let ended = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        other.execute_batch("ROLLBACK").expect("ended");
    };
    tokio::join!(sent, ended);
    assert!(told(&bench).is_empty());
}

/// The store looks at its file once a second at most: asks until it has.
async fn until_it_fails(bench: &Bench) -> SendError {
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        match bench.store.send(vec![text_to("c", "x")]).await {
            Err(error) => return error,
            Ok(_) => assert!(std::time::Instant::now() < deadline, "nobody noticed"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Nobody warns of each job again.
#[test]
fn missing_room_and_a_failing_disk_are_told_by_the_store_itself() {
    let path = || PathBuf::from("a.db");
    let limit = StoreError::Limit { path: path(), used_bytes: 2, limit_bytes: 1 };
    let failed = StoreError::Failed { path: path(), reason: String::new() };
    for told in [StoreError::Full { path: path() }, limit, failed] {
        assert!(told.is_told(), "{told}");
    }
    let corrupt = StoreError::Corrupt { path: path(), reason: String::new() };
    for other in [corrupt, StoreError::Closed, StoreError::Replaced { path: path() }] {
        assert!(!other.is_told(), "{other}");
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_fails_loudly_and_for_good() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let elsewhere = bench.folder.path().join("elsewhere.db");
    std::fs::rename(bench.path(), &elsewhere).expect("moved away");
    std::fs::write(bench.path(), b"").expect("another file in its place");
    let error = until_it_fails(&bench).await;
    assert!(matches!(error, SendError::Storage(StoreError::Replaced { .. })), "{error:?}");
    assert!(matches!(bench.store.reasons().next(), Some(Reason::FileReplaced { .. })));
    let accept = bench.store.accept(advance(1)).await;
    assert!(matches!(accept, Err(StoreError::Replaced { .. })), "every job says so: {accept:?}");
    let request =
        PageRequest { lane: Priority::Normal, topics: vec![], max_messages: 1, max_bytes: 1 };
    assert!(bench.store.page(&request).is_err());
    assert!(told(&bench)[0].starts_with("StorageFailed"));
    bench.store.close().await;
    assert_eq!(std::fs::read(bench.path()).expect("readable"), b"", "the other file is untouched");
}

#[tokio::test]
async fn a_file_that_is_deleted_fails_loudly() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    std::fs::remove_file(bench.path()).expect("deleted");
    let error = until_it_fails(&bench).await;
    assert!(matches!(error, SendError::Storage(StoreError::Replaced { .. })), "{error:?}");
    bench.store.close().await;
    assert!(!bench.path().exists(), "it is not made again");
}

/// A job that meets a failing disk.
async fn fail(store: &Store) -> StoreError {
    let fail = |group: &mut Group<'_>| {
        group
            .conn
            .execute(super::super::audit::INSERT, (1, "never", "", "", None::<u64>))
            .expect("a row");
        let cause = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        let source = rusqlite::Error::SqliteFailure(cause, None);
        Err::<(), _>(StoreError::Sql { operation: "write", source })
    };
    store.run(Durability::Normal, fail).await.expect_err("a failure")
}

#[tokio::test]
async fn after_a_failed_fsync_the_file_is_checked_before_anything_else_is_written() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    let before = bench.send("c", "x").await;
    let error = fail(&bench.store).await;
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    assert!(bench.send("c", "y").await > before);
    let notices = told(&bench);
    assert!(notices[0].starts_with("StorageFailed"), "{notices:?}");
    assert_eq!(notices[1], "StorageRecovered");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_audit"), 0, "nothing of it was kept");
    assert_eq!(bench.account("a").await.pending, 2, "the books are the file's");
    assert_eq!(page_of(&bench.store, Priority::Normal, &[(TopicId(1), 0)]).entries.len(), 2);
    let guarded =
        bench.store.transaction(|tx| tx.execute_batch("DELETE FROM waypost_outbox")).await;
    assert!(guarded.is_err(), "the new connection is guarded too");
}

/// P5: a commit of which nobody can tell may stand in the file; until that was looked up no message may be handled.
#[tokio::test]
async fn what_was_received_is_told_anew_between_a_failure_and_the_next_commit() {
    let bench = Bench::new();
    bench.store.accept(advance(7)).await.expect("accepted");
    bench.notices.take();
    fail(&bench.store).await;
    bench.send("c", "x").await;
    let notices = bench.notices.take();
    let place = |which: fn(&Notice) -> bool| notices.iter().position(which).expect("it was told");
    let down = place(|it| matches!(it, Notice::Down));
    let up = place(|it| matches!(it, Notice::Up { .. }));
    let appended = place(|it| matches!(it, Notice::Appended(_)));
    assert!(down < up && up < appended, "{notices:?}");
    let Notice::Up { received } = &notices[up] else { unreachable!("it was found there") };
    assert_eq!(received.iter().map(|row| row.last_id).collect::<Vec<_>>(), [advance(7).id]);
}

#[tokio::test]
async fn a_file_that_does_not_pass_the_check_is_not_written() {
    let bench = Bench::new();
    bench.send_many("c", 500).await;
    bench.store.cleanup().await.expect("everything is in the main file");
    let bytes = std::fs::metadata(bench.path()).expect("a file").len();
    // Written over in place: the same file, with pages of nothing in it.
    let harm = |path: &Path| {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = std::fs::OpenOptions::new().write(true).open(path).expect("a file");
        file.seek(SeekFrom::Start(bytes / 2)).expect("a place");
        file.write_all(&vec![0xff; usize::try_from(bytes / 2).expect("small")])
            .expect("harm is done");
        file.sync_all().expect("synced");
    };
    harm(&bench.path());
    let error = fail(&bench.store).await;
    assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
    let error = bench.store.send(vec![text_to("c", "x")]).await.expect_err("still failed");
    assert!(matches!(error, SendError::Storage(StoreError::Failed { .. })), "{error:?}");
    assert!(matches!(bench.store.reasons().next(), Some(Reason::FileFailed { .. })));
    let taken = Store::open(options(&bench.path())).err().expect("the lock is held all the while");
    assert!(format!("{taken:?}").contains("InUse"), "{taken:?}");
    bench.store.close().await;
}

#[tokio::test]
async fn a_statement_that_fails_hurts_only_its_own_job() {
    let bench = Bench::new();
    let store = bench.store.clone();
    let bad = store.run(Durability::Normal, |group| {
        group
            .conn
            .execute(super::super::audit::INSERT, (1, "never", "", "", None::<u64>))
            .expect("a row");
        let result = group
            .conn
            .execute(super::super::audit::INSERT, (1, "a", "s", None::<String>, None::<u64>));
        fault::At::at(result.map(drop), "write the audit")
    });
    let good = store.send(vec![text_to("c", "x")]);
    let (bad, good) = tokio::join!(bad, good);
    assert!(matches!(bad, Err(StoreError::Sql { .. })), "{bad:?}");
    good.expect("accepted");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_audit"), 0);
    assert_eq!(bench.store.health(), Health::Healthy);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_is_told_and_expires_nothing() {
    let bench = Bench::new();
    let message = prepared("c", NewMessage::text("x").ttl(Duration::from_secs(60)));
    bench.store.send(vec![message]).await.expect("accepted");
    bench.clock.set_wall(START_MS + 365 * DAY_MS);
    assert_eq!(bench.store.now_ms(), START_MS);
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        bench.store.cleanup().await.expect("clean");
        let jump =
            bench.notices.take().into_iter().find(|it| matches!(it, Notice::ClockJumped { .. }));
        if let Some(Notice::ClockJumped { by_ms }) = jump {
            assert_eq!(by_ms, 365 * 86_400_000);
            break;
        }
        assert!(std::time::Instant::now() < deadline, "nobody noticed");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
}

#[tokio::test]
async fn a_failed_file_is_tried_again_without_anybody_asking() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    bench.store.cleanup().await.expect("everything is in the main file");
    let aside = bench.folder.path().join("aside.db");
    // Gone for a moment, as with a volume that is not there.
    let gone = {
        let (path, aside) = (bench.path(), aside.clone());
        move |_: &mut Group<'_>| {
            std::fs::rename(&path, &aside).expect("moved away");
            let cause = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
            let source = rusqlite::Error::SqliteFailure(cause, None);
            Err::<(), _>(StoreError::Sql { operation: "write", source })
        }
    };
    bench.store.run(Durability::Normal, gone).await.expect_err("a failure");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !matches!(bench.store.health(), Health::Failed(_)) {
        assert!(std::time::Instant::now() < deadline, "it is down");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    std::fs::rename(&aside, bench.path()).expect("put back");
    while bench.store.health() != Health::Healthy {
        assert!(std::time::Instant::now() < deadline, "nobody tried again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(told(&bench).last().map(String::as_str), Some("StorageRecovered"));
    bench.send("c", "y").await;
    bench.store.close().await;
}

#[tokio::test]
async fn a_writer_that_panicked_is_the_reason() {
    let bench = Bench::new();
    let bug = |_: &mut Group<'_>| -> Result<(), StoreError> { panic!("a bug") };
    bench.store.run(Durability::Normal, bug).await.expect_err("the writer is gone");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while !matches!(bench.store.reasons().next(), Some(Reason::Broken { .. })) {
        assert!(std::time::Instant::now() < deadline, "{:?}", bench.store.health());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_failed_file_can_be_closed() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let path = bench.path();
    let gone = move |_: &mut Group<'_>| {
        std::fs::remove_file(&path).expect("deleted");
        let cause = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
        let source = rusqlite::Error::SqliteFailure(cause, None);
        Err::<(), _>(StoreError::Sql { operation: "write", source })
    };
    bench.store.run(Durability::Normal, gone).await.expect_err("a failure");
    bench.store.close().await;
    assert!(!bench.path().exists(), "it is not made again");
}

#[tokio::test]
async fn a_damaged_page_that_a_reader_meets_is_told_once() {
    let bench = Bench::new();
    bench.send_many("c", 2_000).await;
    let bench = bench.reopened().await;
    let bytes = std::fs::metadata(bench.path()).expect("a file").len();
    {
        use std::io::{Seek, SeekFrom, Write};
        let mut file = std::fs::OpenOptions::new().write(true).open(bench.path()).expect("a file");
        file.seek(SeekFrom::Start(bytes / 2)).expect("a place");
        file.write_all(&vec![0xff; usize::try_from(bytes / 2).expect("small")])
            .expect("harm is done");
    }
    let request = PageRequest {
        lane: Priority::Normal,
        topics: vec![(TopicId(1), 0)],
        max_messages: 10_000,
        max_bytes: 10_000_000,
    };
    for _ in 0..3 {
        let error = bench.store.page(&request).expect_err("damaged");
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    }
    assert!(matches!(bench.store.reasons().next(), Some(Reason::FileDamaged { .. })));
    let told = told(&bench);
    assert!(told.len() == 1 && told[0].starts_with("StorageFailed"), "{told:?}");
}

#[tokio::test]
async fn a_cursor_that_a_failed_commit_closed_all_the_same_is_told() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("c", "x").await;
    bench.sql().execute_batch("UPDATE waypost_cursors SET open = 0").expect("closed");
    bench.notices.take();
    fail(&bench.store).await;
    // The writer answers before it opens the file again.
    bench.send("c", "y").await;
    let closed = |it: &Notice| matches!(it, Notice::CursorClosed { topic: TopicId(1), .. });
    assert!(bench.notices.take().iter().any(closed));
}
