//! Huffman: bytes that come often get short codes. Nothing is saved of what repeats, only of what is uneven.
//!
//! Framing:
//! 1. Twice the number of bytes, plus one if they are coded, as unsigned LEB128. Even: the bytes follow as they are.
//! 2. The lengths of the codes. 16 bits, the first for 00–0F, the last for F0–FF: which sixteen bytes occur at all; for each of
//!    those, in order, 16 bits: which of them. Both high byte first. Then for each byte that occurs, in order, four bits: the
//!    length of its code, 1 to 12; the high half of a byte first, the last half zero if there is one over.
//! 3. The codes, the first bit the highest of its byte, filled with zeros to a whole byte.
//!
//! The codes follow from their lengths as in RFC 1951, 3.2.2: shorter ones first, those of equal length by byte. They leave
//! nothing over; only where a single byte occurs it has the code 0, and 1 is none.
//!
//! `constriction` codes by trees that are made from the frequencies, which a message of a hundred bytes is too short to carry;
//! lengths are half as long.

mod lengths;

use crate::unpacked::unpack;
use crate::{Compress, CompressError, DecompressError, Strategy, check_length, varint};
use lengths::{LENGTH_MAX, Lengths};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "huffman",
    aliases: &["huffman-coding"],
    number: 5,
    encoding: "waypost-huffman",
    summary: "short codes for bytes that come often; saves what is uneven, not what repeats",
    source: "Huffman 1952; canonical codes as in RFC 1951, 3.2.2; lengths by package-merge (Larmore and Hirschberg 1990)",
    new: || Box::new(Huffman),
};

struct Huffman;

impl Compress for Huffman {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        let mut counts = [0_u64; 256];
        for byte in input {
            if let Some(count) = counts.get_mut(usize::from(*byte)) {
                *count += 1;
            }
        }
        varint::put(2 * input.len() as u64 + 1, into);
        let begun = into.len();
        let lengths = Lengths::of(&counts);
        lengths.write(into);
        if into.len() - begun + lengths.bytes_of(&counts) >= input.len() {
            into.truncate(before);
            varint::put(2 * input.len() as u64, into);
            into.extend_from_slice(input);
            return Ok(());
        }
        let codes = lengths.codes();
        let (mut bits, mut count) = (0_u64, 0_u32);
        for byte in input {
            let (code, length) = codes.get(usize::from(*byte)).copied().unwrap_or_default();
            bits = bits << length | u64::from(code);
            count += u32::from(length);
            if count >= 32 {
                count -= 32;
                into.extend_from_slice(&((bits >> count) << 32).to_be_bytes()[..4]);
            }
        }
        while count > 0 {
            let shift = i64::from(count) - 8;
            let byte = if shift < 0 {
                bits << -shift
            } else {
                bits >> shift
            };
            into.push((byte & 0xff) as u8);
            count = count.saturating_sub(8);
        }
        Ok(())
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        unpack(into, limit, |unpacked| {
            let (head, rest) = varint::take(packed)?;
            let length = unpacked.check(head >> 1)?;
            if head & 1 == 0 {
                if rest.len() != length {
                    return Err(DecompressError::damaged("not as long as it says"));
                }
                return unpacked.extend(rest);
            }
            let (lengths, codes) = Lengths::read(rest)?;
            // A code has one bit at least.
            if length.div_ceil(8) > codes.len() {
                return Err(DecompressError::damaged("too short for its length"));
            }
            let (table, width) = lengths.table();
            let (mut bits, mut count, mut ahead) = (0_u64, 0_u32, codes.iter());
            for _ in 0..length {
                while count <= 56 - 8 {
                    let Some(byte) = ahead.next() else { break };
                    bits = bits << 8 | u64::from(*byte);
                    count += 8;
                }
                // Behind the end stand zeros; a code that needs them is longer than what is left.
                let window = if count >= width {
                    bits >> (count - width)
                } else {
                    bits << (width - count)
                };
                let at = usize::try_from(window & ((1 << width) - 1)).unwrap_or(usize::MAX);
                match table.get(at) {
                    Some(&(byte, length)) if length > 0 && u32::from(length) <= count => {
                        unpacked.push(byte)?;
                        count -= u32::from(length);
                    }
                    _ => return Err(DecompressError::damaged("no code, or cut within one")),
                }
            }
            if ahead.len() > 0 || count >= 8 || bits & ((1 << count) - 1) != 0 {
                return Err(DecompressError::damaged("more codes than bytes"));
            }
            Ok(())
        })
    }
}

const _: () = assert!(LENGTH_MAX <= 15, "four bits say how long a code is");

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut into = Vec::new();
        Huffman.compress(plain, &mut into).unwrap();
        into
    }

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Huffman.decompress(packed, limit, &mut into).map(|()| into)
    }

    /// Goal: a stranger can decode it. Method: every bit by hand. 60 bytes coded: 121. Bytes of 60–6F alone, there 61 to 63: 0,
    /// 10 and 11 by the rule.
    #[test]
    fn a_message_coded_by_hand_is_read_and_written() {
        let plain = b"abacabaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        assert_eq!(plain.len(), 60);
        // a=0 b=10 c=11: 0 10 0 11 0 10 0…
        let codes = [0b0100_1101, 0, 0, 0, 0, 0, 0, 0];
        let message = [&[121, 0x02, 0x00, 0x70, 0x00, 0x12, 0x20][..], &codes].concat();
        assert_eq!(packed(plain), message);
        assert_eq!(unpacked(&message, 60).unwrap(), plain);
    }

    #[test]
    fn what_codes_would_not_shorten_stays_as_it_is() {
        assert_eq!(packed(b""), [0]);
        assert_eq!(packed(b"abc"), b"\x06abc");
        assert_eq!(unpacked(b"\x06abc", 3).unwrap(), b"abc");
    }

    #[test]
    fn what_this_strategy_does_not_write_is_refused() {
        let good = [
            121, 0x02, 0x00, 0x70, 0x00, 0x12, 0x20, 0x4d, 0, 0, 0, 0, 0, 0, 0,
        ];
        let check = |change: fn(&mut Vec<u8>), part: &str| {
            let mut message = good.to_vec();
            change(&mut message);
            let error = unpacked(&message, 1000).unwrap_err().to_string();
            assert!(error.contains(part), "{message:02x?}: {error}");
        };
        assert!(unpacked(&good, 1000).is_ok());
        check(|it| it.push(0), "more codes than bytes");
        check(|it| it[14] = 1, "more codes than bytes");
        check(|it| it.truncate(14), "too short for its length");
        check(|it| it[7..].fill(0xff), "cut within one");
        check(|it| it[5] = 0x13, "lengths");
        check(|it| it[6] = 0x21, "lengths");
        check(|it| it[5] = 0x02, "lengths");
        check(|it| it[1] = 0x06, "lengths");
        check(|it| it.truncate(6), "lengths");
        check(|it| it[0] = 120, "not as long as it says");
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_takes_no_memory() {
        let bomb = [0xff, 0xff, 0xff, 0x7f, 0x02, 0x00, 0x40, 0x00, 0x10, 0];
        let mut into = Vec::new();
        let error = Huffman
            .decompress(&bomb, usize::MAX, &mut into)
            .unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
        assert_eq!(into.capacity(), 0);
    }
}
