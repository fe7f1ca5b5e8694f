//! Statements of MQTT 5 on sessions: Clean Start, Session Present, Session Expiry (sections 3.1.2, 3.2.2, 3.14.2, 4.1).

use waypost_mqtt::{
    Connect, Disconnect, Packet, Property, ProtocolVersion::V5, QoS, ReasonCode,
    ReasonCode::ProtocolError,
};
use waypost_tests::{LIMIT, RawClient, Server, connect_packet, wait_for};

use crate::wire::{connect_session, pass_seconds, properties, server, unique};

/// Leaves with DISCONNECT and a Session Expiry Interval.
fn leave(mut client: RawClient, expiry_s: u32) {
    let expiry = properties([Property::SessionExpiryInterval(expiry_s)]);
    client.send(&Packet::Disconnect(Disconnect {
        reason: ReasonCode::Success,
        properties: expiry.as_properties(),
    }));
    client.expect_closed();
}

fn publish_from_elsewhere(server: &Server, topic: &str) {
    RawClient::connect(server, V5, &unique("elsewhere")).publish(topic, QoS::AtLeastOnce, b"m");
}

/// [MQTT-3.1.2-4], [MQTT-3.2.2-2], [MQTT-3.1.4-4]: Clean Start 1 ends the old session, also one in use: Session Present 0, no
/// subscription, no message of it.
#[test]
fn clean_start_drops_the_session() {
    let server = server();
    for is_connected in [false, true] {
        let (mut old, _) = connect_session(&server, "clean", true, 600);
        old.subscribe("clean/t", QoS::AtLeastOnce);
        if !is_connected {
            leave(old, 600);
            publish_from_elsewhere(&server, "clean/t");
        }
        let (mut client, session_present) = connect_session(&server, "clean", true, 600);
        assert!(!session_present);
        client.expect_nothing();
        publish_from_elsewhere(&server, "clean/t");
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-5], [MQTT-3.1.2-6], [MQTT-3.2.2-3], [MQTT-3.1.4-4], [MQTT-3.1.2-23], [MQTT-4.5.0-1]: Clean Start 0 makes a
/// session where there is none, and goes on with the one there is: subscriptions and messages of the absence.
#[test]
fn a_session_is_resumed() {
    let server = server();
    let (mut client, session_present) = connect_session(&server, "resumed", false, 600);
    assert!(!session_present);
    client.subscribe("resumed/#", QoS::AtLeastOnce);
    client.cut();
    publish_from_elsewhere(&server, "resumed/1");
    publish_from_elsewhere(&server, "resumed/2");
    let (mut client, session_present) = connect_session(&server, "resumed", false, 600);
    assert!(session_present);
    assert_eq!(client.receive_message().publish().topic, "resumed/1");
    assert_eq!(client.receive_message().publish().topic, "resumed/2");
    publish_from_elsewhere(&server, "resumed/3");
    assert_eq!(client.receive_message().publish().topic, "resumed/3");
    client.expect_nothing();
}

/// [MQTT-3.2.0-1], [MQTT-3.2.0-2]: CONNACK comes before the messages of a resumed session, and once.
#[test]
fn connack_comes_before_waiting_messages() {
    let server = server();
    let (mut client, _) = connect_session(&server, "first-connack", true, 600);
    client.subscribe("first-connack", QoS::AtLeastOnce);
    client.cut();
    for _ in 0..5 {
        publish_from_elsewhere(&server, "first-connack");
    }
    let mut client = RawClient::open(server.mqtt(), V5);
    let connect = Connect {
        clean_start: false,
        ..connect_packet(V5, "first-connack")
    };
    client.send(&Packet::Connect(connect));
    assert!(client.receive().conn_ack().session_present);
    for _ in 0..5 {
        client.receive_message();
    }
    client.expect_nothing();
}

/// [MQTT-3.1.3-2]: the state belongs to the Client Identifier, by every byte of it.
#[test]
fn sessions_are_known_by_client_identifier() {
    let server = server();
    let (client, _) = connect_session(&server, "Key-\u{e9}", true, 600);
    client.disconnect();
    for other in ["key-\u{e9}", "Key-e\u{301}", "Key-", "Key-\u{e9} "] {
        assert!(!connect_session(&server, other, false, 0).1, "{other}");
    }
    assert!(connect_session(&server, "Key-\u{e9}", false, 0).1);
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]: without Session Expiry Interval, or with 0, the session ends with the connection.
#[test]
fn expiry_zero_ends_with_the_connection() {
    let server = server();
    for cut in [true, false] {
        let connect = Connect {
            clean_start: false,
            ..connect_packet(V5, "zero")
        };
        let (mut client, answer) = RawClient::connect_with(&server, &connect);
        assert!(!answer.conn_ack().session_present);
        client.subscribe("zero", QoS::AtLeastOnce);
        if cut {
            client.cut();
        } else {
            client.disconnect();
        }
        // The same server has one loop: a connection that comes later sees the end of an earlier one, once read.
        wait_for("the session to end", LIMIT, || {
            let (client, session_present) = connect_session(&server, "zero", false, 0);
            client.disconnect();
            (!session_present).then_some(())
        });
    }
}

/// [MQTT-4.1.0-2], [MQTT-3.1.2-23]: a session is kept for its Session Expiry Interval and deleted after it.
#[test]
fn a_session_expires() {
    let server = server();
    let (mut short, _) = connect_session(&server, "expires-1", true, 1);
    short.subscribe("expires", QoS::AtLeastOnce);
    let (long, _) = connect_session(&server, "expires-60", true, 60);
    let (back, _) = connect_session(&server, "expires-back", true, 1);
    back.disconnect();
    assert!(
        connect_session(&server, "expires-back", false, 1).1,
        "kept at first"
    );
    short.cut();
    long.cut();
    pass_seconds(&server, 2);
    assert!(connect_session(&server, "expires-60", false, 60).1);
    let (mut short, session_present) = connect_session(&server, "expires-1", false, 1);
    assert!(!session_present);
    publish_from_elsewhere(&server, "expires");
    short.expect_nothing();
}

/// [MQTT-4.1.0-1]: the session of an open connection is not discarded, however short its expiry interval.
#[test]
fn a_session_does_not_expire_while_connected() {
    let server = server();
    let (mut client, _) = connect_session(&server, "stays", true, 1);
    client.subscribe("stays", QoS::AtLeastOnce);
    let (mut zero, _) = connect_session(&server, "stays-zero", true, 0);
    zero.subscribe("stays", QoS::AtLeastOnce);
    pass_seconds(&server, 2);
    publish_from_elsewhere(&server, "stays");
    assert_eq!(client.receive_message().publish().topic, "stays");
    assert_eq!(zero.receive_message().publish().topic, "stays");
    client.disconnect();
    assert!(
        connect_session(&server, "stays", false, 1).1,
        "it begins to count at the close"
    );
}

/// [MQTT-3.1.2-23], [MQTT-4.1.0-2]: DISCONNECT may change the interval: to 0, and to longer than CONNECT said.
#[test]
fn disconnect_changes_the_session_expiry() {
    let server = server();
    let (client, _) = connect_session(&server, "changed", true, 600);
    leave(client, 0);
    assert!(!connect_session(&server, "changed", false, 600).1);
    let (client, _) = connect_session(&server, "changed", true, 1);
    leave(client, 600);
    pass_seconds(&server, 2);
    assert!(connect_session(&server, "changed", false, 0).1);
}

/// [W5-3.14.2.2.2-b]: after 0 in CONNECT another interval in DISCONNECT is a Protocol Error, and the session ends.
#[test]
fn disconnect_cannot_prolong_a_session_of_expiry_zero() {
    let server = server();
    for list in [&[][..], &[Property::SessionExpiryInterval(0)]] {
        let mut buffer = waypost_mqtt::PropertyBuffer::new();
        for property in list {
            buffer.push(*property);
        }
        let connect = Connect {
            properties: buffer.as_properties(),
            ..connect_packet(V5, "prolonged")
        };
        let (mut client, _) = RawClient::connect_with(&server, &connect);
        let expiry = properties([Property::SessionExpiryInterval(1)]);
        client.send(&Packet::Disconnect(Disconnect {
            reason: ReasonCode::Success,
            properties: expiry.as_properties(),
        }));
        client.expect_refused(ProtocolError);
        assert!(!connect_session(&server, "prolonged", false, 0).1);
    }
    let (client, _) = connect_session(&server, "prolonged", true, 0);
    leave(client, 0);
}

/// [MQTT-3.1.2-23]: 0xFFFFFFFF is for ever; a server that grants less says so in CONNACK.
#[test]
fn the_longest_session_expiry_is_granted_or_corrected() {
    let server = server();
    let for_ever = properties([Property::SessionExpiryInterval(u32::MAX)]);
    let connect = Connect {
        properties: for_ever.as_properties(),
        ..connect_packet(V5, "for-ever")
    };
    let (client, answer) = RawClient::connect_with(&server, &connect);
    assert_eq!(answer.conn_ack().properties.session_expiry_interval(), None);
    client.cut();
    assert!(connect_session(&server, "for-ever", false, 0).1);
}
