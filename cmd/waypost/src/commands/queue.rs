//! `waypost queue`: what a node's file holds for each receiver.

use anyhow::Context;
use waypost::Config;
use waypost::inspect::{InspectError, Inspector, QueueRow};

use crate::output::{Output, age};
use crate::run::{Outcome, Usage};
use crate::settings;

pub(super) async fn run(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let (rows, now_ms) = read(config, |file| Ok((file.queue()?, file.now_ms()?))).await?;
    if output.json() {
        output.print_json(&rows).await?;
    } else {
        let header = [
            "receiver",
            "pending",
            "oldest",
            "acknowledged",
            "expired",
            "dead",
            "purged",
            "last error",
        ];
        output.print_rows(header, rows.iter().map(|row| cells(row, now_ms))).await?;
    }
    Ok(Outcome::Done)
}

fn cells(row: &QueueRow, now_ms: u64) -> [String; 8] {
    let failure = row.last_failure.as_ref();
    [
        row.receiver.as_ref().map_or("(no reader yet)".to_owned(), ToString::to_string),
        row.pending.to_string(),
        row.oldest.as_ref().map(|oldest| age(now_ms, oldest.created_ms)).unwrap_or_default(),
        row.acknowledged.to_string(),
        row.expired.to_string(),
        row.dead.to_string(),
        row.purged.to_string(),
        failure.map(|f| format!("{} ({} ago)", f.answer, age(now_ms, f.at_ms))).unwrap_or_default(),
    ]
}

/// Looks into the node's file, on a thread that may block.
pub(super) async fn read<R: Send + 'static>(
    config: &Config,
    look: impl FnOnce(&Inspector) -> Result<R, InspectError> + Send + 'static,
) -> anyhow::Result<R> {
    let path = settings::storage(config).map_err(Usage)?;
    let reading = tokio::task::spawn_blocking(move || look(&Inspector::open(path)?));
    Ok(reading.await.context("reading the file")??)
}
