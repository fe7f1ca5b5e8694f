//! From bytes to packets.

mod connect;
mod properties;
mod publish;
mod reader;
mod session;
mod subscribe;

use crate::error::DecodeError;
use crate::header::{FixedHeader, decode_header};
use crate::packet::Packet;
use crate::protocol::{PacketType, ProtocolVersion, Role};
use crate::rules;
use reader::Reader;

/// Decodes exactly one whole packet, sent by `sender`. `version` is that of the connection; it
/// does not matter to a CONNECT, which states its own.
#[inline]
pub fn decode(
    packet: &[u8],
    version: ProtocolVersion,
    sender: Role,
) -> Result<Packet<'_>, DecodeError> {
    let Some(header) = decode_header(packet)? else {
        return Err(wrong_length(packet, packet.len(), version));
    };
    let Some(body) = packet.get(header.header_len..) else {
        return Err(wrong_length(packet, header.header_len, version));
    };
    if body.len() != header.remaining_len {
        return Err(wrong_length(packet, header.header_len, version));
    }
    let Some(packet_type) = header.packet_type() else {
        return Err(DecodeError::new(
            0,
            None,
            "type",
            &rules::TYPE_RESERVED,
            Some(version),
        ));
    };
    let reader = Reader::new(body, header.header_len, packet_type, Some(version), sender);
    // What carries messages may come from either side, in every version; with these flags and a
    // length in its shortest form the fixed header holds nothing more to check.
    match (header.is_shortest(), header.first_byte) {
        (true, 0x30..=0x3F) => publish::decode(reader, header.first_byte).map(Packet::Publish),
        (true, 0x40) => publish::decode_ack(reader).map(Packet::PubAck),
        (true, 0x50) => publish::decode_ack(reader).map(Packet::PubRec),
        (true, 0x62) => publish::decode_ack(reader).map(Packet::PubRel),
        (true, 0x70) => publish::decode_ack(reader).map(Packet::PubComp),
        _ => decode_checked(reader, header),
    }
}

/// Decodes a packet whose fixed header is yet to be checked.
fn decode_checked(mut reader: Reader<'_>, header: FixedHeader) -> Result<Packet<'_>, DecodeError> {
    // A CONNECT first has to say which version's rules its fixed header follows.
    if reader.packet != PacketType::Connect {
        check_fixed_header(&reader, header)?;
    }
    Ok(match reader.packet {
        PacketType::Connect => Packet::Connect(connect::decode(reader, header)?),
        PacketType::ConnAck => Packet::ConnAck(connect::decode_connack(reader)?),
        PacketType::Publish => Packet::Publish(publish::decode(reader, header.first_byte)?),
        PacketType::PubAck => Packet::PubAck(publish::decode_ack(reader)?),
        PacketType::PubRec => Packet::PubRec(publish::decode_ack(reader)?),
        PacketType::PubRel => Packet::PubRel(publish::decode_ack(reader)?),
        PacketType::PubComp => Packet::PubComp(publish::decode_ack(reader)?),
        PacketType::Subscribe => Packet::Subscribe(subscribe::decode(reader)?),
        PacketType::SubAck => Packet::SubAck(subscribe::decode_suback(reader)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(subscribe::decode_unsubscribe(reader)?),
        PacketType::UnsubAck => Packet::UnsubAck(subscribe::decode_unsuback(reader)?),
        PacketType::PingReq => {
            reader.finish()?;
            Packet::PingReq
        }
        PacketType::PingResp => {
            reader.finish()?;
            Packet::PingResp
        }
        PacketType::Disconnect => Packet::Disconnect(session::decode_disconnect(&mut reader)?),
        PacketType::Auth => Packet::Auth(session::decode_auth(&mut reader)?),
    })
}

/// What the fixed header says beyond the length.
fn check_fixed_header(reader: &Reader<'_>, header: FixedHeader) -> Result<(), DecodeError> {
    if reader.packet == PacketType::Auth && !reader.is_v5() {
        return Err(reader.error(0, "type", &rules::TYPE_UNKNOWN));
    }
    check_flags(reader, header.first_byte)?;
    // 5 [MQTT-1.5.5-1]: the Remaining Length is in its shortest form. Version 3 does not ask for it.
    if reader.is_v5() && !header.is_shortest() {
        return Err(reader.error(1, "Remaining Length", &rules::INTEGER_NOT_SHORTEST));
    }
    check_sender(reader)
}

/// That this side may send the type (3.1.1 §2.2.1, 5 §2.1.2).
fn check_sender(reader: &Reader<'_>) -> Result<(), DecodeError> {
    let is_from_client = match reader.packet {
        PacketType::Connect
        | PacketType::Subscribe
        | PacketType::Unsubscribe
        | PacketType::PingReq => true,
        PacketType::ConnAck | PacketType::SubAck | PacketType::UnsubAck | PacketType::PingResp => {
            false
        }
        PacketType::Disconnect if !reader.is_v5() => true,
        _ => return Ok(()),
    };
    if is_from_client == (reader.sender == Role::Client) {
        return Ok(());
    }
    Err(reader.error(0, "type", &rules::WRONG_SENDER))
}

/// That the flags are those of the flag table (3.1.1 §2.2.2, 5 §2.1.3). PUBLISH has its own.
fn check_flags(reader: &Reader<'_>, first_byte: u8) -> Result<(), DecodeError> {
    let (expected, rule) = match reader.packet {
        PacketType::Publish => return Ok(()),
        PacketType::PubRel => (0b0010, &rules::PUBREL_FLAGS),
        PacketType::Subscribe => (0b0010, &rules::SUBSCRIBE_FLAGS),
        PacketType::Unsubscribe => (0b0010, &rules::UNSUBSCRIBE_FLAGS),
        PacketType::Disconnect => (0, &rules::DISCONNECT_FLAGS),
        PacketType::Auth => (0, &rules::AUTH_FLAGS),
        _ => (0, &rules::FLAGS),
    };
    let flags = first_byte & 0x0F;
    // 3.1 §2.1: the three with flags are sent at QoS 1 and may be re-sent with DUP; to the others
    // the flags mean nothing.
    let is_fine_in_v31 = reader.is_v31() && (expected == 0 || flags == 0b1010);
    if flags == expected || is_fine_in_v31 {
        return Ok(());
    }
    Err(reader.error(0, "flags", rule))
}

/// That the bytes are not one whole packet.
#[cold]
fn wrong_length(packet: &[u8], offset: usize, version: ProtocolVersion) -> DecodeError {
    let packet_type = packet
        .first()
        .and_then(|&first_byte| PacketType::from_first_byte(first_byte));
    let offset = offset.min(packet.len());
    let rule = &rules::WRONG_LENGTH;
    let mut error = DecodeError::new(offset, packet_type, "Remaining Length", rule, Some(version));
    error.connack = None;
    error
}
