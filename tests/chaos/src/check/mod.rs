//! The judge of messages: from what senders and receivers printed, what the conductor did and what the files say at the end, to what was
//! lost, unexpected, repeated, out of order or never settled. It trusts nobody's sums but its own.

use std::io;
use std::path::Path;

mod accounts;
mod deliveries;
mod evidence;
mod settling;
mod verdict;

pub use accounts::{Account, DeadLetter, Queue};
pub use verdict::{Fault, Finding, Kind, Row, Verdict};

use accounts::Accounts;
use deliveries::Deliveries;
use evidence::Evidence;

/// What a run must have reached to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demands {
    /// Fewest accepted messages.
    pub messages: u64,
    /// Fewest processes killed.
    pub kills: u64,
    /// Longest time until all was settled, from the moment when nothing was broken any more.
    pub calm_ms: u64,
}

impl Default for Demands {
    fn default() -> Self {
        Self { messages: 1, kills: 0, calm_ms: 300_000 }
    }
}

/// Judges the folder of a part.
///
/// # Errors
/// A file is missing or is none of ours; wrong content is a finding, not an error.
pub fn judge(folder: &Path, demands: Demands) -> io::Result<Verdict> {
    let mut verdict = Verdict::default();
    let mut evidence = Evidence::read(folder, &mut verdict)?;
    let mut accounts = Accounts::read(folder, &evidence, &mut verdict)?;
    let mut all = Vec::new();
    for (receiver, channel) in evidence.receivers() {
        let mut deliveries = Deliveries::new(&receiver, &channel, &evidence);
        deliveries.read(folder, &mut evidence, &mut verdict)?;
        all.push(deliveries);
    }
    accounts.place_unknown(&mut evidence, &mut verdict);
    settling::settle(&evidence, &accounts, all, &mut verdict);
    evidence.sum_up(demands, &mut verdict);
    Ok(verdict)
}
