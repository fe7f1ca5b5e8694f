//! What a member's shard does: its session's subscriptions to groups, and the deliveries that reach it.

use std::num::NonZeroU32;

use waypost_balance::{MemberId, WEIGHT_MAX};
use waypost_mqtt::{Filter, Properties, ReasonCode, SubscriptionRequest};

use super::home::{Handed, Join, Said, Word};
use super::membership::{Membership, Room};
use super::{MemberKey, Seat, Tag, find_property, home_of};
use crate::broker::Broker;
use crate::effects::{Effects, Now, ShardId};
use crate::inflight::Waits;
use crate::interest::post;
use crate::journal::Table;
use crate::mail::Mail;
use crate::rows::packet_key;

/// The user property of SUBSCRIBE that gives a member its weight.
const WEIGHT_PROPERTY: &str = "waypost-weight";

/// The weight a SUBSCRIBE asks for. `Err`: it cannot be had.
pub(crate) fn weight_of(properties: Properties<'_>) -> Result<u32, ()> {
    if properties.is_empty() {
        return Ok(1);
    }
    let Some(text) = find_property(properties, WEIGHT_PROPERTY) else {
        return Ok(1);
    };
    match text.parse() {
        Ok(weight @ 1..=WEIGHT_MAX) => Ok(weight),
        _ => Err(()),
    }
}

impl Broker {
    /// Subscribes a session to a group. `Ok` with a key: its home is another shard, which has to answer first.
    pub(crate) fn subscribe_to_group(
        &mut self,
        slot: u32,
        request: SubscriptionRequest<'_>,
        identifier: u32,
        weight: u32,
        now: Now,
        out: &mut impl Effects,
    ) -> Result<Option<MemberKey>, ReasonCode> {
        let SubscriptionRequest { filter, options } = request;
        let home = home_of(filter.as_str(), self.shards);
        let credit_max = self.limits.group_credit_max;
        let Some(session) = self.sessions.get_mut(slot) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let is_full = session.subscription_count() >= self.limits.subscriptions_per_session_max;
        let memberships = session.memberships.get_or_insert_default();
        let known = memberships.by_filter.get(filter.as_str()).copied();
        if known.is_none() && is_full {
            self.counters.subscriptions_exceeded += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        let number = known.unwrap_or_else(|| {
            memberships.insert(Membership {
                key: self.groups.new_key(self.shard),
                filter: filter.as_str().into(),
                home,
                at: None,
                is_ended: false,
                is_told: false,
                returned: 0,
            })
        });
        let Some(membership) = memberships.by_number.get(&number) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let (key, at, visit) = (membership.key, membership.at, memberships.visit);
        let join = Join {
            key,
            filter: filter.as_str().into(),
            membership: number.get(),
            client_id: session.client_id.clone(),
            identity: session.publisher,
            weight,
            qos: options.qos,
            retain_as_published: options.retain_as_published,
            identifier,
            credit: session.window.min(credit_max).into(),
            visit,
            is_online: session.connection.is_some(),
            is_durable: session.number().is_some(),
        };
        if home != self.shard {
            self.groups.sessions.insert(key, (slot, number));
            post(home, Mail::Join(Box::new(join)), out);
            return Ok(Some(key));
        }
        if let Some((group, id)) = at {
            self.change_member(group, id, &join, out);
            return Ok(None);
        }
        let seat = Seat::Here(self.shard, slot);
        let at = self.join_group(seat, join, now, out);
        if at.is_none() {
            self.forget_membership(slot, key, now, out);
            return Err(ReasonCode::QuotaExceeded);
        }
        if let Some(membership) = self.membership(slot, number) {
            membership.at = at;
        }
        Ok(None)
    }

    pub(crate) fn membership(&mut self, slot: u32, number: NonZeroU32) -> Option<&mut Membership> {
        let session = self.sessions.get_mut(slot)?;
        session.memberships.as_mut()?.by_number.get_mut(&number)
    }

    fn forget_membership(&mut self, slot: u32, key: MemberKey, now: Now, out: &mut impl Effects) {
        if self.remove_membership(slot, key) {
            self.pump(slot, now, out);
            self.relieve_members(slot, now, out);
        }
    }

    /// Returns whether what waited for its home's word can be sent again now.
    fn remove_membership(&mut self, slot: u32, key: MemberKey) -> bool {
        self.groups.sessions.remove(&key);
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let Some(memberships) = &mut session.memberships else {
            return false;
        };
        let may_go_on = memberships.remove(key);
        if memberships.by_number.is_empty() {
            session.memberships = None;
        }
        may_go_on
    }

    /// Ends a session's subscription to a group; `false` if there was none. 5 [MQTT-3.10.4-3]: what was begun is
    /// finished with this client.
    pub(crate) fn unsubscribe_from_group(
        &mut self,
        slot: u32,
        filter: Filter<'_>,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let ended = session
            .memberships
            .as_mut()
            .and_then(|memberships| memberships.end(filter.as_str()));
        let Some((number, membership)) = ended else {
            return false;
        };
        let (key, home, at) = (membership.key, membership.home, membership.at);
        let mut held = Vec::new();
        if let Some(delivery) = &session.delivery {
            held.extend(delivery.inflight.numbers_of(number).map(|(sent, _)| sent));
        }
        if held.is_empty() {
            self.forget_membership(slot, key, now, out);
        }
        self.say(home, at, key, Word::Unsubscribed { held }, now, out);
        true
    }

    /// Says something of a member to its home.
    fn say(
        &mut self,
        home: ShardId,
        at: Option<(u32, MemberId)>,
        key: MemberKey,
        word: Word,
        now: Now,
        out: &mut impl Effects,
    ) {
        if home != self.shard {
            out.mailbox(home).push_word(key, word);
        } else if let Some((group, id)) = at.filter(|at| self.groups.is_member(*at, key)) {
            self.hear_of_member(group, id, word, now, out);
        } else if let Word::Moved { to, .. } = word {
            let said = Said::Handed(Handed::STRANGER);
            post(to, Mail::ToMember { key, said }, out);
        }
    }

    /// The exchange of a group's message came to its end.
    pub(crate) fn report(
        &mut self,
        slot: u32,
        tag: Tag,
        word: impl FnOnce(u32) -> Word,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(membership) = self.membership(slot, tag.membership) else {
            return;
        };
        let (key, home, at) = (membership.key, membership.home, membership.at);
        self.forget_if_finished(slot, tag.membership, now, out);
        self.say(home, at, key, word(tag.number), now, out);
    }

    /// Nothing is known any more of a subscription that ended, once nothing of it is in flight.
    fn forget_if_finished(
        &mut self,
        slot: u32,
        number: NonZeroU32,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(membership) = self.membership(slot, number) else {
            return;
        };
        let (key, is_ended) = (membership.key, membership.is_ended);
        let session = self.sessions.get(slot);
        let delivery = session.and_then(|session| session.delivery.as_deref());
        let has_more =
            delivery.is_some_and(|delivery| delivery.inflight.numbers_of(number).next().is_some());
        if is_ended && !has_more {
            self.forget_membership(slot, key, now, out);
        }
    }

    /// What every home of a session's groups is to hear.
    pub(super) fn say_to_all(
        &mut self,
        slot: u32,
        mut word: impl FnMut(NonZeroU32) -> Word,
        now: Now,
        out: &mut impl Effects,
    ) {
        let numbers: Vec<_> = self
            .sessions
            .get(slot)
            .and_then(|session| session.memberships.as_ref())
            .map(|memberships| memberships.by_number.keys().copied().collect())
            .unwrap_or_default();
        for number in numbers {
            let Some(membership) = self.membership(slot, number) else {
                continue;
            };
            let word = word(number);
            membership.is_told = matches!(word, Word::Room(room) if room != Room::default());
            // Who unsubscribed is not in the group: only the end of what it finishes matters.
            if !membership.is_ended || matches!(word, Word::Ended { .. } | Word::Moved { .. }) {
                let (key, home, at) = (membership.key, membership.home, membership.at);
                self.say(home, at, key, word, now, out);
            }
        }
    }

    fn has_groups(&self, slot: u32) -> bool {
        let session = self.sessions.get(slot);
        session.is_some_and(|session| session.memberships.is_some())
    }

    /// A session has lost its connection: what its members were given is for others, if there are any.
    pub(crate) fn members_away(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        if self.has_groups(slot) {
            self.say_to_all(slot, |_| Word::Away, now, out);
        }
    }

    /// A session has a connection: its homes are told. Those on other shards may have given messages in flight to
    /// others, and say so before these are sent again.
    pub(crate) fn members_back(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let credit_max = self.limits.group_credit_max;
        let own = self.shard;
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(memberships) = &mut session.memberships else {
            return;
        };
        memberships.told = Room::default();
        let inflight = session.delivery.as_ref().map(|delivery| &delivery.inflight);
        let elsewhere = memberships
            .by_number
            .iter()
            .filter(|(_, membership)| membership.home != own && !membership.is_ended);
        let unwelcomed: Vec<_> = elsewhere
            .map(|(number, _)| *number)
            .filter(|number| {
                inflight.is_some_and(|inflight| inflight.numbers_of(*number).next().is_some())
            })
            .collect();
        let visit = memberships.begin_visit(&unwelcomed);
        let credit = session.window.min(credit_max).into();
        let is_durable = session.number().is_some();
        let word = |_| Word::Back {
            credit,
            visit,
            is_durable,
        };
        self.say_to_all(slot, word, now, out);
    }

    /// A session ends: its groups go on without it.
    pub(crate) fn members_end(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.memberships.is_none() {
            return;
        }
        let (mut sent, mut rows) = (Vec::new(), Vec::new());
        if let Some(delivery) = &mut session.delivery {
            sent = delivery.inflight.all_tagged();
            let taken = sent
                .iter()
                .filter_map(|(tag, _)| delivery.inflight.take_back(*tag));
            rows.extend(taken.filter(|(_, debt)| debt.is_some()));
        }
        let queue = session.number();
        let word = |number| {
            let of = |wanted| {
                let of_these = sent
                    .iter()
                    .filter(move |(tag, waits)| tag.membership == number && *waits == wanted);
                of_these.map(|(tag, _)| tag.number).collect()
            };
            Word::Ended {
                lost: of(Waits::PubRec),
                done: of(Waits::PubComp),
            }
        };
        self.say_to_all(slot, word, now, out);
        if let Some(memberships) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.memberships.take())
        {
            for membership in memberships.by_number.values() {
                self.groups.sessions.remove(&membership.key);
            }
            // The session's other rows go in the same transaction.
            for filter in memberships.by_filter.keys() {
                self.forget_subscription(slot, filter, out);
            }
            for (packet_id, _) in rows {
                if let Some(queue) = queue {
                    let key = packet_key(queue, packet_id.value());
                    out.journal().delete(Table::SENT, &key);
                }
            }
        }
    }

    /// Deliveries that are another member's now: whatever this client still says of them changes nothing.
    pub(crate) fn give_back(
        &mut self,
        slot: u32,
        membership: u32,
        numbers: &[u32],
        out: &mut impl Effects,
    ) {
        let Some(membership) = NonZeroU32::new(membership) else {
            return;
        };
        for number in numbers {
            let tag = Tag {
                membership,
                number: *number,
            };
            let session = self.sessions.get_mut(slot);
            let delivery = session.and_then(|session| session.delivery.as_mut());
            let taken = delivery.and_then(|delivery| delivery.inflight.take_back(tag));
            if let Some((packet_id, Some(debt))) = taken {
                self.settle_debt(slot, debt, Some(packet_id), out);
            }
        }
    }

    /// The home has forgotten a member: as one that ended and had nothing in flight any more. What its session still has
    /// was taken back, while word of that went to another shard.
    fn give_all_back(&mut self, slot: u32, membership: NonZeroU32, out: &mut impl Effects) {
        let session = self.sessions.get(slot);
        let delivery = session.and_then(|session| session.delivery.as_ref());
        let numbers = delivery.map(|delivery| delivery.inflight.numbers_of(membership));
        let numbers: Vec<_> = numbers
            .into_iter()
            .flatten()
            .map(|(sent, _)| sent)
            .collect();
        self.give_back(slot, membership.get(), &numbers, out);
    }

    /// The home of a group says something of a member here.
    pub(crate) fn hear_of_group(
        &mut self,
        key: MemberKey,
        said: Said,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some((slot, membership)) = self.groups.sessions.get(&key).copied() else {
            // The session is on its way here.
            match said {
                Said::Handed(handed) => {
                    self.groups.handed.insert(key, handed);
                }
                Said::TakeBack { numbers } => self.groups.take_back_on_the_way(key, &numbers),
                Said::Joined { .. } | Said::Welcome { .. } => {}
            }
            return;
        };
        match said {
            Said::Joined { is_accepted } => {
                if !is_accepted {
                    self.forget_membership(slot, key, now, out);
                }
                self.joined(key, is_accepted, now, out);
            }
            Said::Handed(handed) => {
                self.give_back(slot, membership.get(), &handed.taken_back, out);
                if !handed.is_member {
                    self.give_all_back(slot, membership, out);
                    self.forget_membership(slot, key, now, out);
                }
                self.member_arrived(slot, key, now, out);
            }
            Said::Welcome { visit } => {
                let session = self.sessions.get_mut(slot);
                let memberships = session.and_then(|session| session.memberships.as_mut());
                if memberships.is_some_and(|memberships| memberships.welcome(membership, visit)) {
                    self.pump(slot, now, out);
                    self.relieve_members(slot, now, out);
                }
            }
            Said::TakeBack { numbers } => {
                self.give_back(slot, membership.get(), &numbers, out);
                self.forget_if_finished(slot, membership, now, out);
                // Its window may be open again.
                self.pump(slot, now, out);
                self.relieve_members(slot, now, out);
            }
        }
    }

    /// A session is about to leave for another shard: its groups' homes are told where, and what goes with it.
    pub(crate) fn members_leave(
        &mut self,
        slot: u32,
        to: ShardId,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        if session.memberships.is_none() {
            return;
        }
        let mut sent = Vec::new();
        if let Some(delivery) = &session.delivery {
            sent = delivery.inflight.all_tagged();
        }
        let word = |number| {
            let held = sent.iter().filter(|(tag, _)| tag.membership == number);
            let held = held.map(|(tag, _)| tag.number).collect();
            Word::Moved { to, held }
        };
        self.say_to_all(slot, word, now, out);
        let session = self.sessions.get_mut(slot);
        if let Some(memberships) = session.and_then(|session| session.memberships.as_mut()) {
            for membership in memberships.by_number.values_mut() {
                membership.at = None;
                self.groups.sessions.remove(&membership.key);
            }
        }
    }

    /// A session came from another shard. Returns the members whose homes have yet to say that they know.
    pub(crate) fn members_arrive(&mut self, slot: u32, out: &mut impl Effects) -> Vec<MemberKey> {
        let session = self.sessions.get_mut(slot);
        let mut memberships = session.and_then(|session| session.memberships.as_mut());
        if let Some(memberships) = &mut memberships {
            memberships.arrive();
        }
        let all: Vec<_> = memberships
            .into_iter()
            .flat_map(|memberships| &memberships.by_number)
            .map(|(number, membership)| (*number, membership.key, membership.home))
            .collect();
        let mut awaited = Vec::new();
        for (number, key, home) in all {
            let handed = self.groups.handed.remove(&key);
            if let Some(handed) = &handed {
                self.give_back(slot, number.get(), &handed.taken_back, out);
            }
            if home == self.shard {
                let at = self.seat_here(key, slot);
                match self.membership(slot, number) {
                    Some(membership) if at.is_some() => membership.at = at,
                    _ => {
                        self.give_all_back(slot, number, out);
                        self.remove_membership(slot, key);
                    }
                }
                continue;
            }
            match handed {
                Some(handed) if !handed.is_member => {
                    self.give_all_back(slot, number, out);
                    self.remove_membership(slot, key);
                }
                known => {
                    self.groups.sessions.insert(key, (slot, number));
                    if known.is_none() {
                        awaited.push(key);
                    }
                }
            }
        }
        awaited
    }
}
