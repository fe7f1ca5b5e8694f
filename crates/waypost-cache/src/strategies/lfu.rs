//! Least frequently used: what was wanted least often since it came goes first.
//!
//! It counts wishes while it keeps something and forgets them when it goes (in-cache LFU); of what was wanted equally often
//! the least recently wanted goes.

use super::frequency::ByFrequency;
use crate::{Cache, Key, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lfu",
    aliases: &["least-frequently-used"],
    summary: "what was wanted least often since it came goes first",
    source: "textbook; in constant time by Shah, Mitra and Matani 2010",
    new: |capacity| Box::new(Lfu::new(capacity)),
};

struct Lfu {
    capacity: u64,
    keys: ByFrequency,
}

impl Lfu {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            keys: ByFrequency::new(),
        }
    }
}

impl Cache for Lfu {
    fn get(&mut self, key: Key) -> bool {
        self.keys.count(key)
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.keys.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.keys.weight() > self.capacity - weight {
            evicted.extend(self.keys.take_least());
        }
        self.keys.add(key, weight);
    }

    fn remove(&mut self, key: Key) -> bool {
        self.keys.remove(key)
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        self.keys.weight_of(key)
    }

    fn weight(&self) -> u64 {
        self.keys.weight()
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.keys.each(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// 1 was wanted twice; of 2 and 3, wanted once, 2 is the older. 4 is then the least wanted beside 3.
    #[test]
    fn what_was_wanted_least_goes_and_of_that_the_oldest() {
        assert_eq!(evictions("lfu", 3, &[1, 2, 3, 1, 4, 3, 5]), [2, 4]);
    }
}
