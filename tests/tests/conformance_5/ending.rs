//! Statements of MQTT 5 on how connections end: DISCONNECT, AUTH, keep alive, shutdown (sections 3.1.2.10, 3.12, 3.14, 3.15).

use std::time::{Duration, Instant};

use rustix::process::Signal;
use waypost_mqtt::{
    Connect, Disconnect, Packet, Properties, Property, ProtocolVersion::V5, QoS, ReasonCode,
    ReasonCode::ProtocolError,
};
use waypost_tests::{RawClient, Server, ServerOptions, connect_packet, with_fixed_header};

use crate::wire::{check_disconnected, listed, pass_seconds, publish_bytes, server, text, will};

fn disconnect(reason: u8, properties: &[u8]) -> Vec<u8> {
    with_fixed_header(0xE0, &[vec![reason], listed(properties)].concat())
}

fn auth(reason: u8, properties: &[u8]) -> Vec<u8> {
    with_fixed_header(0xF0, &[vec![reason], listed(properties)].concat())
}

/// [MQTT-3.14.2-1]: reasons that are none of a client's DISCONNECT; [W5-3.14.2.2.2-a], [W5-3.14.2.2.3-a]: properties twice.
#[test]
fn disconnect_is_checked() {
    check_disconnected(
        [
            ("reason 0x01", disconnect(0x01, &[])),
            ("reason 0x18", disconnect(0x18, &[])),
            ("reason 0x7F", disconnect(0x7F, &[])),
            ("reason 0x8E, a server's", disconnect(0x8E, &[])),
            ("reason 0xFF", disconnect(0xFF, &[])),
            (
                "Session Expiry twice",
                disconnect(0, b"\x11\0\0\0\0\x11\0\0\0\0"),
            ),
            (
                "Reason String twice",
                disconnect(0, b"\x1F\0\x01a\x1F\0\x01a"),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// [MQTT-3.14.4-2], [MQTT-3.14.4-1]: after a client's DISCONNECT, in each of its forms, the connection closes without another packet, and
/// what is sent behind it is not handled.
#[test]
fn nothing_follows_a_clients_disconnect() {
    let server = server();
    let mut witness = RawClient::connect(&server, V5, "follows-witness");
    witness.subscribe("follows", QoS::AtMostOnce);
    let forms = [
        vec![0xE0, 0],
        vec![0xE0, 1, 0],
        disconnect(0, &[]),
        disconnect(0x04, b"\x1F\0\x04gone\x26\0\x01n\0\x01v"),
        disconnect(0x80, &[]),
        disconnect(0x98, &[]),
    ];
    for form in forms {
        let mut client = RawClient::connect(&server, V5, "follows");
        client.send_raw(
            &[
                form,
                publish_bytes(0x30, b"follows", None, &[]),
                vec![0xC0, 0],
            ]
            .concat(),
        );
        client.expect_closed();
    }
    witness.expect_nothing();
}

/// [MQTT-3.14.4-1], [MQTT-3.14.4-2], [MQTT-4.13.1-1], [MQTT-4.13.2-1], [W5-4.13.1-a]: the server's DISCONNECT is its last packet, what came in
/// before the breach is answered, what came behind it is not handled.
#[test]
fn the_servers_disconnect_is_its_last_packet() {
    let server = server();
    let mut witness = RawClient::connect(&server, V5, "last-witness");
    witness.subscribe("last/#", QoS::AtMostOnce);
    let mut client = RawClient::connect(&server, V5, "last");
    let packets = [
        publish_bytes(0x32, b"last/before", Some(1), &[]),
        vec![0xD0, 0],
        publish_bytes(0x32, b"last/behind", Some(2), &[]),
        vec![0xC0, 0],
    ];
    client.send_raw(&packets.concat());
    assert_eq!(client.receive().pub_ack().packet_id.value(), 1);
    let answer = client.receive();
    assert_eq!(answer.disconnect().reason, ProtocolError);
    // [MQTT-3.14.2-2]
    assert_eq!(
        answer.disconnect().properties.session_expiry_interval(),
        None
    );
    client.expect_closed();
    assert_eq!(witness.receive().publish().topic, "last/before");
    witness.expect_nothing();
}

/// [MQTT-3.15.2-1]: reasons that are none of a client's AUTH; [W5-3.15.2.2.2-a]: no method; [W5-3.15.2.2.2-b], [W5-3.15.2.2.3-a],
/// [W5-3.15.2.2.4-a]: properties twice.
#[test]
fn auth_is_checked() {
    let method = b"\x15\0\x01m";
    let twice = |property: &[u8]| auth(0x18, &[method, property, property].concat());
    check_disconnected(
        [
            ("reason 0x00, a server's", auth(0x00, method)),
            ("reason 0x17", auth(0x17, method)),
            ("reason 0x80", auth(0x80, method)),
            ("no reason: 0x00", vec![0xF0, 0]),
            ("no method", auth(0x18, &[])),
            ("method twice", twice(b"\x15\0\x01m")),
            ("data twice", twice(b"\x16\0\x01d")),
            ("Reason String twice", twice(b"\x1F\0\x01r")),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// Reason String twice in what a client acknowledges with: [W5-3.4.2.2.2-a], [W5-3.5.2.2.2-a], [W5-3.6.2.2.2-a], [W5-3.7.2.2.2-a].
#[test]
fn acknowledgements_are_checked() {
    let twice = [vec![0, 1, 0], listed(b"\x1F\0\x01a\x1F\0\x01a")].concat();
    check_disconnected(
        [
            ("PUBACK", 0x40),
            ("PUBREC", 0x50),
            ("PUBREL", 0x62),
            ("PUBCOMP", 0x70),
        ]
        .map(|(name, first_byte)| (name, with_fixed_header(first_byte, &twice), ProtocolError)),
    );
}

fn connect_keep_alive(server: &Server, client_id: &str, keep_alive: u16) -> RawClient {
    let connect = Connect {
        keep_alive,
        will: Some(will("keep-alive/will", client_id.as_bytes())),
        ..connect_packet(V5, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

/// [MQTT-3.1.2-22], [MQTT-3.2.2-22], [MQTT-3.1.2-8]: after one and a half times the client's Keep Alive of silence the server closes as if
/// the network had failed: the Will is published. Half of a packet is silence; the server's own packets are no sign of life.
#[test]
fn silence_beyond_keep_alive_ends_the_connection() {
    let server = server();
    let mut witness = RawClient::connect(&server, V5, "keep-alive-witness");
    witness.subscribe("keep-alive/will", QoS::AtMostOnce);
    let start = Instant::now();
    let mut silent = connect_keep_alive(&server, "keep-alive-silent", 1);
    let mut half = connect_keep_alive(&server, "keep-alive-half", 1);
    half.send_raw(&[0x30, 10, 0]);
    let mut listener = connect_keep_alive(&server, "keep-alive-listener", 1);
    listener.subscribe("keep-alive/will", QoS::AtMostOnce);
    // Another test's clients have the same Will Topic.
    let mut ids = Vec::new();
    while ids.len() < 3 {
        let id = witness.receive().publish().payload.to_vec();
        if id.starts_with(b"keep-alive-") {
            ids.push(id);
        }
    }
    ids.sort();
    assert_eq!(
        ids,
        [
            &b"keep-alive-half"[..],
            b"keep-alive-listener",
            b"keep-alive-silent"
        ]
    );
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(1_400), "{elapsed:?}");
    assert!(elapsed <= Duration::from_secs(20), "{elapsed:?}");
    for client in [&mut silent, &mut half] {
        client.expect_refused(ReasonCode::KeepAliveTimeout);
    }
}

/// [MQTT-3.1.2-22], [MQTT-3.12.4-1]: any packet is a sign of life, and PINGREQ is answered; 0 turns it off.
#[test]
fn packets_keep_the_connection_alive() {
    let server = server();
    let mut quiet = connect_keep_alive(&server, "alive-0", 0);
    let mut pings = connect_keep_alive(&server, "alive-pings", 1);
    let mut publishes = connect_keep_alive(&server, "alive-publishes", 1);
    for packet_id in 1..=4 {
        pings.fence();
        publishes.send_raw(&publish_bytes(0x32, b"alive", Some(packet_id), &[]));
        assert_eq!(publishes.receive().pub_ack().packet_id.value(), packet_id);
        pass_seconds(&server, 1);
    }
    quiet.fence();
    pings.fence();
    publishes.fence();
}

/// [MQTT-3.1.2-21], [MQTT-3.2.2-21], [MQTT-3.1.2-22]: where the server has a longest Keep Alive it says so, and goes by it.
#[test]
fn the_servers_keep_alive_counts() {
    let server = ServerOptions::new()
        .configuration("[limits]\nkeep_alive_max = \"1s\"\n")
        .start();
    for asked in [0, 600] {
        let connect = Connect {
            keep_alive: asked,
            ..connect_packet(V5, "overruled")
        };
        let (mut client, answer) = RawClient::connect_with(&server, &connect);
        assert_eq!(answer.conn_ack().properties.server_keep_alive(), Some(1));
        client.expect_refused(ReasonCode::KeepAliveTimeout);
    }
    let connect = Connect {
        keep_alive: 1,
        ..connect_packet(V5, "accepted")
    };
    let (_, answer) = RawClient::connect_with(&server, &connect);
    assert_eq!(answer.conn_ack().properties.server_keep_alive(), None);
}

/// [MQTT-3.14.0-1], [MQTT-3.14.2-1], [MQTT-3.14.2-2]: a server that shuts down says 0x8B to those it has accepted, and nothing to others.
#[test]
fn a_shutdown_is_announced() {
    let mut server = Server::start();
    let mut stranger = RawClient::open(server.mqtt(), V5);
    let mut client = RawClient::connect(&server, V5, "shutdown");
    client.subscribe("t", QoS::AtMostOnce);
    server.signal(Signal::TERM);
    let answer = client.receive();
    assert_eq!(answer.disconnect().reason, ReasonCode::ServerShuttingDown);
    assert_eq!(
        answer.disconnect().properties.session_expiry_interval(),
        None
    );
    client.expect_closed();
    stranger.expect_closed();
    assert!(server.wait().success());
}

/// [MQTT-3.14.2-2], [W5-3.14.2.2.5-a]: whatever ends a connection, the server's DISCONNECT is well formed: no Session Expiry Interval, at most
/// one Server Reference, a reason of its list. (What is not fails to decode here.)
#[test]
fn the_servers_disconnects_are_well_formed() {
    let server = server();
    let breaches = [
        vec![0xD0, 0],
        publish_bytes(0x36, b"t", Some(1), &[]),
        publish_bytes(0x30, b"", None, &[]),
        publish_bytes(0x30, b"t", None, &[0x23, 0, 0]),
        with_fixed_header(0x82, &[vec![0, 1, 0], text("t"), vec![3]].concat()),
    ];
    for bytes in breaches {
        let mut client = RawClient::connect(&server, V5, "well-formed");
        client.send_raw(&bytes);
        let answer = client.receive();
        let Packet::Disconnect(Disconnect { reason, properties }) = answer.packet() else {
            panic!("expected DISCONNECT, got {answer:?}");
        };
        assert!(reason.is_error());
        assert_eq!(properties.session_expiry_interval(), None);
        let references = properties
            .iter()
            .filter(|p| matches!(p, Property::ServerReference(_)));
        assert!(references.count() <= 1);
        client.expect_closed();
    }
    assert!(Properties::EMPTY.is_empty());
}
