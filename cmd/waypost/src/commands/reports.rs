//! Asking the running nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use waypost::management::{About, ObserveError, Observer, Report};
use waypost::reason::Told;
use waypost::{Config, NodeId};

use crate::output::span;
use crate::run::Outcome;
use waypost_process::streams;

/// How long nodes have to answer. Less is needed where all that are known to each other have answered.
pub(super) const WITHIN: Duration = Duration::from_secs(2);

/// What the running nodes say about themselves, by name.
pub(super) async fn collect(config: &Config) -> anyhow::Result<Vec<Report>> {
    ask_all(config, &[]).await
}

/// What one node says about itself; none if it does not answer.
pub(super) async fn ask(config: &Config, node: &NodeId) -> anyhow::Result<Option<Report>> {
    let reports = ask_all(config, std::slice::from_ref(node)).await?;
    Ok(reports.into_iter().find(|report| &report.node == node))
}

/// Why messages don't move, as one node tells it, and how many more reasons it knows; none if it does not answer. `about`: one question
/// each, all of its reasons where there is none. Only that node is asked, which a node's own login may do.
pub(super) async fn ask_why(
    config: &Config,
    node: &NodeId,
    about: &[About],
) -> Result<Option<(Vec<Told>, u64)>, ObserveError> {
    let mut observer = Observer::connect(config).await?;
    let mut abouts: Vec<_> = about.iter().cloned().map(Some).collect();
    if abouts.is_empty() {
        abouts.push(None);
    }
    let mut answer = Ok(None);
    for about in abouts {
        match observer.reasons_of(node, about, WITHIN).await {
            Ok(Some(report)) => {
                let (mut told, mut left) = answer.ok().flatten().unwrap_or((Vec::new(), 0));
                left += report.reasons_left;
                // What hinders the node itself comes with each answer.
                let new: Vec<_> =
                    report.reasons.into_iter().filter(|one| !told.contains(one)).collect();
                told.extend(new);
                answer = Ok(Some((told, left)));
            }
            failed => {
                answer = failed.map(|_| None);
                break;
            }
        }
    }
    observer.close().await;
    answer
}

async fn ask_all(config: &Config, expected: &[NodeId]) -> anyhow::Result<Vec<Report>> {
    observe(config, expected).await.map_err(refused)
}

async fn observe(config: &Config, expected: &[NodeId]) -> Result<Vec<Report>, ObserveError> {
    let mut observer = Observer::connect(config).await?;
    let reports = observer.reports(WITHIN, expected).await;
    observer.close().await;
    reports
}

pub(super) fn refused(error: ObserveError) -> anyhow::Error {
    let what = "the running nodes can't be asked";
    match error {
        ObserveError::Denied { .. } => anyhow::Error::new(error).context(format!(
            "{what}: take an operator's login, and with --id the name that its permissions are bound to (docs/security.md)"
        )),
        error => anyhow::Error::new(error).context(what),
    }
}

/// Names those that others hear and that did not answer; then, that not all did.
pub(super) fn with_all(reports: &[Report], outcome: Outcome) -> Outcome {
    let heard = reports.iter().flat_map(|report| &report.peers).filter(|peer| peer.online);
    let silent: BTreeSet<&NodeId> = heard
        .map(|peer| &peer.node)
        .filter(|node| !reports.iter().any(|report| report.node == **node))
        .collect();
    for node in &silent {
        streams::say(format_args!("waypost: {node} is online by others' word, and did not answer"));
    }
    if silent.is_empty() { outcome } else { Outcome::Unanswered }
}

/// Says that nobody answered.
pub(super) fn unanswered(whom: &str) -> Outcome {
    streams::say(format_args!(
        "waypost: {whom} answered within {}: is one running with this --nats and --prefix?",
        span(WITHIN)
    ));
    Outcome::Unanswered
}
