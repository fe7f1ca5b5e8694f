//! The embedded store's file as a file of our disk, so that whatever the simulated disk does happens to the views too.

use std::{
    io,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use crate::disk::DiskFile;

/// A file, and how much was read of it.
#[derive(Debug)]
pub(super) struct Backend<F> {
    pub file: F,
    pub read_bytes: Arc<AtomicU64>,
}

impl<F: DiskFile> redb::StorageBackend for Backend<F> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_bytes
            .fetch_add(out.len() as u64, Ordering::Relaxed);
        self.file.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, data)
    }
}
