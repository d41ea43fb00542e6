//! With the feature: histograms of atomics. Observing one allocates nothing and takes no lock.

use std::collections::HashMap;
use std::time::Instant;

use prometheus::{Histogram, HistogramOpts, HistogramVec};

use super::Fsync;
use crate::condition::Latency;
use crate::message::{MessageId, NodeId, TopicId};

/// From acceptance to acknowledgement: a round trip where both sides are there, days where one is not.
const DELIVERY_SECONDS: [f64; 18] = [
    0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0, 3_600.0,
    21_600.0, 86_400.0, 259_200.0, 604_800.0,
];
const ACK_SECONDS: [f64; 15] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    30.0,
];
const COMMIT_SECONDS: [f64; 15] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
    0.1, 0.5, 1.0, 5.0,
];
/// Up to the most jobs that one transaction takes.
const COMMIT_JOBS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 128.0, 512.0, 1_024.0];

/// Says what the constants rule out.
const SOUND: &str = "the names, labels and buckets are constants that tests use";

/// The histograms of one node.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) delivery: Histogram,
    pub(crate) ack: Histogram,
    pub(crate) commits: HistogramVec,
    pub(crate) commit_jobs: Histogram,
    fsynced: Histogram,
    unsynced: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        let commits = HistogramVec::new(
            opts(
                "waypost_commit_seconds",
                "Time of a commit to the node's file, by whether it waited for an fsync.",
                &COMMIT_SECONDS,
            ),
            &["fsync"],
        )
        .expect(SOUND);
        Self {
            delivery: histogram(
                "waypost_delivery_seconds",
                "Time from a message's acceptance to its acknowledgement by a receiver, both by this node's clock, to the millisecond.",
                &DELIVERY_SECONDS,
            ),
            ack: histogram(
                "waypost_ack_seconds",
                "Time from the last sending of a frame to its acknowledgement.",
                &ACK_SECONDS,
            ),
            commit_jobs: histogram(
                "waypost_commit_jobs",
                "Jobs (sends, receipts, transactions) that shared one commit.",
                &COMMIT_JOBS,
            ),
            fsynced: commits.with_label_values(&["yes"]),
            unsynced: commits.with_label_values(&["no"]),
            commits,
        }
    }
}

fn opts(name: &str, help: &str, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::new(name, help).buckets(buckets.to_vec())
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(opts(name, help, buckets)).expect(SOUND)
}

/// When something began.
#[derive(Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Meter {
    pub(crate) fn committed(&self, since: &Stopwatch, fsync: Fsync, jobs: usize) {
        let commit = match fsync {
            Fsync::Yes => &self.fsynced,
            Fsync::No => &self.unsynced,
        };
        commit.observe(since.0.elapsed().as_secs_f64());
        self.commit_jobs.observe(jobs as f64);
    }

    /// Counts and sums, for a report.
    pub(crate) fn latency(&self) -> Option<Latency> {
        let of = |histogram: &Histogram| {
            (histogram.get_sample_count(), micros(histogram.get_sample_sum()))
        };
        let (deliveries, delivery_micros) = of(&self.delivery);
        let (acks, ack_micros) = of(&self.ack);
        let (fsyncs, fsync_micros) = of(&self.fsynced);
        Some(Latency { deliveries, delivery_micros, acks, ack_micros, fsyncs, fsync_micros })
    }
}

fn micros(seconds: f64) -> u64 {
    // Saturates where it does not fit.
    (seconds * 1e6) as u64
}

/// The frame that is on its way to each receiver.
#[derive(Debug, Default)]
pub(crate) struct Flights(HashMap<NodeId, Flight>);

#[derive(Debug)]
struct Flight {
    topic: TopicId,
    /// When it left; none for a frame that went out before: its answer may be the first one's, and nobody can tell (Karn's algorithm, RFC 6298).
    at: Option<Instant>,
    /// What it holds and when that was accepted, in order. Kept between frames, so that it is allocated once a receiver.
    messages: Vec<(MessageId, u64)>,
}

impl Flights {
    /// A frame with these messages, and when each was accepted, left for this receiver; `repeated`: it holds some that went out before.
    pub(crate) fn left<I>(
        &mut self,
        receiver: &NodeId,
        (topic, repeated): (TopicId, bool),
        messages: I,
    ) where
        I: Iterator<Item = (MessageId, u64)>,
    {
        let at = (!repeated).then(Instant::now);
        match self.0.get_mut(receiver) {
            Some(flight) => {
                (flight.topic, flight.at) = (topic, at);
                flight.messages.clear();
                flight.messages.extend(messages);
            }
            None => {
                let flight = Flight { topic, at, messages: messages.collect() };
                self.0.insert(receiver.clone(), flight);
            }
        }
    }

    /// The receiver acknowledged all messages of this topic up to this one. Those that are not on their way, because this node was restarted in
    /// between say, are not measured.
    pub(crate) fn acknowledged(
        &mut self,
        meter: &Meter,
        (receiver, topic): (&NodeId, TopicId),
        last: MessageId,
        now_ms: u64,
    ) {
        let Some(flight) = self.0.get_mut(receiver).filter(|flight| flight.topic == topic) else {
            return;
        };
        let count = flight.messages.iter().take_while(|(id, _)| *id <= last).count();
        if count == 0 {
            return;
        }
        if let Some(at) = flight.at {
            meter.ack.observe(at.elapsed().as_secs_f64());
        }
        for (_, accepted_ms) in flight.messages.drain(..count) {
            let waited_ms = now_ms.saturating_sub(accepted_ms);
            meter.delivery.observe(waited_ms as f64 / 1e3);
        }
    }

    /// This receiver is gone.
    pub(crate) fn forget(&mut self, receiver: &NodeId) {
        self.0.remove(receiver);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: TopicId = TopicId(1);

    fn id(n: u64) -> MessageId {
        MessageId::after("00000000000000000000000000".parse().expect("an id"), n, 0)
    }

    #[test]
    fn a_frame_is_measured_once_and_its_messages_one_by_one() {
        let (meter, mut flights) = (Meter::default(), Flights::default());
        let bob = NodeId::new("bob").expect("a name");
        flights.acknowledged(&meter, (&bob, A), id(9), 9_000);
        assert_eq!(meter.latency(), Some(Latency::default()), "nothing was on its way");
        flights.left(&bob, (A, false), [1_u64, 2, 3].into_iter().map(|n| (id(n), n * 1_000)));
        flights.acknowledged(&meter, (&bob, A), id(2), 5_000);
        let latency = meter.latency().expect("measured");
        assert_eq!((latency.deliveries, latency.delivery_micros), (2, 7_000_000));
        assert_eq!(latency.acks, 1);
        flights.acknowledged(&meter, (&bob, A), id(2), 5_000);
        assert_eq!(meter.latency().expect("measured").acks, 1, "a late repetition");
        flights.acknowledged(&meter, (&bob, TopicId(2)), id(3), 5_000);
        assert_eq!(meter.latency().expect("measured").deliveries, 2, "of another topic");
        flights.forget(&bob);
        flights.acknowledged(&meter, (&bob, A), id(3), 5_000);
        assert_eq!(meter.latency().expect("measured").deliveries, 2);
    }

    #[test]
    fn a_clock_that_goes_back_and_a_repetition_make_no_false_time() {
        let (meter, mut flights) = (Meter::default(), Flights::default());
        let bob = NodeId::new("bob").expect("a name");
        flights.left(&bob, (A, true), std::iter::once((id(1), 9_000)));
        flights.acknowledged(&meter, (&bob, A), id(1), 5_000);
        let latency = meter.latency().expect("measured");
        assert_eq!((latency.deliveries, latency.delivery_micros), (1, 0));
        assert_eq!(latency.acks, 0, "which of its two sendings this answers is not known");
    }
}
