//! Whether the node can do its work now.

use std::time::Duration;

use super::Node;
use crate::event::Link;
use crate::management::{Check, CheckState, Readiness};
use crate::store::Health;

/// How long the file may take for a transaction.
const PATIENCE: Duration = Duration::from_secs(2);

impl Node {
    /// Whether the node can do its work now, with reasons: its file takes a transaction, it takes messages from its program, it is connected or
    /// lets messages wait. Writes nothing that stays; takes at most two seconds. Must be called in a tokio runtime. Cancelling is safe.
    pub async fn readiness(&self) -> Readiness {
        Readiness {
            node: self.shared.id.clone(),
            checks: vec![self.file().await, self.intake(), nats(&self.status().link)],
        }
    }

    async fn file(&self) -> Check {
        let store = &self.shared.store;
        let asked = tokio::time::timeout(PATIENCE, store.waiting()).await;
        let (state, reason) = match (asked, store.health()) {
            (Err(_), _) => {
                (CheckState::Failed, format!("no answer within {} s", PATIENCE.as_secs()))
            }
            (Ok(Err(error)), _) => (CheckState::Failed, error.to_string()),
            (Ok(Ok(_)), Health::Healthy) => (CheckState::Passed, "writable".to_owned()),
            (Ok(Ok(_)), Health::Full) => {
                (CheckState::Failed, "the disk or the file is full".to_owned())
            }
            (Ok(Ok(_)), Health::Failed(reason)) => (CheckState::Failed, reason),
        };
        Check { check: "file", state, reason }
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
