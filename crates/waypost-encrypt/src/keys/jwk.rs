//! Keys as JSON: JWK (RFC 7517, 7518, 8037). Secret members are borrowed from the text and written into memory that is wiped.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::der::{self, SECRET_NAMES};
use super::public::COORDINATE_BYTES;
use super::{KeyKind, KeyUse, PrivateKey, PublicKey, PublicMaterial, SymmetricKey};

/// Bytes of a JWK: an RSA key of 8,192 bits has about 7,000.
pub const JWK_BYTES_MAX: usize = 16 << 10;

/// What a JWK turned out to be.
#[derive(Debug)]
pub enum Jwk {
    /// A public key.
    Public(PublicKey),
    /// A pair.
    Private(PrivateKey),
    /// A key that several share.
    Symmetric(SymmetricKey),
}

/// Why a text is no key of ours. The text itself is never part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwkError {
    /// More than any key has.
    #[error("{bytes} bytes are more than a JWK of {JWK_BYTES_MAX}")]
    TooLong {
        /// How many.
        bytes: usize,
    },
    /// No JSON object.
    #[error("not a JSON object with the members of a key")]
    NotAnObject,
    /// A member is not there, or no text.
    #[error("a JWK of this kind has a member {member:?} that is a text")]
    Missing {
        /// Its name.
        member: &'static str,
    },
    /// A member is no number in base64url of the right length.
    #[error("{member:?} is base64url without padding, of the length of its key")]
    Encoding {
        /// Its name.
        member: &'static str,
    },
    /// A kind of key that nothing here is done with.
    #[error(
        "keys are EC with P-256, OKP with X25519 or Ed25519, RSA of 2,048 bits or more, or oct of 256 bits"
    )]
    UnknownKind,
    /// A use that nothing here has.
    #[error("the use of a key is \"enc\" or \"sig\"")]
    UnknownUse,
    /// A use that keys of this kind do not have.
    #[error("a key of the kind {kind} is not for that use")]
    Use {
        /// Its kind.
        kind: KeyKind,
    },
    /// The members do not make up a key: a point beside the curve, an RSA key that is too short, a secret that does not fit.
    #[error("these members are no key of the kind {kind}")]
    NotAKey {
        /// What they claim to be.
        kind: KeyKind,
    },
}

impl Jwk {
    /// Reads a key. Members it does not know are passed over, as RFC 7517 wants.
    pub fn decode(text: &[u8]) -> Result<Self, JwkError> {
        if text.len() > JWK_BYTES_MAX {
            return Err(JwkError::TooLong { bytes: text.len() });
        }
        let members: BTreeMap<&str, &RawValue> =
            serde_json::from_slice(text).map_err(|_| JwkError::NotAnObject)?;
        let given = Given(members);
        let key = given.key()?;
        let Some(key_use) = given.key_use()? else {
            return Ok(key);
        };
        let other_use = JwkError::Use { kind: key.kind() };
        match key {
            Self::Public(key) => key.for_use(key_use).map(Self::Public),
            Self::Private(key) => key.for_use(key_use).map(Self::Private),
            Self::Symmetric(key) => (key_use == KeyUse::Seal).then_some(Self::Symmetric(key)),
        }
        .ok_or(other_use)
    }

    /// What stands for it.
    pub fn id(&self) -> crate::KeyId {
        match self {
            Self::Public(key) => key.id(),
            Self::Private(key) => key.id(),
            Self::Symmetric(key) => key.id(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Public(key) => key.kind(),
            Self::Private(key) => key.kind(),
            Self::Symmetric(_) => KeyKind::Symmetric,
        }
    }
}

/// The members of a text, which they borrow from: no copy of a secret is made that nobody wipes.
struct Given<'a>(BTreeMap<&'a str, &'a RawValue>);

impl<'a> Given<'a> {
    fn key(&self) -> Result<Jwk, JwkError> {
        match self.text("kty")? {
            "EC" if self.text("crv")? == "P-256" => {
                let (x, y) = (self.fixed("x")?, self.fixed("y")?);
                let mut point = [4; 1 + 2 * COORDINATE_BYTES];
                let coordinates = x.iter().chain(y.iter());
                for (byte, given) in point.iter_mut().skip(1).zip(coordinates) {
                    *byte = *given;
                }
                self.pair(PublicMaterial::P256(point))
            }
            "OKP" => {
                let curve = self.text("crv")?;
                match curve {
                    "X25519" => self.pair(PublicMaterial::X25519(*self.fixed("x")?)),
                    "Ed25519" => self.pair(PublicMaterial::Ed25519(*self.fixed("x")?)),
                    _ => Err(JwkError::UnknownKind),
                }
            }
            "RSA" => self.rsa(),
            "oct" => SymmetricKey::new(&*self.fixed("k")?).map(Jwk::Symmetric),
            _ => Err(JwkError::UnknownKind),
        }
    }

    /// `use`, if it says something of ours.
    fn key_use(&self) -> Result<Option<KeyUse>, JwkError> {
        if !self.0.contains_key("use") {
            return Ok(None);
        }
        let named = self.text("use")?;
        let mut all = [KeyUse::Seal, KeyUse::Sign].into_iter();
        let found = all.find(|key_use| key_use.name() == named);
        found.map(Some).ok_or(JwkError::UnknownUse)
    }

    /// A text without escapes: none of ours needs any.
    fn text(&self, member: &'static str) -> Result<&'a str, JwkError> {
        self.0
            .get(member)
            .and_then(|value| value.get().strip_prefix('"')?.strip_suffix('"'))
            .filter(|text| !text.contains('\\'))
            .ok_or(JwkError::Missing { member })
    }

    fn bytes(&self, member: &'static str) -> Result<Zeroizing<Vec<u8>>, JwkError> {
        let text = self.text(member)?;
        // The decoder wants room for whole groups of three.
        let mut bytes = Zeroizing::new(vec![0; text.len() + 3]);
        let count = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes);
        let count = count.map_err(|_| JwkError::Encoding { member })?;
        bytes.truncate(count);
        Ok(bytes)
    }

    fn fixed(&self, member: &'static str) -> Result<Zeroizing<[u8; COORDINATE_BYTES]>, JwkError> {
        let bytes = self.bytes(member)?;
        let mut fixed = Zeroizing::new([0; COORDINATE_BYTES]);
        if bytes.len() != fixed.len() {
            return Err(JwkError::Encoding { member });
        }
        fixed.copy_from_slice(&bytes);
        Ok(fixed)
    }

    /// A key on a curve: public, or with its secret, which then must fit.
    fn pair(&self, public: PublicMaterial) -> Result<Jwk, JwkError> {
        let public = PublicKey::new(public)?;
        if !self.0.contains_key("d") {
            return Ok(Jwk::Public(public));
        }
        let kind = public.kind();
        let private = PrivateKey::of_scalar(kind, &*self.fixed("d")?)?;
        if *private.public() == public {
            Ok(Jwk::Private(private))
        } else {
            Err(JwkError::NotAKey { kind })
        }
    }

    fn rsa(&self) -> Result<Jwk, JwkError> {
        let not_a_key = JwkError::NotAKey { kind: KeyKind::Rsa };
        let (modulus, exponent) = (self.bytes("n")?, self.bytes("e")?);
        // RFC 7518, 2: without zeros before the first byte. One key has one thumbprint.
        let is_plain = |number: &[u8]| number.first().is_some_and(|first| *first != 0);
        if !is_plain(&modulus) || !is_plain(&exponent) {
            return Err(not_a_key);
        }
        if !self.0.contains_key("d") {
            let material = PublicMaterial::Rsa {
                modulus: modulus.to_vec(),
                exponent: exponent.to_vec(),
            };
            return PublicKey::new(material).map(Jwk::Public);
        }
        // RFC 7518, 6.3.2.7: more than two primes.
        if self.0.contains_key("oth") {
            return Err(not_a_key);
        }
        let mut secret: [Zeroizing<Vec<u8>>; 6] = Default::default();
        for (slot, member) in secret.iter_mut().zip(SECRET_NAMES) {
            *slot = self.bytes(member)?;
        }
        let [d, p, q, dp, dq, qi] = &secret;
        let numbers = der::private_key(&[&modulus, &exponent, d, p, q, dp, dq, qi]);
        PrivateKey::rsa(numbers).map(Jwk::Private)
    }
}

/// The members of a JWK that is written, in this order.
#[derive(Default)]
pub(crate) struct Members(Vec<(&'static str, Zeroizing<String>)>);

impl Members {
    pub(super) fn push(&mut self, name: &'static str, value: impl Into<Zeroizing<String>>) {
        self.0.push((name, value.into()));
    }

    /// As JSON without spaces. No value of ours has a letter that JSON escapes.
    pub(super) fn written(&self) -> Zeroizing<String> {
        let length = self
            .0
            .iter()
            .map(|(name, value)| name.len() + value.len() + 6);
        // As long as it gets: nothing is moved and left behind.
        let mut text = Zeroizing::new(String::with_capacity(length.sum::<usize>() + 2));
        for (index, (name, value)) in self.0.iter().enumerate() {
            text.push_str(if index == 0 { "{\"" } else { ",\"" });
            text.push_str(name);
            text.push_str("\":\"");
            text.push_str(value);
            text.push('"');
        }
        text.push('}');
        text
    }
}

/// Bytes as JWK writes them, in memory that is wiped.
pub(super) fn base64_of(bytes: &[u8]) -> Zeroizing<String> {
    let mut text = vec![0; bytes.len().div_ceil(3) * 4];
    let count = URL_SAFE_NO_PAD.encode_slice(bytes, &mut text);
    text.truncate(count.unwrap_or_default());
    // The letters of base64 are ASCII.
    Zeroizing::new(String::from_utf8(text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    fn check(text: &str, expect: JwkError) {
        assert_eq!(Jwk::decode(text.as_bytes()).unwrap_err(), expect, "{text}");
    }

    /// The key of RFC 7638, 3.1, with the first 8 bytes of the thumbprint printed there.
    #[test]
    fn the_id_is_the_begin_of_the_thumbprint_of_rfc_7638() {
        let text = "{\"kty\":\"RSA\",\"n\":\"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw\",\"e\":\"AQAB\",\"alg\":\"RS256\",\"kid\":\"2011-04-29\"}";
        let key = Jwk::decode(text.as_bytes()).unwrap();
        let thumbprint = URL_SAFE_NO_PAD
            .decode("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs")
            .unwrap();
        assert_eq!(key.id().0[..], thumbprint[..8]);
        assert_eq!(key.kind(), KeyKind::Rsa);
    }

    /// RFC 8037, A.1 to A.3.
    #[test]
    fn the_key_of_rfc_8037_has_its_thumbprint() {
        let text = "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"d\":\"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}";
        let Jwk::Private(key) = Jwk::decode(text.as_bytes()).unwrap() else {
            panic!("it has a secret");
        };
        let thumbprint = URL_SAFE_NO_PAD
            .decode("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
            .unwrap();
        assert_eq!(key.id().0[..], thumbprint[..8]);
    }

    #[test]
    fn every_kind_of_key_is_written_and_read() {
        for kind in [
            KeyKind::P256,
            KeyKind::X25519,
            KeyKind::Ed25519,
            KeyKind::Rsa,
        ] {
            let made = PrivateKey::generate(kind, &mut SystemRandom).unwrap();
            let text = made.to_jwk();
            let Jwk::Private(read) = Jwk::decode(text.as_bytes()).unwrap() else {
                panic!("{kind}: the secret is lost");
            };
            assert_eq!(read.public(), made.public());
            assert_eq!(read.to_jwk(), text);
            let public = made.public().to_jwk();
            let Jwk::Public(read) = Jwk::decode(public.as_bytes()).unwrap() else {
                panic!("{kind}: a public key has a secret");
            };
            assert_eq!((&read, read.kind()), (made.public(), kind));
            for secret in ["d", "p", "q", "dp", "dq", "qi"] {
                assert!(
                    !public.contains(&format!("\"{secret}\"")),
                    "{kind}: {public}"
                );
            }
        }
        let made = SymmetricKey::generate(&mut SystemRandom).unwrap();
        let read = Jwk::decode(made.to_jwk().as_bytes()).unwrap();
        assert_eq!((read.id(), read.kind()), (made.id(), KeyKind::Symmetric));
    }

    #[test]
    fn keys_are_not_printed() {
        for kind in [KeyKind::P256, KeyKind::X25519, KeyKind::Ed25519] {
            let key = PrivateKey::of_scalar(kind, &[0x5a; 32]).unwrap();
            assert_eq!(
                format!("{key:?} {:?}", key.public()),
                format!("PrivateKey({kind} {0}) PublicKey({kind} {0})", key.id())
            );
        }
        let key = SymmetricKey::new(&[0x5a; 32]).unwrap();
        assert_eq!(format!("{key:?}"), format!("SymmetricKey({})", key.id()));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let zeros = "A".repeat(43);
        check("", JwkError::NotAnObject);
        check("[]", JwkError::NotAnObject);
        check("{}", JwkError::Missing { member: "kty" });
        check("{\"kty\":7}", JwkError::Missing { member: "kty" });
        check("{\"kty\":\"oct\"}", JwkError::Missing { member: "k" });
        check(
            "{\"kty\":\"oct\",\"k\":\"AAAA\"}",
            JwkError::Encoding { member: "k" },
        );
        check(
            &format!("{{\"kty\":\"oct\",\"k\":\"{zeros}\"}}"),
            JwkError::NotAKey {
                kind: KeyKind::Symmetric,
            },
        );
        check("{\"kty\":\"EC\",\"crv\":\"P-521\"}", JwkError::UnknownKind);
        // (0, 0) is not on the curve.
        check(
            &format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{zeros}\",\"y\":\"{zeros}\"}}"),
            JwkError::NotAKey {
                kind: KeyKind::P256,
            },
        );
        check(
            "{\"kty\":\"RSA\",\"n\":\"0vx7\",\"e\":\"AQAB\"}",
            JwkError::NotAKey { kind: KeyKind::Rsa },
        );
        let kind = KeyKind::X25519;
        let (one, two) = ([1; 32], [2; 32]);
        let [one, two] = [one, two].map(|bytes| PrivateKey::of_scalar(kind, &bytes).unwrap());
        let swapped = one
            .to_jwk()
            .replace(base64_of(&[1; 32]).as_str(), base64_of(&[2; 32]).as_str());
        check(&swapped, JwkError::NotAKey { kind });
        assert_ne!(one.id(), two.id());
    }

    #[test]
    fn a_jwk_has_its_length() {
        let key = SymmetricKey::new(&[1; 32]).unwrap().to_jwk();
        for (length, is_read) in [
            (JWK_BYTES_MAX, true),
            (JWK_BYTES_MAX + 1, false),
            (2 * JWK_BYTES_MAX, false),
        ] {
            let padded = format!("{}{}", key.as_str(), " ".repeat(length - key.len()));
            assert_eq!(Jwk::decode(padded.as_bytes()).is_ok(), is_read, "{length}");
        }
    }
}
