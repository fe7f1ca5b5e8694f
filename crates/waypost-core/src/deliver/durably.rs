//! Messages that the store keeps, for sessions that it keeps.

use waypost_mqtt::QoS;

use super::{FanOut, fit, identifiers, stored, target};
use crate::dead::{Cause, DeadLetter};
use crate::debtor::Debtor;
use crate::effects::Effects;
use crate::index::Merged;
use crate::journal::QueueId;
use crate::queue::queued_bytes;
use crate::session::Port;
use crate::unsettled::Settled;

impl FanOut<'_> {
    /// Delivers a message that the store keeps, to a session that it keeps: at once, if it can be, and written down as
    /// owed. What waits is nowhere but in the store.
    pub(super) fn deliver_durably<E: Effects>(
        &mut self,
        merged: Merged,
        port: Port,
        qos: QoS,
        retain: bool,
        out: &E,
    ) {
        let slot = merged.subscriber.0;
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(number) = session.number() else {
            return;
        };
        if let Some(moving) = &session.moving
            && !moving.is_owed(self.source)
        {
            // The other shard writes it down.
            return;
        }
        let all = self.matched.identifiers_of(merged);
        // What goes out at `QoS` 2 has a row on disk first.
        let is_live = session.delivery().is_live() && qos == QoS::AtLeastOnce;
        let delivery = session.delivery();
        let mut at_once = None;
        if let Some(connection) = port.connection().filter(|_| is_live) {
            if out.outbox_bytes(connection) > self.limits.outbox_bytes_max / 2 {
                self.counters.slow_readers += 1;
                delivery.is_slow = true;
            } else {
                let mut target = target(connection, port, qos, retain, identifiers(merged));
                if port.is_careful()
                    && !fit(
                        self.connections,
                        self.hasher,
                        self.message,
                        &mut target,
                        all,
                    )
                {
                    // 5 [MQTT-3.1.2-25]: as though it had been sent.
                    self.counters.dropped_too_large += 1;
                    return;
                }
                at_once = Some(target);
            }
        }
        let bytes = queued_bytes(self.message);
        if at_once.is_none() && !delivery.cursor.has_place(bytes, self.limits, self.now) {
            self.counters.dropped_queue_full += 1;
            delivery.dropped += 1;
            self.bury_overflow(slot, number, qos, retain, all);
            return;
        }
        let Some(id) = self.ledger.owe(number, qos, retain, all) else {
            return;
        };
        self.unlogged.push(self.source, id, Debtor { slot, number });
        if let Some(mut target) = at_once {
            delivery.cursor.owe(id);
            let inflight = &mut delivery.inflight;
            target.packet_id = inflight.begin(qos, retain, None, None).value();
            inflight.owe_last(id);
            self.targets.push(target);
        } else {
            let expiry_ms = self.message.expiry_s.map(|s| u64::from(s) * 1_000);
            let age_max_ms = Some(self.limits.queue_age_max_ms).filter(|ms| *ms > 0);
            let expires_ms = expiry_ms.into_iter().chain(age_max_ms).min();
            let expires_ms = expires_ms.map(|ms| self.now.monotonic_ms.saturating_add(ms));
            delivery.cursor.owe_later(id, bytes, expires_ms);
            self.counters.queued += 1;
        }
    }

    /// A session's queue is full. If the policy says so, it owes the message all the same, until that is buried.
    #[cold]
    fn bury_overflow(
        &mut self,
        slot: u32,
        queue: QueueId,
        qos: QoS,
        retain: bool,
        identifiers: &[u32],
    ) {
        let policies = self.ledger.policies;
        let Some(topic) = policies.dead_letter_of(self.message.topic) else {
            return;
        };
        let (properties, bytes) = (self.message.properties, queued_bytes(self.message));
        if !self.dead.takes(properties, bytes, self.limits) {
            self.counters.dead_letters_dropped += 1;
            return;
        }
        let message = stored(&mut self.stored, self.message, self.now);
        let (Some(session), Some(id)) = (
            self.sessions.get_mut(slot),
            self.ledger.owe(queue, qos, retain, identifiers),
        ) else {
            return;
        };
        let debtor = Debtor {
            slot,
            number: queue,
        };
        self.unlogged.push(self.source, id, debtor);
        let cursor = &mut session.delivery().cursor;
        cursor.owe(id);
        cursor.settle(id);
        let letter = DeadLetter {
            topic,
            message,
            qos,
            cause: Cause::QueueFull,
            deliveries: 0,
        };
        let settled = Settled {
            queue,
            id,
            packet_id: None,
        };
        let owed = Some((settled, false));
        self.dead.add(letter, owed, self.limits, self.counters);
    }
}
