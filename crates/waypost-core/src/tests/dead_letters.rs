//! Dead letters, as those who read them see it. Every test runs with one shard and with several.

mod play;

use std::sync::Arc;

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::world::{Client, Options, World, v5};
use crate::journal::Refusal;
use crate::{Counters, Limits, Policies, TopicPolicy};

const GROUP: &str = "$share/g/t";

fn policies(max_deliveries: Option<u32>) -> Arc<Policies> {
    let policy = TopicPolicy {
        filter: "#".into(),
        dead_letter: Some("dead".into()),
        max_deliveries,
        ..TopicPolicy::default()
    };
    Arc::new(Policies::new(vec![policy]).unwrap())
}

fn on_shards(change: impl Fn(&mut Limits), test: impl Fn(&mut World)) {
    for shards in [1, 2, 3] {
        for seed in 0..4 {
            let mut limits = Limits::default();
            change(&mut limits);
            let mut world = World::seeded(shards, limits, seed);
            world.adopt(&policies(None));
            test(&mut world);
        }
    }
}

fn durable(name: &str) -> Options {
    v5(name).persistent(100_000)
}

/// One whose shard is not that of most others.
fn far(world: &World, options: Options) -> Options {
    options.at(world.shards() - 1)
}

/// Whoever reads the dead letters, from the last shard.
fn reader(world: &mut World) -> Client {
    let reader = world.connect(&far(world, durable("reader")));
    world.subscribe(reader, "dead", 2);
    reader
}

fn expiring(seconds: u32) -> PropertyBuffer {
    let mut properties = PropertyBuffer::new();
    properties.push(Property::MessageExpiryInterval(seconds));
    properties
}

fn publish(world: &mut World, client: Client, payload: &str, qos: u8, properties: &PropertyBuffer) {
    world.publish_with(client, "t", payload, qos, 7, false, properties);
    if qos == 2 {
        world.ack(client, "PUBREL", 7);
    }
}

/// Takes over what comes and returns `payload reason count`, one for each dead letter.
fn letters(world: &mut World, reader: Client) -> Vec<String> {
    let mut letters = Vec::new();
    loop {
        let lines = world.take(reader);
        if lines.is_empty() {
            return letters;
        }
        for line in lines {
            let packet_id = line.split(['#', ' ']).find_map(|word| word.parse().ok());
            let packet_id = packet_id.unwrap();
            if line.starts_with("PUBREL") {
                world.ack(reader, "PUBCOMP", packet_id);
                continue;
            }
            let is_qos2 = line.starts_with("PUBLISH q2");
            world.ack(reader, if is_qos2 { "PUBREC" } else { "PUBACK" }, packet_id);
            let property = |name: &str| {
                let start = format!("UserProperty(\"waypost-dead-{name}\", \"");
                let (_, rest) = line.split_once(&start).unwrap_or_else(|| panic!("{line}"));
                rest.split('"').next().unwrap().to_owned()
            };
            let (_, payload) = line.split_once("dead=").unwrap();
            let payload = payload.split(' ').next().unwrap();
            assert_eq!(property("topic"), "t");
            letters.push(format!(
                "{payload} {} {}",
                property("reason"),
                property("count")
            ));
        }
    }
}

fn counted(world: &World, what: impl Fn(&Counters) -> u64) -> u64 {
    let shards = 0..world.shards();
    shards
        .map(|shard| what(world.broker(shard).counters()))
        .sum()
}

/// Refuses the one message that waits for a member.
fn refuse(world: &mut World, member: Client) {
    let lines = world.take(member);
    let line = lines.iter().find(|line| line.starts_with("PUBLISH"));
    let line = line.unwrap_or_else(|| panic!("{lines:?}"));
    let kind = if line.starts_with("PUBLISH q2") {
        "PUBREC"
    } else {
        "PUBACK"
    };
    let packet_id = line.split(['#', ' ']).find_map(|word| word.parse().ok());
    world.ack_with(
        member,
        kind,
        packet_id.unwrap(),
        ReasonCode::ImplementationSpecificError,
    );
}

/// What a session or a group is owed by the store.
fn owed(world: &World) -> usize {
    world.store.durable.queues.values().map(Vec::len).sum()
}

/// Goal: what a member refuses goes to the dead letters, once, with all it was published with; nobody else is tried.
#[test]
fn what_a_member_refuses_is_a_dead_letter() {
    // 5 [MQTT-4.8.2-6]: a deviation, where a policy says so.
    for qos in [1, 2] {
        for is_durable in [false, true] {
            on_shards(
                |_| {},
                |world| {
                    let publisher = world.connect(&v5("p"));
                    let dead = reader(world);
                    let options = if is_durable { durable("m") } else { v5("m") };
                    let member = world.connect(&options);
                    world.subscribe(member, GROUP, qos);
                    let mut properties = expiring(50);
                    properties.push(Property::UserProperty("own", "kept"));
                    publish(world, publisher, "no", qos, &properties);
                    refuse(world, member);
                    let line = world.take(dead).pop().unwrap();
                    assert!(
                        line.starts_with(&format!(
                            "PUBLISH q{qos} #1 dead=no UserProperty(\"own\", \"kept\") Us"
                        )),
                        "no expiry, and what is the publisher's before what is ours: {line}"
                    );
                    world.ack(dead, if qos == 1 { "PUBACK" } else { "PUBREC" }, 1);
                    if qos == 2 {
                        world.ack(dead, "PUBCOMP", 1);
                    }
                    assert_eq!(counted(world, |counters| counters.dead_letters_refused), 1);
                    world.restart(world.shards(), 0);
                    let dead = reader(world);
                    assert_eq!(letters(world, dead), [""; 0]);
                    assert_eq!(owed(world), 0);
                },
            );
        }
    }
}

/// Goal: what a group delivered as often as it may, what expires and what comes to a full queue, of a group and of a
/// session, in memory and in the store.
#[test]
fn every_way_to_die_has_its_reason() {
    for is_durable in [false, true] {
        let options = |name| if is_durable { durable(name) } else { v5(name) };
        let limit = |limits: &mut Limits| {
            limits.group_queue_messages_max = 2;
            limits.queue_messages_max = 2;
        };
        on_shards(limit, |world| {
            let publisher = world.connect(&far(world, v5("p")));
            let dead = reader(world);
            // In memory a session has to outlive its connection just the same to have a queue at all.
            let away = durable("away");
            let session = world.connect(&away);
            world.subscribe(session, if is_durable { "t" } else { "none" }, 1);
            let member_options = options("m");
            let member = world.connect(&member_options);
            world.subscribe(member, GROUP, 1);
            world.adopt(&policies(Some(1)));
            publish(world, publisher, "again", 1, &PropertyBuffer::new());
            world.cut(member);
            assert_eq!(letters(world, dead), ["again max-deliveries 1"]);
            // Without durable members the group ended with its only one.
            if !is_durable {
                return;
            }
            for line in world.take(session) {
                assert!(line.starts_with("PUBLISH q1 #1 t=again"), "{line}");
            }
            world.ack(session, "PUBACK", 1);
            world.cut(session);
            publish(world, publisher, "short", 1, &expiring(10));
            publish(world, publisher, "long", 1, &PropertyBuffer::new());
            assert_eq!(letters(world, dead), [""; 0]);
            for number in 0..3 {
                let text = format!("over{number}");
                publish(world, publisher, &text, 1, &PropertyBuffer::new());
            }
            let mut found = letters(world, dead);
            found.sort();
            let expect = (0..3).flat_map(|number| {
                [
                    format!("over{number} queue-full 0"),
                    format!("over{number} queue-full 0"),
                ]
            });
            assert_eq!(
                found,
                expect.collect::<Vec<_>>(),
                "one of the group, one of the session"
            );
            world.advance(20_000);
            let session = world.connect(&away);
            let member = world.connect(&member_options);
            let mut found = letters(world, dead);
            found.sort();
            assert_eq!(found, ["short expired 0", "short expired 0"]);
            for client in [session, member] {
                let lines = world.take(client);
                assert!(
                    lines.len() == 1 && lines[0].contains(" t=long"),
                    "{lines:?}"
                );
                let packet_id = lines[0]
                    .split(['#', ' '])
                    .find_map(|word| word.parse().ok());
                world.ack(client, "PUBACK", packet_id.unwrap());
            }
            world.advance(20_000);
            assert_eq!(owed(world), 0, "{:?}", world.store.durable.queues);
            assert_eq!(
                counted(world, |counters| counters.dead_letters_queue_full),
                6
            );
            assert_eq!(counted(world, |counters| counters.dead_letters_expired), 2);
            assert_eq!(
                counted(world, |counters| counters.dead_letters_max_deliveries),
                1
            );
            assert_eq!(counted(world, |counters| counters.dead_letters_dropped), 0);
        });
    }
}

/// Goal: neither a crash at any moment nor a refusal makes a message die twice or be lost. Method: a message that dies in
/// one of these ways; for every number of steps of the store the machine stops there, or the store refuses what follows
/// for a while.
#[test]
fn a_message_dies_once_whatever_the_store_does() {
    for (way, shards) in ["full", "expired", "refused", "refused for good"]
        .iter()
        .flat_map(|way| [(*way, 1), (*way, 2), (*way, 3)])
    {
        for is_group in [false, true] {
            if way.starts_with("refused") && !is_group {
                continue;
            }
            for refusals in [0, 1, 3] {
                let mut is_over = false;
                for steps in 0.. {
                    if std::mem::take(&mut is_over) {
                        break;
                    }
                    let says = format!(
                        "{way}, {shards} shards, group {is_group}, {refusals} refused after {steps}"
                    );
                    is_over = !dies_once(way, shards, is_group, refusals, steps, &says);
                }
            }
        }
    }
}

/// Messages that fill a queue. Where the store refuses one, its queue counts it still.
const FULL: usize = 4;

/// Returns whether there were as many steps.
fn dies_once(
    way: &str,
    shards: u16,
    is_group: bool,
    refusals: usize,
    steps: usize,
    says: &str,
) -> bool {
    let limits = Limits {
        queue_messages_max: FULL,
        group_queue_messages_max: FULL,
        ..Limits::default()
    };
    let mut world = World::seeded(shards, limits, 9);
    let world = &mut world;
    world.adopt(&policies(None));
    let dead = reader(world);
    world.cut(dead);
    let debtor = durable("debtor");
    let filter = if is_group { GROUP } else { "t" };
    let client = world.connect(&debtor);
    world.subscribe(client, filter, 2);
    let publisher = world.connect(&far(world, v5("p")));
    if way == "refused for good" {
        publish(world, publisher, "x", 2, &PropertyBuffer::new());
        world.is_store_held = true;
        refuse(world, client);
    } else if way == "refused" {
        world.is_store_held = true;
        world.publish_with(publisher, "t", "x", 1, 7, false, &PropertyBuffer::new());
        refuse(world, client);
    } else {
        world.cut(client);
        if way == "full" {
            for _ in 0..FULL {
                publish(world, publisher, "first", 2, &PropertyBuffer::new());
            }
            world.take(publisher);
            world.is_store_held = true;
            world.publish_with(publisher, "t", "x", 2, 7, false, &PropertyBuffer::new());
        } else {
            publish(world, publisher, "x", 2, &expiring(1));
            world.take(publisher);
            world.is_store_held = true;
            world.advance(2_000);
            world.connect(&debtor);
        }
    }
    let mut was_enough = true;
    for _ in 0..steps {
        was_enough &= world.store_step();
        world.settle();
    }
    let mut again = false;
    if refusals > 0 {
        world.store.refuses = Some(Refusal::Full);
        for _ in 0..refusals {
            world.store_step();
            world.settle();
        }
        world.store.refuses = None;
        world.is_store_held = false;
        world.advance(5_000);
        again = world
            .take(publisher)
            .iter()
            .any(|line| line.starts_with("PUB") && line.contains(" 97"));
    } else if way != "expired" {
        // Who was not told that it is kept may say it again.
        let told = world.take(publisher);
        again = !told.iter().any(|line| line.starts_with("PUB"));
    }
    world.restart(usize::from(shards), 1_000);
    world.is_store_held = false;
    world.advance(5_000);
    // What was not buried is there still: it dies now, or is delivered.
    let client = world.connect(&debtor);
    let delivered = take_over(world, client);
    let dead = reader(world);
    let letters = letters(world, dead);
    let count = delivered + letters.len();
    if again {
        assert!(count <= 1, "{says}: {delivered} {letters:?}");
    } else {
        assert_eq!(count, 1, "{says}: {delivered} {letters:?}");
    }
    if way == "expired" {
        assert_eq!(delivered, 0, "{says}");
    }
    assert_eq!(owed(world), 0, "{says}");
    was_enough
}

/// Takes over what comes; returns how often it was what may have died.
fn take_over(world: &mut World, client: Client) -> usize {
    let mut delivered = 0;
    loop {
        let lines = world.take(client);
        if lines.is_empty() {
            return delivered;
        }
        for line in lines {
            let packet_id = line.split(['#', ' ']).find_map(|word| word.parse().ok());
            let packet_id = packet_id.unwrap();
            if line.starts_with("PUBREL") {
                world.ack(client, "PUBCOMP", packet_id);
                continue;
            }
            let kind = if line.starts_with("PUBLISH q2") {
                "PUBREC"
            } else {
                "PUBACK"
            };
            world.ack(client, kind, packet_id);
            delivered += usize::from(line.contains(" t=x"));
        }
    }
}

/// Goal: a dead letter that dies itself is dropped and counted.
#[test]
fn a_dead_letter_breeds_none() {
    on_shards(
        |limits| limits.queue_messages_max = 2,
        |world| {
            let publisher = world.connect(&v5("p"));
            let dead = reader(world);
            world.cut(dead);
            let away = world.connect(&far(world, durable("away")));
            world.subscribe(away, "t", 1);
            world.cut(away);
            for number in 0..7 {
                publish(
                    world,
                    publisher,
                    &number.to_string(),
                    1,
                    &PropertyBuffer::new(),
                );
            }
            let dead = reader(world);
            assert_eq!(letters(world, dead), ["2 queue-full 0", "3 queue-full 0"]);
            assert_eq!(
                counted(world, |counters| counters.dead_letters_queue_full),
                5
            );
            assert_eq!(counted(world, |counters| counters.dead_letters_dropped), 3);
            assert_eq!(owed(world), 2);
        },
    );
}

/// Goal: what waits to be published is bounded: at N, N + 1 and 2N.
#[test]
fn dead_letters_on_their_way_are_bounded() {
    const N: usize = 10;
    for count in [N, N + 1, 2 * N] {
        for by_bytes in [false, true] {
            let limit = |limits: &mut Limits| {
                limits.queue_messages_max = 1;
                if by_bytes {
                    // 160 bytes and `t` and two digits.
                    limits.dead_letters_waiting_bytes_max = N * 163;
                } else {
                    limits.dead_letters_waiting_max = N;
                }
            };
            on_shards(limit, |world| {
                let publisher = world.connect(&v5("p"));
                let dead = reader(world);
                let away = world.connect(&durable("away"));
                world.subscribe(away, "t", 1);
                world.cut(away);
                publish(world, publisher, "00", 1, &PropertyBuffer::new());
                world.is_store_held = true;
                for number in 0..count {
                    let (text, id) = (format!("{number:02}"), 100 + u16::try_from(number).unwrap());
                    world.publish_with(publisher, "t", &text, 1, id, false, &PropertyBuffer::new());
                }
                let waiting =
                    (0..world.shards()).map(|shard| world.broker(shard).dead_letters_waiting());
                assert_eq!(waiting.sum::<usize>(), count.min(N));
                world.is_store_held = false;
                world.settle();
                assert_eq!(letters(world, dead).len(), count.min(N));
                let dropped = counted(world, |counters| counters.dead_letters_dropped);
                assert_eq!(dropped, (count - count.min(N)) as u64);
                let waiting =
                    (0..world.shards()).map(|shard| world.broker(shard).dead_letters_waiting());
                assert_eq!(waiting.sum::<usize>(), 0);
            });
        }
    }
}

/// Goal: what expires is noticed for sessions and groups that stay away, also after a start, and makes room. Method:
/// more than a page of what expires, among what does not.
#[test]
fn what_expires_is_noticed_for_those_who_stay_away() {
    const COUNT: usize = 1_200;
    for is_restarted in [false, true] {
        for filter in ["t", GROUP] {
            for shards in [1, 3] {
                let limits = Limits {
                    queue_messages_max: COUNT + 2,
                    group_queue_messages_max: COUNT + 2,
                    group_window_messages_max: 100,
                    ..Limits::default()
                };
                let world = &mut World::seeded(shards, limits, 3);
                world.adopt(&policies(None));
                let dead = reader(world);
                let away = durable("away");
                let client = world.connect(&away);
                world.subscribe(client, filter, 1);
                world.cut(client);
                let publisher = world.connect(&far(world, v5("p")));
                let forever = PropertyBuffer::new();
                publish(world, publisher, "first", 1, &forever);
                for number in 0..COUNT {
                    publish(world, publisher, &number.to_string(), 1, &expiring(10));
                }
                publish(world, publisher, "last", 1, &forever);
                world.take(publisher);
                let dead = if is_restarted {
                    world.restart(usize::from(shards), 1_000);
                    reader(world)
                } else {
                    dead
                };
                world.advance(20_000);
                let found = letters(world, dead);
                let mut expect = (0..COUNT).map(|number| format!("{number} expired 0"));
                let as_expected = found
                    .iter()
                    .take_while(|found| expect.next().as_ref() == Some(found));
                let as_expected = as_expected.count();
                let says = format!("{shards} shards, {filter}, restarted {is_restarted}");
                assert_eq!((as_expected, found.len()), (COUNT, COUNT), "{says}");
                assert_eq!(owed(world), 2);
                // And there is room for as many.
                let publisher = world.connect(&far(world, v5("p")));
                for number in 0..COUNT {
                    publish(world, publisher, &number.to_string(), 1, &forever);
                }
                assert_eq!(
                    counted(world, |counters| counters.dead_letters_queue_full),
                    0
                );
                assert_eq!(owed(world), 2 + COUNT);
                let client = world.connect(&away);
                let mut payloads = Vec::new();
                loop {
                    let lines = world.take(client);
                    if lines.is_empty() {
                        break;
                    }
                    for line in lines {
                        let packet_id = line.split(['#', ' ']).find_map(|word| word.parse().ok());
                        world.ack(client, "PUBACK", packet_id.unwrap());
                        payloads.push(line.split_once(" t=").unwrap().1.to_owned());
                    }
                }
                assert_eq!(payloads.len(), COUNT + 2);
                assert_eq!(payloads[..3], ["first", "last", "0"]);
            }
        }
    }
}

/// Goal: the store keeps what is to be buried after it expired; nothing else. Method: a policy that covers the topic and not
/// the group, the other way round, and none.
#[test]
fn what_is_to_be_buried_is_needed_after_it_expired() {
    let policy = |filter: &str| {
        let policy = TopicPolicy {
            filter: filter.into(),
            dead_letter: Some("dead".into()),
            ..TopicPolicy::default()
        };
        Arc::new(Policies::new(vec![policy]).unwrap())
    };
    for shards in [1, 2, 3] {
        for (filter, of_group, is_needed) in [
            ("t", false, true),
            ("t", true, true),
            ("+", true, true),
            ("other", false, false),
            ("other", true, false),
        ] {
            let world = &mut World::seeded(shards, Limits::default(), 5);
            world.adopt(&policy(filter));
            let client = world.connect(&far(world, durable("debtor")));
            world.subscribe(client, if of_group { "$share/g/+" } else { "+" }, 1);
            world.cut(client);
            let publisher = world.connect(&v5("p"));
            publish(world, publisher, "x", 1, &expiring(10));
            let needed: Vec<_> = world.store.durable.needed.values().collect();
            let expect = if is_needed {
                u64::MAX
            } else {
                world.now.wall_ms + 10_000
            };
            assert_eq!(
                needed,
                [&expect],
                "{shards} shards, {filter}, group {of_group}"
            );
        }
    }
}

/// Goal: what a member has at `QoS` 2 dies with its session, and is sent to nobody else.
#[test]
fn what_a_member_has_at_qos_2_dies_with_its_session() {
    // 5 [MQTT-4.8.2-4], [MQTT-4.8.2-5]
    for is_durable in [false, true] {
        on_shards(
            |_| {},
            |world| {
                let dead = reader(world);
                let options = if is_durable {
                    v5("m").persistent(10)
                } else {
                    v5("m")
                };
                let member = world.connect(&options);
                world.subscribe(member, GROUP, 2);
                let publisher = world.connect(&far(world, v5("p")));
                publish(world, publisher, "x", 2, &PropertyBuffer::new());
                assert!(world.take(member)[0].starts_with("PUBLISH q2"));
                let other = world.connect(&durable("other"));
                world.subscribe(other, GROUP, 2);
                world.cut(member);
                world.advance(20_000);
                assert_eq!(letters(world, dead), ["x max-deliveries 1"]);
                assert_eq!(world.take(other), [""; 0]);
                world.restart(world.shards(), 0);
                let dead = reader(world);
                assert_eq!(letters(world, dead), [""; 0]);
                assert_eq!(owed(world), 0);
            },
        );
    }
}
