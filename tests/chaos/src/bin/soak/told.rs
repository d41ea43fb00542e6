//! What passes between the run and its nodes: JSON lines on their standard input and output.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waypost::Priority;
use waypost::management::Account;

use crate::sequence::Sequence;

/// What a node knows of its traffic. A node that is started again is given what it told last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Told {
    /// Messages sent in each lane, or to the sender as reports.
    pub(crate) sent: BTreeMap<String, u64>,
    /// What came, by sender and lane.
    pub(crate) received: BTreeMap<String, Sequence>,
    /// Transactions that the handler committed with a message, as the node's own table says.
    pub(crate) effects: u64,
    /// By receiver, as of now.
    pub(crate) accounts: Vec<Account>,
    /// The sender has stopped sending.
    pub(crate) quiet: bool,
}

impl Told {
    pub(crate) fn pending(&self) -> u64 {
        self.accounts.iter().map(|account| account.pending).sum()
    }

    pub(crate) fn sent_in_all(&self) -> u64 {
        self.sent.values().sum()
    }

    pub(crate) fn received_in_all(&self) -> u64 {
        self.received.values().map(|sequence| sequence.received).sum()
    }
}

/// What a node is asked to do. The end of its input ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    Pause,
    Resume,
    StopSending,
}

/// The name of a lane in [`Told`].
pub(crate) fn lane_name(lane: Priority) -> &'static str {
    match lane {
        Priority::High => "high",
        Priority::Normal => "normal",
        Priority::Low => "low",
    }
}
