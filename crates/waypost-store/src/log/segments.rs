//! All segments there are: what writer, readers and recovery share.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use waypost_encrypt::MasterKey;

use super::{
    LogError, LogOptions, SegmentKind,
    block::{BLOCK_HEADER, Cipher, Packers},
    segment::{Header, SEAL, Seal, file_name},
};
use crate::disk::{Disk, DiskFile};

/// How many segments are open for reading at most; the one that was opened first is closed for another.
const FILES_OPEN_MAX: usize = 64;

/// How often a read is tried before what it wanted counts as unreadable.
const READ_TRIES: usize = 3;

/// A segment, as its header and its end say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number, which no other segment has.
    pub number: u32,
    /// What it is for.
    pub kind: SegmentKind,
    /// Its file.
    pub file: String,
    /// Where its blocks end.
    pub bytes: u64,
    /// When it was begun.
    pub wall_ms: u64,
    /// What its seal says; none for the one that is written and for those that were cut or condemned.
    pub sealed: Option<SealedInfo>,
}

/// What the seal of a segment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedInfo {
    /// How many blocks of transactions it has.
    pub blocks: u32,
    /// How many transactions.
    pub transactions: u64,
    /// Bytes of records, before compression.
    pub record_bytes: u64,
    /// The stamp of the last block.
    pub last_wall_ms: u64,
}

#[derive(Debug)]
pub(super) struct Segment<F> {
    pub header: Header,
    pub name: String,
    pub cipher: Cipher,
    file: Mutex<Option<Arc<F>>>,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    end: u64,
    sealed: Option<SealedInfo>,
}

impl<F> Segment<F> {
    pub fn new(header: Header, cipher: Cipher, file: Arc<F>, end: u64) -> Self {
        Self {
            name: file_name(header.kind, header.number),
            header,
            cipher,
            file: Mutex::new(Some(file)),
            state: Mutex::new(State { end, sealed: None }),
        }
    }

    pub fn number(&self) -> u32 {
        self.header.number
    }

    /// Where its blocks end, as far as they are trusted.
    pub fn end(&self) -> u64 {
        lock(&self.state).end
    }

    pub fn set_end(&self, end: u64) {
        lock(&self.state).end = end;
    }

    pub fn sealed(&self) -> Option<SealedInfo> {
        lock(&self.state).sealed
    }

    pub fn set_sealed(&self, seal: &Seal) {
        let mut state = lock(&self.state);
        state.end = seal.len;
        state.sealed = Some(SealedInfo {
            blocks: seal.blocks,
            transactions: seal.transactions,
            record_bytes: seal.record_bytes,
            last_wall_ms: seal.last_wall_ms,
        });
    }

    /// Forgets that it was sealed.
    pub fn unseal(&self, end: u64) {
        *lock(&self.state) = State { end, sealed: None };
    }

    pub fn info(&self) -> SegmentInfo {
        let State { end, sealed } = *lock(&self.state);
        SegmentInfo {
            number: self.number(),
            kind: self.header.kind,
            file: self.name.clone(),
            bytes: end + sealed.map_or(0, |_| SEAL as u64),
            wall_ms: self.header.wall_ms,
            sealed,
        }
    }
}

#[derive(Debug)]
pub(super) struct Segments<D: Disk> {
    pub disk: Arc<D>,
    pub options: LogOptions,
    pub packers: Packers,
    all: RwLock<BTreeMap<u32, Arc<Segment<D::File>>>>,
    /// Those that have their file open, the first opened first.
    open: Mutex<VecDeque<Arc<Segment<D::File>>>>,
    /// The number of the next segment.
    next: AtomicU32,
    bytes_read: AtomicU64,
}

impl<D: Disk> Segments<D> {
    pub fn new(disk: Arc<D>, options: LogOptions) -> Self {
        Self {
            disk,
            options,
            packers: Packers::default(),
            all: RwLock::default(),
            open: Mutex::default(),
            next: AtomicU32::new(1),
            bytes_read: AtomicU64::new(0),
        }
    }

    pub fn keys(&self) -> impl Iterator<Item = &Arc<MasterKey>> {
        self.options.key.iter().chain(&self.options.older_keys)
    }

    pub fn take_number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sees to it that no segment gets this number any more.
    pub fn number_is_taken(&self, number: u32) {
        self.next
            .fetch_max(number.saturating_add(1), Ordering::Relaxed);
    }

    pub fn add(&self, segment: Arc<Segment<D::File>>) {
        self.note_open(&segment);
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.insert(segment.number(), segment);
    }

    pub fn find(&self, number: u32) -> Result<Arc<Segment<D::File>>, LogError> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let found = all.get(&number).cloned();
        found.ok_or(LogError::NoSegment { number })
    }

    /// All of them, by number.
    pub fn all(&self) -> Vec<Arc<Segment<D::File>>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().cloned().collect()
    }

    pub fn infos(&self) -> Vec<SegmentInfo> {
        self.all().iter().map(|segment| segment.info()).collect()
    }

    /// Takes a segment away for good.
    pub fn remove(&self, number: u32) -> Result<(), LogError> {
        let segment = self.find(number)?;
        let removed = self.disk.remove(&segment.name);
        removed.map_err(|error| LogError::io("removing", &segment.name, error))?;
        self.forget(number);
        self.disk
            .sync_directory()
            .map_err(|error| LogError::io("removing", &segment.name, error))
    }

    /// Lets go of a segment whose file is gone.
    pub fn forget(&self, number: u32) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(segment) = all.remove(&number) {
            drop(all);
            lock(&self.open).retain(|other| other.number() != number);
            *lock(&segment.file) = None;
        }
    }

    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    pub fn count_read(&self, bytes: usize) {
        self.bytes_read.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub fn file(&self, segment: &Arc<Segment<D::File>>) -> io::Result<Arc<D::File>> {
        let mut slot = lock(&segment.file);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.disk.open(&segment.name)?);
        *slot = Some(Arc::clone(&file));
        drop(slot);
        self.note_open(segment);
        Ok(file)
    }

    /// Reads from a segment's file. A disk that fails is asked again: what cannot be read is lost.
    pub fn read(
        &self,
        segment: &Arc<Segment<D::File>>,
        offset: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..READ_TRIES {
            result = self
                .file(segment)
                .and_then(|file| file.read_at(offset, buffer));
            match &result {
                Ok(()) => {
                    self.count_read(buffer.len());
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(_) => {}
            }
        }
        result
    }

    /// A block as it is stored, header and all; none if what is there is no whole block.
    pub fn read_stored(
        &self,
        segment: &Arc<Segment<D::File>>,
        offset: u64,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut block = vec![0; BLOCK_HEADER];
        self.read(segment, offset, &mut block)?;
        let header = segment.cipher.header(&block);
        let Some(header) = header.filter(|it| offset + it.len() <= segment.end()) else {
            return Ok(None);
        };
        block.resize(BLOCK_HEADER + header.stored as usize, 0);
        let stored = block.get_mut(BLOCK_HEADER..).unwrap_or_default();
        self.read(segment, offset + BLOCK_HEADER as u64, stored)?;
        Ok(segment.cipher.is_whole(&header, stored).then_some(block))
    }

    fn note_open(&self, segment: &Arc<Segment<D::File>>) {
        let mut open = lock(&self.open);
        open.push_back(Arc::clone(segment));
        let oldest = (open.len() > FILES_OPEN_MAX).then(|| open.pop_front());
        drop(open);
        if let Some(oldest) = oldest.flatten() {
            *lock(&oldest.file) = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
