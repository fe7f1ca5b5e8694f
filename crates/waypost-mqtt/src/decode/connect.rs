//! CONNECT and CONNACK.

use super::reader::Reader;
use crate::error::DecodeError;
use crate::header::FixedHeader;
use crate::packet::{ConnAck, Connect, Will};
use crate::property::table::Place;
use crate::protocol::{ProtocolVersion, QoS};
use crate::reason::ReasonCode;
use crate::rules;
use crate::topic::Topic;

/// The Connect Flags.
#[derive(Clone, Copy)]
struct Flags(u8);

impl Flags {
    const RESERVED: u8 = 0x01;
    const CLEAN_START: u8 = 0x02;
    const WILL: u8 = 0x04;
    const WILL_QOS: u8 = 0x18;
    const WILL_RETAIN: u8 = 0x20;
    const PASSWORD: u8 = 0x40;
    const USER_NAME: u8 = 0x80;

    const fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

pub(super) fn decode(
    mut reader: Reader<'_>,
    header: FixedHeader,
) -> Result<Connect<'_>, DecodeError> {
    reader.version = None;
    let version = decode_version(&mut reader)?;
    reader.version = Some(version);
    super::check_fixed_header(&reader, header)?;
    let (flags, will_qos) = decode_flags(&mut reader)?;
    let keep_alive = reader.two_bytes("Keep Alive")?;
    let properties = reader.properties(Place::Connect)?;
    let client_id = reader.text("Client Identifier")?;
    let will = if flags.has(Flags::WILL) {
        Some(decode_will(&mut reader, flags, will_qos)?)
    } else {
        None
    };
    // 3.1 §3.1: "the Remaining Length field takes precedence over the User Name flag", and over
    // the Password flag: either may be missing though its flag is set.
    let is_missing = |reader: &Reader<'_>| reader.is_v31() && reader.is_empty();
    let user_name = if flags.has(Flags::USER_NAME) && !is_missing(&reader) {
        Some(reader.text("User Name")?)
    } else {
        None
    };
    let password = if flags.has(Flags::PASSWORD) && !is_missing(&reader) {
        Some(reader.binary("Password")?)
    } else {
        None
    };
    reader.finish()?;
    Ok(Connect {
        version,
        clean_start: flags.has(Flags::CLEAN_START),
        keep_alive,
        client_id,
        properties,
        will,
        user_name,
        password,
    })
}

fn decode_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name_offset = reader.offset();
    let name = reader.text("Protocol Name")?;
    if name != "MQTT" && name != "MQIsdp" {
        return Err(reader.error(name_offset, "Protocol Name", &rules::PROTOCOL_NAME));
    }
    let offset = reader.offset();
    let level = reader.byte("Protocol Version")?;
    match (name, level) {
        ("MQIsdp", 3) => Ok(ProtocolVersion::V31),
        ("MQTT", 4) => Ok(ProtocolVersion::V311),
        ("MQTT", 5) => Ok(ProtocolVersion::V5),
        _ => {
            // 3.1.1 [MQTT-3.1.2-2] wants 0x01 in its own form; version 5 only allows an answer.
            let form = ProtocolVersion::V311;
            reader.version = Some(form);
            let mut error = reader.error(offset, "Protocol Version", &rules::PROTOCOL_VERSION);
            error.connack = Some(form);
            Err(error)
        }
    }
}

fn decode_flags(reader: &mut Reader<'_>) -> Result<(Flags, QoS), DecodeError> {
    const FIELD: &str = "Connect Flags";
    let offset = reader.offset();
    let flags = Flags(reader.byte(FIELD)?);
    let has_will = flags.has(Flags::WILL);
    let will_qos = QoS::from_bits((flags.0 & Flags::WILL_QOS) >> 3);
    // 3.1 gives neither the reserved bit nor the Will bits without a Will a meaning.
    let is_strict = !reader.is_v31();
    let rule = match will_qos {
        _ if is_strict && flags.has(Flags::RESERVED) => &rules::CONNECT_RESERVED,
        _ if is_strict && !has_will && flags.has(Flags::WILL_QOS) => &rules::WILL_QOS_WITHOUT_WILL,
        _ if is_strict && !has_will && flags.has(Flags::WILL_RETAIN) => {
            &rules::WILL_RETAIN_WITHOUT_WILL
        }
        None if has_will => &rules::WILL_QOS,
        _ if !reader.is_v5() && flags.has(Flags::PASSWORD) && !flags.has(Flags::USER_NAME) => {
            &rules::PASSWORD_ALONE
        }
        qos => return Ok((flags, qos.unwrap_or_default())),
    };
    Err(reader.error(offset, FIELD, rule))
}

fn decode_will<'a>(
    reader: &mut Reader<'a>,
    flags: Flags,
    qos: QoS,
) -> Result<Will<'a>, DecodeError> {
    let properties = reader.properties(Place::Will)?;
    let offset = reader.offset();
    let topic = reader.topic_name("Will Topic")?;
    if topic.is_empty() {
        return Err(reader.error(offset, "Will Topic", &rules::TOPIC_EMPTY));
    }
    Ok(Will {
        topic: Topic::from_validated(topic),
        payload: reader.binary("Will Payload")?,
        qos,
        retain: flags.has(Flags::WILL_RETAIN),
        properties,
    })
}

pub(super) fn decode_connack(mut reader: Reader<'_>) -> Result<ConnAck<'_>, DecodeError> {
    const FLAGS_FIELD: &str = "Connect Acknowledge Flags";
    let flags_offset = reader.offset();
    let flags = reader.byte(FLAGS_FIELD)?;
    // 3.1 §3.2 leaves the whole byte unused.
    if flags & 0xFE != 0 && !reader.is_v31() {
        return Err(reader.error(flags_offset, FLAGS_FIELD, &rules::CONNACK_RESERVED));
    }
    let session_present = flags & 1 != 0 && !reader.is_v31();
    let offset = reader.offset();
    let reason = if reader.is_v5() {
        reader.reason("Connect Reason Code", &rules::CONNACK_REASON)?
    } else {
        let code = reader.byte("Connect Return code")?;
        ReasonCode::from_return_code(code)
            .ok_or_else(|| reader.error(offset, "Connect Return code", &rules::CONNACK_REASON))?
    };
    if session_present && reason != ReasonCode::Success {
        let rule = &rules::SESSION_PRESENT_ON_REFUSAL;
        return Err(reader.error(flags_offset, "Session Present", rule));
    }
    let properties = reader.properties(Place::ConnAck)?;
    reader.finish()?;
    Ok(ConnAck {
        session_present,
        reason,
        properties,
    })
}
