//! Statements of MQTT 5, sections 3.3.4 and 4.9: flow control.

use waypost_mqtt::{Ack, Packet, PacketId, Property, ProtocolVersion::V5, QoS, ReasonCode};
use waypost_tests::{RawClient, connect_packet, subscribe_bytes};

use crate::wire::{connect_properties, connect_session, identified_bytes, publish_bytes, server};

const SUCCESS: ReasonCode = ReasonCode::Success;

/// The Receive Maximum the server states.
fn receive_maximum() -> u16 {
    let server = server();
    let (_, answer) = RawClient::connect_with(&server, &connect_packet(V5, "maximum"));
    answer
        .conn_ack()
        .properties
        .receive_maximum()
        .unwrap_or(65_535)
}

/// [MQTT-3.3.4-9], [MQTT-4.9.0-1], [MQTT-4.9.0-2]: the server has at most the client's Receive Maximum of unfinished messages at QoS 1 and 2
/// out; PUBACK, PUBCOMP and a refusing PUBREC make room, a PUBREC below 0x80 does not; QoS 0 does not count.
#[test]
fn the_servers_messages_stay_within_the_clients_maximum() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "window-pub");
    for maximum in [1_u16, 3] {
        let (mut client, _) =
            connect_properties(&server, "window", [Property::ReceiveMaximum(maximum)]);
        client.subscribe("window", QoS::ExactlyOnce);
        for number in 0..maximum + 4 {
            let qos = if number % 2 == 0 {
                QoS::ExactlyOnce
            } else {
                QoS::AtLeastOnce
            };
            publisher.publish("window", qos, &number.to_be_bytes());
        }
        let mut open: Vec<_> = client.drain();
        assert_eq!(open.len(), usize::from(maximum));
        publisher.publish("window", QoS::AtMostOnce, b"qos 0");
        assert_eq!(client.receive().publish().payload, b"qos 0");
        for step in 0..4 {
            let received = open.remove(0);
            let publish = received.publish();
            let packet_id = publish.packet_id.unwrap();
            if publish.qos == QoS::AtLeastOnce {
                client.send(&Packet::PubAck(Ack::new(packet_id, SUCCESS)));
            } else if step == 0 {
                client.send(&Packet::PubRec(Ack::new(packet_id, SUCCESS)));
                assert_eq!(client.receive().pub_rel().packet_id, packet_id);
                client.expect_nothing();
                client.send(&Packet::PubComp(Ack::new(packet_id, SUCCESS)));
            } else {
                client.send(&Packet::PubRec(Ack::new(
                    packet_id,
                    ReasonCode::QuotaExceeded,
                )));
            }
            let next = client.receive();
            let number = (maximum + step).to_be_bytes();
            assert_eq!(next.publish().payload, number);
            open.push(next);
            client.expect_nothing();
        }
    }
}

/// [MQTT-3.3.4-9], [MQTT-4.4.0-1]: the window holds for re-delivery, too, also when the new connection's is smaller.
#[test]
fn redelivery_stays_within_the_window() {
    let server = server();
    let list = [
        Property::SessionExpiryInterval(600),
        Property::ReceiveMaximum(5),
    ];
    let (mut client, _) = connect_properties(&server, "smaller", list);
    client.subscribe("smaller", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "smaller-pub");
    for number in 0..5 {
        publisher.publish("smaller", QoS::AtLeastOnce, &[number]);
        client.receive();
    }
    client.cut();
    let list = crate::wire::properties([Property::ReceiveMaximum(2)]);
    let connect = waypost_mqtt::Connect {
        clean_start: false,
        properties: list.as_properties(),
        ..connect_packet(V5, "smaller")
    };
    let (mut client, _) = RawClient::connect_with(&server, &connect);
    let mut waiting: std::collections::VecDeque<_> = client.drain_owed(2).into();
    assert_eq!(waiting.len(), 2);
    for number in 0..5 {
        let received = waiting.pop_front().unwrap_or_else(|| client.receive());
        assert_eq!(received.publish().payload, [number]);
        assert!(received.publish().dup);
        client.send(&Packet::PubAck(Ack::new(
            received.publish().packet_id.unwrap(),
            SUCCESS,
        )));
        waiting.extend(client.drain());
    }
    client.expect_nothing();
}

/// [MQTT-3.3.4-10], [MQTT-4.9.0-3]: a full window holds back nothing but PUBLISH.
#[test]
fn a_full_window_holds_back_nothing_else() {
    let server = server();
    let (mut client, _) = connect_properties(&server, "full", [Property::ReceiveMaximum(1)]);
    client.subscribe("full", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "full-pub");
    for _ in 0..3 {
        publisher.publish("full", QoS::AtLeastOnce, b"x");
    }
    assert_eq!(client.receive().publish().topic, "full");
    client.expect_nothing();
    client.send_raw(&subscribe_bytes(V5, 50, &[("full/other", 0)]));
    assert_eq!(client.receive().sub_ack().packet_id.value(), 50);
    client.send_raw(&publish_bytes(0x32, b"elsewhere", Some(51), &[]));
    assert_eq!(client.receive().pub_ack().packet_id.value(), 51);
    client.send_raw(&publish_bytes(0x34, b"elsewhere", Some(52), &[]));
    assert_eq!(client.receive().pub_rec().packet_id.value(), 52);
    client.send_raw(&identified_bytes(0x62, 52, &[]));
    assert_eq!(client.receive().pub_comp().packet_id.value(), 52);
    client.unsubscribe("full/other");
    client.expect_nothing();
}

/// [MQTT-3.3.4-7], [W5-3.3.4-d], [MQTT-4.9.0-2]: QoS 2 messages without PUBREL up to the server's Receive Maximum are taken, one more is
/// 0x93. [MQTT-3.3.4-8], [MQTT-4.9.0-3]: at the maximum all other packets are answered.
#[test]
fn the_clients_messages_stay_within_the_servers_maximum() {
    let maximum = receive_maximum();
    assert!(maximum < 65_535, "the default states one");
    let server = server();
    let mut client = RawClient::connect(&server, V5, "beyond");
    let fill = |client: &mut RawClient, from: u16, to: u16| {
        let packets: Vec<_> = (from..=to)
            .map(|packet_id| publish_bytes(0x34, b"beyond", Some(packet_id), &[]))
            .collect();
        for chunk in packets.chunks(100) {
            client.send_raw(&chunk.concat());
            for _ in chunk {
                assert!(!client.receive().pub_rec().reason.is_error());
            }
        }
    };
    fill(&mut client, 1, maximum);
    client.subscribe("beyond/other", QoS::AtMostOnce);
    client.fence();
    client.send_raw(&publish_bytes(0x30, b"beyond", None, &[]));
    client.send_raw(&publish_bytes(0x3C, b"beyond", Some(maximum), &[]));
    assert_eq!(client.receive().pub_rec().packet_id.value(), maximum);
    client.send_raw(&identified_bytes(0x62, 1, &[]));
    assert_eq!(client.receive().pub_comp().packet_id.value(), 1);
    fill(&mut client, 1, 1);
    client.send_raw(&publish_bytes(0x34, b"beyond", Some(maximum + 1), &[]));
    client.expect_refused(ReasonCode::ReceiveMaximumExceeded);
}

/// [MQTT-3.3.4-7]: QoS 1 messages are answered at once, so that their number is not bounded.
#[test]
fn answered_messages_do_not_count() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "uncounted");
    for packet_id in 1..=receive_maximum().min(2_000) + 10 {
        client.send_raw(&publish_bytes(0x32, b"uncounted", Some(packet_id), &[]));
        assert_eq!(
            client.receive().pub_ack().packet_id,
            PacketId::new(packet_id).unwrap()
        );
    }
}

/// [MQTT-3.3.4-9], [MQTT-4.5.0-1]: what did not fit into the window of a client that left is not lost.
#[test]
fn what_waits_for_the_window_waits_for_the_client() {
    let server = server();
    let list = [
        Property::SessionExpiryInterval(600),
        Property::ReceiveMaximum(1),
    ];
    let (mut client, _) = connect_properties(&server, "waits", list);
    client.subscribe("waits", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "waits-pub");
    for number in 0..10 {
        publisher.publish("waits", QoS::ExactlyOnce, &[number]);
    }
    client.cut();
    let (mut client, _) = connect_session(&server, "waits", false, 0);
    // All of them are out at once now; their exchanges follow.
    let packets: Vec<_> = (0..10).map(|_| client.receive()).collect();
    for (number, received) in (0..10).zip(&packets) {
        assert_eq!(received.publish().payload, [number]);
    }
}
