//! Numbers in few characters.

use std::time::Duration;

/// At most six characters up to a million million.
pub(super) fn compact(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        _ => scaled(count as f64),
    }
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
    for unit in ["k", "M", "G"] {
        number /= 1e3;
        if number < 999.95 {
            return format!("{number:.1}{unit}");
        }
    }
    format!("{:.0}T", number / 1e3)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let counts = [0, 99_999, 100_000, 123_456_789, u64::MAX].map(compact);
        assert_eq!(counts, ["0", "99999", "100.0k", "123.5M", "18446744T"]);
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
}
