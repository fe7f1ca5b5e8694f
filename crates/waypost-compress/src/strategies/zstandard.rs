//! Zstandard at its fastest positive level: matches over the whole block, then entropy coding.
//!
//! One frame that says how long it unpacks to, without a checksum: the log's blocks have one. Frames that do not say it, and
//! several in a row, are refused: this strategy writes neither.

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe;

use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "zstd",
    aliases: &["zstandard"],
    number: 2,
    encoding: "zstd",
    summary: "saves more than lz4, at some three times its cost",
    source: "RFC 8878, by the reference implementation",
    new: || Box::new(Zstandard::default()),
};

/// The library's own level: above it, each level costs more than it saves on blocks of 64 KiB.
const LEVEL: i32 = 1;

/// The contexts are some hundred KiB each: made when first needed, kept for the next call.
#[derive(Default)]
struct Zstandard {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<Decompressor<'static>>,
}

impl Compress for Zstandard {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => {
                none.insert(Compressor::new(LEVEL).map_err(|error| CompressError::failed(&error))?)
            }
        };
        into.resize(before + zstd_safe::compress_bound(input.len()), 0);
        let end = into.get_mut(before..).unwrap_or_default();
        match compressor.compress_to_buffer(input, end) {
            Ok(written) => {
                into.truncate(before + written);
                Ok(())
            }
            Err(error) => {
                into.truncate(before);
                self.compressor = None;
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
        let length = match zstd_safe::get_frame_content_size(packed) {
            Ok(Some(length)) => usize::try_from(length).unwrap_or(usize::MAX),
            Ok(None) => return Err(DecompressError::damaged("it does not say its length")),
            Err(_) => return Err(DecompressError::damaged("not a frame of zstd")),
        };
        if length > limit {
            return Err(DecompressError::TooLong { limit });
        }
        match zstd_safe::find_frame_compressed_size(packed) {
            Ok(size) if size == packed.len() => {}
            Ok(_) => return Err(DecompressError::damaged("more than one frame")),
            Err(code) => return Err(DecompressError::damaged(zstd_safe::get_error_name(code))),
        }
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none
                .insert(Decompressor::new().map_err(|error| DecompressError::damaged_by(&error))?),
        };
        let before = into.len();
        into.resize(before + length, 0);
        let end = into.get_mut(before..).unwrap_or_default();
        let outcome = match decompressor.decompress_to_buffer(packed, end) {
            Ok(written) if written == length => Ok(()),
            Ok(_) => Err(DecompressError::damaged("not as long as it says")),
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
        Zstandard::default()
            .decompress(packed, limit, &mut into)
            .map(|()| into)
    }

    /// Goal: the format on disk is RFC 8878's, so that other tools read it. Method: a frame by hand: magic, one segment
    /// that says 5, one raw block that is the last.
    #[test]
    fn a_frame_written_by_hand_is_read() {
        let frame = *b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";
        assert_eq!(unpacked(&frame, 5).unwrap(), b"hello");
        assert_eq!(
            unpacked(&frame, 4),
            Err(DecompressError::TooLong { limit: 4 })
        );
    }

    #[test]
    fn what_this_strategy_does_not_write_is_refused() {
        let frame = *b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";
        let twice = [frame, frame].concat();
        let silent = *b"\x28\xb5\x2f\xfd\x00\x00\x29\x00\x00hello";
        let skippable = *b"\x50\x2a\x4d\x18\x01\x00\x00\x00x";
        for (bytes, reason) in [
            (&twice[..], "more than one frame"),
            (&silent[..], "does not say its length"),
            (&skippable[..], ""),
            (&[], "not a frame"),
        ] {
            let error = unpacked(bytes, 1 << 20);
            assert!(
                matches!(&error, Err(DecompressError::Damaged { reason: r }) if r.contains(reason))
                    || error == Ok(Vec::new()) && bytes == skippable,
                "{error:?}, expected {reason}"
            );
        }
    }
}
