//! Statements of MQTT 3.1.1, section 3.3: PUBLISH; its retained messages have a module of their own.

use waypost_mqtt::{ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, with_fixed_header};

use crate::wire::{
    check_closed, id, identified_bytes, publish_bytes, publish_from_elsewhere, server, text,
};

/// [MQTT-3.3.1-4], [MQTT-3.3.1-2], [MQTT-4.3.1-1]: QoS 3, and DUP at QoS 0, close the connection.
#[test]
fn impossible_flags_close_the_connection() {
    check_closed([0x36, 0x37, 0x3E, 0x3F].map(|first_byte| {
        let name = format!("QoS 3: {first_byte:#04x}");
        (name, publish_bytes(first_byte, "breach/t", Some(1)))
    }));
    check_closed([0x38, 0x39].map(|first_byte| {
        let name = format!("DUP at QoS 0: {first_byte:#04x}");
        (name, publish_bytes(first_byte, "breach/t", None))
    }));
}

/// [MQTT-3.3.1-3], [MQTT-3.3.1-1], [MQTT-3.3.1-2], [MQTT-4.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.3-1]: DUP of what comes in is not passed on: what
/// goes out for the first time has DUP 0, at each QoS.
#[test]
fn dup_is_not_passed_on() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "dup-pub");
    for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut subscriber = RawClient::connect(&server, V311, "dup-sub");
        subscriber.subscribe("dup", granted);
        for (number, first_byte) in [(1, 0x32), (2, 0x3A), (3, 0x34), (4, 0x3C)] {
            publisher.send_raw(&publish_bytes(first_byte, "dup", Some(number)));
            publisher.receive();
            if first_byte & 0x04 != 0 {
                publisher.send_raw(&identified_bytes(0x62, number, &[]));
                assert_eq!(publisher.receive().pub_comp().packet_id, id(number));
            }
            let sent = QoS::try_from((first_byte >> 1) & 3).unwrap();
            let received = subscriber.receive_message();
            assert!(!received.publish().dup);
            assert_eq!(received.publish().qos, sent.min(granted));
        }
        subscriber.expect_nothing();
    }
}

/// [MQTT-3.3.2-1]: the Topic Name comes first: byte for byte, the packet a subscriber gets has flags, length, topic,
/// identifier, payload, whatever the payload holds.
#[test]
fn a_publish_arrives_byte_for_byte() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V311, "bytes-sub");
    subscriber.subscribe("bytes/#", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V311, "bytes-pub");
    let payloads = [
        vec![],
        vec![0],
        b"\0\x01\0\x01\xFF".to_vec(),
        vec![7; 127],
        vec![9; 200_000],
    ];
    for payload in payloads {
        let packet = with_fixed_header(0x30, &[text("bytes/t"), payload.clone()].concat());
        publisher.send_raw(&packet);
        assert!(subscriber.receive().bytes() == packet);
        publisher.publish("bytes/t", QoS::ExactlyOnce, &payload);
        assert!(subscriber.receive().bytes() == packet);
    }
}

/// [MQTT-3.3.2-2], [MQTT-4.7.1-1], [MQTT-4.7.3-1]: a Topic Name with a wildcard, or of no character, closes the connection.
#[test]
fn wildcards_in_a_topic_name_close_the_connection() {
    let topics = [
        "",
        "#",
        "+",
        "breach/#",
        "breach/+",
        "breach/+/t",
        "breach/t#",
        "bre+ach/t",
        "#/breach",
    ];
    for topic in topics {
        check_closed([
            (
                format!("{topic:?} at QoS 0"),
                publish_bytes(0x30, topic, None),
            ),
            (
                format!("{topic:?} at QoS 1"),
                publish_bytes(0x32, topic, Some(1)),
            ),
            (
                format!("{topic:?} retained"),
                publish_bytes(0x31, topic, None),
            ),
        ]);
    }
}

/// [MQTT-3.3.4-1], [MQTT-4.3.2-2], [MQTT-4.3.3-2]: nothing for QoS 0, PUBACK for 1, PUBREC and after PUBREL PUBCOMP for 2, each once;
/// with subscribers and without.
#[test]
fn each_publish_is_answered_as_its_qos_asks() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "answered");
    for subscribed in [false, true] {
        if subscribed {
            RawClient::connect(&server, V311, "answered-sub")
                .subscribe("answered", QoS::AtMostOnce);
        }
        for retain in [0, 1] {
            client.send_raw(&publish_bytes(0x30 | retain, "answered", None));
            client.expect_nothing();
            client.send_raw(&publish_bytes(0x32 | retain, "answered", Some(1)));
            assert_eq!(client.receive().bytes(), [0x40, 2, 0, 1]);
            client.expect_nothing();
            client.send_raw(&publish_bytes(0x34 | retain, "answered", Some(1)));
            assert_eq!(client.receive().bytes(), [0x50, 2, 0, 1]);
            client.expect_nothing();
            client.send_raw(&identified_bytes(0x62, 1, &[]));
            assert_eq!(client.receive().bytes(), [0x70, 2, 0, 1]);
            client.expect_nothing();
        }
    }
}

/// [MQTT-3.3.5-1]: where a client's subscriptions overlap, each message comes with the highest QoS granted among those that
/// match, in whatever order they were made, and not below it.
#[test]
fn overlapping_subscriptions_respect_the_highest_qos() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "overlap-pub");
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let mut client = RawClient::connect(&server, V311, "overlap");
        for (filter, qos) in ["overlap/#", "overlap/+", "overlap/t"]
            .into_iter()
            .zip(order)
        {
            client.subscribe(filter, QoS::try_from(qos).unwrap());
        }
        for sent in 0..=2 {
            publisher.publish("overlap/t", QoS::try_from(sent).unwrap(), &[sent]);
            let received = client.receive_message();
            assert_eq!(
                (received.publish().qos as u8, received.publish().payload),
                (sent, &[sent][..])
            );
            client.expect_nothing();
        }
    }
}

/// [MQTT-3.3.5-2]: a PUBLISH to the server's own topics, which no client may, is acknowledged as its QoS asks or ends the
/// connection, and reaches nobody, now or retained.
#[test]
fn an_unauthorized_publish_has_no_effect() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "unauthorized-witness");
    witness.subscribe("$SYS/unauthorized/#", QoS::ExactlyOnce);
    let mut client = RawClient::connect(&server, V311, "unauthorized");
    client.publish_retained("$SYS/unauthorized/0", QoS::AtMostOnce, b"x");
    client.publish_retained("$SYS/unauthorized/1", QoS::AtLeastOnce, b"x");
    client.publish_retained("$SYS/unauthorized/2", QoS::ExactlyOnce, b"x");
    witness.expect_nothing();
    witness.subscribe("$SYS/unauthorized/#", QoS::ExactlyOnce);
    witness.expect_nothing();
}

/// [MQTT-3.3.2-3], [MQTT-4.5.0-1]: messages go to those whose filter matches their topic, and to nobody else.
#[test]
fn messages_go_to_matching_subscribers_only() {
    let server = server();
    let filters = ["only/a", "only/b", "only/+", "only/a/#", "only/+/c", "+/a"];
    let mut clients: Vec<_> = filters
        .iter()
        .enumerate()
        .map(|(number, filter)| {
            let mut client = RawClient::connect(&server, V311, &format!("only-{number}"));
            client.subscribe(filter, QoS::AtMostOnce);
            client
        })
        .collect();
    for (topic, matching) in [
        ("only/a", &[0, 2, 3, 5][..]),
        ("only/b", &[1, 2]),
        ("only/a/c", &[3, 4]),
        ("only/b/c", &[4]),
        ("only", &[]),
        ("only/a/c/d", &[3]),
        ("ONLY/a", &[5]),
    ] {
        publish_from_elsewhere(&server, topic, b"x");
        for (number, client) in clients.iter_mut().enumerate() {
            if matching.contains(&number) {
                assert_eq!(client.receive().publish().topic, topic);
            }
            client.expect_nothing();
        }
    }
}
