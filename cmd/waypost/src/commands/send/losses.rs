//! Messages of this run that will not arrive: they expired, or became dead letters, while it waited.

use waypost::Node;
use waypost::management::{Lost, Waiting};
use waypost_process::streams;

use super::settle;
use crate::output::count;

/// What of this run will not arrive, by receiver; none where all may arrive. What expired without a known reader, and was found only now, no
/// longer stands among those that wait.
pub(super) async fn take(node: &Node, waiting: &mut Vec<Waiting>) -> anyhow::Result<Vec<Lost>> {
    let lost = node.lost().await?;
    if lost.iter().any(|lost| lost.receiver.is_none()) {
        *waiting = settle::waiting(node).await?;
    }
    Ok(lost)
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
