//! One key as a file: its JWK, and when it came and went.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waypost_encrypt::{JWK_BYTES_MAX, Jwk, KeyId, KeyKind, PrivateKey, PublicKey, SymmetricKey};
use zeroize::Zeroizing;

use super::set::{self, Given};
use super::{KeyName, KeysError};

/// The mode of every key file.
pub(super) const FILE_MODE: u32 = 0o600;
/// The last bits of a mode: what group and others may do.
const OTHERS_BITS: u32 = 6;
/// Bytes of a file: a JWK, and our members.
const FILE_BYTES_MAX: usize = JWK_BYTES_MAX;
/// Seconds since 1970 when the key was made, or came here.
const CREATED: &str = "waypost-created";
/// Seconds since 1970 when another took its place.
const RETIRED: &str = "waypost-retired";
/// How many messages a shared key has sealed here, and how many blocks under `des`.
const SEALED: &str = "waypost-sealed";
const LEGACY_BLOCKS: &str = "waypost-legacy-blocks";

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Purpose {
    /// Messages are sealed for its owner: `use` is `enc`.
    Sealing,
    /// Its owner signs: `use` is `sig`.
    Signing,
    /// Its `use` is not said, and its kind can do both.
    Both,
}

impl Purpose {
    /// Whether a key for this is also one for `wanted`.
    pub fn covers(self, wanted: Self) -> bool {
        self == wanted || self == Self::Both
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Sealing => "to seal for",
            Self::Signing => "to sign with",
            Self::Both => "to seal for and to sign with",
        })
    }
}

/// What is here of a key.
#[derive(Clone, Debug)]
pub enum Holding {
    /// A pair of ours.
    Private(Arc<PrivateKey>),
    /// A key that we share with others.
    Shared(Arc<SymmetricKey>),
    /// The public half of somebody whom we trust.
    Public(Arc<PublicKey>),
}

/// One key of a directory.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Whose it is.
    pub name: KeyName,
    /// What it is for.
    pub purpose: Purpose,
    /// The key.
    pub holding: Holding,
    /// When it was made, or came here.
    pub created: SystemTime,
    /// When another took its place; none while it is in use.
    pub retired: Option<SystemTime>,
    /// Where it is.
    pub path: PathBuf,
}

impl KeyFile {
    /// What stands for the key.
    pub fn id(&self) -> KeyId {
        match &self.holding {
            Holding::Private(key) => key.id(),
            Holding::Shared(key) => key.id(),
            Holding::Public(key) => key.id(),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> KeyKind {
        match &self.holding {
            Holding::Private(key) => key.kind(),
            Holding::Shared(_) => KeyKind::Symmetric,
            Holding::Public(key) => key.kind(),
        }
    }

    /// Whether it is ours.
    pub fn is_own(&self) -> bool {
        !matches!(self.holding, Holding::Public(_))
    }

    /// Its public half; a shared key has none.
    pub fn public(&self) -> Option<Arc<PublicKey>> {
        match &self.holding {
            Holding::Private(key) => Some(Arc::new(key.public().clone())),
            Holding::Public(key) => Some(Arc::clone(key)),
            Holding::Shared(_) => None,
        }
    }

    pub(super) fn new(folder: &Path, name: &KeyName, given: Given, now: SystemTime) -> Self {
        let path = folder.join(format!("{name}.{}.jwk", given.key.id()));
        Self {
            name: name.clone(),
            purpose: given.purpose,
            holding: match given.key {
                Jwk::Private(key) => Holding::Private(Arc::new(key)),
                Jwk::Symmetric(key) => Holding::Shared(Arc::new(key)),
                Jwk::Public(key) => Holding::Public(Arc::new(key)),
            },
            created: now,
            retired: None,
            path,
        }
    }

    /// As it is given to others: the JWK alone.
    pub(super) fn exported(&self, is_private: bool) -> Option<Zeroizing<String>> {
        match (&self.holding, is_private) {
            (Holding::Private(key), true) => Some(key.to_jwk()),
            (Holding::Shared(key), true) => Some(key.to_jwk()),
            (Holding::Shared(_), false) => None,
            (Holding::Private(_) | Holding::Public(_), _) => {
                Some(Zeroizing::new(self.public()?.to_jwk()))
            }
        }
    }

    /// Reads one. Its name says whose key it is and which.
    pub(super) fn read(path: &Path) -> Result<Self, KeysError> {
        let damaged = |why: &str| KeysError::Damaged {
            path: path.to_owned(),
            why: why.to_owned(),
        };
        let (name, id) = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_suffix(".jwk")?.rsplit_once('.'))
            .ok_or_else(|| damaged("its name is not NAME.ID.jwk"))?;
        let name: KeyName = name
            .parse()
            .map_err(|_| damaged("its name is not NAME.ID.jwk"))?;
        // Opening a pipe would wait for who writes into it.
        let metadata = fs::metadata(path).map_err(KeysError::system(path))?;
        if !metadata.is_file() {
            return Err(damaged("it is not a file"));
        }
        let file = File::open(path).map_err(KeysError::system(path))?;
        let metadata = file.metadata().map_err(KeysError::system(path))?;
        check_mode(path, metadata.permissions().mode(), FILE_MODE)?;
        // As long as it gets: nothing is moved and left behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        let mut bounded = file.take(FILE_BYTES_MAX as u64 + 1);
        bounded
            .read_to_end(&mut text)
            .map_err(KeysError::system(path))?;
        let given = set::one(&text).map_err(|error| damaged(&error.to_string()))?;
        if given.key.id().to_string() != id {
            return Err(damaged("it holds another key than its name says"));
        }
        let number = |member| -> Option<u64> { set::member(&text, member)?.parse().ok() };
        let time = |member| UNIX_EPOCH.checked_add(Duration::from_secs(number(member)?));
        let sealed = number(SEALED).unwrap_or(0);
        let blocks = number(LEGACY_BLOCKS).unwrap_or(0);
        let created = time(CREATED).unwrap_or(UNIX_EPOCH);
        let retired = time(RETIRED);
        let folder = path.parent().unwrap_or(path);
        let key = match given.key {
            Jwk::Symmetric(key) => {
                Jwk::Symmetric(key.with_sealed(sealed).with_legacy_blocks(blocks))
            }
            key => key,
        };
        let given = Given { key, ..given };
        Ok(Self {
            retired,
            ..Self::new(folder, &name, given, created)
        })
    }

    /// Writes it: what is there afterwards is whole, the old file or the new one.
    pub(super) fn write(&self) -> Result<(), KeysError> {
        let mut members = Vec::new();
        members.push((CREATED, seconds(self.created).to_string()));
        let retired = self.retired.map(seconds);
        members.extend(retired.map(|retired| (RETIRED, retired.to_string())));
        let jwk = match &self.holding {
            Holding::Private(key) => key.to_jwk(),
            Holding::Shared(key) => {
                members.push((SEALED, key.sealed().to_string()));
                members.push((LEGACY_BLOCKS, key.legacy_blocks().to_string()));
                key.to_jwk()
            }
            Holding::Public(key) => Zeroizing::new(key.to_jwk()),
        };
        let text = set::with_members(&jwk, &members);
        let folder = self.path.parent().unwrap_or(&self.path);
        // Under the directory's lock nobody else writes it; what a crash left there is written over.
        let temporary = folder.join(format!(".{}.{}.tmp", self.name, self.id()));
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(FILE_MODE)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            File::open(folder)?.sync_all()
        })();
        written.map_err(|error| {
            // A full disk is not to keep half a private key.
            let _ = fs::remove_file(&temporary);
            KeysError::system(&self.path)(error)
        })
    }

    /// Takes it away, for good.
    pub(super) fn remove(&self) -> Result<(), KeysError> {
        let folder = self.path.parent().unwrap_or(&self.path);
        fs::remove_file(&self.path)
            .and_then(|()| File::open(folder)?.sync_all())
            .map_err(KeysError::system(&self.path))
    }
}

/// Whether others have no way in.
pub(super) fn check_mode(path: &Path, mode: u32, fix: u32) -> Result<(), KeysError> {
    let mode = mode & 0o777;
    if mode.trailing_zeros() >= OTHERS_BITS {
        return Ok(());
    }
    Err(KeysError::Open {
        path: path.to_owned(),
        mode,
        fix,
    })
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
