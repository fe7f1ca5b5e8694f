//! Whose keys are there when a message is opened.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Jwk, PrivateKey, PublicKey, SymmetricKey};
use crate::KeyId;

/// The keys of who opens: ours, those we share, and those of senders we trust.
pub trait KeyRing {
    /// Our private key with this id.
    fn private(&self, id: KeyId) -> Option<Arc<PrivateKey>>;

    /// The shared key with this id.
    fn symmetric(&self, id: KeyId) -> Option<Arc<SymmetricKey>>;

    /// The public key with this id, of a sender whom we trust.
    fn sender(&self, id: KeyId) -> Option<Arc<PublicKey>>;

    /// Whether what is sealed under `des` is opened at all.
    fn legacy(&self) -> bool {
        false
    }
}

/// Keys in memory.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    private: HashMap<KeyId, Arc<PrivateKey>>,
    symmetric: HashMap<KeyId, Arc<SymmetricKey>>,
    senders: HashMap<KeyId, Arc<PublicKey>>,
    legacy: bool,
}

impl KeySet {
    /// Adds a key: a private or a shared one as ours, a public one as that of a sender whom we trust.
    pub fn insert(&mut self, key: Jwk) {
        match key {
            Jwk::Private(key) => {
                self.private.insert(key.id(), Arc::new(key));
            }
            Jwk::Symmetric(key) => {
                self.symmetric.insert(key.id(), Arc::new(key));
            }
            Jwk::Public(key) => {
                self.senders.insert(key.id(), Arc::new(key));
            }
        }
    }

    /// The same, opening what is sealed under `des` too.
    #[must_use]
    pub fn with_legacy(mut self) -> Self {
        self.legacy = true;
        self
    }
}

impl KeyRing for KeySet {
    fn private(&self, id: KeyId) -> Option<Arc<PrivateKey>> {
        self.private.get(&id).cloned()
    }

    fn symmetric(&self, id: KeyId) -> Option<Arc<SymmetricKey>> {
        self.symmetric.get(&id).cloned()
    }

    fn sender(&self, id: KeyId) -> Option<Arc<PublicKey>> {
        self.senders.get(&id).cloned()
    }

    fn legacy(&self) -> bool {
        self.legacy
    }
}
