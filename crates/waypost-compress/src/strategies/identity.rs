//! Identity: the bytes as they are, for what cannot be packed and as the measure of the others.

use crate::{Compress, CompressError, DecompressError, Strategy, check_length};

pub(super) const STRATEGY: Strategy = Strategy {
    name: "identity",
    aliases: &["none", "off", "raw", "store"],
    number: 0,
    encoding: "identity",
    summary: "the bytes as they are",
    source: "textbook",
    new: || Box::new(Identity),
};

struct Identity;

impl Compress for Identity {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        into.extend_from_slice(input);
        Ok(())
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        if packed.len() > limit {
            return Err(DecompressError::TooLong { limit });
        }
        into.extend_from_slice(packed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn nothing_is_added_and_nothing_changed() {
        let mut packed = b"before ".to_vec();
        (super::STRATEGY.new)()
            .compress(b"as it is", &mut packed)
            .unwrap();
        assert_eq!(packed, b"before as it is");
    }
}
