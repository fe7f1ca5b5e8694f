//! The control packets, borrowed from the bytes they were decoded from.

use crate::property::Properties;
use crate::protocol::{PacketId, PacketType, ProtocolVersion, QoS, RetainHandling};
use crate::reason::ReasonCode;
use crate::topic::{Filter, Topic};

/// A control packet of any version. What a version does not have is empty: a 3.1.1 packet has no
/// properties, a 3.1.1 PUBACK has the reason Success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum Packet<'a> {
    Connect(Connect<'a>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// The packet's type.
    #[inline]
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::ConnAck(_) => PacketType::ConnAck,
            Self::Publish(_) => PacketType::Publish,
            Self::PubAck(_) => PacketType::PubAck,
            Self::PubRec(_) => PacketType::PubRec,
            Self::PubRel(_) => PacketType::PubRel,
            Self::PubComp(_) => PacketType::PubComp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::SubAck(_) => PacketType::SubAck,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::UnsubAck(_) => PacketType::UnsubAck,
            Self::PingReq => PacketType::PingReq,
            Self::PingResp => PacketType::PingResp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version the client speaks.
    pub version: ProtocolVersion,
    /// Clean Start; Clean Session in 3.1.1.
    pub clean_start: bool,
    /// Keep Alive in seconds; 0 turns it off.
    pub keep_alive: u16,
    /// Client Identifier; empty when the server is to choose one.
    pub client_id: &'a str,
    /// CONNECT properties.
    pub properties: Properties<'a>,
    /// The Will Message.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
}

/// The Will of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will Topic.
    pub topic: Topic<'a>,
    /// Will Payload.
    pub payload: &'a [u8],
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Properties.
    pub properties: Properties<'a>,
}

/// CONNACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Session Present.
    pub session_present: bool,
    /// Connect Reason Code; a 3.1.1 return code in its words.
    pub reason: ReasonCode,
    /// CONNACK properties.
    pub properties: Properties<'a>,
}

/// PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a re-delivery.
    pub dup: bool,
    /// Quality of service.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// A valid Topic Name, or empty when a Topic Alias stands for it.
    pub topic: &'a str,
    /// Packet Identifier; nothing at QoS 0, and only there.
    pub packet_id: Option<PacketId>,
    /// PUBLISH properties.
    pub properties: Properties<'a>,
    /// Application Message.
    pub payload: &'a [u8],
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// Reason Code.
    pub reason: ReasonCode,
    /// Properties.
    pub properties: Properties<'a>,
}

impl Ack<'_> {
    /// An acknowledgement without properties.
    #[inline]
    pub const fn new(packet_id: PacketId, reason: ReasonCode) -> Self {
        Self {
            packet_id,
            reason,
            properties: Properties::EMPTY,
        }
    }
}

/// SUBSCRIBE.
#[derive(Clone, Copy, Debug)]
pub struct Subscribe<'a> {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// SUBSCRIBE properties.
    pub properties: Properties<'a>,
    requests: Listing<'a, SubscriptionRequest<'a>>,
}

impl<'a> Subscribe<'a> {
    /// A SUBSCRIBE for these requests, at least one.
    pub const fn new(
        packet_id: PacketId,
        properties: Properties<'a>,
        requests: &'a [SubscriptionRequest<'a>],
    ) -> Self {
        Self {
            packet_id,
            properties,
            requests: Listing::of(requests),
        }
    }

    pub(crate) const fn from_raw(
        packet_id: PacketId,
        properties: Properties<'a>,
        payload: &'a [u8],
    ) -> Self {
        Self {
            packet_id,
            properties,
            requests: Listing::raw(payload),
        }
    }

    /// The pairs of Topic Filter and Subscription Options, in order.
    pub fn requests(&self) -> impl Iterator<Item = SubscriptionRequest<'a>> + Clone {
        self.requests.iter(|raw| {
            let (filter, rest) = split_filter(raw)?;
            let (&options, rest) = rest.split_first()?;
            *raw = rest;
            let options = SubscriptionOptions::from_u8(options)?;
            Some(SubscriptionRequest { filter, options })
        })
    }
}

impl PartialEq for Subscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.properties == other.properties
            && self.requests().eq(other.requests())
    }
}

impl Eq for Subscribe<'_> {}

/// One pair of Topic Filter and Subscription Options in a SUBSCRIBE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionRequest<'a> {
    /// Topic Filter.
    pub filter: Filter<'a>,
    /// Subscription Options; 3.1.1 has only the QoS.
    pub options: SubscriptionOptions,
}

/// Subscription Options (5 §3.8.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options in this byte; nothing when a reserved bit is set, the QoS is 3 or Retain
    /// Handling is 3.
    #[inline]
    pub const fn from_u8(byte: u8) -> Option<Self> {
        if byte & 0xC0 != 0 {
            return None;
        }
        let (Some(qos), Some(retain_handling)) =
            (QoS::from_bits(byte), RetainHandling::from_bits(byte >> 4))
        else {
            return None;
        };
        Some(Self {
            qos,
            no_local: byte & 0x04 != 0,
            retain_as_published: byte & 0x08 != 0,
            retain_handling,
        })
    }

    /// The options as a byte.
    #[inline]
    pub const fn as_u8(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The Packet Identifier of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// SUBACK properties.
    pub properties: Properties<'a>,
    /// One Reason Code per request, in order; those of 3.1.1 have the same bytes.
    pub reasons: ReasonCodes<'a>,
}

/// UNSUBSCRIBE.
#[derive(Clone, Copy, Debug)]
pub struct Unsubscribe<'a> {
    /// Packet Identifier.
    pub packet_id: PacketId,
    /// UNSUBSCRIBE properties.
    pub properties: Properties<'a>,
    filters: Listing<'a, Filter<'a>>,
}

impl<'a> Unsubscribe<'a> {
    /// An UNSUBSCRIBE for these filters, at least one.
    pub const fn new(
        packet_id: PacketId,
        properties: Properties<'a>,
        filters: &'a [Filter<'a>],
    ) -> Self {
        Self {
            packet_id,
            properties,
            filters: Listing::of(filters),
        }
    }

    pub(crate) const fn from_raw(
        packet_id: PacketId,
        properties: Properties<'a>,
        payload: &'a [u8],
    ) -> Self {
        Self {
            packet_id,
            properties,
            filters: Listing::raw(payload),
        }
    }

    /// The Topic Filters, in order.
    pub fn filters(&self) -> impl Iterator<Item = Filter<'a>> + Clone {
        self.filters.iter(|raw| {
            let (filter, rest) = split_filter(raw)?;
            *raw = rest;
            Some(filter)
        })
    }
}

impl PartialEq for Unsubscribe<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.packet_id == other.packet_id
            && self.properties == other.properties
            && self.filters().eq(other.filters())
    }
}

impl Eq for Unsubscribe<'_> {}

/// UNSUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The Packet Identifier of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// UNSUBACK properties.
    pub properties: Properties<'a>,
    /// One Reason Code per filter, in order; none in 3.1.1.
    pub reasons: ReasonCodes<'a>,
}

/// DISCONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Disconnect Reason Code.
    pub reason: ReasonCode,
    /// DISCONNECT properties.
    pub properties: Properties<'a>,
}

/// AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Authenticate Reason Code.
    pub reason: ReasonCode,
    /// AUTH properties.
    pub properties: Properties<'a>,
}

/// The Reason Codes of a SUBACK or UNSUBACK.
#[derive(Clone, Copy, Debug)]
pub struct ReasonCodes<'a>(Listing<'a, ReasonCode>);

impl<'a> ReasonCodes<'a> {
    /// None, as in the UNSUBACK of 3.1.1.
    pub const EMPTY: Self = Self(Listing::of(&[]));

    /// These codes.
    pub const fn new(codes: &'a [ReasonCode]) -> Self {
        Self(Listing::of(codes))
    }

    pub(crate) const fn from_raw(bytes: &'a [u8]) -> Self {
        Self(Listing::raw(bytes))
    }

    /// The codes, in order.
    pub fn iter(self) -> impl Iterator<Item = ReasonCode> + Clone {
        self.0.iter(|raw| {
            let (&byte, rest) = raw.split_first()?;
            *raw = rest;
            ReasonCode::try_from(byte).ok()
        })
    }

    /// How many there are.
    #[inline]
    pub const fn len(self) -> usize {
        self.0.raw.len() + self.0.list.len()
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl<'a> From<&'a [ReasonCode]> for ReasonCodes<'a> {
    fn from(codes: &'a [ReasonCode]) -> Self {
        Self::new(codes)
    }
}

impl PartialEq for ReasonCodes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for ReasonCodes<'_> {}

/// The payload of a packet that lists things: validated bytes of a decoded packet, or the things
/// themselves to encode. One of the two is empty.
#[derive(Clone, Copy, Debug)]
struct Listing<'a, T> {
    raw: &'a [u8],
    list: &'a [T],
}

impl<'a, T: Copy> Listing<'a, T> {
    const fn raw(raw: &'a [u8]) -> Self {
        Self { raw, list: &[] }
    }

    const fn of(list: &'a [T]) -> Self {
        Self { raw: &[], list }
    }

    fn iter(
        self,
        mut next: impl FnMut(&mut &'a [u8]) -> Option<T> + Clone,
    ) -> impl Iterator<Item = T> + Clone {
        let mut raw = self.raw;
        std::iter::from_fn(move || next(&mut raw)).chain(self.list.iter().copied())
    }
}

/// The validated Topic Filter at the start of `raw`, and the rest.
fn split_filter(raw: &[u8]) -> Option<(Filter<'_>, &[u8])> {
    let (len, rest) = raw.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((
        Filter::from_validated(std::str::from_utf8(text).ok()?),
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscription_options_survive_the_way_there_and_back() {
        let mut valid = 0;
        for byte in 0..=u8::MAX {
            if let Some(options) = SubscriptionOptions::from_u8(byte) {
                assert_eq!(options.as_u8(), byte);
                valid += 1;
            } else {
                // 5 [MQTT-3.8.3-5], 5 §3.8.3.1: reserved bits, QoS 3, Retain Handling 3
                assert!(
                    byte & 0xC0 != 0 || byte & 3 == 3 || byte & 0x30 == 0x30,
                    "{byte:08b}"
                );
            }
        }
        assert_eq!(valid, 3 * 2 * 2 * 3);
    }
}
