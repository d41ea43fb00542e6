//! Logs that stand beside a database which they were not written for, and all those that they were written for.

use std::fs;

use rusqlite::backup::Backup;

use super::*;
use crate::inspect::{InspectError, Inspector};
use crate::store::disk::beside;
use crate::store::open::OpenError;
use crate::store::open::look::JOURNAL_MAGIC;
use crate::store::open::tests::listing;

/// How a copy of a file is made.
#[derive(Debug, Clone, Copy)]
enum Copied {
    /// `waypost db backup`.
    Backup,
    /// sqlite3's `.backup`.
    Api,
    /// `VACUUM INTO`.
    Vacuum,
}

const EACH: [Copied; 3] = [Copied::Backup, Copied::Api, Copied::Vacuum];

impl Copied {
    fn make(self, bench: &Bench, to: &Path) {
        match self {
            Self::Backup => {
                Inspector::open(bench.path()).and_then(|it| it.backup(to)).expect("copied");
            }
            Self::Api => {
                let mut target = Connection::open(to).expect("created");
                let source = bench.sql();
                let backup = Backup::new(&source, &mut target).expect("begun");
                backup.run_to_completion(1_000, Duration::ZERO, None).expect("copied");
            }
            Self::Vacuum => {
                let to = to.to_str().expect("a text");
                bench.sql().execute("VACUUM INTO ?1", [to]).expect("copied");
            }
        }
    }
}

/// What is left of a node that is killed in this moment.
struct Left {
    folder: TempDir,
    path: PathBuf,
}

fn killed(bench: &Bench) -> Left {
    let folder = TempDir::new().expect("a folder");
    let path = fs::canonicalize(folder.path()).expect("a path").join("node.db");
    for suffix in ["", "-wal"] {
        fs::copy(beside(&bench.path(), suffix), beside(&path, suffix)).expect("copied");
    }
    Left { folder, path }
}

impl Left {
    fn database_from(&self, other: &Path) {
        fs::copy(other, &self.path).expect("replaced");
    }

    fn log_from(&self, other: &Left) {
        fs::copy(beside(&other.path, "-wal"), beside(&self.path, "-wal")).expect("replaced");
    }

    /// Nothing opens it, each says why, and nothing changes.
    #[track_caller]
    fn is_refused(&self, what: &str) {
        let before = listing(&self.path);
        let foreign = |error: &OpenError| matches!(error, OpenError::ForeignLog { .. });
        match Store::open(options(&self.path)).map(drop) {
            Err(StoreOpenError::Open(error)) if foreign(&error) => {
                assert!(error.to_string().contains("waypost db restore"), "{error}");
            }
            other => panic!("{what}: {other:?}"),
        }
        match Inspector::open(&self.path).map(drop) {
            Err(InspectError::Open(error)) if foreign(&error) => {}
            other => panic!("{what}, looked at: {other:?}"),
        }
        match crate::inspect::vacuum(&self.path) {
            Err(InspectError::Open(error)) if foreign(&error) => {}
            other => panic!("{what}, shrunk: {other:?}"),
        }
        assert!(before == listing(&self.path), "{what}: something changed");
    }

    /// It opens with so many messages.
    async fn opens_with(self, messages: u64, what: &str) {
        let opened = Store::open(options(&self.path));
        let store = opened.unwrap_or_else(|error| panic!("{what}: {error}")).store;
        let sql = Connection::open(&self.path).expect("opened");
        let count = sql.query_row("SELECT count(*) FROM waypost_outbox", [], |row| row.get(0));
        assert_eq!(count, Ok(messages), "{what}");
        drop(sql);
        store.close().await;
        drop(self.folder);
    }
}

fn receipt(id: u128) -> InboxAdvance {
    InboxAdvance {
        sender: node("b"),
        store_id: StoreId::from_bytes([1; 16]),
        channel: name("c"),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::from_u128(id),
    }
}

async fn checkpoint(bench: &Bench) {
    bench.store.maintain().await.expect("checkpointed");
}

#[tokio::test]
async fn a_restored_backup_beside_an_old_log_is_refused_however_it_was_made() {
    for copied in EACH {
        for later_logs in [0, 1, 3] {
            let bench = Bench::new();
            bench.send_many("work", 30).await;
            let copy = bench.folder.path().join("copy.db");
            copied.make(&bench, &copy);
            bench.send_many("work", 20).await;
            for _ in 0..later_logs {
                checkpoint(&bench).await;
                bench.send_many("work", 20).await;
            }
            let left = killed(&bench);
            left.database_from(&copy);
            left.is_refused(&format!("{copied:?}, {later_logs} later logs"));
            killed(&bench).opens_with(50 + 20 * later_logs, "what was killed itself").await;
            bench.store.close().await;
        }
    }
}

#[tokio::test]
async fn a_restored_backup_of_a_receiver_beside_its_old_log_is_refused() {
    for copied in EACH {
        let bench = Bench::new();
        let copy = bench.folder.path().join("copy.db");
        for id in 1..=40 {
            if !bench.store.accept_alone(&receipt(id)) {
                bench.store.accept(receipt(id)).await.expect("accepted");
            }
            match id {
                10 => copied.make(&bench, &copy),
                20 | 30 => checkpoint(&bench).await,
                _ => {}
            }
        }
        let left = killed(&bench);
        left.database_from(&copy);
        left.is_refused(&format!("{copied:?}"));
        killed(&bench).opens_with(0, "what was killed itself").await;
        bench.store.close().await;
    }
}

#[tokio::test]
async fn a_copy_made_while_the_node_was_stopped_is_refused_beside_a_later_log() {
    let bench = Bench::new();
    bench.send_many("work", 10).await;
    bench.store.close().await;
    let copy = bench.folder.path().join("copy.db");
    fs::copy(bench.path(), &copy).expect("copied");
    let bench = bench.reopened().await;
    bench.send_many("work", 10).await;
    let bench = bench.reopened().await;
    bench.send_many("work", 10).await;
    let left = killed(&bench);
    left.database_from(&copy);
    left.is_refused("an older file");
    // A newer file beside an older log, and another file's log.
    let older = killed(&bench);
    checkpoint(&bench).await;
    bench.send_many("work", 10).await;
    checkpoint(&bench).await;
    bench.send_many("work", 10).await;
    let left = killed(&bench);
    left.log_from(&older);
    left.is_refused("a newer file");
    let other = Bench::new();
    other.send_many("work", 5).await;
    let left = killed(&bench);
    left.log_from(&killed(&other));
    left.is_refused("another node's log");
    for bench in [bench, other] {
        bench.store.close().await;
    }
}

/// Whatever was copied into the database when the node was killed.
#[tokio::test]
async fn a_killed_nodes_own_log_is_never_refused() {
    let bench = Bench::new();
    let mut dice = fastrand::Rng::with_seed(5);
    let mut before: Option<Left> = None;
    for step in 1..=30 {
        bench.send("work", &"x".repeat(dice.usize(..6_000))).await;
        match dice.u8(..6) {
            0 => checkpoint(&bench).await,
            1 => {
                // A program of its own in the same file, with SQLite's own checkpoints.
                let table = format!("CREATE TABLE t{step} (n); INSERT INTO t{step} VALUES (1)");
                bench.sql().execute_batch(&table).expect("created");
            }
            2 => {
                let copy = "PRAGMA wal_checkpoint(RESTART)";
                bench.sql().query_row(copy, [], |_| Ok(())).expect("copied");
            }
            3 => {
                let pages = "PRAGMA incremental_vacuum";
                bench.sql().execute_batch(pages).expect("shrunk");
            }
            _ => {}
        }
        let left = killed(&bench);
        if let Some(before) = before.take() {
            // A power cut in a checkpoint: some pages of the database are as they were.
            let (old, new) = (fs::read(&before.path), fs::read(&left.path));
            let (old, mut new) = (old.expect("readable"), new.expect("readable"));
            let log = fs::read(beside(&left.path, "-wal")).expect("readable");
            let is_same_log =
                fs::read(beside(&before.path, "-wal")).expect("readable")[..32] == log[..32];
            let page_bytes = usize::from(u16::from_be_bytes([new[16], new[17]]));
            for (number, page) in new.chunks_mut(page_bytes).enumerate() {
                if is_same_log
                    && dice.bool()
                    && let Some(old) = old.chunks(page_bytes).nth(number)
                {
                    page.copy_from_slice(old);
                }
            }
            fs::write(&left.path, new).expect("written");
        }
        before = Some(killed(&bench));
        left.opens_with(step, &format!("step {step}")).await;
    }
    bench.store.close().await;
}

/// A journal that SQLite would play back: of a transaction of another program that was killed in it.
fn sound_journal(folder: &Path) -> Vec<u8> {
    let path = folder.join("other.db");
    let other = Connection::open(&path).expect("created");
    other
        .execute_batch(
            "PRAGMA cache_size = 2; CREATE TABLE t (n, text);
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200)
             INSERT INTO t SELECT n, printf('%.1000c', 'x') FROM n",
        )
        .expect("filled");
    other.execute_batch("BEGIN; UPDATE t SET text = printf('%.1000c', 'y')").expect("begun");
    let mut journal = fs::read(beside(&path, "-journal")).expect("it has spilled");
    let word = |at: usize| u32::from_be_bytes(journal[at..at + 4].try_into().expect("four"));
    let (sector, page) = (word(20) as usize, word(24) as usize);
    assert!(word(16) > 0, "the database had some pages");
    let pages = (journal.len() - sector) / (page + 8);
    assert!(pages > 0, "it holds none");
    // A sync would have told how many, and that it counts. When that comes depends on the memory of all connections.
    journal[..8].copy_from_slice(&JOURNAL_MAGIC);
    journal[8..12].copy_from_slice(&u32::try_from(pages).expect("few").to_be_bytes());
    journal
}

/// Of the same form, for a database that was empty before.
fn journal_of_nothing() -> Vec<u8> {
    let mut journal = vec![0; 512];
    journal[..8].copy_from_slice(&JOURNAL_MAGIC);
    journal[20..28].copy_from_slice(&[0, 0, 2, 0, 0, 0, 16, 0]);
    journal
}

#[tokio::test]
async fn a_journal_that_is_not_the_files_is_refused_before_it_changes_anything() {
    let scratch = TempDir::new().expect("a folder");
    let journals = [sound_journal(scratch.path()), journal_of_nothing()];
    for (number, journal) in journals.into_iter().enumerate() {
        for with_log in [true, false] {
            let what = format!("journal {number}, with a log: {with_log}");
            let bench = Bench::new();
            bench.send_many("work", 300).await;
            if !with_log {
                bench.store.close().await;
            }
            let left = || {
                let folder = TempDir::new().expect("a folder");
                let path = fs::canonicalize(folder.path()).expect("a path").join("node.db");
                for suffix in ["", "-wal"].into_iter().take(1 + usize::from(with_log)) {
                    fs::copy(beside(&bench.path(), suffix), beside(&path, suffix)).expect("copied");
                }
                fs::write(beside(&path, "-journal"), &journal).expect("written");
                Left { folder, path }
            };
            // It is one that SQLite plays back.
            let played = left();
            let sql = Connection::open(&played.path).expect("opened");
            let _ = sql.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
            drop(sql);
            assert!(!beside(&played.path, "-journal").exists(), "{what}: harmless");
            let left = left();
            let before = listing(&left.path);
            let foreign = |error: &OpenError| matches!(error, OpenError::ForeignJournal { .. });
            match Store::open(options(&left.path)).map(drop) {
                Err(StoreOpenError::Open(error)) if foreign(&error) => {}
                other => panic!("{what}: {other:?}"),
            }
            match Inspector::open(&left.path).map(drop) {
                Err(InspectError::Open(error)) if foreign(&error) => {}
                other => panic!("{what}, looked at: {other:?}"),
            }
            match crate::inspect::vacuum(&left.path).map(drop) {
                Err(InspectError::Open(error)) if foreign(&error) => {}
                other => panic!("{what}, shrunk: {other:?}"),
            }
            assert!(before == listing(&left.path), "{what}: something changed");
            bench.store.close().await;
        }
    }
}

/// Whatever a start refuses, the check that it names has to find.
#[tokio::test]
async fn tables_that_contradict_each_other_are_refused_at_a_start_and_found_by_the_check() {
    let bench = Bench::new();
    bench.subscribe("b", "c", Start::Now).await;
    for text in ["one", "two", "three"] {
        bench.send("c", text).await;
    }
    bench.store.close().await;
    for harm in [
        "",
        "UPDATE waypost_cursors SET acked_seq = 10",
        "UPDATE waypost_topics SET last_seq = 2",
        "UPDATE waypost_cursors SET acknowledged = 5",
        "UPDATE waypost_topics SET last_seq = 9",
        "PRAGMA foreign_keys = OFF; UPDATE waypost_cursors SET topic = 77",
        "PRAGMA foreign_keys = OFF; DELETE FROM waypost_stores",
        "UPDATE waypost_meta SET last_id = zeroblob(16)",
        "PRAGMA foreign_keys = OFF; DELETE FROM waypost_meta",
    ] {
        let folder = TempDir::new().expect("a folder");
        let path = fs::canonicalize(folder.path()).expect("a path").join("node.db");
        fs::copy(bench.path(), &path).expect("copied");
        Connection::open(&path).and_then(|sql| sql.execute_batch(harm)).expect("harmed");
        let found =
            Inspector::open(&path).and_then(|it| it.check(|_| {})).expect("it is looked at");
        assert_eq!(found.is_sound(), harm.is_empty(), "{harm}: {found:?}");
        let before = listing(&path);
        match Store::open(options(&path)).map(|opened| opened.store) {
            Ok(store) if harm.is_empty() => store.close().await,
            Err(StoreOpenError::Open(OpenError::Contradiction { .. })) if !harm.is_empty() => {
                assert!(before == listing(&path), "{harm}: something changed");
            }
            other => panic!("{harm}: {:?}", other.map(drop)),
        }
    }
}

/// The log's index names no file either. Whoever opens the file first makes it anew.
#[tokio::test]
async fn an_index_of_another_file_beside_a_nodes_changes_nothing() {
    let other = Bench::new();
    other.send_many("c", 200).await;
    let bench = Bench::new();
    bench.send_many("c", 5).await;
    let older = fs::read(beside(&bench.path(), "-shm")).expect("an index");
    bench.send_many("c", 7).await;
    let foreign = fs::read(beside(&other.path(), "-shm")).expect("an index");
    let indexes =
        [("another's", foreign), ("an older one", older), ("nonsense", vec![0xa5; 32_768])];
    for (what, index) in &indexes {
        let left = killed(&bench);
        fs::write(beside(&left.path, "-shm"), index).expect("written");
        let seen = Inspector::open(&left.path).and_then(|file| file.summary());
        assert_eq!(seen.expect("looked at").messages, 12, "{what} beside a log");
        fs::write(beside(&left.path, "-shm"), index).expect("written");
        left.opens_with(12, what).await;
    }
    let path = bench.path();
    let Bench { folder, store, .. } = bench;
    store.close().await;
    for (what, index) in &indexes {
        let alone = TempDir::new().expect("a folder");
        let file = fs::canonicalize(alone.path()).expect("a path").join("node.db");
        fs::copy(&path, &file).expect("copied");
        fs::write(beside(&file, "-shm"), index).expect("written");
        let seen = Inspector::open(&file).and_then(|file| file.summary());
        assert_eq!(seen.expect("looked at").messages, 12, "{what} alone");
        fs::write(beside(&file, "-shm"), index).expect("written");
        Left { folder: alone, path: file }.opens_with(12, what).await;
    }
    drop(folder);
    other.store.close().await;
}
