//! A start after a long life: one hundredth of what `cargo xtask bench store-start` measures.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss
)]

use std::collections::VecDeque;

use waypost_mqtt::{Connect, Packet, ProtocolVersion, Publish, QoS};
use waypost_tests::past::{Past, client_id, disk_bytes, topic};
use waypost_tests::{RawClient, Server, ServerOptions, connect_packet, empty_publish};

const SESSIONS: u64 = 10_000;
const DEBTORS: u64 = 1_000;

/// One hundredth of what the views may be behind.
const TAIL_BYTES: u64 = (64 << 20) / 100;
/// One append may go beyond.
const APPEND_BYTES: u64 = 512 << 10;
/// Header, chain block and seal of a segment.
const FOOTER_BYTES: u64 = 4 << 10;

/// Publishes without waiting for each answer.
const IN_FLIGHT: usize = 500;

/// Sessions that come at once.
const AT_ONCE: usize = 100;

const NEW: &[u8] = b"new";

/// A start reads the views, what they are behind, and the segments' headers and seals, and no more of a log of 100 MB;
/// every one of 10,000 subscriptions works then.
#[test]
fn a_start_reads_little_of_a_long_log_and_indexes_every_subscription() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let past = Past {
        sessions: SESSIONS,
        log_bytes: 100_000_000,
        debtors: DEBTORS,
        payload_bytes: 16_384,
        segment_bytes: 1 << 20,
        tail_bytes: TAIL_BYTES,
    };
    let left = past.leave(&data_dir);
    assert!(left.segments > 64, "{left:?}");
    assert!(disk_bytes(&data_dir) > past.log_bytes, "{left:?}");
    let server = ServerOptions::new().data_dir(&data_dir).shards(2).start();
    assert_eq!(server.get("/health/ready").0, 200);

    let log_read = server.metric("waypost_store_start_log_bytes");
    let log_bound = left.tail_bytes + APPEND_BYTES + left.segments * FOOTER_BYTES;
    assert!(left.tail_bytes <= TAIL_BYTES + APPEND_BYTES, "{left:?}");
    assert!(
        log_read >= left.tail_bytes as f64 && log_read <= log_bound as f64,
        "{log_read} B of the log were read, {log_bound} may be"
    );
    let views_read = server.metric("waypost_store_start_views_bytes");
    let views_bytes = server.metric("waypost_store_views_bytes");
    // Once to hold them against their checksums, once for what is in them.
    assert!(
        views_read > 0.0 && views_read <= 2.0 * views_bytes.max(left.views_bytes as f64),
        "{views_read} B of the views were read, they have {views_bytes} and may be read twice"
    );
    assert!((server.metric("waypost_subscriptions") - SESSIONS as f64).abs() < 0.5);

    publish_to_all(&server);
    for first in (1..=SESSIONS).step_by(AT_ONCE) {
        let sessions = first..(first + AT_ONCE as u64).min(SESSIONS + 1);
        let come = |session| come(&server, session);
        let clients: Vec<_> = sessions.clone().map(come).collect();
        for (mut client, session) in clients.into_iter().zip(sessions) {
            let answer = client.receive();
            assert!(answer.conn_ack().session_present, "{session}");
            let owed = (1..=left.messages).filter(|message| 1 + message % DEBTORS == session);
            let owed = if session <= DEBTORS { owed.count() } else { 0 };
            // What is old comes first.
            for old in 0..=owed {
                let received = client.receive_message();
                let publish = received.publish();
                assert_eq!(publish.topic, topic(session));
                assert_eq!(publish.payload == NEW, old == owed, "{session}: {old}");
            }
        }
    }
}

/// Sends the CONNECT of a session.
fn come(server: &Server, session: u64) -> RawClient {
    let client_id = client_id(session);
    let mut client = RawClient::open(server.mqtt(), ProtocolVersion::V311);
    client.send(&Packet::Connect(Connect {
        clean_start: false,
        ..connect_packet(ProtocolVersion::V311, &client_id)
    }));
    client
}

/// A message to each session.
fn publish_to_all(server: &Server) {
    let mut publisher = RawClient::connect(server, ProtocolVersion::V311, "publisher");
    let mut waiting = VecDeque::new();
    for session in 1..=SESSIONS {
        if waiting.len() == IN_FLIGHT {
            let packet_id = publisher.receive().pub_ack().packet_id;
            assert_eq!(Some(packet_id), waiting.pop_front());
        }
        let packet_id = publisher.next_packet_id();
        waiting.push_back(packet_id);
        publisher.send(&Packet::Publish(Publish {
            topic: &topic(session),
            qos: QoS::AtLeastOnce,
            payload: NEW,
            packet_id: Some(packet_id),
            ..empty_publish()
        }));
    }
    for packet_id in waiting {
        assert_eq!(publisher.receive().pub_ack().packet_id, packet_id);
    }
}
