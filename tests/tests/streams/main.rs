//! Streams with the built program: `waypost streams …`, and clients that read what was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod commands;
mod history;
mod large;

use std::path::Path;
use std::process::Output;

use serde_json::Value;
use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{RawClient, Server, waypost};

/// How a command ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// `waypost streams` with these words, about a data directory.
fn streams(data_dir: &Path, words: &[&str]) -> Ended {
    let mut command = waypost();
    command.arg("streams").args(words);
    command.arg("--data-dir").arg(data_dir);
    command.output().unwrap().into()
}

/// The same, which must succeed; what it printed.
#[track_caller]
fn done(data_dir: &Path, words: &[&str]) -> String {
    let ended = streams(data_dir, words);
    assert_eq!(ended.code, 0, "{words:?}: {ended:?}");
    ended.stdout
}

/// The same, of which every line is an object.
#[track_caller]
fn lines(data_dir: &Path, words: &[&str]) -> Vec<Value> {
    let printed = done(data_dir, words);
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[track_caller]
fn info(data_dir: &Path, name: &str) -> Value {
    serde_json::from_str(&done(data_dir, &["info", name, "--json"])).unwrap()
}

/// Publishes messages with these numbers on a topic; each is acknowledged.
fn publish(server: &Server, topic: &str, numbers: impl IntoIterator<Item = u32>) {
    let mut client = RawClient::connect(server, ProtocolVersion::V5, "publisher");
    for number in numbers {
        client.publish(topic, QoS::AtLeastOnce, number.to_string().as_bytes());
    }
    client.disconnect();
}

/// What of each record is compared.
fn payloads(records: &[Value]) -> Vec<(u64, String)> {
    let told = records.iter().map(|record| {
        (
            record["offset"].as_u64().unwrap(),
            record["payload"].as_str().unwrap().to_owned(),
        )
    });
    told.collect()
}

fn numbered(offsets: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    let told = offsets.into_iter();
    told.map(|offset| (offset, offset.to_string())).collect()
}
