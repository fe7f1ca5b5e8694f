//! A validated list of properties, borrowed from a packet.

use super::Property;
use super::table::{self, id};

/// The properties that belong to one hop of a message, not to the message.
const HOP: u64 = table::bit(id::TOPIC_ALIAS)
    | table::bit(id::MESSAGE_EXPIRY_INTERVAL)
    | table::bit(id::SUBSCRIPTION_IDENTIFIER);

/// A view over validated property bytes, without the length before them.
#[derive(Clone, Copy, Default)]
pub struct Properties<'a> {
    bytes: &'a [u8],
    /// A bit for each identifier that may be among them: a clear bit says that it is not.
    present: u64,
}

macro_rules! getters {
    ($($(#[doc = $doc:literal])* $name:ident: $id:ident, $read:ident -> $type:ty;)*) => {
        impl<'a> Properties<'a> {
            $(
                $(#[doc = $doc])*
                #[inline]
                pub fn $name(self) -> Option<$type> {
                    table::$read(self.find(id::$id)?)
                }
            )*
        }
    };
}

getters! {
    /// Payload Format Indicator: 1 says that the payload is UTF-8.
    payload_format_indicator: PAYLOAD_FORMAT_INDICATOR, byte -> u8;
    /// Message Expiry Interval in seconds.
    message_expiry_interval: MESSAGE_EXPIRY_INTERVAL, four_bytes -> u32;
    /// Content Type.
    content_type: CONTENT_TYPE, text -> &'a str;
    /// Response Topic.
    response_topic: RESPONSE_TOPIC, text -> &'a str;
    /// Correlation Data.
    correlation_data: CORRELATION_DATA, binary -> &'a [u8];
    /// Session Expiry Interval in seconds; `u32::MAX` is never.
    session_expiry_interval: SESSION_EXPIRY_INTERVAL, four_bytes -> u32;
    /// Assigned Client Identifier.
    assigned_client_identifier: ASSIGNED_CLIENT_IDENTIFIER, text -> &'a str;
    /// Server Keep Alive in seconds.
    server_keep_alive: SERVER_KEEP_ALIVE, two_bytes -> u16;
    /// Authentication Method.
    authentication_method: AUTHENTICATION_METHOD, text -> &'a str;
    /// Authentication Data.
    authentication_data: AUTHENTICATION_DATA, binary -> &'a [u8];
    /// Request Problem Information.
    request_problem_information: REQUEST_PROBLEM_INFORMATION, boolean -> bool;
    /// Will Delay Interval in seconds.
    will_delay_interval: WILL_DELAY_INTERVAL, four_bytes -> u32;
    /// Request Response Information.
    request_response_information: REQUEST_RESPONSE_INFORMATION, boolean -> bool;
    /// Response Information.
    response_information: RESPONSE_INFORMATION, text -> &'a str;
    /// Server Reference.
    server_reference: SERVER_REFERENCE, text -> &'a str;
    /// Reason String.
    reason_string: REASON_STRING, text -> &'a str;
    /// Receive Maximum.
    receive_maximum: RECEIVE_MAXIMUM, two_bytes -> u16;
    /// Topic Alias Maximum.
    topic_alias_maximum: TOPIC_ALIAS_MAXIMUM, two_bytes -> u16;
    /// Topic Alias.
    topic_alias: TOPIC_ALIAS, two_bytes -> u16;
    /// Maximum QoS.
    maximum_qos: MAXIMUM_QOS, byte -> u8;
    /// Retain Available.
    retain_available: RETAIN_AVAILABLE, boolean -> bool;
    /// Maximum Packet Size in bytes.
    maximum_packet_size: MAXIMUM_PACKET_SIZE, four_bytes -> u32;
    /// Wildcard Subscription Available.
    wildcard_subscription_available: WILDCARD_SUBSCRIPTION_AVAILABLE, boolean -> bool;
    /// Subscription Identifier Available.
    subscription_identifier_available: SUBSCRIPTION_IDENTIFIER_AVAILABLE, boolean -> bool;
    /// Shared Subscription Available.
    shared_subscription_available: SHARED_SUBSCRIPTION_AVAILABLE, boolean -> bool;
}

impl<'a> Properties<'a> {
    /// No properties.
    pub const EMPTY: Self = Self {
        bytes: &[],
        present: 0,
    };

    /// Takes bytes that came out of another `Properties` or a [`super::PropertyBuffer`]. Bytes that
    /// did not are read up to the first that is no property.
    #[inline]
    pub const fn from_validated(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            present: if bytes.is_empty() { 0 } else { u64::MAX },
        }
    }

    /// Validated bytes with the set of the identifiers among them.
    #[inline]
    pub(crate) const fn with_present(bytes: &'a [u8], present: u64) -> Self {
        Self { bytes, present }
    }

    /// The raw bytes.
    #[inline]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The properties, in order.
    pub fn iter(self) -> impl Iterator<Item = Property<'a>> + Clone {
        self.raw()
            .map_while(|(identifier, value)| Property::from_raw(identifier, value))
    }

    /// The User Properties, in order.
    pub fn user_properties(self) -> impl Iterator<Item = (&'a str, &'a str)> + Clone {
        self.all(id::USER_PROPERTY).filter_map(table::pair)
    }

    /// The Subscription Identifiers, in order.
    pub fn subscription_identifiers(self) -> impl Iterator<Item = u32> + Clone {
        self.all(id::SUBSCRIPTION_IDENTIFIER)
            .filter_map(table::variable_byte_integer)
    }

    /// The raw bytes when they can go on to a receiver as they are: no Topic Alias, no Message
    /// Expiry Interval and no Subscription Identifier is among them.
    #[inline]
    pub fn forwardable(self) -> Option<&'a [u8]> {
        if self.present & HOP == 0 {
            return Some(self.bytes);
        }
        let belongs_to_hop = |(identifier, _)| table::bit(identifier) & HOP != 0;
        (!self.raw().any(belongs_to_hop)).then_some(self.bytes)
    }

    /// Appends to `out` what can go on to a receiver, in order: all but Topic Alias, Message Expiry
    /// Interval and Subscription Identifiers.
    pub fn forward_into(self, out: &mut Vec<u8>) {
        for (identifier, value) in self.raw() {
            if table::bit(identifier) & HOP == 0 {
                out.push(identifier);
                out.extend_from_slice(value);
            }
        }
    }

    /// Identifiers and raw values, in order.
    #[inline]
    fn raw(self) -> impl Iterator<Item = (u8, &'a [u8])> + Clone {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (identifier, value, after) = table::split_first(rest)?;
            rest = after;
            Some((identifier, value))
        })
    }

    fn all(self, wanted: u8) -> impl Iterator<Item = &'a [u8]> + Clone {
        let searched = if self.present & table::bit(wanted) == 0 {
            Self::EMPTY
        } else {
            self
        };
        searched
            .raw()
            .filter_map(move |(identifier, value)| (identifier == wanted).then_some(value))
    }

    #[inline]
    fn find(self, wanted: u8) -> Option<&'a [u8]> {
        if self.present & table::bit(wanted) == 0 {
            return None;
        }
        self.all(wanted).next()
    }
}

impl PartialEq for Properties<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Properties<'_> {}

impl std::fmt::Debug for Properties<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
