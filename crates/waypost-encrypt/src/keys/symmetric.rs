//! Keys that several share, and how much has been sealed with each.

use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::KeyKind;
use super::jwk::{JwkError, Members, base64_of};
use super::public::id_of;
use crate::{KEY_BYTES, Key, KeyId, NoRandomness, Random};

/// How many messages one shared key seals: with more, two random nonces might be the same (NIST SP 800-38D, 8.3).
pub const MESSAGES_MAX: u64 = 1 << 32;

/// A key of 256 bits that several share.
pub struct SymmetricKey {
    key: Key,
    id: KeyId,
    /// Messages sealed with it, here and before.
    sealed: AtomicU64,
}

/// A shared key has sealed as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} has sealed {sealed} {unit}, as many as it may: rotate it")]
pub struct KeySpent {
    /// Which.
    pub key: KeyId,
    /// How much.
    pub sealed: u64,
    /// Of what.
    pub unit: &'static str,
}

impl SymmetricKey {
    /// The key of these bytes, of which nothing has been sealed yet.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> Result<Self, JwkError> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(JwkError::NotAKey {
                kind: KeyKind::Symmetric,
            });
        }
        let id = KeyId(id_of(&members(bytes)));
        Ok(Self {
            key: Key::copied(bytes),
            id,
            sealed: AtomicU64::new(0),
        })
    }

    /// A new key.
    pub fn generate(random: &mut dyn Random) -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random.fill(&mut *bytes)?;
        Self::new(&bytes).map_err(|_| NoRandomness)
    }

    /// The same with what was sealed with it before, as [`SymmetricKey::sealed`] said: whoever keeps a key keeps the count.
    #[must_use]
    pub fn with_sealed(self, messages: u64) -> Self {
        self.sealed.store(messages, Ordering::Relaxed);
        self
    }

    /// How many messages were sealed with it.
    pub fn sealed(&self) -> u64 {
        self.sealed.load(Ordering::Relaxed)
    }

    /// What stands for it: the first 8 bytes of its thumbprint (RFC 7638).
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// It as JWK (RFC 7518, 6.4): the key itself.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let mut members = members(self.key.bytes());
        members.push("kid", self.id.to_string());
        members.written()
    }
}

fn members(bytes: &[u8; KEY_BYTES]) -> Members {
    let mut members = Members::default();
    members.push("k", base64_of(bytes));
    members.push("kty", "oct".to_owned());
    members
}

impl std::fmt::Debug for SymmetricKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SymmetricKey({})", self.id)
    }
}
