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
mod keys;
mod random;
mod sealing;
mod strategies;
mod suite;

pub use key::{KEY_BYTES, Key, KeyError, KeyId, MasterKey, SALT_BYTES, segment_key};
pub use keys::{
    JWK_BYTES_MAX, Jwk, JwkError, KeyKind, KeyRing, KeySet, KeySpent, KeyUse, LEGACY_BLOCKS_MAX,
    MESSAGES_MAX, PEM_KEYS_MAX, PemError, PrivateKey, PublicKey, SymmetricKey,
};
pub use random::{NoRandomness, Random, SystemRandom};
pub use sealing::{
    CCM_SHORT_BYTES_MAX, HEADER_LABELS_MAX, MessageId, NotSealed, Opened, OpeningError,
    RECIPIENTS_MAX, REMEMBERED_IDS, REMEMBERED_SENDERS, Recipient, RepeatGuard, Repeated, Sealing,
    SealingError, Sender, check_sealed, open, seal,
};
pub use strategies::{at_rest, auto, by_number, default_strategy, registry};
pub use suite::{Agreement, Content, NotForThat, Suite, SuiteError, require};
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
    /// What it can be used for.
    pub uses: &'static [Use],
    /// What it does, in one line.
    pub summary: &'static str,
    /// Where its definition comes from.
    pub source: &'static str,
    /// How it is at work on disk and on links, if it is for that; `auto` is what it chooses.
    pub at_rest: Option<&'static AtRest>,
}

/// A strategy as it is used on disk and on links.
pub struct AtRest {
    /// Its name in configuration.
    pub name: &'static str,
    /// What stands for it in what is written; 0 stands for "not encrypted". Never changed, never given to another.
    pub number: u8,
    /// Makes one for a key.
    pub new: fn(&Key) -> Box<dyn Encrypt>,
}

impl std::fmt::Debug for AtRest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name)
    }
}

impl PartialEq for AtRest {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// What a strategy can be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Sealing what is on disk, and on links, with the node's keys.
    AtRest,
    /// Hiding the content of messages.
    Sealing,
    /// Giving receivers the key of a message's content.
    KeyAgreement,
}

impl std::fmt::Display for Use {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::AtRest => "data at rest",
            Self::Sealing => "the content of messages",
            Self::KeyAgreement => "agreeing on a message's key",
        })
    }
}

/// Finds a strategy by name or alias; case, `_` and `-` do not matter.
pub fn find(name: &str) -> Result<&'static Strategy, UnknownStrategy> {
    waypost_names::find("encrypt", registry(), name)
}

/// Finds what seals data at rest by name or alias: `rsa` is a strategy, and not for that.
pub fn find_at_rest(name: &str) -> Result<&'static AtRest, AtRestError> {
    let strategy = find(name)?;
    require(strategy, Use::AtRest)?;
    let chosen = || auto::for_this_processor().at_rest();
    Ok(strategy.at_rest.unwrap_or_else(chosen))
}

/// Why a name is not that of a strategy for data at rest.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtRestError {
    /// No strategy has it.
    #[error(transparent)]
    Unknown(#[from] UnknownStrategy),
    /// One for something else has it.
    #[error(transparent)]
    NotForThat(#[from] NotForThat),
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
        for (asked, expect) in [
            ("3DES", "des"),
            ("chacha20", "chacha20-poly1305"),
            ("elliptic_curve_cryptography", "ecc"),
            ("automatic", "auto"),
        ] {
            assert_eq!(find(asked).unwrap().name, expect, "{asked}");
        }
        assert_eq!(error.family, "encrypt");
    }

    #[test]
    fn at_rest_are_only_authenticated_ciphers() {
        for name in ["aes-gcm", "aes-ccm", "chacha20-poly1305"] {
            assert_eq!(find_at_rest(name).unwrap().name, name);
        }
        assert!(["aes-gcm", "chacha20-poly1305"].contains(&find_at_rest("auto").unwrap().name));
        for name in ["rsa", "ecc", "hybrid", "aes", "des"] {
            let error = find_at_rest(name).unwrap_err().to_string();
            assert_eq!(
                error,
                format!(
                    "{name} is not for data at rest; there are: aes-gcm, aes-ccm, chacha20-poly1305, auto"
                )
            );
        }
        assert!(matches!(
            find_at_rest("rot13"),
            Err(AtRestError::Unknown(_))
        ));
    }
}
