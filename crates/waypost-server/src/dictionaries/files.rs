//! Dictionaries over starts: a file for each, never changed, never deleted.
//!
//! `<data-dir>/dictionaries/<number>`, numbered as they were made: the filter of the policy, a line feed, a checksum (CRC-32C of
//! all else, the least significant byte first) and the dictionary in zstd's format, encrypted where the store is ([`AtRest`]).
//! Topic filters have no line feed here: one that has is not learnt for.
//!
//! The checksum is there because zstd takes a dictionary in which a bit has changed, and then unpacks another message than was
//! packed, without a word.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use waypost_compress::dictionary::{DICTIONARY_BYTES_MAX, Dictionary};
use waypost_encrypt::MasterKey;

use super::Shelf;
use super::at_rest::{AtRest, SEALED_BYTES};

/// The folder inside the data directory.
pub(super) const FOLDER: &str = "dictionaries";

/// Of a checksum.
const CHECKSUM_BYTES: usize = 4;

/// The longest file: the longest Topic Filter, a line feed, a checksum, the longest dictionary.
const FILE_BYTES_MAX: u64 = (65_536 + CHECKSUM_BYTES + DICTIONARY_BYTES_MAX + SEALED_BYTES) as u64;

/// Where they are kept.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    next: u64,
    at_rest: AtRest,
}

impl Files {
    /// Reads all there are onto the shelf, the oldest first. What cannot be read is told and left alone.
    pub(crate) fn open(data_directory: &Path, shelf: &Shelf, at_rest: AtRest) -> io::Result<Self> {
        let folder = data_directory.join(FOLDER);
        let numbers = numbers(&folder)?;
        for number in &numbers {
            let path = folder.join(number.to_string());
            match read(&path, &at_rest) {
                Ok((filter, dictionary)) => shelf.put(&filter, Arc::new(dictionary)),
                Err(error) => log::error!(
                    "the dictionary {} cannot be read, nor can what was packed with it: {error}",
                    path.display()
                ),
            }
        }
        Ok(Self {
            at_rest,
            folder,
            next: numbers.last().map_or(0, |last| last.saturating_add(1)),
        })
    }

    /// Keeps one. When this returns, it is on disk.
    pub(crate) fn keep(&mut self, filter: &str, dictionary: &Dictionary) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.folder.join("unfinished");
        let mut file = File::create(&unfinished)?;
        let text = encode_dictionary_file(filter.as_bytes(), dictionary.bytes());
        file.write_all(&self.at_rest.seal(text)?)?;
        file.sync_all()?;
        fs::rename(&unfinished, self.folder.join(self.next.to_string()))?;
        self.next = self.next.saturating_add(1);
        File::open(&self.folder)?.sync_all()
    }
}

/// The files in a folder, by their numbers.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read(path: &Path, at_rest: &AtRest) -> io::Result<(Arc<str>, Dictionary)> {
    let length = fs::metadata(path)?.len();
    if length > FILE_BYTES_MAX {
        return Err(io::Error::other("longer than any dictionary"));
    }
    decode_file(fs::read(path)?, at_rest)
}

fn decode_file(bytes: Vec<u8>, at_rest: &AtRest) -> io::Result<(Arc<str>, Dictionary)> {
    let bytes = at_rest.open(bytes)?;
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(filter), Some(rest)) = (parts.next(), parts.next()) else {
        return Err(io::Error::other("no filter before it"));
    };
    let Some((kept, dictionary)) = rest.split_first_chunk::<CHECKSUM_BYTES>() else {
        return Err(io::Error::other("no checksum before it"));
    };
    if *kept != checksum(filter, dictionary) {
        return Err(io::Error::other("its checksum is that of another"));
    }
    let filter = std::str::from_utf8(filter).map_err(io::Error::other)?;
    let dictionary = Dictionary::new(dictionary.to_vec()).map_err(io::Error::other)?;
    Ok((filter.into(), dictionary))
}

fn checksum(filter: &[u8], dictionary: &[u8]) -> [u8; CHECKSUM_BYTES] {
    crc32c::crc32c_append(crc32c::crc32c(filter), dictionary).to_le_bytes()
}

/// The file of a dictionary, where the store is not encrypted.
#[must_use]
pub fn encode_dictionary_file(filter: &[u8], dictionary: &[u8]) -> Vec<u8> {
    let checksum = checksum(filter, dictionary);
    [filter, b"\n", &checksum, dictionary].concat()
}

/// The file of a dictionary, as a start reads it where these are the keys of the store: the filter of its policy, and it.
pub fn decode_dictionary_file(
    bytes: Vec<u8>,
    keys: &[Arc<MasterKey>],
) -> io::Result<(Arc<str>, Dictionary)> {
    let at_rest = AtRest {
        current: None,
        older: keys.to_vec(),
    };
    decode_file(bytes, &at_rest)
}
