//! What enters, on its way from the log into files.
//!
//! Whatever goes wrong with a file, the log has what is not in it yet: the stream *falls behind*, to what of it outlives a
//! crash, and forgets the rest. Nothing is committed while one is behind, so that the log stays; the next commit reads there
//! what is missing. Offsets come out the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, MutexGuard, RwLock},
};

use super::{
    Streams,
    files::Segment,
    segment::{Begin, Head, LogPosition, UNFINISHED, file_name},
    stream::{Current, Durable, Stream, read, write},
    table::{BlockTopics, Table, TopicsBuilder},
    writing::SegmentWriter,
};
use crate::{
    disk::{Disk, DiskFile},
    log::{LogError, LogReader, SegmentKind},
    record::{Op, StreamId, decode_transactions},
    store::lock,
    views::number::put,
};

/// What only one has at a time: whoever folds, commits, imports, purges.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// The last block of the log that was folded.
    pub(super) applied: (u32, u32),
    /// The last one of which everything is in files.
    pub(super) synced: (u32, u32),
    /// Streams with something that is not synced.
    pub(super) dirty: BTreeSet<StreamId>,
    /// Streams of which the views do not know how far they are.
    pub(super) unrecorded: BTreeSet<StreamId>,
    /// Streams that have to be caught up from the log.
    pub(super) behind: BTreeSet<StreamId>,
    /// Streams that are gone, for the views.
    pub(super) gone: Vec<StreamId>,
    /// Streams that got records, for whoever asks.
    pub(super) grown: BTreeSet<StreamId>,
}

/// Everything that was folded is in files, and nothing more comes until this is dropped.
#[derive(Debug)]
pub(crate) struct Settled<'s> {
    pub(super) fold: MutexGuard<'s, Fold>,
    /// What the views are to know: by stream how far it is; nothing for one that is gone.
    pub rows: Vec<(u32, Vec<u8>)>,
}

/// A record that is to enter a stream.
struct Entering<'r> {
    ordinal: u32,
    expires_wall_ms: u64,
    body: &'r [u8],
}

/// How far a stream is, as the views have it.
pub(super) fn encode_row(durable: &Durable, name: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(24);
    put(&mut bytes, durable.number.into());
    put(&mut bytes, durable.len);
    durable.head.encode(&mut bytes);
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

impl<D: Disk> Streams<D> {
    /// Folds a block of the log. Blocks come in the order of the log; one that was folded is passed over.
    pub(crate) fn apply(&self, segment: u32, block: u32, wall_ms: u64, records: &[u8]) {
        let mut fold = lock(&self.fold);
        if (segment, block) <= fold.applied {
            return;
        }
        fold.applied = (segment, block);
        let position = LogPosition {
            segment,
            block,
            ordinal: 0,
        };
        for (stream, entering) in self.entering(records) {
            if fold.behind.contains(&stream.id) {
                continue;
            }
            self.take(&stream, position, wall_ms, &entering);
            fold.dirty.insert(stream.id);
            fold.grown.insert(stream.id);
            if let Err(error) = self.write_full(&stream) {
                self.fall_behind(&stream, &mut fold, &error);
            }
        }
    }

    /// What of a block of the log enters which stream.
    fn entering<'r>(&self, records: &'r [u8]) -> Vec<(Arc<Stream<D>>, Vec<Entering<'r>>)> {
        let mut by_stream = BTreeMap::<StreamId, Vec<Entering<'r>>>::new();
        let all = read(&self.all);
        if all.is_empty() {
            return Vec::new();
        }
        let mut ordinal = 0;
        // What cannot be read, the views report.
        for transaction in decode_transactions(records).map_while(Result::ok) {
            let mut messages = Vec::new();
            for op in transaction.ops().map_while(Result::ok) {
                match op {
                    Op::Message {
                        id,
                        expires_wall_ms,
                        body,
                    } => messages.push((id, expires_wall_ms, body)),
                    Op::Enter { id, streams } => {
                        ordinal += 1;
                        let message = messages.iter().rfind(|(other, ..)| *other == id);
                        let Some(&(_, expires_wall_ms, body)) = message else {
                            continue;
                        };
                        for stream in streams.iter() {
                            by_stream.entry(stream).or_default().push(Entering {
                                ordinal,
                                expires_wall_ms,
                                body,
                            });
                        }
                    }
                    _ => {}
                }
            }
        }
        by_stream
            .into_iter()
            .filter_map(|(id, entering)| Some((all.get(&id)?.clone(), entering)))
            .collect()
    }

    /// Gives what is behind the stream's last record its offsets. What is not was in its files before.
    fn take(&self, stream: &Stream<D>, at: LogPosition, wall_ms: u64, entering: &[Entering<'_>]) {
        let mut state = stream.change();
        for record in entering {
            let position = LogPosition {
                ordinal: record.ordinal,
                ..at
            };
            if position <= state.head.position {
                continue;
            }
            let head = Head {
                last_ms: state.head.last_ms.max(wall_ms),
                position,
                ..state.head
            };
            self.push(&mut state, head, record.expires_wall_ms, record.body);
        }
    }

    /// Appends a record; `head.next` is its offset.
    pub(super) fn push(
        &self,
        state: &mut super::stream::State,
        head: Head,
        expires_wall_ms: u64,
        body: &[u8],
    ) {
        let is_full = state.open.len() + body.len() > self.options.block_bytes;
        if is_full && let Some(block) = state.open.take() {
            state.full.push(block);
        }
        let record = (head.next, head.last_ms, expires_wall_ms);
        state.open.push(record, head.position, body);
        state.head = Head {
            next: head.next + 1,
            ..head
        };
    }

    /// Writes blocks that are full.
    pub(super) fn write_full(&self, stream: &Stream<D>) -> Result<(), LogError> {
        loop {
            let (block, written, compress, segment_bytes) = {
                let state = stream.state();
                let Some(block) = state.full.first().cloned() else {
                    return Ok(());
                };
                let segment_bytes = state.segment_bytes(self.options.segment_bytes_max);
                (block, state.written, state.compress(), segment_bytes)
            };
            let mut writing = lock(&stream.writing);
            if writing.segment.is_none() {
                drop(writing);
                self.begin_segment(stream, written)?;
                writing = lock(&stream.writing);
            }
            let (Some(current), Some(segment)) =
                (stream.state().current.clone(), &mut writing.segment)
            else {
                return Ok(());
            };
            let at = segment.append(&self.files, &block, compress)?;
            let counts = BlockTopics::of(&block, self.options.describe);
            let index = u32::try_from(read(&current.table).0.len()).unwrap_or(u32::MAX);
            // Before the table: who finds a block there takes it that its topics are known.
            write(&current.topics).add(index, &counts);
            write(&current.table).0.push(at);
            self.files.keep(segment.uid, at.at, &block);
            let is_long = segment.len >= segment_bytes;
            writing.newest = (segment.header.number, segment.len);
            drop(writing);
            {
                let mut state = stream.change();
                state.full.remove(0);
                state.written = Head {
                    next: block.next(),
                    last_ms: block.last_ms(),
                    position: block.position,
                    floor: state.head.floor,
                };
            }
            if is_long {
                self.end_segment(stream)?;
            }
        }
    }

    /// Makes the next segment of a stream. Its name and header outlive a crash.
    pub(super) fn begin_segment(&self, stream: &Stream<D>, head: Head) -> Result<(), LogError> {
        let mut writing = lock(&stream.writing);
        let number = writing.next_number;
        writing.next_number += 1;
        let begin = Begin {
            name: stream.name.clone(),
            head,
            is_forgotten: false,
        };
        let segment = self.make_segment(stream, number, begin)?;
        writing.newest = (number, segment.len);
        let current = Current {
            uid: segment.uid,
            name: segment.name.clone(),
            salt: segment.header.salt,
            table: RwLock::default(),
            topics: RwLock::new(TopicsBuilder::default()),
        };
        writing.segment = Some(segment);
        stream.change().current = Some(Arc::new(current));
        Ok(())
    }

    /// Makes the file of a segment, with a header that outlives a crash.
    pub(super) fn make_segment(
        &self,
        stream: &Stream<D>,
        number: u32,
        begin: Begin,
    ) -> Result<SegmentWriter<D>, LogError> {
        let encrypt = stream.state().encrypt(self.files.key.as_deref());
        let stream = stream.id;
        let name = file_name(stream, number);
        let unfinished = format!("{name}{UNFINISHED}");
        let files = &self.files;
        let now_ms = begin.head.last_ms;
        let mut segment = SegmentWriter::create(
            files,
            unfinished.clone(),
            stream,
            number,
            begin,
            now_ms,
            encrypt,
        )?;
        let made = segment.file.sync().and_then(|()| {
            files.disk.rename(&unfinished, &name)?;
            files.disk.sync_directory()
        });
        if let Err(error) = made {
            let _ = files
                .disk
                .remove(&unfinished)
                .or_else(|_| files.disk.remove(&name));
            return Err(LogError::io("creating", &name, error));
        }
        segment.durable = segment.len;
        segment.name = name;
        Ok(segment)
    }

    /// Ends the segment that is being written, if there is one.
    pub(super) fn end_segment(&self, stream: &Stream<D>) -> Result<(), LogError> {
        let (current, written) = {
            let state = stream.state();
            let Some(current) = state.current.clone() else {
                return Ok(());
            };
            (current, state.written)
        };
        let mut writing = lock(&stream.writing);
        let Some(segment) = &mut writing.segment else {
            return Ok(());
        };
        let table = Table(read(&current.table).0.clone());
        let topics = read(&current.topics).encode();
        let past = segment.finish(&self.files, &table, topics.as_deref(), written)?;
        let ended = (segment.name.clone(), segment.file.clone());
        writing.newest = (past.number, past.bytes);
        writing.unsynced.push(ended);
        writing.segment = None;
        drop(writing);
        let mut state = stream.change();
        state.past.push(Arc::new(past));
        state.current = None;
        Ok(())
    }

    /// Brings everything into files that outlive a crash, what is missing there from the log.
    pub(crate) fn settle(&self, log: Option<&LogReader<D>>) -> Result<Settled<'_>, LogError> {
        let mut fold = lock(&self.fold);
        self.catch_up(&mut fold, log)?;
        self.settle_fold(&mut fold)?;
        let rows = self.rows(&fold);
        Ok(Settled { fold, rows })
    }

    /// As [`Self::settle`], by who has the fold already.
    pub(super) fn settle_fold(&self, fold: &mut Fold) -> Result<(), LogError> {
        let dirty: Vec<_> = fold.dirty.iter().copied().collect();
        for id in dirty {
            let Some(stream) = self.stream(id) else {
                fold.dirty.remove(&id);
                continue;
            };
            if let Err(error) = self.sync(&stream) {
                self.fall_behind(&stream, fold, &error);
                return Err(error);
            }
            fold.dirty.remove(&id);
            fold.unrecorded.insert(id);
        }
        fold.synced = fold.applied;
        Ok(())
    }

    pub(super) fn rows(&self, fold: &Fold) -> Vec<(u32, Vec<u8>)> {
        let known = fold.unrecorded.iter().filter_map(|id| {
            let stream = self.stream(*id)?;
            let row = encode_row(&stream.state().durable, &stream.name);
            Some((id.0, row))
        });
        let gone = fold.gone.iter().map(|id| (id.0, Vec::new()));
        known.chain(gone).collect()
    }

    /// The rows are in the views.
    pub(crate) fn recorded(&self, mut settled: Settled<'_>) {
        for id in std::mem::take(&mut settled.fold.unrecorded) {
            if let Some(stream) = self.stream(id) {
                let mut state = stream.change();
                state.recorded_number = state.durable.number;
                state.hidden_from = None;
            }
        }
        settled.fold.gone.clear();
    }

    fn sync(&self, stream: &Stream<D>) -> Result<(), LogError> {
        {
            let mut state = stream.change();
            if let Some(block) = state.open.take() {
                state.full.push(block);
            }
        }
        self.write_full(stream)?;
        let mut writing = lock(&stream.writing);
        let sync = |name: &str, file: &D::File| {
            let synced = file.sync();
            synced.map_err(|error| LogError::io("syncing", name, error))
        };
        for (name, file) in &writing.unsynced {
            sync(name, file)?;
        }
        writing.unsynced.clear();
        if let Some(segment) = &mut writing.segment
            && segment.durable < segment.len
        {
            sync(&segment.name, &segment.file)?;
            segment.durable = segment.len;
        }
        let (number, len) = writing.newest;
        drop(writing);
        let mut state = stream.change();
        state.durable = Durable {
            number,
            len,
            head: state.head,
        };
        state.written = state.head;
        Ok(())
    }

    /// Forgets what of a stream does not outlive a crash: the log has it.
    pub(super) fn fall_behind(&self, stream: &Stream<D>, fold: &mut Fold, error: &LogError) {
        let mut writing = lock(&stream.writing);
        let mut state = stream.change();
        let durable = state.durable;
        state.full.clear();
        state.open.clear();
        let mut left = None;
        if let Some(segment) = writing.segment.take() {
            left = Some(segment.left_over(durable.len, durable.head));
            let _ = segment.file.set_len(durable.len);
        }
        state.current = None;
        state.past.extend(left.map(Arc::new));
        let mut not_durable = Vec::new();
        state.past.retain(|segment| {
            let stays = segment.number <= durable.number;
            if !stays {
                not_durable.push(segment.name.clone());
            }
            stays
        });
        if let Some(last) = state.past.last_mut()
            && last.number == durable.number
            && last.bytes != durable.len
        {
            *last = Arc::new(Segment {
                uid: self.files.take_uid(),
                end_at: durable.len.max(last.begin_at),
                bytes: durable.len.max(last.begin_at),
                head: durable.head,
                records: durable.head.next.saturating_sub(last.first),
                has_expiring: true,
                tables: None,
                ..Segment::clone(last)
            });
        }
        for name in not_durable {
            // What stays is superseded by the segment that comes next.
            let _ = self.files.disk.remove(&name);
        }
        state.head = durable.head;
        state.written = durable.head;
        state.hidden_from = state.hidden_from.filter(|from| *from < durable.head.next);
        writing.unsynced.clear();
        writing.newest = (durable.number, durable.len);
        self.fell_behind(error);
        fold.dirty.remove(&stream.id);
        fold.behind.insert(stream.id);
    }

    /// Reads again in the log what streams that fell behind do not have.
    fn catch_up(&self, fold: &mut Fold, log: Option<&LogReader<D>>) -> Result<(), LogError> {
        if fold.behind.is_empty() {
            return Ok(());
        }
        let Some(log) = log else {
            let trouble = lock(&self.trouble).clone().unwrap_or_default();
            let source = io::Error::other(trouble);
            return Err(LogError::io("writing", "a stream", source));
        };
        let segments = log.segments().into_iter().filter(|info| {
            info.kind == SegmentKind::Log && (fold.synced.0..=fold.applied.0).contains(&info.number)
        });
        for info in segments {
            for block in log.blocks(info.number)? {
                // What is damaged was whole when it was folded the first time, and is lost now.
                let Ok(block) = block else { continue };
                let at = (block.position.segment, block.position.offset);
                if at > fold.applied {
                    break;
                }
                let position = LogPosition {
                    segment: at.0,
                    block: at.1,
                    ordinal: 0,
                };
                for (stream, entering) in self.entering(&block.records) {
                    if fold.behind.contains(&stream.id) {
                        self.take(&stream, position, block.wall_ms, &entering);
                        if let Err(error) = self.write_full(&stream) {
                            self.fall_behind(&stream, fold, &error);
                            return Err(error);
                        }
                    }
                }
            }
        }
        let behind = std::mem::take(&mut fold.behind);
        fold.grown.extend(&behind);
        fold.dirty.extend(behind);
        Ok(())
    }

    /// Whether a stream has to be caught up, which a commit does.
    pub(crate) fn is_behind(&self) -> bool {
        !lock(&self.fold).behind.is_empty()
    }

    /// Those that got records since the last call, for whoever waits for them.
    pub fn take_grown(&self) -> Vec<StreamId> {
        let grown = std::mem::take(&mut lock(&self.fold).grown);
        grown.into_iter().collect()
    }
}
