//! A machine that is off for longer than peers are remembered, with messages for them.

use std::time::Duration;

use waypost::{Mode, Priority, StartAt};

use super::{Act, Crash, NodePlan, Plan, channel, node};
use crate::file::Draft;
use crate::network::Wire;

/// Messages that wait for each reader.
pub(crate) const WAITING: u64 = 20;
const EXPIRY: Duration = Duration::from_secs(90);

impl Plan {
    /// One node sends for two others that can't be reached, and loses its power, for three times as long as peers are remembered. Its clock is right, so that
    /// they are that old for it when it comes back.
    pub(crate) fn off() -> Self {
        let nodes = (0..3).map(|number| {
            let mut node = NodePlan { ..node(number) };
            node.settings.membership.expiry = EXPIRY;
            let mode = if number == 0 { Mode::Writer } else { Mode::Reader };
            node.joins.push((channel(0), mode, StartAt::Joined));
            node
        });
        let at = Duration::from_secs;
        let mut plan = Self {
            seed: 11,
            nodes: nodes.collect(),
            acts: (0..3).map(|node| (Duration::ZERO, Act::Start(node))).collect(),
            wire: Wire::Bytes,
            unreadable: 0,
            most: usize::MAX,
            audit_every: 1,
            busy_factor: 1,
            awaited: false,
            faults_end: at(30) + 4 * EXPIRY,
            patience: Duration::from_secs(3_600),
            exact: true,
        };
        plan.acts.extend((1..3).map(|node| (at(25), Act::Sever { node })));
        let draft = |uid| {
            let (channel, lane) = (channel(0), Priority::Normal);
            Draft { uid, channel, target: None, lane, ttl_ms: None }
        };
        let drafts = (1..=WAITING).map(draft).collect();
        plan.acts.push((at(26), Act::Send { node: 0, drafts }));
        plan.acts.push((at(30), Act::Crash { node: 0, how: Crash::PowerCut, away: 3 * EXPIRY }));
        // Later than it takes to ask in vain, sooner than it has to be connected before anybody is forgotten.
        plan.acts.extend((1..3).map(|node| (at(40) + 3 * EXPIRY, Act::Mend { node })));
        plan.acts.push((plan.faults_end, Act::Calm));
        plan
    }
}
