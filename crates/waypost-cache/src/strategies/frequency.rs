//! Entries by how often they were wanted, in constant time: for each number of wishes a list, the lists in order.
//!
//! Shah, Mitra, Matani: An O(1) algorithm for implementing the LFU cache eviction scheme, 2010.

use crate::{
    Key,
    entries::{Entries, List, NONE, Place},
};

/// What was wanted equally often.
struct Level {
    wanted: u64,
    list: List,
    less: usize,
    more: usize,
}

/// Keys in the order of how often they were wanted; the level is an entry's mark.
pub(super) struct ByFrequency {
    entries: Entries<usize>,
    levels: Vec<Level>,
    free: Vec<usize>,
    least: usize,
    most: usize,
    weight: u64,
}

impl ByFrequency {
    pub(super) fn new() -> Self {
        Self {
            entries: Entries::new(),
            levels: Vec::new(),
            free: Vec::new(),
            least: NONE,
            most: NONE,
            weight: 0,
        }
    }

    pub(super) fn weight(&self) -> u64 {
        self.weight
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn weight_of(&self, key: Key) -> Option<u64> {
        self.entries.weight_of(key)
    }

    /// Counts a wish; whether the key is here.
    pub(super) fn count(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        let Some(entry) = self.entries.at_mut(place) else {
            return false;
        };
        let from = entry.mark;
        let Some(level) = self.levels.get(from) else {
            return false;
        };
        let (wanted, more) = (level.wanted + 1, level.more);
        let is_alone = level.list.newest() == level.list.oldest();
        let has_next = self
            .levels
            .get(more)
            .is_some_and(|next| next.wanted == wanted);
        if is_alone && !has_next {
            // Nobody else is on this level: it goes up with its only entry.
            if let Some(level) = self.levels.get_mut(from) {
                level.wanted = wanted;
            }
            return true;
        }
        let to = if has_next {
            more
        } else {
            self.add_level(wanted, from)
        };
        if let Some(entry) = self.entries.at_mut(place) {
            entry.mark = to;
        }
        if let Ok([from, to]) = self.levels.get_disjoint_mut([from, to]) {
            self.entries.shift(place, &mut from.list, &mut to.list);
        }
        self.drop_if_empty(from);
        true
    }

    /// Adds a key that is not here, as wanted once.
    pub(super) fn add(&mut self, key: Key, weight: u64) {
        let is_there = self
            .levels
            .get(self.least)
            .is_some_and(|level| level.wanted == 1);
        let level = if is_there {
            self.least
        } else {
            self.add_level(1, NONE)
        };
        if let Some(list) = self.levels.get_mut(level).map(|level| &mut level.list) {
            self.entries.add(key, weight, level, list);
            self.weight += weight;
        }
    }

    pub(super) fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.entries.find(key) else {
            return false;
        };
        self.drop(place).is_some()
    }

    /// Takes out what was wanted least often, and of that what was not for the longest time.
    pub(super) fn take_least(&mut self) -> Option<Key> {
        let place = self.levels.get(self.least)?.list.oldest();
        self.drop(place)
    }

    /// Takes out what was wanted most often, and of that what was not for the longest time.
    pub(super) fn take_most(&mut self) -> Option<Key> {
        let place = self.levels.get(self.most)?.list.oldest();
        self.drop(place)
    }

    /// Least often wanted first.
    pub(super) fn each(&self, visit: &mut dyn FnMut(Key, u64)) {
        let mut at = self.least;
        while let Some(level) = self.levels.get(at) {
            self.entries.each(&level.list, visit);
            at = level.more;
        }
    }

    /// Most often wanted first.
    pub(super) fn each_from_most(&self, visit: &mut dyn FnMut(Key, u64)) {
        let mut at = self.most;
        while let Some(level) = self.levels.get(at) {
            self.entries.each(&level.list, visit);
            at = level.less;
        }
    }

    fn drop(&mut self, place: Place) -> Option<Key> {
        let entry = self.entries.at(place)?;
        let (at, weight) = (entry.mark, entry.weight);
        let level = self.levels.get_mut(at)?;
        let key = self.entries.drop(place, &mut level.list);
        self.weight -= weight;
        self.drop_if_empty(at);
        key
    }

    /// A level above `less`.
    fn add_level(&mut self, wanted: u64, less: usize) -> usize {
        let more = match self.levels.get(less) {
            Some(level) => level.more,
            None => self.least,
        };
        let level = Level {
            wanted,
            list: List::EMPTY,
            less,
            more,
        };
        let at = self.free.pop().unwrap_or(self.levels.len());
        match self.levels.get_mut(at) {
            Some(free) => *free = level,
            None => self.levels.push(level),
        }
        self.join(less, at);
        self.join(at, more);
        at
    }

    fn drop_if_empty(&mut self, at: usize) {
        let Some(level) = self.levels.get(at).filter(|level| level.list.is_empty()) else {
            return;
        };
        let (less, more) = (level.less, level.more);
        self.join(less, more);
        self.free.push(at);
    }

    /// Makes two levels neighbours; [`NONE`] is the end.
    fn join(&mut self, less: usize, more: usize) {
        match self.levels.get_mut(less) {
            Some(level) => level.more = more,
            None => self.least = more,
        }
        match self.levels.get_mut(more) {
            Some(level) => level.less = less,
            None => self.most = less,
        }
    }
}
