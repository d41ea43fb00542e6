//! What the judge found, as a table and as JSON.

use std::fmt;

use serde::Serialize;

use crate::plan::Kind;

/// Findings that are shown; all are counted.
const SHOWN: usize = 20;

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Wrong {
    /// Two masters in a term.
    TwoInATerm,
    /// Two masters at one moment.
    TwoAtOnce,
    /// A node led after another had led in a later term.
    LateLeader,
    /// A later master did not have what was acknowledged.
    StateLost,
    /// A node's term went down.
    TermFell,
    /// A command of an earlier master passed the fence after one of a later.
    StaleCommand,
    /// A node without a vote led.
    NoVoter,
    /// The voters did not agree on a master in time.
    NoAgreement,
    /// A process ended by itself, or with an error.
    Process,
    /// Something took longer than it should.
    Slow,
    /// Too little happened for the run to count.
    TooLittle,
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) wrong: Wrong,
    pub(crate) text: String,
}

/// From a fault to the next master.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Times {
    pub(crate) count: usize,
    pub(crate) p50_us: u64,
    pub(crate) max_us: u64,
}

impl Times {
    pub(crate) fn of(mut times: Vec<u64>) -> Self {
        times.sort_unstable();
        let p50_us = times.get(times.len() / 2).copied().unwrap_or(0);
        Self { count: times.len(), p50_us, max_us: times.last().copied().unwrap_or(0) }
    }
}

/// One kind of fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) kind: Kind,
    pub(crate) faults: usize,
    /// Where another became master because of it.
    pub(crate) times: Times,
}

impl Row {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, faults: 0, times: Times::default() }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    pub(crate) server: String,
    pub(crate) seconds: u64,
    /// SIGKILLs of whomever.
    pub(crate) kills: usize,
    /// How often somebody became master.
    pub(crate) masters: usize,
    /// States that `set_state` returned for.
    pub(crate) acknowledged: usize,
    /// Those for which it failed.
    pub(crate) unset: usize,
    /// Commands that the fence let pass.
    pub(crate) commands: usize,
    /// Those of masters that no longer were.
    pub(crate) refused: usize,
    /// Those for which the fence could not be asked.
    pub(crate) unfenced: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    pub(crate) fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn count(&self, wrong: Wrong) -> usize {
        self.findings.iter().filter(|finding| finding.wrong == wrong).count()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, server, seconds, .. } = self;
        writeln!(f, "seed {seed}, {seconds} s, {server}\n")?;
        writeln!(
            f,
            "{:<38} {:>6} {:>9} {:>9} {:>9}",
            "fault", "times", "next one", "half ms", "most ms"
        )?;
        for Row { kind, faults, times } in &self.rows {
            write!(f, "{:<38} {faults:>6} {:>9}", kind.text(), times.count)?;
            match times.count {
                0 => writeln!(f, " {:>9} {:>9}", "-", "-")?,
                _ => {
                    let [half, most] = [times.p50_us, times.max_us].map(|us| us as f64 / 1e3);
                    writeln!(f, " {half:>9.1} {most:>9.1}")?;
                }
            }
        }
        writeln!(f)?;
        let counts = [
            ("processes killed", self.kills),
            ("became master", self.masters),
            ("states acknowledged", self.acknowledged),
            ("states refused or unknown", self.unset),
            ("commands that passed the fence", self.commands),
            ("commands refused as stale", self.refused),
            ("commands, fence not to be asked", self.unfenced),
        ];
        for (what, count) in counts {
            writeln!(f, "{what:<38} {count:>6}")?;
        }
        writeln!(f)?;
        let promises = [
            ("two masters in a term", Wrong::TwoInATerm),
            ("two masters at one moment", Wrong::TwoAtOnce),
            ("acknowledged states lost", Wrong::StateLost),
            ("stale commands accepted", Wrong::StaleCommand),
        ];
        for (what, wrong) in promises {
            writeln!(f, "{what:<38} {:>6}", self.count(wrong))?;
        }
        for finding in self.findings.iter().take(SHOWN) {
            writeln!(f, "WRONG {:?}: {}", finding.wrong, finding.text)?;
        }
        if self.findings.len() > SHOWN {
            writeln!(f, "and {} more", self.findings.len() - SHOWN)?;
        }
        writeln!(f, "\n{}", if self.is_clean() { "as promised" } else { "NOT as promised" })
    }
}
