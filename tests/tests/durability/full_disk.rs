//! A small file system that fills up: negative acknowledgements, readiness, what still works, and recovery without a
//! restart.

use std::{path::Path, process::Command};

use tempfile::TempDir;
use waypost_mqtt::{Packet, ProtocolVersion, Publish, QoS, ReasonCode};
use waypost_tests::{LIMIT, RawClient, Server, ServerOptions, empty_publish, wait_for};

use crate::plain::{durable, take};

const V5: ProtocolVersion = ProtocolVersion::V5;
/// The file system, and what a file of nobody's takes of it until room is made.
const SIZE_MIB: usize = 24;
const FILLER_MIB: usize = 8;
const PAYLOAD_BYTES: usize = 64 * 1024;
const CONFIGURATION: &str = "[store]\ncompress = \"identity\"\nsegment_bytes = \"1MiB\"\n";

/// A file system of its own in memory, gone when dropped.
struct Small(TempDir);

impl Small {
    fn mount() -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = format!("size={SIZE_MIB}m");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(directory.path())
            .output();
        if !mount.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: no file system may be mounted here");
            return None;
        }
        Some(Self(directory))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number:08} ").into_bytes();
    payload.resize(PAYLOAD_BYTES, b'.');
    payload
}

/// Publishes until the server refuses; how many it took before that.
fn fill(publisher: &mut RawClient) -> usize {
    for number in 0..SIZE_MIB * 1024 * 1024 / PAYLOAD_BYTES {
        let payload = payload(number);
        let packet_id = Some(publisher.next_packet_id());
        let (qos, payload) = (QoS::AtLeastOnce, payload.as_slice());
        publisher.send(&Packet::Publish(Publish {
            topic: "full/disk",
            qos,
            payload,
            packet_id,
            ..empty_publish()
        }));
        match publisher.receive().pub_ack().reason {
            ReasonCode::Success => {}
            ReasonCode::QuotaExceeded => return number,
            other => panic!("PUBACK with {other:?}"),
        }
    }
    panic!("more was acknowledged than there is room for");
}

/// DESIGN, refusal: MQTT 5 is told 0x97, 3.1.1 is closed without an acknowledgement, readiness is false and says why,
/// reads go on; with room again all is as before, without a restart; and nothing acknowledged is lost.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let Some(small) = Small::mount() else {
        return;
    };
    let filler = small.path().join("filler");
    std::fs::write(&filler, vec![1; FILLER_MIB * 1024 * 1024]).expect("there is room for it");
    let options = ServerOptions::new()
        .data_dir(&small.path().join("data"))
        .configuration(CONFIGURATION);
    let server = options.clone().start();
    assert_eq!(server.get("/health/ready").0, 200);
    let mut subscriber = durable(&server, "subscriber");
    subscriber.subscribe("full/#", QoS::AtLeastOnce);
    subscriber.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let taken = fill(&mut publisher);
    assert!(taken > 0);

    let (status, reason) = server.get("/health/ready");
    assert_eq!(status, 503, "{reason}");
    assert!(reason.contains("disk is full"), "{reason}");
    old_client_is_closed(&server);
    // QoS 2 is refused in its PUBREC, and its identifier is free again.
    let packet_id = Some(publisher.next_packet_id());
    for _ in 0..2 {
        let publish = Publish {
            topic: "full/two",
            qos: QoS::ExactlyOnce,
            payload: b"two",
            packet_id,
            ..empty_publish()
        };
        publisher.send(&Packet::Publish(publish));
        assert_eq!(
            publisher.receive().pub_rec().reason,
            ReasonCode::QuotaExceeded
        );
    }
    let mut refused = durable(&server, "subscriber");
    // What was acknowledged is read meanwhile, and what needs no disk works.
    let first = refused.receive();
    assert_eq!(first.publish().payload, payload(0));
    publisher.publish("nobody/durable", QoS::AtLeastOnce, b"live");
    refused.cut();

    std::fs::remove_file(&filler).expect("the filler is there");
    wait_for("the server to be ready again", LIMIT, || {
        (server.get("/health/ready").0 == 200).then_some(())
    });
    publisher.publish("full/disk", QoS::AtLeastOnce, &payload(taken + 1));
    let mut numbers = heard(&server, taken + 1);
    // The refused message is nowhere.
    let mut expected: Vec<usize> = (0..taken).chain([taken + 1]).collect();
    assert_eq!(numbers, expected);
    drop(server);
    let server = options.start();
    publisher = RawClient::connect(&server, V5, "publisher");
    publisher.publish("full/disk", QoS::AtLeastOnce, &payload(taken + 2));
    numbers.extend(heard(&server, 1));
    expected.push(taken + 2);
    assert_eq!(numbers, expected);
}

/// A client of 3.1.1 cannot be told: it is closed, and will send again.
fn old_client_is_closed(server: &Server) {
    let mut old = RawClient::connect(server, ProtocolVersion::V311, "old");
    let packet_id = Some(old.next_packet_id());
    let payload = payload(0);
    let publish = Publish {
        topic: "full/old",
        qos: QoS::AtLeastOnce,
        payload: &payload,
        packet_id,
        ..empty_publish()
    };
    old.send(&Packet::Publish(publish));
    old.expect_closed();
}

/// The numbers of so many messages that wait for the subscriber.
fn heard(server: &Server, count: usize) -> Vec<usize> {
    let mut subscriber = durable(server, "subscriber");
    let messages = take(&mut subscriber, count);
    subscriber.disconnect();
    let number = |text: &[u8]| {
        String::from_utf8_lossy(&text[..8])
            .parse()
            .expect("a number")
    };
    messages
        .iter()
        .map(|message| number(message.publish().payload))
        .collect()
}
