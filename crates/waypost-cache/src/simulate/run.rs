//! A trace through one strategy.

use super::Trace;
use crate::Strategy;

/// How much a cache may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capacity {
    /// So many entries; sizes do not matter.
    Entries(u64),
    /// So many bytes.
    Bytes(u64),
}

impl Capacity {
    /// The number, without its unit.
    pub fn number(self) -> u64 {
        match self {
            Self::Entries(number) | Self::Bytes(number) => number,
        }
    }
}

/// What a cache would have been good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Requests played.
    pub requests: u64,
    /// How many of them found what they wanted.
    pub hits: u64,
    /// Bytes wanted; of a trace without sizes, as many as requests.
    pub bytes: u64,
    /// Bytes of those that were found.
    pub hit_bytes: u64,
}

impl Outcome {
    /// The part of the requests that were hits.
    pub fn hit_ratio(&self) -> f64 {
        ratio(self.hits, self.requests)
    }

    /// The part of the bytes that came from the cache.
    pub fn byte_hit_ratio(&self) -> f64 {
        ratio(self.hit_bytes, self.bytes)
    }

    pub(super) fn count(&mut self, size: u64, is_hit: bool) {
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(size);
        if is_hit {
            self.hits += 1;
            self.hit_bytes = self.hit_bytes.saturating_add(size);
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "a ratio needs no more than 53 bits"
)]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// Plays a trace through a new cache. By bytes, what is wanted in another size than it is kept in is a miss and replaces it.
/// Also says what the strategy then has to say for itself.
pub fn play(strategy: &Strategy, trace: &Trace, capacity: Capacity) -> (Outcome, String) {
    let mut cache = (strategy.new)(capacity.number());
    let mut evicted = Vec::new();
    let mut outcome = Outcome::default();
    match capacity {
        Capacity::Entries(_) => {
            for request in trace.requests() {
                let is_hit = cache.get(request.key);
                if !is_hit {
                    cache.insert(request.key, 1, &mut evicted);
                    evicted.clear();
                }
                outcome.count(request.size, is_hit);
            }
        }
        Capacity::Bytes(_) => {
            for request in trace.requests() {
                let is_here = cache.get(request.key);
                let is_hit = is_here && cache.weight_of(request.key) == Some(request.size);
                if !is_hit {
                    cache.insert(request.key, request.size, &mut evicted);
                    evicted.clear();
                }
                outcome.count(request.size, is_hit);
            }
        }
    }
    (outcome, cache.explain())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::find;

    #[test]
    fn a_new_size_is_a_miss_that_replaces() {
        let lines = ["a 10", "a 10", "a 12", "a 12", "b 9", "a 12"];
        let trace = Trace::of_lines(lines).unwrap();
        let (outcome, _) = play(find("lru").unwrap(), &trace, Capacity::Bytes(22));
        assert_eq!((outcome.requests, outcome.hits), (6, 3));
        assert_eq!((outcome.bytes, outcome.hit_bytes), (65, 34));
        assert!((outcome.hit_ratio() - 0.5).abs() < 1e-9);
        let (outcome, _) = play(find("lru").unwrap(), &trace, Capacity::Entries(2));
        assert_eq!(outcome.hits, 4, "by entries sizes do not matter");
    }

    #[test]
    fn an_empty_trace_hits_nothing() {
        let (outcome, _) = play(
            find("lru").unwrap(),
            &Trace::default(),
            Capacity::Entries(1),
        );
        assert!(outcome.hit_ratio().abs() < 1e-9 && outcome.byte_hit_ratio().abs() < 1e-9);
    }
}
