//! Compaction: of all records with one key only the last stays.
//!
//! Segments that are not written to any more are gone through in passes. A pass first *maps* what no pass has seen: which
//! offset is the last of which key, as far as memory goes. Then it *weighs* every segment before that: how much of it
//! stays. Then it *rewrites* those of which something goes, small neighbours together. All of it a step at a time.
//!
//! Offsets stay, so there are gaps. The new file takes the name of the last one that it stands for, in one rename; it says
//! that it begins where the first of them began, which makes the others superseded, should a crash leave them.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{
    Streams,
    block::{Block, OpenBlock, RecordAt},
    files::{Segment, Unread},
    read::Window,
    segment::{Begin, Head, UNFINISHED},
    stream::Stream,
    table::{BlockTopics, Table, TopicsBuilder},
    writing::SegmentWriter,
};
use crate::{
    disk::{Disk, DiskFile},
    log::LogError,
    store::{StoreError, lock},
};

/// How long a tombstone stays, so that readers see it, in milliseconds. No stream waits longer for its next pass.
pub(super) const TOMBSTONE_MS: u64 = 24 * 60 * 60 * 1_000;

/// How many bytes of blocks a step goes through, about.
const STEP_BYTES: u64 = 1 << 20;

/// How much memory the keys of a pass may take, about; what does not fit is for the next one.
const KEYS_BYTES_MAX: usize = if cfg!(test) { 2_000 } else { 64 << 20 };

/// What a key takes beside its own bytes, about.
const KEY_BYTES: usize = 32;

/// After an error, how long until the next try, in milliseconds.
const RETRY_MS: u64 = 60_000;

/// What compaction did with a stream since the start, and has in hand.
#[derive(Debug)]
pub(super) struct Compaction<D: Disk> {
    /// Everything before this was mapped.
    clean_to: u64,
    /// When the last pass began.
    pass_ms: u64,
    retry_at_ms: u64,
    pass: Option<Pass<D>>,
}

impl<D: Disk> Default for Compaction<D> {
    fn default() -> Self {
        Self {
            clean_to: 0,
            pass_ms: 0,
            retry_at_ms: 0,
            pass: None,
        }
    }
}

#[derive(Debug)]
struct Pass<D: Disk> {
    mapped: Mapped,
    cursor: u64,
    phase: Phase<D>,
}

/// What a pass knows of keys.
#[derive(Debug)]
struct Mapped {
    /// The last offset of each.
    last: HashMap<Box<str>, u64, foldhash::fast::RandomState>,
    bytes: usize,
    /// Nothing is known of records from here on.
    to: u64,
    keeps_tombstones: bool,
}

#[derive(Debug)]
enum Phase<D: Disk> {
    Mapping,
    Weighing(Vec<Weighed>),
    Rewriting {
        groups: Vec<Vec<Arc<Segment>>>,
        output: Option<Box<Output<D>>>,
    },
}

/// A segment, and what of it stays.
#[derive(Debug)]
struct Weighed {
    segment: Arc<Segment>,
    bytes: u64,
    stays: u64,
    goes: u64,
    is_damaged: bool,
}

impl Weighed {
    /// What its file is going to be, about.
    fn file_bytes(&self) -> u64 {
        let bytes = u128::from(self.segment.bytes) * u128::from(self.stays);
        u64::try_from(bytes / u128::from(self.bytes.max(1))).unwrap_or(u64::MAX)
    }
}

/// A file that is to stand for some segments.
#[derive(Debug)]
struct Output<D: Disk> {
    sources: Vec<Arc<Segment>>,
    writer: SegmentWriter<D>,
    /// What its file is going to be called.
    name: String,
    /// How far the stream was where it ends.
    head: Head,
    open: OpenBlock,
    table: Table,
    topics: TopicsBuilder,
}

impl<D: Disk> Streams<D> {
    /// Does some of what compaction has to do. Says whether there is more.
    pub(super) fn compact(&self, stream: &Stream<D>, now_ms: u64) -> Result<bool, StoreError> {
        let mut compaction = lock(&stream.compaction);
        let is_wanted = {
            let state = stream.state();
            state.options.as_ref().is_some_and(|it| it.compact)
        };
        if !is_wanted {
            if let Some(pass) = compaction.pass.take() {
                self.give_up(pass);
            }
            return Ok(false);
        }
        if now_ms < compaction.retry_at_ms {
            return Ok(false);
        }
        if compaction.pass.is_none() && !Self::begin_pass(stream, &mut compaction, now_ms) {
            return Ok(false);
        }
        let Some(mut pass) = compaction.pass.take() else {
            return Ok(false);
        };
        match self.pass_step(stream, &mut pass, now_ms) {
            Ok(true) => compaction.pass = Some(pass),
            Ok(false) => compaction.clean_to = compaction.clean_to.max(pass.mapped.to),
            Err(Unread::Failed(error)) => {
                self.give_up(pass);
                compaction.retry_at_ms = now_ms.saturating_add(RETRY_MS);
                return Err(error.into());
            }
            // A segment went, or was found damaged, meanwhile: the next pass sees what there is.
            Err(Unread::Gone | Unread::Damaged(_)) => {
                self.give_up(pass);
                compaction.retry_at_ms = now_ms.saturating_add(RETRY_MS);
            }
        }
        Ok(true)
    }

    /// The segments that may be rewritten: those that the views do not count on.
    fn rewritable(stream: &Stream<D>) -> Vec<Arc<Segment>> {
        let state = stream.state();
        let recorded = state.recorded_number;
        let old = state.past.iter().take_while(|it| it.number < recorded);
        old.cloned().collect()
    }

    /// Begins a pass once what none has seen is half as much as the rest, and once a day for the sake of tombstones.
    fn begin_pass(stream: &Stream<D>, compaction: &mut Compaction<D>, now_ms: u64) -> bool {
        let segments = Self::rewritable(stream);
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            return false;
        };
        let is_clean = |segment: &&Arc<Segment>| segment.head.next <= compaction.clean_to;
        let clean: u64 = segments.iter().filter(is_clean).map(|it| it.bytes).sum();
        let all: u64 = segments.iter().map(|it| it.bytes).sum();
        let dirty = all - clean;
        let is_due = dirty > 0 && dirty.saturating_mul(2) >= clean
            || now_ms >= compaction.pass_ms.saturating_add(TOMBSTONE_MS);
        if !is_due {
            return false;
        }
        compaction.pass_ms = now_ms;
        compaction.pass = Some(Pass {
            mapped: Mapped {
                last: HashMap::default(),
                bytes: 0,
                to: last.head.next,
                keeps_tombstones: false,
            },
            cursor: compaction.clean_to.max(first.first),
            phase: Phase::Mapping,
        });
        true
    }

    fn give_up(&self, pass: Pass<D>) {
        if let Phase::Rewriting {
            output: Some(output),
            ..
        } = pass.phase
        {
            // What stays the next start takes away.
            let _ = self.files.remove(&output.writer.name);
        }
    }

    /// Goes on with a pass. Says whether it is not over.
    fn pass_step(
        &self,
        stream: &Stream<D>,
        pass: &mut Pass<D>,
        now_ms: u64,
    ) -> Result<bool, Unread> {
        let mut looked = 0;
        while looked < STEP_BYTES {
            match &mut pass.phase {
                Phase::Mapping => match self.next_block(stream, pass.cursor, pass.mapped.to) {
                    Ok(Some((_, block))) => {
                        looked += block.weight();
                        self.map(pass, &block);
                    }
                    Ok(None) => {
                        pass.phase = Phase::Weighing(Vec::new());
                        pass.cursor = 0;
                    }
                    // The keys in its segment stay unknown: less goes.
                    Err(Unread::Damaged(_)) => {
                        let state = stream.state();
                        let index = state.past.partition_point(|it| it.head.next <= pass.cursor);
                        let segment = state.past.get(index);
                        pass.cursor = segment.map_or(pass.mapped.to, |it| it.head.next);
                    }
                    Err(error) => return Err(error),
                },
                Phase::Weighing(weighed) => {
                    let segments = Self::rewritable(stream);
                    let next = segments.into_iter().find(|segment| {
                        segment.first >= pass.cursor && segment.first < pass.mapped.to
                    });
                    let Some(segment) = next else {
                        let max = stream.state().segment_bytes(self.options.segment_bytes_max);
                        pass.phase = Phase::Rewriting {
                            groups: grouped(std::mem::take(weighed), max),
                            output: None,
                        };
                        continue;
                    };
                    looked += segment.bytes;
                    pass.cursor = segment.head.next;
                    let weight = self.weigh(stream, &pass.mapped, &segment, now_ms)?;
                    // What a tombstone stands for may be in it.
                    pass.mapped.keeps_tombstones |= weight.is_damaged;
                    weighed.push(weight);
                }
                Phase::Rewriting { groups, output } => {
                    let Some(rewriting) = output else {
                        let Some(group) = groups.pop() else {
                            return Ok(false);
                        };
                        pass.cursor = group.first().map_or(0, |segment| segment.first);
                        *output = Some(Box::new(self.begin_output(stream, group)?));
                        continue;
                    };
                    let end = rewriting.sources.last().map_or(0, |it| it.head.next);
                    if let Some((limit, block)) = self.next_block(stream, pass.cursor, end)? {
                        looked += block.weight();
                        pass.cursor = block.next().min(limit);
                        let window = stream.window(now_ms);
                        for record in &block.records {
                            if record.offset < limit
                                && self.stays(&pass.mapped, &window, &block, record)
                            {
                                self.put(stream, rewriting, &block, record)?;
                            }
                        }
                    } else if let Some(finished) = output.take() {
                        self.exchange(stream, *finished)?;
                    }
                }
            }
        }
        Ok(true)
    }

    /// The first block with a record from an offset on and before another, from a segment, past the readers' cache; and up
    /// to where it counts.
    fn next_block(
        &self,
        stream: &Stream<D>,
        mut from: u64,
        to: u64,
    ) -> Result<Option<(u64, Block)>, Unread> {
        while from < to {
            let segment = {
                let state = stream.state();
                let index = state.past.partition_point(|it| it.head.next <= from);
                state.past.get(index).cloned()
            };
            let Some(segment) = segment.filter(|segment| segment.first < to) else {
                return Ok(None);
            };
            let table = self.files.table(&segment)?;
            let at = table.from(from).map(|(_, at)| at);
            if let Some(at) = at.filter(|at| at.first < segment.head.next) {
                let block = self.files.block_uncached(&segment, &at)?;
                return Ok(Some((segment.head.next, block)));
            }
            from = segment.head.next;
        }
        Ok(None)
    }

    /// Notes what a block has the last of so far.
    fn map(&self, pass: &mut Pass<D>, block: &Block) {
        let mapped = &mut pass.mapped;
        for record in block.from(pass.cursor) {
            if record.offset >= mapped.to {
                break;
            }
            pass.cursor = record.offset + 1;
            let Some(described) = (self.options.describe)(block.body(record)) else {
                continue;
            };
            let key = described.key();
            if let Some(last) = mapped.last.get_mut(key) {
                *last = record.offset;
                continue;
            }
            mapped.bytes += key.len() + KEY_BYTES;
            if mapped.bytes > KEYS_BYTES_MAX && !mapped.last.is_empty() {
                mapped.to = record.offset;
                pass.cursor = record.offset;
                return;
            }
            mapped.last.insert(key.into(), record.offset);
        }
        pass.cursor = pass.cursor.max(block.next());
    }

    fn weigh(
        &self,
        stream: &Stream<D>,
        mapped: &Mapped,
        segment: &Arc<Segment>,
        now_ms: u64,
    ) -> Result<Weighed, Unread> {
        let window = stream.window(now_ms);
        let mut weighed = Weighed {
            segment: segment.clone(),
            bytes: 0,
            stays: 0,
            goes: 0,
            is_damaged: false,
        };
        let table = self.files.table(segment)?;
        for at in &table.0 {
            let block = match self.files.block_uncached(segment, at) {
                Ok(block) => block,
                Err(Unread::Damaged(_)) => {
                    weighed.is_damaged = true;
                    break;
                }
                Err(error) => return Err(error),
            };
            for record in &block.records {
                if record.offset >= segment.head.next {
                    break;
                }
                let bytes = u64::from(record.range().end - record.range().start) + 1;
                weighed.bytes += bytes;
                if self.stays(mapped, &window, &block, record) {
                    weighed.stays += bytes;
                } else {
                    weighed.goes += 1;
                }
            }
        }
        // It stays as it is: what is wrong with it can be told as long as it is there.
        weighed.is_damaged |= self.files.damaged_blocks(&segment.name) > 0;
        Ok(weighed)
    }

    fn stays(&self, mapped: &Mapped, window: &Window, block: &Block, record: &RecordAt) -> bool {
        if !window.has(record) {
            return false;
        }
        let Some(described) = (self.options.describe)(block.body(record)) else {
            return true;
        };
        let last = mapped.last.get(described.key());
        if last.is_some_and(|last| *last > record.offset) {
            return false;
        }
        // What it took the place of is in older segments, which were rewritten before this one.
        !described.is_tombstone
            || mapped.keeps_tombstones
            || record.offset >= mapped.to
            || record.wall_ms.saturating_add(TOMBSTONE_MS) > window.now_ms
    }

    fn begin_output(
        &self,
        stream: &Stream<D>,
        sources: Vec<Arc<Segment>>,
    ) -> Result<Output<D>, Unread> {
        let (Some(first), Some(last)) = (sources.first(), sources.last()) else {
            return Err(Unread::Gone);
        };
        let opened = self.files.file(first.uid, &first.name, &first.salt)?;
        let (begin, _) = self.files.begin(&first.name, &opened)?;
        let begin = Begin {
            name: stream.name.clone(),
            head: Head {
                next: first.first,
                ..begin.head
            },
            is_forgotten: false,
        };
        let name = format!("{}{UNFINISHED}", last.name);
        // Of a try that failed.
        self.files.remove(&name)?;
        let now_ms = begin.head.last_ms;
        let encrypt = stream.state().encrypt(self.files.key.as_deref());
        let number = last.number;
        let writer =
            SegmentWriter::create(&self.files, name, stream.id, number, begin, now_ms, encrypt)?;
        Ok(Output {
            writer,
            name: last.name.clone(),
            head: last.head,
            sources,
            open: OpenBlock::default(),
            table: Table::default(),
            topics: TopicsBuilder::default(),
        })
    }

    fn put(
        &self,
        stream: &Stream<D>,
        output: &mut Output<D>,
        block: &Block,
        record: &RecordAt,
    ) -> Result<(), LogError> {
        let body = block.body(record);
        if output.open.len() + body.len() > self.options.block_bytes {
            self.flush(stream, output)?;
        }
        let place = (record.offset, record.wall_ms, record.expires_wall_ms);
        output.open.push(place, block.position, body);
        Ok(())
    }

    fn flush(&self, stream: &Stream<D>, output: &mut Output<D>) -> Result<(), LogError> {
        if let Some(block) = output.open.take() {
            let compress = stream.state().compress();
            let at = output.writer.append(&self.files, &block, compress)?;
            let index = u32::try_from(output.table.0.len()).unwrap_or(u32::MAX);
            output.table.0.push(at);
            let counts = BlockTopics::of(&block, self.options.describe);
            output.topics.add(index, &counts);
        }
        Ok(())
    }

    /// The new file takes the place of what it stands for. Readers meet either what was there or what is there now.
    fn exchange(&self, stream: &Stream<D>, mut output: Output<D>) -> Result<(), LogError> {
        let finished = self.finish(stream, &mut output);
        let unfinished = output.writer.name.clone();
        let exchanged = finished.and_then(|segment| {
            let mut state = stream.change();
            let named = self.files.disk.rename(&unfinished, &segment.name);
            named.map_err(|error| LogError::io("rewriting", &segment.name, error))?;
            let is_source = |it: &Arc<Segment>| output.sources.iter().any(|of| of.uid == it.uid);
            let index = state.past.iter().position(is_source);
            state.past.retain(|it| !is_source(it));
            state.past.insert(index.unwrap_or(0), Arc::new(segment));
            Ok(())
        });
        if let Err(error) = exchanged {
            let _ = self.files.remove(&unfinished);
            return Err(error);
        }
        let synced = self.files.disk.sync_directory();
        synced.map_err(|error| LogError::io("rewriting", &unfinished, error))?;
        // The last one has its name.
        for source in output.sources.iter().rev().skip(1) {
            self.files.remove(&source.name)?;
        }
        Ok(())
    }

    fn finish(&self, stream: &Stream<D>, output: &mut Output<D>) -> Result<Segment, LogError> {
        self.flush(stream, output)?;
        let topics = output.topics.encode();
        let writer = &mut output.writer;
        let mut segment =
            writer.finish(&self.files, &output.table, topics.as_deref(), output.head)?;
        let synced = writer.file.sync();
        synced.map_err(|error| LogError::io("syncing", &writer.name, error))?;
        segment.name.clone_from(&output.name);
        Ok(segment)
    }
}

/// Neighbours that are to be rewritten together, the oldest last. Segments of which nothing goes are only rewritten with
/// others, and then only where little is gained by leaving them.
fn grouped(weighed: Vec<Weighed>, bytes_max: u64) -> Vec<Vec<Arc<Segment>>> {
    let mut groups = Vec::new();
    let mut group: Vec<Weighed> = Vec::new();
    let mut end = |group: &mut Vec<Weighed>| {
        let group = std::mem::take(group);
        let bytes: u64 = group.iter().map(Weighed::file_bytes).sum();
        let is_worth_it = group.iter().any(|it| it.goes > 0)
            || group.len() > 1 && bytes.saturating_mul(2) <= bytes_max;
        if is_worth_it {
            groups.push(group.into_iter().map(|it| it.segment).collect());
        }
    };
    for next in weighed {
        let bytes: u64 = group.iter().map(Weighed::file_bytes).sum();
        let fits = bytes + next.file_bytes() <= bytes_max;
        let is_whole = next.goes == 0 && next.file_bytes().saturating_mul(2) > bytes_max;
        if !fits || is_whole || next.is_damaged {
            end(&mut group);
        }
        if !next.is_damaged && !is_whole {
            group.push(next);
        }
    }
    end(&mut group);
    groups.reverse();
    groups
}
