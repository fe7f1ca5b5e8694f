//! Dead letters with the built program: whoever reads them, and a server that is killed in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;

use rustix::process::Signal;
use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Property, PropertyBuffer, ProtocolVersion::V5, Publish, QoS,
    ReasonCode,
};
use waypost_tests::{
    LIMIT, RawClient, Received, Server, ServerOptions, connect_packet, empty_publish, wait_for,
};

const POLICY: &str = r#"
[[topic]]
filter = "orders/+"
dead_letter = "dead/orders"
max_deliveries = 2
"#;

/// A session that outlives its connection.
fn lasting(server: &Server, client_id: &str) -> RawClient {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::SessionExpiryInterval(600));
    let connect = Connect {
        clean_start: false,
        properties: properties.as_properties(),
        ..connect_packet(V5, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

/// Publishes a message at `QoS` 2 whose payload is its topic; returns PUBREC's reason.
fn publish(client: &mut RawClient, topic: &str, expiry_s: Option<u32>) -> ReasonCode {
    let mut properties = PropertyBuffer::new();
    if let Some(expiry_s) = expiry_s {
        properties.push(Property::MessageExpiryInterval(expiry_s));
    }
    let publish = Publish {
        topic,
        qos: QoS::ExactlyOnce,
        packet_id: Some(client.next_packet_id()),
        properties: properties.as_properties(),
        payload: topic.as_bytes(),
        ..empty_publish()
    };
    client.send(&Packet::Publish(publish));
    let (packet_id, reason) = {
        let received = client.receive();
        let ack = received.pub_rec();
        (ack.packet_id, ack.reason)
    };
    client.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    client.receive().pub_comp();
    reason
}

/// Somebody who reads dead letters at `QoS` 2, whatever happens to the server.
#[derive(Default)]
struct Reader {
    /// Identifiers of what was taken over and not released.
    held: BTreeSet<PacketId>,
    /// `topic reason count` of each.
    letters: Vec<String>,
}

impl Reader {
    /// Takes letters until there are so many, and nothing is unfinished.
    fn read(&mut self, client: &mut RawClient, count: usize) {
        while self.letters.len() < count || !self.held.is_empty() {
            let received = client.receive();
            self.take(client, &received);
        }
    }

    fn take(&mut self, client: &mut RawClient, received: &Received) {
        let ack = |packet_id| Ack::new(packet_id, ReasonCode::Success);
        match received.packet() {
            Packet::PubRel(released) => {
                self.held.remove(&released.packet_id);
                client.send(&Packet::PubComp(ack(released.packet_id)));
            }
            Packet::Publish(publish) => {
                assert_eq!(
                    (publish.topic, publish.qos),
                    ("dead/orders", QoS::ExactlyOnce)
                );
                assert_eq!(publish.properties.message_expiry_interval(), None);
                let packet_id = publish.packet_id.unwrap();
                if self.held.insert(packet_id) {
                    self.letters.push(letter(&publish));
                }
                client.send(&Packet::PubRec(ack(packet_id)));
            }
            other => panic!("{other:?}"),
        }
    }

    /// All that were read, in the order of their text. No more come.
    fn end(mut self, client: &mut RawClient) -> Vec<String> {
        for received in client.drain() {
            self.take(client, &received);
        }
        self.letters.sort();
        self.letters
    }
}

fn letter(publish: &Publish<'_>) -> String {
    let property = |wanted: &str| {
        let mut all = publish.properties.user_properties();
        let found = all.find_map(|(name, value)| (name == wanted).then_some(value));
        found.unwrap_or_else(|| panic!("no {wanted}"))
    };
    let topic = property("waypost-dead-topic");
    assert_eq!(publish.payload, topic.as_bytes());
    let (reason, count) = (
        property("waypost-dead-reason"),
        property("waypost-dead-count"),
    );
    format!("{topic} {reason} {count}")
}

/// Goal: what expires while its receivers are away, or while nothing runs, is told of once, without anybody coming for it.
/// Method: one session and one group that never come back; the server is killed before anything expires, and again.
#[test]
fn what_expires_on_disk_is_read_by_the_reader_of_dead_letters() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions::new()
            .configuration(POLICY)
            .shards(shards)
            .data_dir(directory.path());
        let mut server = options.clone().start();
        lasting(&server, "reader").subscribe("dead/#", QoS::ExactlyOnce);
        lasting(&server, "away").subscribe("orders/+", QoS::ExactlyOnce);
        lasting(&server, "worker").subscribe("$share/packers/orders/+", QoS::ExactlyOnce);
        let mut publisher = RawClient::connect(&server, V5, "publisher");
        for number in 10..30 {
            let expiry_s = (number < 20).then_some(1);
            let topic = format!("orders/{number}");
            let reason = publish(&mut publisher, &topic, expiry_s);
            assert_eq!(reason, ReasonCode::Success);
        }
        server.signal(Signal::KILL);
        server.wait();
        let mut server = options.clone().start();
        let mut reader = Reader::default();
        while reader.letters.len() < 7 {
            let mut client = lasting(&server, "reader");
            let received = client.receive();
            reader.take(&mut client, &received);
            if reader.letters.len() == 3 {
                server.signal(Signal::KILL);
                server.wait();
                server = options.clone().start();
            }
        }
        server.signal(Signal::KILL);
        server.wait();
        let server = options.clone().start();
        let mut client = lasting(&server, "reader");
        reader.read(&mut client, 20);
        server.wait_for_metric("waypost_uptime_seconds", 3.0);
        assert_eq!(server.metric("waypost_dead_letters_waiting"), 0.0);
        let expect: Vec<_> = (20..40)
            .map(|number| format!("orders/{} expired 0", number / 2))
            .collect();
        assert_eq!(reader.end(&mut client), expect, "{shards} shards");
    }
}

/// Goal: what members refuse is told of once, whenever the server is killed. Method: members that refuse every other
/// message; rounds of messages, with `kill -9` in the middle of each.
#[test]
fn a_killed_server_tells_once_of_each_refused_message() {
    for (shards, qos) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
        let qos = QoS::try_from(qos).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions::new()
            .configuration(POLICY)
            .shards(shards)
            .data_dir(directory.path());
        let mut server = options.clone().start();
        lasting(&server, "reader").subscribe("dead/#", QoS::ExactlyOnce);
        lasting(&server, "member").subscribe("$share/packers/orders/+", qos);
        for round in 0..4_usize {
            let mut publisher = RawClient::connect(&server, V5, "publisher");
            for number in 0..20 {
                let topic = format!("orders/{}", 100 + 20 * round + number);
                assert_eq!(publish(&mut publisher, &topic, None), ReasonCode::Success);
            }
            let mut member = lasting(&server, "member");
            for _ in 0..7 + 3 * round {
                let received = member.receive();
                answer(&mut member, &received);
            }
            server.signal(Signal::KILL);
            server.wait();
            server = options.clone().start();
        }
        let mut member = lasting(&server, "member");
        let mut client = lasting(&server, "reader");
        let mut reader = Reader::default();
        // What the member's session is owed by now is read from the store: it comes when it comes.
        wait_for("40 dead letters", LIMIT, || {
            for received in member.drain() {
                answer(&mut member, &received);
            }
            for received in client.drain() {
                reader.take(&mut client, &received);
            }
            (reader.letters.len() >= 40 && reader.held.is_empty()).then_some(())
        });
        let found = reader.end(&mut client);
        let topics: Vec<_> = found
            .iter()
            .map(|letter| letter.split(' ').next())
            .collect();
        let expect = (100..180).filter(|number| number % 2 == 1);
        let expect: Vec<_> = expect.map(|number| format!("orders/{number}")).collect();
        let expect: Vec<_> = expect.iter().map(|topic| Some(topic.as_str())).collect();
        assert_eq!(topics, expect, "{shards} shards, {qos:?}");
    }
}

/// Refuses a message whose number is odd, takes over any other.
fn answer(member: &mut RawClient, received: &Received) {
    let publish = match received.packet() {
        Packet::PubRel(released) => {
            let ack = Ack::new(released.packet_id, ReasonCode::Success);
            member.send(&Packet::PubComp(ack));
            return;
        }
        Packet::Publish(publish) => publish,
        other => panic!("{other:?}"),
    };
    let is_odd = publish.topic.ends_with(['1', '3', '5', '7', '9']);
    let reason = if is_odd {
        ReasonCode::ImplementationSpecificError
    } else {
        ReasonCode::Success
    };
    let ack = Ack::new(publish.packet_id.unwrap(), reason);
    member.send(&match publish.qos {
        QoS::ExactlyOnce => Packet::PubRec(ack),
        _ => Packet::PubAck(ack),
    });
}

/// Goal: the bounds of queues make dead letters, those on dead letters drop them, and all is counted. Method: a queue of two
/// messages; and no letter may wait.
#[test]
fn full_queues_and_counters() {
    let options = ServerOptions::new()
        .configuration(POLICY)
        .arguments(["--set", "limits.queue_messages_max=2"]);
    let server = options.clone().start();
    let mut client = RawClient::connect(&server, V5, "reader");
    client.subscribe("dead/orders", QoS::ExactlyOnce);
    lasting(&server, "away").subscribe("orders/+", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    for number in 0..5 {
        publish(&mut publisher, &format!("orders/{number}"), None);
    }
    let mut reader = Reader::default();
    reader.read(&mut client, 3);
    assert_eq!(
        reader.end(&mut client),
        [2, 3, 4].map(|number| format!("orders/{number} queue-full 0"))
    );
    server.wait_for_metric("waypost_dead_letters_queue_full_total", 3.0);
    for name in ["expired", "refused", "max_deliveries", "dropped"] {
        let name = format!("waypost_dead_letters_{name}_total");
        assert_eq!(server.metric(&name), 0.0, "{name}");
    }
    for limit in [
        "dead_letters_waiting_max=0",
        "dead_letters_waiting_bytes_max=0B",
    ] {
        let set = format!("limits.{limit}");
        let server = options.clone().arguments(["--set", &set]).start();
        lasting(&server, "away").subscribe("orders/+", QoS::ExactlyOnce);
        let mut publisher = RawClient::connect(&server, V5, "publisher");
        for number in 0..5 {
            publish(&mut publisher, &format!("orders/{number}"), None);
        }
        server.wait_for_metric("waypost_dead_letters_dropped_total", 3.0);
        assert_eq!(server.metric("waypost_dead_letters_queue_full_total"), 0.0);
    }
}

/// A member that never acknowledges, until the policy's `max_deliveries`.
#[test]
fn what_nobody_finishes_is_told_of() {
    let server = ServerOptions::new().configuration(POLICY).start();
    let mut client = RawClient::connect(&server, V5, "reader");
    client.subscribe("dead/orders", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let mut members: Vec<_> = ["a", "b", "c"]
        .map(|id| {
            let mut member = RawClient::connect(&server, V5, id);
            member.subscribe("$share/packers/orders/+", QoS::AtLeastOnce);
            member
        })
        .into();
    publish(&mut publisher, "orders/1", None);
    for _ in 0..2 {
        let at = wait_for("a member to get it", LIMIT, || {
            members.iter_mut().position(|member| {
                let came = member.drain();
                came.iter()
                    .any(|received| received.publish().topic == "orders/1")
            })
        });
        members.remove(at).cut();
    }
    let mut reader = Reader::default();
    reader.read(&mut client, 1);
    assert_eq!(reader.letters, ["orders/1 max-deliveries 2"]);
    server.wait_for_metric("waypost_dead_letters_max_deliveries_total", 1.0);
}
