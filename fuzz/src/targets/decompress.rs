//! Bytes unpacked by every strategy: some bytes within the limit, or an error.
//!
//! Input: the strategy's number, a byte; two for the limit; then what is unpacked. The same bytes are packed as well.

use waypost_compress::{by_number, registry};

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&[selector, high, low], bytes)) = input.split_first_chunk() else {
        return;
    };
    let strategies = registry();
    let by_place = || strategies.get(usize::from(selector) % strategies.len());
    let Some(strategy) = by_number(selector).or_else(by_place) else {
        return;
    };
    let limit = usize::from(u16::from_be_bytes([high, low]));
    let mut at_work = (strategy.new)();
    let mut unpacked = b"kept".to_vec();
    let outcome = at_work.decompress(bytes, limit, &mut unpacked);
    assert!(unpacked.starts_with(b"kept"));
    assert!(unpacked.len() <= limit + 4);
    assert!(outcome.is_ok() || unpacked.len() == 4);

    let mut packed = Vec::new();
    let mut same = Vec::new();
    assert_eq!(at_work.compress(bytes, &mut packed), Ok(()));
    assert_eq!(at_work.decompress(&packed, bytes.len(), &mut same), Ok(()));
    assert_eq!(same, bytes);
}
