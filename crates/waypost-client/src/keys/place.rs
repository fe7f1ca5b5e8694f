//! Where keys are, and a directory for nobody else.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::KeysError;

/// The mode of every directory with keys.
pub(super) const DIRECTORY_MODE: u32 = 0o700;

/// The directory, of what the environment says.
pub(super) fn place(
    keys: Option<PathBuf>,
    configuration: Option<PathBuf>,
    home: Option<PathBuf>,
) -> Result<PathBuf, KeysError> {
    keys.or_else(|| {
        let configuration = configuration.filter(|path| path.is_absolute());
        let configuration = configuration.or_else(|| Some(home?.join(".config")))?;
        Some(configuration.join("waypost/keys"))
    })
    .ok_or(KeysError::NoPlace)
}

/// Makes a directory for nobody but us, and those above it, as far as they are not there.
pub(super) fn make(path: &Path) -> Result<(), KeysError> {
    let made = DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path);
    made.map_err(KeysError::system(path))?;
    // The name of a new directory has to survive too.
    let parent = path.parent().filter(|parent| parent.is_dir());
    parent
        .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
        .map_err(KeysError::system(path))
}
