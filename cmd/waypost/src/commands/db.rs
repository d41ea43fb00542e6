//! `waypost db`: checking, copying, restoring, shrinking and dating a node's file.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use waypost::inspect::{self, Progress, Replace, Stage};
use waypost::{Config, Node};

use super::queue::read;
use crate::output::{Output, bytes, count, printable};
use crate::run::{Outcome, Usage};
use crate::settings;
use waypost_process::streams;

pub(super) async fn check(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let shows_progress = streams::errors_are_terminal();
    let report = read(config, move |inspector| {
        let report = inspector.check(|progress| {
            if shows_progress {
                show(progress);
            }
        });
        if shows_progress {
            streams::show("\r\x1b[K");
        }
        report
    });
    let report = report.await?;
    if output.json() {
        output.print_json(&json!({ "sound": report.is_sound(), "report": report })).await?;
    } else {
        if let Some(log) = &report.log {
            output.print(printable(&format!("log: {log}"))).await?;
        }
        for finding in &report.findings {
            let about = finding.id.map(|id| format!("message {id}: ")).unwrap_or_default();
            let line = format!("{}: {about}{}", name(finding.stage), finding.detail);
            output.print(printable(&line)).await?;
        }
        let checked = count(report.messages, "message");
        output
            .print(match (report.is_sound(), report.further) {
                (true, _) => format!("sound: {checked} checked"),
                (false, 0) => format!("not sound: {checked} checked; restore a backup, and check the disk"),
                (false, more) => format!("not sound, {more} more findings: {checked} checked; restore a backup, and check the disk"),
            })
            .await?;
    }
    Ok(if report.is_sound() { Outcome::Done } else { Outcome::Failed })
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Log => "log",
        Stage::Pages => "pages",
        Stage::References => "references",
        Stage::Messages => "messages",
        Stage::Accounts => "accounts",
        _ => "file",
    }
}

fn show(progress: Progress) {
    let percent = (100 * progress.done).checked_div(progress.total);
    let percent = percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
    streams::show(format!("\r\x1b[Kchecking {}{percent}", name(progress.stage)));
}

pub(super) async fn backup(config: &Config, to: &Path, output: &Output) -> anyhow::Result<Outcome> {
    let target = to.to_owned();
    let copied = read(config, move |inspector| inspector.backup(target)).await?;
    if output.json() {
        output.print_json(&copied).await?;
    } else {
        let path = copied.path.display();
        output.print(format!("copied to {path}, {}, and verified", bytes(copied.bytes))).await?;
    }
    Ok(Outcome::Done)
}

pub(super) async fn restore(
    config: &Config,
    from: PathBuf,
    yes: bool,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let to = settings::storage(config).map_err(Usage)?;
    let replace = if yes { Replace::WhatIsNewer } else { Replace::Nothing };
    let restored = tokio::task::spawn_blocking(move || inspect::restore(from, to, replace)).await;
    let restored = restored.context("restoring the file")??;
    if output.json() {
        output.print_json(&restored).await?;
        return Ok(Outcome::Done);
    }
    let (path, size) = (restored.path.display(), bytes(restored.bytes));
    output
        .print(format!("restored {path} of node {}, {size}, and verified", restored.node))
        .await?;
    if let Some(kept) = &restored.kept {
        let kept = kept.display();
        let line = format!("the old file is kept as {kept}; only it holds {}", restored.newer);
        output.print(line).await?;
    }
    Ok(Outcome::Done)
}

pub(super) async fn vacuum(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let path = settings::storage(config).map_err(Usage)?;
    let vacuumed = tokio::task::spawn_blocking(move || inspect::vacuum(path)).await;
    let vacuumed = vacuumed.context("shrinking the file")??;
    if output.json() {
        output.print_json(&vacuumed).await?;
    } else {
        let (before, after) = (bytes(vacuumed.before_bytes), bytes(vacuumed.after_bytes));
        output.print(format!("from {before} to {after}")).await?;
    }
    Ok(Outcome::Done)
}

pub(super) async fn believe_clock(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let path = settings::storage(config).map_err(Usage)?;
    let believed = tokio::task::spawn_blocking(move || inspect::believe_clock(path)).await;
    let believed = believed.context("believing the clock")??;
    if output.json() {
        output.print_json(&believed).await?;
        return Ok(Outcome::Done);
    }
    output
        .print(match believed.ahead_ms / 1_000 {
            0 => "the file's time is the wall clock's already".to_owned(),
            secs => format!(
                "the clock is believed: {} are counted, and what waits is older by that",
                humantime::format_duration(Duration::from_secs(secs))
            ),
        })
        .await?;
    Ok(Outcome::Done)
}

/// Starts the node for a moment, network or not, and ends its drain.
pub(super) async fn readmit(mut config: Config, output: &Output) -> anyhow::Result<Outcome> {
    let path = settings::storage(&config).map_err(Usage)?;
    if !path.exists() {
        anyhow::bail!(
            "there is no file {}: name it with --db, or its node with --id",
            path.display()
        );
    }
    config.shutdown_timeout = Duration::ZERO;
    let node = Node::builder().config(config).start().await.context("the file does not open")?;
    let was_draining = node.status().draining;
    let done = node.readmit().await;
    node.shutdown().await;
    done?;
    if output.json() {
        output.print_json(&json!({ "was_drained_by": was_draining })).await?;
    } else {
        output
            .print(match was_draining {
                Some(by) => format!("no longer drained, as {by} had ordered"),
                None => "it was not drained".to_owned(),
            })
            .await?;
    }
    Ok(Outcome::Done)
}
