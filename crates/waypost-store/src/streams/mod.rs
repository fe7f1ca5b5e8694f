//! Streams: named records of messages, in the order in which the log has them, readable from any offset or time.
//!
//! A stream is a view of the log with files of its own. The fold gives each message that enters ([`crate::Op::Enter`]) the
//! next offset and copies its body into the stream's open block; full blocks go to the stream's segments at once, and are
//! synced before the views say how far they go. So offsets are dense, and the same after a replay.
//!
//! Deliberately not here: what a body means ([`StreamsOptions::describe`] says it), who reads what, who is told that a
//! stream grew.

mod api;

pub use api::{
    Describe, Described, Filter, Found, Imported, Purge, Start, StreamInfo, StreamOptions,
    StreamRead, StreamRecord, StreamsOptions,
};

use std::marker::PhantomData;

use crate::{disk::Disk, record::StreamId, store::StoreError};

/// All streams of a store.
#[derive(Debug)]
pub struct Streams<D: Disk> {
    disk: PhantomData<D>,
}

impl<D: Disk> Streams<D> {
    pub(crate) fn new() -> Self {
        Self { disk: PhantomData }
    }

    /// From now on these streams take what enters them, and no others. Gives the number of each: the one it always had, or
    /// a new one.
    pub fn configure(
        &self,
        configured: &[StreamOptions],
    ) -> Result<Vec<(String, StreamId)>, StoreError> {
        let _ = configured;
        Ok(Vec::new())
    }

    /// Where reading begins; `None` if there is no such stream.
    pub fn find(
        &self,
        stream: StreamId,
        start: Start,
        filter: Filter<'_>,
        now_ms: u64,
    ) -> Result<Option<Found>, StoreError> {
        let _ = (stream, start, filter, now_ms);
        Ok(None)
    }

    /// Records from an offset on: at most `count_max`, and no more once their bodies exceed `bytes_max`; fewer, perhaps
    /// none, if much that does not match stands before them: then [`StreamRead::next`] says where to go on. `None` if there
    /// is no such stream.
    pub fn read(
        &self,
        stream: StreamId,
        offset: u64,
        filter: Filter<'_>,
        (count_max, bytes_max): (usize, u64),
        now_ms: u64,
    ) -> Result<Option<StreamRead>, StoreError> {
        let _ = (stream, offset, filter, count_max, bytes_max, now_ms);
        Ok(None)
    }

    /// The records with these offsets, ascending, as far as they are there and match.
    pub fn pick(
        &self,
        stream: StreamId,
        offsets: &[u64],
        filter: Filter<'_>,
        now_ms: u64,
    ) -> Result<Option<StreamRead>, StoreError> {
        let _ = (stream, offsets, filter, now_ms);
        Ok(None)
    }

    /// Those that got records since the last call, for whoever waits for them.
    pub fn take_grown(&self) -> Vec<StreamId> {
        Vec::new()
    }

    /// All there are, by number.
    pub fn list(&self, now_ms: u64) -> Vec<StreamInfo> {
        let _ = now_ms;
        Vec::new()
    }

    /// Some of what is to be done in the background: takes away what is not kept any more, rewrites. Says whether there may
    /// be more.
    pub fn maintain_step(&self, now_ms: u64) -> Result<bool, StoreError> {
        let _ = now_ms;
        Ok(false)
    }

    /// Takes a stream that is not configured away for good. Says whether there was one.
    pub fn forget(&self, name: &str) -> Result<bool, StoreError> {
        let _ = name;
        Ok(false)
    }
}
