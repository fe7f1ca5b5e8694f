//! Delayed messages with the built program: real clients, and a server that is killed while they wait.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::float_cmp,
    clippy::indexing_slicing
)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use waypost_mqtt::{
    Ack, Connect, Packet, PacketId, Property, PropertyBuffer,
    ProtocolVersion::{V5, V311},
    Publish, QoS, ReasonCode,
};
use waypost_tests::{
    LIMIT, Program, RawClient, Received, Run, Running, Server, ServerOptions, connect_packet,
    empty_publish, required_program, waypost,
};

fn properties(of: &[(&str, &str)]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    for (name, value) in of {
        buffer.push(Property::UserProperty(name, value));
    }
    buffer
}

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

/// Publishes at `QoS` 1 under a name, and returns PUBACK's reason.
fn named(client: &mut RawClient, payload: &[u8], delay: &str, delay_id: &str) -> ReasonCode {
    let properties = properties(&[("waypost-delay", delay), ("waypost-delay-id", delay_id)]);
    let publish = Publish {
        topic: "t",
        qos: QoS::AtLeastOnce,
        packet_id: Some(client.next_packet_id()),
        properties: properties.as_properties(),
        payload,
        ..empty_publish()
    };
    client.send(&Packet::Publish(publish));
    client.receive().pub_ack().reason
}

/// For every program: `mosquitto_pub` and `mosquitto_sub` know the long names too.
fn arguments(server: &Server, words: &str) -> Vec<String> {
    let address = server.mqtt();
    let server = [
        "--host".into(),
        address.ip().to_string(),
        "-p".into(),
        address.port().to_string(),
    ];
    let words = words.split(' ').map(str::to_owned);
    server.into_iter().chain(words).collect()
}

/// Takes messages until there are so many, and completes their exchanges.
fn take(client: &mut RawClient, count: usize, came: &mut Vec<String>) {
    let mut unfinished = 0;
    while came.len() < count || unfinished > 0 {
        let received = client.receive();
        let ack = |packet_id: PacketId| Ack::new(packet_id, ReasonCode::Success);
        match received.packet() {
            Packet::Publish(publish) => {
                came.push(publish.topic.to_owned());
                let ack = ack(publish.packet_id.unwrap());
                if publish.qos == QoS::AtLeastOnce {
                    client.send(&Packet::PubAck(ack));
                } else {
                    client.send(&Packet::PubRec(ack));
                    unfinished += 1;
                }
            }
            Packet::PubRel(released) => {
                client.send(&Packet::PubComp(ack(released.packet_id)));
                unfinished -= 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Goal: nothing is lost and nothing comes twice or too early, whenever the server is killed. Method: messages of two
/// delays; `kill -9` behind the last acknowledgement, and again when the first ones have come.
#[test]
fn a_killed_server_publishes_each_once() {
    for shards in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let options = ServerOptions::new()
            .shards(shards)
            .data_dir(directory.path());
        let mut server = options.clone().start();
        let mut subscriber = lasting(&server, "subscriber");
        subscriber.subscribe("t/#", QoS::ExactlyOnce);
        let mut publisher = RawClient::connect(&server, V311, "publisher");
        let begun = Instant::now();
        for number in 0..40 {
            let delay = if number % 2 == 0 { 2 } else { 4 };
            let qos = QoS::try_from(1 + number % 4 / 2).unwrap();
            publisher.publish(&format!("$delayed/{delay}/t/{number}"), qos, b"x");
        }
        assert_eq!(server.metric("waypost_delayed_messages"), 40.0);
        server.signal(Signal::KILL);
        server.wait();
        let mut came = Vec::new();
        for (delay, count) in [(2, 20), (4, 40)] {
            let server = options.clone().start();
            let mut subscriber = lasting(&server, "subscriber");
            take(&mut subscriber, count, &mut came);
            assert!(
                begun.elapsed() >= Duration::from_secs(delay),
                "{shards} shards"
            );
            subscriber.fence();
            let mut server = server;
            server.signal(Signal::KILL);
            server.wait();
        }
        came.sort();
        let mut expect: Vec<_> = (0..40).map(|number| format!("t/{number}")).collect();
        expect.sort();
        assert_eq!(came, expect, "{shards} shards");
        let server = options.clone().start();
        // A PUBREL may come again: its PUBCOMP was not on disk.
        let left = lasting(&server, "subscriber").drain();
        let is_message = |left: &Received| matches!(left.packet(), Packet::Publish(_));
        assert!(!left.iter().any(is_message), "{left:?}");
        assert_eq!(server.metric("waypost_delayed_messages"), 0.0);
    }
}

/// With MQTT 5 by properties: replaced, cancelled and counted, on one shard and on two.
#[test]
fn names_replace_and_cancel() {
    for shards in [1, 2] {
        let server = ServerOptions::new().shards(shards).start();
        let mut subscriber = RawClient::connect(&server, V5, "subscriber");
        subscriber.subscribe("t", QoS::AtMostOnce);
        // With two shards, one of these is not at home.
        for id in ["p1", "p2", "p3", "p4"] {
            let mut publisher = RawClient::connect(&server, V5, id);
            assert_eq!(
                named(&mut publisher, b"one", "3600", id),
                ReasonCode::Success
            );
            let two = format!("two {id}");
            assert_eq!(
                named(&mut publisher, two.as_bytes(), "1", id),
                ReasonCode::Success
            );
            let message = subscriber.receive_message();
            assert_eq!(message.publish().payload, two.as_bytes());
            assert!(message.publish().properties.is_empty());
            assert_eq!(
                named(&mut publisher, b"three", "1", "other"),
                ReasonCode::Success
            );
            assert_eq!(
                named(&mut publisher, b"", "0", "other"),
                ReasonCode::Success
            );
            let nothing = named(&mut publisher, b"", "0", "other");
            assert_eq!(nothing, ReasonCode::NoMatchingSubscribers);
            publisher.disconnect();
        }
        for (name, expect) in [
            ("waypost_delayed_accepted_total", 12.0),
            ("waypost_delayed_released_total", 4.0),
            ("waypost_delayed_replaced_total", 4.0),
            ("waypost_delayed_cancelled_total", 4.0),
            ("waypost_delayed_messages", 0.0),
        ] {
            server.wait_for_metric(name, expect);
            assert_eq!(server.metric(name), expect, "{name}");
        }
        subscriber.fence();
    }
}

/// Debian's programs, by topic at 3.1.1 and by property at 5, and our own with `--delay` and `--delay-id`.
#[test]
fn as_a_user_types_it() {
    let server = Server::start();
    let (Some(mut subscribe), Some(_)) = (
        required_program(Program::MosquittoSub),
        required_program(Program::MosquittoPub),
    ) else {
        return;
    };
    subscribe.args(arguments(&server, "-t lamp/# -v -C 4 -W 30"));
    let subscriber = Running::start(subscribe);
    server.wait_for_metric("waypost_subscriptions", 1.0);
    let begun = Instant::now();
    for words in [
        "-V mqttv311 -q 1 -t $delayed/1/lamp/1 -m off",
        "-V mqttv5 -q 1 -t lamp/2 -m off -D publish user-property waypost-delay 2",
    ] {
        let command = required_program(Program::MosquittoPub).unwrap();
        Run::to_end(command, arguments(&server, words)).expect_success();
    }
    for words in [
        "pub -q 1 -t lamp/5 -m never --delay 3600 --delay-id x",
        "pub -q 1 -t lamp/3 -m off --delay 3",
        "pub -V mqttv311 -q 1 -t lamp/4 -m off --delay 4",
        "pub -q 1 -t lamp/5 -n --delay 0 --delay-id x",
    ] {
        let (command, words) = words.split_once(' ').unwrap();
        let words = arguments(&server, words);
        let words = [command.to_owned()].into_iter().chain(words);
        Run::to_end(waypost(), words).expect_success();
    }
    let expect = "lamp/1 off\nlamp/2 off\nlamp/3 off\nlamp/4 off\n";
    assert_eq!(subscriber.finish().expect_success(), expect);
    assert!(begun.elapsed() >= Duration::from_secs(4));
    assert!(begun.elapsed() < LIMIT);
    assert_eq!(server.metric("waypost_delayed_messages"), 0.0);
    let wrong = arguments(&server, "-V mqttv311 -t a -m x --delay 1 --delay-id x");
    let run = Run::to_end(waypost(), [vec!["pub".to_owned()], wrong].concat());
    assert!(
        !run.success && run.stderr.contains("--delay-id"),
        "{}",
        run.stderr
    );
}
