//! Statements of MQTT 5 on the Will (sections 3.1.2.5 to 3.1.2.7, 3.1.3.2, 3.14.4).

use waypost_mqtt::{
    Connect, Disconnect, Packet, Properties, Property, ProtocolVersion::V5, QoS, ReasonCode,
    RetainHandling, SubscriptionOptions, Will,
};
use waypost_tests::{RawClient, Server, connect_packet};

use crate::wire::{connect_session, pass_seconds, properties, publish_bytes, server, will};

/// Connects with a Will and a Session Expiry Interval.
fn connect_with_will(server: &Server, client_id: &str, expiry_s: u32, will: Will<'_>) -> RawClient {
    let stays = properties([Property::SessionExpiryInterval(expiry_s)]);
    let connect = Connect {
        properties: stays.as_properties(),
        will: Some(will),
        ..connect_packet(V5, client_id)
    };
    RawClient::connect_with(server, &connect).0
}

fn witness(server: &Server, client_id: &str, filter: &str) -> RawClient {
    let mut witness = RawClient::connect(server, V5, client_id);
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        retain_as_published: true,
        ..SubscriptionOptions::default()
    };
    witness.subscribe_with(filter, options, Properties::EMPTY);
    witness
}

fn disconnect_with(client: &mut RawClient, reason: ReasonCode) {
    client.send(&Packet::Disconnect(Disconnect {
        reason,
        properties: Properties::EMPTY,
    }));
}

/// A way to end a connection.
type Ending = fn(&mut RawClient);

/// [MQTT-3.1.2-7], [MQTT-3.1.2-8]: the Will is published when the connection ends without DISCONNECT 0x00: a lost network,
/// DISCONNECT 0x04, a Protocol Error, a malformed packet; at its QoS.
#[test]
fn the_will_is_published_when_the_connection_fails() {
    let server = server();
    let mut witness = witness(&server, "will-witness", "will/#");
    let endings: [(&str, Ending); 4] = [
        ("DISCONNECT 0x04", |client| {
            disconnect_with(client, ReasonCode::DisconnectWithWillMessage);
        }),
        ("DISCONNECT 0x80", |client| {
            disconnect_with(client, ReasonCode::UnspecifiedError);
        }),
        ("Protocol Error", |client| client.send_raw(&[0xD0, 0])),
        ("malformed", |client| {
            client.send_raw(&publish_bytes(0x36, b"x", Some(1), &[]));
        }),
    ];
    let qualities = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
    for (expiry_s, (name, end)) in [0, 60].into_iter().flat_map(|s| endings.map(|e| (s, e))) {
        eprintln!("{name}, Session Expiry Interval {expiry_s}");
        for qos in qualities {
            let left = Will {
                qos,
                ..will("will/left", b"gone")
            };
            let mut client = connect_with_will(&server, "will-client", expiry_s, left);
            end(&mut client);
            let received = witness.receive_message();
            assert_eq!(received.publish().topic, "will/left");
            assert_eq!(received.publish().payload, b"gone");
            assert_eq!(received.publish().qos, qos);
            assert!(!received.publish().retain);
        }
    }
    connect_with_will(&server, "will-client", 0, will("will/cut", b"")).cut();
    assert_eq!(witness.receive().publish().topic, "will/cut");
    witness.expect_nothing();
}

/// [MQTT-3.1.2-8], [MQTT-3.1.2-10], [MQTT-3.14.4-3]: DISCONNECT 0x00 takes the Will back for good, also out of a session that
/// stays.
#[test]
fn a_normal_disconnect_takes_the_will_back() {
    let server = server();
    let mut witness = witness(&server, "back-witness", "back/#");
    let client = connect_with_will(&server, "back", 0, will("back/0", b"gone"));
    client.disconnect();
    let delay = properties([Property::WillDelayInterval(1)]);
    let delayed = Will {
        properties: delay.as_properties(),
        ..will("back/1", b"gone")
    };
    connect_with_will(&server, "back-stays", 1, delayed).disconnect();
    pass_seconds(&server, 2);
    witness.expect_nothing();
}

/// [MQTT-3.1.2-10]: a Will that was published is no longer in the session: the next connection has none.
#[test]
fn a_will_is_published_once() {
    let server = server();
    let mut witness = witness(&server, "once-witness", "once");
    connect_with_will(&server, "once", 600, will("once", b"gone")).cut();
    assert_eq!(witness.receive().publish().topic, "once");
    let (client, session_present) = connect_session(&server, "once", false, 0);
    assert!(session_present);
    client.cut();
    let (client, _) = connect_session(&server, "once", false, 0);
    client.disconnect();
    witness.expect_nothing();
}

/// [MQTT-3.1.2-8]: the Will waits for its Will Delay, or for the end of the session if that comes first.
#[test]
fn the_will_waits_for_its_delay() {
    let server = server();
    let mut witness = witness(&server, "delay-witness", "delay/#");
    let delay = |seconds| properties([Property::WillDelayInterval(seconds)]);
    let (one, many) = (delay(1), delay(600));
    let delayed = Will {
        properties: one.as_properties(),
        ..will("delay/1", b"")
    };
    let until_expiry = Will {
        properties: many.as_properties(),
        ..will("delay/expiry", b"")
    };
    let mut client = connect_with_will(&server, "delay-1", 600, delayed);
    let mut expires = connect_with_will(&server, "delay-expiry", 2, until_expiry);
    let ends_now = connect_with_will(
        &server,
        "delay-now",
        0,
        Will {
            topic: will("delay/now", b"").topic,
            ..until_expiry
        },
    );
    for client in [&mut client, &mut expires] {
        disconnect_with(client, ReasonCode::DisconnectWithWillMessage);
        client.expect_closed();
    }
    witness.expect_nothing();
    ends_now.cut();
    assert_eq!(witness.receive().publish().topic, "delay/now");
    let first = witness.receive();
    assert_eq!(first.publish().topic, "delay/1");
    assert_eq!(witness.receive().publish().topic, "delay/expiry");
    // Will Delay belongs to the server, not to the message.
    assert!(first.publish().properties.is_empty());
}

/// [MQTT-3.1.2-8]: a new session under the same identifier ends the old one, and that publishes a delayed Will at once.
#[test]
fn clean_start_ends_the_delay() {
    let server = server();
    let mut witness = witness(&server, "ends-witness", "ends");
    let delay = properties([Property::WillDelayInterval(600)]);
    let delayed = Will {
        properties: delay.as_properties(),
        ..will("ends", b"")
    };
    connect_with_will(&server, "ends", 600, delayed).cut();
    drop(connect_session(&server, "ends", true, 0));
    assert_eq!(witness.receive().publish().topic, "ends");
}

/// [MQTT-3.1.3-9]: who comes back to the session before the Will Delay has passed is not dead.
#[test]
fn a_return_within_the_delay_keeps_the_will_unsent() {
    let server = server();
    let mut witness = witness(&server, "return-witness", "return");
    let delay = properties([Property::WillDelayInterval(1)]);
    let delayed = Will {
        properties: delay.as_properties(),
        ..will("return", b"")
    };
    connect_with_will(&server, "return", 600, delayed).cut();
    let (_client, session_present) = connect_session(&server, "return", false, 600);
    assert!(session_present);
    // The same by takeover, the first connection still there.
    let _old = connect_with_will(&server, "return-2", 600, delayed);
    let (_new, session_present) = connect_session(&server, "return-2", false, 600);
    assert!(session_present);
    pass_seconds(&server, 2);
    witness.expect_nothing();
}

/// [MQTT-3.1.2-14], [MQTT-3.1.2-15]: Will Retain decides whether the Will is retained; without it what is retained stays.
#[test]
fn will_retain_makes_it_retained() {
    let server = server();
    let mut live = witness(&server, "retain-live", "retain-will/#");
    for (topic, retain) in [("retain-will/1", true), ("retain-will/0", false)] {
        let left = Will {
            retain,
            ..will(topic, b"gone")
        };
        connect_with_will(&server, "retain-will", 0, left).cut();
        let received = live.receive();
        assert_eq!(
            (received.publish().topic, received.publish().retain),
            (topic, retain)
        );
    }
    let mut late = witness(&server, "retain-late", "retain-will/#");
    let received = late.receive();
    assert_eq!(received.publish().topic, "retain-will/1");
    assert!(received.publish().retain);
    late.expect_nothing();
    connect_with_will(
        &server,
        "retain-will",
        0,
        will("retain-will/1", b"not retained"),
    )
    .cut();
    assert_eq!(live.receive().publish().payload, b"not retained");
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendAtSubscribe,
        ..SubscriptionOptions::default()
    };
    late.receive();
    late.subscribe_with("retain-will/1", options, Properties::EMPTY);
    assert_eq!(late.receive().publish().payload, b"gone");
}

/// [MQTT-3.1.3-10]: User Properties of the Will keep their order, repeated names too; its other properties go along.
#[test]
fn will_properties_are_published() {
    let server = server();
    let mut witness = witness(&server, "properties-witness", "will-properties");
    let list = properties([
        Property::UserProperty("b", "1"),
        Property::ContentType("text/plain"),
        Property::UserProperty("a", "2"),
        Property::PayloadFormatIndicator(1),
        Property::UserProperty("b", "1"),
        Property::ResponseTopic("answers/here"),
        Property::CorrelationData(b"\0\xFF"),
        Property::WillDelayInterval(0),
        Property::UserProperty("", ""),
    ]);
    let left = Will {
        properties: list.as_properties(),
        ..will("will-properties", b"gone")
    };
    connect_with_will(&server, "will-properties", 0, left).cut();
    let received = witness.receive();
    let properties = received.publish().properties;
    let pairs: Vec<_> = properties.user_properties().collect();
    assert_eq!(pairs, [("b", "1"), ("a", "2"), ("b", "1"), ("", "")]);
    assert_eq!(properties.content_type(), Some("text/plain"));
    assert_eq!(properties.payload_format_indicator(), Some(1));
    assert_eq!(properties.response_topic(), Some("answers/here"));
    assert_eq!(properties.correlation_data(), Some(&b"\0\xFF"[..]));
    assert_eq!(properties.will_delay_interval(), None);
}

/// [MQTT-3.1.2-8], [MQTT-3.1.4-3]: a takeover without a Will Delay publishes the Will of the connection that was replaced.
#[test]
fn a_takeover_publishes_the_will() {
    let server = server();
    let mut witness = witness(&server, "taken-witness", "taken");
    for clean_start in [true, false] {
        let mut old = connect_with_will(&server, "taken", 600, will("taken", b"gone"));
        let (_new, _) = connect_session(&server, "taken", clean_start, 600);
        old.expect_refused(ReasonCode::SessionTakenOver);
        assert_eq!(witness.receive().publish().payload, b"gone");
    }
    witness.expect_nothing();
}
