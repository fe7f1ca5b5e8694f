//! Statements of MQTT 5, sections 4.3 to 4.6: delivery at each QoS, re-delivery, order.

use waypost_mqtt::{
    Ack, Packet, PacketId, Property, ProtocolVersion::V5, Publish, QoS, ReasonCode,
};
use waypost_tests::{RawClient, Received, empty_publish};

use crate::wire::{
    connect_properties, connect_session, identified_bytes, pass_seconds, properties, publish_bytes,
    server, take_messages,
};

const SUCCESS: ReasonCode = ReasonCode::Success;

fn id(packet_id: u16) -> PacketId {
    PacketId::new(packet_id).unwrap()
}

fn id_of(received: &Received) -> PacketId {
    received.publish().packet_id.unwrap()
}

/// [MQTT-3.3.4-1], [MQTT-4.3.2-4], [MQTT-4.3.3-8], [MQTT-4.3.3-11]: nothing for QoS 0, PUBACK for 1, PUBREC and then PUBCOMP for 2,
/// each once; also where nobody subscribes.
#[test]
fn each_publish_is_answered_as_its_qos_asks() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "answered");
    for subscribed in [false, true] {
        if subscribed {
            RawClient::connect(&server, V5, "answered-sub").subscribe("answered", QoS::AtMostOnce);
        }
        client.send_raw(&publish_bytes(0x30, b"answered", None, &[]));
        client.expect_nothing();
        client.send_raw(&publish_bytes(0x32, b"answered", Some(1), &[]));
        assert_eq!(client.receive().pub_ack().packet_id, id(1));
        client.expect_nothing();
        client.send_raw(&publish_bytes(0x34, b"answered", Some(2), &[]));
        let answer = client.receive();
        assert_eq!(answer.pub_rec().packet_id, id(2));
        assert!(!answer.pub_rec().reason.is_error());
        client.expect_nothing();
        client.send_raw(&identified_bytes(0x62, 2, &[]));
        let answer = client.receive();
        assert_eq!(
            (answer.pub_comp().packet_id, answer.pub_comp().reason),
            (id(2), SUCCESS)
        );
        client.expect_nothing();
    }
}

/// [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]: a Reason Code that is not of the packet's list is a Protocol
/// Error; those the server sends are of theirs, or could not be decoded here.
#[test]
fn acknowledgements_have_their_own_reason_codes() {
    let breach = |first_byte, reason| {
        (
            "reason",
            identified_bytes(first_byte, 1, &[reason]),
            ReasonCode::ProtocolError,
        )
    };
    crate::wire::check_disconnected([
        breach(0x40, 0x01),
        breach(0x40, 0x10),
        breach(0x40, 0x92),
        breach(0x40, 0xFF),
        breach(0x50, 0x92),
        breach(0x50, 0x8F),
        breach(0x62, 0x80),
        breach(0x62, 0x10),
        breach(0x70, 0x80),
        breach(0x70, 0x01),
    ]);
}

/// [MQTT-4.3.2-5]: after PUBACK the same identifier is a new message, also with DUP 1; [MQTT-3.3.1-3], [MQTT-3.3.1-1]: DUP is not
/// passed on.
#[test]
fn a_qos_1_identifier_is_free_after_puback() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "free-sub");
    subscriber.subscribe("free", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "free-pub");
    for first_byte in [0x32, 0x32, 0x3A, 0x3A] {
        publisher.send_raw(&publish_bytes(first_byte, b"free", Some(5), &[]));
        assert_eq!(publisher.receive().pub_ack().packet_id, id(5));
        assert!(!subscriber.receive_message().publish().dup);
    }
    subscriber.expect_nothing();
}

/// [MQTT-4.3.3-10]: until PUBREL a repeated PUBLISH gets PUBREC again and is delivered once; [MQTT-4.3.3-12]: after PUBCOMP the
/// identifier is a new message, whatever its DUP; [MQTT-3.3.1-3].
#[test]
fn qos_2_is_delivered_once() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "twice-sub");
    subscriber.subscribe("twice", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "twice-pub");
    for round in 0..3 {
        for first_byte in [if round == 0 { 0x34 } else { 0x3C }, 0x3C, 0x34, 0x3C] {
            publisher.send_raw(&publish_bytes(first_byte, b"twice", Some(9), &[]));
            let answer = publisher.receive();
            assert_eq!(answer.pub_rec().packet_id, id(9));
            assert!(!answer.pub_rec().reason.is_error());
        }
        assert!(!subscriber.receive_message().publish().dup);
        subscriber.expect_nothing();
        publisher.send_raw(&identified_bytes(0x62, 9, &[]));
        assert_eq!(publisher.receive().pub_comp().packet_id, id(9));
    }
}

/// [MQTT-4.3.3-10], [MQTT-4.1.0-1]: it is remembered over connections of the session.
#[test]
fn qos_2_is_delivered_once_over_a_reconnect() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "over-sub");
    subscriber.subscribe("over", QoS::AtMostOnce);
    let (mut publisher, _) = connect_session(&server, "over-pub", true, 600);
    publisher.send_raw(&publish_bytes(0x34, b"over", Some(9), &[]));
    assert_eq!(publisher.receive().pub_rec().packet_id, id(9));
    publisher.cut();
    let (mut publisher, _) = connect_session(&server, "over-pub", false, 600);
    publisher.send_raw(&publish_bytes(0x3C, b"over", Some(9), &[]));
    assert_eq!(publisher.receive().pub_rec().packet_id, id(9));
    publisher.cut();
    let (mut publisher, _) = connect_session(&server, "over-pub", false, 600);
    publisher.send_raw(&identified_bytes(0x62, 9, &[]));
    let answer = publisher.receive();
    assert_eq!(
        (answer.pub_comp().packet_id, answer.pub_comp().reason),
        (id(9), SUCCESS)
    );
    assert_eq!(subscriber.receive().publish().topic, "over");
    subscriber.expect_nothing();
    publisher.send_raw(&publish_bytes(0x34, b"over", Some(9), &[]));
    assert_eq!(publisher.receive().pub_rec().packet_id, id(9));
    assert_eq!(subscriber.receive().publish().topic, "over");
}

/// [MQTT-4.3.3-9]: after a PUBREC of 0x80 or higher the same identifier is a new message.
#[test]
fn a_refused_qos_2_message_is_forgotten() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V5, "forgotten-sub");
    subscriber.subscribe("forgotten", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "forgotten-pub");
    let reserved = properties([Property::UserProperty("waypost-offset", "1")]);
    publisher.send_raw(&publish_bytes(
        0x34,
        b"forgotten",
        Some(3),
        reserved.as_bytes(),
    ));
    let answer = publisher.receive();
    assert_eq!(answer.pub_rec().packet_id, id(3));
    assert!(answer.pub_rec().reason.is_error());
    subscriber.expect_nothing();
    publisher.send_raw(&publish_bytes(0x3C, b"forgotten", Some(3), &[]));
    assert!(!publisher.receive().pub_rec().reason.is_error());
    assert_eq!(subscriber.receive().publish().topic, "forgotten");
    publisher.send_raw(&identified_bytes(0x62, 3, &[]));
    assert_eq!(publisher.receive().pub_comp().reason, SUCCESS);
}

/// [MQTT-4.3.3-13]: an exchange is completed though the message has expired meanwhile.
#[test]
fn qos_2_is_completed_after_expiry() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "complete");
    let expiry = properties([Property::MessageExpiryInterval(1)]);
    publisher.send_raw(&publish_bytes(
        0x34,
        b"complete",
        Some(3),
        expiry.as_bytes(),
    ));
    assert!(!publisher.receive().pub_rec().reason.is_error());
    pass_seconds(&server, 2);
    publisher.send_raw(&identified_bytes(0x62, 3, &[]));
    let answer = publisher.receive();
    assert_eq!(
        (answer.pub_comp().packet_id, answer.pub_comp().reason),
        (id(3), SUCCESS)
    );
}

/// [MQTT-4.3.2-3], [MQTT-4.3.3-3], [MQTT-4.3.3-4], [MQTT-4.3.3-5], [MQTT-4.3.3-6], [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.6.0-1]: what
/// is not acknowledged is sent again on the next connection of the session, and only then: each PUBLISH with its identifier and
/// DUP 1, in order; a PUBREL where PUBREC had come, and no PUBLISH there.
#[test]
fn what_is_unacknowledged_is_sent_again() {
    let server = server();
    let (mut client, _) = connect_session(&server, "again", true, 600);
    client.subscribe("again/#", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "again-pub");
    let topics = [
        "again/1",
        "again/2-received",
        "again/3",
        "again/4",
        "again/5-done",
        "again/6",
    ];
    let mut sent = Vec::new();
    for (number, topic) in topics.into_iter().enumerate() {
        let qos = if number % 2 == 0 {
            QoS::AtLeastOnce
        } else {
            QoS::ExactlyOnce
        };
        publisher.publish(topic, qos, topic.as_bytes());
        let received = client.receive();
        assert!(!received.publish().dup);
        sent.push((topic, id_of(&received)));
    }
    client.send(&Packet::PubRec(Ack::new(sent[1].1, SUCCESS)));
    assert_eq!(client.receive().pub_rel().packet_id, sent[1].1);
    client.send(&Packet::PubAck(Ack::new(sent[4].1, SUCCESS)));
    client.expect_nothing();
    for _ in 0..2 {
        client.cut();
        (client, _) = connect_session(&server, "again", false, 600);
        let packets = client.drain_owed(5);
        let (messages, others): (Vec<_>, Vec<_>) = packets
            .iter()
            .partition(|packet| matches!(packet.packet(), Packet::Publish(_)));
        let found: Vec<_> = messages
            .iter()
            .map(|packet| {
                assert!(packet.publish().dup);
                assert_eq!(packet.publish().payload, packet.publish().topic.as_bytes());
                (packet.publish().topic, id_of(packet))
            })
            .collect();
        assert_eq!(found, [sent[0], sent[2], sent[3], sent[5]]);
        assert_eq!(others.len(), 1);
        assert_eq!(others[0].pub_rel().packet_id, sent[1].1);
    }
    client.send(&Packet::PubComp(Ack::new(sent[1].1, SUCCESS)));
    for (_, packet_id) in [sent[0], sent[2]] {
        client.send(&Packet::PubAck(Ack::new(packet_id, SUCCESS)));
    }
    for (_, packet_id) in [sent[3], sent[5]] {
        client.send(&Packet::PubRec(Ack::new(packet_id, SUCCESS)));
        assert_eq!(client.receive().pub_rel().packet_id, packet_id);
        client.send(&Packet::PubComp(Ack::new(packet_id, SUCCESS)));
    }
    client.fence();
    client.cut();
    (client, _) = connect_session(&server, "again", false, 600);
    client.expect_nothing();
}

/// [MQTT-4.4.0-1]: nothing is sent again while the connection lives.
#[test]
fn nothing_is_sent_again_on_a_live_connection() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "live");
    client.subscribe("live", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "live-pub");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish("live", qos, b"x");
        client.receive();
    }
    pass_seconds(&server, 2);
    client.expect_nothing();
}

/// [MQTT-4.4.0-2]: PUBACK and PUBREC of 0x80 or higher acknowledge: the message is not sent again, a PUBREC is not followed by PUBREL.
#[test]
fn a_refusal_acknowledges() {
    let server = server();
    let (mut client, _) = connect_session(&server, "refusal", true, 600);
    client.subscribe("refusal", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "refusal-pub");
    for reason in [ReasonCode::UnspecifiedError, ReasonCode::QuotaExceeded] {
        publisher.publish("refusal", QoS::AtLeastOnce, b"x");
        let packet_id = id_of(&client.receive());
        client.send(&Packet::PubAck(Ack::new(packet_id, reason)));
        publisher.publish("refusal", QoS::ExactlyOnce, b"x");
        let packet_id = id_of(&client.receive());
        client.send(&Packet::PubRec(Ack::new(packet_id, reason)));
    }
    client.expect_nothing();
    client.cut();
    let (mut client, _) = connect_session(&server, "refusal", false, 600);
    client.expect_nothing();
}

/// [MQTT-4.3.3-7], [MQTT-3.3.2-5]: a message that expires while it waits is dropped, one at QoS 2 that was sent is not: it is sent
/// again and completed.
#[test]
fn no_expiry_once_qos_2_is_out() {
    let server = server();
    let list = [
        Property::SessionExpiryInterval(600),
        Property::ReceiveMaximum(1),
    ];
    let (mut client, _) = connect_properties(&server, "out", list);
    client.subscribe("out/#", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "out-pub");
    let expiry = properties([Property::MessageExpiryInterval(1)]);
    for topic in ["out/sent", "out/waits"] {
        publisher.publish_with(&Publish {
            topic,
            qos: QoS::ExactlyOnce,
            properties: expiry.as_properties(),
            ..empty_publish()
        });
    }
    let first = client.receive();
    assert_eq!(first.publish().topic, "out/sent");
    client.cut();
    pass_seconds(&server, 2);
    let (mut client, _) = connect_session(&server, "out", false, 600);
    let again = client.receive_message();
    assert_eq!(again.publish().topic, "out/sent");
    assert_eq!((again.publish().dup, id_of(&again)), (true, id_of(&first)));
    client.expect_nothing();
}

/// [MQTT-3.6.2-1], [MQTT-3.7.2-1]: unknown identifiers: PUBREL gets PUBCOMP 0x92, PUBREC gets PUBREL 0x92, PUBACK and PUBCOMP are
/// ignored; the connection goes on.
#[test]
fn unknown_identifiers_are_told() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "unknown");
    let not_found = ReasonCode::PacketIdentifierNotFound;
    client.send(&Packet::PubRel(Ack::new(id(77), SUCCESS)));
    let answer = client.receive();
    assert_eq!(
        (answer.pub_comp().packet_id, answer.pub_comp().reason),
        (id(77), not_found)
    );
    client.send(&Packet::PubRec(Ack::new(id(78), SUCCESS)));
    let answer = client.receive();
    assert_eq!(
        (answer.pub_rel().packet_id, answer.pub_rel().reason),
        (id(78), not_found)
    );
    client.send(&Packet::PubAck(Ack::new(id(79), SUCCESS)));
    client.send(&Packet::PubComp(Ack::new(id(80), SUCCESS)));
    client.expect_nothing();
}

/// [MQTT-4.6.0-5], [MQTT-4.6.0-6], [MQTT-4.6.0-1]: per topic and QoS, messages arrive in the order they came in, live, from the queue of
/// an absent client, and beyond its window.
#[test]
fn messages_keep_their_order() {
    const COUNT: u16 = 60;
    let server = server();
    let list = [
        Property::SessionExpiryInterval(600),
        Property::ReceiveMaximum(7),
    ];
    let (mut client, _) = connect_properties(&server, "ordered", list);
    client.subscribe("ordered/+", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "ordered-pub");
    let mut publish_all = |from: u16, qualities: &[QoS]| {
        for number in from..from + COUNT {
            for (topic, qos) in ["ordered/0", "ordered/1", "ordered/2"]
                .into_iter()
                .zip([0_u8, 1, 2])
            {
                let qos = QoS::try_from(qos).unwrap();
                if qualities.contains(&qos) {
                    publisher.publish(topic, qos, &number.to_be_bytes());
                }
            }
        }
    };
    publish_all(0, &[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let mut seen: [Vec<u16>; 3] = Default::default();
    let mut take = |client: &mut RawClient, count: u16| {
        for received in take_messages(client, usize::from(count)) {
            let publish = received.publish();
            seen[publish.qos as usize]
                .push(u16::from_be_bytes(publish.payload.try_into().unwrap()));
        }
    };
    take(&mut client, 3 * COUNT);
    client.fence();
    client.cut();
    publish_all(COUNT, &[QoS::AtLeastOnce, QoS::ExactlyOnce]);
    let (mut client, _) = connect_session(&server, "ordered", false, 0);
    take(&mut client, 2 * COUNT);
    publish_all(2 * COUNT, &[QoS::AtLeastOnce]);
    take(&mut client, COUNT);
    assert_eq!(seen[0], (0..COUNT).collect::<Vec<_>>());
    assert_eq!(seen[1], (0..3 * COUNT).collect::<Vec<_>>());
    assert_eq!(seen[2], (0..2 * COUNT).collect::<Vec<_>>());
}
