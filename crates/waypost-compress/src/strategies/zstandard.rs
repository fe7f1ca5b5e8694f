//! Zstandard at the level that its tool takes by itself: matches over the whole block, then entropy coding.
//!
//! Framing: frames of RFC 8878, HTTP's `zstd`. Written: one, which says how long it unpacks to, without a checksum: what needs one
//! has its own. Read: one or several, whether they say their length or not; frames that need a dictionary are refused.

use zstd::bulk::Compressor;
use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall;
use zstd::zstd_safe::{self, DCtx, SafeResult};

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

/// The reference tool's own.
const LEVEL: i32 = 3;

/// Memory taken before it is known how much comes out: this much at least, and so many times the packed bytes.
const FIRST_BYTES: usize = 64 * 1024;
const FIRST_RATIO: usize = 16;
/// How much more is taken when that was too little.
const GROWTH: usize = 4;

/// The contexts are some hundred KiB each: made when first needed, kept for the next call.
#[derive(Default)]
struct Zstandard {
    compressor: Option<Compressor<'static>>,
    decompressor: Option<DCtx<'static>>,
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
        if let Some(id) = zstd_safe::get_dict_id_from_frame(packed) {
            return Err(DecompressError::NoDictionary { id: id.get() });
        }
        let decompressor = self.decompressor.get_or_insert_with(DCtx::create);
        unpack_frames(packed, limit, into, |end| {
            decompressor.decompress(end, packed)
        })
    }
}

/// Appends what frames hold to `into`; `decompress` fills what it is given.
pub(super) fn unpack_frames(
    packed: &[u8],
    limit: usize,
    into: &mut Vec<u8>,
    mut decompress: impl FnMut(&mut [u8]) -> SafeResult,
) -> Result<(), DecompressError> {
    let declared = match zstd_safe::get_frame_content_size(packed) {
        Ok(Some(length)) => usize::try_from(length).unwrap_or(usize::MAX),
        Ok(None) => usize::MAX,
        Err(_) => return Err(DecompressError::damaged("not a frame of zstd")),
    };
    if declared != usize::MAX && declared > limit {
        return Err(DecompressError::TooLong { limit });
    }
    let before = into.len();
    // What a frame says is a bound, not a reason: memory is taken for what so many bytes usually hold, then for more.
    let first = packed.len().saturating_mul(FIRST_RATIO).max(FIRST_BYTES);
    let mut room = first.min(declared).min(limit);
    loop {
        into.reserve_exact(room);
        into.resize(before + room, 0);
        match decompress(into.get_mut(before..).unwrap_or_default()) {
            Ok(written) => {
                into.truncate(before + written);
                return Ok(());
            }
            Err(code) => {
                into.truncate(before);
                if !zstd_safe::is_error_kind(code, ZSTD_error_dstSize_tooSmall) {
                    return Err(DecompressError::damaged(zstd_safe::get_error_name(code)));
                }
                if room >= limit {
                    return Err(DecompressError::TooLong { limit });
                }
                room = room.max(1).saturating_mul(GROWTH).min(limit);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Magic, one segment that says 5, one raw block that is the last.
    const FRAME: [u8; 14] = *b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Zstandard::default()
            .decompress(packed, limit, &mut into)
            .map(|()| into)
    }

    /// Goal: the format is RFC 8878's, so that other tools read it.
    #[test]
    fn a_frame_written_by_hand_is_read() {
        assert_eq!(unpacked(&FRAME, 5).unwrap(), b"hello");
        assert_eq!(
            unpacked(&FRAME, 4),
            Err(DecompressError::TooLong { limit: 4 })
        );
    }

    /// What others write: frames that do not say their length, several in a row, what is to be skipped between them.
    #[test]
    fn what_a_stranger_may_write_is_read() {
        let silent = *b"\x28\xb5\x2f\xfd\x00\x00\x29\x00\x00hello";
        let skippable = *b"\x50\x2a\x4d\x18\x01\x00\x00\x00x";
        let all = [&FRAME[..], &skippable, &silent].concat();
        assert_eq!(unpacked(&silent, 5).unwrap(), b"hello");
        assert_eq!(unpacked(&all, 10).unwrap(), b"hellohello");
        for (bytes, limit) in [(&silent[..], 4), (&all, 9), (&silent, 0)] {
            assert_eq!(
                unpacked(bytes, limit),
                Err(DecompressError::TooLong { limit })
            );
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &[][..],
            b"hello",
            &FRAME[..13],
            &[&FRAME[..], b"x"].concat(),
        ] {
            let error = unpacked(bytes, 1 << 20);
            assert!(
                matches!(error, Err(DecompressError::Damaged { .. })),
                "{error:?}"
            );
        }
        let named = *b"\x28\xb5\x2f\xfd\x21\x07\x05\x29\x00\x00hello";
        assert_eq!(
            unpacked(&named, 100),
            Err(DecompressError::NoDictionary { id: 7 })
        );
    }

    /// Goal: what a frame says takes no memory. Method: one that says 1 GiB and has five bytes, then one of blocks of one
    /// repeated byte, which holds 128 KiB for each four.
    #[test]
    fn a_frame_takes_memory_for_what_is_in_it() {
        let boast = *b"\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40\x29\x00\x00hello";
        let mut into = Vec::new();
        let outcome = Zstandard::default().decompress(&boast, usize::MAX, &mut into);
        assert!(matches!(outcome, Err(DecompressError::Damaged { .. })));
        assert!(into.capacity() <= FIRST_BYTES, "{}", into.capacity());
        let mut bomb = b"\x28\xb5\x2f\xfd\x00\x38".to_vec();
        bomb.extend(b"\x02\x00\x10\x00".repeat(1000));
        bomb.extend(b"\x03\x00\x10\x00");
        assert_eq!(unpacked(&bomb, 1001 << 17).unwrap().len(), 1001 << 17);
        let limit = 100_000;
        let mut into = Vec::new();
        let outcome = Zstandard::default().decompress(&bomb, limit, &mut into);
        assert_eq!(outcome, Err(DecompressError::TooLong { limit }));
        assert!(into.capacity() <= limit);
    }
}
