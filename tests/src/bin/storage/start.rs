//! `store-start`: how soon a server with a long log and many sessions is ready, and what it reads until then.

use std::time::Instant;

use serde_json::{Value, json};
use waypost_tests::bench::{io_bytes, memory_bytes, option};
use waypost_tests::past::{Past, disk_bytes};
use waypost_tests::{LIMIT, ServerOptions, wait_for};

use super::{data_dir, directory, megabytes};

const SECONDS_MAX: f64 = 10.0;
const MEMORY_MB_MAX: f64 = 600.0;

/// What a start may read of the log beside headers and seals.
const TAIL_BYTES_MAX: u64 = 64 << 20;
/// Header, chain block, and seal of a segment.
const FOOTER_BYTES_MAX: u64 = 4 << 10;

pub fn run() -> Value {
    let directory = directory();
    let data_dir = data_dir(directory.path());
    let past = Past {
        sessions: option("--sessions", 1_000_000),
        log_bytes: (option("--log-gb", 10.0_f64) * 1e9) as u64,
        debtors: option("--debtors", 1_000),
        payload_bytes: option("--payload", 1_024),
        segment_bytes: 64 << 20,
        tail_bytes: option("--tail-mb", 60) << 20,
    };
    let began = Instant::now();
    let left = past.leave(&data_dir);
    eprintln!("{left:?} after {:.0} s", began.elapsed().as_secs_f64());
    let shards = option("--shards", 2);
    let began = Instant::now();
    // It prints where it listens when it does.
    let server = ServerOptions::new()
        .data_dir(&data_dir)
        .shards(shards)
        .start();
    wait_for("/health/ready", LIMIT, || {
        (server.get("/health/ready").0 == 200).then_some(())
    });
    let seconds = began.elapsed().as_secs_f64();
    let rchar = io_bytes(server.pid(), "rchar");
    let memory = megabytes(memory_bytes(server.pid(), "VmHWM"));
    let subscriptions = server.metric("waypost_subscriptions");
    let log_read = server.metric("waypost_store_start_log_bytes");
    let views_read = server.metric("waypost_store_start_views_bytes");
    let log_bound = TAIL_BYTES_MAX + left.segments * FOOTER_BYTES_MAX;
    // A start commits what it folds, so that the views grow before they are read. They are read twice at most: once to
    // hold them against their checksums.
    let views_bytes = left
        .views_bytes
        .max(server.metric("waypost_store_views_bytes") as u64);
    let views_read_max = 2 * views_bytes;
    let reads_little = log_read <= log_bound as f64 && views_read <= views_read_max as f64;
    let all_indexed = subscriptions >= past.sessions as f64;
    json!({
        "sessions": past.sessions,
        "shards": shards,
        "log_mb": megabytes(left.log_bytes),
        "segments": left.segments,
        "messages_owed": left.messages,
        "debtors": past.debtors,
        "views_mb": megabytes(left.views_bytes),
        "tail_mb": megabytes(left.tail_bytes),
        "disk_mb": megabytes(disk_bytes(&data_dir)),
        "seconds": seconds,
        "goal_seconds": SECONDS_MAX,
        "memory_peak_mb": memory,
        "goal_memory_mb": MEMORY_MB_MAX,
        "subscriptions": subscriptions,
        "log_read_mb": log_read / 1e6,
        "log_read_mb_max": megabytes(log_bound),
        "views_read_mb": views_read / 1e6,
        "views_read_mb_max": megabytes(views_read_max),
        "rchar_mb": megabytes(rchar),
        "is_met": seconds < SECONDS_MAX && memory < MEMORY_MB_MAX && reads_little && all_indexed,
    })
}
