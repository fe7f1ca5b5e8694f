//! Writing one segment, from its header to its seal.

use std::sync::Arc;

use getrandom::fill;
use waypost_encrypt::SALT_BYTES;

use super::{
    APPEND_BYTES_MAX, Appended, AppendedBlock, BlockPosition, LogError, SegmentKind,
    block::{BlockHeader, CHAIN, Cipher, RECORDS, encryption},
    segment::{Header, Seal, UNFINISHED, encode_chain, file_name},
    segments::{Segment, Segments},
};
use crate::{
    disk::{Disk, DiskFile},
    record::decode_transactions,
};

/// How far a file is filled with zeros ahead of its blocks, in the same write: a sync of bytes that are there already
/// spares the file system its journal, which is a third to a half of the time a sync takes.
const ZEROS_AHEAD: usize = if cfg!(test) { 8 << 10 } else { 256 << 10 };

/// A segment being written.
#[derive(Debug)]
pub(super) struct SegmentWriter<D: Disk> {
    segments: Arc<Segments<D>>,
    pub segment: Arc<Segment<D::File>>,
    file: Arc<D::File>,
    /// Where its first block of transactions is.
    begin: u64,
    /// Where the next block goes.
    pub len: u64,
    /// How much of that outlives a crash.
    pub durable: u64,
    /// Up to where the file has bytes, zeros or others.
    filled: u64,
    next_block: u32,
    blocks: u32,
    transactions: u64,
    record_bytes: u64,
    last_wall_ms: u64,
    out: Vec<u8>,
    gathered: Vec<u8>,
}

/// What one append comes to.
#[derive(Default)]
struct Packed {
    blocks: Vec<AppendedBlock>,
    transactions: u64,
    record_bytes: usize,
}

impl<D: Disk> SegmentWriter<D> {
    /// Makes the file of a new segment, with a header that outlives a crash. Until then, and with `is_unfinished` until
    /// [`Self::finish`], it has another name.
    pub fn create(
        segments: &Arc<Segments<D>>,
        kind: SegmentKind,
        predecessor: Option<(u32, u64)>,
        unsealed: &[(u32, u64)],
        now_wall_ms: u64,
        is_unfinished: bool,
    ) -> Result<Self, LogError> {
        let number = segments.take_number();
        let name = file_name(kind, number);
        let unfinished = format!("{name}{UNFINISHED}");
        let io = |error| LogError::io("creating", &name, error);
        let mut salt = [0; SALT_BYTES];
        fill(&mut salt).map_err(|error| io(error.into()))?;
        let (encrypt, key) = encryption(segments.options.key.as_ref());
        let header = Header {
            kind,
            number,
            predecessor,
            wall_ms: now_wall_ms,
            salt,
            encrypt,
            key,
        };
        let cipher = Cipher::new(&header.sealing(), &name, segments.keys())?;
        let mut out = header.encode().to_vec();
        if !unsealed.is_empty() {
            let chain = BlockHeader::of(CHAIN, 0, 0, now_wall_ms);
            let listed = encode_chain(unsealed);
            cipher.seal(chain, &listed, 0, &segments.packers, &mut out)?;
        }
        let len = out.len() as u64;
        let disk = &segments.disk;
        let file = Arc::new(disk.create(&unfinished).map_err(io)?);
        let made = file
            .write_at(0, &out)
            .and_then(|()| file.sync())
            .and_then(|()| {
                if is_unfinished {
                    return Ok(());
                }
                disk.rename(&unfinished, &name)?;
                disk.sync_directory()
            });
        if let Err(error) = made {
            // Under whichever name it is: nothing in it counts.
            let _ = disk.remove(&unfinished).or_else(|_| disk.remove(&name));
            return Err(io(error));
        }
        let segment = Arc::new(Segment::new(header, cipher, Arc::clone(&file), len));
        if !is_unfinished {
            segments.add(Arc::clone(&segment));
        }
        Ok(Self {
            segments: Arc::clone(segments),
            segment,
            file,
            begin: len,
            len,
            durable: len,
            filled: len,
            next_block: 1,
            blocks: 0,
            transactions: 0,
            record_bytes: 0,
            last_wall_ms: now_wall_ms,
            out,
            gathered: Vec::new(),
        })
    }

    /// Writes the transactions of some batches. After an error nothing of them counts.
    pub fn append<B: AsRef<[u8]>>(
        &mut self,
        batches: &[B],
        now_wall_ms: u64,
    ) -> Result<Appended, LogError> {
        self.out.clear();
        let packed = self.pack(batches, now_wall_ms)?;
        let len = self.out.len() as u64;
        self.write(len).inspect_err(|_| {
            // What was written of it must not be taken for a part of the log.
            let _ = self.file.set_len(self.len);
            self.filled = self.len;
        })?;
        self.len += len;
        self.segment.set_end(self.len);
        self.blocks += u32::try_from(packed.blocks.len()).unwrap_or(u32::MAX);
        self.transactions += packed.transactions;
        self.record_bytes += packed.record_bytes as u64;
        self.last_wall_ms = now_wall_ms;
        Ok(Appended {
            blocks: packed.blocks,
            end: self.position(0)?,
            bytes: len,
        })
    }

    /// Makes everything appended outlive a crash.
    pub fn sync(&mut self) -> Result<(), LogError> {
        if self.durable < self.len {
            let synced = self.file.sync();
            synced.map_err(|error| LogError::io("syncing", &self.segment.name, error))?;
            self.durable = self.len;
        }
        Ok(())
    }

    /// Ends the segment in good order.
    pub fn seal(&mut self) -> Result<(), LogError> {
        let seal = Seal {
            header: self.segment.header,
            len: self.len,
            blocks: self.blocks,
            transactions: self.transactions,
            record_bytes: self.record_bytes,
            last_wall_ms: self.last_wall_ms,
        };
        let bytes = seal.encode();
        self.file
            .write_at(self.len, &bytes)
            .and_then(|()| self.file.set_len(self.len + bytes.len() as u64))
            .and_then(|()| self.file.sync())
            .map_err(|error| LogError::io("sealing", &self.segment.name, error))?;
        self.durable = self.len;
        self.segment.set_sealed(&seal);
        Ok(())
    }

    /// Gives a sealed segment the name it is found by.
    pub fn finish(&self) -> Result<(), LogError> {
        let name = &self.segment.name;
        let disk = &self.segments.disk;
        disk.rename(&self.unfinished_name(), name)
            .and_then(|()| disk.sync_directory())
            .map_err(|error| LogError::io("renaming", name, error))?;
        self.segments.add(Arc::clone(&self.segment));
        Ok(())
    }

    /// What its file is called before [`Self::finish`].
    pub fn unfinished_name(&self) -> String {
        format!("{}{UNFINISHED}", self.segment.name)
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len == self.begin
    }

    /// Takes what was not synced away, as well as that can be done without another sync.
    pub fn cut(&self) {
        let _ = self.file.set_len(self.durable);
        self.segment.set_end(self.durable);
    }

    /// Whether nothing in it is durable but its header.
    pub fn is_bare(&self) -> bool {
        self.durable == self.begin
    }

    /// Writes `out`, `len` bytes of blocks, and zeros after them where the file ended.
    fn write(&mut self, len: u64) -> Result<(), LogError> {
        let end = self.len + len;
        let io = |error| LogError::io("writing", &self.segment.name, error);
        if end <= self.filled {
            return self.file.write_at(self.len, &self.out).map_err(io);
        }
        let blocks = self.out.len();
        self.out.resize(blocks.max(ZEROS_AHEAD), 0);
        match self.file.write_at(self.len, &self.out) {
            Ok(()) => self.filled = self.len + self.out.len() as u64,
            // Perhaps there is room for the blocks, if not for the zeros.
            Err(_) if blocks < ZEROS_AHEAD => {
                self.out.truncate(blocks);
                self.file.write_at(self.len, &self.out).map_err(io)?;
                self.filled = end;
            }
            Err(error) => return Err(io(error)),
        }
        Ok(())
    }

    /// Makes blocks of the transactions, into `out`.
    fn pack<B: AsRef<[u8]>>(
        &mut self,
        batches: &[B],
        now_wall_ms: u64,
    ) -> Result<Packed, LogError> {
        let mut packed = Packed {
            record_bytes: batches.iter().map(|batch| batch.as_ref().len()).sum(),
            ..Packed::default()
        };
        if packed.record_bytes > APPEND_BYTES_MAX {
            return Err(LogError::TooLong {
                bytes: packed.record_bytes,
            });
        }
        self.gathered.clear();
        for (batch, records) in batches.iter().enumerate() {
            let records = records.as_ref();
            // What of this batch is not yet in a block or gathered.
            let (mut begin, mut end) = (0, 0);
            for transaction in decode_transactions(records) {
                let len = transaction?.record_bytes();
                let waiting = self.gathered.len() + end - begin;
                if waiting > 0 && waiting + len > self.segments.options.block_bytes {
                    let last = records.get(begin..end).unwrap_or_default();
                    let block = self.block(last, (batch, end), now_wall_ms)?;
                    packed.blocks.push(block);
                    begin = end;
                }
                end += len;
                packed.transactions += 1;
            }
            let rest = records.get(begin..end).unwrap_or_default();
            if batch + 1 == batches.len() {
                if self.gathered.len() + rest.len() > 0 {
                    let block = self.block(rest, (batch, end), now_wall_ms)?;
                    packed.blocks.push(block);
                }
            } else {
                self.gathered.extend_from_slice(rest);
            }
        }
        Ok(packed)
    }

    /// Makes a block of what was gathered and of `last`.
    fn block(
        &mut self,
        last: &[u8],
        (batch, end): (usize, usize),
        now_wall_ms: u64,
    ) -> Result<AppendedBlock, LogError> {
        let position = self.position(self.out.len())?;
        let durable = u32::try_from(self.durable).unwrap_or(u32::MAX);
        // Counted up also when the append fails: no number is used twice.
        let header = BlockHeader::of(RECORDS, self.next_block, durable, now_wall_ms);
        self.next_block += 1;
        let plain = if self.gathered.is_empty() {
            last
        } else {
            self.gathered.extend_from_slice(last);
            &self.gathered
        };
        self.segment.cipher.seal(
            header,
            plain,
            self.segments.options.compress.number,
            &self.segments.packers,
            &mut self.out,
        )?;
        self.gathered.clear();
        Ok(AppendedBlock {
            position,
            batch,
            end,
        })
    }

    fn position(&self, after: usize) -> Result<BlockPosition, LogError> {
        let offset = u32::try_from(self.len + after as u64);
        let offset = offset.map_err(|_| LogError::TooLong { bytes: after })?;
        Ok(BlockPosition {
            segment: self.segment.number(),
            offset,
        })
    }
}
