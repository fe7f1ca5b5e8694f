//! Dictionaries in a backup of the store: beside its files, as `dictionary-<number>`.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use waypost_store::backup::{BackupError, Original};
use waypost_store::disk::{Disk, DiskFile, RealDisk, RealFile};

use super::files::{FOLDER, numbers};

/// What their names in a backup begin with.
const PREFIX: &str = "dictionary-";

/// Those of a data directory, for a backup. None of them ever changes.
pub fn originals(data_directory: &Path) -> Result<Vec<Original<RealFile>>, BackupError> {
    let found = || {
        let folder = data_directory.join(FOLDER);
        let numbers = numbers(&folder)?;
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let disk = RealDisk::open(folder)?;
        let each = numbers.into_iter().map(|number| {
            let file = disk.open(&number.to_string())?;
            Ok(Original {
                name: format!("{PREFIX}{number}"),
                length: file.len()?,
                file: Arc::new(file),
            })
        });
        each.collect()
    };
    found().map_err(|source| BackupError::Read {
        name: FOLDER.to_owned(),
        source,
    })
}

/// Puts those among restored files where they belong. Others that are there already stay, and come first.
pub fn put_back(restored: &Path, data_directory: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(restored)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let number = number.and_then(|number| number.parse::<u64>().ok());
        names.extend(number.map(|number| (name, number)));
    }
    if names.is_empty() {
        return Ok(());
    }
    let folder = data_directory.join(FOLDER);
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    names.sort_unstable_by_key(|(_, number)| *number);
    let mut next = numbers(&folder)?
        .last()
        .map_or(0, |last| last.saturating_add(1));
    for (name, number) in names {
        let (from, mut to) = (restored.join(name), folder.join(number.to_string()));
        if to.exists() && fs::read(&from)? != fs::read(&to)? {
            to = folder.join(next.max(number).to_string());
            next = next.max(number).saturating_add(1);
        }
        fs::rename(from, to)?;
    }
    File::open(&folder)?.sync_all()
}
