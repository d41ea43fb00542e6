//! Values of options: durations, times, and where to begin.

use std::time::{Duration, SystemTime};

use waypost::StartAt;

/// What `--wait` alone stands for.
pub(super) const WAIT_FOREVER: &str = "forever";

/// How long `send --wait` stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    Forever,
    AtMost(Duration),
}

/// How long a message may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ttl {
    Never,
    After(Duration),
}

/// Where `recv` begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Named(StartAt),
    At(SystemTime),
}

impl From {
    /// As the library wants it.
    pub(crate) fn start_at(self, now: SystemTime) -> StartAt {
        match self {
            Self::Named(start) => start,
            Self::At(time) => StartAt::since(now.duration_since(time).unwrap_or_default()),
        }
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("not a duration like 10s, 5min or 24h: {error}"))
}

/// A number of seconds, or a duration.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.map_or_else(|| parse_duration(text), Ok)?;
    let sensible = Duration::from_millis(1)..=Duration::from_secs(3_600);
    match sensible.contains(&time) {
        true => Ok(time),
        false => Err("give from 0.001 to 3600 seconds".to_owned()),
    }
}

pub(super) fn parse_ttl(text: &str) -> Result<Ttl, String> {
    match text {
        "none" => Ok(Ttl::Never),
        _ => match parse_duration(text)? {
            Duration::ZERO => {
                Err("a time to live of zero would expire the message before it is sent: \
                 give a longer one, or none"
                    .to_owned())
            }
            ttl => Ok(Ttl::After(ttl)),
        },
    }
}

pub(super) fn parse_wait(text: &str) -> Result<Wait, String> {
    match text {
        WAIT_FOREVER => Ok(Wait::Forever),
        _ => parse_duration(text).map(Wait::AtMost),
    }
}

pub(super) fn parse_from(text: &str) -> Result<From, String> {
    match text {
        "joined" => return Ok(From::Named(StartAt::Joined)),
        "now" => return Ok(From::Named(StartAt::Now)),
        "all" => return Ok(From::Named(StartAt::All)),
        _ => {}
    }
    if let Ok(age) = parse_duration(text) {
        return Ok(From::Named(StartAt::since(age)));
    }
    humantime::parse_rfc3339_weak(text).map(From::At).map_err(|_| {
        "not joined, now, all, a time like 2026-11-21T09:30:00Z, or an age like 10m".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_read_as_people_write_them() {
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert!(parse_duration("5").is_err());
        assert!(parse_ttl("0s").is_err());
        assert_eq!(parse_ttl("none"), Ok(Ttl::Never));
        assert_eq!(parse_wait("forever"), Ok(Wait::Forever));
        assert_eq!(parse_from("10m"), Ok(From::Named(StartAt::SinceMs(600_000))));
        assert!(parse_from("yesterday").is_err());
    }

    #[test]
    fn a_time_becomes_an_age_and_a_time_to_come_is_now() {
        let from = parse_from("1970-01-01T00:01:00Z").expect("a time");
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        assert_eq!(from.start_at(at(90)), StartAt::SinceMs(30_000));
        assert_eq!(from.start_at(at(30)), StartAt::SinceMs(0));
    }
}
