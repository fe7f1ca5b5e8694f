//! Statements of MQTT 3.1.1, section 4.4: what is sent again on reconnect, and the order of it (4.6).

use waypost_mqtt::{Connect, Packet, PacketId, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, connect_packet};

use crate::wire::{ack, connect_session, id_of, publish_from_elsewhere, server, unique};

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1], [MQTT-4.3.2-1], [MQTT-4.3.3-1], [MQTT-4.6.0-6]: on reconnect unacknowledged messages are sent again with DUP 1,
/// the same identifiers, contents and order, as often as it takes; what was acknowledged is not, what had PUBREC gets PUBREL.
#[test]
fn unacknowledged_packets_are_sent_again() {
    let server = server();
    let client_id = unique("again");
    let (mut client, _) = connect_session(&server, &client_id, false);
    client.subscribe("again/+", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "again-pub");
    let mut sent: Vec<(Vec<u8>, PacketId, QoS)> = Vec::new();
    for number in 0..9_u8 {
        let qos = QoS::try_from(1 + number % 2).unwrap();
        publisher.publish(&format!("again/{number}"), qos, &[number]);
        let received = client.receive();
        assert!(!received.publish().dup);
        sent.push((received.bytes().to_vec(), id_of(&received), qos));
    }
    // Numbers 2 and 5 are acknowledged, 5 at QoS 2 with PUBREC only.
    client.send(&Packet::PubAck(ack(sent[2].1)));
    client.send(&Packet::PubRec(ack(sent[5].1)));
    assert_eq!(client.receive().pub_rel().packet_id, sent[5].1);
    let released = sent[5].1;
    let mut expect: Vec<Vec<u8>> = sent
        .iter()
        .filter(|(_, packet_id, _)| ![sent[2].1, released].contains(packet_id))
        .map(|(bytes, ..)| bytes.clone())
        .collect();
    for packet in &mut expect {
        packet[0] |= 0x08;
    }
    for is_cut in [false, true, false] {
        if is_cut {
            client.cut();
        } else {
            client.disconnect();
        }
        (client, _) = connect_session(&server, &client_id, false);
        let mut messages = Vec::new();
        let mut owed = Vec::new();
        for received in client.drain_owed(expect.len() + 1) {
            if let Packet::PubRel(release) = received.packet() {
                owed.push(release.packet_id);
            } else {
                messages.push(received.bytes().to_vec());
            }
        }
        assert_eq!(messages, expect);
        assert_eq!(owed, [released]);
    }
    client.send(&Packet::PubComp(ack(released)));
    for (_, packet_id, qos) in &sent {
        if [sent[2].1, released].contains(packet_id) {
            continue;
        }
        if *qos == QoS::AtLeastOnce {
            client.send(&Packet::PubAck(ack(*packet_id)));
        } else {
            client.send(&Packet::PubRec(ack(*packet_id)));
            assert_eq!(client.receive().pub_rel().packet_id, *packet_id);
            client.send(&Packet::PubComp(ack(*packet_id)));
        }
    }
    client.fence();
    client.disconnect();
    let (mut client, session_present) = connect_session(&server, &client_id, false);
    assert!(session_present);
    client.expect_nothing();
}

/// [MQTT-4.6.0-6], [MQTT-4.4.0-1]: what is sent again comes before what has waited, in the order of the first sending, and what
/// comes in meanwhile after it.
#[test]
fn what_was_sent_comes_before_what_waited() {
    let server = server();
    let (mut client, _) = connect_session(&server, "before", false);
    client.subscribe("before", QoS::AtLeastOnce);
    for number in 0..5 {
        publish_from_elsewhere(&server, "before", &[number]);
        client.receive();
    }
    client.disconnect();
    for number in 5..10 {
        publish_from_elsewhere(&server, "before", &[number]);
    }
    let (mut client, _) = connect_session(&server, "before", false);
    publish_from_elsewhere(&server, "before", &[10]);
    for number in 0..11 {
        let received = client.receive_message();
        assert_eq!(received.publish().payload, [number]);
        assert_eq!(received.publish().dup, number < 5);
    }
    client.expect_nothing();
}

/// [MQTT-4.4.0-1], [MQTT-3.3.1-1]: a takeover resumes the session like a reconnect.
#[test]
fn a_takeover_sends_again() {
    let server = server();
    let (mut old, _) = connect_session(&server, "again-takeover", false);
    old.subscribe("again-takeover", QoS::AtLeastOnce);
    publish_from_elsewhere(&server, "again-takeover", b"x");
    let packet_id = id_of(&old.receive());
    let (mut new, session_present) = connect_session(&server, "again-takeover", false);
    assert!(session_present);
    old.expect_closed();
    let received = new.receive_message();
    assert_eq!(
        (received.publish().dup, id_of(&received)),
        (true, packet_id)
    );
    new.expect_nothing();
}

/// [MQTT-4.4.0-1]: on a connection that lives nothing is sent again, however long it takes: no answer for one and a half
/// seconds, which another client's Keep Alive measures.
#[test]
fn nothing_is_sent_again_on_a_live_connection() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "live");
    client.subscribe("live", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "live-pub");
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish("live", qos, b"x");
        assert_eq!(client.receive().publish().qos, qos);
    }
    let connect = Connect {
        keep_alive: 1,
        ..connect_packet(V311, "live-clock")
    };
    RawClient::connect_with(&server, &connect).0.expect_closed();
    client.expect_nothing();
}
