//! Whether the node can do its work now.

use std::time::Duration;

use super::Node;
use crate::condition::{Health, Link};
use crate::management::{Check, CheckState, Readiness};
use crate::reason::Reason;

/// How long the node and its file may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a node needs, in the order in which it is told, and what is said where nothing is in the way.
const NEEDS: [(&str, &str); 6] = [
    ("node", "runs"),
    ("file", "writable"),
    ("queues", "have room"),
    ("intake", "takes messages"),
    ("nats", "connected"),
    ("receivers", "nothing is in the way"),
];

impl Node {
    /// Whether the node can do its work now, with reasons: it runs; its file takes a transaction, and the disk a few KiB beside it; it takes messages
    /// from its program, and no queue has reached a limit at which it refuses them; it is connected or lets messages wait. What is in the way
    /// of single receivers is told, and does not count. Reasons can name the file's path, the server and other nodes.
    ///
    /// Writes nothing that stays. Takes at most two seconds. Must be called in a tokio runtime with time enabled. Cancelling is safe.
    pub async fn readiness(&self) -> Readiness {
        let store = &self.shared.store;
        let asked = async { tokio::join!(self.reasons(), store.pending(), store.can_write()) };
        let mut checks = match tokio::time::timeout(PATIENCE, asked).await {
            Ok((Ok(reasons), file, beside)) => {
                let mut checks: Vec<Check> = reasons.iter().map(check).collect();
                let file = match (store.health(), file, beside) {
                    (Health::Healthy, Err(error), _) => Some(error.to_string()),
                    (Health::Healthy, Ok(_), Err(error)) => {
                        Some(format!("nothing can be written beside the file: {error}"))
                    }
                    _ => None,
                };
                checks.extend(file.map(|reason| failed("file", reason)));
                checks
            }
            Ok((Err(_), ..)) => vec![check(&Reason::Ended {})],
            Err(_) => match store.health() {
                Health::Failed(reason) => vec![check(&reason)],
                _ => vec![failed("file", format!("no answer within {} s", PATIENCE.as_secs()))],
            },
        };
        self.add_what_is_fine(&mut checks);
        let place = |check: &Check| NEEDS.iter().position(|(need, _)| *need == check.check);
        checks.sort_by_key(|check| place(check).unwrap_or(NEEDS.len()));
        Readiness { node: self.shared.id.clone(), checks }
    }

    /// What nothing is said against. A node that has ended, or a file that does not answer, tells nothing else.
    fn add_what_is_fine(&self, checks: &mut Vec<Check>) {
        let is_silent = |check: &Check| matches!(check.check, "node" | "file");
        let is_known = |need: &str| !checks.iter().any(is_silent) || need != "queues";
        let has_ended = checks.iter().any(|check| check.check == "node");
        let is_fine = |need: &str| !checks.iter().any(|check| check.check == need);
        let fine =
            NEEDS.into_iter().filter(|(need, _)| !has_ended && is_known(need) && is_fine(need));
        let fine = fine.map(|(need, text)| match (need, self.status().link) {
            ("nats", Link::Connected { server }) => passed(need, format!("connected to {server}")),
            _ => passed(need, text.to_owned()),
        });
        let fine: Vec<Check> = fine.collect();
        checks.extend(fine);
    }
}

fn passed(check: &'static str, reason: String) -> Check {
    Check { check, state: CheckState::Passed, reason, name: None }
}

fn failed(check: &'static str, reason: String) -> Check {
    Check { check, state: CheckState::Failed, reason, name: None }
}

/// What a reason is about, and how bad it is.
fn check(reason: &Reason) -> Check {
    let (check, state) = match reason {
        Reason::Ended { .. } | Reason::NotRunning { .. } | Reason::Silent { .. } => {
            ("node", CheckState::Failed)
        }
        Reason::Broken { .. }
        | Reason::FileInUse { .. }
        | Reason::FileLocked { .. }
        | Reason::FileFailed { .. }
        | Reason::FileDamaged { .. }
        | Reason::FileReplaced { .. }
        | Reason::DiskFull { .. } => ("file", CheckState::Failed),
        Reason::StrayLog { .. } | Reason::ForeignLog { .. } => ("file", CheckState::Failed),
        Reason::LogHeld { .. } => ("file", CheckState::Passed),
        Reason::QueueFull { .. } | Reason::StorageLimit { .. } => ("queues", CheckState::Failed),
        Reason::LimitNear { .. } | Reason::StorageNear { .. } => ("queues", CheckState::Passed),
        Reason::Kicked { .. } | Reason::Draining { .. } => ("intake", CheckState::Failed),
        Reason::KickedFrom { .. } | Reason::PausedHere { .. } => ("intake", CheckState::Passed),
        Reason::NoServer { .. } => ("nats", CheckState::Waiting),
        Reason::NameTaken { .. }
        | Reason::Unauthorized { .. }
        | Reason::NoTrust { .. }
        | Reason::NoFiles { .. }
        | Reason::Denied { .. }
        | Reason::ServerLimit { .. } => ("nats", CheckState::Failed),
        Reason::ServerSaid { .. } => ("nats", CheckState::Passed),
        // An election that waits for voters is no reason to take a node out of service.
        Reason::NoQuorum { .. } => ("election", CheckState::Passed),
        Reason::ClockWrong { .. } | Reason::ClockApart { .. } => ("clock", CheckState::Passed),
        Reason::NobodyYet { .. }
        | Reason::NeverHeard { .. }
        | Reason::Offline { .. }
        | Reason::NotJoined { .. }
        | Reason::Paused { .. }
        | Reason::Refusing { .. }
        | Reason::NoAnswer { .. }
        | Reason::Working { .. } => ("receivers", CheckState::Passed),
    };
    Check { check, state, reason: reason.to_string(), name: Some(reason.name()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Outage;

    #[test]
    fn an_outage_waits_and_what_does_not_heal_by_itself_fails() {
        let text = || "x".to_owned();
        let state = |link: Link| link.reason().map(|reason| check(&reason).state);
        assert_eq!(state(Link::Connected { server: text() }), None);
        assert_eq!(state(Link::Connecting), Some(CheckState::Waiting));
        let disconnected = |outage| Link::Disconnected { reason: text(), outage };
        assert_eq!(state(disconnected(Outage::NoServer)), Some(CheckState::Waiting));
        assert_eq!(state(disconnected(Outage::NoTrust)), Some(CheckState::Failed));
        let limit = "maximum connections exceeded".to_owned();
        let refused = Link::Disconnected { reason: limit, outage: Outage::Refused };
        assert_eq!(state(refused), Some(CheckState::Failed));
        assert_eq!(state(Link::Unauthorized { reason: text() }), Some(CheckState::Failed));
        assert_eq!(state(Link::Conflict { host: text() }), Some(CheckState::Failed));
    }
}
