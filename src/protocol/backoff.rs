//! Pauses between attempts: exponential, with jitter and a cap.

use std::time::Duration;

/// A stream of pseudo-random numbers from a seed that the caller chose (SplitMix64, Steele, Lea and Flood 2014), so that a
/// simulation can repeat what happened.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Something from zero to `limit`.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        const STEPS: u64 = 1 << 16;
        limit.mul_f64((self.draw() % (STEPS + 1)) as f64 / STEPS as f64)
    }
}

/// How pauses grow.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    pub first: Duration,
    pub cap: Duration,
}

impl Backoff {
    /// The pause after this many failed attempts: `first` doubled with each further one up to `cap`, of which the last
    /// quarter is left to chance, so that many receivers that failed together do not come back together.
    pub fn pause(self, failures: u32, jitter: &mut Jitter) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.cap);
        whole - jitter.up_to(whole / 4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_lose_at_most_a_quarter() {
        let backoff = Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(300) };
        let mut jitter = Jitter::new(1);
        for (failures, whole) in [(1, 1), (2, 2), (3, 4), (9, 256), (10, 300), (u32::MAX, 300)] {
            let whole = Duration::from_secs(whole);
            for _ in 0..100 {
                let pause = backoff.pause(failures, &mut jitter);
                assert!(pause <= whole && pause >= whole * 3 / 4, "{failures}: {pause:?}");
            }
        }
    }

    #[test]
    fn one_seed_gives_one_stream() {
        let stream = |seed| {
            let mut jitter = Jitter::new(seed);
            [jitter.draw(), jitter.draw(), jitter.draw()]
        };
        assert_eq!(stream(7), stream(7));
        assert_ne!(stream(7), stream(8));
    }
}
