//! What a user of the commands sees: real processes against a server of their own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod program;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use program::{PROGRAM, Server, text};

#[test]
fn what_pub_sends_sub_shows() {
    let server = Server::start();
    for qos in ["0", "1", "2"] {
        for version in ["mqttv5", "mqttv311"] {
            let subscriber = server.subscribe(&["-t", "a/+", "-q", qos, "-C", "2"]);
            let sent = server.run(
                "pub",
                &["-t", "a/b", "-m", "grüß", "-q", qos, "-V", version],
            );
            assert!(sent.status.success(), "{}", text(&sent.stderr));
            let sent = server.run("pub", &["-t", "a/c", "-n", "-q", qos, "-V", version]);
            assert!(sent.status.success(), "{}", text(&sent.stderr));
            let messages = subscriber.messages();
            let qos = json!(qos.parse::<u8>().unwrap());
            for (message, (topic, payload)) in messages.iter().zip([("a/b", "grüß"), ("a/c", "")])
            {
                assert_eq!(message["topic"], topic);
                assert_eq!(message["payload"], payload);
                assert_eq!(message["qos"], qos);
            }
        }
    }
}

#[test]
fn lines_and_properties_pass_through() {
    let server = Server::start();
    let subscriber = server.subscribe(&["-t", "a", "-C", "3"]);
    let mut publisher = server
        .command("pub", &["-t", "a", "-l", "-q", "1"])
        .args(["-D", "publish", "user-property", "k", "v"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(publisher.stdin.as_mut().unwrap(), b"one\n\nthree").unwrap();
    drop(publisher.stdin.take());
    assert!(publisher.wait().unwrap().success());
    let messages = subscriber.messages();
    let payloads: Vec<_> = messages
        .iter()
        .map(|message| message["payload"].clone())
        .collect();
    assert_eq!(payloads, ["one", "", "three"]);
    assert_eq!(
        messages[0]["properties"],
        json!({"user_properties": [["k", "v"]]})
    );
}

#[test]
fn replay_loses_nothing_and_keeps_each_users_order() {
    let server = Server::start();
    let users = [
        json!("ann"),
        json!("a/b+#"),
        json!(7),
        Value::Null,
        json!("zoë"),
        json!("f"),
    ];
    let mut content = String::new();
    for number in 0..1_200 {
        let user = &users[number * 7 % users.len()];
        let record = json!({"user": user, "room": number % 3, "n": number});
        writeln!(content, "{record}").unwrap();
    }
    let file = server.file("chat.jsonl", &content);
    for (qos, connections) in [("0", "100"), ("1", "2"), ("2", "4")] {
        let subscriber = server.subscribe(&["-t", "chat/#", "-q", qos, "-C", "1200"]);
        let replay = server.run(
            "replay",
            &[
                &file,
                "--topic",
                "chat/{room}/{user}",
                "--client",
                "{user}",
                "--client-default",
                "guest",
                "-q",
                qos,
                "--connections-max",
                connections,
                "--json",
            ],
        );
        assert!(replay.status.success(), "{}", text(&replay.stderr));
        let figures: Value = serde_json::from_slice(&replay.stdout).unwrap();
        assert_eq!(figures["records"], 1_200);
        assert_eq!(figures["sent"], 1_200);
        assert_eq!(figures["acked"], if qos == "0" { 0 } else { 1_200 });
        assert_eq!(figures["failed"], 0);
        let peak = figures["connections_peak"].as_u64().unwrap();
        assert!(peak <= connections.parse().unwrap(), "{peak} connections");

        let mut last = HashMap::new();
        let mut names: Vec<String> = Vec::new();
        let messages = subscriber.messages();
        assert_eq!(messages.len(), 1_200);
        for message in &messages {
            let record: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
            let number = record["n"].as_u64().unwrap();
            let before = last.insert(record["user"].to_string(), number);
            assert!(
                before.is_none_or(|before| before < number),
                "QoS {qos}: {record}"
            );
            let topic = message["topic"].as_str().unwrap();
            names.push(topic.rsplit('/').next().unwrap().to_owned());
        }
        names.sort();
        names.dedup();
        assert_eq!(names, ["7", "a%2Fb%2B%23", "ann", "f", "guest", "zoë"]);
    }
}

#[test]
fn bad_records_are_named_or_counted() {
    let server = Server::start();
    let file = server.file(
        "bad.jsonl",
        "{\"a\":\"x\"}\n{\"a\":\n{\"b\":1}\n{\"a\":\"y\"}\n",
    );
    let check = |arguments: &[&str], code: i32, part: &str| {
        let outcome = server.run("replay", &[&[file.as_str()], arguments].concat());
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        outcome
    };
    check(&["--topic", "t"], 2, "bad.jsonl:2: not JSON");
    check(
        &["--topic", "{c}"],
        2,
        "bad.jsonl:1: --topic: no field `c`; this record has: a",
    );
    check(&["--topic", "{c"], 2, "never closed");
    let skipped = check(&["--topic", "t/{a}", "--skip-bad", "--json"], 0, "");
    let figures: Value = serde_json::from_slice(&skipped.stdout).unwrap();
    assert_eq!(
        (&figures["sent"], &figures["skipped"]),
        (&json!(2), &json!(2))
    );
}

#[test]
fn failures_say_what_to_do_and_have_their_codes() {
    let server = Server::start();
    let check = |command: &mut Command, code: i32, part: &str| {
        let outcome = command.output().unwrap();
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(code), "{command:?}: {stderr}");
        assert!(stderr.contains(part), "{command:?}: {stderr}");
        assert!(
            !stderr.contains('\x1b'),
            "no colours beside a terminal: {stderr}"
        );
    };
    check(
        &mut server.command("sub", &["-t", "a", "-W", "0.1"]),
        27,
        "timed out",
    );
    check(
        &mut server.command("pub", &["-t", "a/+", "-m", "x"]),
        2,
        "not a topic",
    );
    check(
        &mut server.command("sub", &["-t", "a/#/b"]),
        2,
        "not a topic filter",
    );
    let plain = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(arguments);
        command
    };
    // Port 9 (discard) is where nothing listens.
    check(
        &mut plain(&["pub", "-p", "9", "-t", "a", "-m", "x"]),
        1,
        "waypost serve",
    );
    let missing = Path::new("no-such-file.jsonl").display().to_string();
    check(
        &mut server.command("replay", &[&missing, "--topic", "t"]),
        2,
        &missing,
    );
}

/// What is wrong between the socket and MQTT is named, with what to write instead.
#[test]
fn the_wrong_door_is_named() {
    let server = Server::start();
    let (mqtt, http) = (server.place(), server.http.clone());
    let check = |arguments: &[&str], code: i32, parts: [&str; 2]| {
        let mut command = Command::new(PROGRAM);
        command
            .args(["pub", "-t", "a", "-m", "x", "-q", "1"])
            .args(arguments);
        let outcome = command.output().unwrap();
        let stderr = text(&outcome.stderr);
        assert_eq!(outcome.status.code(), Some(code), "{arguments:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{arguments:?}: {stderr}");
        }
    };
    let url = |scheme: &str, place: &str| format!("--url={scheme}://{place}");
    let closed = "closed the connection before TLS was agreed on";
    check(
        &[&url("mqtts", mqtt)],
        1,
        [closed, &format!("mqtt://{mqtt}")],
    );
    check(&[&url("wss", mqtt)], 1, [closed, &format!("ws://{mqtt}")]);
    let unanswered = "without answering the WebSocket request";
    check(
        &[&url("ws", mqtt)],
        1,
        [unanswered, &format!("mqtt://{mqtt}")],
    );
    check(
        &[&url("mqtt", &http)],
        1,
        ["speaks HTTP", &format!("ws://{http}")],
    );
    check(
        &[&url("mqtts", &http)],
        1,
        ["does not speak TLS", &format!("mqtt://{http}")],
    );
    let elsewhere = url("ws", &format!("{http}/elsewhere"));
    check(&[&elsewhere], 1, ["404", "another path than /elsewhere"]);

    let folder = server.directory.path();
    let nowhere = folder.join("no.sock").display().to_string();
    check(&["--unix", &nowhere], 1, ["cannot reach", "--unix"]);
    check(&[&url("unix", &nowhere)], 1, ["cannot reach", "--unix"]);
    let no_file = folder.join("ca.pem").display().to_string();
    check(&["--cafile", &no_file], 2, [&no_file, "No such file"]);
    let empty = server.file("empty.pem", "");
    check(&["--cafile", &empty], 2, [&empty, "no certificate"]);
    let own = ["--insecure", "--cert", &empty, "--key", &empty];
    check(&own, 2, [&empty, "no certificate in PEM"]);
    let plain = [&url("mqtt", mqtt), "--insecure"].map(str::to_owned);
    check(
        &plain.each_ref().map(String::as_str),
        2,
        ["not encrypted", "mqtts://"],
    );
    check(
        &["--unix", &nowhere, "--insecure"],
        2,
        ["no TLS", "leave out"],
    );
    check(&["--cert", &empty], 2, ["--key", "required"]);
    check(
        &["--url", "mqtts://a_b c"],
        2,
        ["neither a host name", "certificate"],
    );
}

#[test]
fn bench_counts_no_faults() {
    let server = Server::start();
    for scenario in ["pair", "room", "qos1", "qos2"] {
        let outcome = server.run("bench", &[scenario, "--seconds", "0.2", "--json"]);
        assert!(outcome.status.success(), "{}", text(&outcome.stderr));
        let figures: Value = serde_json::from_slice(&outcome.stdout).unwrap();
        assert!(
            figures["delivered_per_s"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
        assert!(
            figures["latency_p99_ms"].as_f64().unwrap() > 0.0,
            "{figures}"
        );
        for fault in ["missing", "duplicates", "reordered"] {
            assert_eq!(figures[fault], 0, "{figures}");
        }
    }
}
