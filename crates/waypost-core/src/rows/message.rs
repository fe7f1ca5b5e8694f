//! The content of a message, as it is kept.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use waypost_mqtt::QoS;

use super::{Reader, put_bytes, put_number};
use crate::effects::{Message, Payload};
use crate::queue::StoredMessage;

const QOS: u8 = 0b11;
const EXPIRES: u8 = 0b100;
const IPV4: u8 = 0b1000;
const IPV6: u8 = 0b1_0000;
const FLAGS: u8 = QOS | EXPIRES | IPV4 | IPV6;

/// A message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptMessage<'a> {
    /// The Topic Name.
    pub topic: &'a str,
    /// Properties to be forwarded, as in [`Message`].
    pub properties: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
    /// The `QoS` it was published at.
    pub qos: QoS,
    /// Hash of the publisher's client id; 0 = the server.
    pub publisher: u64,
    /// The publisher's address: some strategies of groups ask for it.
    pub address: Option<IpAddr>,
    /// When it was published, in milliseconds since 1970.
    pub date_wall_ms: u64,
    /// When it expires, in milliseconds since 1970; `u64::MAX` = never.
    pub expires_wall_ms: u64,
}

/// When a message expires, in milliseconds since 1970; `u64::MAX` = never.
pub(crate) fn expires_wall_ms(expiry_s: Option<u32>, date_wall_ms: u64) -> u64 {
    expiry_s.map_or(u64::MAX, |s| {
        date_wall_ms.saturating_add(u64::from(s) * 1_000)
    })
}

pub(crate) fn encode(
    message: &Message<'_>,
    qos: QoS,
    publisher: u64,
    address: Option<IpAddr>,
    date_wall_ms: u64,
    out: &mut Vec<u8>,
) {
    let expires = if message.expiry_s.is_some() {
        EXPIRES
    } else {
        0
    };
    let family = match address {
        None => 0,
        Some(IpAddr::V4(_)) => IPV4,
        Some(IpAddr::V6(_)) => IPV6,
    };
    out.push(u8::from(qos) | expires | family);
    out.extend_from_slice(&publisher.to_le_bytes());
    match address {
        None => {}
        Some(IpAddr::V4(address)) => out.extend_from_slice(&address.octets()),
        Some(IpAddr::V6(address)) => out.extend_from_slice(&address.octets()),
    }
    put_number(date_wall_ms, out);
    if let Some(expiry_s) = message.expiry_s {
        put_number(expiry_s.into(), out);
    }
    put_bytes(message.topic.as_bytes(), out);
    put_bytes(message.properties, out);
    out.extend_from_slice(message.payload.bytes);
}

/// Reads a message that was kept; `None`: it is damaged.
pub fn decode_message(body: &[u8]) -> Option<KeptMessage<'_>> {
    let mut reader = Reader::new(body);
    let flags = reader.byte()?;
    if flags & !FLAGS != 0 {
        return None;
    }
    let publisher = u64::from_le_bytes(reader.array()?);
    let address = match flags & (IPV4 | IPV6) {
        0 => None,
        IPV4 => Some(Ipv4Addr::from(reader.array::<4>()?).into()),
        IPV6 => Some(Ipv6Addr::from(reader.array::<16>()?).into()),
        _ => return None,
    };
    let date_wall_ms = reader.number()?;
    let expiry_s = if flags & EXPIRES == 0 {
        None
    } else {
        Some(u32::try_from(reader.number()?).ok()?)
    };
    Some(KeptMessage {
        topic: reader.text()?,
        properties: reader.bytes()?,
        payload: reader.rest(),
        qos: QoS::try_from(flags & QOS).ok()?,
        publisher,
        address,
        date_wall_ms,
        expires_wall_ms: expires_wall_ms(expiry_s, date_wall_ms),
    })
}

impl KeptMessage<'_> {
    /// Message Expiry Interval, in seconds, as it was published; `None`: it never expires.
    pub fn expiry_s(&self) -> Option<u32> {
        let expires_ms = Some(self.expires_wall_ms).filter(|ms| *ms != u64::MAX)?;
        u32::try_from(expires_ms.saturating_sub(self.date_wall_ms) / 1_000).ok()
    }

    /// As [`decode_message`] reads it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let message = Message {
            topic: self.topic,
            payload: Payload {
                bytes: self.payload,
                shared: None,
            },
            properties: self.properties,
            expiry_s: self.expiry_s(),
            verbatim: None,
        };
        encode(
            &message,
            self.qos,
            self.publisher,
            self.address,
            self.date_wall_ms,
            out,
        );
    }

    /// As it is held in memory; it expires at this time of the monotonic clock.
    pub(crate) fn to_stored(self, expires_ms: u64) -> StoredMessage {
        StoredMessage::from_parts(
            self.topic.into(),
            self.properties.into(),
            self.payload.into(),
            expires_ms,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: u64 = 1_700_000_000_000;

    fn message<'a>(payload: &'a [u8], properties: &'a [u8], expiry_s: Option<u32>) -> Message<'a> {
        Message {
            topic: "a/b",
            payload: Payload {
                bytes: payload,
                shared: None,
            },
            properties,
            expiry_s,
            verbatim: None,
        }
    }

    #[test]
    fn a_message_comes_back() {
        let cases = [
            (None, None, QoS::AtMostOnce),
            (Some("10.0.0.1".parse().unwrap()), Some(9), QoS::AtLeastOnce),
            (Some("::1".parse().unwrap()), None, QoS::ExactlyOnce),
        ];
        for (address, expiry_s, qos) in cases {
            let message = message(b"payload", b"\x01\x01", expiry_s);
            let mut body = Vec::new();
            encode(&message, qos, 77, address, DATE, &mut body);
            let kept = decode_message(&body).unwrap();
            assert_eq!(
                kept,
                KeptMessage {
                    topic: "a/b",
                    properties: b"\x01\x01",
                    payload: b"payload",
                    qos,
                    publisher: 77,
                    address,
                    date_wall_ms: DATE,
                    expires_wall_ms: expires_wall_ms(expiry_s, DATE),
                }
            );
            let mut again = Vec::new();
            kept.encode(&mut again);
            assert_eq!(again, body);
            let head = body.len() - b"payload".len();
            for len in 0..head {
                assert_eq!(decode_message(&body[..len]), None, "{len}");
            }
        }
        assert_eq!(decode_message(&[0x20; 40]), None);
        assert_eq!(decode_message(&[IPV4 | IPV6; 40]), None);
        assert_eq!(decode_message(&[3; 40]), None);
    }
}
