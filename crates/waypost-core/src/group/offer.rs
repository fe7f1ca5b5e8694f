//! From a message to the member that gets it: the hot path of groups.
//!
//! At `QoS` 0 it asks the strategy and touches one member, and allocates nothing. At `QoS` 1 and 2 a message is stored
//! once and takes its turn.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::rc::Rc;

use waypost_balance::MemberId;
use waypost_mqtt::QoS;

use super::membership::Room;
use super::message::{Begun, Dropped, Given, Step, Waiting, request};
use super::state::Group;
use super::taking::{Taken, Taking};
use super::{Seat, Sender, Tag};
use crate::broker::Broker;
use crate::effects::{Effects, Message, Now, ShardId};
use crate::index::SubscriberId;
use crate::mail::Origin;
use crate::queue::StoredMessage;
use crate::session::Sessions;

#[inline]
fn look_at_outboxes(group: &mut Group, sessions: &Sessions, out: &impl Effects) {
    group.look_at_outboxes(|detail| match detail.seat {
        Seat::Here(_, slot) => {
            let port = sessions.port(SubscriberId(slot));
            Some(port.connection().map_or(0, |id| out.outbox_bytes(id)))
        }
        Seat::There(_) => None,
    });
}

impl Broker {
    /// Gives a message to a group of every filter that matches.
    pub(crate) fn offer_to_groups(
        &mut self,
        message: &Message<'_>,
        origin: Origin,
        source: ShardId,
        address: Option<IpAddr>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut matched = std::mem::take(&mut self.groups.matched);
        let sender = Sender {
            publisher: origin.publisher,
            address,
            shard: source,
        };
        let mut stored = None;
        for slot in matched.drain(..) {
            if source != self.shard && !self.fresh.is_empty() && self.is_too_early_for(slot, source)
            {
                continue;
            }
            if origin.is_again
                && (origin.qos == QoS::AtMostOnce || self.groups.number_of(slot).is_none())
            {
                continue;
            }
            if origin.qos == QoS::AtMostOnce {
                self.offer_at_once(slot, message, origin, sender, now, out);
            } else {
                let stored =
                    stored.get_or_insert_with(|| Rc::new(StoredMessage::new(message, now)));
                let waiting = Waiting::new(Rc::clone(stored), origin.qos, origin.retain, sender);
                self.offer(slot, waiting, origin, now, out);
            }
        }
        self.groups.matched = matched;
        self.tell_dropped(now, out);
    }

    /// Whether a message was published before the group began.
    fn is_too_early_for(&self, slot: u32, source: ShardId) -> bool {
        let subscriber = SubscriberId::of_group(slot).0;
        self.groups.get(slot).is_some_and(|group| {
            self.fresh
                .is_unknown_to(source, subscriber, group.filter_id)
        })
    }

    /// `QoS` 0: to a member now, or to nobody.
    #[inline]
    fn offer_at_once(
        &mut self,
        slot: u32,
        message: &Message<'_>,
        origin: Origin,
        sender: Sender,
        now: Now,
        out: &mut impl Effects,
    ) {
        let request = request(message.topic, message.properties, sender, now);
        let bytes_max = self.limits.outbox_bytes_max / 2;
        let mut taking = Taking {
            slot: 0,
            tag: None,
            message,
            stored: None,
            qos: QoS::AtMostOnce,
            retain: false,
            identifier: 0,
            debt: None,
        };
        // Each round but the last finds one member more that cannot have it.
        loop {
            let Some(group) = self.groups.get_mut(slot) else {
                return;
            };
            look_at_outboxes(group, &self.sessions, out);
            let at = group.choose_at_once(&request);
            let Some((at, detail)) = at.and_then(|at| Some((at, group.seats.detail_at(at)?)))
            else {
                self.counters.group_dropped_not_ready += 1;
                return;
            };
            taking.retain = origin.retain && detail.retain_as_published;
            taking.identifier = detail.identifier;
            let len = message.topic.len() + message.payload.bytes.len();
            match detail.seat {
                Seat::Here(_, session) => {
                    let port = self.sessions.port(SubscriberId(session));
                    let bytes = port.connection().map(|id| out.outbox_bytes(id));
                    taking.slot = session;
                    match bytes {
                        Some(bytes) if bytes <= bytes_max => {
                            group.sent_at_once(at, bytes + len);
                            if self.take_at_once(&taking, out) {
                                return;
                            }
                            self.offer_to_another(slot, at, &mut taking, origin, out);
                            return;
                        }
                        _ => {
                            let room = Room {
                                is_slow: true,
                                ..detail.room
                            };
                            if let Some(id) = group.seats.id_at(at) {
                                group.set_room(id, room);
                            }
                            self.tell_room(session, room);
                        }
                    }
                }
                Seat::There(shard) => {
                    let key = detail.key;
                    let bytes = group.seats.bytes(at);
                    let knew = detail.knew;
                    group.sent_at_once(at, usize::try_from(bytes).unwrap_or(0) + len);
                    out.mailbox(shard).push_delivery(key, None, knew, &taking);
                    return;
                }
            }
        }
    }

    /// A message at `QoS` 0 that is too large for the member it was to go to.
    #[cold]
    fn offer_to_another(
        &mut self,
        slot: u32,
        but: usize,
        taking: &mut Taking<'_>,
        origin: Origin,
        out: &mut impl Effects,
    ) {
        let count = self
            .groups
            .get(slot)
            .map_or(0, |group| group.seats.online().1.len());
        for at in (0..count).filter(|at| *at != but) {
            let Some(detail) = self
                .groups
                .get(slot)
                .and_then(|group| group.seats.detail_at(at))
            else {
                break;
            };
            if let Seat::Here(_, session) = detail.seat
                && !detail.room.is_slow
            {
                taking.slot = session;
                taking.retain = origin.retain && detail.retain_as_published;
                taking.identifier = detail.identifier;
                if self.take_at_once(taking, out) {
                    return;
                }
            }
        }
        self.counters.group_dropped_too_large += 1;
    }

    /// `QoS` 1 and 2: in its turn.
    fn offer(
        &mut self,
        slot: u32,
        mut waiting: Waiting,
        origin: Origin,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        if group.seats.qos_max() == QoS::AtMostOnce && group.seats.online().0.is_empty() {
            self.counters.group_dropped_not_ready += 1;
            return;
        }
        look_at_outboxes(group, &self.sessions, out);
        let bytes = waiting.message.queued_bytes();
        let (has_place, expired) = group.has_place(bytes, &self.limits, now);
        let expired = expired.into_iter().map(|dropped| (slot, dropped));
        self.groups.news.extend(expired);
        if has_place {
            self.owe_group(slot, &mut waiting, origin);
            let beyond = |group: &Group| group.debtor.as_ref().map(|debtor| debtor.beyond().0);
            if let Some(group) = self.groups.get_mut(slot) {
                let was_behind = beyond(group) > Some(0);
                let is_for_room = waiting.qos != QoS::ExactlyOnce;
                group.push(waiting, &self.limits);
                let is_new = !was_behind && is_for_room && beyond(group) > Some(0);
                self.counters.group_windows_exceeded += u64::from(is_new);
            }
        } else {
            self.owe_overflow(slot, &mut waiting, origin);
            let dropped = Dropped {
                waiting,
                reason: Given::QueueFull,
                client_id: None,
            };
            self.groups.news.push((slot, dropped));
        }
        self.dispatch(slot, now, out);
    }

    /// A group's queue is full. If its policy says so, it owes the message all the same, until that is buried.
    #[cold]
    fn owe_overflow(&mut self, slot: u32, waiting: &mut Waiting, origin: Origin) {
        let group = self.groups.get(slot);
        let is_buried = group.is_some_and(|group| group.dead_letter().is_some());
        let (message, bytes) = (&waiting.message, waiting.message.queued_bytes());
        if is_buried && self.dead.takes(message.properties(), bytes, &self.limits) {
            self.owe_group(slot, waiting, origin);
            let debtor = self.groups.get_mut(slot);
            if let Some(debtor) = debtor.and_then(|group| group.debtor.as_mut())
                && waiting.debt.is_some()
            {
                debtor.owe_dead();
            }
        }
    }

    /// Sends what waits in a group, as far as its members can take it.
    pub(super) fn dispatch(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        while let Some(group) = self.groups.get_mut(slot) {
            let at = match group.next(now) {
                Step::Idle => {
                    self.groups.count_waiting(slot);
                    self.read_on_for_group(slot, false, out);
                    return;
                }
                Step::Drop(dropped) => {
                    self.groups.news.push((slot, dropped));
                    continue;
                }
                Step::Send(at) => at,
            };
            let Some(detail) = group.seats.detail_at(at) else {
                return;
            };
            if let Seat::Here(_, session) = detail.seat {
                let is_acknowledged = detail.qos != QoS::AtMostOnce;
                let room = self.room_of(session, out);
                if room.is_slow || (room.is_busy && is_acknowledged) {
                    self.tell_room(session, room);
                    if let Some(group) = self.groups.get_mut(slot)
                        && let Some(id) = group.seats.id_at(at)
                    {
                        group.set_room(id, room);
                    }
                    continue;
                }
            }
            let Some(group) = self.groups.get_mut(slot) else {
                return;
            };
            let Some(detail) = group.seats.detail_at(at) else {
                return;
            };
            let (seat, key, membership) = (detail.seat, detail.key, detail.membership);
            let (identifier, knew) = (detail.identifier, detail.knew);
            let Some(begun) = group.begin(at, now) else {
                return;
            };
            let Begun {
                id,
                number,
                message: stored,
                qos,
                retain,
                debt,
            } = begun;
            let queue = self.groups.number_of(slot);
            if number.is_none() {
                self.settle_for_group(slot, debt, out);
            }
            let message = stored.message(now);
            let tag = number
                .zip(NonZeroU32::new(membership))
                .map(|(number, membership)| Tag { membership, number });
            let mut taking = Taking {
                slot: 0,
                tag,
                message: &message,
                stored: Some(&stored),
                qos,
                retain,
                identifier,
                debt: queue.zip(debt).filter(|_| qos == QoS::ExactlyOnce),
            };
            match seat {
                Seat::Here(_, session) => {
                    taking.slot = session;
                    let taken = self.take_from_group(&taking, now, out);
                    self.hear_taken(slot, id, number, taken, now);
                }
                Seat::There(shard) => {
                    out.mailbox(shard).push_delivery(key, number, knew, &taking);
                }
            }
        }
    }

    fn hear_taken(&mut self, slot: u32, id: MemberId, number: Option<u32>, taken: Taken, now: Now) {
        let Some(group) = self.groups.get_mut(slot) else {
            return;
        };
        let Some(number) = number else {
            if taken == Taken::TooLarge {
                self.counters.group_dropped_too_large += 1;
            }
            return;
        };
        match taken {
            Taken::Yes => {}
            Taken::TooLarge => group.returned(id, number, true, now),
            Taken::No => {
                group.set_room(id, Room::NONE);
                group.returned(id, number, false, now);
            }
        }
    }
}
