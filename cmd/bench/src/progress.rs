//! How far a run is, on a terminal.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar on standard error where that is a terminal; nothing elsewhere.
pub(crate) struct Progress {
    bar: ProgressBar,
    now: Mutex<String>,
}

impl Progress {
    /// For so many rounds over all scenarios.
    pub(crate) fn new(rounds: usize) -> Self {
        let bar = ProgressBar::new(rounds as u64);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed:>4} {wide_msg}");
        bar.set_style(style.expect("a valid template"));
        bar.enable_steady_tick(Duration::from_millis(250));
        Self { bar, now: Mutex::default() }
    }

    /// Says what is being measured.
    pub(crate) fn step(&self, what: impl Into<String>) {
        let what = what.into();
        tracing::info!("{what}");
        self.bar.set_message(what.clone());
        *self.now.lock().expect("nothing panics with it") = what;
    }

    /// What is being measured.
    pub(crate) fn now(&self) -> String {
        let now = self.now.lock().expect("nothing panics with it").clone();
        if now.is_empty() { "the start".to_owned() } else { now }
    }

    /// A round of a scenario is over.
    pub(crate) fn round_done(&self) {
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
