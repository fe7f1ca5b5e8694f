//! Statements of MQTT 3.1.1 on sessions: `CleanSession` (section 3.1.2.4), state and its keeping (4.1), taking over messages (4.5).

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::RawClient;

use crate::wire::{
    ack, connect_session, id_of, identified_bytes, publish_bytes, publish_from_elsewhere, server,
    take_messages, unique,
};

/// [MQTT-3.1.2-4], [MQTT-3.1.2-5], [MQTT-3.1.4-3], [MQTT-4.1.0-1], [MQTT-4.5.0-1]: with `CleanSession` 0 subscriptions stay, and messages at
/// QoS 1 and 2 of the absence are delivered in order, at the granted QoS; after DISCONNECT as after a lost network.
#[test]
fn a_session_is_resumed() {
    let server = server();
    let (mut client, session_present) = connect_session(&server, "resumed", false);
    assert!(!session_present, "a new one is made");
    client.subscribe("resumed/1/+", QoS::AtLeastOnce);
    client.subscribe("resumed/2/+", QoS::ExactlyOnce);
    for cut in [false, true] {
        if cut {
            client.cut();
        } else {
            client.disconnect();
        }
        let mut publisher = RawClient::connect(&server, V311, "resumed-pub");
        let sent = [
            ("resumed/1/a", QoS::AtLeastOnce),
            ("resumed/1/b", QoS::ExactlyOnce),
            ("resumed/2/a", QoS::AtLeastOnce),
            ("resumed/2/b", QoS::ExactlyOnce),
        ];
        for (topic, qos) in sent {
            publisher.publish(topic, qos, topic.as_bytes());
        }
        let (again, session_present) = connect_session(&server, "resumed", false);
        client = again;
        assert!(session_present);
        let received = take_messages(&mut client, sent.len());
        let topics: Vec<_> = received
            .iter()
            .map(|message| message.publish().topic)
            .collect();
        assert_eq!(topics, sent.map(|(topic, _)| topic));
        let qualities: Vec<_> = received
            .iter()
            .map(|message| message.publish().qos as u8)
            .collect();
        assert_eq!(qualities, [1, 1, 1, 2]);
        publisher.publish("resumed/1/live", QoS::AtLeastOnce, b"");
        assert_eq!(client.receive_message().publish().topic, "resumed/1/live");
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-6], [MQTT-3.1.4-3], [MQTT-3.2.2-1]: `CleanSession` 1 drops the old session, in use or not: no subscription, no message, no
/// unacknowledged packet of it is left, now or later.
#[test]
fn clean_session_begins_afresh() {
    let server = server();
    for is_connected in [false, true] {
        let client_id = unique("afresh");
        let (mut old, _) = connect_session(&server, &client_id, false);
        old.subscribe("afresh", QoS::ExactlyOnce);
        publish_from_elsewhere(&server, "afresh", b"unacknowledged");
        id_of(&old.receive());
        old.send_raw(&publish_bytes(0x34, "elsewhere", Some(7)));
        assert_eq!(old.receive().pub_rec().packet_id.value(), 7);
        if !is_connected {
            old.disconnect();
            publish_from_elsewhere(&server, "afresh", b"queued");
        }
        let (mut client, session_present) = connect_session(&server, &client_id, true);
        assert!(!session_present);
        publish_from_elsewhere(&server, "afresh", b"later");
        client.expect_nothing();
        client.disconnect();
        let (mut client, session_present) = connect_session(&server, &client_id, false);
        assert!(!session_present);
        publish_from_elsewhere(&server, "afresh", b"later");
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-6]: identifiers of QoS 2 messages that the old session had received mean nothing to the new one.
#[test]
fn clean_session_forgets_received_identifiers() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "forgets-witness");
    witness.subscribe("forgets", QoS::AtMostOnce);
    for clean in [false, true] {
        let (mut client, _) = connect_session(&server, "forgets", clean);
        client.send_raw(&publish_bytes(0x34, "forgets", Some(7)));
        assert_eq!(client.receive().pub_rec().packet_id.value(), 7);
        assert_eq!(witness.receive().publish().topic, "forgets");
        client.cut();
    }
    let (mut client, _) = connect_session(&server, "forgets", true);
    client.send_raw(&publish_bytes(0x34, "forgets", Some(7)));
    assert_eq!(client.receive().pub_rec().packet_id.value(), 7);
    assert_eq!(witness.receive().publish().topic, "forgets");
}

/// [MQTT-3.1.2-6], [MQTT-4.1.0-2]: the session of `CleanSession` 1 lasts as long as its connection, and no longer: neither after
/// DISCONNECT nor after a lost network.
#[test]
fn a_clean_session_ends_with_its_connection() {
    let server = server();
    for cut in [false, true] {
        let client_id = unique("ends");
        let (mut client, _) = connect_session(&server, &client_id, true);
        client.subscribe("ends", QoS::AtLeastOnce);
        publish_from_elsewhere(&server, "ends", b"");
        client.receive_message();
        publish_from_elsewhere(&server, "ends", b"");
        client.receive_message();
        if cut {
            client.cut();
        } else {
            client.disconnect();
        }
        let (mut client, session_present) = connect_session(&server, &client_id, false);
        assert!(!session_present);
        publish_from_elsewhere(&server, "ends", b"");
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-7]: retained messages are nobody's session: they survive the end of the one they came from.
#[test]
fn retained_messages_survive_the_session() {
    let server = server();
    for clean in [true, false] {
        let (mut client, _) = connect_session(&server, "survives", clean);
        client.publish_retained("survives", QoS::AtLeastOnce, &[u8::from(clean)]);
        client.disconnect();
        let (mut client, session_present) = connect_session(&server, "survives", true);
        assert!(!session_present);
        client.subscribe("survives", QoS::AtLeastOnce);
        let received = client.receive_message();
        assert_eq!(received.publish().payload, [u8::from(clean)]);
        client.disconnect();
    }
}

/// [MQTT-3.1.3-2]: sessions are known by their `ClientId`, by every byte of it.
#[test]
fn sessions_are_known_by_client_identifier() {
    let server = server();
    let (mut client, _) = connect_session(&server, "Key-\u{e9}", false);
    client.subscribe("key", QoS::AtLeastOnce);
    client.disconnect();
    for other in [
        "key-\u{e9}",
        "KEY-\u{c9}",
        "Key-e\u{301}",
        "Key-",
        "Key-\u{e9} ",
        " Key-\u{e9}",
    ] {
        let (mut client, session_present) = connect_session(&server, other, true);
        assert!(!session_present, "{other}");
        publish_from_elsewhere(&server, "key", b"");
        client.expect_nothing();
    }
    let (mut client, session_present) = connect_session(&server, "Key-\u{e9}", false);
    assert!(session_present);
    assert_eq!(take_messages(&mut client, 6).len(), 6);
}

/// [MQTT-4.1.0-1]: all of the state stays over connections: subscriptions, what waits, what was sent and is not acknowledged,
/// what was received at QoS 2 and is not released.
#[test]
fn all_of_the_state_is_kept() {
    let server = server();
    let mut witness = RawClient::connect(&server, V311, "state-witness");
    witness.subscribe("state/out", QoS::AtMostOnce);
    let (mut client, _) = connect_session(&server, "state", false);
    client.subscribe("state/in", QoS::ExactlyOnce);
    publish_from_elsewhere(&server, "state/in", b"sent");
    let sent = id_of(&client.receive());
    client.send_raw(&publish_bytes(0x34, "state/out", Some(9)));
    assert_eq!(client.receive().pub_rec().packet_id.value(), 9);
    assert_eq!(witness.receive().publish().topic, "state/out");
    client.disconnect();
    publish_from_elsewhere(&server, "state/in", b"waits");
    for _ in 0..2 {
        let (mut client, session_present) = connect_session(&server, "state", false);
        assert!(session_present);
        let received = client.receive();
        assert_eq!(
            (received.publish().payload, id_of(&received)),
            (&b"sent"[..], sent)
        );
        assert_eq!(client.receive().publish().payload, b"waits");
        client.send_raw(&publish_bytes(0x3C, "state/out", Some(9)));
        assert_eq!(client.receive().pub_rec().packet_id.value(), 9);
        client.disconnect();
    }
    witness.expect_nothing();
    let (mut client, _) = connect_session(&server, "state", false);
    for _ in 0..2 {
        let packet_id = id_of(&client.receive());
        client.send(&Packet::PubAck(ack(packet_id)));
    }
    client.send_raw(&identified_bytes(0x62, 9, &[]));
    assert_eq!(client.receive().pub_comp().packet_id.value(), 9);
    client.disconnect();
    let (mut client, session_present) = connect_session(&server, "state", false);
    assert!(session_present);
    client.expect_nothing();
}

/// [MQTT-4.5.0-1]: a message that was taken over goes to every session that matches, connected or not, whatever the others do.
#[test]
fn each_matching_session_gets_the_message() {
    let server = server();
    let filters = ["each/+", "each/t", "each/#"];
    let ids: Vec<String> = (0..12).map(|number| format!("each-{number}")).collect();
    let mut connected = Vec::new();
    for (number, client_id) in ids.iter().enumerate() {
        let (mut client, _) = connect_session(&server, client_id, false);
        client.subscribe(filters[number % 3], QoS::AtLeastOnce);
        if number % 2 == 0 {
            client.disconnect();
        } else {
            connected.push(client);
        }
    }
    publish_from_elsewhere(&server, "each/t", b"for all");
    for client_id in &ids {
        let (mut client, session_present) = connect_session(&server, client_id, false);
        assert!(session_present);
        assert_eq!(client.receive_message().publish().payload, b"for all");
        client.expect_nothing();
    }
}
