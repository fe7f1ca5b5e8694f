//! A cache of every strategy, by generated calls, against the keys it says it keeps.
//!
//! Input: a byte for the strategy, one for the capacity, then three bytes per call: what, which key, which weight.

use std::collections::BTreeMap;

use waypost_cache::{Cache, Key, registry};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&[selector, capacity], calls)) = input.split_first_chunk() else {
        return;
    };
    let strategies = registry();
    let Some(strategy) = strategies.get(usize::from(selector) % strategies.len()) else {
        return;
    };
    let capacity = u64::from(capacity) * 4;
    let mut cache: Box<dyn Cache> = (strategy.new)(capacity);
    let mut kept = BTreeMap::new();
    let mut evicted = Vec::new();
    for call in calls.chunks_exact(3) {
        let &[what, key, weight] = call else { return };
        let (key, weight) = (Key(key.into()), u64::from(weight));
        match what % 4 {
            0 | 1 => assert_eq!(cache.get(key), kept.contains_key(&key)),
            2 => {
                kept.insert(key, weight);
                cache.insert(key, weight, &mut evicted);
                for key in evicted.drain(..) {
                    assert!(kept.remove(&key).is_some(), "{key:?} was not there");
                }
            }
            _ => assert_eq!(cache.remove(key), kept.remove(&key).is_some()),
        }
        assert_eq!(cache.len(), kept.len());
        assert_eq!(cache.weight(), kept.values().sum::<u64>());
        assert!(cache.weight() <= capacity);
    }
}
