//! W-TinyLFU: three lists, the most recent at the end, and the sketch with a byte for each counter, at the same places: what
//! it counts too high decides too. That it seldom does is tested beside it.

use std::hash::BuildHasher;

use waypost_cache::Key;

use super::Reference;

type List = Vec<(u64, u64)>;

pub struct WTinyLfu {
    capacity: u64,
    window_max: u64,
    protected_max: u64,
    window: List,
    probation: List,
    protected: List,
    blocks: Vec<[[u8; 16]; 8]>,
    counted: usize,
    entries_max: usize,
}

fn size(list: &List) -> u64 {
    list.iter().map(|entry| entry.1).sum()
}

fn take(list: &mut List, key: u64) -> Option<(u64, u64)> {
    let at = list.iter().position(|entry| entry.0 == key)?;
    Some(list.remove(at))
}

impl WTinyLfu {
    pub fn new(capacity: u64) -> Self {
        let window_max = (capacity / 100).max(1).min(capacity);
        Self {
            capacity,
            window_max,
            protected_max: (capacity - window_max) * 80 / 100,
            window: Vec::new(),
            probation: Vec::new(),
            protected: Vec::new(),
            blocks: vec![[[0; 16]; 8]; 8],
            counted: 0,
            entries_max: 64,
        }
    }

    /// In which block, word and quarter byte a key's four counters are.
    fn counters(&self, key: u64) -> Vec<(usize, usize, usize)> {
        let hash = foldhash::fast::FixedState::default().hash_one(Key(key));
        let bits = |from: u32, below: u64| usize::try_from((hash >> from) % below).unwrap();
        (0..4)
            .map(|row| {
                let block = usize::try_from(hash).unwrap() % self.blocks.len();
                let from = 32 + 8 * row;
                (block, 2 * row as usize + bits(from, 2), bits(from + 1, 16))
            })
            .collect()
    }

    fn count(&mut self, key: u64) {
        let mut is_counted = false;
        for (block, word, at) in self.counters(key) {
            let counter = &mut self.blocks[block][word][at];
            is_counted |= *counter < 15;
            *counter = (*counter + 1).min(15);
        }
        self.counted += usize::from(is_counted);
        if self.counted >= 10 * self.entries_max {
            self.counted /= 2;
            let counters = self.blocks.iter_mut().flatten().flatten();
            counters.for_each(|counter| *counter /= 2);
        }
    }

    fn wanted(&self, key: u64) -> u8 {
        let counters = self.counters(key).into_iter();
        let counts = counters.map(|(block, word, at)| self.blocks[block][word][at]);
        counts.min().unwrap()
    }

    fn all(&self) -> u64 {
        size(&self.window) + size(&self.probation) + size(&self.protected)
    }
}

impl Reference for WTinyLfu {
    fn get(&mut self, key: u64) -> bool {
        self.count(key);
        if let Some(entry) = take(&mut self.window, key) {
            self.window.push(entry);
        } else if let Some(entry) = take(&mut self.protected, key) {
            self.protected.push(entry);
        } else if let Some(entry) = take(&mut self.probation, key) {
            self.protected.push(entry);
            while size(&self.protected) > self.protected_max {
                let entry = self.protected.remove(0);
                self.probation.push(entry);
            }
        } else {
            return false;
        }
        true
    }

    fn insert(&mut self, key: u64, weight: u64) -> Vec<u64> {
        self.remove(key);
        if weight > self.capacity {
            return vec![key];
        }
        self.window.push((key, weight));
        let entries = self.window.len() + self.probation.len() + self.protected.len();
        self.entries_max = self.entries_max.max(entries);
        while self.blocks.len() * 8 < entries {
            self.blocks.extend_from_within(..);
        }
        let mut gone = Vec::new();
        while size(&self.window) > self.window_max {
            let candidate = self.window.remove(0);
            // The candidate is no victim of its own: it is held apart until it is let in.
            let is_in = loop {
                if self.all() + candidate.1 <= self.capacity {
                    break true;
                }
                let list = if self.probation.is_empty() {
                    &mut self.protected
                } else {
                    &mut self.probation
                };
                let Some((victim, _)) = list.first().copied() else {
                    break false;
                };
                let (wanted, defended) = (self.wanted(candidate.0), self.wanted(victim));
                if wanted <= defended {
                    break false;
                }
                let is_on_probation = take(&mut self.probation, victim).is_some();
                if !is_on_probation {
                    take(&mut self.protected, victim);
                }
                gone.push(victim);
            };
            if is_in {
                self.probation.push(candidate);
            } else {
                gone.push(candidate.0);
            }
        }
        while self.all() > self.capacity {
            gone.push(self.window.remove(0).0);
        }
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        let lists = [&mut self.window, &mut self.probation, &mut self.protected];
        lists.into_iter().any(|list| take(list, key).is_some())
    }
}
