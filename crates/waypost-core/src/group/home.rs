//! What a group's home shard does with its members: who joins, who is away, what becomes of their messages.

use std::sync::Arc;

use waypost_balance::{Member, MemberId};
use waypost_mqtt::{Filter, QoS};

use super::membership::Room;
use super::message::{Aftermath, Dropped, Given};
use super::seats::Detail;
use super::state::Group;
use super::taking::Knew;
use super::{MemberKey, Seat, group_of};
use crate::broker::Broker;
use crate::effects::{Effects, Now, ShardId};
use crate::index::{SubscriberId, Subscription};
use crate::interest::post;
use crate::mail::Mail;
use crate::policy::Policies;

/// What a member's shard says of one to its home.
#[derive(Debug)]
pub(crate) enum Word {
    /// The client acknowledged a delivery.
    Done { number: u32 },
    /// The client refused one.
    Refused { number: u32 },
    /// One never reached the client.
    Returned { number: u32, is_too_large: bool },
    /// One was not begun: the store did not take it down as the session's.
    NotKept { number: u32 },
    /// One that is the session's for good is larger than its client takes now.
    TooLarge { number: u32 },
    /// This many bytes at `QoS` 0 have come to its outbox.
    Taken { bytes: u32 },
    /// Whether its outbox is more than half full, and whether its window is.
    Room(Room),
    /// It has no connection.
    Away,
    /// It has one, and may have this many messages unacknowledged. Which of its connections that is says whether a
    /// delivery on its way was meant for it. Its session outlives that connection or does not.
    Back {
        credit: u32,
        visit: u32,
        is_durable: bool,
    },
    /// It unsubscribed, and finishes these.
    Unsubscribed { held: Vec<u32> },
    /// Its session ended. These deliveries at `QoS` 2 die with it, of these only the identifier was still in use.
    Ended { lost: Vec<u32>, done: Vec<u32> },
    /// Its session moves to another shard, with these deliveries.
    Moved { to: ShardId, held: Vec<u32> },
}

/// What a group's home says to a member's shard.
#[derive(Debug)]
pub(crate) enum Said {
    /// It is in the group, and every shard knows of that; or it cannot be.
    Joined { is_accepted: bool },
    /// Its home knows that it is with the receiver now, or that it is none.
    Handed(Handed),
    /// The home knows that it is back: what was not taken back by now is to be sent again.
    Welcome { visit: u32 },
    /// These deliveries are another's now.
    TakeBack { numbers: Vec<u32> },
}

/// What a home says of a member whose session came to another shard.
#[derive(Debug)]
pub(crate) struct Handed {
    /// It is one.
    pub is_member: bool,
    /// Deliveries that came with the session and are another's by now.
    pub taken_back: Vec<u32>,
}

impl Handed {
    /// The home knows of no such member: nothing that came with its session is in flight any more.
    pub const STRANGER: Self = Self {
        is_member: false,
        taken_back: Vec::new(),
    };
}

/// A member as it joins, or changes its subscription.
#[derive(Debug)]
pub(crate) struct Join {
    pub key: MemberKey,
    pub filter: Box<str>,
    pub membership: u32,
    pub client_id: Box<str>,
    /// A hash of its client id.
    pub identity: u64,
    pub weight: u32,
    pub qos: QoS,
    pub retain_as_published: bool,
    pub identifier: u32,
    pub credit: u32,
    /// Which of its session's connections it is.
    pub visit: u32,
    /// It has a connection.
    pub is_online: bool,
    /// Its session outlives its connection.
    pub is_durable: bool,
}

impl Word {
    /// A delivery that was not begun.
    pub fn returned(number: u32) -> Self {
        Self::Returned {
            number,
            is_too_large: false,
        }
    }
}

impl Broker {
    /// A member joins a group that has its home here, or changes its subscription. `None`: a limit is reached.
    pub(crate) fn join_group(
        &mut self,
        seat: Seat,
        join: Join,
        now: Now,
        out: &mut impl Effects,
    ) -> Option<(u32, MemberId)> {
        let known = self.groups.remote.get(&join.key).copied();
        if let Some((slot, id)) = known {
            self.change_member(slot, id, &join, out);
            return Some((slot, id));
        }
        let slot = match self.groups.find(&join.filter) {
            Some(slot) => slot,
            None => self.begin_group(&join.filter, out)?,
        };
        let members_max = self.limits.group_members_max;
        let group = self.groups.get_mut(slot)?;
        if group.seats.count() >= members_max {
            self.counters.group_members_refused += 1;
            self.end_group_if_empty(slot, now, out);
            return None;
        }
        let member = Member {
            id: MemberId(0),
            identity: join.identity,
            weight: join.weight,
            in_flight: 0,
            is_ready: false,
            shard: seat.shard(),
            site: 0,
        };
        let detail = Detail {
            key: join.key,
            seat,
            membership: join.membership,
            client_id: join.client_id,
            qos: join.qos,
            retain_as_published: join.retain_as_published,
            identifier: join.identifier,
            credit: join.credit,
            knew: Knew {
                visit: join.visit,
                returned: 0,
            },
            room: Room::default(),
            is_durable: join.is_durable,
            is_ended: false,
            bytes: 0,
            in_flight: std::collections::VecDeque::new(),
            kept: std::collections::VecDeque::new(),
        };
        let id = group.join(member, detail, join.is_online);
        self.groups.members += 1;
        if let Seat::There(_) = seat {
            self.groups.remote.insert(join.key, (slot, id));
        }
        self.keep_group_if_needed(slot, out);
        self.settle_group(slot, now, out);
        Some((slot, id))
    }

    /// A member subscribed again.
    pub(crate) fn change_member(
        &mut self,
        slot: u32,
        id: MemberId,
        join: &Join,
        out: &mut impl Effects,
    ) {
        if let Some(group) = self.groups.get_mut(slot) {
            group.change(id, join.weight, |detail| {
                detail.qos = join.qos;
                detail.retain_as_published = join.retain_as_published;
                detail.identifier = join.identifier;
            });
        }
        self.keep_group_if_needed(slot, out);
    }

    pub(super) fn begin_group(&mut self, filter: &str, out: &mut impl Effects) -> Option<u32> {
        if self.groups.len() >= self.limits.groups_max {
            self.counters.groups_refused += 1;
            return None;
        }
        let (_, inner) = group_of(Filter::parse(filter).ok()?)?.ok()?;
        let policy = self.policies.for_filter(inner);
        let subscriber = SubscriberId::of_group(self.groups.next_slot());
        let subscription = Subscription {
            options: waypost_mqtt::SubscriptionOptions::default(),
            identifier: 0,
        };
        let (filter_id, _) = self.index.insert(inner, subscriber, subscription);
        let seed = self.random.next();
        let slot = self.groups.insert(filter, filter_id, policy, seed);
        self.interest_gained(inner, filter_id, false, out);
        if self.shards > 1 {
            let round = self.interest.next_round();
            self.fresh.begin(subscriber.0, filter_id, round);
        }
        Some(slot)
    }

    /// A group ends with its last member. Who left with deliveries in flight finishes them: until then it is known here,
    /// though nobody can find it, so that what becomes of them is told.
    pub(super) fn end_group_if_empty(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let is_empty = |group: &Group| group.seats.count() == 0;
        if !self.groups.get(slot).is_some_and(is_empty) {
            return;
        }
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let (filter_id, dropped) = (group.filter_id, group.dissolve());
        let was_owed = group.debtor.is_some();
        self.end_debtor(slot, out);
        for dropped in dropped {
            self.groups.news.push((slot, dropped));
        }
        self.groups.count_waiting(slot);
        // While it is still known by its name.
        self.tell_dropped(now, out);
        if self.groups.hide(slot) {
            self.interest_ends(filter_id, was_owed, out);
            let subscriber = SubscriberId::of_group(slot);
            self.index.remove(filter_id, subscriber);
            self.fresh.forget(subscriber.0);
        }
        self.groups.remove_if_vacant(slot);
    }

    /// What has to follow a change of members.
    fn settle_group(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let mut after = Aftermath::default();
        group.relieve_the_absent(&mut after);
        self.follow(slot, after, now, out);
    }

    fn follow(&mut self, slot: u32, after: Aftermath, now: Now, out: &mut impl Effects) {
        for (id, number) in after.taken_back {
            let Some(detail) = self
                .groups
                .get(slot)
                .and_then(|group| group.seats.detail(id))
            else {
                continue;
            };
            self.counters.group_redeliveries += 1;
            let (seat, key, membership) = (detail.seat, detail.key, detail.membership);
            match seat {
                Seat::Here(_, session) => self.give_back(session, membership, &[number], out),
                Seat::There(shard) if shard == self.shard => {
                    self.groups.take_back_on_the_way(key, &[number]);
                }
                Seat::There(shard) => {
                    let said = Said::TakeBack {
                        numbers: vec![number],
                    };
                    post(shard, Mail::ToMember { key, said }, out);
                }
            }
        }
        let dropped = after.dropped.into_iter().map(|dropped| (slot, dropped));
        self.groups.news.extend(dropped);
        for id in after.finished {
            self.settle_for_group(slot, Some(id), out);
        }
        self.dispatch(slot, now, out);
        self.tell_dropped(now, out);
    }

    /// A member's shard says something of it.
    pub(crate) fn hear_of_member(
        &mut self,
        slot: u32,
        id: MemberId,
        word: Word,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let mut after = Aftermath::default();
        match word {
            Word::Done { number } => {
                if let Some(waiting) = group.done(id, number, now) {
                    after.finished.extend(waiting.debt);
                }
            }
            Word::Refused { number } | Word::TooLarge { number } => {
                let reason = match word {
                    Word::Refused { .. } => Given::Refused,
                    _ => Given::TooLarge,
                };
                let client_id = group.seats.client_id(id);
                // 5 [MQTT-4.8.2-6]: not sent to another.
                if let Some(waiting) = group.done(id, number, now) {
                    after.dropped.push(Dropped {
                        waiting,
                        reason,
                        client_id,
                    });
                }
            }
            Word::Returned {
                number,
                is_too_large,
            } => group.returned(id, number, is_too_large, now),
            Word::NotKept { number } => group.not_kept(id, number, now),
            Word::Taken { bytes } => {
                group.taken_elsewhere(id, bytes.into());
                return;
            }
            Word::Room(room) => group.set_room(id, room),
            Word::Away => {
                group.go_away(id);
                group.relieve_the_absent(&mut after);
            }
            Word::Back {
                credit,
                visit,
                is_durable,
            } => {
                group.seats.set_durable(id, is_durable);
                if let Some(detail) = group.seats.detail_mut(id) {
                    detail.knew = Knew { visit, returned: 0 };
                }
                group.come_back(id, Some(credit), now);
                group.relieve_the_absent(&mut after);
            }
            Word::Unsubscribed { held } => {
                group.unsubscribe(id, &held);
                self.groups.members -= 1;
            }
            Word::Ended { lost, done } => {
                let was_member = group
                    .seats
                    .detail(id)
                    .is_some_and(|detail| !detail.is_ended);
                group.end_session(id, &lost, &done, &mut after);
                if was_member {
                    self.groups.members -= 1;
                }
            }
            Word::Moved { to, held } => {
                let taken_back = group.travel(id, held, now);
                self.seat_elsewhere(slot, id, to, taken_back, out);
            }
        }
        self.follow(slot, after, now, out);
        self.keep_group_if_needed(slot, out);
        self.end_group_if_empty(slot, now, out);
    }

    /// A session of another shard joins a group, or changes its subscription.
    pub(crate) fn hear_join(
        &mut self,
        from: ShardId,
        join: Join,
        now: Now,
        out: &mut impl Effects,
    ) {
        let key = join.key;
        let known = self.groups.find(&join.filter);
        let was_owed = known.is_some_and(|slot| self.groups.is_owed(slot));
        let joined = self.join_group(Seat::There(from), join, now, out);
        let is_accepted = joined.is_some();
        let is_new = joined.is_some_and(|(slot, _)| {
            let subscriber = SubscriberId::of_group(slot);
            self.fresh.has(subscriber.0) || (!was_owed && self.groups.is_owed(slot))
        });
        if is_new {
            // Once every shard knows that messages for it go here.
            self.ask_round_for(from, key, out);
        } else {
            let said = Said::Joined { is_accepted };
            post(from, Mail::ToMember { key, said }, out);
        }
    }

    /// A member's session is on its way to another shard.
    fn seat_elsewhere(
        &mut self,
        slot: u32,
        id: MemberId,
        to: ShardId,
        taken_back: Vec<u32>,
        out: &mut impl Effects,
    ) {
        let group = self.groups.get_mut(slot);
        let Some(key) = group.and_then(|group| group.seats.seat(id, Seat::There(to))) else {
            return;
        };
        self.groups.remote.insert(key, (slot, id));
        let handed = Handed {
            is_member: true,
            taken_back,
        };
        if to == self.shard {
            self.groups.handed.insert(key, handed);
        } else {
            let said = Said::Handed(handed);
            post(to, Mail::ToMember { key, said }, out);
        }
    }

    /// A member's session has come to this shard. `None`: it is none.
    pub(crate) fn seat_here(&mut self, key: MemberKey, session: u32) -> Option<(u32, MemberId)> {
        let (slot, id) = self.groups.remote.remove(&key)?;
        let group = self.groups.get_mut(slot)?;
        group.seats.seat(id, Seat::Here(self.shard, session))?;
        Some((slot, id))
    }

    /// Another shard says something of a member it has.
    pub(crate) fn hear_by_key(
        &mut self,
        from: ShardId,
        key: MemberKey,
        word: Word,
        now: Now,
        out: &mut impl Effects,
    ) {
        let visit = match word {
            Word::Back { visit, .. } => Some(visit),
            _ => None,
        };
        let Some((slot, id)) = self.groups.remote.get(&key).copied() else {
            if let Word::Moved { to, .. } = word
                && to != self.shard
            {
                let said = Said::Handed(Handed::STRANGER);
                post(to, Mail::ToMember { key, said }, out);
            }
            welcome(from, key, visit, out);
            return;
        };
        self.hear_of_member(slot, id, word, now, out);
        // After what was taken back.
        welcome(from, key, visit, out);
        if !self.groups.is_member((slot, id), key) {
            self.groups.remote.remove(&key);
        }
    }

    /// Another policy holds from now on. No message is lost by it.
    pub fn handle_policies(&mut self, policies: Arc<Policies>, now: Now, out: &mut impl Effects) {
        self.policies = policies;
        for slot in self.groups.slots() {
            let Some(group) = self.groups.get_mut(slot) else {
                continue;
            };
            let inner = Filter::parse(&group.filter).ok();
            let inner = inner.and_then(|filter| group_of(filter)?.ok());
            if let Some((_, inner)) = inner {
                group.adopt(self.policies.for_filter(inner), now);
                self.dispatch(slot, now, out);
            }
        }
        self.tell_dropped(now, out);
    }
}

fn welcome(to: ShardId, key: MemberKey, visit: Option<u32>, out: &mut impl Effects) {
    if let Some(visit) = visit {
        let said = Said::Welcome { visit };
        post(to, Mail::ToMember { key, said }, out);
    }
}
