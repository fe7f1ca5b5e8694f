//! A client that reads, acknowledges all it gets, and knows from where it is.

use waypost_mqtt::{Packet, PacketId, Property, QoS, Role, decode};

use crate::tests::world::{Client, World};

/// A message of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::tests) struct Got {
    pub topic: String,
    pub payload: String,
    pub qos: u8,
    pub dup: bool,
    /// `None`: it is live, or the client cannot be told.
    pub offset: Option<u64>,
    pub stream: Option<String>,
}

impl Got {
    pub fn number(&self) -> u64 {
        self.payload.parse().unwrap()
    }
}

/// Where they are from.
pub(in crate::tests) fn offsets(got: &[Got]) -> Vec<u64> {
    got.iter().map(|got| got.offset.unwrap()).collect()
}

/// Takes what came, without a word.
pub(in crate::tests) fn take(world: &mut World, client: Client) -> Vec<(Got, u16)> {
    let version = world.version(client);
    let mut all = Vec::new();
    for bytes in world.take_bytes(client) {
        let packet = decode(&bytes, version, Role::Server).unwrap();
        if let Packet::Publish(publish) = packet {
            let named = |wanted: &str| {
                let mut properties = publish.properties.iter();
                properties.find_map(|property| match property {
                    Property::UserProperty(name, value) if name == wanted => Some(value.to_owned()),
                    _ => None,
                })
            };
            let got = Got {
                topic: publish.topic.into(),
                payload: String::from_utf8(publish.payload.into()).unwrap(),
                qos: publish.qos.into(),
                dup: publish.dup,
                offset: named("waypost-offset").map(|offset| offset.parse().unwrap()),
                stream: named("waypost-stream"),
            };
            all.push((got, publish.packet_id.map_or(0, PacketId::value)));
        } else if let Packet::PubRel(ack) = packet {
            world.ack(client, "PUBCOMP", ack.packet_id.value());
        }
    }
    all
}

/// Acknowledges a message.
pub(in crate::tests) fn acknowledge(world: &mut World, client: Client, got: &Got, packet_id: u16) {
    match QoS::try_from(got.qos).unwrap() {
        QoS::AtMostOnce => {}
        QoS::AtLeastOnce => world.ack(client, "PUBACK", packet_id),
        QoS::ExactlyOnce => world.ack(client, "PUBREC", packet_id),
    }
}

/// Reads until nothing more comes, acknowledging all of it.
pub(in crate::tests) fn read(world: &mut World, client: Client) -> Vec<Got> {
    let mut all = Vec::new();
    world.settle();
    loop {
        let came = take(world, client);
        if came.is_empty() {
            world.settle();
            let rest = take(world, client);
            if rest.is_empty() {
                return all;
            }
            for (got, packet_id) in rest {
                acknowledge(world, client, &got, packet_id);
                all.push(got);
            }
            continue;
        }
        for (got, packet_id) in came {
            acknowledge(world, client, &got, packet_id);
            all.push(got);
        }
    }
}

/// Reads and acknowledges until it has so many, or no more come.
pub(in crate::tests) fn acknowledged(world: &mut World, client: Client, count: usize) -> Vec<Got> {
    let mut all = Vec::new();
    loop {
        let came = take(world, client);
        if came.is_empty() {
            return all;
        }
        for (got, packet_id) in came {
            if all.len() < count {
                acknowledge(world, client, &got, packet_id);
            } else if got.qos != 0 {
                // It is left unacknowledged, and will come again.
                continue;
            }
            all.push(got);
        }
    }
}
