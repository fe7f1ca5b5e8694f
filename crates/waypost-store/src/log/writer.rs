//! The one who appends to the log, and those who write kept segments.

use std::sync::Arc;

use super::{
    BlockPosition, LogError, LogReader, SegmentKind, appending::SegmentWriter, segments::Segments,
};
use crate::disk::Disk;

/// Where the transactions of an append went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The blocks, in order.
    pub blocks: Vec<AppendedBlock>,
    /// Where the last one ends.
    pub end: BlockPosition,
    /// How many bytes were written.
    pub bytes: u64,
}

/// A block of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBlock {
    /// Where it is.
    pub position: BlockPosition,
    /// Its last transaction is of this batch,
    pub batch: usize,
    /// and ends there.
    pub end: usize,
}

impl Appended {
    /// The records of each block, in order, in as many pieces as batches they are from. `batches` are those appended.
    pub fn pieces<'a, B: AsRef<[u8]>>(
        &'a self,
        batches: &'a [B],
    ) -> impl Iterator<Item = (BlockPosition, &'a [u8])> {
        let mut from = (0, 0);
        self.blocks.iter().flat_map(move |block| {
            let (first, begin) = std::mem::replace(&mut from, (block.batch, block.end));
            let batches = (first..).zip(batches.iter().skip(first).take(block.batch - first + 1));
            batches.filter_map(move |(at, records)| {
                let records = records.as_ref();
                let begin = if at == first { begin } else { 0 };
                let end = if at == block.batch {
                    block.end
                } else {
                    records.len()
                };
                let piece = records.get(begin..end)?;
                (!piece.is_empty()).then_some((block.position, piece))
            })
        })
    }
}

/// Appends to the log. There is one.
#[derive(Debug)]
pub struct LogWriter<D: Disk> {
    segments: Arc<Segments<D>>,
    current: Option<SegmentWriter<D>>,
    /// Whether a write failed in the current segment: it is ended as soon as all that was appended is synced.
    is_failing: bool,
    /// The segment before the next one, and how far it is to be read.
    predecessor: Option<(u32, u64)>,
}

impl<D: Disk> LogWriter<D> {
    /// Goes on after `predecessor`, in a new segment that the first append makes.
    pub(super) fn after(segments: Arc<Segments<D>>, predecessor: Option<(u32, u64)>) -> Self {
        Self {
            segments,
            current: None,
            is_failing: false,
            predecessor,
        }
    }

    /// Who reads what this writes.
    pub fn reader(&self) -> LogReader<D> {
        LogReader {
            segments: Arc::clone(&self.segments),
        }
    }

    /// Writes the transactions of some batches, as [`crate::Batch::take`] gives them. They are there after a crash when
    /// [`Self::sync`] has returned, perhaps before. After an error none of them counts; earlier ones do.
    pub fn append<B: AsRef<[u8]>>(
        &mut self,
        batches: &[B],
        now_wall_ms: u64,
    ) -> Result<Appended, LogError> {
        if self.is_failing {
            self.sync()?;
        }
        let is_synced = |current: &SegmentWriter<D>| current.durable == current.len;
        let full = self.segments.options.segment_bytes;
        let is_over = |current: &SegmentWriter<D>| self.is_failing || current.len >= full;
        if (self.current.as_ref()).is_some_and(|current| is_synced(current) && is_over(current)) {
            self.end_segment();
        }
        let current = match self.current.take() {
            Some(current) => current,
            None => self.begin_segment(now_wall_ms)?,
        };
        let current = self.current.insert(current);
        let appended = current.append(batches, now_wall_ms);
        if let Err(LogError::Io { .. }) = &appended {
            self.is_failing = true;
        }
        appended
    }

    /// Makes everything appended outlive a crash. After an error nothing of what was appended since the last sync counts:
    /// it may be appended anew, which goes to another segment, or be refused.
    pub fn sync(&mut self) -> Result<(), LogError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        current.sync().inspect_err(|_| self.condemn())
    }

    /// Ends the segment, so that the next append begins another. Everything must be synced; else nothing happens.
    pub fn roll(&mut self) {
        let current = self.current.as_ref();
        if current.is_some_and(|current| current.durable == current.len && !current.is_bare()) {
            self.end_segment();
        }
    }

    /// Up to where the log is written.
    pub fn end(&self) -> Option<BlockPosition> {
        let current = self
            .current
            .as_ref()
            .map(|it| (it.segment.number(), it.len));
        let (segment, len) = current.or(self.predecessor)?;
        let offset = u32::try_from(len).unwrap_or(u32::MAX);
        Some(BlockPosition { segment, offset })
    }

    /// The segment that is written, if one is: it must not be taken away.
    pub fn current(&self) -> Option<u32> {
        self.current
            .as_ref()
            .map(|current| current.segment.number())
    }

    fn begin_segment(&self, now_wall_ms: u64) -> Result<SegmentWriter<D>, LogError> {
        let predecessor = self.predecessor.map(|(number, _)| number);
        let unsealed: Vec<_> = self
            .segments
            .all()
            .iter()
            .filter(|segment| segment.header.kind == SegmentKind::Log)
            .filter(|segment| segment.sealed().is_none() && Some(segment.number()) != predecessor)
            .map(|segment| (segment.number(), segment.end()))
            .collect();
        let kind = SegmentKind::Log;
        let begun = SegmentWriter::create(
            &self.segments,
            kind,
            self.predecessor,
            &unsealed,
            now_wall_ms,
            false,
        )?;
        self.cut_predecessor();
        Ok(begun)
    }

    /// Frees what lies behind the end of a segment that was cut. Nothing depends on it.
    fn cut_predecessor(&self) {
        let Some((number, len)) = self.predecessor else {
            return;
        };
        if let Ok(segment) = self.segments.find(number)
            && segment.sealed().is_none()
            && let Ok(file) = self.segments.file(&segment)
        {
            let _ = crate::DiskFile::set_len(&*file, len);
        }
    }

    /// Seals the segment, all of which is synced. If that fails it stays unsealed, and the next segment says how far it is
    /// to be read.
    fn end_segment(&mut self) {
        self.is_failing = false;
        let Some(mut current) = self.current.take() else {
            return;
        };
        if current.seal().is_err() {
            current.cut();
        }
        self.predecessor = Some((current.segment.number(), current.durable));
    }

    /// Lets go of a segment after a failed sync: nothing behind the last good one is trusted or synced again.
    fn condemn(&mut self) {
        self.is_failing = false;
        let Some(current) = self.current.take() else {
            return;
        };
        current.cut();
        if current.is_bare() {
            // Nothing was ever promised of it.
            let _ = self.segments.remove(current.segment.number());
        } else {
            self.predecessor = Some((current.segment.number(), current.durable));
        }
    }
}

impl<D: Disk> Drop for LogWriter<D> {
    fn drop(&mut self) {
        // A segment in good order spares the next start a search for its end.
        self.roll();
    }
}

/// Writes a kept segment: what is still needed of segments that are to be taken away. It is there when
/// [`KeptWriter::finish`] has returned; dropped before, it leaves nothing.
#[derive(Debug)]
pub struct KeptWriter<D: Disk> {
    segments: Arc<Segments<D>>,
    writer: Option<SegmentWriter<D>>,
    number: u32,
}

impl<D: Disk> KeptWriter<D> {
    pub(super) fn begin(segments: &Arc<Segments<D>>, now_wall_ms: u64) -> Result<Self, LogError> {
        let kind = SegmentKind::Kept;
        let writer = SegmentWriter::create(segments, kind, None, &[], now_wall_ms, true)?;
        Ok(Self {
            segments: Arc::clone(segments),
            number: writer.segment.number(),
            writer: Some(writer),
        })
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// How long it is so far.
    pub fn len(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.len)
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.writer.as_ref().is_none_or(SegmentWriter::is_empty)
    }

    /// Writes transactions. After an error it can only be dropped.
    pub fn append<B: AsRef<[u8]>>(
        &mut self,
        batches: &[B],
        now_wall_ms: u64,
    ) -> Result<Appended, LogError> {
        let number = self.number;
        let writer = self.writer.as_mut();
        let writer = writer.ok_or(LogError::NoSegment { number })?;
        let appended = writer.append(batches, now_wall_ms);
        if appended.is_err() {
            self.discard();
        }
        appended
    }

    /// Seals it and gives it its name. Only now may anything refer to it.
    pub fn finish(mut self) -> Result<u32, LogError> {
        let number = self.number;
        let writer = self.writer.as_mut();
        let writer = writer.ok_or(LogError::NoSegment { number })?;
        writer.seal()?;
        writer.finish()?;
        self.writer = None;
        Ok(number)
    }

    fn discard(&mut self) {
        if let Some(writer) = self.writer.take() {
            let _ = self.segments.disk.remove(&writer.unfinished_name());
        }
    }
}

impl<D: Disk> Drop for KeptWriter<D> {
    fn drop(&mut self) {
        self.discard();
    }
}
