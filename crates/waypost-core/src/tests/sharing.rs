//! Shared subscriptions, as members and publishers see them: on one shard, and on several the same.

mod policies;

use std::sync::Arc;

use waypost_mqtt::{Property, ReasonCode, SubscriptionOptions};

use super::world::{Client, Options, World, options, v3, v5};
use crate::{Counters, Limits, Policies, TopicPolicy};

/// Runs a test with 1, 2 and 4 shards.
fn on_shards(test: impl Fn(World)) {
    on_shards_with(|_| {}, test);
}

fn on_shards_with(change: impl Fn(&mut Limits), test: impl Fn(World)) {
    for shards in [1, 2, 4] {
        for seed in 1..=3 {
            let mut limits = Limits::default();
            change(&mut limits);
            test(World::seeded(shards, limits, seed));
        }
    }
}

/// Connects a client to the shard its number says.
fn come(world: &mut World, number: usize, options: Options) -> Client {
    let shard = number % world.shards();
    world.connect(&options.at(shard))
}

fn members(world: &mut World, count: usize, filter: &str, qos: u8) -> Vec<Client> {
    (0..count)
        .map(|number| {
            let member = come(world, number, v5(&format!("m{number}")));
            let expected = format!("SUBACK #1 0{qos}");
            assert_eq!(world.subscribe(member, filter, qos), expected);
            member
        })
        .collect()
}

/// What members received, all together and without packet identifiers.
fn taken(world: &mut World, members: &[Client]) -> Vec<String> {
    let all = members.iter().flat_map(|member| world.take(*member));
    all.collect()
}

fn payloads(lines: &[String]) -> Vec<String> {
    let mut payloads: Vec<_> = lines
        .iter()
        .filter_map(|line| Some(line.split_once('=')?.1.to_owned()))
        .collect();
    payloads.sort();
    payloads
}

fn sum(world: &World, what: impl Fn(&crate::Broker) -> usize) -> usize {
    (0..world.shards())
        .map(|shard| what(world.broker(shard)))
        .sum()
}

fn counted(world: &World, what: impl Fn(&Counters) -> u64) -> usize {
    sum(world, |broker| {
        usize::try_from(what(broker.counters())).unwrap()
    })
}

fn policies(filter: &str, balance: &str, max_deliveries: u32) -> Arc<Policies> {
    let policy = TopicPolicy {
        filter: filter.into(),
        balance: Some(waypost_balance::find(balance).unwrap()),
        max_deliveries: Some(max_deliveries),
        ..TopicPolicy::default()
    };
    Arc::new(Policies::new(vec![policy]).unwrap())
}

fn nothing_is_left(world: &World) {
    for shard in 0..world.shards() {
        let broker = world.broker(shard);
        let left = [
            broker.groups(),
            broker.group_members(),
            broker.group_traces(),
        ];
        assert_eq!(left, [0; 3], "shard {shard}");
        assert!(broker.index.is_empty(), "shard {shard}");
    }
}

#[test]
fn each_message_goes_to_one_member() {
    // 5 [MQTT-4.8.2-4]
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let members = members(&mut world, 3, "$share/g/t/+", 2);
        for qos in 0..3 {
            for n in 0..6 {
                world.publish(p, "t/x", &format!("{qos}{n}"), qos);
                world.ack(p, "PUBREL", 10);
            }
            let mut all = Vec::new();
            for member in &members {
                let lines = world.take(*member);
                assert!(!lines.is_empty(), "nobody is left out");
                all.extend(lines);
            }
            let expected: Vec<_> = (0..6).map(|n| format!("{qos}{n}")).collect();
            assert_eq!(payloads(&all), expected);
        }
        for member in members {
            world.unsubscribe(member, "$share/g/t/+");
        }
        // What is in flight is finished, in a group that nobody finds any more.
        nothing_is_left_but(&world, 3);
    });
}

fn nothing_is_left_but(world: &World, members: usize) {
    assert_eq!(sum(world, crate::Broker::groups), 0);
    assert_eq!(sum(world, crate::Broker::group_members), 0);
    // The group itself, and each member at its home and at its own shard.
    assert!(sum(world, crate::Broker::group_traces) <= 1 + 2 * members);
    assert_eq!(sum(world, crate::Broker::subscriptions), 0);
}

#[test]
fn groups_and_plain_subscriptions_stand_side_by_side() {
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let both = come(&mut world, 1, v5("both"));
        world.subscribe_with(both, &[("$share/g/t", options(1))], 5);
        world.subscribe_with(both, &[("t", options(1))], 6);
        let other = come(&mut world, 2, v3("other"));
        for filter in ["$share/h/t", "$queue/t", "$share/g/#"] {
            world.subscribe(other, filter, 0);
        }
        world.publish(p, "t", "x", 1);
        let mut lines = world.take(both);
        lines.sort();
        assert_eq!(lines.len(), 2, "{lines:?}");
        for identifier in ["Identifier(5)", "Identifier(6)"] {
            let with = lines.iter().filter(|line| line.contains(identifier));
            assert_eq!(with.count(), 1, "{lines:?}");
        }
        assert_eq!(world.take(other), ["PUBLISH q0 t=x"; 3]);
        assert_eq!(sum(&world, crate::Broker::subscriptions), 5);
        assert_eq!(sum(&world, crate::Broker::groups), 4);
        for client in [both, other] {
            world.disconnect(client, ReasonCode::Success);
        }
        nothing_is_left(&world);
    });
}

#[test]
fn no_retained_messages_at_subscribe_and_retain_as_published() {
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        world.retain(p, "t", "old", 1);
        let member = come(&mut world, 1, v5("m"));
        let as_published = SubscriptionOptions {
            retain_as_published: true,
            ..options(1)
        };
        world.subscribe_with(member, &[("$share/g/t", as_published)], 0);
        assert_eq!(world.take(member), [""; 0]);
        world.retain(p, "t", "new", 0);
        assert_eq!(world.take(member), ["PUBLISH q0 retain t=new"]);
    });
}

#[test]
fn what_a_member_leaves_behind_reaches_another_first_and_in_order() {
    // 5 §4.8.2: QoS 1 goes to another member, with DUP 0: 5 [MQTT-3.3.1-3] is about the same client.
    on_shards_with(
        |limits| limits.group_credit_max = 2,
        |mut world| {
            let p = world.connect(&v5("p"));
            let gone = come(&mut world, 1, v5("gone"));
            world.subscribe(gone, "$share/g/t", 1);
            for n in 0..5 {
                world.publish(p, "t", &n.to_string(), 1);
            }
            assert_eq!(payloads(&world.take(gone)), ["0", "1"], "its credit");
            let stays = v5("stays").with(Property::ReceiveMaximum(1));
            let stays = come(&mut world, 2, stays);
            world.subscribe(stays, "$share/g/t", 1);
            assert_eq!(payloads(&world.take(stays)), ["2"], "3 and 4 wait");
            world.cut(gone);
            for (id, expected) in ["0", "1", "3", "4"].into_iter().enumerate() {
                assert_eq!(world.take(stays), [""; 0], "its window is closed");
                world.ack(stays, "PUBACK", u16::try_from(id + 1).unwrap());
                let line = world.take_first(stays, "PUBLISH");
                assert_eq!(line, format!("PUBLISH q1 #{} t={expected}", id + 2));
            }
        },
    );
}

#[test]
fn alone_it_gets_what_it_did_not_acknowledge_again() {
    // 5 [MQTT-4.4.0-1]: to the same client with DUP 1 and the same identifier.
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let m = world.connect(&v5("m").persistent(100));
        world.subscribe(m, "$share/g/t", 2);
        world.publish(p, "t", "1", 1);
        world.publish(p, "t", "2", 2);
        world.ack(p, "PUBREL", 10);
        assert_eq!(world.take(m).len(), 2);
        world.cut(m);
        world.publish(p, "t", "3", 1);
        world.publish(p, "t", "4", 0);
        let last = world.shards() - 1;
        let m = world.connect(&v5("m").persistent(100).at(last));
        let lines = world.take(m);
        assert_eq!(
            lines,
            [
                "PUBLISH q1 #1 dup t=1",
                "PUBLISH q2 #2 dup t=2",
                "PUBLISH q1 #3 t=3"
            ]
        );
        for n in [1, 3] {
            world.ack(m, "PUBACK", n);
        }
        world.ack(m, "PUBREC", 2);
        world.ack(m, "PUBCOMP", 2);
        world.take(m);
        world.disconnect(m, ReasonCode::Success);
        world.publish(p, "t", "5", 1);
        assert_eq!(sum(&world, crate::Broker::group_messages_waiting), 1);
        world.advance(200_000);
        nothing_is_left(&world);
        let dropped = counted(&world, |counters| counters.group_dropped_session_ended);
        assert_eq!(dropped, 1);
    });
}

#[test]
fn somebody_else_gets_what_an_absent_member_had() {
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let away = world.connect(&v5("away").persistent(100));
        world.subscribe(away, "$share/g/t", 2);
        world.publish(p, "t", "1", 1);
        world.publish(p, "t", "2", 2);
        world.ack(p, "PUBREL", 10);
        world.take(away);
        world.cut(away);
        let new = come(&mut world, 1, v5("new"));
        world.subscribe(new, "$share/g/t", 2);
        assert_eq!(
            world.take(new),
            ["PUBLISH q1 #1 t=1"],
            "not what is at QoS 2"
        );
        let last = world.shards() - 1;
        let away = world.connect(&v5("away").persistent(100).at(last));
        assert_eq!(world.take(away), ["PUBLISH q2 #2 dup t=2"]);
        // It acknowledges what it lost: nothing happens.
        world.ack(away, "PUBACK", 1);
        world.ack(new, "PUBACK", 1);
        world.cut(new);
        assert_eq!(world.take(away), [""; 0]);
    });
}

#[test]
fn a_refusal_is_the_end_and_is_told() {
    // 5 [MQTT-4.8.2-6]
    on_shards(|mut world| {
        let watcher = world.connect(&v5("watcher"));
        world.subscribe(watcher, "$events/group/#", 0);
        let p = world.connect(&v5("p"));
        let members = members(&mut world, 2, "$share/g/t", 2);
        for qos in 1..3 {
            world.publish(p, "t", "x", qos);
            world.ack(p, "PUBREL", 10);
        }
        for member in &members {
            for line in world.take(*member) {
                let (kind, id) = match line.as_str() {
                    "PUBLISH q1 #1 t=x" => ("PUBACK", 1),
                    "PUBLISH q2 #1 t=x" => ("PUBREC", 1),
                    other => panic!("{other}"),
                };
                world.ack_with(*member, kind, id, ReasonCode::ImplementationSpecificError);
            }
        }
        assert_eq!(taken(&mut world, &members), [""; 0]);
        assert_eq!(
            counted(&world, |counters| counters.group_dropped_refused),
            2
        );
        let mut told = world.take(watcher);
        told.sort();
        assert_eq!(told.len(), 2);
        for (line, client) in told.iter().zip(["m0", "m1"]) {
            let expected = format!(
                "PUBLISH q0 $events/group/dropped={{\"time_ms\":1700000000000,\"group\":\"g\",\"filter\":\"t\",\
                 \"topic\":\"t\",\"client_id\":\"{client}\",\"reason\":\"refused\",\"deliveries\":1}}"
            );
            assert_eq!(*line, expected);
        }
    });
}

#[test]
fn qos_2_dies_with_its_session() {
    // 5 [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    on_shards(|mut world| {
        let watcher = world.connect(&v5("watcher"));
        world.subscribe(watcher, "$events/group/#", 0);
        let p = world.connect(&v5("p"));
        let first = world.connect(&v5("first").persistent(100));
        world.subscribe(first, "$share/g/t", 2);
        for n in 0..2 {
            world.publish(p, "t", &n.to_string(), 2);
            world.ack(p, "PUBREL", 10);
        }
        world.ack(first, "PUBREC", 1);
        let second = come(&mut world, 1, v5("second"));
        world.subscribe(second, "$share/g/t", 2);
        world.cut(first);
        world.advance(200_000);
        assert_eq!(world.take(second), [""; 0]);
        let told = world.take(watcher);
        assert_eq!(
            told.len(),
            1,
            "what is past PUBREC was the client's: {told:?}"
        );
        assert!(told[0].contains("\"client_id\":\"first\",\"reason\":\"session-ended\""));
    });
}

#[test]
fn unsubscribe_finishes_what_was_begun() {
    // 5 [MQTT-3.10.4-3]
    on_shards_with(
        |limits| limits.group_credit_max = 2,
        |mut world| {
            let p = world.connect(&v5("p"));
            let m = world.connect(&v5("m").persistent(100));
            world.subscribe(m, "$share/g/t", 2);
            for n in 0..4 {
                world.publish(p, "t", &n.to_string(), 1);
            }
            assert_eq!(world.take(m).len(), 2, "its credit");
            let other = come(&mut world, 1, v5("other"));
            world.subscribe(other, "$share/g/t", 1);
            assert_eq!(payloads(&world.take(other)), ["2", "3"]);
            assert_eq!(world.unsubscribe(m, "$share/g/t"), "UNSUBACK #2 00");
            assert_eq!(world.unsubscribe(m, "$share/g/t"), "UNSUBACK #2 11");
            world.ack(m, "PUBACK", 1);
            // Back on its connection's loss, its session lives on: still its own to finish.
            world.cut(m);
            let m = world.connect(&v5("m").persistent(100));
            assert_eq!(world.take(m), ["PUBLISH q1 #2 dup t=1"]);
            // Its session ends: another gets it.
            world.ack(other, "PUBACK", 1);
            world.connect(&v5("m"));
            assert_eq!(payloads(&world.take(other)), ["1"]);
        },
    );
}

#[test]
fn a_session_taken_over_goes_on() {
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let m = world.connect(&v5("m").persistent(100));
        world.subscribe(m, "$share/g/t", 1);
        let other = come(&mut world, 1, v5("other"));
        world.subscribe(other, "$share/g/t", 1);
        for n in 0..4 {
            world.publish(p, "t", &n.to_string(), 1);
        }
        let had = payloads(&world.take(m));
        assert_eq!((had.len(), world.take(other).len()), (2, 2));
        let last = world.shards() - 1;
        let m = world.connect(&v5("m").persistent(100).at(last));
        let lines = world.take(m);
        assert_eq!(payloads(&lines), had);
        assert!(lines.iter().all(|line| line.contains("dup")), "{lines:?}");
        assert_eq!(world.take(other), [""; 0]);
    });
}

#[test]
fn a_message_too_large_for_one_member_goes_to_another() {
    // 5 [MQTT-3.1.2-25] and its note on Shared Subscriptions
    on_shards(|mut world| {
        let p = world.connect(&v5("p"));
        let small = come(
            &mut world,
            1,
            v5("small").with(Property::MaximumPacketSize(100)),
        );
        world.subscribe(small, "$share/g/t", 1);
        let large = "x".repeat(200);
        world.publish(p, "t", &large, 1);
        assert_eq!(world.take(small), [""; 0]);
        let other = come(&mut world, 2, v5("other"));
        world.subscribe(other, "$share/g/t", 1);
        for _ in 0..4 {
            world.publish(p, "t", &large, 1);
        }
        assert_eq!(world.take(small), [""; 0]);
        assert_eq!(world.take(other).len(), 4);
        let too_large = counted(&world, |counters| counters.group_dropped_too_large);
        assert_eq!(too_large, 1);
    });
}

#[test]
fn a_slow_member_is_passed_over_until_it_reads() {
    on_shards_with(
        |limits| limits.outbox_bytes_max = 1_000,
        |mut world| {
            let p = world.connect(&v5("p"));
            let members = members(&mut world, 2, "$share/g/t", 1);
            world.stall(members[0], true);
            let payload = "x".repeat(100);
            for n in 0..40 {
                world.publish(p, "t", &payload, n % 2);
            }
            let [slow, fast] = [0, 1].map(|at| world.take(members[at]).len());
            assert_eq!(slow + fast, 40);
            assert!((2..=10).contains(&slow), "{slow}");
            world.stall(members[0], false);
            for _ in 0..10 {
                world.publish(p, "t", &payload, 0);
            }
            assert!(world.take(members[0]).len() >= 4);
        },
    );
}
