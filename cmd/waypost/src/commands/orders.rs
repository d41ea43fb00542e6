//! `waypost kick`, `purge` and the like: orders to running nodes.

use std::io::{BufRead, BufReader};

use anyhow::{Context, anyhow};
use serde::Serialize;
use waypost::management::{Answered, Done, Observer, OrderError, Task};
use waypost::{Config, NodeId};

use super::reports::{self, WITHIN, refused, unanswered};
use crate::args::{Nodes, Ordering, Purge};
use crate::output::{Output, printable};
use crate::run::{Outcome, Usage};
use waypost_process::streams;

/// Who is to obey.
pub(super) enum Targets {
    /// Every node that answers.
    All,
    These(Vec<NodeId>),
}

impl From<Nodes> for Targets {
    fn from(nodes: Nodes) -> Self {
        if nodes.all { Self::All } else { Self::These(nodes.nodes) }
    }
}

impl From<Purge> for Task {
    fn from(what: Purge) -> Self {
        match what {
            Purge::Queue => Self::PurgeQueue,
            Purge::Sent => Self::PurgeSent,
            Purge::All => Self::PurgeAll,
        }
    }
}

/// What became of one node's order.
#[derive(Serialize)]
struct Row<'a> {
    node: &'a NodeId,
    done: Option<&'a Done>,
    error: Option<String>,
}

pub(super) async fn run(
    config: &Config,
    task: Task,
    targets: Targets,
    order: Ordering,
    output: &Output,
) -> anyhow::Result<Outcome> {
    // Before anything is asked of the network: a script learns at once what it lacks.
    if !order.yes && !streams::input_is_terminal() {
        let error = anyhow!("there is no terminal to ask for confirmation: give --yes");
        return Err(Usage(error).into());
    }
    let mut nodes = match targets {
        Targets::These(nodes) => nodes,
        Targets::All => {
            let reports = reports::collect(config).await?;
            // Those that others hear, and that did not answer, are named in the end.
            let peers = reports.iter().flat_map(|report| &report.peers).filter(|peer| peer.online);
            let heard = peers.map(|peer| peer.node.clone());
            heard.chain(reports.iter().map(|report| report.node.clone())).collect()
        }
    };
    nodes.sort();
    nodes.dedup();
    if nodes.is_empty() {
        return Ok(unanswered("no node"));
    }
    if !order.yes && !is_confirmed(&task, &nodes).await? {
        streams::say("waypost: nothing was done");
        return Ok(Outcome::Failed);
    }
    let mut observer = Observer::connect(config).await.map_err(refused)?;
    let answers = observer.order(&nodes, &task, WITHIN).await;
    observer.close().await;
    tell(&answers.map_err(refused)?, output).await
}

async fn is_confirmed(task: &Task, nodes: &[NodeId]) -> anyhow::Result<bool> {
    let names: Vec<&str> = nodes.iter().map(NodeId::as_str).collect();
    let question = printable(&format!("{task} on {}? [y/N] ", names.join(", ")));
    let answer = tokio::task::spawn_blocking(move || {
        streams::show(question);
        let mut line = String::new();
        BufReader::new(streams::Input).read_line(&mut line).map(|_| line)
    });
    let answer = answer.await?.context("the answer can't be read")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

async fn tell(answers: &[Answered], output: &Output) -> anyhow::Result<Outcome> {
    let rows = answers.iter().map(|answer| Row {
        node: &answer.node,
        done: answer.result.as_ref().ok(),
        error: answer.result.as_ref().err().map(ToString::to_string),
    });
    if output.json() {
        output.print_json(&rows.collect::<Vec<_>>()).await?;
    } else {
        let header = ["node", "left", "purged", "deleted", "records", "waiting"];
        let done = answers.iter().filter_map(|a| Some(cells(&a.node, a.result.as_ref().ok()?)));
        output.print_rows(header, done).await?;
    }
    let mut outcome = Outcome::Done;
    for error in answers.iter().filter_map(|answer| answer.result.as_ref().err()) {
        streams::say(format_args!("waypost: {}", printable(&error.to_string())));
        let silent = matches!(error, OrderError::Offline { .. } | OrderError::Unanswered { .. });
        outcome = match outcome {
            Outcome::Unanswered => Outcome::Unanswered,
            _ if silent => Outcome::Unanswered,
            _ => Outcome::Failed,
        };
    }
    Ok(outcome)
}

fn cells(node: &NodeId, done: &Done) -> [String; 6] {
    let Done { left, purged, deleted, records, waiting, .. } = done;
    let numbers = [left, purged, deleted, records, waiting].map(ToString::to_string);
    let [left, purged, deleted, records, waiting] = numbers;
    [node.to_string(), left, purged, deleted, records, waiting]
}
