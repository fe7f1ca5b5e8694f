//! Statements of MQTT 5 on retained messages (sections 3.3.1.3, 3.8.3.1, 3.8.4).

use waypost_mqtt::{
    Properties, Property, ProtocolVersion::V5, Publish, QoS, RetainHandling, SubscriptionOptions,
};
use waypost_tests::{RawClient, Received, empty_publish};

use crate::wire::{pass_seconds, properties, server};

fn options(retain_handling: RetainHandling, retain_as_published: bool) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        retain_handling,
        retain_as_published,
        ..SubscriptionOptions::default()
    }
}

/// Subscribes with Retain Handling 0 and expects this to be retained: topic and payload, each sent with RETAIN 1.
#[track_caller]
fn expect_retained(client: &mut RawClient, filter: &str, expected: &[(&str, &[u8])]) {
    client.subscribe(filter, QoS::AtMostOnce);
    let received: Vec<_> = expected.iter().map(|_| client.receive()).collect();
    client.expect_nothing();
    client.unsubscribe(filter);
    let mut found: Vec<_> = received.iter().map(content).collect();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert!(received.iter().all(|packet| packet.publish().retain));
}

fn content(received: &Received) -> (&str, &[u8]) {
    let publish = received.publish();
    (publish.topic, publish.payload)
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-9]: the last message with RETAIN 1 is kept for its topic, at any QoS, and goes to later
/// subscribers with RETAIN 1.
#[test]
fn the_last_retained_message_is_kept() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "kept-pub");
    let mut late = RawClient::connect(&server, V5, "kept-late");
    for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]
        .into_iter()
        .enumerate()
    {
        let payload = [b'0' + u8::try_from(number).unwrap()];
        publisher.publish_retained("kept/a", qos, &payload);
        publisher.publish_retained("kept/b/c", qos, b"b");
        let expect: [(&str, &[u8]); 2] = [("kept/a", &payload), ("kept/b/c", b"b")];
        expect_retained(&mut late, "kept/#", &expect);
        expect_retained(&mut late, "kept/+", &expect[..1]);
    }
}

/// [MQTT-3.3.1-6], [MQTT-3.3.1-7]: an empty payload with RETAIN 1 is delivered as usual, removes what was retained, and is not
/// retained itself.
#[test]
fn an_empty_payload_removes_the_retained_message() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "empty-pub");
    let mut live = RawClient::connect(&server, V5, "empty-live");
    live.subscribe_with(
        "empty/t",
        options(RetainHandling::DoNotSend, true),
        Properties::EMPTY,
    );
    let mut late = RawClient::connect(&server, V5, "empty-late");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish_retained("empty/t", qos, b"kept");
        assert_eq!(live.receive_message().publish().payload, b"kept");
        expect_retained(&mut late, "empty/t", &[("empty/t", b"kept")]);
        publisher.publish_retained("empty/t", qos, b"");
        let received = live.receive_message();
        assert_eq!(
            (received.publish().payload, received.publish().retain),
            (&b""[..], true)
        );
        expect_retained(&mut late, "empty/#", &[]);
        publisher.publish_retained("empty/t", qos, b"");
        assert_eq!(live.receive_message().publish().payload, b"");
        expect_retained(&mut late, "empty/#", &[]);
    }
}

/// [MQTT-3.3.1-8]: RETAIN 0 neither stores nor removes, an empty payload neither.
#[test]
fn retain_0_leaves_the_retained_message() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "leaves-pub");
    let mut late = RawClient::connect(&server, V5, "leaves-late");
    publisher.publish("leaves/t", QoS::AtLeastOnce, b"passing");
    expect_retained(&mut late, "leaves/#", &[]);
    publisher.publish_retained("leaves/t", QoS::AtLeastOnce, b"kept");
    publisher.publish("leaves/t", QoS::AtLeastOnce, b"passing");
    publisher.publish("leaves/t", QoS::AtLeastOnce, b"");
    expect_retained(&mut late, "leaves/#", &[("leaves/t", b"kept")]);
}

/// [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.8.4-4], [MQTT-3.8.4-3]: Retain Handling 0 sends at each SUBSCRIBE, 1 only
/// for a subscription that is new, 2 never.
#[test]
fn retain_handling_decides_when_to_send() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "handling-pub");
    publisher.publish_retained("handling/t", QoS::AtLeastOnce, b"kept");
    let mut client = RawClient::connect(&server, V5, "handling");
    let expect = |client: &mut RawClient, handling, count| {
        client.subscribe_with("handling/+", options(handling, false), Properties::EMPTY);
        for _ in 0..count {
            let received = client.receive_message();
            assert_eq!(content(&received), ("handling/t", &b"kept"[..]));
            assert!(received.publish().retain);
        }
        client.expect_nothing();
    };
    expect(&mut client, RetainHandling::DoNotSend, 0);
    // The subscription is there by now.
    expect(&mut client, RetainHandling::SendIfNew, 0);
    expect(&mut client, RetainHandling::SendAtSubscribe, 1);
    expect(&mut client, RetainHandling::SendAtSubscribe, 1);
    client.unsubscribe("handling/+");
    expect(&mut client, RetainHandling::SendIfNew, 1);
    expect(&mut client, RetainHandling::SendIfNew, 0);
}

/// [MQTT-3.3.1-12], [MQTT-3.3.1-13]: Retain As Published 0 clears RETAIN on live messages, 1 leaves it as it was sent.
#[test]
fn retain_as_published() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "published-pub");
    let mut plain = RawClient::connect(&server, V5, "published-0");
    plain.subscribe_with(
        "published",
        options(RetainHandling::DoNotSend, false),
        Properties::EMPTY,
    );
    let mut as_published = RawClient::connect(&server, V5, "published-1");
    as_published.subscribe_with(
        "published",
        options(RetainHandling::DoNotSend, true),
        Properties::EMPTY,
    );
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publisher.publish_retained("published", qos, b"r");
        assert!(!plain.receive_message().publish().retain);
        assert!(as_published.receive_message().publish().retain);
        publisher.publish("published", qos, b"r");
        assert!(!plain.receive_message().publish().retain);
        assert!(!as_published.receive_message().publish().retain);
    }
}

/// [MQTT-3.8.4-4]: replacing a subscription loses no message: each of a stream of them arrives once.
#[test]
fn replacing_a_subscription_loses_nothing() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "replace-pub");
    let mut client = RawClient::connect(&server, V5, "replace");
    let handling = options(RetainHandling::DoNotSend, false);
    client.subscribe_with("replace", handling, Properties::EMPTY);
    for number in 0..50_u8 {
        publisher.publish("replace", QoS::AtLeastOnce, &[number]);
        let qos = if number % 2 == 0 {
            QoS::AtMostOnce
        } else {
            QoS::AtLeastOnce
        };
        client.send_raw(&waypost_tests::subscribe_bytes(
            V5,
            500,
            &[("replace", 0x20 | qos as u8)],
        ));
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        if let waypost_mqtt::Packet::Publish(publish) = client.receive().packet() {
            seen.push(publish.payload[0]);
        }
    }
    assert_eq!(seen, (0..50).collect::<Vec<u8>>());
}

/// [MQTT-3.3.2-5], [MQTT-3.3.2-6], [MQTT-4.3.3-13]: a retained message expires, too; until then its Message Expiry Interval tells
/// what is left of it.
#[test]
fn retained_messages_expire() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "retained-expiry-pub");
    for (topic, seconds) in [("retained-expiry/1", 1), ("retained-expiry/100", 100)] {
        let expiry = properties([Property::MessageExpiryInterval(seconds)]);
        publisher.publish_with(&Publish {
            topic,
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: expiry.as_properties(),
            payload: b"x",
            ..empty_publish()
        });
    }
    pass_seconds(&server, 2);
    let mut late = RawClient::connect(&server, V5, "retained-expiry-late");
    late.subscribe("retained-expiry/#", QoS::AtMostOnce);
    let received = late.receive();
    assert_eq!(received.publish().topic, "retained-expiry/100");
    let left_s = received
        .publish()
        .properties
        .message_expiry_interval()
        .unwrap();
    assert!((60..=98).contains(&left_s), "{left_s}");
    late.expect_nothing();
}

/// [MQTT-3.3.1-9], [MQTT-3.8.4-8]: a retained message comes at the lower of its QoS and the granted one, and with the
/// Subscription Identifier of the SUBSCRIBE that asked ([MQTT-3.3.4-3]).
#[test]
fn retained_messages_respect_qos_and_identifier() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "respect-pub");
    for (topic, qos) in [("respect/0", 0), ("respect/1", 1), ("respect/2", 2)] {
        publisher.publish_retained(topic, QoS::try_from(qos).unwrap(), b"x");
    }
    let mut late = RawClient::connect(&server, V5, "respect-late");
    for (granted, identifier) in [(0_u8, 7), (1, 8), (2, 268_435_455)] {
        let identified = properties([Property::SubscriptionIdentifier(identifier)]);
        let options = SubscriptionOptions {
            qos: QoS::try_from(granted).unwrap(),
            ..SubscriptionOptions::default()
        };
        for sent in 0..3_u8 {
            let topic = format!("respect/{sent}");
            late.subscribe_with(&topic, options, identified.as_properties());
            let received = late.receive_message();
            let publish = received.publish();
            assert_eq!(publish.topic, topic);
            assert_eq!(publish.qos as u8, sent.min(granted));
            assert!(
                publish
                    .properties
                    .subscription_identifiers()
                    .eq([identifier])
            );
        }
    }
}
