//! Results for people.

use comfy_table::{ContentArrangement, LineStyle, Table, TableStyle, presets};

use crate::record::{Figure, Judgement, Record, Unit, Verdict};
use crate::results::{Results, Standing};
use crate::stats::Spread;

const STYLE: TableStyle =
    presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));

impl Results {
    /// Tables for people: all figures, then all ratios.
    pub fn tables(&self) -> String {
        all(&self.scenarios, self.standing)
    }
}

/// All figures, then all ratios with their verdicts.
pub(crate) fn all(records: &[Record], standing: Standing) -> String {
    let mut figures = table(["scenario", "measured", "median", "least", "most"]);
    let mut ratios = table(["target", "compared", "must be", "median", "least", "most", "verdict"]);
    for record in records {
        for figure in &record.figures {
            let [median, least, most] = numbers(figure);
            figures.add_row([record.scenario.name(), &figure.what, &median, &least, &most]);
        }
        for judgement in &record.judgements {
            ratios.add_row(row(judgement));
        }
    }
    let notes = records.iter().flat_map(|record| {
        record.notes.iter().map(move |note| format!("{}: {note}\n", record.scenario))
    });
    let notes: String = notes.collect();
    let missing = records.iter().flat_map(|record| {
        let told = |m: &crate::record::Missing| {
            format!("{}: {} not measured: {}\n", record.scenario, m.what, m.why)
        };
        record.missing.iter().map(told)
    });
    let missing: String = missing.collect();
    let mut text = format!("{}\n\n{missing}{notes}", figures.trim_fmt());
    if records.iter().any(|record| !record.judgements.is_empty()) {
        text += &format!("\n{}\n\n", ratios.trim_fmt());
    }
    for judgement in records.iter().flat_map(|record| &record.judgements) {
        if let Verdict::NotMeasured { why } = &judgement.verdict {
            text += &format!("target {} not measured: {}: {why}\n", judgement.item, judgement.what);
        }
    }
    text + summary(standing)
}

/// All verdicts in a sentence.
pub(crate) fn summary(standing: Standing) -> &'static str {
    match standing {
        Standing::Met => "all targets that were asked for are met",
        Standing::Missed => "a target is missed",
        Standing::Undecided => "no target is missed, but not all could be measured",
        Standing::NoTarget => "no target belongs to what was asked for",
        Standing::NotJudged => "a quick run: its figures and ratios judge nothing",
    }
}

fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(STYLE);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    table
}

fn row(judgement: &Judgement) -> [String; 7] {
    let number = |pick: fn(Spread) -> f64| judgement.spread.map(pick).map(ratio);
    let number = |pick| number(pick).unwrap_or_else(|| "-".to_owned());
    [
        judgement.item.to_string(),
        judgement.what.clone(),
        judgement.bound.to_string(),
        number(|spread| spread.median),
        number(|spread| spread.min),
        number(|spread| spread.max),
        verdict(&judgement.verdict).to_owned(),
    ]
}

/// As it is shown to people.
pub(crate) const fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Met => "pass",
        Verdict::Missed => "FAIL",
        Verdict::NotMeasured { .. } => "not measured",
        Verdict::NotJudged => "not judged",
    }
}

/// Median, least and most.
pub(crate) fn numbers(figure: &Figure) -> [String; 3] {
    let Spread { median, min, max } = figure.spread;
    [median, min, max].map(|value| with_unit(value, figure.unit))
}

/// A ratio, to three digits.
pub(crate) fn ratio(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A value with what it counts.
pub(crate) fn with_unit(value: f64, unit: Unit) -> String {
    match unit {
        Unit::PerSecond => format!("{}/s", grouped(value)),
        Unit::Microseconds if value >= 10_000.0 => format!("{:.1} ms", value / 1_000.0),
        Unit::Microseconds => format!("{} us", grouped(value)),
        Unit::Bytes if value >= 10.0 * 1024.0 * 1024.0 => {
            format!("{:.1} MiB", value / 1024.0 / 1024.0)
        }
        Unit::Bytes => format!("{} B", grouped(value)),
        Unit::Seconds => format!("{value:.3} s"),
        Unit::Percent => format!("{value:.2} %"),
        Unit::Ratio => ratio(value),
        Unit::Messages => grouped(value),
    }
}

/// 1234567 as `1,234,567`.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!(with_unit(1_234_567.4, Unit::PerSecond), "1,234,567/s");
        assert_eq!(with_unit(999.0, Unit::PerSecond), "999/s");
        assert_eq!(with_unit(12_345.0, Unit::Microseconds), "12.3 ms");
        assert_eq!(
            (ratio(0.756), ratio(15.26), ratio(123.4)),
            ("0.76".into(), "15.3".into(), "123".into())
        );
    }
}
