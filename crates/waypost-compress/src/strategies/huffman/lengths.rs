//! How long each byte's code is: made from how often it occurs, written, read, and turned into codes.

use crate::DecompressError;

/// The longest code: a table of all codes is then 4,096 entries, and next to nothing is lost.
pub(super) const LENGTH_MAX: u8 = 12;

/// The length of each byte's code; 0: it does not occur.
pub(super) struct Lengths([u8; 256]);

impl Lengths {
    /// The lengths that take the fewest bits for these counts, none longer than [`LENGTH_MAX`] (package-merge).
    pub(super) fn of(counts: &[u64; 256]) -> Self {
        let mut lengths = [0; 256];
        let mut leaves: Vec<(u64, u8)> = (0..=u8::MAX)
            .zip(counts)
            .filter(|(_, count)| **count > 0)
            .map(|(byte, count)| (*count, byte))
            .collect();
        leaves.sort_unstable();
        if let [(_, only)] = leaves[..] {
            if let Some(length) = lengths.get_mut(usize::from(only)) {
                *length = 1;
            }
            return Self(lengths);
        }
        // For each length the leaves and, two by two, what was best for one more; of each whether it is a leaf.
        let mut levels: Vec<Vec<(u64, bool)>> = Vec::new();
        for _ in 0..LENGTH_MAX {
            let before = levels.last().map(Vec::as_slice).unwrap_or_default();
            let pairs = before.chunks_exact(2);
            let mut level: Vec<_> = pairs
                .map(|pair| (pair.iter().map(|(weight, _)| weight).sum(), false))
                .chain(leaves.iter().map(|(count, _)| (*count, true)))
                .collect();
            level.sort_by_key(|(weight, _)| *weight);
            levels.push(level);
        }
        let mut taken = 2 * leaves.len().saturating_sub(1);
        for level in levels.iter().rev() {
            let is_leaf = |(_, is_leaf): &&(u64, bool)| *is_leaf;
            let count = level.iter().take(taken).filter(is_leaf).count();
            for (_, byte) in leaves.iter().take(count) {
                if let Some(length) = lengths.get_mut(usize::from(*byte)) {
                    *length += 1;
                }
            }
            taken = 2 * (taken.min(level.len()) - count);
        }
        Self(lengths)
    }

    /// Bytes that all codes take, of bytes that occur so often.
    pub(super) fn bytes_of(&self, counts: &[u64; 256]) -> usize {
        let bits = self.0.iter().zip(counts);
        let bits: u64 = bits.map(|(length, count)| u64::from(*length) * count).sum();
        usize::try_from(bits.div_ceil(8)).unwrap_or(usize::MAX)
    }

    pub(super) fn write(&self, into: &mut Vec<u8>) {
        let mask = |lengths: &[u8]| -> u16 {
            let bits = lengths.iter().zip((0..16).rev());
            bits.fold(0, |mask, (length, bit)| {
                mask | u16::from(*length > 0) << bit
            })
        };
        let blocks: Vec<&[u8]> = self.0.chunks(16).collect();
        let outer: Vec<u8> = blocks
            .iter()
            .map(|block| u8::from(mask(block) > 0))
            .collect();
        into.extend_from_slice(&mask(&outer).to_be_bytes());
        for block in blocks.iter().filter(|block| mask(block) > 0) {
            into.extend_from_slice(&mask(block).to_be_bytes());
        }
        let occurring: Vec<u8> = self
            .0
            .iter()
            .copied()
            .filter(|length| *length > 0)
            .collect();
        for pair in occurring.chunks(2) {
            into.push(
                pair.iter().fold(0, |byte, length| byte << 4 | length) << (4 * (2 - pair.len())),
            );
        }
    }

    /// The lengths at the beginning of `bytes`, and what follows them.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), DecompressError> {
        fn mask(bytes: &[u8]) -> Option<(u16, &[u8])> {
            let (mask, rest) = bytes.split_first_chunk()?;
            Some((u16::from_be_bytes(*mask), rest))
        }
        let read = || {
            let (outer, mut rest) = mask(bytes)?;
            let mut occurring = Vec::new();
            for block in (0..16_u8).filter(|block| outer >> (15 - block) & 1 == 1) {
                let (inner, behind) = mask(rest)?;
                if inner == 0 {
                    return None;
                }
                rest = behind;
                let bytes = (0..16).filter(|byte| inner >> (15 - byte) & 1 == 1);
                occurring.extend(bytes.map(|byte| block << 4 | byte));
            }
            let (packed, rest) = rest.split_at_checked(occurring.len().div_ceil(2))?;
            let mut lengths = [0; 256];
            let mut halves = packed.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
            for byte in &occurring {
                let length = halves.next().filter(|it| (1..=LENGTH_MAX).contains(it))?;
                *lengths.get_mut(usize::from(*byte))? = length;
            }
            let is_filled = halves.all(|half| half == 0);
            let lengths = Self(lengths);
            let is_whole = lengths.room() == 0 || matches!(occurring[..], [_]) && lengths.is_one();
            (is_filled && is_whole).then_some((lengths, rest))
        };
        read().ok_or_else(|| DecompressError::damaged("lengths of codes that fit none"))
    }

    /// What the codes leave over, in units of the longest; below 0: they are too many.
    fn room(&self) -> i32 {
        let used = self.0.iter().filter(|length| **length > 0);
        (1 << LENGTH_MAX) - used.map(|length| 1 << (LENGTH_MAX - length)).sum::<i32>()
    }

    /// Whether there is one code, of one bit.
    fn is_one(&self) -> bool {
        self.0.iter().sum::<u8>() == 1
    }

    /// The code of each byte and its length.
    pub(super) fn codes(&self) -> [(u16, u8); 256] {
        let mut codes = [(0, 0); 256];
        let mut next = 0_u16;
        for length in 1..=LENGTH_MAX {
            next <<= 1;
            for (code, has) in codes.iter_mut().zip(&self.0) {
                if *has == length {
                    *code = (next, length);
                    next += 1;
                }
            }
        }
        codes
    }

    /// For every possible next `width` bits the byte whose code they begin with, and that code's length; and the width.
    pub(super) fn table(&self) -> (Vec<(u8, u8)>, u32) {
        let width = self.0.iter().copied().max().unwrap_or_default();
        let mut table = vec![(0, 0); 1 << width];
        for (byte, (code, length)) in (0..=u8::MAX).zip(self.codes()) {
            if length > 0 {
                let first = usize::from(code) << (width - length);
                let entries = table.iter_mut().skip(first).take(1 << (width - length));
                entries.for_each(|entry| *entry = (byte, length));
            }
        }
        (table, u32::from(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[u64]) -> [u64; 256] {
        let mut counts = [0; 256];
        counts[65..65 + of.len()].copy_from_slice(of);
        counts
    }

    /// RFC 1951, 3.2.2: the letters A to H with these lengths have these codes.
    #[test]
    fn the_example_of_rfc_1951() {
        let mut lengths = Lengths([0; 256]);
        lengths.0[65..73].copy_from_slice(&[3, 3, 3, 3, 3, 2, 4, 4]);
        let codes = [0b010, 0b011, 0b100, 0b101, 0b110, 0b00, 0b1110, 0b1111];
        assert_eq!(
            lengths.codes()[65..73]
                .iter()
                .map(|it| it.0)
                .collect::<Vec<_>>(),
            codes
        );
        assert_eq!(lengths.room(), 0);
        let (table, width) = lengths.table();
        assert_eq!(
            (width, table[0b0011], table[0b1111]),
            (4, (b'F', 2), (b'H', 4))
        );
    }

    /// Huffman 1952, table I: thirteen messages with these probabilities take 3.42 digits on average.
    #[test]
    fn the_example_of_huffman_1952() {
        let per_cent = counts(&[20, 18, 10, 10, 10, 6, 6, 4, 4, 4, 4, 3, 1]);
        let lengths = Lengths::of(&per_cent);
        let digits = lengths.0.iter().zip(per_cent);
        let digits: u64 = digits
            .map(|(length, count)| u64::from(*length) * count)
            .sum();
        assert_eq!((digits, lengths.room()), (342, 0));
    }

    /// Goal: no code is longer than the limit, and the codes leave nothing over. Method: Fibonacci's numbers, the worst there
    /// are for depth, and every count of bytes.
    #[test]
    fn no_code_is_too_long() {
        let mut fibonacci = [1_u64; 40];
        for at in 2..40 {
            fibonacci[at] = fibonacci[at - 1] + fibonacci[at - 2];
        }
        let lengths = Lengths::of(&counts(&fibonacci));
        assert_eq!(
            (lengths.room(), lengths.0.iter().max()),
            (0, Some(&LENGTH_MAX))
        );
        for count in 2..=190 {
            let lengths = Lengths::of(&counts(&vec![7; count]));
            assert_eq!(lengths.room(), 0, "{count}");
        }
        assert_eq!(Lengths::of(&[1; 256]).0, [8; 256]);
    }

    #[test]
    fn lengths_are_read_as_they_were_written() {
        for of in [&[1][..], &[5, 1], &[100, 50, 20, 1, 1, 1, 1], &[3; 150]] {
            let lengths = Lengths::of(&counts(of));
            let mut bytes = Vec::new();
            lengths.write(&mut bytes);
            bytes.push(9);
            let (read, rest) = Lengths::read(&bytes).unwrap();
            assert_eq!((read.0, rest), (lengths.0, &[9][..]));
        }
    }
}
