//! Writing CBOR (RFC 8949) in its deterministic form: shortest heads, definite lengths, labels in the order of their bytes,
//! which callers keep. Reading is coset's.

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// The item `null`.
pub(super) const NULL: u8 = 0xf6;

fn head(into: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    let bytes = number.to_be_bytes();
    let [.., second, first] = bytes;
    match number {
        0..=23 => into.push(major | first),
        24..=0xff => into.extend([major | 0x18, first]),
        0x100..=0xffff => into.extend([major | 0x19, second, first]),
        0x1_0000..=0xffff_ffff => {
            into.push(major | 0x1a);
            into.extend(bytes.last_chunk::<4>().into_iter().flatten());
        }
        _ => {
            into.push(major | 0x1b);
            into.extend(bytes);
        }
    }
}

pub(super) fn int(into: &mut Vec<u8>, number: i64) {
    match u64::try_from(number) {
        Ok(number) => head(into, UNSIGNED, number),
        Err(_) => head(into, NEGATIVE, number.unsigned_abs() - 1),
    }
}

/// The head of a byte string: its bytes follow.
pub(super) fn bytes_head(into: &mut Vec<u8>, length: usize) {
    head(into, BYTES, length as u64);
}

pub(super) fn bytes(into: &mut Vec<u8>, bytes: &[u8]) {
    bytes_head(into, bytes.len());
    into.extend_from_slice(bytes);
}

pub(super) fn text(into: &mut Vec<u8>, text: &str) {
    head(into, TEXT, text.len() as u64);
    into.extend_from_slice(text.as_bytes());
}

pub(super) fn array(into: &mut Vec<u8>, count: usize) {
    head(into, ARRAY, count as u64);
}

pub(super) fn map(into: &mut Vec<u8>, count: usize) {
    head(into, MAP, count as u64);
}

pub(super) fn tag(into: &mut Vec<u8>, number: u64) {
    head(into, TAG, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8949, appendix A.
    #[test]
    fn numbers_are_written_as_in_the_examples() {
        for (number, expect) in [
            (0, &[0x00][..]),
            (23, &[0x17]),
            (24, &[0x18, 0x18]),
            (100, &[0x18, 0x64]),
            (1000, &[0x19, 0x03, 0xe8]),
            (1_000_000, &[0x1a, 0x00, 0x0f, 0x42, 0x40]),
            (
                1_000_000_000_000,
                &[0x1b, 0x00, 0x00, 0x00, 0xe8, 0xd4, 0xa5, 0x10, 0x00],
            ),
            (-1, &[0x20]),
            (-100, &[0x38, 0x63]),
            (-1000, &[0x39, 0x03, 0xe7]),
            (-65_537, &[0x3a, 0x00, 0x01, 0x00, 0x00]),
        ] {
            let mut into = Vec::new();
            int(&mut into, number);
            assert_eq!(into, expect, "{number}");
        }
    }
}
