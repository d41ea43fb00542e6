//! Whether the node can do its work now.

use std::time::Duration;

use super::Node;
use crate::event::Link;
use crate::management::{Check, CheckState, Readiness};
use crate::store::Health;

/// How long the file may take for a transaction.
const PATIENCE: Duration = Duration::from_secs(2);

impl Node {
    /// Whether the node can do its work now, with reasons: it runs; its file takes a transaction, and the disk a few KiB beside it; it takes messages
    /// from its program, and no queue has reached a limit at which it refuses them; it is connected or lets messages wait. Reasons can name
    /// the file's path, the server and other nodes.
    ///
    /// Writes nothing that stays. Takes at most two seconds. Must be called in a tokio runtime with time enabled. Cancelling is safe.
    pub async fn readiness(&self) -> Readiness {
        let mut checks = vec![self.runs()];
        checks.extend(self.file().await);
        checks.extend([self.intake(), nats(&self.status().link)]);
        Readiness { node: self.shared.id.clone(), checks }
    }

    fn runs(&self) -> Check {
        let (state, reason) = match self.shared.line.has_ended() {
            true => (CheckState::Failed, "it has ended; only a restart helps"),
            false => (CheckState::Passed, "runs"),
        };
        Check { check: "node", state, reason: reason.to_owned() }
    }

    /// The file, and the queues in it where it tells of them.
    async fn file(&self) -> Vec<Check> {
        let store = &self.shared.store;
        let asked = async { tokio::join!(store.full_queue(), store.can_write()) };
        let failed = |reason| vec![Check { check: "file", state: CheckState::Failed, reason }];
        let Ok((queues, written)) = tokio::time::timeout(PATIENCE, asked).await else {
            return failed(format!("no answer within {} s", PATIENCE.as_secs()));
        };
        let full = match (queues, written, store.health()) {
            (Err(error), _, _) => return failed(error.to_string()),
            (_, _, Health::Full) => return failed("the disk or the file is full".to_owned()),
            (_, _, Health::Failed(reason)) => return failed(reason),
            (_, Err(error), _) => {
                return failed(format!("nothing can be written beside the file: {error}"));
            }
            (Ok(full), Ok(()), Health::Healthy) => full,
        };
        let (state, reason) = match full {
            Some(receiver) => {
                (CheckState::Failed, format!("the one for {receiver} is full: sends are refused"))
            }
            None => (CheckState::Passed, "have room".to_owned()),
        };
        let writable = "writable".to_owned();
        vec![
            Check { check: "file", state: CheckState::Passed, reason: writable },
            Check { check: "queues", state, reason },
        ]
    }

    fn intake(&self) -> Check {
        let closed = self.shared.gate.look();
        let (state, reason) = match (&closed.kicked, &closed.draining) {
            (Some(by), _) => (CheckState::Failed, format!("kicked by {by}")),
            (None, Some(by)) => (CheckState::Failed, format!("being drained, as {by} ordered")),
            (None, None) => (CheckState::Passed, "takes messages".to_owned()),
        };
        Check { check: "intake", state, reason }
    }
}

fn nats(link: &Link) -> Check {
    let (state, reason) = match link {
        Link::Connected { server } => (CheckState::Passed, format!("connected to {server}")),
        Link::Connecting => (CheckState::Waiting, "not connected yet; messages wait".to_owned()),
        Link::Disconnected { reason } => {
            (CheckState::Waiting, format!("not connected ({reason}); messages wait"))
        }
        Link::Unauthorized { reason } => {
            (CheckState::Failed, format!("the server refuses our credentials ({reason})"))
        }
        Link::Conflict { host } => {
            (CheckState::Failed, format!("another node with this name is running on {host}"))
        }
    };
    Check { check: "nats", state, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_waits_and_what_does_not_heal_by_itself_fails() {
        let reason = || "x".to_owned();
        assert_eq!(nats(&Link::Connected { server: reason() }).state, CheckState::Passed);
        assert_eq!(nats(&Link::Connecting).state, CheckState::Waiting);
        assert_eq!(nats(&Link::Disconnected { reason: reason() }).state, CheckState::Waiting);
        assert_eq!(nats(&Link::Unauthorized { reason: reason() }).state, CheckState::Failed);
        assert_eq!(nats(&Link::Conflict { host: reason() }).state, CheckState::Failed);
    }
}
