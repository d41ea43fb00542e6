//! `waypost stats`: accounts and counters of running nodes.

use std::time::Duration;

use waypost::management::{Account, Report};
use waypost::{Config, Link};

use super::reports;
use crate::args::Stats;
use crate::output::{Output, age, printable, span};
use crate::run::Outcome;

pub(super) async fn run(config: &Config, args: &Stats, output: &Output) -> anyhow::Result<Outcome> {
    if let Some(node) = args.one.as_ref().or(args.node.as_ref()) {
        let Some(report) = reports::ask(config, node).await? else {
            return Ok(reports::unanswered(&format!("node {node} has not")));
        };
        match output.json() {
            true => output.print_json(&report).await?,
            false => print_all(&report, output).await?,
        }
        return Ok(Outcome::Done);
    }
    let reports = reports::collect(config).await?;
    if reports.is_empty() {
        return Ok(reports::unanswered("no node"));
    }
    if output.json() {
        output.print_json(&reports).await?;
    } else if args.all {
        for report in &reports {
            print_all(report, output).await?;
        }
    } else {
        let header = [
            "node",
            "uptime",
            "link",
            "storage",
            "accepted",
            "pending",
            "sent",
            "delivered",
            "redelivered",
            "processed",
            "dead",
        ];
        output.print_rows(header, reports.iter().map(summary)).await?;
    }
    Ok(reports::with_all(&reports, Outcome::Done))
}

fn summary(report: &Report) -> [String; 11] {
    let counters = &report.counters;
    // Strangers' numbers.
    let add = |sum: u64, account: &Account| sum.saturating_add(account.pending);
    let pending = report.accounts.iter().fold(0, add);
    [
        report.node.to_string(),
        span(Duration::from_millis(report.uptime_ms)),
        link(&report.link),
        report.storage.clone(),
        counters.accepted.to_string(),
        pending.to_string(),
        counters.sent.to_string(),
        counters.delivered.to_string(),
        counters.redelivered.to_string(),
        counters.processed.to_string(),
        counters.dead_lettered.to_string(),
    ]
}

async fn print_all(report: &Report, output: &Output) -> anyhow::Result<()> {
    let title = format!(
        "node {} on {}, version {}, up {}, link {}, storage {}",
        report.node,
        report.host,
        report.version,
        span(Duration::from_millis(report.uptime_ms)),
        link(&report.link),
        report.storage,
    );
    output.print(printable(&title)).await?;
    let header =
        ["receiver", "accepted", "pending", "oldest", "acknowledged", "expired", "dead", "purged"];
    output
        .print_rows(header, report.accounts.iter().map(|row| account(row, report.now_ms)))
        .await?;
    let counters = serde_json::to_value(&report.counters)?;
    let rows = counters.as_object().into_iter().flatten();
    output
        .print_rows(["counter", "since start"], rows.map(|(k, v)| [k.clone(), v.to_string()]))
        .await?;
    if report.truncated {
        output
            .print("(lists are cut at 1,000 rows; `waypost queue` on the node's file shows all)")
            .await?;
    }
    Ok(())
}

/// `now_ms`: when the report was made, by the node's own clock.
fn account(account: &Account, now_ms: Option<u64>) -> [String; 8] {
    let oldest = now_ms.zip(account.oldest_pending_ms);
    [
        account.receiver.as_ref().map_or("(no reader yet)".to_owned(), ToString::to_string),
        account.accepted.to_string(),
        account.pending.to_string(),
        oldest.map(|(now_ms, at_ms)| age(now_ms, at_ms)).unwrap_or_default(),
        account.acknowledged.to_string(),
        account.expired.to_string(),
        account.dead.to_string(),
        account.purged.to_string(),
    ]
}

fn link(link: &Link) -> String {
    match link {
        Link::Connecting => "connecting".to_owned(),
        Link::Connected { .. } => "connected".to_owned(),
        Link::Disconnected { .. } => "disconnected".to_owned(),
        Link::Unauthorized { .. } => "unauthorized".to_owned(),
        Link::Conflict { host } => format!("stands back for {host}"),
        other => format!("{other:?}"),
    }
}
