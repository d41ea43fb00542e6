//! How the programs of this repository end: the first SIGINT, SIGTERM or SIGHUP asks for a clean end, the second gets one at once.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// SIGXFSZ: a write beyond what the process may write into one file (`ulimit -f`).
const FILE_TOO_LARGE: Number =
    if cfg!(any(target_arch = "mips", target_arch = "mips64")) { 31 } else { 25 };

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
    /// Takes the signals over.
    ///
    /// # Errors
    /// The system refuses the handlers.
    ///
    /// # Panics
    /// Outside a tokio runtime that has its I/O driver.
    pub fn listen() -> io::Result<Self> {
        // With a handler, the write that goes beyond the limit on file sizes fails, and the node says so, instead of the process being killed.
        drop(signal(SignalKind::from_raw(FILE_TOO_LARGE))?);
        let (caught, first) = watch::channel(None);
        let last_deed = LastDeed::default();
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let (caught, last_deed) = (caught.clone(), last_deed.clone());
            // Ends with the runtime: a second signal may come at any moment until then.
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let number = kind.as_raw_value();
                    if caught.send_replace(Some(number)).is_some() {
                        do_now(&last_deed);
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
            // The listeners are gone only with the runtime.
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
