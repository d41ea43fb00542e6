//! The clock and SQLite.

use std::time::SystemTime;

use waypost::{Reason, rusqlite};

use super::Check;
use crate::output::time;

/// The first release in which two connections can share a write-ahead log without damaging it.
const SQLITE_LEAST: i32 = 3_051_003;

pub(super) fn clock(now: SystemTime) -> Check {
    match Reason::of_clock(now) {
        None => Check::ok("clock", time(now)),
        Some(reason) => Check::warn("clock", reason.sentence(), reason.remedy()),
    }
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
        assert_eq!(clock(SystemTime::now()).verdict, Verdict::Ok);
        assert_eq!(sqlite().verdict, Verdict::Ok);
    }
}
