//! Payloads that were transcoded lately: a message reaches its subscribers one by one where they cannot take it at once, or
//! come later and get what is retained, and is to be transcoded once all the same.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;

use waypost_compress::Stages;

use super::workers::JobId;

/// Bytes of payloads, in both forms, that a shard remembers. The oldest are forgotten; what is larger by itself is not
/// remembered at all.
pub(super) const RECENT_BYTES_MAX: usize = 32 << 20;
/// And so many of them, however small.
pub(super) const RECENT_COUNT_MAX: usize = 256;

/// A large payload is told from others by its two ends, and then compared.
const HASHED_BYTES: usize = 4 * 1024;

/// Which way a payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Direction {
    Unpack,
    /// By this policy, as a hash of its filter: another packs with another dictionary.
    Pack(u64),
}

/// What became of one.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Done(Rc<Vec<u8>>),
    /// It stays as it is.
    AsItIs,
    Waiting(JobId),
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    direction: Direction,
    stages: Stages,
    payload: Rc<Vec<u8>>,
    outcome: Outcome,
}

impl Entry {
    fn bytes(&self) -> usize {
        let other = match &self.outcome {
            Outcome::Done(bytes) => bytes.len(),
            Outcome::AsItIs | Outcome::Waiting(_) => 0,
        };
        self.payload.len() + other
    }
}

#[derive(Debug, Default)]
pub(super) struct Recent {
    entries: VecDeque<Entry>,
    bytes: usize,
    hasher: RandomState,
}

impl Recent {
    fn hash(&self, payload: &[u8]) -> u64 {
        let first = payload.get(..HASHED_BYTES).unwrap_or(payload);
        let last = payload.len().saturating_sub(HASHED_BYTES);
        let last = payload.get(last..).unwrap_or_default();
        self.hasher.hash_one((payload.len(), first, last))
    }

    /// What became of this payload.
    pub(super) fn find(
        &self,
        direction: Direction,
        stages: &Stages,
        payload: &[u8],
    ) -> Option<Outcome> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.hash(payload);
        let is_it = |entry: &&Entry| {
            entry.hash == hash
                && entry.direction == direction
                && entry.stages == *stages
                && entry.payload.as_slice() == payload
        };
        // Most often it is asked for right after.
        let found = self.entries.iter().rev().find(is_it)?;
        Some(found.outcome.clone())
    }

    pub(super) fn remember(
        &mut self,
        direction: Direction,
        stages: Stages,
        payload: Rc<Vec<u8>>,
        outcome: Outcome,
    ) {
        let entry = Entry {
            hash: self.hash(&payload),
            direction,
            stages,
            payload,
            outcome,
        };
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.forget();
    }

    /// What waited is done.
    pub(super) fn settle(&mut self, job: JobId, outcome: Outcome) {
        let waits = |entry: &&mut Entry| matches!(entry.outcome, Outcome::Waiting(id) if id == job);
        if let Some(entry) = self.entries.iter_mut().find(waits) {
            self.bytes -= entry.bytes();
            entry.outcome = outcome;
            self.bytes += entry.bytes();
        }
        self.forget();
    }

    fn forget(&mut self) {
        while (self.bytes > RECENT_BYTES_MAX || self.entries.len() > RECENT_COUNT_MAX)
            && let Some(oldest) = self.entries.pop_front()
        {
            self.bytes -= oldest.bytes();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remember(recent: &mut Recent, payload: Vec<u8>, unpacked: usize) {
        let stages = Stages::parse("zstd").unwrap();
        let outcome = Outcome::Done(Rc::new(vec![0; unpacked]));
        recent.remember(Direction::Unpack, stages, Rc::new(payload), outcome);
    }

    #[test]
    fn what_is_remembered_is_bounded_in_number_and_bytes() {
        for count in [RECENT_COUNT_MAX, RECENT_COUNT_MAX + 1, 2 * RECENT_COUNT_MAX] {
            let mut recent = Recent::default();
            for number in 0..count {
                remember(&mut recent, number.to_le_bytes().to_vec(), 1);
            }
            assert_eq!(recent.len(), RECENT_COUNT_MAX);
            let zstd = Stages::parse("zstd").unwrap();
            let find = |number: usize| recent.find(Direction::Unpack, &zstd, &number.to_le_bytes());
            assert!(find(count - 1).is_some());
            assert_eq!(find(0).is_some(), count == RECENT_COUNT_MAX);
        }
        for (bytes, kept) in [
            (RECENT_BYTES_MAX, 1),
            (RECENT_BYTES_MAX + 1, 0),
            (2 * RECENT_BYTES_MAX, 0),
        ] {
            let mut recent = Recent::default();
            remember(&mut recent, vec![1; 9], bytes - 9);
            assert_eq!(recent.len(), kept, "{bytes}");
            assert!(recent.bytes <= RECENT_BYTES_MAX);
        }
    }

    #[test]
    fn neither_direction_stages_nor_the_middle_are_mistaken() {
        let mut recent = Recent::default();
        let payload = vec![7; 3 * HASHED_BYTES];
        remember(&mut recent, payload.clone(), 1);
        let (zstd, lz4) = (
            Stages::parse("zstd").unwrap(),
            Stages::parse("lz4").unwrap(),
        );
        assert!(recent.find(Direction::Unpack, &zstd, &payload).is_some());
        assert!(recent.find(Direction::Pack(0), &zstd, &payload).is_none());
        assert!(recent.find(Direction::Unpack, &lz4, &payload).is_none());
        let mut other = payload;
        other[HASHED_BYTES + HASHED_BYTES / 2] = 8;
        assert!(recent.find(Direction::Unpack, &zstd, &other).is_none());
    }
}
