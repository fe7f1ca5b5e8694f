//! What the core says of streams to the world and hears of them: numbers, questions and records.
//!
//! A stream is a named record of all messages on some filters. The store gives each message its place in it, the offset,
//! when it is durable: dense, ascending, never given twice. Who reads asks with a [`StreamAsk`] and names itself by a
//! [`ReaderId`]; the answer comes to `Broker::handle_stream_answer`. Not here: who reads what, and where it stands.

use core::ops::Range;
use std::sync::Arc;

/// A stream, by its number in a data directory. Never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Who asked, in numbers of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReaderId(pub u64);

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

/// What is wanted of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Where to begin ([`StreamAnswer::Start`]).
    Start(Start),
    /// Records from an offset on ([`StreamAnswer::Records`]).
    From {
        /// The first that may be among them.
        offset: u64,
        /// At most so many records.
        count_max: u32,
        /// And no more once their bodies exceed this.
        bytes_max: u32,
        /// If there are none, the answer waits until there are.
        waits: bool,
    },
    /// The records with these offsets, ascending ([`StreamAnswer::Records`]). Those that are gone are left out.
    Picked(Arc<[u64]>),
}

/// A question to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamAsk {
    /// Who gets the answer.
    pub reader: ReaderId,
    /// Which stream.
    pub stream: StreamId,
    /// A valid Topic Filter: only records whose topics match it.
    pub filter: Arc<str>,
    /// What.
    pub wanted: Wanted,
}

/// The answer to a [`StreamAsk`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamAnswer {
    /// Where to begin.
    Start {
        /// Records to be read first, ascending ([`Start::Each`]; else none).
        picked: Arc<[u64]>,
        /// Then all from this offset on.
        offset: u64,
    },
    /// What was asked for.
    Records(StreamRead),
    /// There is no such stream any more.
    Gone,
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
    /// Bytes it shares with others.
    pub block: Arc<[u8]>,
    /// Where in them it is, as given to [`crate::journal::Journal::message`].
    pub body: Range<u32>,
}

impl StreamRecord {
    /// As given to [`crate::journal::Journal::message`].
    pub fn body(&self) -> &[u8] {
        let range = self.body.start as usize..self.body.end as usize;
        self.block.get(range).unwrap_or_default()
    }
}
