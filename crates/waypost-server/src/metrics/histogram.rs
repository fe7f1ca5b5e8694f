//! Durations by how long they were.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, in microseconds. A fast flash drive syncs in the first, a disk that turns in the last.
const BOUNDS_US: [u64; 12] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000,
];

/// How often something took how long.
#[derive(Debug, Default)]
pub struct Histogram {
    /// By bound; the last is for what is beyond all of them.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Counts one.
    pub fn count(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// How many were counted.
    pub fn total(&self) -> u64 {
        let counts = self.counts.iter();
        counts.map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Its samples in Prometheus's text format, `name` in seconds.
    pub(super) fn render(&self, name: &str, out: &mut String) {
        let mut total = 0;
        let bounds = BOUNDS_US.iter().map(Some).chain([None]);
        // Writing to a String cannot fail.
        for (bound, count) in bounds.zip(&self.counts) {
            total += count.load(Ordering::Relaxed);
            let bound = bound.map_or("+Inf".to_owned(), |us| {
                Duration::from_micros(*us).as_secs_f64().to_string()
            });
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {total}");
        }
        let sum_s = Duration::from_micros(self.sum_us.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(out, "{name}_sum {sum_s:.6}\n{name}_count {total}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_at_and_around_every_bound() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 1_000_000, 1_000_001, 2_000_000] {
            histogram.count(Duration::from_micros(us));
        }
        let mut page = String::new();
        histogram.render("x_seconds", &mut page);
        for line in [
            "x_seconds_bucket{le=\"0.0001\"} 2\n",
            "x_seconds_bucket{le=\"0.00025\"} 3\n",
            "x_seconds_bucket{le=\"1\"} 4\n",
            "x_seconds_bucket{le=\"+Inf\"} 6\n",
            "x_seconds_sum 4.000202\n",
            "x_seconds_count 6\n",
        ] {
            assert!(page.contains(line), "{line}{page}");
        }
        assert_eq!(histogram.total(), 6);
    }
}
