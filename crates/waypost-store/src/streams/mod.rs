//! Streams: named records of messages, in the order in which the log has them, readable from any offset or time.
//!
//! A stream is a view of the log with files of its own. The fold gives each message that enters ([`crate::Op::Enter`]) the
//! next offset and copies its body into the stream's open block; full blocks go to the stream's segments at once, and are
//! synced before the views say how far they go. So offsets are dense, and the same after a replay.
//!
//! Deliberately not here: what a body means ([`StreamsOptions::describe`] says it), who reads what, who is told that a
//! stream grew.

mod api;
mod block;
mod bring;
mod check;
mod compact;
mod files;
mod find;
mod fold;
mod open;
mod parts;
mod read;
mod retention;
mod segment;
mod stream;
mod table;
mod walk;
mod writing;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

pub use self::api::{
    Describe, Described, Filter, Found, Imported, Purge, Start, StreamInfo, StreamOptions,
    StreamRead, StreamRecord, StreamsOptions,
};
pub use self::check::{StreamFiles, is_stream_file};
pub(crate) use self::check::{check_files, file_bytes, mend_files, summaries};
pub use self::find::PICKED_MAX;
pub(crate) use self::fold::Settled;
pub use self::parts::{Part, decode_part};
use self::{
    files::Files,
    fold::Fold,
    segment::{Begin, Head, LogPosition},
    stream::{Durable, State, Stream, read, write},
};
use crate::{
    backup::Original,
    disk::{Disk, DiskFile},
    log::LogError,
    message_cache::PartitionFigures,
    record::StreamId,
    store::{StoreError, lock},
};

/// The most streams of a store, those that are not configured any more among them.
pub const STREAMS_MAX: usize = if cfg!(test) { 16 } else { 1_024 };

/// All streams of a store.
pub struct Streams<D: Disk> {
    options: StreamsOptions,
    files: Files<D>,
    all: RwLock<BTreeMap<StreamId, Arc<Stream<D>>>>,
    fold: Mutex<Fold>,
    next_id: AtomicU32,
    /// Who has it, and nobody else, takes files away or puts others in their place.
    maintenance: Mutex<()>,
    /// Files that nothing stands in any more, until the views have what they say of their stream.
    left_over: Mutex<Vec<String>>,
    /// How often a stream fell behind, and why last.
    fell_behind: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl<D: Disk> fmt::Debug for Streams<D> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Streams(…)")
    }
}

impl<D: Disk> Streams<D> {
    fn stream(&self, id: StreamId) -> Option<Arc<Stream<D>>> {
        read(&self.all).get(&id).cloned()
    }

    fn fell_behind(&self, error: &LogError) {
        self.fell_behind.fetch_add(1, Ordering::Relaxed);
        *lock(&self.trouble) = Some(error.to_string());
    }

    /// From now on these streams take what enters them, and no others. Gives the number of each: the one it always had, or
    /// a new one.
    pub fn configure(
        &self,
        configured: &[StreamOptions],
    ) -> Result<Vec<(String, StreamId)>, StoreError> {
        let mut fold = lock(&self.fold);
        let mut numbers = Vec::with_capacity(configured.len());
        for options in configured {
            let known = read(&self.all)
                .values()
                .find(|stream| stream.name == options.name)
                .cloned();
            let stream = match known {
                Some(stream) => stream,
                None => self.create(&options.name, &mut fold)?,
            };
            stream.change().options = Some(options.clone());
            numbers.push((options.name.clone(), stream.id));
        }
        for stream in read(&self.all).values() {
            if !numbers.iter().any(|(_, id)| *id == stream.id) {
                stream.change().options = None;
            }
        }
        Ok(numbers)
    }

    /// A new stream. Its first segment is there before anything enters it: that is where its number is written down.
    fn create(&self, name: &str, fold: &mut Fold) -> Result<Arc<Stream<D>>, StoreError> {
        if read(&self.all).len() >= STREAMS_MAX {
            return Err(StoreError::TooManyStreams);
        }
        let id = StreamId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let durable = Durable {
            head: Head {
                position: LogPosition {
                    segment: fold.applied.0,
                    block: fold.applied.1,
                    ordinal: u32::MAX,
                },
                ..Head::default()
            },
            ..Durable::default()
        };
        let stream = Arc::new(Stream::new(
            id,
            name.to_owned(),
            State::after(durable, Vec::new()),
            1,
        ));
        self.begin_segment(&stream, durable.head)?;
        let (number, len) = lock(&stream.writing).newest;
        stream.change().durable = Durable {
            number,
            len,
            ..durable
        };
        write(&self.all).insert(id, stream.clone());
        fold.dirty.insert(id);
        Ok(stream)
    }

    /// What the cache of blocks was good for.
    pub(crate) fn cache_figures(&self) -> PartitionFigures {
        self.files.cache_figures()
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let streams = self.streams();
        streams
            .iter()
            .map(|stream| stream.state().file_bytes())
            .sum()
    }

    pub(crate) fn times_behind(&self) -> u64 {
        self.fell_behind.load(Ordering::Relaxed)
    }

    /// All there are, by number.
    pub fn list(&self, now_ms: u64) -> Vec<StreamInfo> {
        self.streams()
            .iter()
            .map(|stream| self.info(stream, now_ms))
            .collect()
    }

    fn info(&self, stream: &Stream<D>, now_ms: u64) -> StreamInfo {
        let cutoff_ms = stream.state().cutoff_ms(now_ms);
        // What cannot be read now is told as if it could.
        let first_in_time = self.at_time(stream, cutoff_ms).unwrap_or(0);
        let state = stream.state();
        let first = state.floor().max(first_in_time);
        let past_first = state.past.first().map(|segment| segment.first);
        let first = first.max(past_first.unwrap_or(0)).min(state.next());
        let has_any = first < state.next();
        let records = match &state.options {
            Some(options) if options.compact => state.records(),
            _ => state.records().min(state.next() - first),
        };
        let oldest = state.past.iter().find(|segment| segment.head.next > first);
        StreamInfo {
            id: stream.id,
            name: stream.name.clone(),
            is_configured: state.options.is_some(),
            is_compacted: state.options.as_ref().is_some_and(|it| it.compact),
            first,
            next: state.next(),
            records,
            bytes: state.file_bytes() + state.open.len() as u64,
            segments: (state.past.len() + usize::from(state.current.is_some())) as u64,
            first_ms: has_any.then(|| oldest.map_or(cutoff_ms, |it| it.first_ms).max(cutoff_ms)),
            last_ms: has_any.then_some(state.head.last_ms),
            damaged_blocks: state
                .files()
                .map(|name| self.files.damaged_blocks(name))
                .sum(),
        }
    }

    /// Whether there is a key for streams that are to be encrypted.
    pub fn has_key(&self) -> bool {
        self.files.key.is_some()
    }

    /// Some of what is to be done in the background: takes away what is not kept any more, rewrites. Says whether there may
    /// be more.
    pub fn maintain_step(&self, now_ms: u64) -> Result<bool, StoreError> {
        let _maintenance = lock(&self.maintenance);
        let mut has_more = false;
        for stream in self.streams() {
            has_more |= self.retain(&stream, now_ms)?;
            has_more |= self.compact(&stream, now_ms)?;
        }
        Ok(has_more)
    }

    /// Takes a stream that is not configured away for good. Says whether there was one.
    pub fn forget(&self, name: &str) -> Result<bool, StoreError> {
        let _maintenance = lock(&self.maintenance);
        let mut fold = lock(&self.fold);
        let stream = read(&self.all)
            .values()
            .find(|stream| stream.name == name && stream.state().options.is_none())
            .cloned();
        let Some(stream) = stream else {
            return Ok(false);
        };
        let number = lock(&stream.writing).next_number;
        let begin = Begin {
            name: String::new(),
            head: Head::default(),
            is_forgotten: true,
        };
        // From here on it is forgotten, whatever becomes of its files.
        self.make_segment(&stream, number, begin)?;
        write(&self.all).remove(&stream.id);
        fold.dirty.remove(&stream.id);
        fold.behind.remove(&stream.id);
        fold.unrecorded.remove(&stream.id);
        fold.gone.push(stream.id);
        for name in stream.state().files() {
            // The next start takes away what stays.
            let _ = self.files.remove(name);
        }
        Ok(true)
    }
}

impl<D: Disk> Streams<D> {
    /// The files of all streams as they are now, open, for a backup. What is in none of them yet, the log has.
    pub(crate) fn originals(&self) -> Result<Vec<Original<D::File>>, LogError> {
        let _maintenance = lock(&self.maintenance);
        // Nobody writes meanwhile.
        let _fold = lock(&self.fold);
        let disk = &self.files.disk;
        let names = disk.list();
        let names = names.map_err(|error| LogError::io("listing", "the store", error))?;
        let names = names.into_iter().filter(|name| is_stream_file(name));
        names
            .map(|name| {
                let opened = disk.open(&name).and_then(|file| Ok((file.len()?, file)));
                let (length, file) =
                    opened.map_err(|error| LogError::io("opening", &name, error))?;
                Ok(Original {
                    name,
                    file: Arc::new(file),
                    length,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod care_tests;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod compaction_tests;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "small numbers")]
mod tests;
