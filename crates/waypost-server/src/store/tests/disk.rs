//! A real disk in a temporary directory that can be told to fail.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use tempfile::TempDir;
use waypost_store::disk::{RealDisk, RealFile};
use waypost_store::{Disk, DiskFile};

/// What is wrong with the disk now.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Nothing more fits.
    pub(crate) is_full: AtomicBool,
    /// Syncs fail.
    pub(crate) fails_syncs: AtomicBool,
    /// Nothing can be read of the log.
    pub(crate) fails_reads: AtomicBool,
    /// That many of the next syncs fail.
    pub(crate) syncs_to_fail: AtomicU64,
    holds_syncs: Mutex<bool>,
    held: AtomicU64,
    goes_on: Condvar,
}

impl Faults {
    /// From now on syncs wait.
    pub(crate) fn hold_syncs(&self) {
        *self.holds_syncs.lock().unwrap() = true;
    }

    /// No more.
    pub(crate) fn let_syncs_go(&self) {
        *self.holds_syncs.lock().unwrap() = false;
        self.goes_on.notify_all();
    }

    /// How many are waiting.
    pub(crate) fn holding(&self) -> u64 {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
    }

    fn write(&self) -> io::Result<()> {
        if self.is_full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut held = self.holds_syncs.lock().unwrap();
        self.held.fetch_add(1, Ordering::SeqCst);
        while *held {
            held = self.goes_on.wait(held).unwrap();
        }
        self.held.fetch_sub(1, Ordering::SeqCst);
        drop(held);
        let once = |left: u64| left.checked_sub(1);
        let order = Ordering::SeqCst;
        let fails_now = self.syncs_to_fail.fetch_update(order, order, once).is_ok();
        if fails_now || self.fails_syncs.load(order) {
            return Err(io::Error::other("the disk fails"));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(crate) struct FaultyDisk {
    inner: RealDisk,
    pub(crate) faults: Arc<Faults>,
}

impl FaultyDisk {
    pub(crate) fn new(directory: &TempDir) -> Self {
        Self {
            inner: RealDisk::open(directory.path()).unwrap(),
            faults: Arc::default(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FaultyFile {
    inner: RealFile,
    is_log: bool,
    faults: Arc<Faults>,
}

impl FaultyDisk {
    fn file(&self, name: &str, inner: RealFile) -> FaultyFile {
        FaultyFile {
            inner,
            is_log: name.contains(".log"),
            faults: Arc::clone(&self.faults),
        }
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        self.faults.write()?;
        Ok(self.file(name, self.inner.create(name)?))
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        Ok(self.file(name, self.inner.open(name)?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.inner.sync_directory()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.inner.free_bytes()
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.is_log && self.faults.fails_reads.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk fails"));
        }
        self.inner.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.faults.write()?;
        self.inner.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.faults.sync()?;
        self.inner.sync()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.faults.write()?;
        self.inner.allocate(len)
    }

    fn lock(&self) -> io::Result<()> {
        self.inner.lock()
    }
}
