//! Which windows of [`WINDOW_BYTES`] bytes many publishers sent: counted exactly, a window is its own 64-bit key.

use std::collections::HashMap;

use super::WINDOW_BYTES;

/// A message, and who sent it.
#[derive(Clone, Copy)]
pub(super) struct Sample<'a> {
    /// One number for one publisher.
    pub publisher: u32,
    pub bytes: &'a [u8],
}

/// Which windows count as shared.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Those that so many distinct publishers sent.
    Publishers(usize),
    /// Those that are in so many messages, whoever sent them.
    Messages(usize),
}

/// The windows that are shared. Each has a place, and how many messages it is in.
pub(super) struct Shared {
    places: HashMap<u64, u32>,
    messages: Vec<u32>,
}

/// Windows are counted in so many parts, one after the other: memory for one part at a time.
const PARTS: u64 = 16;

pub(super) fn window(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.first_chunk::<WINDOW_BYTES>()?))
}

/// Every window of `bytes`.
pub(super) fn windows(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.windows(WINDOW_BYTES).filter_map(window)
}

fn part(window: u64) -> u64 {
    window.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PARTS.trailing_zeros())
}

impl Shared {
    pub(super) fn count(samples: &[Sample<'_>], rule: Rule) -> Self {
        let mut shared = Self {
            places: HashMap::new(),
            messages: Vec::new(),
        };
        let mut met: Vec<(u64, u32, u32)> = Vec::new();
        for now in 0..PARTS {
            met.clear();
            for (sample, number) in samples.iter().zip(0_u32..) {
                let of_part = windows(sample.bytes).filter(|window| part(*window) == now);
                met.extend(of_part.map(|window| (window, sample.publisher, number)));
            }
            met.sort_unstable();
            met.dedup();
            for same in met.chunk_by(|a, b| a.0 == b.0) {
                shared.consider(same, rule);
            }
        }
        shared
    }

    fn consider(&mut self, same: &[(u64, u32, u32)], rule: Rule) {
        let is_shared = match rule {
            Rule::Publishers(min) => same.chunk_by(|a, b| a.1 == b.1).nth(min - 1).is_some(),
            Rule::Messages(min) => same.len() >= min,
        };
        let (Some(&(window, ..)), true) = (same.first(), is_shared) else {
            return;
        };
        let (Ok(place), Ok(messages)) = (
            u32::try_from(self.messages.len()),
            u32::try_from(same.len()),
        ) else {
            return;
        };
        self.places.insert(window, place);
        self.messages.push(messages);
    }

    /// The place of a window that is shared.
    pub(super) fn place(&self, window: u64) -> Option<u32> {
        self.places.get(&window).copied()
    }

    /// In how many messages each window is, by its place.
    pub(super) fn messages(&self) -> &[u32] {
        &self.messages
    }
}
