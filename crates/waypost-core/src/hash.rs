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

/// Of a long payload, how much of its beginning and of its end is hashed.
const ENDS_BYTES: usize = 256;

/// Tells one message from another under the same Packet Identifier, by what is the same each time it is sent. Written
/// down: it stays what it is.
pub(crate) fn content_hash(payload: &[u8]) -> u64 {
    let ends = payload.len().min(ENDS_BYTES);
    let (first, _) = payload.split_at(ends);
    let (_, last) = payload.split_at(payload.len() - ends);
    let len = (payload.len() as u64).to_le_bytes();
    let bytes = len.iter().chain(first).chain(last);
    hash(bytes.copied())
}

/// FNV-1a, finished well: the same on every shard, never 0. Decides which shard is whose registrar, which owns a
/// retained topic, and who published a message (No Local).
pub(crate) fn shared_hash(text: &str) -> u64 {
    hash(text.bytes())
}

fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^= hash >> 32;
    hash.max(1)
}
