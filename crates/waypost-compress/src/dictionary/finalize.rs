//! zstd's own step from a dictionary's content to a dictionary: entropy tables made of samples, in front of it.
//!
//! The one call of the library that no safe wrapper offers.
#![allow(unsafe_code, reason = "ZDICT_finalizeDictionary has no safe wrapper")]

use zstd::zstd_safe::{get_error_name, zstd_sys};

use super::LEVEL;

/// Longest header: magic, id, tables and the offsets that repeat; the library itself uses less than 300 bytes.
const HEADER_BYTES_MAX: usize = 512;

/// A dictionary with the given id; or why the library refused.
pub(super) fn finalize(
    content: &[u8],
    samples: &[&[u8]],
    id: u32,
) -> Result<Vec<u8>, &'static str> {
    let sizes: Vec<usize> = samples.iter().map(|sample| sample.len()).collect();
    let count = u32::try_from(sizes.len()).map_err(|_| "too many samples")?;
    let flat = samples.concat();
    let mut dictionary = vec![0; content.len() + HEADER_BYTES_MAX];
    let parameters = zstd_sys::ZDICT_params_t {
        compressionLevel: LEVEL,
        notificationLevel: 0,
        dictID: id,
    };
    // SAFETY: every pointer goes with its own length: the dictionary may be filled up to its length, the content and the
    // samples are read, `count` sizes add up to exactly the length of `flat`. Nothing is kept beyond the call.
    let outcome = unsafe {
        zstd_sys::ZDICT_finalizeDictionary(
            dictionary.as_mut_ptr().cast(),
            dictionary.len(),
            content.as_ptr().cast(),
            content.len(),
            flat.as_ptr().cast(),
            sizes.as_ptr(),
            count,
            parameters,
        )
    };
    // SAFETY: it looks at the number only.
    if unsafe { zstd_sys::ZDICT_isError(outcome) } != 0 {
        return Err(get_error_name(outcome));
    }
    dictionary.truncate(outcome);
    Ok(dictionary)
}
