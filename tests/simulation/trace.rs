//! What happened: a number over all of it, and in a repetition of a failed run the last steps as text.

use std::collections::VecDeque;
use std::time::Duration;

/// Lines that are kept; `WAYPOST_SIM_TRACE` asks for more.
const LINES: usize = 120;

#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    most: usize,
}

impl Trace {
    pub(crate) fn new(recording: bool) -> Self {
        let asked = std::env::var("WAYPOST_SIM_TRACE").ok().and_then(|lines| lines.parse().ok());
        let most = asked.unwrap_or(LINES);
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: recording.then(VecDeque::new), most }
    }

    /// Mixes these in (FNV-1a over words).
    pub(crate) fn mix(&mut self, words: &[u64]) {
        for word in words {
            self.hash = (self.hash ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        }
    }

    pub(crate) fn is_recording(&self) -> bool {
        self.lines.is_some()
    }

    pub(crate) fn line(&mut self, now: Duration, line: &str) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() >= self.most {
            lines.pop_front();
        }
        lines.push_back(format!("{:>12.6} {}", now.as_secs_f64(), line));
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.lines.iter().flatten();
        lines.map(|line| format!("{line}\n")).collect()
    }
}
