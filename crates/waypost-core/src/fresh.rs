//! Subscriptions that not every shard knows of yet.
//!
//! What a shard sent before it confirmed a subscription was published before that subscription began, even if it
//! arrives after it: it is here for somebody else, or for the store of retained messages. A new subscriber does not
//! get it live; what of it is retained comes from its owner, with RETAIN 1.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use crate::effects::ShardId;
use crate::index::FilterId;

/// New subscriptions by session, until all shards have confirmed them.
pub(crate) struct Fresh {
    by_slot: HashMap<u32, Vec<(FilterId, u64)>, FixedState>,
    /// Which slot has something to forget after which round.
    order: VecDeque<(u64, u32)>,
    /// Per shard, the last round it confirmed.
    confirmed: Box<[u64]>,
}

impl Fresh {
    pub fn new(own: ShardId, shards: u16) -> Self {
        let confirmed = (0..shards).map(|shard| if shard == own.0 { u64::MAX } else { 0 });
        Self {
            by_slot: HashMap::default(),
            order: VecDeque::new(),
            confirmed: confirmed.collect(),
        }
    }

    /// A subscription begins that this round will tell of.
    pub fn begin(&mut self, slot: u32, filter: FilterId, round: u64) {
        let filters = self.by_slot.entry(slot).or_default();
        filters.retain(|(known, _)| *known != filter);
        filters.push((filter, round));
        self.order.push_back((round, slot));
    }

    /// A shard knows of everything up to this round.
    pub fn confirm(&mut self, shard: ShardId, round: u64) {
        if let Some(confirmed) = self.confirmed.get_mut(usize::from(shard.0)) {
            *confirmed = round.max(*confirmed);
        }
        let all = self.confirmed_by_all();
        while let Some((round, slot)) = self.order.pop_front_if(|(round, _)| *round <= all) {
            if let Some(filters) = self.by_slot.get_mut(&slot) {
                filters.retain(|(_, begun)| *begun > round);
                if filters.is_empty() {
                    self.by_slot.remove(&slot);
                }
            }
        }
    }

    /// The last round that every shard confirmed.
    pub fn confirmed_by_all(&self) -> u64 {
        self.confirmed.iter().copied().min().unwrap_or(u64::MAX)
    }

    /// A subscription ended: its filter's number may be another's next.
    pub fn end(&mut self, slot: u32, filter: FilterId) {
        if let Some(filters) = self.by_slot.get_mut(&slot) {
            filters.retain(|(known, _)| *known != filter);
        }
    }

    /// A session is no more.
    pub fn forget(&mut self, slot: u32) {
        self.by_slot.remove(&slot);
    }

    /// Whether all shards know of everything.
    pub fn is_empty(&self) -> bool {
        self.by_slot.is_empty()
    }

    /// Whether a session has subscriptions that not every shard knows of.
    pub fn has(&self, slot: u32) -> bool {
        self.by_slot.contains_key(&slot)
    }

    /// Whether a shard did not know of this subscription when it sent what arrives now.
    pub fn is_unknown_to(&self, shard: ShardId, slot: u32, filter: FilterId) -> bool {
        let confirmed = self.confirmed.get(usize::from(shard.0)).copied();
        self.by_slot
            .get(&slot)
            .into_iter()
            .flatten()
            .any(|(known, round)| *known == filter && Some(*round) > confirmed)
    }
}
