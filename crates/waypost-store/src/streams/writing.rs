//! Writing one segment, from its header to its end.

use std::sync::Arc;

use getrandom::fill;
use waypost_encrypt::{AtRest, SALT_BYTES};

use super::{
    block::Block,
    files::{Files, Segment},
    segment::{BEGIN, Begin, End, Head, Header, RECORDS, TABLE, TOPICS},
    table::{BlockAt, Table},
};
use crate::{
    disk::{Disk, DiskFile},
    log::{
        LogError,
        block::{BlockHeader, Cipher, encryption},
    },
    record::StreamId,
};

/// A segment being written.
#[derive(Debug)]
pub(super) struct SegmentWriter<D: Disk> {
    pub file: Arc<D::File>,
    cipher: Cipher,
    pub uid: u64,
    pub name: String,
    pub header: Header,
    pub begin: Begin,
    /// Where its blocks of records begin.
    begin_at: u64,
    /// Where the next block goes.
    pub len: u64,
    /// How much of it outlives a crash.
    pub durable: u64,
    next_block: u32,
    out: Vec<u8>,
}

impl<D: Disk> SegmentWriter<D> {
    /// Makes the file. Nothing of it is synced.
    pub fn create(
        files: &Files<D>,
        name: String,
        stream: StreamId,
        number: u32,
        begin: Begin,
        now_ms: u64,
        encrypt: Option<&'static AtRest>,
    ) -> Result<Self, LogError> {
        let io = |error| LogError::io("creating", &name, error);
        let mut salt = [0; SALT_BYTES];
        fill(&mut salt).map_err(|error| io(error.into()))?;
        let (encrypt, key) = match (encrypt, &files.key) {
            (Some(strategy), Some(key)) => (strategy.number, key.id()),
            _ => encryption(files.log.key.as_ref()),
        };
        let header = Header {
            stream,
            number,
            wall_ms: now_ms,
            salt,
            encrypt,
            key,
        };
        let keys = files.log.key.iter().chain(&files.log.older_keys);
        let cipher = Cipher::new(&header.sealing(), &name, keys)?;
        let mut out = header.encode().to_vec();
        let block = BlockHeader::of(BEGIN, 0, 0, now_ms);
        cipher.seal(block, &begin.encode(), 0, &files.packers, &mut out)?;
        let file = Arc::new(files.disk.create(&name).map_err(io)?);
        if let Err(error) = file.write_at(0, &out) {
            let _ = files.disk.remove(&name);
            return Err(io(error));
        }
        let len = out.len() as u64;
        Ok(Self {
            file,
            cipher,
            uid: files.take_uid(),
            name,
            header,
            begin,
            begin_at: len,
            len,
            durable: 0,
            next_block: 1,
            out,
        })
    }

    /// Writes a block of records.
    pub fn append(
        &mut self,
        files: &Files<D>,
        block: &Block,
        compress: u8,
    ) -> Result<BlockAt, LogError> {
        let at = u32::try_from(self.len).map_err(|_| LogError::TooLong {
            bytes: block.bytes.len(),
        })?;
        let len = self.write(files, RECORDS, &block.bytes, block.last_ms(), compress)?;
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        Ok(BlockAt::of(block, at, len))
    }

    /// Ends the segment. Gives what it is then; it is not synced.
    pub fn finish(
        &mut self,
        files: &Files<D>,
        table: &Table,
        topics: Option<&[u8]>,
        head: Head,
    ) -> Result<Segment, LogError> {
        let compress = files.log.compress.number;
        let table_at = self.len;
        self.write(files, TABLE, &table.encode(), head.last_ms, compress)?;
        let mut topics_at = 0;
        if let Some(topics) = topics {
            topics_at = self.len;
            self.write(files, TOPICS, topics, head.last_ms, compress)?;
        }
        let end = End {
            header: self.header,
            table_at,
            topics_at,
            first: self.begin.head.next,
            head,
            first_ms: table.0.first().map_or(head.last_ms, |block| block.first_ms),
            records: table.0.iter().map(|block| u64::from(block.records)).sum(),
            has_expiring: table.0.iter().any(|block| block.has_expiring),
        };
        let bytes = end.encode();
        self.file
            .write_at(self.len, &bytes)
            .map_err(|error| LogError::io("writing", &self.name, error))?;
        self.len += bytes.len() as u64;
        Ok(Segment {
            end_at: table_at,
            bytes: self.len,
            ..self.segment_of(&end)
        })
    }

    fn segment_of(&self, end: &End) -> Segment {
        Segment {
            uid: self.uid,
            number: self.header.number,
            name: self.name.clone(),
            salt: self.header.salt,
            begin_at: self.begin_at,
            end_at: end.table_at,
            bytes: self.len,
            first: end.first,
            head: end.head,
            first_ms: end.first_ms,
            records: end.records,
            has_expiring: end.has_expiring,
            tables: Some((end.table_at, end.topics_at)),
            is_trimmed: false,
        }
    }

    /// What there is of it if it ends here without an end.
    pub fn left_over(&self, end_at: u64, head: Head) -> Segment {
        Segment {
            uid: self.uid,
            number: self.header.number,
            name: self.name.clone(),
            salt: self.header.salt,
            begin_at: self.begin_at,
            end_at: end_at.max(self.begin_at),
            bytes: end_at.max(self.begin_at),
            first: self.begin.head.next,
            head,
            first_ms: self.begin.head.last_ms,
            records: head.next.saturating_sub(self.begin.head.next),
            has_expiring: true,
            tables: None,
            is_trimmed: false,
        }
    }

    fn write(
        &mut self,
        files: &Files<D>,
        kind: u8,
        plain: &[u8],
        wall_ms: u64,
        compress: u8,
    ) -> Result<u64, LogError> {
        self.out.clear();
        let durable = u32::try_from(self.durable).unwrap_or(u32::MAX);
        // Counted up also when writing fails: no number is used twice.
        let header = BlockHeader::of(kind, self.next_block, durable, wall_ms);
        self.next_block += 1;
        self.cipher
            .seal(header, plain, compress, &files.packers, &mut self.out)?;
        let written = self.file.write_at(self.len, &self.out);
        written.map_err(|error| LogError::io("writing", &self.name, error))?;
        self.len += self.out.len() as u64;
        Ok(self.out.len() as u64)
    }
}
