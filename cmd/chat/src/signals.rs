//! SIGINT, SIGTERM and SIGHUP: the first asks for a clean end, the second gets one at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// A signal's number.
pub(crate) type Number = i32;

/// Listens for as long as the program runs.
#[derive(Debug, Clone)]
pub(crate) struct Signals {
    first: watch::Receiver<Option<Number>>,
}

impl Signals {
    /// Takes the signals over. `before_exit` is called before the second one ends the program.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub(crate) fn listen(before_exit: impl Fn() + Clone + Send + 'static) -> io::Result<Self> {
        let (caught, first) = watch::channel(None);
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut signals = signal(kind)?;
            let (caught, before_exit) = (caught.clone(), before_exit.clone());
            // Ends with the runtime: a second signal may come at any moment until then.
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let number = kind.as_raw_value();
                    if caught.send_replace(Some(number)).is_some() {
                        before_exit();
                        std::process::exit(128 + number);
                    }
                }
            });
        }
        Ok(Self { first })
    }

    /// Waits for the first signal. Cancelling loses nothing.
    pub(crate) async fn caught(&mut self) -> Number {
        match self.first.wait_for(Option::is_some).await.map(|number| *number) {
            Ok(Some(number)) => number,
            // The listeners are gone only with the runtime.
            _ => std::future::pending().await,
        }
    }
}
