//! From messages to a dictionary: samples kept in bounded memory, and the training itself.

use std::collections::HashMap;

use super::{
    Dictionary, ID_MIN, ID_TRAINED_MAX, PUBLISHERS_MIN, finalize, hash, pieces,
    windows::{Rule, Sample, Shared},
};

/// Who sent a message, as a number: the same for the same name. Two who have the same number by chance count as one, which
/// keeps more secret, not less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Publisher(u64);

impl Publisher {
    /// The publisher of this name.
    #[must_use]
    pub fn named(name: &[u8]) -> Self {
        Self(hash(name))
    }
}

/// What may be in a dictionary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Privacy {
    /// Only what [`PUBLISHERS_MIN`] publishers sent.
    #[default]
    Shared,
    /// Whatever is in several messages, though one publisher sent them all. To measure what the rule costs; never for
    /// messages of people who did not agree.
    None,
}

/// Samples are at most so many bytes: what is beyond takes the place of some of them by chance. Training takes some ten
/// times that, for a second.
pub const SAMPLES_BYTES_MAX: usize = 4 << 20;

/// Samples are at most so many messages.
pub const SAMPLES_MAX: usize = 1 << 16;

/// Of a longer message its first so many bytes are a sample.
pub const SAMPLE_BYTES_MAX: usize = 16 << 10;

/// A trained dictionary's content: more of it saves less than it costs to send and keep.
const CONTENT_BYTES_MAX: usize = 60 << 10;

/// Content below that is not worth a dictionary.
const CONTENT_BYTES_MIN: usize = 64;

/// Without privacy, a window counts from so many messages on.
const MESSAGES_MIN: usize = 2;

/// The tables are made of at most so many bytes of samples.
const STATISTICS_BYTES_MAX: usize = 1 << 20;

/// Where the choice among samples begins: the same messages make the same dictionary.
const SEED: u64 = 0x6469_6374;

/// Collects messages and makes a dictionary of them.
pub struct Trainer {
    privacy: Privacy,
    samples: Vec<(Publisher, Box<[u8]>)>,
    bytes: usize,
    seen: u64,
    random: u64,
}

/// Why there is no dictionary.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TrainingError {
    /// Not as many publishers as must have sent what a dictionary contains.
    #[error(
        "{publishers} publishers; what is in a dictionary was sent by {PUBLISHERS_MIN} at least"
    )]
    TooFewPublishers {
        /// How many there are.
        publishers: usize,
    },
    /// They have too little in common.
    #[error(
        "the messages have {bytes} bytes in common; from {CONTENT_BYTES_MIN} on it is worth a dictionary"
    )]
    TooLittleShared {
        /// How much they have.
        bytes: usize,
    },
    /// Every id is taken.
    #[error("all ids from {ID_MIN} to {ID_TRAINED_MAX} are taken")]
    NoId,
    /// zstd refused.
    #[error("zstd makes no dictionary of it: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
}

impl Trainer {
    /// One without messages.
    #[must_use]
    pub fn new(privacy: Privacy) -> Self {
        Self {
            privacy,
            samples: Vec::new(),
            bytes: 0,
            seen: 0,
            random: SEED,
        }
    }

    /// Takes a message, or some of it, or lets it go: what is kept stays within [`SAMPLES_BYTES_MAX`] and [`SAMPLES_MAX`], and
    /// every message has the same chance.
    pub fn add(&mut self, publisher: Publisher, message: &[u8]) {
        let sample = message.get(..SAMPLE_BYTES_MAX).unwrap_or(message);
        if sample.is_empty() {
            return;
        }
        self.seen += 1;
        if !self.has_room(sample.len()) {
            let chance = self.random() % self.seen;
            if chance >= self.samples.len() as u64 {
                return;
            }
            while !self.has_room(sample.len()) {
                self.drop_one();
            }
        }
        self.bytes += sample.len();
        self.samples.push((publisher, sample.into()));
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.samples.len() < SAMPLES_MAX && self.bytes + bytes <= SAMPLES_BYTES_MAX
    }

    fn drop_one(&mut self) {
        let count = self.samples.len() as u64;
        let at = usize::try_from(self.random() % count.max(1)).unwrap_or_default();
        let (_, sample) = self.samples.swap_remove(at);
        self.bytes -= sample.len();
    }

    /// `SplitMix64`.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Messages seen.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Messages that are kept as samples.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.samples.len()
    }

    /// Bytes of the samples.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.bytes
    }

    /// Makes a dictionary of what was collected, with an id that `is_taken` does not know. The same messages in the same
    /// order, and the same ids taken, make the same dictionary. Takes about a second for [`SAMPLES_BYTES_MAX`].
    pub fn train(&self, is_taken: &dyn Fn(u32) -> bool) -> Result<Dictionary, TrainingError> {
        let samples = self.samples();
        let content = self.content(&samples)?;
        let statistics = self.statistics(&samples);
        let refused = |reason: &str| TrainingError::Refused {
            reason: reason.to_owned(),
        };
        let mut bytes = finalize::finalize(&content, &statistics, ID_MIN).map_err(refused)?;
        let id = free_id(hash(&bytes), is_taken).ok_or(TrainingError::NoId)?;
        if let Some(field) = bytes.get_mut(4..8) {
            field.copy_from_slice(&id.to_le_bytes());
        }
        Dictionary::new(bytes).map_err(|error| refused(&error.to_string()))
    }

    /// The samples, with a number for each publisher in place of the name.
    pub(super) fn samples(&self) -> Vec<Sample<'_>> {
        let mut numbers = HashMap::new();
        let number = |(publisher, _): &(Publisher, Box<[u8]>)| {
            let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
            *numbers.entry(*publisher).or_insert(next)
        };
        let numbers: Vec<_> = self.samples.iter().map(number).collect();
        let both = numbers.into_iter().zip(&self.samples);
        both.map(|(publisher, (_, bytes))| Sample { publisher, bytes })
            .collect()
    }

    /// The content of a dictionary: what the rule of privacy is about.
    pub(super) fn content(&self, samples: &[Sample<'_>]) -> Result<Vec<u8>, TrainingError> {
        let publishers = samples.iter().map(|sample| sample.publisher + 1).max();
        let publishers = publishers.unwrap_or_default() as usize;
        let rule = match self.privacy {
            Privacy::Shared if publishers < PUBLISHERS_MIN => {
                return Err(TrainingError::TooFewPublishers { publishers });
            }
            Privacy::Shared => Rule::Publishers(PUBLISHERS_MIN),
            Privacy::None => Rule::Messages(MESSAGES_MIN),
        };
        let shared = Shared::count(samples, rule);
        let chosen = pieces::choose(samples, &shared, CONTENT_BYTES_MAX);
        let content = pieces::join(chosen, samples, &shared);
        if content.len() < CONTENT_BYTES_MIN {
            let bytes = content.len();
            return Err(TrainingError::TooLittleShared { bytes });
        }
        Ok(content)
    }

    /// What the tables are made of: no publisher has more than its part of it.
    fn statistics<'a>(&self, samples: &[Sample<'a>]) -> Vec<&'a [u8]> {
        let all = self.bytes.min(STATISTICS_BYTES_MAX);
        let of_one = match self.privacy {
            Privacy::Shared => all / PUBLISHERS_MIN,
            Privacy::None => all,
        };
        let mut left = all;
        let mut given: HashMap<u32, usize> = HashMap::new();
        let mut statistics = Vec::new();
        // From all over the samples: a stride that takes about as many bytes as are wanted.
        let stride = self.bytes.div_ceil(STATISTICS_BYTES_MAX).max(1);
        for sample in samples.iter().step_by(stride) {
            let given = given.entry(sample.publisher).or_default();
            let room = left.min(of_one.saturating_sub(*given));
            let bytes = sample.bytes.get(..room).unwrap_or(sample.bytes);
            if !bytes.is_empty() {
                *given += bytes.len();
                left -= bytes.len();
                statistics.push(bytes);
            }
        }
        statistics
    }
}

/// The first id from where the hash says that is free.
fn free_id(hash: u64, is_taken: &dyn Fn(u32) -> bool) -> Option<u32> {
    let count = u64::from(ID_TRAINED_MAX - ID_MIN) + 1;
    (0..count)
        .filter_map(|further| u32::try_from((hash.wrapping_add(further)) % count).ok())
        .map(|offset| ID_MIN + offset)
        .find(|id| !is_taken(*id))
}
