//! What will be broken, in which order and for how long: drawn from a seed before anything starts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

const PARTITION_MS: u64 = 6_000;

/// A kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// SIGKILL to the master, while it sets states.
    Kill,
    /// SIGTERM to the master, which hands its role over.
    HandOver,
    /// SIGTERM to the master, and SIGKILL to it a moment later.
    KillLeaving,
    /// SIGTERM to the master, and SIGKILL to its successor a moment later.
    KillSuccessor,
    /// SIGSTOP to the master, and SIGCONT after some seconds, mostly when another leads.
    Freeze,
    /// The same for half a minute.
    LongFreeze,
    /// A server is cut from the other two.
    ClusterCut,
    /// Nothing passes between a server and the other two; it comes late.
    ClusterHeld,
    /// A node's link to its server is cut.
    LinkCut,
    /// Nothing passes; it comes late.
    LinkHeld,
}

impl Kind {
    /// For the table.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Kill => "master killed",
            Self::HandOver => "master asked to end (hands over)",
            Self::KillLeaving => "master killed while it hands over",
            Self::KillSuccessor => "successor killed while it takes over",
            Self::Freeze => "master stopped for 4 to 8 s",
            Self::LongFreeze => "master stopped for 30 s",
            Self::ClusterCut => "server cut from the others, 6 s",
            Self::ClusterHeld => "server's routes held back, 6 s",
            Self::LinkCut => "link cut",
            Self::LinkHeld => "link held back",
        }
    }
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Act {
    pub(crate) kind: Kind,
    /// Before it, while all is well.
    pub(crate) rest: Duration,
    /// How long it lasts, or when in a handing over somebody is killed.
    pub(crate) hold: Duration,
    /// How long a process that has ended stays away.
    pub(crate) away: Duration,
    /// Where a wire breaks: at the master, or at one of the others.
    pub(crate) at_other: Option<usize>,
}

impl Act {
    /// The master's server is cut from the others.
    pub(crate) fn partition() -> Self {
        let (rest, away) = (Duration::from_millis(500), Duration::ZERO);
        let hold = Duration::from_millis(PARTITION_MS);
        Self { kind: Kind::ClusterCut, rest, hold, away, at_other: None }
    }
}

/// The faults of a run in which the master is killed so often.
pub(crate) fn plan(seed: u64, kills: u64, long_stop: bool) -> Vec<Act> {
    let mut random = fastrand::Rng::with_seed(seed);
    let some = |kind, count: u64| std::iter::repeat_n(kind, usize::try_from(count).unwrap_or(0));
    let mut kinds: Vec<Kind> = some(Kind::Kill, kills)
        .chain(some(Kind::HandOver, kills.div_ceil(3)))
        .chain(some(Kind::KillLeaving, kills / 10))
        .chain(some(Kind::KillSuccessor, kills / 10))
        .chain(some(Kind::Freeze, kills.div_ceil(12)))
        .chain(some(Kind::LongFreeze, long_stop.into()))
        .chain(some(Kind::ClusterCut, (kills + 10) / 20))
        .chain(some(Kind::ClusterHeld, kills / 20))
        .chain(some(Kind::LinkCut, (kills + 10) / 20))
        .chain(some(Kind::LinkHeld, kills / 20))
        .collect();
    random.shuffle(&mut kinds);
    kinds.into_iter().map(|kind| act(kind, &mut random)).collect()
}

fn act(kind: Kind, random: &mut fastrand::Rng) -> Act {
    let ms = match kind {
        Kind::Kill | Kind::HandOver => 0..1,
        Kind::KillLeaving | Kind::KillSuccessor => 2..200,
        Kind::Freeze => 4_000..8_000,
        Kind::LongFreeze => 30_000..30_001,
        Kind::ClusterCut | Kind::ClusterHeld => PARTITION_MS..PARTITION_MS + 1,
        Kind::LinkCut | Kind::LinkHeld => 1_000..6_000,
    };
    let hold = match kind {
        // As likely within the first 20 ms, in which most of it happens, as later.
        Kind::KillLeaving | Kind::KillSuccessor if random.bool() => random.u64(2..20),
        _ => random.u64(ms),
    };
    let at_other = (random.u8(..3) == 0).then(|| random.usize(..2));
    let (rest, away) = (random.u64(200..1_500), random.u64(20..2_000));
    let [rest, hold, away] = [rest, hold, away].map(Duration::from_millis);
    Act { kind, rest, hold, away, at_other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(plan: &[Act], kind: Kind) -> usize {
        plan.iter().filter(|act| act.kind == kind).count()
    }

    #[test]
    fn a_seed_gives_the_same_plan_again_and_every_kind_takes_part() {
        let first = plan(7, 20, true);
        assert_eq!(first, plan(7, 20, true));
        assert_ne!(first, plan(8, 20, true));
        let all = [
            (Kind::Kill, 20),
            (Kind::HandOver, 7),
            (Kind::KillLeaving, 2),
            (Kind::KillSuccessor, 2),
            (Kind::Freeze, 2),
            (Kind::LongFreeze, 1),
            (Kind::ClusterCut, 1),
            (Kind::ClusterHeld, 1),
            (Kind::LinkCut, 1),
            (Kind::LinkHeld, 1),
        ];
        for (kind, expected) in all {
            assert_eq!(count(&first, kind), expected, "{kind:?}");
        }
    }
}
