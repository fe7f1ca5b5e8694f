//! LRU and LFU in one number: each wish for a key counts one when it comes and half as much whenever a half-life has passed;
//! what has the smallest sum goes first. A long half-life is LFU, a short one LRU.
//!
//! That is LRFU: Lee, Choi, Kim, Noh, Min, Cho, Kim: LRFU: A Spectrum of Policies that Subsumes the Least Recently Used and
//! Least Frequently Used Policies, IEEE Transactions on Computers, 2001. Its λ is a number somebody has to find for each
//! cache; here time is counted in turnovers (as many wishes as there are entries), so that one half-life fits small caches
//! and large ones.
//!
//! A sum is kept as the logarithm of what it would be at the beginning of time, so that it only changes with a wish and sums
//! compare at any time. The entries are in a heap by what their sums were when somebody last looked: sums only grow, so a hit
//! changes its entry alone, and who evicts sinks what has grown since.

use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List, Place},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lru-lfu",
    aliases: &["lrfu", "lru+lfu"],
    summary: "counts wishes, each worth half as much whenever as many turnovers have passed as its half-life says",
    source: "LRFU of Lee and others 2001, its time counted in turnovers of the cache",
    new: |capacity| Box::new(LruLfu::new(capacity)),
};

/// After how many turnovers a wish counts half.
const HALF_LIFE_TURNOVERS: f64 = 2.0;

struct Mark {
    /// The logarithm (to 2) of its sum, as of time 0.
    sum: f64,
    /// Where in the heap it is.
    at: usize,
}

/// What the heap knows of an entry.
#[derive(Clone, Copy)]
struct Seen {
    sum: f64,
    place: Place,
}

struct LruLfu {
    capacity: u64,
    /// In half-lives.
    time: f64,
    entries: Entries<Mark>,
    list: List,
    /// A heap, the smallest sum first.
    heap: Vec<Seen>,
}

impl LruLfu {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            time: 0.0,
            entries: Entries::new(),
            list: List::EMPTY,
            heap: Vec::new(),
        }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "a number of entries, in 53 bits"
    )]
    fn tick(&mut self) {
        let turnover = self.entries.len().max(1) as f64;
        self.time += 1.0 / (turnover * HALF_LIFE_TURNOVERS);
    }

    fn evict(&mut self) -> Option<Key> {
        loop {
            let seen = *self.heap.first()?;
            let sum = self.entries.at(seen.place)?.mark.sum;
            if sum <= seen.sum {
                return self.drop(seen.place);
            }
            if let Some(first) = self.heap.first_mut() {
                first.sum = sum;
            }
            self.sink(0);
        }
    }

    fn drop(&mut self, place: Place) -> Option<Key> {
        let at = self.entries.at(place)?.mark.at;
        let key = self.entries.drop(place, &mut self.list);
        let last = self.heap.pop()?;
        if let Some(hole) = self.heap.get_mut(at) {
            *hole = last;
            self.note(at);
            self.rise(at);
            self.sink(at);
        }
        key
    }

    /// Tells the entry whose turn is at `at` where it is.
    fn note(&mut self, at: usize) {
        if let Some(seen) = self.heap.get(at)
            && let Some(entry) = self.entries.at_mut(seen.place)
        {
            entry.mark.at = at;
        }
    }

    fn sum_at(&self, at: usize) -> Option<f64> {
        self.heap.get(at).map(|seen| seen.sum)
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 {
            let above = (at - 1) / 2;
            if self.sum_at(above) <= self.sum_at(at) {
                break;
            }
            self.heap.swap(above, at);
            self.note(at);
            at = above;
        }
        self.note(at);
    }

    fn sink(&mut self, mut at: usize) {
        while let Some(left) = self.sum_at(2 * at + 1) {
            let (below, sum) = match self.sum_at(2 * at + 2) {
                Some(right) if right < left => (2 * at + 2, right),
                _ => (2 * at + 1, left),
            };
            if self.sum_at(at).is_none_or(|here| here <= sum) {
                break;
            }
            self.heap.swap(at, below);
            self.note(at);
            at = below;
        }
        self.note(at);
    }
}

impl Cache for LruLfu {
    fn get(&mut self, key: Key) -> bool {
        self.tick();
        let place = self.entries.find(key);
        let Some(entry) = place.and_then(|place| self.entries.at_mut(place)) else {
            return false;
        };
        // 2^sum + 2^time, as a logarithm.
        entry.mark.sum =
            self.time + (entry.mark.sum - self.time).exp2().ln_1p() * std::f64::consts::LOG2_E;
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.list.weight() > self.capacity - weight {
            evicted.extend(self.evict());
        }
        self.tick();
        let (sum, at) = (self.time, self.heap.len());
        let place = self
            .entries
            .add(key, weight, Mark { sum, at }, &mut self.list);
        self.heap.push(Seen { sum, place });
        self.rise(at);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        self.drop(place);
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
        let mut all: Vec<_> = self
            .heap
            .iter()
            .filter_map(|seen| self.entries.at(seen.place))
            .collect();
        all.sort_by(|a, b| a.mark.sum.total_cmp(&b.mark.sum));
        for entry in all {
            visit(entry.key, entry.weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    #[test]
    fn what_is_wanted_often_outlives_a_scan_but_not_for_ever() {
        let mut trace = vec![2, 3, 4, 1, 1, 1, 1];
        trace.extend(10..15);
        let gone = evictions("lru-lfu", 4, &trace);
        assert_eq!(gone, [2, 3, 4, 10, 11], "1 was wanted four times");
        trace.extend(15..100);
        assert!(evictions("lru-lfu", 4, &trace).contains(&1), "long ago");
    }
}
