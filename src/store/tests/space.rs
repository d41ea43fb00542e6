//! Little room: what gives way, what is refused, and who is not waited for.

use super::failures::{limit_pages, send_soon};
use super::*;
use crate::condition::StorageUse;
use crate::reason::Reason;

const MIB: u64 = 1024 * 1024;
/// What takes longer does not end.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn limited(folder: TempDir, bytes: u64, overflow: Overflow) -> Bench {
    Bench::open(folder, HandClock::at(START_MS), |options| {
        (options.storage_limit, options.overflow) = (Some(bytes), overflow);
    })
}

/// All that the node has on the disk.
fn on_disk(bench: &Bench) -> u64 {
    let files = std::fs::read_dir(bench.folder.path()).expect("a folder");
    files.map(|file| file.expect("a file").metadata().expect("it is there").len()).sum()
}

/// What was told of the files, by name, each run of the same once.
fn told(bench: &Bench) -> Vec<String> {
    let name = |notice: Notice| match notice {
        Notice::Filling => Some("Filling"),
        Notice::StorageFull => Some("StorageFull"),
        Notice::StorageLimitReached(_) => Some("StorageLimitReached"),
        Notice::StorageRecovered => Some("StorageRecovered"),
        Notice::LogHeld { .. } => Some("LogHeld"),
        Notice::LogReleased => Some("LogReleased"),
        _ => None,
    };
    let mut names: Vec<String> =
        bench.notices.take().into_iter().filter_map(name).map(str::to_owned).collect();
    names.dedup();
    // Not in the order of the others: see the mailbox.
    names.sort();
    names
}

#[tokio::test]
async fn p7_each_mark_below_the_storage_limit_is_told_when_it_is_reached() {
    let bench = limited(TempDir::new().expect("a folder"), 8 * MIB, Overflow::Reject);
    bench.subscribe("a", "c", Start::Now).await;
    bench.notices.take();
    let mut marks = Vec::new();
    loop {
        if bench.store.send(vec![noise(20_000)]).await.is_err() {
            break;
        }
        let StorageUse { used_bytes, limit_bytes } = bench.store.storage().await.expect("counted");
        if told(&bench).contains(&"Filling".to_owned()) {
            marks.push(used_bytes * 100 / limit_bytes);
        }
    }
    let near = |mark: u64| marks.iter().any(|told| (mark..mark + 6).contains(told));
    assert!(near(50) && near(80) && near(95) && marks.len() < 8, "{marks:?}");
    // A start on such a file tells it, too.
    let bench = bench.reopened_with(|options| options.storage_limit = Some(8 * MIB)).await;
    bench.send("other", "x").await;
    assert!(told(&bench).contains(&"Filling".to_owned()));
}

/// Noise, which does not become smaller.
pub(super) fn noise(bytes: usize) -> Prepared {
    let payload: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
    prepared("c", NewMessage::bytes(payload))
}

/// Whoever else has the file is waited for until the test has failed, where it is waited for at all.
fn wait_for_ever(bench: &Bench) {
    let writer = bench.store.inner.writer.lock().expect("nobody panicked");
    writer.wait_for(60 * PATIENCE);
}

/// Sends until it is refused: how many were accepted, and why no more.
pub(super) async fn fill(bench: &Bench, bytes: usize) -> (u64, SendError) {
    for sent in 0..100_000 {
        if let Err(error) = bench.store.send(vec![noise(bytes)]).await {
            return (sent, error);
        }
    }
    panic!("it is never full");
}

pub(super) async fn acknowledge(bench: &Bench, from: u64, to: u64) {
    let ack = bench.ack("a", TopicId(1), (from, to), to - from + 1);
    bench.store.settle(vec![ack], vec![]).await.expect("settling needs no room that is not there");
}

#[tokio::test]
async fn p6_settled_messages_give_way_on_a_full_disk_before_a_send_is_refused() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    for _ in 0..100 {
        bench.store.send(vec![noise(8_000)]).await.expect("accepted");
    }
    acknowledge(&bench, 1, 100).await;
    limit_pages(&bench.store, Some(0)).await;
    for seq in 101..=300 {
        bench.store.send(vec![noise(8_000)]).await.expect("one that is settled gives way");
        acknowledge(&bench, seq, seq).await;
    }
    let account = bench.account("a").await;
    assert_eq!((account.accepted, account.acknowledged, account.pending), (300, 300, 0));
    assert!(bench.count("SELECT count(*) FROM waypost_outbox") < 300);
}

#[tokio::test]
async fn p2_what_waits_does_not_give_way_on_a_full_disk() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    limit_pages(&bench.store, Some(1_200)).await;
    let (sent, error) = fill(&bench, 8_000).await;
    assert!(matches!(error, SendError::StorageFull { .. }), "{error:?}");
    assert!(sent > 50, "{sent}");
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), sent);
    acknowledge(&bench, 1, sent / 2).await;
    bench.store.send(vec![noise(8_000)]).await.expect("half of it gives way");
    limit_pages(&bench.store, None).await;
    send_soon(&bench, "x").await;
    let account = bench.account("a").await;
    assert_eq!((account.accepted, account.acknowledged), (sent + 2, sent / 2));
}

#[tokio::test]
async fn p7_the_files_stay_below_the_storage_limit_and_settling_goes_on_at_it() {
    let bench = limited(TempDir::new().expect("a folder"), 4 * MIB, Overflow::Reject);
    bench.subscribe("a", "c", Start::Now).await;
    let (sent, error) = fill(&bench, 10_000).await;
    let SendError::StorageLimit { used_bytes, limit_bytes, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(limit_bytes, 4 * MIB);
    assert!(used_bytes <= limit_bytes && on_disk(&bench) <= limit_bytes, "{}", on_disk(&bench));
    assert!(sent > 100, "{sent}");
    // It is not the disk. Each mark was told on the way there.
    assert_eq!(bench.store.health(), Health::AtLimit(StorageUse { used_bytes, limit_bytes }));
    assert_eq!(told(&bench), ["Filling", "StorageLimitReached"]);
    assert!(matches!(
        bench.store.send(vec![noise(10_000)]).await,
        Err(SendError::StorageLimit { .. })
    ));
    assert_eq!(told(&bench), [""; 0], "once");
    let reason = bench.store.reasons().next().expect("it stands in the way");
    assert_eq!(reason.name(), "storage_limit");
    acknowledge(&bench, 1, sent).await;
    for _ in 0..sent * 9 / 10 {
        bench.store.send(vec![noise(10_000)]).await.expect("what is settled gives way");
    }
    while bench.store.health() != Health::Healthy {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(bench.store.reasons().next(), None);
    assert!(told(&bench).contains(&"StorageRecovered".to_owned()));
    assert!(on_disk(&bench) <= 4 * MIB, "{}", on_disk(&bench));
    let used = bench.store.storage().await.expect("counted");
    assert!(used.used_bytes > MIB && used.limit_bytes == 4 * MIB, "{used:?}");
}

#[tokio::test]
async fn p7_the_oldest_give_way_at_the_storage_limit_where_that_is_chosen() {
    let bench = limited(TempDir::new().expect("a folder"), 4 * MIB, Overflow::DropOldest);
    bench.subscribe("a", "c", Start::Now).await;
    for _ in 0..1_000 {
        bench.store.send(vec![noise(10_000)]).await.expect("the oldest gives way");
        bench.store.send(vec![text_to("unread", &"x".repeat(100))]).await.expect("here too");
    }
    assert!(on_disk(&bench) <= 4 * MIB, "{}", on_disk(&bench));
    let account = bench.account("a").await;
    assert!(account.purged > 500 && account.pending > 50, "{account:?}");
    assert_eq!(account.pending + account.purged, 1_000);
    let dropped = bench.notices.take().into_iter().filter_map(|notice| match notice {
        Notice::Dropped { count, .. } => Some(count),
        _ => None,
    });
    assert_eq!(dropped.sum::<u64>(), account.purged, "all of it is told");
    let too_large = bench.store.send(vec![noise(5_000_000)]).await;
    assert!(too_large.is_err());
    assert_eq!(bench.account("a").await, account, "it pushes nobody out in vain");
}

#[tokio::test]
async fn nobody_who_reads_the_file_is_waited_for() {
    let bench = Bench::new();
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("c", "x").await;
    let other = bench.sql();
    other.execute_batch("BEGIN").expect("begun");
    let seen: u64 = other
        .query_row("SELECT count(*) FROM waypost_outbox", [], |row| row.get(0))
        .expect("a state of the file");
    assert_eq!(seen, 1);
    wait_for_ever(&bench);
    let work = async {
        limit_pages(&bench.store, Some(0)).await;
        fill(&bench, 8_000).await;
        acknowledge(&bench, 1, 1).await;
        bench.store.close().await;
    };
    tokio::time::timeout(PATIENCE, work).await.expect("it goes on");
    other.execute_batch("ROLLBACK").expect("ended");
}

#[tokio::test]
async fn nobody_who_writes_to_the_file_keeps_it_from_being_closed() {
    let bench = Bench::new();
    bench.send("c", "x").await;
    let other = bench.sql();
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    bench.clock.advance(DAY_MS);
    wait_for_ever(&bench);
    tokio::time::timeout(PATIENCE, bench.store.close()).await.expect("it is closed");
    other.execute_batch("ROLLBACK").expect("ended");
    drop(other);
    let bench = bench.reopened().await;
    assert_eq!(bench.count("SELECT count(*) FROM waypost_outbox"), 1);
}

#[tokio::test]
async fn p7_a_held_log_that_keeps_new_messages_out_is_told_however_low_the_limit_is() {
    let bench = limited(TempDir::new().expect("a folder"), MIB, Overflow::Reject);
    bench.subscribe("a", "c", Start::Now).await;
    let other = bench.sql();
    other.execute_batch("BEGIN").expect("begun");
    other
        .query_row("SELECT count(*) FROM waypost_outbox", [], |_| Ok(()))
        .expect("a state of the file");
    let (_, error) = fill(&bench, 2_000).await;
    assert!(matches!(error, SendError::StorageLimit { .. }), "{error:?}");
    let told = bench.notices.take().into_iter().find_map(|notice| match notice {
        Notice::LogHeld { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert!(told.is_some_and(|bytes| bytes < MIB), "{told:?}");
    other.execute_batch("ROLLBACK").expect("ended");
}

#[tokio::test]
async fn p7_a_log_that_a_reader_keeps_from_beginning_again_is_told_and_bounded() {
    let bench = limited(TempDir::new().expect("a folder"), 8 * MIB, Overflow::Reject);
    bench.subscribe("a", "c", Start::Now).await;
    bench.send("c", "x").await;
    let other = bench.sql();
    other.execute_batch("BEGIN").expect("begun");
    other
        .query_row("SELECT count(*) FROM waypost_outbox", [], |_| Ok(()))
        .expect("a state of the file");
    let (sent, error) = fill(&bench, 10_000).await;
    assert!(matches!(error, SendError::StorageLimit { .. }), "{error:?}");
    assert!(on_disk(&bench) <= 8 * MIB, "{}", on_disk(&bench));
    acknowledge(&bench, 1, sent / 2).await;
    for seq in sent / 2 + 1..=sent {
        let ack = bench.ack("a", TopicId(1), (seq, seq), 1);
        if bench.store.settle(vec![ack], vec![]).await.is_err() {
            break;
        }
    }
    assert!(on_disk(&bench) <= 8 * MIB + 100_000, "{}", on_disk(&bench));
    let is_told = |notice: &Notice| matches!(notice, Notice::LogHeld { .. });
    let times = bench.notices.take().iter().filter(|notice| is_told(notice)).count();
    assert!((1..=4).contains(&times), "told when it has doubled: {times}");
    let held = |reason: Reason| reason.name() == "log_held";
    assert!(bench.store.reasons().any(held));
    other.execute_batch("ROLLBACK").expect("ended");
    bench.store.send(vec![noise(10_000)]).await.expect("the log begins again");
    // Also noticed where nobody writes.
    while bench.store.reasons().any(held) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(told(&bench).contains(&"LogReleased".to_owned()));
}

#[tokio::test]
async fn a_reserve_is_kept_over_a_close_and_is_no_part_of_the_file() {
    let bench = Bench::new();
    let reserve = bench.folder.path().join("node.db-reserve");
    let kept = std::fs::metadata(&reserve).expect("made at the first start").len();
    assert!((256 * 1024..=16 * MIB).contains(&kept), "{kept}");
    bench.send("c", "x").await;
    let bench = bench.reopened().await;
    assert_eq!(std::fs::metadata(&reserve).expect("it is still there").len(), kept);
    std::fs::remove_file(&reserve).expect("removed");
    let bench = bench.reopened().await;
    assert_eq!(std::fs::metadata(&reserve).expect("made again").len(), kept);
    bench.send("c", "x").await;
}
