//! The cache family: what stays in memory when not everything fits.
//!
//! [`Cache`] is what a strategy is: it decides by keys and weights and never sees a value. [`registry`] lists them all.
//! [`Cached`] keeps the values beside a strategy, and counts. Deliberately not here: loading what is missing, sharing
//! between threads (a lock around [`Cached`] is its owner's) and time.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod cached;
mod entries;
pub mod simulate;
mod strategies;

pub use cached::{Cached, Counters, ENTRY_BYTES};
pub use strategies::{default_strategy, registry};
pub use waypost_names::UnknownStrategy;

/// What an entry is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key(pub u64);

/// A strategy at work for one cache of fixed capacity: in bytes, or in entries where everything weighs one.
///
/// Invariants, tested for every strategy: the weights of what is kept never exceed the capacity; what fits stays; every key
/// it lets go is reported once, and no other; a key is kept from its [`Cache::insert`] until it is reported or removed; the
/// same calls give the same evictions.
pub trait Cache: Send {
    /// Somebody wants `key`: whether it is kept. Told of hits and misses alike, since some strategies learn from both.
    fn get(&mut self, key: Key) -> bool;

    /// `key` was read and weighs this much; if it is kept already, it weighs this much from now on. What goes is appended to
    /// `evicted`: others, or `key` itself where the strategy rather keeps what it has, or it is heavier than all the capacity.
    fn insert(&mut self, key: Key, weight: u64, evicted: &mut Vec<Key>);

    /// `key` is of no more use; whether it was kept. It is not reported as evicted.
    fn remove(&mut self, key: Key) -> bool;

    /// What `key` weighs, if it is kept. Nobody wants it: nothing is learnt from the question.
    fn weight_of(&self, key: Key) -> Option<u64>;

    /// The weights of all that is kept.
    fn weight(&self) -> u64;

    /// How many keys are kept.
    fn len(&self) -> usize;

    /// Whether none is.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Visits every key that is kept, and its weight, as far as the strategy can tell what would go first, first.
    fn each(&self, visit: &mut dyn FnMut(Key, u64));

    /// One line that says why it does what it does, for people.
    fn explain(&self) -> String {
        String::new()
    }
}

/// A row of the registry.
pub struct Strategy {
    /// Its name in configuration.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its definition comes from.
    pub source: &'static str,
    /// Makes one for so many bytes, or entries.
    pub new: fn(capacity: u64) -> Box<dyn Cache>,
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    waypost_names::find("cache", registry(), name)
}

waypost_names::named!(Strategy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_none_stands_for_two() {
        for (asked, expect) in [("lru", "lru"), ("Least_Recently-Used", "lru")] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
        assert_eq!(waypost_names::doubled(registry()), None);
        let error = find("no such thing").unwrap_err();
        assert_eq!(error.names.len(), registry().len());
        assert_eq!(error.family, "cache");
    }
}
