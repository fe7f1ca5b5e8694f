//! A start: which segments there are, how far they are to be read, and what they hold.

use std::{collections::BTreeMap, io, sync::Arc};

use super::{
    BlockPosition, LogBlock, LogDamage, LogError, LogOptions, LogReader, LogWriter, SegmentInfo,
    SegmentKind,
    block::{BLOCK_HEADER, CHAIN, Cipher},
    scan::{Scan, Step},
    segment::{HEADER, Header, NoHeader, SEAL, Seal, UNFINISHED, decode_chain, of_file_name},
    segments::{Segment, Segments},
};
use crate::disk::{Disk, DiskFile};

/// The log as it was found, being read. When [`Recovery::next_block`] has nothing left, [`Recovery::finish`] gives the
/// log that goes on.
#[derive(Debug)]
pub struct Recovery<D: Disk> {
    pub(super) segments: Arc<Segments<D>>,
    /// The lengths of files that nobody wrote down the end of.
    tails: BTreeMap<u32, u64>,
    /// What is still to be read, the next one last.
    waiting: Vec<(Arc<Segment<D::File>>, u64)>,
    scan: Option<Scan<D>>,
    /// How far the last of the tails is known to have been synced.
    durable: u64,
    recovered: Recovered,
}

/// What was found at a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What could not be read.
    pub damage: Vec<LogDamage>,
    /// The latest stamp in the log.
    pub last_wall_ms: u64,
    /// Where the log ends; none if there is none.
    pub end: Option<BlockPosition>,
    /// Whether the reading was to begin behind that end: whoever asked for it knows of what the log has lost.
    pub is_cut_short: bool,
}

impl<D: Disk> Recovery<D> {
    /// Looks at all segments and prepares to read from `from` on; from the beginning, kept segments included, if it is
    /// none. Changes nothing on the disk.
    pub fn open(
        disk: Arc<D>,
        options: LogOptions,
        from: Option<BlockPosition>,
    ) -> Result<Self, LogError> {
        let mut recovery = Self {
            segments: Arc::new(Segments::new(disk, options)),
            tails: BTreeMap::new(),
            waiting: Vec::new(),
            scan: None,
            durable: 0,
            recovered: Recovered::default(),
        };
        let mut lens = BTreeMap::new();
        for name in recovery.names()? {
            let Some((kind, number)) = of_file_name(name.trim_end_matches(UNFINISHED)) else {
                continue;
            };
            recovery.segments.number_is_taken(number);
            if !name.ends_with(UNFINISHED) {
                let len = recovery.look_at(&name, kind, number)?;
                lens.insert(number, len);
            }
        }
        recovery.decide_ends(&lens)?;
        recovery.plan(from)?;
        Ok(recovery)
    }

    /// All segments, by number. Where one ends of which nobody wrote it down is known when it is read.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.segments.infos()
    }

    /// What was found so far.
    pub fn found(&self) -> &Recovered {
        &self.recovered
    }

    /// Sees to it that no segment gets this number any more, nor a lower one: somebody remembers it.
    pub fn number_is_taken(&self, number: u32) {
        self.segments.number_is_taken(number);
    }

    /// The next block, if there is one.
    pub fn next_block(&mut self) -> Result<Option<LogBlock>, LogError> {
        loop {
            let Some(scan) = &mut self.scan else {
                let Some((segment, from)) = self.waiting.pop() else {
                    return Ok(None);
                };
                self.scan = Some(match self.tails.get(&segment.number()) {
                    Some(len) => Scan::tail(&self.segments, &segment, from, *len),
                    None => Scan::bounded(&self.segments, &segment, from),
                });
                continue;
            };
            match scan.next()? {
                Step::Block(block) => {
                    let last = &mut self.recovered.last_wall_ms;
                    *last = block.wall_ms.max(*last);
                    return Ok(Some(block));
                }
                Step::Damage(damage) => self.recovered.damage.push(damage),
                Step::End => {
                    if self.tails.remove(&scan.segment.number()).is_some() {
                        scan.segment.set_end(scan.at);
                        self.durable = scan.durable;
                    }
                    self.scan = None;
                }
            }
        }
    }

    /// Reads what was not read yet, and goes on with the log from there.
    pub fn finish(mut self) -> Result<(LogWriter<D>, LogReader<D>, Recovered), LogError> {
        while self.next_block()?.is_some() {}
        for name in self.names()? {
            let is_unfinished = name
                .strip_suffix(UNFINISHED)
                .and_then(of_file_name)
                .is_some();
            if is_unfinished {
                let removed = self.segments.disk.remove(&name);
                removed.map_err(|error| LogError::io("removing", &name, error))?;
            }
        }
        // So that whatever was found is found again.
        let synced = self.segments.disk.sync_directory();
        synced.map_err(|error| LogError::io("syncing", "the store", error))?;
        let newest = self.newest();
        if let Some(newest) = newest.as_ref().filter(|newest| newest.sealed().is_none()) {
            self.make_durable(newest)
                .map_err(|error| LogError::io("syncing", &newest.name, error))?;
        }
        let newest = newest.map(|newest| (newest.number(), newest.end()));
        self.recovered.end = newest.map(|(segment, end)| BlockPosition {
            segment,
            offset: u32::try_from(end).unwrap_or(u32::MAX),
        });
        let writer = LogWriter::after(self.segments, newest);
        let reader = writer.reader();
        Ok((writer, reader, self.recovered))
    }

    /// What a process wrote that died before its sync is there, and from now on it counts. It is written once more: had a
    /// sync failed, the system would take it for synced, and another sync alone would do nothing.
    fn make_durable(&self, tail: &Arc<Segment<D::File>>) -> io::Result<()> {
        let file = self.segments.file(tail)?;
        let mut at = self.durable;
        while at < tail.end() {
            let read = || self.segments.read_stored(tail, at);
            // A second look, as ever: what is wrong on its way from the disk must not be written to it.
            let block = read()?.map_or_else(read, |block| Ok(Some(block)))?;
            let block = block.ok_or(io::ErrorKind::InvalidData)?;
            file.write_at(at, &block)?;
            at += block.len() as u64;
        }
        file.sync()
    }

    fn names(&self) -> Result<Vec<String>, LogError> {
        let names = self.segments.disk.list();
        names.map_err(|error| LogError::io("listing", "the store", error))
    }

    /// Reads the header and the seal of a file, and takes it in if one of them says what it is. Gives its length.
    fn look_at(&mut self, name: &str, kind: SegmentKind, number: u32) -> Result<u64, LogError> {
        let io = |error| LogError::io("reading", name, error);
        let file = self.segments.disk.open(name).map_err(io)?;
        let len = file.len().map_err(io)?;
        let read = |offset: u64, bytes: &mut [u8]| match file.read_at(offset, bytes) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            result => result.map(|()| self.segments.count_read(bytes.len())),
        };
        let is_here = |header: &Header| header.kind == kind && header.number == number;
        let seal = || -> io::Result<_> {
            let mut last = [0; SEAL];
            if let Some(offset) = len.checked_sub(SEAL as u64) {
                read(offset, &mut last)?;
            }
            let seal = Seal::read(&last);
            Ok(seal.filter(|seal| is_here(&seal.header) && seal.len + SEAL as u64 == len))
        };
        let header = || -> io::Result<_> {
            let mut first = [0; HEADER];
            read(0, &mut first)?;
            Ok(Header::read(&first))
        };
        // A second look, as at blocks.
        let seal = match seal().map_err(io)? {
            None => seal().map_err(io)?,
            seal => seal,
        };
        let header = match header().map_err(io)? {
            Err(_) => header().map_err(io)?,
            header => header,
        };
        let header = match header {
            Ok(header) => Some(header).filter(is_here),
            Err(NoHeader::Newer(version)) => {
                let file = name.to_owned();
                return Err(LogError::Newer { file, version });
            }
            Err(NoHeader::Damaged) => None,
        };
        if header.is_none() {
            self.recovered.damage.push(LogDamage {
                file: name.to_owned(),
                offset: 0,
                bytes: if seal.is_some() { HEADER as u64 } else { len },
                what: "the header is damaged",
            });
        }
        let Some(header) = header.or(seal.map(|seal| seal.header)) else {
            return Ok(len);
        };
        let cipher = Cipher::new(&header.sealing(), name, self.segments.keys())?;
        let segment = Arc::new(Segment::new(header, cipher, Arc::new(file), len));
        if let Some(seal) = &seal {
            segment.set_sealed(seal);
        }
        let stamp = seal.map_or(header.wall_ms, |seal| seal.last_wall_ms);
        self.recovered.last_wall_ms = self.recovered.last_wall_ms.max(stamp);
        self.segments.add(segment);
        Ok(len)
    }

    /// Finds out where each segment ends: where a later one says so, else at its seal, else wherever its blocks do.
    fn decide_ends(&mut self, lens: &BTreeMap<u32, u64>) -> Result<(), LogError> {
        let mut said = BTreeMap::new();
        for segment in self.segments.all() {
            said.extend(segment.header.predecessor);
        }
        if let Some(newest) = self.newest() {
            said.extend(self.chain(&newest)?);
        }
        for segment in self.segments.all() {
            let (number, len) = (segment.number(), segment.end());
            match said.get(&number) {
                Some(end) if segment.sealed().is_none_or(|_| *end == len) => {
                    // Shorter than promised: what is missing is damage.
                    segment.set_end(*end);
                }
                Some(end) => {
                    // It was sealed, but that is not known to have come to the disk in one piece.
                    segment.unseal(*end);
                }
                None if segment.sealed().is_none() => {
                    let len = lens.get(&number).copied().unwrap_or(len);
                    self.tails.insert(number, len);
                }
                None => {}
            }
        }
        Ok(())
    }

    /// What the chain block of a segment says, if it has one.
    fn chain(&self, segment: &Arc<Segment<D::File>>) -> Result<Vec<(u32, u64)>, LogError> {
        let io = |error| LogError::io("reading", &segment.name, error);
        let offset = HEADER as u64;
        let mut bytes = [0; BLOCK_HEADER];
        if segment.end() < offset + bytes.len() as u64 {
            return Ok(Vec::new());
        }
        self.segments
            .read(segment, offset, &mut bytes)
            .map_err(io)?;
        let header = segment.cipher.header(&bytes);
        let Some(header) =
            header.filter(|header| header.kind == CHAIN && offset + header.len() <= segment.end())
        else {
            return Ok(Vec::new());
        };
        let mut stored = vec![0; header.stored as usize];
        let offset = offset + bytes.len() as u64;
        self.segments
            .read(segment, offset, &mut stored)
            .map_err(io)?;
        // A damaged one is reported when the segment is read.
        let listed = segment
            .cipher
            .open(&header, &mut stored, &self.segments.packers);
        Ok(listed.map_or_else(|_| Vec::new(), |listed| decode_chain(&listed).collect()))
    }

    fn newest(&self) -> Option<Arc<Segment<D::File>>> {
        let all = self.segments.all();
        let is_log = |segment: &Arc<Segment<D::File>>| segment.header.kind == SegmentKind::Log;
        all.into_iter().rev().find(is_log)
    }

    /// Lists what is to be read, the first one last.
    fn plan(&mut self, from: Option<BlockPosition>) -> Result<(), LogError> {
        let begin = HEADER as u64;
        for segment in self.segments.all() {
            let number = segment.number();
            let at = match from {
                Some(from) if segment.header.kind == SegmentKind::Kept || number < from.segment => {
                    // Where it ends must be known all the same: the next segment says so.
                    if let Some(len) = self.tails.remove(&number) {
                        let mut scan = Scan::tail(&self.segments, &segment, begin, len);
                        while !matches!(scan.next()?, Step::End) {}
                        segment.set_end(scan.at);
                        self.durable = scan.durable;
                    }
                    continue;
                }
                Some(from) if number == from.segment => begin.max(from.offset.into()),
                _ => begin,
            };
            if at > segment.end() {
                self.recovered.is_cut_short = true;
            }
            self.waiting.push((segment, at));
        }
        if let Some(from) = from {
            let newest = self.newest().map(|newest| newest.number());
            self.recovered.is_cut_short |= newest.is_none_or(|newest| newest < from.segment);
        }
        self.waiting.reverse();
        Ok(())
    }
}
