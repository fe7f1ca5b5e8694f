//! Brotli: a large window, context models and a dictionary of words of its own: the most is saved, at the highest cost.
//!
//! Framing: RFC 7932, nothing before or behind it; HTTP's `br`. Windows are at most 16 MiB, as the RFC says: the extension
//! for larger ones is refused.

use ::brotli::enc::BrotliEncoderParams;
use ::brotli::enc::StandardAlloc;
use ::brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use crate::unpacked::unpack;
use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "brotli",
    aliases: &["br"],
    number: 9,
    encoding: "br",
    summary: "saves the most of what is text, at the highest cost",
    source: "RFC 7932, by the brotli crate",
    new: || Box::new(Brotli),
};

/// The highest before costs grow tenfold for some per cent.
const QUALITY: i32 = 9;
/// 4 MiB, the reference tool's own.
const WINDOW_BITS: i32 = 22;

/// What is unpacked at once, before it is appended.
const STEP_BYTES: usize = 16 * 1024;

struct Brotli;

impl Compress for Brotli {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        let parameters = BrotliEncoderParams {
            quality: QUALITY,
            lgwin: WINDOW_BITS,
            size_hint: input.len(),
            ..BrotliEncoderParams::default()
        };
        let mut from = input;
        match ::brotli::BrotliCompress(&mut from, into, &parameters) {
            Ok(_) => Ok(()),
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
        let mut state = BrotliState::new_strict(
            StandardAlloc::default(),
            StandardAlloc::default(),
            StandardAlloc::default(),
        );
        unpack(into, limit, |unpacked| {
            let mut step = [0; STEP_BYTES];
            let (mut left, mut read, mut total) = (packed.len(), 0, 0);
            loop {
                let (mut room, mut written) = (STEP_BYTES, 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    packed,
                    &mut room,
                    &mut written,
                    &mut step,
                    &mut total,
                    &mut state,
                );
                unpacked.extend(step.get(..written).unwrap_or_default())?;
                match result {
                    BrotliResult::NeedsMoreOutput => {}
                    BrotliResult::ResultSuccess if left == 0 => return Ok(()),
                    BrotliResult::ResultSuccess => {
                        return Err(DecompressError::damaged("bytes behind its end"));
                    }
                    BrotliResult::NeedsMoreInput => {
                        return Err(DecompressError::damaged("it ends too early"));
                    }
                    BrotliResult::ResultFailure => {
                        return Err(DecompressError::damaged("not a stream of brotli"));
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(packed: &[u8], limit: usize) -> Result<Vec<u8>, DecompressError> {
        let mut into = Vec::new();
        Brotli.decompress(packed, limit, &mut into).map(|()| into)
    }

    /// Goal: the format is RFC 7932's. Method: a stream by hand: a window of 16 bits (0), a meta-block that is not the last
    /// (0), four nibbles for its length (00) less one (4), uncompressed (1), five bytes; then one that is the last and
    /// empty (11).
    #[test]
    fn a_stream_written_by_hand_is_read() {
        let stream = b"\x40\x00\x10hello\x03";
        assert_eq!(unpacked(stream, 5).unwrap(), b"hello");
        assert_eq!(
            unpacked(stream, 4),
            Err(DecompressError::TooLong { limit: 4 })
        );
        let check = |stream: &[u8], part: &str| {
            let error = unpacked(stream, 100).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&[&stream[..], b"x"].concat(), "behind its end");
        check(&stream[..8], "ends too early");
        check(b"\xff\xff\xff", "not a stream");
    }

    /// Windows beyond 16 MiB are announced by 0x11 as first byte, which RFC 7932 has for nothing.
    #[test]
    fn the_extension_for_large_windows_is_refused() {
        let error = unpacked(b"\x11\x1e\x03", 100).unwrap_err().to_string();
        assert!(error.contains("not a stream"), "{error}");
    }
}
