//! What clients of one server do to each other, and what they must not: slow readers, other shards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use waypost_mqtt::{ProtocolVersion::V5, QoS};
use waypost_tests::{RawClient, Server, ServerOptions};

const PAYLOAD_BYTES: usize = 64 * 1024;
/// More than the kernel's socket buffers and an outbox hold together.
const MESSAGES: usize = 300;

fn numbered(number: usize) -> Vec<u8> {
    let mut payload = vec![0; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&(number as u64).to_be_bytes());
    payload
}

fn number(payload: &[u8]) -> usize {
    assert_eq!(payload.len(), PAYLOAD_BYTES);
    let bytes: [u8; 8] = payload[..8].try_into().unwrap();
    usize::try_from(u64::from_be_bytes(bytes)).unwrap()
}

/// Goal: a subscriber that stops reading slows nobody and, at QoS 1, loses nothing. Method: two subscribers, one of which
/// does not read while more is published than buffers hold; the other gets each message before the next is published.
#[test]
fn a_reader_that_stops_slows_nobody_and_loses_nothing_at_qos_1() {
    let server = Server::start();
    let mut stopped = RawClient::connect(&server, V5, "stopped");
    stopped.subscribe("news", QoS::AtLeastOnce);
    let mut reading = RawClient::connect(&server, V5, "reading");
    reading.subscribe("news", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for sent in 0..MESSAGES {
        publisher.publish("news", QoS::AtLeastOnce, &numbered(sent));
        assert_eq!(number(reading.receive_message().publish().payload), sent);
    }
    server.wait_for_metric("waypost_slow_readers_total", 1.0);
    for sent in 0..MESSAGES {
        assert_eq!(number(stopped.receive_message().publish().payload), sent);
    }
    stopped.expect_nothing();
}

/// Goal: at QoS 0 a subscriber that stops reading costs a bounded outbox, and what it misses is counted, the oldest first.
/// Method: it begins to read only when everything is published; the last message must be there, some must not.
#[test]
fn a_reader_that_stops_loses_the_oldest_at_qos_0() {
    let server = ServerOptions::new()
        .environment("WAYPOST_LIMITS__OUTBOX_BYTES_MAX", "1MiB")
        .start();
    let mut stopped = RawClient::connect(&server, V5, "stopped");
    stopped.subscribe("news", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for sent in 0..MESSAGES {
        publisher.publish("news", QoS::AtLeastOnce, &numbered(sent));
    }
    server.wait_for_metric("waypost_dropped_qos0_outbox_total", 1.0);
    let mut heard = Vec::new();
    while heard.last() != Some(&(MESSAGES - 1)) {
        heard.push(number(stopped.receive().publish().payload));
    }
    stopped.expect_nothing();
    assert!(
        heard.is_sorted_by(|before, after| before < after),
        "{heard:?}"
    );
    let dropped = server.metric("waypost_dropped_qos0_outbox_total");
    assert_eq!(dropped.to_string(), (MESSAGES - heard.len()).to_string());
}

/// Goal: which shard a client is on makes no difference. Method: six clients on three shards, each publishes and hears.
#[test]
fn clients_on_different_shards_hear_each_other_in_order() {
    let server = ServerOptions::new().shards(3).start();
    let mut clients: Vec<RawClient> = (0..6)
        .map(|name| RawClient::connect(&server, V5, &format!("client-{name}")))
        .collect();
    for client in &mut clients {
        client.subscribe("room", QoS::ExactlyOnce);
    }
    for publisher in 0..clients.len() {
        for (index, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
            .into_iter()
            .enumerate()
        {
            let payload = format!("{publisher} {index}");
            let mut sender = RawClient::connect(&server, V5, "sender");
            sender.publish("room", qos, payload.as_bytes());
            for client in &mut clients {
                let heard = client.receive_message();
                assert_eq!(
                    (heard.publish().payload, heard.publish().qos),
                    (payload.as_bytes(), qos)
                );
            }
        }
    }
    assert!(server.metric("waypost_publishes_forwarded_total") > 0.0);
    server.wait_for_metric(
        "waypost_publishes_from_shards_total",
        server.metric("waypost_publishes_forwarded_total"),
    );
}

/// Goal: who has a PUBACK finds the message on every shard. Method: after each PUBACK a subscriber on another shard sends a
/// PINGREQ, and the message comes before the PINGRESP; then the topic's retained message is there for a new subscription,
/// once, with RETAIN 1, and gone when it was removed.
#[test]
fn an_acknowledged_message_is_on_every_shard() {
    let server = ServerOptions::new().shards(3).start();
    let connect = |role: &str| {
        [0, 1, 2].map(|number| RawClient::connect(&server, V5, &format!("{role}-{number}")))
    };
    let (mut publishers, mut subscribers) = (connect("publisher"), connect("subscriber"));
    for number in 0..300_usize {
        let topic = format!("acknowledged/{number}");
        let mut publish = |by: usize, payload: &[u8]| {
            publishers[(number + by) % 3].publish_retained(&topic, QoS::AtLeastOnce, payload);
        };
        publish(0, b"old");
        publish(1, b"new");
        let subscriber = &mut subscribers[(number / 3) % 3];
        subscriber.subscribe(&topic, QoS::AtMostOnce);
        let found = subscriber.drain();
        assert_eq!(found.len(), 1, "{number}: {found:?}");
        assert!(found[0].publish().retain);
        assert_eq!(found[0].publish().payload, b"new");
        publish(2, b"");
        let found = subscriber.drain();
        assert_eq!(found.len(), 1, "{number}: {found:?}");
        assert!(!found[0].publish().retain && found[0].publish().payload.is_empty());
        let other = &mut subscribers[(number / 3 + 1) % 3];
        other.subscribe(&topic, QoS::AtMostOnce);
        let found = other.drain();
        assert!(found.is_empty(), "{number}: {found:?}");
    }
}
