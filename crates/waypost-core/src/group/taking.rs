//! How a message of a group enters a member's session and reaches its client.

use std::rc::Rc;

use waypost_mqtt::QoS;

use super::for_good::Owner;
use super::home::Word;
use super::membership::Room;
use super::{MemberKey, Tag};
use crate::broker::Broker;
use crate::deliver::{fit, target};
use crate::effects::{Effects, IdentifierRange, Message, Now, ShardId};
use crate::index::SubscriberId;
use crate::journal::{MessageId, QueueId};
use crate::queue::StoredMessage;
use crate::session::Session;

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is on its way.
    Yes,
    /// The client's Maximum Packet Size is less than it needs.
    TooLarge,
    /// There is no connection, or no room.
    No,
}

/// A delivery to one session.
pub(crate) struct Taking<'a> {
    pub slot: u32,
    /// None at `QoS` 0.
    pub tag: Option<Tag>,
    pub message: &'a Message<'a>,
    /// The message as it is kept, if it is.
    pub stored: Option<&'a Rc<StoredMessage>>,
    pub qos: QoS,
    pub retain: bool,
    pub identifier: u32,
    /// At `QoS` 2, the queue of the group and what it is owed there.
    pub debt: Option<(QueueId, MessageId)>,
}

impl Taking<'_> {
    pub(super) fn identifiers(&self) -> &[u32] {
        if self.identifier == 0 {
            &[]
        } else {
            std::slice::from_ref(&self.identifier)
        }
    }

    fn range(&self) -> IdentifierRange {
        IdentifierRange {
            start: 0,
            len: u16::from(self.identifier != 0),
        }
    }
}

/// What a home knew of a member when it sent a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Knew {
    /// Which of the session's connections it was for.
    pub visit: u32,
    /// Deliveries for this connection that had come back.
    pub returned: u32,
}

/// A message of a group as it comes from the group's home.
pub(crate) struct Delivery<'a> {
    pub key: MemberKey,
    /// None at `QoS` 0.
    pub number: Option<u32>,
    pub knew: Knew,
    pub message: Message<'a>,
    pub qos: QoS,
    pub retain: bool,
    pub identifier: u32,
    /// At `QoS` 2, the queue of the group and what it is owed there.
    pub debt: Option<(QueueId, MessageId)>,
}

impl Broker {
    /// Whether a session can be given messages of groups now.
    pub(super) fn room_of(&self, slot: u32, out: &impl Effects) -> Room {
        let Some(id) = self.sessions.port(SubscriberId(slot)).connection() else {
            return Room::NONE;
        };
        let session = self.sessions.get(slot);
        let delivery = session.and_then(|session| session.delivery.as_deref());
        Room {
            is_slow: out.outbox_bytes(id) > self.limits.outbox_bytes_max / 2,
            is_busy: delivery.is_some_and(|delivery| !delivery.is_live()),
        }
    }

    /// Homes of a session's groups are about to believe this of it.
    pub(super) fn tell_room(&mut self, slot: u32, room: Room) {
        let session = self.sessions.get_mut(slot);
        if let Some(memberships) = session.and_then(|session| session.memberships.as_mut()) {
            memberships.told.is_slow |= room.is_slow;
            memberships.told.is_busy |= room.is_busy;
        }
    }

    /// A session may have room again: homes of its groups that believe otherwise are told.
    #[inline]
    pub(crate) fn relieve_members(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let session = self.sessions.get(slot);
        let memberships = session.and_then(|session| session.memberships.as_ref());
        let Some(told) = memberships.map(|memberships| memberships.told) else {
            return;
        };
        if told != Room::default() {
            self.tell_of_room(slot, told, now, out);
        }
    }

    #[cold]
    fn tell_of_room(&mut self, slot: u32, told: Room, now: Now, out: &mut impl Effects) {
        let room = self.room_of(slot, out);
        let has_more = (told.is_slow && !room.is_slow) || (told.is_busy && !room.is_busy);
        if !has_more {
            return;
        }
        let session = self.sessions.get_mut(slot);
        if let Some(memberships) = session.and_then(|session| session.memberships.as_mut()) {
            memberships.told = room;
        }
        self.say_to_all(slot, |_| Word::Room(room), now, out);
    }

    /// A message of a group at `QoS` 0. `false`: it is too large for this client.
    #[inline]
    pub(crate) fn take_at_once(&mut self, taking: &Taking<'_>, out: &mut impl Effects) -> bool {
        let port = self.sessions.port(SubscriberId(taking.slot));
        let Some(connection) = port.connection() else {
            return true;
        };
        let mut target = target(connection, port, taking.qos, taking.retain, taking.range());
        let (message, identifiers) = (taking.message, taking.identifiers());
        if port.is_careful()
            && !fit(
                &mut self.connections,
                &self.hasher,
                message,
                &mut target,
                identifiers,
            )
        {
            return false;
        }
        self.counters.deliveries += 1;
        out.deliver_many(message, &[target], identifiers);
        true
    }

    /// A message of a group, for one session.
    pub(crate) fn take_from_group(
        &mut self,
        taking: &Taking<'_>,
        now: Now,
        out: &mut impl Effects,
    ) -> Taken {
        let port = self.sessions.port(SubscriberId(taking.slot));
        let Some(connection) = port.connection() else {
            return Taken::No;
        };
        if taking.tag.is_none() {
            return if self.take_at_once(taking, out) {
                Taken::Yes
            } else {
                Taken::TooLarge
            };
        }
        if let Some((queue, id)) = taking.debt
            && let Some(number) = self.sessions.get(taking.slot).and_then(Session::number)
        {
            let owner = Owner { number, connection };
            return self.take_for_good(taking, owner, (queue, id), now, out);
        }
        let Some(session) = self.sessions.get_mut(taking.slot) else {
            return Taken::No;
        };
        let is_persistent = session.is_persistent();
        let identifiers = taking.identifiers();
        let kept = || (!identifiers.is_empty()).then(|| identifiers.into());
        let stored = || match taking.stored {
            Some(stored) => Rc::clone(stored),
            None => Rc::new(StoredMessage::new(taking.message, now)),
        };
        let delivery = session.delivery();
        let mut target = target(connection, port, taking.qos, taking.retain, taking.range());
        if port.is_careful()
            && !fit(
                &mut self.connections,
                &self.hasher,
                taking.message,
                &mut target,
                identifiers,
            )
        {
            return Taken::TooLarge;
        }
        let (message, numbers) = if is_persistent {
            (Some(stored()), kept())
        } else {
            (None, None)
        };
        let inflight = &mut delivery.inflight;
        target.packet_id = inflight
            .begin(taking.qos, taking.retain, message, numbers)
            .value();
        inflight.tag_last(taking.tag);
        self.counters.deliveries += 1;
        out.deliver_many(taking.message, &[target], identifiers);
        Taken::Yes
    }

    /// A message of a group that has its home on another shard.
    pub(crate) fn hear_delivery(
        &mut self,
        from: ShardId,
        delivery: &Delivery<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Delivery {
            key,
            number,
            knew,
            message,
            qos,
            retain,
            identifier,
            debt,
        } = *delivery;
        // Whoever left has told the home what it holds; it sends the rest to others.
        let Some((slot, membership)) = self.groups.sessions.get(&key).copied() else {
            return;
        };
        if self
            .membership(slot, membership)
            .is_none_or(|membership| membership.is_ended)
        {
            return;
        }
        let taking = Taking {
            slot,
            tag: number.map(|number| Tag { membership, number }),
            message: &message,
            stored: None,
            qos,
            retain,
            identifier,
            debt,
        };
        let room = self.room_of(slot, out);
        let is_full = room.is_slow || (room.is_busy && number.is_some());
        let is_known = self
            .membership(slot, membership)
            .is_none_or(|membership| std::mem::replace(&mut membership.is_told, is_full));
        // A home that was told that nobody is here sends nothing more.
        let is_here = self
            .sessions
            .port(SubscriberId(slot))
            .connection()
            .is_some();
        if is_full && !is_known && is_here {
            self.tell_room(slot, room);
            out.mailbox(from).push_word(key, Word::Room(room));
        }
        let memberships = self.sessions.get(slot);
        let memberships = memberships.and_then(|session| session.memberships.as_ref());
        let is_stale = memberships.is_none_or(|memberships| {
            let of_this = memberships.by_number.get(&membership);
            memberships.visit != knew.visit
                || of_this.is_none_or(|membership| membership.returned != knew.returned)
        });
        let taken = if (is_full || is_stale) && number.is_some() {
            Taken::No
        } else {
            self.take_from_group(&taking, now, out)
        };
        match number {
            Some(number) if taken != Taken::Yes => {
                let is_too_large = taken == Taken::TooLarge;
                if !is_too_large
                    && !is_stale
                    && let Some(membership) = self.membership(slot, membership)
                {
                    membership.returned = membership.returned.wrapping_add(1);
                }
                let word = Word::Returned {
                    number,
                    is_too_large,
                };
                out.mailbox(from).push_word(key, word);
            }
            Some(_) => {}
            None => {
                if taken == Taken::TooLarge {
                    self.counters.group_dropped_too_large += 1;
                }
                let bytes = message.topic.len() + message.payload.bytes.len();
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                match self.groups.taken.iter_mut().find(|(of, _)| *of == key) {
                    Some((_, sum)) => *sum = sum.saturating_add(bytes),
                    None => self.groups.taken.push((key, bytes)),
                }
            }
        }
    }

    /// A batch of mail was read: its sender learns what came to its members' outboxes.
    pub(crate) fn report_taken(&mut self, from: ShardId, out: &mut impl Effects) {
        for (key, bytes) in self.groups.taken.drain(..) {
            out.mailbox(from).push_word(key, Word::Taken { bytes });
        }
    }
}
