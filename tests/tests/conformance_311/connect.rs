//! Statements of MQTT 3.1.1, section 3.1: CONNECT and what a server makes of it.

use std::time::{Duration, Instant};

use waypost_mqtt::{Connect, Packet, ProtocolVersion::V311, QoS, ReasonCode, Will};
use waypost_tests::{RawClient, Server, connect_packet, subscribe_bytes, with_fixed_header};

use crate::wire::{
    Answer, CLEAN, WITH_WILL, check_closed, check_refused_connects, connect_as_bytes,
    connect_bytes, connect_session, expect_closed_soon, id, publish_bytes, publish_from_elsewhere,
    server, text, unique, will,
};

const IDENTIFIER_REJECTED: Answer = Answer::ReturnCode(2);
const NOT_AUTHORIZED: Answer = Answer::ReturnCode(5);

/// [MQTT-3.1.0-1]: whatever comes first and is not CONNECT closes the connection, unanswered and without effect.
#[test]
fn connect_comes_first() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "first-witness");
    witness.subscribe("first", QoS::AtMostOnce);
    let connect = connect_bytes(CLEAN, &[text("first")]);
    for packet in [
        publish_bytes(0x31, "first", None),
        publish_bytes(0x32, "first", Some(1)),
        vec![0x40, 2, 0, 1],
        vec![0x50, 2, 0, 1],
        vec![0x62, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        subscribe_bytes(V311, 1, &[("first", 0)]),
        vec![0xA2, 9, 0, 1, 0, 5, b'f', b'i', b'r', b's', b't'],
        vec![0xC0, 0],
        vec![0xE0, 0],
        vec![0x20, 2, 0, 0],
        vec![0x00, 0],
        b"GET / HTTP/1.1\r\nHost: localhost:1883\r\nUser-Agent: browser\r\nAccept: */*\r\n\r\n"
            .to_vec(),
    ] {
        eprintln!("{packet:02x?}");
        let mut client = RawClient::open(server.mqtt(), V311);
        client.send_raw(&[packet, connect.clone()].concat());
        expect_closed_soon(&mut client);
    }
    witness.expect_nothing();
    witness.subscribe("first", QoS::AtMostOnce);
    witness.expect_nothing();
}

/// [MQTT-3.1.0-2], [MQTT-4.8.0-1]: a second CONNECT closes the connection, with the same `ClientId` or another, and what is
/// sent behind it has no effect.
#[test]
fn a_second_connect_closes_the_connection() {
    check_closed(["", "second"].map(|client_id| {
        let name = format!("CONNECT with ClientId {client_id:?}");
        (name, connect_bytes(CLEAN, &[text(client_id)]))
    }));
}

/// [MQTT-3.1.2-1]: a wrong Protocol Name closes the connection, and nothing behind it is handled.
#[test]
fn wrong_protocol_names_are_refused() {
    let names = [
        "",
        "mqtt",
        "MQTt",
        "MQT",
        "MQTTT",
        "MQTT ",
        "\u{FEFF}MQTT",
        "MQIsdP",
        "HTTP",
    ];
    check_refused_connects(
        Answer::Silence,
        names.map(|name| (name, connect_as_bytes(name, 4, CLEAN, &[text("name")]))),
    );
}

/// [MQTT-3.1.2-2], [MQTT-3.2.2-4], [MQTT-3.2.2-5], [MQTT-3.1.4-5]: Protocol Levels that the server does not have get 0x01, whatever
/// follows them.
#[test]
fn unsupported_protocol_levels_get_0x01() {
    let levels = [
        ("MQTT", &[0, 1, 2, 3, 6, 7, 99, 127, 128, 131, 132, 255][..]),
        ("MQIsdp", &[0, 4, 5, 131]),
    ];
    for (name, levels) in levels {
        let of_level = |level: u8| connect_as_bytes(name, level, CLEAN, &[text("level")]);
        check_refused_connects(
            Answer::ReturnCode(1),
            levels
                .iter()
                .map(|&level| (format!("{name} {level}"), of_level(level))),
        );
    }
    check_refused_connects(
        Answer::ReturnCode(1),
        [(
            "unknown rest",
            with_fixed_header(0x10, b"\0\x04MQTT\x02\xFF\xFF"),
        )],
    );
}

/// [MQTT-3.1.4-1], [MQTT-3.2.2-6]: a CONNECT that is not as section 3.1 says closes the connection without a CONNACK.
/// [MQTT-3.1.2-3]: the reserved flag. [MQTT-3.1.2-11], [MQTT-3.1.2-13], [MQTT-3.1.2-15]: QoS or Retain without a Will, fields of a Will
/// without the flag. [MQTT-3.1.2-9]: the flag without the fields. [MQTT-3.1.2-14]: Will QoS 3. [MQTT-3.1.2-18], [MQTT-3.1.2-19],
/// [MQTT-3.1.2-20], [MQTT-3.1.2-21], [MQTT-3.1.2-22]: user name and password, and their flags. [MQTT-3.1.3-1], [MQTT-3.1.3-3]: the
/// payload's fields.
#[test]
fn malformed_connects_get_no_connack() {
    let name = || text("malformed");
    let with_will = || vec![name(), text("breach/will"), text("gone")];
    let will_topic = |topic: &str| vec![name(), text(topic), text("gone")];
    let mut breaches = vec![
        ("reserved flag", connect_bytes(CLEAN | 0x01, &[name()])),
        (
            "reserved flag, with Will",
            connect_bytes(WITH_WILL | 0x01, &with_will()),
        ),
        (
            "Will QoS 1 without Will",
            connect_bytes(CLEAN | 0x08, &[name()]),
        ),
        (
            "Will QoS 2 without Will",
            connect_bytes(CLEAN | 0x10, &[name()]),
        ),
        (
            "Will QoS 3 without Will",
            connect_bytes(CLEAN | 0x18, &[name()]),
        ),
        (
            "Will Retain without Will",
            connect_bytes(CLEAN | 0x20, &[name()]),
        ),
        (
            "Will fields without Will Flag",
            connect_bytes(CLEAN, &with_will()),
        ),
        ("Will QoS 3", connect_bytes(WITH_WILL | 0x18, &with_will())),
        (
            "Will Flag without fields",
            connect_bytes(WITH_WILL, &[name()]),
        ),
        (
            "Will Topic alone",
            connect_bytes(WITH_WILL, &[name(), text("breach/will")]),
        ),
        (
            "empty Will Topic",
            connect_bytes(WITH_WILL, &will_topic("")),
        ),
        (
            "Will Topic with #",
            connect_bytes(WITH_WILL, &will_topic("breach/#")),
        ),
        (
            "Will Topic with +",
            connect_bytes(WITH_WILL, &will_topic("breach/+/will")),
        ),
        (
            "user without flag",
            connect_bytes(CLEAN, &[name(), text("user")]),
        ),
        (
            "User Name Flag alone",
            connect_bytes(CLEAN | 0x80, &[name()]),
        ),
        (
            "password without flag",
            connect_bytes(CLEAN | 0x80, &[name(), text("user"), text("password")]),
        ),
        (
            "Password Flag alone",
            connect_bytes(CLEAN | 0xC0, &[name(), text("user")]),
        ),
        (
            "password without user",
            connect_bytes(CLEAN | 0x40, &[name(), text("password")]),
        ),
        ("no payload", connect_bytes(CLEAN, &[])),
        ("ClientId of one byte", connect_bytes(CLEAN, &[vec![0]])),
        (
            "ClientId shorter than it says",
            connect_bytes(CLEAN, &[vec![0, 5, b'a']]),
        ),
        ("a byte too many", connect_bytes(CLEAN, &[name(), vec![0]])),
        ("empty", vec![0x10, 0]),
    ];
    let whole = connect_bytes(CLEAN, &[name()]);
    for length in 1..12 {
        breaches.push(("cut header", with_fixed_header(0x10, &whole[2..2 + length])));
    }
    check_refused_connects(Answer::Silence, breaches);
}

/// [MQTT-3.1.2-3]: the same flags without the breach are accepted.
#[test]
fn every_good_combination_of_flags_is_accepted() {
    let server = server();
    for flags in [0x02, 0x06, 0x0E, 0x16, 0x26, 0x2E, 0x36]
        .into_iter()
        .flat_map(|flags| [0, 0x80, 0xC0].map(|user| flags | user))
    {
        let mut fields = vec![text(unique("flags"))];
        if flags & 0x04 != 0 {
            fields.extend([text("flags/will"), text("")]);
        }
        if flags & 0x80 != 0 {
            fields.push(text("user"));
        }
        if flags & 0x40 != 0 {
            fields.push(text(b"\0\xFFpassword"));
        }
        let mut client = RawClient::open(server.mqtt(), V311);
        client.send_raw(&connect_bytes(flags, &fields));
        assert_eq!(client.receive().bytes(), [0x20, 2, 0, 0], "{flags:#04x}");
        client.send_raw(&[0xE0, 0]);
        client.expect_closed();
    }
}

/// [MQTT-3.1.3-1], [MQTT-3.1.2-9], [MQTT-3.1.2-19], [MQTT-3.1.2-21]: with all fields there, each is read in its place: the
/// `ClientId`, the Will, the user, to whom the session then belongs.
#[test]
fn all_payload_fields_are_read_in_order() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "order-witness");
    witness.subscribe("order/#", QoS::AtMostOnce);
    let connect = Connect {
        will: Some(will("order/will", b"order payload")),
        user_name: Some("order user"),
        password: Some(b"order \xFF password"),
        ..connect_packet(V311, "order-id")
    };
    let (_old, _) = RawClient::connect_with(&server, &connect);
    let again = Connect {
        will: None,
        ..connect
    };
    let (mut client, _) = RawClient::connect_with(&server, &again);
    let received = witness.receive();
    assert_eq!(received.publish().topic, "order/will");
    assert_eq!(received.publish().payload, b"order payload");
    check_refused_connects(
        NOT_AUTHORIZED,
        [
            ("anonymous", connect_bytes(CLEAN, &[text("order-id")])),
            (
                "another user",
                connect_bytes(CLEAN | 0x80, &[text("order-id"), text("order")]),
            ),
        ],
    );
    client.fence();
}

/// [MQTT-3.1.3-5], [MQTT-3.1.4-4]: 1 to 23 of the characters 0-9, a-z and A-Z are accepted.
#[test]
fn plain_client_identifiers_are_accepted() {
    let server = server();
    let characters: String = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    for length in 1..=23 {
        for start in [0, characters.len() - length] {
            let client_id = &characters[start..start + length];
            RawClient::connect(&server, V311, client_id).disconnect();
        }
    }
    for start in (0..characters.len()).step_by(21) {
        let end = characters.len().min(start + 23);
        RawClient::connect(&server, V311, &characters[start..end]).disconnect();
    }
}

/// [MQTT-3.1.3-6], [MQTT-3.1.3-3]: clients with a zero-length `ClientId` and `CleanSession` 1 each have one of their own: none takes
/// over another, each has its own subscriptions.
#[test]
fn zero_length_client_identifiers_are_unique() {
    let server = server();
    let mut clients: Vec<RawClient> = (0..20)
        .map(|number| {
            let (mut client, session_present) = connect_session(&server, "", true);
            assert!(!session_present);
            client.subscribe(&format!("zero/{number}"), QoS::AtLeastOnce);
            client
        })
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let topic = format!("zero/{number}");
        publish_from_elsewhere(&server, &topic, b"");
        assert_eq!(client.receive_message().publish().topic, topic);
    }
    for client in &mut clients {
        client.fence();
    }
}

/// [MQTT-3.1.3-7], [MQTT-3.1.3-8], [MQTT-3.1.3-9], [MQTT-3.2.2-4], [MQTT-3.2.2-5]: a zero-length `ClientId` with `CleanSession` 0, and one
/// beyond the server's bound, get 0x02 and the end.
#[test]
fn refused_client_identifiers_get_0x02() {
    check_refused_connects(
        IDENTIFIER_REJECTED,
        [
            ("zero-length, CleanSession 0", connect_bytes(0, &[text("")])),
            (
                "65,535 bytes",
                connect_bytes(CLEAN, &[text("i".repeat(65_535))]),
            ),
            (
                "65,535 bytes, CleanSession 0",
                connect_bytes(0, &[text("i".repeat(65_535))]),
            ),
        ],
    );
}

/// [MQTT-3.1.4-2]: who is connected under the `ClientId` is disconnected, whatever either's `CleanSession`; only that client is.
#[test]
fn a_new_connection_takes_over() {
    let server = server();
    let mut other = RawClient::connect(&server, V311, "takeover-other");
    for (first, second) in [(true, true), (true, false), (false, true), (false, false)] {
        let (mut old, _) = connect_session(&server, "takeover", first);
        let (mut new, _) = connect_session(&server, "takeover", second);
        old.expect_closed();
        new.fence();
        drop(connect_session(&server, "takeover", true));
    }
    other.fence();
}

/// [MQTT-3.1.4-5]: after each kind of refusal, nothing that the client sent behind its CONNECT is handled, a good CONNECT
/// neither.
#[test]
fn nothing_behind_a_refused_connect_is_handled() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "behind-witness");
    witness.subscribe("behind-refused", QoS::AtMostOnce);
    let server_will = [text("behind"), text("$SYS/broker/x"), text("gone")];
    for refused in [
        connect_as_bytes("MQTT", 3, CLEAN, &[text("behind")]),
        connect_bytes(0, &[text("")]),
        connect_bytes(WITH_WILL, &server_will),
        connect_bytes(CLEAN | 1, &[text("behind")]),
    ] {
        let publish = publish_bytes(0x31, "behind-refused", None);
        let good = connect_bytes(CLEAN, &[text("behind")]);
        let mut client = RawClient::open(server.mqtt(), V311);
        client.send_raw(&[refused, publish.clone(), good, publish].concat());
        if let Some(answer) = client.receive_within(waypost_tests::LIMIT) {
            assert_ne!(answer.conn_ack().reason, ReasonCode::Success);
            expect_closed_soon(&mut client);
        }
    }
    witness.expect_nothing();
    witness.subscribe("behind-refused", QoS::AtMostOnce);
    witness.expect_nothing();
}

/// [MQTT-3.2.0-1], [MQTT-3.1.4-4]: what a client sends behind a good CONNECT without waiting is handled, after CONNACK.
#[test]
fn connack_comes_before_all_else() {
    let server = server();
    let mut client = RawClient::open(server.mqtt(), V311);
    let packets = [
        connect_bytes(CLEAN, &[text("eager")]),
        subscribe_bytes(V311, 1, &[("eager", 0)]),
        publish_bytes(0x30, "eager", None),
        vec![0xC0, 0],
    ];
    client.send_raw(&packets.concat());
    assert_eq!(client.receive().bytes(), [0x20, 2, 0, 0]);
    // With several shards SUBACK waits for the others, and what matches may come before it (3.1.1 §3.8.4).
    let mut kinds = [(); 3].map(|()| match client.receive().packet() {
        Packet::SubAck(ack) if ack.packet_id == id(1) => "SUBACK",
        Packet::Publish(publish) if publish.topic == "eager" => "PUBLISH",
        Packet::PingResp => "PINGRESP",
        other => panic!("{other:?}"),
    });
    kinds.sort_unstable();
    assert_eq!(kinds, ["PINGRESP", "PUBLISH", "SUBACK"]);
}

fn connect_keep_alive(server: &Server, client_id: &str, keep_alive: u16) -> RawClient {
    let connect = Connect {
        keep_alive,
        will: Some(Will {
            qos: QoS::AtLeastOnce,
            ..will("keep-alive/will", client_id.as_bytes())
        }),
        ..connect_packet(V311, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

/// [MQTT-3.1.2-24]: a client silent for one and a half times its Keep Alive is disconnected as if the network had failed: not
/// earlier, and its Will is published. Each packet counts as a sign of life; with Keep Alive 0 none is needed.
#[test]
fn keep_alive_ends_silent_connections() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "keep-alive-witness");
    witness.subscribe("keep-alive/will", QoS::AtMostOnce);
    let mut never = connect_keep_alive(&server, "never", 0);
    let mut pinging = connect_keep_alive(&server, "pinging", 2);
    let mut publishing = connect_keep_alive(&server, "publishing", 2);
    for _ in 0..3 {
        let begun = Instant::now();
        let mut silent = connect_keep_alive(&server, "silent", 1);
        silent.expect_closed();
        let silence = begun.elapsed();
        assert!(silence >= Duration::from_millis(1_450), "{silence:?}");
        assert!(silence < Duration::from_secs(15), "{silence:?}");
        assert_eq!(witness.receive().publish().payload, b"silent");
        pinging.fence();
        publishing.send_raw(&publish_bytes(0x30, "keep-alive/sign", None));
    }
    never.fence();
    publishing.fence();
    witness.expect_nothing();
}
