//! The content of a message, as it is kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use waypost_mqtt::QoS;

use super::{Reader, put_bytes, put_number};
use crate::effects::{Message, Now};
use crate::queue::StoredMessage;
use crate::timers::NEVER;

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
    /// When it expires, in milliseconds since 1970; `u64::MAX` = never.
    pub expires_wall_ms: u64,
}

/// When a message expires, in milliseconds since 1970; `u64::MAX` = never.
pub(crate) fn expires_wall_ms(expiry_s: Option<u32>, now: Now) -> u64 {
    expiry_s.map_or(u64::MAX, |s| now.wall_ms + u64::from(s) * 1_000)
}

pub(crate) fn encode(
    message: &Message<'_>,
    qos: QoS,
    publisher: u64,
    address: Option<IpAddr>,
    now: Now,
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
    if message.expiry_s.is_some() {
        put_number(expires_wall_ms(message.expiry_s, now), out);
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
    let expires_wall_ms = if flags & EXPIRES == 0 {
        u64::MAX
    } else {
        reader.number()?
    };
    Some(KeptMessage {
        topic: reader.text()?,
        properties: reader.bytes()?,
        payload: reader.rest(),
        qos: QoS::try_from(flags & QOS).ok()?,
        publisher,
        address,
        expires_wall_ms,
    })
}

impl KeptMessage<'_> {
    /// As it is held in memory. What expired by the wall clock meanwhile has expired.
    pub(crate) fn to_stored(self, now: Now) -> StoredMessage {
        let expires_ms = if self.expires_wall_ms == u64::MAX {
            NEVER
        } else {
            let left_ms = self.expires_wall_ms.saturating_sub(now.wall_ms);
            now.monotonic_ms.saturating_add(left_ms)
        };
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
    use crate::effects::Payload;

    const NOW: Now = Now {
        monotonic_ms: 5_000,
        wall_ms: 1_700_000_000_000,
    };

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
            encode(&message, qos, 77, address, NOW, &mut body);
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
                    expires_wall_ms: expires_wall_ms(expiry_s, NOW),
                }
            );
            let head = body.len() - b"payload".len();
            for len in 0..head {
                assert_eq!(decode_message(&body[..len]), None, "{len}");
            }
        }
        assert_eq!(decode_message(&[0x20; 40]), None);
        assert_eq!(decode_message(&[IPV4 | IPV6; 40]), None);
        assert_eq!(decode_message(&[3; 40]), None);
    }

    #[test]
    fn the_wall_clock_counts_while_the_server_is_down() {
        let mut body = Vec::new();
        encode(
            &message(b"", b"", Some(9)),
            QoS::AtLeastOnce,
            0,
            None,
            NOW,
            &mut body,
        );
        let kept = decode_message(&body).unwrap();
        let check = |wall_ms, expires_ms| {
            let now = Now {
                monotonic_ms: 100,
                wall_ms,
            };
            assert_eq!(kept.to_stored(now).expires_ms, expires_ms);
        };
        check(NOW.wall_ms + 4_000, 5_100);
        check(NOW.wall_ms + 9_000, 100);
        check(NOW.wall_ms + 99_000, 100);
    }
}
