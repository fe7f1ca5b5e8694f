//! Values beside a strategy that says which of them stay.

use hashbrown::HashMap;

use crate::{Cache, Key, Strategy};

/// What an entry takes beside its value, in bytes: counted with each, so that many small entries stay within the capacity
/// as few large ones do.
pub const ENTRY_BYTES: u64 = 96;

/// What a cache was good for so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// How often what was wanted was there.
    pub hits: u64,
    /// How often it was not.
    pub misses: u64,
    /// How many entries had to go for others, or were not let in.
    pub evictions: u64,
}

/// A cache of values, bounded by bytes.
pub struct Cached<V> {
    strategy: Box<dyn Cache>,
    values: HashMap<Key, V, foldhash::fast::FixedState>,
    evicted: Vec<Key>,
    counters: Counters,
}

impl<V> Cached<V> {
    /// An empty cache for so many bytes.
    pub fn new(strategy: &Strategy, capacity_bytes: u64) -> Self {
        Self {
            strategy: (strategy.new)(capacity_bytes),
            values: HashMap::default(),
            evicted: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// The value under `key`, if it is here.
    pub fn get(&mut self, key: Key) -> Option<&V> {
        self.strategy.get(key);
        let value = self.values.get(&key);
        match value {
            Some(_) => self.counters.hits += 1,
            None => self.counters.misses += 1,
        }
        value
    }

    /// Keeps `value`, which takes so many bytes, unless the strategy rather keeps what it has.
    pub fn insert(&mut self, key: Key, value: V, bytes: u64) {
        self.values.insert(key, value);
        self.strategy
            .insert(key, bytes.saturating_add(ENTRY_BYTES), &mut self.evicted);
        self.counters.evictions += self.evicted.len() as u64;
        for evicted in self.evicted.drain(..) {
            self.values.remove(&evicted);
        }
    }

    /// Whether something is under `key`. Nobody wants it: nothing is counted.
    pub fn contains(&self, key: Key) -> bool {
        self.values.contains_key(&key)
    }

    /// Why the strategy does what it does, for people; empty where there is nothing to say.
    pub fn explain(&self) -> String {
        self.strategy.explain()
    }

    /// Lets go of what is under `key` and gives it back.
    pub fn remove(&mut self, key: Key) -> Option<V> {
        self.strategy.remove(key);
        self.values.remove(&key)
    }

    /// Bytes in use, [`ENTRY_BYTES`] of each entry among them.
    pub fn bytes(&self) -> u64 {
        self.strategy.weight()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// What it was good for so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

impl<V> std::fmt::Debug for Cached<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Cached")
            .field("bytes", &self.bytes())
            .field("entries", &self.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn values_go_with_their_keys_and_everything_counts() {
        let mut cache = Cached::new(find("lru").unwrap(), 3 * (ENTRY_BYTES + 10));
        for key in 0..4 {
            cache.insert(Key(key), key * 100, 10);
        }
        assert_eq!(cache.get(Key(0)), None, "the oldest went for the newest");
        assert_eq!(cache.get(Key(3)), Some(&300));
        assert_eq!((cache.len(), cache.bytes()), (3, 3 * (ENTRY_BYTES + 10)));
        assert_eq!(cache.remove(Key(3)), Some(300));
        assert_eq!(cache.remove(Key(3)), None);
        assert_eq!(cache.get(Key(3)), None);
        let expect = Counters {
            hits: 1,
            misses: 2,
            evictions: 1,
        };
        assert_eq!(cache.counters(), expect);
    }

    /// The bound at N, N + 1 and 2 N entries of no bytes of their own.
    #[test]
    fn entries_without_a_value_of_note_are_bounded_too() {
        for (count, expect) in [(10, 10), (11, 10), (20, 10)] {
            let mut cache = Cached::new(find("lru").unwrap(), 10 * ENTRY_BYTES);
            (0..count).for_each(|key| cache.insert(Key(key), (), 0));
            assert_eq!(cache.len(), expect);
            assert_eq!(cache.counters().evictions, count - expect as u64);
        }
    }

    #[test]
    fn what_is_heavier_than_everything_is_not_let_in() {
        let mut cache = Cached::new(find("lru").unwrap(), 1_000);
        cache.insert(Key(1), "light", 10);
        cache.insert(Key(2), "heavy", 2_000);
        cache.insert(Key(3), "heavier than counted", u64::MAX);
        assert_eq!(cache.get(Key(1)), Some(&"light"));
        assert_eq!(cache.len(), 1);
    }
}
