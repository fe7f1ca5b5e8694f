//! From packets to bytes.

mod connect;
mod publish;

pub use publish::{PublishHead, encode_publish_head, publish_len};

use crate::header::{encode_variable_byte_integer, low_byte};
use crate::packet::{Ack, Auth, Disconnect, Packet, SubAck, Subscribe, UnsubAck, Unsubscribe};
use crate::property::{Properties, encode_text};
use crate::protocol::{PacketType, ProtocolVersion};
use crate::reason::ReasonCode;

/// Appends `packet` to `out` as `version` writes it. A CONNECT is written in its own version.
///
/// Versions 3.1 and 3.1.1 leave out what they cannot say: properties, reasons of acknowledgements,
/// Subscription Options but the QoS. Any failure in a SUBACK becomes 0x80. Nothing at all is written
/// for an AUTH, for a CONNACK whose reason has no return code (3.1.1 [MQTT-3.2.2-6]) and for a
/// DISCONNECT with another reason than 0x00, as only a client's normal one exists there.
///
/// Strings and binary data beyond 65,535 bytes are cut; the packet as a whole must not be longer
/// than [`crate::REMAINING_LENGTH_MAX`] allows.
pub fn encode(packet: &Packet<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let writer = Writer { version };
    match packet {
        Packet::Connect(connect) => connect::encode(connect, out),
        Packet::ConnAck(connack) => connect::encode_connack(connack, version, out),
        Packet::Publish(publish) => publish::encode(publish, version, out),
        Packet::PubAck(ack) => writer.ack(PacketType::PubAck, ack, out),
        Packet::PubRec(ack) => writer.ack(PacketType::PubRec, ack, out),
        Packet::PubRel(ack) => writer.ack(PacketType::PubRel, ack, out),
        Packet::PubComp(ack) => writer.ack(PacketType::PubComp, ack, out),
        Packet::Subscribe(subscribe) => writer.subscribe(subscribe, out),
        Packet::SubAck(suback) => writer.suback(suback, out),
        Packet::Unsubscribe(unsubscribe) => writer.unsubscribe(unsubscribe, out),
        Packet::UnsubAck(unsuback) => writer.unsuback(unsuback, out),
        Packet::PingReq => frame(PacketType::PingReq, 0, out, |_| {}),
        Packet::PingResp => frame(PacketType::PingResp, 0, out, |_| {}),
        Packet::Disconnect(disconnect) => writer.disconnect(disconnect, out),
        Packet::Auth(auth) => writer.auth(auth, out),
    }
}

/// Writes a packet of this type and these flags around what `contents` writes.
fn frame(packet: PacketType, flags: u8, out: &mut Vec<u8>, contents: impl FnOnce(&mut Vec<u8>)) {
    out.push((packet as u8) << 4 | flags);
    prefix_len(out, contents);
}

/// Writes the length of what `contents` writes as a Variable Byte Integer before it.
fn prefix_len(out: &mut Vec<u8>, contents: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(0);
    contents(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        if let Some(byte) = out.get_mut(start) {
            *byte = low_byte(len);
        }
    } else {
        let mut prefix = Vec::with_capacity(4);
        encode_variable_byte_integer(len, &mut prefix);
        out.splice(start..=start, prefix);
    }
}

/// Writes properties with their length; nothing in version 3.
fn encode_properties(properties: Properties<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    if version == ProtocolVersion::V5 {
        let bytes = properties.as_bytes();
        encode_variable_byte_integer(bytes.len(), out);
        out.extend_from_slice(bytes);
    }
}

/// Writes packets of a version that need no file of their own.
#[derive(Clone, Copy)]
struct Writer {
    version: ProtocolVersion,
}

impl Writer {
    fn is_v5(self) -> bool {
        self.version == ProtocolVersion::V5
    }

    fn ack(self, packet: PacketType, ack: &Ack<'_>, out: &mut Vec<u8>) {
        let flags = if packet == PacketType::PubRel {
            0b0010
        } else {
            0
        };
        frame(packet, flags, out, |out| {
            out.extend_from_slice(&ack.packet_id.value().to_be_bytes());
            self.reason_and_properties(ack.reason, ack.properties, out);
        });
    }

    /// The two as short as they can be said: 5 §3.4.2.1, §3.4.2.2.1, §3.14.2.1, §3.14.2.2.1.
    fn reason_and_properties(
        self,
        reason: ReasonCode,
        properties: Properties<'_>,
        out: &mut Vec<u8>,
    ) {
        if !self.is_v5() || (reason == ReasonCode::Success && properties.is_empty()) {
            return;
        }
        out.push(reason.as_u8());
        if !properties.is_empty() {
            encode_properties(properties, self.version, out);
        }
    }

    fn subscribe(self, subscribe: &Subscribe<'_>, out: &mut Vec<u8>) {
        frame(PacketType::Subscribe, 0b0010, out, |out| {
            out.extend_from_slice(&subscribe.packet_id.value().to_be_bytes());
            encode_properties(subscribe.properties, self.version, out);
            for request in subscribe.requests() {
                encode_text(request.filter.as_str(), out);
                out.push(if self.is_v5() {
                    request.options.as_u8()
                } else {
                    u8::from(request.options.qos)
                });
            }
        });
    }

    fn suback(self, suback: &SubAck<'_>, out: &mut Vec<u8>) {
        frame(PacketType::SubAck, 0, out, |out| {
            out.extend_from_slice(&suback.packet_id.value().to_be_bytes());
            encode_properties(suback.properties, self.version, out);
            for reason in suback.reasons.iter() {
                // 3.1.1 [MQTT-3.9.3-2]: there is but one failure.
                out.push(if reason.is_error() && !self.is_v5() {
                    ReasonCode::UnspecifiedError.as_u8()
                } else {
                    reason.as_u8()
                });
            }
        });
    }

    fn unsubscribe(self, unsubscribe: &Unsubscribe<'_>, out: &mut Vec<u8>) {
        frame(PacketType::Unsubscribe, 0b0010, out, |out| {
            out.extend_from_slice(&unsubscribe.packet_id.value().to_be_bytes());
            encode_properties(unsubscribe.properties, self.version, out);
            for filter in unsubscribe.filters() {
                encode_text(filter.as_str(), out);
            }
        });
    }

    fn unsuback(self, unsuback: &UnsubAck<'_>, out: &mut Vec<u8>) {
        frame(PacketType::UnsubAck, 0, out, |out| {
            out.extend_from_slice(&unsuback.packet_id.value().to_be_bytes());
            encode_properties(unsuback.properties, self.version, out);
            if self.is_v5() {
                out.extend(unsuback.reasons.iter().map(ReasonCode::as_u8));
            }
        });
    }

    fn disconnect(self, disconnect: &Disconnect<'_>, out: &mut Vec<u8>) {
        if !self.is_v5() && disconnect.reason != ReasonCode::NORMAL_DISCONNECTION {
            return;
        }
        frame(PacketType::Disconnect, 0, out, |out| {
            self.reason_and_properties(disconnect.reason, disconnect.properties, out);
        });
    }

    fn auth(self, auth: &Auth<'_>, out: &mut Vec<u8>) {
        if !self.is_v5() {
            return;
        }
        frame(PacketType::Auth, 0, out, |out| {
            // 5 §3.15.2.1: both can be left out, but not the properties alone.
            if auth.reason != ReasonCode::Success || !auth.properties.is_empty() {
                out.push(auth.reason.as_u8());
                encode_properties(auth.properties, self.version, out);
            }
        });
    }
}
