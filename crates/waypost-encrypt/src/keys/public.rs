//! Public keys: sealed to, and verified with.

use aws_lc_rs::rsa::{OaepPublicEncryptingKey, PublicEncryptingKey};
use aws_lc_rs::signature::{ED25519, ParsedPublicKey};
use aws_lc_rs::{agreement, digest};

use super::KeyKind;
use super::der;
use super::jwk::{JwkError, Members, base64_of};
use crate::KeyId;

/// Bytes of a coordinate of P-256, and of a key of Curve25519.
pub(crate) const COORDINATE_BYTES: usize = 32;

/// Bytes of a point of P-256: 4, then both coordinates.
pub(crate) const POINT_BYTES: usize = 1 + 2 * COORDINATE_BYTES;

/// A public key of somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    id: KeyId,
    material: PublicMaterial,
    key_use: Option<KeyUse>,
}

/// What a key is for where its kind leaves that open (RFC 7517, 4.2). One key for both is bad practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// `enc`: messages are sealed to its owner.
    Seal,
    /// `sig`: its owner signs with it.
    Sign,
}

impl KeyUse {
    /// What a JWK calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Seal => "enc",
            Self::Sign => "sig",
        }
    }
}

/// What a public key is made of. Each was checked when it came in.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicMaterial {
    P256([u8; POINT_BYTES]),
    X25519([u8; COORDINATE_BYTES]),
    Ed25519([u8; COORDINATE_BYTES]),
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
}

impl PublicKey {
    /// Takes it if it is one: a point on the curve, an RSA key of a legal size.
    pub(crate) fn new(material: PublicMaterial) -> Result<Self, JwkError> {
        let is_legal = match &material {
            PublicMaterial::P256(point) => {
                let point = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
                agreement::ParsedPublicKey::try_from(point).is_ok()
            }
            PublicMaterial::X25519(_) => true,
            PublicMaterial::Ed25519(key) => ParsedPublicKey::new(&ED25519, &key[..]).is_ok(),
            PublicMaterial::Rsa { modulus, exponent } => {
                encrypting_key(modulus, exponent).is_some()
            }
        };
        if !is_legal {
            return Err(JwkError::NotAKey {
                kind: material.kind(),
            });
        }
        let id = KeyId(thumbprint(&material));
        let key_use = match material.kind() {
            KeyKind::P256 => None,
            kind if kind.signs() => Some(KeyUse::Sign),
            _ => Some(KeyUse::Seal),
        };
        Ok(Self {
            id,
            material,
            key_use,
        })
    }

    /// The same for one use only; none if it is not of that use.
    #[must_use]
    pub fn for_use(mut self, key_use: KeyUse) -> Option<Self> {
        let is_free = self.key_use.is_none_or(|before| before == key_use);
        self.key_use = Some(key_use);
        is_free.then_some(self)
    }

    /// What it is for; none: a P-256 key of which nobody said.
    pub fn key_use(&self) -> Option<KeyUse> {
        self.key_use
    }

    /// What stands for it: the first 8 bytes of its thumbprint (RFC 7638).
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What it is.
    pub fn kind(&self) -> KeyKind {
        self.material.kind()
    }

    /// It as JWK (RFC 7517, 7518, 8037).
    pub fn to_jwk(&self) -> String {
        self.named_members().written().as_str().to_owned()
    }

    /// Its members with its id and use.
    pub(super) fn named_members(&self) -> Members {
        let mut members = self.material.members();
        members.push("kid", self.id.to_string());
        if let Some(key_use) = self.key_use {
            members.push("use", key_use.name().to_owned());
        }
        members
    }

    pub(crate) fn material(&self) -> &PublicMaterial {
        &self.material
    }

    /// An RSA key as what encrypts with it.
    pub(crate) fn oaep(&self) -> Option<OaepPublicEncryptingKey> {
        match &self.material {
            PublicMaterial::Rsa { modulus, exponent } => {
                OaepPublicEncryptingKey::new(encrypting_key(modulus, exponent)?).ok()
            }
            _ => None,
        }
    }
}

fn encrypting_key(modulus: &[u8], exponent: &[u8]) -> Option<PublicEncryptingKey> {
    PublicEncryptingKey::from_der(&der::public_key(modulus, exponent)).ok()
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PublicKey({} {})", self.kind(), self.id)
    }
}

impl PublicMaterial {
    pub(crate) fn kind(&self) -> KeyKind {
        match self {
            Self::P256(_) => KeyKind::P256,
            Self::X25519(_) => KeyKind::X25519,
            Self::Ed25519(_) => KeyKind::Ed25519,
            Self::Rsa { .. } => KeyKind::Rsa,
        }
    }

    /// Both coordinates of a point of P-256.
    pub(crate) fn coordinates(point: &[u8; POINT_BYTES]) -> (&[u8], &[u8]) {
        let (_, coordinates) = point.split_at(1);
        coordinates.split_at(COORDINATE_BYTES)
    }

    /// The members that a JWK of it must have, in alphabetical order: what a thumbprint is made of.
    pub(crate) fn members(&self) -> Members {
        let mut members = Members::default();
        match self {
            Self::P256(point) => {
                let (x, y) = Self::coordinates(point);
                members.push("crv", "P-256".to_owned());
                members.push("kty", "EC".to_owned());
                members.push("x", base64_of(x));
                members.push("y", base64_of(y));
            }
            Self::X25519(key) | Self::Ed25519(key) => {
                let is_agreement = matches!(self, Self::X25519(_));
                let curve = if is_agreement { "X25519" } else { "Ed25519" };
                members.push("crv", curve.to_owned());
                members.push("kty", "OKP".to_owned());
                members.push("x", base64_of(key));
            }
            Self::Rsa { modulus, exponent } => {
                members.push("e", base64_of(exponent));
                members.push("kty", "RSA".to_owned());
                members.push("n", base64_of(modulus));
            }
        }
        members
    }
}

fn thumbprint(material: &PublicMaterial) -> [u8; 8] {
    id_of(&material.members())
}

/// The first 8 bytes of the thumbprint of a key with these members.
pub(super) fn id_of(members: &Members) -> [u8; 8] {
    let hash = digest::digest(&digest::SHA256, members.written().as_bytes());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}
