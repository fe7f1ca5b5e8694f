//! What all shards know of the retained messages: the order of their publishes, and where there are any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::census::Census;
use crate::effects::ShardId;

/// One counter for all shards of a server: clone it into each broker's configuration.
///
/// A publisher that waits for its PUBACK and then has somebody else publish to the same topic, on another shard,
/// expects the later message to stay. No clock that only follows the shards' mail knows of that order, so this one
/// number is shared. Only retained publishes and SUBSCRIBEs touch it.
#[derive(Clone, Debug, Default)]
pub struct RetainedClock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    last: AtomicU64,
    census: Census,
    /// Retained publishes mailed, by sender and owner.
    mailed: OnceLock<Box<[AtomicU64]>>,
}

impl RetainedClock {
    /// A number above all before.
    pub(crate) fn tick(&self) -> u64 {
        self.0.last.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Goes on behind a number that was given before a start.
    pub(crate) fn follow(&self, number: u64) {
        self.0.last.fetch_max(number, Ordering::AcqRel);
    }

    /// The last number given.
    pub(crate) fn last(&self) -> u64 {
        self.0.last.load(Ordering::Acquire)
    }

    /// A retained publish is about to be mailed to the owner of its topic.
    pub(crate) fn mailed(&self, from: ShardId, owner: ShardId, shards: u16) {
        let (from, owner, shards) = (
            usize::from(from.0),
            usize::from(owner.0),
            usize::from(shards),
        );
        if let Some(mailed) = self.of_owner(owner, shards).get(from) {
            mailed.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How many retained publishes each shard has mailed to an owner.
    pub(crate) fn mailed_to(&self, owner: ShardId, shards: u16) -> Box<[u64]> {
        self.of_owner(owner.0.into(), shards.into())
            .iter()
            .map(|mailed| mailed.load(Ordering::Acquire))
            .collect()
    }

    fn of_owner(&self, owner: usize, shards: usize) -> &[AtomicU64] {
        self.0
            .mailed
            .get_or_init(|| (0..shards * shards).map(|_| AtomicU64::new(0)).collect())
            .get(owner * shards..(owner + 1) * shards)
            .unwrap_or_default()
    }

    /// Where something is retained.
    pub(crate) fn census(&self) -> &Census {
        &self.0.census
    }
}
