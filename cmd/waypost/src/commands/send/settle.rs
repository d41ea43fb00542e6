//! After the last commit: deliver, and tell what still waits and for whom.

use std::time::Duration;

use tokio::time::Instant;
use waypost::Node;
use waypost::error::NodeError;
use waypost::management::Waiting;

use crate::args::{Send, Wait};
use crate::output::count;
use waypost_process::{Number, Signals, streams};

/// How long after connecting a reader that is there has made itself known: a few round trips, with the pauses that keep many
/// nodes from speaking at once.
const ACQUAINTANCE: Duration = Duration::from_millis(400);
/// Most reasons that are told at the end; `waypost doctor` has all.
const MOST_REASONS: usize = 5;
/// Between two looks, for the progress on a terminal and to notice a connection.
const LOOK: Duration = Duration::from_millis(500);

/// Stays as long as the options say, or until all is settled. Tells which signal ended it, and what waits then.
pub(super) async fn stay(
    node: &Node,
    args: &Send,
    signals: &mut Signals,
) -> anyhow::Result<(Option<Number>, Vec<Waiting>)> {
    let limit = match args.wait {
        Some(Wait::Forever) => None,
        Some(Wait::AtMost(limit)) => Some(limit),
        None => Some(args.flush),
    };
    tokio::select! {
        left = deliver(node, limit, args.to.is_none()) => Ok((None, left?)),
        number = signals.caught() => Ok((Some(number), waiting(node).await?)),
    }
}

/// What waits at this moment.
pub(super) async fn waiting(node: &Node) -> anyhow::Result<Vec<Waiting>> {
    Ok(node.flush(Duration::ZERO).await?.waiting)
}

/// Says it on standard error, if anything waits.
pub(super) fn report(waiting: &[Waiting]) {
    if waiting.is_empty() {
        return;
    }
    let total = waiting.iter().map(|one| one.pending).sum();
    let whom: Vec<String> = waiting.iter().map(one).collect();
    let wait = if total == 1 { "waits" } else { "wait" };
    streams::say(format_args!(
        "{} still {wait}: {}; the next run on this file carries on",
        count(total, "message"),
        whom.join(", ")
    ));
}

/// And why, as far as that is about those for whom it waits: what hinders the node itself was told when it began.
pub(super) async fn because(node: &Node, waiting: &[Waiting]) {
    if waiting.is_empty() {
        return;
    }
    let Ok(reasons) = node.reasons().await else { return };
    for reason in reasons.iter().filter(|it| it.is_about_a_receiver()).take(MOST_REASONS) {
        streams::say(format_args!("{reason}"));
    }
}

fn one(waiting: &Waiting) -> String {
    match &waiting.receiver {
        Some(receiver) if waiting.online => format!("{} for {receiver}", waiting.pending),
        Some(receiver) => format!("{} for {receiver} (offline)", waiting.pending),
        None => format!("{} for no known reader", waiting.pending),
    }
}

/// Waits until all is settled, and tells what is not when the time is over. `strangers`: readers that were not heard yet count too, so
/// that the first one to answer is not taken for the only one.
async fn deliver(
    node: &Node,
    limit: Option<Duration>,
    strangers: bool,
) -> anyhow::Result<Vec<Waiting>> {
    let start = Instant::now();
    let end = limit.and_then(|limit| start.checked_add(limit));
    let mut progress = Progress::new();
    let mut connected_at = None;
    loop {
        let now = Instant::now();
        let remaining = end.map_or(LOOK, |end| end.saturating_duration_since(now));
        if node.status().link.is_connected() {
            connected_at.get_or_insert(now);
        }
        let flushed = node.flush(remaining.min(LOOK)).await;
        let over = end.is_some_and(|end| Instant::now() >= end);
        let left = match flushed {
            Ok(flushed) => flushed.waiting,
            // A disk that is full, which the node's events tell, stops the accounts, not the deliveries.
            Err(NodeError::Storage(error)) if error.is_transient() && !over => {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if over {
            return Ok(left);
        }
        if left.is_empty() {
            let known_at = connected_at.map_or(start, |at| at + ACQUAINTANCE);
            if !strangers || Instant::now() >= known_at {
                return Ok(left);
            }
            tokio::time::sleep_until(end.map_or(known_at, |end| known_at.min(end))).await;
        }
        progress.show(&left, start.elapsed());
    }
}

/// One line on a terminal that is written over, and gone at the end.
struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { terminal: streams::errors_are_terminal(), shown: false }
    }

    fn show(&mut self, waiting: &[Waiting], since: Duration) {
        if !self.terminal || waiting.is_empty() {
            return;
        }
        let whom: Vec<String> = waiting.iter().map(one).collect();
        let whom = whom.join(", ");
        streams::show(format!("\r\x1b[Kdelivering: {whom} ({} s)", since.as_secs()));
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            streams::show("\r\x1b[K");
        }
    }
}
