//! Statements of MQTT 5, section 4.8.2 and what other sections say of Shared Subscriptions.

use waypost_mqtt::{
    Ack, Packet, PacketId, Property, ProtocolVersion::V5, QoS, ReasonCode, RetainHandling,
    SubscriptionOptions,
};
use waypost_tests::{RawClient, Received, Server};

use crate::wire::{connect_properties, connect_session, pass_seconds, properties, server, unique};

fn packet_id(message: &Received) -> PacketId {
    message.publish().packet_id.unwrap()
}

fn publish(server: &Server, topic: &str, qos: QoS, payload: &[u8]) {
    RawClient::connect(server, V5, &unique("publisher")).publish(topic, qos, payload);
}

fn respond(client: &mut RawClient, message: &Received, reason: ReasonCode) {
    let ack = Ack::new(packet_id(message), reason);
    client.send(&if message.publish().qos == QoS::AtLeastOnce {
        Packet::PubAck(ack)
    } else {
        Packet::PubRec(ack)
    });
}

/// 5 §3.2.2.3.13: there are Shared Subscriptions, so CONNACK does not say otherwise.
#[test]
fn shared_subscriptions_are_available() {
    let server = server();
    let (_, answer) = connect_properties(&server, "available", []);
    assert_eq!(
        answer.conn_ack().properties.shared_subscription_available(),
        None
    );
}

/// 5 §4.8.2: one of the group gets a message; another group, and a plain subscription, get their own.
#[test]
fn each_group_gets_one() {
    let server = server();
    let filters = [
        "$share/red/each/+",
        "$share/red/each/+",
        "$share/blue/each/+",
        "$queue/each/+",
        "each/#",
    ];
    let mut clients: Vec<_> = filters
        .iter()
        .map(|filter| {
            let mut client = RawClient::connect(&server, V5, &unique("each"));
            client.subscribe(filter, QoS::AtMostOnce);
            client
        })
        .collect();
    for _ in 0..10 {
        publish(&server, "each/topic", QoS::AtMostOnce, b"m");
    }
    let counts: Vec<_> = clients
        .iter_mut()
        .map(|client| client.drain().len())
        .collect();
    assert_eq!(counts[0] + counts[1], 10);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert_eq!(counts[2..], [10, 10, 10]);
}

/// 5 §4.8.2: a client that is in a group and has a plain subscription gets the message twice, each with its own
/// Subscription Identifier; 5 [MQTT-3.3.4-3], [MQTT-3.3.4-4].
#[test]
fn a_shared_and_a_plain_subscription_are_two() {
    let server = server();
    let mut client = RawClient::connect(&server, V5, "both");
    for (filter, identifier) in [("$share/g/both", 5), ("both", 7)] {
        let identifier = properties([Property::SubscriptionIdentifier(identifier)]);
        client.subscribe_with(
            filter,
            SubscriptionOptions::default(),
            identifier.as_properties(),
        );
    }
    publish(&server, "both", QoS::AtMostOnce, b"m");
    let mut identifiers: Vec<_> = client
        .drain()
        .iter()
        .map(|message| {
            let properties = message.publish().properties;
            properties.subscription_identifiers().collect::<Vec<_>>()
        })
        .collect();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [[5], [7]]);
}

/// [MQTT-4.8.2-3]: each member gets a message at the lower of its own granted `QoS` and the message's.
#[test]
fn qos_is_the_members_own() {
    let server = server();
    let mut clients = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| {
        let mut client = RawClient::connect(&server, V5, &unique("own"));
        // A group each: whose turn it is in a common one depends on when acknowledgements come home.
        client.subscribe(&format!("$share/{}/own", unique("g")), qos);
        (client, qos)
    });
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        publish(&server, "own", qos, b"m");
        for (client, granted) in &mut clients {
            let received = client.receive_message();
            assert_eq!(received.publish().qos, qos.min(*granted));
            client.expect_nothing();
        }
    }
}

/// [MQTT-4.8.2-4]: a `QoS` 2 delivery that was cut off is completed to the same client, in both of its halves, while others
/// of the group are there.
#[test]
fn qos_2_is_completed_to_the_same_client() {
    let server = server();
    for is_taken_over in [false, true] {
        let (name, topic) = (unique("same"), unique("same"));
        let filter = format!("$share/g/{topic}");
        let (mut chosen, _) = connect_session(&server, &name, true, 600);
        chosen.subscribe(&filter, QoS::ExactlyOnce);
        publish(&server, &topic, QoS::ExactlyOnce, b"m");
        let message = chosen.receive();
        let id = packet_id(&message);
        let mut other = RawClient::connect(&server, V5, &unique("other"));
        other.subscribe(&filter, QoS::ExactlyOnce);
        if is_taken_over {
            respond(&mut chosen, &message, ReasonCode::Success);
            assert_eq!(chosen.receive().pub_rel().packet_id, id);
        }
        chosen.cut();
        let (mut chosen, is_present) = connect_session(&server, &name, false, 600);
        assert!(is_present);
        if !is_taken_over {
            let again = chosen.receive();
            assert_eq!((packet_id(&again), again.publish().dup), (id, true));
            respond(&mut chosen, &again, ReasonCode::Success);
        }
        assert_eq!(chosen.receive().pub_rel().packet_id, id);
        chosen.send(&Packet::PubComp(Ack::new(id, ReasonCode::Success)));
        chosen.fence();
        other.expect_nothing();
    }
}

/// [MQTT-4.8.2-5]: a session that ends takes its `QoS` 2 message with it, whether it expires, is begun anew or ends with its
/// connection.
#[test]
fn qos_2_dies_with_its_session() {
    let server = server();
    for how in ["expires", "is begun anew", "ends with the connection"] {
        let (name, topic) = (unique("dies"), unique("dies"));
        let filter = format!("$share/g/{topic}");
        let expiry_s = match how {
            "expires" => 1,
            "is begun anew" => 600,
            _ => 0,
        };
        let (mut chosen, _) = connect_session(&server, &name, true, expiry_s);
        chosen.subscribe(&filter, QoS::ExactlyOnce);
        publish(&server, &topic, QoS::ExactlyOnce, b"m");
        chosen.receive();
        let mut other = RawClient::connect(&server, V5, &unique("other"));
        other.subscribe(&filter, QoS::ExactlyOnce);
        chosen.cut();
        match how {
            "expires" => pass_seconds(&server, 2),
            _ => RawClient::connect(&server, V5, &name).disconnect(),
        }
        // What is published now comes, and nothing before it.
        publish(&server, &topic, QoS::ExactlyOnce, b"next");
        assert_eq!(other.receive_message().publish().payload, b"next", "{how}");
        other.expect_nothing();
    }
}

/// 5 §4.8.2: a `QoS` 1 message that was not acknowledged goes to another member when the session ends; to that one it is no
/// repetition, 5 [MQTT-3.3.1-3].
#[test]
fn qos_1_goes_to_another() {
    let server = server();
    let mut chosen = RawClient::connect(&server, V5, "goes");
    chosen.subscribe("$share/g/goes", QoS::AtLeastOnce);
    publish(&server, "goes", QoS::AtLeastOnce, b"m");
    assert_eq!(chosen.receive().publish().payload, b"m");
    let mut other = RawClient::connect(&server, V5, "goes-other");
    other.subscribe("$share/g/goes", QoS::AtLeastOnce);
    other.expect_nothing();
    chosen.cut();
    let message = other.receive_message();
    assert_eq!(
        (message.publish().payload, message.publish().dup),
        (&b"m"[..], false)
    );
}

/// [MQTT-4.8.2-6]: a message that a member refuses with 0x80 or higher is discarded: no other member gets it.
#[test]
fn what_one_refuses_nobody_gets() {
    let server = server();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        for reason in [
            ReasonCode::UnspecifiedError,
            ReasonCode::ImplementationSpecificError,
            ReasonCode::NotAuthorized,
            ReasonCode::QuotaExceeded,
            ReasonCode::PayloadFormatInvalid,
        ] {
            let topic = unique("refused");
            let filter = format!("$share/g/{topic}");
            let mut chosen = RawClient::connect(&server, V5, &unique("refuses"));
            chosen.subscribe(&filter, qos);
            publish(&server, &topic, qos, b"m");
            let message = chosen.receive();
            let mut other = RawClient::connect(&server, V5, &unique("other"));
            other.subscribe(&filter, qos);
            respond(&mut chosen, &message, reason);
            chosen.expect_nothing();
            other.expect_nothing();
            chosen.cut();
            publish(&server, &topic, qos, b"next");
            assert_eq!(other.receive_message().publish().payload, b"next");
            other.expect_nothing();
        }
    }
}

/// [MQTT-3.10.4-3], [MQTT-3.10.4-2]: who unsubscribes finishes what was begun, and gets nothing new.
#[test]
fn unsubscribing_finishes_what_was_begun() {
    let server = server();
    let mut leaving = RawClient::connect(&server, V5, "leaving");
    leaving.subscribe("$share/g/leaving", QoS::ExactlyOnce);
    publish(&server, "leaving", QoS::ExactlyOnce, b"m");
    let message = leaving.receive();
    let mut other = RawClient::connect(&server, V5, "leaving-other");
    other.subscribe("$share/g/leaving", QoS::ExactlyOnce);
    leaving.unsubscribe("$share/g/leaving");
    publish(&server, "leaving", QoS::AtLeastOnce, b"next");
    assert_eq!(other.receive_message().publish().payload, b"next");
    respond(&mut leaving, &message, ReasonCode::Success);
    leaving.receive().pub_rel();
    leaving.send(&Packet::PubComp(Ack::new(
        packet_id(&message),
        ReasonCode::Success,
    )));
    leaving.expect_nothing();
    other.expect_nothing();
}

/// 5 §3.8.3.1, §4.8.2: no retained messages at a Shared Subscription, whatever its Retain Handling says.
#[test]
fn no_retained_messages_when_subscribing() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V5, "kept-publisher");
    publisher.publish_retained("kept", QoS::AtLeastOnce, b"m");
    let mut client = RawClient::connect(&server, V5, "kept");
    for retain_handling in [RetainHandling::SendAtSubscribe, RetainHandling::SendIfNew] {
        let options = SubscriptionOptions {
            retain_handling,
            ..SubscriptionOptions::default()
        };
        client.subscribe_with("$share/g/kept", options, waypost_mqtt::Properties::EMPTY);
        client.expect_nothing();
    }
    publisher.publish_retained("kept", QoS::AtLeastOnce, b"new");
    assert_eq!(client.receive_message().publish().payload, b"new");
}
