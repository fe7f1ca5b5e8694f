//! What has come to the owner of retained topics, and what has not yet: mail between two shards keeps its order, mail
//! between three does not.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::effects::ShardId;
use crate::mail::RetainedAsk;

/// Retained publishes come to their owner, and what waits for them.
pub(crate) struct Arrivals {
    /// Publishes that came, per sender.
    came: Box<[u64]>,
    /// Questions that came before what their answer must reckon with.
    pub early: Vec<(ShardId, RetainedAsk)>,
    /// Stamps of the last words on topics with nothing retained, as long as older words may still come.
    cleared: HashMap<Box<str>, u64, FixedState>,
    /// When to forget them: once as many publishes came from each shard.
    cleared_until: VecDeque<(Box<[u64]>, Box<str>, u64)>,
}

impl Arrivals {
    pub fn new(seed: u64, shards: u16) -> Self {
        Self {
            came: vec![0; shards.into()].into(),
            early: Vec::new(),
            cleared: HashMap::with_hasher(FixedState::with_seed(seed)),
            cleared_until: VecDeque::new(),
        }
    }

    /// Whether as many publishes came from each shard.
    pub fn has_come(&self, mailed: &[u64]) -> bool {
        self.came
            .iter()
            .zip(mailed)
            .all(|(came, mailed)| came >= mailed)
    }

    /// Nothing is retained on a topic from this stamp on. Until these publishes have come, one of them may be older.
    pub fn clear(&mut self, topic: &str, stamp: u64, mailed: Box<[u64]>) {
        if !self.has_come(&mailed) {
            self.cleared.insert(topic.into(), stamp);
            self.cleared_until.push_back((mailed, topic.into(), stamp));
        }
    }

    /// The stamp of the last word on a topic, if that left nothing.
    pub fn cleared(&self, topic: &str) -> Option<u64> {
        if self.cleared.is_empty() {
            None
        } else {
            self.cleared.get(topic).copied()
        }
    }

    /// A publish came.
    pub fn count(&mut self, from: ShardId) {
        if let Some(came) = self.came.get_mut(usize::from(from.0)) {
            *came += 1;
        }
        while let Some((mailed, topic, stamp)) = self.cleared_until.pop_front() {
            if !self.has_come(&mailed) {
                self.cleared_until.push_front((mailed, topic, stamp));
                return;
            }
            if self.cleared.get(&topic) == Some(&stamp) {
                self.cleared.remove(&topic);
            }
        }
    }
}
