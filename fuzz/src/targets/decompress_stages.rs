//! Bytes unpacked by several strategies one after the other, named as in `content-encoding`: some bytes within the limit, or an
//! error.
//!
//! Input: a list of names, as text, up to a zero byte; two bytes for the limit; then what is unpacked.

use waypost_compress::{Compress as _, Stages};

/// Runs the target.
pub fn run(input: &[u8]) {
    let mut parts = input.splitn(2, |byte| *byte == 0);
    let names = parts.next().unwrap_or_default();
    let Ok(names) = std::str::from_utf8(names) else {
        return;
    };
    let from_configuration = Stages::parse(names);
    let Ok(stages) = Stages::from_content_encoding(names).or(from_configuration) else {
        return;
    };
    let again = Stages::from_content_encoding(&stages.content_encoding());
    assert_eq!(again.as_ref(), Ok(&stages));
    assert_eq!(Stages::parse(&stages.to_string()).as_ref(), Ok(&stages));
    let Some((limit, bytes)) = parts.next().and_then(|rest| rest.split_first_chunk()) else {
        return;
    };
    let limit = usize::from(u16::from_be_bytes(*limit));
    let mut at_work = stages.at_work();
    let mut unpacked = b"kept".to_vec();
    let outcome = at_work.decompress(bytes, limit, &mut unpacked);
    assert!(unpacked.starts_with(b"kept") && unpacked.len() <= limit + 4);
    assert!(outcome.is_ok() || unpacked.len() == 4);

    let (mut packed, mut same) = (Vec::new(), Vec::new());
    assert_eq!(at_work.compress(bytes, &mut packed), Ok(()));
    assert_eq!(at_work.decompress(&packed, bytes.len(), &mut same), Ok(()));
    assert_eq!(same, bytes);
}
