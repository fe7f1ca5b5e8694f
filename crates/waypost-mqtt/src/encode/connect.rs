//! CONNECT and CONNACK.

use super::{encode_properties, frame};
use crate::packet::{ConnAck, Connect};
use crate::property::{encode_binary, encode_text};
use crate::protocol::{PacketType, ProtocolVersion};
use crate::reason::ReasonCode;

pub(super) fn encode(connect: &Connect<'_>, out: &mut Vec<u8>) {
    let version = connect.version;
    frame(PacketType::Connect, 0, out, |out| {
        encode_text(
            if version == ProtocolVersion::V31 {
                "MQIsdp"
            } else {
                "MQTT"
            },
            out,
        );
        out.push(version as u8);
        out.push(flags(connect));
        out.extend_from_slice(&connect.keep_alive.to_be_bytes());
        encode_properties(connect.properties, version, out);
        encode_text(connect.client_id, out);
        if let Some(will) = &connect.will {
            encode_properties(will.properties, version, out);
            encode_text(will.topic.as_str(), out);
            encode_binary(will.payload, out);
        }
        if let Some(user_name) = connect.user_name {
            encode_text(user_name, out);
        }
        if let Some(password) = connect.password {
            encode_binary(password, out);
        }
    });
}

fn flags(connect: &Connect<'_>) -> u8 {
    let will = connect.will.as_ref().map_or(0, |will| {
        0x04 | u8::from(will.qos) << 3 | u8::from(will.retain) << 5
    });
    will | u8::from(connect.clean_start) << 1
        | u8::from(connect.password.is_some()) << 6
        | u8::from(connect.user_name.is_some()) << 7
}

pub(super) fn encode_connack(connack: &ConnAck<'_>, version: ProtocolVersion, out: &mut Vec<u8>) {
    let code = if version == ProtocolVersion::V5 {
        connack.reason.as_u8()
    } else if let Some(code) = connack.reason.to_return_code() {
        code
    } else {
        return;
    };
    // A refusal never has Session Present: 3.1.1 [MQTT-3.2.2-4], 5 [MQTT-3.2.2-6]; 3.1 has no such bit.
    let session_present = connack.session_present
        && connack.reason == ReasonCode::Success
        && version > ProtocolVersion::V31;
    frame(PacketType::ConnAck, 0, out, |out| {
        out.push(u8::from(session_present));
        out.push(code);
        encode_properties(connack.properties, version, out);
    });
}
