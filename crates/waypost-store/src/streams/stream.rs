//! One stream: what of it is where.

use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use waypost_encrypt::{AtRest, MasterKey, SALT_BYTES};

use super::{
    api::StreamOptions,
    block::{Block, OpenBlock},
    compact::Compaction,
    files::Segment,
    segment::Head,
    table::{BlockAt, Table, TopicsBuilder},
    writing::SegmentWriter,
};
use crate::{disk::Disk, record::StreamId};

/// The least bytes of a segment, whatever retention says.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// The most bytes of a segment of a stream that is compacted.
const SEGMENT_BYTES_COMPACT: u64 = 8 << 20;

/// A retention of so many bytes is spread over so many segments.
const SEGMENTS_OF_RETENTION: u64 = 8;

#[derive(Debug)]
pub(super) struct Stream<D: Disk> {
    pub id: StreamId,
    pub name: String,
    state: RwLock<State>,
    /// Only whoever folds has it.
    pub writing: Mutex<Writing<D>>,
    pub compaction: Mutex<Compaction<D>>,
}

/// What writes the stream's files.
#[derive(Debug)]
pub(super) struct Writing<D: Disk> {
    pub segment: Option<SegmentWriter<D>>,
    /// Files that were ended since the last sync.
    pub unsynced: Vec<(String, Arc<D::File>)>,
    /// The number of the next segment.
    pub next_number: u32,
    /// The newest segment, and how long it is.
    pub newest: (u32, u64),
}

/// How far a stream is, in files that outlive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Durable {
    pub number: u32,
    pub len: u64,
    pub head: Head,
}

#[derive(Debug)]
pub(super) struct State {
    /// None: it is not configured.
    pub options: Option<StreamOptions>,
    /// Ascending by offset; not written to.
    pub past: Vec<Arc<Segment>>,
    /// The segment that is being written.
    pub current: Option<Arc<Current>>,
    /// Blocks on their way to it.
    pub full: Vec<Arc<Block>>,
    pub open: OpenBlock,
    /// Behind the last record.
    pub head: Head,
    /// Behind the last record in a file.
    pub written: Head,
    pub durable: Durable,
    /// The newest segment as the views have it recorded: older ones may be taken away or rewritten.
    pub recorded_number: u32,
    /// What retention by bytes, or by count where compaction left gaps, takes away begins before this.
    pub retention_floor: u64,
    /// What was imported is not shown before the views know of it: no log has it, and its offsets would be given again.
    pub hidden_from: Option<u64>,
}

/// What readers see of the segment that is being written.
#[derive(Debug)]
pub(super) struct Current {
    pub uid: u64,
    pub name: String,
    pub salt: [u8; SALT_BYTES],
    pub table: RwLock<Table>,
    pub topics: RwLock<TopicsBuilder>,
}

/// Where a record is.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Memory(Arc<Block>),
    Current(Arc<Current>, BlockAt),
    Past(Arc<Segment>),
    /// What there was up to this offset is lost.
    Lost(u64),
    /// There is none yet.
    None,
}

impl<D: Disk> Stream<D> {
    pub fn new(id: StreamId, name: String, state: State, next_number: u32) -> Self {
        let newest = (state.durable.number, state.durable.len);
        Self {
            id,
            name,
            state: RwLock::new(state),
            writing: Mutex::new(Writing {
                segment: None,
                unsynced: Vec::new(),
                next_number,
                newest,
            }),
            compaction: Mutex::default(),
        }
    }

    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the first record from this offset on is.
    pub fn place(&self, offset: u64) -> Place {
        self.placed(|state| state.place(offset))
    }

    /// Where the last record before this offset is.
    pub fn place_before(&self, offset: u64) -> Place {
        self.placed(|state| state.place_before(offset))
    }

    fn placed(&self, look: impl Fn(&State) -> Result<Place, ()>) -> Place {
        // In a statement of its own: the lock is not held when the next one is taken.
        let place = look(&self.state());
        place.unwrap_or_else(|()| {
            // Nobody has read what came last.
            let mut state = self.change();
            state.open.shared();
            look(&state).unwrap_or(Place::None)
        })
    }
}

impl State {
    /// One of which so much is in files.
    pub fn after(durable: Durable, past: Vec<Arc<Segment>>) -> Self {
        Self {
            options: None,
            past,
            current: None,
            full: Vec::new(),
            open: OpenBlock::default(),
            head: durable.head,
            written: durable.head,
            durable,
            recorded_number: 0,
            retention_floor: 0,
            hidden_from: None,
        }
    }

    /// As [`Stream::place`]; an error if it is in the open block and that was not shared yet.
    fn place(&self, offset: u64) -> Result<Place, ()> {
        if self.next() <= offset {
            return Ok(Place::None);
        }
        let index = self
            .past
            .partition_point(|segment| segment.head.next <= offset);
        if let Some(segment) = self.past.get(index) {
            return Ok(Place::Past(segment.clone()));
        }
        if let Some(current) = &self.current
            && let Some((_, at)) = read(&current.table).from(offset)
        {
            return Ok(Place::Current(current.clone(), at));
        }
        if let Some(block) = self.full.iter().find(|block| block.next() > offset) {
            return Ok(Place::Memory(block.clone()));
        }
        if self.open.is_empty() {
            return Ok(Place::Lost(self.next()));
        }
        self.open.shared_already().map(Place::Memory).ok_or(())
    }

    fn place_before(&self, offset: u64) -> Result<Place, ()> {
        let offset = offset.min(self.next());
        let open = self.open.records().first();
        if open.is_some_and(|first| first.offset < offset) {
            return self.open.shared_already().map(Place::Memory).ok_or(());
        }
        if let Some(block) = self.full.iter().rfind(|block| block.first() < offset) {
            return Ok(Place::Memory(block.clone()));
        }
        if let Some(current) = &self.current {
            let table = read(&current.table);
            let index = table.0.partition_point(|block| block.first < offset);
            let at = index.checked_sub(1).and_then(|index| table.0.get(index));
            if let Some(at) = at {
                return Ok(Place::Current(current.clone(), *at));
            }
        }
        let index = self.past.partition_point(|segment| segment.first < offset);
        let segment = index.checked_sub(1).and_then(|index| self.past.get(index));
        Ok(segment.map_or(Place::None, |segment| Place::Past(segment.clone())))
    }

    /// The offset behind the last record that is shown.
    pub fn next(&self) -> u64 {
        self.hidden_from.unwrap_or(self.head.next)
    }

    /// Bytes of its files.
    pub fn file_bytes(&self) -> u64 {
        let past: u64 = self.past.iter().map(|segment| segment.bytes).sum();
        past + self.current_bytes()
    }

    /// The names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let past = self.past.iter().map(|segment| segment.name.as_str());
        past.chain(self.current.as_ref().map(|current| current.name.as_str()))
    }

    fn current_bytes(&self) -> u64 {
        let Some(current) = &self.current else {
            return 0;
        };
        let table = read(&current.table);
        table
            .0
            .last()
            .map_or(0, |last| u64::from(last.at) + u64::from(last.len))
    }

    /// How many records there are in all of it.
    pub fn records(&self) -> u64 {
        let past: u64 = self.past.iter().map(|segment| segment.records).sum();
        let current = self.current.as_ref().map_or(0, |current| {
            let table = read(&current.table);
            table.0.iter().map(|block| u64::from(block.records)).sum()
        });
        let full: usize = self.full.iter().map(|block| block.records.len()).sum();
        past + current + (full + self.open.records().len()) as u64
    }

    /// The offset of the first record that may be read, but for its age.
    pub fn floor(&self) -> u64 {
        let mut floor = self.head.floor.max(self.retention_floor);
        if let Some(options) = &self.options
            && let (Some(count), false) = (options.retention_messages, options.compact)
        {
            floor = floor.max(self.head.next.saturating_sub(count));
        }
        floor
    }

    /// What entered before this time is not there any more.
    pub fn cutoff_ms(&self, now_ms: u64) -> u64 {
        let retention = self
            .options
            .as_ref()
            .and_then(|options| options.retention_ms);
        retention.map_or(0, |retention| now_ms.saturating_sub(retention))
    }

    /// When a segment is full.
    pub fn segment_bytes(&self, max: u64) -> u64 {
        let options = self.options.as_ref();
        // Only what is in whole segments is compacted.
        let max = match options {
            Some(options) if options.compact => max.min(SEGMENT_BYTES_COMPACT),
            _ => max,
        };
        let retention = options.and_then(|options| options.retention_bytes);
        retention.map_or(max, |retention| {
            max.min(SEGMENT_BYTES_MIN.max(retention / SEGMENTS_OF_RETENTION))
        })
    }

    /// How new files are encrypted, if not as the log is. What nobody configures any more is not written in the clear
    /// where there is a key.
    pub fn encrypt(&self, key: Option<&MasterKey>) -> Option<&'static AtRest> {
        match &self.options {
            Some(options) => options.encrypt,
            None => key.map(MasterKey::strategy),
        }
    }

    pub fn compress(&self) -> u8 {
        let options = self.options.as_ref();
        options
            .map_or_else(waypost_compress::default_strategy, |options| {
                options.compress
            })
            .number
    }
}

pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
