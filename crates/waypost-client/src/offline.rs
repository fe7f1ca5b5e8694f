//! Where messages wait while there is no connection, across restarts of the program.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the file begins with; the numbers of its first record and of the first that is needed follow.
const MAGIC: [u8; 8] = *b"WPOUTBX1";
const HEADER_BYTES: u64 = 24;
/// Where the second of the numbers is.
const FIRST_AT: u64 = 16;
/// Before each record: its length and its checksum.
const PREFIX_BYTES: u64 = 8;
/// The longest record: a PUBLISH of MQTT.
const RECORD_BYTES_MAX: u64 = 268_435_460;

/// Where messages wait while there is no connection.
///
/// Records have numbers without gaps. What [`Self::append`] has returned for survives the program,
/// killed or not; what [`Self::remove`] was told of may come back after a crash, and is then sent again.
///
/// A client calls it on threads of its runtime that may block, one call at a time.
pub trait OfflineStore: Send {
    /// Keeps a record for good; gives its number.
    fn append(&mut self, record: &[u8]) -> Result<u64, OfflineError>;

    /// The record of this number, or nothing where the last is before it. Those before
    /// [`Self::first`] are gone.
    fn read(&mut self, number: u64) -> Result<Option<Vec<u8>>, OfflineError>;

    /// All up to this number, itself too, are not needed any more.
    fn remove(&mut self, up_to: u64) -> Result<(), OfflineError>;

    /// The number of the first record that is needed.
    fn first(&self) -> u64;

    /// The number the next record will have.
    fn end(&self) -> u64;
}

/// Why a message cannot be kept while there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The store's bound is reached.
    #[error(
        "{bytes_max} bytes wait for a connection already; the message was not kept: publish it again later, or allow more"
    )]
    Full {
        /// The bound.
        bytes_max: u64,
    },
    /// Another program has the store.
    #[error("{} is in use by another client; give each its own", .0.display())]
    InUse(PathBuf),
    /// The file is something else.
    #[error("{} is not a store of messages; name another file", .0.display())]
    NotAStore(PathBuf),
    /// A record is damaged.
    #[error("record {number} of {} is damaged; move the file away to go on without what is in it", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which.
        number: u64,
    },
    /// The store panicked, or the runtime shuts down.
    #[error("the store's thread ended before it had answered; the message may be kept or not")]
    Lost,
    /// The disk says no.
    #[error("{}: {error}", path.display())]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Messages in one file: appended and synced one by one, cut to nothing when all are sent.
///
/// ```
/// use waypost_client::FileStore;
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("outbox");
/// let store = FileStore::open(&path, 64 * 1024 * 1024)?;
/// # drop(store);
/// # Ok::<(), waypost_client::OfflineError>(())
/// ```
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    file: File,
    bytes_max: u64,
    /// The number of the first record in the file.
    first_in_file: u64,
    /// Of the first that is needed.
    first: u64,
    /// Where each record in the file begins, and where the last ends.
    places: Vec<u64>,
    end: u64,
}

impl FileStore {
    /// Opens a store of at most so many bytes, or makes it. What was being written when a program was
    /// killed is cut off; nothing that was kept is. It reads all that is there, on the caller's thread.
    pub fn open(path: impl AsRef<Path>, bytes_max: u64) -> Result<Self, OfflineError> {
        let path = path.as_ref().to_owned();
        let disk = |error| OfflineError::Disk {
            path: path.clone(),
            error,
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(disk)?;
        if file.try_lock().is_err() {
            return Err(OfflineError::InUse(path));
        }
        if file.metadata().map_err(disk)?.len() < HEADER_BYTES {
            write_header(&mut file, 0).map_err(disk)?;
            sync_directory(&path).map_err(disk)?;
        }
        let mut header = [[0; 8]; 3];
        file.read_exact_at(header.as_flattened_mut(), 0)
            .map_err(disk)?;
        let [magic, first_in_file, first] = header;
        if magic != MAGIC {
            return Err(OfflineError::NotAStore(path));
        }
        let first_in_file = u64::from_le_bytes(first_in_file);
        let mut store = Self {
            path,
            file,
            bytes_max,
            first_in_file,
            first: first_in_file,
            places: Vec::new(),
            end: HEADER_BYTES,
        };
        store.scan().map_err(|error| store.disk(error))?;
        let first = u64::from_le_bytes(first);
        store.first = first.clamp(first_in_file, store.end());
        Ok(store)
    }

    /// Finds the records; what is torn behind them was never kept.
    fn scan(&mut self) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let mut reader = io::BufReader::new(&self.file);
        reader.seek(SeekFrom::Start(HEADER_BYTES))?;
        let mut at = HEADER_BYTES;
        let mut record = Vec::new();
        while let Some(bytes) = read_record(&mut reader, length - at, &mut record)? {
            self.places.push(at);
            at += bytes;
        }
        self.end = at;
        if length > at {
            self.file.set_len(at)?;
            self.file.sync_data()?;
        }
        Ok(())
    }

    fn disk(&self, error: io::Error) -> OfflineError {
        OfflineError::Disk {
            path: self.path.clone(),
            error,
        }
    }

    /// Cuts the file to nothing.
    fn clear(&mut self) -> io::Result<()> {
        let next = self.end();
        self.file.set_len(0)?;
        write_header(&mut self.file, next)?;
        self.first_in_file = next;
        self.first = next;
        self.places.clear();
        self.end = HEADER_BYTES;
        Ok(())
    }

    /// Writes what is needed into a new file in the place of the old.
    fn rewrite(&mut self) -> io::Result<()> {
        let skipped = usize::try_from(self.first - self.first_in_file).unwrap_or(usize::MAX);
        let from = self.places.get(skipped).copied().unwrap_or(self.end);
        let path = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(true);
        let mut file = options.mode(0o600).open(&path)?;
        let _ = file.try_lock();
        write_header(&mut file, self.first)?;
        file.seek(SeekFrom::Start(HEADER_BYTES))?;
        let mut old = &self.file;
        old.seek(SeekFrom::Start(from))?;
        io::copy(&mut old.take(self.end - from), &mut file)?;
        file.sync_all()?;
        std::fs::rename(&path, &self.path)?;
        sync_directory(&self.path)?;
        self.file = file;
        self.places.drain(..skipped.min(self.places.len()));
        let moved = from - HEADER_BYTES;
        for place in &mut self.places {
            *place -= moved;
        }
        self.end -= moved;
        self.first_in_file = self.first;
        Ok(())
    }

    fn append_synced(&mut self, record: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(record.len() + 8);
        let length = u32::try_from(record.len()).map_err(|_| ErrorKind::InvalidInput)?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(crc32c::crc32c(record).to_le_bytes());
        bytes.extend(record);
        self.file.write_all_at(&bytes, self.end)?;
        self.file.sync_data()?;
        self.places.push(self.end);
        self.end += bytes.len() as u64;
        Ok(())
    }
}

impl OfflineStore for FileStore {
    fn append(&mut self, record: &[u8]) -> Result<u64, OfflineError> {
        let bytes = record.len() as u64 + PREFIX_BYTES;
        if self.end + bytes > self.bytes_max && self.first > self.first_in_file {
            self.rewrite().map_err(|error| self.disk(error))?;
        }
        if self.end + bytes > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(OfflineError::Full { bytes_max });
        }
        let number = self.end();
        if let Err(error) = self.append_synced(record) {
            // Nothing of it must be found later: whoever published it was told that it is not kept.
            let _ = self.file.set_len(self.end);
            return Err(self.disk(error));
        }
        Ok(number)
    }

    fn read(&mut self, number: u64) -> Result<Option<Vec<u8>>, OfflineError> {
        let index = number.checked_sub(self.first_in_file);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let Some(&at) = index.and_then(|index| self.places.get(index)) else {
            return Ok(None);
        };
        let mut reader = &self.file;
        let mut record = Vec::new();
        let found = reader
            .seek(SeekFrom::Start(at))
            .and_then(|_| read_record(&mut reader, self.end - at, &mut record));
        match found.map_err(|error| self.disk(error))? {
            Some(_) => Ok(Some(record)),
            None => Err(OfflineError::Damaged {
                path: self.path.clone(),
                number,
            }),
        }
    }

    fn remove(&mut self, up_to: u64) -> Result<(), OfflineError> {
        self.first = self.first.max(up_to.saturating_add(1)).min(self.end());
        if self.first == self.end() && !self.places.is_empty() {
            return self.clear().map_err(|error| self.disk(error));
        }
        // Not synced: a crash may bring back what was removed last, which is sent again then.
        let first = self.first.to_le_bytes();
        let written = self.file.write_all_at(&first, FIRST_AT);
        written.map_err(|error| self.disk(error))
    }

    fn first(&self) -> u64 {
        self.first
    }

    fn end(&self) -> u64 {
        self.first_in_file + self.places.len() as u64
    }
}

fn write_header(file: &mut File, first: u64) -> io::Result<()> {
    let header = [MAGIC, first.to_le_bytes(), first.to_le_bytes()].concat();
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    file.sync_all()
}

fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Reads a record into `record`; gives its length with what is before it, or nothing: it is not
/// whole, or not what was written.
fn read_record(reader: &mut impl Read, left: u64, record: &mut Vec<u8>) -> io::Result<Option<u64>> {
    let mut prefix = [0; 8];
    if left < PREFIX_BYTES {
        return Ok(None);
    }
    reader.read_exact(&mut prefix)?;
    let [a, b, c, d, sum @ ..] = prefix;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    if length > RECORD_BYTES_MAX || length > left - PREFIX_BYTES {
        return Ok(None);
    }
    record.clear();
    reader.take(length).read_to_end(record)?;
    let is_right = crc32c::crc32c(record) == u32::from_le_bytes(sum);
    Ok(is_right.then_some(length + PREFIX_BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64) -> Vec<u8> {
        format!("record {number}").into_bytes()
    }

    fn records(store: &mut FileStore) -> Vec<Vec<u8>> {
        let numbers = store.first()..store.end();
        numbers
            .map(|number| store.read(number).unwrap().unwrap())
            .collect()
    }

    #[test]
    fn what_was_appended_is_there_after_a_restart_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outbox");
        for start in [0, 3, 6] {
            let mut store = FileStore::open(&path, 10_000).unwrap();
            assert!(matches!(
                FileStore::open(&path, 10_000),
                Err(OfflineError::InUse(_))
            ));
            for number in start..start + 3 {
                assert_eq!(store.append(&record(number)).unwrap(), number);
            }
            assert_eq!(
                records(&mut store),
                (0..start + 3).map(record).collect::<Vec<_>>()
            );
        }
    }

    /// Goal: a kill at any moment loses nothing that was kept. Method: the file is cut at every byte, and every byte of the last
    /// record is changed.
    #[test]
    fn a_torn_end_takes_only_the_record_it_is_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outbox");
        let mut store = FileStore::open(&path, 10_000).unwrap();
        for number in 0..3 {
            store.append(&record(number)).unwrap();
        }
        let places = store.places.clone();
        drop(store);
        let whole = std::fs::read(&path).unwrap();
        for cut in usize::try_from(HEADER_BYTES).unwrap()..whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut store = FileStore::open(&path, 10_000).unwrap();
            let kept = places[1..]
                .iter()
                .filter(|place| **place <= cut as u64)
                .count() as u64;
            assert_eq!(store.end(), kept, "cut at {cut}");
            assert_eq!(store.append(b"next").unwrap(), kept);
        }
        for at in usize::try_from(places[2]).unwrap()..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(&path, &changed).unwrap();
            assert_eq!(
                FileStore::open(&path, 10_000).unwrap().end(),
                2,
                "changed at {at}"
            );
        }
    }

    /// At the bound, beyond it, and far beyond it: the newest is refused, what is there stays, and what was removed makes room.
    #[test]
    fn the_bound_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("outbox");
        let bytes_max = HEADER_BYTES + 10 * (PREFIX_BYTES + record(0).len() as u64);
        let mut store = FileStore::open(&path, bytes_max).unwrap();
        for number in 0..10 {
            store.append(&record(number)).unwrap();
        }
        for number in 10..20 {
            let full = store.append(&record(number));
            assert!(matches!(full, Err(OfflineError::Full { .. })), "{number}");
        }
        store.remove(3).unwrap();
        for number in 0..4 {
            assert_eq!(store.append(&record(number)).unwrap(), 10 + number);
        }
        assert!(store.append(&record(0)).is_err());
        let expect: Vec<_> = (4..10).chain(0..4).map(record).collect();
        assert_eq!(records(&mut store), expect);
        drop(store);
        let mut store = FileStore::open(&path, bytes_max).unwrap();
        assert_eq!((store.first(), records(&mut store)), (4, expect));
        store.remove(6).unwrap();
        drop(store);
        let mut store = FileStore::open(&path, bytes_max).unwrap();
        assert_eq!((store.first(), store.end()), (7, 14), "kept without a sync");
        store.remove(100).unwrap();
        assert_eq!((store.first(), store.end()), (14, 14));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), HEADER_BYTES);
        drop(store);
        assert_eq!(FileStore::open(&path, bytes_max).unwrap().end(), 14);
    }

    #[test]
    fn another_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letter");
        std::fs::write(&path, "dear reader, how are you?").unwrap();
        assert!(matches!(
            FileStore::open(&path, 100),
            Err(OfflineError::NotAStore(_))
        ));
        assert!(std::fs::read(&path).unwrap().starts_with(b"dear"));
    }
}
