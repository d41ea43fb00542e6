//! Numbers in few characters.

use std::time::Duration;

/// At most six characters.
pub(super) fn compact(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        _ => scaled(count as f64),
    }
}

/// The same, of what may be more.
pub(super) fn at_least(number: String, more: bool) -> String {
    if more { number + "+" } else { number }
}

/// So many online of all that are known, in at most seven characters: thousands are not told apart.
pub(super) fn of_known((online, known): (usize, usize), more: bool) -> String {
    let few = |count: usize| match count {
        0..=999 => count.to_string(),
        _ => format!("{}k", count / 1_000),
    };
    at_least(format!("{}/{}", few(online), few(known)), more)
}

/// So many a second; a dash where it is not known yet.
pub(super) fn rate(per_second: Option<f64>) -> String {
    match per_second {
        None => "-".to_owned(),
        Some(0.0) => "0".to_owned(),
        Some(few) if few < 99.95 => format!("{few:.1}"),
        Some(some) if some < 99_999.5 => format!("{some:.0}"),
        Some(many) => scaled(many),
    }
}

fn scaled(number: f64) -> String {
    let mut number = number;
    for unit in ["k", "M", "G", "T", "P"] {
        number /= 1e3;
        if number < 999.95 {
            return format!("{number:.1}{unit}");
        }
    }
    format!("{:.1}E", number / 1e3)
}

/// At most six characters up to a thousand years.
pub(super) fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let whole = time.as_secs();
    match whole {
        0 if seconds < 0.001 => format!("{}us", time.as_micros()),
        0 if seconds < 0.01 => format!("{:.1}ms", seconds * 1e3),
        0 => format!("{}ms", time.as_millis()),
        1..=9 => format!("{seconds:.1}s"),
        10..=59 => format!("{whole}s"),
        60..=3_599 => format!("{}m{:02}s", whole / 60, whole % 60),
        3_600..=86_399 => format!("{}h{:02}m", whole / 3_600, whole % 3_600 / 60),
        86_400..=8_639_999 => format!("{}d{:02}h", whole / 86_400, whole % 86_400 / 3_600),
        _ => format!("{}d", whole / 86_400),
    }
}

/// The same, of what was measured in whole milliseconds.
pub(super) fn millis(time: Duration) -> String {
    if time < Duration::from_millis(1) { "<1ms".to_owned() } else { short(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 99_999, 100_000, 123_456_789, u64::MAX].map(compact);
        assert_eq!(counts, ["0", "99999", "100.0k", "123.5M", "18.4E"]);
        let rates = [None, Some(0.0), Some(3.25), Some(99.96), Some(12_345.6), Some(2e6)].map(rate);
        assert_eq!(rates, ["-", "0", "3.2", "100", "12346", "2.0M"]);
    }

    #[test]
    fn times_are_short() {
        let times = [0, 850, 1_200, 25_000, 999_999].map(|us| short(Duration::from_micros(us)));
        assert_eq!(times, ["0us", "850us", "1.2ms", "25ms", "999ms"]);
        let times = [1, 59, 61, 3_700, 90_000, 9_000_000].map(|s| short(Duration::from_secs(s)));
        assert_eq!(times, ["1.0s", "59s", "1m01s", "1h01m", "1d01h", "104d"]);
    }

    #[test]
    fn what_is_not_known_exactly_says_so() {
        assert_eq!([false, true].map(|more| at_least(compact(1_200), more)), ["1200", "1200+"]);
        assert_eq!(of_known((3, 12), false), "3/12");
        assert_eq!(of_known((999, 1_000), true), "999/1k+");
        let times = [0, 999, 1_000, 1_500].map(|us| millis(Duration::from_micros(us)));
        assert_eq!(times, ["<1ms", "<1ms", "1.0ms", "1.5ms"]);
    }
}
