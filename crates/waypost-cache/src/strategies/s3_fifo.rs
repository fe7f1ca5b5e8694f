//! S3-FIFO: three queues, all first in first out. What is new passes a small one; what was wanted twice there goes on to the
//! main one, the rest leaves only its key behind, in the ghost queue, and goes straight to the main one if it is wanted
//! again. The main queue gives what was wanted another round for each time, up to three.
//!
//! Yang, Zhang, Qiu, Yue, Rashmi: FIFO queues are all you need for cache eviction, SOSP 2023, algorithm 1. The small queue
//! has a tenth of the capacity, the ghost queue remembers as much as the main one holds. Queues are weighed, not counted.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "s3-fifo",
    aliases: &["s3"],
    summary: "a small queue keeps what is wanted once away from the main one",
    source: "Yang, Zhang, Qiu, Yue and Rashmi 2023 (SOSP)",
    new: |capacity| Box::new(S3Fifo::new(capacity)),
};

/// The small queue has this part of the capacity: one in so many.
const SMALL_PART: u64 = 10;

/// Further wishes are not counted.
const WANTED_MAX: u8 = 3;

/// What is wanted more often than this in the small queue goes to the main one.
const WANTED_ONCE: u8 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
    Ghost,
}

#[derive(Clone, Copy)]
struct Mark {
    queue: Queue,
    wanted: u8,
}

struct S3Fifo {
    capacity: u64,
    small_max: u64,
    entries: Entries<Mark>,
    small: List,
    main: List,
    ghost: List,
    ghosts: usize,
}

impl S3Fifo {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small_max: capacity / SMALL_PART,
            entries: Entries::new(),
            small: List::EMPTY,
            main: List::EMPTY,
            ghost: List::EMPTY,
            ghosts: 0,
        }
    }

    fn main_max(&self) -> u64 {
        self.capacity - self.small_max
    }

    fn evict(&mut self, evicted: &mut Vec<Key>) {
        let is_small_full = self.small.weight() >= self.small_max.max(1);
        if (is_small_full && !self.small.is_empty()) || self.main.is_empty() {
            self.evict_small(evicted);
        } else {
            self.evict_main(evicted);
        }
    }

    fn evict_small(&mut self, evicted: &mut Vec<Key>) {
        while let Some(entry) = self.entries.at_mut(self.small.oldest()) {
            let place = self.small.oldest();
            let (key, weight, wanted) = (entry.key, entry.weight, entry.mark.wanted);
            entry.mark.wanted = 0;
            if wanted > WANTED_ONCE {
                entry.mark.queue = Queue::Main;
                self.entries.shift(place, &mut self.small, &mut self.main);
                while self.main.weight() > self.main_max() {
                    self.evict_main(evicted);
                }
                continue;
            }
            evicted.push(key);
            // What weighs nothing would never make a ghost go.
            if weight == 0 {
                self.entries.drop(place, &mut self.small);
            } else {
                entry.mark.queue = Queue::Ghost;
                self.entries.shift(place, &mut self.small, &mut self.ghost);
                self.ghosts += 1;
                while self.ghost.weight() > self.main_max() {
                    self.entries.drop(self.ghost.oldest(), &mut self.ghost);
                    self.ghosts -= 1;
                }
            }
            return;
        }
    }

    fn evict_main(&mut self, evicted: &mut Vec<Key>) {
        while let Some(entry) = self.entries.at_mut(self.main.oldest()) {
            if entry.mark.wanted == 0 {
                evicted.extend(self.entries.drop(self.main.oldest(), &mut self.main));
                return;
            }
            entry.mark.wanted -= 1;
            self.entries.renew(self.main.oldest(), &mut self.main);
        }
    }

    /// Forgets the key; the queue it was in.
    fn forget(&mut self, key: Key) -> Option<Queue> {
        let place = self.entries.find(key)?;
        let queue = self.entries.at(place)?.mark.queue;
        let list = match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
            Queue::Ghost => {
                self.ghosts -= 1;
                &mut self.ghost
            }
        };
        self.entries.drop(place, list);
        Some(queue)
    }
}

impl Cache for S3Fifo {
    fn get(&mut self, key: Key) -> bool {
        let place = self.entries.find(key);
        let Some(entry) = place.and_then(|place| self.entries.at_mut(place)) else {
            return false;
        };
        entry.mark.wanted = (entry.mark.wanted + 1).min(WANTED_MAX);
        entry.mark.queue != Queue::Ghost
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        let queue = match self.forget(key) {
            Some(Queue::Ghost | Queue::Main) => Queue::Main,
            Some(Queue::Small) | None => Queue::Small,
        };
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.weight() > self.capacity - weight {
            self.evict(evicted);
        }
        let list = match queue {
            Queue::Main => &mut self.main,
            Queue::Small | Queue::Ghost => &mut self.small,
        };
        self.entries
            .add(key, weight, Mark { queue, wanted: 0 }, list);
    }

    fn remove(&mut self, key: Key) -> bool {
        self.forget(key).is_some_and(|queue| queue != Queue::Ghost)
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        let entry = self.entries.at(self.entries.find(key)?)?;
        (entry.mark.queue != Queue::Ghost).then_some(entry.weight)
    }

    fn weight(&self) -> u64 {
        self.small.weight() + self.main.weight()
    }

    fn len(&self) -> usize {
        self.entries.len() - self.ghosts
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.entries.each(&self.small, visit);
        self.entries.each(&self.main, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// 1 is wanted twice in the small queue and goes on to the main one; 2 left its key behind and comes back there.
    #[test]
    fn what_is_wanted_once_passes_by() {
        let trace = [1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 2, 12];
        assert_eq!(evictions("s3-fifo", 10, &trace), [2, 3, 4]);
        let more = [13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24];
        let trace: Vec<_> = trace.into_iter().chain(more).collect();
        let gone = evictions("s3-fifo", 10, &trace);
        assert!(
            !gone[3..].contains(&1) && !gone[3..].contains(&2),
            "{gone:?}"
        );
    }
}
