//! Segments on the disk, for reading: what all readers share, bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use waypost_cache::{Cached, ENTRY_BYTES, Key, Strategy};
use waypost_encrypt::{MasterKey, SALT_BYTES};

use super::{
    api::StreamsOptions,
    block::Block,
    check::is_hole,
    segment::{BEGIN, Begin, END, End, HEADER, Head, Header, TABLE, TOPICS},
    table::{BlockAt, Table, Topics},
    walk::{Step, Walk},
};
use crate::{
    disk::{Disk, DiskFile},
    log::{
        LogDamage, LogError, LogOptions,
        block::{BLOCK_HEADER, BlockHeader, Cipher, Packers},
        segment::NoHeader,
    },
    message_cache::PartitionFigures,
    store::lock,
};

/// How many segments are open for reading at most.
const FILES_OPEN_MAX: u64 = 128;

/// Bits of a cache's key that say where in a segment; the others say which.
const PLACE_BITS: u32 = 31;

/// A segment that is not written to any more.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    /// Unique in this process: a segment that was rewritten is another.
    pub uid: u64,
    pub number: u32,
    pub name: String,
    pub salt: [u8; SALT_BYTES],
    /// Where its blocks of records begin,
    pub begin_at: u64,
    /// and end.
    pub end_at: u64,
    /// The length of its file.
    pub bytes: u64,
    /// The first offset that belongs to it.
    pub first: u64,
    /// How far the stream was at its end. What it has from `head.next` on does not count.
    pub head: Head,
    pub first_ms: u64,
    pub records: u64,
    pub has_expiring: bool,
    /// Where its table and its topics are, if it is whole.
    pub tables: Option<(u64, u64)>,
    /// It has more than counts.
    pub is_trimmed: bool,
}

/// A file of a segment and what its blocks are sealed with.
#[derive(Debug)]
pub(super) struct Opened<F> {
    pub file: F,
    pub cipher: Cipher,
    pub header: Header,
}

/// Why something is not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// The segment is gone: look where it is now.
    Gone,
    Damaged(LogDamage),
    Failed(LogError),
}

impl From<LogError> for Unread {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Damaged(damage) => Self::Damaged(damage),
            error => Self::Failed(error),
        }
    }
}

/// A table or the topics of a segment.
#[derive(Clone, Debug)]
enum Kept {
    Table(Arc<Table>),
    Topics(Option<Arc<Topics>>),
}

type Cache<V> = Mutex<Cached<V>>;

pub(super) struct Files<D: Disk> {
    pub disk: Arc<D>,
    pub log: LogOptions,
    /// What the files of streams are encrypted with that say how.
    pub key: Option<Arc<MasterKey>>,
    pub packers: Packers,
    next_uid: AtomicU64,
    cache: &'static Strategy,
    blocks: Cache<Arc<Block>>,
    tables: Cache<Kept>,
    open: Cache<Arc<Opened<D::File>>>,
    /// Where blocks of which file could not be read since the start.
    damaged: Mutex<BTreeMap<String, BTreeSet<u64>>>,
}

impl<D: Disk> std::fmt::Debug for Files<D> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Files(…)")
    }
}

impl<D: Disk> Files<D> {
    pub fn new(disk: Arc<D>, log: LogOptions, options: &StreamsOptions) -> Self {
        let lru = waypost_cache::default_strategy();
        Self {
            disk,
            log,
            key: options.key.clone(),
            packers: Packers::default(),
            next_uid: AtomicU64::new(1),
            cache: options.cache,
            blocks: Mutex::new(Cached::new(options.cache, options.cache_bytes)),
            tables: Mutex::new(Cached::new(lru, options.tables_bytes)),
            open: Mutex::new(Cached::new(lru, FILES_OPEN_MAX * ENTRY_BYTES)),
            damaged: Mutex::default(),
        }
    }

    pub fn take_uid(&self) -> u64 {
        self.next_uid.fetch_add(1, Ordering::Relaxed)
    }

    /// Opens a file and reads what it says of itself: its header and, if it is whole, its end.
    pub fn open(&self, name: &str) -> Result<(Opened<D::File>, Option<End>), LogError> {
        let io = |error| LogError::io("reading", name, error);
        let file = self.disk.open(name).map_err(io)?;
        let len = file.len().map_err(io)?;
        let read = |offset: u64, bytes: &mut [u8]| match file.read_at(offset, bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            result => result.map_err(io),
        };
        let end = || -> Result<_, LogError> {
            let mut last = [0; END];
            if let Some(offset) = len.checked_sub(END as u64) {
                read(offset, &mut last)?;
            }
            Ok(End::read(&last))
        };
        let header = || -> Result<_, LogError> {
            let mut first = [0; HEADER];
            read(0, &mut first)?;
            Ok(Header::read(&first))
        };
        // A second look: a bit may have been wrong on its way from the disk only.
        let end = match end()? {
            None => end()?,
            end => end,
        };
        let header = match header()? {
            Err(_) => header()?,
            header => header,
        };
        let header = match header {
            Ok(header) => header,
            Err(NoHeader::Newer(version)) => {
                let file = name.to_owned();
                return Err(LogError::Newer { file, version });
            }
            Err(NoHeader::Damaged) => end.map(|end| end.header).ok_or_else(|| LogDamage {
                file: name.to_owned(),
                offset: 0,
                bytes: len,
                what: "the header is damaged",
            })?,
        };
        let keys = self.log.key.iter().chain(&self.log.older_keys);
        let cipher = Cipher::new(&header.sealing(), name, keys)?;
        let opened = Opened {
            file,
            cipher,
            header,
        };
        Ok((opened, end.filter(|end| end.header == header)))
    }

    /// What a segment begins with, and where its blocks of records do.
    pub fn begin(&self, name: &str, opened: &Opened<D::File>) -> Result<(Begin, u64), LogError> {
        let (header, plain) = self.plain(name, opened, HEADER as u64, BEGIN)?;
        let begin = Begin::decode(&plain).map_err(|error| LogDamage {
            file: name.to_owned(),
            offset: HEADER as u64,
            bytes: header.len(),
            what: error.0,
        })?;
        Ok((begin, HEADER as u64 + header.len()))
    }

    /// What a block of this kind holds.
    pub fn plain(
        &self,
        name: &str,
        opened: &Opened<D::File>,
        at: u64,
        kind: u8,
    ) -> Result<(BlockHeader, Vec<u8>), LogError> {
        let look = || self.look_at(name, opened, at, kind);
        look().or_else(|_| look())
    }

    fn look_at(
        &self,
        name: &str,
        opened: &Opened<D::File>,
        at: u64,
        kind: u8,
    ) -> Result<(BlockHeader, Vec<u8>), LogError> {
        let damaged = |bytes, what| LogDamage {
            file: name.to_owned(),
            offset: at,
            bytes,
            what,
        };
        let read = |offset: u64, bytes: &mut [u8]| {
            opened
                .file
                .read_at(offset, bytes)
                .map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => {
                        LogError::from(damaged(0, "the file ends within a block"))
                    }
                    _ => LogError::io("reading", name, error),
                })
        };
        let mut bytes = [0; BLOCK_HEADER];
        read(at, &mut bytes)?;
        let header = opened.cipher.header(&bytes);
        let header = header
            .filter(|header| header.kind == kind)
            .ok_or_else(|| damaged(BLOCK_HEADER as u64, "a block's header is damaged"))?;
        let mut stored = vec![0; header.stored as usize];
        read(at + BLOCK_HEADER as u64, &mut stored)?;
        let plain = opened
            .cipher
            .open(&header, &mut stored, &self.packers)
            .map_err(|what| damaged(header.len(), what))?;
        Ok((header, plain))
    }

    /// The file of a segment.
    pub fn file(&self, uid: u64, name: &str, salt: &[u8]) -> Result<Arc<Opened<D::File>>, Unread> {
        if let Some(opened) = lock(&self.open).get(Key(uid)) {
            return Ok(opened.clone());
        }
        let opened = match self.open(name) {
            Ok((opened, _)) if opened.header.salt == *salt => Arc::new(opened),
            // Another has its name by now.
            Ok(_) => return Err(Unread::Gone),
            Err(LogError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(Unread::Gone);
            }
            Err(error) => return Err(error.into()),
        };
        lock(&self.open).insert(Key(uid), opened.clone(), 0);
        Ok(opened)
    }

    /// A block of records of a segment.
    pub fn block(
        &self,
        (uid, name, salt): (u64, &str, &[u8]),
        at: &BlockAt,
    ) -> Result<Arc<Block>, Unread> {
        let key = place(uid, at.at);
        if let Some(block) = lock(&self.blocks).get(key) {
            return Ok(block.clone());
        }
        let block = Arc::new(self.read_block((uid, name, salt), at)?);
        self.keep(uid, at.at, &block);
        Ok(block)
    }

    /// A block of records of a segment, for one who reads it once.
    pub fn block_uncached(&self, segment: &Segment, at: &BlockAt) -> Result<Block, Unread> {
        self.read_block((segment.uid, &segment.name, &segment.salt), at)
    }

    fn read_block(
        &self,
        (uid, name, salt): (u64, &str, &[u8]),
        at: &BlockAt,
    ) -> Result<Block, Unread> {
        let opened = self.file(uid, name, salt)?;
        let kind = super::segment::RECORDS;
        let read = self.plain(name, &opened, at.at.into(), kind);
        let block = read.map_err(Unread::from).and_then(|(header, plain)| {
            Block::decode(plain).map_err(|error| {
                Unread::Damaged(LogDamage {
                    file: name.to_owned(),
                    offset: at.at.into(),
                    bytes: header.len(),
                    what: error.0,
                })
            })
        });
        if let Err(Unread::Damaged(damage)) = &block
            && !is_hole(&*opened, at.at.into())
        {
            self.is_damaged(damage);
        }
        block
    }

    /// Lets readers find a block without the disk.
    pub fn keep(&self, uid: u64, at: u32, block: &Arc<Block>) {
        let key = place(uid, at);
        lock(&self.blocks).insert(key, block.clone(), block.weight());
    }

    /// Where the blocks of a segment are: from its table, or from looking at each.
    pub fn table(&self, segment: &Segment) -> Result<Arc<Table>, Unread> {
        let key = place(segment.uid, 0);
        if let Some(Kept::Table(table)) = lock(&self.tables).get(key) {
            return Ok(table.clone());
        }
        let opened = self.file(segment.uid, &segment.name, &segment.salt)?;
        let table = match segment.tables {
            Some((at, _)) => self
                .plain(&segment.name, &opened, at, TABLE)
                .ok()
                .and_then(|(_, plain)| Table::decode(&plain).ok()),
            None => None,
        };
        let table = match table {
            Some(table) => table,
            // There is none, or it is damaged.
            None => self.make_table(segment, &opened)?,
        };
        let table = Arc::new(table);
        let kept = Kept::Table(table.clone());
        lock(&self.tables).insert(key, kept, table.weight());
        Ok(table)
    }

    fn make_table(&self, segment: &Segment, opened: &Opened<D::File>) -> Result<Table, Unread> {
        let mut table = Table::default();
        let mut walk = Walk::bounded(
            self,
            &segment.name,
            opened,
            segment.begin_at,
            segment.end_at,
        );
        loop {
            match walk.next()? {
                Step::Block(at, _) => table.0.push(at),
                Step::Damage(damage) => self.is_damaged(&damage),
                Step::End => return Ok(table),
            }
        }
    }

    /// Which blocks of a segment have records of which topic; `None` if that is not written down.
    pub fn topics(&self, segment: &Segment) -> Result<Option<Arc<Topics>>, Unread> {
        let Some((_, at)) = segment.tables.filter(|(_, at)| *at > 0) else {
            return Ok(None);
        };
        let key = place(segment.uid, 1);
        if let Some(Kept::Topics(topics)) = lock(&self.tables).get(key) {
            return Ok(topics.clone());
        }
        let opened = self.file(segment.uid, &segment.name, &segment.salt)?;
        // Without it everything is found too, if more slowly.
        let topics = self
            .plain(&segment.name, &opened, at, TOPICS)
            .ok()
            .and_then(|(_, plain)| Topics::decode(plain).ok())
            .map(Arc::new);
        let weight = topics.as_ref().map_or(0, |topics| topics.weight());
        lock(&self.tables).insert(key, Kept::Topics(topics.clone()), weight);
        Ok(topics)
    }

    fn is_damaged(&self, damage: &LogDamage) {
        let mut damaged = lock(&self.damaged);
        let in_file = damaged.entry(damage.file.clone()).or_default();
        in_file.insert(damage.offset);
    }

    /// How many blocks of a file could not be read since the start.
    pub fn damaged_blocks(&self, name: &str) -> u64 {
        let damaged = lock(&self.damaged);
        damaged.get(name).map_or(0, |offsets| offsets.len() as u64)
    }

    /// Takes a file away. It is no error if there is none.
    pub fn remove(&self, name: &str) -> Result<(), LogError> {
        lock(&self.damaged).remove(name);
        match self.disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(LogError::io("removing", name, error))
            }
            _ => Ok(()),
        }
    }

    /// What the cache of blocks was good for.
    pub fn cache_figures(&self) -> PartitionFigures {
        let blocks = lock(&self.blocks);
        PartitionFigures {
            name: "streams".into(),
            strategy: self.cache.name,
            counters: blocks.counters(),
            bytes: blocks.bytes(),
            explanation: blocks.explain(),
        }
    }
}

fn place(uid: u64, at: u32) -> Key {
    Key(uid << PLACE_BITS | u64::from(at))
}
