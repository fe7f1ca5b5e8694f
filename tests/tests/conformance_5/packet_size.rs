//! Statements of MQTT 5 on Maximum Packet Size (sections 3.1.2.11.4, 3.2.2.3.6) and on what is left out because of it.

use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Property, ProtocolVersion::V5, QoS, ReasonCode,
};
use waypost_tests::{RawClient, ServerOptions, connect_packet, subscribe_bytes, unsubscribe_bytes};

use crate::wire::{
    CLEAN, connect_bytes, connect_properties, connect_session, identified_bytes, properties,
    publish_bytes, server, take_messages, text,
};

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: a message that makes a packet too large for a client is not sent to it; delivery goes on as if it
/// had been, at each QoS, live and for an absent client; others get it.
#[test]
fn messages_too_large_for_a_client_are_left_out() {
    const LIMIT: u32 = 100;
    let server = server();
    let list = [
        Property::MaximumPacketSize(LIMIT),
        Property::SessionExpiryInterval(600),
        Property::ReceiveMaximum(1),
    ];
    let (mut small, _) = connect_properties(&server, "small", list);
    small.subscribe("size", QoS::ExactlyOnce);
    let mut large = RawClient::connect(&server, V5, "large");
    large.subscribe("size", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "size-pub");
    // 2 fixed header, 2 + 4 topic, 2 identifier, 1 properties
    let fits = vec![b'x'; LIMIT as usize - 11];
    let too_large = vec![b'x'; LIMIT as usize - 10];
    let publish_all = |publisher: &mut RawClient| {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish("size", qos, &too_large);
            publisher.publish("size", qos, &fits);
        }
    };
    publish_all(&mut publisher);
    publisher.publish("size", QoS::AtMostOnce, &vec![b'x'; LIMIT as usize - 8]);
    publisher.publish("size", QoS::AtMostOnce, &vec![b'x'; LIMIT as usize - 9]);
    let mut bytes = Vec::new();
    for _ in 0..3 {
        let received = small.receive();
        bytes.push((received.publish().qos as u8, received.bytes().len()));
        match (received.publish().qos, received.publish().packet_id) {
            (QoS::AtLeastOnce, Some(packet_id)) => {
                small.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
            }
            (_, Some(packet_id)) => small.send(&Packet::PubRec(Ack::new(
                packet_id,
                ReasonCode::UnspecifiedError,
            ))),
            (_, None) => {}
        }
    }
    bytes.sort_unstable();
    assert_eq!(bytes, [(0, 100), (1, 100), (2, 100)]);
    small.expect_nothing();
    assert_eq!(take_messages(&mut large, 6).len(), 6);
    small.cut();
    publish_all(&mut publisher);
    let list = properties([Property::MaximumPacketSize(LIMIT)]);
    let connect = Connect {
        clean_start: false,
        properties: list.as_properties(),
        ..connect_packet(V5, "small")
    };
    let (mut small, _) = RawClient::connect_with(&server, &connect);
    for received in take_messages(&mut small, 2) {
        assert_eq!(received.publish().payload, fits);
    }
    small.expect_nothing();
}

/// [MQTT-3.1.2-24], [MQTT-3.1.2-25]: properties count, too: User Properties make a message too large, and so do retained ones.
#[test]
fn properties_count_for_the_packet_size() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "counted-pub");
    let value = "v".repeat(100);
    let list = properties([Property::UserProperty("n", &value)]);
    for retain in [false, true] {
        let (mut small, _) =
            connect_properties(&server, "counted", [Property::MaximumPacketSize(60)]);
        if !retain {
            small.subscribe("counted/#", QoS::AtMostOnce);
        }
        for (topic, properties) in [
            ("counted/a", list.as_properties()),
            ("counted/b", waypost_mqtt::Properties::EMPTY),
        ] {
            publisher.publish_with(&waypost_mqtt::Publish {
                topic,
                retain,
                properties,
                payload: b"x",
                ..waypost_tests::empty_publish()
            });
        }
        if retain {
            small.subscribe("counted/#", QoS::AtMostOnce);
        }
        assert_eq!(small.receive().publish().topic, "counted/b");
        small.expect_nothing();
    }
}

/// [MQTT-3.2.2-15], [W5-3.2.2.3.6-c]: CONNACK states the server's Maximum Packet Size; a packet of that size is taken, one byte more is
/// 0x95, as soon as it is announced.
#[test]
fn packets_beyond_the_servers_maximum_are_refused() {
    const MAXIMUM: u32 = 2_000;
    let server = ServerOptions::new()
        .configuration("[limits]\npacket_bytes_max = \"2000B\"\n")
        .start();
    let (mut client, answer) = RawClient::connect_with(&server, &connect_packet(V5, "maximum"));
    assert_eq!(
        answer.conn_ack().properties.maximum_packet_size(),
        Some(MAXIMUM)
    );
    client.subscribe("t", QoS::AtMostOnce);
    // 3 fixed header, 2 + 1 topic, 1 properties
    let mut publish = |length: u32| {
        let payload = vec![b'x'; length as usize - 7];
        client.send(&Packet::Publish(waypost_mqtt::Publish {
            topic: "t",
            payload: &payload,
            ..waypost_tests::empty_publish()
        }));
    };
    publish(MAXIMUM);
    assert_eq!(client.receive().bytes().len(), 2_000);
    client.send_raw(&[0x30, 0xCE, 0x0F]);
    client.expect_refused(ReasonCode::PacketTooLarge);
    let mut client = RawClient::connect(&server, V5, "maximum");
    client.send_raw(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    client.expect_refused(ReasonCode::PacketTooLarge);
    let mut late = RawClient::connect(&server, V5, "later");
    late.fence();
}

/// [MQTT-3.4.2-2], [MQTT-3.4.2-3], [MQTT-3.5.2-2], [MQTT-3.5.2-3], [MQTT-3.6.2-2], [MQTT-3.6.2-3], [MQTT-3.7.2-2], [MQTT-3.7.2-3], [MQTT-3.9.2-1], [MQTT-3.9.2-2], [MQTT-3.11.2-1],
/// [MQTT-3.11.2-2], [MQTT-3.14.2-3], [MQTT-3.14.2-4], [MQTT-3.2.2-19], [MQTT-3.2.2-20]: an answer that could explain itself still comes where the
/// client's Maximum Packet Size has no room for Reason String and User Properties, without them.
#[test]
fn explanations_give_way_to_the_packet_size() {
    const LIMIT: u32 = 24;
    let server = server();
    let packet_id = PacketId::new(9).unwrap();
    let reserved = properties([Property::UserProperty("waypost-offset", "1")]);
    let reserved = reserved.as_bytes();
    let (mut client, _) =
        connect_properties(&server, "terse", [Property::MaximumPacketSize(LIMIT)]);
    let check = |client: &mut RawClient, sent: &[u8], expected: u8| {
        client.send_raw(sent);
        let answer = client.receive();
        assert_eq!(answer.bytes()[0] >> 4, expected, "{answer:?}");
        assert!(answer.bytes().len() <= LIMIT as usize, "{answer:?}");
        answer
    };
    check(
        &mut client,
        &publish_bytes(0x32, b"t", Some(9), reserved),
        4,
    );
    check(
        &mut client,
        &publish_bytes(0x34, b"t", Some(9), reserved),
        5,
    );
    check(&mut client, &identified_bytes(0x50, 9, &[]), 6);
    check(&mut client, &identified_bytes(0x62, 9, &[]), 7);
    // More levels than limits.topic_levels_max: refused in SUBACK.
    let deep = "/".repeat(500);
    check(&mut client, &subscribe_bytes(V5, 9, &[(&deep, 0)]), 9);
    let unsub_ack = check(&mut client, &unsubscribe_bytes(V5, 9, &["none"]), 11);
    assert_eq!(unsub_ack.unsub_ack().packet_id, packet_id);
    check(&mut client, &publish_bytes(0x36, b"t", Some(9), &[]), 14);
    client.expect_closed();
    let mut client = RawClient::open(server.mqtt(), V5);
    let refused = connect_bytes(CLEAN, b"\x27\0\0\0\x10\x15\0\x04NONE", &[text("terse")]);
    client.send_raw(&refused);
    let answer = client.receive();
    assert_eq!(
        answer.conn_ack().reason,
        ReasonCode::BadAuthenticationMethod
    );
    assert!(answer.bytes().len() <= 16);
    client.expect_closed();
}

/// [MQTT-3.1.2-24], [MQTT-3.2.0-1], [MQTT-3.2.2-7]: a client whose maximum has no room for an accepting CONNACK is refused with 0x95, or
/// without a word where not even that fits; it is not left waiting, and a session it asked for stays with its client.
#[test]
fn a_client_too_small_for_connack_is_refused() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "too-small");
    for maximum in [1_u32, 4, 5, 10] {
        let properties = [&[0x27][..], &maximum.to_be_bytes()].concat();
        let mut small = RawClient::open(server.mqtt(), V5);
        small.send_raw(&connect_bytes(CLEAN, &properties, &[text("too-small")]));
        if maximum >= 5 {
            let answer = small.receive();
            assert_eq!(answer.conn_ack().reason, ReasonCode::PacketTooLarge);
            assert!(answer.bytes().len() <= maximum as usize);
        }
        small.expect_closed();
    }
    client.fence();
}

/// [MQTT-3.1.2-29]: with Request Problem Information 0 there is no Reason String and no User Property but in PUBLISH, CONNACK and
/// DISCONNECT.
#[test]
fn no_problem_information_where_it_is_not_wanted() {
    let server = server();
    let (mut client, _) = connect_properties(
        &server,
        "unexplained",
        [Property::RequestProblemInformation(false)],
    );
    let reserved = properties([Property::UserProperty("waypost-offset", "1")]);
    let reserved = reserved.as_bytes();
    client.send_raw(&publish_bytes(0x32, b"t", Some(9), reserved));
    assert!(client.receive().pub_ack().properties.is_empty());
    client.send_raw(&publish_bytes(0x34, b"t", Some(9), reserved));
    assert!(client.receive().pub_rec().properties.is_empty());
    client.send_raw(&identified_bytes(0x50, 9, &[]));
    assert!(client.receive().pub_rel().properties.is_empty());
    client.send_raw(&identified_bytes(0x62, 9, &[]));
    assert!(client.receive().pub_comp().properties.is_empty());
    client.send_raw(&subscribe_bytes(V5, 9, &[(&"/".repeat(500), 0)]));
    assert!(client.receive().sub_ack().properties.is_empty());
    client.send_raw(&unsubscribe_bytes(V5, 9, &["none"]));
    assert!(client.receive().unsub_ack().properties.is_empty());
    client.subscribe("explained", QoS::AtMostOnce);
    let list = properties([Property::UserProperty("n", "v")]);
    client.send_raw(&publish_bytes(0x30, b"explained", None, list.as_bytes()));
    assert!(
        client
            .receive()
            .publish()
            .properties
            .user_properties()
            .eq([("n", "v")]),
        "the application's stay"
    );
}

/// [MQTT-3.1.2-24]: the client's maximum belongs to its connection, not to its session.
#[test]
fn the_maximum_ends_with_the_connection() {
    let server = server();
    let list = [
        Property::MaximumPacketSize(40),
        Property::SessionExpiryInterval(600),
    ];
    let (mut client, _) = connect_properties(&server, "grows", list);
    client.subscribe("grows", QoS::AtLeastOnce);
    client.disconnect();
    RawClient::connect(&server, V5, "grows-pub").publish("grows", QoS::AtLeastOnce, &[b'x'; 100]);
    let (mut client, _) = connect_session(&server, "grows", false, 0);
    assert_eq!(client.receive_message().publish().payload.len(), 100);
}
