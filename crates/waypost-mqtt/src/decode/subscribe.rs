//! SUBSCRIBE, UNSUBSCRIBE and their answers.

use super::reader::Reader;
use crate::error::DecodeError;
use crate::packet::{ReasonCodes, SubAck, Subscribe, SubscriptionOptions, UnsubAck, Unsubscribe};
use crate::property::table::Place;
use crate::protocol::RetainHandling;
use crate::reason::ReasonCode;
use crate::rules::{self, Rule};
use crate::topic::{Filter, TopicError};

pub(super) fn decode(mut reader: Reader<'_>) -> Result<Subscribe<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(Place::Subscribe)?;
    if reader.is_empty() {
        return Err(reader.error(reader.offset(), "payload", &rules::SUBSCRIBE_EMPTY));
    }
    let payload = reader.rest();
    while !reader.is_empty() {
        let filter = decode_filter(&mut reader)?;
        check_options(&mut reader, filter)?;
    }
    Ok(Subscribe::from_raw(packet_id, properties, payload))
}

pub(super) fn decode_unsubscribe(mut reader: Reader<'_>) -> Result<Unsubscribe<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(Place::Unsubscribe)?;
    if reader.is_empty() {
        return Err(reader.error(reader.offset(), "payload", &rules::UNSUBSCRIBE_EMPTY));
    }
    let payload = reader.rest();
    while !reader.is_empty() {
        decode_filter(&mut reader)?;
    }
    Ok(Unsubscribe::from_raw(packet_id, properties, payload))
}

fn decode_filter<'a>(reader: &mut Reader<'a>) -> Result<Filter<'a>, DecodeError> {
    const FIELD: &str = "Topic Filter";
    let offset = reader.offset();
    let text = reader.text(FIELD)?;
    let filter = Filter::parse(text).and_then(|filter| match filter.shared() {
        // Shared Subscriptions are of version 5; before it `$share` is a level as any other.
        Some(Err(error)) if reader.is_v5() => Err(error),
        _ => Ok(filter),
    });
    filter.map_err(|error| reader.error(offset, FIELD, filter_rule(error)))
}

fn filter_rule(error: TopicError) -> &'static Rule {
    match error {
        TopicError::Empty => &rules::FILTER_EMPTY,
        TopicError::MultiLevelWildcard => &rules::FILTER_MULTI_LEVEL,
        TopicError::SingleLevelWildcard | TopicError::Wildcard => &rules::FILTER_SINGLE_LEVEL,
        TopicError::ShareName => &rules::SHARE_NAME,
        TopicError::ShareFilter => &rules::SHARE_FILTER,
        TopicError::Null => &rules::UTF8_NULL,
        TopicError::TooLong => &rules::TRUNCATED,
    }
}

fn check_options(reader: &mut Reader<'_>, filter: Filter<'_>) -> Result<(), DecodeError> {
    const FIELD: &str = "Subscription Options";
    let offset = reader.offset();
    let byte = reader.byte(FIELD)?;
    let reserved = if reader.is_v5() { 0xC0 } else { 0xFC };
    let rule = if byte & reserved != 0 {
        &rules::SUBSCRIBE_RESERVED
    } else if byte & 0b11 == 0b11 {
        &rules::SUBSCRIBE_QOS
    } else if RetainHandling::from_bits(byte >> 4).is_none() {
        &rules::RETAIN_HANDLING
    } else if SubscriptionOptions::from_u8(byte).is_some_and(|options| options.no_local)
        && filter.shared().is_some()
    {
        &rules::NO_LOCAL_SHARED
    } else {
        return Ok(());
    };
    Err(reader.error(offset, FIELD, rule))
}

pub(super) fn decode_suback(mut reader: Reader<'_>) -> Result<SubAck<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(Place::SubAck)?;
    let reasons = decode_reasons(&mut reader, &rules::SUBACK_EMPTY, &rules::SUBACK_REASON)?;
    Ok(SubAck {
        packet_id,
        properties,
        reasons,
    })
}

pub(super) fn decode_unsuback(mut reader: Reader<'_>) -> Result<UnsubAck<'_>, DecodeError> {
    let packet_id = reader.packet_id()?;
    let properties = reader.properties(Place::UnsubAck)?;
    let reasons = if reader.is_v5() {
        decode_reasons(&mut reader, &rules::UNSUBACK_EMPTY, &rules::UNSUBACK_REASON)?
    } else {
        // 3.1.1 §3.11.3: the UNSUBACK Packet has no payload.
        reader.finish()?;
        ReasonCodes::EMPTY
    };
    Ok(UnsubAck {
        packet_id,
        properties,
        reasons,
    })
}

fn decode_reasons<'a>(
    reader: &mut Reader<'a>,
    empty: &Rule,
    unlisted: &Rule,
) -> Result<ReasonCodes<'a>, DecodeError> {
    const FIELD: &str = "Reason Code";
    if reader.is_empty() {
        return Err(reader.error(reader.offset(), "payload", empty));
    }
    let payload = reader.rest();
    while !reader.is_empty() {
        let offset = reader.offset();
        let reason = reader.reason(FIELD, unlisted)?;
        // 3.1.1 [MQTT-3.9.3-2]: there is but one failure.
        if !reader.is_v5() && reason.is_error() && reason != ReasonCode::UnspecifiedError {
            return Err(reader.error(offset, FIELD, unlisted));
        }
    }
    Ok(ReasonCodes::from_raw(payload))
}
