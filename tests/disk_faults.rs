//! P1, P2, P5, P6: every write, sync and truncation of a workload fails once, one after the other. Whoever called gets an error that
//! says what it is; nothing is acknowledged after a failed sync until the file was opened again; the node recovers by itself; and
//! what it said Ok to is there, also if the power fails right afterwards.

mod nodes;
mod power;
mod support;

use nodes::begin;
use power::expect::{self, Told};
use power::{EXACT, PATIENCE, PLAIN, join, order, quick};
use support::eventually_async;
use tokio::task::JoinSet;
use waypost::error::{SendError, StartError, StoreError, StoreOpenError, TransactionError};
use waypost::{Builder, Channel, Mode, NewMessage, Node};
use waypost_faultfs::{Disk, Fault, Log, Name, Op, Operation, Replay, Survival};

/// Nobody listens there.
const NOWHERE: &str = "nats://127.0.0.1:1";

/// What a failing disk may make a store say.
fn is_of_the_disk(error: &StoreError) -> bool {
    matches!(error, StoreError::Failed { .. } | StoreError::Full { .. })
}

fn check_refusal(error: &SendError) {
    let fits = match error {
        SendError::Storage(error) => is_of_the_disk(error),
        SendError::StorageFull { .. } => true,
        _ => false,
    };
    assert!(fits && error.is_transient(), "{error:?}");
}

/// Sends until it is taken, and marks it.
async fn send(channel: &Channel, text: &str, disk: &Disk) {
    eventually_async(PATIENCE, "a message is taken", async || match channel.send(text).await {
        Ok(id) => {
            disk.mark(format!("sent {} {id}", channel.name()));
            true
        }
        Err(error) => {
            check_refusal(&error);
            false
        }
    })
    .await;
}

async fn send_all(channel: &Channel, count: usize, disk: &Disk) {
    let batch = || (0..count).map(|n| NewMessage::text(format!("of a batch {n}"))).collect();
    eventually_async(PATIENCE, "a batch is taken", async || {
        match channel.send_all(batch()).await {
            Ok(ids) => {
                ids.iter().for_each(|id| disk.mark(format!("sent {} {id}", channel.name())));
                true
            }
            Err(error) => {
                check_refusal(&error);
                false
            }
        }
    })
    .await;
}

/// One order. If one that failed had been kept all the same, its number would be taken.
async fn place_order(alice: &Node, exact: &Channel, n: u32, disk: &Disk) {
    eventually_async(PATIENCE, "an order is taken", async || match order(alice, exact, n).await {
        Ok(id) => {
            disk.mark(format!("sent {EXACT} {id}"));
            disk.mark(format!("ordered {n} {id}"));
            true
        }
        Err(TransactionError::Storage(error)) if is_of_the_disk(&error) => false,
        Err(error) => panic!("{error:?}"),
    })
    .await;
}

/// After a sync of a file that failed, nobody is told anything before its database was opened again. (What was in a file that is
/// deleted is written again elsewhere: that is how SQLite goes on after a failure of a rollback journal.)
fn check_silence(log: &Log, node: &str) {
    let (database, mut failed) = (format!("{node}.db"), None);
    let mut failed_file = Name::default();
    for (at, op) in log.ops().iter().enumerate() {
        match op {
            Op::Failed { file, operation: Operation::Sync } if file.starts_with(node) => {
                failed = Some(at);
                failed_file = file.clone();
            }
            Op::Delete { file, .. } if *file == failed_file => failed = None,
            Op::Open { file } if **file == *database => failed = None,
            Op::Mark(text) => {
                let told = if node == "alice" { "sent" } else { "effect" };
                assert!(
                    failed.is_none() || !text.starts_with(told),
                    "{text} at {at}, after the failure at {failed:?}:\n{}",
                    around(log, failed)
                );
            }
            _ => {}
        }
    }
}

/// What happened before and after a place, without the bytes.
fn around(log: &Log, place: Option<usize>) -> String {
    let place = place.unwrap_or(0);
    let range = place.saturating_sub(12)..(place + 25).min(log.ops().len());
    let short = |at: usize| match &log.ops()[at] {
        Op::Write { file, offset, bytes } => format!("{at} {file}: {} at {offset}", bytes.len()),
        op => format!("{at} {op:?}"),
    };
    range.map(short).collect::<Vec<_>>().join("\n")
}

/// If the power failed now, nothing would be missing, with whatever a failed sync should have covered in doubt.
fn check_cut(log: &Log, node: &str) {
    let place = log.ops().len();
    let told = Told::before(log, place);
    let mut replay = Replay::new(log);
    replay.advance_to(place);
    for survival in [Survival::Nothing, Survival::Torn(place as u64)] {
        let folder = tempfile::tempdir().expect("a folder");
        replay.image(survival).write(node, folder.path()).expect("written");
        let file = folder.path().join(format!("{node}.db"));
        let mut wrong: Vec<String> = expect::is_sound(&file).err().into_iter().collect();
        wrong.extend(match node {
            "alice" => expect::wrong_with_sender(&file, &told),
            _ => expect::wrong_with_receiver(&file, log, &told),
        });
        let failed = log.ops().iter().rposition(|op| matches!(op, Op::Failed { .. }));
        assert!(
            wrong.is_empty(),
            "cut at {place}, {survival:?}:\n{}\n{}",
            wrong.join("\n"),
            around(log, failed)
        );
    }
}

/// Starts a node, if the disk lets it.
async fn try_start(builder: Builder) -> Option<Node> {
    match builder.start().await {
        Ok(node) => Some(node),
        Err(StartError::Storage(StoreOpenError::Open(_))) => None,
        Err(StartError::Storage(StoreOpenError::Storage(error))) if is_of_the_disk(&error) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// The whole life of a node that has no server, with one failure in it. Whether it was reached.
async fn live(fault: Fault) -> bool {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::watch(folder.path());
    disk.fail(fault);
    let builder = || quick(NOWHERE, "nowhere", folder.path(), "alice");
    let mut started = try_start(builder()).await;
    if started.is_none() {
        started = Some(begin(builder()).await);
    }
    let alice = started.expect("a failure strikes once");
    let made = async || match alice
        .transaction(|tx| tx.execute("CREATE TABLE orders (n INTEGER PRIMARY KEY, id TEXT)", []))
        .await
    {
        Ok(_) => true,
        Err(TransactionError::Storage(error)) if is_of_the_disk(&error) => false,
        Err(error) => panic!("{error:?}"),
    };
    eventually_async(PATIENCE, "a table is made", made).await;
    let plain = join(&alice, PLAIN, Mode::Writer).await;
    let exact = join(&alice, EXACT, Mode::Writer).await;
    send(&plain, "one", &disk).await;
    place_order(&alice, &exact, 1, &disk).await;
    send_all(&plain, 3, &disk).await;
    check_silence(&disk.log(), "alice");
    check_cut(&disk.log(), "alice");
    alice.shutdown().await;
    check_cut(&disk.log(), "alice");
    let struck = disk.heal() > 0;
    let file = folder.path().join("alice.db");
    // SQLite's file format: 2 is a write-ahead log.
    assert_eq!(std::fs::read(&file).expect("readable")[18..20], [2, 2]);

    let told = Told::before(&disk.log(), disk.log().ops().len());
    let alice = begin(builder()).await;
    let id = join(&alice, PLAIN, Mode::Writer).await.send("after").await.expect("sent");
    assert!(told.last_id().is_some_and(|last| id.to_string() > *last));
    alice.shutdown().await;
    expect::is_sound(&file).expect("sound");
    assert_eq!(expect::wrong_with_sender(&file, &told), Vec::<String>::new());
    struck
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p1_p6_each_operation_in_a_nodes_life_may_fail() {
    let mut kinds = JoinSet::new();
    for (operation, full) in [
        (Operation::Write, false),
        (Operation::Write, true),
        (Operation::Sync, false),
        (Operation::Truncate, false),
    ] {
        kinds.spawn(async move {
            // Where it is the same write that fails, only otherwise, a part of them will do.
            let step = if full && !thorough() { 5 } else { 1 };
            let mut nth = 1;
            loop {
                let fault = Fault::nth(operation, nth);
                if !live(if full { fault.full() } else { fault }).await {
                    return (operation, full, nth - 1);
                }
                nth += step;
            }
        });
    }
    for (operation, full, failures) in kinds.join_all().await {
        println!("{operation:?}, full: {full}: {failures} operations");
        assert!(failures > 1, "{operation:?}: only {failures} to try");
    }
}

fn thorough() -> bool {
    std::env::var("WAYPOST_CUTS").is_ok_and(|value| value == "all")
}
