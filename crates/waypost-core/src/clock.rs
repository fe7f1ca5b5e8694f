//! What all shards know of the retained messages: the order of their publishes, and where there are any.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::census::Census;

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
}

impl RetainedClock {
    /// A number above all before.
    pub(crate) fn tick(&self) -> u64 {
        self.0.last.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The last number given.
    pub(crate) fn last(&self) -> u64 {
        self.0.last.load(Ordering::Acquire)
    }

    /// Where something is retained.
    pub(crate) fn census(&self) -> &Census {
        &self.0.census
    }
}
