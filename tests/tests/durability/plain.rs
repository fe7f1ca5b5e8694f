//! What the tests here share: a store whose bytes can be read, and clients whose sessions stay.

use waypost_mqtt::{
    Ack, Connect, Packet, Property, PropertyBuffer, ProtocolVersion, QoS, ReasonCode,
};
use waypost_tests::{RawClient, Received, Server, connect_packet};

/// Neither compressed nor encrypted.
pub const PLAIN: &str = "[store]\ncompress = \"identity\"\n";
/// Longer than any test.
const EXPIRY_S: u32 = 3_600;

/// Connects to a session of MQTT 5 that stays, new or not.
#[track_caller]
pub fn durable(server: &Server, client_id: &str) -> RawClient {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::SessionExpiryInterval(EXPIRY_S));
    let connect = Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect_packet(ProtocolVersion::V5, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

/// Takes so many messages and completes their exchanges, however their packets are mixed.
#[track_caller]
pub fn take(client: &mut RawClient, count: usize) -> Vec<Received> {
    let mut messages = Vec::new();
    let mut unreleased = 0;
    while messages.len() < count || unreleased > 0 {
        let received = client.receive();
        match received.packet() {
            Packet::Publish(publish) => {
                let ack = publish
                    .packet_id
                    .map(|packet_id| Ack::new(packet_id, ReasonCode::Success));
                match (publish.qos, ack) {
                    (QoS::AtLeastOnce, Some(ack)) => client.send(&Packet::PubAck(ack)),
                    (QoS::ExactlyOnce, Some(ack)) => {
                        client.send(&Packet::PubRec(ack));
                        unreleased += 1;
                    }
                    _ => {}
                }
                messages.push(received);
            }
            Packet::PubRel(ack) => {
                client.send(&Packet::PubComp(Ack::new(
                    ack.packet_id,
                    ReasonCode::Success,
                )));
                unreleased -= 1;
            }
            other => panic!("expected messages, got {other:?}"),
        }
    }
    messages
}
