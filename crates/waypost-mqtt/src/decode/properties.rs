//! Properties: each known, in its place, once, and with a value that it may have.

use super::reader::Reader;
use crate::error::DecodeError;
use crate::header::{VariableByteInteger, decode_variable_byte_integer, variable_byte_integer_len};
use crate::property::Properties;
use crate::property::table::{self, Place, Shape, id};
use crate::protocol::Role;
use crate::rules::{self, Rule};

/// Takes properties with their length from `reader`.
pub(super) fn decode<'a>(
    reader: &mut Reader<'a>,
    place: Place,
) -> Result<Properties<'a>, DecodeError> {
    let len = variable_byte_integer(reader, "Property Length")?;
    let mut list = reader.split(len as usize, "Property Length")?;
    let bytes = list.rest();
    let mut present = 0;
    while !list.is_empty() {
        decode_one(&mut list, place, &mut present)?;
    }
    let has = |identifier| present & table::bit(identifier) != 0;
    if has(id::AUTHENTICATION_DATA) && !has(id::AUTHENTICATION_METHOD) {
        let rule = &rules::AUTHENTICATION_DATA_ALONE;
        return Err(list.error(list.offset() - bytes.len(), "Authentication Data", rule));
    }
    Ok(Properties::with_present(bytes, present))
}

fn decode_one(list: &mut Reader<'_>, place: Place, present: &mut u64) -> Result<(), DecodeError> {
    let offset = list.offset();
    let identifier = list.byte("Property Identifier")?;
    let Some(entry) = table::entry(identifier) else {
        return Err(list.error(offset, "Property Identifier", &rules::PROPERTY_UNKNOWN));
    };
    if !entry.is_valid_in(place) {
        return Err(list.error(offset, entry.name, &rules::PROPERTY_MISPLACED));
    }
    let bit = table::bit(identifier);
    if *present & bit != 0 && !may_repeat(identifier, place) {
        return Err(list.error(offset, entry.name, &rules::PROPERTY_TWICE));
    }
    *present |= bit;
    let value = match entry.shape {
        Shape::Byte => u32::from(list.byte(entry.name)?),
        Shape::TwoBytes => u32::from(list.two_bytes(entry.name)?),
        Shape::FourBytes => {
            let high = u32::from(list.two_bytes(entry.name)?);
            high << 16 | u32::from(list.two_bytes(entry.name)?)
        }
        Shape::VariableByteInteger => variable_byte_integer(list, entry.name)?,
        Shape::Binary => {
            list.binary(entry.name)?;
            0
        }
        Shape::Pair => {
            list.text(entry.name)?;
            list.text(entry.name)?;
            0
        }
        Shape::Text if identifier == id::RESPONSE_TOPIC => {
            response_topic(list, entry.name)?;
            0
        }
        Shape::Text => {
            list.text(entry.name)?;
            0
        }
    };
    match broken_rule(identifier, value, place, list.sender) {
        Some(rule) => Err(list.error(offset, entry.name, rule)),
        None => Ok(()),
    }
}

/// User Properties, and the Subscription Identifiers of a PUBLISH, one for each subscription.
fn may_repeat(identifier: u8, place: Place) -> bool {
    identifier == id::USER_PROPERTY
        || (identifier == id::SUBSCRIPTION_IDENTIFIER && place == Place::Publish)
}

/// The rule that a number breaks, or that the property breaks by being there at all.
fn broken_rule(identifier: u8, value: u32, place: Place, sender: Role) -> Option<&'static Rule> {
    let broken: (bool, &'static Rule) = match identifier {
        id::PAYLOAD_FORMAT_INDICATOR => (value > 1, &rules::PAYLOAD_FORMAT),
        id::REQUEST_PROBLEM_INFORMATION => (value > 1, &rules::REQUEST_PROBLEM_INFORMATION),
        id::REQUEST_RESPONSE_INFORMATION => (value > 1, &rules::REQUEST_RESPONSE_INFORMATION),
        id::RETAIN_AVAILABLE => (value > 1, &rules::RETAIN_AVAILABLE),
        id::WILDCARD_SUBSCRIPTION_AVAILABLE => (value > 1, &rules::WILDCARD_SUBSCRIPTION_AVAILABLE),
        id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
            (value > 1, &rules::SUBSCRIPTION_IDENTIFIER_AVAILABLE)
        }
        id::SHARED_SUBSCRIPTION_AVAILABLE => (value > 1, &rules::SHARED_SUBSCRIPTION_AVAILABLE),
        id::MAXIMUM_QOS => (value > 1, &rules::MAXIMUM_QOS),
        id::RECEIVE_MAXIMUM => (value == 0, &rules::RECEIVE_MAXIMUM_ZERO),
        id::MAXIMUM_PACKET_SIZE => (value == 0, &rules::MAXIMUM_PACKET_SIZE_ZERO),
        id::TOPIC_ALIAS => (value == 0, &rules::TOPIC_ALIAS_ZERO),
        id::SUBSCRIPTION_IDENTIFIER if place == Place::Publish && sender == Role::Client => {
            (true, &rules::SUBSCRIPTION_IDENTIFIER_FROM_CLIENT)
        }
        id::SUBSCRIPTION_IDENTIFIER => (value == 0, &rules::SUBSCRIPTION_IDENTIFIER_ZERO),
        id::SESSION_EXPIRY_INTERVAL => (
            place == Place::Disconnect && sender == Role::Server,
            &rules::SESSION_EXPIRY_FROM_SERVER,
        ),
        _ => return None,
    };
    broken.0.then_some(broken.1)
}

/// A Response Topic is a Topic Name: 5 [MQTT-3.3.2-14], [MQTT-4.7.3-1].
fn response_topic(list: &mut Reader<'_>, field: &'static str) -> Result<(), DecodeError> {
    let offset = list.offset();
    let text = list.text(field)?;
    if text.contains(['+', '#']) {
        return Err(list.error(offset, field, &rules::RESPONSE_TOPIC));
    }
    if text.is_empty() {
        return Err(list.error(offset, field, &rules::TOPIC_EMPTY));
    }
    Ok(())
}

/// Takes a Variable Byte Integer, which must be in its shortest form.
fn variable_byte_integer(reader: &mut Reader<'_>, field: &'static str) -> Result<u32, DecodeError> {
    let offset = reader.offset();
    match decode_variable_byte_integer(reader.rest()) {
        VariableByteInteger::Value { value, len } => {
            reader.bytes(len, field)?;
            if len != variable_byte_integer_len(value as usize) {
                return Err(reader.error(offset, field, &rules::INTEGER_NOT_SHORTEST));
            }
            Ok(value)
        }
        VariableByteInteger::Incomplete => Err(reader.truncated(field)),
        VariableByteInteger::TooLong => Err(reader.error(offset, field, &rules::INTEGER_TOO_LONG)),
    }
}
