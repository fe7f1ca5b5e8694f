//! The encrypt family: how bytes are sealed with a key, on disk and on links, how keys come from a master key, and how
//! messages are sealed from end to end.
//!
//! [`Encrypt`] is what a strategy is, [`registry`] lists them all; [`MasterKey`] gives the keys. [`check_sealed`] says whether
//! a payload is sealed; [`PrivateKey`], [`PublicKey`] and [`SymmetricKey`] are those of people. Deliberately not here: where
//! keys come from (files, environment: the server and the client), and nonces at rest: who seals says which number it is, and
//! never gives one twice under one key.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod key;
#[allow(dead_code, reason = "the envelopes that use them follow")]
mod keys;
mod random;
#[allow(dead_code, reason = "the envelopes that use them follow")]
mod sealing;
mod strategies;

pub use key::{KEY_BYTES, Key, KeyError, KeyId, MasterKey, SALT_BYTES, segment_key};
pub use keys::{
    JWK_BYTES_MAX, Jwk, JwkError, KeyKind, KeyRing, KeySet, KeySpent, MESSAGES_MAX, PrivateKey,
    PublicKey, SymmetricKey,
};
pub use random::{NoRandomness, Random, SystemRandom};
pub use sealing::{HEADER_LABELS_MAX, NotSealed, RECIPIENTS_MAX, check_sealed};
pub use strategies::{by_number, default_strategy, registry};
pub use waypost_names::UnknownStrategy;

/// Bytes of a nonce.
pub const NONCE_BYTES: usize = 12;

/// Bytes of a tag.
pub const TAG_BYTES: usize = 16;

/// A number used once: two texts sealed with one key under one nonce give both away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce(pub [u8; NONCE_BYTES]);

impl Nonce {
    /// The nonce of the text with this number: four zero bytes, then the number, most significant byte first.
    pub fn numbered(number: u64) -> Self {
        let mut bytes = [0; NONCE_BYTES];
        if let Some(end) = bytes.last_chunk_mut() {
            *end = number.to_be_bytes();
        }
        Self(bytes)
    }
}

/// What shows that a sealed text and its associated data are as they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_BYTES]);

/// A strategy at work with one key: authenticated encryption with associated data, in place.
///
/// Invariants, tested for every strategy: what was sealed opens to the same; with another key, nonce, associated data or tag,
/// or a changed text, it does not open; the length stays.
pub trait Encrypt: Send + Sync {
    /// Turns `text` into what only the key opens. `associated` is not hidden, but cannot be changed unnoticed either. The
    /// nonce must not have been used with this key.
    fn seal_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
    ) -> Result<Tag, SealError>;

    /// Turns `text` back. After an error its bytes mean nothing.
    fn open_in_place(
        &self,
        nonce: Nonce,
        associated: &[u8],
        text: &mut [u8],
        tag: &Tag,
    ) -> Result<(), OpenError>;
}

/// A text was not sealed: it is longer than the strategy's primitive allows (64 GiB for AES-GCM).
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{length} bytes are more than can be sealed under one nonce")]
pub struct SealError {
    /// The text's length.
    pub length: usize,
}

/// A text was not opened: which of key, nonce, text, associated data or tag is another cannot be told.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it does not open: another key, or it was changed")]
pub struct OpenError;

/// A row of the registry.
pub struct Strategy {
    /// Its name in configuration.
    pub name: &'static str,
    /// Other names it goes by.
    pub aliases: &'static [&'static str],
    /// What stands for it on disk and on links; 0 stands for "not encrypted". Never changed, never given to another.
    pub number: u8,
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its definition comes from.
    pub source: &'static str,
    /// Makes one for a key.
    pub new: fn(&Key) -> Box<dyn Encrypt>,
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    waypost_names::find("encrypt", registry(), name)
}

waypost_names::named!(Strategy);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_and_none_stands_for_two() {
        for (asked, expect) in [
            ("aes-gcm", "aes-gcm"),
            ("AES_256_GCM", "aes-gcm"),
            ("aes256gcm", "aes-gcm"),
        ] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
        assert_eq!(waypost_names::doubled(registry()), None);
        let error = find("no such thing").unwrap_err();
        assert_eq!(error.names.len(), registry().len());
        assert_eq!(error.family, "encrypt");
    }
}
