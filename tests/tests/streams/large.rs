//! A hundredth of what the benchmarks `stream-seek` and `history` read: what comes is right, however fast it is.

use std::path::Path;
use std::thread;

use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{RawClient, Server, ServerOptions};

use super::{done, info, lines};

const PAST: &str = "[[stream]]\nname = \"past\"\nfilters = [\"past/#\"]\n";

/// A server whose stream has so many messages on a hundred topics.
fn filled(directory: &Path, count: &str, bytes: &str) -> Server {
    let file = directory.join("waypost.toml");
    std::fs::write(&file, PAST).unwrap();
    let data_dir = directory.join("data");
    let words = ["import", "past", "--generate", count, "--bytes", bytes];
    done(
        &data_dir,
        &[&words[..], &["--config", file.to_str().unwrap()]].concat(),
    );
    ServerOptions::new()
        .configuration(PAST)
        .data_dir(&data_dir)
        .start()
}

/// The next message's offset.
fn offset(client: &mut RawClient) -> u64 {
    let received = client.receive_message();
    let publish = received.publish();
    let mut all = publish.properties.user_properties();
    let offset = all.find_map(|(name, value)| (name == "waypost-offset").then_some(value));
    offset.unwrap().parse().unwrap()
}

/// Goal: of a million small messages each is found by its offset and by its time. Method: the generator puts one into each
/// millisecond.
#[test]
fn a_million_messages_are_searched() {
    let directory = tempfile::tempdir().unwrap();
    let server = filled(directory.path(), "1000000", "16");
    let data_dir = server.data_dir();
    let first_ms = info(&data_dir, "past")["first_ms"].as_u64().unwrap();
    for at in [0, 1, 499_999, 777_777, 999_998, 999_999] {
        for spec in [
            format!("offset={at}"),
            format!("time={}", first_ms + at),
            format!("last={}", 1_000_000 - at),
        ] {
            let words = ["read", "past", "--from", &spec, "-C", "1", "--json"];
            let read = lines(&data_dir, &words);
            assert_eq!(read[0]["offset"], at, "{spec}");
            assert_eq!(read[0]["time_ms"], first_ms + at, "{spec}");
            let mut client = RawClient::connect(&server, ProtocolVersion::V5, "seeker");
            client.subscribe(&format!("$from/{spec}/past/#"), QoS::AtMostOnce);
            assert_eq!(offset(&mut client), at, "{spec}");
        }
    }
}

/// Goal: a hundred readers of 100 MB each get what they asked for, in order and without a hole, and what is published
/// meanwhile arrives.
#[test]
fn a_hundred_readers_read_beside_live_traffic() {
    let directory = tempfile::tempdir().unwrap();
    let server = filled(directory.path(), "100000", "1024");
    let mut live = RawClient::connect(&server, ProtocolVersion::V5, "live");
    live.subscribe("live", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, ProtocolVersion::V5, "publisher");
    thread::scope(|scope| {
        for reader in 0..100 {
            let server = &server;
            scope.spawn(move || {
                let name = format!("reader-{reader}");
                let mut client = RawClient::connect(server, ProtocolVersion::V5, &name);
                let begin = reader * 990;
                let filter = format!("$from/offset={begin}/past/#");
                client.subscribe(&filter, QoS::AtMostOnce);
                for expected in begin..begin + 1_000 {
                    assert_eq!(offset(&mut client), expected, "{name}");
                }
            });
        }
        for number in 0..100_u32 {
            publisher.publish("live", QoS::AtLeastOnce, number.to_string().as_bytes());
            let received = live.receive_message();
            assert_eq!(received.publish().payload, number.to_string().as_bytes());
        }
    });
}
