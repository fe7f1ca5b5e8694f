//! Latencies in buckets of at most 3 % width: bounded memory however many there are.

/// Buckets for each doubling; 1/32 is the relative width of the widest.
const PER_DOUBLING: usize = 32;
const DOUBLINGS: usize = 64 - PER_DOUBLING.ilog2() as usize;

/// Counts of values in nanoseconds.
#[derive(Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

impl Histogram {
    /// An empty histogram.
    pub fn new() -> Self {
        Self {
            buckets: vec![0; PER_DOUBLING * (DOUBLINGS + 1)],
            count: 0,
        }
    }

    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        if let Some(bucket) = self.buckets.get_mut(index_of(value)) {
            *bucket += 1;
            self.count += 1;
        }
    }

    /// The value that `percent` of all values do not exceed (its bucket's upper bound); none of
    /// nothing.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        self.buckets
            .iter()
            .position(|bucket| {
                seen += bucket;
                seen >= rank
            })
            .map(upper_bound_of)
    }
}

fn index_of(value: u64) -> usize {
    let base = PER_DOUBLING.ilog2();
    let doubling = (value | 1).ilog2().saturating_sub(base);
    // Below two doublings the buckets hold one value each.
    let within = usize::try_from(value >> doubling).unwrap_or(usize::MAX);
    doubling as usize * PER_DOUBLING + within
}

fn upper_bound_of(index: usize) -> u64 {
    let doubling = (index / PER_DOUBLING).saturating_sub(1);
    let within = (index - doubling * PER_DOUBLING) as u64;
    ((within + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_one_another_and_stay_narrow() {
        let mut before = 0;
        for value in (0..10_000).chain((14..63).flat_map(|bit| [(1 << bit) - 1, 1 << bit])) {
            let index = index_of(value);
            assert!(index >= before, "{value}");
            before = index;
            let upper = upper_bound_of(index);
            assert!(
                upper >= value && upper - value <= value / 32,
                "{value} in {upper}"
            );
        }
        assert!(index_of(u64::MAX) < Histogram::new().buckets.len());
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentile(50), None);
        for value in 1..=60 {
            histogram.record(value);
        }
        assert_eq!(histogram.percentile(50), Some(30));
        assert_eq!(histogram.percentile(100), Some(60));
        assert_eq!(histogram.percentile(0), Some(1));
    }
}
