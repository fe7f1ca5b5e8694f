//! `store-owed`: what messages cost that many offline sessions are owed, in memory and on disk.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_tests::bench::{memory_bytes, option};
use waypost_tests::past::disk_bytes;
use waypost_tests::{Server, ServerOptions, wait_for};

use super::crowd::{Client, publish_all};
use super::{data_dir, directory, megabytes};

const MEMORY_MB_MAX: f64 = 100.0;
const DISK_BYTES_PER_DEBT_MAX: f64 = 8.0;

/// Unacknowledged at a time: what a client may have by default.
const IN_FLIGHT: usize = 1_000;
const PAYLOAD: [u8; 64] = *b"sixty-four bytes that somebody who is away has to get, sometime!";

/// How long the views may take to come to the end of the log.
const SETTLE_LIMIT: Duration = Duration::from_mins(5);

pub fn run() -> Value {
    let sessions: u64 = option("--sessions", 1_000);
    let messages: u64 = option("--messages", 1_000_000);
    let seconds_max = Duration::from_secs(option("--seconds-max", 300));
    let each = messages / sessions;
    let all = owe("all", sessions, messages, seconds_max, |_| {
        "owed/all".to_owned()
    });
    let alone = owe("alone", sessions, each * sessions, seconds_max, |number| {
        format!("owed/alone/{}", number % sessions)
    });
    let is_met = all["is_met"] == true && alone["is_met"] == true;
    json!({
        "sessions": sessions,
        "goal_memory_mb": MEMORY_MB_MAX,
        "goal_disk_bytes_per_debt": DISK_BYTES_PER_DEBT_MAX,
        "all": all,
        "alone": alone,
        "is_met": is_met,
    })
}

/// One server, so many sessions that leave, messages to them.
fn owe(
    name: &str,
    sessions: u64,
    messages: u64,
    seconds_max: Duration,
    topic: impl Fn(u64) -> String,
) -> Value {
    let directory = directory();
    let data_dir = data_dir(directory.path());
    let server = ServerOptions::new()
        .data_dir(&data_dir)
        // Else a session is owed 64 MiB at most.
        .environment("WAYPOST_LIMITS__QUEUE_BYTES_MAX", "4GiB")
        .start();
    let memory = |name: &str| megabytes(memory_bytes(server.pid(), name));
    let empty = memory("VmRSS");
    for session in 0..sessions {
        let mut client = Client::connect(server.mqtt(), &format!("away-{session}"), false);
        client.subscribe("owed/all");
        client.subscribe(&format!("owed/alone/{session}"));
        client.disconnect();
    }
    let with_sessions = memory("VmRSS");
    let began = Instant::now();
    let sent = publish_all(
        server.mqtt(),
        messages,
        IN_FLIGHT,
        |number, client| client.publish(&topic(number), &PAYLOAD),
        || began.elapsed() < seconds_max,
    );
    let seconds = began.elapsed().as_secs_f64();
    settle(&server);
    let dropped = server.metric("waypost_dropped_queue_full_total");
    let debts = match name {
        "all" => sent * sessions,
        _ => sent,
    };
    let disk = disk_bytes(&data_dir);
    let views = server.metric("waypost_store_views_bytes");
    // What the message itself takes is in it too.
    let per_debt = disk as f64 / debts as f64;
    let growth = memory("VmRSS") - empty;
    let peak = memory("VmHWM") - empty;
    // "Further": beyond the first, with whom the message comes.
    let is_small = name != "all" || per_debt <= DISK_BYTES_PER_DEBT_MAX;
    drop(server);
    json!({
        "messages": sent,
        "debts": debts,
        "seconds": seconds,
        "memory_empty_mb": empty,
        "memory_sessions_mb": with_sessions - empty,
        "memory_growth_mb": growth,
        "memory_peak_growth_mb": peak,
        "disk_mb": megabytes(disk),
        "views_mb": views / 1e6,
        "disk_bytes_per_debt": per_debt,
        "dropped": dropped,
        "is_met": peak <= MEMORY_MB_MAX && is_small && dropped < 0.5,
    })
}

/// Waits until the views have all of the log.
pub fn settle(server: &Server) {
    wait_for("the views to have all of the log", SETTLE_LIMIT, || {
        let behind = server.metric("waypost_store_views_behind_bytes")
            + server.metric("waypost_store_pending_bytes");
        (behind < 0.5).then_some(())
    });
}
