//! Least recently used: what was not wanted for the longest time goes first.
//!
//! A list through a vector of entries, newest to oldest, and an index from key to place. A place that is free is used again.

use hashbrown::HashMap;

use crate::{Cache, Key, Strategy};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lru",
    aliases: &["least-recently-used"],
    summary: "what was not wanted for the longest time goes first",
    source: "textbook",
    new: |capacity| Box::new(Lru::new(capacity)),
};

struct Entry {
    key: Key,
    weight: u64,
    newer: Option<usize>,
    older: Option<usize>,
}

struct Lru {
    capacity: u64,
    weight: u64,
    places: HashMap<Key, usize, foldhash::fast::FixedState>,
    entries: Vec<Entry>,
    free: Vec<usize>,
    newest: Option<usize>,
    oldest: Option<usize>,
}

impl Lru {
    fn new(capacity: u64) -> Self {
        Self {
            capacity,
            weight: 0,
            places: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            newest: None,
            oldest: None,
        }
    }

    /// Takes the entry at `place` out of the list.
    fn unlink(&mut self, place: usize) {
        let Some(entry) = self.entries.get(place) else {
            return;
        };
        let (newer, older) = (entry.newer, entry.older);
        match newer.and_then(|newer| self.entries.get_mut(newer)) {
            Some(entry) => entry.older = older,
            None => self.newest = older,
        }
        match older.and_then(|older| self.entries.get_mut(older)) {
            Some(entry) => entry.newer = newer,
            None => self.oldest = newer,
        }
    }

    /// Makes the entry at `place`, which is in no list, the newest.
    fn link(&mut self, place: usize) {
        let older = self.newest.replace(place);
        match older.and_then(|older| self.entries.get_mut(older)) {
            Some(entry) => entry.newer = Some(place),
            None => self.oldest = Some(place),
        }
        if let Some(entry) = self.entries.get_mut(place) {
            entry.newer = None;
            entry.older = older;
        }
    }

    fn add(&mut self, key: Key, weight: u64) {
        let entry = Entry {
            key,
            weight,
            newer: None,
            older: None,
        };
        let place = self.free.pop().unwrap_or(self.entries.len());
        match self.entries.get_mut(place) {
            Some(free) => *free = entry,
            None => self.entries.push(entry),
        }
        self.places.insert(key, place);
        self.weight += weight;
        self.link(place);
    }
}

impl Cache for Lru {
    fn get(&mut self, key: Key) -> bool {
        let Some(&place) = self.places.get(&key) else {
            return false;
        };
        if self.newest != Some(place) {
            self.unlink(place);
            self.link(place);
        }
        true
    }

    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>) {
        self.remove(key);
        if weight > self.capacity {
            evicted.push(key);
            return;
        }
        while self.weight > self.capacity - weight {
            let oldest = self.oldest.and_then(|place| self.entries.get(place));
            let Some(oldest) = oldest.map(|entry| entry.key) else {
                break;
            };
            self.remove(oldest);
            evicted.push(oldest);
        }
        self.add(key, weight);
    }

    fn remove(&mut self, key: Key) -> bool {
        let Some(place) = self.places.remove(&key) else {
            return false;
        };
        self.unlink(place);
        self.weight -= self.entries.get(place).map_or(0, |entry| entry.weight);
        self.free.push(place);
        true
    }

    fn weight(&self) -> u64 {
        self.weight
    }

    fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Cache as _, Key, Lru};

    #[derive(Clone, Debug)]
    enum Step {
        Get(u64),
        Insert(u64, u64),
        Remove(u64),
    }

    fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..12_u64).prop_map(Step::Get),
            (0..12_u64, 0..60_u64).prop_map(|(key, weight)| Step::Insert(key, weight)),
            (0..12_u64).prop_map(Step::Remove),
        ];
        proptest::collection::vec(step, 0..200)
    }

    proptest! {
        /// Goal: it is LRU. Method: beside it a list that is searched from end to end, oldest first.
        #[test]
        fn it_does_what_the_plain_list_does(steps in steps()) {
            const CAPACITY: u64 = 100;
            let mut lru = Lru::new(CAPACITY);
            let mut list: Vec<(u64, u64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Get(key) => {
                        let at = list.iter().position(|entry| entry.0 == key);
                        prop_assert_eq!(lru.get(Key(key)), at.is_some());
                        if let Some(at) = at {
                            let entry = list.remove(at);
                            list.push(entry);
                        }
                    }
                    Step::Insert(key, weight) => {
                        list.retain(|entry| entry.0 != key);
                        let mut expect = Vec::new();
                        while list.iter().map(|entry| entry.1).sum::<u64>() + weight > CAPACITY {
                            expect.push(Key(list.remove(0).0));
                        }
                        list.push((key, weight));
                        let mut evicted = Vec::new();
                        lru.insert(Key(key), weight, &mut evicted);
                        prop_assert_eq!(evicted, expect);
                    }
                    Step::Remove(key) => {
                        let before = list.len();
                        list.retain(|entry| entry.0 != key);
                        prop_assert_eq!(lru.remove(Key(key)), list.len() < before);
                    }
                }
                prop_assert_eq!(lru.len(), list.len());
                prop_assert_eq!(lru.weight(), list.iter().map(|entry| entry.1).sum::<u64>());
                prop_assert!(lru.entries.len() <= 12);
            }
        }
    }
}
