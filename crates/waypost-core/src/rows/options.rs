//! How a queue is owed a message: its `QoS`, RETAIN, and the Subscription Identifiers.

use waypost_mqtt::QoS;

use super::{Reader, put_number};

const QOS: u8 = 0b11;
const RETAIN: u8 = 0b100;

/// What differs between those who are owed one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwedAs<'a> {
    /// 0 only of what was read from a stream.
    pub qos: QoS,
    /// RETAIN 1.
    pub retain: bool,
    identifiers: &'a [u8],
}

impl OwedAs<'_> {
    /// The Subscription Identifiers.
    pub fn identifiers(&self) -> impl Iterator<Item = u32> {
        let mut reader = Reader::new(self.identifiers);
        std::iter::from_fn(move || u32::try_from(reader.number()?).ok())
    }
}

pub(crate) fn encode(qos: QoS, retain: bool, identifiers: &[u32], out: &mut Vec<u8>) {
    let retain = if retain { RETAIN } else { 0 };
    out.push(u8::from(qos) | retain);
    for identifier in identifiers {
        put_number((*identifier).into(), out);
    }
}

/// Reads what was given as the options of a debt; `None`: it is damaged.
pub fn decode_options(bytes: &[u8]) -> Option<OwedAs<'_>> {
    let mut reader = Reader::new(bytes);
    let flags = reader.byte()?;
    if flags & !(QOS | RETAIN) != 0 {
        return None;
    }
    let identifiers = reader.rest();
    while !reader.is_empty() {
        u32::try_from(reader.number()?).ok()?;
    }
    Some(OwedAs {
        qos: QoS::try_from(flags & QOS).ok()?,
        retain: flags & RETAIN != 0,
        identifiers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_come_back() {
        let cases: [(_, _, &[u32]); 4] = [
            (QoS::AtMostOnce, false, &[2]),
            (QoS::AtLeastOnce, false, &[]),
            (QoS::ExactlyOnce, true, &[1]),
            (QoS::AtLeastOnce, true, &[7, 268_435_455, u32::MAX]),
        ];
        for (qos, retain, identifiers) in cases {
            let mut bytes = Vec::new();
            encode(qos, retain, identifiers, &mut bytes);
            let read = decode_options(&bytes).unwrap();
            assert_eq!((read.qos, read.retain), (qos, retain));
            assert!(read.identifiers().eq(identifiers.iter().copied()));
        }
        for wrong in [
            &[][..],
            &[3],
            &[9],
            &[1, 0x80],
            &[1, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ] {
            assert_eq!(decode_options(wrong), None, "{wrong:02x?}");
        }
    }
}
