//! `[[topic]] seal` as clients meet it: paho, and packets by hand where a client library hides the answer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use waypost_mqtt::{
    Packet, Property, PropertyBuffer,
    ProtocolVersion::{V5, V311},
    Publish, QoS, ReasonCode, Topic, Will,
};
use waypost_tests::{
    Program, RawClient, Run, Server, ServerOptions, connect_packet, empty_publish, required_program,
};

const POLICIES: &str = r##"
[[topic]]
filter = "chat/#"
seal = "required"

[[topic]]
filter = "log/+"
seal = "refused"

[[stream]]
name = "all"
filters = ["#"]
"##;

/// A `COSE_Encrypt0` as anybody may write it: what is in it nobody here can open.
fn sealed() -> Vec<u8> {
    let head = [
        0xd0, 0x83, 0x43, 0xa1, 0x01, 0x03, 0xa1, 0x05, 0x4c, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
        0x51,
    ];
    [&head[..], &[7; 17]].concat()
}

fn cose() -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::ContentType("application/cose"));
    properties
}

fn server() -> Server {
    ServerOptions::new().configuration(POLICIES).start()
}

/// Publishes; gives the reason of the answer and its Reason String.
fn publish(
    client: &mut RawClient,
    topic: &str,
    qos: QoS,
    payload: &[u8],
    properties: &PropertyBuffer,
) -> (ReasonCode, String) {
    let packet_id = client.next_packet_id();
    client.send(&Packet::Publish(Publish {
        topic,
        qos,
        payload,
        retain: true,
        packet_id: Some(packet_id),
        properties: properties.as_properties(),
        ..empty_publish()
    }));
    let answer = client.receive();
    let (Packet::PubAck(ack) | Packet::PubRec(ack)) = answer.packet() else {
        panic!("{:?}", answer.packet());
    };
    let why = ack.properties.reason_string().unwrap_or_default();
    (ack.reason, why.to_owned())
}

#[test]
fn paho_is_told_what_to_do() {
    let Some(python) = required_program(Program::Python) else {
        return;
    };
    let server = server();
    let url = format!("mqtt://{}", server.mqtt());
    Run::to_end(python, ["python/policies.py", &url, "seal"]).expect_success();
    assert!((server.metric("waypost_publishes_unsealed_refused_total") - 1.0).abs() < 0.5);
    assert!((server.metric("waypost_publishes_sealed_refused_total") - 1.0).abs() < 0.5);
}

/// Goal: nothing of what is refused is kept. Method: at each `QoS`, retained, and in a stream that has everything; then
/// who comes later, and who reads from the beginning.
#[test]
fn refused_messages_are_nowhere() {
    let server = server();
    let mut watcher = RawClient::connect(&server, V5, "watcher");
    watcher.subscribe("$events/client/denied", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "publisher");
    let none = PropertyBuffer::new();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (reason, why) = publish(&mut publisher, "chat/a", qos, b"plain", &none);
        assert_eq!(reason, ReasonCode::ImplementationSpecificError);
        assert!(
            why.starts_with("the policy of chat/# takes only sealed"),
            "{why}"
        );
        // Structure without its Content Type, and the Content Type without structure.
        for (payload, properties) in [(sealed(), &none), (b"plain".to_vec(), &cose())] {
            let (reason, _) = publish(&mut publisher, "chat/a", qos, &payload, properties);
            assert_eq!(reason, ReasonCode::ImplementationSpecificError);
        }
        let (reason, why) = publish(&mut publisher, "$delayed/1/log/a", qos, &sealed(), &cose());
        assert_eq!(reason, ReasonCode::ImplementationSpecificError);
        assert!(
            why.starts_with("the policy of log/+ takes no sealed"),
            "{why}"
        );
    }
    publisher.publish("chat/a", QoS::AtMostOnce, b"plain");
    let mut old = RawClient::connect(&server, V311, "old");
    old.publish("chat/a", QoS::AtLeastOnce, b"plain");
    for _ in 0..10 {
        let told = watcher.receive_message();
        let told = String::from_utf8(told.publish().payload.to_vec()).unwrap();
        assert!(
            told.contains("\"reason_code\":131,\"reason\":\"the policy of "),
            "{told}"
        );
    }
    let (reason, _) = publish(
        &mut publisher,
        "chat/a",
        QoS::AtLeastOnce,
        &sealed(),
        &cose(),
    );
    assert!(!reason.is_error());
    let mut reader = RawClient::connect(&server, V5, "reader");
    for filter in ["chat/#", "$from/last=100/#"] {
        reader.subscribe(filter, QoS::AtLeastOnce);
        let got = reader.receive_message();
        assert_eq!(got.publish().payload, sealed(), "{filter}");
    }
    reader.expect_nothing();
}

#[test]
fn a_will_is_refused_with_its_connect() {
    let server = server();
    let connect = |version, payload: &[u8], properties: &PropertyBuffer| {
        let mut client = RawClient::open(server.mqtt(), version);
        let mut connect = connect_packet(version, "c");
        connect.will = Some(Will {
            topic: Topic::parse("chat/will").unwrap(),
            payload,
            qos: QoS::AtMostOnce,
            retain: false,
            properties: properties.as_properties(),
        });
        client.send(&Packet::Connect(connect));
        let answer = client.receive();
        let why = answer.conn_ack().properties.reason_string();
        (answer.conn_ack().reason, why.unwrap_or_default().to_owned())
    };
    let none = PropertyBuffer::new();
    let (reason, why) = connect(V5, b"plain", &none);
    assert_eq!(reason, ReasonCode::ImplementationSpecificError);
    assert!(
        why.starts_with("the policy of chat/# takes only sealed"),
        "{why}"
    );
    assert_eq!(connect(V5, &sealed(), &cose()).0, ReasonCode::Success);
    assert_eq!(connect(V311, &sealed(), &none).0, ReasonCode::Success);
}
