//! What is not kept any more. To readers it is gone at once; its files go when all in them is.

use std::sync::Arc;

use super::{
    Streams,
    stream::{State, Stream, read},
};
use crate::{disk::Disk, store::StoreError};

impl<D: Disk> Streams<D> {
    /// Takes files away in which nothing may be read any more. Says whether there was one.
    pub(super) fn retain(&self, stream: &Stream<D>, now_ms: u64) -> Result<bool, StoreError> {
        let floor = self.retention_floor(stream);
        let gone = {
            let mut state = stream.change();
            state.retention_floor = state.retention_floor.max(floor);
            let gone = gone(&state, now_ms);
            let names: Vec<_> = state
                .past
                .drain(..gone)
                .map(|segment| segment.name.clone())
                .collect();
            names
        };
        for name in &gone {
            self.files.remove(name)?;
        }
        Ok(!gone.is_empty())
    }

    /// Where retention by bytes, and by count where there are gaps, lets a stream begin.
    fn retention_floor(&self, stream: &Stream<D>) -> u64 {
        let (mut bytes_over, mut records_over, past) = {
            let state = stream.state();
            let Some(options) = &state.options else {
                return 0;
            };
            let over =
                |limit: Option<u64>, has: u64| limit.map_or(0, |max| has.saturating_sub(max));
            let bytes = over(options.retention_bytes, state.file_bytes());
            let records = over(
                options.retention_messages.filter(|_| options.compact),
                state.records(),
            );
            (bytes, records, state.past.clone())
        };
        let mut floor = 0;
        for segment in past {
            if bytes_over == 0 && records_over == 0 {
                return floor;
            }
            if segment.bytes <= bytes_over || segment.records <= records_over {
                bytes_over = bytes_over.saturating_sub(segment.bytes);
                records_over = records_over.saturating_sub(segment.records);
                floor = segment.head.next;
                continue;
            }
            let Ok(table) = self.files.table(&segment) else {
                return floor;
            };
            for block in &table.0 {
                if bytes_over == 0 && records_over == 0 {
                    return floor;
                }
                bytes_over = bytes_over.saturating_sub(block.len.into());
                records_over = records_over.saturating_sub(block.records.into());
                floor = block.next;
            }
        }
        let current = stream.state().current.clone();
        let blocks = current.map(|current| read(&current.table).0.clone());
        for block in blocks.into_iter().flatten() {
            if bytes_over == 0 && records_over == 0 {
                break;
            }
            bytes_over = bytes_over.saturating_sub(block.len.into());
            records_over = records_over.saturating_sub(block.records.into());
            floor = block.next;
        }
        floor
    }
}

/// How many of the oldest segments may go. One file stays, so that the stream's number and offsets do; and none goes that
/// the views count on.
fn gone(state: &State, now_ms: u64) -> usize {
    let (floor, cutoff_ms) = (state.floor(), state.cutoff_ms(now_ms));
    let gone = state.past.iter().take_while(|segment| {
        (segment.head.next <= floor || segment.head.last_ms < cutoff_ms)
            && segment.number < state.recorded_number
    });
    let kept = usize::from(state.current.is_none());
    gone.count().min(state.past.len().saturating_sub(kept))
}

impl<D: Disk> Streams<D> {
    /// All streams.
    pub(super) fn streams(&self) -> Vec<Arc<Stream<D>>> {
        read(&self.all).values().cloned().collect()
    }
}
