//! What the store asks of a disk: files by name in one directory.
//!
//! Nothing written is there after a crash until it was synced: content by [`DiskFile::sync`], names by
//! [`Disk::sync_directory`]. Deliberately not here: paths, permissions, buffering.

mod real;
mod simulated;

pub use real::{RealDisk, RealFile};
pub use simulated::{Fault, SimulatedDisk, SimulatedFile};

use std::{fmt::Debug, io};

/// A directory of files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// An open file of it.
    type File: DiskFile;

    /// Makes a file, open for reading and writing; [`io::ErrorKind::AlreadyExists`] if there is one of that name.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name, in place of the file that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Takes a file's name away; who has it open goes on reading.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes what was created, renamed and removed so far outlive a crash.
    fn sync_directory(&self) -> io::Result<()>;

    /// How much can still be written.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. All methods take `&self`: one thread may write while others read.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// How long it is.
    fn len(&self) -> io::Result<u64>;

    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset` on; [`io::ErrorKind::UnexpectedEof`] if the file ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`; the file grows as needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length outlive a crash. After an error nobody knows what of the unsynced content is on the disk,
    /// and a later success says nothing about it: write it elsewhere.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or, with zeros, lengthens the file.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Reserves the disk's space for the first `len` bytes; the file is at least that long afterwards and what was not
    /// written reads as zeros.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Claims the file for this process until it is closed; [`io::ErrorKind::WouldBlock`] if another has it.
    fn lock(&self) -> io::Result<()>;
}
