//! The topic index: who is to get a message with this topic.
//!
//! [`SubscriptionIndex`] is a trie over interned topic levels, [`MatchCache`] remembers what it answered, and
//! [`TopicTree`] is the reverse: which of the stored topics a filter matches, for retained messages.
//!
//! Deliberately not here: how many levels a topic or filter may have and how many subscriptions a session (limits), who
//! is in a group (to the index it is one subscriber), and what becomes of a match (delivery). The cost of a match is bounded by the nodes
//! of the trie it visits, never by the number of levels alone, and nothing here recurses.

mod cache;
mod hash;
mod levels;
mod merge;
mod slab;
mod split_table;
mod subscribers;
mod text;
mod topic_tree;
mod trie;
mod versions;

#[cfg(test)]
mod tests;

use waypost_mqtt::SubscriptionOptions;

pub use cache::{MatchCache, MatchCacheCounts};
pub use merge::{CachedMatch, Merged, MergedFlags};
pub use topic_tree::{Cursor, TopicTree};
pub use trie::{FilterId, SubscriptionIndex};

/// A session's slot in this shard, a group that has its home here, or another shard: in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriberId(pub u32);

impl SubscriberId {
    const GROUPS: u32 = 1 << 30;
    const SHARDS: u32 = 1 << 31;

    /// A group: one subscriber, for all its members.
    pub const fn of_group(slot: u32) -> Self {
        Self(Self::GROUPS | slot)
    }

    /// Another shard: one subscriber, for all its sessions.
    pub const fn of_shard(shard: u16) -> Self {
        Self(Self::SHARDS | shard as u32)
    }

    /// Whether it is a session of this shard.
    #[inline]
    pub const fn is_session(self) -> bool {
        self.0 < Self::GROUPS
    }

    /// Whether it is a session or a group of this shard.
    #[inline]
    pub const fn is_local(self) -> bool {
        self.0 < Self::SHARDS
    }

    /// The group's slot, if it is one.
    #[inline]
    pub const fn group(self) -> Option<u32> {
        if self.is_local() && !self.is_session() {
            Some(self.0 & !Self::GROUPS)
        } else {
            None
        }
    }

    /// The shard, if it is one.
    pub fn shard(self) -> Option<u16> {
        u16::try_from(self.0.checked_sub(Self::SHARDS)?).ok()
    }
}

/// What one subscriber asked for with one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The Subscription Options of the SUBSCRIBE.
    pub options: SubscriptionOptions,
    /// Its Subscription Identifier; 0 when it has none.
    pub identifier: u32,
}

/// One subscription that matches a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Whose subscription it is.
    pub subscriber: SubscriberId,
    /// What it asks for.
    pub subscription: Subscription,
}
