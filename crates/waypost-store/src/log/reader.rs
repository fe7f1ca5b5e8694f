//! Reading blocks back while the log is written.

use std::{io, sync::Arc};

use super::{
    BlockPosition, KeptWriter, LogBlock, LogDamage, LogError, SegmentInfo,
    block::BLOCK_HEADER,
    scan::{Scan, Step},
    segment::HEADER,
    segments::Segments,
};
use crate::{backup::Original, disk::Disk};

/// How often segments are opened for a backup while some of them are retired: seldom, so that twice is luck.
const ORIGINALS_TRIES: usize = 100;

/// Reads blocks, lists segments and takes away those that nobody needs; for as many threads as want to.
#[derive(Clone, Debug)]
pub struct LogReader<D: Disk> {
    pub(super) segments: Arc<Segments<D>>,
}

impl<D: Disk> LogReader<D> {
    /// The transactions of one block.
    pub fn read_block(&self, position: BlockPosition) -> Result<Arc<[u8]>, LogError> {
        // A second look, should a bit have been wrong on its way from the disk only.
        self.look_at(position).or_else(|_| self.look_at(position))
    }

    fn look_at(&self, position: BlockPosition) -> Result<Arc<[u8]>, LogError> {
        let segment = self.segments.find(position.segment)?;
        let damaged = |what| LogDamage {
            file: segment.name.clone(),
            offset: position.offset.into(),
            bytes: BLOCK_HEADER as u64,
            what,
        };
        let io = |error| LogError::io("reading", &segment.name, error);
        let offset = u64::from(position.offset);
        let mut bytes = [0; BLOCK_HEADER];
        let room = segment.end().saturating_sub(offset);
        if room < bytes.len() as u64 {
            return Err(damaged("no block begins beyond the end").into());
        }
        self.segments
            .read(&segment, offset, &mut bytes)
            .map_err(io)?;
        let header = segment.cipher.header(&bytes);
        let header = header.ok_or_else(|| damaged("a block's header is damaged"))?;
        if header.len() > room {
            return Err(damaged("a block is cut off").into());
        }
        let mut stored = vec![0; header.stored as usize];
        self.segments
            .read(&segment, offset + BLOCK_HEADER as u64, &mut stored)
            .map_err(io)?;
        let opened = segment
            .cipher
            .open(&header, &mut stored, &self.segments.packers);
        let records = opened.map_err(|what| LogDamage {
            bytes: header.len(),
            ..damaged(what)
        })?;
        Ok(records.into())
    }

    /// All blocks of a segment, and where it is damaged.
    pub fn blocks(&self, segment: u32) -> Result<Blocks<D>, LogError> {
        let segment = self.segments.find(segment)?;
        Ok(Blocks(Scan::bounded(
            &self.segments,
            &segment,
            HEADER as u64,
        )))
    }

    /// All segments, by number.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.segments.infos()
    }

    /// All segments of this moment, open, and how much of each counts: what a backup copies. Whatever is removed later can
    /// still be read.
    pub fn originals(&self) -> Result<Vec<Original<D::File>>, LogError> {
        let mut tries = 1;
        loop {
            match self.open_all() {
                // One was retired meanwhile, into another that will be on the list.
                Err(LogError::Io { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < ORIGINALS_TRIES =>
                {
                    tries += 1;
                }
                done => return done,
            }
        }
    }

    fn open_all(&self) -> Result<Vec<Original<D::File>>, LogError> {
        let all = self.segments.all();
        all.iter()
            .map(|segment| {
                let length = segment.info().bytes;
                let opened = self.segments.file(segment);
                Ok(Original {
                    name: segment.name.clone(),
                    file: opened.map_err(|error| LogError::io("opening", &segment.name, error))?,
                    length,
                })
            })
            .collect()
    }

    /// Takes a segment away for good. The caller sees to it that nobody needs it, and never names the one that is
    /// written.
    pub fn remove(&self, segment: u32) -> Result<(), LogError> {
        self.segments.remove(segment)
    }

    /// Begins a kept segment.
    pub fn keep(&self, now_wall_ms: u64) -> Result<KeptWriter<D>, LogError> {
        KeptWriter::begin(&self.segments, now_wall_ms)
    }

    /// How many bytes of segments were read since the start.
    pub fn bytes_read(&self) -> u64 {
        self.segments.bytes_read()
    }
}

/// The iterator of [`LogReader::blocks`].
#[derive(Debug)]
pub struct Blocks<D: Disk>(Scan<D>);

impl<D: Disk> Iterator for Blocks<D> {
    type Item = Result<LogBlock, LogDamage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0.next() {
            Ok(Step::Block(block)) => Some(Ok(block)),
            Ok(Step::Damage(damage)) => Some(Err(damage)),
            // Only the tail of a log that is being recovered ends in an error.
            Ok(Step::End) | Err(_) => None,
        }
    }
}
