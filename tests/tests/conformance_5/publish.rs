//! Statements of MQTT 5, section 3.3: PUBLISH, and what reaches the subscribers of it.

use waypost_mqtt::{
    Properties, Property, ProtocolVersion::V5, ProtocolVersion::V311, Publish, QoS,
    ReasonCode::MalformedPacket, ReasonCode::ProtocolError,
};
use waypost_tests::{RawClient, Server, empty_publish};

use crate::wire::{
    check_disconnected, connect_session, pass_seconds, properties, publish_bytes, server,
    take_messages, text,
};

/// [MQTT-3.3.1-4], [W5-3.3.1.2-a]: both QoS bits; [MQTT-3.3.1-2]: DUP at QoS 0; [MQTT-3.3.2-2], [MQTT-4.7.0-1]: wildcards in a Topic Name;
/// [MQTT-3.3.2-14]: wildcards in the Response Topic.
#[test]
fn publish_is_checked() {
    check_disconnected(
        [
            ("QoS 3", publish_bytes(0x36, b"t", Some(1), &[])),
            ("QoS 3, DUP", publish_bytes(0x3E, b"t", Some(1), &[])),
            ("DUP at QoS 0", publish_bytes(0x38, b"t", None, &[])),
            ("topic +", publish_bytes(0x30, b"+", None, &[])),
            ("topic a/+/b", publish_bytes(0x32, b"a/+/b", Some(1), &[])),
            ("topic #", publish_bytes(0x30, b"#", None, &[])),
            ("topic a/#", publish_bytes(0x34, b"a/#", Some(1), &[])),
            ("topic a+b", publish_bytes(0x30, b"a+b", None, &[])),
            (
                "Response Topic #",
                publish_bytes(0x30, b"t", None, b"\x08\0\x03a/#"),
            ),
            (
                "Response Topic +",
                publish_bytes(0x30, b"t", None, b"\x08\0\x01+"),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, MalformedPacket)),
    );
}

/// [MQTT-3.3.4-6]: a Subscription Identifier in a client's PUBLISH, also [W5-3.3.2.3.8-a] (0); properties given twice:
/// [W5-3.3.2.3.5-a], [W5-3.3.2.3.6-a], [W5-3.3.2.3.9-a].
#[test]
fn publish_properties_are_checked() {
    check_disconnected(
        [
            (
                "Subscription Identifier 1",
                publish_bytes(0x30, b"t", None, b"\x0B\x01"),
            ),
            (
                "Subscription Identifier 0",
                publish_bytes(0x30, b"t", None, b"\x0B\0"),
            ),
            (
                "Response Topic twice",
                publish_bytes(0x30, b"t", None, b"\x08\0\x01a\x08\0\x01a"),
            ),
            (
                "Correlation Data twice",
                publish_bytes(0x30, b"t", None, b"\x09\0\x01a\x09\0\x01a"),
            ),
            (
                "Content Type twice",
                publish_bytes(0x30, b"t", None, b"\x03\0\x01a\x03\0\x01a"),
            ),
            (
                "Message Expiry twice",
                publish_bytes(0x30, b"t", None, b"\x02\0\0\0\x01\x02\0\0\0\x01"),
            ),
            (
                "Payload Format twice",
                publish_bytes(0x30, b"t", None, b"\x01\x01\x01\x01"),
            ),
        ]
        .map(|(name, bytes)| (name, bytes, ProtocolError)),
    );
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-15], [MQTT-3.3.2-16], [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]: Payload Format, Response Topic, Correlation Data,
/// Content Type and User Properties reach every subscriber as they were, the last in their order; from the queue and from the
/// retained store as well.
#[test]
fn the_applications_properties_are_forwarded_unchanged() {
    let server = server();
    let long = "x".repeat(65_535);
    let list = properties([
        Property::UserProperty("z", "1"),
        Property::UserProperty("a", "\u{1F600}"),
        Property::ContentType("application/x; q=\"\u{e9}\""),
        Property::PayloadFormatIndicator(1),
        Property::UserProperty("z", "1"),
        Property::ResponseTopic("respond/here"),
        Property::UserProperty("", ""),
        Property::CorrelationData(&[0, 1, 0xFF, 0xC0, 0x80]),
        Property::UserProperty("long", &long),
    ]);
    let check = |properties: Properties<'_>| {
        let pairs: Vec<_> = properties.user_properties().collect();
        let expect = [
            ("z", "1"),
            ("a", "\u{1F600}"),
            ("z", "1"),
            ("", ""),
            ("long", &long[..]),
        ];
        assert_eq!(pairs, expect);
        assert_eq!(
            properties.content_type(),
            Some("application/x; q=\"\u{e9}\"")
        );
        assert_eq!(properties.payload_format_indicator(), Some(1));
        assert_eq!(properties.response_topic(), Some("respond/here"));
        assert_eq!(
            properties.correlation_data(),
            Some(&[0, 1, 0xFF, 0xC0, 0x80][..])
        );
        assert_eq!(properties.iter().count(), 9, "and nothing is added");
    };
    let (mut absent, _) = connect_session(&server, "unchanged-absent", true, 600);
    absent.subscribe("unchanged/#", QoS::ExactlyOnce);
    absent.cut();
    let mut live = RawClient::connect(&server, V5, "unchanged-live");
    live.subscribe("unchanged/#", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V5, "unchanged-pub");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish_with(&Publish {
            topic: "unchanged/t",
            qos,
            retain: true,
            properties: list.as_properties(),
            payload: b"payload",
            ..empty_publish()
        });
        let received = live.receive_message();
        check(received.publish().properties);
        assert_eq!(received.publish().payload, b"payload");
    }
    let mut late = RawClient::connect(&server, V5, "unchanged-late");
    late.subscribe("unchanged/t", QoS::ExactlyOnce);
    check(late.receive_message().publish().properties);
    let (mut absent, _) = connect_session(&server, "unchanged-absent", false, 0);
    for received in take_messages(&mut absent, 2) {
        check(received.publish().properties);
    }
}

/// [MQTT-3.3.2-17], [MQTT-3.3.2-18], [MQTT-3.3.2-20]: they are unchanged and in order, too, when Topic Alias and Message Expiry Interval,
/// which do not go on as they are, stand between them.
#[test]
fn properties_of_the_hop_are_taken_out_cleanly() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "hop");
    client.subscribe("hop", QoS::AtLeastOnce);
    let mut publisher = RawClient::connect(&server, V5, "hop-pub");
    let list = properties([
        Property::UserProperty("b", "1"),
        Property::TopicAlias(1),
        Property::UserProperty("a", "2"),
        Property::MessageExpiryInterval(100),
        Property::ContentType("c"),
        Property::UserProperty("b", "3"),
    ]);
    let publish = Publish {
        qos: QoS::AtLeastOnce,
        properties: list.as_properties(),
        ..empty_publish()
    };
    for topic in ["hop", ""] {
        publisher.publish_with(&Publish { topic, ..publish });
        let received = client.receive_message();
        let properties = received.publish().properties;
        let pairs: Vec<_> = properties.user_properties().collect();
        assert_eq!(pairs, [("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(properties.content_type(), Some("c"));
        assert_eq!(properties.topic_alias(), None);
        assert!(matches!(
            properties.message_expiry_interval(),
            Some(99 | 100)
        ));
        assert_eq!(properties.iter().count(), 5);
    }
}

/// [MQTT-3.3.2-4], [MQTT-3.3.2-16]: absent properties stay absent; 0 and empty are values.
#[test]
fn absent_and_empty_properties_differ() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "differ");
    client.subscribe("differ", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "differ-pub");
    let list = properties([
        Property::PayloadFormatIndicator(0),
        Property::CorrelationData(b""),
        Property::ContentType(""),
    ]);
    let publish = Publish {
        topic: "differ",
        properties: list.as_properties(),
        ..empty_publish()
    };
    publisher.publish_with(&publish);
    let received = client.receive();
    assert_eq!(
        received.publish().properties.payload_format_indicator(),
        Some(0)
    );
    assert_eq!(
        received.publish().properties.correlation_data(),
        Some(&b""[..])
    );
    assert_eq!(received.publish().properties.content_type(), Some(""));
    publisher.publish_with(&Publish {
        properties: Properties::EMPTY,
        ..publish
    });
    assert!(client.receive().publish().properties.is_empty());
}

/// [MQTT-3.3.2-3]: a PUBLISH goes to those only whose filter matches its Topic Name, under that name.
#[test]
fn a_publish_goes_to_matching_filters_only() {
    let server = Server::start();
    let mut publisher = RawClient::connect(&server, V5, "match-pub");
    let rows = [
        ("match/a/b", true),
        ("match/a/+", true),
        ("match/+/b", true),
        ("match/#", true),
        ("match/a/b/#", true),
        ("+/a/b", true),
        ("+/+/+", true),
        ("match/a", false),
        ("match/a/b/c", false),
        ("match/a/b/+", false),
        ("match/+", false),
        ("match/A/b", false),
        ("match/a/b ", false),
        ("/match/a/b", false),
        ("match/a/b/", false),
        ("match//a/b", false),
    ];
    for (filter, matches) in rows {
        let mut client = RawClient::connect(&server, V5, "match");
        client.subscribe(filter, QoS::AtMostOnce);
        publisher.publish("match/a/b", QoS::AtMostOnce, b"x");
        if matches {
            assert_eq!(client.receive().publish().topic, "match/a/b", "{filter}");
        }
        client.expect_nothing();
    }
}

/// [MQTT-3.3.2-5]: a message that expires before it is sent to an absent subscriber is deleted for that subscriber;
/// [MQTT-3.3.2-6]: what is left of the interval is told; without an interval there is no expiry.
#[test]
fn waiting_messages_expire() {
    let server = server();
    let (mut client, _) = connect_session(&server, "expiry", true, 600);
    client.subscribe("expiry/#", QoS::ExactlyOnce);
    client.disconnect();
    let mut live = RawClient::connect(&server, V5, "expiry-live");
    live.subscribe("expiry/#", QoS::AtMostOnce);
    let mut publisher = RawClient::connect(&server, V5, "expiry-pub");
    let expiries = [
        ("expiry/1", Some(1)),
        ("expiry/100", Some(100)),
        ("expiry/none", None),
    ];
    for (topic, seconds) in expiries {
        for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let mut list = waypost_mqtt::PropertyBuffer::new();
            if let Some(seconds) = seconds {
                list.push(Property::MessageExpiryInterval(seconds));
            }
            let properties = list.as_properties();
            publisher.publish_with(&Publish {
                topic,
                qos,
                properties,
                ..empty_publish()
            });
            let received = live.receive();
            assert_eq!(received.publish().topic, topic);
            let left_s = received.publish().properties.message_expiry_interval();
            assert!(left_s == seconds || left_s == Some(99), "{left_s:?}");
        }
    }
    pass_seconds(&server, 2);
    let (mut client, _) = connect_session(&server, "expiry", false, 0);
    let topics = ["expiry/100", "expiry/100", "expiry/none", "expiry/none"];
    for (received, topic) in take_messages(&mut client, 4).iter().zip(topics) {
        assert_eq!(received.publish().topic, topic);
        match received.publish().properties.message_expiry_interval() {
            Some(left_s) => assert!((60..=98).contains(&left_s), "{left_s}"),
            None => assert_eq!(topic, "expiry/none"),
        }
    }
    client.expect_nothing();
}

/// [MQTT-3.3.2-5]: an interval of 0 has passed at once for who is absent; who is there gets the message.
#[test]
fn an_expiry_of_zero_does_not_wait() {
    let server = server();
    let (mut client, _) = connect_session(&server, "at-once", true, 600);
    client.subscribe("at-once", QoS::AtLeastOnce);
    client.disconnect();
    let mut publisher = RawClient::connect(&server, V5, "at-once-pub");
    let list = properties([Property::MessageExpiryInterval(0)]);
    publisher.publish_with(&Publish {
        topic: "at-once",
        qos: QoS::AtLeastOnce,
        properties: list.as_properties(),
        ..empty_publish()
    });
    let (mut client, session_present) = connect_session(&server, "at-once", false, 0);
    assert!(session_present);
    client.expect_nothing();
}

/// [MQTT-3.3.1-3], [MQTT-3.3.2-3]: what 3.1.1 publishes arrives in version 5 and the other way round, the payload byte for byte.
#[test]
fn versions_understand_each_other() {
    let server = server();
    let payload: Vec<u8> = (0..=255).collect();
    for (from, to) in [(V311, V5), (V5, V311)] {
        let mut client = RawClient::connect(&server, to, "versions");
        client.subscribe("versions", QoS::ExactlyOnce);
        let mut publisher = RawClient::connect(&server, from, "versions-pub");
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish("versions", qos, &payload);
            let received = client.receive_message();
            assert_eq!(received.publish().payload, payload);
            assert_eq!(received.publish().qos, qos);
            assert!(received.publish().properties.is_empty());
        }
    }
}

/// [MQTT-4.7.3-1], [MQTT-4.7.3-3], [MQTT-4.7.3-4]: topics and filters from 1 to 65,535 bytes are taken as they are: case, spaces, accents in either
/// normal form, unassigned characters, empty levels.
#[test]
fn topics_are_taken_as_they_are() {
    let server = server();
    let longest = "l".repeat(65_535);
    let topics = [
        "/",
        "//",
        "A",
        "a",
        " ",
        "a b",
        "\u{e9}",
        "e\u{301}",
        "\u{FDD0}x",
        "\u{10FFFD}",
        "tab\there",
        "topic/",
        "/topic",
        "to//pic",
        longest.as_str(),
    ];
    let mut client = RawClient::connect(&server, V5, "as-they-are");
    for (topic, identifier) in topics.iter().zip(1..) {
        let list = properties([Property::SubscriptionIdentifier(identifier)]);
        client.subscribe_with(
            topic,
            waypost_mqtt::SubscriptionOptions::default(),
            list.as_properties(),
        );
    }
    let mut publisher = RawClient::connect(&server, V5, "as-they-are-pub");
    for (topic, identifier) in topics.iter().zip(1..) {
        publisher.publish(topic, QoS::AtMostOnce, b"x");
        let received = client.receive();
        assert_eq!(received.publish().topic, *topic);
        assert!(
            received
                .publish()
                .properties
                .subscription_identifiers()
                .eq([identifier])
        );
        client.expect_nothing();
    }
    assert_eq!(text(&longest).len(), 65_537);
}

/// [MQTT-4.7.2-1]: filters that begin with a wildcard do not match topics that begin with `$`.
#[test]
fn wildcards_do_not_match_dollar_topics() {
    let server = Server::start();
    let mut wild = RawClient::connect(&server, V5, "dollar-wild");
    for filter in ["#", "+/dollar", "+/#"] {
        wild.subscribe(filter, QoS::AtMostOnce);
        drop(wild.drain());
    }
    let mut named = RawClient::connect(&server, V5, "dollar-named");
    for filter in ["$dollar/#", "$dollar/+"] {
        named.subscribe(filter, QoS::AtMostOnce);
    }
    RawClient::connect(&server, V5, "dollar-pub").publish("$dollar/dollar", QoS::AtMostOnce, b"x");
    let topics: Vec<_> = wild
        .drain()
        .iter()
        .map(|packet| packet.publish().topic.to_owned())
        .collect();
    assert!(
        !topics.iter().any(|topic| topic.starts_with('$')),
        "{topics:?}"
    );
    let received = named.receive();
    assert_eq!(received.publish().topic, "$dollar/dollar");
}
