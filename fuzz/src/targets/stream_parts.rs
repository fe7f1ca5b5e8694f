//! The parts of a stream's segment: what can be read is written as something that is read as the same.
//!
//! Input: which part, then its bytes; of what has a checksum it is also mended, so that what is behind it is reached.

use waypost_store::streams::{Part, decode_part};

const PARTS: [Part; 6] = [
    Part::Header,
    Part::Begin,
    Part::Records,
    Part::Table,
    Part::Topics,
    Part::End,
];

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((part, bytes)) = input.split_first() else {
        return;
    };
    let Some(part) = PARTS.get(usize::from(*part) % PARTS.len()) else {
        return;
    };
    check(*part, bytes);
    if let Some(at) = bytes.len().checked_sub(4) {
        let mut mended = bytes.to_vec();
        mended.truncate(at);
        let checksum = crc32c::crc32c(&mended);
        mended.extend_from_slice(&checksum.to_le_bytes());
        check(*part, &mended);
    }
}

fn check(part: Part, bytes: &[u8]) {
    if let Some(written) = decode_part(part, bytes) {
        assert_eq!(decode_part(part, &written), Some(written), "{part:?}");
    }
}
