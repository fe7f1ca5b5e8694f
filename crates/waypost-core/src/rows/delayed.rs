//! Messages that wait for their time: the key and the value of their rows, and what is kept as their content.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::keys::{RowError, read};
use super::message::{KeptMessage, decode_message};
use super::{Reader, put_bytes, put_number};
use crate::journal::MessageId;

/// The version of the encodings.
const VERSION: u8 = 1;
/// Of a row: it can be replaced and cancelled.
const NAMED: u8 = 0b1;
const RETAIN: u8 = 0b1;
const USER: u8 = 0b10;
const DELAY_ID: u8 = 0b100;
const IPV4: u8 = 0b1000;
const IPV6: u8 = 0b1_0000;
const FLAGS: u8 = RETAIN | USER | DELAY_ID | IPV4 | IPV6;

/// Bytes of the key of a delayed message.
pub const DELAYED_KEY_BYTES: usize = 16;

/// When a delayed message is due, in milliseconds since 1970, and which one it is. They are published in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Due {
    /// When.
    pub wall_ms: u64,
    /// Which.
    pub id: MessageId,
}

impl Due {
    /// The key of its row.
    pub fn key(self) -> [u8; DELAYED_KEY_BYTES] {
        (u128::from(self.wall_ms) << 64 | u128::from(self.id.0)).to_be_bytes()
    }

    /// Whose row a key is.
    pub fn decode_due(key: &[u8]) -> Result<Self, RowError> {
        let (wall_ms, id) = key.split_at_checked(8).ok_or(RowError::Malformed)?;
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_be_bytes);
        let [wall_ms, id] = [number(wall_ms), number(id)];
        Ok(Self {
            wall_ms: wall_ms.map_err(|_| RowError::Malformed)?,
            id: MessageId(id.map_err(|_| RowError::Malformed)?),
        })
    }
}

/// The value of a row of delayed messages: what has to be known before the message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedRow<'a> {
    /// Bytes of its content.
    pub bytes: u32,
    /// Its topic and what its publisher calls it, if that can be replaced and cancelled.
    pub name: Option<(&'a str, &'a str)>,
}

impl<'a> DelayedRow<'a> {
    /// Appends the value of the row.
    pub fn encode(&self, value: &mut Vec<u8>) {
        value.push(VERSION);
        value.push(if self.name.is_some() { NAMED } else { 0 });
        put_number(self.bytes.into(), value);
        if let Some((topic, delay_id)) = self.name {
            put_bytes(topic.as_bytes(), value);
            put_bytes(delay_id.as_bytes(), value);
        }
    }

    /// Reads the value of a row.
    pub fn decode_delayed(value: &'a [u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            let flags = reader.byte()?;
            if flags & !NAMED != 0 {
                return None;
            }
            let bytes = u32::try_from(reader.number()?).ok()?;
            let name = if flags & NAMED == 0 {
                None
            } else {
                Some((reader.text()?, reader.text()?))
            };
            Some(Self { bytes, name })
        })
    }
}

/// What is kept as the content of a delayed message: who published it, then the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DelayedHead<'a> {
    /// RETAIN.
    pub retain: bool,
    /// The publisher's client id.
    pub client_id: &'a str,
    /// Its user; `None` = anonymous.
    pub user: Option<&'a str>,
    /// Where it came from.
    pub address: Option<SocketAddr>,
    /// What it calls the message.
    pub delay_id: Option<&'a str>,
}

impl<'a> DelayedHead<'a> {
    /// Appends what stands before the message.
    pub fn encode(&self, body: &mut Vec<u8>) {
        let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let family = match self.address {
            None => 0,
            Some(SocketAddr::V4(_)) => IPV4,
            Some(SocketAddr::V6(_)) => IPV6,
        };
        body.push(VERSION);
        body.push(
            flag(self.retain, RETAIN)
                | flag(self.user.is_some(), USER)
                | flag(self.delay_id.is_some(), DELAY_ID)
                | family,
        );
        put_bytes(self.client_id.as_bytes(), body);
        for text in [self.user, self.delay_id].into_iter().flatten() {
            put_bytes(text.as_bytes(), body);
        }
        match self.address.map(|address| address.ip()) {
            None => {}
            Some(IpAddr::V4(address)) => body.extend_from_slice(&address.octets()),
            Some(IpAddr::V6(address)) => body.extend_from_slice(&address.octets()),
        }
        if let Some(address) = self.address {
            body.extend_from_slice(&address.port().to_le_bytes());
        }
    }

    /// Reads the content of a delayed message; `None`: it is damaged.
    pub fn decode_content(body: &'a [u8]) -> Option<(Self, KeptMessage<'a>)> {
        let mut reader = Reader::new(body);
        if reader.byte()? != VERSION {
            return None;
        }
        let flags = reader.byte()?;
        if flags & !FLAGS != 0 {
            return None;
        }
        let client_id = reader.text()?;
        let mut text = |flag| {
            if flags & flag == 0 {
                Some(None)
            } else {
                reader.text().map(Some)
            }
        };
        let (user, delay_id) = (text(USER)?, text(DELAY_ID)?);
        let address: Option<IpAddr> = match flags & (IPV4 | IPV6) {
            0 => None,
            IPV4 => Some(Ipv4Addr::from(reader.array::<4>()?).into()),
            IPV6 => Some(Ipv6Addr::from(reader.array::<16>()?).into()),
            _ => return None,
        };
        let address = match address {
            None => None,
            Some(address) => Some(SocketAddr::new(
                address,
                u16::from_le_bytes(reader.array()?),
            )),
        };
        let head = Self {
            retain: flags & RETAIN != 0,
            client_id,
            user,
            address,
            delay_id,
        };
        Some((head, decode_message(reader.rest())?))
    }
}

#[cfg(test)]
mod tests {
    use waypost_mqtt::QoS;

    use super::*;
    use crate::effects::{Message, Payload};
    use crate::rows::keys::tests::check;
    use crate::rows::message::encode;

    #[test]
    fn keys_sort_by_time_and_number_and_are_read_back() {
        let due = |wall_ms, id| Due {
            wall_ms,
            id: MessageId(id),
        };
        let sorted = [due(255, 9), due(256, 1), due(256, 2), due(u64::MAX, 0)];
        for pair in sorted.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].key() < pair[1].key());
        }
        let key = sorted[1].key();
        assert_eq!(Due::decode_due(&key), Ok(sorted[1]));
        for len in (0..key.len()).chain([17]) {
            let mut other = key.to_vec();
            other.resize(len, 0);
            assert_eq!(Due::decode_due(&other), Err(RowError::Malformed), "{len}");
        }
    }

    #[test]
    fn a_row_comes_back() {
        for name in [None, Some(("a/b", "")), Some(("a/b", "order 17"))] {
            let row = DelayedRow { bytes: 300, name };
            let mut value = Vec::new();
            row.encode(&mut value);
            assert_eq!(DelayedRow::decode_delayed(&value), Ok(row));
            check(&value, |value| {
                DelayedRow::decode_delayed(value).map(|_| ())
            });
        }
    }

    #[test]
    fn a_content_comes_back() {
        let message = Message {
            topic: "a/b",
            payload: Payload {
                bytes: b"later",
                shared: None,
            },
            properties: b"\x01\x01",
            expiry_s: Some(7),
            verbatim: None,
        };
        let heads = [
            (false, None, None, None),
            (
                true,
                Some("ann"),
                Some("10.0.0.1:99".parse().unwrap()),
                Some("x"),
            ),
            (false, None, Some("[::1]:1".parse().unwrap()), Some("")),
        ];
        for (retain, user, address, delay_id) in heads {
            let head = DelayedHead {
                retain,
                client_id: "c1",
                user,
                address,
                delay_id,
            };
            let mut body = Vec::new();
            head.encode(&mut body);
            encode(&message, QoS::ExactlyOnce, 5, None, 1_000, &mut body);
            let (read, kept) = DelayedHead::decode_content(&body).unwrap();
            assert_eq!(read, head);
            assert_eq!((kept.topic, kept.payload), ("a/b", &b"later"[..]));
            assert_eq!((kept.expiry_s(), kept.publisher), (Some(7), 5));
            for len in 0..body.len() - b"later".len() {
                assert_eq!(DelayedHead::decode_content(&body[..len]), None, "{len}");
            }
        }
        assert_eq!(DelayedHead::decode_content(&[VERSION, 0x20, 0, 0]), None);
        assert_eq!(
            DelayedHead::decode_content(&[VERSION, IPV4 | IPV6, 0]),
            None
        );
    }
}
