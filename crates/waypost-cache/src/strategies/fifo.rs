//! First in, first out: what came first goes first, however often it was wanted since.
//!
//! One list, which a hit does not touch.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "fifo",
    aliases: &["first-in-first-out"],
    summary: "what came first goes first, wanted or not",
    source: "textbook",
    new: |capacity| Box::new(Fifo::new(capacity)),
};

struct Fifo {
    capacity: u64,
    entries: Entries<()>,
    list: List,
}

impl Fifo {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            entries: Entries::new(),
            list: List::EMPTY,
        }
    }
}

impl Cache for Fifo {
    fn get(&mut self, key: Key) -> bool {
        self.entries.find(key).is_some()
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
    fn what_came_first_goes_even_if_it_was_just_wanted() {
        assert_eq!(evictions("fifo", 3, &[1, 2, 3, 1, 4, 5]), [1, 2]);
    }
}
