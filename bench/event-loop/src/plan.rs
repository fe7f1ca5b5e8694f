//! Who receives what: the same rule as the neutral bench's `relay.cpp`, so that its load generator
//! measures this relay too. Connections are numbered in the order in which they were accepted.

use std::ops::Range;

/// The fixed shape of one run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The first connections publish.
    pub publishers: usize,
    /// The others receive.
    pub subscribers: usize,
    /// Every record has this length.
    pub record_bytes: usize,
    /// Members of a room, all of whom publish and receive; 0 without rooms.
    pub room: usize,
}

impl Plan {
    /// The connections that receive what connection `from` sends, `count` being connected.
    pub fn receivers(&self, from: usize, count: usize) -> Range<usize> {
        let range = if let Some(room) = from.checked_div(self.room) {
            let first = room * self.room;
            first..first + self.room
        } else if from >= self.publishers {
            0..0
        } else if self.publishers == 1 {
            1..count
        } else {
            let one = self.publishers + from % self.subscribers;
            one..one + 1
        };
        range.start.min(count)..range.end.min(count)
    }
}

/// The beginning of a record whose end has not arrived.
#[derive(Default)]
pub struct Remainder {
    bytes: Vec<u8>,
}

impl Remainder {
    /// Calls `each` with every run of whole records that `bytes` completes and keeps what is left.
    pub fn whole_records(
        &mut self,
        record_bytes: usize,
        mut bytes: &[u8],
        mut each: impl FnMut(&[u8]),
    ) {
        if !self.bytes.is_empty() {
            let missing = (record_bytes - self.bytes.len()).min(bytes.len());
            self.bytes.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.bytes.len() < record_bytes {
                return;
            }
            each(&self.bytes);
            self.bytes = Vec::new();
        }
        let whole = bytes.len() / record_bytes * record_bytes;
        if whole > 0 {
            each(&bytes[..whole]);
        }
        if whole < bytes.len() {
            self.bytes.extend_from_slice(&bytes[whole..]);
        }
    }
}
