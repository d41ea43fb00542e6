//! `waypost master` and `waypost state`: who leads, and what it hands on.

use serde::Serialize;
use waypost::election::{ElectionInfo, Role, Term, Version};
use waypost::management::{Observer, Report};
use waypost::{Config, NodeId};

use super::reports::{self, WITHIN};
use crate::output::Output;
use crate::run::Outcome;
use waypost_process::streams;

/// What `master --json` prints.
#[derive(Serialize)]
struct Whole<'a> {
    master: Option<&'a NodeId>,
    term: Option<Term>,
    nodes: Vec<Row<'a>>,
}

/// What one node says.
#[derive(Serialize)]
struct Row<'a> {
    node: &'a NodeId,
    #[serde(flatten)]
    election: &'a ElectionInfo,
}

/// What `state --json` prints.
#[derive(Serialize)]
struct State<'a> {
    node: &'a NodeId,
    version: Version,
    state: &'a serde_json::Value,
}

/// Who says that it is master; of two, whoever says so in the later term.
pub(super) fn master(reports: &[Report]) -> Option<(&NodeId, Term)> {
    let masters = reports.iter().filter_map(|report| {
        let election = report.election.as_ref()?;
        (election.role == Role::Master).then_some((&report.node, election.master_term?))
    });
    masters.max_by_key(|(_, term)| *term)
}

pub(super) async fn run(config: &Config, output: &Output) -> anyhow::Result<Outcome> {
    let reports = reports::collect(config).await?;
    if reports.is_empty() {
        return Ok(reports::unanswered("no node"));
    }
    let rows: Vec<Row<'_>> = reports
        .iter()
        .filter_map(|report| Some(Row { node: &report.node, election: report.election.as_ref()? }))
        .collect();
    let master = master(&reports);
    if output.json() {
        let (node, term) = master.unzip();
        output.print_json(&Whole { master: node, term, nodes: rows }).await?;
    } else {
        let header = ["node", "role", "term", "master", "state", "bytes"];
        output.print_rows(header, rows.iter().map(cells)).await?;
    }
    if master.is_none() {
        let why = match reports.iter().any(|report| report.election.is_some()) {
            true => {
                "no node says that it is master: an election takes some seconds, and a majority of the voters"
            }
            false => "no node takes part in an election: name voters in their settings",
        };
        streams::say(format_args!("waypost: {why}"));
        return Ok(reports::with_all(&reports, Outcome::Failed));
    }
    Ok(reports::with_all(&reports, Outcome::Done))
}

fn cells(row: &Row<'_>) -> [String; 6] {
    let Row { node, election } = row;
    let role = match election.role {
        Role::Master => "master",
        Role::Voter => "voter",
        _ => "observer",
    };
    [
        node.to_string(),
        role.to_owned(),
        election.term.to_string(),
        election.master.as_ref().map_or("-".to_owned(), ToString::to_string),
        election.state.to_string(),
        election.state_bytes.to_string(),
    ]
}

pub(super) async fn state(
    config: &Config,
    node: Option<NodeId>,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let node = match node {
        Some(node) => node,
        None => {
            let reports = reports::collect(config).await?;
            let Some((node, _)) = master(&reports) else {
                streams::say(format_args!(
                    "waypost: no node says that it is master: name one, to see what it has"
                ));
                return Ok(if reports.is_empty() { Outcome::Unanswered } else { Outcome::Failed });
            };
            node.clone()
        }
    };
    let mut observer = Observer::connect(config).await.map_err(reports::refused)?;
    let report = observer.state_of(&node, WITHIN).await;
    observer.close().await;
    let Some(report) = report.map_err(reports::refused)? else {
        return Ok(reports::unanswered(&format!("node {node} has not")));
    };
    let Some(election) = &report.election else {
        streams::say(format_args!("waypost: {node} takes part in no election"));
        return Ok(Outcome::Failed);
    };
    let Some(state) = &report.state else {
        let bytes = election.state_bytes;
        streams::say(format_args!(
            "waypost: the state is {bytes} bytes, more than fits into an answer"
        ));
        return Ok(Outcome::Failed);
    };
    if output.json() {
        let (version, state) = (state.version, &state.value);
        output.print_json(&State { node: &node, version, state }).await?;
    } else {
        output.print(serde_json::to_string_pretty(&state.value)?).await?;
    }
    Ok(Outcome::Done)
}
