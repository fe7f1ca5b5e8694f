//! A subscriber that stops reading costs a bounded amount, slows nobody, and gets what it is owed when it reads again.

use waypost_mqtt::{
    Packet, Property, PropertyBuffer, ProtocolVersion, ProtocolVersion::V5, ProtocolVersion::V311,
    Publish, QoS,
};
use waypost_tests::{RawClient, Server, connect_packet, empty_publish};

use crate::{
    hostile::memory_kib,
    limits::server_with,
    neighbours::{Neighbours, expect_metric, metric},
};

/// More than the sockets of both sides hold (server: at most 4 MiB, client that never reads: 128 KiB).
const COUNT: u32 = 320;
const LENGTH: usize = 64 * 1024;
const OUTBOX: u64 = 1024 * 1024;

/// With outboxes that these floods fill.
fn server() -> Server {
    server_with("[limits]\noutbox_bytes_max = \"1MiB\"\n")
}

fn payload(number: u32) -> Vec<u8> {
    let mut payload = vec![b'x'; LENGTH];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

fn number(publish: &Publish<'_>) -> u32 {
    u32::from_be_bytes(publish.payload[..4].try_into().unwrap())
}

/// Publishes all messages; a second subscriber takes each of them before the next is sent, while the slow one reads nothing.
fn flood(server: &Server, topic: &str, qos: QoS) {
    let mut publisher = RawClient::connect(server, V5, "flood-pub");
    let mut quick = RawClient::connect(server, V5, "flood-quick");
    quick.subscribe(topic, qos);
    for expected in 0..COUNT {
        publisher.publish(topic, qos, &payload(expected));
        let received = quick.receive_message();
        assert_eq!(number(&received.publish()), expected);
        if expected % 20 == 0 {
            assert!(metric(server, "waypost_outbox_bytes") <= OUTBOX + LENGTH as u64);
        }
    }
}

/// QoS 0: the oldest are dropped and counted, the newest arrive, in order; the other subscriber misses nothing; memory is bounded by the
/// outbox.
#[test]
fn qos_0_to_a_slow_reader_is_dropped_and_counted() {
    for version in [V5, V311] {
        let server = server();
        let mut neighbours = Neighbours::new(&server);
        let mut slow = RawClient::connect(&server, version, "slow");
        slow.subscribe("slow/t", QoS::AtMostOnce);
        let before = memory_kib(&server);
        flood(&server, "slow/t", QoS::AtMostOnce);
        neighbours.converse();
        let grown = memory_kib(&server).saturating_sub(before);
        assert!(grown < 8 * 1024, "{grown} KiB more");
        let dropped = metric(&server, "waypost_dropped_qos0_outbox_total");
        assert!(dropped > 0);
        let numbers: Vec<u32> = slow
            .drain()
            .iter()
            .map(|packet| number(&packet.publish()))
            .collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(numbers.last(), Some(&(COUNT - 1)));
        assert_eq!(numbers.len() as u64 + dropped, u64::from(COUNT));
        expect_metric(&server, "waypost_outbox_bytes", 0);
        neighbours.converse();
    }
}

/// QoS 1 and 2: nothing is dropped; when the slow one reads again all of it arrives, once and in order.
#[test]
fn qos_1_and_2_to_a_slow_reader_arrive_later_in_order() {
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let server = server();
        let mut neighbours = Neighbours::new(&server);
        let mut slow = RawClient::connect(&server, V5, "slow");
        slow.subscribe("slow/t", qos);
        flood(&server, "slow/t", qos);
        neighbours.converse();
        assert!(metric(&server, "waypost_slow_readers_total") > 0);
        read_all_in_order(&mut slow);
        assert_eq!(metric(&server, "waypost_dropped_queue_full_total"), 0);
        neighbours.converse();
    }
}

/// Takes all messages of a flood and completes their exchanges.
fn read_all_in_order(slow: &mut RawClient) {
    let mut expected = 0;
    let mut unreleased = 0;
    while expected < COUNT || unreleased > 0 {
        let received = slow.receive();
        match received.packet() {
            Packet::PubRel(ack) => {
                unreleased -= 1;
                slow.send(&Packet::PubComp(ack));
            }
            Packet::Publish(publish) => {
                assert_eq!(number(&publish), expected);
                assert!(!publish.dup);
                expected += 1;
                let ack = waypost_mqtt::Ack::new(
                    publish.packet_id.unwrap(),
                    waypost_mqtt::ReasonCode::Success,
                );
                if publish.qos == QoS::AtLeastOnce {
                    slow.send(&Packet::PubAck(ack));
                } else {
                    unreleased += 1;
                    slow.send(&Packet::PubRec(ack));
                }
            }
            other => panic!("expected PUBLISH or PUBREL, got {other:?}"),
        }
    }
    slow.expect_nothing();
}

/// A slow reader that goes away and comes back gets what it is owed.
#[test]
fn a_slow_reader_that_leaves_is_owed_the_same() {
    let server = server();
    let mut neighbours = Neighbours::new(&server);
    let mut stays = PropertyBuffer::new();
    stays.push(Property::SessionExpiryInterval(600));
    let connect = waypost_mqtt::Connect {
        properties: stays.as_properties(),
        ..connect_packet(V5, "slow")
    };
    let (mut slow, _) = RawClient::connect_with(&server, &connect);
    slow.subscribe("slow/t", QoS::AtLeastOnce);
    flood(&server, "slow/t", QoS::AtLeastOnce);
    slow.cut();
    let connect = waypost_mqtt::Connect {
        clean_start: false,
        ..connect
    };
    let (mut slow, answer) = RawClient::connect_with(&server, &connect);
    assert!(answer.conn_ack().session_present);
    for expected in 0..COUNT {
        assert_eq!(number(&slow.receive_message().publish()), expected);
    }
    slow.expect_nothing();
    neighbours.converse();
}

/// A client that publishes and does not read its acknowledgements is not read any more, and holds nobody else up.
#[test]
fn a_publisher_that_does_not_read_its_acknowledgements() {
    let server = server();
    let mut neighbours = Neighbours::new(&server);
    let deaf = RawClient::connect(&server, V5, "deaf");
    deaf.stream().set_nonblocking(true).unwrap();
    let before = memory_kib(&server);
    let pings = [0xC0, 0].repeat(32 * 1024);
    let mut sent = 0;
    while sent < 64 * 1024 * 1024 {
        match std::io::Write::write(&mut deaf.stream(), &pings) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                neighbours.converse();
                let full = metric(&server, "waypost_outbox_bytes") > 0;
                if full {
                    break;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
    neighbours.converse();
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(
        grown < 16 * 1024,
        "{grown} KiB more after {sent} bytes of PINGREQ"
    );
}

/// Small messages count with what they cost: a slow reader of those is bounded, too.
#[test]
fn small_messages_to_a_slow_reader() {
    const SMALL: u32 = 400_000;
    let server = server();
    let mut neighbours = Neighbours::new(&server);
    let mut slow = RawClient::connect(&server, ProtocolVersion::V5, "slow-small");
    slow.subscribe("small", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "small-pub");
    let before = memory_kib(&server);
    for part in 0..SMALL / 1_000 {
        let mut bytes = Vec::new();
        for number in part * 1_000..(part + 1) * 1_000 {
            let payload = number.to_be_bytes();
            let publish = Publish {
                topic: "small",
                payload: &payload,
                ..empty_publish()
            };
            waypost_mqtt::encode(&Packet::Publish(publish), V5, &mut bytes);
        }
        publisher.send_raw(&bytes);
    }
    publisher.fence();
    neighbours.converse();
    let grown = memory_kib(&server).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB more");
    let dropped = metric(&server, "waypost_dropped_qos0_outbox_total");
    let numbers: Vec<u32> = slow
        .drain()
        .iter()
        .map(|packet| number(&packet.publish()))
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
    assert_eq!(numbers.last(), Some(&(SMALL - 1)));
    assert_eq!(numbers.len() as u64 + dropped, u64::from(SMALL));
}
