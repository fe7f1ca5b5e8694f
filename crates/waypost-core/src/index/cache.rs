//! What the index answered, by topic.

use hashbrown::HashTable;

use super::hash::Seed;
use super::merge::{CachedMatch, Merge};
use super::slab::Slab;
use super::text::Text;
use super::trie::MatchScratch;
use super::versions::{Prefixes, Stamp};
use super::{FilterId, SubscriptionIndex};

/// How many entries in use the clock's hand passes over at most before it takes the next one anyway, so that no
/// message pays for a whole round.
const SWEEP_MAX: usize = 64;
/// What the hash table costs per entry, at its usual load.
const TABLE_BYTES_PER_ENTRY: usize = 8;

/// Remembers who gets the messages on a topic: bounded by entries and by bytes, valid by version.
///
/// A full cache evicts by CLOCK: what was asked for since the hand last passed stays.
pub struct MatchCache {
    seed: Seed,
    /// Found by the hash of the topic.
    table: HashTable<u32>,
    entries: Slab<Entry>,
    hand: u32,
    entries_max: usize,
    bytes: usize,
    bytes_max: usize,
    /// The latest match too large for the bound on bytes: kept apart, one at a time.
    outsized: Option<Box<Entry>>,
    nothing: CachedMatch,
    scratch: MatchScratch,
    merge: Merge,
    counts: MatchCacheCounts,
}

/// What became of the look-ups in a [`MatchCache`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchCacheCounts {
    /// Topics that had to be matched by the index: first seen, evicted, or changed since.
    pub misses: u64,
    /// Of these, the topics whose subscriptions had changed.
    pub stale: u64,
    /// Entries that made room for others.
    pub evictions: u64,
    /// Matches larger than the bound on bytes.
    pub outsized: u64,
}

struct Entry {
    topic: Text<46>,
    hash: u64,
    /// The index's version when the stamp was last found unchanged.
    checked: u64,
    stamp: Stamp,
    matched: CachedMatch,
    prefixes: Prefixes,
    /// Whether it was asked for since the hand last passed.
    visited: bool,
}

enum Place {
    Slot(u32),
    Outsized,
}

impl MatchCache {
    /// An empty cache of at most `entries_max` topics and about `bytes_max` bytes.
    pub fn new(seed: u64, entries_max: usize, bytes_max: usize) -> Self {
        Self {
            seed: Seed::new(seed),
            table: HashTable::new(),
            entries: Slab::new(),
            hand: 0,
            entries_max,
            bytes: 0,
            bytes_max,
            outsized: None,
            nothing: CachedMatch::default(),
            scratch: MatchScratch::default(),
            merge: Merge::default(),
            counts: MatchCacheCounts::default(),
        }
    }

    /// Who gets the messages on this topic. Always the same index must be given.
    #[inline]
    pub fn lookup(&mut self, topic: &str, index: &SubscriptionIndex) -> &CachedMatch {
        self.lookup_known(topic, index, None)
    }

    /// As [`Self::lookup`], but for the sessions alone, and without a walk through the index where their filters that
    /// match are known. A cache is asked in one way only.
    #[inline]
    pub fn lookup_known(
        &mut self,
        topic: &str,
        index: &SubscriptionIndex,
        filters: Option<&mut dyn Iterator<Item = FilterId>>,
    ) -> &CachedMatch {
        let hash = self.seed.bytes(topic.as_bytes());
        let place = match self.find(topic, hash, index) {
            Some(id) => Place::Slot(id),
            None => self.miss(topic, hash, index, filters),
        };
        let entry = match place {
            Place::Slot(id) => self.entries.get(id),
            Place::Outsized => self.outsized.as_deref(),
        };
        entry.map_or(&self.nothing, |entry| &entry.matched)
    }

    /// Number of topics in the cache.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all entries, without the one that is too large to be among them.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What became of the look-ups.
    pub fn counts(&self) -> MatchCacheCounts {
        self.counts
    }

    #[inline]
    fn find(&mut self, topic: &str, hash: u64, index: &SubscriptionIndex) -> Option<u32> {
        let entries = &self.entries;
        let same = |id: &u32| {
            entries
                .get(*id)
                .is_some_and(|entry| entry.is_for(topic, hash))
        };
        let id = *self.table.find(hash, same)?;
        let entry = self.entries.get_mut(id)?;
        if !entry.is_valid(index) {
            return None;
        }
        if !entry.visited {
            entry.visited = true;
        }
        Some(id)
    }

    #[cold]
    fn miss(
        &mut self,
        topic: &str,
        hash: u64,
        index: &SubscriptionIndex,
        filters: Option<&mut dyn Iterator<Item = FilterId>>,
    ) -> Place {
        if let Some(entry) = &mut self.outsized
            && entry.is_for(topic, hash)
        {
            if entry.is_valid(index) {
                return Place::Outsized;
            }
            self.counts.stale += 1;
            self.outsized = None;
        }
        self.counts.misses += 1;
        let entries = &self.entries;
        let same = |id: &u32| {
            entries
                .get(*id)
                .is_some_and(|entry| entry.is_for(topic, hash))
        };
        let stale = self.table.find(hash, same).copied();
        if let Some(id) = stale {
            self.counts.stale += 1;
            self.forget(id);
        }
        let (matched, prefixes) = match filters {
            Some(filters) => index.collect_known(topic, filters, &mut self.scratch),
            None => index.collect(topic, &mut self.scratch),
        };
        let entry = Entry {
            topic: Text::new(topic.as_bytes()),
            hash,
            checked: index.version(),
            stamp: index.stamp(prefixes),
            matched: self.merge.merge(matched),
            prefixes,
            visited: stale.is_some(),
        };
        self.scratch.trim();
        self.merge.trim();
        self.admit(entry)
    }

    fn admit(&mut self, entry: Entry) -> Place {
        let bytes = entry.bytes();
        if bytes > self.bytes_max || self.entries_max == 0 {
            self.counts.outsized += 1;
            self.outsized = Some(Box::new(entry));
            return Place::Outsized;
        }
        while self.entries.len() >= self.entries_max || self.bytes + bytes > self.bytes_max {
            self.evict();
        }
        self.bytes += bytes;
        let hash = entry.hash;
        let id = self.entries.insert(entry);
        let entries = &self.entries;
        self.table.insert_unique(hash, id, |id| {
            entries.get(*id).map_or(0, |entry| entry.hash)
        });
        Place::Slot(id)
    }

    fn evict(&mut self) {
        let mut passes = 0;
        loop {
            let id = self.hand;
            self.hand = if id + 1 < self.entries.end() {
                id + 1
            } else {
                0
            };
            let Some(entry) = self.entries.get_mut(id) else {
                continue;
            };
            passes += 1;
            if !entry.visited || passes > SWEEP_MAX {
                self.counts.evictions += 1;
                self.forget(id);
                return;
            }
            entry.visited = false;
        }
    }

    fn forget(&mut self, id: u32) {
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        self.bytes -= entry.bytes();
        if let Ok(found) = self.table.find_entry(entry.hash, |other| *other == id) {
            found.remove();
        }
    }
}

impl Entry {
    #[inline]
    fn is_for(&self, topic: &str, hash: u64) -> bool {
        self.hash == hash && self.topic.as_bytes() == topic.as_bytes()
    }

    #[inline]
    fn is_valid(&mut self, index: &SubscriptionIndex) -> bool {
        if self.checked == index.version() {
            return true;
        }
        let valid = self.stamp == index.stamp(self.prefixes);
        if valid {
            self.checked = index.version();
        }
        valid
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + TABLE_BYTES_PER_ENTRY + self.topic.heap_bytes() + self.matched.bytes()
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::{Filter, SubscriptionOptions};

    use super::*;
    use crate::index::{FilterId, SubscriberId, Subscription};

    fn insert(index: &mut SubscriptionIndex, filter: &str, subscriber: u32) -> FilterId {
        let subscription = Subscription {
            options: SubscriptionOptions::default(),
            identifier: 0,
        };
        let filter = Filter::parse(filter).unwrap();
        index
            .insert(filter, SubscriberId(subscriber), subscription)
            .0
    }

    #[test]
    fn a_change_is_seen_and_a_change_elsewhere_costs_nothing() {
        let mut index = SubscriptionIndex::new(1);
        let mut cache = MatchCache::new(1, 10, 10_000);
        insert(&mut index, "a/b", 1);
        assert_eq!(cache.lookup("a/b", &index).merged().len(), 1);
        insert(&mut index, "a/c", 2);
        assert_eq!(cache.lookup("a/b", &index).merged().len(), 1);
        let hit = MatchCacheCounts {
            misses: 1,
            ..MatchCacheCounts::default()
        };
        assert_eq!(cache.counts(), hit);
        for (filter, subscribers) in [("a/b/#", 2), ("+/b", 3), ("#", 4), ("a/+", 5)] {
            insert(&mut index, filter, 10 + subscribers);
            assert_eq!(
                cache.lookup("a/b", &index).merged().len(),
                subscribers as usize,
                "{filter}"
            );
        }
        let stale = MatchCacheCounts {
            misses: 5,
            stale: 4,
            ..hit
        };
        assert_eq!((cache.counts(), cache.len()), (stale, 1));
    }

    /// Goal: the bound on entries. Method: N, N + 1, 2 N topics; what is asked for all the time stays.
    #[test]
    fn entries_are_bounded_and_those_in_use_stay() {
        let index = SubscriptionIndex::new(1);
        for (topics, evictions) in [(100, 0), (101, 1), (200, 100)] {
            let mut cache = MatchCache::new(1, 100, usize::MAX);
            for n in 0..topics {
                cache.lookup(&format!("topic/{n}"), &index);
                cache.lookup("topic/0", &index);
            }
            assert_eq!((cache.len(), cache.counts().evictions), (100, evictions));
            assert_eq!(
                cache.counts().misses,
                topics,
                "the topic in use was never evicted"
            );
        }
    }

    /// Goal: the bound on bytes. Method: N, N + 1, 2 N entries of one size.
    #[test]
    fn bytes_are_bounded() {
        let mut index = SubscriptionIndex::new(1);
        for n in 0..100 {
            insert(&mut index, "topic/#", n);
        }
        let mut cache = MatchCache::new(1, 1_000, usize::MAX);
        cache.lookup("topic/0", &index);
        let bytes_max = cache.bytes() * 10;
        for (topics, evictions) in [(10, 0), (11, 1), (20, 10)] {
            let mut cache = MatchCache::new(1, 1_000, bytes_max);
            for n in 0..topics {
                assert_eq!(
                    cache.lookup(&format!("topic/{n}"), &index).merged().len(),
                    100
                );
                assert!(cache.bytes() <= bytes_max);
            }
            assert_eq!((cache.len(), cache.counts().evictions), (10, evictions));
        }
    }

    #[test]
    fn a_match_too_large_is_kept_apart_until_the_next() {
        let mut index = SubscriptionIndex::new(1);
        for n in 0..1_000 {
            insert(&mut index, "large/#", n);
        }
        insert(&mut index, "small", 1);
        let mut cache = MatchCache::new(1, 1_000, 10_000);
        for topic in ["large/1", "small", "large/1", "small"] {
            assert_eq!(
                cache.lookup(topic, &index).merged().len(),
                if topic == "small" { 1 } else { 1_000 }
            );
        }
        let counts = MatchCacheCounts {
            misses: 2,
            outsized: 1,
            ..MatchCacheCounts::default()
        };
        assert_eq!((cache.counts(), cache.len()), (counts, 1));
        insert(&mut index, "large/#", 1_000);
        assert_eq!(cache.lookup("large/1", &index).merged().len(), 1_001);
        assert_eq!(cache.lookup("large/2", &index).merged().len(), 1_001);
        assert_eq!(
            cache.counts(),
            MatchCacheCounts {
                misses: 4,
                stale: 1,
                outsized: 3,
                ..counts
            }
        );
        assert!(cache.bytes() <= 10_000);
    }

    #[test]
    fn a_match_that_becomes_small_joins_the_others() {
        let mut index = SubscriptionIndex::new(1);
        let mut ids = Vec::new();
        for n in 0..1_000 {
            ids.push(insert(&mut index, "a", n));
        }
        let mut cache = MatchCache::new(1, 1_000, 10_000);
        cache.lookup("a", &index);
        assert!(cache.is_empty() && cache.outsized.is_some());
        for (n, id) in (1..).zip(ids.into_iter().skip(1)) {
            index.remove(id, SubscriberId(n));
        }
        assert_eq!(cache.lookup("a", &index).merged().len(), 1);
        assert!(cache.len() == 1 && cache.outsized.is_none());
    }

    #[test]
    fn topics_with_the_same_hash_are_told_apart() {
        let index = SubscriptionIndex::new(1);
        let mut cache = MatchCache::new(1, 10, 10_000);
        cache.lookup("a", &index);
        let hash = cache.seed.bytes(b"a");
        assert!(cache.find("a", hash, &index).is_some());
        assert!(cache.find("b", hash, &index).is_none());
    }

    #[test]
    fn a_cache_of_no_entries_answers_all_the_same() {
        let mut index = SubscriptionIndex::new(1);
        insert(&mut index, "a", 1);
        let mut cache = MatchCache::new(1, 0, 0);
        for topic in ["a", "a", "b", "a"] {
            assert_eq!(
                cache.lookup(topic, &index).merged().len(),
                usize::from(topic == "a")
            );
        }
        assert_eq!((cache.len(), cache.bytes()), (0, 0));
    }

    /// Goal: no message pays for a whole round of the hand. Method: all entries in use, then one more.
    #[test]
    fn an_eviction_passes_over_a_bounded_number_of_entries() {
        let index = SubscriptionIndex::new(1);
        let mut cache = MatchCache::new(1, 1_000, usize::MAX);
        for n in (0..1_000).chain(0..1_000) {
            cache.lookup(&format!("topic/{n}"), &index);
        }
        cache.lookup("another", &index);
        let unvisited = (0..cache.entries.end())
            .filter(|id| cache.entries.get(*id).is_some_and(|entry| !entry.visited));
        assert_eq!(unvisited.count(), SWEEP_MAX + 1);
    }
}
