//! What can go wrong with the log.

use std::io;

use thiserror::Error;
use waypost_encrypt::KeyId;

use super::FORMAT;
use crate::record::Damage;

/// A part of a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}, byte {offset}: {what}; {bytes} bytes are lost")]
pub struct LogDamage {
    /// Which file.
    pub file: String,
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub bytes: u64,
    /// What is wrong.
    pub what: &'static str,
}

/// Why the log did not do what it was asked to.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk is full.
    #[error("no room on the disk for {file}")]
    Full {
        /// Which file.
        file: String,
    },
    /// The disk failed.
    #[error("{doing} {file}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        file: String,
        /// What came of it.
        source: io::Error,
    },
    /// A block cannot be read.
    #[error(transparent)]
    Damaged(#[from] LogDamage),
    /// What was to be appended is not what a batch makes.
    #[error("refused: {0}")]
    Records(#[from] Damage),
    /// What was to be appended is too long.
    #[error("refused: {bytes} bytes at once are more than the {max} allowed", max = super::APPEND_BYTES_MAX)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// What was to be appended could not be compressed or encrypted.
    #[error("refused: {0}")]
    NotPacked(String),
    /// A later version wrote it.
    #[error(
        "{file} has format {version}, and this version of Waypost reads up to {FORMAT}: start the version that wrote it, or a later one"
    )]
    Newer {
        /// Which file.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// It is encrypted with a key that is not there.
    #[error("{file} is encrypted with key {key}, which is not among the keys given")]
    NoKey {
        /// Which file.
        file: String,
        /// What stands for the key.
        key: KeyId,
    },
    /// There is no such segment, or none that may be asked for this.
    #[error("there is no such segment: {number}")]
    NoSegment {
        /// Its number.
        number: u32,
    },
}

impl LogError {
    pub(crate) fn io(doing: &'static str, file: &str, source: io::Error) -> Self {
        let file = file.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { file },
            _ => Self::Io {
                doing,
                file,
                source,
            },
        }
    }

    /// Whether room on the disk would help.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
