//! Statements of MQTT 3.1.1, sections 3.8 and 3.9: SUBSCRIBE and SUBACK.

use waypost_mqtt::{Packet, ProtocolVersion::V311, QoS, ReasonCode};
use waypost_tests::{RawClient, subscribe_bytes};

use crate::wire::{
    check_closed, id, identified_bytes, publish_from_elsewhere, server, subscribe_to_bytes,
};

/// [MQTT-3.8.4-1], [MQTT-3.8.4-2], [MQTT-3.8.4-4], [MQTT-3.8.4-5], [MQTT-3.9.3-1], [MQTT-3.9.3-2]: one SUBACK with the identifier and, in the
/// order of the filters, the granted QoS or 0x80; each filter acts as if alone, a repeated one as the last says.
#[test]
fn suback_answers_each_filter_in_order() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "order");
    let requests = [
        ("suback/0", 0),
        ("suback/2", 2),
        ("$share//suback/shared", 1),
        ("suback/1", 1),
        ("suback/+/x", 2),
        ("suback/0", 1),
    ];
    client.send_raw(&subscribe_bytes(V311, 4_711, &requests));
    let [high, low] = 4_711_u16.to_be_bytes();
    assert_eq!(
        client.receive().bytes(),
        [0x90, 8, high, low, 0, 2, 0x80, 1, 2, 1]
    );
    client.expect_nothing();
    for (topic, qos) in [
        ("suback/0", 1),
        ("suback/1", 1),
        ("suback/2", 2),
        ("suback/a/x", 2),
    ] {
        let mut publisher = RawClient::connect(&server, V311, "order-pub");
        publisher.publish(topic, QoS::ExactlyOnce, b"x");
        let received = client.receive_message();
        assert_eq!(
            (received.publish().topic, received.publish().qos as u8),
            (topic, qos)
        );
    }
    publish_from_elsewhere(&server, "suback/shared", b"x");
    client.expect_nothing();
}

/// [MQTT-3.8.4-5], [MQTT-3.9.3-2]: a `$share` filter that names no group or no filter fails with 0x80, the connection goes on.
#[test]
fn what_cannot_be_subscribed_gets_0x80() {
    let server = server();
    let mut client = RawClient::connect(&server, V311, "failure");
    for filter in ["$share/", "$share/group", "$share//t", "$queue/"] {
        client.send_raw(&subscribe_to_bytes(filter, 1));
        assert_eq!(client.receive().bytes(), [0x90, 3, 0, 1, 0x80], "{filter}");
    }
    client.fence();
}

/// [MQTT-3.8.3-3], [MQTT-3.8.3-4]: no filter, reserved bits, QoS 3 close the connection, also in the second of two filters, and
/// the first is not subscribed to.
#[test]
fn malformed_subscribes_close_the_connection() {
    check_closed([("no filter", identified_bytes(0x82, 1, &[]))]);
    check_closed((3..=255).map(|qos| {
        let name = format!("requested QoS {qos:#04x}");
        (name, subscribe_to_bytes("breach/t", qos))
    }));
    check_closed([3, 4, 0x41, 0x80, 0xFF].map(|qos| {
        let name = format!("requested QoS {qos:#04x}, second");
        (
            name,
            subscribe_bytes(V311, 1, &[("breach/a", 0), ("breach/b", qos)]),
        )
    }));
    let filter_without_qos = [0, 1, b'a', 1, 0, 1, b'b'];
    check_closed([
        (
            "filter without QoS",
            identified_bytes(0x82, 1, &filter_without_qos),
        ),
        (
            "filter cut short",
            identified_bytes(0x82, 1, &[0, 9, b'a', 1]),
        ),
    ]);
}

/// [MQTT-3.8.3-4]: nothing of a malformed SUBSCRIBE is kept in the session.
#[test]
fn a_malformed_subscribe_subscribes_to_nothing() {
    let server = server();
    let (mut client, _) = crate::wire::connect_session(&server, "nothing", false);
    client.send_raw(&subscribe_bytes(
        V311,
        1,
        &[("nothing/a", 1), ("nothing/b", 3)],
    ));
    client.expect_closed();
    publish_from_elsewhere(&server, "nothing/a", b"x");
    let (mut client, session_present) = crate::wire::connect_session(&server, "nothing", false);
    assert!(session_present);
    publish_from_elsewhere(&server, "nothing/a", b"x");
    client.expect_nothing();
}

/// [MQTT-3.8.4-6]: a message comes at the lower of its own QoS and the granted one, and once.
#[test]
fn qos_is_the_lower_of_the_two() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "lower-pub");
    for granted in 0..=2_u8 {
        let mut client = RawClient::connect(&server, V311, "lower");
        client.subscribe("lower", QoS::try_from(granted).unwrap());
        for sent in 0..=2_u8 {
            publisher.publish("lower", QoS::try_from(sent).unwrap(), &[sent]);
            let received = client.receive_message();
            assert_eq!(received.publish().qos as u8, sent.min(granted));
            assert_eq!(received.publish().payload, [sent]);
            client.expect_nothing();
        }
    }
}

/// [MQTT-3.8.4-3], [MQTT-3.3.1-8]: the same filter again replaces the subscription: the new QoS holds, messages come once, what is
/// retained is sent again with RETAIN 1.
#[test]
fn the_same_filter_replaces_the_subscription() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "replaces-pub");
    publisher.publish_retained("replaces/t", QoS::ExactlyOnce, b"kept");
    let mut client = RawClient::connect(&server, V311, "replaces");
    for granted in [0, 2, 1, 1, 0] {
        client.subscribe("replaces/+", QoS::try_from(granted).unwrap());
        let received = client.receive_message();
        let publish = received.publish();
        assert_eq!((publish.payload, publish.retain), (&b"kept"[..], true));
        assert_eq!(publish.qos as u8, granted);
        publisher.publish("replaces/u", QoS::ExactlyOnce, b"live");
        let received = client.receive_message();
        assert_eq!(received.publish().payload, b"live");
        assert_eq!(received.publish().qos as u8, granted);
        client.expect_nothing();
    }
    client.unsubscribe("replaces/+");
    publisher.publish("replaces/u", QoS::AtLeastOnce, b"live");
    client.expect_nothing();
}

/// [MQTT-3.8.4-3]: while subscriptions are replaced no message of the flow is lost or doubled.
#[test]
fn replacing_does_not_interrupt_the_flow() {
    let server = server();
    let mut publisher = RawClient::connect(&server, V311, "flow-pub");
    let mut client = RawClient::connect(&server, V311, "flow");
    client.subscribe("flow", QoS::AtMostOnce);
    for number in 0..50_u8 {
        publisher.publish("flow", QoS::AtLeastOnce, &[number]);
        client.send_raw(&subscribe_to_bytes("flow", number % 3));
    }
    let mut seen = Vec::new();
    while seen.len() < 50 {
        let packet = client.receive();
        match packet.packet() {
            Packet::Publish(publish) => seen.push(publish.payload[0]),
            _ => assert_eq!(packet.sub_ack().packet_id, id(1)),
        }
    }
    assert_eq!(seen, (0..50).collect::<Vec<u8>>());
}

/// [MQTT-3.8.4-1], [MQTT-3.8.4-4], [MQTT-3.9.3-1]: a SUBSCRIBE of a thousand filters is one, with a thousand return codes.
#[test]
fn a_thousand_filters_get_one_suback() {
    let server = server();
    let filters: Vec<String> = (0..1_000)
        .map(|number| format!("thousand/{number}"))
        .collect();
    let requests: Vec<(&str, u8)> = filters
        .iter()
        .zip([0, 1, 2].into_iter().cycle())
        .map(|(filter, qos)| (filter.as_str(), qos))
        .collect();
    let mut client = RawClient::connect(&server, V311, "thousand");
    client.send_raw(&subscribe_bytes(V311, 9, &requests));
    let answer = client.receive();
    assert_eq!(answer.sub_ack().packet_id, id(9));
    let codes: Vec<u8> = answer
        .sub_ack()
        .reasons
        .iter()
        .map(ReasonCode::as_u8)
        .collect();
    assert_eq!(
        codes,
        requests.iter().map(|(_, qos)| *qos).collect::<Vec<_>>()
    );
    client.expect_nothing();
    publish_from_elsewhere(&server, "thousand/998", b"x");
    assert_eq!(client.receive_message().publish().topic, "thousand/998");
}
