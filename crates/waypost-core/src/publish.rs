//! PUBLISH from clients: checks, aliases, acknowledgement, and on to everybody.

use std::sync::Arc;

use waypost_mqtt::{Ack, Properties, Publish, QoS, ReasonCode};

use crate::alias::AliasesIn;
use crate::broker::Broker;
use crate::connection::Connection;
use crate::delayed::{Asked, asked, forward_without_delay};
use crate::effects::{ConnectionId, Effects, Frame, Message, Now, Payload};
use crate::events::Event;
use crate::held::{Answer, Promise, Wait};
use crate::journal::{Table, Until};
use crate::keep::By;
use crate::mail::Origin;
use crate::permit::{Action, Verdict};
use crate::rows::packet_key;
use crate::seal::Why;
use crate::session::{ReceivedId, Session};
use crate::topics::{has_reserved_property, is_server_topic, levels_exceed};

/// What becomes of a PUBLISH that breaks no rule of the protocol.
enum Decision {
    Accept,
    Refuse(ReasonCode, Why),
    Park,
}

impl Broker {
    pub(crate) fn handle_publish(
        &mut self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.counters.publishes_received += 1;
        match publish.properties.topic_alias() {
            None if publish.topic.is_empty() => self.protocol_error(id, now, out),
            None => self.publish_on(id, slot, publish, publish.topic, frame, now, out),
            Some(alias) => {
                // The table leaves its connection while the topic is borrowed from it.
                let Some(connection) = self.connections.get_mut(id) else {
                    return;
                };
                // 5 [MQTT-3.3.2-12], [MQTT-3.3.2-8]: 1 up to the maximum in CONNACK.
                if alias == 0 || alias > self.limits.topic_alias_max {
                    self.disconnect(id, ReasonCode::TopicAliasInvalid, now, out);
                    return;
                }
                let mut aliases: Box<AliasesIn> = connection.aliases_in.take().unwrap_or_default();
                if !publish.topic.is_empty() {
                    aliases.teach(alias, publish.topic);
                }
                if let Some(topic) = aliases.topic(alias) {
                    self.publish_on(id, slot, publish, topic, frame, now, out);
                } else {
                    // 5 §3.3.2.3.4: an alias that stands for nothing yet.
                    self.protocol_error(id, now, out);
                }
                if let Some(connection) = self.connections.get_mut(id) {
                    connection.aliases_in = Some(aliases);
                }
            }
        }
    }

    /// Goes on with the topic known.
    #[expect(
        clippy::too_many_arguments,
        reason = "the packet, its topic and where it came from"
    )]
    fn publish_on(
        &mut self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        topic: &str,
        frame: Frame<'_>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        let is_v5 = connection.is_v5();
        if let (QoS::ExactlyOnce, Some(packet_id)) = (publish.qos, publish.packet_id) {
            let Some(session) = self.sessions.get_mut(slot) else {
                return;
            };
            // 5 [MQTT-4.3.3-10], 3.1.1 [MQTT-4.3.3-2]: a repeat gets PUBREC again and goes nowhere.
            if session.has_received_before(packet_id.value(), publish.payload) {
                self.counters.publishes_repeated += 1;
                let is_unsure = session.unstored() > 0;
                self.answer_repeat(id, packet_id, is_unsure, out);
                return;
            }
        }
        if publish.qos != QoS::AtMostOnce {
            let held = usize::from(self.held.counts.get(connection.held).unfinished);
            let received = self.sessions.get(slot).map_or(0, Session::received_count);
            // One at QoS 1 is finished at once, unless others wait before it.
            let is_counted = publish.qos == QoS::ExactlyOnce || held > 0;
            let unfinished = if is_counted { received + held } else { 0 };
            // 5 §3.3.4: more than Receive Maximum. 3.1.1 has none: its identifiers are the bound.
            if is_v5 && unfinished >= usize::from(self.limits.receive_maximum) {
                self.counters.receive_maximum_exceeded += 1;
                self.disconnect(id, ReasonCode::ReceiveMaximumExceeded, now, out);
                return;
            }
        }
        let publisher = self
            .sessions
            .get(slot)
            .map_or(0, |session| session.publisher);
        let asked = match asked(topic, publish.properties) {
            Ok(asked) => asked,
            Err((reason, why)) => {
                self.counters.delayed_invalid += 1;
                self.refuse_publish(id, slot, publish, reason, why.into(), now, out);
                return;
            }
        };
        let topic = asked.map_or(topic, |asked| asked.topic);
        let asked_to_wait = asked.filter(Asked::waits);
        match self.decide(id, slot, publish, topic, asked_to_wait.as_ref()) {
            Decision::Accept => {
                let mut properties = std::mem::take(&mut self.scratch.properties);
                properties.clear();
                let whole = publish.properties.forwardable();
                let forwarded = whole.filter(|_| asked.is_none()).unwrap_or_else(|| {
                    if asked.is_none() {
                        publish.properties.forward_into(&mut properties);
                    } else {
                        forward_without_delay(publish.properties, &mut properties);
                    }
                    &properties
                });
                let message = Message {
                    topic,
                    payload: Payload {
                        bytes: publish.payload,
                        shared: frame.shared,
                    },
                    properties: forwarded,
                    expiry_s: publish.properties.message_expiry_interval(),
                    verbatim: (!is_v5
                        && publish.qos == QoS::AtMostOnce
                        && !publish.retain
                        && asked.is_none())
                    .then_some(frame.bytes),
                };
                let origin = Origin {
                    qos: publish.qos,
                    retain: publish.retain,
                    publisher,
                    stamp: 0,
                    connection: Some(id),
                    kept: None,
                    is_again: false,
                };
                let by = publish
                    .packet_id
                    .map_or(By::Client, |packet_id| By::Waiting {
                        id,
                        slot,
                        packet_id,
                        is_v5,
                    });
                self.count_acknowledged(publish.qos);
                out.published(id, &message);
                if let Some(asked) = &asked_to_wait {
                    self.accept_delayed(slot, asked, &message, origin, by, now, out);
                } else {
                    self.route(&message, origin, by, now, out);
                }
                self.scratch.properties = properties;
            }
            Decision::Refuse(reason, why) => {
                self.refuse_publish(id, slot, publish, reason, why, now, out);
            }
            Decision::Park => self.park_for_permit(id, frame, Vec::new(), out),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the packet, and what is wrong with it"
    )]
    #[cold]
    fn refuse_publish(
        &mut self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        reason: ReasonCode,
        why: Why,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.announce_denied(slot, id, reason, why, now, out);
        if let Some(packet_id) = publish.packet_id {
            self.count_acknowledged(publish.qos);
            let answer = Answer::Publish {
                qos: publish.qos,
                packet_id,
                reason,
                why,
            };
            // 5 [MQTT-4.3.3-9]: after a refusal the identifier is free.
            self.answer_when(id, answer, Wait::Nothing, Promise::default(), out);
        }
    }

    fn count_acknowledged(&mut self, qos: QoS) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.counters.publishes_received_qos1 += 1,
            QoS::ExactlyOnce => self.counters.publishes_received_qos2 += 1,
        }
    }

    fn decide(
        &mut self,
        id: ConnectionId,
        slot: u32,
        publish: &Publish<'_>,
        topic: &str,
        asked: Option<&Asked<'_>>,
    ) -> Decision {
        if is_server_topic(topic) {
            self.counters.publishes_denied += 1;
            return Decision::Refuse(
                ReasonCode::NotAuthorized,
                "the topic is the server's".into(),
            );
        }
        if levels_exceed(topic, self.limits.topic_levels_max) {
            self.counters.topic_levels_exceeded += 1;
            return Decision::Refuse(ReasonCode::TopicNameInvalid, "too many levels".into());
        }
        if !publish.properties.is_empty() {
            if has_reserved_property(publish.properties) {
                self.counters.publishes_reserved_property += 1;
                let why = "a user property that only the server gives";
                return Decision::Refuse(ReasonCode::ImplementationSpecificError, why.into());
            }
            if self.too_many_user_properties(publish.properties) {
                return Decision::Refuse(
                    ReasonCode::QuotaExceeded,
                    "too many user properties".into(),
                );
            }
        }
        let action = if publish.retain {
            Action::PublishRetained
        } else {
            Action::Publish
        };
        match self.ask(id, slot, action, topic) {
            Verdict::Allow => {
                if let Some((reason, why)) = self.refuses_seal_of(id, topic, publish) {
                    return Decision::Refuse(reason, why);
                }
                let refused = asked.and_then(|asked| self.refuses_delayed(asked, publish.payload));
                refused.map_or(Decision::Accept, |(reason, why)| {
                    Decision::Refuse(reason, why.into())
                })
            }
            Verdict::Deny => {
                self.counters.publishes_denied += 1;
                Decision::Refuse(ReasonCode::NotAuthorized, "not permitted".into())
            }
            Verdict::Pending => Decision::Park,
        }
    }

    /// The publisher releases a `QoS` 2 message. That is kept before PUBCOMP goes: else the identifier, used again, would
    /// be taken for a repeat.
    pub(crate) fn handle_pubrel(
        &mut self,
        id: ConnectionId,
        slot: u32,
        ack: &Ack<'_>,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let packet_id = ack.packet_id.value();
        let released = session.release_received(packet_id);
        let number = session.number();
        let is_v5 = self.connections.get(id).is_some_and(Connection::is_v5);
        let reason = if released.is_some() || !is_v5 {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let mut promise = Promise::default();
        let mut wait = Wait::Nothing;
        if number.is_some() && released.is_none() {
            // It may be released and on disk in use: that has to come to an end first.
            let packet_id = ack.packet_id;
            self.answer_after_all(id, Answer::Release { packet_id, reason }, out);
            return;
        }
        if let Some(queue) = number.filter(|_| released == Some(true)) {
            let key = packet_key(queue, packet_id);
            out.journal().delete(Table::RECEIVED, &key);
            wait = Wait::For(self.end(Until::Durable, out), Until::Durable);
            // Till then the session stays here, where it is known what becomes of it.
            if let Some(session) = self.sessions.get_mut(slot) {
                session.wait_for_store(true);
            }
            promise.released = Some(ReceivedId {
                slot,
                era: self.sessions.received_era(slot),
                packet_id,
            });
        }
        let packet_id = ack.packet_id;
        let answer = Answer::Release { packet_id, reason };
        self.answer_when(id, answer, wait, promise, out);
    }

    /// Whether a packet has more User Properties than it may, and counts it.
    pub(crate) fn too_many_user_properties(&mut self, properties: Properties<'_>) -> bool {
        // A User Property takes at least five bytes.
        let max = self.limits.user_properties_max;
        let exceeded =
            properties.as_bytes().len() / 5 > max && properties.user_properties().count() > max;
        self.counters.user_properties_exceeded += u64::from(exceeded);
        exceeded
    }

    fn announce_denied(
        &mut self,
        slot: u32,
        id: ConnectionId,
        reason: ReasonCode,
        why: Why,
        now: Now,
        out: &mut impl Effects,
    ) {
        let peer = self
            .connections
            .get(id)
            .and_then(|connection| connection.peer);
        let policies = Arc::clone(&self.policies);
        let text = why.text(&policies);
        self.announce(Event::Denied(&text), slot, peer, reason, now, out);
    }
}
