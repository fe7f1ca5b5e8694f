//! SIEVE: a queue and a hand. A hit only marks; the hand goes from old to new, takes marks away, and evicts the first
//! without one. What was kept stays where it is, so new objects are sifted quickly and proven ones are left alone.
//!
//! Zhang, Yang, Yue, Vigfusson, Rashmi: SIEVE is Simpler than LRU, NSDI 2024, algorithm 1.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List, NONE, Place},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "sieve",
    aliases: &[],
    summary: "a hand sifts the queue: what was wanted since it last passed stays where it is",
    source: "Zhang, Yang, Yue, Vigfusson and Rashmi 2024 (NSDI)",
    new: |capacity| Box::new(Sieve::new(capacity)),
};

struct Sieve {
    capacity: u64,
    /// Marked: wanted since the hand last passed.
    entries: Entries<bool>,
    queue: List,
    /// Where the hand goes on; [`NONE`]: at the oldest.
    hand: Place,
}

impl Sieve {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            entries: Entries::new(),
            queue: List::EMPTY,
            hand: NONE,
        }
    }

    fn evict(&mut self) -> Option<Key> {
        let mut place = self.hand;
        loop {
            if place == NONE {
                place = self.queue.oldest();
            }
            let entry = self.entries.at_mut(place)?;
            if !std::mem::take(&mut entry.mark) {
                break;
            }
            place = self.entries.newer(place);
        }
        self.hand = self.entries.newer(place);
        self.entries.drop(place, &mut self.queue)
    }
}

impl Cache for Sieve {
    fn get(&mut self, key: Key) -> bool {
        let place = self.entries.find(key);
        let Some(entry) = place.and_then(|place| self.entries.at_mut(place)) else {
            return false;
        };
        entry.mark = true;
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.queue.weight() > self.capacity - weight {
            evicted.extend(self.evict());
        }
        self.entries.add(key, weight, false, &mut self.queue);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        if self.hand == place {
            self.hand = self.entries.newer(place);
        }
        self.entries.drop(place, &mut self.queue);
        true
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        self.entries.weight_of(key)
    }

    fn weight(&self) -> u64 {
        self.queue.weight()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.entries.each(&self.queue, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// The hand takes 1's mark away, evicts 2 and stays at 3. In the second trace it then takes the marks of 3 and 4 away,
    /// begins anew with 1, which has none any more, and then evicts 3.
    #[test]
    fn the_hand_goes_on_where_it_was() {
        assert_eq!(evictions("sieve", 3, &[1, 2, 3, 1, 4, 5]), [2, 3]);
        assert_eq!(
            evictions("sieve", 3, &[1, 2, 3, 1, 4, 3, 4, 5, 6]),
            [2, 1, 3]
        );
    }
}
