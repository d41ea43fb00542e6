//! Without the feature: the same calls, which do nothing.

use super::Fsync;
use crate::condition::Latency;
use crate::message::{MessageId, NodeId, TopicId};

#[derive(Debug, Default)]
pub(crate) struct Meter;

#[derive(Debug)]
pub(crate) struct Stopwatch;

#[derive(Debug, Default)]
pub(crate) struct Flights(());

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self
    }
}

impl Meter {
    pub(crate) fn committed(&self, _since: &Stopwatch, _fsync: Fsync, _jobs: usize) {}

    pub(crate) fn latency(&self) -> Option<Latency> {
        None
    }
}

impl Flights {
    pub(crate) fn left<I>(&mut self, _receiver: &NodeId, _what: (TopicId, bool), _messages: I)
    where
        I: Iterator<Item = (MessageId, u64)>,
    {
    }

    pub(crate) fn acknowledged(
        &mut self,
        _meter: &Meter,
        _whose: (&NodeId, TopicId),
        _last: MessageId,
        _now_ms: u64,
    ) {
    }

    pub(crate) fn forget(&mut self, _receiver: &NodeId) {}
}
