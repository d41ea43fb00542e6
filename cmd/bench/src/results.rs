//! What a run came to.

use std::time::SystemTime;

use serde::Serialize;

use crate::machine::Machine;
use crate::options::{Options, Sizes};
use crate::payload::PAYLOAD_BYTES;
use crate::record::{Record, Verdict};

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct Results {
    pub(crate) started: String,
    pub(crate) version: &'static str,
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) server: String,
    pub(crate) payload_bytes: usize,
    pub(crate) payload: &'static str,
    pub(crate) quick: bool,
    pub(crate) sizes: Sizes,
    pub(crate) standing: Standing,
    pub(crate) scenarios: Vec<Record>,
}

/// What all verdicts come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Every target was judged and is met.
    Met,
    /// A target is missed.
    Missed,
    /// None is missed, and some could not be judged.
    Undecided,
    /// The run was too short to judge anything.
    NotJudged,
    /// No target belongs to what was asked for.
    NoTarget,
}

impl Results {
    pub(crate) fn new(
        started: SystemTime,
        options: &Options,
        (machine, server): (Machine, String),
        scenarios: Vec<Record>,
    ) -> Self {
        let verdicts = scenarios.iter().flat_map(|record| &record.judgements);
        let standing = match options.quick {
            true => Standing::NotJudged,
            false => standing(verdicts.map(|judgement| &judgement.verdict)),
        };
        Self {
            started: humantime::format_rfc3339_seconds(started).to_string(),
            version: env!("CARGO_PKG_VERSION"),
            command: options.command.clone(),
            machine,
            server,
            payload_bytes: PAYLOAD_BYTES,
            payload: "random bytes, which no compression makes smaller",
            quick: options.quick,
            sizes: options.sizes(),
            standing,
            scenarios,
        }
    }

    /// What all verdicts come to.
    pub fn standing(&self) -> Standing {
        self.standing
    }
}

fn standing<'a>(verdicts: impl Iterator<Item = &'a Verdict>) -> Standing {
    let mut standing = Standing::NoTarget;
    for verdict in verdicts {
        match verdict {
            Verdict::Missed => return Standing::Missed,
            Verdict::NotMeasured { .. } | Verdict::NotJudged => standing = Standing::Undecided,
            Verdict::Met if standing == Standing::NoTarget => standing = Standing::Met,
            Verdict::Met => {}
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_miss_is_a_miss_and_a_gap_is_no_success() {
        let gap = Verdict::NotMeasured { why: "no anchor".to_owned() };
        let of = |verdicts: &[Verdict]| standing(verdicts.iter());
        assert_eq!(of(&[Verdict::Met, Verdict::Met]), Standing::Met);
        assert_eq!(of(&[Verdict::Met, gap.clone()]), Standing::Undecided);
        assert_eq!(of(&[gap.clone(), Verdict::Met]), Standing::Undecided);
        assert_eq!(of(&[gap, Verdict::Missed, Verdict::Met]), Standing::Missed);
        assert_eq!(of(&[]), Standing::NoTarget);
    }
}
