//! Arithmetic coding: a message is one number between 0 and 1, each bit of it a part of what the bits before left, as large as
//! that bit is likely. How likely is learnt on the way, so that no table is sent: short messages gain most against `huffman`.
//! Nothing is saved of what repeats.
//!
//! Framing:
//! 1. Twice the number of bytes, plus one if they are coded, as unsigned LEB128. Even: the bytes follow as they are.
//! 2. A code of the MQ coder, as ITU-T T.88 Annex E has it, from its first byte to the marker FF AC. Each byte is
//!    eight decisions, the highest bit first. The context of a decision is the bits of this byte before it, with a 1 in front:
//!    1 for the first, 2 or 3 for the second, up to 255. Every context begins with state 0 and 0 as the likely bit.
//!
//! `constriction` has arithmetic coders that are faster and nearer to what is possible; nobody who does not have that very
//! crate could decode them. The MQ coder is in JBIG2 and JPEG 2000, with a sequence to test it by.

mod mq;

use crate::unpacked::unpack;
use crate::{Compress, CompressError, DecompressError, Strategy, check_length, varint};
use mq::{Decoder, Encoder, MARKER, State};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "arithmetic",
    aliases: &["arithmetic-coding", "mq"],
    number: 6,
    encoding: "waypost-arithmetic",
    summary: "learns on the way how likely each byte is; saves what is uneven, sends no table",
    source: "Rissanen 1976; the MQ coder of ITU-T T.88 Annex E",
    new: || Box::new(Arithmetic),
};

/// One byte of a code stands for at most this many: eight times the code moves by one bit, each time after at most 2^15
/// decisions of the most likely state.
const RATIO_MAX: usize = 8 * (1 << 15) / 8;

struct Arithmetic;

/// One state for each context.
type States = [State; 256];

impl Compress for Arithmetic {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        varint::put(2 * input.len() as u64 + 1, into);
        let begun = into.len();
        let mut states: States = [State::default(); 256];
        let mut encoder = Encoder::new(into);
        for byte in input {
            let mut context = 1;
            for shift in (0..8).rev() {
                let bit = byte >> shift & 1;
                if let Some(state) = states.get_mut(context) {
                    encoder.encode(state, bit);
                }
                context = context << 1 | usize::from(bit);
            }
        }
        encoder.finish();
        if into.len() - begun >= input.len() {
            into.truncate(before);
            varint::put(2 * input.len() as u64, into);
            into.extend_from_slice(input);
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
            let Some(code) = rest.strip_suffix(&MARKER) else {
                return Err(DecompressError::damaged("no marker at its end"));
            };
            if length / RATIO_MAX > code.len() {
                return Err(DecompressError::damaged("too short for its length"));
            }
            let mut states: States = [State::default(); 256];
            let mut decoder = Decoder::new(code);
            for _ in 0..length {
                let mut context = 1;
                while context < 256 {
                    let Some(state) = states.get_mut(context) else {
                        break;
                    };
                    context = context << 1 | usize::from(decoder.decode(state));
                }
                unpacked.push(context.to_le_bytes()[0])?;
            }
            if !decoder.is_at_end() {
                return Err(DecompressError::damaged(
                    "more of a code than its length needs",
                ));
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut into = Vec::new();
        Arithmetic.compress(plain, &mut into).unwrap();
        into
    }

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Arithmetic
            .decompress(packed, limit, &mut into)
            .map(|()| into)
    }

    #[test]
    fn a_message_is_its_length_a_code_and_a_marker() {
        let plain = b"hello hello hello hello hello hello";
        let message = packed(plain);
        assert_eq!(message[0], 71);
        assert!(message.ends_with(&MARKER), "{message:02x?}");
        let length = plain.len();
        assert_eq!(unpacked(&message, length).unwrap(), plain);
        let limit = length - 1;
        assert_eq!(
            unpacked(&message, limit),
            Err(DecompressError::TooLong { limit })
        );
        let check = |message: &[u8], part: &str| {
            let error = unpacked(message, 1000).unwrap_err().to_string();
            assert!(error.contains(part), "{message:02x?}: {error}");
        };
        check(&message[..message.len() - 1], "no marker");
        let longer = [&message[..message.len() - 2], &[1, 2, 3, 4], &MARKER].concat();
        check(&longer, "more of a code");
    }

    #[test]
    fn what_a_code_would_not_shorten_stays_as_it_is() {
        assert_eq!(packed(b""), [0]);
        assert_eq!(packed(b"abc"), b"\x06abc");
        assert_eq!(unpacked(b"\x06abc", 3).unwrap(), b"abc");
        assert!(unpacked(b"\x06ab", 3).is_err() && unpacked(b"\x06abcd", 4).is_err());
    }

    /// Goal: the bound by which bombs are refused refuses nothing that is true. Method: what packs best.
    #[test]
    fn the_longest_run_is_within_the_bound_and_a_bomb_takes_no_memory() {
        let plain = vec![0; 8 << 20];
        let message = packed(&plain);
        assert!(
            plain.len() / message.len() > RATIO_MAX / 8,
            "{}",
            message.len()
        );
        assert!(unpacked(&message, plain.len()).unwrap() == plain);
        let bomb = [0xff, 0xff, 0xff, 0x7f, 1, 2, 3, 4, 0xff, 0xac];
        let mut into = Vec::new();
        let error = Arithmetic
            .decompress(&bomb, usize::MAX, &mut into)
            .unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
        assert_eq!(into.capacity(), 0);
    }
}
