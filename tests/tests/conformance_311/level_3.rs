//! MQTT 3.1, which 3.1.1 succeeds: Protocol Name `MQIsdp`, Protocol Level 3. It has no numbered statements.

use waypost_mqtt::{Connect, Packet, ProtocolVersion::V31, ProtocolVersion::V311, QoS, Will};
use waypost_tests::{RawClient, connect_packet, subscribe_bytes, with_fixed_header};

use crate::wire::{
    Answer, CLEAN, check_refused_connects, connect_as_bytes, identified_bytes, publish_bytes,
    server, text, unique, will,
};

/// A client of level 3 connects, subscribes and publishes at each QoS, to itself and to a client of 3.1.1.
#[test]
fn level_3_connects_publishes_and_subscribes() {
    let server = server();
    let mut old = RawClient::open(server.mqtt(), V31);
    old.send_raw(&connect_as_bytes("MQIsdp", 3, CLEAN, &[text("level-3")]));
    assert_eq!(old.receive().bytes(), [0x20, 2, 0, 0]);
    let mut new = RawClient::connect(&server, V311, "level-4");
    for client in [&mut old, &mut new] {
        client.subscribe("levels/+", QoS::ExactlyOnce);
    }
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut publisher = RawClient::connect(&server, V31, &unique("level-3-pub"));
        publisher.publish("levels/x", qos, b"hello");
        for client in [&mut old, &mut new] {
            let received = client.receive_message();
            assert_eq!(received.publish().qos, qos);
            assert_eq!(received.publish().payload, b"hello");
        }
    }
    old.unsubscribe("levels/+");
    new.unsubscribe("levels/+");
    new.publish("levels/x", QoS::AtLeastOnce, b"");
    old.expect_nothing();
    old.disconnect();
}

/// Level 3 may send SUBSCRIBE, UNSUBSCRIBE and PUBREL again with DUP 1.
#[test]
fn level_3_may_repeat_with_dup() {
    let server = server();
    let mut client = RawClient::connect(&server, V31, "level-3-dup");
    let mut subscribe = subscribe_bytes(V31, 1, &[("dup", 1)]);
    subscribe[0] |= 0x08;
    client.send_raw(&subscribe);
    assert_eq!(client.receive().bytes(), [0x90, 3, 0, 1, 1]);
    client.send_raw(&publish_bytes(0x34, "other", Some(2)));
    assert_eq!(client.receive().bytes(), [0x50, 2, 0, 2]);
    client.send_raw(&identified_bytes(0x6A, 2, &[]));
    assert_eq!(client.receive().bytes(), [0x70, 2, 0, 2]);
    client.send_raw(&with_fixed_header(0xAA, b"\0\x03\0\x03dup"));
    assert_eq!(client.receive().bytes(), [0xB0, 2, 0, 3]);
}

/// Level 3 wants 1 to 23 characters of `ClientId`: none is refused with 0x02; more do no harm.
#[test]
fn level_3_needs_a_client_identifier() {
    check_refused_connects(
        Answer::ReturnCode(2),
        [
            ("clean", connect_as_bytes("MQIsdp", 3, CLEAN, &[text("")])),
            ("not clean", connect_as_bytes("MQIsdp", 3, 0, &[text("")])),
        ],
    );
    RawClient::connect(
        &server(),
        V31,
        "a-client-identifier-of-more-than-23-characters",
    )
    .disconnect();
}

/// Level 3: sessions are kept and resumed, Wills published; what was a session of level 3 can be one of 3.1.1.
#[test]
fn level_3_has_sessions_and_wills() {
    let server = server();
    let mut witness = RawClient::connect(&server, V31, "level-3-witness");
    witness.subscribe("level-3-will", QoS::AtMostOnce);
    let connect = Connect {
        clean_start: false,
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            ..will("level-3-will", b"gone")
        }),
        ..connect_packet(V31, "level-3-session")
    };
    let (mut client, _) = RawClient::connect_with(&server, &connect);
    client.subscribe("level-3-session", QoS::AtLeastOnce);
    client.cut();
    assert_eq!(witness.receive().publish().payload, b"gone");
    witness.publish("level-3-session", QoS::AtLeastOnce, b"waits");
    for version in [V31, V311] {
        let again = Connect {
            version,
            will: None,
            ..connect
        };
        let (mut client, answer) = RawClient::connect_with(&server, &again);
        // 3.1 has no Session Present: that byte is reserved, and 0.
        assert_eq!(answer.bytes(), [0x20, 2, u8::from(version == V311), 0]);
        assert_eq!(client.receive().publish().payload, b"waits");
        client.send(&Packet::PingReq);
        assert!(matches!(client.receive().packet(), Packet::PingResp));
    }
}
