//! What happens when, all derived from the length of the run.

use std::time::Duration;

use anyhow::ensure;

/// The node that sends; it hears reports of the others.
pub(crate) const SENDER: &str = "ship";
/// Always there.
pub(crate) const STEADY: &str = "shore";
/// Stopped politely once a cycle, and started again.
pub(crate) const LEAVING: &str = "depot";
/// Pauses its channel once a cycle.
pub(crate) const PAUSING: &str = "office";
pub(crate) const READERS: [&str; 3] = [STEADY, LEAVING, PAUSING];

const LONGEST_CYCLE: Duration = Duration::from_secs(600);
const SHORTEST_RUN: Duration = Duration::from_secs(30);
/// An hour is one cycle to warm up and five to compare.
const CYCLES_OF_AN_HOUR: u32 = 6;

/// One cycle after the other, each with the same outages at the same places, so that one can be compared with another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) length: Duration,
    pub(crate) cycle: Duration,
    pub(crate) rate: u32,
}

/// What is done to the nodes, in the order of one cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    StopLeaving,
    StartLeaving,
    Pause,
    Resume,
    /// The sender's file is checked while the node runs: a long read, that keeps the write-ahead log from being cut back.
    Check,
}

/// Each with the hundredth of a cycle at which it is done.
const ACTS: [(u32, Act); 5] = [
    (15, Act::StopLeaving),
    (45, Act::StartLeaving),
    (60, Act::Pause),
    (75, Act::Resume),
    (90, Act::Check),
];

impl Plan {
    pub(crate) fn new(length: Duration, rate: u32) -> anyhow::Result<Self> {
        ensure!(length >= SHORTEST_RUN, "{length:?} is too short: at least {SHORTEST_RUN:?}");
        Ok(Self { length, cycle: (length / CYCLES_OF_AN_HOUR).min(LONGEST_CYCLE), rate })
    }

    /// How long settled messages stay: two retentions fit in a cycle.
    pub(crate) fn retention(&self) -> Duration {
        self.cycle / 2
    }

    pub(crate) fn cleanup_interval(&self) -> Duration {
        self.cycle / 20
    }

    /// Short enough for some messages to expire while a reader is away.
    pub(crate) fn ttl(&self) -> Duration {
        self.cycle / 10
    }

    /// The longest that a reader is away.
    pub(crate) fn away(&self) -> Duration {
        self.cycle * 30 / 100
    }

    /// Time that is not judged: one cycle, two retentions.
    pub(crate) fn warm_up(&self) -> Duration {
        self.cycle
    }

    /// Time between two rows of samples.
    pub(crate) fn sample_interval(&self) -> Duration {
        (self.cycle / 60).clamp(Duration::from_secs(1), Duration::from_secs(5))
    }

    /// The nth act of the run, and when it is due.
    pub(crate) fn act(&self, n: u32) -> (Duration, Act) {
        let count = u32::try_from(ACTS.len()).expect("a handful");
        let (hundredth, act) = ACTS[(n % count) as usize];
        (self.cycle * (n / count) + self.cycle * hundredth / 100, act)
    }

    /// The most that the file of a node with this share of the rate may take: what is sent within the longest time that a
    /// message stays, as rows of this size, and half as much again for what pages leave free and records take.
    pub(crate) fn file_bound_bytes(&self, share: f64, row_bytes: u64) -> u64 {
        /// A file without messages has some 30 pages.
        const EMPTY: u64 = 1 << 20;
        // Who was away has to catch up first.
        let stay = self.retention().max(self.away() * 2) + self.cleanup_interval() * 2;
        let rows = stay.as_secs_f64() * f64::from(self.rate) * share;
        (rows * 1.5) as u64 * row_bytes + EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_six_cycles_of_ten_minutes_and_a_day_has_more_of_them() {
        let hour = Plan::new(Duration::from_secs(3600), 500).expect("valid");
        assert_eq!(hour.cycle, Duration::from_secs(600));
        assert_eq!(hour.retention(), Duration::from_secs(300));
        let day = Plan::new(Duration::from_secs(86_400), 500).expect("valid");
        assert_eq!(day.cycle, hour.cycle);
        let minute = Plan::new(Duration::from_secs(60), 500).expect("valid");
        assert_eq!(minute.cycle, Duration::from_secs(10));
        assert!(Plan::new(Duration::from_secs(1), 500).is_err());
    }

    #[test]
    fn acts_follow_each_other_through_the_cycles() {
        let plan = Plan::new(Duration::from_secs(3600), 500).expect("valid");
        assert_eq!(plan.act(0), (Duration::from_secs(90), Act::StopLeaving));
        assert_eq!(plan.act(4), (Duration::from_secs(540), Act::Check));
        assert_eq!(plan.act(5), (Duration::from_secs(690), Act::StopLeaving));
        let times: Vec<_> = (0..20).map(|n| plan.act(n).0).collect();
        assert!(times.is_sorted());
    }
}
