//! The key directory: the keys of this user, and those of the people and programs they trust, as files.
//!
//! A name stands for somebody (or for what several share). It has at most one key that is used for each purpose, and any number
//! of old ones, which still open and verify what they were used for. Each key is a file of its own, a JWK (RFC 7517) with a few
//! members more: [`KeyFile`]. [`KeyDirectory`] reads them all at once and is a [`KeyRing`](waypost_encrypt::KeyRing).
//!
//! Deliberately not here: cryptography (`waypost-encrypt`), and asking anybody whether a key is really theirs.

mod directory;
mod error;
mod file;
mod name;
mod place;
mod set;

pub use directory::{KeyDirectory, Kind, Recipient};
pub use error::KeysError;
pub use file::{Holding, KeyFile, Purpose};
pub use name::{KeyName, NotAName};
pub use set::{SET_KEYS_MAX, decode_keys};

/// How many key files a directory may have, own and trusted ones each; with more it is not read.
pub const KEYS_MAX: usize = 4_096;
