//! Statements of MQTT 3.1.1 on retained messages (section 3.3.1.3).

use waypost_mqtt::{ProtocolVersion::V311, QoS};
use waypost_tests::RawClient;

use crate::wire::{server, take_messages};

const QUALITIES: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

/// What a new subscription is sent at once: topic, payload, QoS, sorted; each with RETAIN 1, as [MQTT-3.3.1-8] says.
fn retained(server: &waypost_tests::Server, filter: &str) -> Vec<(String, Vec<u8>, u8)> {
    let mut client = RawClient::connect(server, V311, &crate::wire::unique("late"));
    client.subscribe(filter, QoS::ExactlyOnce);
    let mut found: Vec<_> = client
        .drain()
        .iter()
        .map(|received| {
            let publish = received.publish();
            assert!(publish.retain && !publish.dup, "{publish:?}");
            (
                publish.topic.to_owned(),
                publish.payload.to_vec(),
                publish.qos as u8,
            )
        })
        .collect();
    found.sort();
    found
}

fn message(topic: &str, payload: &[u8], qos: QoS) -> (String, Vec<u8>, u8) {
    (topic.to_owned(), payload.to_vec(), qos as u8)
}

/// [MQTT-3.3.1-5], [MQTT-3.3.1-6], [MQTT-3.3.1-7], [MQTT-3.3.1-8]: the last message with RETAIN 1 of each topic is kept with its QoS, and
/// sent to each new subscription that matches, with RETAIN 1; one at QoS 0 replaces what was there, too.
#[test]
fn the_last_retained_message_is_kept() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "kept-pub");
    publisher.publish_retained("kept/a", QoS::AtLeastOnce, b"a");
    publisher.publish_retained("kept/b/c", QoS::ExactlyOnce, b"b");
    for (number, qos) in QUALITIES.into_iter().cycle().take(6).enumerate() {
        let payload = [b'0' + u8::try_from(number).unwrap()];
        publisher.publish_retained("kept/a", qos, &payload);
        let a = message("kept/a", &payload, qos);
        let b = message("kept/b/c", b"b", QoS::ExactlyOnce);
        assert_eq!(retained(&server, "kept/#"), [a.clone(), b.clone()]);
        assert_eq!(retained(&server, "kept/+"), [a]);
        assert_eq!(retained(&server, "kept/+/c"), [b]);
        assert_eq!(retained(&server, "kept/c"), []);
    }
}

/// [MQTT-3.3.1-6]: of many topics, each is sent, once.
#[test]
fn all_retained_messages_are_sent() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "all-pub");
    for number in 0..300_u16 {
        publisher.publish_retained(&format!("all/{number}"), QoS::AtLeastOnce, b"x");
    }
    let mut client = RawClient::connect(&server, V311, "all");
    client.subscribe("all/+", QoS::AtLeastOnce);
    let mut topics: Vec<String> = take_messages(&mut client, 300)
        .iter()
        .map(|received| received.publish().topic.to_owned())
        .collect();
    client.expect_nothing();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), 300);
}

/// [MQTT-3.3.1-9]: for a subscription that is there already RETAIN is 0, whatever it was; in a queue, too.
#[test]
fn established_subscriptions_get_retain_0() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "established-pub");
    let (mut client, _) = crate::wire::connect_session(&server, "established", false);
    client.subscribe("established", QoS::ExactlyOnce);
    for qos in QUALITIES {
        publisher.publish_retained("established", qos, b"x");
        assert!(!client.receive_message().publish().retain);
    }
    client.fence();
    client.disconnect();
    publisher.publish_retained("established", QoS::AtLeastOnce, b"y");
    let (mut client, _) = crate::wire::connect_session(&server, "established", false);
    let received = client.receive_message();
    assert_eq!(
        (received.publish().payload, received.publish().retain),
        (&b"y"[..], false)
    );
    client.expect_nothing();
}

/// [MQTT-3.3.1-10], [MQTT-3.3.1-11], [MQTT-3.3.1-7]: an empty payload with RETAIN 1 is delivered as usual, removes what was retained, and
/// is not retained itself.
#[test]
fn an_empty_payload_removes_the_retained_message() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "empty-pub");
    let mut live = RawClient::connect(&server, V311, "empty-live");
    live.subscribe("empty/t", QoS::ExactlyOnce);
    for qos in QUALITIES {
        publisher.publish_retained("empty/t", QoS::AtLeastOnce, b"kept");
        assert_eq!(live.receive_message().publish().payload, b"kept");
        assert_eq!(retained(&server, "empty/t").len(), 1);
        for _ in 0..2 {
            publisher.publish_retained("empty/t", qos, b"");
            let received = live.receive_message();
            assert_eq!(
                (received.publish().payload, received.publish().retain),
                (&b""[..], false)
            );
            assert_eq!(received.publish().qos, qos);
            assert_eq!(retained(&server, "empty/#"), []);
        }
    }
}

/// [MQTT-3.3.1-12]: with RETAIN 0 nothing is stored, replaced or removed, an empty payload neither.
#[test]
fn retain_0_leaves_the_retained_message() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "leaves-pub");
    for qos in QUALITIES {
        publisher.publish("leaves/t", qos, b"passing");
        assert_eq!(retained(&server, "leaves/#"), []);
    }
    publisher.publish_retained("leaves/t", QoS::AtLeastOnce, b"kept");
    for qos in QUALITIES {
        publisher.publish("leaves/t", qos, b"passing");
        publisher.publish("leaves/t", qos, b"");
        let kept = message("leaves/t", b"kept", QoS::AtLeastOnce);
        assert_eq!(retained(&server, "leaves/#"), [kept]);
    }
}

/// [MQTT-3.8.4-6], [MQTT-3.3.1-5]: a retained message comes at the lower of its QoS and the granted one.
#[test]
fn retained_messages_respect_both_qos() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "both-pub");
    for sent in QUALITIES {
        publisher.publish_retained(&format!("both/{}", sent as u8), sent, b"x");
    }
    for granted in QUALITIES {
        for sent in QUALITIES {
            let mut late = RawClient::connect(&server, V311, "both-late");
            late.subscribe(&format!("both/{}", sent as u8), granted);
            assert_eq!(late.receive_message().publish().qos, sent.min(granted));
        }
    }
}
