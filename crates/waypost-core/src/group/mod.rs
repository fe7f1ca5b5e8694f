//! Shared subscriptions: groups, of which one member gets each message.
//!
//! A group has a home shard, by rendezvous of its filter over the shards. There it is a subscriber in the index like a
//! session, so that one look-up says who gets a message, and everything about it is decided there ([`state`]). A member's
//! shard has its session and delivers ([`member`]): each message of a group in a session's window carries a [`Tag`], by
//! which its acknowledgement is reported. On one shard both are direct calls; between shards it is mail.
//!
//! Deliberately not here: which member ([`waypost_balance`]), and the policies ([`crate::Policies`]).

mod at_once;
mod debtor;
mod dropped;
mod for_good;
mod home;
mod line;
mod member;
mod membership;
mod message;
mod offer;
mod restore;
mod seats;
mod state;
mod taking;
mod unlogged;

use std::collections::{HashMap, VecDeque};
use std::num::NonZeroU32;

use foldhash::fast::FixedState;
use waypost_balance::MemberId;
use waypost_mqtt::{Filter, Properties};

use crate::effects::ShardId;
use crate::hash::shared_hash;
use crate::index::{CachedMatch, FilterId};
use crate::journal::{QueueId, Ticket};
use crate::policy::Policy;
use home::Handed;
use message::{Dropped, Sender};
use state::Group;
use unlogged::Unlogged;

pub(crate) use home::{Join, Said, Word};
pub(crate) use member::weight_of;
pub(crate) use membership::Memberships;
pub(crate) use taking::{Delivery, Knew, Taking};

/// One session's subscription to one group: the same wherever the session is, and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberKey(u64);

impl MemberKey {
    pub fn to_bits(self) -> u64 {
        self.0
    }

    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }
}

/// What a message of a group carries in a member's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    /// The session's own number of the subscription.
    pub membership: NonZeroU32,
    /// The group's number of the delivery.
    pub number: u32,
}

const _: () = assert!(
    size_of::<Option<Tag>>() == 8,
    "every message in flight has one"
);

/// Where a member's session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// Here, in this slot.
    Here(ShardId, u32),
    There(ShardId),
}

impl Seat {
    fn shard(self) -> u16 {
        match self {
            Self::Here(shard, _) | Self::There(shard) => shard.0,
        }
    }
}

/// The name and the inner filter of a shared subscription's Topic Filter; `$queue/…` has no name. `Err`: it would be one,
/// but is none that can be. 5 [MQTT-4.8.2-1], [MQTT-4.8.2-2]
pub(crate) fn group_of(filter: Filter<'_>) -> Option<Result<(&str, Filter<'_>), ()>> {
    if let Some(inner) = filter.as_str().strip_prefix("$queue/") {
        return Some(
            Filter::parse(inner)
                .map(|inner| ("", inner))
                .map_err(|_| ()),
        );
    }
    Some(filter.shared()?.map_err(|_| ()))
}

/// The shard a group lives on: the one with the highest score, so that few groups move when shards are added.
pub(crate) fn home_of(filter: &str, shards: u16) -> ShardId {
    let hash = shared_hash(filter);
    let score = |shard: &u16| {
        let mixed = (hash ^ u64::from(*shard).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    };
    ShardId((0..shards).max_by_key(score).unwrap_or(0))
}

/// The value of `waypost-key`, if a message has it.
#[inline]
pub(crate) fn key_property(properties: &[u8]) -> Option<&str> {
    if properties.is_empty() {
        return None;
    }
    find_property(Properties::from_validated(properties), "waypost-key")
}

/// The value of a User Property.
pub(crate) fn find_property<'a>(properties: Properties<'a>, wanted: &str) -> Option<&'a str> {
    properties
        .user_properties()
        .find_map(|(name, value)| (name == wanted).then_some(value))
}

/// Every group that has its home on this shard, and what this shard knows of its sessions' groups elsewhere.
#[derive(Default)]
pub(crate) struct Groups {
    all: Vec<Option<Group>>,
    free: Vec<u32>,
    by_filter: HashMap<Box<str>, u32, FixedState>,
    /// Members whose sessions are on other shards.
    remote: HashMap<MemberKey, (u32, MemberId), FixedState>,
    /// Sessions whose groups are on other shards.
    sessions: HashMap<MemberKey, (u32, NonZeroU32), FixedState>,
    /// Members whose homes know that they are here now, while their sessions are on their way; or that they are none.
    handed: HashMap<MemberKey, Handed, FixedState>,
    /// Bytes at `QoS` 0 that came for members in this batch of mail.
    taken: Vec<(MemberKey, u32)>,
    members: usize,
    waiting: usize,
    /// Groups that are owed messages by the store.
    by_number: HashMap<QueueId, u32, FixedState>,
    unlogged: Unlogged,
    /// Rows that were written down and are not known to be on disk.
    rows: VecDeque<(Ticket, QueueId)>,
    /// Of these, what the store did not take down.
    rows_refused: Vec<QueueId>,
    /// Rows are still being read.
    pub is_restoring: bool,
    /// After a start: when all shards have confirmed this round, all members have joined.
    restored: Option<u64>,
    keys_given: u64,
    /// What was dropped and not yet told of.
    news: Vec<(u32, Dropped)>,
    /// The groups of the message being delivered.
    matched: Vec<u32>,
}

impl Groups {
    pub fn get(&self, slot: u32) -> Option<&Group> {
        self.all.get(slot as usize)?.as_ref()
    }

    #[inline]
    pub fn get_mut(&mut self, slot: u32) -> Option<&mut Group> {
        self.all.get_mut(slot as usize)?.as_mut()
    }

    /// Whether this is the member's place still: places are used again.
    fn is_member(&self, (slot, id): (u32, MemberId), key: MemberKey) -> bool {
        let detail = self.get(slot).and_then(|group| group.seats.detail(id));
        detail.is_some_and(|detail| detail.key == key)
    }

    /// Whether the store keeps messages for a group.
    fn is_owed(&self, slot: u32) -> bool {
        self.get(slot).is_some_and(|group| group.debtor.is_some())
    }

    /// The queue of a group that is owed messages by the store.
    fn number_of(&self, slot: u32) -> Option<QueueId> {
        Some(self.get(slot)?.debtor.as_ref()?.number)
    }

    /// Groups that have their home here.
    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    /// Members of these.
    pub fn members(&self) -> usize {
        self.members
    }

    /// Messages that wait in these in memory.
    #[cfg(test)]
    pub fn in_memory(&self) -> usize {
        let groups = self.all.iter().flatten();
        groups.map(|group| group.line.count()).sum()
    }

    /// Messages that wait in these.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// A group has more or less that waits than it had.
    fn count_waiting(&mut self, slot: u32) {
        let group = self.all.get_mut(slot as usize).and_then(Option::as_mut);
        if let Some(group) = group {
            self.waiting -= group.counted;
            group.counted = group.waiting();
            self.waiting += group.counted;
        }
    }

    /// Notes the groups that get a message, for [`Broker::offer_to_groups`](crate::Broker). Whether there are any.
    #[inline]
    pub fn note(&mut self, matched: &CachedMatch) -> bool {
        let groups = matched.groups();
        if groups.is_empty() {
            return false;
        }
        let slots = groups.iter().filter_map(|merged| merged.subscriber.group());
        self.matched.extend(slots);
        true
    }

    /// What is left when nobody is in a group: nothing.
    pub fn traces(&self) -> usize {
        self.all.len() - self.free.len()
            + self.remote.len()
            + self.sessions.len()
            + self.handed.len()
            + self.news.len()
            + self.by_number.len()
            + self.unlogged.traces()
    }

    pub fn find(&self, filter: &str) -> Option<u32> {
        self.by_filter.get(filter).copied()
    }

    /// The slot the next group gets.
    pub fn next_slot(&self) -> u32 {
        let end = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.free.last().copied().unwrap_or(end)
    }

    pub fn insert(&mut self, filter: &str, filter_id: FilterId, policy: Policy, seed: u64) -> u32 {
        let slot = self.next_slot();
        if self.free.pop().is_none() {
            self.all.push(None);
        }
        if let Some(place) = self.all.get_mut(slot as usize) {
            *place = Some(Group::new(filter.into(), filter_id, policy, seed));
        }
        self.by_filter.insert(filter.into(), slot);
        slot
    }

    /// Nobody finds a group any more that has ended. Whether it could be found before.
    fn hide(&mut self, slot: u32) -> bool {
        let Some(Some(group)) = self.all.get(slot as usize) else {
            return false;
        };
        let is_found = self.by_filter.get(&group.filter) == Some(&slot);
        if is_found {
            self.by_filter.remove(&group.filter);
        }
        is_found
    }

    /// Nobody has anything of a group any more that has ended.
    fn remove_if_vacant(&mut self, slot: u32) {
        let place = self.all.get_mut(slot as usize);
        if let Some(place) = place
            && place.as_ref().is_some_and(|group| group.seats.is_vacant())
        {
            *place = None;
            self.free.push(slot);
        }
        if self.free.len() == self.all.len() {
            self.all = Vec::new();
            self.free = Vec::new();
        }
    }

    /// Deliveries that are another's now, of a member whose session has yet to come here.
    fn take_back_on_the_way(&mut self, key: MemberKey, numbers: &[u32]) {
        if let Some(handed) = self.handed.get_mut(&key) {
            handed.taken_back.extend(numbers);
        }
    }

    fn slots(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// A key nobody had before.
    pub fn new_key(&mut self, shard: ShardId) -> MemberKey {
        self.keys_given += 1;
        MemberKey(u64::from(shard.0) << 48 | self.keys_given)
    }
}
