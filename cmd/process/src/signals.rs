//! How the programs end: the first SIGINT, SIGTERM or SIGHUP asks for a clean end, the second gets one at once. One that was ignored when the
//! program was started stays ignored: `nohup` does that to SIGHUP, and a shell to the SIGINT of a job in the background.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::streams;

/// How long an end at once waits for what was said on standard error.
const AT_ONCE: Duration = Duration::from_millis(100);

/// A signal's number.
pub type Number = i32;

/// Listens for as long as the program runs.
#[derive(Clone)]
pub struct Signals {
    first: watch::Receiver<Option<Number>>,
    last_deed: LastDeed,
}

/// What is left to be done before the program is gone.
type LastDeed = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

impl Signals {
    /// Takes the signals over, but for those that are ignored.
    ///
    /// # Errors
    /// The system refuses the handlers.
    ///
    /// # Panics
    /// Outside a tokio runtime that has its I/O driver.
    pub fn listen() -> io::Result<Self> {
        let (caught, first) = watch::channel(None);
        let last_deed = LastDeed::default();
        // Before the first handler, which would take its place.
        let ignored = ignored();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            if ignored & mask(kind) != 0 {
                continue;
            }
            let mut signals = signal(kind)?;
            let (caught, last_deed) = (caught.clone(), last_deed.clone());
            // Ends with the runtime: a second signal may come at any moment until then.
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let number = kind.as_raw_value();
                    if caught.send_replace(Some(number)).is_some() {
                        do_now(&last_deed);
                        streams::finish(AT_ONCE);
                        #[allow(clippy::disallowed_methods)]
                        std::process::exit(128 + number);
                    }
                }
            });
        }
        Ok(Self { first, last_deed })
    }

    /// Has this done when a second signal ends the program, in place of what was to be done until now. It must come to an end whatever the rest
    /// of the program is stuck in. Waits for its end where it has begun.
    pub fn before_exit(&self, deed: impl FnOnce() + Send + 'static) {
        self.replace(Some(Box::new(deed)));
    }

    /// Has nothing done any more.
    pub fn exit_at_once(&self) {
        self.replace(None);
    }

    fn replace(&self, deed: Option<Box<dyn FnOnce() + Send>>) {
        if let Ok(mut last_deed) = self.last_deed.lock() {
            *last_deed = deed;
        }
    }

    /// Waits for the first signal. Cancelling loses nothing.
    pub async fn caught(&mut self) -> Number {
        match self.first.wait_for(Option::is_some).await.map(|number| *number) {
            Ok(Some(number)) => number,
            // All are ignored, or the listeners are gone with the runtime.
            _ => std::future::pending().await,
        }
    }
}

/// Once, and with the lock held: neither another signal nor who takes the deed back ends the program in the midst of it.
fn do_now(last_deed: &LastDeed) {
    if let Ok(mut last_deed) = last_deed.lock()
        && let Some(deed) = last_deed.take()
    {
        deed();
    }
}

/// Signals that this process ignores, as the system's bit mask. Elsewhere than on Linux none are known, and all are listened to.
fn ignored() -> u64 {
    std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored_in(&status))
}

fn ignored_in(status: &str) -> u64 {
    let field = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    field.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn mask(kind: SignalKind) -> u64 {
    let number = u32::try_from(kind.as_raw_value()).unwrap_or(0);
    1_u64.checked_shl(number.saturating_sub(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals_is_read() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t00\n";
        let ignored = ignored_in(status);
        assert_ne!(ignored & mask(SignalKind::hangup()), 0);
        assert_eq!(ignored & mask(SignalKind::interrupt()), 0);
        assert_eq!(ignored & mask(SignalKind::terminate()), 0);
        assert_eq!(ignored_in("Name:\tx\n"), 0);
        assert_eq!(ignored_in("SigIgn:\tzz\n"), 0);
    }
}
