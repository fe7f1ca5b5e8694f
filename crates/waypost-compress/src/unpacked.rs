//! What comes out of a decoder, within the caller's limit. Memory grows with what has come out, never with what somebody
//! says will.

use crate::DecompressError;

/// First memory taken; from there on it doubles.
const FIRST_BYTES: usize = 256;

/// The bytes that one call has unpacked so far, behind those that the caller had already.
pub(crate) struct Unpacked<'a> {
    into: &'a mut Vec<u8>,
    before: usize,
    limit: usize,
}

/// Lets `decode` append to `into`, at most `limit` bytes; if it fails, nothing is appended.
pub(crate) fn unpack(
    into: &mut Vec<u8>,
    limit: usize,
    decode: impl FnOnce(&mut Unpacked<'_>) -> Result<(), DecompressError>,
) -> Result<(), DecompressError> {
    let before = into.len();
    let outcome = decode(&mut Unpacked {
        into: &mut *into,
        before,
        limit,
    });
    if outcome.is_err() {
        into.truncate(before);
    }
    outcome
}

impl Unpacked<'_> {
    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.into.len() - self.before
    }

    /// Whether `length` bytes, as somebody says, are within the limit. Takes no memory for them.
    pub(crate) fn check(&self, length: u64) -> Result<usize, DecompressError> {
        match usize::try_from(length) {
            Ok(length) if length <= self.limit => Ok(length),
            _ => Err(DecompressError::TooLong { limit: self.limit }),
        }
    }

    /// Makes room for `more` bytes, if the limit allows.
    fn reserve(&mut self, more: usize) -> Result<(), DecompressError> {
        let length = self.len();
        if more > self.limit - length {
            return Err(DecompressError::TooLong { limit: self.limit });
        }
        if more > self.into.capacity() - self.into.len() {
            let wanted = more.max(length).max(FIRST_BYTES);
            self.into.reserve_exact(wanted.min(self.limit - length));
        }
        Ok(())
    }

    pub(crate) fn push(&mut self, byte: u8) -> Result<(), DecompressError> {
        self.reserve(1)?;
        self.into.push(byte);
        Ok(())
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) -> Result<(), DecompressError> {
        self.reserve(bytes.len())?;
        self.into.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn repeat(&mut self, byte: u8, count: usize) -> Result<(), DecompressError> {
        self.reserve(count)?;
        self.into.resize(self.into.len() + count, byte);
        Ok(())
    }

    /// Appends once more what came out at `from`, `count` bytes of it; none of them may be ahead of the end.
    pub(crate) fn again(&mut self, from: usize, count: usize) -> Result<(), DecompressError> {
        self.reserve(count)?;
        if from + count > self.len() {
            return Err(DecompressError::damaged(
                "a repetition of what has not come yet",
            ));
        }
        let from = self.before + from;
        self.into.extend_from_within(from..from + count);
        Ok(())
    }

    /// The byte that came out at `at`.
    pub(crate) fn at(&self, at: usize) -> Option<u8> {
        self.into.get(self.before + at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_more_than_the_limit_not_even_memory() {
        for limit in [0, 1, 5, 255, 256, 1000] {
            for length in [limit, limit + 1, 2 * limit + 1] {
                let mut into = Vec::new();
                let outcome = unpack(&mut into, limit, |unpacked| {
                    (0..length).try_for_each(|_| unpacked.push(7))
                });
                assert!(into.capacity() <= limit, "{limit}: {}", into.capacity());
                assert_eq!(outcome.is_ok(), length <= limit);
                assert_eq!(into.len(), if length <= limit { length } else { 0 });
            }
        }
    }

    #[test]
    fn every_way_of_appending_is_within_the_limit() {
        type Way = fn(&mut Unpacked<'_>) -> Result<(), DecompressError>;
        let check = |append: Way, limit| {
            let mut into = b"kept".to_vec();
            let outcome = unpack(&mut into, limit, |unpacked| {
                unpacked.extend(b"abc")?;
                append(unpacked)
            });
            (outcome, into)
        };
        let ways: [Way; 4] = [
            |unpacked| unpacked.push(b'x'),
            |unpacked| unpacked.extend(b"x"),
            |unpacked| unpacked.repeat(b'x', 1),
            |unpacked| unpacked.again(2, 1),
        ];
        for way in ways {
            assert_eq!(check(way, 4).0, Ok(()));
            let refused = Err(DecompressError::TooLong { limit: 3 });
            assert_eq!(check(way, 3), (refused, b"kept".to_vec()));
        }
        let (outcome, _) = check(|unpacked| unpacked.again(2, 2), 100);
        assert!(outcome.is_err(), "ahead of the end");
    }
}
