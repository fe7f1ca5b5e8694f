//! `waypost store check` and `stats`.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};
use waypost_store::disk::RealDisk;
use waypost_store::log::{LogOptions, Recovery};
use waypost_store::{Batch, MessageId, QueueId};
use waypost_tests::Server;

use super::{World, files};

/// A data directory `data` whose store has fifty messages in several segments.
fn with_log() -> World {
    let world = World::new();
    let store = world.path("data/store");
    fs::create_dir_all(&store).unwrap();
    fs::write(world.path("data/waypost.lock"), "").unwrap();
    let options = LogOptions {
        segment_bytes: 4_000,
        ..LogOptions::default()
    };
    let disk = Arc::new(RealDisk::open(&store).unwrap());
    let recovery = Recovery::open(disk, options, None).unwrap();
    let (mut writer, ..) = recovery.finish().unwrap();
    for id in 1..=50_u64 {
        let mut batch = Batch::new();
        let body: Vec<u8> = (0..200_u8).map(|byte| byte ^ id.to_le_bytes()[0]).collect();
        batch.message(MessageId(id), u64::MAX, &body);
        batch.owe(MessageId(id), b"", [QueueId(1)]);
        batch.end();
        writer
            .append(&[batch.take()], 1_790_000_000_000 + id)
            .unwrap();
        writer.sync().unwrap();
    }
    world
}

impl World {
    fn segment(&self, number: u32) -> PathBuf {
        self.path(&format!("data/store/{number:08}.log"))
    }

    /// Changes a byte of a segment.
    fn damage(&self, number: u32, offset: usize) {
        let path = self.segment(number);
        let mut bytes = fs::read(&path).unwrap();
        bytes[offset] ^= 0x40;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_sound_store_is_said_to_be_sound_and_left_alone() {
    let world = with_log();
    let before = files(&world.path("data/store"));
    let report = world.store_json("data", &["check"]);
    assert_eq!(report["sound"], true);
    assert_eq!(
        (&report["messages"], &report["damage"]),
        (&json!(50), &json!([]))
    );
    let ended = world.store("data", &["check"]);
    assert_eq!(ended.code, 0);
    assert!(ended.stdout.starts_with("sound: "), "{ended:?}");
    assert!(
        ended
            .stdout
            .contains("50 messages; last written 2026-09-21T"),
        "{ended:?}"
    );
    assert_eq!(files(&world.path("data/store")), before);
}

#[test]
fn damage_is_told_by_file_and_offset() {
    let world = with_log();
    world.damage(1, 700);
    world.damage(2, 2_000);
    let ended = world.store("data", &["check"]);
    ended.failed_with(
        3,
        &["is damaged in 2 places", "hint: `waypost store repair`"],
    );
    let lines: Vec<_> = ended.stdout.lines().collect();
    assert!(lines[0].starts_with("00000001.log, byte "), "{ended:?}");
    assert!(lines[1].starts_with("00000002.log, byte "), "{ended:?}");
    assert!(lines[2].starts_with("the rest is sound: "), "{ended:?}");
    let ended = world.store("data", &["check", "--json"]);
    assert_eq!(ended.code, 3);
    let report: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["sound"], false);
    for (damage, (file, at)) in report["damage"]
        .as_array()
        .unwrap()
        .iter()
        .zip([("00000001.log", 700), ("00000002.log", 2_000)])
    {
        assert_eq!(damage["file"], file);
        let offset = damage["offset"].as_u64().unwrap();
        assert!((offset..offset + damage["bytes"].as_u64().unwrap()).contains(&at));
    }
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_alone() {
    let world = with_log();
    let path = world.segment(1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let sum = crc32c::crc32c(&bytes[..124]).to_le_bytes();
    bytes[124..128].copy_from_slice(&sum);
    fs::write(&path, bytes).unwrap();
    let before = files(&world.path("data/store"));
    for words in [&["check"], &["repair"], &["stats"]] {
        world.store("data", words).failed_with(
            1,
            &[
                "00000001.log has format 2",
                "reads up to 1",
                "start the version that wrote it",
            ],
        );
    }
    assert_eq!(files(&world.path("data/store")), before);
}

#[test]
fn stats_say_what_is_on_the_disk() {
    let world = with_log();
    let stats = world.store_json("data", &["stats"]);
    let segments = stats["segments"].as_array().unwrap();
    assert!(segments.len() > 2);
    let transactions = segments
        .iter()
        .map(|segment| segment["sealed"]["transactions"].as_u64().unwrap())
        .sum::<u64>();
    assert_eq!(transactions, 50);
    let on_disk: usize = files(&world.path("data/store"))
        .iter()
        .map(|(_, bytes)| bytes.len())
        .sum();
    assert_eq!(stats["bytes"], on_disk);
    assert!(stats["free_bytes"].as_u64().unwrap() > 0);
    let ended = world.store("data", &["stats"]);
    assert!(ended.stdout.starts_with("segment  kind"), "{ended:?}");
    assert_eq!(ended.stdout.lines().count(), segments.len() + 2);
}

#[test]
fn what_a_server_uses_is_not_looked_through() {
    let server = Server::start();
    fs::create_dir_all(server.data_dir().join("store")).unwrap();
    let world = World::new();
    let data_dir = server.data_dir();
    for words in [&["check"], &["repair"], &["stats"]] {
        world.store(data_dir.to_str().unwrap(), words).failed_with(
            1,
            &["a server uses the data directory", "waypost store backup"],
        );
    }
    for words in [&["check"], &["repair"], &["stats"]] {
        world
            .store("none", words)
            .failed_with(1, &["there is no store in none"]);
    }
}

#[test]
fn a_damaged_store_is_whole_again_after_a_repair() {
    let world = with_log();
    world.damage(1, 700);
    world.damage(2, 20);
    let ended = world.store("data", &["repair"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for part in [
        "00000001.log, byte ",
        "bytes are a hole now",
        "00000002.log: the header is back",
    ] {
        assert!(ended.stdout.contains(part), "no {part:?} in {ended:?}");
    }
    let report = world.store_json("data", &["check"]);
    assert_eq!(report["sound"], true);
    let done = world.store_json("data", &["repair"]);
    assert_eq!(
        (&done["mended"], &done["messages_lost"]),
        (&json!([]), &json!(0))
    );
    assert_eq!(
        world.store("data", &["repair"]).stdout,
        "nothing to repair\n"
    );
}
