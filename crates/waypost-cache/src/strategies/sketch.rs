//! How often keys were wanted lately, in little memory: a count-min sketch of four-bit counters that halves them all from time
//! to time.
//!
//! Einziger, Friedman, Manes: `TinyLFU`: A Highly Efficient Cache Admission Policy, ACM Transactions on Storage, 2017. A key has
//! four counters in one block of eight words, a cache line; its count is the smallest of them.

use foldhash::fast::FixedState;
use std::hash::BuildHasher;

use crate::Key;

const ROWS: u32 = 4;

/// Words of a block; each has 16 counters.
const BLOCK_WORDS: usize = 8;

/// The highest count.
const COUNT_MAX: u64 = 15;

/// In every counter but its lowest bit, moved down by one: what remains when all are halved.
const HALF_MASK: u64 = 0x7777_7777_7777_7777;

/// Counts are halved after so many wishes for each key there is room for.
const SAMPLE_FACTOR: usize = 10;

/// Room for this many keys at first.
const KEYS_MIN: usize = 64;

pub(super) struct Sketch {
    blocks: Vec<[u64; BLOCK_WORDS]>,
    keys: usize,
    counted: usize,
}

impl Sketch {
    pub(super) fn new() -> Self {
        Self {
            blocks: vec![[0; BLOCK_WORDS]; KEYS_MIN / BLOCK_WORDS],
            keys: KEYS_MIN,
            counted: 0,
        }
    }

    /// Counts a wish.
    pub(super) fn count(&mut self, key: Key) {
        let hash = Self::hash(key);
        let mut is_counted = false;
        if let Some(block) = self.block_of(hash).and_then(|at| self.blocks.get_mut(at)) {
            for (word, shift) in counters(hash) {
                if let Some(word) = block.get_mut(word)
                    && (*word >> shift) & COUNT_MAX < COUNT_MAX
                {
                    *word += 1 << shift;
                    is_counted = true;
                }
            }
        }
        self.counted += usize::from(is_counted);
        if self.counted >= self.keys * SAMPLE_FACTOR {
            self.halve();
        }
    }

    /// How often it was wanted lately; never too few, sometimes too many.
    pub(super) fn estimate(&self, key: Key) -> u64 {
        let hash = Self::hash(key);
        let Some(block) = self.block_of(hash).and_then(|at| self.blocks.get(at)) else {
            return 0;
        };
        let counts = counters(hash)
            .filter_map(|(word, shift)| block.get(word).map(|word| (word >> shift) & COUNT_MAX));
        counts.min().unwrap_or(0)
    }

    /// Makes room for so many keys. A key's counters in the larger sketch begin with what they shared in the smaller.
    pub(super) fn grow(&mut self, keys: usize) {
        self.keys = self.keys.max(keys);
        while self.blocks.len() * BLOCK_WORDS < keys {
            self.blocks.extend_from_within(..);
        }
    }

    fn halve(&mut self) {
        self.counted /= 2;
        for word in self.blocks.iter_mut().flatten() {
            *word = (*word >> 1) & HALF_MASK;
        }
    }

    fn hash(key: Key) -> u64 {
        FixedState::default().hash_one(key)
    }

    /// The number of blocks is a power of two.
    #[allow(clippy::cast_possible_truncation, reason = "some bits of a hash")]
    fn block_of(&self, hash: u64) -> Option<usize> {
        let mask = self.blocks.len().checked_sub(1)?;
        Some(hash as usize & mask)
    }
}

/// A key's counters: in which word of the block, and by how many bits shifted there. Each row has two words.
fn counters(hash: u64) -> impl Iterator<Item = (usize, u32)> {
    (0..ROWS).map(move |row| {
        let [bits, ..] = (hash >> (32 + 8 * row)).to_le_bytes();
        let word = row as usize * 2 + usize::from(bits & 1);
        (word, u32::from(bits >> 1 & 15) * 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_never_too_low_and_mostly_right() {
        let mut sketch = Sketch::new();
        sketch.grow(1_000);
        for key in 0..500 {
            (0..=key % 8).for_each(|_| sketch.count(Key(key)));
        }
        let mut wrong = 0;
        for key in 0..500 {
            let estimate = sketch.estimate(Key(key));
            assert!(estimate > key % 8, "{key}: {estimate}");
            wrong += u64::from(estimate != key % 8 + 1);
        }
        assert!(wrong < 25, "{wrong} of 500 are too high");
    }

    #[test]
    fn a_count_ends_at_fifteen_and_halves() {
        let mut sketch = Sketch::new();
        (0..100).for_each(|_| sketch.count(Key(1)));
        assert_eq!(sketch.estimate(Key(1)), 15);
        sketch.halve();
        assert_eq!(sketch.estimate(Key(1)), 7);
        assert_eq!(sketch.estimate(Key(2)), 0);
    }

    #[test]
    fn growing_forgets_nothing() {
        let mut sketch = Sketch::new();
        (0..50).for_each(|key| (0..3).for_each(|_| sketch.count(Key(key))));
        let before: Vec<_> = (0..100).map(|key| sketch.estimate(Key(key))).collect();
        sketch.grow(100_000);
        let after: Vec<_> = (0..100).map(|key| sketch.estimate(Key(key))).collect();
        assert_eq!(before, after);
    }

    /// Goal: what was wanted long ago does not count for ever. Method: ten times as many wishes as there is room for keys.
    #[test]
    fn the_sample_ends() {
        let mut sketch = Sketch::new();
        (0..8).for_each(|_| sketch.count(Key(1)));
        (2..650).for_each(|key| sketch.count(Key(key)));
        assert!(sketch.estimate(Key(1)) < 8);
    }
}
