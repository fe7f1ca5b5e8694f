//! Statements of MQTT 3.1.1, chapters 1 and 2: strings, fixed header, Packet Identifiers.

use std::collections::BTreeSet;

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, subscribe_bytes, unsubscribe_bytes, with_fixed_header};

use crate::wire::{
    Answer, CLEAN, WITH_WILL, ack, check_closed, check_refused_connects, connect_bytes,
    connect_session, id_of, identified_bytes, publish_bytes, server, subscribe_to_bytes, text,
    unique, unsubscribe_from_bytes,
};

/// Not UTF-8: a stray continuation, an overlong form, surrogates, beyond U+10FFFF, a cut character.
const ILL_FORMED: [&[u8]; 7] = [
    b"breach/\x80b",
    b"breach/\xC0\xAF",
    b"breach/\xED\xA0\x80",
    b"breach/\xED\xBF\xBF",
    b"breach/\xF4\x90\x80\x80",
    b"breach/\xFF",
    b"breach/\xE2\x82",
];

/// U+0000 alone, first, within and last.
const WITH_NULL: [&[u8]; 4] = [b"\0", b"\0breach", b"breach/\0/a", b"breach/a\0"];

fn check_strings(name: &str, strings: &[&[u8]]) {
    for string in strings {
        let what = |field: &str| format!("{name} in {field}: {string:02x?}");
        check_closed([
            (what("PUBLISH, QoS 0"), publish_bytes(0x30, string, None)),
            (what("PUBLISH, QoS 1"), publish_bytes(0x32, string, Some(1))),
            (what("SUBSCRIBE"), subscribe_to_bytes(string, 0)),
            (what("UNSUBSCRIBE"), unsubscribe_from_bytes(string)),
        ]);
        let user = [text("strings"), text(string)];
        let will_topic = [text("strings"), text(string), text("gone")];
        let mut protocol_name = text(string);
        protocol_name.extend([4, CLEAN, 0, 60]);
        protocol_name.extend(text("strings"));
        check_refused_connects(
            Answer::Silence,
            [
                (what("ClientId"), connect_bytes(CLEAN, &[text(string)])),
                (what("Will Topic"), connect_bytes(WITH_WILL, &will_topic)),
                (what("User Name"), connect_bytes(CLEAN | 0x80, &user)),
                (
                    what("Protocol Name"),
                    with_fixed_header(0x10, &protocol_name),
                ),
            ],
        );
    }
}

/// [MQTT-1.5.3-1], [MQTT-3.1.3-4], [MQTT-3.1.3-10], [MQTT-3.1.3-11], [MQTT-3.3.2-1], [MQTT-3.8.3-1], [MQTT-3.10.3-1]: ill-formed
/// UTF-8 and surrogates close the connection, in each field that is a string.
#[test]
fn ill_formed_utf_8_closes_the_connection() {
    check_strings("ill-formed UTF-8", &ILL_FORMED);
}

/// [MQTT-1.5.3-2], [MQTT-4.7.3-2]: U+0000 closes the connection, in each field that is a string.
#[test]
fn the_null_character_closes_the_connection() {
    check_strings("U+0000", &WITH_NULL);
}

/// [MQTT-1.5.3-1]: well-formed strings of every length of character are taken as they are, up to U+10FFFF.
#[test]
fn well_formed_utf_8_is_accepted() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "A\u{2A6D4}\u{10FFFF}");
    for topic in [
        "utf-8/\u{7FF}",
        "utf-8/\u{D7FF}\u{E000}",
        "utf-8/\u{10FFFF}",
        "utf-8/ \u{1}\u{9F}",
    ] {
        client.subscribe(topic, QoS::AtMostOnce);
        client.send_raw(&publish_bytes(0x30, topic, None));
        assert_eq!(client.receive().publish().topic, topic);
    }
}

/// [MQTT-1.5.3-3]: U+FEFF is a character like any other, at the beginning too: neither stripped nor ignored, in topics,
/// filters and `ClientId`s.
#[test]
fn u_feff_is_kept() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V311, "feff-sub");
    for filter in ["\u{FEFF}feff/+", "feff/\u{FEFF}", "\u{FEFF}"] {
        subscriber.subscribe(filter, QoS::AtMostOnce);
    }
    let mut publisher = RawClient::connect(&server, V311, "feff-pub");
    for topic in ["feff/a", "feff/", "feff"] {
        publisher.publish(topic, QoS::AtMostOnce, b"");
    }
    subscriber.expect_nothing();
    for topic in [
        "\u{FEFF}feff/a",
        "feff/\u{FEFF}",
        "\u{FEFF}",
        "\u{FEFF}feff/\u{FEFF}",
    ] {
        publisher.publish(topic, QoS::AtMostOnce, b"");
        let received = subscriber.receive();
        assert_eq!(received.publish().topic, topic);
        assert_eq!(received.bytes()[4..4 + topic.len()], *topic.as_bytes());
    }
    let (with, _) = connect_session(&server, "\u{FEFF}feff-id", false);
    with.disconnect();
    assert!(!connect_session(&server, "feff-id", true).1);
    assert!(connect_session(&server, "\u{FEFF}feff-id", false).1);
}

/// Each packet of a client, whole but for its flags, which are the low bits of the first byte.
fn packets_of_a_client() -> [(&'static str, u8, Vec<u8>); 8] {
    let body = |packet: Vec<u8>| packet[2..].to_vec();
    [
        ("PUBACK", 0x40, vec![0, 1]),
        ("PUBREC", 0x50, vec![0, 1]),
        ("PUBREL", 0x62, vec![0, 1]),
        ("PUBCOMP", 0x70, vec![0, 1]),
        ("SUBSCRIBE", 0x82, body(subscribe_to_bytes("breach/t", 0))),
        (
            "UNSUBSCRIBE",
            0xA2,
            body(unsubscribe_from_bytes("breach/t")),
        ),
        ("PINGREQ", 0xC0, vec![]),
        ("DISCONNECT", 0xE0, vec![]),
    ]
}

/// [MQTT-2.2.2-1], [MQTT-2.2.2-2], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1]: with any other flags than those
/// of the table each packet closes the connection, and has no effect.
#[test]
fn wrong_flags_close_the_connection() {
    for (name, first_byte, body) in packets_of_a_client() {
        let wrong = (0..16).filter(|flags| *flags != first_byte & 0x0F);
        check_closed(wrong.map(|flags| {
            let bytes = with_fixed_header(first_byte & 0xF0 | flags, &body);
            (format!("{name} with flags {flags:04b}"), bytes)
        }));
    }
    let connect = connect_bytes(CLEAN, &[text("flags")]);
    check_refused_connects(
        Answer::Silence,
        (1..16).map(|flags| {
            let bytes = [&[0x10 | flags], &connect[1..]].concat();
            (format!("flags {flags:04b}"), bytes)
        }),
    );
}

/// [MQTT-4.8.0-1]: packet types that are reserved or a server's, a Remaining Length of five bytes, fields missing and fields
/// too many close the connection.
#[test]
fn malformed_packets_close_the_connection() {
    let types = [0x00, 0xF0, 0x20, 0x90, 0xB0, 0xD0];
    check_closed(types.map(|first_byte| {
        let name = format!("first byte {first_byte:#04x}");
        (name, with_fixed_header(first_byte, &[0, 1]))
    }));
    check_closed([(
        "five bytes of length",
        vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
    )]);
    for (name, first_byte, body) in packets_of_a_client() {
        let longer = [&body[..], &[0]].concat();
        let longer = (
            format!("{name}, a byte too long"),
            with_fixed_header(first_byte, &longer),
        );
        let shorter = (1..body.len()).map(|length| {
            let name = format!("{name} of {length} bytes");
            (name, with_fixed_header(first_byte, &body[..length]))
        });
        check_closed(shorter.chain([longer]));
    }
    let publish = publish_bytes(0x32, "breach/t", Some(1));
    check_closed((0..12).map(|length| {
        let name = format!("PUBLISH of {length} bytes");
        (name, with_fixed_header(0x32, &publish[2..2 + length]))
    }));
}

/// [MQTT-2.3.1-1]: Packet Identifier 0 closes the connection.
#[test]
fn packet_identifier_0_closes_the_connection() {
    let request = [text("breach/t"), vec![0]].concat();
    check_closed([
        ("PUBLISH at QoS 1", publish_bytes(0x32, "breach/t", Some(0))),
        ("PUBLISH at QoS 2", publish_bytes(0x34, "breach/t", Some(0))),
        ("SUBSCRIBE", identified_bytes(0x82, 0, &request)),
        ("UNSUBSCRIBE", identified_bytes(0xA2, 0, &text("breach/t"))),
    ]);
}

/// [MQTT-2.3.1-6], [MQTT-2.3.1-7], [MQTT-3.8.4-2], [MQTT-3.10.4-4], [MQTT-2.2.2-1]: each answer, byte for byte, has the identifier of
/// its question, the smallest and the largest too.
#[test]
fn answers_repeat_the_packet_identifier() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "answers");
    for packet_id in [1, 2, 255, 256, 32_768, 65_535] {
        let [high, low] = u16::to_be_bytes(packet_id);
        let exchanges = [
            (
                publish_bytes(0x32, "answers", Some(packet_id)),
                vec![0x40, 2, high, low],
            ),
            (
                publish_bytes(0x34, "answers", Some(packet_id)),
                vec![0x50, 2, high, low],
            ),
            (
                identified_bytes(0x62, packet_id, &[]),
                vec![0x70, 2, high, low],
            ),
            (
                subscribe_bytes(V311, packet_id, &[("other", 1)]),
                vec![0x90, 3, high, low, 1],
            ),
            (
                unsubscribe_bytes(V311, packet_id, &["other"]),
                vec![0xB0, 2, high, low],
            ),
        ];
        for (question, answer) in exchanges {
            client.send_raw(&question);
            assert_eq!(client.receive().bytes(), answer);
        }
    }
    client.send_raw(&[0xC0, 0]);
    assert_eq!(client.receive().bytes(), [0xD0, 0]);
}

/// [MQTT-2.3.1-6], [MQTT-2.2.2-1]: the server's PUBREL has the identifier of its PUBLISH, and flags 0010.
#[test]
fn the_servers_pubrel_repeats_the_packet_identifier() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "pubrel");
    client.subscribe("pubrel", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "pubrel-pub");
    for _ in 0..3 {
        publisher.publish("pubrel", QoS::ExactlyOnce, b"x");
        let packet_id = id_of(&client.receive());
        client.send(&Packet::PubRec(ack(packet_id)));
        let [high, low] = packet_id.value().to_be_bytes();
        assert_eq!(client.receive().bytes(), [0x62, 2, high, low]);
        client.send(&Packet::PubComp(ack(packet_id)));
    }
}

/// [MQTT-2.3.1-5]: a PUBLISH at QoS 0 has no Packet Identifier, from a client and from the server: the payload follows the
/// topic, byte for byte.
#[test]
fn qos_0_has_no_packet_identifier() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "no-id");
    client.subscribe("no/id", QoS::ExactlyOnce);
    let packet = with_fixed_header(0x30, b"\0\x05no/id\0\x01payload");
    client.send_raw(&packet);
    assert_eq!(client.receive().bytes(), packet);
    client.send_raw(&with_fixed_header(0x30, b"\0\x05no/id"));
    assert_eq!(client.receive().bytes(), b"\x30\x07\0\x05no/id");
}

/// [MQTT-2.3.1-4], [MQTT-2.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.3-1]: the server's identifiers are not 0 and not in use: not those
/// unacknowledged, not those whose PUBCOMP is due, also over a reconnect.
#[test]
fn the_servers_identifiers_are_unused() {
    let server = server();
    let client_id = unique("unused");
    let (mut client, _) = connect_session(&server, &client_id, true);
    client.disconnect();
    (client, _) = connect_session(&server, &client_id, false);
    client.subscribe("unused", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "unused-pub");
    let mut in_use = BTreeSet::new();
    for round in 0..40_u16 {
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(round % 2)];
        publisher.publish("unused", qos, &[]);
        let received = client.receive();
        let packet_id = id_of(&received);
        assert!(in_use.insert(packet_id.value()), "{packet_id:?} is in use");
        if qos == QoS::ExactlyOnce {
            client.send(&Packet::PubRec(ack(packet_id)));
            assert_eq!(client.receive().pub_rel().packet_id, packet_id);
        } else if round % 4 == 0 {
            client.send(&Packet::PubAck(ack(packet_id)));
            in_use.remove(&packet_id.value());
        }
        if round % 8 == 7 {
            client.send(&Packet::PubComp(ack(packet_id)));
            in_use.remove(&packet_id.value());
        }
        if round == 20 {
            client.fence();
            client.disconnect();
            (client, _) = connect_session(&server, &client_id, false);
            let again: BTreeSet<u16> = client
                .drain_owed(in_use.len())
                .iter()
                .map(|received| match received.packet() {
                    Packet::PubRel(release) => release.packet_id.value(),
                    _ => id_of(received).value(),
                })
                .collect();
            assert_eq!(again, in_use);
        }
    }
    assert!(!in_use.contains(&0));
}
