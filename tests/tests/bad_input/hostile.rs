//! Well-formed or nearly so, and meant badly: out of order, oversized, too many, too slow.

use std::{net::TcpStream, time::Instant};

use waypost_mqtt::{
    Packet, Property, PropertyBuffer, ProtocolVersion::V5, ProtocolVersion::V311, QoS, ReasonCode,
};
use waypost_tests::{
    LIMIT, RawClient, Server, ServerOptions,
    bytes::{
        CLEAN, connect_bytes, identified_bytes, listed, publish_bytes, request,
        subscribe_with_bytes, text,
    },
    connect_packet, subscribe_bytes, wait_for, with_fixed_header,
};

use crate::neighbours::{Neighbours, expect_metric, metric};

/// Packets out of turn: before CONNECT, a second CONNECT, what only servers send, releases of nothing.
#[test]
fn packets_out_of_order() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut early = RawClient::open(server.mqtt(), V5);
    early.send_raw(&publish_bytes(0x30, b"neighbours/t", None, &[]));
    early.expect_closed();
    neighbours.converse();
    for version in [V5, V311] {
        let mut twice = RawClient::connect(&server, version, "twice");
        twice.send(&Packet::Connect(connect_packet(version, "neighbour-sub")));
        twice.expect_refused(ReasonCode::ProtocolError);
        neighbours.converse();
    }
    let mut client = RawClient::connect(&server, V5, "releases");
    for packet_id in 1..=1_000 {
        client.send_raw(&identified_bytes(0x62, packet_id, &[]));
        let answer = client.receive();
        assert_eq!(
            answer.pub_comp().reason,
            ReasonCode::PacketIdentifierNotFound
        );
    }
    let mut client = RawClient::connect(&server, V311, "releases-311");
    client.send_raw(&identified_bytes(0x62, 1, &[]));
    assert_eq!(client.receive().pub_comp().packet_id.value(), 1);
    neighbours.converse();
}

/// A topic and a filter of 65,535 empty levels: refused by name, without harm to the session.
#[test]
fn topics_of_65_536_levels() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let deep = "/".repeat(65_535);
    let mut client = RawClient::connect(&server, V5, "deep");
    client.send_raw(&publish_bytes(0x32, deep.as_bytes(), Some(1), &[]));
    assert_eq!(
        client.receive().pub_ack().reason,
        ReasonCode::TopicNameInvalid
    );
    client.send_raw(&publish_bytes(0x30, deep.as_bytes(), None, &[]));
    client.fence();
    let wild = format!("{}#", "+/".repeat(32_767));
    for filter in [&deep, &wild] {
        client.send_raw(&subscribe_bytes(V5, 2, &[(filter, 0)]));
        let answer = client.receive();
        assert!(
            answer
                .sub_ack()
                .reasons
                .iter()
                .eq([ReasonCode::TopicFilterInvalid])
        );
    }
    let deep_will = [text("deep-will"), listed(&[]), text(&deep), text("gone")];
    let mut client = RawClient::open(server.mqtt(), V5);
    client.send_raw(&connect_bytes(0x06, &[], &deep_will));
    assert_eq!(
        client.receive().conn_ack().reason,
        ReasonCode::TopicNameInvalid
    );
    client.expect_closed();
    neighbours.converse();
    expect_metric(&server, "waypost_topic_levels_exceeded_total", 5);
}

/// 10,000 User Properties, in each packet of a client that can have them.
#[test]
fn ten_thousand_user_properties() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut buffer = PropertyBuffer::new();
    for _ in 0..10_000 {
        buffer.push(Property::UserProperty("n", "v"));
    }
    let many = buffer.as_bytes();
    let quota = ReasonCode::QuotaExceeded;
    let mut client = RawClient::open(server.mqtt(), V5);
    client.send_raw(&connect_bytes(CLEAN, many, &[text("many")]));
    assert_eq!(client.receive().conn_ack().reason, quota);
    client.expect_closed();
    let mut client = RawClient::connect(&server, V5, "many");
    client.send_raw(&publish_bytes(0x30, b"neighbours/t", None, many));
    client.fence();
    client.send_raw(&publish_bytes(0x32, b"neighbours/t", Some(1), many));
    assert_eq!(client.receive().pub_ack().reason, quota);
    client.send_raw(&publish_bytes(0x34, b"neighbours/t", Some(2), many));
    assert_eq!(client.receive().pub_rec().reason, quota);
    client.send_raw(&subscribe_with_bytes(many, &request(b"t", 0)));
    assert!(client.receive().sub_ack().reasons.iter().eq([quota]));
    client.send_raw(&identified_bytes(
        0xA2,
        3,
        &[listed(many), text("t")].concat(),
    ));
    assert_eq!(client.receive().unsub_ack().reasons.len(), 1);
    let with_reason = [vec![0], listed(many)].concat();
    for first_byte in [0x40, 0x50, 0x62, 0x70] {
        let mut client = RawClient::connect(&server, V5, "many-acks");
        client.send_raw(&identified_bytes(first_byte, 1, &with_reason));
        client.expect_refused(quota);
    }
    let mut client = RawClient::connect(&server, V5, "many-disconnect");
    client.send_raw(&with_fixed_header(0xE0, &with_reason));
    client.expect_refused(quota);
    neighbours.converse();
}

/// A SUBSCRIBE with 20,000 filters is answered for each of them, and all go with their session.
#[test]
fn twenty_thousand_filters() {
    const COUNT: usize = 20_000;
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let filters: Vec<String> = (0..COUNT)
        .map(|number| format!("many/{number}/+/x/#"))
        .collect();
    let requests: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    let mut client = RawClient::connect(&server, V5, "filters");
    client.send_raw(&subscribe_bytes(V5, 1, &requests));
    assert_eq!(client.receive().sub_ack().reasons.len(), COUNT);
    neighbours.converse();
    expect_metric(&server, "waypost_subscriptions", COUNT as u64 + 1);
    client.disconnect();
    expect_metric(&server, "waypost_subscriptions", 1);
    neighbours.converse();
}

/// A packet that announces 256 MiB is refused by its header: before its content, and before memory for it.
#[test]
fn an_announced_packet_of_256_mib() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let before = memory_kib(&server);
    for first_byte in [0x30, 0x32, 0x82, 0xA2, 0xE0] {
        let mut client = RawClient::connect(&server, V5, "announces");
        client.send_raw(&[first_byte, 0xFF, 0xFF, 0xFF, 0x7F]);
        client.expect_refused(ReasonCode::PacketTooLarge);
    }
    let mut client = RawClient::connect(&server, V311, "announces");
    client.send_raw(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    client.expect_closed();
    let mut client = RawClient::open(server.mqtt(), V5);
    client.send_raw(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]);
    while client.receive_within(LIMIT).is_some() {}
    neighbours.converse();
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
}

/// Resident memory of the server's process.
pub fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A whole conversation in writes of one byte works, however long it takes, and holds nobody up.
#[test]
fn one_byte_at_a_time() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut slow = RawClient::open(server.mqtt(), V5);
    let mut dribble = |slow: &mut RawClient, bytes: &[u8]| {
        for (number, byte) in bytes.iter().enumerate() {
            slow.send_raw(&[*byte]);
            if number % 20 == 0 {
                neighbours.converse();
            }
        }
    };
    dribble(&mut slow, &connect_bytes(CLEAN, &[], &[text("dribbles")]));
    assert_eq!(slow.receive().conn_ack().reason, ReasonCode::Success);
    dribble(&mut slow, &subscribe_bytes(V5, 1, &[("dribbles/t", 1)]));
    assert_eq!(slow.receive().sub_ack().packet_id.value(), 1);
    dribble(&mut slow, &publish_bytes(0x30, b"dribbles/t", None, &[]));
    assert_eq!(slow.receive().publish().payload, b"x");
    dribble(&mut slow, &[0xC0, 0]);
    assert!(matches!(slow.receive().packet(), Packet::PingResp));
}

/// A packet of 200,000 bytes in writes of one byte costs time in proportion, and nobody else's.
#[test]
fn a_large_packet_one_byte_at_a_time() {
    const LENGTH: usize = 200_000;
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut slow = RawClient::connect(&server, V5, "slow-large");
    slow.subscribe("slow-large", QoS::AtMostOnce);
    let body = [text("slow-large"), vec![0], vec![b'x'; LENGTH]].concat();
    let start = Instant::now();
    for byte in with_fixed_header(0x30, &body) {
        slow.send_raw(&[byte]);
    }
    assert_eq!(slow.receive().publish().payload.len(), LENGTH);
    assert!(start.elapsed() < LIMIT);
    neighbours.converse();
}

/// Connections that say nothing, or not enough for a CONNECT, are closed after the connect timeout, however many; others connect
/// meanwhile.
#[test]
fn half_open_connections_are_closed() {
    const COUNT: usize = 300;
    let server = ServerOptions::new()
        .configuration("[limits]\nconnect_timeout = \"500ms\"\n")
        .start();
    let mut neighbours = Neighbours::new(&server);
    let half = &connect_bytes(CLEAN, &[], &[text("half")])[..9];
    let mut clients: Vec<RawClient> = (0..COUNT)
        .map(|number| {
            let mut client = RawClient::open(server.mqtt(), V5);
            if number % 2 == 0 {
                client.send_raw(half);
            }
            client
        })
        .collect();
    neighbours.converse();
    RawClient::connect(&server, V5, "meanwhile").disconnect();
    for client in &mut clients {
        client.expect_closed();
    }
    expect_metric(&server, "waypost_connect_timeouts_total", COUNT as u64);
    neighbours.converse();
}

/// A flood of connects with the same client id, and one of connects that are cut at once: one session is left, nobody else notices.
#[test]
fn floods_of_connects() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    for round in 0..5 {
        let clients: Vec<RawClient> = (0..100)
            .map(|_| RawClient::connect(&server, V5, "flood"))
            .collect();
        neighbours.converse();
        drop(clients);
        let connect = connect_bytes(CLEAN, &[], &[text(format!("flood-{round}"))]);
        for _ in 0..100 {
            let mut client = RawClient::open(server.mqtt(), V5);
            client.send_raw(&connect);
            client.cut();
        }
        neighbours.converse();
    }
    expect_metric(&server, "waypost_connections", 2);
    expect_metric(&server, "waypost_sessions", 2);
}

/// Topics seen once do not stay: memory is bounded by the caches.
#[test]
fn a_flood_of_topics() {
    const COUNT: usize = 200_000;
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut client = RawClient::connect(&server, V5, "topics");
    let mut flood = |round: usize| {
        for part in 0..COUNT / 1_000 {
            let bytes: Vec<u8> = (0..1_000)
                .flat_map(|number| {
                    publish_bytes(
                        0x30,
                        format!("flood/{round}/{part}/{number}").as_bytes(),
                        None,
                        &[],
                    )
                })
                .collect();
            client.send_raw(&bytes);
        }
        client.fence();
        neighbours.converse();
    };
    flood(0);
    let before = memory_kib(&server);
    flood(1);
    flood(2);
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(
        grown < 16 * 1024,
        "{grown} KiB more after {} more topics",
        2 * COUNT
    );
}

/// A peer that vanishes without a word is found by keep alive; one that only half closes is closed at once.
#[test]
fn half_closed_connections_end() {
    let server = Server::start();
    let mut neighbours = Neighbours::new(&server);
    let mut half_closed = RawClient::connect(&server, V5, "half-closed");
    half_closed
        .stream()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    half_closed.expect_closed();
    let connect = waypost_mqtt::Connect {
        keep_alive: 1,
        ..connect_packet(V5, "vanished")
    };
    let (_vanished, _) = RawClient::connect_with(&server, &connect);
    neighbours.converse();
    wait_for("the vanished client to be noticed", LIMIT, || {
        (metric(&server, "waypost_keep_alive_timeouts_total") == 1).then_some(())
    });
    // Connections that are opened and dropped leave nothing behind.
    for _ in 0..100 {
        drop(TcpStream::connect(server.mqtt()));
    }
    expect_metric(&server, "waypost_connections", 2);
    neighbours.converse();
}
