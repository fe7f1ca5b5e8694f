//! The keys of people and programs that seal and open: pairs, and keys that several share. Written and read as JWK, and
//! read from PEM.
//!
//! Deliberately not here: files, and whom one trusts. A [`KeyRing`] answers for both.

mod der;
mod jwk;
mod pem;
mod private;
mod public;
mod ring;
mod symmetric;

pub use jwk::{JWK_BYTES_MAX, Jwk, JwkError};
pub use pem::{PEM_KEYS_MAX, PemError};
pub use private::PrivateKey;
pub use public::{KeyUse, PublicKey};
pub use ring::{KeyRing, KeySet};
pub use symmetric::{KeySpent, LEGACY_BLOCKS_MAX, MESSAGES_MAX, SymmetricKey};

pub(crate) use private::PrivateMaterial;
pub(crate) use public::{COORDINATE_BYTES, POINT_BYTES, PublicMaterial};

/// What a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// A pair on the curve P-256: sealing to its owner, and signing (ES256).
    P256,
    /// A pair on Curve25519: sealing to its owner.
    X25519,
    /// A pair on Edwards' form of the same curve: signing.
    Ed25519,
    /// An RSA pair of at least 2,048 bits: sealing to its owner.
    Rsa,
    /// 256 bits that several share: sealing among them.
    Symmetric,
}

impl KeyKind {
    /// What a key of this kind is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::P256 => "EC P-256",
            Self::X25519 => "OKP X25519",
            Self::Ed25519 => "OKP Ed25519",
            Self::Rsa => "RSA",
            Self::Symmetric => "symmetric",
        }
    }

    /// Whether messages are sealed to the owner of such a key.
    pub fn seals(self) -> bool {
        self != Self::Ed25519
    }

    /// Whether such a key signs.
    pub fn signs(self) -> bool {
        matches!(self, Self::P256 | Self::Ed25519)
    }
}

impl std::fmt::Display for KeyKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}
