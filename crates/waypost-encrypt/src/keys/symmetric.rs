//! Keys that several share, and how much has been sealed with each.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::jwk::{JwkError, Members, base64_of};
use super::public::id_of;
use super::{KeyKind, KeyUse};
use crate::sealing::{Aead, BlockCipher, ReadyAead, ReadyBlock};
use crate::{KEY_BYTES, Key, KeyId, NoRandomness, Random};

/// How many messages one shared key seals: with more, two random nonces might be the same (NIST SP 800-38D, 8.3).
pub const MESSAGES_MAX: u64 = 1 << 32;

/// How many blocks of 8 bytes one shared key seals with `des`: with more, two are likely to be the same and give away what
/// they hide (NIST SP 800-67 revision 2, 3.4).
pub const LEGACY_BLOCKS_MAX: u64 = 1 << 20;

/// A key of 256 bits that several share.
pub struct SymmetricKey {
    key: Key,
    id: KeyId,
    /// Messages sealed with it, here and before.
    sealed: AtomicU64,
    /// Blocks of 8 bytes sealed with `des`.
    legacy_blocks: AtomicU64,
    ready: Box<Ready>,
}

/// The key as ciphers want it, each made when it is first needed.
#[derive(Default)]
struct Ready {
    aes_gcm: OnceLock<Option<ReadyAead>>,
    chacha20_poly1305: OnceLock<Option<ReadyAead>>,
    ccm_short: OnceLock<Option<ReadyAead>>,
    aes: OnceLock<ReadyBlock>,
    triple_des: OnceLock<ReadyBlock>,
}

/// A shared key has sealed as much as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key {key} has sealed {sealed} {unit}, and may not seal more: rotate it")]
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
            legacy_blocks: AtomicU64::new(0),
            ready: Box::default(),
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

    /// The same for the blocks that `des` sealed, as [`SymmetricKey::legacy_blocks`] said.
    #[must_use]
    pub fn with_legacy_blocks(self, blocks: u64) -> Self {
        self.legacy_blocks.store(blocks, Ordering::Relaxed);
        self
    }

    /// How many blocks `des` sealed with it.
    pub fn legacy_blocks(&self) -> u64 {
        self.legacy_blocks.load(Ordering::Relaxed)
    }

    /// What stands for it: the first 8 bytes of its thumbprint (RFC 7638).
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// It as JWK (RFC 7518, 6.4): the key itself.
    pub fn to_jwk(&self) -> Zeroizing<String> {
        let mut members = members(self.key.bytes());
        members.push("kid", self.id.to_string());
        members.push("use", KeyUse::Seal.name().to_owned());
        members.written()
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.key.bytes()
    }

    /// Counts a message that is about to be sealed.
    pub(crate) fn count_message(&self) -> Result<(), KeySpent> {
        self.count(&self.sealed, 1, MESSAGES_MAX, "messages")
    }

    /// Counts blocks that `des` is about to seal.
    pub(crate) fn count_blocks(&self, blocks: u64) -> Result<(), KeySpent> {
        let counter = &self.legacy_blocks;
        self.count(counter, blocks, LEGACY_BLOCKS_MAX, "blocks with des")
    }

    fn count(
        &self,
        counter: &AtomicU64,
        more: u64,
        max: u64,
        unit: &'static str,
    ) -> Result<(), KeySpent> {
        let added = counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
            before.checked_add(more).filter(|after| *after <= max)
        });
        added.map(|_| ()).map_err(|sealed| KeySpent {
            key: self.id,
            sealed,
            unit,
        })
    }

    /// It as an authenticated cipher wants it; not for those that want a fresh key each time.
    pub(crate) fn ready(&self, aead: Aead) -> Option<&ReadyAead> {
        let slot = match aead {
            Aead::AesGcm => &self.ready.aes_gcm,
            Aead::ChaCha20Poly1305 => &self.ready.chacha20_poly1305,
            Aead::CcmShort => &self.ready.ccm_short,
            Aead::CcmLong => return None,
        };
        slot.get_or_init(|| ReadyAead::new(aead, self.bytes()))
            .as_ref()
    }

    /// What it gives for a cipher with a MAC beside it.
    pub(crate) fn ready_block(&self, cipher: BlockCipher) -> &ReadyBlock {
        let slot = match cipher {
            BlockCipher::Aes => &self.ready.aes,
            BlockCipher::TripleDes => &self.ready.triple_des,
        };
        slot.get_or_init(|| cipher.ready(self.bytes()))
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
