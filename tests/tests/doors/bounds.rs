//! What handshakes may cost: places, time, descriptors; and which shard a connection gets.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use waypost_tests::{Certificates, LIMIT, Server, ServerOptions, wait_for};

use crate::peer::{client, greet, greet_over_tls, ping, read_to_end, tcp, wrap};

fn server(certificates: &Certificates, toml: &str) -> Server {
    ServerOptions::new()
        .arguments([
            "--mqtts",
            "127.0.0.1:0",
            "--ws",
            "127.0.0.1:0",
            "--cert",
            &certificates.file("server.pem"),
            "--key",
            &certificates.file("server.key"),
        ])
        .configuration(toml)
        .start()
}

/// Half a `ClientHello`: a record that promises 512 bytes and brings 5.
const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03";

/// Goal: when as many handshakes as may be (`limits.handshakes_max`) are on their way, the next ones wait and are served when there is room again. Method:
/// N that never finish, then as many again that do everything right; the first leave.
#[test]
fn beyond_the_places_for_handshakes_clients_wait_and_lose_nothing() {
    let certificates = Certificates::make();
    let config = Arc::new(client(&certificates, None));
    for places in [1, 4] {
        let toml = format!("[limits]\nhandshakes_max = {places}\nhandshake_timeout = \"1h\"\n");
        let server = server(&certificates, &toml);
        let mut stuck: Vec<TcpStream> = (0..places).map(|_| half(&server)).collect();
        wait_for("the places to be taken", LIMIT, || {
            let open = server.metric("waypost_handshakes_open");
            (open >= f64::from(places)).then_some(())
        });
        let waiting: Vec<_> = (0..places)
            .map(|number| {
                let mut stream = wrap(tcp(&server.door("mqtts")), &config);
                std::thread::spawn(move || {
                    greet(&mut stream, &format!("c{number}")).unwrap();
                    stream
                })
            })
            .collect();
        server.wait_for_metric("waypost_accepts_paused_total", 1.0);
        assert!((server.metric("waypost_handshakes_open") - f64::from(places)).abs() < 0.5);
        // Doors without handshakes are open all the while.
        greet(&mut tcp(&server.mqtt().to_string()), "plain").unwrap();
        assert!(waiting.iter().all(|thread| !thread.is_finished()));
        stuck.clear();
        for thread in waiting {
            ping(&mut thread.join().unwrap()).unwrap();
        }
        server.wait_for_metric("waypost_handshakes_gone_total", f64::from(places));
    }
}

fn half(server: &Server) -> TcpStream {
    let mut stream = tcp(&server.door("mqtts"));
    stream.write_all(HALF_A_HELLO).unwrap();
    stream
}

/// Goal: who never finishes costs a place for a bounded time, however it goes about it, and nobody else notices.
#[test]
fn handshakes_that_take_too_long_are_closed() {
    let certificates = Certificates::make();
    let server = server(&certificates, "[limits]\nhandshake_timeout = \"300ms\"\n");
    let config = Arc::new(client(&certificates, None));
    let mut connected = greet_over_tls(&server, &config, "stays").unwrap();
    let mut silent = tcp(&server.door("mqtts"));
    let mut half = half(&server);
    let mut half_a_head = tcp(&server.door("ws"));
    half_a_head.write_all(b"GET /mqtt HTTP/1.1\r\nHos").unwrap();
    // A byte now and then does not put it off.
    let mut slow = tcp(&server.door("ws"));
    let begun = Instant::now();
    let slow_thread = std::thread::spawn(move || {
        while slow.write_all(b"G").is_ok() {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    });
    for stream in [&mut silent, &mut half, &mut half_a_head] {
        assert!(read_to_end(stream).is_empty());
    }
    slow_thread.join().unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(250));
    server.wait_for_metric("waypost_handshakes_timed_out_total", 4.0);
    wait_for("no handshake is left", LIMIT, || {
        (server.metric("waypost_handshakes_open") < 0.5).then_some(())
    });
    ping(&mut connected).unwrap();
}

#[test]
fn garbage_is_told_and_closed() {
    let certificates = Certificates::make();
    let server = server(&certificates, "");
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        crate::peer::connect("no-tls"),
        vec![0xff; 40_000],
        // A handshake message that never ends.
        [
            b"\x16\x03\x01\x40\x00\x01\x00\xff\xff".to_vec(),
            vec![0; 100_000],
        ]
        .concat(),
    ] {
        let mut stream = tcp(&server.door("mqtts"));
        // It may be closed before all is written.
        drop(stream.write_all(&garbage));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        assert!(answer.is_empty() || answer[0] == 0x15, "{answer:02x?}");
    }
    server.wait_for_metric("waypost_handshakes_failed_tls_total", 4.0);
    let config = Arc::new(client(&certificates, None));
    greet_over_tls(&server, &config, "a").unwrap();
}

/// Goal: when there is no descriptor left the listener waits, and who comes meanwhile is served when there is one. Method:
/// the limit of the running server is set to what it has open and a few more.
#[test]
fn running_out_of_descriptors_loses_nobody() {
    let certificates = Certificates::make();
    let server = server(&certificates, "");
    let config = Arc::new(client(&certificates, None));
    let mut connected = greet_over_tls(&server, &config, "stays").unwrap();
    let pid = Pid::from_raw(server.pid().cast_signed()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
        .unwrap()
        .count() as u64;
    let limited = |current: Option<u64>| {
        let before = prlimit(
            Some(pid),
            Resource::Nofile,
            Rlimit {
                current,
                maximum: Some(20_000),
            },
        );
        before.unwrap()
    };
    limited(Some(open + 4));
    let mut plain: Vec<TcpStream> = (0..20).map(|_| tcp(&server.mqtt().to_string())).collect();
    let mut over_tls: Vec<_> = (0..5)
        .map(|_| wrap(tcp(&server.door("mqtts")), &config))
        .collect();
    // Four of them are in; the others wait in the backlog. Whoever was connected is served all the while.
    ping(&mut connected).unwrap();
    wait_for("the descriptors to be used up", LIMIT, || {
        let now = std::fs::read_dir(format!("/proc/{}/fd", server.pid()))
            .unwrap()
            .count() as u64;
        (now >= open + 4).then_some(())
    });
    limited(Some(20_000));
    for (number, stream) in plain.iter_mut().enumerate() {
        greet(stream, &format!("p{number}")).unwrap();
    }
    for (number, stream) in over_tls.iter_mut().enumerate() {
        greet(stream, &format!("t{number}")).unwrap();
    }
    ping(&mut connected).unwrap();
    server.wait_for_metric("waypost_accept_errors_total", 1.0);
}

/// Connections on both shards, as text.
fn connections(server: &Server) -> String {
    let on = |shard| server.metric(&format!("waypost_connections{{shard=\"{shard}\"}}"));
    format!("{} {}", on(0), on(1))
}

/// Goal: server.balance decides. Method: four connections on two shards, the two of the first shard leave, two come.
#[test]
fn the_shard_of_a_connection_is_chosen_as_configured() {
    for (strategy, expect) in [("round-robin", "1 3"), ("least-connections", "2 2")] {
        let toml = format!("[server]\nbalance = {strategy:?}\n");
        let server = ServerOptions::new().shards(2).configuration(&toml).start();
        let open = |name: &str| {
            let mut stream = tcp(&server.mqtt().to_string());
            greet(&mut stream, name).unwrap();
            stream
        };
        let mut first: Vec<_> = ["a", "b", "c", "d"].map(|name| (name, open(name))).into();
        wait_for("two on each shard", LIMIT, || {
            (connections(&server) == "2 2").then_some(())
        });
        first.retain(|(name, _)| on_shard(&server, name) != 0);
        wait_for("the first shard to be empty", LIMIT, || {
            (connections(&server) == "0 2").then_some(())
        });
        let _new = ["e", "f"].map(open);
        wait_for("the new ones", LIMIT, || {
            (connections(&server) == expect).then_some(())
        });
    }
}

fn on_shard(server: &Server, client_id: &str) -> u16 {
    let (_, client) = server.get(&format!("/api/v1/clients/{client_id}"));
    let line = client
        .lines()
        .find(|line| line.contains("\"shard\""))
        .unwrap();
    line.trim()
        .trim_end_matches(',')
        .rsplit(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap()
}

/// Nothing of a client that vanishes in the middle stays behind.
#[test]
fn clients_that_vanish_give_their_places_back() {
    let certificates = Certificates::make();
    let server = server(&certificates, "[limits]\nconnections_max = 4\n");
    for _ in 0..3 {
        let streams: Vec<_> = (0..4).map(|_| half(&server)).collect();
        wait_for("four handshakes", LIMIT, || {
            (server.metric("waypost_handshakes_open") > 3.5).then_some(())
        });
        drop(streams);
        wait_for("none", LIMIT, || {
            (server.metric("waypost_handshakes_open") < 0.5).then_some(())
        });
    }
    let mut refused = [0; 1];
    let mut streams: Vec<_> = (0..4).map(|_| half(&server)).collect();
    server.wait_for_metric("waypost_handshakes_total", 16.0);
    assert_eq!(
        tcp(&server.door("mqtts")).read(&mut refused).unwrap_or(0),
        0
    );
    server.wait_for_metric("waypost_accepts_refused_total", 1.0);
    streams.clear();
}
