//! What clients see, and what the test makes of it.

use waypost_mqtt::{Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Role, decode};

use super::{Answer, PLAIN, Play};
use crate::tests::group_promises::ledger::Sent;
use crate::tests::world::Client;

const PLAIN_IDENTIFIER: u32 = PLAIN.1;

impl Play {
    /// Everybody looks at what came, in the order in which it was sent.
    pub fn read_all(&mut self) {
        while let Some(wire) = self.world.arrivals.pop_front() {
            let Some(bytes) = self.world.take_one(wire) else {
                continue;
            };
            if wire == self.watcher {
                self.read_event(&bytes);
            } else if wire == self.bystander {
                self.read_bystander(&bytes);
            } else if let Some((at, session, version)) = self.wires.get(&wire).copied() {
                let packet = decode(&bytes, version, Role::Server).unwrap();
                self.read_packet(at, session, wire, version, &packet);
            }
        }
        for at in 0..self.subjects.len() {
            let is_closed = |wire: Client| self.world.is_closed(wire);
            if self.subjects[at].wire.is_some_and(is_closed) {
                // While mail is under way an older connection may come later, and win.
                self.must(if self.flavour.is_storm {
                    Ok(())
                } else {
                    Err(format!("the broker closed {at}"))
                });
                self.leave_wire(at);
            }
        }
    }

    fn read_packet(
        &mut self,
        at: usize,
        session: u32,
        wire: Client,
        version: ProtocolVersion,
        packet: &Packet<'_>,
    ) {
        let is_current = self.subjects[at].wire == Some(wire);
        match packet {
            Packet::Publish(publish) => {
                let packet_id = publish.packet_id.map_or(0, PacketId::value);
                let number: usize = std::str::from_utf8(publish.payload)
                    .unwrap()
                    .parse()
                    .unwrap();
                let mut identifiers = publish.properties.subscription_identifiers();
                let subject = &mut self.subjects[at];
                let found = identifiers.next();
                let checked = if identifiers.next().is_some() {
                    Err(format!("{at} gets two subscriptions in one: {publish:?}"))
                } else {
                    Ok(())
                };
                let group = match found {
                    Some(PLAIN_IDENTIFIER) => None,
                    Some(found) => Some(found as usize - 1),
                    None => subject.only,
                };
                let qos = u8::from(publish.qos);
                let is_known =
                    is_current && qos > 0 && subject.unfinished.insert(packet_id, qos).is_some();
                self.must(checked);
                self.must(if is_known {
                    Err(format!("{at}: {packet_id} is in use"))
                } else {
                    Ok(())
                });
                if is_current && qos > 0 {
                    let kind = if qos == 1 { "PUBACK" } else { "PUBREC" };
                    self.subjects[at].owed.push_back(Answer {
                        kind,
                        packet_id,
                        about: group.map(|group| (group, number)),
                    });
                }
                if let Some(group) = group {
                    let sent = Sent {
                        subject: at,
                        session,
                        wire,
                        qos,
                        packet_id,
                        dup: publish.dup,
                    };
                    self.note(format!("   {at} gets {number} of {group}: {sent:?}"));
                    let world = &self.world;
                    let checked = self
                        .ledger
                        .sent(group, number, sent, |wire| !world.is_closed(wire));
                    self.must(checked);
                    self.history.push((at, group, number));
                } else {
                    let received = &mut self.subjects[at].plain_received;
                    if !(publish.dup && received.contains(&(number, qos))) {
                        received.push((number, qos));
                    }
                }
            }
            Packet::PubRel(ack) if is_current => {
                let packet_id = ack.packet_id.value();
                self.subjects[at].unfinished.insert(packet_id, 3);
                self.subjects[at].owed.push_back(Answer {
                    kind: "PUBCOMP",
                    packet_id,
                    about: None,
                });
            }
            Packet::ConnAck(ack) => {
                if !ack.session_present {
                    self.subjects[at].session += 1;
                }
                let session = self.subjects[at].session;
                self.wires.insert(wire, (at, session, version));
            }
            Packet::SubAck(ack) => {
                let is_refused = ack.reasons.iter().any(ReasonCode::is_error);
                self.must(if is_refused {
                    Err(format!("{at}: {ack:?}"))
                } else {
                    Ok(())
                });
            }
            _ => {}
        }
    }

    fn read_bystander(&mut self, bytes: &[u8]) {
        let answer = match decode(bytes, ProtocolVersion::V5, Role::Server).unwrap() {
            Packet::Publish(publish) => {
                let number = std::str::from_utf8(publish.payload).unwrap();
                self.bystander_received.push(number.parse().unwrap());
                let kind = if publish.qos == QoS::AtLeastOnce {
                    "PUBACK"
                } else {
                    "PUBREC"
                };
                publish.packet_id.map(|id| (kind, id))
            }
            Packet::PubRel(ack) => Some(("PUBCOMP", ack.packet_id)),
            _ => None,
        };
        if let Some((kind, id)) = answer {
            self.world.ack(self.bystander, kind, id.value());
        }
    }

    fn read_event(&mut self, bytes: &[u8]) {
        if let Packet::Publish(publish) = decode(bytes, ProtocolVersion::V5, Role::Server).unwrap()
        {
            if let Some(id) = publish.packet_id {
                self.world.ack(self.watcher, "PUBACK", id.value());
            }
            let json = std::str::from_utf8(publish.payload).unwrap();
            self.note(format!("   told: {json}"));
            let checked = self.ledger.told(
                text(json, "group"),
                text(json, "filter"),
                text(json, "topic"),
                text(json, "reason"),
            );
            self.must(checked);
        }
    }
}

/// A text in an event.
fn text<'a>(json: &'a str, name: &str) -> &'a str {
    let start = format!("\"{name}\":\"");
    json.split_once(&start)
        .and_then(|(_, rest)| rest.split_once('"'))
        .map_or("", |(text, _)| text)
}
