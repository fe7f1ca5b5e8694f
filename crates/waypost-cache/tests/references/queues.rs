//! One queue, oldest first: LRU, FIFO, SIEVE.

use super::Reference;

fn weight(queue: &[(u64, u64)]) -> u64 {
    queue.iter().map(|entry| entry.1).sum()
}

fn take(queue: &mut Vec<(u64, u64)>, key: u64) -> Option<(u64, u64)> {
    let at = queue.iter().position(|entry| entry.0 == key)?;
    Some(queue.remove(at))
}

/// In the order of arrival.
pub struct Fifo {
    capacity: u64,
    queue: Vec<(u64, u64)>,
}

impl Fifo {
    pub fn new(capacity: u64) -> Self {
        let queue = Vec::new();
        Self { capacity, queue }
    }
}

impl Reference for Fifo {
    fn get(&mut self, key: u64) -> bool {
        self.queue.iter().any(|entry| entry.0 == key)
    }

    fn insert(&mut self, key: u64, size: u64) -> Vec<u64> {
        take(&mut self.queue, key);
        if size > self.capacity {
            return vec![key];
        }
        let mut gone = Vec::new();
        while weight(&self.queue) + size > self.capacity {
            gone.push(self.queue.remove(0).0);
        }
        self.queue.push((key, size));
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        take(&mut self.queue, key).is_some()
    }
}

/// FIFO, where a hit is a new arrival.
pub struct Lru(Fifo);

impl Lru {
    pub fn new(capacity: u64) -> Self {
        Self(Fifo::new(capacity))
    }
}

impl Reference for Lru {
    fn get(&mut self, key: u64) -> bool {
        let entry = take(&mut self.0.queue, key);
        self.0.queue.extend(entry);
        entry.is_some()
    }

    fn insert(&mut self, key: u64, size: u64) -> Vec<u64> {
        self.0.insert(key, size)
    }

    fn remove(&mut self, key: u64) -> bool {
        self.0.remove(key)
    }
}

/// Algorithm 1 of the paper: the hand is a key; marks are in a list beside.
pub struct Sieve {
    capacity: u64,
    queue: Vec<(u64, u64)>,
    visited: Vec<u64>,
    hand: Option<u64>,
}

impl Sieve {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            queue: Vec::new(),
            visited: Vec::new(),
            hand: None,
        }
    }

    fn hand_at(&self) -> usize {
        let at = |hand| self.queue.iter().position(|entry| entry.0 == hand);
        self.hand.and_then(at).unwrap_or(0)
    }

    fn forget(&mut self, at: usize) -> u64 {
        let newer = self.queue.get(at + 1).map(|entry| entry.0);
        let (key, _) = self.queue.remove(at);
        if self.hand == Some(key) {
            self.hand = newer;
        }
        self.visited.retain(|visited| *visited != key);
        key
    }
}

impl Reference for Sieve {
    fn get(&mut self, key: u64) -> bool {
        let is_here = self.queue.iter().any(|entry| entry.0 == key);
        if is_here && !self.visited.contains(&key) {
            self.visited.push(key);
        }
        is_here
    }

    fn insert(&mut self, key: u64, size: u64) -> Vec<u64> {
        self.remove(key);
        if size > self.capacity {
            return vec![key];
        }
        let mut gone = Vec::new();
        while weight(&self.queue) + size > self.capacity {
            let mut at = self.hand_at();
            while self.visited.contains(&self.queue[at].0) {
                let key = self.queue[at].0;
                self.visited.retain(|visited| *visited != key);
                at = (at + 1) % self.queue.len();
            }
            self.hand = Some(self.queue[at].0);
            gone.push(self.forget(at));
        }
        self.queue.push((key, size));
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        let at = self.queue.iter().position(|entry| entry.0 == key);
        at.map(|at| self.forget(at)).is_some()
    }
}
