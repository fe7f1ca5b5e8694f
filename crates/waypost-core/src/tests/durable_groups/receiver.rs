//! A client that keeps its side of both handshakes, as MQTT wants it, whatever happens to the server.

use std::collections::{BTreeSet, VecDeque};

use waypost_mqtt::{Packet, PacketId, ProtocolVersion, QoS, ReasonCode, Role, decode};

use crate::tests::world::{Client, World};

/// A message that came: its number, the identifier of the subscription it came by, at which `QoS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tests) struct Arrival {
    pub number: usize,
    pub subscription: u32,
    pub qos: u8,
}

#[derive(Default)]
pub(in crate::tests) struct Receiver {
    pub wire: Option<Client>,
    /// `QoS` 2 identifiers taken over and not released: these outlive everything but the session.
    taken_over: BTreeSet<u16>,
    /// What it said it has, whether the server heard it or not.
    pub accepted: BTreeSet<usize>,
    /// What it refused, as often as it did: the server may not have heard it, and a crash may let it forget.
    pub refused: Vec<usize>,
    /// Acknowledgements not sent yet, and what they are for.
    owed: VecDeque<(&'static str, u16, Option<Arrival>)>,
}

impl Receiver {
    /// It has this connection now.
    pub fn came(&mut self, wire: Client) {
        self.wire = Some(wire);
        self.owed.clear();
    }

    /// Its session is another.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    pub fn is_idle(&self) -> bool {
        self.owed.is_empty()
    }

    /// Looks at everything that came. Returns messages that it did not have, as far as it can know.
    pub fn read(&mut self, world: &mut World) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        let Some(wire) = self.wire else {
            return arrivals;
        };
        for bytes in world.take_bytes(wire) {
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, PacketId::value);
                    let text = std::str::from_utf8(publish.payload).unwrap();
                    let mut identifiers = publish.properties.subscription_identifiers();
                    let arrival = Arrival {
                        number: text.parse().unwrap(),
                        subscription: identifiers.next().unwrap_or_default(),
                        qos: publish.qos.into(),
                    };
                    if publish.qos == QoS::ExactlyOnce {
                        self.owed.push_back(("PUBREC", id, Some(arrival)));
                        if !self.taken_over.insert(id) {
                            assert!(publish.dup, "{id} is used again");
                            continue;
                        }
                    } else {
                        self.owed.push_back(("PUBACK", id, Some(arrival)));
                    }
                    arrivals.push(arrival);
                }
                Packet::PubRel(ack) => {
                    let id = ack.packet_id.value();
                    self.taken_over.remove(&id);
                    self.owed.push_back(("PUBCOMP", id, None));
                }
                _ => {}
            }
        }
        arrivals
    }

    /// Sends the first acknowledgement it owes. `false`: there is none, or nobody to send it to.
    pub fn acknowledge(&mut self, world: &mut World) -> bool {
        let is_open = |wire: &Client| !world.is_closed(*wire) && !world.is_parked(*wire);
        let Some(wire) = self.wire.filter(is_open) else {
            return false;
        };
        let Some((kind, id, arrival)) = self.owed.pop_front() else {
            return false;
        };
        self.accepted.extend(arrival.map(|arrival| arrival.number));
        world.ack(wire, kind, id);
        true
    }

    /// Refuses the message whose acknowledgement comes next, if that is what comes next.
    pub fn refuse(&mut self, world: &mut World) -> bool {
        let is_open = |wire: &Client| !world.is_closed(*wire) && !world.is_parked(*wire);
        let Some(wire) = self.wire.filter(is_open) else {
            return false;
        };
        let is_refusable = |(kind, ..): &mut (&str, u16, Option<Arrival>)| *kind != "PUBCOMP";
        let Some((kind, id, arrival)) = self.owed.pop_front_if(is_refusable) else {
            return false;
        };
        self.taken_over.remove(&id);
        self.refused.extend(arrival.map(|arrival| arrival.number));
        world.ack_with(wire, kind, id, ReasonCode::ImplementationSpecificError);
        true
    }
}
