//! Where something is retained, told to all shards by counters: a SUBSCRIBE asks the owners only if they could have
//! something for it.
//!
//! A retained publish counts from the moment it is stamped, before its owner has it: whoever hears from the
//! publisher's shard afterwards sees it counted.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::hash::shared_hash;

const BUCKETS: usize = 8 * 1024;
/// Topics are told apart by at most this many levels.
const LEVELS_MAX: usize = 3;

/// How many retained topics begin with certain levels.
#[derive(Debug)]
pub(crate) struct Census {
    /// By the hash of the first level, of the first two and of the first three.
    buckets: Box<[AtomicU32]>,
    /// Topics that a filter may match which begins with a wildcard.
    public: AtomicU32,
}

impl Default for Census {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
            public: AtomicU32::new(0),
        }
    }
}

impl Census {
    /// One more message on a topic is retained, or on its way to the owner.
    pub fn add(&self, topic: &str) {
        for count in self.counts(topic) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// One less.
    pub fn remove(&self, topic: &str) {
        for count in self.counts(topic) {
            count.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// Whether something that a filter matches could be retained.
    pub fn may_match(&self, filter: &str) -> bool {
        let literals = filter
            .split('/')
            .take(LEVELS_MAX)
            .take_while(|level| !matches!(*level, "+" | "#"));
        let end = literals
            .map(str::len)
            .reduce(|end, level| end + 1 + level)
            .and_then(|end| filter.get(..end));
        match end {
            None => self.public.load(Ordering::Acquire) > 0,
            Some(prefix) => self
                .bucket(prefix)
                .is_some_and(|count| count.load(Ordering::Acquire) > 0),
        }
    }

    fn counts(&self, topic: &str) -> impl Iterator<Item = &AtomicU32> {
        // 3.1.1 and 5 [MQTT-4.7.2-1]
        let public = (!topic.starts_with('$')).then_some(&self.public);
        let ends = topic.match_indices('/').map(|(at, _)| at);
        ends.chain([topic.len()])
            .take(LEVELS_MAX)
            .filter_map(|end| self.bucket(topic.get(..end)?))
            .chain(public)
    }

    fn bucket(&self, prefix: &str) -> Option<&AtomicU32> {
        let at = shared_hash(prefix) % BUCKETS as u64;
        self.buckets.get(usize::try_from(at).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_may_match_what_begins_like_it_until_that_is_gone() {
        let check = |topic: &str, filter: &str, expect: bool| {
            let census = Census::default();
            assert!(!census.may_match(filter), "{filter}");
            census.add(topic);
            census.add(topic);
            census.remove(topic);
            assert_eq!(census.may_match(filter), expect, "{topic} {filter}");
            census.remove(topic);
            assert!(!census.may_match(filter), "{filter}");
        };
        check("a", "a", true);
        check("a", "a/#", true);
        check("a", "a/b", false);
        check("a/b", "a/+", true);
        check("a/b", "a/b/#", true);
        check("a/b", "a/c/#", false);
        check("a/b/c/d", "a/b/c/e", true);
        check("a/b/c/d", "a/b/d/#", false);
        check("/b", "/+", true);
        check("b", "/+", false);
        check("a/b", "+/x", true);
        check("a/b", "#", true);
        check("$SYS/a", "#", false);
        check("$SYS/a", "+/a", false);
        check("$SYS/a", "$SYS/#", true);
    }
}
