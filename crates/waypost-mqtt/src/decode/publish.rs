//! PUBLISH and the four packets that answer it.

use super::reader::Reader;
use crate::error::DecodeError;
use crate::packet::{Ack, Publish};
use crate::property::Properties;
use crate::property::table::Place;
use crate::protocol::{PacketType, QoS};
use crate::reason::ReasonCode;
use crate::rules;

/// The hot path: no allocation, each byte before the payload looked at once or twice.
#[inline]
pub(super) fn decode(mut reader: Reader<'_>, first_byte: u8) -> Result<Publish<'_>, DecodeError> {
    let dup = first_byte & 0b1000 != 0;
    let Some(qos) = QoS::from_bits(first_byte >> 1) else {
        return Err(reader.error(0, "QoS", &rules::PUBLISH_QOS));
    };
    if dup && qos == QoS::AtMostOnce {
        return Err(reader.error(0, "DUP", &rules::PUBLISH_DUP));
    }
    let topic_offset = reader.offset();
    let topic = reader.topic_name("Topic Name")?;
    let packet_id = match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce | QoS::ExactlyOnce => Some(reader.packet_id()?),
    };
    let properties = reader.properties(Place::Publish)?;
    if topic.is_empty() && properties.topic_alias().is_none() {
        let rule = if reader.is_v5() {
            &rules::TOPIC_AND_ALIAS_MISSING
        } else {
            &rules::TOPIC_EMPTY
        };
        return Err(reader.error(topic_offset, "Topic Name", rule));
    }
    Ok(Publish {
        dup,
        qos,
        retain: first_byte & 1 != 0,
        topic,
        packet_id,
        properties,
        payload: reader.rest(),
    })
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[inline]
pub(super) fn decode_ack(mut reader: Reader<'_>) -> Result<Ack<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    // 5 §3.4.2.1: without a Reason Code it is 0x00; 5 §3.4.2.2.1: without a length no properties.
    let (reason, properties) = if reader.is_v5() && !reader.is_empty() {
        decode_ack_reason(&mut reader)?
    } else {
        (ReasonCode::Success, Properties::EMPTY)
    };
    reader.finish()?;
    Ok(Ack {
        packet_id,
        reason,
        properties,
    })
}

fn decode_ack_reason<'a>(
    reader: &mut Reader<'a>,
) -> Result<(ReasonCode, Properties<'a>), DecodeError> {
    let (place, rule) = match reader.packet {
        PacketType::PubRec => (Place::PubRec, &rules::PUBREC_REASON),
        PacketType::PubRel => (Place::PubRel, &rules::PUBREL_REASON),
        PacketType::PubComp => (Place::PubComp, &rules::PUBCOMP_REASON),
        _ => (Place::PubAck, &rules::PUBACK_REASON),
    };
    let reason = reader.reason("Reason Code", rule)?;
    Ok((reason, reader.properties_or_end(place)?))
}
