//! What can go wrong with a key directory, and what would help.

use std::io;
use std::path::{Path, PathBuf};

use waypost_encrypt::{JwkError, KeyId, NoRandomness, PemError};

use super::{KeyName, Purpose, SET_KEYS_MAX};

/// Why a key directory, or what was asked of it, did not work out.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Nothing says where keys are kept.
    #[error("there is no home directory to keep keys in: set WAYPOST_KEYS to a directory")]
    NoPlace,
    /// The system said no.
    #[error("{}: {error}", path.display())]
    System {
        /// To which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Others on this machine can get at keys.
    #[error(
        "{} is open to others (mode {mode:03o}): chmod {fix:03o} {}, and take new keys if others use this machine",
        path.display(), path.display()
    )]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// How it is.
        mode: u32,
        /// How it has to be.
        fix: u32,
    },
    /// A file does not hold the key that its name says.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// More files than are read.
    #[error("{} has more than {max} keys: move old ones away", path.display())]
    TooMany {
        /// The directory.
        path: PathBuf,
        /// How many there may be.
        max: usize,
    },
    /// A text is no key.
    #[error("not a key: {0}")]
    NotAKey(#[from] JwkError),
    /// A text looks like PEM, and is no key in it.
    #[error("not a key: {0}")]
    NotPem(#[from] PemError),
    /// A text is no JWK Set.
    #[error("neither a JWK, nor a set of 1 to {SET_KEYS_MAX} of them, nor PEM")]
    NotASet,
    /// A public key where ours are kept.
    #[error("{0} is a public key, not one of yours")]
    NotOwn(KeyId),
    /// A private or shared key where those of others are kept.
    #[error("{0} is a private or shared key: nobody but its owner should have it")]
    NotPublic(KeyId),
    /// The name has a key for that already.
    #[error("{name} has a key {purpose} already: {id}")]
    Exists {
        /// Whose.
        name: KeyName,
        /// For what.
        purpose: Purpose,
        /// Which.
        id: KeyId,
    },
    /// The name is that of somebody else.
    #[error("{0} is somebody whose keys you trust; your own need another name")]
    IsTrusted(KeyName),
    /// The name is one of ours.
    #[error("{0} is the name of keys of your own; somebody else needs another one")]
    IsOwn(KeyName),
    /// Nobody has that name.
    #[error("there are no keys of the name {name}{}", like.as_ref().map_or_else(String::new, |like| format!(" (but of {like})")))]
    Unknown {
        /// The name that was asked for.
        name: KeyName,
        /// One that is like it.
        like: Option<KeyName>,
    },
    /// The name has keys, but none for that.
    #[error("{name} has no key {purpose}")]
    Lacks {
        /// Whose.
        name: KeyName,
        /// For what.
        purpose: Purpose,
    },
    /// There is nothing public about a shared key.
    #[error("{0} is a shared key: it has no public half")]
    Shared(KeyName),
    /// No private key is here.
    #[error("the keys of {0} are public: theirs is the private half")]
    Theirs(KeyName),
    /// The system gives no random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl KeysError {
    pub(super) fn system(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::System { path, error }
    }
}
