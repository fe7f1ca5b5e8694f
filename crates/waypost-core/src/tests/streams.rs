//! How messages enter streams: in the transaction that keeps them, and who waits for that.

use std::sync::Arc;

use waypost_mqtt::{Property, PropertyBuffer};

use super::durable_publish::policies;
use super::store::Op;
use super::world::{Client, World, v3, v5};
use crate::journal::{Refusal, Until};
use crate::stream::StreamId;
use crate::{Durability, Limits, Policies, TopicPolicy};

const ORDERS: StreamId = StreamId(1);
const ALL: StreamId = StreamId(2);

fn on_shards(test: impl Fn(&mut World)) {
    for shards in [1, 2, 4] {
        for seed in 0..4 {
            let mut world = World::seeded(shards, Limits::default(), seed);
            world.configure(&[("orders", &["orders/#"]), ("all", &["#"])]);
            test(&mut world);
        }
    }
}

fn send(world: &mut World, client: Client, topic: &str, payload: &str, qos: u8, retain: bool) {
    let none = PropertyBuffer::new();
    world.publish_with(client, topic, payload, qos, 7, retain, &none);
}

/// The transactions since recording began: how far each was waited for, and what stands in it.
fn written(world: &mut World) -> Vec<(Until, Vec<&'static str>)> {
    let recorded = world.store.recorded.replace(Vec::new()).unwrap_or_default();
    let name = |op: &Op| match op {
        Op::Message(..) => "message",
        Op::Owe(..) => "owe",
        Op::Enter(..) => "enter",
        Op::Settle(..) => "settle",
        Op::EndQueue(..) => "end",
        Op::Put(..) => "put",
        Op::Delete(..) => "delete",
        Op::Hold(..) => "hold",
    };
    let names = |(until, ops): &(Until, Vec<Op>)| (*until, ops.iter().map(name).collect());
    recorded.iter().map(names).collect()
}

/// Goal: one stored copy, whoever needs it. Method: the operations of each transaction.
#[test]
fn a_message_enters_its_streams_in_the_transaction_that_keeps_it() {
    on_shards(|world| {
        let last = world.shards() - 1;
        let debtor = world.connect(&v5("debtor").persistent(600));
        world.subscribe(debtor, "orders/#", 1);
        let publisher = world.connect(&v5("publisher").persistent(600).at(last));
        written(world);
        send(world, publisher, "orders/1", "one", 2, true);
        let all = ["message", "enter", "owe", "hold", "put"];
        assert_eq!(written(world), [(Until::Durable, all.to_vec())]);
        assert_eq!(world.take(publisher), ["PUBREC #7"]);
        world.ack(publisher, "PUBREL", 7);
        written(world);
        // Of a retained message that is cleared the stream has the empty payload.
        send(world, publisher, "orders/1", "", 1, true);
        let cleared = vec!["message", "enter", "owe", "hold"];
        assert_eq!(written(world), [(Until::Durable, cleared)]);
        let streams = &world.store.durable.streams;
        for stream in [ORDERS, ALL] {
            assert_eq!(streams.shown(stream), ["orders/1=one", "orders/1="]);
        }
    });
}

/// DESIGN.md: a message at QoS 0 enters lazily; at QoS 1 and 2 the acknowledgement waits, also without any subscriber.
#[test]
fn a_publisher_is_acknowledged_once_its_message_has_entered() {
    on_shards(|world| {
        for (version, name) in [(v3("three"), "three"), (v5("five"), "five")] {
            let publisher = world.connect(&version);
            written(world);
            world.settle();
            world.is_store_held = true;
            for (qos, answer) in [(0, None), (1, Some("PUBACK #7")), (2, Some("PUBREC #7"))] {
                send(world, publisher, name, "x", qos, false);
                assert_eq!(world.take(publisher), [""; 0], "not on disk yet");
                world.is_store_held = false;
                world.settle();
                let entered = |until| (until, vec!["message", "enter"]);
                // What a reason says of subscribers is not said of a message that is kept.
                assert_eq!(world.take(publisher), answer.as_slice(), "{name} {qos}");
                let until = answer.map_or(Until::Whenever, |_| Until::Durable);
                assert_eq!(written(world), [entered(until)], "{name} {qos}");
                world.is_store_held = true;
            }
            world.is_store_held = false;
        }
        let shown = world.store.durable.streams.shown(ALL);
        assert_eq!(
            shown,
            [
                "three=x", "three=x", "three=x", "five=x", "five=x", "five=x"
            ]
        );
        assert_eq!(world.store.durable.streams.next(ORDERS), 0);
    });
}

/// `durability` is asked as for what is owed: `memory` enters and nobody waits, `os` waits for the operating system.
#[test]
fn durability_says_what_the_acknowledgement_waits_for() {
    on_shards(|world| {
        for (durability, until) in [
            (Durability::Memory, Until::Whenever),
            (Durability::Os, Until::Written),
        ] {
            world.adopt(&policies("#", durability));
            let publisher = world.connect(&v5("publisher"));
            written(world);
            world.settle();
            world.is_store_held = true;
            send(world, publisher, "a", "x", 1, false);
            if durability == Durability::Os {
                assert_eq!(world.take(publisher), [""; 0]);
                world.store_written();
            }
            assert_eq!(world.take(publisher), ["PUBACK #7"]);
            world.is_store_held = false;
            world.settle();
            assert_eq!(written(world), [(until, vec!["message", "enter"])]);
            world.cut(publisher);
        }
        assert_eq!(world.store.durable.streams.next(ALL), 2);
    });
}

/// What no stream takes is as it was without streams: no transaction, and whoever has no subscriber is told so.
#[test]
fn what_no_stream_takes_is_not_written() {
    for shards in [1, 3] {
        let mut world = World::seeded(shards, Limits::default(), 1);
        world.configure(&[("orders", &["orders/#"])]);
        let publisher = world.connect(&v5("publisher"));
        world.publish_system("$SYS/x", "1", false);
        for qos in 0..=2 {
            send(&mut world, publisher, "other", "x", qos, false);
        }
        assert_eq!(world.take(publisher), ["PUBACK #7 10", "PUBREC #7 10"]);
        assert_eq!(world.store.transactions, 0);
        // And the server's own topics are nobody's to publish to.
        for topic in ["$from/last=1/orders/1", "$SYS/x", "$events/x"] {
            send(&mut world, publisher, topic, "x", 1, false);
            assert!(
                world.take(publisher)[0].starts_with("PUBACK #7 87"),
                "{topic}"
            );
        }
    }
}

/// A message of the server enters no stream, even where a filter names its topic.
#[test]
fn messages_of_the_server_enter_no_stream() {
    let mut world = World::new();
    world.configure(&[("own", &["$SYS/#", "$events/#"])]);
    world.publish_system("$SYS/x", "1", true);
    let client = world.connect(&v5("c"));
    world.cut(client);
    assert_eq!(world.store.durable.streams.next(ORDERS), 0);
}

/// What the store refuses is in no stream, and its publisher knows.
#[test]
fn what_the_store_refuses_has_not_entered() {
    on_shards(|world| {
        let (old, new) = (world.connect(&v3("old")), world.connect(&v5("new")));
        world.store.refuses = Some(Refusal::Full);
        for qos in 0..=2 {
            send(world, new, "orders/1", "x", qos, false);
        }
        assert_eq!(world.take(new), ["PUBACK #7 97", "PUBREC #7 97"]);
        send(world, old, "orders/1", "x", 1, false);
        assert_eq!(world.take(old), ["closed"]);
        world.store.refuses = None;
        send(world, new, "orders/1", "kept", 1, false);
        assert_eq!(world.take(new), ["PUBACK #7"]);
        assert_eq!(world.store.durable.streams.shown(ORDERS), ["orders/1=kept"]);
    });
}

/// Wills, delayed messages and dead letters enter too, each with the end of what it was before, so that a crash finds
/// it once: whatever the durability.
#[test]
fn what_the_server_publishes_for_clients_enters_with_the_end_of_its_row() {
    for durability in [Durability::Sync, Durability::Os, Durability::Memory] {
        let mut world = World::new();
        world.configure(&[("all", &["#"])]);
        let policy = TopicPolicy {
            filter: "#".into(),
            durability: Some(durability),
            dead_letter: Some("dead".into()),
            ..TopicPolicy::default()
        };
        let policies = Policies::new(vec![policy]).unwrap();
        world.adopt(&Arc::new(policies));
        let session = v5("w").persistent(600);
        let client = world.connect(&session.will("will", "w", 1, false));
        send(&mut world, client, "$delayed/5/later", "d", 1, false);
        world.take(client);
        written(&mut world);
        world.advance(6_000);
        let delayed = written(&mut world);
        let found = delayed.iter().filter(|(_, ops)| ops.contains(&"enter"));
        let found: Vec<_> = found.map(|(_, ops)| ops.clone()).collect();
        assert_eq!(
            found,
            [vec!["message", "enter", "delete"]],
            "{durability:?}"
        );
        world.cut(client);
        let wills = written(&mut world);
        let will = wills
            .iter()
            .find(|(_, ops)| ops.contains(&"enter"))
            .unwrap();
        assert_eq!(will.1[..2], ["message", "enter"], "{durability:?}");
        assert!(will.1.contains(&"delete"), "{durability:?}: {will:?}");
        let shown = world.store.durable.streams.shown(StreamId(1));
        assert_eq!(shown, ["later=d", "will=w"], "{durability:?}");
    }
}

/// Goal: offsets follow the order of publishing. Method: a message whose debtors are on another shard, and others behind
/// it that nobody is owed, at each QoS.
#[test]
fn messages_enter_in_the_order_they_were_published() {
    for seed in 0..32 {
        let mut world = World::seeded(3, Limits::default(), seed);
        world.configure(&[("all", &["#"])]);
        let debtor = world.connect(&v5("debtor").persistent(600).at(1));
        world.subscribe(debtor, "a/#", 1);
        let publisher = world.connect(&v5("publisher"));
        world.is_mail_held = true;
        let mut expect = Vec::new();
        for number in 0..30_u8 {
            let topic = ["a/x", "b", "c"][usize::from(number % 3)];
            let (qos, payload) = (number % 2, number.to_string());
            send(&mut world, publisher, topic, &payload, qos, false);
            expect.push(format!("{topic}={payload}"));
        }
        world.is_mail_held = false;
        world.settle();
        assert_eq!(
            world.store.durable.streams.shown(StreamId(1)),
            expect,
            "seed {seed}"
        );
    }
}

/// A message keeps what is its own in a stream.
#[test]
fn a_record_has_the_properties_of_its_message() {
    let mut world = World::new();
    world.configure(&[("all", &["#"])]);
    let publisher = world.connect(&v5("publisher"));
    let mut properties = PropertyBuffer::new();
    properties
        .push(Property::UserProperty("waypost-key", "k"))
        .push(Property::ContentType("text/plain"));
    world.publish_with(publisher, "a", "x", 1, 7, false, &properties);
    let stored = world.store.durable.messages.values().next().unwrap();
    let kept = crate::rows::message::decode_message(stored).unwrap();
    assert_eq!(kept.properties, properties.as_bytes());
}
