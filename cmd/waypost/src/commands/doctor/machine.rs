//! The clock and SQLite.

use std::time::{Duration, SystemTime};

use waypost::rusqlite;

use super::Check;
use crate::output::time;

/// 2024-01-01T00:00:00Z: no waypost is older.
const EARLIEST: Duration = Duration::from_secs(1_704_067_200);
/// 2100-01-01T00:00:00Z.
const LATEST: Duration = Duration::from_secs(4_102_444_800);
/// The first release in which two connections can share a write-ahead log without damaging it.
const SQLITE_LEAST: i32 = 3_051_003;

pub(super) fn clock(now: SystemTime) -> Check {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    if (EARLIEST..LATEST).contains(&since) {
        return Check::ok("clock", time(now));
    }
    let remedy = "set it (NTP, or the board's battery); messages are delivered all the same, but their times and ids \
                  mislead, and times to live end late when it is set";
    Check::warn("clock", format!("it says {}, which can't be right", shown(now)), remedy)
}

fn shown(now: SystemTime) -> String {
    crate::output::time_ms(
        now.duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
    )
}

pub(super) fn sqlite() -> Check {
    let version = rusqlite::version();
    if rusqlite::version_number() >= SQLITE_LEAST {
        return Check::ok("sqlite", version);
    }
    let remedy = "build with the bundled SQLite, or with 3.51.3 or newer";
    Check::fail("sqlite", format!("{version} can damage files that two connections use"), remedy)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_clock_that_was_never_set_is_noticed() {
        assert_eq!(clock(SystemTime::UNIX_EPOCH).verdict, Verdict::Warn);
        assert_eq!(clock(SystemTime::UNIX_EPOCH + LATEST + LATEST).verdict, Verdict::Warn);
        assert_eq!(clock(SystemTime::UNIX_EPOCH + EARLIEST + EARLIEST).verdict, Verdict::Ok);
        assert_eq!(sqlite().verdict, Verdict::Ok);
    }
}
