//! The store's numbers, where metrics and `$SYS` find them.

use std::sync::atomic::{AtomicU64, Ordering};

use waypost_store::{Disk, Store};

use super::clock::WallClock;
use super::intake::Intake;
use crate::metrics::Stats;

/// Counts more of something.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Says how much of something there is.
pub(super) fn set(gauge: &AtomicU64, to: u64) {
    gauge.store(to, Ordering::Relaxed);
}

/// Copies what the store counts.
pub(super) fn publish<D: Disk>(store: &Store<D>, wall: WallClock, intake: &Intake, stats: &Stats) {
    stats.streams.publish(&store.streams().list(wall.now_ms()));
    set(&stats.server.store_pending_bytes, intake.bytes() as u64);
    let figures = match store.figures() {
        Ok(figures) => figures,
        Err(error) => {
            log::warn!("the store's figures cannot be read: {error}");
            return;
        }
    };
    stats.set_cache_partitions(figures.cache_partitions);
    let stats = &stats.server;
    for (metric, value) in [
        (&stats.store_messages, figures.messages),
        (&stats.store_message_bytes, figures.message_bytes),
        (&stats.store_queues, figures.queues),
        (&stats.store_rows, figures.rows),
        (
            &stats.store_segments,
            figures.log_segments + figures.kept_segments,
        ),
        (&stats.store_segment_bytes, figures.log_bytes),
        (&stats.store_live_bytes, figures.live_bytes),
        (&stats.store_views_bytes, figures.views_file_bytes),
        (&stats.store_views_behind_bytes, figures.views.lag_bytes),
        (&stats.store_views_commits, figures.views.commits),
        (&stats.store_segments_retired, figures.retired.segments),
        (&stats.store_retired_bytes, figures.retired.bytes),
        (
            &stats.store_rewritten_bytes,
            figures.retired.rewritten_bytes,
        ),
        (&stats.store_cache_hits, figures.cache.hits),
        (&stats.store_cache_misses, figures.cache.misses),
        (&stats.store_cache_bytes, figures.cache_bytes),
        (&stats.store_cache_crowded_out, figures.cache_crowded_out),
    ] {
        set(metric, value);
    }
}
