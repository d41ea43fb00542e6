//! `waypost doctor`: what a node here needs, and what to do where it is missing.

use std::path::Path;
use std::time::SystemTime;

use serde::Serialize;
use waypost::inspect::Inspector;
use waypost::{Config, Election, NodeId};

use crate::output::{Output, printable};
use crate::run::Outcome;
use crate::settings;

mod disk;
mod machine;
mod nats;
mod privacy;
mod waiting;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    verdict: Verdict,
    /// What was seen.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { check, verdict: Verdict::Warn, found: found.into(), remedy }
    }

    fn fail(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(check, found, remedy) }
    }
}

pub(super) async fn run(
    config: &Config,
    settings_file: Option<&Path>,
    output: &Output,
) -> anyhow::Result<Outcome> {
    let path = settings::storage(config)?;
    let mut checks = nats::checks(config, &name(config, &path)).await;
    checks.extend(election(config, &name(config, &path)));
    checks.push(machine::clock(SystemTime::now()));
    checks.push(machine::sqlite());
    checks.push(privacy::check(config, &path, settings_file));
    // Whatever else is wrong: without a server's word nothing can be asked of a node.
    let is_let_in = checks.iter().any(|it| it.check == nats::LOGIN && it.verdict == Verdict::Ok);
    checks.extend(tokio::task::spawn_blocking(move || disk::checks(&path)).await?);
    if is_let_in {
        checks.extend(waiting::checks(config).await);
    }
    if output.json() {
        output.print_json(&checks).await?;
    } else {
        for check in &checks {
            output.print(line(check)).await?;
        }
    }
    let failed = checks.iter().any(|check| check.verdict == Verdict::Fail);
    Ok(if failed { Outcome::Failed } else { Outcome::Done })
}

/// What its settings say about an election, where there is one.
fn election(config: &Config, node: &NodeId) -> Vec<Check> {
    if config.election == Election::Off {
        return Vec::new();
    }
    let warnings = config.election_warnings(node);
    if warnings.is_empty() {
        return vec![Check::ok("election", "the voters can do without one of them")];
    }
    let about = "docs/election.md says what is guaranteed";
    warnings.into_iter().map(|warning| Check::warn("election", warning, about)).collect()
}

/// The node that is to run here: the one that is named, the one whose file it is, or just any.
pub(super) fn name(config: &Config, path: &Path) -> NodeId {
    let kept = || Inspector::open(path).and_then(|inspector| inspector.summary()).ok()?.node;
    let any = || NodeId::new("doctor").expect("a valid name");
    config.id.clone().or_else(kept).unwrap_or_else(any)
}

fn line(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Ok => "ok  ",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    };
    let remedy = check.remedy.as_ref().map(|remedy| format!(": {remedy}")).unwrap_or_default();
    printable(&format!("{verdict}  {:<12} {}{remedy}", check.check, check.found))
}
