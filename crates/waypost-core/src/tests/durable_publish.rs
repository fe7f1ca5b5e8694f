//! The publisher's side of what outlives the process: when it is answered, in which order, and what it is told when the
//! store refuses. Every test runs with one shard and with several.

use std::sync::Arc;

use waypost_mqtt::PropertyBuffer;

use super::world::{Client, World, v3, v5};
use crate::journal::Refusal;
use crate::{Durability, Limits, Policies, TopicPolicy};

const SHARDS: [u16; 3] = [1, 2, 4];

fn on_shards(test: impl Fn(&mut World)) {
    for shards in SHARDS {
        for seed in 0..8 {
            test(&mut World::seeded(shards, Limits::default(), seed));
        }
    }
}

fn send(world: &mut World, client: Client, topic: &str, qos: u8, packet_id: u16, retain: bool) {
    let none = PropertyBuffer::new();
    world.publish_with(client, topic, "x", qos, packet_id, retain, &none);
}

/// Lets everything happen that needs no disk.
fn hold(world: &mut World) {
    world.settle();
    world.is_store_held = true;
}

fn release(world: &mut World) {
    world.is_store_held = false;
    world.settle();
}

pub(super) fn policies(filter: &str, durability: Durability) -> Arc<Policies> {
    let policy = TopicPolicy {
        filter: filter.into(),
        durability: Some(durability),
        ..TopicPolicy::default()
    };
    Arc::new(Policies::new(vec![policy]).unwrap())
}

/// What is retained on a topic, as a new client sees it.
fn retained(world: &mut World, topic: &str) -> Vec<String> {
    let reader = world.connect(&v5("reader"));
    world.subscribe(reader, topic, 0);
    let lines = world.take(reader);
    world.cut(reader);
    lines
}

/// Goal: 5 [MQTT-4.3.2-4], [MQTT-4.3.3-8] as DESIGN.md has them: who is acknowledged need not care any more. Method: the
/// store does nothing until it is let.
#[test]
fn a_retained_message_is_acknowledged_once_it_is_kept() {
    on_shards(|world| {
        for (name, qos, answer) in [("one", 1, "PUBACK #7"), ("two", 2, "PUBREC #7")] {
            let last = world.shards() - 1;
            let publisher = world.connect(&v5(name).at(last));
            world.subscribe(publisher, name, 0);
            hold(world);
            send(world, publisher, name, qos, 7, true);
            let live = format!("PUBLISH q0 {name}=x");
            assert_eq!(
                world.take(publisher),
                [live],
                "live copies wait for nothing"
            );
            assert_eq!(world.store.transactions, u64::from(qos) - 1);
            release(world);
            assert_eq!(world.take(publisher), [answer]);
            let expect = format!("PUBLISH q0 retain {name}=x");
            assert_eq!(retained(world, name), [expect]);
        }
    });
}

/// 5 [MQTT-4.6.0-2], [MQTT-4.6.0-3], 3.1.1 [MQTT-4.6.0-2], [MQTT-4.6.0-3]: PUBACK and PUBREC in the order of PUBLISH, also
/// where only the first has to wait.
#[test]
fn answers_keep_the_order_of_what_they_answer() {
    on_shards(|world| {
        for version in [v3("three"), v5("five")] {
            let publisher = world.connect(&version);
            world.subscribe(publisher, "a", 0);
            hold(world);
            send(world, publisher, "kept", 1, 1, true);
            send(world, publisher, "a", 1, 2, false);
            send(world, publisher, "a", 2, 3, false);
            world.ack(publisher, "PUBREL", 3);
            send(world, publisher, "kept", 2, 4, true);
            send(world, publisher, "a", 1, 5, false);
            let live = ["PUBLISH q0 a=x"; 3];
            assert_eq!(world.take(publisher), live);
            release(world);
            let answers = [
                "PUBACK #1",
                "PUBACK #2",
                "PUBREC #3",
                "PUBCOMP #3",
                "PUBREC #4",
                "PUBACK #5",
            ];
            let told: Vec<_> = world
                .take(publisher)
                .iter()
                .map(|line| line.trim_end_matches(" 10").to_owned())
                .collect();
            assert_eq!(told, answers);
        }
    });
}

/// Others are not held up by a client that waits.
#[test]
fn an_answer_waits_only_for_those_of_its_connection() {
    on_shards(|world| {
        let waits = world.connect(&v5("waits"));
        let goes_on = world.connect(&v5("goes on"));
        world.subscribe(goes_on, "a", 0);
        hold(world);
        send(world, waits, "kept", 1, 1, true);
        send(world, goes_on, "a", 1, 1, false);
        assert_eq!(world.take(goes_on), ["PUBLISH q0 a=x", "PUBACK #1"]);
        assert!(world.take(waits).is_empty());
        release(world);
        assert_eq!(world.take(waits), ["PUBACK #1 10"]);
    });
}

#[test]
fn what_need_not_be_kept_is_not_written() {
    on_shards(|world| {
        let publisher = world.connect(&v5("p"));
        let last = world.shards() - 1;
        let subscriber = world.connect(&v3("s").at(last));
        world.subscribe(subscriber, "#", 2);
        let before = world.store.transactions;
        hold(world);
        for qos in 0..=2 {
            send(world, publisher, "a", qos, 1 + u16::from(qos), false);
        }
        world.ack(publisher, "PUBREL", 3);
        assert_eq!(
            world.take(publisher),
            ["PUBACK #2", "PUBREC #3", "PUBCOMP #3"]
        );
        release(world);
        assert_eq!(world.store.transactions, before);
        // At QoS 0 it is written, and nobody waits.
        hold(world);
        send(world, publisher, "a", 0, 0, true);
        assert!(world.take(publisher).is_empty());
        release(world);
        assert_eq!(world.store.transactions, before + 1);
    });
}

#[test]
fn durability_says_what_an_answer_waits_for() {
    on_shards(|world| {
        let publisher = world.connect(&v5("p"));
        world.subscribe(publisher, "nothing", 0);
        world.adopt(&policies("a", Durability::Memory));
        hold(world);
        send(world, publisher, "a", 1, 1, true);
        assert_eq!(world.take(publisher), ["PUBACK #1 10"]);
        assert!(world.store.is_idle());
        release(world);
        world.adopt(&policies("a", Durability::Os));
        hold(world);
        send(world, publisher, "a", 1, 2, true);
        assert!(world.take(publisher).is_empty());
        world.store_written();
        assert_eq!(world.take(publisher), ["PUBACK #2 10"]);
        // Behind one that waits for the disk it waits for the disk.
        send(world, publisher, "b", 1, 3, true);
        send(world, publisher, "a", 1, 4, true);
        world.store_written();
        assert!(world.take(publisher).is_empty());
        release(world);
        assert_eq!(world.take(publisher), ["PUBACK #3 10", "PUBACK #4 10"]);
    });
}

/// Goal: refused is refused: the publisher is told, nothing has changed. Method: a store that is full, then one that fails.
#[test]
fn what_the_store_refuses_has_not_happened() {
    on_shards(|world| {
        let publisher = world.connect(&v5("p"));
        world.retain(publisher, "a", "before", 1);
        world.take(publisher);
        for (why, reason) in [(Refusal::Full, "97"), (Refusal::Failed, "80")] {
            world.store.refuses = Some(why);
            send(world, publisher, "a", 1, 1, true);
            send(world, publisher, "new", 2, 2, true);
            let none = PropertyBuffer::new();
            world.publish_with(publisher, "a", "", 1, 3, true, &none);
            let told = [
                format!("PUBACK #1 {reason}"),
                format!("PUBREC #2 {reason}"),
                format!("PUBACK #3 {reason}"),
            ];
            assert_eq!(world.take(publisher), told);
            assert_eq!(retained(world, "a"), ["PUBLISH q0 retain a=before"]);
            assert!(retained(world, "new").is_empty());
            // 5 [MQTT-4.3.3-9]: the identifier is free.
            world.store.refuses = None;
            send(world, publisher, "new", 2, 2, true);
            assert_eq!(world.take(publisher), ["PUBREC #2 10"]);
            world.ack(publisher, "PUBREL", 2);
            assert_eq!(world.take(publisher), ["PUBCOMP #2"]);
            world.publish_with(publisher, "new", "", 1, 3, true, &none);
            world.take(publisher);
        }
    });
}

/// Several changes of one topic on their way: those that are kept stay, the others leave no trace.
#[test]
fn refusals_among_changes_of_one_topic_leave_what_is_kept() {
    on_shards(|world| {
        let shards = world.shards();
        let publishers: Vec<_> = (0..4)
            .map(|number| world.connect(&v5(&format!("p{number}")).at(number % shards)))
            .collect();
        for refused in 0..8_usize {
            let topic = format!("topic {refused}");
            world.retain(publishers[0], &topic, "before", 1);
            hold(world);
            for (number, publisher) in publishers.iter().enumerate().take(3) {
                let none = PropertyBuffer::new();
                let payload = number.to_string();
                world.publish_with(*publisher, &topic, &payload, 1, 1, true, &none);
            }
            for number in 0..3 {
                world.store.refuses = (refused & 1 << number != 0).then_some(Refusal::Full);
                assert!(world.store_step());
            }
            world.store.refuses = None;
            release(world);
            let kept = (0..3).rev().find(|number| refused & 1 << number == 0);
            let kept = kept.map_or("before".to_owned(), |number| number.to_string());
            let expect = format!("PUBLISH q0 retain {topic}={kept}");
            assert_eq!(retained(world, &topic), [expect], "{refused:03b}");
        }
        assert_eq!(unsure(world), 0);
    });
}

fn unsure(world: &World) -> usize {
    let of = |shard| world.broker(shard).retained.unsure.len();
    (0..world.shards()).map(of).sum()
}

/// 3.1.1 has no word for a refusal.
#[test]
fn an_old_client_is_not_acknowledged_but_closed() {
    on_shards(|world| {
        let publisher = world.connect(&v3("p"));
        world.store.refuses = Some(Refusal::Full);
        hold(world);
        send(world, publisher, "a", 1, 1, true);
        send(world, publisher, "a", 1, 2, true);
        release(world);
        assert_eq!(world.take(publisher), ["closed"]);
        let counters = world.broker(0).counters();
        assert_eq!((counters.answers_held, counters.answers_refused), (2, 1));
    });
}

/// Whoever is gone gets no answer, and neither does the next one in its place.
#[test]
fn answers_are_forgotten_with_their_connection() {
    on_shards(|world| {
        for leave in [0, 1] {
            let publisher = world.connect(&v5("p"));
            hold(world);
            send(world, publisher, "a", 1, 1, true);
            send(world, publisher, "b", 1, 2, false);
            if leave == 0 {
                world.cut(publisher);
            } else {
                world.disconnect(publisher, waypost_mqtt::ReasonCode::NORMAL_DISCONNECTION);
                assert_eq!(world.take(publisher), ["closed"]);
            }
            let next = world.connect(&v5("another"));
            world.subscribe(next, "c", 0);
            send(world, next, "c", 1, 9, false);
            assert_eq!(world.take(next), ["PUBLISH q0 c=x", "PUBACK #9"]);
            release(world);
            assert!(world.take(next).is_empty());
            world.cut(next);
            assert_eq!(retained(world, "a"), ["PUBLISH q0 retain a=x"]);
        }
        assert!((0..world.shards()).all(|shard| world.broker(shard).held.len() == 0));
    });
}

/// The bound at N, N + 1 and 2N: 3.1.1 is not read on, MQTT 5 is told (5 §3.3.4).
#[test]
fn as_many_answers_wait_as_messages_may_be_unfinished() {
    let max = 3;
    for shards in SHARDS {
        let limits = Limits {
            receive_maximum: max,
            ..Limits::default()
        };
        let mut world = World::with(shards, limits);
        let world = &mut world;
        let (old, new) = (world.connect(&v3("old")), world.connect(&v5("new")));
        hold(world);
        for packet_id in 1..=2 * max {
            send(world, old, "a", 1, packet_id, true);
            assert_eq!(world.is_parked(old), packet_id >= max, "{packet_id}");
        }
        for packet_id in 1..=max {
            send(world, new, "a", 1, packet_id, true);
            assert!(!world.is_parked(new));
        }
        let ping = waypost_mqtt::Packet::PingReq;
        world.send(new, &ping);
        assert_eq!(world.take(new), ["PINGRESP"], "that is no message");
        send(world, new, "a", 1, max + 1, true);
        assert_eq!(world.take(new), ["DISCONNECT 93", "closed"]);
        assert_eq!(world.broker(0).counters().answers_paused, 1);
        release(world);
        assert!(!world.is_parked(old));
        let all: Vec<_> = (1..=2 * max).map(|id| format!("PUBACK #{id}")).collect();
        assert_eq!(world.take(old), all);
    }
}
