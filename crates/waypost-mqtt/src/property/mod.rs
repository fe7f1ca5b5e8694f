//! Properties of MQTT 5 (5 §2.2.2): one at a time, as a validated view, and being written.
//!
//! To add one: a line in [`table`], a variant of [`Property`] with its arm in the three matches of
//! this file, a getter in [`view`], and its value's rule in `decode/properties.rs`.

pub(crate) mod table;
mod view;

pub use view::Properties;

use crate::header::encode_variable_byte_integer;
use table::id;

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQoS(u8),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// A value on its way out.
enum Value<'a> {
    Byte(u8),
    TwoBytes(u16),
    FourBytes(u32),
    VariableByteInteger(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

impl<'a> Property<'a> {
    /// The property with this identifier and this raw value, which was validated.
    fn from_raw(identifier: u8, value: &'a [u8]) -> Option<Self> {
        Some(match identifier {
            id::PAYLOAD_FORMAT_INDICATOR => Self::PayloadFormatIndicator(table::byte(value)?),
            id::MESSAGE_EXPIRY_INTERVAL => Self::MessageExpiryInterval(table::four_bytes(value)?),
            id::CONTENT_TYPE => Self::ContentType(table::text(value)?),
            id::RESPONSE_TOPIC => Self::ResponseTopic(table::text(value)?),
            id::CORRELATION_DATA => Self::CorrelationData(table::binary(value)?),
            id::SUBSCRIPTION_IDENTIFIER => {
                Self::SubscriptionIdentifier(table::variable_byte_integer(value)?)
            }
            id::SESSION_EXPIRY_INTERVAL => Self::SessionExpiryInterval(table::four_bytes(value)?),
            id::ASSIGNED_CLIENT_IDENTIFIER => Self::AssignedClientIdentifier(table::text(value)?),
            id::SERVER_KEEP_ALIVE => Self::ServerKeepAlive(table::two_bytes(value)?),
            id::AUTHENTICATION_METHOD => Self::AuthenticationMethod(table::text(value)?),
            id::AUTHENTICATION_DATA => Self::AuthenticationData(table::binary(value)?),
            id::REQUEST_PROBLEM_INFORMATION => {
                Self::RequestProblemInformation(table::boolean(value)?)
            }
            id::WILL_DELAY_INTERVAL => Self::WillDelayInterval(table::four_bytes(value)?),
            id::REQUEST_RESPONSE_INFORMATION => {
                Self::RequestResponseInformation(table::boolean(value)?)
            }
            id::RESPONSE_INFORMATION => Self::ResponseInformation(table::text(value)?),
            id::SERVER_REFERENCE => Self::ServerReference(table::text(value)?),
            id::REASON_STRING => Self::ReasonString(table::text(value)?),
            id::RECEIVE_MAXIMUM => Self::ReceiveMaximum(table::two_bytes(value)?),
            id::TOPIC_ALIAS_MAXIMUM => Self::TopicAliasMaximum(table::two_bytes(value)?),
            id::TOPIC_ALIAS => Self::TopicAlias(table::two_bytes(value)?),
            id::MAXIMUM_QOS => Self::MaximumQoS(table::byte(value)?),
            id::RETAIN_AVAILABLE => Self::RetainAvailable(table::boolean(value)?),
            id::USER_PROPERTY => {
                let (name, value) = table::pair(value)?;
                Self::UserProperty(name, value)
            }
            id::MAXIMUM_PACKET_SIZE => Self::MaximumPacketSize(table::four_bytes(value)?),
            id::WILDCARD_SUBSCRIPTION_AVAILABLE => {
                Self::WildcardSubscriptionAvailable(table::boolean(value)?)
            }
            id::SUBSCRIPTION_IDENTIFIER_AVAILABLE => {
                Self::SubscriptionIdentifierAvailable(table::boolean(value)?)
            }
            id::SHARED_SUBSCRIPTION_AVAILABLE => {
                Self::SharedSubscriptionAvailable(table::boolean(value)?)
            }
            _ => return None,
        })
    }

    fn to_raw(self) -> (u8, Value<'a>) {
        use Value::{Binary, Byte, FourBytes, Pair, Text, TwoBytes, VariableByteInteger};
        match self {
            Self::PayloadFormatIndicator(v) => (id::PAYLOAD_FORMAT_INDICATOR, Byte(v)),
            Self::MessageExpiryInterval(v) => (id::MESSAGE_EXPIRY_INTERVAL, FourBytes(v)),
            Self::ContentType(v) => (id::CONTENT_TYPE, Text(v)),
            Self::ResponseTopic(v) => (id::RESPONSE_TOPIC, Text(v)),
            Self::CorrelationData(v) => (id::CORRELATION_DATA, Binary(v)),
            Self::SubscriptionIdentifier(v) => {
                (id::SUBSCRIPTION_IDENTIFIER, VariableByteInteger(v))
            }
            Self::SessionExpiryInterval(v) => (id::SESSION_EXPIRY_INTERVAL, FourBytes(v)),
            Self::AssignedClientIdentifier(v) => (id::ASSIGNED_CLIENT_IDENTIFIER, Text(v)),
            Self::ServerKeepAlive(v) => (id::SERVER_KEEP_ALIVE, TwoBytes(v)),
            Self::AuthenticationMethod(v) => (id::AUTHENTICATION_METHOD, Text(v)),
            Self::AuthenticationData(v) => (id::AUTHENTICATION_DATA, Binary(v)),
            Self::RequestProblemInformation(v) => {
                (id::REQUEST_PROBLEM_INFORMATION, Byte(u8::from(v)))
            }
            Self::WillDelayInterval(v) => (id::WILL_DELAY_INTERVAL, FourBytes(v)),
            Self::RequestResponseInformation(v) => {
                (id::REQUEST_RESPONSE_INFORMATION, Byte(u8::from(v)))
            }
            Self::ResponseInformation(v) => (id::RESPONSE_INFORMATION, Text(v)),
            Self::ServerReference(v) => (id::SERVER_REFERENCE, Text(v)),
            Self::ReasonString(v) => (id::REASON_STRING, Text(v)),
            Self::ReceiveMaximum(v) => (id::RECEIVE_MAXIMUM, TwoBytes(v)),
            Self::TopicAliasMaximum(v) => (id::TOPIC_ALIAS_MAXIMUM, TwoBytes(v)),
            Self::TopicAlias(v) => (id::TOPIC_ALIAS, TwoBytes(v)),
            Self::MaximumQoS(v) => (id::MAXIMUM_QOS, Byte(v)),
            Self::RetainAvailable(v) => (id::RETAIN_AVAILABLE, Byte(u8::from(v))),
            Self::UserProperty(name, value) => (id::USER_PROPERTY, Pair(name, value)),
            Self::MaximumPacketSize(v) => (id::MAXIMUM_PACKET_SIZE, FourBytes(v)),
            Self::WildcardSubscriptionAvailable(v) => {
                (id::WILDCARD_SUBSCRIPTION_AVAILABLE, Byte(u8::from(v)))
            }
            Self::SubscriptionIdentifierAvailable(v) => {
                (id::SUBSCRIPTION_IDENTIFIER_AVAILABLE, Byte(u8::from(v)))
            }
            Self::SharedSubscriptionAvailable(v) => {
                (id::SHARED_SUBSCRIPTION_AVAILABLE, Byte(u8::from(v)))
            }
        }
    }
}

/// Properties being written, in the order they are pushed.
///
/// It does not check which packet they are for: that is the sender's affair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyBuffer {
    bytes: Vec<u8>,
    present: u64,
}

impl PropertyBuffer {
    /// A buffer without properties.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            present: 0,
        }
    }

    /// Appends a property. A string or binary value beyond 65,535 bytes is cut there, a string at
    /// the character before.
    pub fn push(&mut self, property: Property<'_>) -> &mut Self {
        let (identifier, value) = property.to_raw();
        let out = &mut self.bytes;
        self.present |= table::bit(identifier);
        out.push(identifier);
        match value {
            Value::Byte(value) => out.push(value),
            Value::TwoBytes(value) => out.extend_from_slice(&value.to_be_bytes()),
            Value::FourBytes(value) => out.extend_from_slice(&value.to_be_bytes()),
            Value::VariableByteInteger(value) => encode_variable_byte_integer(value as usize, out),
            Value::Text(value) => encode_text(value, out),
            Value::Binary(value) => encode_binary(value, out),
            Value::Pair(name, value) => {
                encode_text(name, out);
                encode_text(value, out);
            }
        }
        self
    }

    /// Removes all properties and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.present = 0;
    }

    /// The properties so far.
    pub fn as_properties(&self) -> Properties<'_> {
        Properties::with_present(&self.bytes, self.present)
    }

    /// Their bytes, without the length before them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes a string with its length; cuts it at the character before 65,535 bytes.
#[inline]
pub(crate) fn encode_text(text: &str, out: &mut Vec<u8>) {
    let cut = text.floor_char_boundary(usize::from(u16::MAX));
    encode_binary(text.get(..cut).unwrap_or_default().as_bytes(), out);
}

/// Writes binary data with its length; cuts it at 65,535 bytes.
#[inline]
pub(crate) fn encode_binary(bytes: &[u8], out: &mut Vec<u8>) {
    let len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes.get(..usize::from(len)).unwrap_or_default());
}
