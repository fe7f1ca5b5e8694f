//! Counters of change, by the literal levels a filter begins with.
//!
//! A cached match stays valid while the counters of its topic stand still: one for filters that begin with a
//! wildcard, and one bucket each for filters whose literal levels, up to three, are the topic's first, first two or
//! first three. A subscription to `a/b/#` therefore invalidates matches of `a/b`, `a/b/c` and below, not `a/x`.

const BUCKETS: usize = 4096;
/// Filters are told apart by at most this many literal levels.
pub(super) const PREFIX_LEVELS_MAX: usize = 3;

pub(super) struct Versions {
    /// Counts every change.
    all: u64,
    /// Counts changes of filters that begin with a wildcard.
    wild: u64,
    buckets: Box<[u64]>,
}

/// The buckets of a topic: one per leading level, the last repeated when it has fewer than three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefixes([u16; PREFIX_LEVELS_MAX]);

/// A sum of counters that only grow: equal sums mean that none has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Versions {
    pub(super) fn new() -> Self {
        Self {
            all: 0,
            wild: 0,
            buckets: vec![0; BUCKETS].into_boxed_slice(),
        }
    }

    #[inline]
    pub(super) fn all(&self) -> u64 {
        self.all
    }

    /// A filter that begins with these literal levels (their hashes) has changed.
    pub(super) fn change(&mut self, literals: impl Iterator<Item = u32>) {
        self.all += 1;
        match literals.take(PREFIX_LEVELS_MAX).reduce(extend) {
            None => self.wild += 1,
            Some(prefix) => {
                if let Some(version) = self.buckets.get_mut(usize::from(bucket(prefix))) {
                    *version += 1;
                }
            }
        }
    }

    #[inline]
    pub(super) fn stamp(&self, prefixes: Prefixes) -> Stamp {
        let version = |bucket| self.buckets.get(usize::from(bucket)).copied().unwrap_or(0);
        Stamp(
            prefixes
                .0
                .into_iter()
                .map(version)
                .fold(self.wild, u64::wrapping_add),
        )
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }
}

impl Prefixes {
    /// The buckets of a topic with these levels (their hashes).
    pub(super) fn new(levels: impl Iterator<Item = u32>) -> Self {
        let mut buckets = [0; PREFIX_LEVELS_MAX];
        let mut prefix = None;
        let mut levels = levels.fuse();
        for place in &mut buckets {
            if let Some(level) = levels.next() {
                prefix = Some(prefix.map_or(level, |prefix| extend(prefix, level)));
            }
            *place = bucket(prefix.unwrap_or(0));
        }
        Self(buckets)
    }
}

fn extend(prefix: u32, level: u32) -> u32 {
    (prefix.rotate_left(5) ^ level).wrapping_mul(0x9e37_79b1)
}

fn bucket(prefix: u32) -> u16 {
    ((prefix >> 16) as u16) >> (u16::BITS - BUCKETS.ilog2())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_by_the_topics_it_can_concern_and_by_few_others() {
        let check = |filter: &[u32], topic: &[u32], concerned| {
            let mut versions = Versions::new();
            let prefixes = Prefixes::new(topic.iter().copied());
            let before = versions.stamp(prefixes);
            versions.change(filter.iter().copied());
            assert_eq!(
                versions.stamp(prefixes) != before,
                concerned,
                "{filter:?} {topic:?}"
            );
        };
        let (a, b, c, d) = (0x1234_5678, 0x9abc_def0, 0x0f0f_1e1e, 0x7777_0001);
        check(&[], &[a], true);
        check(&[a], &[a], true);
        check(&[a], &[a, b, c, d], true);
        check(&[a, b], &[a, b], true);
        check(&[a, b, c], &[a, b, c, d], true);
        check(&[a, b, c, d], &[a, b, c, d], true);
        check(&[a, b, c, d], &[a, b, c], true);
        check(&[a, b, c], &[a, b], false);
        check(&[a, b], &[a], false);
        check(&[b], &[a], false);
        check(&[a, c], &[a, b, c, d], false);
    }
}
