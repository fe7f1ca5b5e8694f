//! S3-FIFO, algorithm 1 of the paper: queues with the oldest first.

use super::Reference;

#[derive(Clone, Copy)]
struct Entry {
    key: u64,
    size: u64,
    freq: u8,
}

pub struct S3Fifo {
    capacity: u64,
    small: Vec<Entry>,
    main: Vec<Entry>,
    ghost: Vec<Entry>,
}

fn size(queue: &[Entry]) -> u64 {
    queue.iter().map(|entry| entry.size).sum()
}

fn take(queue: &mut Vec<Entry>, key: u64) -> bool {
    let before = queue.len();
    queue.retain(|entry| entry.key != key);
    queue.len() < before
}

impl S3Fifo {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            small: Vec::new(),
            main: Vec::new(),
            ghost: Vec::new(),
        }
    }

    fn main_max(&self) -> u64 {
        self.capacity - self.capacity / 10
    }

    fn evict_s(&mut self, gone: &mut Vec<u64>) {
        while !self.small.is_empty() {
            let t = self.small.remove(0);
            if t.freq > 1 {
                self.main.push(Entry { freq: 0, ..t });
                while size(&self.main) > self.main_max() {
                    self.evict_m(gone);
                }
            } else {
                gone.push(t.key);
                if t.size > 0 {
                    self.ghost.push(t);
                }
                while size(&self.ghost) > self.main_max() {
                    self.ghost.remove(0);
                }
                return;
            }
        }
    }

    fn evict_m(&mut self, gone: &mut Vec<u64>) {
        while !self.main.is_empty() {
            let t = self.main.remove(0);
            if t.freq > 0 {
                let freq = t.freq - 1;
                self.main.push(Entry { freq, ..t });
            } else {
                gone.push(t.key);
                return;
            }
        }
    }
}

impl Reference for S3Fifo {
    fn get(&mut self, key: u64) -> bool {
        for t in &mut self.ghost {
            if t.key == key {
                t.freq = 0;
            }
        }
        let mut kept = self.small.iter_mut().chain(&mut self.main);
        let found = kept.find(|entry| entry.key == key);
        found
            .map(|entry| entry.freq = (entry.freq + 1).min(3))
            .is_some()
    }

    fn insert(&mut self, key: u64, weight: u64) -> Vec<u64> {
        take(&mut self.small, key);
        // What was in the main queue and comes in another size stays there.
        let is_main = take(&mut self.main, key) || take(&mut self.ghost, key);
        if weight > self.capacity {
            return vec![key];
        }
        let mut gone = Vec::new();
        while size(&self.small) + size(&self.main) + weight > self.capacity {
            let small = size(&self.small);
            let is_small_full = small > 0 && small >= self.capacity / 10;
            if is_small_full || self.main.is_empty() {
                self.evict_s(&mut gone);
            } else {
                self.evict_m(&mut gone);
            }
        }
        let queue = if is_main {
            &mut self.main
        } else {
            &mut self.small
        };
        queue.push(Entry {
            key,
            size: weight,
            freq: 0,
        });
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        take(&mut self.ghost, key);
        take(&mut self.small, key) || take(&mut self.main, key)
    }
}
