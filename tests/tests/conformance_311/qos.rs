//! Statements of MQTT 3.1.1, section 4.3: the exchanges of each QoS; and 4.6, order.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::RawClient;

use crate::wire::{
    ack, connect_session, id, id_of, identified_bytes, publish_bytes, server, take_messages, unique,
};

/// [MQTT-4.3.2-2]: after PUBACK the same identifier is a new message, with DUP or without.
#[test]
fn a_qos_1_identifier_is_free_after_puback() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V311, "free-sub");
    subscriber.subscribe("free", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "free-pub");
    for first_byte in [0x32, 0x32, 0x3A, 0x3A] {
        publisher.send_raw(&publish_bytes(first_byte, "free", Some(5)));
        assert_eq!(publisher.receive().bytes(), [0x40, 2, 0, 5]);
        assert!(!subscriber.receive_message().publish().dup);
    }
    subscriber.expect_nothing();
}

/// [MQTT-4.3.3-2], [MQTT-3.3.1-3]: until PUBREL a repeated PUBLISH gets PUBREC again and is delivered once; after PUBCOMP the
/// identifier is a new message, whatever its DUP; a repeated PUBREL gets PUBCOMP again.
#[test]
fn qos_2_is_delivered_once() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V311, "once-sub");
    subscriber.subscribe("once", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "once-pub");
    for first_byte in [0x34, 0x3C, 0x34] {
        for first_byte in [first_byte, 0x3C, 0x34, 0x3C] {
            publisher.send_raw(&publish_bytes(first_byte, "once", Some(9)));
            assert_eq!(publisher.receive().bytes(), [0x50, 2, 0, 9]);
        }
        assert!(!subscriber.receive_message().publish().dup);
        subscriber.expect_nothing();
        for _ in 0..2 {
            publisher.send_raw(&identified_bytes(0x62, 9, &[]));
            assert_eq!(publisher.receive().bytes(), [0x70, 2, 0, 9]);
        }
    }
    subscriber.expect_nothing();
}

/// [MQTT-4.3.3-2], [MQTT-4.1.0-1]: what was received is remembered over connections of the session, until PUBREL.
#[test]
fn qos_2_is_delivered_once_over_reconnects() {
    let server = server();
    let mut subscriber = RawClient::connect(&server, V311, "over-sub");
    subscriber.subscribe("over", QoS::AtMostOnce);
    for first_byte in [0x34, 0x3C, 0x3C] {
        let (mut publisher, _) = connect_session(&server, "over-pub", false);
        publisher.send_raw(&publish_bytes(first_byte, "over", Some(9)));
        assert_eq!(publisher.receive().bytes(), [0x50, 2, 0, 9]);
        publisher.cut();
    }
    for _ in 0..2 {
        let (mut publisher, _) = connect_session(&server, "over-pub", false);
        publisher.send_raw(&identified_bytes(0x62, 9, &[]));
        assert_eq!(publisher.receive().bytes(), [0x70, 2, 0, 9]);
        publisher.cut();
    }
    assert_eq!(subscriber.receive().publish().topic, "over");
    subscriber.expect_nothing();
    let (mut publisher, _) = connect_session(&server, "over-pub", false);
    publisher.send_raw(&publish_bytes(0x34, "over", Some(9)));
    assert_eq!(publisher.receive().bytes(), [0x50, 2, 0, 9]);
    assert_eq!(subscriber.receive().publish().topic, "over");
}

/// [MQTT-4.3.3-1]: the server's side of a QoS 2 delivery: PUBLISH with DUP 0, PUBREL after PUBREC and again after another, done
/// after PUBCOMP; nothing is repeated unasked.
#[test]
fn the_server_delivers_at_qos_2() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "delivers");
    client.subscribe("delivers", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "delivers-pub");
    for _ in 0..3 {
        publisher.publish("delivers", QoS::ExactlyOnce, b"x");
        let received = client.receive();
        assert_eq!(received.bytes()[0], 0x34);
        let packet_id = id_of(&received);
        client.expect_nothing();
        for _ in 0..2 {
            client.send(&Packet::PubRec(ack(packet_id)));
            assert_eq!(client.receive().pub_rel().packet_id, packet_id);
            client.expect_nothing();
        }
        client.send(&Packet::PubComp(ack(packet_id)));
        client.expect_nothing();
    }
}

/// [MQTT-4.3.2-1]: the server's side of a QoS 1 delivery: PUBLISH with DUP 0, done after PUBACK; nothing is repeated unasked.
#[test]
fn the_server_delivers_at_qos_1() {
    let server = server();
    let (mut client, _) = connect_session(&server, "delivers-1", false);
    client.subscribe("delivers-1", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V311, "delivers-1-pub");
    for _ in 0..3 {
        publisher.publish("delivers-1", QoS::ExactlyOnce, b"x");
        let received = client.receive();
        assert_eq!(received.bytes()[0], 0x32);
        client.expect_nothing();
        client.send(&Packet::PubAck(ack(id_of(&received))));
        client.expect_nothing();
    }
    client.disconnect();
    let (mut client, _) = connect_session(&server, "delivers-1", false);
    client.expect_nothing();
}

/// [MQTT-4.3.2-1], [MQTT-4.3.3-1]: acknowledgements of identifiers that are not in use end nothing: not the connection, nor what is
/// in flight.
#[test]
fn stray_acknowledgements_end_nothing() {
    let server = server();
    let (mut client, _) = connect_session(&server, "stray", false);
    client.subscribe("stray", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "stray-pub");
    publisher.publish("stray", QoS::AtLeastOnce, b"1");
    let in_flight = id_of(&client.receive());
    for stray in [10_000, 65_535] {
        client.send(&Packet::PubAck(ack(id(stray))));
        client.send(&Packet::PubComp(ack(id(stray))));
        client.send(&Packet::PubRel(ack(id(stray))));
        assert_eq!(client.receive().pub_comp().packet_id, id(stray));
    }
    client.disconnect();
    let (mut client, _) = connect_session(&server, "stray", false);
    assert_eq!(id_of(&client.receive_message()), in_flight);
    client.expect_nothing();
}

/// [MQTT-4.8.0-1], [MQTT-3.3.4-1]: the acknowledgement of another QoS, or one out of its turn, closes the connection.
#[test]
fn wrong_acknowledgements_close_the_connection() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "wrong-pub");
    for (qos, wrong) in [
        (QoS::AtLeastOnce, [0x50, 2]),
        (QoS::AtLeastOnce, [0x70, 2]),
        (QoS::ExactlyOnce, [0x40, 2]),
        (QoS::ExactlyOnce, [0x70, 2]),
    ] {
        let (mut client, _) = connect_session(&server, "wrong", false);
        client.subscribe("wrong", QoS::ExactlyOnce);
        publisher.publish("wrong", qos, b"x");
        let packet_id = id_of(&client.receive());
        client.send_raw(&[&wrong[..], &packet_id.value().to_be_bytes()].concat());
        client.expect_closed();
        let (mut client, _) = connect_session(&server, "wrong", false);
        let again = client.receive_message();
        assert_eq!((again.publish().dup, id_of(&again)), (true, packet_id));
        client.fence();
    }
}

/// [MQTT-4.6.0-6], [MQTT-4.6.0-5]: per topic and QoS, each publisher's messages arrive in the order they came in: live, from
/// the queue of an absent client, and where they overtake its window.
#[test]
fn messages_keep_their_order() {
    const COUNT: u16 = 400;
    let server = server();
    let client_id = unique("ordered");
    let (mut client, _) = connect_session(&server, &client_id, false);
    client.subscribe("ordered/+", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "ordered-pub");
    let mut seen: [Vec<u16>; 3] = Default::default();
    let mut next = 0;
    for is_away in [false, true, false] {
        if is_away {
            client.fence();
            client.send_raw(&[0xE0, 0]);
            client.expect_closed();
        }
        let quality = if is_away { 1..=2 } else { 0..=2 };
        let mut packets = Vec::new();
        for number in next..next + COUNT {
            for qos in quality.clone() {
                let topic = format!("ordered/{qos}");
                let packet_id = (qos > 0).then_some(number + 1);
                let mut packet = publish_bytes(0x30 | qos << 1, topic, packet_id);
                packet.pop();
                packet.extend(number.to_be_bytes());
                packet[1] += 1;
                packets.push(packet);
                if qos == 2 {
                    packets.push(identified_bytes(0x62, number + 1, &[]));
                }
            }
        }
        next += COUNT;
        let expected = usize::from(COUNT) * quality.clone().count();
        for batch in packets.chunks(40) {
            publisher.send_raw(&batch.concat());
            publisher.drain();
        }
        if is_away {
            (client, _) = connect_session(&server, &client_id, false);
        }
        for received in take_messages(&mut client, expected) {
            let publish = received.publish();
            let number = u16::from_be_bytes(publish.payload.try_into().unwrap());
            seen[publish.qos as usize].push(number);
        }
    }
    let live: Vec<u16> = (0..COUNT).chain(2 * COUNT..3 * COUNT).collect();
    let all: Vec<u16> = (0..3 * COUNT).collect();
    assert_eq!(seen, [live, all.clone(), all]);
}

/// [MQTT-4.6.0-6]: PUBACK, PUBREC and PUBCOMP of the server come in the order of the packets they answer, each kind.
#[test]
fn answers_keep_their_order() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "answers-order");
    let ids: Vec<u16> = vec![9, 3, 7, 1, 65_535, 2];
    let publishes: Vec<Vec<u8>> = ids
        .iter()
        .zip(1_000..)
        .flat_map(|(&qos_2, qos_1)| {
            [(0x32, qos_1), (0x34, qos_2)].map(|(first_byte, packet_id)| {
                publish_bytes(first_byte, "answers-order", Some(packet_id))
            })
        })
        .collect();
    client.send_raw(&publishes.concat());
    let answers = client.drain();
    assert_eq!(answers.len(), publishes.len());
    let received: Vec<u16> = answers
        .iter()
        .filter(|answer| matches!(answer.packet(), Packet::PubRec(_)))
        .map(|answer| answer.pub_rec().packet_id.value())
        .collect();
    assert_eq!(received, ids);
    let acknowledged: Vec<u16> = answers
        .iter()
        .filter(|answer| matches!(answer.packet(), Packet::PubAck(_)))
        .map(|answer| answer.pub_ack().packet_id.value())
        .collect();
    assert_eq!(acknowledged, (1_000..1_006).collect::<Vec<_>>());
    let released: Vec<Vec<u8>> = ids
        .iter()
        .map(|&packet_id| identified_bytes(0x62, packet_id, &[]))
        .collect();
    client.send_raw(&released.concat());
    let completed: Vec<u16> = client
        .drain()
        .iter()
        .map(|answer| answer.pub_comp().packet_id.value())
        .collect();
    assert_eq!(completed, ids);
}
