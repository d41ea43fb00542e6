//! A steady pace in an open loop: each thing has its time, whatever became of those before it.

use std::time::{Duration, Instant};

/// Calls `act` at each of its times, on this thread, with the time at which it was meant to be called. What is late is called at once, and
/// keeps its own time, so that nothing that is late hides what it delays.
pub(crate) fn keep(interval: Duration, count: u32, mut act: impl FnMut(Instant)) {
    // Linux wakes us 50 us late by default, to save power. Where we cannot ask for better, that is measured too.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    let begin = Instant::now() + interval;
    for n in 0..count {
        let meant = begin + interval * n;
        std::thread::sleep(meant.saturating_duration_since(Instant::now()));
        act(meant);
    }
}

/// The value below which this share of the values lies; none of none.
pub(crate) fn percentile(sorted: &[Duration], share: f64) -> Option<Duration> {
    let at = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(at.saturating_sub(1).min(sorted.len().checked_sub(1)?)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_late_keeps_the_time_at_which_it_was_meant() {
        let interval = Duration::from_millis(1);
        let mut times = Vec::new();
        keep(interval, 20, |meant| {
            if times.is_empty() {
                std::thread::sleep(10 * interval);
            }
            times.push((meant, Instant::now()));
        });
        for pair in times.windows(2) {
            assert_eq!(pair[1].0 - pair[0].0, interval);
        }
        assert!(times[1].1 - times[1].0 >= 9 * interval, "the delay is seen");
    }

    #[test]
    fn percentiles_are_values_that_came() {
        let values: Vec<_> = (1..=200).map(Duration::from_millis).collect();
        let at = |share| percentile(&values, share).expect("some").as_millis();
        assert_eq!((at(0.0), at(0.5), at(0.99), at(1.0)), (1, 100, 198, 200));
        assert_eq!(percentile(&values[..1], 0.99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(&[], 0.5), None);
    }
}
