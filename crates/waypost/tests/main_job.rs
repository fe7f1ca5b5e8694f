//! The main job: recorded messages replayed through a server to subscribers; nothing missing,
//! nothing doubled, each user's order kept in each topic, also over connections that break.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod program;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use program::{Server, text};

/// The rest of the real files is for a longer test.
const REAL_RECORDS_MAX: usize = 2_000;

/// What a replay is told beside its file, and what each record must become: (user, topic).
struct Job {
    prefix: &'static str,
    topic: &'static str,
    client: &'static str,
    parts: fn(&Value) -> (String, String),
}

const CHAT: Job = Job {
    prefix: "chat/#",
    topic: "chat/{room}/{user}",
    client: "{user}",
    parts: |record| {
        let user = part(record, "user");
        let topic = format!("chat/{}/{user}", part(record, "room"));
        (user, topic)
    },
};

const ORDERS: Job = Job {
    prefix: "orders/#",
    topic: "orders/{customer}",
    client: "{customer}",
    parts: |record| {
        let customer = part(record, "customer");
        let topic = format!("orders/{customer}");
        (customer, topic)
    },
};

/// A field as a template writes it.
fn part(record: &Value, field: &str) -> String {
    let text = match &record[field] {
        Value::Null => "guest".to_owned(),
        Value::String(text) if text.is_empty() => "guest".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = text.replace('/', "%2F").replace('+', "%2B");
    text.replace('#', "%23")
}

/// A chat of several rooms; each record is numbered by its `n`.
fn chat(records: u64) -> Vec<Value> {
    let users = [
        json!("ann"),
        json!("bob/work"),
        json!("c++"),
        json!("#1"),
        json!("zoë ☺"),
        json!("100%"),
        json!(7),
        json!(""),
        Value::Null,
    ];
    let rooms = ["lobby", "a/b", "c#", "d+"];
    let pick = |seed: u64, of: usize| usize::try_from(seed).unwrap() % of;
    (0..records)
        .map(|n| {
            // A multiplicative hash: neither users nor rooms take turns.
            let seed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            json!({
                "user": users[pick(seed, users.len())],
                "room": rooms[pick(seed / 16, rooms.len())],
                "n": n,
                "text": "x".repeat(pick(seed, 300)),
            })
        })
        .collect()
}

fn lines(records: &[Value]) -> String {
    let mut text = String::new();
    for record in records {
        text += &record.to_string();
        text.push('\n');
    }
    text
}

/// The payloads of each user in each topic, in order.
type Orders = BTreeMap<(String, String), Vec<Value>>;

fn sent(records: &[Value], job: &Job) -> Orders {
    let mut orders = Orders::new();
    for record in records {
        orders
            .entry((job.parts)(record))
            .or_default()
            .push(record.clone());
    }
    orders
}

fn received(messages: &[Value], job: &Job) -> Orders {
    let mut orders = Orders::new();
    for message in messages {
        let record: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
        let (user, topic) = (job.parts)(&record);
        assert_eq!(message["topic"], topic.as_str());
        orders.entry((user, topic)).or_default().push(record);
    }
    orders
}

/// Replays `file` to two subscribers at each QoS; `records` are what it holds.
fn check(server: &Server, file: &str, records: &[Value], job: &Job) {
    let count = records.len().to_string();
    let expect = sent(records, job);
    for qos in ["0", "1", "2"] {
        let subscribe = || server.subscribe(&["-t", job.prefix, "-q", qos, "-C", &count]);
        let subscribers = [subscribe(), subscribe()];
        let figures = replay(&server.url, file, qos, job);
        let acked = if qos == "0" { 0 } else { records.len() };
        assert_eq!(figures["sent"], records.len(), "{figures}");
        assert_eq!(figures["acked"], acked, "{figures}");
        assert_eq!(figures["failed"], 0, "{figures}");
        for subscriber in subscribers {
            let messages = subscriber.messages();
            assert!(
                messages
                    .iter()
                    .all(|message| message["qos"] == figures["by_qos"][0]["qos"])
            );
            assert!(
                received(&messages, job) == expect,
                "{file}, QoS {qos}: something is missing, doubled or out of order"
            );
        }
    }
}

fn replay(url: &str, file: &str, qos: &str, job: &Job) -> Value {
    let mut command = std::process::Command::new(program::PROGRAM);
    command.args(["replay", file, "--url", url, "-q", qos, "--json"]);
    command.args(["--topic", job.topic, "--client", job.client]);
    command.args(["--client-default", "guest"]);
    let outcome = command.output().unwrap();
    assert!(outcome.status.success(), "{}", text(&outcome.stderr));
    serde_json::from_slice(&outcome.stdout).unwrap()
}

#[test]
fn a_small_chat_arrives_whole_and_in_order() {
    let server = Server::start();
    let records = chat(2_000);
    let file = server.file("chat.jsonl", &lines(&records));
    check(&server, &file, &records, &CHAT);
}

#[test]
fn a_single_field_is_sent_as_it_is() {
    let server = Server::start();
    let records = [
        json!({"user": "ann", "text": "grüß \"dich\""}),
        json!({"user": "ann", "text": null}),
        json!({"user": "ann", "text": 1.5}),
        json!({"user": "ann", "text": ["a", {"b": true}]}),
    ];
    let file = server.file("fields.jsonl", &lines(&records));
    let subscriber = server.subscribe(&["-t", "t", "-q", "1", "-C", "4"]);
    let arguments = [&file, "--topic", "t", "--payload", "text", "-q", "1"];
    let replay = server.run("replay", &arguments);
    assert!(replay.status.success(), "{}", text(&replay.stderr));
    let messages = subscriber.messages();
    let payloads: Vec<_> = messages.iter().map(|message| &message["payload"]).collect();
    assert_eq!(
        payloads,
        ["grüß \"dich\"", "", "1.5", "[\"a\",{\"b\":true}]"]
    );
}

#[test]
fn the_beginning_of_the_real_files_arrives_whole_and_in_order() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if !data.exists() {
        eprintln!("skipped: no ../shared/data");
        return;
    }
    let server = Server::start();
    let beginning = |name: &str| -> Vec<String> {
        let file = std::fs::File::open(data.join(name)).unwrap();
        let lines = BufReader::new(file).lines().map(Result::unwrap);
        lines.take(REAL_RECORDS_MAX).collect()
    };
    for (name, job) in [
        ("chat/ubuntu.jsonl", &CHAT),
        ("chat/rooms.jsonl", &CHAT),
        ("chat/presence.jsonl", &CHAT),
        ("orders/orders.jsonl", &ORDERS),
    ] {
        let lines = beginning(name);
        let records: Vec<_> = lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let file = server.file("real.jsonl", &(lines.join("\n") + "\n"));
        check(&server, &file, &records, job);
    }
    let lines = beginning("orders/order_lines.csv").join("\n") + "\n";
    let mut reader = csv::Reader::from_reader(lines.as_bytes());
    let records: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    let records: Vec<_> = records.iter().map(|record| json!(record)).collect();
    let file = server.file("real.csv", &lines);
    check(&server, &file, &records, &ORDERS);
}

/// A TCP relay to `server` that cuts a connection whenever another `bytes` have passed, either way.
fn breaking_relay(server: SocketAddr, bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let passed = Arc::new(AtomicUsize::new(0));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let upstream = TcpStream::connect(server).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), upstream.try_clone().unwrap()),
                (upstream, client),
            ] {
                let passed = Arc::clone(&passed);
                std::thread::spawn(move || {
                    let mut buffer = [0; 512];
                    while let Ok(count @ 1..) = from.read(&mut buffer) {
                        let before = passed.fetch_add(count, Ordering::Relaxed);
                        if before / bytes != (before + count) / bytes {
                            let _ = from.shutdown(Shutdown::Both);
                        }
                        if to.write_all(&buffer[..count]).is_err() {
                            break;
                        }
                    }
                    let _ = from.shutdown(Shutdown::Both);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    address
}

impl Server {
    fn breaking_url(&self, bytes: usize) -> String {
        let address = self.url.trim_start_matches("mqtt://").parse().unwrap();
        format!("mqtt://{}", breaking_relay(address, bytes))
    }
}

/// Goal: a lost connection costs nothing at QoS 1 and 2, and doubles nothing at QoS 2.
/// Method: a relay cuts connections in the middle of packets and before acknowledgements.
#[test]
fn a_replay_goes_on_over_new_connections() {
    let server = Server::start();
    let records = chat(400);
    let file = server.file("chat.jsonl", &lines(&records));
    let expect = sent(&records, &CHAT);
    for qos in ["1", "2"] {
        // A new one, far from its first cut: who is cut off before anybody was connected gives up.
        let url = server.breaking_url(25_000);
        // At QoS 1 some arrive twice, so there is no count to wait for: a session keeps them until
        // the replay is over, and then gives them at once.
        let session = ["-i", "reader", "-c", "-q", qos, "-t", "chat/#"];
        let kept = server.run("sub", &[&session[..], &["-E"]].concat());
        assert!(kept.status.success(), "{}", text(&kept.stderr));
        let figures = replay(&url, &file, qos, &CHAT);
        assert_eq!(figures["acked"], 400, "{figures}");
        assert_eq!(figures["failed"], 0, "{figures}");
        assert!(
            figures["connections_lost"].as_u64().unwrap() > 0,
            "{figures}"
        );
        let outcome = server.run("sub", &[&session[..], &["--json", "-W", "2"]].concat());
        let messages: Vec<Value> = text(&outcome.stdout)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let mut orders = received(&messages, &CHAT);
        if qos == "1" {
            for payloads in orders.values_mut() {
                payloads.sort_by_key(|record| record["n"].as_u64());
                payloads.dedup();
            }
        }
        assert!(orders == expect, "QoS {qos}: {figures}");
    }
}

#[test]
fn the_lines_of_pub_go_on_over_new_connections() {
    let server = Server::start();
    let url = server.breaking_url(4_000);
    let subscriber = server.subscribe(&["-t", "log", "-q", "2", "-C", "300"]);
    let mut publisher = std::process::Command::new(program::PROGRAM)
        .args(["pub", "--url", &url, "-t", "log", "-l", "-q", "2"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = publisher.stdin.take().unwrap();
    for number in 0..300 {
        writeln!(input, "{number} {}", "x".repeat(50)).unwrap();
    }
    drop(input);
    let outcome = publisher.wait_with_output().unwrap();
    let stderr = text(&outcome.stderr);
    assert!(outcome.status.success(), "{stderr}");
    assert!(stderr.contains("connecting again"), "{stderr}");
    for (number, message) in subscriber.messages().iter().enumerate() {
        let payload = message["payload"].as_str().unwrap();
        assert!(
            payload.starts_with(&format!("{number} ")),
            "{number}: {payload}"
        );
    }
}
