//! Bytes read as decisions.

use std::time::Duration;

/// What is left of them; when nothing is, every choice is the first one.
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn coin(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `end`, which is at most 256.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    pub fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        (!from.is_empty()).then(|| &from[self.below(from.len())])
    }

    /// Mostly small, sometimes any, sometimes at an end of the range.
    pub fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small) % 20,
            200..=219 => u64::MAX - u64::from(self.byte()),
            220..=229 => 1 << (self.byte() % 64),
            _ => u64::from_be_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// The same for ids.
    pub fn id(&mut self) -> u128 {
        match self.byte() {
            small @ 0..=199 => u128::from(small) % 40,
            200..=219 => u128::MAX - u128::from(self.byte()),
            _ => (u128::from(self.number()) << 64) | u128::from(self.number()),
        }
    }

    /// From nothing to some ten years.
    pub fn time(&mut self) -> Duration {
        match self.byte() {
            n @ 0..=99 => Duration::from_millis(u64::from(n)),
            n @ 100..=179 => Duration::from_millis(u64::from(n - 99) * 250),
            n @ 180..=239 => Duration::from_secs(u64::from(n - 179) * 60),
            n => Duration::from_secs(u64::from(n - 239) * 20_000_000),
        }
    }
}
