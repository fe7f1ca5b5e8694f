//! A table of counts: LFU and MFU.

use super::Reference;

struct Entry {
    key: u64,
    size: u64,
    wanted: u64,
    /// When it was last wanted.
    last: u64,
}

pub struct Counted {
    capacity: u64,
    is_most: bool,
    now: u64,
    table: Vec<Entry>,
}

impl Counted {
    pub fn lfu(capacity: u64) -> Self {
        Self {
            capacity,
            is_most: false,
            now: 0,
            table: Vec::new(),
        }
    }

    pub fn mfu(capacity: u64) -> Self {
        Self {
            is_most: true,
            ..Self::lfu(capacity)
        }
    }
}

impl Reference for Counted {
    fn get(&mut self, key: u64) -> bool {
        self.now += 1;
        let found = self.table.iter_mut().find(|entry| entry.key == key);
        found
            .map(|entry| {
                entry.wanted += 1;
                entry.last = self.now;
            })
            .is_some()
    }

    fn insert(&mut self, key: u64, size: u64) -> Vec<u64> {
        self.now += 1;
        self.remove(key);
        if size > self.capacity {
            return vec![key];
        }
        let mut gone = Vec::new();
        while self.table.iter().map(|entry| entry.size).sum::<u64>() + size > self.capacity {
            let rank = |entry: &Entry| {
                let wanted = if self.is_most {
                    u64::MAX - entry.wanted
                } else {
                    entry.wanted
                };
                (wanted, entry.last)
            };
            let first = self.table.iter().min_by_key(|entry| rank(entry)).unwrap();
            let key = first.key;
            self.table.retain(|entry| entry.key != key);
            gone.push(key);
        }
        self.table.push(Entry {
            key,
            size,
            wanted: 1,
            last: self.now,
        });
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        let before = self.table.len();
        self.table.retain(|entry| entry.key != key);
        self.table.len() < before
    }
}
