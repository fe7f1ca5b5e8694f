//! Windows, queues, expiry and sizes: what bounds the flow to and from a client.

use waypost_mqtt::{Packet, Property, PropertyBuffer, ReasonCode};

use super::world::{World, v3, v5};

pub(super) fn one(property: Property<'_>) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    buffer.push(property);
    buffer
}

#[test]
fn unfinished_messages_stay_within_the_clients_receive_maximum() {
    // 5 [MQTT-3.3.4-9], [MQTT-4.9.0-2]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").with(Property::ReceiveMaximum(2)));
    world.subscribe(s, "t", 2);
    for n in 0..5 {
        world.publish(p, "t", &n.to_string(), if n == 1 { 2 } else { 1 });
    }
    world.ack(p, "PUBREL", 10);
    assert_eq!(world.take(s), ["PUBLISH q1 #1 t=0", "PUBLISH q2 #2 t=1"]);
    // 5 [MQTT-3.3.4-10], [MQTT-4.9.0-3]: everything else goes on.
    world.publish(p, "t", "zero", 0);
    world.send(s, &Packet::PingReq);
    assert_eq!(world.take(s), ["PUBLISH q0 t=zero", "PINGRESP"]);
    world.ack(s, "PUBREC", 2);
    assert_eq!(world.take(s), ["PUBREL #2"], "PUBREC gives nothing back");
    world.ack(s, "PUBCOMP", 2);
    assert_eq!(world.take(s), ["PUBLISH q1 #3 t=2"]);
    world.ack(s, "PUBACK", 1);
    // 5 [MQTT-4.4.0-2]: a refusal is an acknowledgement.
    world.ack_with(s, "PUBACK", 3, ReasonCode::QuotaExceeded);
    assert_eq!(world.take(s), ["PUBLISH q1 #4 t=3", "PUBLISH q1 #5 t=4"]);
    assert_eq!(world.broker(0).counters().refused_by_client, 1);
    // What acknowledges nothing changes nothing.
    for kind in ["PUBACK", "PUBCOMP"] {
        world.ack(s, kind, 99);
    }
    world.ack(s, "PUBREC", 99);
    assert_eq!(world.take(s), ["PUBREL #99 92"]);
    assert!(!world.is_closed(s));
}

#[test]
fn an_acknowledgement_of_another_kind_is_a_protocol_error() {
    // 5 [MQTT-4.13.1-1], 3.1.1 [MQTT-4.8.0-1]
    for (qos, before, wrong) in [
        (1, "", "PUBREC"),
        (1, "", "PUBCOMP"),
        (2, "", "PUBACK"),
        (2, "", "PUBCOMP"),
        (2, "PUBREC", "PUBACK"),
    ] {
        for (client, closing) in [
            (v5("s"), &["DISCONNECT 82", "closed"][..]),
            (v3("s"), &["closed"]),
        ] {
            let mut world = World::new();
            let p = world.connect(&v5("p"));
            let s = world.connect(&client);
            world.subscribe(s, "t", 2);
            world.publish(p, "t", "x", qos);
            if !before.is_empty() {
                world.ack(s, before, 1);
            }
            world.take(s);
            world.ack(s, wrong, 1);
            assert_eq!(world.take(s), closing, "{wrong} at QoS {qos} {before}");
            assert!(!world.is_closed(p));
        }
    }
}

#[test]
fn a_pubrec_that_refuses_ends_the_exchange() {
    // 5 [MQTT-4.3.3-4], [MQTT-4.4.0-2]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(100));
    world.subscribe(s, "t", 2);
    world.publish(p, "t", "x", 2);
    world.take(s);
    world.ack_with(s, "PUBREC", 1, ReasonCode::NotAuthorized);
    assert_eq!(world.take(s), [""; 0]);
    world.cut(s);
    let s = world.connect(&v5("s").persistent(100));
    assert_eq!(world.take(s), [""; 0]);
}

#[test]
fn a_client_must_stay_within_the_servers_receive_maximum() {
    // 5 §3.3.4: DISCONNECT 0x93 beyond it; at N, N + 1, 2 N.
    for (count, closes) in [(3, false), (4, true), (6, true)] {
        let mut world = World::with_limits(|limits| limits.receive_maximum = 3);
        let (p, connack) = world.try_connect(&v5("p"));
        assert_eq!(connack, "CONNACK 00 ReceiveMaximum(3)");
        for id in 1..=count {
            if !world.is_closed(p) {
                world.publish_with(p, "t", "x", 2, id, false, &PropertyBuffer::new());
            }
        }
        let lines = world.take(p);
        assert_eq!(world.is_closed(p), closes, "{count}");
        assert_eq!(lines.contains(&"DISCONNECT 93".into()), closes, "{lines:?}");
        assert_eq!(
            world.broker(0).counters().receive_maximum_exceeded,
            u64::from(closes)
        );
    }
    // QoS 1 is answered at once and never in the way; released ones make room.
    let mut world = World::with_limits(|limits| limits.receive_maximum = 1);
    let p = world.connect(&v5("p"));
    for id in 1..10 {
        world.publish_with(p, "t", "x", 2, id, false, &PropertyBuffer::new());
        world.publish_with(p, "t", "x", 1, id + 100, false, &PropertyBuffer::new());
        world.ack(p, "PUBREL", id);
    }
    assert!(!world.is_closed(p));
}

#[test]
fn a_resumed_session_sends_no_more_than_the_new_window() {
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(100));
    world.subscribe(s, "t", 1);
    for n in 0..4 {
        world.publish(p, "t", &n.to_string(), 1);
    }
    assert_eq!(world.take(s).len(), 4);
    world.cut(s);
    world.publish(p, "t", "4", 1);
    let s = world.connect(&v5("s").persistent(100).with(Property::ReceiveMaximum(2)));
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #1 dup t=0", "PUBLISH q1 #2 dup t=1"]
    );
    world.ack(s, "PUBACK", 2);
    assert_eq!(world.take(s), ["PUBLISH q1 #3 dup t=2"]);
    for id in [1, 3, 4] {
        world.ack(s, "PUBACK", id);
    }
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #4 dup t=3", "PUBLISH q1 #5 t=4"]
    );
}

#[test]
fn the_queue_of_an_absent_session_is_bounded() {
    // At N, N + 1, 2 N: the first N stay.
    for count in [3, 4, 6] {
        let mut world = World::with_limits(|limits| limits.queue_messages_max = 3);
        let p = world.connect(&v5("p"));
        let s = world.connect(&v5("s").persistent(100));
        world.subscribe(s, "t", 1);
        world.cut(s);
        for n in 0..count {
            world.publish(p, "t", &n.to_string(), 1);
        }
        assert_eq!(world.broker(0).counters().dropped_queue_full, count - 3);
        let seen = world.broker(0).client("s").unwrap();
        assert_eq!(
            (
                seen.queued,
                seen.dropped,
                seen.subscriptions,
                seen.connection
            ),
            (3, count - 3, 1, None)
        );
        let s = world.connect(&v5("s").persistent(100));
        let lines = world.take(s);
        assert_eq!(
            lines,
            [
                "PUBLISH q1 #1 t=0",
                "PUBLISH q1 #2 t=1",
                "PUBLISH q1 #3 t=2"
            ]
        );
    }
    let mut world = World::with_limits(|limits| limits.queue_bytes_max = 2 * 171 + 168);
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(100));
    world.subscribe(s, "t", 1);
    world.cut(s);
    for payload in ["0123456789", "0123456789", "01234567"] {
        world.publish(p, "t", payload, 1);
    }
    assert_eq!(world.broker(0).messages_owed(), 2);
    assert_eq!(world.broker(0).counters().dropped_queue_full, 1);
}

#[test]
fn what_expired_makes_room_and_is_not_sent() {
    // 5 [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut world = World::with_limits(|limits| limits.queue_messages_max = 2);
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(1000));
    world.subscribe(s, "t", 1);
    world.cut(s);
    for (payload, expiry) in [("short", 5), ("long", 60)] {
        world.publish_with(
            p,
            "t",
            payload,
            1,
            3,
            false,
            &one(Property::MessageExpiryInterval(expiry)),
        );
    }
    world.advance(5_500);
    world.publish(p, "t", "late", 1);
    let s = world.connect(&v5("s").persistent(1000));
    assert_eq!(
        world.take(s),
        [
            "PUBLISH q1 #1 t=long MessageExpiryInterval(55)",
            "PUBLISH q1 #2 t=late"
        ]
    );
    assert_eq!(world.broker(0).counters().dropped_expired, 1);
    assert_eq!(world.broker(0).counters().dropped_queue_full, 0);
}

#[test]
fn no_expiry_once_a_qos_2_message_is_out() {
    // 5 [MQTT-4.3.3-7], [MQTT-4.3.3-13]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&v5("s").persistent(1000));
    world.subscribe(s, "t", 2);
    world.publish_with(
        p,
        "t",
        "x",
        2,
        3,
        false,
        &one(Property::MessageExpiryInterval(5)),
    );
    assert_eq!(
        world.take(s),
        ["PUBLISH q2 #1 t=x MessageExpiryInterval(5)"]
    );
    world.cut(s);
    world.advance(60_000);
    world.ack(p, "PUBREL", 3);
    assert_eq!(world.take(p), ["PUBREC #3", "PUBCOMP #3"]);
    let s = world.connect(&v5("s").persistent(1000));
    assert_eq!(
        world.take(s),
        ["PUBLISH q2 #1 dup t=x MessageExpiryInterval(0)"]
    );
}

#[test]
fn a_slow_reader_is_served_from_its_queue_and_slows_nobody() {
    let mut world = World::with_limits(|limits| {
        limits.outbox_bytes_max = 1_000;
        limits.burst_messages_max = 3;
    });
    let p = world.connect(&v5("p"));
    let slow = world.connect(&v5("slow"));
    let fast = world.connect(&v5("fast"));
    for s in [slow, fast] {
        world.subscribe(s, "t", 1);
    }
    world.stall(slow, true);
    let mut of_slow = Vec::new();
    for n in 0..200 {
        world.publish(p, "t", &format!("message {n:04}"), 1);
        of_slow.extend(world.take(slow));
        let lines = world.take(fast);
        assert_eq!(lines.len(), 1, "{n}");
        world.ack(fast, "PUBACK", n + 1);
    }
    assert!(
        of_slow.len() < 40,
        "{} messages in an outbox of 1,000 bytes",
        of_slow.len()
    );
    assert_eq!(world.broker(0).counters().dropped_queue_full, 0);
    assert!(world.broker(0).counters().queued > 150);
    // It reads again: the rest comes in order, as far as its outbox has room, and then it is live.
    let mut acked = 0;
    while acked < 200 {
        world.stall(slow, false);
        of_slow.extend(world.take(slow));
        assert!(of_slow.len() > acked, "{acked} and then nothing");
        acked += 1;
        world.ack(slow, "PUBACK", u16::try_from(acked).unwrap());
    }
    let expected: Vec<_> = (0..200)
        .map(|n| format!("PUBLISH q1 #{} t=message {n:04}", n + 1))
        .collect();
    assert_eq!(of_slow, expected);
    let queued = world.broker(0).counters().queued;
    world.publish(p, "t", "live", 1);
    assert_eq!(world.take(slow), ["PUBLISH q1 #201 t=live"]);
    assert_eq!(world.broker(0).counters().queued, queued);
}

#[test]
fn a_message_too_large_for_a_client_is_dropped_for_it_alone() {
    // 5 [MQTT-3.1.2-24], [MQTT-3.1.2-25]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let small = world.connect(
        &v5("small")
            .persistent(100)
            .with(Property::MaximumPacketSize(40)),
    );
    let large = world.connect(&v5("large"));
    for s in [small, large] {
        world.subscribe(s, "t", 1);
    }
    // 1 + 1 + 2 + 1 + 2 + 1 + payload: 32 bytes of payload at QoS 1 make 40.
    for (len, fits) in [(32, true), (33, false), (64, false)] {
        world.publish(p, "t", &"x".repeat(len), 1);
        assert_eq!(world.take(small).len(), usize::from(fits), "{len}");
        assert_eq!(world.take(large).len(), 1);
    }
    world.publish(p, "t", &"x".repeat(34), 0);
    assert_eq!(world.take(small).len(), 1);
    world.publish(p, "t", &"x".repeat(35), 0);
    assert_eq!(world.take(small).len(), 0);
    assert_eq!(world.broker(0).counters().dropped_too_large, 3);
    // From the queue too; the flow goes on.
    world.cut(small);
    world.publish(p, "t", &"x".repeat(100), 1);
    world.publish(p, "t", "fits", 1);
    let small = world.connect(
        &v5("small")
            .persistent(100)
            .with(Property::MaximumPacketSize(40)),
    );
    let lines = world.take(small);
    assert!(lines.last().unwrap().contains("t=fits"), "{lines:?}");
    assert_eq!(world.broker(0).counters().dropped_too_large, 4);
}

#[test]
fn what_breaks_the_protocol_closes_its_connection_only() {
    let mut world = World::new();
    let other = world.connect(&v5("other"));
    // 5 [MQTT-3.1.0-2]
    let twice = world.connect(&v5("twice"));
    world.send_connect(twice, &v5("twice"));
    assert_eq!(world.take(twice), ["DISCONNECT 82", "closed"]);
    let twice = world.connect(&v3("twice"));
    world.send_connect(twice, &v3("twice"));
    assert_eq!(world.take(twice), ["closed"]);
    // 5 [MQTT-3.1.0-1], [MQTT-3.14.0-1]
    let first = world.open();
    world.send(first, &Packet::PingReq);
    assert_eq!(world.take(first), ["closed"]);
    let malformed = world.connect(&v5("malformed"));
    world.send_bytes(malformed, vec![0x36, 3, 0, 1, b'a']);
    assert_eq!(world.take(malformed), ["DISCONNECT 81", "closed"]);
    let malformed = world.connect(&v3("malformed"));
    world.send_bytes(malformed, vec![0x36, 3, 0, 1, b'a']);
    assert_eq!(world.take(malformed), ["closed"]);
    assert!(!world.is_closed(other));
    assert_eq!(world.broker(0).sessions(), 1);
}

#[test]
fn a_drain_tells_everybody() {
    let mut world = World::new();
    let clients = [
        world.connect(&v5("a").persistent(10)),
        world.connect(&v3("b")),
        world.open(),
    ];
    world.drain();
    assert_eq!(world.take(clients[0]), ["DISCONNECT 8B", "closed"]);
    assert_eq!(world.take(clients[1]), ["closed"]);
    assert_eq!(world.take(clients[2]), ["closed"]);
    assert_eq!(
        (world.broker(0).connections(), world.broker(0).sessions()),
        (0, 1)
    );
}
