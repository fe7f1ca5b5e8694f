//! All keys of a directory: read at once, changed under a lock, one whole file at a time.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use waypost_encrypt::{
    Jwk, JwkError, KeyId, KeyKind, KeyRing, KeyUse, PrivateKey, PublicKey, SymmetricKey,
    SystemRandom,
};
use zeroize::Zeroizing;

use super::file::{FILE_MODE, check_mode};
use super::place::{DIRECTORY_MODE, make, place};
use super::set::{self, Given};
use super::{Holding, KEYS_MAX, KeyFile, KeyName, KeysError, Purpose};

/// Folders of a directory: our own keys, and those of others.
const OWN: &str = "own";
const TRUSTED: &str = "trusted";
/// Who holds its lock changes the directory.
const LOCK: &str = ".lock";

/// What a new key is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A P-256 pair to be sealed for.
    Ecc,
    /// An X25519 pair to be sealed for.
    X25519,
    /// An RSA pair to be sealed for.
    Rsa,
    /// A key that several share.
    Symmetric,
    /// A P-256 pair to sign with (ES256).
    Signing,
    /// An Ed25519 pair to sign with (`EdDSA`).
    Ed25519,
}

impl Kind {
    /// What it is for.
    pub fn purpose(self) -> Purpose {
        match self {
            Self::Ecc | Self::X25519 | Self::Rsa | Self::Symmetric => Purpose::Sealing,
            Self::Signing | Self::Ed25519 => Purpose::Signing,
        }
    }

    fn generate(self) -> Result<Jwk, KeysError> {
        let kind = match self {
            Self::Ecc | Self::Signing => KeyKind::P256,
            Self::X25519 => KeyKind::X25519,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Rsa => KeyKind::Rsa,
            Self::Symmetric => KeyKind::Symmetric,
        };
        generate(kind, self.purpose())
    }
}

fn generate(kind: KeyKind, purpose: Purpose) -> Result<Jwk, KeysError> {
    if kind == KeyKind::Symmetric {
        return Ok(Jwk::Symmetric(SymmetricKey::generate(&mut SystemRandom)?));
    }
    let key = PrivateKey::generate(kind, &mut SystemRandom)?;
    let key = match purpose {
        Purpose::Sealing => key.for_use(KeyUse::Seal),
        Purpose::Signing => key.for_use(KeyUse::Sign),
        Purpose::Both => Some(key),
    };
    Ok(Jwk::Private(key.ok_or(JwkError::Use { kind })?))
}

/// Whom a message is sealed for.
#[derive(Clone, Debug)]
pub enum Recipient {
    /// The owner of a pair.
    Public(Arc<PublicKey>),
    /// Everybody who has a shared key.
    Shared(Arc<SymmetricKey>),
}

/// The keys of a directory.
#[derive(Debug)]
pub struct KeyDirectory {
    path: PathBuf,
    keys: Vec<KeyFile>,
    by_id: HashMap<KeyId, usize>,
    keys_max: usize,
    legacy: bool,
}

impl KeyDirectory {
    /// Where keys are, if nothing else is said: `$WAYPOST_KEYS`, else `$XDG_CONFIG_HOME/waypost/keys`, else
    /// `~/.config/waypost/keys`.
    pub fn default_path() -> Result<PathBuf, KeysError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        place(
            variable("WAYPOST_KEYS").map(PathBuf::from),
            variable("XDG_CONFIG_HOME").map(PathBuf::from),
            variable("HOME").map(PathBuf::from),
        )
    }

    /// Reads a directory. One that is not there has no keys yet.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, KeysError> {
        Self::bounded(path.into(), KEYS_MAX)
    }

    fn bounded(path: PathBuf, keys_max: usize) -> Result<Self, KeysError> {
        let mut directory = Self {
            path,
            keys: Vec::new(),
            by_id: HashMap::new(),
            keys_max,
            legacy: false,
        };
        directory.load()?;
        Ok(directory)
    }

    /// The same, opening what is sealed under `des` too.
    #[must_use]
    pub fn with_legacy(mut self) -> Self {
        self.legacy = true;
        self
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All keys: by name, the newest of one name first.
    pub fn keys(&self) -> &[KeyFile] {
        &self.keys
    }

    /// Whose key that is.
    pub fn name_of(&self, id: KeyId) -> Option<&KeyName> {
        self.key(id).map(|key| &key.name)
    }

    /// The key with that id.
    pub fn key(&self, id: KeyId) -> Option<&KeyFile> {
        self.keys.get(*self.by_id.get(&id)?)
    }

    /// The keys of a name, the newest first.
    pub fn named(&self, name: &KeyName) -> Result<Vec<&KeyFile>, KeysError> {
        let found: Vec<_> = self.keys.iter().filter(|key| key.name == *name).collect();
        if found.is_empty() {
            return Err(KeysError::Unknown {
                name: name.clone(),
                like: self.like(name),
            });
        }
        Ok(found)
    }

    /// The key that a name uses for something.
    pub fn current(&self, name: &KeyName, purpose: Purpose) -> Result<&KeyFile, KeysError> {
        let mut keys = self.named(name)?.into_iter();
        keys.find(|key| key.retired.is_none() && key.purpose.covers(purpose))
            .ok_or_else(|| KeysError::Lacks {
                name: name.clone(),
                purpose,
            })
    }

    /// What to seal with, so that this name can open it.
    pub fn recipient(&self, name: &KeyName) -> Result<Recipient, KeysError> {
        let key = self.current(name, Purpose::Sealing)?;
        Ok(match &key.holding {
            Holding::Shared(shared) => Recipient::Shared(Arc::clone(shared)),
            Holding::Public(public) => Recipient::Public(Arc::clone(public)),
            Holding::Private(private) => Recipient::Public(Arc::new(private.public().clone())),
        })
    }

    /// What this name signs with.
    pub fn signer(&self, name: &KeyName) -> Result<Arc<PrivateKey>, KeysError> {
        match &self.current(name, Purpose::Signing)?.holding {
            Holding::Private(private) => Ok(Arc::clone(private)),
            Holding::Public(_) | Holding::Shared(_) => Err(KeysError::Theirs(name.clone())),
        }
    }

    /// Makes keys for a name of ours; gives what stands for them.
    pub fn generate(
        &mut self,
        name: &KeyName,
        kinds: &[Kind],
        now: SystemTime,
    ) -> Result<Vec<KeyId>, KeysError> {
        self.change(|directory| {
            let mut given = Vec::new();
            for kind in kinds {
                given.push(Given {
                    key: kind.generate()?,
                    purpose: kind.purpose(),
                });
            }
            directory.add_own(name, given, now)
        })
    }

    /// Takes keys of ours that were made elsewhere: a JWK, a set of them or PEM, private or shared.
    pub fn import(
        &mut self,
        name: &KeyName,
        text: &[u8],
        now: SystemTime,
    ) -> Result<Vec<KeyId>, KeysError> {
        let given = set::read(text)?;
        self.change(|directory| directory.add_own(name, given, now))
    }

    /// Takes the public keys of somebody else. Where there are some already, new ones take their place only if
    /// `is_replacing`: whoever asks for that has made sure that they are theirs.
    pub fn trust(
        &mut self,
        name: &KeyName,
        text: &[u8],
        is_replacing: bool,
        now: SystemTime,
    ) -> Result<Vec<KeyId>, KeysError> {
        let given = set::read(text)?;
        if let Some(given) = given
            .iter()
            .find(|given| !matches!(given.key, Jwk::Public(_)))
        {
            return Err(KeysError::NotPublic(given.key.id()));
        }
        self.change(|directory| {
            if directory.has(name, true) {
                return Err(KeysError::IsOwn(name.clone()));
            }
            let given: Vec<_> = given
                .into_iter()
                .filter(|given| !directory.uses(name, given.key.id()))
                .collect();
            if !is_replacing {
                directory.check_free(name, &given)?;
            }
            for given in &given {
                directory.retire(name, given.purpose, now)?;
            }
            directory.add(TRUSTED, name, given, now)
        })
    }

    /// Makes a new key for each that a name of ours uses; the old ones are kept to open and verify what they were used for.
    /// Gives the old and the new ids.
    pub fn rotate(
        &mut self,
        name: &KeyName,
        now: SystemTime,
    ) -> Result<Vec<(KeyId, KeyId)>, KeysError> {
        self.change(|directory| {
            let mut rotated = Vec::new();
            let named = directory.named(name)?.into_iter();
            let old: Vec<_> = named
                .filter(|key| key.retired.is_none())
                .map(|key| (key.id(), key.kind(), key.purpose, key.is_own()))
                .collect();
            let mut followed = Vec::new();
            for (old, kind, purpose, is_own) in old {
                if !is_own {
                    return Err(KeysError::Theirs(name.clone()));
                }
                // A rotation that a crash or a full disk ended halfway: a newer one took its place already.
                if followed.contains(&purpose) {
                    directory.retire_key(old, now)?;
                    continue;
                }
                followed.push(purpose);
                let given = Given {
                    key: generate(kind, purpose)?,
                    purpose,
                };
                // The new one is there before the old one goes: after a crash between the two the newest counts.
                let new = directory.add(OWN, name, vec![given], now)?;
                directory.retire_key(old, now)?;
                rotated.extend(new.into_iter().map(|new| (old, new)));
            }
            Ok(rotated)
        })
    }

    /// Takes away all keys of a name, old ones too, and gives them. Nothing brings them back: what only they open stays shut.
    pub fn remove(&mut self, name: &KeyName) -> Result<Vec<KeyFile>, KeysError> {
        self.change(|directory| {
            let removed: Vec<_> = directory.named(name)?.into_iter().cloned().collect();
            for key in &removed {
                key.remove()?;
                directory.keys.retain(|other| other.id() != key.id());
                directory.sort();
            }
            Ok(removed)
        })
    }

    /// The keys that a name uses as a JWK Set: the public halves, or, where `is_private`, all there is of them.
    pub fn export(&self, name: &KeyName, is_private: bool) -> Result<Zeroizing<String>, KeysError> {
        let mut keys = Vec::new();
        for purpose in [Purpose::Sealing, Purpose::Signing] {
            let Ok(key) = self.current(name, purpose) else {
                continue;
            };
            if is_private && !key.is_own() {
                return Err(KeysError::Theirs(name.clone()));
            }
            if purpose == Purpose::Signing && key.purpose == Purpose::Both {
                continue;
            }
            keys.extend(key.exported(is_private));
        }
        if keys.is_empty() {
            self.named(name)?;
            return Err(KeysError::Shared(name.clone()));
        }
        Ok(set::write(&keys))
    }

    /// Keeps what `key` has sealed since it was read: there is an end to that, and no single process sees it. `before` is what
    /// [`SymmetricKey::sealed`] and [`SymmetricKey::legacy_blocks`] said then.
    pub fn note_sealed(&mut self, key: &SymmetricKey, before: (u64, u64)) -> Result<(), KeysError> {
        let id = key.id();
        let messages = key.sealed().saturating_sub(before.0);
        let blocks = key.legacy_blocks().saturating_sub(before.1);
        if (messages, blocks) == (0, 0) {
            return Ok(());
        }
        self.change(|directory| {
            let index = directory.by_id.get(&id).copied();
            let Some(file) = index.and_then(|index| directory.keys.get_mut(index)) else {
                return Ok(());
            };
            // What the disk says counts, and was read just now: another process may have sealed meanwhile.
            let Holding::Shared(shared) = &file.holding else {
                return Ok(());
            };
            let messages = shared.sealed().saturating_add(messages);
            let blocks = shared.legacy_blocks().saturating_add(blocks);
            if let Jwk::Symmetric(again) = Jwk::decode(shared.to_jwk().as_bytes())? {
                let again = again.with_sealed(messages).with_legacy_blocks(blocks);
                file.holding = Holding::Shared(Arc::new(again));
            }
            file.write()
        })
    }

    fn add_own(
        &mut self,
        name: &KeyName,
        given: Vec<Given>,
        now: SystemTime,
    ) -> Result<Vec<KeyId>, KeysError> {
        if let Some(given) = given
            .iter()
            .find(|given| matches!(given.key, Jwk::Public(_)))
        {
            return Err(KeysError::NotOwn(given.key.id()));
        }
        if self.has(name, false) {
            return Err(KeysError::IsTrusted(name.clone()));
        }
        self.check_free(name, &given)?;
        self.add(OWN, name, given, now)
    }

    /// No two keys of a name are used for the same.
    fn check_free(&self, name: &KeyName, given: &[Given]) -> Result<(), KeysError> {
        for (index, one) in given.iter().enumerate() {
            let others = given.iter().take(index);
            let taken = others
                .map(|other| (other.purpose, other.key.id()))
                .chain(
                    [Purpose::Sealing, Purpose::Signing]
                        .into_iter()
                        .filter_map(|purpose| self.current(name, purpose).ok())
                        .map(|key| (key.purpose, key.id())),
                )
                .find(|(purpose, _)| purpose.covers(one.purpose) || one.purpose.covers(*purpose));
            if let Some((purpose, id)) = taken {
                return Err(KeysError::Exists {
                    name: name.clone(),
                    purpose,
                    id,
                });
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        folder: &str,
        name: &KeyName,
        given: Vec<Given>,
        now: SystemTime,
    ) -> Result<Vec<KeyId>, KeysError> {
        let folder = self.path.join(folder);
        let has = self.keys.iter().filter(|key| key.path.starts_with(&folder));
        if has.count() + given.len() > self.keys_max {
            return Err(KeysError::TooMany {
                path: folder,
                max: self.keys_max,
            });
        }
        make(&folder)?;
        let mut ids = Vec::new();
        for given in given {
            let key = KeyFile::new(&folder, name, given, now);
            if let Some(other) = self.key(key.id()).filter(|other| other.name != *name) {
                return Err(KeysError::Exists {
                    name: other.name.clone(),
                    purpose: other.purpose,
                    id: other.id(),
                });
            }
            key.write()?;
            ids.push(key.id());
            self.keys.retain(|other| other.id() != key.id());
            self.keys.push(key);
            self.sort();
        }
        Ok(ids)
    }

    /// What a name used for that is kept as an old key.
    fn retire(
        &mut self,
        name: &KeyName,
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<(), KeysError> {
        let used: Vec<_> = self
            .keys
            .iter()
            .filter(|key| key.name == *name && key.retired.is_none())
            .filter(|key| key.purpose.covers(purpose) || purpose.covers(key.purpose))
            .map(KeyFile::id)
            .collect();
        used.into_iter().try_for_each(|id| self.retire_key(id, now))
    }

    fn retire_key(&mut self, id: KeyId, now: SystemTime) -> Result<(), KeysError> {
        let index = self.by_id.get(&id).copied();
        let Some(key) = index.and_then(|index| self.keys.get_mut(index)) else {
            return Ok(());
        };
        key.retired = Some(now);
        key.write()?;
        self.sort();
        Ok(())
    }

    fn has(&self, name: &KeyName, is_own: bool) -> bool {
        let mut keys = self.keys.iter();
        keys.any(|key| key.name == *name && key.is_own() == is_own)
    }

    fn uses(&self, name: &KeyName, id: KeyId) -> bool {
        self.key(id)
            .is_some_and(|key| key.name == *name && key.retired.is_none())
    }

    /// A name that begins alike: most mistakes are at the end, or in the case.
    fn like(&self, name: &KeyName) -> Option<KeyName> {
        let common = |other: &KeyName| {
            let pairs = other.as_str().bytes().zip(name.as_str().bytes());
            pairs
                .take_while(|(one, other)| one.eq_ignore_ascii_case(other))
                .count()
        };
        let best = self.keys.iter().max_by_key(|key| common(&key.name))?;
        (common(&best.name) * 2 >= name.as_str().len()).then(|| best.name.clone())
    }

    /// Under the lock, on what is on disk then.
    fn change<T>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<T, KeysError>,
    ) -> Result<T, KeysError> {
        make(&self.path)?;
        let path = self.path.join(LOCK);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(KeysError::system(&path))?;
        lock.lock().map_err(KeysError::system(&path))?;
        self.load()?;
        change(self)
    }

    fn load(&mut self) -> Result<(), KeysError> {
        self.keys.clear();
        for folder in ["", OWN, TRUSTED] {
            let path = self.path.join(folder);
            let metadata = match fs::metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                metadata => metadata.map_err(KeysError::system(&path))?,
            };
            check_mode(&path, metadata.permissions().mode(), DIRECTORY_MODE)?;
            if !folder.is_empty() {
                self.load_folder(&path)?;
            }
        }
        self.sort();
        Ok(())
    }

    fn load_folder(&mut self, folder: &Path) -> Result<(), KeysError> {
        let mut count = 0;
        for entry in fs::read_dir(folder).map_err(KeysError::system(folder))? {
            let entry = entry.map_err(KeysError::system(folder))?;
            // What a crash left, and what editors leave.
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            count += 1;
            if count > self.keys_max {
                return Err(KeysError::TooMany {
                    path: folder.to_owned(),
                    max: self.keys_max,
                });
            }
            let key = KeyFile::read(&entry.path())?;
            // A private key among those of others would be used, and must not: it came from elsewhere.
            if key.is_own() != folder.ends_with(OWN) {
                let why = "a key of this kind does not belong into this folder";
                return Err(KeysError::Damaged {
                    path: entry.path(),
                    why: why.to_owned(),
                });
            }
            self.keys.push(key);
        }
        Ok(())
    }

    fn sort(&mut self) {
        self.keys.sort_by(|one, other| {
            let order = one.name.cmp(&other.name);
            let order = order.then(one.retired.is_some().cmp(&other.retired.is_some()));
            let order = order.then(other.created.cmp(&one.created));
            order
                .then(one.purpose.cmp(&other.purpose))
                .then(one.id().0.cmp(&other.id().0))
        });
        let keys = self.keys.iter().enumerate();
        self.by_id = keys.map(|(index, key)| (key.id(), index)).collect();
    }
}

impl KeyRing for KeyDirectory {
    fn private(&self, id: KeyId) -> Option<Arc<PrivateKey>> {
        match self.key(id) {
            Some(KeyFile {
                holding: Holding::Private(key),
                purpose,
                ..
            }) if purpose.covers(Purpose::Sealing) => Some(Arc::clone(key)),
            _ => None,
        }
    }

    fn symmetric(&self, id: KeyId) -> Option<Arc<SymmetricKey>> {
        match &self.key(id)?.holding {
            Holding::Shared(key) => Some(Arc::clone(key)),
            Holding::Private(_) | Holding::Public(_) => None,
        }
    }

    fn sender(&self, id: KeyId) -> Option<Arc<PublicKey>> {
        self.key(id)
            .filter(|key| key.purpose.covers(Purpose::Signing))?
            .public()
    }

    fn legacy(&self) -> bool {
        self.legacy
    }
}

#[cfg(test)]
mod tests;
