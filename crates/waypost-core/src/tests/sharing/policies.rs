//! What limits and policies make of groups.

use waypost_mqtt::{Property, PropertyBuffer};

use super::*;

#[test]
fn limits_at_n_and_beyond() {
    for (count, refused) in [(3, 0), (4, 1), (6, 3)] {
        on_shards_with(
            |limits| limits.group_members_max = 3,
            |mut world| {
                let acks = (0..count).map(|n| {
                    let client = come(&mut world, n, v5(&format!("m{n}")));
                    world.subscribe(client, "$share/g/t", 1)
                });
                let refusals = acks.filter(|ack| ack == "SUBACK #1 97").count();
                assert_eq!(refusals, refused);
                assert_eq!(sum(&world, crate::Broker::group_members), count - refused);
                let counted = counted(&world, |counters| counters.group_members_refused);
                assert_eq!(counted, refused);
            },
        );
        let mut world = World::with_limits(|limits| limits.groups_max = 3);
        let client = world.connect(&v5("m"));
        let acks = (0..count).map(|n| world.subscribe(client, &format!("$queue/{n}"), 1));
        assert_eq!(acks.filter(|ack| ack == "SUBACK #1 97").count(), refused);
        assert_eq!(counted(&world, |counters| counters.groups_refused), refused);
        on_shards_with(
            |limits| limits.group_queue_messages_max = 3,
            |mut world| {
                let p = world.connect(&v5("p"));
                let m = world.connect(&v5("m").persistent(100));
                world.subscribe(m, "$share/g/t", 1);
                world.cut(m);
                for n in 0..count {
                    world.publish(p, "t", &n.to_string(), 1);
                }
                let m = world.connect(&v5("m").persistent(100));
                assert_eq!(payloads(&world.take(m)), ["0", "1", "2"]);
                let dropped = counted(&world, |counters| counters.group_dropped_queue_full);
                assert_eq!(dropped, refused);
            },
        );
    }
}

#[test]
fn weights_are_numbers_from_1_to_1000() {
    use waypost_mqtt::{Filter, Packet, PacketId, Subscribe, SubscriptionRequest};
    for (weight, reason) in [
        ("1", "01"),
        ("1000", "01"),
        ("0", "83"),
        ("1001", "83"),
        ("x", "83"),
        ("", "83"),
    ] {
        on_shards(|mut world| {
            let m = come(&mut world, 1, v5("m"));
            let mut buffer = PropertyBuffer::new();
            buffer.push(Property::UserProperty("waypost-weight", weight));
            let requests = ["$share/g/t", "t"].map(|filter| SubscriptionRequest {
                filter: Filter::parse(filter).unwrap(),
                options: options(1),
            });
            let packet_id = PacketId::new(1).unwrap();
            let subscribe = Subscribe::new(packet_id, buffer.as_properties(), &requests);
            world.send(m, &Packet::Subscribe(subscribe));
            let ack = world.take_first(m, "SUBACK");
            assert!(ack.starts_with(&format!("SUBACK #1 {reason} 01")), "{ack}");
            assert_eq!(ack.contains("waypost-weight is"), reason == "83", "{ack}");
        });
    }
}

#[test]
fn the_queue_of_a_group_is_bounded_in_bytes_and_what_expired_makes_room() {
    // What a message that waits is charged with, beside its bytes.
    let one = 160 + "t".len() + 100;
    for (count, refused) in [(3, 0), (4, 1), (6, 3)] {
        on_shards_with(
            |limits| limits.group_queue_bytes_max = 3 * one,
            |mut world| {
                let p = world.connect(&v5("p"));
                let m = world.connect(&v5("m").persistent(100));
                world.subscribe(m, "$share/g/t", 1);
                world.cut(m);
                let mut expires = PropertyBuffer::new();
                expires.push(Property::MessageExpiryInterval(1));
                for _ in 0..count {
                    let payload = "x".repeat(100);
                    world.publish_with(p, "t", &payload, 1, 10, false, &expires);
                }
                world.publish(p, "t", "qos 0 waits for nobody", 0);
                assert_eq!(
                    sum(&world, crate::Broker::group_messages_waiting),
                    count - refused
                );
                let dropped = |world: &World| {
                    [
                        counted(world, |counters| counters.group_dropped_queue_full),
                        counted(world, |counters| counters.group_dropped_expired),
                        counted(world, |counters| counters.group_dropped_not_ready),
                    ]
                };
                assert_eq!(dropped(&world), [refused, 0, 1]);
                world.advance(2_000);
                world.publish(p, "t", &"y".repeat(100), 1);
                let m = world.connect(&v5("m").persistent(100));
                assert_eq!(payloads(&world.take(m)), ["y".repeat(100)]);
                assert_eq!(dropped(&world), [refused, 3, 1]);
            },
        );
    }
}

#[test]
fn a_message_is_tried_as_often_as_the_policy_says() {
    on_shards(|mut world| {
        world.adopt(&policies("t", "round-robin", 2));
        let watcher = world.connect(&v5("watcher"));
        world.subscribe(watcher, "$events/group/#", 0);
        let p = world.connect(&v5("p"));
        let mut m = world.connect(&v5("m").persistent(100));
        world.subscribe(m, "$share/g/t", 1);
        world.publish(p, "t", "poison", 1);
        world.publish(p, "t", "as well", 1);
        for expected in [2, 2, 0] {
            assert_eq!(world.take(m).len(), expected);
            world.cut(m);
            m = world.connect(&v5("m").persistent(100));
        }
        let dropped = counted(&world, |counters| counters.group_dropped_max_deliveries);
        assert_eq!(dropped, 2);
        let told = world.take(watcher);
        let why = "\"client_id\":\"m\",\"reason\":\"max-deliveries\",\"deliveries\":2}";
        assert!(
            told.len() == 2 && told.iter().all(|line| line.ends_with(why)),
            "{told:?}"
        );
    });
}

#[test]
fn another_strategy_takes_over_and_nothing_is_lost() {
    on_shards_with(
        |limits| limits.group_credit_max = 2,
        |mut world| {
            let p = world.connect(&v5("p"));
            world.adopt(&policies("#", "sticky", 0));
            let members = members(&mut world, 3, "$share/g/t", 1);
            for n in 0..6 {
                world.publish(p, "t", &n.to_string(), 1);
            }
            let first = taken(&mut world, &members);
            assert_eq!(payloads(&first), ["0", "1"], "one member, its credit");
            world.adopt(&policies("#", "round-robin", 0));
            let rest = taken(&mut world, &members);
            assert_eq!(payloads(&rest), ["2", "3", "4", "5"]);
        },
    );
}

#[test]
fn the_order_of_a_key_is_kept() {
    on_shards_with(
        |limits| limits.group_credit_max = 3,
        |mut world| {
            world.adopt(&policies("#", "ordered", 0));
            let p = world.connect(&v5("p"));
            let mut members = members(&mut world, 2, "$share/g/t", 1);
            let mut last = [None; 4];
            let mut sent = 0;
            for round in 0..40 {
                for _ in 0..4 {
                    let key = (sent % 4).to_string();
                    let mut properties = PropertyBuffer::new();
                    properties.push(Property::UserProperty("waypost-key", &key));
                    let payload = format!("{key}:{sent}:");
                    world.publish_with(p, "t", &payload, 1, 10, false, &properties);
                    sent += 1;
                }
                if round % 10 == 5 {
                    let number = members.len();
                    let member = come(&mut world, number, v5(&format!("m{number}")));
                    world.subscribe(member, "$share/g/t", 1);
                    members.push(member);
                }
                for member in &members {
                    for line in world.take(*member) {
                        let id = line.split(['#', ' ']).find_map(|part| part.parse().ok());
                        let (_, payload) = line.split_once('=').unwrap();
                        let numbers: Vec<usize> = payload
                            .split(':')
                            .filter_map(|part| part.parse().ok())
                            .collect();
                        let [key, number] = numbers[..] else {
                            panic!("{line}")
                        };
                        assert!(last[key] < Some(number), "{line} after {last:?}");
                        last[key] = Some(number);
                        world.ack(*member, "PUBACK", id.unwrap());
                    }
                }
            }
        },
    );
}
