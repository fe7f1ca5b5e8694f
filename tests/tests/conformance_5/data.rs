//! Statements of MQTT 5, chapters 1 and 2: data types, fixed header, Packet Identifiers, properties.

use waypost_mqtt::{
    Packet, PacketId, Property, ProtocolVersion::V5, Publish, QoS, ReasonCode::MalformedPacket,
    ReasonCode::ProtocolError,
};
use waypost_tests::{
    RawClient, empty_publish, subscribe_bytes, unsubscribe_bytes, with_fixed_header,
};

use crate::wire::{
    Breach, CLEAN, WITH_WILL, check_disconnected, check_refused_connects, connect_bytes,
    connect_will_bytes, identified_bytes, listed, properties, publish_bytes, request, server,
    subscribe_with_bytes, text,
};

/// Not UTF-8: a stray continuation, an overlong form, surrogates, beyond U+10FFFF, a cut character.
const ILL_FORMED: [&[u8]; 6] = [
    b"a\x80b",
    b"\xC0\xAF",
    b"\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xF4\x90\x80\x80",
    b"a\xE2\x82",
];

/// A property that is one string.
fn string_property(identifier: u8, value: &[u8]) -> Vec<u8> {
    [vec![identifier], text(value)].concat()
}

fn pair(name: &[u8], value: &[u8]) -> Vec<u8> {
    [vec![0x26], text(name), text(value)].concat()
}

/// CONNECTs with `string` in each field that is a string.
fn connects_with(string: &[u8]) -> Vec<Breach> {
    let plain = || [text("strings")];
    let with_will = |topic: &[u8], properties: &[u8]| {
        let fields = [text("w"), listed(properties), text(topic), text("gone")];
        connect_bytes(WITH_WILL, &[], &fields)
    };
    [
        (
            "Client Identifier",
            connect_bytes(CLEAN, &[], &[text(string)]),
        ),
        (
            "User Name",
            connect_bytes(0x82, &[], &[text("u"), text(string)]),
        ),
        (
            "Authentication Method",
            connect_bytes(CLEAN, &string_property(0x15, string), &plain()),
        ),
        (
            "User Property name",
            connect_bytes(CLEAN, &pair(string, b"v"), &plain()),
        ),
        (
            "User Property value",
            connect_bytes(CLEAN, &pair(b"n", string), &plain()),
        ),
        ("Will Topic", with_will(string, &[])),
        (
            "Will Content Type",
            with_will(b"t", &string_property(0x03, string)),
        ),
        (
            "Will Response Topic",
            with_will(b"t", &string_property(0x08, string)),
        ),
        ("Will User Property", with_will(b"t", &pair(b"n", string))),
    ]
    .map(|(name, bytes)| (name, bytes, MalformedPacket))
    .into()
}

/// Packets of a connected client with `string` in each field that is a string.
fn packets_with(string: &[u8]) -> Vec<Breach> {
    let ack = |first_byte, properties: &[u8]| {
        identified_bytes(first_byte, 1, &[vec![0x00], listed(properties)].concat())
    };
    let reason_string = string_property(0x1F, string);
    let disconnect = [vec![0x00], listed(&reason_string)].concat();
    let auth = [vec![0x18], listed(&string_property(0x15, string))].concat();
    [
        ("Topic Name", publish_bytes(0x30, string, None, &[])),
        (
            "Content Type",
            publish_bytes(0x30, b"t", None, &string_property(0x03, string)),
        ),
        (
            "Response Topic",
            publish_bytes(0x30, b"t", None, &string_property(0x08, string)),
        ),
        (
            "PUBLISH User Property name",
            publish_bytes(0x30, b"t", None, &pair(string, b"v")),
        ),
        (
            "PUBLISH User Property value",
            publish_bytes(0x30, b"t", None, &pair(b"n", string)),
        ),
        (
            "SUBSCRIBE Topic Filter",
            subscribe_with_bytes(&[], &request(string, 0)),
        ),
        (
            "SUBSCRIBE User Property",
            subscribe_with_bytes(&pair(b"n", string), &request(b"t", 0)),
        ),
        (
            "UNSUBSCRIBE Topic Filter",
            identified_bytes(0xA2, 1, &[listed(&[]), text(string)].concat()),
        ),
        ("PUBACK Reason String", ack(0x40, &reason_string)),
        ("PUBREC Reason String", ack(0x50, &reason_string)),
        ("PUBREL Reason String", ack(0x62, &reason_string)),
        ("PUBCOMP Reason String", ack(0x70, &reason_string)),
        (
            "DISCONNECT Reason String",
            with_fixed_header(0xE0, &disconnect),
        ),
        ("AUTH Authentication Method", with_fixed_header(0xF0, &auth)),
    ]
    .map(|(name, bytes)| (name, bytes, MalformedPacket))
    .into()
}

/// [MQTT-1.5.4-1], [W5-1.5.4-a]: ill-formed UTF-8, surrogates too, in any string of any packet is refused.
/// With it [MQTT-1.5.7-1], [W5-1.5.7-a] (both strings of a pair), [MQTT-3.1.3-4], [MQTT-3.1.3-11],
/// [MQTT-3.1.3-12] (CONNECT), [MQTT-3.3.2-1], [MQTT-3.3.2-13], [MQTT-3.3.2-19] (PUBLISH), [MQTT-3.8.3-1],
/// [MQTT-3.10.3-1] (filters).
#[test]
fn ill_formed_strings_are_malformed() {
    check_refused_connects(connects_with(ILL_FORMED[0]));
    check_disconnected(packets_with(ILL_FORMED[0]));
    for string in ILL_FORMED {
        check_disconnected([(
            "Topic Name",
            publish_bytes(0x30, string, None, &[]),
            MalformedPacket,
        )]);
        check_refused_connects([(
            "Client Identifier",
            connect_bytes(CLEAN, &[], &[text(string)]),
            MalformedPacket,
        )]);
    }
}

/// [MQTT-1.5.4-2], [W5-1.5.4-b], [MQTT-4.7.3-2]: U+0000 in any string of any packet is refused.
#[test]
fn null_characters_are_malformed() {
    check_refused_connects(connects_with(b"a\0b"));
    check_disconnected(packets_with(b"a\0b"));
}

/// [MQTT-1.5.4-3]: EF BB BF is U+FEFF wherever it stands; it is part of a topic and arrives as it was sent.
#[test]
fn a_byte_order_mark_is_a_character() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "bom-sub");
    subscriber.subscribe("\u{feff}bom/\u{feff}", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "\u{feff}bom-pub");
    let marked = properties([Property::UserProperty("\u{feff}n", "v\u{feff}")]);
    let publish = |topic| Publish {
        topic,
        properties: marked.as_properties(),
        ..empty_publish()
    };
    publisher.publish_with(&publish("bom/"));
    publisher.publish_with(&publish("\u{feff}bom/\u{feff}"));
    let received = subscriber.receive();
    assert_eq!(received.publish().topic, "\u{feff}bom/\u{feff}");
    let pairs: Vec<_> = received.publish().properties.user_properties().collect();
    assert_eq!(pairs, [("\u{feff}n", "v\u{feff}")]);
    subscriber.expect_nothing();
}

/// [MQTT-1.5.5-1], [W5-1.5.5-a]: a Variable Byte Integer not in its shortest form, or longer than four bytes.
#[test]
fn variable_byte_integers_have_one_form() {
    let publish = |property_length: &[u8]| {
        with_fixed_header(0x30, &[&text("t"), property_length, b"x"].concat())
    };
    check_disconnected(
        [
            ("Property Length in two bytes", publish(b"\x80\0")),
            ("Property Length in four bytes", publish(b"\x80\x80\x80\0")),
            (
                "Property Length of five bytes",
                publish(b"\x80\x80\x80\x80\x01"),
            ),
            (
                "Subscription Identifier in two bytes",
                subscribe_with_bytes(b"\x0B\x81\0", &request(b"t", 0)),
            ),
            (
                "Subscription Identifier of five bytes",
                subscribe_with_bytes(b"\x0B\xFF\xFF\xFF\xFF\x01", &request(b"t", 0)),
            ),
            (
                "Remaining Length in two bytes",
                b"\x30\x84\x00\0\x01t\0".to_vec(),
            ),
            (
                "Remaining Length of PINGREQ in two bytes",
                b"\xC0\x80\0".to_vec(),
            ),
            (
                "Remaining Length of five bytes",
                b"\x30\xFF\xFF\xFF\xFF\x01".to_vec(),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
    let body = b"\0\x04MQTT\x05\x02\0\x3C\x80\0\0\x01c";
    check_refused_connects([(
        "Property Length in two bytes",
        with_fixed_header(0x10, body),
        MalformedPacket,
    )]);
}

/// [MQTT-2.1.3-1], [W5-2.1.3-a]: each packet type has its fixed flags; with others it is malformed. With it
/// [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1], [MQTT-3.15.1-1].
#[test]
fn reserved_flags_are_fixed() {
    let subscribe = subscribe_bytes(V5, 1, &[("t", 0)]);
    let unsubscribe = unsubscribe_bytes(V5, 1, &["t"]);
    let auth = [vec![0x18], listed(&string_property(0x15, b"m"))].concat();
    let packets = [
        ("PUBACK", vec![0x40, 2, 0, 1]),
        ("PUBREC", vec![0x50, 2, 0, 1]),
        ("PUBREL", vec![0x62, 2, 0, 1]),
        ("PUBCOMP", vec![0x70, 2, 0, 1]),
        ("SUBSCRIBE", subscribe),
        ("UNSUBSCRIBE", unsubscribe),
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        ("AUTH", with_fixed_header(0xF0, &auth)),
    ];
    for (name, packet) in packets {
        for bit in [1, 2, 4, 8] {
            let mut bytes = packet.clone();
            bytes[0] ^= bit;
            check_disconnected([(name, bytes, MalformedPacket)]);
        }
    }
}

/// [W5-1.2-a]: fields that do not fit the Remaining Length exactly cannot be parsed.
#[test]
fn fields_fill_the_remaining_length() {
    check_disconnected(
        [
            ("PINGREQ with a body", vec![0xC0, 1, 0]),
            ("PUBACK of one byte", vec![0x40, 1, 0]),
            ("PUBACK with a byte too many", vec![0x40, 5, 0, 1, 0, 0, 0]),
            ("PUBREL without identifier", vec![0x62, 0]),
            ("PUBLISH topic beyond the end", vec![0x30, 4, 0, 9, b't', 0]),
            ("PUBLISH without Property Length", vec![0x30, 3, 0, 1, b't']),
            (
                "PUBLISH properties beyond the end",
                vec![0x30, 5, 0, 1, b't', 9, 0],
            ),
            (
                "SUBSCRIBE without options",
                vec![0x82, 6, 0, 1, 0, 0, 1, b't'],
            ),
            ("SUBSCRIBE without Property Length", vec![0x82, 2, 0, 1]),
            (
                "UNSUBSCRIBE filter beyond the end",
                vec![0xA2, 6, 0, 1, 0, 0, 2, b't'],
            ),
            ("DISCONNECT with a byte too many", vec![0xE0, 3, 0, 0, 0]),
            ("AUTH without Property Length", vec![0xF0, 1, 0x18]),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
    let mut trailing = connect_bytes(CLEAN, &[], &[text("c")]);
    trailing.push(0);
    trailing[1] += 1;
    let mut cut = connect_bytes(CLEAN, &[], &[text("client")]);
    cut.pop();
    cut[1] -= 1;
    check_refused_connects([
        ("a byte too many", trailing, MalformedPacket),
        ("a byte too few", cut, MalformedPacket),
    ]);
}

/// [W5-1.2-b]: packet types that only a server sends.
#[test]
fn packets_of_a_server_are_protocol_errors() {
    check_disconnected([
        ("CONNACK", vec![0x20, 3, 0, 0, 0], ProtocolError),
        ("SUBACK", vec![0x90, 4, 0, 1, 0, 0], ProtocolError),
        ("UNSUBACK", vec![0xB0, 4, 0, 1, 0, 0], ProtocolError),
        ("PINGRESP", vec![0xD0, 0], ProtocolError),
        ("the reserved type 0", vec![0x00, 0], MalformedPacket),
    ]);
}

/// [W5-2.2.2.2-a]: each packet type has its own properties; another, or an unknown one, is malformed.
#[test]
fn properties_belong_to_packet_types() {
    let client = || [text("c")];
    let topic_alias = [0x23, 0, 1];
    let session_expiry = [0x11, 0, 0, 0, 1];
    check_refused_connects(
        [
            ("Topic Alias", connect_bytes(CLEAN, &topic_alias, &client())),
            (
                "Will Delay in CONNECT",
                connect_bytes(CLEAN, &[0x18, 0, 0, 0, 1], &client()),
            ),
            ("Maximum QoS", connect_bytes(CLEAN, &[0x24, 1], &client())),
            ("unknown 0x04", connect_bytes(CLEAN, &[0x04, 1], &client())),
            ("unknown 0x7F", connect_bytes(CLEAN, &[0x7F, 1], &client())),
            (
                "Session Expiry in the Will",
                connect_will_bytes(&session_expiry),
            ),
            ("Topic Alias in the Will", connect_will_bytes(&topic_alias)),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
    let ack =
        |first_byte| identified_bytes(first_byte, 1, &[&[0][..], &listed(&topic_alias)].concat());
    let unsubscribe = [listed(&[0x0B, 1]), text("t")].concat();
    let disconnect = [vec![0], listed(&[0x21, 0, 1])].concat();
    let auth = [
        vec![0x18],
        listed(&[&string_property(0x15, b"m")[..], &topic_alias].concat()),
    ];
    check_disconnected(
        [
            (
                "PUBLISH with Session Expiry",
                publish_bytes(0x30, b"t", None, &session_expiry),
            ),
            (
                "PUBLISH with Reason String",
                publish_bytes(0x30, b"t", None, &string_property(0x1F, b"r")),
            ),
            (
                "PUBLISH with unknown 0x00",
                publish_bytes(0x30, b"t", None, &[0x00, 1]),
            ),
            ("PUBACK", ack(0x40)),
            ("PUBREC", ack(0x50)),
            ("PUBREL", ack(0x62)),
            ("PUBCOMP", ack(0x70)),
            (
                "SUBSCRIBE",
                subscribe_with_bytes(&topic_alias, &request(b"t", 0)),
            ),
            ("UNSUBSCRIBE", identified_bytes(0xA2, 1, &unsubscribe)),
            ("DISCONNECT", with_fixed_header(0xE0, &disconnect)),
            ("AUTH", with_fixed_header(0xF0, &auth.concat())),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
}

/// [W5-2.2.2.2-b]: a value that is not of its property's type.
#[test]
fn property_values_are_of_their_type() {
    let client = || [text("c")];
    check_refused_connects(
        [
            (
                "Session Expiry of three bytes",
                connect_bytes(CLEAN, &[0x11, 0, 0, 1], &client()),
            ),
            (
                "Receive Maximum of one byte",
                connect_bytes(CLEAN, &[0x21, 1], &client()),
            ),
            (
                "User Property without value",
                connect_bytes(CLEAN, &string_property(0x26, b"n"), &client()),
            ),
            ("Will Delay of two bytes", connect_will_bytes(&[0x18, 0, 1])),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
    check_disconnected(
        [
            (
                "Message Expiry of two bytes",
                publish_bytes(0x30, b"t", None, &[0x02, 0, 1]),
            ),
            (
                "Payload Format of no byte",
                publish_bytes(0x30, b"t", None, &[0x01]),
            ),
            (
                "Correlation Data beyond the end",
                publish_bytes(0x30, b"t", None, &[0x09, 0, 9, 1]),
            ),
            (
                "Content Type without length",
                publish_bytes(0x30, b"t", None, &[0x03, 0]),
            ),
            (
                "Subscription Identifier of no byte",
                subscribe_with_bytes(&[0x0B], &request(b"t", 0)),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
}

/// [MQTT-2.2.1-3]: Packet Identifier 0 is refused wherever there is one. So [MQTT-2.2.1-5] in what a client sends.
#[test]
fn packet_identifier_zero_is_a_protocol_error() {
    check_disconnected(
        [
            ("PUBLISH QoS 1", publish_bytes(0x32, b"t", Some(0), &[])),
            ("PUBLISH QoS 2", publish_bytes(0x34, b"t", Some(0), &[])),
            ("PUBACK", vec![0x40, 2, 0, 0]),
            ("PUBREC", vec![0x50, 2, 0, 0]),
            ("PUBREL", vec![0x62, 2, 0, 0]),
            ("PUBCOMP", vec![0x70, 2, 0, 0]),
            ("SUBSCRIBE", subscribe_bytes(V5, 0, &[("t", 0)])),
            ("UNSUBSCRIBE", unsubscribe_bytes(V5, 0, &["t"])),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// [MQTT-2.2.1-2], [MQTT-2.2.2-1], [MQTT-4.3.1-1], [MQTT-3.3.2-1]: a QoS 0 PUBLISH is topic, Property Length 0,
/// payload; no identifier, DUP 0.
#[test]
fn a_plain_publish_byte_for_byte() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "plain");
    client.subscribe("plain/t", QoS::ExactlyOnce);
    let bytes = b"\x30\x0B\0\x07plain/t\0x";
    client.send_raw(bytes);
    assert_eq!(client.receive().bytes(), bytes);
}

/// [MQTT-2.2.2-1]: the server's other packets state their Property Length, too; where the packet may end before it,
/// both forms are right.
#[test]
fn packets_without_properties_say_so() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "propertyless");
    client.send_raw(&subscribe_bytes(V5, 7, &[("propertyless", 1)]));
    assert_eq!(client.receive().bytes(), [0x90, 4, 0, 7, 0, 1]);
    client.send_raw(&publish_bytes(0x32, b"propertyless", Some(8), &[]));
    let received = [client.receive(), client.receive()];
    let publish = received
        .iter()
        .find(|packet| packet.bytes()[0] >> 4 == 3)
        .unwrap();
    let packet_id = publish.publish().packet_id.unwrap().value();
    let expected = publish_bytes(0x32, b"propertyless", Some(packet_id), &[]);
    assert_eq!(publish.bytes(), expected);
    client.send_raw(&unsubscribe_bytes(V5, 9, &["propertyless"]));
    assert_eq!(client.receive().bytes(), [0xB0, 4, 0, 9, 0, 0]);
}

/// [MQTT-2.2.1-4], [MQTT-4.3.2-1], [MQTT-4.3.3-1]: identifiers of messages in flight are not 0 and all different;
/// [MQTT-4.3.2-2], [MQTT-4.3.3-2]: sent first with DUP 0.
#[test]
fn messages_in_flight_have_different_identifiers() {
    const COUNT: usize = 100;
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "ids-sub");
    subscriber.subscribe("ids", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "ids-pub");
    for number in 0..COUNT {
        let qos = if number % 2 == 0 {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        publisher.publish("ids", qos, b"x");
    }
    let mut seen: Vec<PacketId> = Vec::new();
    for number in 0..COUNT {
        let received = subscriber.receive();
        let publish = received.publish();
        assert!(!publish.dup);
        assert_eq!(publish.qos as usize, 1 + number % 2);
        seen.push(publish.packet_id.unwrap());
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), COUNT);
}

/// [MQTT-2.2.1-5], [MQTT-2.2.1-6]: each answer has the identifier of what it answers.
#[test]
fn answers_repeat_the_identifier() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "answers");
    for packet_id in [1, 255, 256, 65_535] {
        let expect = PacketId::new(packet_id).unwrap();
        client.send_raw(&subscribe_bytes(V5, packet_id, &[("answers/none", 0)]));
        assert_eq!(client.receive().sub_ack().packet_id, expect);
        client.send_raw(&publish_bytes(0x32, b"answers/t", Some(packet_id), &[]));
        assert_eq!(client.receive().pub_ack().packet_id, expect);
        client.send_raw(&publish_bytes(0x34, b"answers/t", Some(packet_id), &[]));
        assert_eq!(client.receive().pub_rec().packet_id, expect);
        client.send_raw(&identified_bytes(0x62, packet_id, &[]));
        assert_eq!(client.receive().pub_comp().packet_id, expect);
        client.send_raw(&unsubscribe_bytes(V5, packet_id, &["answers/none"]));
        assert_eq!(client.receive().unsub_ack().packet_id, expect);
    }
    client.send(&Packet::PingReq);
    assert!(matches!(client.receive().packet(), Packet::PingResp));
}
