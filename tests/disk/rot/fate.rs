//! What becomes of a sender's file that is damaged anywhere.

use std::collections::BTreeSet;
use std::time::Instant;

use waypost::error::{NodeError, StartError};
use waypost::inspect::Inspector;
use waypost::{Health, Node};

use super::{Arrived, READER, Stock, Told, builder};
use crate::nodes::begin;

/// The best that can be said of a damaged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Everything arrived.
    Harmless,
    /// What did not arrive is among the dead letters.
    PutAside,
    /// The node does not start, and says why.
    Refused,
    /// The node says that its file is damaged.
    Told,
    /// What did not arrive still waits, as everybody can see.
    Waits,
    /// `waypost db check` finds the damage.
    Found,
}

/// A node that has not delivered its few messages by then does not deliver them any more.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(6);

/// Lets the two run on these files. `Err`: something damaged arrived, or something is lost and nobody says so.
pub async fn of(stock: &Stock, url: &str, prefix: &str) -> Result<Fate, String> {
    let report = Inspector::open(stock.path("alice.db")).and_then(|it| it.check(|_| ()));
    let is_found = !report.is_ok_and(|report| report.is_sound());
    let alice = match builder(url, prefix, stock.folder.path(), "alice").start().await {
        Ok(alice) => alice,
        Err(StartError::Storage(_)) => return Ok(Fate::Refused),
        Err(error) => return Err(format!("no start: {error:?}")),
    };
    let told = Told::by(&alice);
    let bob = begin(builder(url, prefix, stock.folder.path(), READER)).await;
    let arrived = Arrived::at(&bob).await;
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && is_at_work(&alice, &told).await {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let dead: BTreeSet<u64> = match alice.dead_letters(usize::MAX).await {
        Ok(letters) => letters.iter().map(|letter| letter.seq).collect(),
        Err(_) => BTreeSet::new(),
    };
    let waiting = waiting(&alice).await;
    let has_failed = has_failed(&alice, &told);
    alice.shutdown().await;
    bob.shutdown().await;
    let wrong = arrived.wrong(&stock.sent);
    if !wrong.is_empty() {
        return Err(wrong.join("\n"));
    }
    let ids = arrived.ids();
    let missing: Vec<u64> = (1..)
        .zip(&stock.sent)
        .filter(|(_, (id, _))| !ids.contains(id))
        .map(|(seq, _)| seq)
        .collect();
    Ok(match () {
        () if missing.is_empty() => Fate::Harmless,
        () if missing.iter().all(|seq| dead.contains(seq)) => Fate::PutAside,
        () if has_failed => Fate::Told,
        () if waiting >= missing.len() as u64 => Fate::Waits,
        () if is_found => Fate::Found,
        () => return Err(format!("{missing:?} are missing, {dead:?} are dead, {waiting} wait")),
    })
}

async fn is_at_work(alice: &Node, told: &Told) -> bool {
    if has_failed(alice, told) {
        return false;
    }
    match alice.statistics().await {
        Ok(statistics) => {
            let its = |it: &&waypost::management::Account| {
                it.receiver.as_ref().is_some_and(|id| id.as_str() == READER)
            };
            statistics.accounts.iter().find(its).is_none_or(|account| account.pending > 0)
        }
        Err(NodeError::Storage(_)) => false,
        Err(error) => panic!("{error:?}"),
    }
}

fn has_failed(alice: &Node, told: &Told) -> bool {
    told.file_failed() || matches!(alice.status().storage, Health::Failed(_))
}

async fn waiting(alice: &Node) -> u64 {
    let statistics = alice.statistics().await;
    statistics.map_or(0, |it| it.accounts.iter().map(|account| account.pending).sum())
}
