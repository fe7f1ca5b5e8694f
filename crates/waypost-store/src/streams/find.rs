//! Where reading begins.
//!
//! By offset and time: the segment is known in memory, the block from the segment's table, the record from the block. By
//! count: from the end on backward, by what tables and topics say how many there are, as far as nothing of it may be over.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    Streams,
    api::{Filter, Found, Start},
    block::Block,
    files::{Segment, Unread},
    read::{TRIES, Window},
    stream::{Current, Place, Stream, read},
    table::{BlockAt, Table},
};
use crate::{disk::Disk, record::StreamId, store::StoreError};

/// The most records that [`Start::Each`] picks; of more the newest.
pub const PICKED_MAX: usize = if cfg!(test) { 100 } else { 1_000_000 };

/// A block, unless it cannot be read, and its first offset: go on before that.
type Before = (Option<Arc<Block>>, u64);

/// The blocks of one segment that have records that match, so that they are looked up once; `None` if any may.
#[derive(Debug, Default)]
struct Matching {
    uid: u64,
    blocks: Option<BTreeSet<u32>>,
}

impl<D: Disk> Streams<D> {
    /// Where reading begins; `None` if there is no such stream.
    pub fn find(
        &self,
        stream: StreamId,
        start: Start,
        filter: Filter<'_>,
        now_ms: u64,
    ) -> Result<Option<Found>, StoreError> {
        let Some(stream) = self.stream(stream) else {
            return Ok(None);
        };
        let window = stream.window(now_ms);
        let mut picked = Vec::new();
        let offset = match start {
            Start::Offset(offset) => offset,
            Start::Time(wall_ms) => self.at_time(&stream, wall_ms)?,
            Start::Last(count) => self.last(&stream, count, filter, &window)?,
            Start::Each(count) => {
                let next = stream.state().next();
                picked = self.each(&stream, (next, count), filter, &window)?;
                next
            }
        };
        Ok(Some(Found {
            picked: picked.into(),
            offset: offset.max(window.floor),
        }))
    }

    /// The offset of the first record that entered at this time or later.
    pub(super) fn at_time(&self, stream: &Stream<D>, wall_ms: u64) -> Result<u64, StoreError> {
        self.at_time_again(stream, wall_ms, 0)
    }

    fn at_time_again(
        &self,
        stream: &Stream<D>,
        wall_ms: u64,
        tries: u32,
    ) -> Result<u64, StoreError> {
        if wall_ms == 0 {
            return Ok(0);
        }
        let in_block = |block: &Block| {
            let index = block
                .records
                .partition_point(|record| record.wall_ms < wall_ms);
            block
                .records
                .get(index)
                .map_or(block.next(), |record| record.offset)
        };
        let past = {
            let state = stream.state();
            let index = state
                .past
                .partition_point(|segment| segment.head.last_ms < wall_ms);
            state.past.get(index).cloned()
        };
        if let Some(segment) = past {
            let found = self.at_time_in(&segment, wall_ms, in_block);
            return match found {
                Ok(offset) => Ok(offset),
                Err(Unread::Gone) if tries < TRIES => {
                    self.at_time_again(stream, wall_ms, tries + 1)
                }
                // What comes of it is a little early.
                Err(Unread::Gone | Unread::Damaged(_)) => Ok(segment.first),
                Err(Unread::Failed(error)) => Err(error.into()),
            };
        }
        let current = stream.state().current.clone();
        if let Some(current) = current {
            let at = {
                let table = read(&current.table);
                let index = table.0.partition_point(|block| block.last_ms < wall_ms);
                table.0.get(index).copied()
            };
            if let Some(at) = at {
                let place = (current.uid, current.name.as_str(), current.salt.as_slice());
                return Ok(match self.files.block(place, &at) {
                    Ok(block) => in_block(&block),
                    Err(Unread::Failed(error)) => return Err(error.into()),
                    Err(_) => at.first,
                });
            }
        }
        let state = stream.state();
        if let Some(block) = state.full.iter().find(|block| block.last_ms() >= wall_ms) {
            return Ok(in_block(block));
        }
        let open = state.open.records();
        let index = open.partition_point(|record| record.wall_ms < wall_ms);
        let found = open.get(index).map(|record| record.offset);
        Ok(found.unwrap_or(state.next()).min(state.next()))
    }

    fn at_time_in(
        &self,
        segment: &Segment,
        wall_ms: u64,
        in_block: impl Fn(&Block) -> u64,
    ) -> Result<u64, Unread> {
        let table = self.files.table(segment)?;
        let index = table.0.partition_point(|block| block.last_ms < wall_ms);
        let Some(at) = table.0.get(index) else {
            return Ok(segment.head.next);
        };
        let place = (segment.uid, segment.name.as_str(), segment.salt.as_slice());
        match self.files.block(place, at) {
            Ok(block) => Ok(in_block(&block).min(segment.head.next)),
            Err(Unread::Damaged(_)) => Ok(at.first),
            Err(error) => Err(error),
        }
    }

    /// The offset of the last record but `count - 1` that matches.
    fn last(
        &self,
        stream: &Stream<D>,
        count: u64,
        filter: Filter<'_>,
        window: &Window,
    ) -> Result<u64, StoreError> {
        let mut end = stream.state().next();
        let mut need = count;
        let mut matching = Matching::default();
        while need > 0 {
            let place = stream.place_before(end);
            if let Place::Past(segment) = &place
                && matches!(filter, Filter::All)
                && !segment.has_expiring
                && !segment.is_trimmed
                && end >= segment.head.next
                && segment.first >= window.floor
                && segment.first_ms >= window.cutoff_ms
                && segment.records < need
            {
                need -= segment.records;
                end = segment.first;
                continue;
            }
            let before = self.block_before(stream, end, filter, window, &mut matching)?;
            let Some((block, first)) = before else {
                return Ok(window.floor);
            };
            for record in block.iter().flat_map(|block| {
                block
                    .before(end)
                    .iter()
                    .rev()
                    .map(move |record| (block, record))
            }) {
                if window.has(record.1) && self.is_meant(record.0, record.1, filter) {
                    need -= 1;
                    if need == 0 {
                        return Ok(record.1.offset);
                    }
                }
            }
            end = first;
        }
        Ok(end)
    }

    /// The last `count` records of each topic that matches, before an offset.
    fn each(
        &self,
        stream: &Stream<D>,
        (mut end, count): (u64, u64),
        filter: Filter<'_>,
        window: &Window,
    ) -> Result<Vec<u64>, StoreError> {
        let mut left = HashMap::<Box<str>, u64>::new();
        let mut picked = Vec::new();
        let mut matching = Matching::default();
        while count > 0 && picked.len() < PICKED_MAX {
            // Topics of which there are enough need not be looked for.
            let is_wanted = |topic: &str| filter.matches(topic) && left.get(topic) != Some(&0);
            let wanted = Filter::Topics(&is_wanted);
            let before = self.block_before(stream, end, wanted, window, &mut matching)?;
            let Some((block, first)) = before else {
                break;
            };
            for record in block.iter().flat_map(|block| {
                block
                    .before(end)
                    .iter()
                    .rev()
                    .map(move |record| (block, record))
            }) {
                let (block, record) = record;
                let Some(described) = (self.options.describe)(block.body(record)) else {
                    continue;
                };
                if !window.has(record) || !filter.matches(described.topic) {
                    continue;
                }
                let left = match left.get_mut(described.topic) {
                    Some(left) => left,
                    None => left.entry(described.topic.into()).or_insert(count),
                };
                if *left > 0 && picked.len() < PICKED_MAX {
                    *left -= 1;
                    picked.push(record.offset);
                }
            }
            end = first;
        }
        picked.reverse();
        Ok(picked)
    }

    /// The last block with something before an offset that may match, and the offset before which to go on. No block, if it
    /// cannot be read; nothing, if there is none.
    fn block_before(
        &self,
        stream: &Stream<D>,
        mut end: u64,
        filter: Filter<'_>,
        window: &Window,
        matching: &mut Matching,
    ) -> Result<Option<Before>, StoreError> {
        let mut tries = 0;
        loop {
            if end <= window.floor {
                return Ok(None);
            }
            let (place, at) = match stream.place_before(end) {
                Place::None | Place::Lost(_) => return Ok(None),
                Place::Memory(block) => {
                    let first = block.first();
                    return Ok(Some((Some(block), first)));
                }
                Place::Current(current, at) => {
                    if matching.uid != current.uid {
                        matching.blocks = matching_in(&current, filter);
                        matching.uid = current.uid;
                    }
                    let table = read(&current.table);
                    let at = match last_before(&table, matching.blocks.as_ref(), end) {
                        Some(at) => at,
                        None => match table.0.first() {
                            Some(first) => {
                                end = first.first;
                                continue;
                            }
                            None => at,
                        },
                    };
                    ((current.uid, current.name.clone(), current.salt), at)
                }
                Place::Past(segment) => {
                    if segment.head.last_ms < window.cutoff_ms {
                        return Ok(None);
                    }
                    let before = end.min(segment.head.next);
                    let at = self
                        .match_blocks(matching, &segment, filter)
                        .and_then(|()| {
                            let table = self.files.table(&segment)?;
                            Ok(last_before(&table, matching.blocks.as_ref(), before))
                        });
                    match at {
                        Ok(Some(at)) => ((segment.uid, segment.name.clone(), segment.salt), at),
                        Err(Unread::Gone) if tries < TRIES => {
                            tries += 1;
                            continue;
                        }
                        Ok(None) | Err(Unread::Gone | Unread::Damaged(_)) => {
                            end = segment.first;
                            continue;
                        }
                        Err(Unread::Failed(error)) => return Err(error.into()),
                    }
                }
            };
            return match self.files.block((place.0, &place.1, &place.2), &at) {
                Ok(block) => Ok(Some((Some(block), at.first))),
                Err(Unread::Failed(error)) => Err(error.into()),
                Err(Unread::Gone) if tries < TRIES => {
                    tries += 1;
                    continue;
                }
                Err(Unread::Gone | Unread::Damaged(_)) => Ok(Some((None, at.first))),
            };
        }
    }

    fn match_blocks(
        &self,
        matching: &mut Matching,
        segment: &Segment,
        filter: Filter<'_>,
    ) -> Result<(), Unread> {
        if matching.uid == segment.uid {
            return Ok(());
        }
        matching.blocks = None;
        if !matches!(filter, Filter::All)
            && let Some(topics) = self.files.topics(segment)?
        {
            let mut blocks = BTreeSet::new();
            topics.matching(filter, |_, postings| {
                blocks.extend(postings.iter().map(|(block, _)| block));
            });
            matching.blocks = Some(blocks);
        }
        matching.uid = segment.uid;
        Ok(())
    }
}

fn matching_in(current: &Current, filter: Filter<'_>) -> Option<BTreeSet<u32>> {
    let topics = read(&current.topics);
    if matches!(filter, Filter::All) || !topics.is_complete() {
        return None;
    }
    let mut blocks = BTreeSet::new();
    topics.matching(filter, |_, postings| {
        blocks.extend(postings.iter().map(|(block, _)| block));
    });
    Some(blocks)
}

/// The last block with a record before this offset, among those that match.
fn last_before(table: &Table, matching: Option<&BTreeSet<u32>>, end: u64) -> Option<BlockAt> {
    let index = table.0.partition_point(|block| block.first < end);
    let index = match matching {
        None => index.checked_sub(1)?,
        Some(matching) => {
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            *matching.range(..index).next_back()? as usize
        }
    };
    table.0.get(index).copied()
}
