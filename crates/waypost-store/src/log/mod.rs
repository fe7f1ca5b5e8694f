//! The log: blocks of transactions, appended to segments.
//!
//! ```text
//! segment  header · [chain block] · block · block · … · seal
//! block    header of 40 bytes · transactions, compressed, then encrypted
//! ```
//!
//! There is one [`LogWriter`]: `append` writes, `sync` makes what was written outlive a crash. A segment that is full is
//! *sealed*; one in which a sync failed is *condemned*: nothing after the last good sync is trusted. Either way the next
//! segment's header says up to where its predecessor is to be read, and is synced before anything in it counts. So is the
//! header of the first segment after a start: no segment is ever appended to twice.
//!
//! What lives longer than its segment is written anew into a *kept* segment ([`KeptWriter`]), the same file but without a
//! place in the chain. [`Recovery`] reads everything back, cuts a torn tail and reports damage; [`LogReader`] reads single
//! blocks. The bytes are described in docs/storage-format.md.
//!
//! Deliberately not here: what operations mean, which message lives (`views`), threads and time.

mod appending;
pub(crate) mod block;
mod error;
mod mend;
mod reader;
mod recovery;
mod scan;
pub(crate) mod segment;
mod segments;
mod writer;

pub use error::{LogDamage, LogError};
pub use mend::Mended;
pub(crate) use mend::{SET_ASIDE, write_hole};
pub use reader::{Blocks, LogReader};
pub use recovery::{Recovered, Recovery};
pub use scan::LogBlock;
pub use segment::{FORMAT, SegmentKind};
pub use segments::SegmentInfo;
pub use writer::{Appended, AppendedBlock, KeptWriter, LogWriter};

use std::sync::Arc;

use waypost_compress::Strategy as Compression;
use waypost_encrypt::MasterKey;

/// The largest [`LogOptions::segment_bytes`].
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// The most bytes of one [`LogWriter::append`].
pub const APPEND_BYTES_MAX: usize = 2 << 30;

/// How the log is written. What it says holds for new segments; older ones are read as they are.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// When a segment is full. It may become longer by one append.
    pub segment_bytes: u64,
    /// When a block is full. It is longer if one transaction is.
    pub block_bytes: usize,
    /// How blocks are compressed; one that does not get smaller is written as it is.
    pub compress: &'static Compression,
    /// What blocks are encrypted with; none: they are not.
    pub key: Option<Arc<MasterKey>>,
    /// Keys of older segments.
    pub older_keys: Vec<Arc<MasterKey>>,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            block_bytes: 64 << 10,
            compress: waypost_compress::default_strategy(),
            key: None,
            older_keys: Vec::new(),
        }
    }
}

/// Whether a file of this name is a segment.
pub fn is_segment(name: &str) -> bool {
    segment::of_file_name(name).is_some()
}

/// Where a block is, or where the next one will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockPosition {
    /// The number of its segment.
    pub segment: u32,
    /// Its first byte there.
    pub offset: u32,
}

#[cfg(test)]
mod tests;
