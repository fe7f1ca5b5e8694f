//! Going through a segment from block to block, past what is damaged.

use std::io;

use super::{
    block::Block,
    files::{Files, Opened},
    segment::{BEGIN, RECORDS},
    table::BlockAt,
};
use crate::{
    disk::{Disk, DiskFile},
    log::{
        LogDamage, LogError,
        block::{BLOCK_HEADER, BlockHeader, HOLE},
    },
};

/// How much is looked at in one go for the next block after damage.
const WINDOW: usize = 1 << 20;

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step {
    Block(BlockAt, Block),
    Damage(LogDamage),
    End,
}

/// A walk through the blocks of records of a segment.
pub(super) struct Walk<'a, D: Disk> {
    files: &'a Files<D>,
    name: &'a str,
    opened: &'a Opened<D::File>,
    pub at: u64,
    end: u64,
    /// Nobody wrote down where the blocks end: what is incomplete then is the end, unless a later block says that it was
    /// synced.
    is_tail: bool,
}

enum NoBlock {
    /// None. If at least its header is right, the next one is expected behind it.
    Wrong(&'static str, Option<BlockHeader>),
    /// The records are over.
    Other,
    Unreadable(io::Error),
}

impl<'a, D: Disk> Walk<'a, D> {
    /// To where the blocks are known to end.
    pub fn bounded(
        files: &'a Files<D>,
        name: &'a str,
        opened: &'a Opened<D::File>,
        at: u64,
        end: u64,
    ) -> Self {
        Self {
            files,
            name,
            opened,
            at,
            end,
            is_tail: false,
        }
    }

    /// To wherever the blocks of a file of `len` bytes end.
    pub fn tail(
        files: &'a Files<D>,
        name: &'a str,
        opened: &'a Opened<D::File>,
        at: u64,
        len: u64,
    ) -> Self {
        Self {
            is_tail: true,
            ..Self::bounded(files, name, opened, at, len)
        }
    }

    pub fn next(&mut self) -> Result<Step, LogError> {
        while self.at < self.end {
            match self.block().or_else(|_| self.block()) {
                Ok((header, None)) => self.at += header.len(),
                Ok((header, Some(block))) => {
                    let at = u32::try_from(self.at).unwrap_or(u32::MAX);
                    let len = u32::try_from(header.len()).unwrap_or(u32::MAX);
                    self.at += header.len();
                    return Ok(Step::Block(BlockAt::of(&block, at, len), block));
                }
                Err(NoBlock::Other) => self.end = self.at,
                Err(NoBlock::Unreadable(error)) if self.is_tail => {
                    return Err(LogError::io("reading", self.name, error));
                }
                Err(NoBlock::Unreadable(_)) => {
                    return Ok(self.beyond("the disk cannot read it", 1));
                }
                Err(NoBlock::Wrong(what, header)) => {
                    let len = header.map_or(1, |header| header.len());
                    return Ok(self.beyond(what, len));
                }
            }
        }
        Ok(Step::End)
    }

    fn block(&self) -> Result<(BlockHeader, Option<Block>), NoBlock> {
        let room = self.end - self.at;
        if room < BLOCK_HEADER as u64 {
            return Err(NoBlock::Wrong("a block's header is cut off", None));
        }
        let mut bytes = [0; BLOCK_HEADER];
        self.read(self.at, &mut bytes)?;
        let header = self.opened.cipher.header(&bytes);
        let header = header.ok_or(NoBlock::Wrong("a block's header is damaged", None))?;
        if header.len() > room {
            return Err(NoBlock::Wrong("a block is cut off", None));
        }
        match header.kind {
            HOLE => return Ok((header, None)),
            RECORDS => {}
            // A walk begins behind it, unless it cannot be read.
            BEGIN => return Err(NoBlock::Wrong("a segment's begin is damaged", Some(header))),
            _ => return Err(NoBlock::Other),
        }
        let mut stored = vec![0; header.stored as usize];
        self.read(self.at + BLOCK_HEADER as u64, &mut stored)?;
        let cipher = &self.opened.cipher;
        let plain = cipher
            .open(&header, &mut stored, &self.files.packers)
            .map_err(|what| NoBlock::Wrong(what, Some(header)))?;
        let block = Block::decode(plain);
        let block = block.map_err(|error| NoBlock::Wrong(error.0, Some(header)))?;
        Ok((header, Some(block)))
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), NoBlock> {
        let read = self.opened.file.read_at(offset, buffer);
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => NoBlock::Wrong("the file ends within a block", None),
            _ => NoBlock::Unreadable(error),
        })
    }

    /// Tells damage from the end, and goes on after damage.
    fn beyond(&mut self, what: &'static str, len: u64) -> Step {
        let (first, durable) = self.search(self.at + len);
        let to = if self.is_tail {
            if durable <= self.at {
                self.end = self.at;
                return Step::End;
            }
            let first = first.filter(|first| *first <= durable);
            if first.is_none() {
                self.end = durable;
            }
            first.unwrap_or(durable)
        } else {
            first.unwrap_or(self.end)
        };
        let damage = LogDamage {
            file: self.name.to_owned(),
            offset: self.at,
            bytes: to - self.at,
            what,
        };
        self.at = to;
        Step::Damage(damage)
    }

    /// Looks for the next block from `from` on, and how far later ones say that the file was synced.
    fn search(&self, from: u64) -> (Option<u64>, u64) {
        let (mut first, mut durable) = (None, 0);
        let mut at = from;
        let mut window = Vec::new();
        while at + BLOCK_HEADER as u64 <= self.end {
            let len = usize::try_from(self.end - at).map_or(WINDOW, |rest| rest.min(WINDOW));
            window.resize(len, 0);
            if self.opened.file.read_at(at, &mut window).is_err() {
                at += len as u64;
                continue;
            }
            let mut next = at + (len + 1 - BLOCK_HEADER) as u64;
            for (offset, bytes) in (at..).zip(window.windows(BLOCK_HEADER)) {
                let Some(header) = self.opened.cipher.header(bytes) else {
                    continue;
                };
                if offset + header.len() > self.end {
                    continue;
                }
                first.get_or_insert(offset);
                durable = durable.max(header.durable.into()).min(self.end);
                next = offset + header.len();
                break;
            }
            if first.is_some() && !self.is_tail {
                break;
            }
            at = next;
        }
        (first, durable)
    }
}
