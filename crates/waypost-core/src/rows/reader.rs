//! Where a subscription with history of a session that outlives its connection stands in its stream.

use waypost_mqtt::SubscriptionOptions;

use super::keys::read;
use super::{RowError, put_bytes, put_number};
use crate::index::Subscription;
use crate::stream::StreamId;

const VERSION: u8 = 1;

/// A subscription that reads a stream, and how far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderRow<'a> {
    /// Options and identifier.
    pub subscription: Subscription,
    /// What it reads.
    pub stream: StreamId,
    /// The name of that.
    pub name: &'a str,
    /// All from this offset on is read, after what was picked.
    pub begin: u64,
    /// Everything below this offset is done with.
    pub done: u64,
}

impl<'a> ReaderRow<'a> {
    /// Appends it in its encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Subscription {
            options,
            identifier,
        } = self.subscription;
        out.extend_from_slice(&[VERSION, options.as_u8()]);
        put_number(identifier.into(), out);
        put_number(self.stream.0.into(), out);
        put_bytes(self.name.as_bytes(), out);
        put_number(self.begin, out);
        put_number(self.done, out);
    }

    /// Reads it back.
    pub fn decode_reader(value: &'a [u8]) -> Result<Self, RowError> {
        read(value, VERSION, |reader| {
            Some(Self {
                subscription: Subscription {
                    options: SubscriptionOptions::from_u8(reader.byte()?)?,
                    identifier: u32::try_from(reader.number()?).ok()?,
                },
                stream: StreamId(u32::try_from(reader.number()?).ok()?),
                name: reader.text()?,
                begin: reader.number()?,
                done: reader.number()?,
            })
        })
    }
}

/// Appends the offsets that a subscription reads before everything else: ascending, each as its distance from the one
/// before.
pub fn encode_picked(picked: &[u64], out: &mut Vec<u8>) {
    out.push(VERSION);
    let mut next = 0;
    for offset in picked {
        put_number(offset.saturating_sub(next), out);
        next = offset.saturating_add(1);
    }
}

/// Reads them back.
pub fn decode_picked(value: &[u8]) -> Result<Vec<u64>, RowError> {
    read(value, VERSION, |reader| {
        let mut picked = Vec::new();
        let mut next = Some(0_u64);
        while !reader.is_empty() {
            let offset = next?.checked_add(reader.number()?)?;
            picked.push(offset);
            next = offset.checked_add(1);
        }
        Some(picked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::keys::tests::check;

    #[test]
    fn is_read_back_and_nothing_else_is() {
        for (begin, done) in [(0, 0), (7, 3), (u64::MAX, u64::MAX)] {
            let row = ReaderRow {
                subscription: Subscription {
                    options: SubscriptionOptions::from_u8(5).unwrap(),
                    identifier: 268_435_455,
                },
                stream: StreamId(u32::MAX),
                name: "orders",
                begin,
                done,
            };
            let mut value = Vec::new();
            row.encode(&mut value);
            assert_eq!(ReaderRow::decode_reader(&value), Ok(row));
            check(&value, |value| ReaderRow::decode_reader(value).map(|_| ()));
        }
    }

    #[test]
    fn picked_offsets_are_read_back() {
        for picked in [
            &[][..],
            &[0],
            &[0, 1, 2],
            &[5, 1_000, u64::MAX - 1, u64::MAX],
        ] {
            let mut value = Vec::new();
            encode_picked(picked, &mut value);
            assert_eq!(decode_picked(&value).as_deref(), Ok(picked));
        }
        let malformed = Err(RowError::Malformed);
        assert_eq!(decode_picked(&[]), malformed);
        assert_eq!(decode_picked(&[VERSION, 0x80]), malformed);
        assert_eq!(decode_picked(&[2, 0]), Err(RowError::Version(2)));
        let mut beyond = Vec::new();
        encode_picked(&[u64::MAX], &mut beyond);
        beyond.push(0);
        assert_eq!(decode_picked(&beyond), malformed);
    }
}
