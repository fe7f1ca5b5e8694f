//! LRFU by its definition: every wish is written down with its time; a key's value is the sum of what each is still worth.

use super::Reference;

const HALF_LIFE_TURNOVERS: f64 = 2.0;

struct Entry {
    key: u64,
    size: u64,
    wishes: Vec<f64>,
}

pub struct Lrfu {
    capacity: u64,
    /// In turnovers.
    time: f64,
    table: Vec<Entry>,
}

impl Lrfu {
    pub fn new(capacity: u64) -> Self {
        Self {
            capacity,
            time: 0.0,
            table: Vec::new(),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn tick(&mut self) {
        self.time += 1.0 / self.table.len().max(1) as f64;
    }

    fn value(&self, entry: &Entry) -> f64 {
        let worth = |wish| 0.5_f64.powf((self.time - wish) / HALF_LIFE_TURNOVERS);
        entry.wishes.iter().map(|wish| worth(*wish)).sum()
    }
}

impl Reference for Lrfu {
    fn get(&mut self, key: u64) -> bool {
        self.tick();
        let found = self.table.iter_mut().find(|entry| entry.key == key);
        found.map(|entry| entry.wishes.push(self.time)).is_some()
    }

    fn insert(&mut self, key: u64, size: u64) -> Vec<u64> {
        self.remove(key);
        if size > self.capacity {
            return vec![key];
        }
        let mut gone = Vec::new();
        while self.table.iter().map(|entry| entry.size).sum::<u64>() + size > self.capacity {
            let values: Vec<_> = self.table.iter().map(|entry| self.value(entry)).collect();
            let (at, _) = values
                .iter()
                .enumerate()
                .min_by(|a, b| a.1.total_cmp(b.1))
                .unwrap();
            gone.push(self.table.remove(at).key);
        }
        self.tick();
        self.table.push(Entry {
            key,
            size,
            wishes: vec![self.time],
        });
        gone
    }

    fn remove(&mut self, key: u64) -> bool {
        let before = self.table.len();
        self.table.retain(|entry| entry.key != key);
        self.table.len() < before
    }
}
