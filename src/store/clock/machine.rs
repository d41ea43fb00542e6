//! The clocks of the machine that this is.

use std::fs;
use std::time::{Duration, SystemTime as Wall, UNIX_EPOCH};

use super::TimeSource;
use crate::clock;
use crate::config::WallClock;
use crate::protocol::life::{EARLIEST_MS, Machine, Trust};

/// A battery-backed clock shows whole seconds.
const BATTERY_AGREES_MS: u64 = 2_000;

/// There since the clock was synchronised in this boot.
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";
const BATTERY_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const TIME_NAMESPACE: &str = "/proc/self/ns/time";
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SystemTime(pub(crate) WallClock);

impl TimeSource for SystemTime {
    fn wall_ms(&self) -> u64 {
        millis(Wall::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn up_ms(&self) -> u64 {
        millis(clock::since_boot())
    }

    fn machine(&self) -> Machine {
        let namespace = fs::read_link(TIME_NAMESPACE).ok();
        Machine {
            host: MACHINE_IDS.iter().find_map(|path| id(path)),
            boot: id(BOOT_ID).filter(|_| clock::COUNTS_FROM_BOOT),
            time_namespace: namespace.map_or(0, |name| hash(name.as_os_str().as_encoded_bytes())),
        }
    }

    fn trust(&self, wall_ms: u64) -> Trust {
        match self.0 {
            WallClock::Always => Trust::Told,
            WallClock::Never => Trust::Unknown,
            WallClock::Auto => signs(wall_ms, synchronised_at_ms(), battery_ms()),
        }
    }
}

/// What the signs say of this wall time.
fn signs(wall_ms: u64, synchronised_at_ms: Option<u64>, battery_ms: Option<u64>) -> Trust {
    let agrees = |other: &u64| other.abs_diff(wall_ms) <= BATTERY_AGREES_MS;
    if wall_ms < EARLIEST_MS {
        Trust::Unknown
    } else if synchronised_at_ms.is_some_and(|at| at <= wall_ms) {
        Trust::Synchronised
    } else if battery_ms.as_ref().is_some_and(agrees) {
        Trust::Battery
    } else {
        Trust::Unknown
    }
}

fn synchronised_at_ms() -> Option<u64> {
    let at = fs::metadata(SYNCHRONISED).ok()?.modified().ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(millis)
}

fn battery_ms() -> Option<u64> {
    let secs: u64 = fs::read_to_string(BATTERY_CLOCK).ok()?.trim().parse().ok()?;
    secs.checked_mul(1_000)
}

fn id(path: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    // What an image says that has not been started yet.
    (!text.is_empty() && text != "uninitialized").then(|| hash(text.as_bytes()))
}

/// FNV-1a, in the 63 bits that SQLite's integers have above zero. Hashed because a machine id is not to be passed on.
fn hash(bytes: &[u8]) -> u64 {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash >> 1
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_is_trusted_for_a_sign_and_never_before_2026() {
        let now = EARLIEST_MS + 1_000_000;
        assert_eq!(signs(now, None, None), Trust::Unknown);
        assert_eq!(signs(now, Some(now - 5), None), Trust::Synchronised);
        assert_eq!(signs(now, Some(now + 5), None), Trust::Unknown, "it was set back since");
        assert_eq!(signs(now, None, Some(now - 1_999)), Trust::Battery);
        assert_eq!(signs(now, None, Some(now + 3_600_000)), Trust::Unknown);
        assert_eq!(signs(5_000, Some(0), Some(5_000)), Trust::Unknown);
    }

    #[test]
    fn the_settings_have_the_last_word() {
        let trust = |setting| SystemTime(setting).trust(0);
        assert_eq!(
            [WallClock::Always, WallClock::Never, WallClock::Auto].map(trust),
            [Trust::Told, Trust::Unknown, Trust::Unknown]
        );
    }

    #[test]
    fn the_machine_is_the_same_when_it_is_asked_again() {
        let time = SystemTime::default();
        assert_eq!(time.machine(), time.machine());
        let before = time.up_ms();
        assert!(time.up_ms() >= before);
        assert_ne!(hash(b"a"), hash(b"b"));
        assert!(i64::try_from(hash(b"anything")).is_ok());
    }
}
