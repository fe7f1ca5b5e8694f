//! `QoS` 2 to sessions that the store keeps: what is said to the client is on disk first.
//!
//! The row of a Packet Identifier is written before its PUBLISH goes out, and again, with PUBREC, before its PUBREL:
//! so that after a crash no message is sent under another identifier that the client has already.

use std::collections::VecDeque;
use std::rc::Rc;

use waypost_mqtt::{Ack, Packet, PacketId, QoS, ReasonCode};

use crate::broker::Broker;
use crate::effects::{ConnectionId, DeliveryFlags, Effects, Now};
use crate::flow::Step;
use crate::group::Word;
use crate::inflight::Waits;
use crate::journal::{QueueId, Refusal, Table, Ticket, Until};
use crate::rows::{SentRow, Stage, packet_key};

/// How long after a refusal the store is asked again.
const RETRY_MS: u64 = 1_000;

/// What waits for its row to come to the disk, in the order the rows were written.
#[derive(Debug, Default)]
pub(crate) struct HeldRows {
    waiting: VecDeque<(Ticket, QueueId, PacketId)>,
    bytes: Vec<u8>,
}

impl HeldRows {
    fn pop(&mut self, upto: Ticket) -> Option<(QueueId, PacketId)> {
        let first = self.waiting.pop_front_if(|(ticket, ..)| *ticket <= upto)?;
        Some((first.1, first.2))
    }

    /// A row waits with this transaction.
    pub fn push(&mut self, ticket: Ticket, queue: QueueId, packet_id: PacketId) {
        self.waiting.push_back((ticket, queue, packet_id));
    }

    /// The last row that a session waits for.
    fn last_of(&self, queue: QueueId) -> Option<Ticket> {
        let of_it = |(_, other, _): &&(Ticket, QueueId, PacketId)| *other == queue;
        let last = self.waiting.iter().rev().find(of_it)?;
        Some(last.0)
    }
}

impl Broker {
    /// Gives identifiers to the `QoS` 2 messages that are next, as many as the window has room for, and writes them
    /// down. They go out once that is on disk.
    pub(crate) fn begin_exactly_once(
        &mut self,
        slot: u32,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Step::Stop;
        };
        let (Some(queue), Some(delivery)) = (session.number(), session.delivery.as_mut()) else {
            return Step::Stop;
        };
        let mut begun = Vec::new();
        while delivery.inflight.has_room()
            && delivery.cursor.front().is_some_and(|ready| {
                ready.owed.qos == QoS::ExactlyOnce && !ready.owed.message.is_expired(now)
            })
            && let Some(ready) = delivery.cursor.pop()
        {
            let message = Some(Rc::clone(&ready.owed.message));
            let (retain, identifiers) = (ready.owed.retain, ready.owed.identifiers);
            let inflight = &mut delivery.inflight;
            let packet_id = inflight.begin(QoS::ExactlyOnce, retain, message, identifiers);
            inflight.owe_last(ready.id);
            inflight.hold_last();
            delivery.cursor.order += 1;
            let row = SentRow {
                id: ready.id,
                stage: Stage::PubRec,
                order: delivery.cursor.order,
            };
            let bytes = &mut self.held_rows.bytes;
            bytes.clear();
            row.encode(bytes);
            let key = packet_key(queue, packet_id.value());
            out.journal().put(Table::SENT, &key, bytes);
            begun.push(packet_id);
        }
        if begun.is_empty() {
            return Step::Stop;
        }
        let ticket = self.end(Until::Durable, out);
        let held = begun
            .into_iter()
            .map(|packet_id| (ticket, queue, packet_id));
        self.held_rows.waiting.extend(held);
        Step::Done
    }

    /// PUBREC of a message came, and the store keeps its session: PUBREL follows once that is on disk. `false`: there
    /// is nothing to wait for.
    pub(crate) fn hold_pubrel(
        &mut self,
        slot: u32,
        packet_id: PacketId,
        out: &mut impl Effects,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let (Some(queue), Some(delivery)) = (session.number(), session.delivery.as_mut()) else {
            return false;
        };
        let ticket = match delivery.inflight.debt(packet_id) {
            Some(id) => {
                delivery.cursor.order += 1;
                let row = SentRow {
                    id,
                    stage: Stage::PubComp,
                    order: delivery.cursor.order,
                };
                let bytes = &mut self.held_rows.bytes;
                bytes.clear();
                row.encode(bytes);
                let key = packet_key(queue, packet_id.value());
                out.journal().put(Table::SENT, &key, bytes);
                Some(self.end(Until::Durable, out))
            }
            // 5 [MQTT-4.6.0-4]: not before the PUBREL of an earlier PUBREC.
            None => self.held_rows.last_of(queue),
        };
        let Some(ticket) = ticket else {
            return false;
        };
        self.held_rows.waiting.push_back((ticket, queue, packet_id));
        if let Some(session) = self.sessions.get_mut(slot) {
            session.delivery().inflight.hold(packet_id);
        }
        true
    }

    /// Rows up to here are on disk.
    pub(crate) fn rows_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        while let Some((queue, packet_id)) = self.held_rows.pop(durable) {
            let Some(slot) = self.sessions.find_number(queue) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let connection = session.connection;
            let released = session.delivery().inflight.release_held(packet_id);
            match (
                connection,
                released.map(|slot| (slot.waits, slot.as_owed())),
            ) {
                (Some(id), Some((Waits::PubComp, _))) => self.send_pubrel(id, packet_id, out),
                (Some(id), Some((Waits::PubRec, Some(owed)))) => {
                    let first = DeliveryFlags::default();
                    let number = packet_id.value();
                    let is_sent = self.send_owed(slot, id, &owed, number, first, now, out);
                    self.after_sending(slot, packet_id, is_sent, now, out);
                    self.go_on(slot, now, out);
                }
                (Some(_), _) => self.go_on(slot, now, out),
                (None, _) => {}
            }
        }
        self.moving.to_yield.append(&mut self.held.yields);
    }

    /// A session came from another shard: what waits there for its rows waits here for the same.
    pub(crate) fn hold_again(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let (Some(queue), Some(delivery)) = (session.number(), session.delivery.as_mut()) else {
            return;
        };
        let mut held = Vec::new();
        for (slot, id) in delivery.inflight.debts().filter(|(slot, _)| slot.is_held) {
            let stage = match slot.waits {
                Waits::PubComp => Stage::PubComp,
                _ => Stage::PubRec,
            };
            delivery.cursor.order += 1;
            let row = SentRow {
                id,
                stage,
                order: delivery.cursor.order,
            };
            let bytes = &mut self.held_rows.bytes;
            bytes.clear();
            row.encode(bytes);
            let key = packet_key(queue, slot.packet_id);
            out.journal().put(Table::SENT, &key, bytes);
            held.extend(PacketId::new(slot.packet_id));
        }
        if !held.is_empty() {
            let ticket = self.end(Until::Durable, out);
            let held = held.into_iter().map(|packet_id| (ticket, queue, packet_id));
            self.held_rows.waiting.extend(held);
        }
    }

    fn send_pubrel(&mut self, id: ConnectionId, packet_id: PacketId, out: &mut impl Effects) {
        let ack = Ack::new(packet_id, ReasonCode::Success);
        self.send(id, &Packet::PubRel(ack), out);
    }

    /// A message of the queue was sent, or is too large for its client.
    pub(crate) fn after_sending(
        &mut self,
        slot: u32,
        packet_id: PacketId,
        is_sent: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let inflight = &mut session.delivery().inflight;
        if is_sent {
            inflight.drop_body(packet_id);
            return;
        }
        // 5 [MQTT-3.1.2-25]: as though it had been sent.
        let (waits, debt) = (inflight.waits(packet_id), inflight.debt(packet_id));
        let tag = inflight.tag(packet_id);
        inflight.finish(packet_id);
        if let Some(id) = debt {
            let row = (waits == Waits::PubRec).then_some(packet_id);
            self.settle_debt(slot, id, row, out);
        }
        if let Some(tag) = tag {
            // What the session took for good can be no other's.
            let word = |number| match debt {
                Some(_) => Word::TooLarge { number },
                None => Word::Returned {
                    number,
                    is_too_large: true,
                },
            };
            self.report(slot, tag, word, now, out);
        }
    }

    /// Rows from the first to the last are not kept.
    pub(crate) fn rows_refused(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        let is_refused = |ticket: Ticket| (first..=last).contains(&ticket);
        let waiting = &mut self.held_rows.waiting;
        let refused: Vec<_> = waiting
            .iter()
            .filter(|(ticket, ..)| is_refused(*ticket))
            .copied()
            .collect();
        waiting.retain(|(ticket, ..)| !is_refused(*ticket));
        for (_, queue, packet_id) in refused {
            let Some(slot) = self.sessions.find_number(queue) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let connection = session.connection;
            let delivery = session.delivery();
            match delivery.inflight.refuse_held(packet_id) {
                // It was not sent: it waits again.
                Some(Waits::PubRec) => {
                    let tag = delivery.inflight.tag(packet_id);
                    delivery.inflight.finish(packet_id);
                    delivery.cursor.fall_behind();
                    delivery.cursor.is_refused = true;
                    delivery.resume_ms = Some(now.monotonic_ms + RETRY_MS);
                    self.arm_session(slot);
                    if let Some(tag) = tag {
                        self.report(slot, tag, |number| Word::NotKept { number }, now, out);
                    }
                }
                // The client has it and says so again on its next connection.
                Some(_) => {
                    if let Some(id) = connection {
                        self.disconnect(id, why.reason(), now, out);
                    }
                }
                None => {}
            }
        }
        self.moving.to_yield.append(&mut self.held.yields);
    }
}
