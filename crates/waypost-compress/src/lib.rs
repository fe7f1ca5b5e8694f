//! The compress family: how bytes are packed, in the log, on links and inside sealed payloads.
//!
//! [`Compress`] is what a strategy is, [`registry`] lists them all. Deliberately not here: which strategy packed some bytes
//! (whoever writes them notes its [`Strategy::number`]), checksums (the log's blocks carry one) and encryption, which comes
//! after.
#![deny(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod dictionary;
mod stages;
mod strategies;
mod unpacked;
mod varint;

pub use stages::{STAGES_MAX, Stages, StagesAtWork, StagesError};
pub use strategies::{auto, by_number, default_strategy, registry, zstd_dict};
pub use waypost_names::UnknownStrategy;

/// Longest input that is packed: 1 GiB, more than any block of the log or payload of MQTT (256 MiB).
pub const INPUT_BYTES_MAX: usize = 1 << 30;

/// A strategy at work. It may keep memory between calls, for speed alone: nothing that one call packed shows in another.
///
/// Invariants, tested for every strategy: what was packed unpacks to the same; unpacking any other bytes is an error or
/// some bytes, never a panic, never more than `limit` bytes and never memory for more than that; a call that fails leaves
/// `into` as it was.
pub trait Compress: Send {
    /// Appends `input`, packed, to `into`.
    fn compress(&mut self, input: &[u8], into: &mut Vec<u8>) -> Result<(), CompressError>;

    /// Appends what `packed` holds to `into`, at most `limit` bytes. `packed` is all of one [`Compress::compress`]: a byte
    /// left over is damage.
    fn decompress(
        &mut self,
        packed: &[u8],
        limit: usize,
        into: &mut Vec<u8>,
    ) -> Result<(), DecompressError>;
}

/// Why bytes were not packed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CompressError {
    /// More than [`INPUT_BYTES_MAX`].
    #[error("{length} bytes are more than the {INPUT_BYTES_MAX} that are packed in one piece")]
    TooLong {
        /// The input's length.
        length: usize,
    },
    /// The library behind the strategy refused.
    #[error("packing failed: {reason}")]
    Failed {
        /// What the library said.
        reason: String,
    },
}

/// Why bytes were not unpacked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DecompressError {
    /// They are not what this strategy packs.
    #[error("damaged: {reason}")]
    Damaged {
        /// What is wrong with them.
        reason: String,
    },
    /// Unpacked they would be longer than the caller allows.
    #[error("unpacked it would be longer than {limit} bytes")]
    TooLong {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// They were packed with a dictionary that is not here.
    #[error("packed with dictionary {id}, which is not known here")]
    NoDictionary {
        /// The dictionary's id, as the frame names it.
        id: u32,
    },
}

impl CompressError {
    fn failed(error: &impl std::fmt::Display) -> Self {
        Self::Failed {
            reason: error.to_string(),
        }
    }
}

impl DecompressError {
    fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged {
            reason: reason.into(),
        }
    }

    fn damaged_by(error: &impl std::fmt::Display) -> Self {
        Self::damaged(error.to_string())
    }
}

/// A row of the registry.
pub struct Strategy {
    /// Its name in configuration.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// What stands for it on disk and on links. Never changed, never given to another.
    pub number: u8,
    /// What stands for it in `content-encoding`: HTTP's name where it has one, else one that begins with `waypost-`. Never
    /// changed, never given to another.
    pub encoding: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its definition comes from.
    pub source: &'static str,
    /// Makes one; what it needs beyond a few bytes it takes when it is first used.
    pub new: fn() -> Box<dyn Compress>,
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    waypost_names::find("compress", registry(), name)
}

/// Finds a strategy by what stands for it in `content-encoding`. Case does not matter, and `x-compress` is `compress`
/// (RFC 9110, 8.4.1).
pub fn find_encoding(encoding: &str) -> Option<&'static Strategy> {
    let encoding = match encoding {
        old if old.eq_ignore_ascii_case("x-compress") => "compress",
        encoding => encoding,
    };
    let is_it = |strategy: &&Strategy| strategy.encoding.eq_ignore_ascii_case(encoding);
    registry().iter().find(is_it)
}

waypost_names::named!(Strategy);

fn check_length(input: &[u8]) -> Result<(), CompressError> {
    if input.len() > INPUT_BYTES_MAX {
        return Err(CompressError::TooLong {
            length: input.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_none_stands_for_two() {
        for (asked, expect) in [
            ("zstd", "zstd"),
            ("Zstandard", "zstd"),
            ("LZ_4", "lz4"),
            ("None", "identity"),
        ] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
        assert_eq!(waypost_names::doubled(registry()), None);
        let error = find("no such thing").unwrap_err();
        assert_eq!(error.names.len(), registry().len());
        assert_eq!(error.family, "compress");
    }

    #[test]
    fn an_encoding_stands_for_one_strategy_in_any_case() {
        for strategy in registry() {
            assert_eq!(find_encoding(strategy.encoding), Some(strategy));
            assert_eq!(
                find_encoding(&strategy.encoding.to_uppercase()),
                Some(strategy)
            );
        }
        assert_eq!(find_encoding("gzip"), None);
        assert_eq!(find_encoding(""), None);
    }
}
