//! How the node did over the last minutes, for the page's charts.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use serde::Serialize;
use waypost::MessageId;

use super::Hub;

/// Samples that are kept: at one every 2 s, five minutes.
const MAX_SAMPLES: usize = 150;
/// Messages whose time is taken at once.
const MAX_TIMED: usize = 1000;

/// The counters at one moment, since the node's start.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Milliseconds since 1970.
    at_ms: u64,
    /// Messages that this node has sent.
    sent: u64,
    /// Deliveries of them.
    delivered: u64,
    /// Messages that it has taken.
    received: u64,
    /// Messages that wait, over all receivers.
    queued: u64,
    /// How long it took until everybody had a message: the median of those that were done since the last sample, in milliseconds.
    latency_ms: Option<u64>,
}

/// What has been measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    samples: VecDeque<Sample>,
    sent_at: BTreeMap<MessageId, Instant>,
    took_ms: Vec<u64>,
}

impl Measured {
    pub(super) fn sent(&mut self, id: MessageId) {
        self.sent_at.insert(id, Instant::now());
        // The oldest may wait for somebody who is away for long.
        if self.sent_at.len() > MAX_TIMED {
            self.sent_at.pop_first();
        }
    }

    pub(super) fn settled(&mut self, id: MessageId) {
        if let Some(at) = self.sent_at.remove(&id)
            && self.took_ms.len() < MAX_TIMED
        {
            self.took_ms.push(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX));
        }
    }

    fn median(&mut self) -> Option<u64> {
        let mut took = std::mem::take(&mut self.took_ms);
        took.sort_unstable();
        took.get(took.len() / 2).copied()
    }
}

impl Hub {
    /// Takes a sample.
    ///
    /// # Errors
    /// The node is shut down, or its file cannot be read.
    pub(crate) async fn sample(&self) -> anyhow::Result<()> {
        let statistics = self.node().statistics().await?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let measured = &mut self.state().measured;
        let sample = Sample {
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            sent: statistics.counters.accepted,
            delivered: statistics.counters.delivered,
            received: statistics.counters.processed,
            queued: statistics.queued,
            latency_ms: measured.median(),
        };
        measured.samples.push_back(sample);
        if measured.samples.len() > MAX_SAMPLES {
            measured.samples.pop_front();
        }
        Ok(())
    }

    /// The samples of the last minutes, the oldest first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        self.state().measured.samples.iter().cloned().collect()
    }
}
