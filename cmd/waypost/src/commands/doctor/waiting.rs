//! What waits in the node's file, and why it does not move.

use waypost::Config;
use waypost::inspect::Inspector;
use waypost::reason::Told;

use super::Check;
use crate::commands::{queue, reasons};
use crate::output::count;

/// Reasons for which a node is not as it should be, as its readiness has them; the others are about those for whom messages wait.
const FAILURES: [&str; 14] = [
    "ended",
    "broken",
    "name_taken",
    "silent",
    "disk_full",
    "storage_limit",
    "kicked",
    "draining",
    "unauthorized",
    "no_trust",
    "no_files",
    "denied",
    "server_limit",
    "queue_full",
];

/// A file that is in use may be so for the moment of a vacuum.
fn is_failure(name: &str) -> bool {
    (name.starts_with("file_") && name != "file_in_use") || FAILURES.contains(&name)
}

/// None where there is no file that could be read, and no node that has it: another check tells that.
pub(super) async fn checks(config: &Config) -> Vec<Check> {
    let rows = queue::read(config, Inspector::queue).await;
    let waiting: Option<u64> = rows.ok().map(|rows| rows.iter().map(|row| row.pending).sum());
    let waits = match waiting {
        Some(waiting) => format!("{} waiting", count(waiting, "message")),
        None => "what waits can't be read".to_owned(),
    };
    match reasons::of_file(config, &[]).await {
        Ok((reasons, _)) if reasons.is_empty() => {
            vec![Check::ok("moving", format!("{waits}, and nothing is in the way"))]
        }
        Ok((reasons, _))
            if waiting == Some(0) && reasons.iter().all(|told| told.reason == "not_running") =>
        {
            vec![Check::ok("moving", format!("{waits}; no node runs here"))]
        }
        Ok((reasons, left)) => {
            let check = |told: &Told| match is_failure(&told.reason) {
                true => Check::fail("moving", &*told.sentence, &*told.remedy),
                false => Check::warn("moving", &*told.sentence, &*told.remedy),
            };
            let more = (left > 0).then(|| {
                Check::warn(
                    "moving",
                    format!("and {left} more reasons"),
                    "`waypost why ID` tells those of a message",
                )
            });
            reasons.iter().map(check).chain(more).collect()
        }
        Err(_) if waiting.is_none() => Vec::new(),
        Err(error) => vec![Check::warn("moving", format!("{error:#}"), "see there")],
    }
}
