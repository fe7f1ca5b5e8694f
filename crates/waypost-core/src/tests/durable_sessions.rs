//! Sessions that outlive the process: what they are owed, and what is left of them after a crash.

use waypost_mqtt::{Property, ReasonCode};

use super::world::{Options, World, options, v3, v5};
use crate::Limits;

fn durable() -> Options {
    v5("s").persistent(1_000)
}

/// A world on each number of shards; the client of the test connects on the last shard.
fn on_shards(check: impl Fn(World, usize)) {
    for shards in [1, 2, 4] {
        let world = World::with(shards, Limits::default());
        check(world, usize::from(shards) - 1);
    }
}

#[test]
fn a_session_is_there_after_a_crash_with_subscriptions_and_messages_in_order() {
    on_shards(|mut world, last| {
        let p = world.connect(&v5("p"));
        let s = world.connect(&durable().at(last));
        world.subscribe_with(s, &[("t/+", options(1))], 7);
        world.subscribe(s, "u", 0);
        world.cut(s);
        for number in 0..5 {
            world.publish(p, "t/a", &number.to_string(), 1);
        }
        world.crash_and_restore();
        let (s, connack) = world.try_connect(&durable());
        assert_eq!(connack, "CONNACK 00 present");
        let lines = world.take(s);
        assert_eq!(lines.len(), 5, "{lines:?}");
        for (at, line) in lines.iter().enumerate() {
            let packet_id = at + 1;
            assert_eq!(
                *line,
                format!("PUBLISH q1 #{packet_id} t/a={at} SubscriptionIdentifier(7)")
            );
            world.ack(s, "PUBACK", u16::try_from(packet_id).unwrap());
        }
        let p = world.connect(&v5("p").at(last));
        world.publish(p, "t/b", "live", 1);
        world.publish(p, "u", "zero", 1);
        assert_eq!(
            world.take(s),
            [
                "PUBLISH q1 #6 t/b=live SubscriptionIdentifier(7)",
                "PUBLISH q0 u=zero"
            ]
        );
        world.unsubscribe(s, "t/+");
        world.ack(s, "PUBACK", 6);
        world.crash_and_restore();
        let (s, _) = world.try_connect(&durable());
        let p = world.connect(&v5("p"));
        world.publish(p, "t/b", "gone", 1);
        world.publish(p, "u", "zero", 1);
        assert_eq!(world.take(s), ["PUBLISH q0 u=zero"]);
    });
}

#[test]
fn what_may_have_been_out_is_sent_anew_with_dup_and_what_was_not_without() {
    let mut world = World::with_limits(|limits| limits.inflight_max = 2);
    let p = world.connect(&v5("p"));
    // Connected at the crash: nobody knows what was out.
    let s = world.connect(&durable());
    world.subscribe(s, "t", 1);
    world.publish(p, "t", "1", 1);
    world.publish(p, "t", "2", 1);
    world.ack(s, "PUBACK", 1);
    assert_eq!(world.take(s).len(), 2);
    world.crash_and_restore();
    let p = world.connect(&v5("p"));
    world.publish(p, "t", "3", 1);
    let s = world.connect(&durable());
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #1 dup t=2", "PUBLISH q1 #2 t=3"]
    );
    world.ack(s, "PUBACK", 1);
    // Away at the crash: what was out keeps its identifier.
    world.cut(s);
    world.publish(p, "t", "4", 1);
    world.crash_and_restore();
    let s = world.connect(&durable());
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #2 dup t=3", "PUBLISH q1 #3 t=4"]
    );
}

#[test]
fn qos_2_is_sent_once_under_its_identifier_whatever_is_lost() {
    // 5 [MQTT-4.3.3-3] .. [MQTT-4.3.3-7]
    on_shards(|mut world, last| {
        let p = world.connect(&v5("p"));
        let s = world.connect(&durable().at(last));
        world.subscribe(s, "t", 2);
        for number in 0..3 {
            world.publish_with(
                p,
                "t",
                &number.to_string(),
                2,
                20 + number,
                false,
                &waypost_mqtt::PropertyBuffer::new(),
            );
        }
        assert_eq!(
            world.take(s),
            [
                "PUBLISH q2 #1 t=0",
                "PUBLISH q2 #2 t=1",
                "PUBLISH q2 #3 t=2"
            ]
        );
        world.ack(s, "PUBREC", 1);
        world.ack(s, "PUBREC", 2);
        world.ack(s, "PUBCOMP", 1);
        assert_eq!(world.take(s), ["PUBREL #1", "PUBREL #2"]);
        world.crash_and_restore();
        let s = world.connect(&durable());
        let mut lines = world.take(s);
        lines.sort();
        assert_eq!(lines, ["PUBLISH q2 #3 dup t=2", "PUBREL #2"]);
        world.ack(s, "PUBCOMP", 2);
        world.ack(s, "PUBREC", 3);
        assert_eq!(world.take(s), ["PUBREL #3"]);
        world.ack(s, "PUBCOMP", 3);
        world.crash_and_restore();
        let s = world.connect(&durable());
        assert_eq!(world.take(s), Vec::<String>::new());
        assert_eq!(
            (0..world.shards())
                .map(|shard| world.broker(shard).messages_owed())
                .sum::<usize>(),
            0
        );
    });
}

#[test]
fn nothing_goes_out_at_qos_2_before_its_row_is_on_disk() {
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&durable());
    world.subscribe(s, "t", 2);
    world.is_store_held = true;
    world.publish(p, "t", "1", 2);
    // The message and its debt, the reading of the queue, the row.
    for step in ["message", "read", "row"] {
        assert_eq!(world.take(s), Vec::<String>::new(), "before the {step}");
        assert!(world.store_step());
    }
    assert_eq!(world.take(s), ["PUBLISH q2 #1 t=1"]);
    world.ack(s, "PUBREC", 1);
    assert_eq!(world.take(s), Vec::<String>::new());
    assert!(world.store_step());
    assert_eq!(world.take(s), ["PUBREL #1"]);
}

#[test]
fn suback_and_unsuback_wait_for_the_disk() {
    on_shards(|mut world, last| {
        let s = world.connect(&durable().at(last));
        world.is_store_held = true;
        assert!(world.subscribe(s, "t", 1).starts_with("no SUBACK"));
        while world.store_step() {}
        world.settle();
        assert_eq!(world.take(s), ["SUBACK #1 01"]);
        assert!(world.unsubscribe(s, "t").starts_with("no UNSUBACK"));
        while world.store_step() {}
        world.settle();
        assert_eq!(world.take(s), ["UNSUBACK #2 00"]);
        // Nobody waits for what does not outlive its connection.
        let other = world.connect(&v5("other"));
        assert_eq!(world.subscribe(other, "t", 1), "SUBACK #1 01");
    });
}

#[test]
fn a_clean_start_waits_until_the_old_session_is_gone_for_good() {
    // 5 [MQTT-3.1.2-4]
    on_shards(|mut world, last| {
        let p = world.connect(&v5("p"));
        let s = world.connect(&durable().at(last));
        world.subscribe(s, "t", 1);
        world.cut(s);
        world.publish(p, "t", "old", 1);
        world.is_store_held = true;
        let (s, first) = world.try_connect(&v5("s"));
        assert_eq!(first, "nothing");
        while world.store_step() {}
        world.settle();
        assert_eq!(world.take(s), ["CONNACK 00"]);
        world.is_store_held = false;
        world.crash_and_restore();
        let (s, connack) = world.try_connect(&durable());
        assert_eq!(connack, "CONNACK 00");
        assert_eq!(world.take(s), Vec::<String>::new());
        assert!(world.store.durable.queues.is_empty());
    });
}

#[test]
fn a_session_expires_by_the_wall_while_the_server_is_down() {
    for (down_ms, is_there) in [(500_000, true), (900_000, false)] {
        on_shards(|mut world, last| {
            let shards = world.shards();
            let s = world.connect(&durable().at(last));
            world.subscribe(s, "t", 1);
            let stays = world.connect(&v3("stays").persistent(0));
            world.cut(s);
            world.advance(200_000);
            world.restart(shards, down_ms);
            world.advance(1);
            let (_, connack) = world.try_connect(&durable());
            let expected = if is_there {
                "CONNACK 00 present"
            } else {
                "CONNACK 00"
            };
            assert_eq!(connack, expected, "{down_ms} ms");
            // It was connected, and counts as cut off at the start.
            let (_, connack) = world.try_connect(&v3("stays").persistent(0));
            assert_eq!(connack, "CONNACK 00 present");
            let _ = stays;
        });
    }
}

#[test]
fn the_number_of_shards_may_change() {
    let mut world = World::with(3, Limits::default());
    let p = world.connect(&v5("p"));
    let names: Vec<String> = (0..20).map(|number| format!("client-{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        let s = world.connect(&v5(name).persistent(1_000).at(at % 3));
        world.subscribe(s, "t", 2);
        world.cut(s);
    }
    world.publish(p, "t", "1", 1);
    for shards in [1, 4, 2] {
        world.restart(shards, 1_000);
        for (at, name) in names.iter().enumerate() {
            let s = world.connect(&v5(name).persistent(1_000).at(at % shards));
            let lines = world.take(s);
            assert_eq!(lines.len(), 1, "{name} on {shards} shards: {lines:?}");
            assert!(lines[0].ends_with("t=1"), "{lines:?}");
            world.cut(s);
        }
    }
}

#[test]
fn a_message_expires_in_the_store_too() {
    // 5 [MQTT-3.3.2-5], [MQTT-3.3.2-6]
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&durable());
    world.subscribe(s, "t", 1);
    world.cut(s);
    for (payload, expiry_s) in [("short", 5), ("long", 60)] {
        let mut properties = waypost_mqtt::PropertyBuffer::new();
        properties.push(Property::MessageExpiryInterval(expiry_s));
        world.publish_with(p, "t", payload, 1, 3, false, &properties);
    }
    world.advance(2_000);
    world.restart(1, 8_000);
    let s = world.connect(&durable());
    assert_eq!(
        world.take(s),
        ["PUBLISH q1 #1 t=long MessageExpiryInterval(50)"]
    );
    assert_eq!(world.broker(0).counters().dropped_expired, 1);
    world.ack(s, "PUBACK", 1);
    assert!(
        world
            .store
            .durable
            .owed(crate::journal::QueueId(1))
            .is_empty()
    );
}

#[test]
fn the_queue_is_bounded_in_messages_and_counts_what_was_there_at_the_start() {
    for extra in [0, 1, 10] {
        let mut world = World::with_limits(|limits| limits.queue_messages_max = 10);
        let p = world.connect(&v5("p"));
        let s = world.connect(&durable());
        world.subscribe(s, "t", 1);
        world.cut(s);
        for number in 0..5 {
            world.publish(p, "t", &number.to_string(), 1);
        }
        world.crash_and_restore();
        assert_eq!(world.broker(0).client("s").unwrap().queued, 5);
        let p = world.connect(&v5("p"));
        for number in 5..10 + extra {
            world.publish(p, "t", &number.to_string(), 1);
        }
        let client = world.broker(0).client("s").unwrap();
        assert_eq!((client.queued, client.dropped), (10, extra));
        assert_eq!(world.broker(0).counters().dropped_queue_full, extra);
        let s = world.connect(&durable());
        let lines = world.take(s);
        assert_eq!(lines.len(), 10);
        assert!(
            lines[9].ends_with("t=9"),
            "the newest is refused: {lines:?}"
        );
    }
}

#[test]
fn a_slow_client_is_a_cursor_and_live_again_at_the_end() {
    let mut world = World::with_limits(|limits| {
        limits.outbox_bytes_max = 1_000;
        limits.inflight_max = 10;
    });
    let p = world.connect(&v5("p"));
    let s = world.connect(&durable());
    world.subscribe(s, "t", 1);
    world.stall(s, true);
    let count = 100;
    for number in 0..count {
        world.publish(p, "t", &number.to_string(), 1);
    }
    world.stall(s, false);
    let mut seen = Vec::new();
    for _ in 0..count {
        for line in world.take(s) {
            seen.push(line.rsplit_once('=').unwrap().1.parse::<u32>().unwrap());
            let id = line.split(['#', ' ']).nth(3).unwrap();
            world.ack(s, "PUBACK", id.parse().unwrap());
        }
    }
    assert_eq!(seen, (0..count).collect::<Vec<_>>());
    let owed = world.broker(0).messages_owed();
    assert_eq!(owed, 0);
    // Live: sent before the store has said anything.
    world.is_store_held = true;
    world.publish(p, "t", "live", 1);
    assert!(world.take(s)[0].ends_with("t=live"));
}

#[test]
fn the_store_refuses_and_what_waited_for_it_says_so() {
    use crate::journal::Refusal;
    let mut world = World::new();
    let s = world.connect(&durable());
    world.store.refuses = Some(Refusal::Full);
    assert_eq!(world.subscribe(s, "t", 1), "SUBACK #1 97");
    world.store.refuses = Some(Refusal::Failed);
    assert_eq!(world.subscribe(s, "t", 1), "SUBACK #1 80");
    let p = world.connect(&v5("p"));
    world.publish(p, "t", "nobody", 1);
    assert_eq!(world.take(s), Vec::<String>::new());
    world.cut(s);
    let (_, connack) = world.try_connect(&durable().clean(true));
    assert_eq!(connack, "CONNACK 80");
    // It works again without a restart.
    world.store.refuses = None;
    let s = world.connect(&durable());
    assert_eq!(world.subscribe(s, "t", 2), "SUBACK #1 02");
    world.publish(p, "t", "2", 2);
    assert_eq!(world.take(s), ["PUBLISH q2 #1 t=2"]);
    // PUBREC that cannot be kept: the client says it again on its next connection.
    world.store.refuses = Some(Refusal::Full);
    world.ack(s, "PUBREC", 1);
    assert_eq!(world.take(s), ["DISCONNECT 97", "closed"]);
    world.store.refuses = None;
    let s = world.connect(&durable());
    assert_eq!(world.take(s), ["PUBLISH q2 #1 dup t=2"]);
    world.ack(s, "PUBREC", 1);
    assert_eq!(world.take(s), ["PUBREL #1"]);
    world.disconnect(s, ReasonCode::NORMAL_DISCONNECTION);
}

#[test]
fn a_message_waits_no_longer_than_the_queue_age() {
    for (waited_ms, is_there) in [(60_000, true), (60_001, false), (120_000, false)] {
        let mut world = World::with_limits(|limits| limits.queue_age_max_ms = 60_000);
        let p = world.connect(&v5("p"));
        let s = world.connect(&durable());
        world.subscribe(s, "t", 1);
        world.cut(s);
        world.publish(p, "t", "old", 1);
        world.advance(20_000);
        world.restart(1, waited_ms - 20_000);
        let p = world.connect(&v5("p"));
        world.publish(p, "t", "new", 1);
        let s = world.connect(&durable());
        let lines = world.take(s);
        assert_eq!(lines.len(), if is_there { 2 } else { 1 }, "{waited_ms} ms");
        assert!(lines[lines.len() - 1].ends_with("t=new"));
        let dropped = world.broker(0).counters().dropped_too_old;
        assert_eq!(dropped, u64::from(!is_there));
    }
}

#[test]
fn what_was_in_flight_and_cannot_be_read_again_is_counted_and_passed_over() {
    let mut world = World::new();
    let p = world.connect(&v5("p"));
    let s = world.connect(&durable());
    world.subscribe(s, "t", 1);
    world.publish(p, "t", "damaged", 1);
    world.publish(p, "t", "whole", 1);
    world.cut(s);
    let first = world.store.durable.messages.keys().min().copied().unwrap();
    world.store.durable.messages.remove(&first);
    let s = world.connect(&durable());
    assert_eq!(world.take(s), ["PUBLISH q1 #2 dup t=whole"]);
    assert_eq!(world.broker(0).counters().dropped_unreadable, 1);
}
