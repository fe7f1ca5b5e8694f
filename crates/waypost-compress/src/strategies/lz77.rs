//! LZ77: what came within the last 32 KiB is written as how far back and how much, then Huffman codes: deflate.
//!
//! Framing: zlib's (RFC 1950), which is what HTTP calls `deflate` (RFC 9110, 8.4.1.2): two bytes, deflate (RFC 1951), Adler-32.
//! Deflate without that frame, which some call by the same name, is refused, and so is one that needs a preset dictionary.

use flate2::{Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::unpacked::unpack;
use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "lz77",
    aliases: &["deflate", "zlib"],
    number: 7,
    encoding: "deflate",
    summary: "repetitions within 32 KiB, then Huffman codes; what every peer opens",
    source: "Ziv and Lempel 1977; RFC 1950 and 1951, by flate2",
    new: || Box::new(Lz77::default()),
};

/// gzip's and zlib's own.
const LEVEL: u32 = 6;

/// What is unpacked at once, before it is appended.
const STEP_BYTES: usize = 16 * 1024;

/// Room taken for what is packed, whenever there is none left.
const ROOM_BYTES: usize = 4 * 1024;

/// Some 300 KiB and 40 KiB: made when first needed, kept for the next call.
#[derive(Default)]
struct Lz77 {
    encoder: Option<flate2::Compress>,
    decoder: Option<Decompress>,
}

impl Compress for Lz77 {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let before = into.len();
        let encoder = match &mut self.encoder {
            Some(encoder) => {
                encoder.reset();
                encoder
            }
            none => none.insert(flate2::Compress::new(Compression::new(LEVEL), true)),
        };
        into.reserve(input.len() / 2 + ROOM_BYTES);
        loop {
            let read = usize::try_from(encoder.total_in()).unwrap_or(usize::MAX);
            let rest = input.get(read..).unwrap_or_default();
            match encoder.compress_vec(rest, into, FlushCompress::Finish) {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(Status::Ok | Status::BufError) => into.reserve(ROOM_BYTES),
                Err(error) => {
                    into.truncate(before);
                    self.encoder = None;
                    return Err(CompressError::failed(&error));
                }
            }
        }
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let decoder = match &mut self.decoder {
            Some(decoder) => {
                decoder.reset(true);
                decoder
            }
            none => none.insert(Decompress::new(true)),
        };
        unpack(into, limit, |unpacked| {
            let mut step = [0; STEP_BYTES];
            let mut rest = packed;
            loop {
                let (read, written) = (decoder.total_in(), decoder.total_out());
                let status = decoder
                    .decompress(rest, &mut step, FlushDecompress::None)
                    .map_err(|error| DecompressError::damaged_by(&error))?;
                let read = usize::try_from(decoder.total_in() - read).unwrap_or(usize::MAX);
                let written = usize::try_from(decoder.total_out() - written).unwrap_or(usize::MAX);
                rest = rest.get(read..).unwrap_or_default();
                unpacked.extend(step.get(..written).unwrap_or_default())?;
                match status {
                    Status::StreamEnd if rest.is_empty() => return Ok(()),
                    Status::StreamEnd => {
                        return Err(DecompressError::damaged("bytes behind its end"));
                    }
                    Status::Ok | Status::BufError if read == 0 && written == 0 => {
                        return Err(DecompressError::damaged("it ends too early"));
                    }
                    Status::Ok | Status::BufError => {}
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
        Lz77::default()
            .decompress(packed, limit, &mut into)
            .map(|()| into)
    }

    /// Goal: the format is RFC 1950's. Method: one stored block by hand between zlib's header and Adler-32.
    #[test]
    fn a_frame_written_by_hand_is_read() {
        let frame = b"\x78\x9c\x01\x05\x00\xfa\xffhello\x06\x2c\x02\x15";
        assert_eq!(unpacked(frame, 5).unwrap(), b"hello");
        assert_eq!(
            unpacked(frame, 4),
            Err(DecompressError::TooLong { limit: 4 })
        );
        let check = |frame: &[u8], part: &str| {
            let error = unpacked(frame, 100).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        check(&[&frame[..], b"x"].concat(), "behind its end");
        check(&frame[..15], "ends too early");
        check(&frame[2..], "damaged");
        let mut wrong = *frame;
        wrong[15] ^= 1;
        check(&wrong, "damaged");
        let gzip =
            b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00";
        check(gzip, "damaged");
    }
}
