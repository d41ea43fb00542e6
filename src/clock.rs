//! A monotonic clock that goes on while the machine is suspended, where the system has one.
//!
//! What another machine promised for three seconds is over after three seconds, asleep or not. `Instant` stands still meanwhile on Linux and on Apple's systems.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Where both clocks stood when the first of them was read here.
static START: OnceLock<(Instant, Option<Duration>)> = OnceLock::new();

/// The time, comparable only with other results of this function.
pub(crate) fn now() -> Instant {
    let (start, counted) = *START.get_or_init(|| (Instant::now(), counted()));
    match (counted, self::counted()) {
        (Some(before), Some(now)) => start + now.saturating_sub(before),
        _ => Instant::now(),
    }
}

/// Whether [`since_boot`] counts from the machine's start, so that other processes can compare theirs with it.
pub(crate) const COUNTS_FROM_BOOT: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_vendor = "apple"));

/// The time since the machine was started, suspended time included; where the system does not tell, since this was first asked.
pub(crate) fn since_boot() -> Duration {
    counted().unwrap_or_else(|| START.get_or_init(|| (Instant::now(), counted())).0.elapsed())
}

/// When the runtime's timers, which stand still while the machine is suspended, are to go off for this time.
pub(crate) fn timer_at(at: Instant) -> Instant {
    Instant::now() + at.saturating_duration_since(now())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn counted() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(time).ok()
}

#[cfg(target_vendor = "apple")]
fn counted() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(time).ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn counted() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests;
