//! Delayed messages: when they come, what is refused, names, limits, permissions and restarts.

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::world::{Client, World, options, v3, v5};
use crate::journal::Table;
use crate::{Action, AllowAll, Counters, Limits, Permit, Verdict, Who};

/// What may be cut off below a millisecond.
pub(super) const LATE_MS: u64 = 3;

pub(super) fn properties(of: &[(&str, &str)]) -> PropertyBuffer {
    let mut buffer = PropertyBuffer::new();
    for (name, value) in of {
        buffer.push(Property::UserProperty(name, value));
    }
    buffer
}

/// Publishes under a name with Packet Identifier 10 and takes the answer.
pub(super) fn named(
    world: &mut World,
    client: Client,
    topic: &str,
    payload: &str,
    delay_s: u32,
    delay_id: &str,
) -> Vec<String> {
    let delay = delay_s.to_string();
    let properties = properties(&[("waypost-delay", &delay), ("waypost-delay-id", delay_id)]);
    world.publish_with(client, topic, payload, 1, 10, false, &properties);
    world.take(client)
}

pub(super) fn counter(world: &World, read: impl Fn(&Counters) -> u64) -> u64 {
    let shards = 0..world.shards();
    shards
        .map(|shard| read(world.broker(shard).counters()))
        .sum()
}

/// Nothing waits, here or in the store.
pub(super) fn check_nothing_waits(world: &World) {
    assert_eq!(world.broker(0).delayed(), 0);
    let rows = world.store.durable.rows.keys();
    let rows: Vec<_> = rows.filter(|(table, _)| *table == Table::DELAYED).collect();
    assert!(rows.is_empty(), "{rows:?}");
}

/// Goal: a message comes at its time and not before, as it was published. Method: each version, QoS and way to say it,
/// published and received on each of one to three shards.
#[test]
fn a_message_comes_at_its_time() {
    for shards in 1..=3 {
        for at in 0..usize::from(shards) {
            let mut world = World::with(shards, Limits::default());
            let s = world.connect(&v5("s").at(usize::from(shards) - 1));
            world.subscribe(s, "a/#", 2);
            let p = world.connect(&v5("p").at(at));
            let old = world.connect(&v3("old").at(at));
            for qos in 0..3 {
                let acknowledged = ["", "PUBACK #10", "PUBREC #10"][usize::from(qos)];
                let expect = format!("PUBLISH q{qos}");
                let by_property = properties(&[("x", "1"), ("waypost-delay", "60")]);
                world.publish_with(p, "a/b", "late", qos, 10, false, &by_property);
                world.publish(old, "$delayed/60/a/b", "later", qos);
                for client in [p, old] {
                    assert_eq!(world.take(client).concat(), acknowledged);
                    if qos == 2 {
                        world.ack(client, "PUBREL", 10);
                        world.take(client);
                    }
                }
                assert_eq!(world.broker(0).delayed(), 2);
                world.advance(60_000);
                assert_eq!(world.take(s), [""; 0], "{shards} shards, QoS {qos}");
                world.advance(LATE_MS);
                let lines = world.take(s);
                let [late, later] = lines.as_slice() else {
                    panic!("{shards} shards, QoS {qos}: {lines:?}");
                };
                assert!(late.starts_with(&expect), "{late}");
                assert!(
                    late.ends_with(" a/b=late UserProperty(\"x\", \"1\")"),
                    "{late}"
                );
                assert!(later.ends_with(" a/b=later"), "{later}");
                for id in 1..=2 {
                    match qos {
                        1 => world.ack(s, "PUBACK", 2 * u16::from(qos) - 2 + id),
                        2 => {
                            world.ack(s, "PUBREC", 2 + id);
                            world.ack(s, "PUBCOMP", 2 + id);
                        }
                        _ => {}
                    }
                }
                world.take(s);
            }
            check_nothing_waits(&world);
            assert_eq!(counter(&world, |of| of.delayed_accepted), 6);
            assert_eq!(counter(&world, |of| of.delayed_released), 6);
        }
    }
}

/// They come in the order of their times, and of one time in that in which they were accepted.
#[test]
fn messages_come_in_the_order_of_their_times() {
    let mut world = World::with(2, Limits::default());
    let s = world.connect(&v5("s"));
    world.subscribe(s, "#", 0);
    let p = world.connect(&v5("p").at(1));
    for delay in [5, 2, 9, 2, 1, 5] {
        let accepted = counter(&world, |of| of.delayed_accepted);
        world.publish(
            p,
            &format!("$delayed/{delay}/t"),
            &format!("{delay}-{accepted}"),
            1,
        );
    }
    world.advance(9_000 + LATE_MS);
    let came: Vec<_> = world.take(s);
    let expect = ["1-4", "2-1", "2-3", "5-0", "5-5", "9-2"];
    assert_eq!(
        came,
        expect.map(|payload| format!("PUBLISH q0 t={payload}"))
    );
}

/// 0 is at once: a plain message, whose topic and properties are those it was to have.
#[test]
fn no_delay_is_at_once() {
    let mut world = World::new().without_store();
    let clients = [world.connect(&v5("s")), world.connect(&v3("old"))];
    for s in clients {
        world.subscribe(s, "t", 0);
    }
    let p = world.connect(&v5("p"));
    world.publish(p, "$delayed/0/t", "one", 0);
    world.publish_with(
        p,
        "t",
        "two",
        0,
        0,
        false,
        &properties(&[("waypost-delay", "0")]),
    );
    let old = world.connect(&v3("p2"));
    world.publish(old, "$delayed/0/t", "three", 0);
    for s in clients {
        let expect = ["one", "two", "three"].map(|payload| format!("PUBLISH q0 t={payload}"));
        assert_eq!(world.take(s), expect);
    }
}

/// What cannot be is refused with a reason: of a topic 0x90, of a property 0x83, and 0x83 where there is no store. A
/// client of 3.1.1 is acknowledged as ever.
#[test]
fn what_cannot_be_is_refused() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "#", 0);
    world.subscribe(s, "$delayed/#", 0);
    let p = world.connect(&v5("p"));
    let none = PropertyBuffer::new();
    for (topic, reason) in [
        ("$delayed/x/t", "90"),
        ("$delayed/31536001/t", "90"),
        ("$delayed/5", "90"),
        ("$delayed/5/$SYS/t", "87"),
        ("$delayed/0/$events/t", "87"),
        ("$delayed/5/$delayed/5/t", "90"),
    ] {
        world.publish_with(p, topic, "x", 1, 10, false, &none);
        let answer = world.take(p).concat();
        let start = format!("PUBACK #10 {reason} ReasonString(");
        assert!(answer.starts_with(&start), "{topic}: {answer}");
    }
    let levels = "/".repeat(200);
    world.publish_with(p, &format!("$delayed/5/{levels}"), "x", 1, 10, false, &none);
    assert!(world.take(p).concat().starts_with("PUBACK #10 90"));
    for wrong in [
        &[("waypost-delay", "1.5")][..],
        &[("waypost-delay-id", "x")],
        &[("waypost-delay", "1"), ("waypost-delay", "1")],
    ] {
        world.publish_with(p, "t", "x", 1, 10, false, &properties(wrong));
        let answer = world.take(p).concat();
        assert!(
            answer.starts_with("PUBACK #10 83 ReasonString("),
            "{answer}"
        );
    }
    let both = properties(&[("waypost-delay", "1")]);
    world.publish_with(p, "$delayed/1/t", "x", 2, 10, false, &both);
    assert!(world.take(p).concat().starts_with("PUBREC #10 83"));
    assert_eq!(counter(&world, |of| of.delayed_invalid), 8);
    let old = world.connect(&v3("old"));
    world.publish(old, "$delayed/x/t", "x", 1);
    assert_eq!(world.take(old), ["PUBACK #10"]);
    world.publish(old, "$delayed/x/t", "x", 0);
    assert_eq!(world.take(old), [""; 0]);
    // A will has its own delay.
    for will in [
        v5("w").will("$delayed/5/t", "x", 0, false),
        v5("w")
            .will("t", "x", 0, false)
            .will_with(Property::UserProperty("waypost-delay", "5")),
    ] {
        let (_, answer) = world.try_connect(&will);
        assert!(answer.starts_with("CONNACK 83"), "{answer}");
    }
    world.advance(100_000);
    assert_eq!(world.take(s), [""; 0]);
    let mut world = World::new().without_store();
    let p = world.connect(&v5("p"));
    world.publish(p, "$delayed/5/t", "x", 1);
    let answer = world.take(p).concat();
    assert_eq!(
        answer,
        "PUBACK #10 83 ReasonString(\"a delay needs a store\")"
    );
}

/// Message Expiry Interval begins at the time of a message, and it is retained then.
#[test]
fn expiry_and_retain_begin_at_the_time() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 1);
    let away = world.connect(&v5("away").persistent(1_000));
    world.subscribe(away, "t", 1);
    world.cut(away);
    let p = world.connect(&v5("p"));
    let mut buffer = properties(&[("waypost-delay", "60")]);
    buffer.push(Property::MessageExpiryInterval(10));
    world.publish_with(p, "t", "x", 1, 10, true, &buffer);
    let reader = world.connect(&v5("reader"));
    world.advance(59_000);
    world.subscribe(reader, "t", 0);
    assert_eq!(world.take(reader), [""; 0], "not retained yet");
    world.advance(1_000 + LATE_MS);
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #1 t=x MessageExpiryInterval(10)"]
    );
    world.advance(4_000);
    world.subscribe(reader, "t", 0);
    let kept = world.take(reader);
    let kept = kept.iter().find(|line| line.contains("retain"));
    assert_eq!(
        kept.unwrap(),
        "PUBLISH q0 retain t=x MessageExpiryInterval(6)"
    );
    let away = world.connect(&v5("away").persistent(1_000));
    assert_eq!(
        world.take(away),
        ["PUBLISH q1 #1 t=x MessageExpiryInterval(6)"]
    );
}

/// Who publishes does not get it where it said so; a group gets it once.
#[test]
fn it_is_its_publishers_and_a_groups() {
    let mut world = World::with(2, Limits::default());
    let p = world.connect(&v5("p").at(1));
    let no_local = waypost_mqtt::SubscriptionOptions {
        no_local: true,
        ..options(0)
    };
    world.subscribe_with(p, &[("t", no_local)], 0);
    let members = ["m1", "m2"].map(|id| world.connect(&v5(id)));
    for member in members {
        world.subscribe(member, "$share/g/t", 1);
    }
    world.publish(p, "$delayed/2/t", "x", 1);
    assert_eq!(world.take(p), ["PUBACK #10"]);
    world.advance(3_000);
    assert_eq!(world.take(p), [""; 0]);
    let came: Vec<_> = members
        .iter()
        .flat_map(|member| world.take(*member))
        .collect();
    assert_eq!(came, ["PUBLISH q1 #1 t=x"]);
}

/// At the bound a message is refused with 0x97; what is published or cancelled makes room.
#[test]
fn delayed_messages_max() {
    const N: u64 = 8;
    for shards in [1, 2] {
        let limits = Limits {
            delayed_messages_max: 8,
            ..Limits::default()
        };
        let mut world = World::with(shards, limits);
        let p = world.connect(&v5("p").at(usize::from(shards) - 1));
        for number in 1..=2 * N {
            let name = number.to_string();
            let answer = named(&mut world, p, "t", "x", 10, &name).concat();
            let is_refused = answer.starts_with("PUBACK #10 97 ReasonString");
            assert_eq!(is_refused, number > N, "{number}: {answer}");
            assert_eq!(
                counter(&world, |of| of.delayed_refused),
                number.saturating_sub(N)
            );
            assert_eq!(world.broker(0).delayed() as u64, number.min(N));
        }
        assert_eq!(named(&mut world, p, "t", "", 0, "3"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "t", "x", 10, "3"), ["PUBACK #10"]);
        assert!(named(&mut world, p, "t", "x", 10, "9")[0].contains("97"));
        world.advance(11_000);
        for number in 1..=N {
            let answer = named(&mut world, p, "t", "x", 10, &number.to_string());
            assert_eq!(answer, ["PUBACK #10"], "{number}");
        }
        // After a start too.
        world.crash_and_restore();
        let p = world.connect(&v5("p").at(usize::from(shards) - 1));
        assert!(named(&mut world, p, "t", "x", 10, "9")[0].contains("97"));
        world.advance(20_000);
        check_nothing_waits(&world);
    }
}

/// Another one of a name takes the place of the one before; an empty one cancels it, and is told whether there was one.
/// A name is that of one topic.
#[test]
fn names_replace_and_cancel() {
    for (shards, at) in [(1, 0), (2, 0), (2, 1)] {
        let mut world = World::with(shards, Limits::default());
        let s = world.connect(&v5("s"));
        world.subscribe(s, "#", 0);
        let p = world.connect(&v5("p").at(at));
        assert_eq!(named(&mut world, p, "t", "", 9, "x"), ["PUBACK #10 10"]);
        assert_eq!(named(&mut world, p, "t", "one", 9, "x"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "t", "two", 5, "x"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "u", "three", 5, "x"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "t", "four", 5, "y"), ["PUBACK #10"]);
        assert_eq!(world.broker(0).delayed(), 3);
        assert_eq!(counter(&world, |of| of.delayed_replaced), 1);
        assert_eq!(named(&mut world, p, "t", "", 0, "y"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "t", "", 0, "y"), ["PUBACK #10 10"]);
        assert_eq!(counter(&world, |of| of.delayed_cancelled), 1);
        let empty = properties(&[("waypost-delay", "1"), ("waypost-delay-id", "z")]);
        world.publish_with(p, "t", "", 2, 10, false, &empty);
        assert_eq!(world.take(p), ["PUBREC #10 10"]);
        world.ack(p, "PUBREL", 10);
        assert_eq!(world.take(p), ["PUBCOMP #10"]);
        world.publish_with(p, "t", "", 0, 0, false, &empty);
        assert_eq!(world.take(p), [""; 0]);
        world.advance(5_000 + LATE_MS);
        assert_eq!(world.take(s), ["PUBLISH q0 t=two", "PUBLISH q0 u=three"]);
        // It is too late.
        assert_eq!(named(&mut world, p, "t", "", 0, "x"), ["PUBACK #10 10"]);
        // At once, in the place of one that waits.
        assert_eq!(named(&mut world, p, "t", "five", 9, "x"), ["PUBACK #10"]);
        assert_eq!(named(&mut world, p, "t", "six", 0, "x"), ["PUBACK #10"]);
        world.advance(20_000);
        assert_eq!(world.take(s), ["PUBLISH q0 t=six"]);
        check_nothing_waits(&world);
    }
}

/// Goal: a cancel and the time of a message meet, and the message is either published or cancelled, as the answer says.
/// Method: every point at which the cancel may come in between, by steps of the store.
#[test]
fn a_cancel_meets_the_time() {
    for (shards, at) in [(1, 0), (2, 1)] {
        let mut outcomes = [false; 2];
        for steps in 0..8 {
            let mut world = World::seeded(shards, Limits::default(), steps);
            let s = world.connect(&v5("s").persistent(1_000));
            world.subscribe(s, "t", 2);
            let p = world.connect(&v5("p").at(at));
            let buffer = properties(&[("waypost-delay", "5"), ("waypost-delay-id", "x")]);
            world.publish_with(p, "t", "x", 2, 10, false, &buffer);
            world.ack(p, "PUBREL", 10);
            world.take(p);
            world.advance(4_000);
            world.is_store_held = true;
            world.advance(1_000 + LATE_MS);
            for _ in 0..steps {
                world.store_step();
                world.settle();
            }
            let asked = named(&mut world, p, "t", "", 0, "x");
            world.is_store_held = false;
            world.settle();
            let answer = [asked, world.take(p)].concat().concat();
            let is_cancelled = answer == "PUBACK #10";
            assert!(is_cancelled || answer == "PUBACK #10 10", "{answer}");
            world.advance(10_000);
            let came = world.take(s).len();
            assert_eq!(came, usize::from(!is_cancelled), "{steps} steps");
            outcomes[usize::from(is_cancelled)] = true;
            check_nothing_waits(&world);
        }
        assert_eq!(outcomes, [true; 2], "the test met both");
    }
}

/// One that is replaced or cancelled while it is on its way to the store is so all the same.
#[test]
fn names_hold_for_what_is_on_its_way() {
    for shards in [1, 2] {
        for cancels in [false, true] {
            let mut world = World::with(shards, Limits::default());
            let s = world.connect(&v5("s"));
            world.subscribe(s, "t", 0);
            let p = world.connect(&v5("p").at(usize::from(shards) - 1));
            world.is_store_held = true;
            world.is_mail_held = true;
            named(&mut world, p, "t", "one", 3, "x");
            named(&mut world, p, "t", if cancels { "" } else { "two" }, 3, "x");
            world.is_mail_held = false;
            world.is_store_held = false;
            world.settle();
            assert_eq!(world.take(p), ["PUBACK #10"; 2]);
            world.advance(5_000);
            let expect: &[&str] = if cancels { &[] } else { &["PUBLISH q0 t=two"] };
            assert_eq!(world.take(s), expect);
            check_nothing_waits(&world);
        }
    }
}

/// Goal: what waits is there after a crash, is published once, and at its time as the wall clock has it; a clock that went
/// back means that no time has passed. Method: restarts with other numbers of shards, after each of these times.
#[test]
fn what_waits_outlives_a_crash() {
    for (shards, after, down_ms) in [
        (1, 1, 20_000),
        (2, 3, 1_000),
        (3, 1, 0),
        (1, 2, 100_000_000),
    ] {
        let mut world = World::with(shards, Limits::default());
        let s = world.connect(&v5("s").persistent(1_000_000));
        world.subscribe(s, "#", 2);
        let p = world.connect(&v5("p").at(usize::from(shards) - 1));
        for qos in 0..3 {
            world.publish(p, "$delayed/60/t", &format!("q{qos}"), qos);
            if qos == 2 {
                world.ack(p, "PUBREL", 10);
            }
        }
        named(&mut world, p, "t", "one", 70, "x");
        named(&mut world, p, "t", "two", 70, "x");
        named(&mut world, p, "t", "three", 70, "y");
        world.advance(10_000);
        // The wall clock of a running server moves nothing.
        world.now.wall_ms += 5;
        world.restart(after, down_ms);
        world.settle();
        let s = world.connect(&v5("s").persistent(1_000_000).at(after - 1));
        let left = 50_000_u64.saturating_sub(down_ms + 5);
        if left > 0 {
            world.advance(left - 1);
            assert_eq!(world.take(s), [""; 0], "{shards} {after} {down_ms}");
        }
        // The names too.
        let p = world.connect(&v5("p"));
        let answer = named(&mut world, p, "t", "", 0, "y");
        let is_over = down_ms > 60_000;
        assert_eq!(
            answer,
            [if is_over {
                "PUBACK #10 10"
            } else {
                "PUBACK #10"
            }]
        );
        world.advance(11_000);
        let came = world.take(s);
        let payloads: Vec<_> = came
            .iter()
            .map(|line| line.split('=').nth(1).unwrap())
            .collect();
        // Of what was due while the machine stood still, QoS 0 comes to nobody.
        let expect: &[_] = if is_over {
            &["q1", "q2", "two", "three"]
        } else {
            &["q0", "q1", "q2", "two"]
        };
        assert_eq!(payloads, expect, "{shards} {after} {down_ms}: {came:?}");
        check_nothing_waits(&world);
        world.crash_and_restore();
        world.advance(1_000_000);
        assert_eq!(counter(&world, |of| of.delayed_released), 0, "once");
    }
}

/// 5 §4.3.3: a publisher whose PUBLISH at QoS 2 was taken over before the crash and comes again is answered, and the
/// message is not accepted again.
#[test]
fn a_repeat_after_a_crash_is_not_accepted_again() {
    let mut world = World::new();
    let p = world.connect(&v5("p").persistent(1_000));
    world.publish_as(p, "$delayed/5/t", "x", 2, 7, false);
    assert_eq!(world.take(p), ["PUBREC #7"]);
    world.crash_and_restore();
    let p = world.connect(&v5("p").persistent(1_000));
    world.publish_as(p, "$delayed/5/t", "x", 2, 7, true);
    assert_eq!(world.take(p), ["PUBREC #7"]);
    assert_eq!(world.broker(0).delayed(), 1);
}

/// While it waits, its publisher may lose permission.
#[test]
fn permission_is_asked_for_again_at_the_time() {
    struct Only(&'static str);
    impl Permit for Only {
        fn check(&mut self, who: &Who<'_>, action: Action, topic: &str) -> Verdict {
            let is_publish = matches!(action, Action::Publish | Action::PublishRetained);
            if is_publish && topic == "t" {
                assert_eq!((who.client_id, who.user), ("p", Some("ann")));
                assert!(who.address.is_some());
            }
            if is_publish && topic != self.0 {
                Verdict::Deny
            } else {
                Verdict::Allow
            }
        }
    }
    let mut world = World::with(2, Limits::default());
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 0);
    world.subscribe(s, "$events/client/denied", 0);
    for shard in 0..2 {
        world.change_rules(shard, Only("t"), AllowAll);
    }
    let p = world.connect(&v5("p").user("ann").at(1));
    world.publish(p, "$delayed/5/u", "x", 1);
    let answer = world.take(p).concat();
    assert!(answer.starts_with("PUBACK #10 87"), "{answer}");
    world.publish(p, "$delayed/5/t", "first", 1);
    assert_eq!(world.take(p), ["PUBACK #10"]);
    world.disconnect(p, ReasonCode::Success);
    world.advance(6_000);
    let events = world.take(s);
    assert_eq!(
        events.last().unwrap(),
        "PUBLISH q0 t=first",
        "its session is gone"
    );
    let p = world.connect(&v5("p").user("ann").at(1));
    world.publish(p, "$delayed/5/t", "second", 1);
    for shard in 0..2 {
        world.change_rules(shard, Only("u"), AllowAll);
    }
    world.settle();
    world.advance(6_000);
    let events = world.take(s).concat();
    assert!(
        events.contains("\"client_id\":\"p\",\"username\":\"ann\""),
        "{events}"
    );
    assert!(!events.contains("second"));
    assert_eq!(counter(&world, |of| of.delayed_denied), 1);
    check_nothing_waits(&world);
}

/// Many at one time are read a bounded number at a time, and all come.
#[test]
fn many_of_one_time_all_come_in_order() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 0);
    let p = world.connect(&v5("p"));
    for number in 0..2_000 {
        world.publish(p, "$delayed/5/t", &number.to_string(), 0);
    }
    world.advance(6_000);
    let came = world.take(s);
    let expect: Vec<_> = (0..2_000)
        .map(|number| format!("PUBLISH q0 t={number}"))
        .collect();
    assert_eq!(came, expect);
    check_nothing_waits(&world);
}

/// What cannot be read at its time holds up nothing behind it.
#[test]
fn one_that_cannot_be_read_is_counted_and_passed_over() {
    let mut world = World::new();
    let s = world.connect(&v5("s"));
    world.subscribe(s, "t", 0);
    let p = world.connect(&v5("p"));
    assert_eq!(named(&mut world, p, "t", "one", 5, "x"), ["PUBACK #10"]);
    world.store.durable.messages.clear();
    world.publish(p, "$delayed/6/t", "two", 1);
    assert_eq!(world.take(p), ["PUBACK #10"]);
    world.advance(10_000);
    assert_eq!(world.take(s), ["PUBLISH q0 t=two"]);
    assert_eq!(counter(&world, |of| of.delayed_unreadable), 1);
    assert_eq!(named(&mut world, p, "t", "", 0, "x"), ["PUBACK #10 10"]);
    check_nothing_waits(&world);
}

/// After a start nothing is published before the other shards have told of their sessions.
#[test]
fn what_became_due_meanwhile_waits_for_all_shards() {
    let mut world = World::with(3, Limits::default());
    let names: Vec<_> = (0..8).map(|number| format!("s{number}")).collect();
    for name in &names {
        let s = world.connect(&v5(name).persistent(1_000_000));
        world.subscribe(s, "t", 1);
    }
    let p = world.connect(&v5("p"));
    world.publish(p, "$delayed/5/t", "x", 1);
    world.is_start_held = true;
    world.is_mail_held = true;
    world.restart(3, 60_000);
    world.settle();
    world.is_mail_held = false;
    world.settle();
    for name in &names {
        let s = world.connect(&v5(name).persistent(1_000_000));
        assert_eq!(world.take(s), ["PUBLISH q1 #1 t=x"], "{name}");
    }
    check_nothing_waits(&world);
}
