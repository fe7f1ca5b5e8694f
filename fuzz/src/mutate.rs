//! Makes new inputs from old ones.

/// Longest input that is made, in bytes.
pub const INPUT_BYTES_MAX: usize = 4096;

/// Changes made to one input at most.
const CHANGES_MAX: usize = 6;

/// Bytes that mean something in many formats.
const INTERESTING: [u8; 12] = [
    0, 1, 2, 0x7F, 0x80, 0x81, 0xFE, 0xFF, b'/', b'+', b'#', b'$',
];

/// A seeded maker of inputs.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A maker; the same seed makes the same inputs of the same corpus.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Makes the next input in `out`: one of the corpus with a few changes, or random bytes where
    /// the corpus is empty.
    pub fn make(&mut self, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
        out.clear();
        if let Some(start) = self.pick(corpus) {
            out.extend_from_slice(start);
        } else {
            let len = self.below(64);
            out.extend((0..len).map(|_| self.byte()));
        }
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(corpus, out);
        }
        out.truncate(INPUT_BYTES_MAX);
    }

    fn change(&mut self, corpus: &[Vec<u8>], out: &mut Vec<u8>) {
        let at = self.below(out.len() + 1);
        match self.below(9) {
            0 => self.set(out, at, |mutator, byte| byte ^ (1 << mutator.below(8))),
            1 => self.set(out, at, |mutator, _| mutator.byte()),
            2 => self.set(out, at, |mutator, byte| {
                mutator.pick(&INTERESTING).copied().unwrap_or(byte)
            }),
            3 => self.set(out, at, |mutator, byte| match mutator.below(2) {
                0 => byte.wrapping_add(1),
                _ => byte.wrapping_sub(1),
            }),
            4 => {
                let byte = self.byte();
                out.insert(at, byte);
            }
            5 => {
                let len = self.below(8).min(out.len() - at);
                out.drain(at..at + len);
            }
            6 => out.truncate(at),
            7 => {
                let len = self.below(16).min(out.len() - at);
                let copy: Vec<u8> = out.iter().skip(at).take(len).copied().collect();
                out.splice(at..at, copy);
            }
            _ => {
                let other: &[u8] = self.pick(corpus).map_or(&[], Vec::as_slice);
                let from = self.below(other.len() + 1);
                out.truncate(at);
                out.extend(other.iter().skip(from));
            }
        }
    }

    fn set(&mut self, out: &mut [u8], at: usize, change: impl FnOnce(&mut Self, u8) -> u8) {
        if let Some(byte) = out.get_mut(at) {
            *byte = change(self, *byte);
        }
    }

    fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = self.below(choices.len().max(1));
        choices.get(index)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    /// A number below `end`, which is at least 1.
    fn below(&mut self, end: usize) -> usize {
        let scaled = (u128::from(self.next()) * end as u128) >> 64;
        usize::try_from(scaled).unwrap_or(0)
    }

    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_replay() {
        let corpus = [b"hello".to_vec(), b"world".to_vec()];
        let make = |seed| {
            let mut mutator = Mutator::new(seed);
            let mut input = Vec::new();
            (0..1000)
                .map(|_| {
                    mutator.make(&corpus, &mut input);
                    input.clone()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        assert!(make(3).iter().any(Vec::is_empty));
        assert!(make(3).iter().any(|input| input.len() > 10));
    }
}
