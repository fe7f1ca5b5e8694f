//! Statements of MQTT 5 on Topic Aliases (sections 3.1.2.11.5, 3.2.2.3.8, 3.3.2.3.4).

use std::collections::HashMap;

use waypost_mqtt::{
    Packet, Property, ProtocolVersion::V5, Publish, QoS, ReasonCode, ReasonCode::ProtocolError,
};
use waypost_tests::{RawClient, Received, Server, connect_packet, empty_publish};

use crate::wire::{
    check_disconnected, connect_properties, connect_session, properties, publish_bytes, server,
};

const TOPIC_ALIAS_INVALID: ReasonCode = ReasonCode::TopicAliasInvalid;

fn publish_alias(client: &mut RawClient, topic: &str, alias: u16, qos: QoS) {
    let alias = properties([Property::TopicAlias(alias)]);
    client.publish_with(&Publish {
        topic,
        qos,
        properties: alias.as_properties(),
        ..empty_publish()
    });
}

fn alias_property(alias: u16) -> Vec<u8> {
    [&[0x23][..], &alias.to_be_bytes()].concat()
}

/// The Topic Alias Maximum of the server's CONNACK.
fn maximum(server: &Server) -> u16 {
    let (_, answer) = RawClient::connect_with(server, &connect_packet(V5, "alias-maximum"));
    answer
        .conn_ack()
        .properties
        .topic_alias_maximum()
        .unwrap_or(0)
}

/// [MQTT-3.3.2-12]: every alias from 1 to the server's maximum is accepted, stands for its topic at every QoS, and can be given
/// another; it is not forwarded.
#[test]
fn every_alias_up_to_the_maximum_is_accepted() {
    let server = server();
    let maximum = maximum(&server);
    assert!(maximum >= 10, "the default allows some");
    let mut subscriber = RawClient::connect(&server, V5, "aliases-sub");
    subscriber.subscribe("aliases/#", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "aliases-pub");
    let mut expect = |publisher: &mut RawClient, topic: &str, alias, qos, means: &str| {
        publish_alias(publisher, topic, alias, qos);
        let received = subscriber.receive();
        assert_eq!(received.publish().topic, means);
        assert_eq!(received.publish().properties.topic_alias(), None);
    };
    for alias in [1, 2, maximum / 2, maximum - 1, maximum] {
        let topic = format!("aliases/{alias}");
        expect(&mut publisher, &topic, alias, QoS::AtMostOnce, &topic);
    }
    for alias in [maximum, 1, 2, maximum - 1] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            expect(&mut publisher, "", alias, qos, &format!("aliases/{alias}"));
        }
    }
    expect(
        &mut publisher,
        "aliases/new",
        1,
        QoS::AtMostOnce,
        "aliases/new",
    );
    expect(&mut publisher, "", 1, QoS::AtLeastOnce, "aliases/new");
}

/// [MQTT-3.3.2-8], [W5-3.3.4-b], [MQTT-3.2.2-17], [MQTT-3.3.2-9]: alias 0, and above the maximum: 0x94.
#[test]
fn aliases_out_of_range_are_refused() {
    let above = maximum(&server()) + 1;
    check_disconnected([
        (
            "0",
            publish_bytes(0x30, b"range", None, &alias_property(0)),
            TOPIC_ALIAS_INVALID,
        ),
        (
            "maximum + 1",
            publish_bytes(0x30, b"range", None, &alias_property(above)),
            TOPIC_ALIAS_INVALID,
        ),
        (
            "65,535",
            publish_bytes(0x32, b"range", Some(1), &alias_property(65_535)),
            TOPIC_ALIAS_INVALID,
        ),
    ]);
}

/// [W5-3.3.2.1-a] (no topic, no alias), [W5-3.3.4-c] (an alias that means nothing yet), [W5-3.3.2.3.4-a] (two aliases).
#[test]
fn a_topic_or_a_known_alias_is_needed() {
    let two = [alias_property(1), alias_property(1)].concat();
    check_disconnected([
        (
            "neither",
            publish_bytes(0x30, b"", None, &[]),
            ProtocolError,
        ),
        (
            "neither at QoS 1",
            publish_bytes(0x32, b"", Some(1), &[]),
            ProtocolError,
        ),
        (
            "unknown alias",
            publish_bytes(0x30, b"", None, &alias_property(1)),
            ProtocolError,
        ),
        (
            "two aliases",
            publish_bytes(0x30, b"t", None, &two),
            ProtocolError,
        ),
    ]);
}

/// [MQTT-3.3.2-7]: aliases end with the connection, also in a session that goes on.
#[test]
fn aliases_do_not_outlive_the_connection() {
    let server = server();
    let (mut client, _) = connect_session(&server, "outlive", true, 600);
    publish_alias(&mut client, "outlive", 1, QoS::AtMostOnce);
    publish_alias(&mut client, "", 1, QoS::AtMostOnce);
    client.cut();
    let (mut client, session_present) = connect_session(&server, "outlive", false, 600);
    assert!(session_present);
    let alias = properties([Property::TopicAlias(1)]);
    client.send(&Packet::Publish(Publish {
        properties: alias.as_properties(),
        ..empty_publish()
    }));
    client.expect_refused(ProtocolError);
}

/// Resolves the aliases the server gives to one connection, and checks them against a maximum.
struct Aliases {
    maximum: u16,
    topics: HashMap<u16, String>,
}

impl Aliases {
    fn resolve(&mut self, received: &Received) -> String {
        let publish = received.publish();
        match publish.properties.topic_alias() {
            None => publish.topic.to_owned(),
            Some(alias) => {
                assert!((1..=self.maximum).contains(&alias), "{alias}");
                if !publish.topic.is_empty() {
                    self.topics.insert(alias, publish.topic.to_owned());
                }
                self.topics[&alias].clone()
            }
        }
    }
}

/// [MQTT-3.1.2-26], [MQTT-3.3.2-11], [MQTT-3.3.2-8]: the server's aliases are from 1 to the client's maximum, and mean what it said.
/// [MQTT-3.3.2-7]: on a new connection they are told anew.
#[test]
fn the_servers_aliases_stay_within_the_clients_maximum() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "within-pub");
    for maximum in [1, 2, 5, 65_535] {
        let session = [
            Property::SessionExpiryInterval(600),
            Property::TopicAliasMaximum(maximum),
        ];
        let (mut client, _) = connect_properties(&server, "within", session);
        client.subscribe("within/#", QoS::AtLeastOnce);
        for round in 0..2 {
            let mut aliases = Aliases {
                maximum,
                topics: HashMap::new(),
            };
            for number in (0..10).chain(0..10) {
                let topic = format!("within/{number}");
                publisher.publish(&topic, QoS::AtLeastOnce, b"x");
                assert_eq!(aliases.resolve(&client.receive_message()), topic);
            }
            if round == 0 {
                client.cut();
                let list = properties(session);
                let connect = waypost_mqtt::Connect {
                    clean_start: false,
                    properties: list.as_properties(),
                    ..connect_packet(V5, "within")
                };
                client = RawClient::connect_with(&server, &connect).0;
            }
        }
    }
}

/// [MQTT-3.1.2-27]: without Topic Alias Maximum, or with 0, the server sends no alias.
#[test]
fn no_aliases_to_a_client_that_wants_none() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "none-pub");
    let (absent, _) = connect_properties(&server, "none-absent", []);
    let (zero, _) = connect_properties(&server, "none-0", [Property::TopicAliasMaximum(0)]);
    for mut client in [absent, zero] {
        client.subscribe("none/t", QoS::AtMostOnce);
        for _ in 0..3 {
            publisher.publish("none/t", QoS::AtMostOnce, b"x");
            let received = client.receive();
            assert_eq!(received.publish().properties.topic_alias(), None);
            assert_eq!(received.publish().topic, "none/t");
        }
    }
}
