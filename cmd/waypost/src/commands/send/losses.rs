//! Messages of this run that will not arrive: they expired, or became dead letters, while it waited.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use waypost::inspect::{InspectError, Inspector, Lost};
use waypost::management::Waiting;
use waypost::{MessageId, Node};
use waypost_process::streams;

use super::ids::Ids;
use crate::output::count;

/// What of this run will not arrive, by receiver; none where all may arrive. `ttl`: how long its messages may wait. What is past that is no longer
/// among those that wait: without a known reader a node accounts for it only when it cleans up its file.
pub(super) async fn take(
    node: &Node,
    ids: &Ids<'_>,
    ttl: Option<Duration>,
    waiting: &mut Vec<Waiting>,
) -> anyhow::Result<Vec<Lost>> {
    let Some(run) = ids.run() else { return Ok(Vec::new()) };
    let counters = node.statistics().await?.counters;
    let overdue = ttl.is_some_and(|ttl| run.begun.elapsed() >= ttl);
    // Counted from the start of this process: mostly there is nothing to look for.
    if counters.expired + counters.dead_lettered == 0 && !overdue {
        return Ok(Vec::new());
    }
    let (path, first, since_last) = (node.storage(), run.first, run.last.elapsed());
    let stored = ids.stored();
    let look = move || look(path, first, since_last, stored, counters.expired);
    let found = tokio::task::spawn_blocking(look).await.context("looking for what was lost")??;
    for one in waiting.iter_mut().filter(|one| one.receiver.is_none()) {
        one.pending = one.pending.saturating_sub(found.overdue);
    }
    waiting.retain(|one| one.pending > 0);
    Ok(found.lost)
}

struct Found {
    lost: Vec<Lost>,
    /// Those that are past their time, and that the node counts as waiting still.
    overdue: u64,
}

/// What was lost of the messages from `first` on, of which this run has stored so many. `expired` is how many expired meanwhile at most.
fn look(
    path: PathBuf,
    first: MessageId,
    since_last: Duration,
    stored: u64,
    expired: u64,
) -> Result<Found, InspectError> {
    let losses = Inspector::open(path)?.losses(first, since_last)?;
    let mut lost = losses.receivers;
    // One that no reader was known for leaves no trace when it expires, and one that was settled stays for the retention at least.
    let gone = stored.saturating_sub(losses.kept).min(expired) + losses.overdue;
    if gone > 0 {
        lost.push(Lost { receiver: None, expired: gone, dead: 0 });
    }
    Ok(Found { lost, overdue: losses.overdue })
}

/// Says on standard error what will not arrive, and whose it was. True: something was lost.
pub(super) fn report(lost: &[Lost]) -> bool {
    if lost.is_empty() {
        return false;
    }
    let total: u64 = lost.iter().map(|lost| lost.expired + lost.dead).sum();
    let deliveries = if total == 1 { "delivery" } else { "deliveries" };
    let whose: Vec<String> = lost.iter().flat_map(one).collect();
    streams::say(format_args!(
        "{total} {deliveries} of this run will not be made: {}; `waypost why ID` tells more",
        whose.join(", ")
    ));
    true
}

fn one(lost: &Lost) -> Vec<String> {
    let whom = lost.receiver.as_ref().map_or("no known reader".to_owned(), ToString::to_string);
    let dead = count(lost.dead, "dead letter");
    let kinds = [(lost.expired, format!("{} expired", lost.expired)), (lost.dead, dead)];
    let kinds = kinds.into_iter().filter(|(count, _)| *count > 0);
    kinds.map(|(_, what)| format!("{what} for {whom}")).collect()
}
