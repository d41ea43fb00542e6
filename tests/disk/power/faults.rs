//! Sending while the disk fails, and what a failing disk must not lead to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use waypost::error::{SendError, StartError, StoreError, StoreOpenError, TransactionError};
use waypost::{Builder, Channel, NewMessage, Node};
use waypost_faultfs::{Disk, Log, Op, Operation, Replay, Survival};

use super::expect::{self, Told};
use super::{EXACT, PATIENCE, order};
use crate::support::eventually_async;

/// What a failing disk may make a store say.
pub fn is_of_the_disk(error: &StoreError) -> bool {
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

/// Marks that this is begun.
async fn trying<T>(disk: &Disk, what: impl Future<Output = T>) -> T {
    disk.mark("trying");
    what.await
}

/// Sends until it is taken, and marks it.
pub async fn send(channel: &Channel, text: &str, disk: &Disk) {
    eventually_async(PATIENCE, "a message is taken", async || {
        match trying(disk, channel.send(text)).await {
            Ok(id) => {
                disk.mark(format!("sent {} {id}", channel.name()));
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

/// The same for a batch.
pub async fn send_all(channel: &Channel, count: usize, disk: &Disk) {
    let batch = || (0..count).map(|n| NewMessage::text(format!("of a batch {n}"))).collect();
    eventually_async(PATIENCE, "a batch is taken", async || {
        match trying(disk, channel.send_all(batch())).await {
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

/// Orders until one is taken, each time under the next number: where two syncs fail in a row, an order that was refused can have been
/// kept all the same, which its error says.
pub async fn place_order(alice: &Node, exact: &Channel, last: &AtomicU32, disk: &Disk) {
    eventually_async(PATIENCE, "an order is taken", async || {
        let n = last.fetch_add(1, Ordering::SeqCst) + 1;
        match trying(disk, order(alice, exact, n)).await {
            Ok(id) => {
                disk.mark(format!("sent {EXACT} {id}"));
                disk.mark(format!("ordered {n} {id}"));
                true
            }
            Err(TransactionError::Storage(error)) if is_of_the_disk(&error) => false,
            Err(error) => panic!("{error:?}"),
        }
    })
    .await;
}

/// Starts a node as soon as the disk lets it.
pub async fn start(builder: impl Fn() -> Builder) -> Node {
    let end = Instant::now() + PATIENCE;
    loop {
        match builder().start().await {
            Ok(node) => return node,
            Err(StartError::Storage(StoreOpenError::Open(_))) if Instant::now() < end => {}
            Err(StartError::Storage(StoreOpenError::Storage(error)))
                if is_of_the_disk(&error) && Instant::now() < end => {}
            Err(error) => panic!("{error:?}"),
        }
    }
}

/// After a sync of a file that failed, nobody is told anything that was begun later, before its database was opened again. (What was
/// in a file that is deleted is written again elsewhere: that is how SQLite goes on after a failure of a rollback journal.)
pub fn check_silence(log: &Log, node: &str) {
    // What stands in the log before it is begun, and what is told.
    let (begins, told) = match node {
        "alice" => ("trying", "sent"),
        _ => ("handled exact", "effect"),
    };
    let (database, mut failed, mut begun) = (format!("{node}.db"), None, 0);
    for (at, op) in log.ops().iter().enumerate() {
        match op {
            Op::Failed { file, operation: Operation::Sync } if file.starts_with(node) => {
                failed = Some((at, file));
            }
            Op::Delete { file, .. } if failed.is_some_and(|(_, failed)| failed == file) => {
                failed = None;
            }
            Op::Open { file } if **file == *database => failed = None,
            Op::Mark(text) if text.starts_with(begins) => begun = at,
            Op::Mark(text) if text.starts_with(told) => {
                let Some((failed, _)) = failed.filter(|(failed, _)| *failed < begun) else {
                    continue;
                };
                panic!("{text} at {at}, begun at {begun}:\n{}", around(log, Some(failed)));
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
pub fn check_cut(log: &Log, node: &str) {
    check_cut_at(log, node, log.ops().len());
}

/// Nor if it had failed after a failure, before the file was opened again.
pub fn check_cuts_after_failures(log: &Log, node: &str) {
    let (database, mut has_failed, mut checked) = (format!("{node}.db"), false, 0);
    for (at, op) in log.ops().iter().enumerate() {
        match op {
            Op::Failed { .. } => has_failed = true,
            Op::Open { file } if has_failed && **file == *database => {
                check_cut_at(log, node, at);
                (has_failed, checked) = (false, checked + 1);
            }
            _ => {}
        }
    }
    assert!(checked > 0, "it was never opened again");
}

fn check_cut_at(log: &Log, node: &str, place: usize) {
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
