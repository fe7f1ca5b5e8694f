//! Lengths as unsigned LEB128: seven bits a byte, the least significant first, the high bit set on all but the last.

use crate::DecompressError;

pub(crate) fn put(mut number: u64, into: &mut Vec<u8>) {
    while number > 0x7f {
        into.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    into.push((number & 0x7f) as u8);
}

/// The number at the beginning of `bytes`, and what follows it. A number has one way to be written.
pub(crate) fn take(bytes: &[u8]) -> Result<(u64, &[u8]), DecompressError> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            if *byte == 0 && at > 0 {
                break;
            }
            return Ok((number, bytes.get(at + 1..).unwrap_or_default()));
        }
    }
    Err(DecompressError::damaged("no length at its beginning"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_in_one_way() {
        let check = |number, expect: &[u8]| {
            let mut bytes = Vec::new();
            put(number, &mut bytes);
            assert_eq!(bytes, expect);
            bytes.push(9);
            assert_eq!(take(&bytes), Ok((number, &[9][..])));
        };
        check(0, &[0]);
        check(127, &[127]);
        check(128, &[0x80, 1]);
        check(624_485, &[0xe5, 0x8e, 0x26]); // The example of DWARF 5, 7.6, and of everyone since.
        for wrong in [&[][..], &[0x80], &[0x80, 0], &[0xff; 10]] {
            assert!(take(wrong).is_err(), "{wrong:?}");
        }
    }
}
