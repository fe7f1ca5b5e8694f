//! Statements of MQTT 3.1.1, sections 3.10 and 3.11: UNSUBSCRIBE and UNSUBACK.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS};
use waypost_tests::{RawClient, unsubscribe_bytes};

use crate::wire::{
    ack, check_closed, connect_session, id_of, identified_bytes, publish_from_elsewhere, server,
    unsubscribe_from_bytes,
};

/// [MQTT-3.10.3-2], [MQTT-3.10.3-1]: without a filter, or with one that is cut short, the connection closes.
#[test]
fn malformed_unsubscribes_close_the_connection() {
    check_closed([
        ("no filter", identified_bytes(0xA2, 1, &[])),
        ("half a length", identified_bytes(0xA2, 1, &[0])),
        ("filter cut short", identified_bytes(0xA2, 1, &[0, 9, b'a'])),
        (
            "second filter cut short",
            identified_bytes(0xA2, 1, &[0, 1, b'a', 0, 2, b'b']),
        ),
    ]);
}

/// [MQTT-3.10.4-1]: only a filter that is equal in every character deletes the subscription; [MQTT-3.10.4-5], [MQTT-3.10.4-4]: the
/// others get their UNSUBACK all the same.
#[test]
fn filters_are_compared_by_character() {
    let server = server();
    for filter in ["equal/+/a", "equal/#", "equal/\u{e9}/a"] {
        let mut client = RawClient::connect(&server, V311, "equal");
        client.subscribe(filter, QoS::AtMostOnce);
        let others = [
            "equal/x/a",
            "equal/+/b",
            "equal/+",
            "+/+/a",
            "#",
            "/equal/+/a",
            "equal/+/a/",
            "Equal/+/a",
            "equal/x/#",
            "equal",
            "EQUAL/#",
            "equal/#/",
            "equal/e\u{301}/a",
            "equal/\u{c9}/a",
            " equal/#",
        ];
        for other in others.into_iter().filter(|other| *other != "equal/#/") {
            client.send_raw(&unsubscribe_from_bytes(other));
            assert_eq!(client.receive().bytes(), [0xB0, 2, 0, 1], "{other}");
        }
        publish_from_elsewhere(&server, "equal/\u{e9}/a", b"x");
        assert_eq!(client.receive().publish().topic, "equal/\u{e9}/a");
        client.send_raw(&unsubscribe_from_bytes(filter));
        assert_eq!(client.receive().bytes(), [0xB0, 2, 0, 1]);
        publish_from_elsewhere(&server, "equal/\u{e9}/a", b"x");
        client.expect_nothing();
    }
}

/// [MQTT-3.10.4-6], [MQTT-3.10.4-4]: an UNSUBSCRIBE of several filters acts like several, and has one UNSUBACK.
#[test]
fn several_filters_get_one_unsuback() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "several");
    for filter in ["several/a", "several/b", "several/+", "several/c/#"] {
        client.subscribe(filter, QoS::AtMostOnce);
    }
    let filters = ["several/a", "several/none", "several/+", "several/a"];
    client.send_raw(&unsubscribe_bytes(V311, 258, &filters));
    assert_eq!(client.receive().bytes(), [0xB0, 2, 1, 2]);
    client.expect_nothing();
    for topic in ["several/a", "several/d", "several/b", "several/c"] {
        publish_from_elsewhere(&server, topic, b"x");
    }
    assert_eq!(client.receive().publish().topic, "several/b");
    assert_eq!(client.receive().publish().topic, "several/c");
    client.expect_nothing();
}

/// [MQTT-3.10.4-2]: after UNSUBACK no message comes on its account, none is queued while the client is away; other
/// subscriptions of the same client, and of others, go on.
#[test]
fn no_message_after_unsuback() {
    let server = server();
    let (mut client, _) = connect_session(&server, "after", false);
    let mut neighbour = RawClient::connect(&server, V311, "after-neighbour");
    neighbour.subscribe("after/t", QoS::AtMostOnce);
    client.subscribe("after/t", QoS::AtLeastOnce);
    client.subscribe("after/other", QoS::AtLeastOnce);
    publish_from_elsewhere(&server, "after/t", b"before");
    assert_eq!(client.receive_message().publish().payload, b"before");
    assert_eq!(neighbour.receive().publish().payload, b"before");
    client.unsubscribe("after/t");
    publish_from_elsewhere(&server, "after/t", b"live");
    client.expect_nothing();
    client.disconnect();
    publish_from_elsewhere(&server, "after/t", b"away");
    publish_from_elsewhere(&server, "after/other", b"other");
    let (mut client, _) = connect_session(&server, "after", false);
    assert_eq!(client.receive_message().publish().payload, b"other");
    client.expect_nothing();
    assert_eq!(neighbour.receive().publish().payload, b"live");
    assert_eq!(neighbour.receive().publish().payload, b"away");
}

/// [MQTT-3.10.4-3]: deliveries at QoS 1 and 2 that were begun are finished: PUBREL follows PUBREC, and what is unacknowledged is
/// sent again on the next connection.
#[test]
fn deliveries_begun_are_finished() {
    let server = server();
    let (mut client, _) = connect_session(&server, "begun", false);
    client.subscribe("begun", QoS::ExactlyOnce);
    let mut publisher = RawClient::connect(&server, V311, "begun-pub");
    let mut sent = Vec::new();
    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::ExactlyOnce] {
        publisher.publish("begun", qos, b"x");
        sent.push(id_of(&client.receive()));
    }
    client.unsubscribe("begun");
    client.send(&Packet::PubRec(ack(sent[1])));
    assert_eq!(client.receive().pub_rel().packet_id, sent[1]);
    client.disconnect();
    let (mut client, _) = connect_session(&server, "begun", false);
    let first = client.receive();
    assert_eq!((first.publish().dup, id_of(&first)), (true, sent[0]));
    let mut rest = [client.receive(), client.receive()];
    rest.sort_by_key(|received| matches!(received.packet(), Packet::Publish(_)));
    assert_eq!(rest[0].pub_rel().packet_id, sent[1]);
    assert_eq!((rest[1].publish().dup, id_of(&rest[1])), (true, sent[2]));
    client.send(&Packet::PubAck(ack(sent[0])));
    client.send(&Packet::PubComp(ack(sent[1])));
    client.send(&Packet::PubRec(ack(sent[2])));
    assert_eq!(client.receive().pub_rel().packet_id, sent[2]);
    client.send(&Packet::PubComp(ack(sent[2])));
    client.expect_nothing();
}
