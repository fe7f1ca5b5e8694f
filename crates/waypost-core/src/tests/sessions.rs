//! Sessions: whose they are, how long they live, what they owe.

use waypost_mqtt::{Packet, Property, PropertyBuffer, ReasonCode};

use super::world::{World, v3, v5};

#[test]
fn session_present_says_what_was_kept() {
    let mut world = World::new();
    // 5 [MQTT-3.2.2-2], [MQTT-3.2.2-3], 3.1.1 [MQTT-3.2.2-1] to [MQTT-3.2.2-3]
    for (name, first, again, expected) in [
        (
            "3.1.1 kept",
            v3("a").persistent(0),
            v3("a").persistent(0),
            "CONNACK 00 present",
        ),
        (
            "3.1.1 clean after",
            v3("b").persistent(0),
            v3("b"),
            "CONNACK 00",
        ),
        (
            "3.1.1 clean before",
            v3("c"),
            v3("c").persistent(0),
            "CONNACK 00",
        ),
        (
            "5 kept",
            v5("d").persistent(60),
            v5("d").persistent(60),
            "CONNACK 00 present",
        ),
        ("5 no expiry", v5("e"), v5("e").clean(false), "CONNACK 00"),
        (
            "5 clean after",
            v5("f").persistent(60),
            v5("f"),
            "CONNACK 00",
        ),
        (
            "5 after 3.1.1",
            v3("g").persistent(0),
            v5("g").clean(false),
            "CONNACK 00 present",
        ),
    ] {
        let client = world.connect(&first);
        world.cut(client);
        let (client, connack) = world.try_connect(&again);
        assert_eq!(connack, expected, "{name}");
        // The same, taken over while it is connected.
        world.cut(client);
        let old = world.connect(&first);
        let (_, connack) = world.try_connect(&again);
        assert_eq!(connack, expected, "{name}, taken over");
        assert!(world.is_closed(old));
    }
}

#[test]
fn who_is_taken_over_is_told() {
    let mut world = World::new();
    // 5 [MQTT-3.1.4-3], 3.1.1 [MQTT-3.1.4-2]
    let old = world.connect(&v5("x"));
    world.connect(&v3("x"));
    assert_eq!(world.take(old), ["DISCONNECT 8E", "closed"]);
    let old = world.connect(&v3("y"));
    world.connect(&v5("y"));
    assert_eq!(world.take(old), ["closed"]);
    assert_eq!(world.broker(0).counters().takeovers, 2);
    assert_eq!(world.broker(0).sessions(), 2);
}

#[test]
fn a_session_belongs_to_the_user_who_made_it() {
    let mut world = World::new();
    let alice = world.connect(&v5("x").persistent(60).user("alice"));
    for other in [v5("x").user("bob"), v5("x")] {
        let (client, connack) = world.try_connect(&other);
        assert_eq!(connack, "CONNACK 87");
        assert!(world.is_closed(client));
    }
    // 3.1.1 code 5 reads back as Not authorized.
    assert_eq!(world.try_connect(&v3("x").user("bob")).1, "CONNACK 87");
    assert!(!world.is_closed(alice), "the old connection is untouched");
    world.cut(alice);
    assert_eq!(
        world.try_connect(&v5("x").clean(false).user("alice")).1,
        "CONNACK 00 present"
    );
}

#[test]
fn an_empty_client_id_gets_one_assigned() {
    let mut world = World::new();
    // 5 [MQTT-3.2.2-16]
    let (a, first) = world.try_connect(&v5(""));
    let (_, second) = world.try_connect(&v5("").persistent(10));
    assert!(
        first.contains("AssignedClientIdentifier(\"waypost-"),
        "{first}"
    );
    assert_ne!(first, second);
    assert_eq!(world.broker(0).sessions(), 2);
    assert!(!world.is_closed(a));
    // 3.1.1 [MQTT-3.1.3-6], [MQTT-3.1.3-8]
    assert_eq!(world.try_connect(&v3("")).1, "CONNACK 00");
    let (client, connack) = world.try_connect(&v3("").persistent(0));
    assert_eq!(connack, "CONNACK 85");
    assert!(world.is_closed(client));
}

#[test]
fn a_session_ends_when_its_expiry_runs_out() {
    // 5 [MQTT-4.1.0-2], [MQTT-3.1.2-23]
    let mut world = World::new();
    let s = world.connect(&v5("s").persistent(10));
    world.subscribe(s, "t", 1);
    world.advance(60_000);
    assert_eq!(
        world.broker(0).sessions(),
        1,
        "no expiry while it is connected"
    );
    world.cut(s);
    world.advance(9_999);
    assert_eq!(world.broker(0).sessions(), 1);
    world.advance(1);
    assert_eq!(
        (world.broker(0).sessions(), world.broker(0).subscriptions()),
        (0, 0)
    );
    assert_eq!(world.broker(0).counters().sessions_expired, 1);
}

#[test]
fn disconnect_may_change_the_expiry() {
    let mut world = World::new();
    let expiry = |seconds| {
        let mut buffer = PropertyBuffer::new();
        buffer.push(Property::SessionExpiryInterval(seconds));
        buffer
    };
    let s = world.connect(&v5("s").persistent(10));
    world.disconnect_with(s, ReasonCode::Success, &expiry(100));
    world.advance(99_000);
    assert_eq!(world.broker(0).sessions(), 1);
    let s = world.connect(&v5("s").persistent(10));
    world.disconnect_with(s, ReasonCode::Success, &expiry(0));
    assert_eq!(world.broker(0).sessions(), 0);
    // 5 §3.14.2.2.2: a Protocol Error after 0 at CONNECT.
    let s = world.connect(&v5("s"));
    world.disconnect_with(s, ReasonCode::Success, &expiry(5));
    assert_eq!(world.take(s), ["DISCONNECT 82", "closed"]);
}

#[test]
fn the_expiry_is_bounded_and_connack_says_so() {
    let mut world = World::with_limits(|limits| limits.session_expiry_max_s = 100);
    assert_eq!(world.try_connect(&v5("a").persistent(100)).1, "CONNACK 00");
    assert_eq!(
        world.try_connect(&v5("b").persistent(101)).1,
        "CONNACK 00 SessionExpiryInterval(100)"
    );
    let s = world.connect(&v3("c").persistent(0));
    world.cut(s);
    world.advance(100_000);
    assert_eq!(world.broker(0).sessions(), 2);
}

#[test]
fn sessions_are_bounded() {
    for (count, refused) in [(2, 0), (3, 1), (4, 2)] {
        let mut world = World::with_limits(|limits| limits.sessions_max = 2);
        let acks: Vec<_> = (0..count)
            .map(|n| world.try_connect(&v5(&n.to_string())).1)
            .collect();
        assert_eq!(
            acks.iter().filter(|ack| *ack == "CONNACK 97").count(),
            refused
        );
        assert_eq!(world.broker(0).counters().sessions_refused, refused as u64);
    }
    let mut world = World::with_limits(|limits| limits.sessions_max = 0);
    assert_eq!(world.try_connect(&v3("x")).1, "CONNACK 88");
}

#[test]
fn an_absent_session_is_owed_qos_1_and_2_in_order() {
    // 3.1.1 [MQTT-3.1.2-5], 5 [MQTT-4.5.0-1]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    for options in [|| v3("s3").persistent(0), || v5("s5").persistent(100)] {
        let s = world.connect(&options());
        world.subscribe(s, "t", 2);
        world.cut(s);
        for (at, qos) in [1, 2, 0, 1].into_iter().enumerate() {
            world.publish_with(
                p,
                "t",
                &at.to_string(),
                qos,
                10 + u16::try_from(at).unwrap(),
                false,
                &PropertyBuffer::new(),
            );
        }
        world.ack(p, "PUBREL", 11);
        let s = world.connect(&options());
        assert_eq!(
            world.take(s),
            [
                "PUBLISH q1 #1 t=0",
                "PUBLISH q2 #2 t=1",
                "PUBLISH q1 #3 t=3"
            ]
        );
        // 5 [MQTT-4.4.0-1], [MQTT-3.3.1-1]: what was not acknowledged comes again, with DUP and its identifier.
        world.ack(s, "PUBACK", 1);
        world.ack(s, "PUBREC", 2);
        world.take(s);
        world.cut(s);
        let s = world.connect(&options());
        assert_eq!(world.take(s), ["PUBREL #2", "PUBLISH q1 #3 dup t=3"]);
        world.ack(s, "PUBACK", 3);
        world.ack(s, "PUBCOMP", 2);
        world.cut(s);
        let s = world.connect(&options());
        assert_eq!(world.take(s), [""; 0]);
    }
}

#[test]
fn a_publisher_may_go_on_with_its_qos_2_after_a_break() {
    // 5 [MQTT-4.3.3-10], [MQTT-4.3.3-12]
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 0);
    let p = world.connect(&v5("p").persistent(60));
    world.publish(p, "t", "once", 2);
    world.cut(p);
    let p = world.connect(&v5("p").persistent(60));
    world.publish(p, "t", "once", 2);
    assert_eq!(world.take(p), ["PUBREC #10"]);
    world.ack(p, "PUBREL", 10);
    world.ack(p, "PUBREL", 10);
    assert_eq!(world.take(p), ["PUBCOMP #10", "PUBCOMP #10 92"]);
    world.publish(p, "t", "new", 2);
    assert_eq!(world.take(s), ["PUBLISH q0 t=once", "PUBLISH q0 t=new"]);
}

#[test]
fn keep_alive_is_one_and_a_half_times() {
    // 5 [MQTT-3.1.2-22], 3.1.1 [MQTT-3.1.2-24]
    let mut world = World::new();
    let a = world.connect(&v5("a").keep_alive(10));
    let b = world.connect(&v3("b").keep_alive(10));
    let c = world.connect(&v3("c").keep_alive(0));
    world.advance(14_999);
    world.send(a, &Packet::PingReq);
    assert_eq!(world.take(a), ["PINGRESP"]);
    assert!(!world.is_closed(b));
    world.advance(1);
    assert_eq!(world.take(b), ["closed"]);
    world.advance(14_998);
    assert!(!world.is_closed(a));
    world.advance(1);
    assert_eq!(world.take(a), ["DISCONNECT 8D", "closed"]);
    world.advance(1_000_000_000);
    assert!(!world.is_closed(c));
    assert_eq!(world.broker(0).counters().keep_alive_timeouts, 2);
}

#[test]
fn the_server_may_shorten_the_keep_alive() {
    // 5 [MQTT-3.1.2-21], [MQTT-3.2.2-22]
    let mut world = World::with_limits(|limits| limits.keep_alive_max_s = 20);
    for (keep_alive, expected) in [
        (20, "CONNACK 00"),
        (21, "CONNACK 00 ServerKeepAlive(20)"),
        (0, "CONNACK 00 ServerKeepAlive(20)"),
    ] {
        let (client, connack) = world.try_connect(&v5("a").keep_alive(keep_alive));
        assert_eq!(connack, expected);
        world.advance(30_000);
        assert!(world.is_closed(client));
    }
}

#[test]
fn a_connection_has_so_long_for_its_connect() {
    let mut world = World::new();
    let silent = world.open();
    world.advance(9_999);
    assert!(!world.is_closed(silent));
    world.advance(1);
    assert_eq!(world.take(silent), ["closed"]);
    assert_eq!(world.broker(0).counters().connect_timeouts, 1);
}

#[test]
fn nothing_is_left_of_sessions_that_ended() {
    let mut world = World::new();
    for round in 0..3_000 {
        let id = format!("c{}", round % 7);
        let client = world.connect(&v5(&id).keep_alive(60).persistent(u32::from(round % 2 == 0)));
        world.subscribe(client, "a/+/b", 1);
        world.cut(client);
    }
    assert!(
        world.broker(0).timers() < 2_000,
        "{} deadlines",
        world.broker(0).timers()
    );
    world.advance(120_000);
    let broker = world.broker(0);
    assert_eq!(
        (
            broker.sessions(),
            broker.connections(),
            broker.subscriptions(),
            broker.timers()
        ),
        (0, 0, 0, 0)
    );
    assert_eq!(broker.index.nodes(), World::new().broker(0).index.nodes());
    assert_eq!(broker.sessions_connected(), 0);
}
