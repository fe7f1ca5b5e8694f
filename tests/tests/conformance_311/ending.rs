//! Statements of MQTT 3.1.1 on endings: section 3.14, DISCONNECT, and 4.8, errors.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, with_fixed_header};

use crate::wire::{check_closed, connect_session, publish_bytes, server, text, unique};

/// [MQTT-3.14.4-2], [MQTT-3.14.4-1]: after DISCONNECT the server closes the connection, and handles nothing that is sent behind it.
#[test]
fn nothing_behind_disconnect_is_handled() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "behind-witness");
    witness.subscribe("behind/#", QoS::AtMostOnce);
    for behind in [
        publish_bytes(0x31, "behind/t", None),
        publish_bytes(0x32, "behind/t", Some(1)),
        vec![0xC0, 0],
    ] {
        let mut client = RawClient::connect(&server, V311, "behind");
        client.send_raw(&[vec![0xE0, 0], behind].concat());
        client.expect_closed();
    }
    witness.expect_nothing();
    witness.subscribe("behind/#", QoS::AtMostOnce);
    witness.expect_nothing();
}

/// [MQTT-4.8.0-1]: a protocol violation closes the connection it came on; that client's session stays, and others go on.
#[test]
fn a_violation_ends_its_connection_and_no_more() {
    let server = server();
    let (mut client, _) = connect_session(&server, "violation", false);
    client.subscribe("violation", QoS::AtLeastOnce);
    let mut neighbour = RawClient::connect(&server, V311, "violation-neighbour");
    neighbour.subscribe("violation", QoS::AtLeastOnce);
    client.send_raw(&publish_bytes(0x36, "violation", Some(1)));
    client.expect_closed();
    let mut publisher = RawClient::connect(&server, V311, "violation-pub");
    publisher.publish("violation", QoS::AtLeastOnce, b"kept");
    assert_eq!(neighbour.receive_message().publish().payload, b"kept");
    let (mut client, session_present) = connect_session(&server, "violation", false);
    assert!(session_present);
    assert_eq!(client.receive_message().publish().payload, b"kept");
}

/// [MQTT-4.8.0-1]: what came whole before the violation is handled, what comes behind it is not.
#[test]
fn packets_before_a_violation_are_handled() {
    let server = server();
    let topic = unique("before");
    let mut witness = RawClient::connect(&server, V311, &unique("witness"));
    witness.subscribe(&topic, QoS::AtMostOnce);
    let mut client = RawClient::connect(&server, V311, &unique("client"));
    let good = publish_bytes(0x30, &topic, None);
    let bad = with_fixed_header(0x30, &text(""));
    client.send_raw(&[good.clone(), good.clone(), bad, good].concat());
    client.expect_closed();
    for _ in 0..2 {
        assert_eq!(witness.receive().publish().topic, topic);
    }
    witness.expect_nothing();
}

/// [MQTT-4.8.0-2], [MQTT-4.8.0-1]: a packet beyond the server's bound closes the connection as soon as its length is known.
#[test]
fn an_oversized_packet_closes_the_connection() {
    check_closed([("256 MiB announced", vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F])]);
}

/// [MQTT-4.8.0-1]: packets arrive in any pieces: a byte at a time they mean the same.
#[test]
fn packets_in_pieces_are_whole() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "pieces");
    client.subscribe("pieces", QoS::AtMostOnce);
    for byte in publish_bytes(0x30, "pieces", None) {
        client.send_raw(&[byte]);
    }
    assert_eq!(client.receive().publish().topic, "pieces");
    let many = publish_bytes(0x30, "pieces", None).repeat(100);
    client.send_raw(&many);
    let received = client.drain();
    assert_eq!(received.len(), 100);
    assert!(
        received
            .iter()
            .all(|packet| matches!(packet.packet(), Packet::Publish(_)))
    );
}
