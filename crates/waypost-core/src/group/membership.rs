//! The subscriptions of one session to groups.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use waypost_balance::MemberId;

use super::MemberKey;
use crate::effects::ShardId;

/// A session's subscription to a group.
#[derive(Debug)]
pub(crate) struct Membership {
    pub key: MemberKey,
    pub filter: Arc<str>,
    pub home: ShardId,
    /// The group and the member there, if the home is here.
    pub at: Option<(u32, MemberId)>,
    /// It unsubscribed; what was begun is finished.
    pub is_ended: bool,
    /// Its home, on another shard, was told that the session has no room.
    pub is_told: bool,
    /// Deliveries of this visit that were returned for want of room. What its home sent before it had them all back is
    /// returned too, so that the order is kept.
    pub returned: u32,
}

/// Whether a session can be given messages of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Its outbox is more than half full.
    pub is_slow: bool,
    /// Messages wait for its window.
    pub is_busy: bool,
}

impl Room {
    pub const NONE: Self = Self {
        is_slow: true,
        is_busy: true,
    };
}

/// A session's subscriptions to groups. Only sessions that ever had one have it.
#[derive(Debug, Default)]
pub(crate) struct Memberships {
    pub by_number: BTreeMap<NonZeroU32, Membership>,
    pub by_filter: BTreeMap<Arc<str>, NonZeroU32>,
    last: u32,
    /// What homes of its groups may believe of its room: they are told when it is no longer so.
    pub told: Room,
    /// Connections it has had.
    pub visit: u32,
    /// Homes on other shards that have to say what of this session's they took back, before anything is sent again, and
    /// of which visit they were told.
    unwelcomed: Vec<(NonZeroU32, u32)>,
}

impl Memberships {
    /// A connection came. These have something in flight from homes elsewhere, which are told.
    pub fn begin_visit(&mut self, unwelcomed: &[NonZeroU32]) -> u32 {
        self.visit = self.visit.wrapping_add(1);
        // Who unsubscribed is not announced again: its home's word of the visit before is still to come.
        let by_number = &self.by_number;
        self.unwelcomed.retain(|(number, _)| {
            let membership = by_number.get(number);
            membership.is_some_and(|membership| membership.is_ended)
        });
        let of_this = unwelcomed.iter().map(|number| (*number, self.visit));
        self.unwelcomed.extend(of_this);
        for membership in self.by_number.values_mut() {
            membership.returned = 0;
        }
        self.visit
    }

    /// A home knows that the session is back. Returns whether it was the last one.
    pub fn welcome(&mut self, number: NonZeroU32, visit: u32) -> bool {
        let before = self.unwelcomed.len();
        self.unwelcomed.retain(|other| *other != (number, visit));
        before > 0 && self.unwelcomed.is_empty()
    }

    /// The session came from another shard. Its homes have said what they took back as they heard of that.
    pub fn arrive(&mut self) {
        self.unwelcomed.clear();
    }

    /// Whether everything in flight may be sent again.
    pub fn is_welcome(&self) -> bool {
        self.unwelcomed.is_empty()
    }

    /// Those that have not ended.
    pub fn len(&self) -> usize {
        self.by_filter.len()
    }

    pub fn insert(&mut self, membership: Membership) -> NonZeroU32 {
        let number = loop {
            self.last = self.last.wrapping_add(1);
            if let Some(number) = NonZeroU32::new(self.last)
                && !self.by_number.contains_key(&number)
            {
                break number;
            }
        };
        self.by_filter.insert(membership.filter.clone(), number);
        self.by_number.insert(number, membership);
        number
    }

    /// It is a member no more, and has this to finish or not.
    pub fn end(&mut self, filter: &str) -> Option<(NonZeroU32, &mut Membership)> {
        let number = self.by_filter.remove(filter)?;
        let membership = self.by_number.get_mut(&number)?;
        membership.is_ended = true;
        Some((number, membership))
    }

    /// Returns whether its home was the last that had to say what it took back.
    pub fn remove(&mut self, key: MemberKey) -> bool {
        let was_welcome = self.is_welcome();
        self.by_number.retain(|_, membership| membership.key != key);
        self.unwelcomed
            .retain(|(number, _)| self.by_number.contains_key(number));
        let by_number = &self.by_number;
        self.by_filter
            .retain(|_, number| by_number.contains_key(number));
        !was_welcome && self.is_welcome()
    }
}
