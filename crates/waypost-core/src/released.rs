//! What becomes of an answer that waited, when the store has spoken: it is sent, or what it promised is put right.

use waypost_mqtt::{Ack, Packet, Properties, Property, PropertyBuffer, QoS, ReasonCode};

use crate::broker::Broker;
use crate::connection::Connection;
use crate::delayed::{DelayedPromise, DelayedWord};
use crate::effects::{ConnectionId, Effects, Now, ShardId};
use crate::held::{Answer, Held, Promise, Recipient};
use crate::interest::post;
use crate::journal::{MessageId, Refusal};
use crate::mail::Mail;

impl Broker {
    /// Deals with every answer whose transaction came far enough, or will not come.
    pub(crate) fn release_due(&mut self, now: Now, out: &mut impl Effects) {
        let mut refused: Vec<(ShardId, Vec<MessageId>)> = Vec::new();
        while let Some((held, is_durable)) = self.held.next_due() {
            let only_asks = held.only_asks();
            let Held {
                to,
                answer,
                promise,
                refusal,
                ..
            } = held;
            let is_met = only_asks && self.is_so_all_the_same(to, answer);
            let refusal = refusal.filter(|_| !is_met);
            self.count_released(to, answer, is_durable);
            if let Some(why) = refusal {
                self.break_promise(promise, &mut refused, now, out);
                if let (Some(to), Some(answer)) = (to, answer)
                    && self.held_counts(Some(to)).is_some()
                {
                    self.refuse_answer(to.id, answer, why, now, out);
                }
            } else {
                self.fulfil_promise(&promise, now, out);
                if let (Some(to), Some(answer)) = (to, answer)
                    && self.held_counts(Some(to)).is_some()
                {
                    if self.is_in_use_again(to.id, answer) {
                        self.refuse_answer(to.id, answer, Refusal::Failed, now, out);
                    } else {
                        self.send_answer(to.id, answer, out);
                    }
                }
            }
            if let Some(to) = to {
                self.read_on(to, out);
            }
        }
        for (shard, ids) in refused {
            if shard == self.shard {
                self.unlogged(shard, &ids, now, out);
            } else {
                post(shard, Mail::Unlogged { ids }, out);
            }
        }
        self.moving.to_yield.append(&mut self.held.yields);
    }

    fn count_released(&mut self, to: Option<Recipient>, answer: Option<Answer>, is_durable: bool) {
        let finishes = u16::from(answer.is_some_and(Answer::finishes));
        self.count_held(to, |counts| {
            let count = if is_durable {
                &mut counts.durable
            } else {
                &mut counts.written
            };
            *count = count.saturating_sub(1);
            counts.unfinished = counts.unfinished.saturating_sub(finishes);
        });
    }

    fn fulfil_promise(&mut self, promise: &Promise, now: Now, out: &mut impl Effects) {
        for received in promise.received.into_iter().chain(promise.released) {
            if let Some(session) = self.sessions.received_by(received) {
                session.wait_for_store(false);
            }
        }
        if let Some((owner, stamp)) = promise.retained {
            self.tell_retained(owner, stamp, true, out);
        }
        if let Some(DelayedPromise::Waits(due, true)) = promise.delayed {
            self.tell_delayed(DelayedWord::Kept { due, is_kept: true }, now, out);
        }
    }

    fn break_promise(
        &mut self,
        promise: Promise,
        refused: &mut Vec<(ShardId, Vec<MessageId>)>,
        now: Now,
        out: &mut impl Effects,
    ) {
        if let Some(id) = promise.message {
            for shard in promise.owing.into_iter().chain([self.shard]) {
                match refused.iter_mut().find(|(known, _)| *known == shard) {
                    Some((_, ids)) => ids.push(id),
                    None => refused.push((shard, vec![id])),
                }
            }
        }
        // 5 [MQTT-4.3.3-9]: after a refusal the identifier is free.
        if let Some(received) = promise.received
            && let Some(session) = self.sessions.received_by(received)
        {
            session.wait_for_store(false);
            session.release_received(received.packet_id);
        }
        // On disk it is in use as before.
        if let Some(released) = promise.released
            && let Some(session) = self.sessions.received_by(released)
        {
            session.wait_for_store(false);
            if !session.has_received(released.packet_id) {
                session.receive(released.packet_id, true);
            }
        }
        if let Some((owner, stamp)) = promise.retained {
            self.tell_retained(owner, stamp, false, out);
        }
        match promise.delayed {
            Some(DelayedPromise::Waits(due, _)) => {
                let is_kept = false;
                self.tell_delayed(DelayedWord::Kept { due, is_kept }, now, out);
            }
            Some(DelayedPromise::Published(entry)) => self.delayed_not_published(entry, now),
            None => {}
        }
    }

    /// What is asked about is as the answer has it, whatever was refused of what it waited for.
    fn is_so_all_the_same(&self, to: Option<Recipient>, answer: Option<Answer>) -> bool {
        let Some((to, answer)) = to.zip(answer) else {
            return false;
        };
        let Answer::Repeat { packet_id } = answer else {
            return !self.is_in_use_again(to.id, answer);
        };
        let connection = self.connections.get(to.id);
        let session = connection.and_then(|connection| self.sessions.get(connection.session));
        session.is_some_and(|session| session.has_received(packet_id.value()))
    }

    /// An identifier was released, which the store did not take note of, and was asked about again meanwhile.
    pub(crate) fn is_in_use_again(&self, id: ConnectionId, answer: Answer) -> bool {
        let Answer::Release { packet_id, reason } = answer else {
            return false;
        };
        let connection = self.connections.get(id);
        let session = connection.and_then(|connection| self.sessions.get(connection.session));
        let is_found = |connection: &Connection| {
            connection.is_v5() && reason != ReasonCode::PacketIdentifierNotFound
        };
        !connection.is_some_and(is_found)
            && session.is_some_and(|session| session.has_received(packet_id.value()))
    }

    /// Sends an answer.
    pub(crate) fn send_answer(&mut self, id: ConnectionId, answer: Answer, out: &mut impl Effects) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let is_v5 = connection.is_v5();
        match answer {
            Answer::Publish {
                qos,
                packet_id,
                reason,
                why,
            } => {
                let mut buffer = PropertyBuffer::new();
                let why = why.text(&self.policies);
                // 5 [MQTT-3.1.2-29]
                if is_v5 && !why.is_empty() && connection.problem_information {
                    buffer.push(Property::ReasonString(&why));
                }
                // 3.1.1 [MQTT-3.3.5-2]: acknowledged as ever; the message went nowhere.
                let reason = if is_v5 { reason } else { ReasonCode::Success };
                let ack = Ack {
                    packet_id,
                    reason,
                    properties: buffer.as_properties(),
                };
                let packet = if qos == QoS::AtLeastOnce {
                    // 5 [MQTT-4.3.2-4], 3.1.1 [MQTT-4.3.2-2]
                    Packet::PubAck(ack)
                } else {
                    // 5 [MQTT-4.3.3-8], 3.1.1 [MQTT-4.3.3-2]
                    Packet::PubRec(ack)
                };
                self.send(id, &packet, out);
            }
            Answer::Repeat { packet_id } => {
                let session = self.sessions.get(connection.session);
                let is_kept =
                    session.is_some_and(|session| session.has_received(packet_id.value()));
                let reason = if is_kept || !is_v5 {
                    ReasonCode::Success
                } else {
                    // The first one was refused meanwhile.
                    ReasonCode::UnspecifiedError
                };
                self.send(id, &Packet::PubRec(Ack::new(packet_id, reason)), out);
            }
            Answer::Release { packet_id, reason } => {
                // 5 [MQTT-4.3.3-11], 3.1.1 [MQTT-4.3.3-2]
                self.send(id, &Packet::PubComp(Ack::new(packet_id, reason)), out);
            }
        }
    }

    /// Tells a client that what it asked for is not kept. 3.1.1 has no word for that but the end of the connection.
    #[cold]
    fn refuse_answer(
        &mut self,
        id: ConnectionId,
        answer: Answer,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.counters.answers_refused += 1;
        let is_v5 = self.connections.get(id).is_some_and(Connection::is_v5);
        let reason = why.reason();
        if !is_v5 {
            self.break_off(id, now, out);
            return;
        }
        let ack = |packet_id| Ack {
            packet_id,
            reason,
            properties: Properties::EMPTY,
        };
        match answer {
            Answer::Publish {
                qos: QoS::AtLeastOnce,
                packet_id,
                ..
            } => self.send(id, &Packet::PubAck(ack(packet_id)), out),
            Answer::Publish { packet_id, .. } | Answer::Repeat { packet_id } => {
                self.send(id, &Packet::PubRec(ack(packet_id)), out);
            }
            // PUBCOMP cannot say it: the client asks again on its next connection.
            Answer::Release { .. } => self.disconnect(id, reason, now, out),
        }
    }
}

impl Refusal {
    /// As MQTT 5 says it.
    pub(crate) fn reason(self) -> ReasonCode {
        match self {
            Self::Full => ReasonCode::QuotaExceeded,
            Self::Failed => ReasonCode::UnspecifiedError,
        }
    }
}
