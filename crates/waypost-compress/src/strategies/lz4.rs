//! LZ4: matches within the last 64 KiB, whole bytes, no entropy coding: little is saved, at next to no cost.
//!
//! The block format, which ends where its input ends and says nothing of the length it unpacks to: that stands before it,
//! four bytes, least significant first.

use lz4_flex::block;

use crate::{Compress, CompressError, DecompressError, INPUT_BYTES_MAX, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lz4",
    aliases: &["lz4-block"],
    number: 1,
    encoding: "waypost-lz4",
    summary: "fast both ways, saves half of what is text",
    source: "Collet 2011; the LZ4 block format, by lz4_flex",
    new: || Box::new(Lz4),
};

/// Bytes of the length before the block.
const LENGTH_BYTES: usize = 4;

/// One byte of a block stands for at most this many: a length goes on in bytes of 255 each.
const RATIO_MAX: usize = 255;

const _: () = assert!(INPUT_BYTES_MAX <= u32::MAX as usize);

struct Lz4;

impl Compress for Lz4 {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        let length = u32::try_from(input.len()).map_err(|_| CompressError::TooLong {
            length: input.len(),
        })?;
        into.extend_from_slice(&length.to_le_bytes());
        let start = into.len();
        into.resize(start + block::get_maximum_output_size(input.len()), 0);
        let outcome = block::compress_into(input, into.get_mut(start..).unwrap_or_default());
        match outcome {
            Ok(written) => {
                into.truncate(start + written);
                Ok(())
            }
            Err(error) => {
                into.truncate(before);
                Err(CompressError::failed(&error))
            }
        }
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let Some((length, block)) = packed.split_first_chunk::<LENGTH_BYTES>() else {
            return Err(DecompressError::damaged("shorter than its length field"));
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > limit {
            return Err(DecompressError::TooLong { limit });
        }
        // Nothing is allocated for a length that so few bytes cannot hold.
        if length / RATIO_MAX > block.len() {
            return Err(DecompressError::damaged("too short for its length"));
        }
        let before = into.len();
        into.resize(before + length, 0);
        let outcome = block::decompress_into(block, into.get_mut(before..).unwrap_or_default());
        let outcome = match outcome {
            Ok(written) if written == length => Ok(()),
            Ok(_) => Err(DecompressError::damaged("shorter than it says")),
            Err(error) => Err(DecompressError::damaged_by(&error)),
        };
        if outcome.is_err() {
            into.truncate(before);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Lz4.decompress(packed, limit, &mut into).map(|()| into)
    }

    /// Goal: the format on disk is LZ4's, so that other tools read it. Method: a block by hand, literal "ab" then a match
    /// of 4 + 15 + 0 bytes at distance 2, then the last literals.
    #[test]
    fn a_block_written_by_hand_is_read() {
        let block = [
            26, 0, 0, 0, 0x2f, b'a', b'b', 2, 0, 0, 0x50, b'v', b'w', b'x', b'y', b'z',
        ];
        assert_eq!(unpacked(&block, 26).unwrap(), b"ababababababababababavwxyz");
    }

    #[test]
    fn a_length_that_the_bytes_cannot_hold_takes_no_memory() {
        let bomb = [0xff, 0xff, 0xff, 0x3f, 0x10, b'a'];
        let mut into = Vec::new();
        let error = Lz4.decompress(&bomb, usize::MAX, &mut into).unwrap_err();
        assert!(error.to_string().contains("too short"), "{error}");
        assert_eq!(into.capacity(), 0);
    }
}
