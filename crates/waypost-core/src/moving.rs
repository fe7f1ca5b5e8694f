//! A session moves from one shard to another, and loses, doubles and reorders nothing.
//!
//! The old owner packs it into one parcel and stays behind as a *leaving* session that passes on what is still sent
//! to it. The new owner adds the subscriptions and tells every shard to *move*: each of them marks that point in what
//! it sends to either (mail is first in, first out). Before a publisher's mark its messages reach the session by the
//! old owner, after it directly. What comes directly is held back until the old owner has passed on the last one.

use std::collections::{BTreeMap, VecDeque};

use waypost_mqtt::{Filter, ReasonCode};

use crate::broker::Broker;
use crate::counters::Counters;
use crate::cursor::Cursor;
use crate::dead::Graves;
use crate::deliver::enqueue;
use crate::effects::{Effects, Now, ShardId};
use crate::group::MemberKey;
use crate::index::SubscriberId;
use crate::interest::post;
use crate::journal::QueueId;
use crate::limits::Limits;
use crate::mail::{Claim, Mail};
use crate::parcel::Parcel;
use crate::queue::Owed;
use crate::session::Session;

/// The sessions on their way, by the claims that set them going.
#[derive(Debug, Default)]
pub(crate) struct MovingSessions {
    /// Slots of those that leave, by the new owner and its number.
    leaving: BTreeMap<(ShardId, u64), u32>,
    /// Slots of those that arrive, by this shard's number.
    arriving: BTreeMap<u64, u32>,
    /// Sessions to give up, once what their clients sent before was read: a DISCONNECT or an acknowledgement may wait on
    /// the old connection.
    pub to_yield: Vec<Claim>,
    /// Reads that sessions which left had asked for: should one come back, the answers are not for it.
    in_vain: BTreeMap<QueueId, u32>,
}

impl MovingSessions {
    pub fn len(&self) -> usize {
        self.leaving.len() + self.arriving.len()
    }

    /// A read came; whether whoever asked for it has left.
    pub fn was_in_vain(&mut self, queue: QueueId) -> bool {
        let Some(count) = self.in_vain.get_mut(&queue) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.in_vain.remove(&queue);
        }
        true
    }
}

/// What a session on its way is, here.
#[derive(Debug)]
pub(crate) enum Moving {
    Leaving(Leaving),
    Arriving(Arriving),
}

impl Moving {
    /// Whether what a shard publishes is owed by this one. Its mark says from when on it is the new owner's.
    pub fn is_owed(&self, source: ShardId) -> bool {
        match self {
            Self::Leaving(leaving) => leaving.passes_on(source),
            Self::Arriving(arriving) => arriving.moved.get(usize::from(source.0)) == Some(&true),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Leaving {
    pub to: ShardId,
    pub number: u64,
    /// Per publishing shard: whether it sends to the new owner now.
    moved: Box<[bool]>,
}

#[derive(Debug)]
pub(crate) struct Arriving {
    number: u64,
    /// Per publishing shard: whether it sends here now.
    moved: Box<[bool]>,
    /// The old owner has passed on the last message.
    is_emptied: bool,
    /// What came directly, in order.
    held: VecDeque<Owed>,
    /// Subscriptions to groups whose homes do not know yet that they are here.
    awaited: Vec<MemberKey>,
}

impl Leaving {
    fn is_complete(&self) -> bool {
        self.moved.iter().all(|moved| *moved)
    }

    /// Whether what a shard publishes still comes here.
    pub fn passes_on(&self, source: ShardId) -> bool {
        self.moved.get(usize::from(source.0)) == Some(&false)
    }
}

impl Arriving {
    /// Holds back a message that came directly; one from before its publisher's mark comes by the old owner.
    pub fn hold(&mut self, source: ShardId, owed: Owed, limits: &Limits, counters: &mut Counters) {
        if self.moved.get(usize::from(source.0)) != Some(&true) {
            return;
        }
        if self.held.len() < limits.queue_messages_max {
            self.held.push_back(owed);
        } else {
            counters.dropped_queue_full += 1;
        }
    }

    fn is_complete(&self) -> bool {
        self.is_emptied && self.awaited.is_empty() && self.moved.iter().all(|moved| *moved)
    }
}

fn mark(moved: &mut [bool], source: ShardId) {
    if let Some(place) = moved.get_mut(usize::from(source.0)) {
        *place = true;
    }
}

impl Broker {
    /// As owner: another shard has a CONNECT with this client id.
    pub(crate) fn handle_yield(&mut self, claim: &Claim, now: Now, out: &mut impl Effects) {
        let (to, number) = (claim.shard, claim.number);
        let Some(slot) = self.sessions.find(&claim.client_id) else {
            post(
                to,
                Mail::Shipped {
                    number,
                    parcel: None,
                },
                out,
            );
            return;
        };
        // A session belongs to the user who made it.
        if self
            .sessions
            .get(slot)
            .is_some_and(|session| session.user != claim.user)
        {
            let reason = ReasonCode::NotAuthorized;
            post(to, Mail::Refused { number, reason }, out);
            return;
        }
        self.held_connects.begin();
        let kept = self.take_over(slot, claim.clean_start, now, out);
        // A repeat of a `QoS` 2 message may come to the new owner: by then the first one is kept, or is not.
        // What it is taking from a group is its own by then, or the group's again.
        if let Some(session) = kept.and_then(|slot| self.sessions.get(slot))
            && (session.unstored() > 0 || session.is_taking() || session.is_copying())
        {
            // Their homes cannot give its members anything meanwhile.
            if let Some(slot) = kept {
                self.members_away(slot, now, out);
            }
            self.held.yields.push(claim.clone());
            return;
        }
        let parcel = kept
            .and_then(|slot| {
                self.members_leave(slot, to, now, out);
                self.pack(slot, to, number)
            })
            .map(Box::new);
        match self.held_connects.end_of_former() {
            Some(ticket) if parcel.is_none() => self.hold_ended(to, number, ticket),
            _ => post(to, Mail::Shipped { number, parcel }, out),
        }
    }

    /// Packs a session and leaves in its slot what passes on.
    fn pack(&mut self, slot: u32, to: ShardId, number: u64) -> Option<Parcel> {
        self.held_connects.forget(slot);
        let mut session = self.sessions.depart(slot)?;
        let readers = self.readers_depart(slot, &mut session);
        let subscriber = SubscriberId(slot);
        let subscriptions = session
            .subscriptions
            .iter()
            .filter_map(|filter| {
                Some((
                    self.index.filter_string(*filter),
                    self.index.get(*filter, subscriber)?,
                ))
            })
            .collect();
        // Whatever is owed on the way, the new owner reads.
        let cursor = session.delivery.as_ref().map(|delivery| &delivery.cursor);
        let departed = cursor.map(Cursor::depart).unwrap_or_default();
        if let Some(number) = session.number()
            && cursor.is_some_and(Cursor::is_reading)
        {
            *self.moving.in_vain.entry(number).or_default() += 1;
        }
        let departed = session.number().map(|_| departed);
        let settled = session
            .number()
            .map(|number| self.unsettled.of(number))
            .unwrap_or_default();
        let mut left = Session::new(Box::default(), None, session.publisher);
        left.subscriptions.clone_from(&session.subscriptions);
        left.set_number(session.number());
        if session.number().is_some() {
            left.delivery().cursor = std::mem::take(&mut session.delivery().cursor);
        }
        let moved = vec![false; usize::from(self.shards)].into();
        left.moving = Some(Box::new(Moving::Leaving(Leaving { to, number, moved })));
        self.sessions.leave(slot, left);
        self.moving.leaving.insert((to, number), slot);
        let dying = session
            .number()
            .map(|number| self.dead.of(number).collect());
        let mut parcel = Parcel::new(session, departed, settled, subscriptions);
        parcel.dying = dying.unwrap_or_default();
        parcel.readers = readers;
        Some(parcel)
    }

    /// As new owner: the session came.
    pub(crate) fn handle_shipped(
        &mut self,
        from: ShardId,
        number: u64,
        parcel: Parcel,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut parcel = parcel;
        self.unsettled.arrive(std::mem::take(&mut parcel.settled));
        let dying = std::mem::take(&mut parcel.dying);
        self.dead.arrive(dying, &self.limits);
        let readers = std::mem::take(&mut parcel.readers);
        let (mut session, subscriptions) = parcel.open();
        let mut moved = vec![false; usize::from(self.shards)];
        mark(&mut moved, self.shard);
        session.moving = Some(Box::new(Moving::Arriving(Arriving {
            number,
            moved: moved.into(),
            is_emptied: false,
            held: VecDeque::new(),
            awaited: Vec::new(),
        })));
        let is_durable = session.number().is_some();
        let slot = self.sessions.insert(session);
        self.moving.arriving.insert(number, slot);
        self.readers_arrive(slot, readers);
        let mut filters = Vec::with_capacity(subscriptions.len());
        for (filter, subscription) in &subscriptions {
            if let Ok(filter) = Filter::parse(filter) {
                let (filter_id, _) = self.index.insert(filter, SubscriberId(slot), *subscription);
                filters.push(filter_id);
                self.interest_gained(filter, filter_id, is_durable, out);
            }
        }
        filters.sort_unstable();
        if let Some(session) = self.sessions.get_mut(slot) {
            session.subscriptions = filters;
        }
        self.hold_again(slot, out);
        let awaited = self.members_arrive(slot, out);
        if let Some(Moving::Arriving(arriving)) = self.sessions.moving(slot) {
            arriving.awaited = awaited;
        }
        for shard in self.others() {
            post(shard, Mail::Move { number, old: from }, out);
        }
        self.arrive_if_complete(slot, now, out);
    }

    /// As anybody: from here on, what this shard publishes goes to the session's new owner.
    pub(crate) fn handle_move(
        &mut self,
        new: ShardId,
        number: u64,
        old: ShardId,
        out: &mut impl Effects,
    ) {
        post(new, Mail::Moved { number, new }, out);
        if old == self.shard {
            // The new owner's own mark is this very mail.
            self.mark_leaving(new, number, new, out);
            self.mark_leaving(new, number, self.shard, out);
        } else {
            post(old, Mail::Moved { number, new }, out);
        }
    }

    /// A publisher's mark came.
    pub(crate) fn handle_moved(
        &mut self,
        from: ShardId,
        number: u64,
        new: ShardId,
        now: Now,
        out: &mut impl Effects,
    ) {
        if new != self.shard {
            self.mark_leaving(new, number, from, out);
            return;
        }
        let Some(slot) = self.moving.arriving.get(&number).copied() else {
            return;
        };
        if let Some(Moving::Arriving(arriving)) = self.sessions.moving(slot) {
            mark(&mut arriving.moved, from);
        }
        self.arrive_if_complete(slot, now, out);
    }

    fn mark_leaving(&mut self, new: ShardId, number: u64, source: ShardId, out: &mut impl Effects) {
        let Some(slot) = self.moving.leaving.get(&(new, number)).copied() else {
            return;
        };
        let Some(Moving::Leaving(leaving)) = self.sessions.moving(slot) else {
            return;
        };
        mark(&mut leaving.moved, source);
        self.leave_if_empty(slot, out);
    }

    /// As old owner: nothing more is owed here, and all of it is written down.
    pub(crate) fn leave_if_empty(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(Moving::Leaving(leaving)) = session.moving.as_deref() else {
            return;
        };
        if !leaving.is_complete() || !session.is_logged() {
            return;
        }
        let (to, number) = (leaving.to, leaving.number);
        let delivery = session.delivery.as_ref();
        let waiting = delivery.map_or((0, 0), |delivery| delivery.cursor.counts());
        self.moving.leaving.remove(&(to, number));
        self.remove_subscriptions(slot, out);
        self.sessions.remove(slot);
        post(to, Mail::Emptied { number, waiting }, out);
    }

    /// As new owner: a message that came by the old one.
    pub(crate) fn handle_forwarded(&mut self, number: u64, owed: Owed, now: Now) {
        let Self {
            moving,
            sessions,
            limits,
            counters,
            dead,
            policies,
            ..
        } = self;
        let mut graves = Graves {
            dead,
            policies,
            limits,
            counters,
        };
        if let Some(session) = moving
            .arriving
            .get(&number)
            .and_then(|slot| sessions.get_mut(*slot))
        {
            enqueue(session, owed, &mut graves, now);
        }
    }

    /// As new owner: nothing more comes by the old one.
    pub(crate) fn handle_emptied(
        &mut self,
        number: u64,
        waiting: (usize, usize),
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(slot) = self.moving.arriving.get(&number).copied() else {
            return;
        };
        let session = self.sessions.get_mut(slot);
        if let Some(session) = session.filter(|session| session.number().is_some()) {
            session.delivery().cursor.arrive(waiting);
        }
        if let Some(Moving::Arriving(arriving)) = self.sessions.moving(slot) {
            arriving.is_emptied = true;
        }
        self.arrive_if_complete(slot, now, out);
    }

    /// As new owner: the home of a group knows that the session is here, or that it is no member.
    pub(crate) fn member_arrived(
        &mut self,
        slot: u32,
        key: MemberKey,
        now: Now,
        out: &mut impl Effects,
    ) {
        if let Some(Moving::Arriving(arriving)) = self.sessions.moving(slot) {
            arriving.awaited.retain(|awaited| *awaited != key);
            self.arrive_if_complete(slot, now, out);
        }
    }

    fn arrive_if_complete(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let Self {
            sessions,
            moving,
            limits,
            counters,
            dead,
            policies,
            ..
        } = self;
        let mut graves = Graves {
            dead,
            policies,
            limits,
            counters,
        };
        let Some(session) = sessions.get_mut(slot) else {
            return;
        };
        let Some(Moving::Arriving(arriving)) = session.moving.as_deref_mut() else {
            return;
        };
        if !arriving.is_complete() {
            return;
        }
        let number = arriving.number;
        let held = std::mem::take(&mut arriving.held);
        session.moving = None;
        moving.arriving.remove(&number);
        for owed in held {
            enqueue(session, owed, &mut graves, now);
        }
        self.finish_claim(number, slot, now, out);
    }
}
