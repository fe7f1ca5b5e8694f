//! The two hash functions of the core: a secret one for its tables, and one that all shards share.

use std::hash::Hasher as _;

use foldhash::SharedSeed;
use foldhash::fast::FoldHasher;

/// Keyed by the broker's seed: who does not know it cannot build collisions.
#[derive(Clone)]
pub(crate) struct Hasher {
    seed: u64,
    shared: SharedSeed,
}

impl Hasher {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shared: SharedSeed::from_u64(seed),
        }
    }

    #[inline]
    pub fn hash(&self, text: &str) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared);
        hasher.write(text.as_bytes());
        hasher.finish()
    }
}

/// FNV-1a, finished well: the same on every shard, never 0. Decides which shard is whose registrar, which owns a
/// retained topic, and who published a message (No Local).
pub(crate) fn shared_hash(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash.max(1)
}
