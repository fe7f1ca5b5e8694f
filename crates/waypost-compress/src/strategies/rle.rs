//! Run-length encoding: a byte that repeats is written once, with how often. Nothing but runs is saved.
//!
//! Framing: that of `PackBits` (Apple Technical Note TN1023; compression 32773 of TIFF 6.0), nothing before or behind it.
//! Pieces follow each other to the end. The first byte of a piece, n, says what it is: 0–127, the n + 1 bytes behind it are
//! meant as they stand; 129–255, the one byte behind it is meant 257 − n times; 128 stands for nothing (never written here).

use crate::unpacked::unpack;
use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "rle",
    aliases: &["run-length", "run-length-encoding", "packbits"],
    number: 4,
    encoding: "waypost-rle",
    summary: "a byte that repeats is written once, with how often",
    source: "PackBits: Apple TN1023, TIFF 6.0",
    new: || Box::new(Rle),
};

/// Bytes of one piece, as they stand or repeated.
const PIECE_MAX: usize = 128;

/// Two in a row cost as much either way, and would cut what stands around them in two.
const RUN_MIN: usize = 3;

struct Rle;

impl Compress for Rle {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let mut literals: &[u8] = &[];
        let mut rest = input;
        while let Some(&byte) = rest.first() {
            let run = rest.iter().take_while(|next| **next == byte).count();
            if run < RUN_MIN {
                let (from, count) = (input.len() - rest.len(), literals.len() + run);
                literals = input
                    .get(from - literals.len()..from - literals.len() + count)
                    .unwrap_or_default();
            } else {
                put_literals(literals, into);
                literals = &[];
                put_run(byte, run, into);
            }
            rest = rest.get(run..).unwrap_or_default();
        }
        put_literals(literals, into);
        Ok(())
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        unpack(into, limit, |unpacked| {
            let mut rest = packed;
            while let Some((&head, behind)) = rest.split_first() {
                let count = usize::from(head);
                let cut = || DecompressError::damaged("cut within a piece");
                rest = match count {
                    0..PIECE_MAX => {
                        let (literals, behind) =
                            behind.split_at_checked(count + 1).ok_or_else(cut)?;
                        unpacked.extend(literals)?;
                        behind
                    }
                    PIECE_MAX => behind,
                    _ => {
                        let (&byte, behind) = behind.split_first().ok_or_else(cut)?;
                        unpacked.repeat(byte, 257 - count)?;
                        behind
                    }
                };
            }
            Ok(())
        })
    }
}

fn put_literals(literals: &[u8], into: &mut Vec<u8>) {
    for piece in literals.chunks(PIECE_MAX) {
        into.push((piece.len() - 1).to_le_bytes()[0]);
        into.extend_from_slice(piece);
    }
}

fn put_run(byte: u8, mut run: usize, into: &mut Vec<u8>) {
    while run > 0 {
        let count = run.min(PIECE_MAX);
        if count == 1 {
            into.push(0);
        } else {
            into.push((257 - count).to_le_bytes()[0]);
        }
        into.push(byte);
        run -= count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Rle.decompress(packed, limit, &mut into).map(|()| into)
    }

    /// The example that comes with the technical note.
    #[test]
    fn the_example_of_tn1023() {
        let plain = b"\xaa\xaa\xaa\x80\x00\x2a\xaa\xaa\xaa\xaa\x80\x00\x2a\x22\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa\xaa";
        let packed = b"\xfe\xaa\x02\x80\x00\x2a\xfd\xaa\x03\x80\x00\x2a\x22\xf7\xaa";
        let mut into = Vec::new();
        Rle.compress(plain, &mut into).unwrap();
        assert_eq!(into, packed);
        assert_eq!(unpacked(packed, plain.len()).unwrap(), plain);
        let mut into = Vec::new();
        Rle.compress(b"abbc", &mut into).unwrap();
        assert_eq!(into, b"\x03abbc", "two of a kind cut nothing in two");
    }

    #[test]
    fn pieces_end_at_128_bytes() {
        for length in [127, 128, 129, 256, 257] {
            let runs = vec![5; length];
            let literals: Vec<u8> = (0..length).map(|n| n.to_le_bytes()[0]).collect();
            for plain in [runs, literals] {
                let mut packed = Vec::new();
                Rle.compress(&plain, &mut packed).unwrap();
                assert_eq!(unpacked(&packed, length).unwrap(), plain);
                assert!(packed.len() <= length + length.div_ceil(PIECE_MAX));
            }
        }
        assert_eq!(unpacked(&[128, 128, 0, 7, 128], 1).unwrap(), [7]);
        assert!(unpacked(&[1, 7], 10).is_err() && unpacked(&[200], 100).is_err());
    }
}
