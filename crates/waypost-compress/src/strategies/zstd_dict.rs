//! Zstandard with a dictionary: what messages have in common is known at both ends, so that a short message need not say it.
//!
//! One frame of zstd that says how long it unpacks to and which dictionary it needs; without a dictionary a frame that needs
//! none. Which dictionary packs, and where others are found, is said where one is made ([`with`]); the registry's row knows
//! none. Frames by others are read too, several in a row if they need the same dictionary.

use std::sync::Arc;

use zstd::zstd_safe::{self, CCtx, DCtx};

use super::zstandard::unpack_frames;
use crate::{
    Compress, CompressError, DecompressError, Strategy, check_length,
    dictionary::{Dictionaries, Dictionary},
};

/// Its name in the registry.
pub const NAME: &str = "zstd-dict";

pub(super) const STRATEGY: Strategy = Strategy {
    name: NAME,
    aliases: &["zstandard-dictionary", "zstd-dictionary"],
    number: 3,
    encoding: "waypost-zstd-dict",
    summary: "zstd with what messages have in common known beforehand: a third of short ones is left",
    source: "RFC 8878, section 5; pieces chosen as in COVER (Liao, Petri, Moffat and Wirth 2016, WWW)",
    new: || with(Arc::new(()), None),
};

/// The level without a dictionary; a dictionary has its own.
const LEVEL: i32 = 3;

/// Packs with `current`, or without a dictionary, and unpacks what needs one that `dictionaries` finds.
#[must_use]
pub fn with(
    dictionaries: Arc<dyn Dictionaries>,
    current: Option<Arc<Dictionary>>,
) -> Box<dyn Compress> {
    Box::new(ZstdDict {
        dictionaries,
        current,
        packing: None,
        unpacking: None,
    })
}

/// The id of the dictionary that a frame names; `None` if it needs none or is no frame.
#[must_use]
pub fn dictionary_id(packed: &[u8]) -> Option<u32> {
    zstd_safe::get_dict_id_from_frame(packed).map(std::num::NonZero::get)
}

/// The contexts are some hundred KiB each: made when first needed, kept for the next call.
struct ZstdDict {
    dictionaries: Arc<dyn Dictionaries>,
    current: Option<Arc<Dictionary>>,
    packing: Option<CCtx<'static>>,
    unpacking: Option<DCtx<'static>>,
}

const NO_MEMORY: &str = "no memory for a context";

impl Compress for ZstdDict {
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError> {
        check_length(input)?;
        let context = match &mut self.packing {
            Some(context) => context,
            none => {
                none.insert(CCtx::try_create().ok_or_else(|| CompressError::failed(&NO_MEMORY))?)
            }
        };
        let before = into.len();
        into.resize(before + zstd_safe::compress_bound(input.len()), 0);
        let end = into.get_mut(before..).unwrap_or_default();
        let dictionary = self.current.as_deref().and_then(Dictionary::packing);
        let outcome = match dictionary {
            Some(dictionary) => context.compress_using_cdict(end, input, dictionary),
            None => context.compress(end, input, LEVEL),
        };
        match outcome {
            Ok(written) => {
                into.truncate(before + written);
                Ok(())
            }
            Err(code) => {
                into.truncate(before);
                self.packing = None;
                Err(CompressError::failed(&zstd_safe::get_error_name(code)))
            }
        }
    }

    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError> {
        let dictionary = match dictionary_id(packed) {
            None => None,
            Some(id) => {
                let current = self.current.as_ref().filter(|current| current.id() == id);
                let found = current.cloned().or_else(|| self.dictionaries.find(id));
                Some(found.ok_or(DecompressError::NoDictionary { id })?)
            }
        };
        let context = match &mut self.unpacking {
            Some(context) => context,
            none => {
                none.insert(DCtx::try_create().ok_or_else(|| DecompressError::damaged(NO_MEMORY))?)
            }
        };
        unpack_frames(packed, limit, into, |end| match &dictionary {
            Some(dictionary) => context.decompress_using_ddict(end, packed, dictionary.unpacking()),
            None => context.decompress(end, packed),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::dictionary::testing::of_orders;

    /// Goal: two ends that know a dictionary understand each other; who does not is told which it needs. Method: one packs,
    /// with and without; three unpack.
    #[test]
    fn a_frame_names_the_dictionary_it_needs() {
        let dictionary = Arc::new(of_orders());
        let id = dictionary.id();
        let known = Arc::new(HashMap::from([(id, Arc::clone(&dictionary))]));
        let message = b"{\"order\":\"77123\",\"event\":\"order.placed\",\"currency\":\"GBP\"}";
        let mut packed = Vec::new();
        with(Arc::new(()), Some(dictionary))
            .compress(message, &mut packed)
            .unwrap();
        assert_eq!(dictionary_id(&packed), Some(id));
        assert!(packed.len() < message.len() / 2, "{} bytes", packed.len());

        let mut unpacked = Vec::new();
        with(known, None)
            .decompress(&packed, message.len(), &mut unpacked)
            .unwrap();
        assert_eq!(unpacked, message);
        let mut stranger = (STRATEGY.new)();
        let outcome = stranger.decompress(&packed, message.len(), &mut unpacked);
        assert_eq!(outcome, Err(DecompressError::NoDictionary { id }));
        assert_eq!(unpacked, message);

        let mut plain = Vec::new();
        stranger.compress(message, &mut plain).unwrap();
        assert_eq!(dictionary_id(&plain), None);
        let mut by_zstd = Vec::new();
        (crate::find("zstd").unwrap().new)()
            .decompress(&plain, message.len(), &mut by_zstd)
            .unwrap();
        assert_eq!(by_zstd, message);
    }

    /// Goal: a second frame cannot bring in what the first did not name. Method: frames with and without, in a row.
    #[test]
    fn every_frame_in_a_row_needs_the_same_dictionary() {
        let dictionary = Arc::new(of_orders());
        let message = b"{\"order\":\"77123\",\"event\":\"order.placed\"}";
        let mut packed = Vec::new();
        let mut one = with(Arc::new(()), Some(dictionary));
        one.compress(message, &mut packed).unwrap();
        let twice = packed.repeat(2);
        let mut unpacked = Vec::new();
        one.decompress(&twice, 2 * message.len(), &mut unpacked)
            .unwrap();
        assert_eq!(unpacked, message.repeat(2));
        let plain = b"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello";
        let hidden = [&plain[..], &packed].concat();
        let outcome = (STRATEGY.new)().decompress(&hidden, 1 << 20, &mut unpacked);
        assert!(
            matches!(outcome, Err(DecompressError::Damaged { .. })),
            "{outcome:?}"
        );
        let empty = (STRATEGY.new)().decompress(b"", 1 << 20, &mut unpacked);
        assert!(empty.unwrap_err().to_string().contains("not a frame"));
    }
}
