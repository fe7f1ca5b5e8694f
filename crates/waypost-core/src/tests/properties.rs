//! Topic aliases, User Properties, Reason Codes and Reason Strings.

use waypost_mqtt::{Ack, Disconnect, Packet, PacketId, Property, PropertyBuffer, ReasonCode};

use super::flow::one;
use super::world::{World, options, v3, v5};

#[test]
fn reason_strings_are_left_out_where_they_do_not_fit_or_are_not_wanted() {
    // 5 [MQTT-3.4.2-2], [MQTT-3.1.2-29]
    for (options, expected) in [
        (
            v5("a"),
            "PUBACK #10 87 ReasonString(\"the topic is the server's\")",
        ),
        (
            v5("b").with(Property::MaximumPacketSize(30)),
            "PUBACK #10 87",
        ),
        (
            v5("c").with(Property::RequestProblemInformation(false)),
            "PUBACK #10 87",
        ),
    ] {
        let mut world = World::new();
        let (client, _) = world.try_connect(&options);
        world.publish(client, "$SYS/x", "x", 1);
        assert_eq!(world.take(client), [expected]);
    }
}

#[test]
fn topic_aliases_of_clients() {
    let mut world = World::with_limits(|limits| limits.topic_alias_max = 3);
    let s = world.connect(&v5("s"));
    world.subscribe(s, "#", 0);
    let (p, connack) = world.try_connect(&v5("p"));
    assert_eq!(connack, "CONNACK 00 TopicAliasMaximum(3)");
    let send = |world: &mut World, p, topic, alias| {
        world.publish_with(
            p,
            topic,
            "x",
            0,
            0,
            false,
            &one(Property::TopicAlias(alias)),
        );
    };
    // 5 [MQTT-3.3.2-12]: every one up to the maximum; it may be taught anew.
    send(&mut world, p, "a", 3);
    send(&mut world, p, "", 3);
    send(&mut world, p, "b", 3);
    send(&mut world, p, "", 3);
    assert_eq!(
        world.take(s),
        [
            "PUBLISH q0 a=x",
            "PUBLISH q0 a=x",
            "PUBLISH q0 b=x",
            "PUBLISH q0 b=x"
        ]
    );
    // 5 [MQTT-3.3.2-7]: not beyond the connection.
    let q = world.connect(&v5("q"));
    send(&mut world, q, "", 3);
    assert_eq!(world.take(q), ["DISCONNECT 82", "closed"]);
    // At N + 1 and 2 N.
    for alias in [4, 6] {
        let q = world.connect(&v5("q"));
        send(&mut world, q, "t", alias);
        assert_eq!(world.take(q), ["DISCONNECT 94", "closed"]);
    }
    let mut world = World::with_limits(|limits| limits.topic_alias_max = 0);
    let p = world.connect(&v5("p"));
    send(&mut world, p, "a", 1);
    assert_eq!(world.take(p), ["DISCONNECT 94", "closed"]);
}

#[test]
fn topic_aliases_of_the_server() {
    // 5 [MQTT-3.1.2-26], [MQTT-3.1.2-27], [MQTT-3.3.2-11]
    let mut world = World::with_limits(|limits| limits.topic_alias_out_max = 2);
    let p = world.connect(&v5("p"));
    let none = world.connect(&v5("none"));
    let one = world.connect(&v5("one").with(Property::TopicAliasMaximum(1)));
    let many = world.connect(&v5("many").with(Property::TopicAliasMaximum(100)));
    for s in [none, one, many] {
        world.subscribe(s, "#", 1);
    }
    for topic in ["long/a", "long/b", "long/c", "long/b", "long/a"] {
        world.publish(p, topic, "x", 0);
    }
    assert!(world.take(none).iter().all(|line| !line.contains("Alias")));
    assert_eq!(
        world.take(one),
        [
            "PUBLISH q0 long/a=x TopicAlias(1)",
            "PUBLISH q0 long/b=x",
            "PUBLISH q0 long/c=x",
            "PUBLISH q0 long/b=x",
            "PUBLISH q0 =x TopicAlias(1)",
        ]
    );
    assert_eq!(
        world.take(many),
        [
            "PUBLISH q0 long/a=x TopicAlias(1)",
            "PUBLISH q0 long/b=x TopicAlias(2)",
            "PUBLISH q0 long/c=x",
            "PUBLISH q0 =x TopicAlias(2)",
            "PUBLISH q0 =x TopicAlias(1)",
        ]
    );
    world.publish(p, "long/a", "x", 1);
    assert_eq!(world.take(many), ["PUBLISH q1 #1 =x TopicAlias(1)"]);
}

#[test]
fn too_many_user_properties_are_refused() {
    for (count, ok) in [(3, true), (4, false), (6, false)] {
        let mut world = World::with_limits(|limits| limits.user_properties_max = 3);
        let p = world.connect(&v5("p"));
        let mut buffer = PropertyBuffer::new();
        for _ in 0..count {
            buffer.push(Property::UserProperty("name", "value"));
        }
        world.publish_with(p, "t", "x", 1, 7, false, &buffer);
        let expected = if ok { "PUBACK #7 10" } else { "PUBACK #7 97" };
        assert!(world.take(p)[0].starts_with(expected));
        assert_eq!(
            world.broker(0).counters().user_properties_exceeded,
            u64::from(!ok)
        );
    }
}

#[test]
fn a_client_too_small_for_a_connack_is_not_connected() {
    // 5 [MQTT-3.1.2-24], [MQTT-3.2.0-1]
    let mut world = World::new();
    let old = world.connect(&v5("c"));
    for (bytes_max, expected) in [
        (15, &["CONNACK 95", "closed"][..]),
        (5, &["CONNACK 95", "closed"]),
        (4, &["closed"]),
    ] {
        let c = world.open();
        world.send_connect(c, &v5("c").with(Property::MaximumPacketSize(bytes_max)));
        assert_eq!(world.take(c), expected, "{bytes_max}");
        assert!(!world.is_closed(old), "the session stays with its client");
    }
    world.connect(&v5("c").with(Property::MaximumPacketSize(16)));
    assert!(world.is_closed(old));
}

#[test]
fn too_many_user_properties_in_a_packet_without_answer_close_the_connection() {
    let mut buffer = PropertyBuffer::new();
    for _ in 0..4 {
        buffer.push(Property::UserProperty("name", "value"));
    }
    let ack = Ack {
        packet_id: PacketId::new(1).unwrap(),
        reason: ReasonCode::Success,
        properties: buffer.as_properties(),
    };
    let disconnect = Disconnect {
        reason: ReasonCode::Success,
        properties: buffer.as_properties(),
    };
    for packet in [
        Packet::PubAck(ack),
        Packet::PubRec(ack),
        Packet::PubRel(ack),
        Packet::PubComp(ack),
        Packet::Disconnect(disconnect),
    ] {
        let mut world = World::with_limits(|limits| limits.user_properties_max = 3);
        let c = world.connect(&v5("c"));
        world.send(c, &packet);
        assert_eq!(world.take(c), ["DISCONNECT 97", "closed"]);
    }
}

#[test]
fn reserved_properties_are_refused() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "#", 2);
    let p = world.connect(&v5("p"));
    for name in [
        "waypost-stream",
        "waypost-offset",
        "waypost-time",
        "waypost-dead-count",
    ] {
        for qos in 0..3 {
            world.publish_with(
                p,
                "t",
                "x",
                qos,
                7,
                false,
                &one(Property::UserProperty(name, "1")),
            );
        }
        let lines = world.take(p);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("PUBACK #7 83 ReasonString(")
                && lines[1].starts_with("PUBREC #7 83"),
            "{lines:?}"
        );
    }
    assert_eq!(world.take(s), [""; 0]);
    assert_eq!(world.broker(0).counters().publishes_reserved_property, 12);
    // 5 [MQTT-4.3.3-9]: the identifier is free again.
    world.publish_with(p, "t", "x", 2, 7, false, &PropertyBuffer::new());
    assert_eq!(world.take(p), ["PUBREC #7"]);
    assert_eq!(world.take(s).len(), 1);
}

#[test]
fn a_publisher_learns_that_nobody_listens() {
    // 5 §3.4.2.1: 0x10 is the server's to give.
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let old = world.connect(&v3("old"));
    for (client, expected) in [(p, "PUBACK #10 10"), (old, "PUBACK #10")] {
        world.publish(client, "t", "x", 1);
        assert_eq!(world.take(client), [expected]);
    }
    world.publish(p, "t", "x", 2);
    assert_eq!(world.take(p), ["PUBREC #10 10"]);
    assert_eq!(world.broker(0).counters().publishes_unmatched, 3);
}

#[test]
fn acknowledgements_repeat_the_identifier() {
    // 5 [MQTT-2.2.1-5], [MQTT-2.2.1-6]
    let mut world = World::new();
    let client = world.connect(&v5("c"));
    for id in [1, 77, 65_535] {
        world.publish_with(client, "t", "x", 1, id, false, &PropertyBuffer::new());
        let filters = [waypost_mqtt::Filter::parse("f").unwrap()];
        let packet_id = PacketId::new(id).unwrap();
        let unsubscribe =
            waypost_mqtt::Unsubscribe::new(packet_id, waypost_mqtt::Properties::EMPTY, &filters);
        world.send(client, &Packet::Unsubscribe(unsubscribe));
        world.send(
            client,
            &Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)),
        );
        let ids = format!("#{id}");
        assert!(
            world
                .take(client)
                .iter()
                .all(|line| line.split(' ').nth(1) == Some(&ids))
        );
    }
    assert_eq!(
        world.subscribe_with(client, &[("a", options(0)), ("b", options(2))], 0),
        "SUBACK #1 00 02"
    );
}
