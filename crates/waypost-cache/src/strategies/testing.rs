//! What the strategies' unit tests share.

use crate::{Key, find};

/// What goes, in order, while keys that weigh one are wanted through a cache of so many.
pub(super) fn evictions(strategy: &str, capacity: u64, trace: &[u64]) -> Vec<u64> {
    let mut cache = (find(strategy).unwrap().new)(capacity);
    let mut evicted = Vec::new();
    for key in trace.iter().copied().map(Key) {
        if !cache.get(key) {
            cache.insert(key, 1, &mut evicted);
        }
    }
    evicted.into_iter().map(|key| key.0).collect()
}
