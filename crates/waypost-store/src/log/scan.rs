//! Reading a segment from one block to the next, past what is damaged.

use std::{io, sync::Arc};

use super::{
    BlockPosition, LogDamage, LogError,
    block::{BLOCK_HEADER, BlockHeader, HOLE, RECORDS},
    segments::{Segment, Segments},
};
use crate::disk::Disk;

/// How much is looked at in one go for the next block after damage.
const WINDOW: usize = 1 << 20;

/// A block, as it was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBlock {
    /// Where it is.
    pub position: BlockPosition,
    /// Where it ends: whoever has seen it goes on here.
    pub end: BlockPosition,
    /// When it was written.
    pub wall_ms: u64,
    /// Its transactions.
    pub records: Vec<u8>,
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step {
    Block(LogBlock),
    Damage(LogDamage),
    End,
}

/// A walk through a segment.
#[derive(Debug)]
pub(super) struct Scan<D: Disk> {
    segments: Arc<Segments<D>>,
    pub segment: Arc<Segment<D::File>>,
    pub at: u64,
    end: u64,
    /// Whether nobody wrote down where the blocks end: what is incomplete then is the end, unless a later block says that
    /// it was synced.
    is_tail: bool,
    /// How far the segment is known to have been synced.
    pub durable: u64,
    last_number: Option<u32>,
}

/// Why there is no block where one should be.
enum NoBlock {
    /// What is there is none. If at least its header is right, the next one is expected behind it.
    Wrong(&'static str, Option<BlockHeader>),
    Unreadable(io::Error),
}

struct Found {
    /// Where the next block is.
    first: Option<u64>,
    /// How far later blocks say that the segment was synced.
    durable: u64,
}

impl<D: Disk> Scan<D> {
    /// A walk from `from` to where the segment is known to end.
    pub fn bounded(
        segments: &Arc<Segments<D>>,
        segment: &Arc<Segment<D::File>>,
        from: u64,
    ) -> Self {
        Self {
            segments: Arc::clone(segments),
            segment: Arc::clone(segment),
            at: from,
            end: segment.end(),
            is_tail: false,
            durable: from,
            last_number: None,
        }
    }

    /// A walk from `from` to wherever the blocks of a file of `len` bytes end.
    pub fn tail(
        segments: &Arc<Segments<D>>,
        segment: &Arc<Segment<D::File>>,
        from: u64,
        len: u64,
    ) -> Self {
        Self {
            end: len,
            is_tail: true,
            ..Self::bounded(segments, segment, from)
        }
    }

    pub fn next(&mut self) -> Result<Step, LogError> {
        while self.at < self.end {
            // A second look: a bit may have been wrong on its way from the disk only, and what is not a block is lost.
            let (header, records) = match self.block().or_else(|_| self.block()) {
                Ok(block) => block,
                Err(nothing) => return self.beyond(nothing),
            };
            let position = self.position();
            self.at += header.len();
            if header.kind == HOLE {
                continue;
            }
            self.durable = self.durable.max(header.durable.into());
            self.last_number = Some(header.number);
            if header.kind == RECORDS {
                return Ok(Step::Block(LogBlock {
                    position,
                    end: self.position(),
                    wall_ms: header.wall_ms,
                    records,
                }));
            }
        }
        Ok(Step::End)
    }

    /// Where it is now.
    pub fn position(&self) -> BlockPosition {
        BlockPosition {
            segment: self.segment.number(),
            offset: u32::try_from(self.at).unwrap_or(u32::MAX),
        }
    }

    fn block(&self) -> Result<(BlockHeader, Vec<u8>), NoBlock> {
        let room = self.end - self.at;
        if room < BLOCK_HEADER as u64 {
            return Err(NoBlock::Wrong("a block's header is cut off", None));
        }
        let mut bytes = [0; BLOCK_HEADER];
        self.read(self.at, &mut bytes)?;
        let header = self.segment.cipher.header(&bytes);
        let header = header.ok_or(NoBlock::Wrong("a block's header is damaged", None))?;
        if header.len() > room {
            return Err(NoBlock::Wrong("a block is cut off", None));
        }
        if header.kind == HOLE {
            return Ok((header, Vec::new()));
        }
        if self.last_number.is_some_and(|last| header.number <= last) {
            return Err(NoBlock::Wrong("a block is older than the one before", None));
        }
        let mut stored = vec![0; header.stored as usize];
        self.read(self.at + BLOCK_HEADER as u64, &mut stored)?;
        let records = self
            .segment
            .cipher
            .open(&header, &mut stored, &self.segments.packers)
            .map_err(|what| NoBlock::Wrong(what, Some(header)))?;
        Ok((header, records))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), NoBlock> {
        let read = self.segments.read(&self.segment, offset, buffer);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NoBlock::Wrong("the file ends within a block", None),
            _ => NoBlock::Unreadable(error),
        })
    }

    /// Tells damage from the end, and goes on after damage.
    fn beyond(&mut self, nothing: NoBlock) -> Result<Step, LogError> {
        let (what, len) = match &nothing {
            NoBlock::Wrong(what, header) => (*what, header.map_or(1, |header| header.len())),
            NoBlock::Unreadable(_) => ("the disk cannot read it", 1),
        };
        let found = self.search(self.at + len);
        let to = if self.is_tail {
            if found.durable <= self.at {
                return match nothing {
                    // Nobody can say whether this was ever synced.
                    NoBlock::Unreadable(error) => {
                        Err(LogError::io("reading", &self.segment.name, error))
                    }
                    NoBlock::Wrong(..) => {
                        self.end = self.at;
                        Ok(Step::End)
                    }
                };
            }
            let first = found.first.filter(|first| *first <= found.durable);
            // What follows a gap in what was not synced is not in order any more.
            if first.is_none() {
                self.end = found.durable;
            }
            first.unwrap_or(found.durable)
        } else {
            found.first.unwrap_or(self.end)
        };
        let damage = LogDamage {
            file: self.segment.name.clone(),
            offset: self.at,
            bytes: to - self.at,
            what,
        };
        self.at = to;
        Ok(Step::Damage(damage))
    }

    /// Looks for the next block from `from` on; in a tail also for what later ones say.
    fn search(&self, from: u64) -> Found {
        let mut found = Found {
            first: None,
            durable: 0,
        };
        let mut at = from;
        let mut window = Vec::new();
        while at + BLOCK_HEADER as u64 <= self.end {
            let len = usize::try_from(self.end - at).map_or(WINDOW, |rest| rest.min(WINDOW));
            window.resize(len, 0);
            if self.segments.read(&self.segment, at, &mut window).is_err() {
                // A part of it may still be readable, but not by reading it all.
                at += len as u64;
                continue;
            }
            let mut next = at + (len + 1 - BLOCK_HEADER) as u64;
            for (offset, bytes) in (at..).zip(window.windows(BLOCK_HEADER)) {
                let Some(header) = self.segment.cipher.header(bytes) else {
                    continue;
                };
                if offset + header.len() > self.end {
                    continue;
                }
                found.first.get_or_insert(offset);
                found.durable = found.durable.max(header.durable.into()).min(self.end);
                next = offset + header.len();
                break;
            }
            if found.first.is_some() && !self.is_tail {
                break;
            }
            at = next;
        }
        found
    }
}
