//! Keys as PEM (RFC 7468): PKCS #8 (RFC 5958) with a private key, `SubjectPublicKeyInfo` (RFC 5280) with a public one. That is
//! what OpenSSL and most programs write; AWS-LC reads the private ones but
//! X25519's.
//!
//! Deliberately not here: older forms, keys under a passphrase, certificates. The error says what turns them into one of these.

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Curve25519SeedBin, EcPrivateKeyBin, Pkcs8V1Der};
use aws_lc_rs::rsa::PrivateDecryptingKey;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::der;
use super::jwk::{JWK_BYTES_MAX, Jwk};
use super::public::POINT_BYTES;
use super::{KeyKind, PrivateKey, PublicKey, PublicMaterial};

/// How many keys a text may have.
pub const PEM_KEYS_MAX: usize = 16;

/// Bytes of a text: what as many keys of the greatest length have.
const TEXT_BYTES_MAX: usize = PEM_KEYS_MAX * JWK_BYTES_MAX;

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// What of a `SubjectPublicKeyInfo` stands before the key itself; DER leaves no other way to write it.
const P256_BEFORE_POINT: &[u8] = &[
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const X25519_BEFORE_KEY: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00,
];
const ED25519_BEFORE_KEY: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// What of PKCS #8 stands before the scalar of X25519, the one kind that AWS-LC does not read in that form.
const X25519_BEFORE_SCALAR: &[u8] = &[
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x04, 0x22, 0x04, 0x20,
];

/// Why a text is no PEM of ours. The text itself is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// More than that many keys have, or more of them.
    #[error("PEM is of 1 to {PEM_KEYS_MAX} keys and at most {TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// A block that does not end as it began, or is not base64 between.
    #[error("PEM is \"-----BEGIN …-----\", base64, and \"-----END …-----\" with the same words")]
    Armour,
    /// Something else in a block, and what would help.
    #[error(
        "PEM of \"{label}\" is not read, only \"PRIVATE KEY\" (PKCS #8) and \"PUBLIC KEY\" (SPKI){}",
        remedy(label)
    )]
    Label {
        /// What the block says it is.
        label: &'static str,
    },
    /// A key of another kind, or none.
    #[error(
        "not a key that is known here; keys are EC with P-256, X25519, Ed25519, or RSA of 2,048 to 8,192 bits"
    )]
    UnknownKey,
}

/// What else people have in PEM. A label that is none of these is not repeated: nobody knows what is in it.
const OTHER_LABELS: &[&str] = &[
    "RSA PRIVATE KEY",
    "EC PRIVATE KEY",
    "EC PARAMETERS",
    "ENCRYPTED PRIVATE KEY",
    "RSA PUBLIC KEY",
    "CERTIFICATE",
    "OPENSSH PRIVATE KEY",
];

fn remedy(label: &str) -> &'static str {
    match label {
        "RSA PRIVATE KEY" | "EC PRIVATE KEY" | "EC PARAMETERS" | "ENCRYPTED PRIVATE KEY" => {
            ": `openssl pkey -in FILE` makes the former of it"
        }
        "RSA PUBLIC KEY" => {
            ": `openssl rsa -RSAPublicKey_in -in FILE -pubout` makes the latter of it"
        }
        "CERTIFICATE" => ": `openssl x509 -in FILE -noout -pubkey` takes the latter out of it",
        "OPENSSH PRIVATE KEY" => ": `ssh-keygen -p -m PKCS8 -f COPY` makes the former of a copy",
        _ => "",
    }
}

impl Jwk {
    /// Reads the keys of a PEM text. What stands between the blocks is passed over, as RFC 7468 wants. PEM does not say what a
    /// key is for.
    pub fn decode_pem(text: &[u8]) -> Result<Vec<Self>, PemError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PemError::TooLong);
        }
        let mut rest = std::str::from_utf8(text).map_err(|_| PemError::Armour)?;
        let mut keys = Vec::new();
        while let Some((_, block)) = rest.split_once(BEGIN) {
            let (label, block) = block.split_once(DASHES).ok_or(PemError::Armour)?;
            let (body, end) = block.split_once(END).ok_or(PemError::Armour)?;
            let after = end.strip_prefix(label);
            rest = after
                .and_then(|after| after.strip_prefix(DASHES))
                .ok_or(PemError::Armour)?;
            if keys.len() == PEM_KEYS_MAX {
                return Err(PemError::TooLong);
            }
            let key = match label {
                "PRIVATE KEY" => private(&der_of(body)?).map(Self::Private),
                "PUBLIC KEY" => public(&der_of(body)?).map(Self::Public),
                _ => {
                    let mut known = OTHER_LABELS.iter().filter(|known| **known == label);
                    let label = known.next().copied().unwrap_or("something else");
                    return Err(PemError::Label { label });
                }
            };
            keys.push(key.ok_or(PemError::UnknownKey)?);
        }
        if keys.is_empty() {
            return Err(PemError::Armour);
        }
        Ok(keys)
    }
}

/// What a block holds, in memory that is wiped.
fn der_of(body: &str) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let letters = body.bytes().filter(|byte| !byte.is_ascii_whitespace());
    // As long as it gets: nothing is moved and left behind.
    let mut text = Zeroizing::new(Vec::with_capacity(body.len()));
    text.extend(letters);
    let mut bytes = Zeroizing::new(vec![0; text.len() + 3]);
    let count = STANDARD.decode_slice(text.as_slice(), &mut bytes);
    bytes.truncate(count.map_err(|_| PemError::Armour)?);
    Ok(bytes)
}

fn private(pkcs8: &[u8]) -> Option<PrivateKey> {
    if let Ok(key) = agreement::PrivateKey::from_private_key_der(&ECDH_P256, pkcs8) {
        let scalar = AsBigEndian::<EcPrivateKeyBin>::as_be_bytes(&key).ok()?;
        return PrivateKey::of_scalar(KeyKind::P256, scalar.as_ref().try_into().ok()?).ok();
    }
    if let Some(scalar) = pkcs8.strip_prefix(X25519_BEFORE_SCALAR) {
        return PrivateKey::of_scalar(KeyKind::X25519, scalar.try_into().ok()?).ok();
    }
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8) {
        let seed = key.seed().ok()?;
        let seed = AsBigEndian::<Curve25519SeedBin>::as_be_bytes(&seed).ok()?;
        return PrivateKey::of_scalar(KeyKind::Ed25519, seed.as_ref().try_into().ok()?).ok();
    }
    let key = PrivateDecryptingKey::from_pkcs8(pkcs8).ok()?;
    // Written again: what follows relies on its one shape.
    let pkcs8 = AsDer::<Pkcs8V1Der>::as_der(&key).ok()?;
    let numbers = der::numbers_of_pkcs8(pkcs8.as_ref())?;
    PrivateKey::rsa(Zeroizing::new(numbers.to_vec())).ok()
}

fn public(spki: &[u8]) -> Option<PublicKey> {
    let material = if let Some(point) = spki.strip_prefix(P256_BEFORE_POINT) {
        let point: [u8; POINT_BYTES] = point.try_into().ok()?;
        PublicMaterial::P256(point)
    } else if let Some(key) = spki.strip_prefix(X25519_BEFORE_KEY) {
        PublicMaterial::X25519(key.try_into().ok()?)
    } else if let Some(key) = spki.strip_prefix(ED25519_BEFORE_KEY) {
        PublicMaterial::Ed25519(key.try_into().ok()?)
    } else {
        let (modulus, exponent) = der::numbers_of_public_key(spki)?;
        PublicMaterial::Rsa {
            modulus: modulus.to_vec(),
            exponent: exponent.to_vec(),
        }
    };
    PublicKey::new(material).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by OpenSSL 3.0: `openssl genpkey` with these algorithms, then `openssl pkey -pubout`.
    const MADE_BY_OPENSSL: &str = include_str!("../../tests/vectors/openssl.pem");

    fn read(text: &str) -> Result<Vec<Jwk>, PemError> {
        Jwk::decode_pem(text.as_bytes())
    }

    #[track_caller]
    fn check(text: &str, expect: PemError) {
        assert_eq!(read(text).unwrap_err(), expect, "{text}");
    }

    /// Goal: every kind of pair that OpenSSL makes is read, and its private half has the public one that OpenSSL says.
    #[test]
    fn what_openssl_wrote_is_read() {
        let keys = read(MADE_BY_OPENSSL).unwrap();
        let kinds: Vec<_> = keys.iter().map(Jwk::kind).collect();
        let pairs = [
            KeyKind::P256,
            KeyKind::X25519,
            KeyKind::Ed25519,
            KeyKind::Rsa,
        ];
        assert_eq!(kinds, pairs.map(|kind| [kind; 2]).concat());
        for pair in keys.chunks(2) {
            let [Jwk::Private(private), Jwk::Public(public)] = pair else {
                panic!("{pair:?}");
            };
            assert_eq!(private.public(), public);
            // The same as JWK.
            let again = Jwk::decode(private.to_jwk().as_bytes()).unwrap();
            assert_eq!(again.id(), private.id());
        }
    }

    #[test]
    fn what_is_between_and_how_lines_end_does_not_matter() {
        let other = MADE_BY_OPENSSL
            .replace('\n', "\r\n")
            .replace("-----BEGIN", "about a key\r\n-----BEGIN");
        let ids = |text: &str| read(text).unwrap().iter().map(Jwk::id).collect::<Vec<_>>();
        assert_eq!(ids(&other), ids(MADE_BY_OPENSSL));
    }

    #[test]
    fn what_is_no_key_is_refused_with_what_is_accepted() {
        for text in ["", "no PEM", "-----BEGIN PUBLIC KEY-----", "-----BEGIN "] {
            check(text, PemError::Armour);
        }
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        check(&block("PUBLIC KEY", "*"), PemError::Armour);
        check(&block("PUBLIC KEY", "AAAA"), PemError::UnknownKey);
        check(&block("PRIVATE KEY", "AAAA"), PemError::UnknownKey);
        let other = block("PUBLIC KEY", "").replace("END PUBLIC", "END PRIVATE");
        check(&other, PemError::Armour);
        for label in OTHER_LABELS {
            let error = read(&block(label, "AAAA")).unwrap_err().to_string();
            assert!(
                error.contains(label) && error.contains("PKCS #8"),
                "{error}"
            );
        }
        // What is there of it is not repeated: it may be a secret.
        let error = read(&block("my passphrase", "")).unwrap_err().to_string();
        assert!(!error.contains("passphrase"), "{error}");
    }

    /// Goal: a file that was cut or changed is refused or read as some key, and never more than that.
    #[test]
    fn a_cut_or_changed_text_does_no_harm() {
        let begin = MADE_BY_OPENSSL.find("-----BEGIN PUBLIC").unwrap();
        let pair = &MADE_BY_OPENSSL[..begin];
        for length in 0..pair.trim_end().len() {
            assert!(read(&pair[..length]).is_err(), "{length} bytes");
        }
        for index in 0..pair.len() {
            let mut bytes = pair.as_bytes().to_vec();
            bytes[index] ^= 1;
            let _ = Jwk::decode_pem(&bytes);
        }
    }

    #[test]
    fn a_text_has_its_bounds() {
        let begin = MADE_BY_OPENSSL.find("-----BEGIN PUBLIC").unwrap();
        let pair = &MADE_BY_OPENSSL[..begin];
        assert_eq!(read(&pair.repeat(PEM_KEYS_MAX)).unwrap().len(), 16);
        check(&pair.repeat(PEM_KEYS_MAX + 1), PemError::TooLong);
        check(&pair.repeat(2 * PEM_KEYS_MAX), PemError::TooLong);
        for (length, is_read) in [
            (TEXT_BYTES_MAX, true),
            (TEXT_BYTES_MAX + 1, false),
            (2 * TEXT_BYTES_MAX, false),
        ] {
            let padded = format!("{pair}{}", " ".repeat(length - pair.len()));
            assert_eq!(read(&padded).is_ok(), is_read, "{length}");
        }
    }
}
