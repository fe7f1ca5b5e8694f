//! Least recently used: what was not wanted for the longest time goes first.
//!
//! One list; what is wanted becomes its newest.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lru",
    aliases: &["least-recently-used"],
    summary: "what was not wanted for the longest time goes first",
    source: "textbook",
    new: |capacity| Box::new(Lru::new(capacity)),
};

struct Lru {
    capacity: u64,
    entries: Entries<()>,
    list: List,
}

impl Lru {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            entries: Entries::new(),
            list: List::EMPTY,
        }
    }
}

impl Cache for Lru {
    fn get(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        self.entries.renew(place, &mut self.list);
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.list.weight() > self.capacity - weight {
            evicted.extend(self.entries.drop(self.list.oldest(), &mut self.list));
        }
        self.entries.add(key, weight, (), &mut self.list);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        self.entries.drop(place, &mut self.list);
        true
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        self.entries.weight_of(key)
    }

    fn weight(&self) -> u64 {
        self.list.weight()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.entries.each(&self.list, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    #[test]
    fn what_was_not_wanted_for_the_longest_time_goes() {
        assert_eq!(evictions("lru", 3, &[1, 2, 3, 1, 4, 5]), [2, 3]);
    }
}
