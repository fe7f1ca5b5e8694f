//! JWK Sets (RFC 7517, 5), which are what people give each other, PEM, which other programs write, and the members of a key that
//! are ours.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use waypost_encrypt::{JWK_BYTES_MAX, Jwk, KeyUse};
use zeroize::Zeroizing;

use super::{KeysError, Purpose};

/// How many keys a set may have.
pub const SET_KEYS_MAX: usize = 16;

/// One key of a text, with its `use`.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) key: Jwk,
    pub(super) purpose: Purpose,
}

/// How PEM begins, and no JSON does.
const PEM_BEGIN: &[u8] = b"-----BEGIN ";

/// Reads the keys that somebody gave: one JWK, a set of them, or PEM.
pub fn decode_keys(text: &[u8]) -> Result<Vec<Jwk>, KeysError> {
    Ok(read(text)?.into_iter().map(|given| given.key).collect())
}

/// The keys of a text, with what they are for.
pub(super) fn read(text: &[u8]) -> Result<Vec<Given>, KeysError> {
    if text.len() > SET_KEYS_MAX * JWK_BYTES_MAX {
        return Err(KeysError::NotASet);
    }
    let is_json = text.trim_ascii_start().first() == Some(&b'{');
    if !is_json
        && text
            .windows(PEM_BEGIN.len())
            .any(|window| window == PEM_BEGIN)
    {
        let keys = Jwk::decode_pem(text)?;
        return Ok(keys.into_iter().map(Given::of).collect());
    }
    let members: BTreeMap<&str, &RawValue> =
        serde_json::from_slice(text).map_err(|_| KeysError::NotASet)?;
    let Some(keys) = members.get("keys") else {
        return Ok(vec![one(text)?]);
    };
    let keys: Vec<&RawValue> = serde_json::from_str(keys.get()).map_err(|_| KeysError::NotASet)?;
    if keys.is_empty() || keys.len() > SET_KEYS_MAX {
        return Err(KeysError::NotASet);
    }
    keys.iter().map(|key| one(key.get().as_bytes())).collect()
}

/// One JWK.
pub(super) fn one(text: &[u8]) -> Result<Given, KeysError> {
    Ok(Given::of(Jwk::decode(text)?))
}

impl Given {
    fn of(key: Jwk) -> Self {
        let key_use = match &key {
            Jwk::Public(key) => key.key_use(),
            Jwk::Private(key) => key.public().key_use(),
            Jwk::Symmetric(_) => Some(KeyUse::Seal),
        };
        let purpose = match key_use {
            Some(KeyUse::Seal) => Purpose::Sealing,
            Some(KeyUse::Sign) => Purpose::Signing,
            None => Purpose::Both,
        };
        Self { key, purpose }
    }
}

/// A member of a JWK as it is written there.
pub(super) fn member(text: &[u8], name: &str) -> Option<String> {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_slice(text).ok()?;
    members.get(name).map(|value| value.get().to_owned())
}

/// A JWK with members more, which are JSON already; in memory that is wiped.
pub(super) fn with_members(jwk: &str, members: &[(&str, String)]) -> Zeroizing<String> {
    let length = members
        .iter()
        .map(|(name, value)| name.len() + value.len() + 4);
    // As long as it gets: nothing is moved and left behind.
    let mut text = Zeroizing::new(String::with_capacity(jwk.len() + length.sum::<usize>()));
    text.push_str(jwk.strip_suffix('}').unwrap_or(jwk));
    for (name, value) in members {
        text.push_str(",\"");
        text.push_str(name);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    text
}

/// A set, one key a line.
pub(super) fn write(keys: &[Zeroizing<String>]) -> Zeroizing<String> {
    let length = keys.iter().map(|key| key.len() + 4).sum::<usize>();
    let mut text = Zeroizing::new(String::with_capacity(length + 16));
    text.push_str("{\"keys\":[\n");
    for (index, key) in keys.iter().enumerate() {
        text.push_str(if index == 0 { "  " } else { ",\n  " });
        text.push_str(key);
    }
    text.push_str("\n]}\n");
    text
}
