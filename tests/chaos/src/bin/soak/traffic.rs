//! The messages: what the nth one of a lane looks like, so that a reader can tell whether it is the right one, whole, and in its place.

use std::time::Duration;

use waypost::{NewMessage, Priority};

/// A reader reports to the sender after so many messages.
pub(crate) const REPORT_EVERY: u64 = 100;
/// The sender's channel, with all readers on it.
pub(crate) const CHANNEL: &str = "soak";
/// On which readers tell the sender directly how far they are.
pub(crate) const REPORTS: &str = "reports";

const LARGE_BYTES: usize = 10_000;
const SMALL_BYTES: [usize; 4] = [40, 120, 250, 500];

/// The lane of the message that is sent as this one of all.
pub(crate) fn lane(index: u64) -> Priority {
    match index % 50 {
        0 => Priority::High,
        1 => Priority::Low,
        _ => Priority::Normal,
    }
}

/// Every tenth message is large.
fn payload_bytes(n: u64) -> usize {
    if n % 10 == 3 { LARGE_BYTES } else { SMALL_BYTES[(n % 4) as usize] }
}

/// Every tenth message, small ones and large ones, lives for a short time only.
pub(crate) fn may_expire(n: u64) -> bool {
    matches!(n % 20, 7 | 13)
}

/// The number, and then noise that does not compress in the large ones, and text that does in the small ones.
pub(crate) fn payload(n: u64) -> Vec<u8> {
    let bytes = payload_bytes(n);
    let mut payload = Vec::with_capacity(bytes + 8);
    payload.extend(n.to_be_bytes());
    let mut random = n | 1;
    while payload.len() < bytes {
        if bytes == LARGE_BYTES {
            // Marsaglia's xorshift64.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            payload.extend(random.to_le_bytes());
        } else {
            payload.extend(b"position 54.32 N, 10.13 E; ");
        }
    }
    payload.truncate(bytes);
    payload
}

/// The number of a payload; none where it is not what was sent under that number.
pub(crate) fn number(received: &[u8]) -> Option<u64> {
    let n = u64::from_be_bytes(received.get(..8)?.try_into().ok()?);
    (received == payload(n)).then_some(n)
}

pub(crate) fn message(n: u64, lane: Priority, ttl: Duration) -> NewMessage {
    let message = NewMessage::bytes(payload(n)).priority(lane);
    if may_expire(n) { message.ttl(ttl) } else { message }
}

/// What a row of the log takes on average, in whole pages where a payload needs pages of its own.
pub(crate) fn row_bytes() -> u64 {
    const PAGE: u64 = 1024;
    /// Numbers, kind and the share of the page's own words.
    const BESIDES: u64 = 160;
    const SAMPLE: u64 = 20;
    let row = |n| {
        let payload = payload_bytes(n) as u64;
        // An overflow page begins with the number of the next one; what is left over stays in the row.
        if payload < PAGE { payload + BESIDES } else { payload.div_ceil(PAGE - 4) * PAGE + BESIDES }
    };
    (0..SAMPLE).map(row).sum::<u64>() / SAMPLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_number_and_a_changed_one_does_not() {
        for n in 0..100 {
            let mut payload = payload(n);
            assert_eq!(number(&payload), Some(n));
            let last = payload.len() - 1;
            payload[last] ^= 1;
            assert_eq!(number(&payload), None);
            assert_eq!(number(&payload[..last]), None);
        }
        assert_eq!(number(b""), None);
    }

    #[test]
    fn a_row_takes_between_the_small_and_the_large_payload() {
        let row = row_bytes();
        assert!((400..2_500).contains(&row), "{row}");
        assert_eq!((0..100).filter(|&n| may_expire(n)).count(), 10);
    }
}
