//! Bytes read as a dictionary of zstd: one, or an error; one packs and unpacks messages, and unpacks what is no frame to an
//! error or to some bytes within the limit.
//!
//! Input: the dictionary's length, two bytes; the dictionary; then a message, which is unpacked as a frame as well.

use std::sync::Arc;

use waypost_compress::dictionary::{Dictionary, ID_MAX, ID_MIN};
use waypost_compress::zstd_dict;

/// What may come out of a frame.
const LIMIT: usize = 1 << 16;

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((length, rest)) = input.split_first_chunk() else {
        return;
    };
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    let (bytes, message) = rest.split_at(length);
    let Ok(dictionary) = Dictionary::new(bytes.to_vec()) else {
        return;
    };
    assert_eq!(dictionary.bytes(), bytes);
    let id = dictionary.id();
    assert!((ID_MIN..=ID_MAX).contains(&id));

    let mut at_work = zstd_dict::with(Arc::new(()), Some(Arc::new(dictionary)));
    let mut unpacked = b"kept".to_vec();
    let outcome = at_work.decompress(message, LIMIT, &mut unpacked);
    assert!(unpacked.starts_with(b"kept") && unpacked.len() <= LIMIT + 4);
    assert!(outcome.is_ok() || unpacked.len() == 4);

    let mut packed = Vec::new();
    assert_eq!(at_work.compress(message, &mut packed), Ok(()));
    assert!(zstd_dict::dictionary_id(&packed).is_none_or(|named| named == id));
    unpacked.clear();
    let outcome = at_work.decompress(&packed, message.len(), &mut unpacked);
    assert_eq!(outcome, Ok(()));
    assert_eq!(unpacked, message);
}
