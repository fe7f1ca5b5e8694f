//! Dictionaries of zstd: what many messages have in common, known to both ends beforehand, so that a short message need not
//! say it. [`Trainer`] makes one of messages, [`Dictionary`] is one ready for use, [`Dictionaries`] is where one is found by
//! the id in a frame.
//!
//! **Privacy.** A dictionary is read by whoever may read the topic, and stays when the messages are gone. So of what was sent
//! it contains only what many sent: of each piece in its content every window of [`WINDOW_BYTES`] bytes was sent by at least
//! [`PUBLISHERS_MIN`] distinct publishers. Between two pieces stands a byte that none of the messages has, or the rarest;
//! no window across such a seam is one that fewer publishers sent. The entropy tables before the content say how
//! often each byte value, and each length of repetitions, was met in all samples together, in some hundred bits; no
//! publisher's part in these counts is above one in [`PUBLISHERS_MIN`]. What this does not stop: somebody with nineteen names
//! who sends a guess can see whether a twentieth sent it too.
//!
//! **Ids** come from the hash of a dictionary's bytes and lie from 32,768 to 65,535: in the range that zstd leaves to private
//! use, and two bytes in a frame instead of four. So few are not unique in the world: whoever keeps dictionaries says which
//! ids are taken ([`Trainer::train`]), and an id stands for one dictionary in one server.
//!
//! The format is zstd's (RFC 8878, section 5), so that `zstd -D` and every library read it. Deliberately not here: whose
//! messages may be mixed (one tenant's, never sealed ones), when to train, and how long a dictionary is kept.

mod finalize;
mod pieces;
mod trainer;
mod windows;

use std::{
    collections::HashMap,
    fmt,
    hash::BuildHasher,
    sync::{Arc, OnceLock},
};

use zstd::zstd_safe::{self, CDict, DDict};

pub use trainer::{
    Privacy, Publisher, SAMPLE_BYTES_MAX, SAMPLES_BYTES_MAX, SAMPLES_MAX, Trainer, TrainingError,
};

/// Of what is in a dictionary, every window of so many bytes was sent by many.
pub const WINDOW_BYTES: usize = 8;

/// How many distinct publishers are many.
pub const PUBLISHERS_MIN: usize = 20;

/// The lowest id: below it are those that zstd's authors give away.
pub const ID_MIN: u32 = 32_768;

/// The highest id that a dictionary made here has: two bytes in a frame.
pub const ID_TRAINED_MAX: u32 = 65_535;

/// The highest id that is taken from elsewhere: above it are again those that are given away.
pub const ID_MAX: u32 = (1 << 31) - 1;

/// The longest dictionary, in bytes. Trained ones are a quarter of that at most.
pub const DICTIONARY_BYTES_MAX: usize = 256 << 10;

/// The level that trained dictionaries are made for: on short messages higher ones cost several times as much and save
/// nothing, measured on orders and chats.
const LEVEL: i32 = 3;

/// One dictionary, ready for use. Some 30 KiB beside its bytes, and 200 KiB more from when it first packs something.
pub struct Dictionary {
    id: u32,
    bytes: Vec<u8>,
    packing: OnceLock<Option<CDict<'static>>>,
    unpacking: DDict<'static>,
}

/// Why bytes are not a dictionary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadDictionary {
    /// Longer than [`DICTIONARY_BYTES_MAX`].
    #[error("{length} bytes are more than the {DICTIONARY_BYTES_MAX} of the longest dictionary")]
    TooLong {
        /// How long it is.
        length: usize,
    },
    /// Not from [`ID_MIN`] to [`ID_MAX`]; 0 is what has no id.
    #[error("id {id} is not from {ID_MIN} to {ID_MAX}")]
    Id {
        /// The id it has.
        id: u32,
    },
    /// zstd cannot read it.
    #[error("not a dictionary of zstd")]
    Damaged,
}

impl Dictionary {
    /// Reads a dictionary in zstd's format.
    pub fn new(bytes: Vec<u8>) -> Result<Self, BadDictionary> {
        if bytes.len() > DICTIONARY_BYTES_MAX {
            let length = bytes.len();
            return Err(BadDictionary::TooLong { length });
        }
        let id = zstd_safe::get_dict_id(&bytes).map_or(0, std::num::NonZero::get);
        if !(ID_MIN..=ID_MAX).contains(&id) {
            return Err(BadDictionary::Id { id });
        }
        Ok(Self {
            id,
            unpacking: DDict::try_create(&bytes).ok_or(BadDictionary::Damaged)?,
            packing: OnceLock::new(),
            bytes,
        })
    }

    /// What frames that need it name.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// It, in zstd's format.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What packs with it; `None` if there was no memory.
    pub(crate) fn packing(&self) -> Option<&CDict<'static>> {
        let make = || CDict::try_create(&self.bytes, LEVEL);
        self.packing.get_or_init(make).as_ref()
    }

    /// What unpacks with it.
    pub(crate) fn unpacking(&self) -> &DDict<'static> {
        &self.unpacking
    }
}

impl fmt::Debug for Dictionary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "dictionary {} of {} bytes",
            self.id,
            self.bytes.len()
        )
    }
}

/// Where a dictionary is found by its id.
pub trait Dictionaries: Send + Sync {
    /// The dictionary with this id, if it is known here.
    fn find(&self, id: u32) -> Option<Arc<Dictionary>>;
}

/// None is known.
impl Dictionaries for () {
    fn find(&self, _id: u32) -> Option<Arc<Dictionary>> {
        None
    }
}

impl<S: BuildHasher + Send + Sync> Dictionaries for HashMap<u32, Arc<Dictionary>, S> {
    fn find(&self, id: u32) -> Option<Arc<Dictionary>> {
        self.get(&id).cloned()
    }
}

/// FNV-1a, 64 bits: the same in every version, for ids.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
