//! Dictionaries over starts: a file for each, never changed, never deleted.
//!
//! `<data-dir>/dictionaries/<number>`, numbered as they were made: the filter of the policy, a line feed, and the dictionary
//! in zstd's format. Topic filters have no line feed here: one that has is not learnt for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_compress::dictionary::{DICTIONARY_BYTES_MAX, Dictionary};

use super::Shelf;

/// The folder inside the data directory.
const FOLDER: &str = "dictionaries";

/// The longest file: the longest Topic Filter, a line feed, the longest dictionary.
const FILE_BYTES_MAX: u64 = (65_536 + DICTIONARY_BYTES_MAX) as u64;

/// Where they are kept.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    next: u64,
}

impl Files {
    /// Reads all there are onto the shelf, the oldest first. What cannot be read is told and left alone.
    pub(crate) fn open(data_directory: &Path, shelf: &Shelf) -> io::Result<Self> {
        let folder = data_directory.join(FOLDER);
        let mut numbers = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u64>().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        for number in &numbers {
            let path = folder.join(number.to_string());
            match read(&path) {
                Ok((filter, dictionary)) => shelf.put(&filter, Arc::new(dictionary)),
                Err(error) => log::error!(
                    "the dictionary {} cannot be read, nor can what was packed with it: {error}",
                    path.display()
                ),
            }
        }
        Ok(Self {
            folder,
            next: numbers.last().map_or(0, |last| last.saturating_add(1)),
        })
    }

    /// Keeps one. When this returns, it is on disk.
    pub(crate) fn keep(&mut self, filter: &str, dictionary: &Dictionary) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.folder.join("unfinished");
        let mut file = File::create(&unfinished)?;
        file.write_all(filter.as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(dictionary.bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, self.folder.join(self.next.to_string()))?;
        self.next = self.next.saturating_add(1);
        File::open(&self.folder)?.sync_all()
    }
}

fn read(path: &Path) -> io::Result<(Arc<str>, Dictionary)> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("longer than any dictionary"));
    }
    let bytes = fs::read(path)?;
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(filter), Some(dictionary)) = (parts.next(), parts.next()) else {
        return Err(io::Error::other("no filter before it"));
    };
    let filter = std::str::from_utf8(filter).map_err(io::Error::other)?;
    let dictionary = Dictionary::new(dictionary.to_vec()).map_err(io::Error::other)?;
    Ok((filter.into(), dictionary))
}
