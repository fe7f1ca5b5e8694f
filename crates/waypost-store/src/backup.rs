//! Backups: the files of the log as they were at one moment, in another directory; and back from there.
//!
//! What a moment is, the store says: which files, and how much of each ([`Original`]). They are open already, so that
//! whatever the store removes meanwhile is still read. Views are not among them: they are made again from the log.
//!
//! Beside the files stands `BACKUP`, written last: every file with its length and CRC32C. A directory without it is no
//! backup, or half of one.

use std::{fmt::Write as _, io, sync::Arc};

use thiserror::Error;

use crate::{
    disk::{Disk, DiskFile},
    log::LogError,
};

/// The version of what stands in [`CONTENTS_FILE`]; a backup of a later one is refused.
pub const BACKUP_VERSION: u32 = 1;

/// The name of the file that says what a backup has.
pub const CONTENTS_FILE: &str = "BACKUP";

/// The most bytes that file may have: some hundred thousand segments.
const CONTENTS_BYTES_MAX: u64 = 16 << 20;

/// How much is copied at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// A file of the store, and how much of it belongs to the moment of the backup.
#[derive(Debug)]
pub struct Original<F> {
    /// Its name.
    pub name: String,
    /// The file, open.
    pub file: Arc<F>,
    /// So many of its bytes.
    pub length: u64,
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes copied.
    pub bytes: u64,
    /// Bytes to copy in all.
    pub bytes_total: u64,
}

/// Whether to go on, asked after each piece.
pub type GoOn<'a> = &'a mut dyn FnMut(Progress) -> bool;

/// What a backup has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// When it was taken, in wall time.
    pub taken_wall_ms: u64,
    /// Its files, in the order of the store.
    pub files: Vec<Copied>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// Its CRC32C.
    pub checksum: u32,
}

impl Contents {
    /// The lengths of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files
            .iter()
            .fold(0, |sum, file| sum.saturating_add(file.length))
    }
}

/// Why there is no backup, or no store from it.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file would not be read.
    #[error("cannot read {name}: {source}")]
    Read {
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file would not be written.
    #[error("cannot write {name}: {source}")]
    Write {
        /// Which.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// There are files where the copy should go.
    #[error("there are files already, {name} for one")]
    NotEmpty {
        /// One of them.
        name: String,
    },
    /// The copy would not fit.
    #[error("it takes {needed_bytes} bytes and there are {free_bytes} free")]
    NoRoom {
        /// What it takes.
        needed_bytes: u64,
        /// What is there.
        free_bytes: u64,
    },
    /// There is no backup, or one that was not finished.
    #[error("there is no {CONTENTS_FILE} file: this is no backup, or one that was not finished")]
    NoBackup,
    /// A later version of Waypost wrote it.
    #[error(
        "this backup has version {version}, and this Waypost knows up to version {BACKUP_VERSION}"
    )]
    Newer {
        /// Its version.
        version: u32,
    },
    /// A file of it is not as it was written.
    #[error("{name} is damaged: {what}")]
    Damaged {
        /// Which.
        name: String,
        /// What is wrong with it.
        what: String,
    },
    /// The log does not say which files it has.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Whoever wanted it changed their mind.
    #[error("stopped before it was complete")]
    Stopped,
}

/// Copies files of the store into an empty directory. What was copied is removed again if not everything is.
pub fn back_up<F: DiskFile>(
    originals: &[Original<F>],
    taken_wall_ms: u64,
    to: &impl Disk,
    go_on: GoOn<'_>,
) -> Result<Contents, BackupError> {
    back_up_with(originals, &[] as &[Original<F>], taken_wall_ms, to, go_on)
}

/// As [`back_up`], with files from elsewhere beside those of the store.
pub fn back_up_with<F: DiskFile, G: DiskFile>(
    originals: &[Original<F>],
    beside: &[Original<G>],
    taken_wall_ms: u64,
    to: &impl Disk,
    go_on: GoOn<'_>,
) -> Result<Contents, BackupError> {
    let lengths = originals.iter().map(|original| original.length);
    let bytes = lengths.chain(beside.iter().map(|one| one.length)).sum();
    prepare(to, bytes)?;
    removing_leftovers(to, bytes, |copy| {
        let mut files = Vec::with_capacity(originals.len());
        for original in originals {
            files.push(copy.file(original, go_on)?);
        }
        for original in beside {
            files.push(copy.file(original, go_on)?);
        }
        let contents = Contents {
            taken_wall_ms,
            files,
        };
        copy.text(CONTENTS_FILE, &encode_contents(&contents))?;
        Ok(contents)
    })
}

/// Copies a backup into an empty directory, as the store expects its files. What was copied is removed again if not
/// everything is there and as it was.
pub fn restore(from: &impl Disk, to: &impl Disk, go_on: GoOn<'_>) -> Result<Contents, BackupError> {
    let contents = contents(from)?;
    prepare(to, contents.bytes())?;
    removing_leftovers(to, contents.bytes(), |copy| {
        for expect in &contents.files {
            let original = Original {
                file: Arc::new(open(from, &expect.name)?),
                name: expect.name.clone(),
                length: expect.length,
            };
            check_length(&original)?;
            let copied = copy.file(&original, go_on)?;
            if copied != *expect {
                return Err(damaged(&expect.name, "its checksum is another"));
            }
        }
        Ok(())
    })?;
    Ok(contents)
}

/// What a backup says it has.
pub fn contents(from: &impl Disk) -> Result<Contents, BackupError> {
    let read = |source| BackupError::Read {
        name: CONTENTS_FILE.to_owned(),
        source,
    };
    let file = from
        .open(CONTENTS_FILE)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BackupError::NoBackup,
            _ => read(error),
        })?;
    let length = file.len().map_err(read)?;
    if length > CONTENTS_BYTES_MAX {
        return Err(damaged(CONTENTS_FILE, "it is too long"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_at(0, &mut bytes).map_err(read)?;
    decode_contents(&bytes)
}

fn open<D: Disk>(from: &D, name: &str) -> Result<D::File, BackupError> {
    from.open(name).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => damaged(name, "it is missing"),
        _ => BackupError::Read {
            name: name.to_owned(),
            source,
        },
    })
}

fn check_length<F: DiskFile>(original: &Original<F>) -> Result<(), BackupError> {
    let length = original.file.len().map_err(|source| BackupError::Read {
        name: original.name.clone(),
        source,
    })?;
    if length == original.length {
        return Ok(());
    }
    let what = format!("it has {length} bytes instead of {}", original.length);
    Err(damaged(&original.name, what))
}

fn damaged(name: &str, what: impl Into<String>) -> BackupError {
    BackupError::Damaged {
        name: name.to_owned(),
        what: what.into(),
    }
}

/// Sees that there is room and nothing in the way.
fn prepare(to: &impl Disk, needed_bytes: u64) -> Result<(), BackupError> {
    let directory = |source| BackupError::Write {
        name: "the directory".to_owned(),
        source,
    };
    if let Some(name) = to.list().map_err(directory)?.into_iter().next() {
        return Err(BackupError::NotEmpty { name });
    }
    let free_bytes = to.free_bytes().map_err(directory)?;
    if needed_bytes > free_bytes {
        return Err(BackupError::NoRoom {
            needed_bytes,
            free_bytes,
        });
    }
    Ok(())
}

/// Files being written into a directory.
struct Copying<'a, D> {
    to: &'a D,
    made: Vec<String>,
    piece: Vec<u8>,
    progress: Progress,
}

/// Runs `copy`; what it made outlives a crash if it succeeds, and is removed if not.
fn removing_leftovers<D: Disk, T>(
    to: &D,
    bytes_total: u64,
    copy: impl FnOnce(&mut Copying<'_, D>) -> Result<T, BackupError>,
) -> Result<T, BackupError> {
    let mut copying = Copying {
        to,
        made: Vec::new(),
        piece: vec![0; PIECE_BYTES],
        progress: Progress {
            bytes: 0,
            bytes_total,
        },
    };
    let outcome = copy(&mut copying).and_then(|done| {
        to.sync_directory().map_err(|source| BackupError::Write {
            name: "the directory".to_owned(),
            source,
        })?;
        Ok(done)
    });
    if outcome.is_err() {
        for name in &copying.made {
            // The first error is the one to tell.
            let _ = to.remove(name);
        }
    }
    outcome
}

impl<D: Disk> Copying<'_, D> {
    fn file<F: DiskFile>(
        &mut self,
        original: &Original<F>,
        go_on: GoOn<'_>,
    ) -> Result<Copied, BackupError> {
        let name = &original.name;
        let write = |source| BackupError::Write {
            name: name.clone(),
            source,
        };
        let file = self.to.create(name).map_err(write)?;
        self.made.push(name.clone());
        let mut checksum = 0;
        let mut offset = 0;
        while offset < original.length {
            let rest = usize::try_from(original.length - offset).unwrap_or(usize::MAX);
            let Some(piece) = self.piece.get_mut(..rest.min(PIECE_BYTES)) else {
                break;
            };
            original
                .file
                .read_at(offset, piece)
                .map_err(|source| BackupError::Read {
                    name: name.clone(),
                    source,
                })?;
            file.write_at(offset, piece).map_err(write)?;
            checksum = crc32c::crc32c_append(checksum, piece);
            offset += piece.len() as u64;
            self.progress.bytes += piece.len() as u64;
            if !go_on(self.progress) {
                return Err(BackupError::Stopped);
            }
        }
        file.sync().map_err(write)?;
        Ok(Copied {
            name: name.clone(),
            length: original.length,
            checksum,
        })
    }

    fn text(&mut self, name: &str, text: &str) -> Result<(), BackupError> {
        let write = |source| BackupError::Write {
            name: name.to_owned(),
            source,
        };
        // Whoever finds it finds all the others.
        self.to.sync_directory().map_err(write)?;
        let file = self.to.create(name).map_err(write)?;
        self.made.push(name.to_owned());
        file.write_at(0, text.as_bytes()).map_err(write)?;
        file.sync().map_err(write)
    }
}

/// One fact a line, so that people can read it; the last line covers the others.
fn encode_contents(contents: &Contents) -> String {
    let mut text = format!(
        "waypost backup {BACKUP_VERSION}\ntaken {}\n",
        contents.taken_wall_ms
    );
    for file in &contents.files {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:08x} {} {}", file.checksum, file.length, file.name);
    }
    let checksum = crc32c::crc32c(text.as_bytes());
    let _ = writeln!(text, "{checksum:08x} end");
    text
}

/// Reads what [`CONTENTS_FILE`] says.
pub fn decode_contents(bytes: &[u8]) -> Result<Contents, BackupError> {
    let wrong = |what: &str| damaged(CONTENTS_FILE, what);
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is no text"))?;
    let version = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("waypost backup "))
        .and_then(|version| version.parse().ok())
        .ok_or_else(|| wrong("its first line is not \"waypost backup\" and a version"))?;
    // Before anything else, which a later version may write otherwise.
    if version > BACKUP_VERSION {
        return Err(BackupError::Newer { version });
    }
    let body = text.strip_suffix(" end\n").and_then(|text| {
        text.len()
            .checked_sub(8)
            .and_then(|at| text.split_at_checked(at))
    });
    let (body, checksum) = body.ok_or_else(|| wrong("its end is missing"))?;
    if u32::from_str_radix(checksum, 16) != Ok(crc32c::crc32c(body.as_bytes())) {
        return Err(wrong("its checksum is another"));
    }
    let mut lines = body.lines().skip(1);
    let taken_wall_ms = lines
        .next()
        .and_then(|line| line.strip_prefix("taken "))
        .and_then(|taken| taken.parse().ok())
        .ok_or_else(|| wrong("it does not say when it was taken"))?;
    let files = lines
        .map(|line| copied(line).ok_or_else(|| wrong("a line is not checksum, length and name")))
        .collect::<Result<_, _>>()?;
    Ok(Contents {
        taken_wall_ms,
        files,
    })
}

fn copied(line: &str) -> Option<Copied> {
    let mut fields = line.splitn(3, ' ');
    let checksum = u32::from_str_radix(fields.next()?, 16).ok()?;
    let length = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    // A name that leads out of the directory is nobody's file.
    let is_plain = !name.is_empty() && name != ".." && name != "." && !name.contains('/');
    is_plain.then(|| Copied {
        name: name.to_owned(),
        length,
        checksum,
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn directory() -> (tempfile::TempDir, RealDisk) {
        let directory = tempfile::tempdir().unwrap();
        let disk = RealDisk::open(directory.path()).unwrap();
        (directory, disk)
    }

    fn write(disk: &RealDisk, name: &str, bytes: &[u8]) {
        disk.create(name).unwrap().write_at(0, bytes).unwrap();
    }

    fn original(disk: &RealDisk, name: &str, length: u64) -> Original<crate::disk::RealFile> {
        Original {
            name: name.to_owned(),
            file: Arc::new(disk.open(name).unwrap()),
            length,
        }
    }

    const TAKEN: u64 = 1_790_000_000_000;

    /// A store of two files, of which the second grows while it is copied, and its backup.
    fn backed_up() -> (tempfile::TempDir, RealDisk, Contents) {
        let (_store_directory, store) = directory();
        write(&store, "00000001.log", &vec![7; 3 * PIECE_BYTES + 5]);
        write(&store, "00000002.log", b"so much, and what came later");
        let originals = [
            original(&store, "00000001.log", 3 * PIECE_BYTES as u64 + 5),
            original(&store, "00000002.log", 7),
        ];
        store.remove("00000001.log").unwrap();
        let (backup_directory, backup) = directory();
        let mut seen = Vec::new();
        let contents = back_up(&originals, TAKEN, &backup, &mut |progress| {
            seen.push(progress.bytes);
            assert_eq!(progress.bytes_total, contents_bytes());
            true
        })
        .unwrap();
        let piece = PIECE_BYTES as u64;
        assert_eq!(
            seen,
            [piece, 2 * piece, 3 * piece, 3 * piece + 5, 3 * piece + 12]
        );
        (backup_directory, backup, contents)
    }

    fn contents_bytes() -> u64 {
        3 * PIECE_BYTES as u64 + 12
    }

    #[test]
    fn a_backup_is_the_moment_and_comes_back() {
        let (backup_directory, backup, taken) = backed_up();
        assert_eq!(
            fs::read(backup_directory.path().join("00000002.log")).unwrap(),
            b"so much"
        );
        assert_eq!(contents(&backup).unwrap(), taken);
        assert_eq!((taken.taken_wall_ms, taken.files.len()), (TAKEN, 2));
        let (store_directory, store) = directory();
        assert_eq!(restore(&backup, &store, &mut |_| true).unwrap(), taken);
        assert_eq!(store.list().unwrap(), ["00000001.log", "00000002.log"]);
        for name in store.list().unwrap() {
            assert_eq!(
                fs::read(store_directory.path().join(&name)).unwrap(),
                fs::read(backup_directory.path().join(&name)).unwrap()
            );
        }
    }

    #[test]
    fn nothing_is_written_where_something_is() {
        let (_directory, backup, _) = backed_up();
        let (_store_directory, store) = directory();
        write(&store, "diary.txt", b"precious");
        let error = restore(&backup, &store, &mut |_| true).unwrap_err();
        assert!(matches!(error, BackupError::NotEmpty { name } if name == "diary.txt"));
        let error = back_up::<crate::disk::RealFile>(&[], 0, &backup, &mut |_| true).unwrap_err();
        assert!(matches!(error, BackupError::NotEmpty { .. }));
    }

    #[test]
    fn who_stops_it_leaves_nothing_behind() {
        let (_directory, backup, _) = backed_up();
        let (_store_directory, store) = directory();
        let mut pieces = 0;
        let error = restore(&backup, &store, &mut |_| {
            pieces += 1;
            pieces < 2
        })
        .unwrap_err();
        assert!(matches!(error, BackupError::Stopped));
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let (_directory, store) = directory();
        write(&store, "a", b"x");
        let (_backup_directory, backup) = directory();
        let large = original(&store, "a", u64::MAX);
        let error = back_up(&[large], 0, &backup, &mut |_| true).unwrap_err();
        assert!(matches!(error, BackupError::NoRoom { .. }));
        assert!(backup.list().unwrap().is_empty());
    }

    /// Every byte of every file matters, and each file.
    #[test]
    fn a_damaged_backup_is_not_restored() {
        type Damage = fn(&mut Vec<u8>);
        let damages: [(&str, Damage, &str); 6] = [
            ("00000001.log", |bytes| bytes[99] ^= 1, "checksum"),
            ("00000001.log", |bytes| bytes.push(0), "instead of"),
            ("00000002.log", |bytes| bytes.truncate(6), "instead of"),
            (CONTENTS_FILE, |bytes| bytes[25] ^= 1, "checksum"),
            (CONTENTS_FILE, |bytes| bytes.truncate(60), "its end"),
            (CONTENTS_FILE, Vec::clear, "first line"),
        ];
        for (name, damage, expect) in damages {
            let (directory_path, backup, _) = backed_up();
            let path = directory_path.path().join(name);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
            let (_store_directory, store) = directory();
            let error = restore(&backup, &store, &mut |_| true).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(name) && text.contains(expect), "{text}");
            assert!(store.list().unwrap().is_empty(), "{text}");
        }
        let (_directory, backup, _) = backed_up();
        backup.remove("00000001.log").unwrap();
        let (_store_directory, store) = directory();
        let error = restore(&backup, &store, &mut |_| true).unwrap_err();
        assert_eq!(error.to_string(), "00000001.log is damaged: it is missing");
        backup.remove(CONTENTS_FILE).unwrap();
        let error = restore(&backup, &store, &mut |_| true).unwrap_err();
        assert!(matches!(error, BackupError::NoBackup));
    }

    #[test]
    fn a_backup_of_a_later_version_is_refused_whatever_else_it_says() {
        let error = decode_contents(
            b"waypost backup 2
something new",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "this backup has version 2, and this Waypost knows up to version 1"
        );
    }

    #[test]
    fn every_truncation_and_corruption_of_the_contents_is_refused() {
        let contents = Contents {
            taken_wall_ms: TAKEN,
            files: vec![Copied {
                name: "00000001.log".to_owned(),
                length: 17,
                checksum: 0xdead_beef,
            }],
        };
        let text = encode_contents(&contents);
        assert_eq!(decode_contents(text.as_bytes()).unwrap(), contents);
        for length in 0..text.len() {
            decode_contents(&text.as_bytes()[..length]).unwrap_err();
        }
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut bytes = text.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                // The checksum's own digits may be written in capitals.
                let is_case = bit == 5 && bytes[at].is_ascii_alphabetic();
                assert!(decode_contents(&bytes).is_err() || is_case, "{at}, {bit}");
            }
        }
        for name in ["../users.toml", "/etc/passwd", "", ".", ".."] {
            let mut contents = contents.clone();
            contents.files[0].name = name.to_owned();
            decode_contents(encode_contents(&contents).as_bytes()).unwrap_err();
        }
    }
}
