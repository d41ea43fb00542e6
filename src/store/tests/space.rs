//! Little room: what gives way, what is refused, and who is not waited for.

use super::failures::{limit_pages, send_soon};
use super::*;
use crate::store::open::look::BUSY_TIMEOUT;

const MIB: u64 = 1024 * 1024;

fn limited(bytes: u64, overflow: Overflow) -> Bench {
    Bench::with(|options| {
        (options.storage_limit, options.overflow) = (Some(bytes), overflow);
    })
}

/// All that the node has on the disk.
fn on_disk(bench: &Bench) -> u64 {
    let files = std::fs::read_dir(bench.folder.path()).expect("a folder");
    files.map(|file| file.expect("a file").metadata().expect("it is there").len()).sum()
}

/// Noise, which does not become smaller.
fn noise(bytes: usize) -> Prepared {
    let payload: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
    prepared("c", NewMessage::bytes(payload))
}

/// Sends until it is refused: how many were accepted, and why no more.
async fn fill(bench: &Bench, bytes: usize) -> (u64, SendError) {
    for sent in 0..100_000 {
        if let Err(error) = bench.store.send(vec![noise(bytes)]).await {
            return (sent, error);
        }
    }
    panic!("it is never full");
}

async fn acknowledge(bench: &Bench, from: u64, to: u64) {
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
    limit_pages(&bench.store, Some(300)).await;
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
    let bench = limited(4 * MIB, Overflow::Reject);
    bench.subscribe("a", "c", Start::Now).await;
    let (sent, error) = fill(&bench, 10_000).await;
    let SendError::StorageLimit { used_bytes, limit_bytes, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(limit_bytes, 4 * MIB);
    assert!(used_bytes <= limit_bytes && on_disk(&bench) <= limit_bytes, "{}", on_disk(&bench));
    assert!(sent > 100, "{sent}");
    assert_eq!(bench.store.health(), Health::Healthy, "it is not the disk");
    acknowledge(&bench, 1, sent).await;
    for _ in 0..sent * 9 / 10 {
        bench.store.send(vec![noise(10_000)]).await.expect("what is settled gives way");
    }
    assert!(on_disk(&bench) <= 4 * MIB, "{}", on_disk(&bench));
    let used = bench.store.storage().await.expect("counted");
    assert!(used.used_bytes > MIB && used.limit_bytes == 4 * MIB, "{used:?}");
}

#[tokio::test]
async fn p7_the_oldest_give_way_at_the_storage_limit_where_that_is_chosen() {
    let bench = limited(4 * MIB, Overflow::DropOldest);
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
    let begun = std::time::Instant::now();
    limit_pages(&bench.store, Some(0)).await;
    fill(&bench, 8_000).await;
    acknowledge(&bench, 1, 1).await;
    assert!(begun.elapsed() < BUSY_TIMEOUT);
    let begun = std::time::Instant::now();
    bench.store.close().await;
    assert!(begun.elapsed() < BUSY_TIMEOUT);
    other.execute_batch("ROLLBACK").expect("ended");
}

#[tokio::test]
async fn p7_a_log_that_a_reader_keeps_from_beginning_again_is_told_and_bounded() {
    let bench = limited(8 * MIB, Overflow::Reject);
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
    let told = bench.notices.take().iter().filter(|notice| is_told(notice)).count();
    assert!((1..=4).contains(&told), "told when it has doubled: {told}");
    other.execute_batch("ROLLBACK").expect("ended");
    bench.store.send(vec![noise(10_000)]).await.expect("the log begins again");
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
