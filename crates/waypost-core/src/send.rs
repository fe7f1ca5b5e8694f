//! Packets other than PUBLISH on their way out.

use waypost_mqtt::{
    Ack, ConnAck, Disconnect, Packet, Properties, ReasonCode, SubAck, UnsubAck, encode,
};

use crate::broker::Broker;
use crate::effects::{ConnectionId, Effects};

impl Broker {
    /// Sends a packet, unless it is larger than the client takes.
    pub(crate) fn send(&mut self, id: ConnectionId, packet: &Packet<'_>, out: &mut impl Effects) {
        let Some(connection) = self.connections.get(id) else {
            return;
        };
        if connection.packet_bytes_max == u32::MAX || self.takes(id, packet) {
            out.send(id, packet);
            return;
        }
        // 5 [MQTT-3.4.2-2] and its like: without Reason String and User Properties.
        match without_properties(packet) {
            Some(bare) if self.takes(id, &bare) => out.send(id, &bare),
            // 5 [MQTT-3.1.2-25]: as though it had been sent.
            _ => self.counters.packets_too_large += 1,
        }
    }

    /// 5 [MQTT-3.1.2-24]: whether a packet is within the client's Maximum Packet Size.
    pub(crate) fn takes(&mut self, id: ConnectionId, packet: &Packet<'_>) -> bool {
        self.connections.get(id).is_some_and(|connection| {
            let bytes = &mut self.scratch.packet;
            bytes.clear();
            encode(packet, connection.version, bytes);
            bytes.len() <= connection.packet_bytes_max as usize
        })
    }
}

/// The packet without properties, where none of them is needed to understand it.
fn without_properties<'a>(packet: &Packet<'a>) -> Option<Packet<'a>> {
    let properties = Properties::EMPTY;
    Some(match *packet {
        Packet::ConnAck(ConnAck {
            session_present,
            reason,
            ..
        }) if reason != ReasonCode::Success => Packet::ConnAck(ConnAck {
            session_present,
            reason,
            properties,
        }),
        Packet::PubAck(ack) => Packet::PubAck(Ack { properties, ..ack }),
        Packet::PubRec(ack) => Packet::PubRec(Ack { properties, ..ack }),
        Packet::PubRel(ack) => Packet::PubRel(Ack { properties, ..ack }),
        Packet::PubComp(ack) => Packet::PubComp(Ack { properties, ..ack }),
        Packet::SubAck(ack) => Packet::SubAck(SubAck { properties, ..ack }),
        Packet::UnsubAck(ack) => Packet::UnsubAck(UnsubAck { properties, ..ack }),
        Packet::Disconnect(disconnect) => Packet::Disconnect(Disconnect {
            properties,
            ..disconnect
        }),
        _ => return None,
    })
}
