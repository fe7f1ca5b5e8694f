//! W-`TinyLFU`: what is new waits in a small window, by LRU; what falls out of it enters the main part only if it was wanted
//! more often lately than what would have to go for it. The main part is a segmented LRU: on probation, then protected.
//!
//! Einziger, Friedman, Manes: `TinyLFU`: A Highly Efficient Cache Admission Policy, ACM Transactions on Storage, 2017: window
//! 1 %, of the main part 80 % protected. Wishes are counted in a sketch (`sketch.rs`), those for what is not here too.
//! With weights: window and protected part are weighed, and who wants to enter is held against one victim after the other.

use super::sketch::Sketch;
use crate::{
    Cache, Key, Strategy,
    entries::{Entries, List, Place},
};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "w-tinylfu",
    aliases: &["tinylfu", "window-tinylfu"],
    summary: "lets in only what was wanted more often lately than what would go for it",
    source: "Einziger, Friedman and Manes 2017 (ACM TOS)",
    new: |capacity| Box::new(WTinyLfu::new(capacity)),
};

/// The window's part of the capacity: one in so many.
const WINDOW_PART: u64 = 100;

/// The protected part of the rest, in per cent.
const PROTECTED_PER_CENT: u64 = 80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Window,
    Probation,
    Protected,
}

struct WTinyLfu {
    capacity: u64,
    window_max: u64,
    protected_max: u64,
    entries: Entries<Part>,
    window: List,
    probation: List,
    protected: List,
    sketch: Sketch,
}

impl WTinyLfu {
    fn new(capacity: u64) -> Self {
        let window_max = (capacity / WINDOW_PART).max(1).min(capacity);
        let main = capacity - window_max;
        Self {
            capacity,
            window_max,
            protected_max: main / 100 * PROTECTED_PER_CENT + main % 100 * PROTECTED_PER_CENT / 100,
            entries: Entries::new(),
            window: List::EMPTY,
            probation: List::EMPTY,
            protected: List::EMPTY,
            sketch: Sketch::new(),
        }
    }

    /// What falls out of the window goes on probation, and what is too much then goes: the newest there, or those that would
    /// go for it, by how often they were wanted.
    fn settle(&mut self, evicted: &mut Vec<Key>) {
        while self.window.weight() > self.window_max {
            let candidate = self.window.oldest();
            let Some(entry) = self.entries.at_mut(candidate) else {
                return;
            };
            entry.mark = Part::Probation;
            self.entries
                .shift(candidate, &mut self.window, &mut self.probation);
            self.contest(candidate, evicted);
        }
        // The main part may have room while the window has not, but not the other way round; what is left is the window's.
        while self.weight() > self.capacity {
            evicted.extend(self.entries.drop(self.window.oldest(), &mut self.window));
        }
    }

    fn contest(&mut self, candidate: Place, evicted: &mut Vec<Key>) {
        while self.weight() > self.capacity {
            let (victim, list) = match (self.probation.oldest(), self.protected.oldest()) {
                (victim, _) if victim != candidate => (victim, &mut self.probation),
                (_, victim) => (victim, &mut self.protected),
            };
            let key = |place| self.entries.at(place).map(|entry| entry.key);
            let (candidate_key, victim_key) = (key(candidate), key(victim));
            let (Some(candidate_key), Some(victim_key)) = (candidate_key, victim_key) else {
                evicted.extend(self.entries.drop(candidate, &mut self.probation));
                return;
            };
            if self.sketch.estimate(candidate_key) > self.sketch.estimate(victim_key) {
                evicted.extend(self.entries.drop(victim, list));
            } else {
                evicted.extend(self.entries.drop(candidate, &mut self.probation));
                return;
            }
        }
    }

    fn protect(&mut self, place: Place) {
        if let Some(entry) = self.entries.at_mut(place) {
            entry.mark = Part::Protected;
        }
        self.entries
            .shift(place, &mut self.probation, &mut self.protected);
        while self.protected.weight() > self.protected_max {
            let place = self.protected.oldest();
            let Some(entry) = self.entries.at_mut(place) else {
                return;
            };
            entry.mark = Part::Probation;
            self.entries
                .shift(place, &mut self.protected, &mut self.probation);
        }
    }
}

impl Cache for WTinyLfu {
    fn get(&mut self, key: Key) -> bool {
        self.sketch.count(key);
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        match self.entries.at(place).map(|entry| entry.mark) {
            Some(Part::Window) => self.entries.renew(place, &mut self.window),
            Some(Part::Protected) => self.entries.renew(place, &mut self.protected),
            Some(Part::Probation) => self.protect(place),
            None => return false,
        }
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        self.entries
            .add(key, weight, Part::Window, &mut self.window);
        self.sketch.grow(self.entries.len());
        self.settle(evicted);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        let list = match self.entries.at(place).map(|entry| entry.mark) {
            Some(Part::Window) => &mut self.window,
            Some(Part::Probation) => &mut self.probation,
            Some(Part::Protected) => &mut self.protected,
            None => return false,
        };
        self.entries.drop(place, list);
        true
    }

    fn weight_of(&self, key: Key) -> Option<u64> {
        self.entries.weight_of(key)
    }

    fn weight(&self) -> u64 {
        self.window.weight() + self.probation.weight() + self.protected.weight()
    }

    fn len(&self) -> usize {
        self.entries.len()
    }

    fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        self.entries.each(&self.probation, visit);
        self.entries.each(&self.window, visit);
        self.entries.each(&self.protected, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::evictions;

    /// Goal: a scan does not get in. Method: a hundred keys wanted five times each, then as many once.
    #[test]
    fn what_is_wanted_once_does_not_push_out_what_is_wanted_often() {
        let mut trace: Vec<u64> = (0..5).flat_map(|_| 0..100).collect();
        trace.extend(1_000..1_100);
        let gone = evictions("w-tinylfu", 100, &trace);
        let often = gone.iter().filter(|key| **key < 100).count();
        assert!(often <= 2, "{often} of those wanted often had to go");
        assert_eq!(gone.len(), 100);
    }
}
