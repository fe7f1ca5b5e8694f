//! Statements of MQTT 5, section 3.1: CONNECT and what a server makes of it.

use waypost_mqtt::{
    Auth, Connect, Packet, PacketId, Property, ProtocolVersion::V5, ProtocolVersion::V311, QoS,
    ReasonCode, ReasonCode::MalformedPacket, ReasonCode::ProtocolError, Will,
};
use waypost_tests::{
    LIMIT, RawClient, Received, connect_packet, subscribe_bytes, unsubscribe_bytes,
    with_fixed_header,
};

use crate::wire::{
    CLEAN, WITH_WILL, check_refused_connects, connect_bytes, connect_session, connect_will_bytes,
    listed, properties, publish_bytes, server, text, unique, will,
};

/// [MQTT-3.1.0-1], [MQTT-3.2.0-1], [MQTT-3.14.0-1]: what does not begin with CONNECT is closed, without CONNACK and
/// without DISCONNECT.
#[test]
fn connect_is_the_first_packet() {
    let server = server();
    let first_packets = [
        ("PUBLISH", publish_bytes(0x30, b"first", None, &[])),
        ("PUBACK", vec![0x40, 2, 0, 1]),
        ("PUBREL", vec![0x62, 2, 0, 1]),
        ("SUBSCRIBE", subscribe_bytes(V5, 1, &[("first", 0)])),
        ("UNSUBSCRIBE", unsubscribe_bytes(V5, 1, &["first"])),
        ("PINGREQ", vec![0xC0, 0]),
        ("DISCONNECT", vec![0xE0, 0]),
        (
            "AUTH",
            with_fixed_header(0xF0, &[0x18, 4, 0x15, 0, 1, b'm']),
        ),
        ("CONNACK", vec![0x20, 3, 0, 0, 0]),
    ];
    let mut witness = RawClient::connect(&server, V5, "first-witness");
    witness.subscribe("first", QoS::AtMostOnce);
    for (name, bytes) in first_packets {
        eprintln!("first packet: {name}");
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&bytes);
        client.expect_closed();
    }
    witness.expect_nothing();
}

/// [MQTT-3.1.0-2], [MQTT-3.2.0-2]: a second CONNECT is a Protocol Error and gets no second CONNACK.
#[test]
fn a_second_connect_is_a_protocol_error() {
    let server = server();
    for client_id in ["second", "another"] {
        let mut client = RawClient::connect(&server, V5, "second");
        client.send(&Packet::Connect(connect_packet(V5, client_id)));
        client.expect_refused(ProtocolError);
    }
}

/// What a server may say to a CONNECT of a protocol it does not speak: nothing, 0x84, or 3.1.1's 0x01.
fn assert_says_unsupported(answer: Option<Received>) {
    if let Some(answer) = answer {
        let bytes = answer.bytes();
        assert!(
            bytes == [0x20, 2, 0, 1] || (bytes[0], bytes[3]) == (0x20, 0x84),
            "{bytes:02x?}"
        );
    }
}

/// [MQTT-3.1.2-1], [MQTT-3.1.2-2]: another protocol name or version: at most a CONNACK that says so, then closed.
#[test]
fn other_protocols_and_versions_are_refused() {
    let server = server();
    let rest = b"\x02\0\x3C\0\0\x01c";
    let names: [&[u8]; 6] = [b"MQTTX", b"mqtt", b"MQTt", b"", b"HTTP", b"\xC3\xA4QTT"];
    let other_names = names.map(|name| [&text(name), &b"\x05"[..], rest].concat());
    let other_versions = [0, 1, 2, 3, 6, 7, 127, 131, 255]
        .map(|version| [&b"\0\x04MQTT"[..], &[version], rest].concat());
    for body in other_names.into_iter().chain(other_versions) {
        eprintln!("{body:02x?}");
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&with_fixed_header(0x10, &body));
        let answer = client.receive_within(LIMIT);
        if answer.is_some() {
            client.expect_closed();
        }
        assert_says_unsupported(answer);
    }
}

/// [MQTT-3.1.2-2]: a later version is told in the form of 3.1.1, whose own [MQTT-3.1.2-2] demands that answer.
#[test]
fn a_later_version_is_told() {
    let server = server();
    let mut client = RawClient::open(server.mqtt(), V311);
    client.send_raw(&with_fixed_header(
        0x10,
        b"\0\x04MQTT\x06\x02\0\x3C\0\0\x01c",
    ));
    let answer = client.receive_within(LIMIT).expect("CONNACK");
    assert_eq!(answer.bytes(), [0x20, 2, 0, 1]);
    client.expect_closed();
}

/// [MQTT-3.1.4-1], [MQTT-3.2.2-6], [MQTT-3.2.2-7], [MQTT-3.2.2-8], [MQTT-4.13.1-1], [MQTT-4.13.2-1], [W5-4.13.1-a]: a
/// CONNECT that breaks the format is answered by CONNACK 0x81 and the end of the connection:
/// [MQTT-3.1.2-3], [W5-3.1.2.3-a] (reserved flag), [MQTT-3.1.2-9] (Will fields), [MQTT-3.1.2-11] (Will QoS without
/// Will), [MQTT-3.1.2-12], [W5-3.1.2.6-a] (Will QoS 3), [MQTT-3.1.2-13] (Will Retain without Will), [MQTT-3.1.2-16] to
/// [MQTT-3.1.2-17] (User Name), [MQTT-3.1.2-18], [MQTT-3.1.2-19] (Password), [MQTT-3.1.3-1] (order), [MQTT-3.1.3-3]
/// (Client Identifier).
#[test]
fn malformed_connects_are_refused() {
    let id = || text("malformed");
    let will_fields = || [id(), listed(&[]), text("t"), text("payload")];
    let with = |flags, fields: &[Vec<u8>]| connect_bytes(flags, &[], fields);
    check_refused_connects(
        [
            ("reserved flag", with(CLEAN | 0x01, &[id()])),
            ("Will Flag without Will", with(WITH_WILL, &[id()])),
            ("Will without payload", with(WITH_WILL, &will_fields()[..3])),
            (
                "Will without properties",
                with(WITH_WILL, &[id(), text("t"), text("payload")]),
            ),
            ("Will fields without Will Flag", with(CLEAN, &will_fields())),
            (
                "Will Topic empty",
                with(WITH_WILL, &[id(), listed(&[]), text(""), text("x")]),
            ),
            (
                "Will Topic with +",
                with(WITH_WILL, &[id(), listed(&[]), text("a/+"), text("x")]),
            ),
            (
                "Will Topic with #",
                with(WITH_WILL, &[id(), listed(&[]), text("#"), text("x")]),
            ),
            ("Will QoS 1 without Will", with(CLEAN | 0x08, &[id()])),
            ("Will QoS 2 without Will", with(CLEAN | 0x10, &[id()])),
            ("Will QoS 3 without Will", with(CLEAN | 0x18, &[id()])),
            ("Will QoS 3", with(WITH_WILL | 0x18, &will_fields())),
            ("Will Retain without Will", with(CLEAN | 0x20, &[id()])),
            ("User Name without flag", with(CLEAN, &[id(), text("user")])),
            ("User Name Flag without name", with(CLEAN | 0x80, &[id()])),
            (
                "Password without flag",
                with(CLEAN | 0x80, &[id(), text("user"), text("pw")]),
            ),
            (
                "Password Flag without password",
                with(CLEAN | 0xC0, &[id(), text("user")]),
            ),
            ("no Client Identifier", with(CLEAN, &[])),
            ("Client Identifier of one byte", with(CLEAN, &[vec![0]])),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
}

/// Protocol Errors in CONNECT: [W5-3.1.2.11.2-a], [W5-3.1.2.11.3-a], [W5-3.1.2.11.3-b], [W5-3.1.2.11.4-a],
/// [W5-3.1.2.11.4-b], [W5-3.1.2.11.5-a], [W5-3.1.2.11.6-a], [W5-3.1.2.11.6-b], [W5-3.1.2.11.7-a], [W5-3.1.2.11.7-b],
/// [W5-3.1.2.11.9-a], [W5-3.1.2.11.10-a], [W5-3.1.2.11.10-b].
#[test]
fn connect_properties_are_checked() {
    let with = |properties: &[u8]| connect_bytes(CLEAN, properties, &[text("properties")]);
    check_refused_connects(
        [
            (
                "Session Expiry twice",
                with(b"\x11\0\0\0\x01\x11\0\0\0\x01"),
            ),
            ("Receive Maximum twice", with(b"\x21\0\x01\x21\0\x01")),
            ("Receive Maximum 0", with(b"\x21\0\0")),
            (
                "Maximum Packet Size twice",
                with(b"\x27\0\x01\0\0\x27\0\x01\0\0"),
            ),
            ("Maximum Packet Size 0", with(b"\x27\0\0\0\0")),
            ("Topic Alias Maximum twice", with(b"\x22\0\x01\x22\0\x01")),
            ("Request Response Information twice", with(b"\x19\0\x19\0")),
            ("Request Response Information 2", with(b"\x19\x02")),
            (
                "Request Problem Information twice",
                with(b"\x17\x01\x17\x01"),
            ),
            ("Request Problem Information 2", with(b"\x17\x02")),
            (
                "Authentication Method twice",
                with(b"\x15\0\x01m\x15\0\x01m"),
            ),
            ("Authentication Data alone", with(b"\x16\0\x01d")),
            (
                "Authentication Data twice",
                with(b"\x15\0\x01m\x16\0\x01d\x16\0\x01d"),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// Protocol Errors in the Will Properties: [W5-3.1.3.2.2-a], [W5-3.1.3.2.3-a], [W5-3.1.3.2.4-a], [W5-3.1.3.2.5-a],
/// [W5-3.1.3.2.6-a], [W5-3.1.3.2.7-a].
#[test]
fn will_properties_are_checked() {
    check_refused_connects(
        [
            (
                "Will Delay twice",
                connect_will_bytes(b"\x18\0\0\0\x01\x18\0\0\0\x01"),
            ),
            (
                "Payload Format twice",
                connect_will_bytes(b"\x01\x01\x01\x01"),
            ),
            (
                "Message Expiry twice",
                connect_will_bytes(b"\x02\0\0\0\x01\x02\0\0\0\x01"),
            ),
            (
                "Content Type twice",
                connect_will_bytes(b"\x03\0\x01a\x03\0\x01a"),
            ),
            (
                "Response Topic twice",
                connect_will_bytes(b"\x08\0\x01a\x08\0\x01a"),
            ),
            (
                "Correlation Data twice",
                connect_will_bytes(b"\x09\0\x01a\x09\0\x01a"),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// [MQTT-3.1.3-5], [MQTT-3.1.4-5]: 1 to 23 characters of digits and letters are accepted as they are.
#[test]
fn plain_client_identifiers_are_accepted() {
    let server = server();
    let ids = [
        "0",
        "z",
        "0123456789abcdefghijklm",
        "nopqrstuvwxyzABCDEFGHIJ",
        "KLMNOPQRSTUVWXYZ",
    ];
    for id in ids {
        let (client, answer) = RawClient::connect_with(&server, &connect_packet(V5, id));
        assert_eq!(
            answer.conn_ack().properties.assigned_client_identifier(),
            None,
            "{id}"
        );
        client.disconnect();
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-7], [MQTT-3.2.2-16]: an empty Client Identifier is replaced by one that nobody else has, told in
/// CONNACK, and good for all that a Client Identifier is good for.
#[test]
fn an_empty_client_identifier_is_assigned_one() {
    let server = server();
    let stays = properties([Property::SessionExpiryInterval(60)]);
    let connect = Connect {
        properties: stays.as_properties(),
        ..connect_packet(V5, "")
    };
    let mut clients: Vec<_> = (0..20)
        .map(|_| RawClient::connect_with(&server, &connect))
        .collect();
    let mut ids: Vec<String> = clients
        .iter()
        .map(|(_, answer)| {
            answer
                .conn_ack()
                .properties
                .assigned_client_identifier()
                .unwrap()
                .to_owned()
        })
        .collect();
    for (client, _) in &mut clients {
        client.fence();
    }
    assert!(ids.iter().all(|id| !id.is_empty()));
    let (first, _) = clients.swap_remove(0);
    first.cut();
    let (_, session_present) = connect_session(&server, &ids[0], false, 0);
    assert!(session_present, "the session bears the assigned identifier");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 20);
}

/// [MQTT-3.1.3-8]: a Client Identifier beyond the server's bound is refused with 0x85.
#[test]
fn an_overlong_client_identifier_is_refused() {
    check_refused_connects([(
        "65,535 bytes",
        connect_bytes(CLEAN, &[], &[text("i".repeat(65_535))]),
        ReasonCode::ClientIdentifierNotValid,
    )]);
}

/// [MQTT-3.1.4-2]: checks that need more than the packet: a session of another user, a Will on the server's topics.
#[test]
fn further_checks_refuse_a_connect() {
    let server = server();
    let connect = Connect {
        user_name: Some("alice"),
        ..connect_packet(V5, "owned")
    };
    let (mut alice, _) = RawClient::connect_with(&server, &connect);
    let not_authorized = ReasonCode::NotAuthorized;
    let server_topic = [
        text("sys-will"),
        listed(&[]),
        text("$SYS/broker/x"),
        text("gone"),
    ];
    check_refused_connects([
        (
            "anonymous",
            connect_bytes(CLEAN, &[], &[text("owned")]),
            not_authorized,
        ),
        (
            "mallory",
            connect_bytes(0x82, &[], &[text("owned"), text("mallory")]),
            not_authorized,
        ),
        (
            "a Will on $SYS",
            connect_bytes(WITH_WILL, &[], &server_topic),
            not_authorized,
        ),
    ]);
    alice.fence();
}

/// [MQTT-3.1.2-17], [MQTT-3.1.2-19], [MQTT-3.1.3-1], [MQTT-3.1.3-12]: with all fields there the server reads each in its
/// place: the identifier, the Will, the user.
#[test]
fn all_payload_fields_are_read_in_order() {
    let server = server();
    let mut witness = RawClient::connect(&server, V5, "order-witness");
    witness.subscribe("order/#", QoS::AtMostOnce);
    let will_properties = properties([Property::ContentType("text/plain")]);
    let connect = Connect {
        will: Some(Will {
            properties: will_properties.as_properties(),
            ..will("order/will", b"order payload")
        }),
        user_name: Some("order user"),
        password: Some(b"order \xFF password"),
        ..connect_packet(V5, "order-id")
    };
    let (_client, _) = RawClient::connect_with(&server, &connect);
    let again = Connect {
        will: None,
        ..connect
    };
    let (_client, _) = RawClient::connect_with(&server, &again);
    let received = witness.receive();
    assert_eq!(received.publish().topic, "order/will");
    assert_eq!(received.publish().payload, b"order payload");
    assert_eq!(
        received.publish().properties.content_type(),
        Some("text/plain")
    );
    check_refused_connects([(
        "the session is of `order user`",
        connect_bytes(CLEAN, &[], &[text("order-id")]),
        ReasonCode::NotAuthorized,
    )]);
}

/// [MQTT-3.1.4-3], [MQTT-3.14.4-1], [MQTT-3.14.4-2]: who is connected under the Client Identifier gets DISCONNECT 0x8E
/// as its last packet and loses its connection; so for a 3.1.1 client, without the word.
#[test]
fn a_new_connection_takes_over() {
    let server = server();
    for clean_start in [true, false] {
        let (mut old, _) = connect_session(&server, "takeover", clean_start, 60);
        let (mut new, _) = connect_session(&server, "takeover", clean_start, 60);
        old.expect_refused(ReasonCode::SessionTakenOver);
        new.fence();
        let mut old = RawClient::connect(&server, V311, "takeover");
        new.expect_refused(ReasonCode::SessionTakenOver);
        let mut new = RawClient::connect(&server, V5, "takeover");
        old.expect_closed();
        new.fence();
    }
}

/// [MQTT-3.1.4-6]: what is sent behind a refused CONNECT is not handled.
#[test]
fn nothing_behind_a_refused_connect_is_handled() {
    let server = server();
    let mut witness = RawClient::connect(&server, V5, "refused-witness");
    witness.subscribe("refused/#", QoS::AtMostOnce);
    let refused = [
        connect_bytes(CLEAN, b"\x15\0\x04NONE", &[text("refused")]),
        connect_bytes(CLEAN | 1, &[], &[text("refused")]),
    ];
    for connect in refused {
        let publish = publish_bytes(0x31, b"refused/t", None, &[]);
        let good = connect_bytes(CLEAN, &[], &[text("refused")]);
        let mut client = RawClient::open(server.mqtt(), V5);
        client.send_raw(&[connect, publish.clone(), good, publish].concat());
        assert!(client.receive().conn_ack().reason.is_error());
        client.expect_closed();
    }
    witness.expect_nothing();
    witness.unsubscribe("refused/#");
    witness.subscribe("refused/#", QoS::AtMostOnce);
    witness.expect_nothing();
}

/// [MQTT-3.1.4-5]: what is sent behind a good CONNECT, before CONNACK, is handled; [MQTT-3.2.0-1]: after CONNACK.
#[test]
fn packets_behind_a_good_connect_are_handled_after_connack() {
    let server = server();
    let mut client = RawClient::open(server.mqtt(), V5);
    let packets = [
        connect_bytes(CLEAN, &[], &[text("eager")]),
        subscribe_bytes(V5, 1, &[("eager", 0)]),
        publish_bytes(0x30, b"eager", None, &[]),
        vec![0xC0, 0],
    ];
    client.send_raw(&packets.concat());
    assert_eq!(client.receive().conn_ack().reason, ReasonCode::Success);
    // 5 §3.8.4: a message may come before the SUBACK of its subscription.
    let mut answers = [client.receive(), client.receive(), client.receive()];
    answers.sort_by_key(|answer| answer.packet().packet_type() as u8);
    assert_eq!(answers[0].publish().topic, "eager");
    assert_eq!(answers[1].sub_ack().packet_id, PacketId::new(1).unwrap());
    assert!(matches!(answers[2].packet(), Packet::PingResp));
}

/// [MQTT-3.1.2-28]: with Request Response Information 0, or without it, there is no Response Information.
#[test]
fn response_information_only_on_request() {
    let server = server();
    let client_id = unique("response-information");
    let asked = properties([Property::RequestResponseInformation(false)]);
    for properties in [asked.as_properties(), waypost_mqtt::Properties::EMPTY] {
        let connect = Connect {
            properties,
            ..connect_packet(V5, &client_id)
        };
        let (_client, answer) = RawClient::connect_with(&server, &connect);
        assert_eq!(answer.conn_ack().properties.response_information(), None);
    }
}

/// [MQTT-4.12.0-1], [MQTT-3.1.4-2]: an Authentication Method that the server does not know gets CONNACK 0x8C and the end.
/// [MQTT-4.12.0-6]: without a method there is none in CONNACK, and no AUTH.
#[test]
fn authentication_methods_are_known_or_refused() {
    check_refused_connects([
        (
            "method alone",
            connect_bytes(CLEAN, b"\x15\0\x04NONE", &[text("method")]),
            ReasonCode::BadAuthenticationMethod,
        ),
        (
            "method and data",
            connect_bytes(CLEAN, b"\x15\0\x04NONE\x16\0\x01d", &[text("method")]),
            ReasonCode::BadAuthenticationMethod,
        ),
    ]);
    let server = server();
    let (mut client, answer) = RawClient::connect_with(&server, &connect_packet(V5, "methodless"));
    assert_eq!(answer.conn_ack().properties.authentication_method(), None);
    assert_eq!(answer.conn_ack().properties.authentication_data(), None);
    client.fence();
}

/// [MQTT-4.12.0-7], [W5-3.15-a], [MQTT-4.12.1-1]: AUTH of a client whose CONNECT named no method is a Protocol Error.
#[test]
fn auth_without_a_method_in_connect_is_a_protocol_error() {
    let server = server();
    for reason in [
        ReasonCode::ContinueAuthentication,
        ReasonCode::ReAuthenticate,
    ] {
        let mut client = RawClient::connect(&server, V5, "auth");
        let method = properties([Property::AuthenticationMethod("m")]);
        client.send(&Packet::Auth(Auth {
            reason,
            properties: method.as_properties(),
        }));
        client.expect_refused(ProtocolError);
    }
}
