//! Keys that people give each other: a JWK Set, one JWK, or PEM. What is read is written as JWK and read to the same keys.

use waypost_client::keys::{KeysError, SET_KEYS_MAX, decode_keys};
use waypost_encrypt::Jwk;

/// Runs the target.
pub fn run(input: &[u8]) {
    if let Ok(keys) = Jwk::decode_pem(input) {
        check(&keys);
    }
    match decode_keys(input) {
        Ok(keys) => check(&keys),
        // Never the text itself, which may be a secret.
        Err(error) => {
            assert!(error.to_string().len() < 300, "more is said than is known");
            assert!(
                !matches!(error, KeysError::System { .. }),
                "it touches files"
            );
        }
    }
}

fn check(keys: &[Jwk]) {
    assert!(!keys.is_empty() && keys.len() <= SET_KEYS_MAX);
    let written: Vec<_> = keys.iter().map(written).collect();
    let set = format!("{{\"keys\":[{}]}}", written.join(","));
    let again = decode_keys(set.as_bytes());
    assert!(again.is_ok(), "what was written is not read");
    let ids = |keys: &[Jwk]| {
        keys.iter()
            .map(|key| (key.id(), key.kind()))
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&again.unwrap_or_default()), ids(keys));
}

fn written(key: &Jwk) -> String {
    match key {
        Jwk::Public(key) => key.to_jwk(),
        Jwk::Private(key) => key.to_jwk().as_str().to_owned(),
        Jwk::Symmetric(key) => key.to_jwk().as_str().to_owned(),
    }
}
