//! Blocks of records, decoded: what readers share.

use std::{ops::Range, sync::Arc};

use super::segment::LogPosition;
use crate::{
    log::segment::Fields,
    views::number::{Numbers, Unreadable, put},
};

/// Bytes before the records: the first offset, how many, the first time, where in the log the last one is.
pub(super) const PREAMBLE: usize = 32;

/// What a record of a block is called in an error.
const RECORD: &str = "record of a stream";

/// Where a record is in its block, and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordAt {
    pub offset: u64,
    pub wall_ms: u64,
    pub expires_wall_ms: u64,
    begin: u32,
    end: u32,
}

impl RecordAt {
    pub fn range(&self) -> Range<u32> {
        self.begin..self.end
    }
}

/// A block: at least one record, in the order of their offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub bytes: Arc<[u8]>,
    pub records: Box<[RecordAt]>,
    /// Where in the log its last record is.
    pub position: LogPosition,
}

impl Block {
    /// Reads a block.
    pub(super) fn decode(plain: Vec<u8>) -> Result<Self, Unreadable> {
        let mut fields = Fields { bytes: &plain };
        let first = fields.u64();
        let count = fields.u32() as usize;
        let first_ms = fields.u64();
        let position = LogPosition {
            segment: fields.u32(),
            block: fields.u32(),
            ordinal: fields.u32(),
        };
        let mut numbers = Numbers::new(plain.get(PREAMBLE..).unwrap_or_default(), RECORD);
        // Each takes three bytes at least.
        let mut records = Vec::with_capacity(count.min(plain.len() / 3));
        let (mut next, mut wall_ms) = (first, first_ms);
        while records.len() < count {
            let step = numbers.next()?;
            let offset = next.checked_add(step >> 1).ok_or(Unreadable(RECORD))?;
            next = offset.checked_add(1).ok_or(Unreadable(RECORD))?;
            wall_ms = wall_ms.saturating_add(numbers.next()?);
            let expires_wall_ms = match step & 1 {
                1 => wall_ms.saturating_add(numbers.next()?),
                _ => u64::MAX,
            };
            let body = numbers.bytes()?;
            let end = plain.len() - numbers.rest().len();
            let at = |at: usize| u32::try_from(at).map_err(|_| Unreadable(RECORD));
            records.push(RecordAt {
                offset,
                wall_ms,
                expires_wall_ms,
                begin: at(end - body.len())?,
                end: at(end)?,
            });
        }
        if records.is_empty() || !numbers.is_empty() {
            return Err(Unreadable("block of a stream"));
        }
        Ok(Self {
            bytes: plain.into(),
            records: records.into(),
            position,
        })
    }

    pub fn first(&self) -> u64 {
        self.records.first().map_or(0, |record| record.offset)
    }

    /// The offset behind its last record.
    pub fn next(&self) -> u64 {
        self.records.last().map_or(0, |record| record.offset + 1)
    }

    pub fn first_ms(&self) -> u64 {
        self.records.first().map_or(0, |record| record.wall_ms)
    }

    pub fn last_ms(&self) -> u64 {
        self.records.last().map_or(0, |record| record.wall_ms)
    }

    pub fn body(&self, record: &RecordAt) -> &[u8] {
        let range = record.begin as usize..record.end as usize;
        self.bytes.get(range).unwrap_or_default()
    }

    /// The records from an offset on.
    pub fn from(&self, offset: u64) -> &[RecordAt] {
        let begin = self
            .records
            .partition_point(|record| record.offset < offset);
        self.records.get(begin..).unwrap_or_default()
    }

    /// The records before an offset.
    pub fn before(&self, offset: u64) -> &[RecordAt] {
        let end = self
            .records
            .partition_point(|record| record.offset < offset);
        self.records.get(..end).unwrap_or_default()
    }

    pub fn has_expiring(&self) -> bool {
        let mut records = self.records.iter();
        records.any(|record| record.expires_wall_ms != u64::MAX)
    }

    /// The memory it takes, about.
    pub fn weight(&self) -> u64 {
        (self.bytes.len() + size_of_val(&*self.records)) as u64
    }
}

/// A block being filled.
#[derive(Debug, Default)]
pub(super) struct OpenBlock {
    bytes: Vec<u8>,
    records: Vec<RecordAt>,
    position: LogPosition,
    /// What readers got of it, as long as it is all there is.
    shared: Option<Arc<Block>>,
}

impl OpenBlock {
    /// Appends a record whose offset is higher and whose time is not lower than the last one's.
    pub fn push(
        &mut self,
        (offset, wall_ms, expires_wall_ms): (u64, u64, u64),
        position: LogPosition,
        body: &[u8],
    ) {
        self.shared = None;
        if self.bytes.is_empty() {
            self.bytes.resize(PREAMBLE, 0);
        }
        let last = self.records.last();
        let gap = last.map_or(0, |last| offset.saturating_sub(last.offset + 1));
        let has_expiry = expires_wall_ms != u64::MAX;
        put(&mut self.bytes, gap << 1 | u64::from(has_expiry));
        put(
            &mut self.bytes,
            last.map_or(0, |last| wall_ms.saturating_sub(last.wall_ms)),
        );
        if has_expiry {
            let rest = expires_wall_ms.saturating_sub(wall_ms);
            put(&mut self.bytes, rest);
        }
        put(&mut self.bytes, body.len() as u64);
        let begin = self.bytes.len();
        self.bytes.extend_from_slice(body);
        // A transaction is shorter than what a number of four bytes can say.
        let at = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.records.push(RecordAt {
            offset,
            wall_ms,
            // As it will be read back.
            expires_wall_ms: expires_wall_ms.max(wall_ms),
            begin: at(begin),
            end: at(self.bytes.len()),
        });
        self.position = position;
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn records(&self) -> &[RecordAt] {
        &self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// What is in it, without another copy if nothing came since the last call.
    pub fn shared(&mut self) -> Option<Arc<Block>> {
        if self.shared.is_none() && !self.is_empty() {
            self.finish();
            self.shared = Some(Arc::new(Block {
                bytes: self.bytes.as_slice().into(),
                records: self.records.as_slice().into(),
                position: self.position,
            }));
        }
        self.shared.clone()
    }

    /// What readers got of it last, if that is all.
    pub fn shared_already(&self) -> Option<Arc<Block>> {
        self.shared.clone()
    }

    /// Takes what is in it; it is empty then.
    pub fn take(&mut self) -> Option<Arc<Block>> {
        let block = self.shared();
        self.clear();
        block
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.shared = None;
    }

    /// Writes what stands before the records.
    fn finish(&mut self) {
        let Some(first) = self.records.first() else {
            return;
        };
        let count = u32::try_from(self.records.len()).unwrap_or(u32::MAX);
        crate::log::segment::fill(
            &mut self.bytes,
            &[
                &first.offset.to_le_bytes(),
                &count.to_le_bytes(),
                &first.wall_ms.to_le_bytes(),
                &self.position.segment.to_le_bytes(),
                &self.position.block.to_le_bytes(),
                &self.position.ordinal.to_le_bytes(),
            ],
        );
    }
}
