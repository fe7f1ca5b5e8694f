//! Retained messages.

use waypost_mqtt::{Property, PropertyBuffer, RetainHandling, SubscriptionOptions};

use super::world::{World, options, v3, v5};

#[test]
fn a_new_subscription_gets_the_last_word_on_each_topic() {
    // 5 [MQTT-3.3.1-5], [MQTT-3.3.1-9], 3.1.1 [MQTT-3.3.1-6], [MQTT-3.3.1-8]
    for subscriber in [v3("s"), v5("s")] {
        let mut world = World::new();
        let p = world.connect(&v3("p"));
        world.retain(p, "a/1", "old", 1);
        world.retain(p, "a/1", "new", 1);
        world.retain(p, "a/2", "two", 2);
        world.retain(p, "b", "zero", 0);
        // 5 [MQTT-3.3.1-8], 3.1.1 [MQTT-3.3.1-12]: without RETAIN nothing changes.
        world.publish(p, "a/1", "passing", 1);
        assert_eq!(world.broker(0).retained(), 3);
        let s = world.connect(&subscriber);
        assert_eq!(world.subscribe(s, "a/+", 1), "SUBACK #1 01");
        assert_eq!(
            world.take(s),
            [
                "PUBLISH q1 #1 retain a/1=new",
                "PUBLISH q1 #2 retain a/2=two"
            ]
        );
        // Again at every SUBSCRIBE.
        world.subscribe(s, "#", 0);
        let mut all = world.take(s);
        all.sort();
        assert_eq!(
            all,
            [
                "PUBLISH q0 retain a/1=new",
                "PUBLISH q0 retain a/2=two",
                "PUBLISH q0 retain b=zero"
            ]
        );
        // 3.1.1 [MQTT-3.3.1-9], 5 [MQTT-3.3.1-12]
        world.retain(p, "b", "live", 0);
        assert_eq!(world.take(s), ["PUBLISH q0 b=live"]);
        // 5 [MQTT-3.3.1-6], [MQTT-3.3.1-7], 3.1.1 [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        world.retain(p, "b", "", 0);
        assert_eq!(world.take(s), ["PUBLISH q0 b="]);
        world.subscribe(s, "b", 0);
        assert_eq!(world.take(s), [""; 0]);
        assert_eq!(world.broker(0).retained(), 2);
        // Retained messages survive the session that published them. 3.1.1 [MQTT-3.1.2-7]
        world.cut(p);
        assert_eq!(world.broker(0).retained(), 2);
    }
}

#[test]
fn retain_handling_and_retain_as_published() {
    let with = |retain_handling| SubscriptionOptions {
        retain_handling,
        ..options(0)
    };
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    world.retain(p, "t", "kept", 0);
    let s = world.connect(&v5("s"));
    // 5 [MQTT-3.3.1-11]
    world.subscribe_with(s, &[("t", with(RetainHandling::DoNotSend))], 0);
    assert_eq!(world.take(s), [""; 0]);
    // 5 [MQTT-3.3.1-10]
    world.subscribe_with(s, &[("t", with(RetainHandling::SendIfNew))], 0);
    assert_eq!(world.take(s), [""; 0]);
    world.unsubscribe(s, "t");
    world.subscribe_with(s, &[("t", with(RetainHandling::SendIfNew))], 7);
    assert_eq!(
        world.take(s),
        ["PUBLISH q0 retain t=kept SubscriptionIdentifier(7)"]
    );
    // 5 [MQTT-3.3.1-13]
    world.subscribe_with(
        s,
        &[(
            "t",
            SubscriptionOptions {
                retain_as_published: true,
                ..with(RetainHandling::DoNotSend)
            },
        )],
        0,
    );
    world.retain(p, "t", "live", 0);
    world.publish(p, "t", "plain", 0);
    assert_eq!(
        world.take(s),
        ["PUBLISH q0 retain t=live", "PUBLISH q0 t=plain"]
    );
}

#[test]
fn no_local_holds_for_retained_messages_too() {
    // 5 [MQTT-3.8.3-3]
    let mut world = World::new();
    let c = world.connect(&v5("c"));
    world.retain(c, "t", "own", 0);
    world.subscribe_with(
        c,
        &[(
            "t",
            SubscriptionOptions {
                no_local: true,
                ..options(0)
            },
        )],
        0,
    );
    world.publish(c, "t", "own", 0);
    assert_eq!(world.take(c), [""; 0]);
    world.subscribe(c, "t", 0);
    world.publish(c, "t", "live", 0);
    assert_eq!(
        world.take(c),
        ["PUBLISH q0 retain t=own", "PUBLISH q0 t=live"]
    );
}

#[test]
fn a_retained_message_expires() {
    // 5 [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let mut expiry = PropertyBuffer::new();
    expiry.push(Property::MessageExpiryInterval(10));
    world.publish_with(p, "t", "short", 0, 0, true, &expiry);
    world.advance(4_000);
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 0);
    assert_eq!(
        world.take(s),
        ["PUBLISH q0 retain t=short MessageExpiryInterval(6)"]
    );
    world.advance(6_000);
    assert_eq!(
        (world.broker(0).retained(), world.broker(0).retained_bytes()),
        (0, 0)
    );
    assert_eq!(world.broker(0).counters().retained_expired, 1);
    world.subscribe(s, "t", 0);
    assert_eq!(world.take(s), [""; 0]);
}

#[test]
fn what_is_replaced_again_and_again_leaves_no_expiry_behind() {
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let mut expiry = PropertyBuffer::new();
    expiry.push(Property::MessageExpiryInterval(1000));
    for _ in 0..1_000 {
        world.publish_with(p, "t", "x", 0, 0, true, &expiry);
    }
    world.retain(p, "t", "for ever", 0);
    world.advance(2_000_000);
    assert_eq!(world.broker(0).retained(), 1);
    assert_eq!(world.broker(0).timers(), 0);
}

#[test]
fn the_store_is_bounded_by_messages_and_bytes() {
    for (count, kept, refused) in [(3, 3, 0), (4, 3, 1), (6, 3, 3)] {
        let mut world = World::with_limits(|limits| limits.retained_messages_max = 3);
        let p = world.connect(&v5("p"));
        let s = world.connect(&v5("s"));
        world.subscribe(s, "#", 0);
        for topic in 0..count {
            world.retain(p, &format!("t{topic}"), "x", 0);
        }
        assert_eq!(world.take(s).len(), count, "all are delivered");
        assert_eq!(
            (
                world.broker(0).retained(),
                world.broker(0).counters().retained_refused
            ),
            (kept, refused)
        );
        world.retain(p, "t0", "replaced", 0);
        assert_eq!(world.broker(0).counters().retained_refused, refused);
    }
    let mut world = World::with_limits(|limits| limits.retained_bytes_max = 20);
    let p = world.connect(&v5("p"));
    world.retain(p, "t", "0123456789", 0);
    world.retain(p, "u", "0123456789", 0);
    assert_eq!(
        (world.broker(0).retained(), world.broker(0).retained_bytes()),
        (1, 11)
    );
    world.retain(p, "t", "01234567890123456789", 0);
    assert_eq!(
        (world.broker(0).retained(), world.broker(0).retained_bytes()),
        (0, 0),
        "the old word is not the last"
    );
}

#[test]
fn what_the_server_retains_itself_is_always_kept() {
    let mut world = World::with_limits(|limits| {
        limits.retained_messages_max = 1;
        limits.retained_bytes_max = 10;
    });
    let p = world.connect(&v5("p"));
    world.publish_system("$SYS/before", "more than ten bytes", true);
    world.retain(p, "t", "x", 0);
    for value in ["1", "2"] {
        world.publish_system("$SYS/after", value, true);
        world.publish_system("$SYS/before", value, true);
    }
    world.retain(p, "u", "refused", 0);
    let broker = world.broker(0);
    assert_eq!(broker.retained(), 3);
    assert_eq!(broker.counters().retained_refused, 1);
    let s = world.connect(&v5("s"));
    world.subscribe(s, "$SYS/+", 0);
    world.subscribe(s, "#", 0);
    let mut lines = world.take(s);
    lines.sort();
    assert_eq!(
        lines,
        [
            "PUBLISH q0 retain $SYS/after=2",
            "PUBLISH q0 retain $SYS/before=2",
            "PUBLISH q0 retain t=x",
        ]
    );
    for topic in ["$SYS/before", "$SYS/after"] {
        world.publish_system(topic, "", true);
    }
    world.retain(p, "t", "", 0);
    let broker = world.broker(0);
    assert_eq!((broker.retained(), broker.retained_bytes()), (0, 0));
    world.retain(p, "u", "kept", 0);
    assert_eq!(world.broker(0).retained(), 1);
}

#[test]
fn many_retained_messages_go_out_as_there_is_room() {
    let mut world = World::with_limits(|limits| {
        limits.outbox_bytes_max = 2_000;
        limits.inflight_max = 10;
        limits.burst_messages_max = 7;
    });
    let p = world.connect(&v5("p"));
    for n in 0..1_000 {
        world.retain(p, &format!("a/{n:03}"), "some payload", 1);
        world.take(p);
    }
    // QoS 0: the outbox is the bound.
    let s = world.connect(&v5("s"));
    world.stall(s, true);
    world.subscribe(s, "a/#", 0);
    assert!(world.take(s).len() < 100);
    let mut all = 0;
    while all < 900 {
        world.stall(s, false);
        let more = world.take(s).len();
        assert!(more > 0, "{all} and then nothing");
        all += more;
        world.stall(s, true);
    }
    // QoS 1: the window is. What is replaced meanwhile comes live, once.
    let s = world.connect(&v5("q"));
    world.subscribe(s, "a/#", 1);
    let mut seen: Vec<String> = world.take(s);
    assert_eq!(seen.len(), 10);
    world.retain(p, "a/500", "newer", 1);
    let mut acked = 0;
    while acked < seen.len() {
        acked += 1;
        world.ack(s, "PUBACK", u16::try_from(acked).unwrap());
        seen.extend(world.take(s));
    }
    let of_500: Vec<_> = seen.iter().filter(|line| line.contains("a/500")).collect();
    assert!(
        of_500.len() == 1 && of_500[0].contains("newer") && !of_500[0].contains("retain"),
        "{of_500:?}"
    );
    assert_eq!(seen.len(), 1_000);
}

#[test]
fn an_old_retained_message_does_not_follow_a_newer_one() {
    let mut world = World::with_limits(|limits| limits.inflight_max = 1);
    let p = world.connect(&v5("p"));
    for topic in ["a/1", "a/2"] {
        world.retain(p, topic, "old", 1);
    }
    let s = world.connect(&v5("s"));
    world.subscribe(s, "a/+", 1);
    let first = world.take(s);
    assert_eq!(first.len(), 1, "{first:?}");
    // At QoS 0 they need not wait.
    for topic in ["a/1", "a/2"] {
        world.retain(p, topic, "new", 0);
    }
    assert_eq!(world.take(s), ["PUBLISH q0 a/1=new", "PUBLISH q0 a/2=new"]);
    world.ack(s, "PUBACK", 1);
    assert_eq!(world.take(s), [""; 0]);
}
