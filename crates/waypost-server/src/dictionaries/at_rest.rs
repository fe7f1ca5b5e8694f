//! Dictionaries where what is on disk is encrypted: with the keys of the store, each file by a key of its own.
//!
//! Such a file begins with a zero byte, which no topic filter has; then the number of the cipher, the id of the master key, a
//! salt, the tag, and what is sealed: the same as in a file that is not encrypted.

use std::io;
use std::sync::Arc;

use waypost_encrypt::{
    KeyId, MasterKey, Nonce, Random, SALT_BYTES, SystemRandom, TAG_BYTES, Tag, by_number,
};

/// What the key of a file is for.
const PURPOSE: &str = "waypost dictionary";

/// Before the tag.
const HEADER_BYTES: usize = 2 + 8 + SALT_BYTES;

/// Bytes that a sealed file has more.
pub(super) const SEALED_BYTES: usize = HEADER_BYTES + TAG_BYTES;

/// The keys of the store.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtRest {
    /// Of what is written from now on; none: it is not encrypted.
    pub(crate) current: Option<Arc<MasterKey>>,
    /// Of what was written before.
    pub(crate) older: Vec<Arc<MasterKey>>,
}

impl AtRest {
    /// What is written for this.
    pub(super) fn seal(&self, mut text: Vec<u8>) -> io::Result<Vec<u8>> {
        let Some(master) = &self.current else {
            return Ok(text);
        };
        let mut salt = [0; SALT_BYTES];
        SystemRandom.fill(&mut salt).map_err(io::Error::other)?;
        let strategy = master.strategy();
        let mut sealed = vec![0, strategy.number];
        sealed.extend(master.id().0);
        sealed.extend(salt);
        // The key is used for this alone.
        let cipher = (strategy.new)(&master.derive(&salt, PURPOSE));
        let tag = cipher.seal_in_place(Nonce::numbered(0), &sealed, &mut text);
        sealed.extend(tag.map_err(io::Error::other)?.0);
        sealed.append(&mut text);
        Ok(sealed)
    }

    /// What was written so.
    pub(super) fn open(&self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        if bytes.first() != Some(&0) {
            return Ok(bytes);
        }
        let parts = bytes.split_at_checked(HEADER_BYTES).and_then(|parts| {
            let (header, rest) = parts;
            let (tag, text) = rest.split_first_chunk::<TAG_BYTES>()?;
            let ([_, number], rest) = header.split_first_chunk::<2>()?;
            let (id, salt) = rest.split_first_chunk::<8>()?;
            let salt = salt.first_chunk::<SALT_BYTES>()?;
            Some((header, *number, KeyId(*id), salt, Tag(*tag), text.to_vec()))
        });
        let Some((header, number, id, salt, tag, mut text)) = parts else {
            return Err(io::Error::other("shorter than what is sealed"));
        };
        let mut keys = self.current.iter().chain(&self.older);
        let Some(master) = keys.find(|key| key.id() == id) else {
            let why =
                format!("sealed by the key {id}, which store.key_file and old_key_files have not");
            return Err(io::Error::other(why));
        };
        let Some(strategy) = by_number(number) else {
            return Err(io::Error::other("no cipher has its number"));
        };
        let cipher = (strategy.new)(&master.derive(salt, PURPOSE));
        cipher
            .open_in_place(Nonce::numbered(0), header, &mut text, &tag)
            .map_err(io::Error::other)?;
        Ok(text)
    }
}
