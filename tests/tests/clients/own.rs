//! Waypost's own `pub`, `sub`, `replay` and `bench` through every door, and what they say when one stays shut.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use waypost_tests::{Run, Running, waypost};

use crate::doors::{Doors, as_user};

const DOORS: [&str; 5] = ["mqtt", "mqtts", "ws", "wss", "unix"];

/// `waypost COMMAND` at `url`, trusting the tests' authority where that matters; `@NAME` is a file of the certificates.
fn command(doors: &Doors, command: &str, url: &str, words: &str) -> Command {
    let mut process = waypost();
    process.args([command, "--url", url]).stdin(Stdio::null());
    if url.starts_with("mqtts") || url.starts_with("wss") {
        process
            .arg("--cafile")
            .arg(doors.certificates.path("ca.pem"));
    }
    for word in words.split_whitespace() {
        match word.strip_prefix('@') {
            Some(file) => process.arg(doors.certificates.path(file)),
            None => process.arg(word),
        };
    }
    process
}

fn run(doors: &Doors, name: &str, url: &str, words: &str) -> Run {
    Run::to_end(command(doors, name, url, words), [""; 0])
}

/// Starts a subscriber and returns when the server has its subscription.
fn subscribe(doors: &Doors, url: &str, words: &str) -> Running {
    let running = Running::start(command(doors, "sub", url, words));
    doors.server.wait_for_metric("waypost_subscriptions", 1.0);
    running
}

#[test]
fn a_conversation_at_every_qos_with_a_big_message() {
    let big: String = "0123456789abcdef".repeat(1 << 16);
    for door in DOORS {
        let doors = Doors::open();
        let url = doors.url(door);
        std::fs::write(doors.certificates.path("big"), &big).unwrap();
        let reader = subscribe(&doors, &url, "-t chat/# -q 2 -C 4 -W 20");
        for words in ["-q 0 -m zero", "-q 1 -m one", "-q 2 -m two", "-q 2 -f @big"] {
            run(&doors, "pub", &url, &format!("-t chat/lobby {words}")).expect_success();
        }
        let heard = reader.finish().expect_success();
        assert!(
            heard == format!("zero\none\ntwo\n{big}\n"),
            "{door}: {} bytes",
            heard.len()
        );
    }
}

/// Many connections at once, each message counted: nothing is lost, doubled or out of order.
#[test]
fn a_replay_and_a_benchmark() {
    let doors = Doors::open();
    let mut records = String::new();
    for number in 0..400 {
        writeln!(records, "{{\"user\":\"u{}\",\"n\":{number}}}", number % 20).unwrap();
    }
    std::fs::write(doors.certificates.path("chat.jsonl"), records).unwrap();
    for door in DOORS {
        let url = doors.url(door);
        let words = "@chat.jsonl --topic chat/{user} --client {user} -q 2 --json";
        let summary = run(&doors, "replay", &url, words).expect_success();
        assert!(summary.contains("\"acked\":400"), "{door}: {summary}");
        let words = "room --seconds 0.2 --json";
        let figures = run(&doors, "bench", &url, words).expect_success();
        assert!(
            figures.contains(&format!("\"door\":\"{door}\"")),
            "{figures}"
        );
    }
}

/// A relay that can cut what it carries, so that the same address stays.
struct Relay {
    port: u16,
    carried: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let carried = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&carried);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let far = TcpStream::connect(&target).unwrap();
                let pairs = [(&near, &far), (&far, &near)];
                for (from, to) in pairs {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || copy(from, to));
                }
                all.lock().unwrap().extend([near, far]);
            }
        });
        Self { port, carried }
    }

    fn cut(&self) {
        for stream in self.carried.lock().unwrap().drain(..) {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    drop(to.shutdown(std::net::Shutdown::Write));
}

#[test]
fn a_lost_connection_is_made_again_through_the_same_door() {
    for door in ["mqtts", "ws", "wss"] {
        let doors = Doors::open();
        let relay = Relay::to(doors.server.door(door));
        let url = format!("{door}://localhost:{}", relay.port);
        let reader = subscribe(&doors, &url, "-t news -q 2 -C 2 -W 20 -i reader -c");
        run(&doors, "pub", &doors.url("mqtt"), "-t news -q 2 -m one").expect_success();
        doors
            .server
            .wait_for_metric("waypost_deliveries_total", 1.0);
        relay.cut();
        run(&doors, "pub", &doors.url("mqtt"), "-t news -q 2 -m two").expect_success();
        let run = reader.finish();
        assert!(
            run.stderr.contains("connecting again"),
            "{door}: {}",
            run.stderr
        );
        assert_eq!(run.expect_success(), "one\ntwo\n", "{door}");
    }
}

#[test]
fn users_and_groups_through_every_door() {
    for door in DOORS {
        let doors = Doors::with_users();
        let url = match door {
            "unix" => doors.url(door),
            _ => as_user(&doors.url(door), "ann"),
        };
        let who = if door == "unix" {
            "-u ann -P secret"
        } else {
            ""
        };
        let words = format!("{who} -q 1 -t $share/pair/ann/jobs -C 2 -W 20");
        let first = subscribe(&doors, &url, &words);
        let second = Running::start(command(&doors, "sub", &url, &words));
        doors.server.wait_for_metric("waypost_subscriptions", 2.0);
        for job in ["a", "b", "c", "d"] {
            run(
                &doors,
                "pub",
                &url,
                &format!("{who} -q 1 -t ann/jobs -m {job}"),
            )
            .expect_success();
        }
        let heard = first.finish().expect_success() + &second.finish().expect_success();
        let mut jobs: Vec<_> = heard.lines().collect();
        jobs.sort_unstable();
        assert_eq!(jobs, ["a", "b", "c", "d"], "{door}");
        let elsewhere = run(&doors, "pub", &url, &format!("{who} -q 1 -t bob/a -m x"));
        let said = "refused the message: not authorized";
        assert!(
            elsewhere.stderr.to_lowercase().contains(said),
            "{door}: {elsewhere:?}"
        );
        let nobody = run(&doors, "pub", &doors.url(door), "-q 1 -t ann/a -m x");
        assert!(
            nobody.stderr.contains("-u NAME -P PASSWORD"),
            "{door}: {nobody:?}"
        );
    }
}

/// Runs `pub` that must fail, and say so.
fn refused(doors: &Doors, url: &str, words: &str, parts: [&str; 2]) {
    let outcome = run(doors, "pub", url, &format!("-t a -m x -q 1 {words}"));
    assert!(!outcome.success, "{url} {words}");
    for part in parts {
        assert!(
            outcome.stderr.contains(part),
            "{url} {words}: {}",
            outcome.stderr
        );
    }
}

#[test]
fn a_server_that_is_not_whom_it_says_is_named() {
    for (server, parts) in [
        ("expired", ["has expired", "clock"]),
        (
            "other-name",
            ["is for other.example, not for localhost", "--insecure"],
        ),
        ("stranger-server", ["not trusted here", "--cafile"]),
    ] {
        let doors = Doors::as_server(server);
        for door in ["mqtts", "wss"] {
            refused(&doors, &doors.url(door), "", parts);
            let insecure = run(&doors, "pub", &doors.url(door), "-t a -m x --insecure");
            assert_eq!(insecure.success, server == "other-name", "{insecure:?}");
        }
    }
}

/// Also what is in a list of `tls.crl`.
#[test]
fn a_client_certificate_that_is_wanted_or_wrong_is_named() {
    let doors = Doors::with(
        "client_ca = \"@ca.pem\"\nclient_certificates = \"required\"\ncrl = [\"@crl.pem\"]\n",
    );
    for door in ["mqtts", "wss"] {
        let url = doors.url(door);
        for (words, parts) in [
            ("", ["wants a client certificate", "--cert FILE --key FILE"]),
            (
                "--cert @stranger.pem --key @stranger.key",
                ["client certificate", "--cert"],
            ),
            (
                "--cert @expired-client.pem --key @expired-client.key",
                ["has expired", "--cert"],
            ),
            (
                "--cert @revoked.pem --key @revoked.key",
                ["was revoked", "--cert"],
            ),
            (
                "--cert @client.pem --key @bob.key",
                ["do not go together", "bob.key"],
            ),
        ] {
            refused(&doors, &url, words, parts);
        }
        for version in ["tlsv1.2", "tlsv1.3"] {
            let words = format!(
                "-t a -m x -q 1 --cert @client.pem --key @client.key --tls-version {version}"
            );
            run(&doors, "pub", &url, &words).expect_success();
        }
    }
}

#[test]
fn the_wrong_door_is_named() {
    let doors = Doors::open();
    for (scheme, door, parts) in [
        ("mqtt", "mqtts", ["speaks TLS", "write mqtts://"]),
        ("ws", "wss", ["speaks TLS", "write wss://"]),
        ("mqtts", "mqtt", ["before TLS was agreed on", "mqtt://"]),
        ("mqtt", "ws", ["speaks HTTP", "ws://"]),
        (
            "ws",
            "mqtt",
            ["without answering the WebSocket request", "mqtt://"],
        ),
        (
            "wss",
            "mqtts",
            ["without answering the WebSocket request", "mqtts://"],
        ),
        ("wss", "ws", ["does not speak TLS", "ws://"]),
    ] {
        let url = format!("{scheme}://{}", doors.place(door));
        refused(&doors, &url, "", parts);
    }
    assert!(doors.server.metric("waypost_clients") < 1.0);
    let elsewhere = format!("ws://{}/elsewhere", doors.place("ws"));
    refused(&doors, &elsewhere, "", ["404", "another path"]);
}
