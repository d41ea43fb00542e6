//! A week without a network, and what has piled up when it comes back.

use std::time::Duration;

use waypost::{Mode, Priority, StartAt};

use super::{Act, NodePlan, Plan, channel, node};
use crate::file::Draft;
use crate::network::Wire;

/// Readers, node 0 being the sender.
pub(crate) const READERS: usize = 20;
/// Messages that wait for each of them.
pub(crate) const MESSAGES: u64 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);
/// All have met by then.
const MET: Duration = Duration::from_secs(60);

impl Plan {
    /// Readers are cut off for seven days, in which one sender commits messages for all of them.
    pub(crate) fn week() -> Self {
        let nodes = (0..=READERS).map(|number| {
            let mut node = NodePlan { ..node(number) };
            node.settings.membership.expiry = 30 * DAY;
            node.limits.queue = MESSAGES;
            node.limits.retention_ms = 30 * 86_400_000;
            let mode = if number == 0 { Mode::Writer } else { Mode::Reader };
            node.joins.push((channel(0), mode, StartAt::Joined));
            node
        });
        let mut plan = Self {
            seed: 7,
            nodes: nodes.collect(),
            acts: (0..=READERS).map(|node| (Duration::ZERO, Act::Start(node))).collect(),
            wire: Wire::Values,
            unreadable: 0,
            most: usize::MAX,
            audit_every: 5_000,
            busy_factor: 1_000,
            awaited: false,
            faults_end: 7 * DAY,
            patience: DAY,
            exact: true,
        };
        plan.acts.extend((1..=READERS).map(|node| (MET, Act::Sever { node })));
        let every = 6 * DAY / u32::try_from(MESSAGES).expect("it fits");
        for uid in 1..=MESSAGES {
            let draft = Draft {
                uid,
                channel: channel(0),
                target: None,
                lane: Priority::Normal,
                ttl_ms: None,
            };
            let at = 2 * MET + every * u32::try_from(uid).expect("it fits");
            plan.acts.push((at, Act::Send { node: 0, drafts: vec![draft] }));
        }
        plan.acts.push((plan.faults_end, Act::Calm));
        plan
    }
}
