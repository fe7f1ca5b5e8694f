//! `store-segments`: how much disk a session holds that is away while many segments pass.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use waypost_tests::ServerOptions;
use waypost_tests::bench::option;
use waypost_tests::past::disk_bytes;
use waypost_tests::random::Random;

use super::crowd::{Client, Crowd};
use super::owed::settle;
use super::{data_dir, directory, megabytes};

const SEGMENT_BYTES: u64 = 64 << 20;
const IN_FLIGHT: usize = 500;
const PAYLOAD: usize = 1_024;

/// For so long the disk must not shrink any more.
const STILL: Duration = Duration::from_secs(5);
const STILL_LIMIT: Duration = Duration::from_mins(2);

pub fn run() -> Value {
    let segments: u64 = option("--segments", 10);
    let one_in: u64 = option("--one-in", 20);
    let directory = directory();
    let data_dir = data_dir(directory.path());
    let server = ServerOptions::new()
        .data_dir(&data_dir)
        .environment("WAYPOST_LIMITS__QUEUE_BYTES_MAX", "4GiB")
        .start();
    let mut away = Client::connect(server.mqtt(), "away", false);
    away.subscribe("segments/away");
    away.disconnect();
    // One who is there, and takes everything at once: what passes has to be durable.
    let mut there = Client::connect(server.mqtt(), "there", false);
    there.subscribe("segments/+");
    let publisher = Client::connect(server.mqtt(), "publisher", true);
    let mut crowd = Crowd::new(vec![there, publisher]);
    let messages = segments * SEGMENT_BYTES / PAYLOAD as u64;
    let mut random = Random::new(segments);
    let (mut sent, mut peak) = (0, 0);
    let began = Instant::now();
    while crowd.clients[0].received < messages || crowd.in_flight() > 0 {
        let publisher = &mut crowd.clients[1];
        while sent < messages && publisher.in_flight < IN_FLIGHT {
            sent += 1;
            let topic = if sent % one_in == 0 {
                "segments/away"
            } else {
                "segments/there"
            };
            publisher.publish(topic, &payload(&mut random));
            if sent % 10_000 == 0 {
                peak = peak.max(disk_bytes(&data_dir));
            }
        }
        crowd.turn(|_, _, _| ());
    }
    let seconds = began.elapsed().as_secs_f64();
    settle(&server);
    let retiring = Instant::now();
    let (mut disk, mut since) = (disk_bytes(&data_dir), Instant::now());
    while since.elapsed() < STILL && retiring.elapsed() < STILL_LIMIT {
        thread::sleep(Duration::from_millis(100));
        let now = disk_bytes(&data_dir);
        if now != disk {
            (disk, since) = (now, Instant::now());
        }
    }
    let owed = server.metric("waypost_store_message_bytes") as u64;
    let bound = 2 * owed + 2 * SEGMENT_BYTES;
    crowd.disconnect();
    json!({
        "messages": messages,
        "segments": segments,
        "seconds": seconds,
        "retire_seconds": since.duration_since(retiring).as_secs_f64(),
        "owed_mb": megabytes(owed),
        "disk_peak_mb": megabytes(peak),
        "disk_mb": megabytes(disk),
        "views_mb": server.metric("waypost_store_views_bytes") / 1e6,
        "goal_disk_mb": megabytes(bound),
        "is_met": disk <= bound,
    })
}

/// What does not compress.
fn payload(random: &mut Random) -> [u8; PAYLOAD] {
    let mut payload = [0; PAYLOAD];
    for bytes in payload.chunks_mut(8) {
        bytes.copy_from_slice(&random.below(u64::MAX).to_le_bytes());
    }
    payload
}
