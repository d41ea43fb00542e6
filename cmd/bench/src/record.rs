//! What a scenario measured, round by round, and what is judged by it.

use std::fmt;

use serde::Serialize;

use crate::options::Scenario;
use crate::stats::Spread;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A rate.
    PerSecond,
    /// A time.
    Microseconds,
    /// A size.
    Bytes,
    /// A time.
    Seconds,
    /// A share of one core.
    Percent,
    /// One size by another.
    Ratio,
    /// A number of them.
    Messages,
}

/// Something measured once a round.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// What it is.
    pub what: String,
    /// Of what.
    pub unit: Unit,
    /// One value a round.
    pub runs: Vec<f64>,
    /// Their middle and ends.
    #[serde(flatten)]
    pub spread: Spread,
}

/// One target, and how it came out.
#[derive(Debug, Clone, Serialize)]
pub struct Judgement {
    /// Which of the project's targets it belongs to: eight of speed, and 9, wear.
    pub item: u8,
    /// What is compared with what.
    pub what: String,
    /// What it must be.
    pub bound: Bound,
    /// One value a round, each from figures of that round alone.
    pub runs: Vec<f64>,
    /// Their middle and ends; none where nothing was measured.
    #[serde(flatten)]
    pub spread: Option<Spread>,
    /// By the median.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What a value must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// How a target came out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It is met.
    Met,
    /// It is not.
    Missed,
    /// It could not be judged.
    NotMeasured {
        /// What was missing.
        why: String,
    },
    /// The run was too short to judge anything.
    NotJudged,
}

impl Bound {
    /// Whether the value is within it.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
        }
    }
}

/// What one scenario measured.
#[derive(Debug, Serialize)]
pub(crate) struct Record {
    pub(crate) scenario: Scenario,
    pub(crate) figures: Vec<Figure>,
    /// Figures that there are none of, and why.
    pub(crate) missing: Vec<Missing>,
    pub(crate) judgements: Vec<Judgement>,
    /// What is drawn.
    pub(crate) curves: Vec<Curve>,
    /// What is to be known about the figures.
    pub(crate) notes: Vec<String>,
    #[serde(skip)]
    quick: bool,
}

/// A figure that was not measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Missing {
    pub(crate) what: String,
    pub(crate) why: String,
}

/// A picture of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Plot {
    /// Deliveries a second over the number of receivers.
    Receivers,
    /// Times of messages over the share that took no longer.
    Latency,
    /// Deliveries a second over the size of the backlog.
    Backlog,
    /// Deliveries and waiting messages over time.
    Outage,
}

/// One line of a picture.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Curve {
    pub(crate) plot: Plot,
    pub(crate) name: String,
    pub(crate) points: Vec<[f64; 2]>,
}

impl Record {
    pub(crate) fn new(scenario: Scenario, quick: bool) -> Self {
        let (figures, missing, judgements, curves, notes) = Default::default();
        Self { scenario, figures, missing, judgements, curves, notes, quick }
    }

    /// Adds this round's value.
    pub(crate) fn add(&mut self, what: impl Into<String>, unit: Unit, value: f64) {
        let what = what.into();
        let figure = match self.figures.iter().position(|figure| figure.what == what) {
            Some(at) => &mut self.figures[at],
            None => {
                let spread = Spread { median: value, min: value, max: value };
                self.figures.push(Figure { what, unit, runs: Vec::new(), spread });
                self.figures.last_mut().expect("just pushed")
            }
        };
        figure.runs.push(value);
        figure.spread = Spread::of(&figure.runs).expect("not empty");
    }

    /// Adds this round's value, or why there is none.
    pub(crate) fn add_or_tell(&mut self, what: &str, unit: Unit, value: Result<f64, String>) {
        match value {
            Ok(value) => self.add(what, unit, value),
            Err(why) => self.miss(what, why),
        }
    }

    /// Says why a figure is missing. One that was measured in some rounds only is judged in none.
    pub(crate) fn miss(&mut self, what: &str, why: impl Into<String>) {
        if self.why_missing(what).is_none() {
            self.missing.push(Missing { what: what.to_owned(), why: why.into() });
        }
    }

    /// Adds a line to a picture, if it has points.
    pub(crate) fn draw(&mut self, plot: Plot, name: &str, points: Vec<[f64; 2]>) {
        if !points.is_empty() {
            self.curves.push(Curve { plot, name: name.to_owned(), points });
        }
    }

    /// Says something about the figures, once.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// The values of a figure, one a round.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn runs(&self, what: &str) -> Result<&[f64], String> {
        if let Some(why) = self.why_missing(what) {
            return Err(why.to_owned());
        }
        let figure = self.figures.iter().find(|figure| figure.what == what);
        figure.map(|figure| figure.runs.as_slice()).ok_or_else(|| format!("no figure for {what}"))
    }

    fn why_missing(&self, what: &str) -> Option<&str> {
        let missing = self.missing.iter().find(|missing| missing.what == what);
        missing.map(|missing| missing.why.as_str())
    }

    /// Judges one figure by another, round by round.
    pub(crate) fn judge_ratio(&mut self, item: u8, bound: Bound, of: &str, to: &str) {
        let ratios = self.runs(of).and_then(|of| {
            let to = self.runs(to)?;
            if of.len() != to.len() {
                return Err("the rounds do not match".to_owned());
            }
            Ok(of.iter().zip(to).map(|(of, to)| of / to).collect())
        });
        self.judge(item, bound, format!("{of} / {to}"), ratios);
    }

    /// Judges these values, one a round.
    pub(crate) fn judge(
        &mut self,
        item: u8,
        bound: Bound,
        what: impl Into<String>,
        values: Result<Vec<f64>, String>,
    ) {
        let (runs, why) = match values {
            Ok(runs) if runs.is_empty() => (runs, "no round was measured".to_owned()),
            Ok(runs) if runs.iter().all(|value| value.is_finite()) => (runs, String::new()),
            Ok(_) => (Vec::new(), "a figure that it rests on is nothing".to_owned()),
            Err(why) => (Vec::new(), why),
        };
        let spread = Spread::of(&runs);
        let verdict = match spread {
            None => Verdict::NotMeasured { why },
            Some(_) if self.quick => Verdict::NotJudged,
            Some(spread) if bound.holds(spread.median) => Verdict::Met,
            Some(_) => Verdict::Missed,
        };
        self.judgements.push(Judgement { item, what: what.into(), bound, runs, spread, verdict });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut record = Record::new(Scenario::One, false);
        for (of, to) in [(80.0, 100.0), (70.0, 100.0), (160.0, 200.0)] {
            record.add("of", Unit::PerSecond, of);
            record.add("to", Unit::PerSecond, to);
        }
        record
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_judged_by_the_median() {
        let mut record = record();
        record.judge_ratio(1, Bound::AtLeast(0.8), "of", "to");
        record.judge_ratio(1, Bound::AtLeast(0.81), "of", "to");
        record.judge_ratio(1, Bound::AtMost(0.8), "of", "to");
        let verdicts: Vec<_> = record.judgements.iter().map(|j| j.verdict.clone()).collect();
        assert_eq!(verdicts, [Verdict::Met, Verdict::Missed, Verdict::Met]);
        let spread = record.judgements[0].spread.expect("measured");
        assert_eq!((spread.min, spread.median, spread.max), (0.7, 0.8, 0.8));
    }

    #[test]
    fn a_missing_anchor_passes_nothing_and_says_why() {
        let mut record = record();
        record.miss("to", "no JetStream");
        record.judge_ratio(3, Bound::AtLeast(0.0), "of", "to");
        record.judge_ratio(3, Bound::AtLeast(0.0), "of", "forgotten");
        record.judge(3, Bound::AtLeast(0.0), "nothing", Ok(Vec::new()));
        record.add("of", Unit::PerSecond, 1.0);
        record.judge_ratio(3, Bound::AtLeast(0.0), "of", "to");
        for judgement in &record.judgements {
            assert!(matches!(judgement.verdict, Verdict::NotMeasured { .. }), "{judgement:?}");
        }
        let why = |n: usize| record.judgements[n].verdict.clone();
        assert_eq!(why(0), Verdict::NotMeasured { why: "no JetStream".to_owned() });
    }

    #[test]
    fn an_anchor_of_nothing_passes_nothing() {
        let mut record = record();
        (0..3).for_each(|_| record.add("nothing", Unit::PerSecond, 0.0));
        record.judge_ratio(1, Bound::AtLeast(1.0), "of", "nothing");
        record.judge_ratio(1, Bound::AtMost(1.0), "nothing", "nothing");
        for judgement in &record.judgements {
            assert!(matches!(judgement.verdict, Verdict::NotMeasured { .. }), "{judgement:?}");
        }
    }

    #[test]
    fn a_quick_run_judges_nothing() {
        let mut record = Record::new(Scenario::One, true);
        record.judge(1, Bound::AtLeast(1.0), "x", Ok(vec![0.0]));
        assert_eq!(record.judgements[0].verdict, Verdict::NotJudged);
    }
}
