//! The fixed header: what every packet begins with.

use crate::error::DecodeError;
use crate::protocol::PacketType;
use crate::rules;

/// The largest Remaining Length that four bytes can say.
pub const REMAINING_LENGTH_MAX: usize = 268_435_455;

/// The first byte of a packet and its Remaining Length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Bytes of the fixed header itself: 2 to 5.
    pub header_len: usize,
    /// Bytes that follow the fixed header.
    pub remaining_len: usize,
}

impl FixedHeader {
    /// Bytes of the whole packet.
    #[inline]
    pub const fn total_len(&self) -> usize {
        self.header_len + self.remaining_len
    }

    /// Whether the Remaining Length is in its shortest form, as version 5 asks.
    #[inline]
    pub const fn is_shortest(&self) -> bool {
        self.header_len == 1 + variable_byte_integer_len(self.remaining_len)
    }

    /// The packet's type; nothing for the reserved type 0.
    #[inline]
    pub const fn packet_type(&self) -> Option<PacketType> {
        PacketType::from_first_byte(self.first_byte)
    }
}

/// Reads the fixed header at the start of `bytes`; `None` when more bytes are needed to tell.
#[inline]
pub fn decode_header(bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
    if let &[first_byte, length, ..] = bytes
        && length < 0x80
    {
        return Ok(Some(FixedHeader {
            first_byte,
            header_len: 2,
            remaining_len: usize::from(length),
        }));
    }
    decode_long_header(bytes)
}

fn decode_long_header(bytes: &[u8]) -> Result<Option<FixedHeader>, DecodeError> {
    let Some((&first_byte, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let packet = PacketType::from_first_byte(first_byte);
    if packet.is_none() {
        // No length makes it a packet, so none is waited for.
        return Err(DecodeError::new(
            0,
            packet,
            "type",
            &rules::TYPE_RESERVED,
            None,
        ));
    }
    match decode_variable_byte_integer(rest) {
        VariableByteInteger::Value { value, len } => Ok(Some(FixedHeader {
            first_byte,
            header_len: 1 + len,
            remaining_len: value as usize,
        })),
        VariableByteInteger::Incomplete => Ok(None),
        VariableByteInteger::TooLong => Err(DecodeError::new(
            4,
            packet,
            "Remaining Length",
            &rules::INTEGER_TOO_LONG,
            None,
        )),
    }
}

/// What stands where a Variable Byte Integer (5 §1.5.5; 3.1.1 §2.2.3) should.
pub(crate) enum VariableByteInteger {
    Value { value: u32, len: usize },
    Incomplete,
    TooLong,
}

/// Reads the Variable Byte Integer at the start of `bytes`, be it in its shortest form or not.
#[inline]
pub(crate) fn decode_variable_byte_integer(bytes: &[u8]) -> VariableByteInteger {
    let mut value = 0;
    for (index, &byte) in bytes.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return VariableByteInteger::Value {
                value,
                len: index + 1,
            };
        }
    }
    if bytes.len() >= 4 {
        VariableByteInteger::TooLong
    } else {
        VariableByteInteger::Incomplete
    }
}

/// Bytes that `value` takes as a Variable Byte Integer.
#[inline]
pub(crate) const fn variable_byte_integer_len(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Writes `value`, at most [`REMAINING_LENGTH_MAX`], as a Variable Byte Integer.
#[inline]
pub(crate) fn encode_variable_byte_integer(value: usize, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push(low_byte(rest) | 0x80);
        rest >>= 7;
    }
    out.push(low_byte(rest));
}

/// The low eight bits.
#[inline]
pub(crate) const fn low_byte(value: usize) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_at_the_edges_of_their_forms() {
        for (value, len) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (2_097_151, 3),
            (2_097_152, 4),
            (REMAINING_LENGTH_MAX, 4),
        ] {
            let mut bytes = vec![0x30];
            encode_variable_byte_integer(value, &mut bytes);
            assert_eq!(bytes.len(), 1 + len, "{value}");
            assert_eq!(variable_byte_integer_len(value), len, "{value}");
            let header = decode_header(&bytes).unwrap().unwrap();
            assert_eq!(header.remaining_len, value);
            assert_eq!(header.total_len(), 1 + len + value);
            for end in 0..bytes.len() {
                assert_eq!(
                    decode_header(&bytes[..end]),
                    Ok(None),
                    "{value} cut at {end}"
                );
            }
        }
    }

    #[test]
    fn the_reserved_type_is_refused_before_its_length_is_there() {
        // 3.1.1 §2.2.1, 5 §2.1.2
        for bytes in [&[0x0A][..], &[0x0A, 0xC0]] {
            let error = decode_header(bytes).unwrap_err();
            assert_eq!((error.offset, error.field), (0, "type"));
        }
        assert_eq!(decode_header(&[]), Ok(None));
    }

    #[test]
    fn a_fifth_length_byte_is_malformed() {
        // 5 §1.5.5, 3.1.1 §2.2.3
        assert_eq!(decode_header(&[0x30, 0xFF, 0xFF, 0xFF]), Ok(None));
        let error = decode_header(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF]).unwrap_err();
        assert_eq!((error.offset, error.field), (4, "Remaining Length"));
    }
}
