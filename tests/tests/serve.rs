//! `waypost serve` as its operator meets it: doors, settings, signals, exit codes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use waypost_mqtt::{ProtocolVersion, QoS};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, connect_packet, wait_for};

/// Waits until the server has said it.
#[track_caller]
fn wait_for_log(server: &Server, text: &str) {
    wait_for(text, LIMIT, || server.log().contains(text).then_some(()));
}

fn is_ready(server: &Server) -> bool {
    server.get("/health/ready").0 == 200
}

#[test]
fn sigterm_and_sigint_end_it_with_zero_and_leave_nothing_behind() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start();
        assert!(is_ready(&server));
        let socket = server.data_dir().join("waypost.sock");
        assert!(socket.exists());
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        assert!(!socket.exists());
    }
}

/// Goal: a drain waits for clients as long as `server.drain_timeout` says, is seen by health
/// checks, and a second signal ends it. Method: a client that reads nothing and stays.
#[test]
fn a_second_signal_ends_a_drain_at_once() {
    let mut server = ServerOptions::new()
        .arguments(["--set", "server.drain_timeout=1h"])
        .start();
    let _staying = RawClient::connect(&server, ProtocolVersion::V5, "staying");
    server.signal(Signal::TERM);
    wait_for_log(&server, "draining");
    assert_eq!(server.get("/health/ready"), (503, "draining\n".to_owned()));
    assert_eq!(server.get("/health/live").0, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(143));
}

#[test]
fn a_drain_ends_when_its_time_is_over() {
    let mut server = ServerOptions::new()
        .arguments(["--set", "server.drain_timeout=0s"])
        .start();
    let _staying = RawClient::connect(&server, ProtocolVersion::V5, "staying");
    let started = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn sighup_applies_what_can_change_and_says_what_cannot() {
    let server = ServerOptions::new()
        .configuration("[log]\nlevel = \"info\"\n")
        .start();
    let file = server.data_dir().with_file_name("waypost.toml");
    let reloads = |name: &str| {
        let metrics = server.get("/metrics").1;
        let line = metrics
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };

    std::fs::write(
        &file,
        "[limits]\nsessions_max = 5\n[log]\nlevel = \"loud\"\n",
    )
    .unwrap();
    server.signal(Signal::HUP);
    wait_for_log(&server, "log.level = \"loud\"");
    assert_eq!(reloads("waypost_reloads_failed_total"), 1);
    assert_eq!(reloads("waypost_reloads_total"), 0);

    std::fs::write(
        &file,
        "[limits]\nsessions_max = 5\n[log]\nlevel = \"warn\"\n",
    )
    .unwrap();
    server.signal(Signal::HUP);
    wait_for_log(
        &server,
        "changed, but only read at the start: limits.sessions_max",
    );
    wait_for("the reload to be counted", LIMIT, || {
        (reloads("waypost_reloads_total") == 1).then_some(())
    });
    assert!(
        !server.log().contains("settings read again"),
        "that is below `warn`"
    );
}

#[test]
fn the_log_level_decides_what_is_said() {
    for (level, expect) in [("info", true), ("error", false)] {
        let mut server = ServerOptions::new()
            .arguments(["--log-level", level])
            .start();
        server.terminate();
        assert_eq!(server.log().contains("draining"), expect, "{level}");
    }
}

#[test]
fn one_server_at_a_time_in_a_data_directory() {
    let first = Server::start();
    let directory = first.data_dir();
    let second = waypost_tests::waypost()
        .args([
            "serve",
            "--mqtt",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(&directory)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8(second.stderr).unwrap();
    let expect = format!("is in use by another server (process {})", first.pid());
    assert!(said.contains(&expect), "{said}");
}

#[test]
fn mistakes_in_settings_exit_with_two_and_name_the_remedy() {
    for (arguments, expect) in [
        (
            ["--mqtt", "0.0.0.0:1883"],
            "listen on loopback: --mqtt 127.0.0.1:1883",
        ),
        (
            ["--set", "limits.inflight=5"],
            "did you mean limits.inflight_max?",
        ),
        (
            ["--config", "/nowhere.toml"],
            "/nowhere.toml: cannot read the configuration file",
        ),
    ] {
        let output = waypost_tests::waypost()
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expect), "{said}");
    }
    let output = waypost_tests::waypost()
        .arg("serve")
        .env("WAYPOST_LIMITS__INFLIGHT", "5")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("did you mean WAYPOST_LIMITS__INFLIGHT_MAX?"),
        "{said}"
    );
}

#[test]
fn a_taken_port_exits_with_one_and_names_the_remedy() {
    let server = Server::start();
    let taken = server.mqtt().to_string();
    let directory = server.data_dir().with_file_name("other");
    let output = waypost_tests::waypost()
        .args([
            "serve",
            "--mqtt",
            &taken,
            "--http",
            "127.0.0.1:0",
            "--data-dir",
        ])
        .arg(&directory)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains(&taken) && said.contains("--mqtt 127.0.0.1:0"),
        "{said}"
    );
}

#[test]
fn the_api_tells_what_was_decided() {
    let server = ServerOptions::new()
        .shards(2)
        .environment("WAYPOST_LIMITS__INFLIGHT_MAX", "7")
        .start();
    let (status, body) = server.get("/api/v1/server");
    assert_eq!(status, 200);
    for expect in [
        "\"shards\": 2",
        "\"inflight_max\": 7",
        &format!("\"{}\"", server.mqtt()),
    ] {
        assert!(body.contains(expect), "{expect} in {body}");
    }
}

#[test]
fn the_api_tells_what_a_client_is_owed() {
    let server = ServerOptions::new().shards(2).start();
    for client_id in ["here", "a/b c", "there"] {
        let mut connect = connect_packet(ProtocolVersion::V311, client_id);
        connect.clean_start = false;
        let (mut away, _) = RawClient::connect_with(&server, &connect);
        away.subscribe("mail", QoS::AtLeastOnce);
        away.disconnect();
    }
    let mut publisher = RawClient::connect(&server, ProtocolVersion::V311, "publisher");
    publisher.publish("mail", QoS::AtLeastOnce, b"one");
    for path in ["here", "a%2Fb%20c", "there"] {
        wait_for("the message is in the queue", LIMIT, || {
            let (status, body) = server.get(&format!("/api/v1/clients/{path}"));
            assert_eq!(status, 200, "{body}");
            let owed = body.contains("\"queued\": 1") && body.contains("\"connected\": false");
            owed.then_some(())
        });
    }
    let (status, body) = server.get("/api/v1/clients/nobody");
    assert_eq!(
        (status, body.as_str()),
        (404, "no session has this client id\n")
    );
}

#[test]
fn system_topics_come_every_interval() {
    let server = ServerOptions::new()
        .arguments(["--set", "server.sys_interval=100ms"])
        .start();
    let mut client = RawClient::connect(&server, ProtocolVersion::V311, "watcher");
    client.subscribe("$SYS/broker/uptime", QoS::AtMostOnce);
    // The seconds since the start change once a second, and only changes are said.
    for _ in 0..2 {
        let received = client.receive();
        let message = received.publish();
        assert_eq!(message.topic, "$SYS/broker/uptime");
        assert!(message.payload.ends_with(b" seconds"), "{message:?}");
    }
}
