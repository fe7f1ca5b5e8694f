//! The will of a session that outlives its connection.

use waypost_mqtt::QoS;

use super::keys::{RowError, read};
use super::{put_bytes, put_number};

/// The version of the encoding.
const VERSION: u8 = 1;
const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;
const EXPIRES: u8 = 0b1000;

/// The value of a row of wills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillRow<'a> {
    /// Will Topic.
    pub topic: &'a str,
    /// Properties to be forwarded.
    pub properties: &'a [u8],
    /// Will Payload.
    pub payload: &'a [u8],
    /// Will `QoS`.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Delay Interval, in seconds.
    pub delay_s: u32,
    /// Message Expiry Interval, in seconds.
    pub expiry_s: Option<u32>,
}

impl<'a> WillRow<'a> {
    /// Appends the value of the row.
    pub fn encode(&self, value: &mut Vec<u8>) {
        let retain = if self.retain { RETAIN } else { 0 };
        let expires = if self.expiry_s.is_some() { EXPIRES } else { 0 };
        value.push(VERSION);
        value.push(u8::from(self.qos) | retain | expires);
        put_number(self.delay_s.into(), value);
        if let Some(expiry_s) = self.expiry_s {
            put_number(expiry_s.into(), value);
        }
        put_bytes(self.topic.as_bytes(), value);
        put_bytes(self.properties, value);
        put_bytes(self.payload, value);
    }

    /// Reads the value of a row.
    pub fn decode_will(value: &'a [u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            let flags = reader.byte()?;
            if flags & !(QOS | RETAIN | EXPIRES) != 0 {
                return None;
            }
            let delay_s = u32::try_from(reader.number()?).ok()?;
            let expiry_s = if flags & EXPIRES == 0 {
                None
            } else {
                Some(u32::try_from(reader.number()?).ok()?)
            };
            Some(Self {
                topic: reader.text()?,
                properties: reader.bytes()?,
                payload: reader.bytes()?,
                qos: QoS::try_from(flags & QOS).ok()?,
                retain: flags & RETAIN != 0,
                delay_s,
                expiry_s,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_will_comes_back() {
        for (expiry_s, retain) in [(None, false), (Some(u32::MAX), true)] {
            let will = WillRow {
                topic: "a/b",
                properties: b"\x01\x01",
                payload: b"gone",
                qos: QoS::ExactlyOnce,
                retain,
                delay_s: 300,
                expiry_s,
            };
            let mut value = Vec::new();
            will.encode(&mut value);
            assert_eq!(WillRow::decode_will(&value), Ok(will));
            for len in 0..value.len() {
                assert_eq!(
                    WillRow::decode_will(&value[..len]),
                    Err(RowError::Malformed),
                    "{len}"
                );
            }
            value.push(0);
            assert_eq!(WillRow::decode_will(&value), Err(RowError::Malformed));
            value[0] = 2;
            assert_eq!(WillRow::decode_will(&value), Err(RowError::Version(2)));
        }
    }
}
