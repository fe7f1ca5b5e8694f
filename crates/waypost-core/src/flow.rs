//! The flow to one client: its acknowledgements, what is sent again, and what waits.

use std::rc::Rc;

use waypost_mqtt::{Ack, Packet, PacketId, QoS, ReasonCode};

use crate::broker::Broker;
use crate::cursor::Ready;
use crate::dead::{Cause, DeadLetter};
use crate::deliver::{fit, target};
use crate::effects::{ConnectionId, DeliveryFlags, Effects, IdentifierRange, Now};
use crate::group::Word;
use crate::index::SubscriberId;
use crate::inflight::{Resend, Waits};
use crate::queue::Owed;

/// What a step of [`Broker::pump`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done; there may be more.
    Done,
    /// Nothing can be done until something else happens.
    Stop,
}

impl Broker {
    /// 5 [MQTT-4.3.2-3]: the exchange of a `QoS` 1 message ends.
    pub(crate) fn handle_puback(
        &mut self,
        id: ConnectionId,
        slot: u32,
        ack: &Ack<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.finish(id, slot, ack, Waits::PubAck, now, out);
    }

    /// The client took over a `QoS` 2 message, or refused it.
    pub(crate) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        slot: u32,
        ack: &Ack<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        if ack.reason.is_error() {
            // 5 [MQTT-4.4.0-2]: that is an acknowledgement, and the end.
            self.finish(id, slot, ack, Waits::PubRec, now, out);
            return;
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let inflight = &mut session.delivery().inflight;
        let reason = match inflight.waits(ack.packet_id) {
            Waits::PubRec => {
                inflight.release(ack.packet_id);
                if self.hold_pubrel(slot, ack.packet_id, out) {
                    return;
                }
                ReasonCode::Success
            }
            // PUBREL follows.
            Waits::Nothing if inflight.is_held(ack.packet_id) => return,
            Waits::PubComp => ReasonCode::Success,
            // 5 §3.6.2.1; 3.1.1 has no reasons.
            Waits::Nothing => ReasonCode::PacketIdentifierNotFound,
            Waits::PubAck => {
                self.protocol_error(id, now, out);
                return;
            }
        };
        // 5 [MQTT-4.3.3-4], 3.1.1 [MQTT-4.3.3-1]
        self.send(id, &Packet::PubRel(Ack::new(ack.packet_id, reason)), out);
    }

    /// 5 [MQTT-4.3.3-5]: the exchange of a `QoS` 2 message ends.
    pub(crate) fn handle_pubcomp(
        &mut self,
        id: ConnectionId,
        slot: u32,
        ack: &Ack<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.finish(id, slot, ack, Waits::PubComp, now, out);
    }

    fn finish(
        &mut self,
        id: ConnectionId,
        slot: u32,
        ack: &Ack<'_>,
        expected: Waits,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(delivery) = &mut session.delivery else {
            return;
        };
        match delivery.inflight.waits(ack.packet_id) {
            waits if waits == expected => {}
            // An acknowledgement of nothing changes nothing.
            Waits::Nothing => return,
            // 5 [MQTT-4.13.1-1], 3.1.1 [MQTT-4.8.0-1]: that of a message at another `QoS`, or out of its turn.
            _ => {
                self.protocol_error(id, now, out);
                return;
            }
        }
        let tag = session
            .memberships
            .is_some()
            .then(|| delivery.inflight.tag(ack.packet_id))
            .flatten();
        let debt = delivery.inflight.debt(ack.packet_id);
        delivery.inflight.finish(ack.packet_id);
        let is_waiting = delivery.is_waiting() && session.connection == Some(id);
        if ack.reason.is_error() {
            self.counters.refused_by_client += 1;
        }
        let mut is_buried = false;
        if let Some(debt) = debt {
            let row = (expected != Waits::PubAck).then_some(ack.packet_id);
            is_buried = expected == Waits::PubRec
                && self.refuse_for_good(slot, (debt, ack.packet_id), tag, out);
            if !is_buried {
                self.settle_debt(slot, debt, row, out);
            }
        }
        if is_waiting {
            self.pump(slot, now, out);
        }
        if let Some(tag) = tag {
            let word = |number| {
                if ack.reason.is_error() && !is_buried {
                    Word::Refused { number }
                } else {
                    Word::Done { number }
                }
            };
            self.report(slot, tag, word, now, out);
        }
        self.relieve_members(slot, now, out);
    }

    /// Sends what waits for a client, as far as its window and its outbox have room: what was in flight when its last
    /// connection ended, then the queue and the retained messages.
    pub(crate) fn pump(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let mut steps = self.limits.burst_messages_max;
        loop {
            let Some(session) = self.sessions.get_mut(slot) else {
                return;
            };
            let (Some(id), Some(delivery)) = (session.connection, &mut session.delivery) else {
                return;
            };
            delivery.cursor.catch_up();
            if !delivery.is_waiting() {
                delivery.is_slow = false;
                return;
            }
            let memberships = session.memberships.as_ref();
            if memberships.is_some_and(|memberships| !memberships.is_welcome()) {
                return;
            }
            if out.outbox_bytes(id) > self.limits.outbox_bytes_max / 2 {
                self.counters.slow_readers += u64::from(!delivery.is_slow);
                delivery.is_slow = true;
                self.release_readers(slot);
                return;
            }
            delivery.is_slow = false;
            if steps == 0 {
                // The others have their turn first.
                delivery.resume_ms = Some(now.monotonic_ms);
                self.arm_session(slot);
                return;
            }
            steps -= 1;
            let step = if delivery.inflight.has_resends() {
                self.send_again(slot, id, now, out)
            } else if !delivery.retained.is_empty() && delivery.is_turn_of_retained() {
                match self.send_retained(slot, id, now, out) {
                    // While they wait for another shard, what is live goes on.
                    Step::Stop => self.send_waiting(slot, id, now, out),
                    Step::Done => Step::Done,
                }
            } else {
                self.send_waiting(slot, id, now, out)
            };
            if step == Step::Stop {
                self.read_queue_on(slot, out);
                return;
            }
        }
    }

    /// 5 [MQTT-4.4.0-1], 3.1.1 [MQTT-4.4.0-1]: with the original identifier, in the original order.
    fn send_again(
        &mut self,
        slot: u32,
        id: ConnectionId,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
        else {
            return Step::Stop;
        };
        if delivery.inflight.resend() == Resend::Wait {
            return Step::Stop;
        }
        let Some(again) = delivery.inflight.next_resend() else {
            return Step::Stop;
        };
        let Some(packet_id) = PacketId::new(again.packet_id) else {
            return Step::Stop;
        };
        if again.waits == Waits::PubComp {
            self.send(
                id,
                &Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)),
                out,
            );
            return Step::Done;
        }
        // 5 [MQTT-3.3.1-1], 3.1.1 [MQTT-3.3.1-1]
        let dup = DeliveryFlags::default().with_if(!again.is_new, DeliveryFlags::DUP);
        let Some(owed) = again.as_owed() else {
            // Nothing to send again under this identifier: the session did not keep it.
            delivery.inflight.finish(packet_id);
            return Step::Done;
        };
        self.counters.redeliveries += 1;
        let number = packet_id.value();
        let is_sent = self.send_owed(slot, id, &owed, number, dup, now, out);
        self.after_sending(slot, packet_id, is_sent, now, out);
        Step::Done
    }

    /// What waits in memory goes first: it is of topics of its own. History comes last: it can be read at any time.
    fn send_waiting(
        &mut self,
        slot: u32,
        id: ConnectionId,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        match self.send_queued(slot, id, now, out) {
            Step::Stop => match self.send_read(slot, id, now, out) {
                Step::Stop => self.send_history(slot, id, now, out),
                Step::Done => Step::Done,
            },
            Step::Done => Step::Done,
        }
    }

    /// Sends what was read of the queue in the store.
    fn send_read(&mut self, slot: u32, id: ConnectionId, now: Now, out: &mut impl Effects) -> Step {
        let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
        else {
            return Step::Stop;
        };
        let Some(ready) = delivery.cursor.front() else {
            return Step::Stop;
        };
        // 5 [MQTT-3.3.2-5]: its delivery has not begun.
        if ready.owed.message.is_expired(now) {
            if let Some(Ready { id, owed }) = delivery.cursor.pop() {
                self.counters.dropped_expired += 1;
                self.bury_debt(slot, id, &owed, Cause::Expired, out);
            }
            return Step::Done;
        }
        if !delivery.inflight.has_room() {
            return Step::Stop;
        }
        if ready.owed.qos == QoS::ExactlyOnce {
            return self.begin_exactly_once(slot, now, out);
        }
        if delivery.inflight.is_last_unsent() {
            return Step::Stop;
        }
        let Some(ready) = delivery.cursor.pop() else {
            return Step::Stop;
        };
        let (qos, retain) = (ready.owed.qos, ready.owed.retain);
        if qos == QoS::AtMostOnce {
            // What may have been sent before a start is not sent again.
            if ready.id > self.history.restored_upto {
                let first = DeliveryFlags::default();
                self.send_owed(slot, id, &ready.owed, 0, first, now, out);
            }
            self.settle_for_good(slot, ready.id, out);
            return Step::Done;
        }
        let packet_id = delivery.inflight.begin(qos, retain, None, None);
        delivery.inflight.owe_last(ready.id);
        let is_again = ready.id <= delivery.cursor.again_upto;
        let flags = DeliveryFlags::default().with_if(is_again, DeliveryFlags::DUP);
        let number = packet_id.value();
        let is_sent = self.send_owed(slot, id, &ready.owed, number, flags, now, out);
        self.after_sending(slot, packet_id, is_sent, now, out);
        Step::Done
    }

    fn send_queued(
        &mut self,
        slot: u32,
        id: ConnectionId,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Step::Stop;
        };
        let is_persistent = session.is_persistent();
        let delivery = session.delivery();
        let Some(front) = delivery.queue.front() else {
            return Step::Stop;
        };
        // 5 [MQTT-3.3.2-5]: its delivery has not begun.
        if front.message.is_expired(now) {
            if let Some(owed) = delivery.queue.pop() {
                self.counters.dropped_expired += 1;
                self.bury(DeadLetter::of_session(
                    &self.policies,
                    &owed,
                    Cause::Expired,
                ));
            }
            return Step::Done;
        }
        if !delivery.inflight.has_room() {
            return Step::Stop;
        }
        if let Some(owed) = delivery.queue.pop() {
            self.begin_owed(slot, id, &owed, is_persistent, now, out);
        }
        Step::Done
    }

    /// Sends a message for the first time, with an identifier if its `QoS` asks for one.
    pub(crate) fn begin_owed(
        &mut self,
        slot: u32,
        id: ConnectionId,
        owed: &Owed,
        is_persistent: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        let first = DeliveryFlags::default();
        if owed.qos == QoS::AtMostOnce {
            self.send_owed(slot, id, owed, 0, first, now, out);
            return;
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let message = is_persistent.then(|| Rc::clone(&owed.message));
        let identifiers = owed.identifiers.clone().filter(|_| is_persistent);
        let packet_id =
            session
                .delivery()
                .inflight
                .begin(owed.qos, owed.retain, message, identifiers);
        if !self.send_owed(slot, id, owed, packet_id.value(), first, now, out)
            && let Some(session) = self.sessions.get_mut(slot)
        {
            // 5 [MQTT-3.1.2-25]: as though it had been sent.
            session.delivery().inflight.finish(packet_id);
        }
    }

    /// Sends one message to one client; `false` if it is too large for it.
    #[expect(
        clippy::too_many_arguments,
        reason = "a message, its client and how it is sent"
    )]
    pub(crate) fn send_owed(
        &mut self,
        slot: u32,
        id: ConnectionId,
        owed: &Owed,
        packet_id: u16,
        flags: DeliveryFlags,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        let port = self.sessions.port(SubscriberId(slot));
        let identifiers = owed.identifiers.as_deref().unwrap_or_default();
        let range = IdentifierRange {
            start: 0,
            len: u16::try_from(identifiers.len()).unwrap_or(u16::MAX),
        };
        let mut target = target(id, port, owed.qos, owed.retain, range);
        target.packet_id = packet_id;
        target.flags = target.flags.with(flags);
        let message = owed.message.message(now);
        if port.is_careful()
            && !fit(
                &mut self.connections,
                &self.hasher,
                &message,
                &mut target,
                identifiers,
            )
        {
            self.counters.dropped_too_large += 1;
            return false;
        }
        self.counters.deliveries += 1;
        out.deliver_many(&message, &[target], identifiers);
        true
    }
}
