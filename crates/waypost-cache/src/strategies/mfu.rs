//! Most frequently used: what was wanted most often since it came goes first, for it had its share.
//!
//! Good where something is wanted a fixed number of times, and in loops; bad nearly everywhere else. It counts wishes while it
//! keeps something; of what was wanted equally often the least recently wanted goes.

use super::frequency::ByFrequency;
use crate::{Cache, Key, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "mfu",
    aliases: &["most-frequently-used"],
    summary: "what was wanted most often since it came goes first: it had its share",
    source: "textbook; in constant time by Shah, Mitra and Matani 2010",
    new: |capacity| Box::new(Mfu::new(capacity)),
};

struct Mfu {
    capacity: u64,
    keys: ByFrequency,
}

impl Mfu {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            keys: ByFrequency::new(),
        }
    }
}

impl Cache for Mfu {
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
            evicted.extend(self.keys.take_most());
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
        self.keys.each_from_most(visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// 1 was wanted twice and goes; then all were wanted once, and 2 is the oldest.
    #[test]
    fn what_was_wanted_most_goes_and_of_that_the_oldest() {
        assert_eq!(evictions("mfu", 3, &[1, 2, 3, 1, 4, 5]), [1, 2]);
    }
}
