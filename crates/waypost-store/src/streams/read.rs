//! Reading records. Nobody who reads holds up who writes for longer than it takes to find a block.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Streams,
    api::{Filter, StreamRead, StreamRecord},
    block::{Block, RecordAt},
    files::{Segment, Unread},
    stream::{Place, Stream, read},
    table::BlockAt,
};
use crate::{disk::Disk, record::StreamId, store::StoreError};

/// How many bytes of blocks one call looks through, about, before it says where to go on.
const LOOK_BYTES_MAX: u64 = 4 << 20;

/// Once the bodies that one call picks exceed this, it picks no more.
pub(super) const PICK_BYTES_MAX: u64 = if cfg!(test) { 1_000 } else { 4 << 20 };

/// After so many blocks without a match the segment's topics are asked which block has the next.
const BLOCKS_WITHOUT_MATCH: u32 = 4;

/// How often a segment that is gone is looked for where it is now.
pub(super) const TRIES: u32 = 8;

/// What may be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Nothing before this offset,
    pub floor: u64,
    /// nothing that entered before this time,
    pub cutoff_ms: u64,
    /// and nothing that expired before this.
    pub now_ms: u64,
}

impl Window {
    pub fn has(&self, record: &RecordAt) -> bool {
        record.offset >= self.floor
            && record.wall_ms >= self.cutoff_ms
            && record.expires_wall_ms > self.now_ms
    }
}

/// A block, and up to where it counts.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub block: Arc<Block>,
    pub limit: u64,
}

/// A block, and the segment that has it.
type BlockOf<'s> = (BlockAt, (u64, &'s str, &'s [u8]));

impl<D: Disk> Stream<D> {
    pub(super) fn window(&self, now_ms: u64) -> Window {
        let state = self.state();
        Window {
            floor: state.floor(),
            cutoff_ms: state.cutoff_ms(now_ms),
            now_ms,
        }
    }
}

impl<D: Disk> Streams<D> {
    /// Records from an offset on: at most `count_max`, and no more once their bodies exceed `bytes_max`; fewer, perhaps
    /// none, if much that does not match stands before them: then [`StreamRead::next`] says where to go on. `None` if there
    /// is no such stream.
    pub fn read(
        &self,
        stream: StreamId,
        offset: u64,
        filter: Filter<'_>,
        (count_max, bytes_max): (usize, u64),
        now_ms: u64,
    ) -> Result<Option<StreamRead>, StoreError> {
        let Some(stream) = self.stream(stream) else {
            return Ok(None);
        };
        let window = stream.window(now_ms);
        let mut records = Vec::new();
        let mut cursor = offset.max(window.floor);
        let (mut bytes, mut looked, mut without) = (0, 0, 0);
        while records.len() < count_max && bytes <= bytes_max && looked < LOOK_BYTES_MAX {
            let Some(found) = self.block_from(&stream, &mut cursor, filter, without, &window)?
            else {
                break;
            };
            looked += found.block.bytes.len() as u64;
            without += 1;
            let block = &found.block;
            for record in block.from(cursor) {
                if record.offset >= found.limit || records.len() >= count_max || bytes > bytes_max {
                    break;
                }
                cursor = record.offset + 1;
                if window.has(record) && self.is_meant(block, record, filter) {
                    bytes += u64::from(record.range().end - record.range().start);
                    records.push(record_of(block, record));
                    without = 0;
                }
            }
            if records.len() < count_max && bytes <= bytes_max {
                cursor = cursor.max(block.next().min(found.limit));
            }
        }
        let is_end = cursor >= stream.state().next();
        Ok(Some(StreamRead {
            records,
            next: cursor,
            is_end,
        }))
    }

    /// The records with these offsets, ascending, as far as they are there and match; once their bodies exceed a bound, no
    /// more: then [`StreamRead::next`] says which were looked at.
    pub fn pick(
        &self,
        stream: StreamId,
        offsets: &[u64],
        filter: Filter<'_>,
        now_ms: u64,
    ) -> Result<Option<StreamRead>, StoreError> {
        let Some(stream) = self.stream(stream) else {
            return Ok(None);
        };
        let window = stream.window(now_ms);
        let mut read = StreamRead::default();
        let mut last: Option<Found> = None;
        let mut bytes = 0;
        for &offset in offsets {
            if bytes > PICK_BYTES_MAX {
                break;
            }
            read.next = offset + 1;
            if offset < window.floor {
                continue;
            }
            let is_in = |found: &Found| {
                (found.block.first()..found.block.next().min(found.limit)).contains(&offset)
            };
            if !last.as_ref().is_some_and(is_in) {
                let mut cursor = offset;
                last = self.block_from(&stream, &mut cursor, Filter::All, 0, &window)?;
            }
            let Some(found) = last.as_ref().filter(|found| is_in(found)) else {
                continue;
            };
            if let Some(record) = found.block.from(offset).first()
                && record.offset == offset
                && window.has(record)
                && self.is_meant(&found.block, record, filter)
            {
                bytes += u64::from(record.range().end - record.range().start);
                read.records.push(record_of(&found.block, record));
            }
        }
        read.is_end = read.next >= stream.state().next();
        Ok(Some(read))
    }

    pub(super) fn is_meant(&self, block: &Block, record: &RecordAt, filter: Filter<'_>) -> bool {
        if matches!(filter, Filter::All) {
            return true;
        }
        let described = (self.options.describe)(block.body(record));
        described.is_some_and(|described| filter.matches(described.topic))
    }

    /// The next block with something from the cursor on, which goes past what is not there. `None` if there is none.
    fn block_from(
        &self,
        stream: &Stream<D>,
        cursor: &mut u64,
        filter: Filter<'_>,
        without: u32,
        window: &Window,
    ) -> Result<Option<Found>, StoreError> {
        let mut tries = 0;
        loop {
            let found = match stream.place(*cursor) {
                Place::None => return Ok(None),
                Place::Lost(next) => {
                    *cursor = next;
                    return Ok(None);
                }
                Place::Memory(block) => {
                    let limit = u64::MAX;
                    return Ok(Some(Found { block, limit }));
                }
                Place::Current(current, at) => {
                    let narrow = without >= BLOCKS_WITHOUT_MATCH && !matches!(filter, Filter::All);
                    let next = narrow.then(|| {
                        let mut blocks = BTreeMap::new();
                        let topics = read(&current.topics);
                        if !topics.is_complete() {
                            return None;
                        }
                        topics.matching(filter, |_, postings| blocks.extend(postings.iter()));
                        drop(topics);
                        let table = read(&current.table);
                        let from = table.from(*cursor).map_or(0, |(index, _)| index);
                        let from = u32::try_from(from).unwrap_or(u32::MAX);
                        let (next, _) = blocks.range(from..).next()?;
                        table.0.get(*next as usize).copied()
                    });
                    let at = next.flatten().unwrap_or(at);
                    let place = (current.uid, current.name.as_str(), current.salt.as_slice());
                    *cursor = (*cursor).max(at.first);
                    self.files.block(place, &at).map(|block| (block, u64::MAX))
                }
                Place::Past(segment) if segment.head.last_ms < window.cutoff_ms => {
                    *cursor = segment.head.next;
                    continue;
                }
                Place::Past(segment) => match self.block_of(&segment, cursor, filter, without) {
                    Ok(Some((at, place))) => {
                        let block = self.files.block(place, &at);
                        block.map(|block| (block, segment.head.next))
                    }
                    Ok(None) => {
                        *cursor = segment.head.next;
                        continue;
                    }
                    Err(unread) => Err(unread),
                },
            };
            match found {
                Ok((block, limit)) => return Ok(Some(Found { block, limit })),
                Err(Unread::Gone) if tries < TRIES => tries += 1,
                Err(Unread::Gone) => return Ok(None),
                Err(Unread::Damaged(damage)) => {
                    *cursor = self.behind_damage(stream, *cursor, damage.offset);
                }
                Err(Unread::Failed(error)) => return Err(error.into()),
            }
        }
    }

    /// The block of a segment with the first record from the cursor on; with a narrow filter, that matches.
    fn block_of<'s>(
        &self,
        segment: &'s Segment,
        cursor: &mut u64,
        filter: Filter<'_>,
        without: u32,
    ) -> Result<Option<BlockOf<'s>>, Unread> {
        let place = (segment.uid, segment.name.as_str(), segment.salt.as_slice());
        let table = self.files.table(segment)?;
        let Some((index, at)) = table.from(*cursor) else {
            return Ok(None);
        };
        if without < BLOCKS_WITHOUT_MATCH || matches!(filter, Filter::All) {
            return Ok(Some((at, place)));
        }
        let Some(topics) = self.files.topics(segment)? else {
            return Ok(Some((at, place)));
        };
        let mut next = u32::MAX;
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        topics.matching(filter, |_, postings| {
            let first = postings.iter().find(|(block, _)| *block >= index);
            next = next.min(first.map_or(u32::MAX, |(block, _)| block));
        });
        let at = table.0.get(next as usize).copied();
        if let Some(at) = at {
            *cursor = (*cursor).max(at.first);
        }
        Ok(at.map(|at| (at, place)))
    }

    /// The offset behind the block that cannot be read.
    fn behind_damage(&self, stream: &Stream<D>, cursor: u64, at: u64) -> u64 {
        match stream.place(cursor) {
            Place::Current(_, block) => block.next,
            Place::Past(segment) => {
                let table = self.files.table(&segment);
                let block = table.ok().and_then(|table| {
                    let same = |block: &&BlockAt| u64::from(block.at) == at;
                    table.0.iter().find(same).copied()
                });
                block.map_or(segment.head.next, |block| block.next.max(cursor + 1))
            }
            Place::Memory(_) | Place::Lost(_) | Place::None => cursor + 1,
        }
    }
}

fn record_of(block: &Block, record: &RecordAt) -> StreamRecord {
    StreamRecord {
        offset: record.offset,
        wall_ms: record.wall_ms,
        expires_wall_ms: record.expires_wall_ms,
        block: block.bytes.clone(),
        body: record.range(),
    }
}
