//! What a server may cost, whatever its clients do: many that say nothing, one that sleeps while others talk, descriptors that
//! run out, other shards that cannot keep up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    clippy::cast_precision_loss,
    reason = "a test fails by panicking, and counts are small"
)]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    time::Instant,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};
use waypost_mqtt::{Packet, ProtocolVersion::V5, QoS, ReasonCode};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, connect_packet, wait_for};

/// Resident memory of the server's process.
fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// This process may hold thousands of connections.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, raised).unwrap();
}

/// Goal: a reader that sleeps costs its outbox, not what is published. Method: 1 GiB is published, and another reader takes all of
/// it, each message before the next.
#[test]
fn a_gibibyte_beside_a_reader_that_sleeps() {
    const LENGTH: usize = 1 << 20;
    let server = Server::start();
    let mut sleeper = RawClient::connect(&server, V5, "sleeper");
    sleeper.subscribe("t", QoS::AtMostOnce);
    let mut awake = RawClient::connect(&server, V5, "awake");
    awake.subscribe("t", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let before = memory_kib(&server);
    let payload = vec![b'x'; LENGTH];
    let mut most = 0;
    for number in 0..1_024 {
        publisher.publish("t", QoS::AtMostOnce, &payload);
        assert_eq!(awake.receive_message().publish().payload.len(), LENGTH);
        if number % 64 == 0 {
            most = most.max(memory_kib(&server).saturating_sub(before));
        }
    }
    // Its outbox, the buffers kept for the next large packets, and what is under way.
    assert!(most < 48 * 1024, "{most} KiB more");
    assert!(server.metric("waypost_dropped_qos0_outbox_total") > 900.0);
}

/// Goal: 2,000 connections that never finish their CONNECT cost little and keep nobody out.
#[test]
fn two_thousand_half_open_connections() {
    const COUNT: usize = 2_000;
    raise_file_limit();
    let server = Server::start();
    let before = memory_kib(&server);
    let half: Vec<TcpStream> = (0..COUNT)
        .map(|_| {
            let mut stream = TcpStream::connect(server.mqtt()).unwrap();
            stream.write_all(&[0x10, 0x40, 0, 4, b'M', b'Q']).unwrap();
            stream
        })
        .collect();
    server.wait_for_metric("waypost_connections", COUNT as f64);
    let start = Instant::now();
    RawClient::connect(&server, V5, "whole").disconnect();
    assert!(start.elapsed() < LIMIT);
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 4 * 1024, "{grown} KiB more");
    drop(half);
    wait_for("the connections to be gone", LIMIT, || {
        (server.metric("waypost_connections") == 0.0).then_some(())
    });
}

/// Goal: `limits.connections_max` is exact in a storm and every connection beyond it is counted. Method: 2N at once, round after
/// round.
#[test]
fn twice_connections_max_at_once() {
    const N: usize = 50;
    raise_file_limit();
    let server = ServerOptions::new()
        .arguments(["--set", "limits.connections_max=50"])
        .start();
    for round in 1..=5_usize {
        let clients: Vec<TcpStream> = (0..2 * N)
            .map(|_| TcpStream::connect(server.mqtt()).unwrap())
            .collect();
        wait_for("all to be accepted or refused", LIMIT, || {
            let total = server.metric("waypost_accepts_total")
                + server.metric("waypost_accepts_refused_total");
            (total == (round * 2 * N) as f64).then_some(())
        });
        assert_eq!(server.metric("waypost_accepts_total"), (round * N) as f64);
        assert_eq!(server.metric("waypost_connections"), N as f64);
        drop(clients);
        wait_for("the connections to be gone", LIMIT, || {
            (server.metric("waypost_connections") == 0.0).then_some(())
        });
    }
}

/// Goal: when descriptors run out, whoever waits in the backlog is served when there are some again, nobody is lost, and waiting
/// costs no CPU to speak of.
#[test]
fn clients_that_wait_for_descriptors_are_all_served() {
    const COUNT: usize = 100;
    let server = ServerOptions::new()
        .arguments(["--set", "limits.connect_timeout=1m"])
        .start();
    let pid = Pid::from_raw(server.pid().cast_signed());
    let limit = |current| Rlimit {
        current: Some(current),
        maximum: Some(1_000),
    };
    let mut http = BufReader::new(TcpStream::connect(server.http()).unwrap());
    http.get_ref().set_read_timeout(Some(LIMIT)).unwrap();
    let mut accept_errors = || {
        http.get_mut()
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        loop {
            let mut line = String::new();
            http.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("waypost_accept_errors_total ") {
                return value.trim().parse::<u64>().unwrap();
            }
        }
    };
    assert_eq!(accept_errors(), 0);
    prlimit(pid, Resource::Nofile, limit(0)).unwrap();
    let mut clients: Vec<RawClient> = (0..COUNT)
        .map(|number| {
            let mut client = RawClient::open(server.mqtt(), V5);
            client.send(&Packet::Connect(connect_packet(V5, &format!("c{number}"))));
            client
        })
        .collect();
    let start = Instant::now();
    wait_for("several pauses", LIMIT, || {
        (accept_errors() >= COUNT as u64 + 3).then_some(())
    });
    // One try per pause of 100 ms, and one per newcomer.
    let tries = 10 * (start.elapsed().as_secs() + 1) + 2 * COUNT as u64 + 10;
    assert!(accept_errors() <= tries, "accepting spins");
    prlimit(pid, Resource::Nofile, limit(1_000)).unwrap();
    for client in &mut clients {
        assert_eq!(client.receive().conn_ack().reason, ReasonCode::Success);
    }
}

/// Goal: `limits.mailbox_bytes_max` slows who publishes and loses nothing. Method: bursts of messages that are each more than the
/// bound, from one shard's client to another's, until one was held back.
#[test]
fn a_full_mailbox_slows_and_loses_nothing() {
    const BURST: u32 = 40;
    let server = ServerOptions::new()
        .shards(2)
        .arguments(["--set", "limits.mailbox_bytes_max=64KiB"])
        .start();
    let mut readers: Vec<RawClient> = (0..2)
        .map(|number| {
            let mut reader = RawClient::connect(&server, V5, &format!("reader-{number}"));
            reader.subscribe("t", QoS::AtMostOnce);
            reader
        })
        .collect();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut payload = vec![b'x'; 200_000];
    let mut crossing = 0_u32;
    wait_for("a publisher to be held back", LIMIT, || {
        let burst = crossing..crossing + BURST;
        for number in burst.clone() {
            payload[..4].copy_from_slice(&number.to_be_bytes());
            publisher.publish("t", QoS::AtMostOnce, &payload);
        }
        for reader in &mut readers {
            for number in burst.clone() {
                let message = reader.receive_message();
                assert_eq!(message.publish().payload[..4], number.to_be_bytes());
            }
        }
        crossing = burst.end;
        (server.metric("waypost_reads_paused_total") > 0.0).then_some(())
    });
    // `$events` and `$SYS` cross, too.
    let crossed = server.metric("waypost_publishes_from_shards_total");
    assert!(crossed >= f64::from(crossing), "{crossed}");
}
