//! Messages that were read back and may be wanted again, in memory: in partitions, each with its strategy and its bytes.
//!
//! Which partition a message is in is told by its contents, which somebody else can read; the store asks once, when it
//! reads the message. Deliberately not here: what topics are, and where a message is when it is not here.

use std::{
    fmt,
    sync::{Arc, Mutex, atomic::AtomicU64, atomic::Ordering},
};

use waypost_cache::{Cached, Counters, Key, Strategy};

use crate::{record::MessageId, store::lock};

/// Partitions there may be beside the first. What would be in one more is in the first, and counted.
pub const PARTITIONS_MAX: usize = 64;

/// The name of the first partition: what is in no other.
pub const FIRST_PARTITION: &str = "store";

/// A part of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is called; what has one name is in one partition.
    pub name: Arc<str>,
    /// What stays in it.
    pub strategy: &'static Strategy,
    /// How much of it.
    pub bytes: u64,
}

/// Who says in which partition a message is; `None`: in the first.
#[derive(Clone)]
pub struct Partitions(Arc<Assign>);

type Assign = dyn Fn(&[u8]) -> Option<Partition> + Send + Sync;

impl Partitions {
    /// By this function of a message's contents.
    pub fn by(assign: impl Fn(&[u8]) -> Option<Partition> + Send + Sync + 'static) -> Self {
        Self(Arc::new(assign))
    }
}

impl Default for Partitions {
    fn default() -> Self {
        Self::by(|_| None)
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Partitions(…)")
    }
}

/// What a partition was good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFigures {
    /// What it is called.
    pub name: Arc<str>,
    /// Its strategy.
    pub strategy: &'static str,
    /// What it was good for.
    pub counters: Counters,
    /// Bytes in it.
    pub bytes: u64,
    /// Why it keeps what it keeps; empty where the strategy is all there is to say.
    pub explanation: String,
}

struct Part {
    options: Partition,
    kept: Cached<Arc<[u8]>>,
}

impl Part {
    fn new(options: Partition) -> Self {
        Self {
            kept: Cached::new(options.strategy, options.bytes),
            options,
        }
    }
}

pub(crate) struct MessageCache {
    /// The first is there from the beginning, the others from their first message on.
    parts: Mutex<Vec<Part>>,
    partitions: Partitions,
    crowded_out: AtomicU64,
}

impl MessageCache {
    pub(crate) fn new(strategy: &'static Strategy, bytes: u64, partitions: Partitions) -> Self {
        let first = Part::new(Partition {
            name: FIRST_PARTITION.into(),
            strategy,
            bytes,
        });
        Self {
            parts: Mutex::new(vec![first]),
            partitions,
            crowded_out: AtomicU64::new(0),
        }
    }

    /// A message, if it is here. One that is not is counted when it was read: only then it is known where it belongs.
    pub(crate) fn get(&self, id: MessageId) -> Option<Arc<[u8]>> {
        let key = Key(id.0);
        let mut parts = lock(&self.parts);
        let part = parts.iter_mut().find(|part| part.kept.contains(key))?;
        part.kept.get(key).cloned()
    }

    /// Takes a message that was read, because it was wanted or because it lay beside one that was.
    pub(crate) fn put(&self, id: MessageId, body: Arc<[u8]>, is_wanted: bool) {
        let partition = (self.partitions.0)(&body);
        let mut parts = lock(&self.parts);
        let at = self.place(&mut parts, partition);
        let Some(part) = parts.get_mut(at) else {
            return;
        };
        let key = Key(id.0);
        if is_wanted {
            // Tells the strategy, and counts.
            part.kept.get(key);
        }
        let bytes = body.len() as u64;
        part.kept.insert(key, body, bytes);
    }

    fn place(&self, parts: &mut Vec<Part>, partition: Option<Partition>) -> usize {
        let Some(partition) = partition else {
            return 0;
        };
        let known = parts.iter().position(|part| part.options == partition);
        if let Some(at) = known {
            return at;
        }
        if parts.len() > PARTITIONS_MAX {
            self.crowded_out.fetch_add(1, Ordering::Relaxed);
            return 0;
        }
        parts.push(Part::new(partition));
        parts.len() - 1
    }

    /// What each partition was good for, the first one first.
    pub(crate) fn figures(&self) -> Vec<PartitionFigures> {
        let parts = lock(&self.parts);
        let figures = parts.iter().map(|part| PartitionFigures {
            name: part.options.name.clone(),
            strategy: part.options.strategy.name,
            counters: part.kept.counters(),
            bytes: part.kept.bytes(),
            explanation: part.kept.explain(),
        });
        figures.collect()
    }

    /// How many messages were put into the first partition because there were [`PARTITIONS_MAX`] others.
    pub(crate) fn crowded_out(&self) -> u64 {
        self.crowded_out.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for MessageCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.figures()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the first byte: 0 is in the first, others in partitions of their number.
    fn by_first_byte() -> Partitions {
        Partitions::by(|body| {
            let number = body.first().copied().filter(|number| *number > 0)?;
            Some(Partition {
                name: number.to_string().into(),
                strategy: waypost_cache::find("fifo").unwrap(),
                bytes: 3 * (waypost_cache::ENTRY_BYTES + 1),
            })
        })
    }

    fn cache() -> MessageCache {
        let lru = waypost_cache::find("lru").unwrap();
        MessageCache::new(lru, 1 << 20, by_first_byte())
    }

    #[test]
    fn each_partition_keeps_its_own_and_counts_its_own() {
        let cache = cache();
        for id in 1..=10 {
            cache.put(MessageId(id), [1].into(), true);
            cache.put(MessageId(100 + id), [0].into(), id == 1);
        }
        assert!((1..=7).all(|id| cache.get(MessageId(id)).is_none()));
        assert!((8..=10).all(|id| cache.get(MessageId(id)).is_some()));
        assert!((101..=110).all(|id| cache.get(MessageId(id)).is_some()));
        let figures = cache.figures();
        let row = |at: usize| {
            let row = &figures[at];
            let counters = row.counters;
            (&*row.name, row.strategy, counters.hits, counters.misses)
        };
        assert_eq!(row(0), ("store", "lru", 10, 1));
        assert_eq!(row(1), ("1", "fifo", 3, 10));
        assert_eq!(figures[1].bytes, 3 * (waypost_cache::ENTRY_BYTES + 1));
        assert_eq!(figures.len(), 2);
    }

    /// The bound at N, N + 1 and 2 N.
    #[test]
    fn what_has_no_partition_any_more_is_in_the_first() {
        let most = u8::try_from(PARTITIONS_MAX).unwrap();
        for (count, crowded_out) in [(most, 0), (most + 1, 1), (2 * most, u64::from(most))] {
            let cache = cache();
            for number in 1..=count {
                cache.put(MessageId(number.into()), [number].into(), true);
            }
            assert_eq!(cache.figures().len(), 1 + PARTITIONS_MAX);
            assert_eq!(cache.crowded_out(), crowded_out);
            assert!((1..=count).all(|id| cache.get(MessageId(id.into())).is_some()));
        }
    }
}
