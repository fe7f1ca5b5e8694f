//! Subscriptions that begin with what was: where they begin, the seam to what comes, who gets what and how fast.

mod durable;
mod limits;
mod reader;

use waypost_mqtt::{
    Packet, PacketId, Property, PropertyBuffer, RetainHandling, Subscribe, SubscriptionOptions,
    SubscriptionRequest,
};

use self::reader::{Got, acknowledged, offsets, read};
use super::world::{Client, World, options, v3, v5};
use crate::stream::StreamId;
use crate::{Action, AllowAll, Limits, Permit, Policies, TopicPolicy, Verdict, Who};

const S: StreamId = StreamId(1);

/// A world with a stream of everything, another of less, and a publisher.
fn world_with(shards: u16, seed: u64, change: impl FnOnce(&mut Limits)) -> (World, Client) {
    let mut limits = Limits::default();
    change(&mut limits);
    let mut world = World::seeded(shards, limits, seed);
    world.configure(&[("all", &["#"]), ("b", &["b/#"])]);
    let publisher = world.connect(&v5("publisher"));
    (world, publisher)
}

fn on_shards(test: impl Fn(&mut World, Client)) {
    for shards in [1, 3] {
        for seed in 0..4 {
            let (mut world, publisher) = world_with(shards, seed, |_| {});
            test(&mut world, publisher);
        }
    }
}

/// Publishes numbers, one after the other.
fn publish(world: &mut World, client: Client, topic: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        world.publish(client, topic, &number.to_string(), 1);
        world.take(client);
    }
}

/// Subscribes with the User Property.
fn subscribe_from(world: &mut World, client: Client, filter: &str, specs: &[&str]) -> String {
    let mut buffer = PropertyBuffer::new();
    for spec in specs {
        buffer.push(Property::UserProperty("waypost-from", spec));
    }
    let requests = [SubscriptionRequest {
        filter: waypost_mqtt::Filter::parse(filter).unwrap(),
        options: options(1),
    }];
    let packet_id = PacketId::new(1).unwrap();
    let subscribe = Subscribe::new(packet_id, buffer.as_properties(), &requests);
    world.send(client, &Packet::Subscribe(subscribe));
    world.take_first(client, "SUBACK")
}

/// Goal: every spec begins where it says, and goes on with what comes. Method: a stream with ten messages on two topics,
/// a second apart, the subscription, two more messages.
#[test]
fn every_spec_begins_where_it_says() {
    let at = |second: u64| 1_700_000_000_000 + second * 1_000;
    let date = "2023-11-14T22:13:26Z";
    assert_eq!(at(6) / 1_000, 1_700_000_006);
    let time = format!("time={}", at(4));
    let utc = format!("time={date}");
    for (spec, filter, expect) in [
        ("last=3", "#", &[7, 8, 9, 10, 11][..]),
        ("last=0", "#", &[10, 11]),
        ("last=100", "#", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ("last=2", "a/x", &[6, 8, 10]),
        ("each=1", "#", &[8, 9, 10, 11]),
        ("each=2", "+/+", &[6, 7, 8, 9, 10, 11]),
        ("each=9", "b/+", &[1, 3, 5, 7, 9, 11]),
        ("since=3s", "#", &[7, 8, 9, 10, 11]),
        ("since=2d", "#", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        (&*time, "#", &[4, 5, 6, 7, 8, 9, 10, 11]),
        (&*utc, "a/#", &[6, 8, 10]),
        ("time=99999999999999", "#", &[10, 11]),
        ("offset=0", "b/x", &[1, 3, 5, 7, 9, 11]),
        ("offset=8", "#", &[8, 9, 10, 11]),
        ("offset=11", "#", &[11]),
        ("offset=8;stream=all", "b/#", &[9, 11]),
    ] {
        for shards in [1, 2] {
            for version in [v3("r"), v5("r")] {
                let (mut world, publisher) = world_with(shards, 1, |_| {});
                // Only one stream, so that offsets say all.
                world.configure(&[("all", &["#"])]);
                for number in 0..10 {
                    let topic = ["a/x", "b/x"][number as usize % 2];
                    publish(&mut world, publisher, topic, number..number + 1);
                    world.advance(1_000);
                }
                let reader = world.connect(&version);
                let filter = format!("$from/{spec}/{filter}");
                assert_eq!(world.subscribe(reader, &filter, 1), "SUBACK #1 01");
                publish(&mut world, publisher, "a/x", 10..11);
                publish(&mut world, publisher, "b/x", 11..12);
                let got = read(&mut world, reader);
                let numbers: Vec<u64> = got.iter().map(Got::number).collect();
                assert_eq!(numbers, expect, "{filter} on {shards} shards");
            }
        }
    }
}

/// What is delivered: under its own topic, at the lower QoS, without RETAIN, with its own properties, those that say where
/// it is from, and the subscription's identifier.
#[test]
fn a_record_says_where_it_is_from() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let mut properties = PropertyBuffer::new();
    properties.push(Property::UserProperty("k", "v"));
    world.publish_with(publisher, "b/x", "1", 2, 9, true, &properties);
    let reader = world.connect(&v5("r"));
    let filters = [("$from/last=1/b/#", options(1))];
    assert_eq!(world.subscribe_with(reader, &filters, 7), "SUBACK #1 01");
    assert_eq!(
        world.take(reader),
        [
            "PUBLISH q1 #1 b/x=1 SubscriptionIdentifier(7) UserProperty(\"k\", \"v\") \
          UserProperty(\"waypost-stream\", \"b\") UserProperty(\"waypost-offset\", \"0\") \
          UserProperty(\"waypost-time\", \"1700000000000\")"
        ]
    );
    let old = world.connect(&v3("old"));
    world.subscribe(old, "$from/last=1/b/#", 2);
    assert_eq!(world.take(old), ["PUBLISH q2 #1 b/x=1"]);
    // There is nothing retained for it, whatever the options say.
    let other = world.connect(&v5("other"));
    let options = SubscriptionOptions {
        retain_handling: RetainHandling::SendAtSubscribe,
        retain_as_published: true,
        ..options(0)
    };
    world.subscribe_with(other, &[("$from/last=0/b/#", options)], 0);
    assert_eq!(world.take(other), [""; 0]);
}

/// 5 [MQTT-3.8.4-8]: the lower of the published and the granted QoS.
#[test]
fn the_lower_qos_counts() {
    on_shards(|world, publisher| {
        for qos in 0..=2 {
            world.publish(publisher, "a", "x", qos);
            world.ack(publisher, "PUBREL", 10);
        }
        for granted in 0..=2 {
            let reader = world.connect(&v5("r"));
            world.subscribe(reader, "$from/offset=0/a", granted);
            let got = read(world, reader);
            let found: Vec<u8> = got.iter().map(|got| got.qos).collect();
            assert_eq!(found, [0, 1.min(granted), 2.min(granted)]);
            world.cut(reader);
        }
    });
}

/// 5 [MQTT-3.8.3-3]: No Local counts for what was, too.
#[test]
fn no_local_counts_for_what_was() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let own = world.connect(&v5("own"));
    world.publish(own, "a", "own", 1);
    world.publish(publisher, "a", "other", 1);
    let options = SubscriptionOptions {
        no_local: true,
        ..options(1)
    };
    world.subscribe_with(own, &[("$from/offset=0/a", options)], 0);
    world.publish(own, "a", "again", 1);
    let got = read(&mut world, own);
    let payloads: Vec<_> = got.iter().map(|got| got.payload.as_str()).collect();
    assert_eq!(payloads, ["other"]);
}

/// What is wrong is refused, with a word that says what is right; 3.1.1 has 0x80 and no words.
#[test]
fn what_cannot_be_is_refused_with_a_reason() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    world.configure(&[("b", &["b/#"])]);
    publish(&mut world, publisher, "b/x", 0..1);
    let (new, old) = (world.connect(&v5("new")), world.connect(&v3("old")));
    for (filter, code, word) in [
        ("$from/last=x/b/x", "8F", "last= takes"),
        ("$from/b/x", "8F", "the spec is"),
        ("$from/last=1", "8F", "like $from/last=10/a/#"),
        ("$from/last=1/$share/g/b/x", "8F", "a shared subscription"),
        ("$share/g/$from/last=1/b/x", "8F", "a shared subscription"),
        ("$from/last=1/a", "83", "no stream of the server"),
        ("$from/last=1/#", "83", "no stream of the server"),
        ("$from/last=1;stream=c/b/x", "83", "there is no stream"),
        ("$from/last=1;stream=b/a", "83", "does not keep all"),
    ] {
        let answer = world.subscribe(new, filter, 1);
        assert!(
            answer.starts_with(&format!("SUBACK #1 {code}")),
            "{filter}: {answer}"
        );
        assert!(answer.contains(word), "{filter}: {answer}");
        assert_eq!(world.subscribe(old, filter, 1), "SUBACK #1 80", "{filter}");
    }
    for (filter, specs, word) in [
        ("b/x", &["last"][..], "the spec is"),
        ("b/x", &["last=1", "last=1"], "the spec is"),
        ("$from/last=1/b/x", &["last=1"], "asked for once"),
        ("$share/g/b/x", &["last=1"], "a shared subscription"),
    ] {
        let answer = subscribe_from(&mut world, new, filter, specs);
        assert!(answer.starts_with("SUBACK #1 83"), "{filter}: {answer}");
        assert!(answer.contains(word), "{filter}: {answer}");
    }
    assert_eq!(world.broker(0).history_readers(), 0);
    assert_eq!(world.broker(0).subscriptions(), 0);
}

/// The User Property does the same for all filters of a SUBSCRIBE; UNSUBSCRIBE names them as they were.
#[test]
fn the_property_does_the_same() {
    on_shards(|world, publisher| {
        publish(world, publisher, "b/x", 0..3);
        let reader = world.connect(&v5("r"));
        let answer = subscribe_from(world, reader, "b/#", &["last=2"]);
        assert_eq!(answer, "SUBACK #1 01");
        publish(world, publisher, "b/y", 3..4);
        assert_eq!(offsets(&read(world, reader)), [1, 2, 3]);
        // The same filter without history is live, and replaces it.
        world.subscribe(reader, "b/#", 1);
        publish(world, publisher, "b/y", 4..5);
        let got = read(world, reader);
        assert_eq!((got.len(), got[0].offset), (1, None));
        let answer = subscribe_from(world, reader, "b/#", &["last=1"]);
        assert_eq!(answer, "SUBACK #1 01");
        assert_eq!(offsets(&read(world, reader)), [4]);
        publish(world, publisher, "b/y", 5..6);
        assert_eq!(offsets(&read(world, reader)), [5], "once");
        assert_eq!(world.unsubscribe(reader, "b/#"), "UNSUBACK #2 00");
        assert_eq!(world.unsubscribe(reader, "b/#"), "UNSUBACK #2 11");
        publish(world, publisher, "b/y", 6..7);
        assert_eq!(read(world, reader), []);
        assert_eq!(world.broker(0).history_reads_waiting(), 0);
    });
}

/// SUBSCRIBE again begins anew; UNSUBSCRIBE ends it; both by exactly this filter.
#[test]
fn it_ends_and_begins_anew_by_its_filter() {
    on_shards(|world, publisher| {
        publish(world, publisher, "b/x", 0..3);
        let reader = world.connect(&v5("r"));
        let filter = "$from/last=2/b/#";
        world.subscribe(reader, filter, 1);
        assert_eq!(offsets(&read(world, reader)), [1, 2]);
        world.subscribe(reader, filter, 1);
        assert_eq!(offsets(&read(world, reader)), [1, 2]);
        // Another spec is another filter, and another subscription.
        world.subscribe(reader, "$from/last=1/b/#", 1);
        assert_eq!(offsets(&read(world, reader)), [2]);
        publish(world, publisher, "b/x", 3..4);
        assert_eq!(offsets(&read(world, reader)), [3, 3]);
        assert_eq!(world.unsubscribe(reader, "b/#"), "UNSUBACK #2 11");
        assert_eq!(world.unsubscribe(reader, filter), "UNSUBACK #2 00");
        publish(world, publisher, "b/x", 4..5);
        assert_eq!(offsets(&read(world, reader)), [4]);
        assert_eq!(world.broker(0).history_readers(), 1);
        world.cut(reader);
        assert_eq!(world.broker(0).history_readers(), 0);
        assert_eq!(world.broker(0).history_reads_waiting(), 0);
    });
}

/// Goal: the seam is exact. Method: messages are published all the while, mail and the store take turns as the seed says,
/// and the subscription comes in the middle.
#[test]
fn the_seam_has_no_gap_and_no_double() {
    for seed in 0..60 {
        let (mut world, publisher) =
            world_with(1 + u16::try_from(seed % 3).unwrap(), seed, |limits| {
                limits.history_window_messages_max = 4;
            });
        let last = world.shards() - 1;
        publish(&mut world, publisher, "b/x", 0..20);
        let reader = world.connect(&v5("r").at(last));
        world.is_store_held = true;
        let none = PropertyBuffer::new();
        let mut number = 20_u32;
        for step in 0..200_u32 {
            if step == 30 {
                let filter = [
                    "$from/last=5/b/#",
                    "$from/each=5/b/#",
                    "$from/offset=15/b/#",
                ];
                let filter = filter[usize::try_from(seed % 3).unwrap()];
                world.subscribe(reader, filter, u8::try_from(seed % 2).unwrap());
            }
            if step % 3 == 0 {
                let payload = number.to_string();
                world.publish_with(
                    publisher,
                    "b/x",
                    &payload,
                    u8::try_from(seed % 2).unwrap(),
                    7,
                    false,
                    &none,
                );
                number += 1;
            }
            world.store_step();
            world.settle();
        }
        world.is_store_held = false;
        world.settle();
        let got = offsets(&read(&mut world, reader));
        let first = got[0];
        assert!(
            got.iter().copied().eq(first..u64::from(number)),
            "seed {seed}: {got:?}"
        );
    }
}

/// A SUBACK waits until it is known where the subscription begins; what the client sends meanwhile waits too.
#[test]
fn the_suback_waits_for_the_stream() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    publish(&mut world, publisher, "b/x", 0..3);
    let reader = world.connect(&v5("r"));
    world.is_store_held = true;
    let none = world.subscribe(reader, "$from/last=1/b/#", 1);
    assert!(none.starts_with("no SUBACK"), "{none}");
    assert!(world.is_parked(reader));
    world.send(reader, &Packet::PingReq);
    assert_eq!(world.take(reader), [""; 0]);
    world.is_store_held = false;
    world.settle();
    let lines = world.take(reader);
    let starts = ["SUBACK #1 01", "PUBLISH q1 #1 b/x=2", "PINGRESP"];
    assert_eq!(lines.len(), 3, "{lines:?}");
    for start in starts {
        assert!(
            lines.iter().any(|line| line.starts_with(start)),
            "{lines:?}"
        );
    }
    // A client that goes while it waits leaves nothing.
    let other = world.connect(&v5("other"));
    world.is_store_held = true;
    world.subscribe(other, "$from/last=1/b/#", 1);
    world.cut(other);
    world.is_store_held = false;
    world.settle();
    assert_eq!(world.broker(0).history_readers(), 1);
    assert_eq!(
        world.broker(0).history_reads_waiting(),
        1,
        "the end of the stream"
    );
}

/// Several filters in one SUBSCRIBE, some of them live: each begins where it says.
#[test]
fn one_packet_may_have_several() {
    on_shards(|world, publisher| {
        publish(world, publisher, "b/x", 0..4);
        let reader = world.connect(&v5("r"));
        let filters = [
            ("$from/last=1/b/x", options(1)),
            ("c", options(1)),
            ("$from/x/b/x", options(1)),
            ("$from/each=2/b/+", options(0)),
        ];
        let answer = world.subscribe_with(reader, &filters, 0);
        assert!(answer.starts_with("SUBACK #1 01 01 8F 00"), "{answer}");
        let mut got = offsets(&read(world, reader));
        got.sort_unstable();
        assert_eq!(got, [2, 3, 3]);
        publish(world, publisher, "c", 9..10);
        let got = read(world, reader);
        assert_eq!((got.len(), got[0].offset), (1, None));
    });
}

struct OnlyInner;

impl Permit for OnlyInner {
    fn check(&mut self, _: &Who<'_>, action: Action, topic: &str) -> Verdict {
        match action {
            Action::Subscribe if topic != "b/ok" => Verdict::Deny,
            _ => Verdict::Allow,
        }
    }
}

/// Permission is asked for the filter inside; a change of the rules ends what is no longer allowed.
#[test]
fn permission_is_that_of_the_filter_inside() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let reader = world.connect(&v5("r"));
    world.subscribe(reader, "$from/last=9/b/no", 1);
    world.change_rules(0, OnlyInner, AllowAll);
    world.settle();
    assert_eq!(
        world.broker(0).history_readers(),
        0,
        "not permitted any more"
    );
    assert_eq!(
        world.subscribe(reader, "$from/last=9/b/no", 1),
        "SUBACK #1 87"
    );
    assert_eq!(
        world.subscribe(reader, "$from/last=9/b/ok", 1),
        "SUBACK #1 01"
    );
    publish(&mut world, publisher, "b/ok", 0..1);
    publish(&mut world, publisher, "b/no", 1..2);
    assert_eq!(offsets(&read(&mut world, reader)), [0]);
}

/// The rules change while it is found out where a subscription begins: they are asked anew.
#[test]
fn rules_that_change_meanwhile_count() {
    let (mut world, _) = world_with(1, 1, |_| {});
    let reader = world.connect(&v5("r"));
    world.is_store_held = true;
    world.subscribe(reader, "$from/last=9/b/no", 1);
    world.change_rules(0, OnlyInner, AllowAll);
    world.is_store_held = false;
    world.settle();
    assert_eq!(world.take_first(reader, "SUBACK"), "SUBACK #1 87");
}

/// A stream that is taken away while it is read: the subscription ends, its session goes on.
#[test]
fn a_stream_may_go() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    publish(&mut world, publisher, "b/x", 0..3);
    let reader = world.connect(&v5("r"));
    world.subscribe(reader, "$from/last=1/b/x", 1);
    assert_eq!(read(&mut world, reader).len(), 1);
    world.store.remove_stream(StreamId(2));
    world.settle();
    assert_eq!(world.broker(0).history_readers(), 0);
    assert_eq!(world.broker(0).counters().history_gone, 1);
    let answer = world.subscribe(reader, "$from/last=1;stream=b/b/x", 1);
    assert!(answer.starts_with("SUBACK #1 83"), "{answer}");
    assert_eq!(world.subscribe(reader, "b/x", 1), "SUBACK #1 01");
}

/// What retention took away is passed over, what expired too.
#[test]
fn what_is_gone_is_passed_over() {
    let (mut world, publisher) = world_with(1, 1, |limits| {
        limits.history_window_messages_max = 4;
    });
    publish(&mut world, publisher, "b/x", 0..10);
    let mut expiring = PropertyBuffer::new();
    expiring.push(Property::MessageExpiryInterval(1));
    world.publish_with(publisher, "b/x", "x", 1, 9, false, &expiring);
    publish(&mut world, publisher, "b/x", 11..12);
    world.advance(2_000);
    world.store.durable.streams.retire(StreamId(2), 7);
    let reader = world.connect(&v5("r"));
    world.subscribe(reader, "$from/offset=2/b/x", 1);
    assert_eq!(offsets(&read(&mut world, reader)), [7, 8, 9, 11]);
}

/// Goal: one question waits at the end of a stream, whatever the number of readers, and each gets what comes once.
#[test]
fn a_thousand_readers_wait_at_one_end() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    publish(&mut world, publisher, "b/x", 0..2);
    let readers: Vec<Client> = (0..1_000)
        .map(|number| {
            let reader = world.connect(&v5(&format!("r{number}")));
            let qos = u8::try_from(number % 3).unwrap();
            world.subscribe(reader, "$from/last=1/b/x", qos);
            reader
        })
        .collect();
    assert_eq!(world.store.parked(), 1);
    assert_eq!(world.broker(0).history_reads_waiting(), 1);
    let before = world.store.asked.len();
    publish(&mut world, publisher, "b/x", 2..3);
    assert_eq!(world.store.asked.len(), before + 1);
    for reader in readers {
        assert_eq!(offsets(&read(&mut world, reader)), [1, 2]);
    }
    let counters = world.broker(0).counters();
    assert_eq!(counters.history_sent, 2_000);
    // Where each begins, what was, whether that is the end, and the one end: before what came and after.
    assert!(
        counters.history_reads <= 3_002,
        "{}",
        counters.history_reads
    );
}

/// A reader whose offset has not come yet waits for it, and holds nobody else up.
#[test]
fn an_offset_to_come_is_waited_for() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let (early, late) = (world.connect(&v5("early")), world.connect(&v5("late")));
    world.subscribe(late, "$from/offset=5/b/x", 1);
    world.subscribe(early, "$from/offset=0/b/x", 1);
    publish(&mut world, publisher, "b/x", 0..8);
    assert_eq!(offsets(&read(&mut world, early)), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(offsets(&read(&mut world, late)), [5, 6, 7]);
    assert_eq!(world.store.parked(), 1);
}

/// A topic that begins with `$` is no part of `#`, in a stream either.
#[test]
fn topics_with_a_dollar_have_an_end_of_their_own() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    world.configure(&[("both", &["#", "$x/#"])]);
    let (all, own) = (world.connect(&v5("all")), world.connect(&v5("own")));
    world.subscribe(all, "$from/offset=0/#", 1);
    world.subscribe(own, "$from/offset=0/$x/#", 1);
    publish(&mut world, publisher, "$x/y", 0..1);
    publish(&mut world, publisher, "a", 1..2);
    assert_eq!(offsets(&read(&mut world, all)), [1]);
    assert_eq!(offsets(&read(&mut world, own)), [0]);
    assert_eq!(world.store.durable.streams.next(S), 2);
}

/// A message that is read, dies, and enters a stream as a dead letter says where it is from as what it is now.
#[test]
fn a_dead_letter_is_of_its_own_stream() {
    let (mut world, publisher) = world_with(1, 1, |limits| limits.inflight_max = 1);
    world.configure(&[("b", &["b/#"]), ("dead", &["dead"])]);
    let policy = TopicPolicy {
        filter: "b/#".into(),
        dead_letter: Some("dead".into()),
        ..TopicPolicy::default()
    };
    world.adopt(&Policies::new(vec![policy]).unwrap().into());
    let mut expiring = PropertyBuffer::new();
    expiring.push(Property::MessageExpiryInterval(5));
    for _ in 0..3 {
        world.publish_with(publisher, "b/x", "x", 1, 9, false, &expiring);
    }
    let reader = world.connect(&v5("r").persistent(60));
    world.subscribe(reader, "$from/offset=0/b/x", 1);
    world.advance(10_000);
    read(&mut world, reader);
    world.advance(10_000);
    assert!(world.store.durable.streams.next(StreamId(2)) > 0);
    let buried = world.connect(&v5("buried"));
    world.subscribe(buried, "$from/offset=0/dead", 0);
    for line in world.take(buried) {
        assert_eq!(line.matches("waypost-stream").count(), 1, "{line}");
        assert!(line.contains("(\"waypost-stream\", \"dead\")"), "{line}");
    }
}
