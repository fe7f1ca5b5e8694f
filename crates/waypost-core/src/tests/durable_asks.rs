//! Messages that are owed to sessions which outlive the process, from the publisher's side: with one shard and with
//! several, who is acknowledged has handed the message over.

use std::collections::BTreeMap;

use waypost_mqtt::PropertyBuffer;

use super::world::{Client, World, v3, v5};
use crate::Limits;
use crate::broker::Random;
use crate::journal::{MessageId, Refusal, Table};
use crate::rows::message::decode_message;

const SHARDS: [u16; 3] = [1, 2, 4];

fn on_shards(test: impl Fn(&mut World)) {
    for shards in SHARDS {
        for seed in 0..8 {
            test(&mut World::seeded(shards, Limits::default(), seed));
        }
    }
}

fn send(world: &mut World, client: Client, topic: &str, payload: &str, qos: u8, packet_id: u16) {
    let none = PropertyBuffer::new();
    world.publish_with(client, topic, payload, qos, packet_id, false, &none);
}

/// A subscriber of each shard that outlives its connection, and is gone.
fn absent(world: &mut World, filter: &str, qos: u8) -> Vec<String> {
    let names: Vec<_> = (0..world.shards())
        .map(|shard| format!("absent {shard}"))
        .collect();
    for (shard, name) in names.iter().enumerate() {
        let client = world.connect(&v3(name).persistent(0).at(shard));
        world.subscribe(client, filter, qos);
        world.cut(client);
    }
    names
}

/// What is owed on disk, by queue, as payloads in order.
fn owed(world: &World) -> BTreeMap<u64, Vec<String>> {
    let views = &world.store.durable;
    let payload = |id: &MessageId| {
        let body = views.messages.get(id).unwrap();
        String::from_utf8(decode_message(body).unwrap().payload.to_vec()).unwrap()
    };
    let queues = views.queues.iter();
    queues
        .map(|(queue, entries)| {
            (
                queue.0,
                entries.iter().map(|(_, id, _)| payload(id)).collect(),
            )
        })
        .filter(|(_, payloads): &(u64, Vec<String>)| !payloads.is_empty())
        .collect()
}

/// Takes what a returned client is sent, acknowledging everything.
fn drain(world: &mut World, client: Client) -> Vec<String> {
    let mut payloads = Vec::new();
    loop {
        let lines = world.take(client);
        if lines.is_empty() {
            return payloads;
        }
        for line in lines {
            let words: Vec<_> = line.split_whitespace().collect();
            let id = || words.iter().find_map(|word| word.strip_prefix('#'));
            match words[0] {
                "PUBLISH" => {
                    let payload = words.iter().find_map(|word| word.split_once('='));
                    payloads.push(payload.unwrap().1.to_owned());
                    match words[1] {
                        "q1" => world.ack(client, "PUBACK", id().unwrap().parse().unwrap()),
                        "q2" => world.ack(client, "PUBREC", id().unwrap().parse().unwrap()),
                        _ => {}
                    }
                }
                "PUBREL" => world.ack(client, "PUBCOMP", id().unwrap().parse().unwrap()),
                _ => {}
            }
        }
    }
}

/// 5 [MQTT-4.3.2-4], [MQTT-4.3.3-8]: the acknowledgement says that the message is everybody's who must get it later: it
/// leaves when one transaction with all of them is on disk.
#[test]
fn an_acknowledgement_says_that_all_who_are_absent_are_owed_it() {
    on_shards(|world| {
        absent(world, "a/+", 2);
        let last = world.shards() - 1;
        for (name, qos, answer) in [("one", 1, "PUBACK #7"), ("two", 2, "PUBREC #7")] {
            let publisher = world.connect(&v5(name).at(last));
            let before = (world.store.transactions, owed(world).len());
            world.is_store_held = true;
            send(world, publisher, "a/b", name, qos, 7);
            assert!(world.take(publisher).is_empty(), "not on disk");
            assert_eq!(owed(world).len(), before.1);
            assert!(world.store_step());
            world.settle();
            assert_eq!(world.take(publisher), [answer]);
            assert_eq!(world.store.transactions, before.0 + 1);
            let owed = owed(world);
            assert_eq!(owed.len(), world.shards());
            assert!(owed.values().all(|owed| owed.last().unwrap() == name));
            world.is_store_held = false;
            world.settle();
        }
    });
}

/// Nobody waits for a shard that has only live subscribers, and nobody writes for them.
#[test]
fn who_is_there_only_for_its_connection_is_owed_nothing() {
    on_shards(|world| {
        for shard in 0..world.shards() {
            let live = world.connect(&v3(&format!("live {shard}")).at(shard));
            world.subscribe(live, "a", 1);
        }
        let publisher = world.connect(&v5("p"));
        let before = world.store.transactions;
        send(world, publisher, "a", "x", 1, 1);
        send(world, publisher, "a", "x", 2, 2);
        assert_eq!(world.take(publisher), ["PUBACK #1", "PUBREC #2"]);
        assert_eq!(world.store.transactions, before);
        // A durable session that is owed nothing at QoS 0 is asked, and nothing is written.
        absent(world, "a", 0);
        let before = world.store.transactions;
        send(world, publisher, "a", "x", 1, 3);
        assert_eq!(world.take(publisher), ["PUBACK #3"]);
        assert_eq!(world.store.transactions, before);
    });
}

/// Goal: a message that waits for other shards lets none pass: not on disk, not in the answers. Method: mail is held up.
#[test]
fn what_waits_for_other_shards_keeps_its_place() {
    for seed in 0..16 {
        let mut world = World::seeded(2, Limits::default(), seed);
        let world = &mut world;
        let there = world.connect(&v3("there").persistent(0).at(1));
        world.subscribe(there, "far/#", 1);
        world.subscribe(there, "both", 1);
        let here = world.connect(&v3("here").persistent(0));
        world.subscribe(here, "near/#", 1);
        world.subscribe(here, "both", 1);
        for client in [there, here] {
            world.cut(client);
        }
        let (one, two) = (world.connect(&v5("one")), world.connect(&v5("two")));
        world.is_mail_held = true;
        send(world, one, "far/1", "1", 1, 1);
        send(world, one, "near/2", "2", 1, 2);
        send(world, one, "nobody", "x", 1, 3);
        send(world, two, "both", "3", 1, 4);
        send(world, two, "near/4", "4", 1, 5);
        assert!(world.take(one).is_empty() && world.take(two).is_empty());
        world.is_mail_held = false;
        world.settle();
        assert_eq!(world.take(one), ["PUBACK #1", "PUBACK #2", "PUBACK #3 10"]);
        assert_eq!(world.take(two), ["PUBACK #4", "PUBACK #5"]);
        let mut owed: Vec<_> = owed(world).into_values().collect();
        owed.sort();
        assert_eq!(
            owed,
            [
                ["1", "3"].map(String::from).to_vec(),
                ["2", "3", "4"].map(String::from).to_vec()
            ]
        );
    }
}

#[test]
fn a_refused_message_is_owed_to_nobody() {
    on_shards(|world| {
        let names = absent(world, "a", 2);
        let publisher = world.connect(&v5("p"));
        send(world, publisher, "a", "1", 1, 1);
        world.store.refuses = Some(Refusal::Full);
        send(world, publisher, "a", "2", 1, 2);
        send(world, publisher, "a", "3", 2, 3);
        world.store.refuses = Some(Refusal::Failed);
        send(world, publisher, "a", "4", 1, 4);
        world.store.refuses = None;
        send(world, publisher, "a", "5", 2, 3);
        assert_eq!(
            world.take(publisher),
            [
                "PUBACK #1",
                "PUBACK #2 97",
                "PUBREC #3 97",
                "PUBACK #4 80",
                "PUBREC #3"
            ]
        );
        for (shard, name) in names.iter().enumerate() {
            let client = world.connect(&v3(name).persistent(0).at(shard));
            assert_eq!(drain(world, client), ["1", "5"]);
            world.cut(client);
            let queued = (0..world.shards())
                .find_map(|shard| Some(world.broker(shard).client(name)?.queued))
                .unwrap();
            assert_eq!(queued, 0);
        }
        assert!(owed(world).is_empty());
    });
}

/// A publisher that is taken over, or goes, before it is answered: its message is what it would have been, and who
/// takes its session up is told what holds.
#[test]
fn a_repeat_is_answered_when_the_first_is_kept() {
    for is_refused in [false, true] {
        on_shards(|world| {
            absent(world, "a", 2);
            let last = world.shards() - 1;
            let publisher = v5("p").persistent(1_000);
            let first = world.connect(&publisher);
            world.is_store_held = true;
            send(world, first, "a", "once", 2, 9);
            assert!(world.take(first).is_empty());
            // Taken over by another connection, on another shard if there is one.
            let second = world.open_at(last);
            let again = v5("p").persistent(1_000).at(last);
            world.send_connect(second, &again);
            world.store.refuses = is_refused.then_some(Refusal::Full);
            world.store_step();
            world.store.refuses = None;
            world.is_store_held = false;
            world.settle();
            let connack = world.take(second);
            assert!(connack[0].starts_with("CONNACK 00 present"), "{connack:?}");
            send(world, second, "a", "once", 2, 9);
            assert_eq!(world.take(second), ["PUBREC #9"]);
            world.ack(second, "PUBREL", 9);
            assert_eq!(world.take(second), ["PUBCOMP #9"]);
            let owed = owed(world);
            assert_eq!(owed.len(), world.shards());
            assert!(owed.values().all(|owed| *owed == ["once"]), "{owed:?}");
            assert_eq!(rows(world, Table::RECEIVED), 0);
        });
    }
}

fn rows(world: &World, table: Table) -> usize {
    let rows = world.store.durable.rows.keys();
    rows.filter(|(of, _)| *of == table).count()
}

/// PUBCOMP waits for the release: else the identifier, used again, would be taken for a repeat after a crash.
#[test]
fn a_release_is_kept_before_it_is_confirmed() {
    on_shards(|world| {
        let publisher = world.connect(&v5("p").persistent(1_000));
        send(world, publisher, "a", "x", 2, 5);
        assert_eq!(world.take(publisher), ["PUBREC #5 10"]);
        assert_eq!(rows(world, Table::RECEIVED), 1);
        world.is_store_held = true;
        world.ack(publisher, "PUBREL", 5);
        assert!(world.take(publisher).is_empty());
        world.is_store_held = false;
        world.settle();
        assert_eq!(world.take(publisher), ["PUBCOMP #5"]);
        assert_eq!(rows(world, Table::RECEIVED), 0);
        // Refused: it is in use as before, and the client asks again.
        send(world, publisher, "a", "x", 2, 6);
        world.take(publisher);
        world.store.refuses = Some(Refusal::Full);
        world.ack(publisher, "PUBREL", 6);
        assert_eq!(world.take(publisher), ["DISCONNECT 97", "closed"]);
        world.store.refuses = None;
        let publisher = world.connect(&v5("p").persistent(1_000));
        send(world, publisher, "a", "x", 2, 6);
        world.ack(publisher, "PUBREL", 6);
        assert_eq!(world.take(publisher), ["PUBREC #6", "PUBCOMP #6"]);
        assert_eq!(rows(world, Table::RECEIVED), 0);
    });
}

/// Goal: the same result whatever the number of shards. Method: the same random publishes at random places; what every
/// queue is owed, by name, must be the same, and each publisher's messages in its order.
#[test]
fn one_shard_and_many_owe_the_same() {
    for seed in 0..24_u64 {
        let mut results = Vec::new();
        for shards in SHARDS {
            let mut world = World::seeded(shards, Limits::default(), seed);
            let mut random = Random::seeded(seed);
            let mut pick = |bound: u64| random.next() % bound;
            let filters = ["a", "b", "+", "#"];
            for number in 0..6_u64 {
                let shard = usize::try_from(number % u64::from(shards)).unwrap();
                let name = format!("s{number}");
                let options = v3(&name).at(shard);
                let is_durable = number < 4;
                let client = if is_durable {
                    world.connect(&options.persistent(0))
                } else {
                    world.connect(&options)
                };
                for _ in 0..=pick(2) {
                    let filter = filters[usize::try_from(pick(4)).unwrap()];
                    world.subscribe(client, filter, u8::try_from(pick(3)).unwrap());
                }
                if is_durable {
                    world.cut(client);
                }
            }
            let publishers: Vec<_> = (0..3_usize)
                .map(|number| {
                    let shard = number % usize::from(shards);
                    world.connect(&v5(&format!("p{number}")).at(shard))
                })
                .collect();
            let none = PropertyBuffer::new();
            for number in 0..30_u16 {
                let publisher = usize::try_from(pick(3)).unwrap();
                let topic = ["a", "b"][usize::try_from(pick(2)).unwrap()];
                let (qos, retain) = (u8::try_from(pick(3)).unwrap(), pick(8) == 0);
                let payload = format!("{publisher}/{number}");
                let packet_id = number + 1;
                let publisher = publishers[publisher];
                world.publish_with(publisher, topic, &payload, qos, packet_id, retain, &none);
            }
            for (number, publisher) in publishers.iter().enumerate() {
                let answers = world.take(*publisher);
                assert!(
                    answers.iter().all(|answer| answer.starts_with("PUB")),
                    "{number}"
                );
            }
            let mut owed: Vec<_> = owed(&world).into_values().collect();
            owed.sort();
            for owed in &owed {
                for publisher in 0..3 {
                    let own = |payload: &&String| payload.starts_with(&format!("{publisher}/"));
                    let numbers: Vec<u16> = owed
                        .iter()
                        .filter(own)
                        .map(|payload| payload.split_once('/').unwrap().1.parse().unwrap())
                        .collect();
                    assert!(numbers.is_sorted(), "seed {seed}: {owed:?}");
                }
            }
            results.push(owed);
        }
        assert_eq!(results[0], results[1], "seed {seed}");
        assert_eq!(results[0], results[2], "seed {seed}");
    }
}

/// On the shard where the first one waits its repeat waits too, whatever connection it comes by.
#[test]
fn a_repeat_waits_with_the_first_one() {
    for why in [None, Some(Refusal::Full)] {
        on_shards(|world| {
            absent(world, "a", 2);
            let publisher = v5("p").persistent(1_000);
            let first = world.connect(&publisher);
            world.is_store_held = true;
            world.is_mail_held = true;
            send(world, first, "a", "once", 2, 9);
            // The same connection: behind the first answer.
            send(world, first, "a", "once", 2, 9);
            assert!(world.take(first).is_empty());
            world.is_mail_held = false;
            world.settle();
            let second = (world.shards() == 1).then(|| {
                let second = world.connect(&publisher);
                send(world, second, "a", "once", 2, 9);
                assert!(world.take(second).is_empty());
                second
            });
            world.store.refuses = why;
            world.is_store_held = false;
            world.settle();
            world.store.refuses = None;
            let lines = |refusals: [&str; 2]| match why {
                None => vec!["PUBREC #9".to_owned(); 2],
                Some(_) => refusals.map(|reason| format!("PUBREC #9 {reason}")).into(),
            };
            if let Some(second) = second {
                assert_eq!(world.take(second), lines(["97", "97"])[..1]);
            } else {
                assert_eq!(world.take(first), lines(["97", "97"]));
            }
        });
    }
}

/// A client that releases what it was not acknowledged leaves no row behind.
#[test]
fn a_release_that_comes_too_early_leaves_nothing() {
    on_shards(|world| {
        absent(world, "a", 2);
        let publisher = world.connect(&v5("p").persistent(1_000));
        world.is_mail_held = true;
        send(world, publisher, "a", "x", 2, 9);
        world.ack(publisher, "PUBREL", 9);
        world.is_mail_held = false;
        world.settle();
        assert_eq!(world.take(publisher), ["PUBREC #9", "PUBCOMP #9"]);
        assert_eq!(rows(world, Table::RECEIVED), 0);
    });
}
