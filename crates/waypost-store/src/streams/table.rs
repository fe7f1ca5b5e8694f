//! Where the blocks of a segment are, and which of them have records of which topic.

use hashbrown::HashMap;

use super::{api::Describe, api::Filter, block::Block};
use crate::views::number::{Numbers, Unreadable, put};

/// The most topics of a segment that are listed.
pub(super) const TOPICS_MAX: usize = if cfg!(test) { 64 } else { 65_536 };
/// The most bytes of what is listed for them.
const POSTINGS_BYTES_MAX: usize = 8 << 20;

/// A block of records in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockAt {
    pub first: u64,
    /// The offset behind its last record.
    pub next: u64,
    pub records: u32,
    pub first_ms: u64,
    pub last_ms: u64,
    /// Where in the file.
    pub at: u32,
    /// How many bytes there.
    pub len: u32,
    /// Whether some of its records expire.
    pub has_expiring: bool,
}

impl BlockAt {
    pub fn of(block: &Block, at: u32, len: u32) -> Self {
        Self {
            first: block.first(),
            next: block.next(),
            records: u32::try_from(block.records.len()).unwrap_or(u32::MAX),
            first_ms: block.first_ms(),
            last_ms: block.last_ms(),
            at,
            len,
            has_expiring: block.has_expiring(),
        }
    }
}

/// The blocks of a segment, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(pub Vec<BlockAt>);

impl Table {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(12 * self.0.len() + 4);
        put(&mut bytes, self.0.len() as u64);
        let (mut next, mut last_ms, mut at) = (0, 0, 0);
        for block in &self.0 {
            put(&mut bytes, block.first.wrapping_sub(next));
            put(&mut bytes, block.next.wrapping_sub(block.first));
            put(&mut bytes, block.records.into());
            put(&mut bytes, block.first_ms.wrapping_sub(last_ms));
            put(&mut bytes, block.last_ms.wrapping_sub(block.first_ms));
            put(&mut bytes, u64::from(block.at).wrapping_sub(at));
            put(
                &mut bytes,
                u64::from(block.len) << 1 | u64::from(block.has_expiring),
            );
            next = block.next;
            last_ms = block.last_ms;
            at = u64::from(block.at) + u64::from(block.len);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        const WHAT: &str = "table of a stream's segment";
        let mut numbers = Numbers::new(bytes, WHAT);
        let count = usize::try_from(numbers.next()?).map_err(|_| Unreadable(WHAT))?;
        // Each takes seven bytes at least.
        let mut blocks: Vec<BlockAt> = Vec::with_capacity(count.min(bytes.len() / 7));
        let (mut next, mut last_ms, mut at) = (0_u64, 0_u64, 0_u64);
        let add = |one: u64, other: u64| one.checked_add(other).ok_or(Unreadable(WHAT));
        let small = |number: u64| u32::try_from(number).map_err(|_| Unreadable(WHAT));
        while blocks.len() < count {
            let first = add(next, numbers.next()?)?;
            next = add(first, numbers.next()?)?;
            let records = numbers.small()?;
            let first_ms = add(last_ms, numbers.next()?)?;
            last_ms = add(first_ms, numbers.next()?)?;
            at = add(at, numbers.next()?)?;
            let len = numbers.next()?;
            let (len, has_expiring) = (small(len >> 1)?, len & 1 == 1);
            blocks.push(BlockAt {
                first,
                next,
                records,
                first_ms,
                last_ms,
                at: small(at)?,
                len,
                has_expiring,
            });
            at = add(at, len.into())?;
        }
        if !numbers.is_empty() {
            return Err(Unreadable(WHAT));
        }
        Ok(Self(blocks))
    }

    /// The first block with a record from this offset on.
    pub fn from(&self, offset: u64) -> Option<(usize, BlockAt)> {
        let index = self.0.partition_point(|block| block.next <= offset);
        Some((index, *self.0.get(index)?))
    }

    /// The memory it takes.
    pub fn weight(&self) -> u64 {
        (self.0.len() * size_of::<BlockAt>()) as u64
    }
}

/// The blocks with records of one topic, ascending, and how many: differences and counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Postings<'a>(&'a [u8]);

impl Postings<'_> {
    /// `(block, how many)`, up to what cannot be read.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let mut numbers = Numbers::new(self.0, "");
        let mut block = 0_u32;
        std::iter::from_fn(move || {
            block = block.wrapping_add(numbers.small().ok()?);
            let count = numbers.small().ok()?;
            Some((block, count))
        })
    }
}

/// The topics of a segment that is whole, by name.
#[derive(Clone, Debug)]
pub(super) struct Topics {
    bytes: Vec<u8>,
    /// Where in them each begins.
    begins: Vec<u32>,
}

const WHAT: &str = "list of a segment's topics";

impl Topics {
    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let mut numbers = Numbers::new(&bytes, WHAT);
        let mut begins = Vec::new();
        while !numbers.is_empty() {
            let begin = bytes.len() - numbers.rest().len();
            begins.push(u32::try_from(begin).map_err(|_| Unreadable(WHAT))?);
            std::str::from_utf8(numbers.bytes()?).map_err(|_| Unreadable(WHAT))?;
            numbers.bytes()?;
        }
        Ok(Self { bytes, begins })
    }

    /// Those that a filter means.
    pub fn matching<'a>(&'a self, filter: Filter<'_>, mut each: impl FnMut(&'a str, Postings<'a>)) {
        if let Filter::Topic(wanted) = filter {
            let found = self
                .begins
                .binary_search_by(|begin| self.at(*begin).map_or("", |at| at.0).cmp(wanted));
            let begin = found.ok().and_then(|found| self.begins.get(found));
            if let Some((topic, postings)) = begin.and_then(|begin| self.at(*begin)) {
                each(topic, postings);
            }
            return;
        }
        for begin in &self.begins {
            if let Some((topic, postings)) = self.at(*begin)
                && filter.matches(topic)
            {
                each(topic, postings);
            }
        }
    }

    fn at(&self, begin: u32) -> Option<(&str, Postings<'_>)> {
        let mut numbers = Numbers::new(self.bytes.get(begin as usize..)?, WHAT);
        let topic = std::str::from_utf8(numbers.bytes().ok()?).ok()?;
        Some((topic, Postings(numbers.bytes().ok()?)))
    }

    pub fn weight(&self) -> u64 {
        (self.bytes.len() + 4 * self.begins.len()) as u64
    }
}

/// The topics of a segment that is being written.
#[derive(Debug, Default)]
pub(super) struct TopicsBuilder {
    topics: HashMap<Box<str>, Building, foldhash::fast::RandomState>,
    bytes: usize,
    /// There are too many: none is listed.
    is_over: bool,
}

#[derive(Debug, Default)]
struct Building {
    last_block: u32,
    postings: Vec<u8>,
}

/// How many records of which topic a block has.
#[derive(Debug, Default)]
pub(super) struct BlockTopics<'a>(HashMap<&'a str, u32, foldhash::fast::RandomState>);

impl<'a> BlockTopics<'a> {
    pub fn of(block: &'a Block, describe: Describe) -> Self {
        let mut counts = Self::default();
        for record in &block.records {
            if let Some(described) = describe(block.body(record)) {
                *counts.0.entry(described.topic).or_default() += 1;
            }
        }
        counts
    }
}

impl TopicsBuilder {
    /// Adds what a block has, which comes behind all before it.
    pub fn add(&mut self, block: u32, counts: &BlockTopics<'_>) {
        if self.is_over {
            return;
        }
        for (topic, count) in &counts.0 {
            let building = if let Some(building) = self.topics.get_mut(*topic) {
                building
            } else {
                self.bytes += topic.len() + size_of::<Building>() + size_of::<Box<str>>();
                self.topics.entry((*topic).into()).or_default()
            };
            let before = building.postings.len();
            put(
                &mut building.postings,
                (block - building.last_block.min(block)).into(),
            );
            put(&mut building.postings, (*count).into());
            building.last_block = block;
            self.bytes += building.postings.len() - before;
        }
        if self.topics.len() > TOPICS_MAX || self.bytes > POSTINGS_BYTES_MAX {
            *self = Self {
                is_over: true,
                ..Self::default()
            };
        }
    }

    /// Whether they are listed.
    pub fn is_complete(&self) -> bool {
        !self.is_over
    }

    /// Those that a filter means.
    pub fn matching(&self, filter: Filter<'_>, mut each: impl FnMut(&str, Postings<'_>)) {
        if let Filter::Topic(wanted) = filter {
            if let Some((topic, building)) = self.topics.get_key_value(wanted) {
                each(topic, Postings(&building.postings));
            }
            return;
        }
        for (topic, building) in &self.topics {
            if filter.matches(topic) {
                each(topic, Postings(&building.postings));
            }
        }
    }

    /// As [`Topics::decode`] reads it; nothing if there are too many.
    pub fn encode(&self) -> Option<Vec<u8>> {
        if self.is_over {
            return None;
        }
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by_key(|(topic, _)| *topic);
        let mut bytes = Vec::with_capacity(self.bytes);
        for (topic, building) in topics {
            put(&mut bytes, topic.len() as u64);
            bytes.extend_from_slice(topic.as_bytes());
            put(&mut bytes, building.postings.len() as u64);
            bytes.extend_from_slice(&building.postings);
        }
        Some(bytes)
    }
}
