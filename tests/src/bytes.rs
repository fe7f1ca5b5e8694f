//! Packets of MQTT 5 put together byte by byte, well formed or not, for tests of what a server refuses.
//!
//! Deliberately not here: what `waypost_mqtt::encode` does; it cannot write a wrong packet.

use crate::with_fixed_header;

/// A string or binary data, well formed or not, with its length before it.
pub fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u16::try_from(bytes.len()).expect("at most 65,535 bytes");
    [&length.to_be_bytes(), bytes].concat()
}

/// Property bytes with the Property Length before them.
pub fn listed(properties: &[u8]) -> Vec<u8> {
    let mut bytes = with_fixed_header(0, properties);
    bytes.remove(0);
    bytes
}

/// A CONNECT of version 5 with Keep Alive 60, its flags, property bytes and payload fields as given.
pub fn connect_bytes(flags: u8, properties: &[u8], fields: &[Vec<u8>]) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x05".to_vec();
    body.push(flags);
    body.extend([0, 60]);
    body.extend(listed(properties));
    body.extend(fields.concat());
    with_fixed_header(0x10, &body)
}

/// CONNECT flags: Clean Start.
pub const CLEAN: u8 = 0x02;
/// CONNECT flags: Clean Start and a Will, QoS 0.
pub const WITH_WILL: u8 = 0x06;

/// A CONNECT whose Will has these property bytes.
pub fn connect_will_bytes(will_properties: &[u8]) -> Vec<u8> {
    let fields = [
        text("w"),
        listed(will_properties),
        text("will"),
        text("gone"),
    ];
    connect_bytes(WITH_WILL, &[], &fields)
}

/// A PUBLISH with this first byte, its topic and property bytes as given, and the payload `x`.
pub fn publish_bytes(
    first_byte: u8,
    topic: &[u8],
    packet_id: Option<u16>,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(packet_id.into_iter().flat_map(u16::to_be_bytes));
    body.extend(listed(properties));
    body.push(b'x');
    with_fixed_header(first_byte, &body)
}

/// A packet that begins with a Packet Identifier: acknowledgements, SUBSCRIBE, UNSUBSCRIBE.
pub fn identified_bytes(first_byte: u8, packet_id: u16, rest: &[u8]) -> Vec<u8> {
    with_fixed_header(first_byte, &[&packet_id.to_be_bytes(), rest].concat())
}

/// A SUBSCRIBE whose properties and payload are as given.
pub fn subscribe_with_bytes(properties: &[u8], payload: &[u8]) -> Vec<u8> {
    identified_bytes(0x82, 1, &[listed(properties), payload.to_vec()].concat())
}

/// A filter with its options byte.
pub fn request(filter: &[u8], options: u8) -> Vec<u8> {
    [text(filter), vec![options]].concat()
}
