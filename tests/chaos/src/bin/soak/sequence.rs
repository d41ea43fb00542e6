//! Whether what arrives is what was sent: each number once, in order, and none missing that could not expire.

use serde::{Deserialize, Serialize};

/// The numbers of one lane of one sender, which begin with 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sequence {
    /// The highest number so far.
    pub(crate) last: u64,
    pub(crate) received: u64,
    /// Numbers that were passed over and could expire.
    pub(crate) expired: u64,
    /// Numbers that were passed over and could not.
    pub(crate) lost: u64,
    /// Numbers that came again, or after a higher one.
    pub(crate) repeated: u64,
    /// Payloads that are not what was sent.
    pub(crate) damaged: u64,
}

impl Sequence {
    /// Takes the next number that came; none for a payload that is none.
    pub(crate) fn see(&mut self, number: Option<u64>, may_expire: impl Fn(u64) -> bool) {
        self.received += 1;
        match number {
            None => self.damaged += 1,
            Some(n) if n <= self.last => self.repeated += 1,
            Some(n) => {
                self.pass(n - 1, may_expire);
                self.last = n;
            }
        }
    }

    /// Says that the last number sent was this one, and nothing more will come.
    pub(crate) fn end(&mut self, last: u64, may_expire: impl Fn(u64) -> bool) {
        if last > self.last {
            self.pass(last, may_expire);
            self.last = last;
        }
    }

    fn pass(&mut self, up_to: u64, may_expire: impl Fn(u64) -> bool) {
        for n in self.last + 1..=up_to {
            if may_expire(n) {
                self.expired += 1;
            } else {
                self.lost += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64]) -> Sequence {
        let mut sequence = Sequence::default();
        for &n in numbers {
            sequence.see(Some(n), |n| n == 3);
        }
        sequence
    }

    #[test]
    fn what_arrives_in_order_is_only_counted() {
        assert_eq!(seen(&[1, 2, 3, 4]), Sequence { last: 4, received: 4, ..Sequence::default() });
    }

    #[test]
    fn a_gap_is_a_loss_unless_it_could_expire() {
        let sequence = seen(&[1, 2, 4, 6]);
        assert_eq!((sequence.expired, sequence.lost, sequence.repeated), (1, 1, 0));
    }

    #[test]
    fn what_is_missing_at_the_end_is_found() {
        let mut sequence = seen(&[1]);
        sequence.end(5, |n| n == 3);
        assert_eq!((sequence.expired, sequence.lost), (1, 3));
        sequence.end(5, |_| false);
        assert_eq!(sequence.lost, 3);
    }

    #[test]
    fn a_repetition_and_a_step_back_are_found() {
        assert_eq!(seen(&[1, 2, 2]).repeated, 1);
        assert_eq!((seen(&[2, 1]).repeated, seen(&[2, 1]).lost), (1, 1));
    }

    #[test]
    fn a_damaged_payload_is_found() {
        let mut sequence = Sequence::default();
        sequence.see(None, |_| false);
        assert_eq!((sequence.damaged, sequence.received), (1, 1));
    }
}
