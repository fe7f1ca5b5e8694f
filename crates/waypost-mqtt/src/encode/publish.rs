//! PUBLISH on its way to many receivers.

use crate::header::{encode_variable_byte_integer, variable_byte_integer_len};
use crate::packet::Publish;
use crate::property::table::id;
use crate::protocol::{PacketId, ProtocolVersion, QoS};

pub(super) fn encode(publish: &Publish<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let head = PublishHead {
        version,
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        topic: publish.topic,
        packet_id: publish.packet_id.map_or(0, PacketId::value),
        topic_alias: None,
        message_expiry_interval: None,
        subscription_identifiers: &[],
        // All of them go as they are, those that belong to the hop too.
        properties: publish.properties.as_bytes(),
        payload_len: publish.payload.len(),
    };
    out.reserve(publish_len(&head));
    encode_publish_head(&head, out);
    out.extend_from_slice(publish.payload);
}

/// Everything of a PUBLISH that goes before its payload.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// The version to write.
    pub version: ProtocolVersion,
    /// DUP.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty when `topic_alias` stands for it.
    pub topic: &'a str,
    /// Packet Identifier; not written at QoS 0. A 0 may be written to be patched.
    pub packet_id: u16,
    /// Topic Alias.
    pub topic_alias: Option<u16>,
    /// Message Expiry Interval in seconds.
    pub message_expiry_interval: Option<u32>,
    /// Subscription Identifiers.
    pub subscription_identifiers: &'a [u32],
    /// The other properties, as [`crate::Properties::forwardable`] gives them.
    pub properties: &'a [u8],
    /// Bytes of the payload that will follow.
    pub payload_len: usize,
}

impl PublishHead<'_> {
    /// Bytes of all properties, without the length before them.
    #[inline]
    fn properties_len(&self) -> usize {
        let identifiers: usize = self
            .subscription_identifiers
            .iter()
            .map(|&identifier| 1 + variable_byte_integer_len(identifier as usize))
            .sum();
        self.properties.len()
            + identifiers
            + if self.topic_alias.is_some() { 3 } else { 0 }
            + if self.message_expiry_interval.is_some() {
                5
            } else {
                0
            }
    }

    /// Bytes of the properties with their length; the Remaining Length.
    #[inline]
    fn lengths(&self) -> (usize, usize) {
        let packet_id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let plain = 2 + self.topic.len() + packet_id + self.payload_len;
        if self.version < ProtocolVersion::V5 {
            return (0, plain);
        }
        let properties = self.properties_len();
        (
            properties,
            plain + variable_byte_integer_len(properties) + properties,
        )
    }
}

/// Bytes of the whole packet, payload included.
#[inline]
pub fn publish_len(head: &PublishHead<'_>) -> usize {
    let (_, remaining) = head.lengths();
    1 + variable_byte_integer_len(remaining) + remaining
}

/// Appends everything before the payload to `out`; returns where in `out` the Packet Identifier
/// is, 0 at QoS 0.
#[inline]
pub fn encode_publish_head(head: &PublishHead<'_>, out: &mut Vec<u8>) -> usize {
    let (properties, remaining) = head.lengths();
    out.push(0x30 | u8::from(head.dup) << 3 | u8::from(head.qos) << 1 | u8::from(head.retain));
    encode_variable_byte_integer(remaining, out);
    let [.., high, low] = head.topic.len().to_be_bytes();
    out.extend_from_slice(&[high, low]);
    out.extend_from_slice(head.topic.as_bytes());
    let packet_id_at = if head.qos == QoS::AtMostOnce {
        0
    } else {
        let at = out.len();
        out.extend_from_slice(&head.packet_id.to_be_bytes());
        at
    };
    if head.version == ProtocolVersion::V5 {
        encode_variable_byte_integer(properties, out);
        if properties > 0 {
            encode_properties(head, out);
        }
    }
    packet_id_at
}

fn encode_properties(head: &PublishHead<'_>, out: &mut Vec<u8>) {
    if let Some(alias) = head.topic_alias {
        out.push(id::TOPIC_ALIAS);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    if let Some(seconds) = head.message_expiry_interval {
        out.push(id::MESSAGE_EXPIRY_INTERVAL);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for &identifier in head.subscription_identifiers {
        out.push(id::SUBSCRIPTION_IDENTIFIER);
        encode_variable_byte_integer(identifier as usize, out);
    }
    out.extend_from_slice(head.properties);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_as_bytes() {
        let mut head = PublishHead {
            version: ProtocolVersion::V5,
            dup: true,
            qos: QoS::AtLeastOnce,
            retain: true,
            topic: "a/b",
            packet_id: 0x0102,
            topic_alias: Some(3),
            message_expiry_interval: Some(60),
            subscription_identifiers: &[1, 200],
            properties: &[0x01, 0x01],
            payload_len: 300,
        };
        let mut out = vec![0xFF];
        assert_eq!(encode_publish_head(&head, &mut out), 9);
        let expected = [
            &[0xFF, 0x3B, 0xC3, 0x02, 0, 3, b'a', b'/', b'b', 1, 2, 15][..],
            &[0x23, 0, 3],
            &[0x02, 0, 0, 0, 60],
            &[0x0B, 1, 0x0B, 0xC8, 0x01],
            &[0x01, 0x01],
        ];
        assert_eq!(out, expected.concat());
        assert_eq!(publish_len(&head), out.len() - 1 + 300);

        head.version = ProtocolVersion::V311;
        head.qos = QoS::AtMostOnce;
        head.dup = false;
        out.clear();
        assert_eq!(encode_publish_head(&head, &mut out), 0);
        assert_eq!(out, [0x31, 0xB1, 0x02, 0, 3, b'a', b'/', b'b']);
    }
}
