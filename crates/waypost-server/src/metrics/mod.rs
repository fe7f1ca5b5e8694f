//! What the server counts, and how it tells: Prometheus text, `$SYS` topics, JSON.
//!
//! A shard counts in plain fields of its own and copies them into its [`ShardStats`] once per tick,
//! with relaxed stores; readers sum over shards. So a count costs the data plane an addition.
//!
//! [`METRICS`] is the one table: a counter that is not in it is not exported, and a test fails.
//!
//! Deliberately not here: when anything is counted. That is said beside the code that counts.

mod histogram;
mod partitions;
mod prometheus;
mod streams;
mod system;
mod table;

pub use histogram::Histogram;
pub use prometheus::{Process, markdown, render};
pub use streams::{StreamFigures, StreamStats};
pub use system::SystemTopics;
pub use table::{
    Gauges, Kind, METRICS, Metric, Scope, ServerStats, ShardStats, ShellCounters, Snapshot,
};

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use waypost_store::PartitionFigures;

/// Everything that is counted in one server.
#[derive(Debug, Default)]
pub struct Stats {
    /// One block per shard, by shard.
    pub shards: Vec<Arc<ShardStats>>,
    /// What is counted outside the shards.
    pub server: ServerStats,
    /// What is counted for each stream.
    pub streams: StreamStats,
    /// How long the log's syncs took.
    pub store_sync_duration: Histogram,
    /// What each partition of the store's message cache is good for.
    cache_partitions: Mutex<Vec<PartitionFigures>>,
}

impl Stats {
    /// All at zero.
    pub fn new(shards: u16) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            server: ServerStats::default(),
            streams: StreamStats::default(),
            store_sync_duration: Histogram::default(),
            cache_partitions: Mutex::default(),
        }
    }

    /// A certificate, key or revocation list could not be taken over.
    pub(crate) fn count_failed_certificates(&self) {
        let failed = &self.server.certificate_reloads_failed;
        failed.fetch_add(1, Ordering::Relaxed);
    }

    /// When the first of the server's certificates ends, in seconds since 1970.
    pub(crate) fn set_certificate_expiry(&self, time_s: u64) {
        let expiry = &self.server.certificate_expiry_time_seconds;
        expiry.store(time_s, Ordering::Relaxed);
    }

    /// What each partition of the store's message cache is good for now. Where another strategy is at work than before,
    /// that is said.
    pub(crate) fn set_cache_partitions(&self, now: Vec<PartitionFigures>) {
        let mut last = self
            .cache_partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for part in &now {
            let before = last.iter().find(|before| before.name == part.name);
            if let Some(news) = partitions::news(before, part) {
                log::info!("{news}");
            }
        }
        *last = now;
    }

    /// What each partition of the store's message cache was good for when it was last asked.
    pub fn cache_partitions(&self) -> Vec<PartitionFigures> {
        let partitions = self.cache_partitions.lock();
        partitions.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The sums over all shards.
    pub fn totals(&self) -> Snapshot {
        let mut totals = Snapshot::default();
        for shard in &self.shards {
            totals.add(&shard.read());
        }
        totals
    }
}

#[cfg(test)]
mod tests;
