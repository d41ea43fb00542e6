//! A strict reader of Prometheus' text format 0.0.4, and the conventions for names that `promtool check metrics` looks at. Where there is a
//! `promtool`, it is asked too.
// Each test program uses a part of this and would call the rest dead.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::{Command, Stdio};

/// What samples are told apart by: name, and labels by name.
pub type Key = (String, BTreeMap<String, String>);

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Page {
    /// By family: its type.
    pub types: BTreeMap<String, String>,
    pub samples: BTreeMap<Key, f64>,
}

impl Page {
    /// The sample with this name and these labels.
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The sample with this name and no labels.
    #[track_caller]
    pub fn value(&self, name: &str) -> f64 {
        self.get(name, &[]).unwrap_or_else(|| panic!("no {name} in {:?}", self.samples.keys()))
    }

    /// All families.
    pub fn families(&self) -> BTreeSet<String> {
        self.types.keys().cloned().collect()
    }
}

/// Reads it, or panics at the first thing that is not as it should be.
#[track_caller]
pub fn read(text: &str) -> Page {
    let page = parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}"));
    ask_promtool(text);
    page
}

fn ask_promtool(text: &str) {
    let tool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let mut command = Command::new(tool);
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // There is none here: the reader above is the judge.
    let Ok(mut child) = command.stderr(Stdio::piped()).spawn() else { return };
    child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "promtool: {said} {}",
        String::from_utf8_lossy(&output.stdout)
    );
}

fn parse(text: &str) -> Result<Page, String> {
    let mut page = Page::default();
    let mut helps = BTreeSet::new();
    let mut finished = BTreeSet::new();
    let mut family = String::new();
    let body = text.strip_suffix('\n').ok_or("the last line does not end")?;
    for line in body.split('\n') {
        if let Some(comment) = line.strip_prefix("# ") {
            let (word, rest) = comment.split_once(' ').ok_or(format!("comment {line:?}"))?;
            let (name, rest) = rest.split_once(' ').ok_or(format!("comment {line:?}"))?;
            check_name(name, true)?;
            if family != name && !family.is_empty() {
                finished.insert(std::mem::take(&mut family));
            }
            if finished.contains(name) {
                return Err(format!("{name} comes in two groups"));
            }
            name.clone_into(&mut family);
            match word {
                "HELP" if helps.insert(name.to_owned()) && !rest.is_empty() => {
                    unescape(rest, false)?;
                }
                "TYPE" if ["counter", "gauge", "histogram"].contains(&rest) => {
                    if page.types.insert(name.to_owned(), rest.to_owned()).is_some() {
                        return Err(format!("{name} has two types"));
                    }
                }
                _ => return Err(format!("comment {line:?}")),
            }
            continue;
        }
        let (key, value) = sample(line)?;
        if family_of(&key.0, &page.types) != Some(&family) {
            return Err(format!("{} stands under {family:?}", key.0));
        }
        if page.samples.insert(key.clone(), value).is_some() {
            return Err(format!("{key:?} comes twice"));
        }
    }
    for (name, kind) in &page.types {
        if !helps.contains(name) {
            return Err(format!("{name} has no help"));
        }
        check_family(&page, name, kind)?;
    }
    Ok(page)
}

fn family_of<'a>(name: &'a str, types: &'a BTreeMap<String, String>) -> Option<&'a String> {
    let parts = ["_bucket", "_sum", "_count"].into_iter();
    let base = parts.filter_map(|part| name.strip_suffix(part));
    let histogram =
        base.filter_map(|base| types.get_key_value(base)).find(|(_, kind)| *kind == "histogram");
    let plain = types.get_key_value(name).filter(|(_, kind)| *kind != "histogram");
    plain.or(histogram).map(|(name, _)| name)
}

fn check_name(name: &str, colons: bool) -> Result<(), String> {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_' || (colons && c == ':');
    let valid = name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit());
    if valid { Ok(()) } else { Err(format!("{name:?} is no name")) }
}

/// Without the escapes that the format has for help texts and for labels' values.
fn unescape(text: &str, label: bool) -> Result<String, String> {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match (c, label) {
            ('\\', _) => match (characters.next(), label) {
                (Some('\\'), _) => plain.push('\\'),
                (Some('n'), _) => plain.push('\n'),
                (Some('"'), true) => plain.push('"'),
                other => return Err(format!("escape {other:?} in {text:?}")),
            },
            ('"', true) => return Err(format!("a quote in {text:?}")),
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

fn sample(line: &str) -> Result<(Key, f64), String> {
    let wrong = || format!("sample {line:?}");
    let end = line.find(['{', ' ']).ok_or_else(wrong)?;
    let (name, rest) = line.split_at(end);
    check_name(name, true)?;
    let mut labels = BTreeMap::new();
    let rest = match rest.strip_prefix('{') {
        None => rest,
        Some(mut rest) => loop {
            let (label, value) = rest.split_once("=\"").ok_or_else(wrong)?;
            check_name(label, false)?;
            let mut escaped = false;
            let end = value.find(|c| {
                let is_end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                is_end
            });
            let (value, after) = value.split_at(end.ok_or_else(wrong)?);
            if labels.insert(label.to_owned(), unescape(value, true)?).is_some() {
                return Err(wrong());
            }
            rest = after.strip_prefix('"').ok_or_else(wrong)?;
            match rest.strip_prefix('}') {
                Some(after) => break after,
                None => rest = rest.strip_prefix(',').ok_or_else(wrong)?,
            }
        },
    };
    let number = rest.strip_prefix(' ').ok_or_else(wrong)?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" | "NaN" => return Err(wrong()),
        _ if number.contains([' ', 'i', 'n', 'N']) => return Err(wrong()),
        _ => number.parse().map_err(|_| wrong())?,
    };
    Ok(((name.to_owned(), labels), value))
}

fn check_family(page: &Page, name: &str, kind: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{name}, a {kind}: {what}"));
    if name.ends_with("_total") != (kind == "counter") {
        return wrong("only a counter, and every one, ends in _total");
    }
    let units = ["ms", "us", "millis", "micros", "minutes", "hours", "kb", "mb", "kib"];
    if name.split('_').any(|word| units.contains(&word)) {
        return wrong("units are seconds and bytes");
    }
    let part = |part: &str| {
        let name = format!("{name}{part}");
        page.samples.iter().filter(move |((sample, _), _)| *sample == name)
    };
    if kind != "histogram" {
        return match part("").all(|(_, value)| value.is_finite() && *value >= 0.0) {
            true => Ok(()),
            false => wrong("below zero, or no number"),
        };
    }
    for ((_, labels), count) in part("_count") {
        let of = |((_, its), value): (&Key, &f64)| {
            let mut its = its.clone();
            let le = its.remove("le")?;
            let le = if le == "+Inf" { f64::INFINITY } else { le.parse().ok()? };
            (its == *labels).then_some((le, *value))
        };
        let mut buckets: Vec<(f64, f64)> = part("_bucket").filter_map(of).collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        if !buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1) {
            return wrong("buckets do not add up");
        }
        if buckets.last() != Some(&(f64::INFINITY, *count)) {
            return wrong("its last bucket is not its count");
        }
        if !part("_sum").any(|((_, its), sum)| its == labels && *sum >= 0.0) {
            return wrong("it has no sum");
        }
    }
    let counts = part("_count").count();
    if counts == 0 || part("_sum").count() != counts { wrong("counts and sums") } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn what_is_no_exposition_is_refused() {
        let good =
            "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"\\\"\\\\\\n,}\",c=\"\"} 1e3\n";
        let page = parse(good).expect("good");
        assert_eq!(page.get("a_total", &[("b", "\"\\\n,}"), ("c", "")]), Some(1_000.0));
        let head = "# HELP a_total x\n# TYPE a_total counter\n";
        for (bad, why) in [
            ("a_total 1\n".to_owned(), "no type"),
            (format!("{head}a_total 1"), "no end of the line"),
            (format!("{head}a_total 1\n\n"), "an empty line"),
            (format!("{head}a_total 1\na_total 1\n"), "twice"),
            (format!("{head}a_total -1\n"), "below zero"),
            (format!("{head}a_total NaN\n"), "no number"),
            (format!("{head}a_total{{b=\"x}} 1\n"), "an open quote"),
            (format!("{head}a_total{{b=\"\\x\"}} 1\n"), "an unknown escape"),
            (format!("{head}a_total{{1=\"x\"}} 1\n"), "no label"),
            (format!("{head}b_total 1\n"), "another family"),
            ("# HELP a x\n# TYPE a counter\na 1\n".to_owned(), "no _total"),
            ("# HELP a_total x\n# TYPE a_total gauge\na_total 1\n".to_owned(), "_total on a gauge"),
            ("# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n".to_owned(), "milliseconds"),
            ("# TYPE a gauge\na 1\n".to_owned(), "no help"),
            (
                "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 2\na_bucket{le=\"+Inf\"} 1\na_sum 1\na_count 1\n"
                    .to_owned(),
                "falling buckets",
            ),
            (
                "# HELP a x\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_sum 1\na_count 1\n".to_owned(),
                "no last bucket",
            ),
        ] {
            assert!(parse(&bad).is_err(), "{why}");
        }
    }
}
