//! The seeded hash of everything in the index that comes from outside.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// A keyed hash function; who does not know the seed cannot build collisions.
#[derive(Clone)]
pub(super) struct Seed {
    seed: u64,
    shared: SharedSeed,
}

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            shared: SharedSeed::from_u64(seed),
        }
    }

    #[inline]
    pub(super) fn bytes(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(bytes);
        hasher.finish()
    }

    /// The hash of a number and a hash.
    #[inline]
    pub(super) fn pair(&self, number: u32, hash: u32) -> u32 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write_u64(u64::from(number) << 32 | u64::from(hash));
        (hasher.finish() >> 32) as u32
    }
}

/// Spreads a hash that was cut to 32 bits over 64: the tables take a position from the low bits and a tag from the top.
#[inline]
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
