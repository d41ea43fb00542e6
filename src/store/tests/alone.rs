//! Receipts that are committed by whoever asks for them.

use super::*;
use crate::store::open::look::BUSY_TIMEOUT;

fn receipt(channel: &str, id: u128) -> InboxAdvance {
    InboxAdvance {
        sender: node("b"),
        store_id: StoreId::from_bytes([1; 16]),
        channel: name(channel),
        direct: false,
        lane: Priority::Normal,
        id: MessageId::from_u128(id),
    }
}

/// The thread may be looking at the file still, after it has answered.
async fn accepted_soon(bench: &Bench, receipt: InboxAdvance) {
    let accepted = async {
        while !bench.store.accept_alone(&receipt) {
            // Has it look, if that is what is due.
            bench.store.accounts().await.expect("they are counted");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), accepted).await.expect("committed alone");
}

const NEWEST: &str = "SELECT coalesce(max(count), 0) FROM waypost_inbox";

#[tokio::test]
async fn p5_a_receipt_alone_is_committed_when_it_returns() {
    let bench = Bench::new();
    // The first commit of a log is the thread's.
    bench.store.accept(receipt("c", 1)).await.expect("accepted");
    for id in 2..=20 {
        accepted_soon(&bench, receipt("c", id)).await;
        assert_eq!(u128::from(bench.count(NEWEST)), id);
    }
    let bench = bench.reopened().await;
    assert_eq!(bench.restored.inbox.len(), 1);
    assert_eq!(bench.restored.inbox[0].last_id, MessageId::from_u128(20));
}

#[tokio::test]
async fn a_receipt_that_has_to_be_fsynced_and_one_after_the_close_are_not_committed_alone() {
    let bench = Bench::with(|options| options.inbox_durability = Durability::Full);
    assert!(!bench.store.accept_alone(&receipt("c", 1)));
    let bench = Bench::new();
    bench.store.close().await;
    assert!(!bench.store.accept_alone(&receipt("c", 1)));
}

#[tokio::test]
async fn nobody_is_waited_for_who_else_writes_to_the_file() {
    let bench = Bench::new();
    let other = bench.sql();
    other.execute_batch("BEGIN IMMEDIATE").expect("begun");
    let begun = std::time::Instant::now();
    assert!(!bench.store.accept_alone(&receipt("c", 1)));
    assert!(begun.elapsed() < BUSY_TIMEOUT);
    other.execute_batch("ROLLBACK").expect("ended");
    assert_eq!(bench.count(NEWEST), 0);
    bench.store.accept(receipt("c", 1)).await.expect("the thread takes it");
    accepted_soon(&bench, receipt("c", 2)).await;
    assert_eq!(bench.store.health(), Health::Healthy);
}

#[tokio::test]
async fn p6_what_goes_wrong_with_a_receipt_alone_is_dealt_with_by_the_thread() {
    let bench = Bench::new();
    bench.store.accept(receipt("c", 1)).await.expect("accepted");
    failures::limit_pages(&bench.store, Some(0)).await;
    let mut refused = 0;
    for n in 0.. {
        assert!(n < 1_000, "there is always another page");
        let channel = format!("{n} {}", "x".repeat(200));
        if !bench.store.accept_alone(&receipt(&channel, 1)) {
            refused += 1;
            bench.store.accounts().await.expect("they are counted");
        }
        if bench.store.health() == Health::Full {
            break;
        }
    }
    assert!(refused > 0);
    assert!(!bench.store.accept_alone(&receipt("c", 1)), "not while the disk is full");
    failures::limit_pages(&bench.store, None).await;
    failures::send_soon(&bench, "x").await;
    assert_eq!(bench.store.health(), Health::Healthy);
    accepted_soon(&bench, receipt("c", 1)).await;
}

#[tokio::test]
async fn p7_the_log_of_receipts_alone_is_bounded() {
    let bench = Bench::new();
    const PAGE: u64 = 1_024;
    let mut longest = 0;
    for id in 1..=6_000 {
        if !bench.store.accept_alone(&receipt("c", id)) {
            bench.store.accept(receipt("c", id)).await.expect("accepted");
        }
        longest = bench.store.wal_bytes().max(longest);
    }
    assert!(longest < 5_000 * PAGE, "{longest}");
}
