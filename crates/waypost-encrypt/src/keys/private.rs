//! Private keys: what opens and signs.

use aws_lc_rs::agreement::{self, ECDH_P256};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
};
use zeroize::Zeroizing;

use super::der::{self, RsaNumbers};
use super::jwk::{JwkError, base64_of};
use super::public::COORDINATE_BYTES;
use super::{KeyKind, KeyUse, PublicKey, PublicMaterial};
use crate::{Key, KeyId, Random};

/// How often a scalar of P-256 is drawn: one in 2^32 is none.
const DRAWS_MAX: usize = 8;

/// A private key of ours, with its public half.
pub struct PrivateKey {
    public: PublicKey,
    material: PrivateMaterial,
}

/// What a private key is made of; AWS-LC wipes what it holds when it goes.
pub(crate) enum PrivateMaterial {
    P256 {
        scalar: Key,
        agreement: agreement::PrivateKey,
        signing: Box<EcdsaKeyPair>,
    },
    X25519 {
        scalar: Key,
        agreement: agreement::PrivateKey,
    },
    Ed25519 {
        seed: Key,
        signing: Box<Ed25519KeyPair>,
    },
    Rsa {
        /// As `RSAPrivateKey` of RFC 8017.
        numbers: Zeroizing<Vec<u8>>,
        oaep: Box<OaepPrivateDecryptingKey>,
    },
}

impl PrivateKey {
    /// A new key. RSA keys have 3,072 bits and are drawn from AWS-LC's own generator, whichever `random` is given.
    pub fn generate(kind: KeyKind, random: &mut dyn Random) -> Result<Self, JwkError> {
        let failed = JwkError::NotAKey { kind };
        if kind == KeyKind::Rsa {
            let key = PrivateDecryptingKey::generate(KeySize::Rsa3072).map_err(|_| failed)?;
            let pkcs8 = AsDer::<Pkcs8V1Der>::as_der(&key).map_err(|_| failed)?;
            let numbers = der::numbers_of_pkcs8(pkcs8.as_ref()).ok_or(failed)?;
            return Self::rsa(Zeroizing::new(numbers.to_vec()));
        }
        for _ in 0..DRAWS_MAX {
            let mut bytes = Zeroizing::new([0; COORDINATE_BYTES]);
            random.fill(&mut *bytes).map_err(|_| failed)?;
            let drawn = Self::of_scalar(kind, &bytes);
            if drawn.is_ok() {
                return drawn;
            }
        }
        Err(failed)
    }

    /// The pair of these 32 bytes; not for RSA.
    pub(crate) fn of_scalar(
        kind: KeyKind,
        bytes: &[u8; COORDINATE_BYTES],
    ) -> Result<Self, JwkError> {
        let failed = JwkError::NotAKey { kind };
        match kind {
            KeyKind::P256 => {
                let agreement = agreement::PrivateKey::from_private_key(&ECDH_P256, bytes);
                let agreement = agreement.map_err(|_| failed)?;
                let point = agreement.compute_public_key().map_err(|_| failed)?;
                let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let signing =
                    EcdsaKeyPair::from_private_key_and_public_key(algorithm, bytes, point.as_ref());
                let signing = Box::new(signing.map_err(|_| failed)?);
                let point = point.as_ref().try_into().map_err(|_| failed)?;
                Ok(Self {
                    public: PublicKey::new(PublicMaterial::P256(point))?,
                    material: PrivateMaterial::P256 {
                        scalar: Key::copied(bytes),
                        agreement,
                        signing,
                    },
                })
            }
            KeyKind::X25519 => {
                let agreement = agreement::PrivateKey::from_private_key(&agreement::X25519, bytes);
                let agreement = agreement.map_err(|_| failed)?;
                let public = agreement.compute_public_key().map_err(|_| failed)?;
                let public = public.as_ref().try_into().map_err(|_| failed)?;
                Ok(Self {
                    public: PublicKey::new(PublicMaterial::X25519(public))?,
                    material: PrivateMaterial::X25519 {
                        scalar: Key::copied(bytes),
                        agreement,
                    },
                })
            }
            KeyKind::Ed25519 => {
                let signing = Ed25519KeyPair::from_seed_unchecked(bytes).map_err(|_| failed)?;
                let public = signing.public_key().as_ref().try_into();
                let public = public.map_err(|_| failed)?;
                Ok(Self {
                    public: PublicKey::new(PublicMaterial::Ed25519(public))?,
                    material: PrivateMaterial::Ed25519 {
                        seed: Key::copied(bytes),
                        signing: Box::new(signing),
                    },
                })
            }
            KeyKind::Rsa | KeyKind::Symmetric => Err(failed),
        }
    }

    /// The pair of an `RSAPrivateKey` of RFC 8017.
    pub(super) fn rsa(numbers: Zeroizing<Vec<u8>>) -> Result<Self, JwkError> {
        let failed = JwkError::NotAKey { kind: KeyKind::Rsa };
        let parts = RsaNumbers::of(&numbers).ok_or(failed)?;
        let public = PublicKey::new(PublicMaterial::Rsa {
            modulus: parts.modulus.to_vec(),
            exponent: parts.exponent.to_vec(),
        })?;
        let key = PrivateDecryptingKey::from_pkcs8(&der::pkcs8(&numbers)).map_err(|_| failed)?;
        let oaep = OaepPrivateDecryptingKey::new(key).map_err(|_| failed)?;
        Ok(Self {
            public,
            material: PrivateMaterial::Rsa {
                numbers,
                oaep: Box::new(oaep),
            },
        })
    }

    /// The same for one use only; none if it is not of that use.
    #[must_use]
    pub fn for_use(self, key_use: KeyUse) -> Option<Self> {
        let Self { public, material } = self;
        public
            .for_use(key_use)
            .map(|public| Self { public, material })
    }

    /// Its public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// What stands for it, and for its public half.
    pub fn id(&self) -> KeyId {
        self.public.id()
    }

    /// What it is.
    pub fn kind(&self) -> KeyKind {
        self.public.kind()
    }

    /// It as JWK, secret members and all.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let mut members = self.public.named_members();
        match &self.material {
            PrivateMaterial::P256 { scalar, .. }
            | PrivateMaterial::X25519 { scalar, .. }
            | PrivateMaterial::Ed25519 { seed: scalar, .. } => {
                members.push("d", base64_of(scalar.bytes()));
            }
            PrivateMaterial::Rsa { numbers, .. } => {
                let secret = RsaNumbers::of(numbers);
                for (name, number) in secret.iter().flat_map(RsaNumbers::secret) {
                    members.push(name, base64_of(number));
                }
            }
        }
        members.written()
    }

    pub(crate) fn material(&self) -> &PrivateMaterial {
        &self.material
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "PrivateKey({} {})", self.kind(), self.id())
    }
}
