//! The bytes of what is kept: contents of messages, how a queue is owed one, and the values of rows.
//!
//! Numbers are little-endian base-128 varints, texts and bytes have their length in front. Not here: who writes them
//! and when.

mod delayed;
pub mod group;
mod keys;
pub mod message;
pub mod options;
mod reader;
mod retained;
mod sent;
mod session;
mod subscription;
mod will;

pub use delayed::{DELAYED_KEY_BYTES, DelayedHead, DelayedRow, Due};
pub use keys::{
    RowError, WILL_KEY_BYTES, WillNumber, decode_filter_key, decode_packet_key, decode_queue_key,
    decode_will_key, filter_key, packet_key, queue_key, will_key,
};
pub use reader::{ReaderRow, decode_picked, encode_picked};
pub use retained::RetainedRow;
pub use sent::{SentRow, Stage};
pub use session::{InFlight, SessionRow};
pub use subscription::SubscriptionRow;
pub use will::WillRow;

/// Appends a number, seven bits a byte, the lowest first.
pub(crate) fn put_number(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Appends bytes behind their length.
pub(crate) fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_number(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Reads what was put, from the front. Every method says `None` for what cannot have been written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let [byte] = self.array()?;
        Some(byte)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // One way to write each number: nothing beyond 64 bits, no zeros at the end.
            if bits << shift >> shift != bits || (byte == 0 && shift > 0) {
                return None;
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.number()?).ok()?;
        self.take(len)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_have_one_form() {
        for number in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            u64::from(u32::MAX),
            u64::MAX,
        ] {
            let mut bytes = Vec::new();
            put_number(number, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.number(), Some(number));
            assert!(reader.is_empty());
            for len in 0..bytes.len() {
                assert_eq!(Reader::new(&bytes[..len]).number(), None, "{number} {len}");
            }
        }
        for wrong in [&[0x80, 0x00][..], &[0xff; 10], &[0xff; 11]] {
            assert_eq!(Reader::new(wrong).number(), None, "{wrong:02x?}");
        }
    }
}
