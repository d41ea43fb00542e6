//! What messages hold: random bytes, which no compression makes smaller.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of a message.
pub(crate) const PAYLOAD_BYTES: usize = 256;
/// Different payloads, after which they come again: compression never sees two of them together.
const DIFFERENT: usize = 4096;

/// Payloads made beforehand, so that making them is not measured.
pub(crate) struct Payloads {
    all: Vec<Bytes>,
    next: AtomicUsize,
}

impl Payloads {
    /// The same in every run.
    pub(crate) fn new() -> Self {
        let mut random = fastrand::Rng::with_seed(4);
        let payload = |_| {
            let mut bytes = vec![0; PAYLOAD_BYTES];
            random.fill(&mut bytes);
            Bytes::from(bytes)
        };
        Self { all: (0..DIFFERENT).map(payload).collect(), next: AtomicUsize::new(0) }
    }

    /// The next one.
    pub(crate) fn next(&self) -> Bytes {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        self.all[n % DIFFERENT].clone()
    }
}

/// A payload that says when it was to be sent.
pub(crate) fn stamped(at: Duration) -> Bytes {
    let mut bytes = BytesMut::with_capacity(PAYLOAD_BYTES);
    bytes.put_u64(u64::try_from(at.as_nanos()).expect("a short run"));
    let mut rest = [0; PAYLOAD_BYTES - size_of::<u64>()];
    fastrand::fill(&mut rest);
    bytes.put_slice(&rest);
    bytes.freeze()
}

/// When this payload was to be sent.
pub(crate) fn stamp(payload: &[u8]) -> Option<Duration> {
    let first = payload.first_chunk()?;
    Some(Duration::from_nanos(u64::from_be_bytes(*first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        let at = Duration::from_nanos(1_234_567_890_123);
        let payload = stamped(at);
        assert_eq!((payload.len(), stamp(&payload)), (PAYLOAD_BYTES, Some(at)));
        assert_eq!(stamp(b"short"), None);
    }
}
