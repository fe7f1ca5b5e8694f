//! Statements of MQTT 5, sections 3.8 to 3.11: SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK.

use waypost_mqtt::{
    Ack, Packet, Properties, Property, ProtocolVersion::V5, QoS, ReasonCode,
    ReasonCode::MalformedPacket, ReasonCode::ProtocolError, SubscriptionOptions,
};
use waypost_tests::{RawClient, Received, Server, subscribe_bytes, unsubscribe_bytes};

use crate::wire::{
    check_disconnected, connect_session, identified_bytes, listed, properties, request, server,
    subscribe_with_bytes, text,
};

fn codes(received: &Received) -> Vec<u8> {
    match received.packet() {
        Packet::SubAck(ack) => ack.reasons.iter().map(ReasonCode::as_u8).collect(),
        Packet::UnsubAck(ack) => ack.reasons.iter().map(ReasonCode::as_u8).collect(),
        other => panic!("expected SUBACK or UNSUBACK, got {other:?}"),
    }
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-5], [MQTT-3.8.4-6], [MQTT-3.8.4-7], [MQTT-3.9.3-1], [MQTT-3.9.3-2]: one SUBACK with the identifier
/// and, in the order of the filters, the QoS granted or what was wrong; each filter acts as if alone.
#[test]
fn suback_answers_each_filter_in_order() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "order");
    let requests = [
        ("suback/0", 0),
        ("suback/2", 2),
        ("$share/group/suback/shared", 1),
        ("suback/1", 1),
        ("suback/+/x", 2),
        ("suback/0", 1),
    ];
    client.send_raw(&subscribe_bytes(V5, 4_711, &requests));
    let answer = client.receive();
    assert_eq!(answer.sub_ack().packet_id.value(), 4_711);
    assert_eq!(codes(&answer), [0, 2, 1, 1, 2, 1]);
    client.expect_nothing();
    for (topic, qos) in [
        ("suback/0", 1),
        ("suback/1", 1),
        ("suback/2", 2),
        ("suback/a/x", 2),
    ] {
        RawClient::connect(&server, V5, "order-pub").publish(topic, QoS::ExactlyOnce, b"x");
        let received = client.receive_message();
        assert_eq!(
            (received.publish().topic, received.publish().qos as u8),
            (topic, qos)
        );
    }
    client.expect_nothing();
}

/// [MQTT-3.8.4-8]: a message comes at the lower of its own QoS and the granted one.
#[test]
fn qos_is_the_lower_of_the_two() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "lower-pub");
    for granted in 0..=2_u8 {
        let mut client = RawClient::connect(&server, V5, "lower");
        client.subscribe("lower", QoS::try_from(granted).unwrap());
        for sent in 0..=2_u8 {
            publisher.publish("lower", QoS::try_from(sent).unwrap(), &[sent]);
            let received = client.receive_message();
            assert_eq!(received.publish().qos as u8, sent.min(granted));
            assert_eq!(received.publish().payload, [sent]);
        }
        client.expect_nothing();
    }
}

/// [MQTT-3.8.3-2], [W5-3.8.3-a], [MQTT-3.10.3-2], [W5-3.10.3-a]: no filter; [MQTT-3.8.3-5]: reserved option bits;
/// [W5-3.8.3.1-a], [W5-3.8.3.1-b]: QoS 3, Retain Handling 3; [W5-3.8.2.1.2-a], [W5-3.8.2.1.2-b]: the Subscription Identifier.
#[test]
fn subscribe_is_checked() {
    check_disconnected([
        (
            "SUBSCRIBE without filter",
            subscribe_with_bytes(&[], &[]),
            ProtocolError,
        ),
        (
            "UNSUBSCRIBE without filter",
            identified_bytes(0xA2, 1, &[0]),
            ProtocolError,
        ),
        (
            "option bit 6",
            subscribe_with_bytes(&[], &request(b"t", 0x40)),
            MalformedPacket,
        ),
        (
            "option bit 7",
            subscribe_with_bytes(&[], &request(b"t", 0x80)),
            MalformedPacket,
        ),
        (
            "option bit 7 of the second",
            subscribe_with_bytes(&[], &[request(b"a", 0), request(b"b", 0x81)].concat()),
            MalformedPacket,
        ),
        (
            "QoS 3",
            subscribe_with_bytes(&[], &request(b"t", 3)),
            ProtocolError,
        ),
        (
            "Retain Handling 3",
            subscribe_with_bytes(&[], &request(b"t", 0x30)),
            ProtocolError,
        ),
        (
            "Subscription Identifier 0",
            subscribe_with_bytes(b"\x0B\0", &request(b"t", 0)),
            ProtocolError,
        ),
        (
            "Subscription Identifier twice",
            subscribe_with_bytes(b"\x0B\x01\x0B\x02", &request(b"t", 0)),
            ProtocolError,
        ),
    ]);
}

/// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1]: filters with a misplaced wildcard, or of no character, are refused in SUBSCRIBE
/// and UNSUBSCRIBE.
#[test]
fn ill_formed_filters_are_refused() {
    let filters = [
        "", "a#", "#/a", "a/#/b", "##", "a/b#", "a+", "+a", "a/+b/c", "++", "a/#+",
    ];
    for filter in filters {
        let unsubscribe = identified_bytes(0xA2, 1, &[listed(&[]), text(filter)].concat());
        check_disconnected([
            (
                filter,
                subscribe_with_bytes(&[], &request(filter.as_bytes(), 0)),
                MalformedPacket,
            ),
            (filter, unsubscribe, MalformedPacket),
        ]);
    }
}

/// [MQTT-4.8.2-1], [MQTT-4.8.2-2]: a `$share` filter without ShareName, with a wildcard in it, or without a filter behind it is
/// malformed; [MQTT-3.8.3-4]: No Local with a shared one is a Protocol Error.
#[test]
fn ill_formed_shared_subscriptions_are_refused() {
    let filters = [
        "$share//t",
        "$share/+/t",
        "$share/#",
        "$share/a+b/t",
        "$share/g",
        "$share/g/",
    ];
    for filter in filters {
        let bytes = subscribe_with_bytes(&[], &request(filter.as_bytes(), 0));
        check_disconnected([(filter, bytes, MalformedPacket)]);
    }
    let no_local = subscribe_with_bytes(&[], &request(b"$share/g/t", 0x04));
    check_disconnected([("No Local", no_local, ProtocolError)]);
}

/// [W5-3.9.2.1.2-a], [W5-3.11.2.1.2-a]: SUBACK and UNSUBACK have at most one Reason String, whatever there is to explain.
#[test]
fn answers_explain_themselves_once_at_most() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "explained");
    let deep = "/".repeat(1_000);
    let requests = [("$share/g/t", 0), (&deep, 0), ("$queue/t", 1), ("good", 2)];
    client.send_raw(&subscribe_bytes(V5, 1, &requests));
    let sub_ack = client.receive();
    assert_eq!(codes(&sub_ack), [0, 0x8F, 1, 2]);
    client.send_raw(&unsubscribe_bytes(
        V5,
        2,
        &["$share/g/t", &deep, "none", "good"],
    ));
    let unsub_ack = client.receive();
    assert_eq!(codes(&unsub_ack).len(), 4);
    for properties in [
        sub_ack.sub_ack().properties,
        unsub_ack.unsub_ack().properties,
    ] {
        let explanations = properties
            .iter()
            .filter(|p| matches!(p, Property::ReasonString(_)));
        assert!(explanations.count() <= 1);
    }
}

/// [MQTT-3.8.3-3]: No Local keeps a client's own messages from it, and nobody else's; a new SUBSCRIBE can change it.
#[test]
fn no_local() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "local");
    let mut other = RawClient::connect(&server, V5, "local-other");
    let no_local = SubscriptionOptions {
        no_local: true,
        ..SubscriptionOptions::default()
    };
    client.subscribe_with("local", no_local, Properties::EMPTY);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        client.publish("local", qos, b"mine");
        client.expect_nothing();
        other.publish("local", qos, b"other");
        assert_eq!(client.receive().publish().payload, b"other");
    }
    client.subscribe("local", QoS::AtMostOnce);
    client.send(&Packet::Publish(waypost_mqtt::Publish {
        topic: "local",
        payload: b"mine",
        ..waypost_tests::empty_publish()
    }));
    assert_eq!(client.receive().publish().payload, b"mine");
}

/// [MQTT-3.8.3-3]: No Local goes by the Client Identifier, over connections: also for what waits in a session's queue.
#[test]
fn no_local_holds_for_a_will() {
    let server = server();
    let list = properties([Property::SessionExpiryInterval(600)]);
    let connect = waypost_mqtt::Connect {
        properties: list.as_properties(),
        will: Some(waypost_mqtt::Will {
            qos: QoS::AtLeastOnce,
            ..crate::wire::will("local-will", b"gone")
        }),
        ..waypost_tests::connect_packet(V5, "local-will")
    };
    let (mut client, _) = RawClient::connect_with(&server, &connect);
    let mut witness = RawClient::connect(&server, V5, "local-witness");
    witness.subscribe("local-will", QoS::AtMostOnce);
    let options = SubscriptionOptions {
        no_local: true,
        qos: QoS::AtLeastOnce,
        ..SubscriptionOptions::default()
    };
    client.subscribe_with("local-will", options, Properties::EMPTY);
    client.cut();
    assert_eq!(witness.receive().publish().payload, b"gone");
    let (mut client, session_present) = connect_session(&server, "local-will", false, 0);
    assert!(session_present);
    client.expect_nothing();
}

/// [MQTT-3.8.4-3]: the same filter again replaces the subscription: one copy of each message, the new QoS and identifier.
#[test]
fn the_same_filter_replaces_the_subscription() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "replaces-pub");
    let mut client = RawClient::connect(&server, V5, "replaces");
    for (qos, identifier) in [(0_u8, Some(1)), (2, Some(2)), (1, None), (2, Some(3))] {
        let mut list = waypost_mqtt::PropertyBuffer::new();
        if let Some(identifier) = identifier {
            list.push(Property::SubscriptionIdentifier(identifier));
        }
        let options = SubscriptionOptions {
            qos: QoS::try_from(qos).unwrap(),
            ..SubscriptionOptions::default()
        };
        client.subscribe_with("replaces/+", options, list.as_properties());
        publisher.publish("replaces/t", QoS::ExactlyOnce, b"x");
        let received = client.receive_message();
        assert_eq!(received.publish().qos as u8, qos);
        assert!(
            received
                .publish()
                .properties
                .subscription_identifiers()
                .eq(identifier)
        );
        client.expect_nothing();
    }
}

/// [MQTT-3.3.4-2], [MQTT-3.3.4-3], [MQTT-3.3.4-4], [MQTT-3.3.4-5], [W5-3.3.4-a]: a message on overlapping subscriptions comes at the highest
/// QoS of those that match, with all their identifiers and no other's, whether in one copy or in several.
#[test]
fn overlapping_subscriptions() {
    let server = Server::start();
    let mut publisher = RawClient::connect(&server, V5, "overlap-pub");
    let mut client = RawClient::connect(&server, V5, "overlap");
    let subscriptions = [
        ("overlap/#", 0, Some(10)),
        ("overlap/+", 2, None),
        ("overlap/overlap-a", 1, Some(20)),
        ("+/overlap-a", 0, Some(30)),
        ("overlap/b", 2, Some(40)),
    ];
    for (filter, qos, identifier) in subscriptions {
        let mut list = waypost_mqtt::PropertyBuffer::new();
        if let Some(identifier) = identifier {
            list.push(Property::SubscriptionIdentifier(identifier));
        }
        let options = SubscriptionOptions {
            qos: QoS::try_from(qos).unwrap(),
            ..SubscriptionOptions::default()
        };
        client.subscribe_with(filter, options, list.as_properties());
    }
    for (topic, identifiers, qos) in [
        ("overlap/overlap-a", &[10, 20, 30][..], QoS::ExactlyOnce),
        ("overlap/b", &[10, 40], QoS::ExactlyOnce),
        ("overlap/b/c", &[10], QoS::AtMostOnce),
        ("other/overlap-a", &[30], QoS::AtMostOnce),
    ] {
        publisher.publish(topic, QoS::ExactlyOnce, b"x");
        let mut found = Vec::new();
        let mut highest = QoS::AtMostOnce;
        for packet in client.drain() {
            let publish = packet.publish();
            assert_eq!(publish.topic, topic);
            found.extend(publish.properties.subscription_identifiers());
            highest = highest.max(publish.qos);
            if let Some(packet_id) = publish.packet_id {
                client.send(&Packet::PubRec(Ack::new(
                    packet_id,
                    ReasonCode::UnspecifiedError,
                )));
            }
        }
        found.sort_unstable();
        assert_eq!(found, identifiers, "{topic}");
        assert_eq!(highest, qos, "{topic}");
    }
}

/// [MQTT-3.10.4-1], [MQTT-3.10.4-2], [MQTT-3.10.4-4], [MQTT-3.10.4-5], [MQTT-3.10.4-6], [MQTT-3.11.3-1], [MQTT-3.11.3-2]: UNSUBSCRIBE removes exactly the filters
/// named, character by character, and answers each in order with one UNSUBACK, also where there was nothing to remove.
#[test]
fn unsubscribe_removes_exactly_what_it_names() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "exact-pub");
    let mut client = RawClient::connect(&server, V5, "exact");
    for filter in ["exact/+", "exact/a", "Exact/a", "exact/a/"] {
        client.subscribe(filter, QoS::AtMostOnce);
    }
    let filters = [
        "exact/#", "exact/a", "exact", "Exact/a", "exact/a", "exact/A",
    ];
    client.send_raw(&unsubscribe_bytes(V5, 99, &filters));
    let answer = client.receive();
    assert_eq!(answer.unsub_ack().packet_id.value(), 99);
    assert_eq!(codes(&answer), [0x11, 0, 0x11, 0, 0x11, 0x11]);
    client.expect_nothing();
    for topic in ["exact/a", "Exact/a", "exact/a/"] {
        publisher.publish(topic, QoS::AtMostOnce, b"x");
    }
    let topics = [(); 2].map(|()| client.receive().publish().topic.to_owned());
    assert_eq!(
        topics,
        ["exact/a", "exact/a/"],
        "of `exact/+` and `exact/a/`"
    );
    client.unsubscribe("exact/+");
    client.unsubscribe("exact/a/");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish("exact/a", qos, b"x");
    }
    client.expect_nothing();
}

/// [MQTT-3.10.4-3]: what was begun at QoS 1 and 2 is finished after UNSUBSCRIBE, re-delivery included.
#[test]
fn deliveries_begun_are_finished_after_unsubscribe() {
    let server = server();
    let (mut client, _) = connect_session(&server, "begun", true, 600);
    client.subscribe("begun", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "begun-pub");
    publisher.publish("begun", QoS::AtLeastOnce, b"1");
    publisher.publish("begun", QoS::ExactlyOnce, b"2");
    let ids =
        [client.receive(), client.receive()].map(|packet| packet.publish().packet_id.unwrap());
    client.unsubscribe("begun");
    client.send(&Packet::PubRec(Ack::new(ids[1], ReasonCode::Success)));
    assert_eq!(client.receive().pub_rel().packet_id, ids[1]);
    client.cut();
    let (mut client, _) = connect_session(&server, "begun", false, 600);
    let packets = client.drain_owed(2);
    let publish = packets
        .iter()
        .find(|packet| matches!(packet.packet(), Packet::Publish(_)))
        .unwrap();
    assert_eq!(
        (publish.publish().packet_id, publish.publish().dup),
        (Some(ids[0]), true)
    );
    let pub_rel = packets
        .iter()
        .find(|packet| matches!(packet.packet(), Packet::PubRel(_)))
        .unwrap();
    assert_eq!(pub_rel.pub_rel().packet_id, ids[1]);
    assert_eq!(packets.len(), 2);
    client.send(&Packet::PubComp(Ack::new(ids[1], ReasonCode::Success)));
    client.send(&Packet::PubAck(Ack::new(ids[0], ReasonCode::Success)));
    client.expect_nothing();
}
