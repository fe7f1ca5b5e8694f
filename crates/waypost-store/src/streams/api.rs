//! What is asked of streams, and what they answer.

use std::{ops::Range, sync::Arc};

use waypost_encrypt::{AtRest, MasterKey};

use crate::record::StreamId;

/// What a stream keeps, and for how long.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Its name; its number belongs to it for good.
    pub name: String,
    /// Records older than this, in milliseconds, are not there any more.
    pub retention_ms: Option<u64>,
    /// The oldest records go while its files have more bytes than this.
    pub retention_bytes: Option<u64>,
    /// The oldest records go while there are more than this.
    pub retention_messages: Option<u64>,
    /// Whether of all records with one key only the last stays, in time.
    pub compact: bool,
    /// How its blocks are compressed.
    pub compress: &'static waypost_compress::Strategy,
    /// How its files are encrypted, with [`StreamsOptions::key`]; `None`: as the log is.
    pub encrypt: Option<&'static AtRest>,
}

impl StreamOptions {
    /// Everything is kept, for ever.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            retention_ms: None,
            retention_bytes: None,
            retention_messages: None,
            compact: false,
            compress: waypost_compress::default_strategy(),
            encrypt: None,
        }
    }
}

/// What a body says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Described<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// What it is the last of, if not of its topic.
    pub key: Option<&'a str>,
    /// Whether it says that there is nothing under its key any more.
    pub is_tombstone: bool,
}

impl<'a> Described<'a> {
    /// What of all records with the same only the last one stays, in a stream that is compacted.
    pub fn key(&self) -> &'a str {
        self.key.unwrap_or(self.topic)
    }
}

/// Reads a body; `None` if it is none. Such a record matches no filter but [`Filter::All`].
pub type Describe = fn(&[u8]) -> Option<Described<'_>>;

/// How all streams work.
#[derive(Clone, Debug)]
pub struct StreamsOptions {
    /// What a body says of itself.
    pub describe: Describe,
    /// Those that are configured at the start; see [`super::Streams::configure`].
    pub configured: Vec<StreamOptions>,
    /// What the files of streams are encrypted with that say how; one of the log's own, or of its older ones, so that they
    /// can be read.
    pub key: Option<Arc<MasterKey>>,
    /// When a segment is full, at most, in bytes.
    pub segment_bytes_max: u64,
    /// When a block is full, in bytes.
    pub block_bytes: usize,
    /// What stays in memory of the decoded blocks that readers share;
    pub cache: &'static waypost_cache::Strategy,
    /// how much memory these may take, in bytes,
    pub cache_bytes: u64,
    /// and tables of segments.
    pub tables_bytes: u64,
}

impl Default for StreamsOptions {
    fn default() -> Self {
        Self {
            describe: |_| None,
            configured: Vec::new(),
            key: None,
            segment_bytes_max: 64 << 20,
            block_bytes: 64 << 10,
            cache: waypost_cache::default_strategy(),
            cache_bytes: 16 << 20,
            tables_bytes: 32 << 20,
        }
    }
}

/// Which records of a stream.
#[derive(Clone, Copy)]
pub enum Filter<'a> {
    /// All.
    All,
    /// Those of one topic: found by an index.
    Topic(&'a str),
    /// Those of the topics for which this is true.
    Topics(&'a dyn Fn(&str) -> bool),
}

impl std::fmt::Debug for Filter<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => formatter.write_str("All"),
            Self::Topic(topic) => formatter.debug_tuple("Topic").field(topic).finish(),
            Self::Topics(_) => formatter.write_str("Topics(…)"),
        }
    }
}

impl Filter<'_> {
    /// Whether records of this topic are meant.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Topic(wanted) => *wanted == topic,
            Self::Topics(matches) => matches(topic),
        }
    }
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record with this offset or a higher one.
    Offset(u64),
    /// At the first record that entered at this time or later, in milliseconds since 1970.
    Time(u64),
    /// With the last so many records that match.
    Last(u64),
    /// With the last so many records of each topic that matches.
    Each(u64),
}

/// Where reading begins, found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Records to be read first, ascending ([`Start::Each`]; else none).
    pub picked: Arc<[u64]>,
    /// Then all from this offset on.
    pub offset: u64,
}

/// A part of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRead {
    /// Those that match, in order of their offsets.
    pub records: Vec<StreamRecord>,
    /// Where to read on: behind the last record that was looked at, whether it matched or not.
    pub next: u64,
    /// There was nothing behind it.
    pub is_end: bool,
}

/// A message in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// Its place.
    pub offset: u64,
    /// When it entered, in milliseconds since 1970; never before the record before it.
    pub wall_ms: u64,
    /// When it need not be kept any more; `u64::MAX` = never.
    pub expires_wall_ms: u64,
    /// Bytes it shares with others.
    pub block: Arc<[u8]>,
    /// Where in them it is.
    pub body: Range<u32>,
}

impl StreamRecord {
    /// The message.
    pub fn body(&self) -> &[u8] {
        let range = self.body.start as usize..self.body.end as usize;
        self.block.get(range).unwrap_or_default()
    }
}

/// What there is of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its number.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Whether it takes more.
    pub is_configured: bool,
    /// Whether only the last record of each key stays.
    pub is_compacted: bool,
    /// The offset of the first record that may be read.
    pub first: u64,
    /// The offset that the next record gets.
    pub next: u64,
    /// How many records there are, about: those that compaction left, with those of the oldest segment that are not to be
    /// read any more.
    pub records: u64,
    /// Bytes of its files, and of what is not yet in them.
    pub bytes: u64,
    /// How many files.
    pub segments: u64,
    /// When its first record entered, or before, in milliseconds since 1970; `None` while there is none.
    pub first_ms: Option<u64>,
    /// When its last record entered.
    pub last_ms: Option<u64>,
    /// Blocks that could not be read since the start: what was in them is lost to readers.
    pub damaged_blocks: u64,
}

/// What is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purge {
    /// All records.
    All,
    /// Those with a lower offset.
    Before(u64),
    /// Those that entered before this time, in milliseconds since 1970.
    BeforeTime(u64),
}

/// A record that comes from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported<'a> {
    /// The offset it had there: it keeps it, if that is not lower than the stream's next.
    pub offset: Option<u64>,
    /// When it entered there. If a record that entered later stands before it, it counts as entered with that.
    pub wall_ms: u64,
    /// When it need not be kept any more; `u64::MAX` = never.
    pub expires_wall_ms: u64,
    /// The message.
    pub body: &'a [u8],
}
