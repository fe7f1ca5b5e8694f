//! Brotli: a large window, context models and a dictionary of words of its own: the most is saved, at the highest cost.
//!
//! Framing: RFC 7932, nothing before or behind it; HTTP's `br`. Windows are at most 16 MiB, as the RFC says: the extension
//! for larger ones is refused. A stream fills its window before anything is seen to come out, so a window is made no larger
//! than what may come out.

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

/// That of messages up to [`SHORT_BYTES_MAX`]: a quarter of the time, and on orders, chats and tweets at most 0.9 % longer.
const QUALITY_SHORT: i32 = 5;

/// From here on the difference grows: 1.7 % on orders of 16 KiB.
pub(super) const SHORT_BYTES_MAX: usize = 4 << 10;

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
            quality: if input.len() <= SHORT_BYTES_MAX {
                QUALITY_SHORT
            } else {
                QUALITY
            },
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
            let first = packed.iter().take(1);
            let first: Vec<u8> = first.map(|byte| with_window_within(*byte, limit)).collect();
            let mut pieces = [&first[..], packed.get(1..).unwrap_or_default()].into_iter();
            let (mut from, mut left, mut read, mut total) = (&[][..], 0, 0, 0);
            let mut step = [0; STEP_BYTES];
            loop {
                let (mut room, mut written) = (STEP_BYTES, 0);
                let result = BrotliDecompressStream(
                    &mut left,
                    &mut read,
                    from,
                    &mut room,
                    &mut written,
                    &mut step,
                    &mut total,
                    &mut state,
                );
                unpacked.extend(step.get(..written).unwrap_or_default())?;
                match result {
                    BrotliResult::NeedsMoreOutput => {}
                    BrotliResult::NeedsMoreInput => {
                        let next = pieces.next();
                        from = next.ok_or_else(|| DecompressError::damaged("it ends too early"))?;
                        (left, read) = (from.len(), 0);
                    }
                    BrotliResult::ResultSuccess if left == 0 && pieces.all(<[u8]>::is_empty) => {
                        return Ok(());
                    }
                    BrotliResult::ResultSuccess => {
                        return Err(DecompressError::damaged("bytes behind its end"));
                    }
                    BrotliResult::ResultFailure => {
                        return Err(DecompressError::damaged("not a stream of brotli"));
                    }
                }
            }
        })
    }
}

/// The first byte of a stream, saying a window no larger than what may come out.
///
/// RFC 7932, 9.1: a byte that ends in 1 behind three other bits n above 0 says a window of 2^(17 + n) bytes less 16; all
/// others say at most 128 KiB and are left alone. What is no longer than its window unpacks to the same with any that holds it.
fn with_window_within(first: u8, limit: usize) -> u8 {
    let said = first >> 1 & 7;
    if first & 1 == 0 || said == 0 {
        return first;
    }
    let holds = |n: &u8| limit <= (1 << (17 + n)) - 16;
    let enough = (1..said).find(holds).unwrap_or(said);
    first & !0x0e | enough << 1
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

    #[test]
    fn a_window_is_made_no_larger_than_the_limit() {
        // RFC 7932, 9.1: the bits of a window of 10, 15, 16, 17, 18, 22 and 24.
        for (first, limit, expect) in [
            (0xa1, 0, 0xa1),
            (0xf1, 0, 0xf1),
            (0xfe, 0, 0xfe),
            (0x81, 0, 0x81),
            (0xf3, 0, 0xf3),
            (0xfb, 0, 0xf3),
            (0xfb, (1 << 18) - 16, 0xf3),
            (0xfb, (1 << 18) - 15, 0xf5),
            (0x0f, (1 << 23) - 16, 0x0d),
            (0x0f, (1 << 23) - 15, 0x0f),
            (0x0f, usize::MAX, 0x0f),
        ] {
            assert_eq!(
                with_window_within(first, limit),
                expect,
                "{first:x} {limit}"
            );
        }
    }

    /// Goal: a smaller window unpacks to the same. Method: noise, and its beginning once more, further behind than the
    /// smallest window that a larger one becomes; with every window, at the very limit.
    #[test]
    fn a_stream_with_any_window_comes_back_at_the_very_limit() {
        let mut state = 1_u32;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        });
        let noise: Vec<u8> = noise.take(262_200).collect();
        for length in [1, 20_000, (1 << 18) - 16, (1 << 18) - 15, 270_000] {
            let plain = &[&noise[..], &noise].concat()[..length];
            for lgwin in 10..=24 {
                let parameters = BrotliEncoderParams {
                    quality: 5,
                    lgwin,
                    ..BrotliEncoderParams::default()
                };
                let mut packed = Vec::new();
                ::brotli::BrotliCompress(&mut &plain[..], &mut packed, &parameters).unwrap();
                assert!(unpacked(&packed, length).unwrap() == plain, "{lgwin}");
                let limit = length - 1;
                let outcome = unpacked(&packed, limit);
                assert_eq!(outcome, Err(DecompressError::TooLong { limit }), "{lgwin}");
            }
        }
    }

    /// Windows beyond 16 MiB are announced by 0x11 as first byte, which RFC 7932 has for nothing.
    #[test]
    fn the_extension_for_large_windows_is_refused() {
        let error = unpacked(b"\x11\x1e\x03", 100).unwrap_err().to_string();
        assert!(error.contains("not a stream"), "{error}");
    }
}
