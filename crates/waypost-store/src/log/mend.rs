//! Repair: a damaged part of a segment becomes a *hole*, a block that says how long it is and holds nothing, so that every
//! other block stays where it is and nobody stumbles any more. What was in it is lost either way.

use std::io;

use super::{
    LogDamage, LogError, Recovery,
    block::{BLOCK_HEADER, Cipher},
    segment::of_file_name,
};
use crate::disk::{Disk, DiskFile};

/// How much of a hole is written at once, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// What is put behind the name of a file of which nothing can be read.
pub(crate) const SET_ASIDE: &str = ".damaged";

/// What was done about one damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mended {
    /// The header was written anew: nothing is lost.
    Header,
    /// The part is a hole now.
    Hole,
    /// Neither header nor seal can be read, so nothing of the file can: it has another name now.
    SetAside,
}

impl<D: Disk> Recovery<D> {
    /// Mends what was found damaged. Everything must have been read; the log is then to be opened anew.
    pub fn mend(mut self) -> Result<Vec<(LogDamage, Mended)>, LogError> {
        while self.next_block()?.is_some() {}
        let mut mended = Vec::new();
        for damage in &self.found().damage {
            mended.push((damage.clone(), self.mend_one(damage)?));
        }
        let disk = &self.segments.disk;
        disk.sync_directory()
            .map_err(|error| LogError::io("syncing", "the store", error))?;
        Ok(mended)
    }

    fn mend_one(&self, damage: &LogDamage) -> Result<Mended, LogError> {
        let io = |error| LogError::io("mending", &damage.file, error);
        let disk = &self.segments.disk;
        let found = of_file_name(&damage.file)
            .and_then(|(_, number)| self.segments.find(number).ok())
            .filter(|segment| segment.name == damage.file);
        let Some(segment) = found else {
            let aside = format!("{}{SET_ASIDE}", damage.file);
            disk.rename(&damage.file, &aside).map_err(io)?;
            return Ok(Mended::SetAside);
        };
        let file = disk.open(&damage.file).map_err(io)?;
        if damage.offset == 0 {
            file.write_at(0, &segment.header.encode()).map_err(io)?;
            file.sync().map_err(io)?;
            return Ok(Mended::Header);
        }
        write_hole(&file, &segment.cipher, damage).map_err(io)?;
        Ok(Mended::Hole)
    }
}

/// Makes a damaged part of a file a hole that outlives a crash.
pub(crate) fn write_hole<F: DiskFile>(
    file: &F,
    cipher: &Cipher,
    damage: &LogDamage,
) -> io::Result<()> {
    let bytes = usize::try_from(damage.bytes).ok();
    // No block is that short: what stands around it is not what it seems.
    let header = bytes.and_then(|bytes| cipher.hole(bytes));
    let header = header.ok_or(io::ErrorKind::InvalidData)?;
    // Its content first: parts of blocks in it must never be found again, and the disk must be able to read it.
    let zeros = vec![0; PIECE_BYTES];
    let end = damage.offset + damage.bytes;
    let mut at = damage.offset + BLOCK_HEADER as u64;
    while at < end {
        let rest = usize::try_from(end - at).unwrap_or(PIECE_BYTES);
        let piece = zeros.get(..rest.min(PIECE_BYTES)).unwrap_or(&zeros);
        file.write_at(at, piece)?;
        at += piece.len() as u64;
    }
    file.write_at(damage.offset, &header)?;
    file.sync()
}
