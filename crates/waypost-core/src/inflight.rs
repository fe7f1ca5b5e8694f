//! Messages sent to one client and not finished: a ring in the order they were sent.
//!
//! Identifiers are given in sequence, so the place of one is its distance from the first; only when a client
//! acknowledges out of order over a whole round is the ring searched.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;

use waypost_mqtt::{PacketId, QoS};

use crate::group::Tag;
use crate::journal::MessageId;
use crate::queue::{Owed, StoredMessage};

/// What the server waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waits {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBCOMP: the message is the client's, only the identifier is still in use.
    PubComp,
    /// Nothing: acknowledged, and left in the ring because an earlier one is not.
    Nothing,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Slot {
    pub packet_id: u16,
    pub waits: Waits,
    pub retain: bool,
    /// It was sent on the connection the session has now.
    pub sent: bool,
    /// What to send again on a new connection; none in a session that ends with its connection.
    pub message: Option<Rc<StoredMessage>>,
    pub identifiers: Identifiers,
    /// Of which group's delivery it is.
    pub tag: Option<Tag>,
    /// What the session's queue in the store is owed until this is over. There it is read again to be sent again:
    /// `message` is none but while it is about to be sent.
    pub debt: Option<MessageId>,
    /// It may not be sent, nor its PUBREL, before its row is on disk.
    pub is_held: bool,
    /// It waited for its row and was never sent since.
    pub is_new: bool,
}

/// What comes next of what was in flight when the last connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    Nothing,
    /// It has to be read first, or its row to come to the disk.
    Wait,
    Ready,
}

/// Subscription Identifiers kept with a message that may have to be sent again.
pub(crate) type Identifiers = Option<Box<[u32]>>;

/// The window of one session.
#[derive(Debug, Default)]
pub(crate) struct Inflight {
    slots: VecDeque<Slot>,
    last_id: u16,
    /// How many may be unacknowledged on the present connection.
    pub window: u16,
    /// How many are.
    pub unacknowledged: u16,
    /// Slots before this place were sent on the present connection.
    resend_at: usize,
    /// Slots that wait for nothing.
    finished: usize,
    /// What a start or another shard left does not stand in the order of its identifiers.
    is_shuffled: bool,
}

/// Slots a ring may have: half of the identifiers, so that a free one is always near. A client that takes up its
/// session again and again and never sends PUBCOMP is sent nothing more at this point.
const SLOTS_MAX: usize = 1 << 15;

impl Inflight {
    /// Whether another message may be sent now: the window is open and nothing older waits to be sent again.
    pub fn has_room(&self) -> bool {
        self.unacknowledged < self.window
            && self.resend_at >= self.slots.len()
            && self.slots.len() < SLOTS_MAX
    }

    /// Gives the next free identifier to a message that is sent now.
    pub fn begin(
        &mut self,
        qos: QoS,
        retain: bool,
        message: Option<Rc<StoredMessage>>,
        identifiers: Identifiers,
    ) -> PacketId {
        let packet_id = self.next_id();
        let waits = if qos == QoS::ExactlyOnce {
            Waits::PubRec
        } else {
            Waits::PubAck
        };
        self.slots.push_back(Slot {
            packet_id: packet_id.value(),
            waits,
            retain,
            sent: true,
            message,
            identifiers,
            tag: None,
            debt: None,
            is_held: false,
            is_new: false,
        });
        self.unacknowledged += 1;
        self.resend_at = self.slots.len();
        packet_id
    }

    /// The message that began last is a group's.
    pub fn tag_last(&mut self, tag: Option<Tag>) {
        if let Some(slot) = self.slots.back_mut() {
            slot.tag = tag;
        }
    }

    /// The message that began last is owed by the queue in the store.
    pub fn owe_last(&mut self, id: MessageId) {
        if let Some(slot) = self.slots.back_mut() {
            slot.debt = Some(id);
        }
    }

    /// The message that began last waits for its row.
    pub fn hold_last(&mut self) {
        if let Some(slot) = self.slots.back_mut() {
            slot.is_held = true;
            slot.is_new = true;
        }
    }

    /// Whether the message that began last waits for its row before it is sent.
    pub fn is_last_unsent(&self) -> bool {
        let last = self.slots.back();
        last.is_some_and(|slot| slot.is_held && slot.waits == Waits::PubRec)
    }

    /// What is under this identifier waits for its row.
    pub fn hold(&mut self, packet_id: PacketId) {
        if let Some(slot) = self.get_mut(packet_id) {
            slot.is_held = true;
        }
    }

    fn get(&self, packet_id: PacketId) -> Option<&Slot> {
        self.slots.get(self.position(packet_id.value())?)
    }

    fn get_mut(&mut self, packet_id: PacketId) -> Option<&mut Slot> {
        let at = self.position(packet_id.value())?;
        self.slots.get_mut(at)
    }

    /// What the queue in the store is owed under this identifier.
    pub fn debt(&self, packet_id: PacketId) -> Option<MessageId> {
        self.get(packet_id)?.debt
    }

    /// What is not finished of what the queue in the store is owed.
    pub fn debts(&self) -> impl Iterator<Item = (&Slot, MessageId)> {
        self.slots
            .iter()
            .filter(|slot| slot.waits != Waits::Nothing)
            .filter_map(|slot| Some((slot, slot.debt?)))
    }

    pub fn owes(&self, id: MessageId) -> bool {
        self.debts().any(|(_, debt)| debt == id)
    }

    /// The queue is not owed it any more, or never was. Returns whether it was sent.
    pub fn forget_debt(&mut self, id: MessageId) -> bool {
        let of_it = |slot: &&mut Slot| slot.waits != Waits::Nothing && slot.debt == Some(id);
        let found = self.slots.iter_mut().find(of_it);
        let is_found = found.is_some();
        if let Some(slot) = found {
            slot.debt = None;
        }
        is_found
    }

    /// What was read of a message in flight, if it has to be sent again.
    pub fn fill(&mut self, id: MessageId, owed: &Owed) {
        let needs = |slot: &&mut Slot| slot.debt == Some(id) && slot.is_missing();
        if let Some(slot) = self.slots.iter_mut().find(needs) {
            slot.message = Some(Rc::clone(&owed.message));
            slot.identifiers.clone_from(&owed.identifiers);
            slot.retain = owed.retain;
        }
    }

    /// What has to be sent again and is still to be read.
    pub fn missing(&self) -> impl Iterator<Item = (&Slot, MessageId)> {
        self.debts().filter(|(slot, _)| slot.is_missing())
    }

    /// A message is sent: it is read again if it has to be sent again.
    pub fn drop_body(&mut self, packet_id: PacketId) {
        if let Some(slot) = self.get_mut(packet_id)
            && slot.debt.is_some()
        {
            slot.is_new = false;
            slot.message = None;
            slot.identifiers = None;
        }
    }

    /// Whoever is away has nothing in memory that can be read. What a group gave cannot be before its row is on disk.
    pub fn drop_bodies(&mut self) {
        let can_be_read = |slot: &&mut Slot| slot.debt.is_some() && !slot.is_being_taken();
        for slot in self.slots.iter_mut().filter(can_be_read) {
            slot.message = None;
            slot.identifiers = None;
        }
    }

    /// The row of a message came to the disk. Returns the message if it waited for that and is to go on this
    /// connection.
    pub fn release_held(&mut self, packet_id: PacketId) -> Option<&Slot> {
        let slot = self.get_mut(packet_id)?;
        let was_held = std::mem::take(&mut slot.is_held);
        (was_held && slot.sent).then_some(slot)
    }

    /// The row of a message is not kept: it is as it was before.
    pub fn refuse_held(&mut self, packet_id: PacketId) -> Option<Waits> {
        let slot = self.get_mut(packet_id).filter(|slot| slot.is_held)?;
        slot.is_held = false;
        let waits = slot.waits;
        slot.waits = Waits::PubRec;
        Some(waits)
    }

    /// Whether something is sent under this identifier, or about to be.
    pub fn is_in_use(&self, packet_id: PacketId) -> bool {
        self.get(packet_id).is_some()
    }

    /// Of which group's delivery the message under this identifier is.
    pub fn tag(&self, packet_id: PacketId) -> Option<Tag> {
        self.get(packet_id)?.tag
    }

    /// Whether the store has yet to say of some group's message that it is this session's.
    pub fn is_taking(&self) -> bool {
        self.slots.iter().any(Slot::is_being_taken)
    }

    fn tagged(&self) -> impl Iterator<Item = (Tag, &Slot)> {
        self.slots
            .iter()
            .filter(|slot| slot.waits != Waits::Nothing)
            .filter_map(|slot| Some((slot.tag?, slot)))
    }

    /// The deliveries of one group that are not finished, with what they wait for.
    pub fn numbers_of(&self, membership: NonZeroU32) -> impl Iterator<Item = (u32, Waits)> {
        self.tagged()
            .filter(move |(tag, _)| tag.membership == membership)
            .map(|(tag, slot)| (tag.number, slot.waits))
    }

    /// Ends the exchange of a delivery that is another client's now. Returns its identifier, and what the queue in the
    /// store is owed of it.
    pub fn take_back(&mut self, wanted: Tag) -> Option<(PacketId, Option<MessageId>)> {
        let (_, slot) = self.tagged().find(|(tag, _)| *tag == wanted)?;
        let (packet_id, debt) = (PacketId::new(slot.packet_id)?, slot.debt);
        self.finish(packet_id);
        Some((packet_id, debt))
    }

    /// All groups' deliveries that are not finished, and what they wait for.
    pub fn all_tagged(&self) -> Vec<(Tag, Waits)> {
        self.tagged().map(|(tag, slot)| (tag, slot.waits)).collect()
    }

    // 5 [MQTT-2.2.1-4]: an identifier other than 0 and not in use. The window is smaller than the number of
    // identifiers, so there is one.
    fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(packet_id) = PacketId::new(self.last_id)
                && self.position(self.last_id).is_none()
            {
                return packet_id;
            }
        }
    }

    fn position(&self, packet_id: u16) -> Option<usize> {
        let first = self.slots.front()?.packet_id;
        let distance = usize::from(packet_id.wrapping_sub(first));
        let holds = |place: usize| {
            self.slots
                .get(place)
                .is_some_and(|slot| slot.packet_id == packet_id && slot.waits != Waits::Nothing)
        };
        if holds(distance) {
            return Some(distance);
        }
        // A sequence that wrapped once jumps over 0.
        if distance > 0 && holds(distance - 1) {
            return Some(distance - 1);
        }
        // In sequence since the first, and beyond the last: a new one.
        if distance >= self.slots.len() && !self.has_gaps() {
            return None;
        }
        self.slots
            .iter()
            .position(|slot| slot.packet_id == packet_id && slot.waits != Waits::Nothing)
    }

    /// Whether identifiers in the ring were not given in one unbroken sequence.
    fn has_gaps(&self) -> bool {
        match (self.slots.front(), self.slots.back()) {
            _ if self.is_shuffled => true,
            (Some(first), Some(last)) => {
                usize::from(last.packet_id.wrapping_sub(first.packet_id)) != self.slots.len() - 1
            }
            _ => false,
        }
    }

    /// What the server waits for under this identifier.
    pub fn waits(&self, packet_id: PacketId) -> Waits {
        // Of what was not sent the client cannot know.
        self.get(packet_id)
            .filter(|slot| !slot.is_held)
            .map_or(Waits::Nothing, |slot| slot.waits)
    }

    /// Whether something under this identifier is to be sent once its row is on disk.
    pub fn is_held(&self, packet_id: PacketId) -> bool {
        self.get(packet_id).is_some_and(|slot| slot.is_held)
    }

    /// PUBREC came: the message is the client's now, PUBREL is owed. 5 [MQTT-4.3.3-6]: it is never sent again.
    pub fn release(&mut self, packet_id: PacketId) -> Option<&mut Slot> {
        let slot = self.get_mut(packet_id)?;
        slot.waits = Waits::PubComp;
        slot.message = None;
        slot.identifiers = None;
        Some(slot)
    }

    /// The exchange is over; the identifier is free. Returns whether there was one.
    pub fn finish(&mut self, packet_id: PacketId) -> bool {
        let Some(at) = self.position(packet_id.value()) else {
            return false;
        };
        if let Some(slot) = self.slots.get_mut(at) {
            slot.waits = Waits::Nothing;
            slot.message = None;
            slot.identifiers = None;
            if slot.sent {
                self.unacknowledged = self.unacknowledged.saturating_sub(1);
            }
        }
        self.finished += 1;
        while self
            .slots
            .front()
            .is_some_and(|slot| slot.waits == Waits::Nothing)
        {
            self.slots.pop_front();
            self.finished -= 1;
            self.resend_at = self.resend_at.saturating_sub(1);
        }
        self.is_shuffled &= !self.slots.is_empty();
        // One that is never acknowledged must not make the ring longer and longer.
        if self.finished > 32 && self.finished > self.slots.len() / 2 {
            self.compact();
        }
        true
    }

    fn compact(&mut self) {
        let before = self
            .slots
            .iter()
            .take(self.resend_at)
            .filter(|slot| slot.waits != Waits::Nothing)
            .count();
        self.slots.retain(|slot| slot.waits != Waits::Nothing);
        self.resend_at = before;
        self.finished = 0;
    }

    /// A new connection: nothing is sent on it yet.
    pub fn restart(&mut self, window: u16) {
        self.drop_bodies();
        self.compact();
        self.window = window;
        self.unacknowledged = 0;
        self.resend_at = 0;
        for slot in &mut self.slots {
            slot.sent = false;
        }
    }

    /// Whether the next one to be sent again can be.
    pub fn resend(&mut self) -> Resend {
        while self
            .slots
            .get(self.resend_at)
            .is_some_and(|slot| slot.waits == Waits::Nothing)
        {
            self.resend_at += 1;
        }
        match self.slots.get(self.resend_at) {
            None => Resend::Nothing,
            Some(slot) if slot.is_held || slot.is_missing() => Resend::Wait,
            Some(_) => Resend::Ready,
        }
    }

    /// The next one to be sent again, in the original order, if the window is open for it. A PUBREL is no PUBLISH:
    /// it waits for no window.
    pub fn next_resend(&mut self) -> Option<&Slot> {
        if self.resend() != Resend::Ready {
            return None;
        }
        let at = self.resend_at;
        let slot = self.slots.get_mut(at)?;
        if slot.waits != Waits::PubComp {
            if self.unacknowledged >= self.window {
                return None;
            }
            self.unacknowledged += 1;
            slot.sent = true;
        }
        self.resend_at += 1;
        self.slots.get(at)
    }

    /// Whether something is left to be sent again on this connection.
    pub fn has_resends(&self) -> bool {
        self.resend_at < self.slots.len()
    }

    /// Messages that would be sent again.
    pub fn owed(&self) -> usize {
        self.slots
            .iter()
            .filter(|slot| {
                slot.message.is_some()
                    || (slot.debt.is_some() && matches!(slot.waits, Waits::PubAck | Waits::PubRec))
            })
            .count()
    }

    /// Takes everything out, with the identifier given last, to ship it.
    pub fn into_slots(self) -> (impl Iterator<Item = Slot>, u16) {
        (
            self.slots
                .into_iter()
                .filter(|slot| slot.waits != Waits::Nothing),
            self.last_id,
        )
    }

    /// Made from what was shipped.
    pub fn from_slots(slots: impl Iterator<Item = Slot>, last_id: u16) -> Self {
        let slots: VecDeque<_> = slots.collect();
        let follows = |(one, next): (&Slot, &Slot)| one.packet_id < next.packet_id;
        Self {
            is_shuffled: !slots.iter().zip(slots.iter().skip(1)).all(follows),
            slots,
            last_id,
            ..Self::default()
        }
    }
}

impl Slot {
    /// One that was in flight before the start.
    pub fn restored(packet_id: u16, waits: Waits, debt: MessageId) -> Self {
        Self {
            packet_id,
            waits,
            retain: false,
            sent: false,
            message: None,
            identifiers: None,
            tag: None,
            debt: Some(debt),
            is_held: false,
            is_new: false,
        }
    }

    /// A group's message that is this session's as soon as its row is on disk.
    fn is_being_taken(&self) -> bool {
        self.is_held && self.waits == Waits::PubRec && self.tag.is_some()
    }

    /// Whether it has to be read to be sent (again).
    fn is_missing(&self) -> bool {
        let is_owed = matches!(self.waits, Waits::PubAck | Waits::PubRec);
        is_owed && !self.sent && self.debt.is_some() && self.message.is_none()
    }

    /// The message of this slot as something owed, if it still is.
    pub fn as_owed(&self) -> Option<Owed> {
        let qos = if self.waits == Waits::PubRec {
            QoS::ExactlyOnce
        } else {
            QoS::AtLeastOnce
        };
        Some(Owed {
            message: Rc::clone(self.message.as_ref()?),
            identifiers: self.identifiers.clone(),
            qos,
            retain: self.retain,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(window: u16) -> Inflight {
        Inflight {
            window,
            ..Inflight::default()
        }
    }

    fn send(inflight: &mut Inflight) -> PacketId {
        inflight.begin(QoS::AtLeastOnce, false, None, None)
    }

    #[test]
    fn identifiers_are_in_sequence_and_never_in_use() {
        // 5 [MQTT-2.2.1-4]: other than 0 and not in use.
        let mut inflight = open(10);
        let stuck = send(&mut inflight);
        for round in 0..200_000_u32 {
            let id = send(&mut inflight);
            assert_ne!(id, stuck, "round {round}");
            assert_eq!(inflight.waits(id), Waits::PubAck);
            assert!(inflight.finish(id), "round {round}");
            assert_eq!(inflight.waits(id), Waits::Nothing);
        }
        assert!(
            inflight.slots.len() <= 64,
            "{} slots for one message",
            inflight.slots.len()
        );
        assert!(inflight.finish(stuck));
        assert_eq!((inflight.slots.len(), inflight.unacknowledged), (0, 0));
    }

    #[test]
    fn acknowledged_in_any_order() {
        let mut inflight = open(1000);
        for _ in 0..65_400 {
            let id = send(&mut inflight);
            inflight.finish(id);
        }
        let mut ids: Vec<_> = (0..500).map(|_| send(&mut inflight)).collect();
        let mut seed = 1_u64;
        while !ids.is_empty() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = ids.swap_remove(usize::try_from(seed >> 33).unwrap() % ids.len());
            assert!(inflight.finish(id));
            assert!(!inflight.finish(id));
        }
        assert_eq!((inflight.slots.len(), inflight.unacknowledged), (0, 0));
    }

    #[test]
    fn a_new_connection_sends_again_in_order_within_its_window() {
        // 5 [MQTT-4.4.0-1], [MQTT-3.3.4-9]
        let mut inflight = open(10);
        let ids: Vec<_> = (0..4)
            .map(|_| inflight.begin(QoS::ExactlyOnce, false, None, None))
            .collect();
        inflight.release(ids[1]);
        inflight.restart(2);
        let sent: Vec<_> = std::iter::from_fn(|| {
            inflight
                .next_resend()
                .map(|slot| (slot.packet_id, slot.waits))
        })
        .collect();
        assert_eq!(
            sent,
            [
                (ids[0].value(), Waits::PubRec),
                (ids[1].value(), Waits::PubComp),
                (ids[2].value(), Waits::PubRec)
            ]
        );
        assert!(!inflight.has_room());
        inflight.finish(ids[1]);
        assert!(
            inflight.next_resend().is_none(),
            "a PUBCOMP to a PUBREL sent again gives nothing back"
        );
        inflight.finish(ids[0]);
        assert_eq!(
            inflight.next_resend().map(|slot| slot.packet_id),
            Some(ids[3].value())
        );
        inflight.finish(ids[2]);
        assert!(inflight.has_room());
    }
}
