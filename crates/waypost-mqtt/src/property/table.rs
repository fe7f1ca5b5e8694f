//! The properties by number: the shape of each value, the packets that may carry it (5 §2.2.2.2),
//! and how raw values are read.

use crate::header::{VariableByteInteger, decode_variable_byte_integer};

/// What a value looks like on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Byte,
    TwoBytes,
    FourBytes,
    VariableByteInteger,
    Text,
    Binary,
    Pair,
}

/// Where properties stand: a packet, or the Will inside CONNECT. A bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum Place {
    Connect = 1,
    Will = 1 << 1,
    ConnAck = 1 << 2,
    Publish = 1 << 3,
    PubAck = 1 << 4,
    PubRec = 1 << 5,
    PubRel = 1 << 6,
    PubComp = 1 << 7,
    Subscribe = 1 << 8,
    SubAck = 1 << 9,
    Unsubscribe = 1 << 10,
    UnsubAck = 1 << 11,
    Disconnect = 1 << 12,
    Auth = 1 << 13,
}

/// What the table says of one property.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub name: &'static str,
    pub shape: Shape,
    places: u16,
}

impl Entry {
    /// Whether properties in this place may have it.
    #[inline]
    pub(crate) const fn is_valid_in(&self, place: Place) -> bool {
        self.places & place as u16 != 0
    }
}

macro_rules! properties {
    ($($id:ident = $number:literal, $name:literal, $shape:ident, $($place:ident)|+;)*) => {
        /// Property identifiers.
        pub(crate) mod id {
            $(pub(crate) const $id: u8 = $number;)*
        }

        /// The entry of this identifier.
        #[inline]
        pub(crate) const fn entry(identifier: u8) -> Option<Entry> {
            match identifier {
                $($number => Some(Entry {
                    name: $name,
                    shape: Shape::$shape,
                    places: $($place)|+,
                }),)*
                _ => None,
            }
        }
    };
}

const CONNECT: u16 = Place::Connect as u16;
const WILL: u16 = Place::Will as u16;
const CONNACK: u16 = Place::ConnAck as u16;
const PUBLISH: u16 = Place::Publish as u16;
const SUBSCRIBE: u16 = Place::Subscribe as u16;
const DISCONNECT: u16 = Place::Disconnect as u16;
const AUTH: u16 = Place::Auth as u16;
/// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
const ACKS: u16 = Place::PubAck as u16
    | Place::PubRec as u16
    | Place::PubRel as u16
    | Place::PubComp as u16
    | Place::SubAck as u16
    | Place::UnsubAck as u16;
const EVERYWHERE: u16 = (Place::Auth as u16) * 2 - 1;

properties! {
    PAYLOAD_FORMAT_INDICATOR = 0x01, "Payload Format Indicator", Byte, PUBLISH | WILL;
    MESSAGE_EXPIRY_INTERVAL = 0x02, "Message Expiry Interval", FourBytes, PUBLISH | WILL;
    CONTENT_TYPE = 0x03, "Content Type", Text, PUBLISH | WILL;
    RESPONSE_TOPIC = 0x08, "Response Topic", Text, PUBLISH | WILL;
    CORRELATION_DATA = 0x09, "Correlation Data", Binary, PUBLISH | WILL;
    SUBSCRIPTION_IDENTIFIER = 0x0B, "Subscription Identifier", VariableByteInteger, PUBLISH | SUBSCRIBE;
    SESSION_EXPIRY_INTERVAL = 0x11, "Session Expiry Interval", FourBytes, CONNECT | CONNACK | DISCONNECT;
    ASSIGNED_CLIENT_IDENTIFIER = 0x12, "Assigned Client Identifier", Text, CONNACK;
    SERVER_KEEP_ALIVE = 0x13, "Server Keep Alive", TwoBytes, CONNACK;
    AUTHENTICATION_METHOD = 0x15, "Authentication Method", Text, CONNECT | CONNACK | AUTH;
    AUTHENTICATION_DATA = 0x16, "Authentication Data", Binary, CONNECT | CONNACK | AUTH;
    REQUEST_PROBLEM_INFORMATION = 0x17, "Request Problem Information", Byte, CONNECT;
    WILL_DELAY_INTERVAL = 0x18, "Will Delay Interval", FourBytes, WILL;
    REQUEST_RESPONSE_INFORMATION = 0x19, "Request Response Information", Byte, CONNECT;
    RESPONSE_INFORMATION = 0x1A, "Response Information", Text, CONNACK;
    SERVER_REFERENCE = 0x1C, "Server Reference", Text, CONNACK | DISCONNECT;
    REASON_STRING = 0x1F, "Reason String", Text, CONNACK | ACKS | DISCONNECT | AUTH;
    RECEIVE_MAXIMUM = 0x21, "Receive Maximum", TwoBytes, CONNECT | CONNACK;
    TOPIC_ALIAS_MAXIMUM = 0x22, "Topic Alias Maximum", TwoBytes, CONNECT | CONNACK;
    TOPIC_ALIAS = 0x23, "Topic Alias", TwoBytes, PUBLISH;
    MAXIMUM_QOS = 0x24, "Maximum QoS", Byte, CONNACK;
    RETAIN_AVAILABLE = 0x25, "Retain Available", Byte, CONNACK;
    USER_PROPERTY = 0x26, "User Property", Pair, EVERYWHERE;
    MAXIMUM_PACKET_SIZE = 0x27, "Maximum Packet Size", FourBytes, CONNECT | CONNACK;
    WILDCARD_SUBSCRIPTION_AVAILABLE = 0x28, "Wildcard Subscription Available", Byte, CONNACK;
    SUBSCRIPTION_IDENTIFIER_AVAILABLE = 0x29, "Subscription Identifier Available", Byte, CONNACK;
    SHARED_SUBSCRIPTION_AVAILABLE = 0x2A, "Shared Subscription Available", Byte, CONNACK;
}

/// The bit that stands for a property in a set of them. All identifiers are below 64.
#[inline]
pub(crate) const fn bit(identifier: u8) -> u64 {
    1 << (identifier & 63)
}

/// Bytes of the value of this shape at the start of `bytes`; nothing when it does not fit or is
/// a Variable Byte Integer of more than four bytes.
#[inline]
pub(crate) fn value_len(shape: Shape, bytes: &[u8]) -> Option<usize> {
    let len = match shape {
        Shape::Byte => 1,
        Shape::TwoBytes => 2,
        Shape::FourBytes => 4,
        Shape::VariableByteInteger => match decode_variable_byte_integer(bytes) {
            VariableByteInteger::Value { len, .. } => len,
            VariableByteInteger::Incomplete | VariableByteInteger::TooLong => return None,
        },
        Shape::Text | Shape::Binary => prefixed_len(bytes)?,
        Shape::Pair => {
            let name = prefixed_len(bytes)?;
            name + prefixed_len(bytes.get(name..)?)?
        }
    };
    (len <= bytes.len()).then_some(len)
}

/// Bytes of a length-prefixed value, its prefix included.
#[inline]
fn prefixed_len(bytes: &[u8]) -> Option<usize> {
    bytes
        .first_chunk()
        .map(|len| 2 + usize::from(u16::from_be_bytes(*len)))
}

/// Splits the first property off: identifier, raw value with its prefix, the rest.
#[inline]
pub(crate) fn split_first(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&identifier, rest) = bytes.split_first()?;
    let len = value_len(entry(identifier)?.shape, rest)?;
    let (value, rest) = rest.split_at_checked(len)?;
    Some((identifier, value, rest))
}

pub(crate) fn byte(value: &[u8]) -> Option<u8> {
    value.first().copied()
}

pub(crate) fn boolean(value: &[u8]) -> Option<bool> {
    byte(value).map(|byte| byte != 0)
}

pub(crate) fn two_bytes(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

pub(crate) fn four_bytes(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

pub(crate) fn variable_byte_integer(value: &[u8]) -> Option<u32> {
    match decode_variable_byte_integer(value) {
        VariableByteInteger::Value { value, .. } => Some(value),
        VariableByteInteger::Incomplete | VariableByteInteger::TooLong => None,
    }
}

pub(crate) fn binary(value: &[u8]) -> Option<&[u8]> {
    value.get(2..prefixed_len(value)?)
}

pub(crate) fn text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(binary(value)?).ok()
}

pub(crate) fn pair(value: &[u8]) -> Option<(&str, &str)> {
    let name = text(value)?;
    Some((name, text(value.get(2 + name.len()..)?)?))
}
