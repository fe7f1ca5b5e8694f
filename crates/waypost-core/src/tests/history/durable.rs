//! Readers of sessions that outlive their connections, the process and their shard: nothing lost, nothing twice.

use super::{Got, acknowledged, offsets, publish, read, world_with};
use crate::journal::{Refusal, Table};
use crate::stream::StreamId;
use crate::tests::world::{Client, Options, World, v3, v5};

fn durable() -> Options {
    v5("r").persistent(3_600)
}

fn connect(world: &mut World, options: &Options) -> Client {
    let (client, line) = world.try_connect(options);
    assert!(line.starts_with("CONNACK 00"), "{line}");
    client
}

/// Rows of readers, and of what they picked.
fn rows(world: &World) -> (usize, usize) {
    let count = |wanted: Table| {
        let keys = world.store.durable.rows.keys();
        keys.filter(|(table, _)| *table == wanted).count()
    };
    (count(Table::READERS), count(Table::PICKED))
}

/// Goal: a resumed session goes on where it was, and is owed nothing while it is away. Method: cut in the middle of a
/// window, what was not acknowledged comes again, the rest once.
#[test]
fn a_session_that_comes_back_goes_on_where_it_was() {
    for version in [durable(), v3("r").persistent(1)] {
        for qos in 0..=2 {
            let (mut world, publisher) = world_with(2, 1, |limits| {
                limits.inflight_max = 4;
                limits.history_window_messages_max = 8;
            });
            publish(&mut world, publisher, "b/x", 0..20);
            let reader = connect(&mut world, &version);
            world.subscribe(reader, "$from/offset=0/b/x", qos);
            let mut all = acknowledged(&mut world, reader, 7);
            world.cut(reader);
            publish(&mut world, publisher, "b/x", 20..30);
            let away = world.broker(0).client("r").unwrap();
            assert!(away.queued <= 8, "{}", away.queued);
            let reader = connect(&mut world, &version);
            all.extend(read(&mut world, reader));
            publish(&mut world, publisher, "b/x", 30..31);
            all.extend(read(&mut world, reader));
            check(&all, qos, 31);
            world.unsubscribe(reader, "$from/offset=0/b/x");
            assert_eq!(rows(&world), (0, 0));
        }
    }
}

/// Each once and in order, but for what QoS 1 may send again and QoS 0 may lose.
fn check(all: &[Got], qos: u8, count: u64) {
    let mut next = 0;
    for got in all {
        let offset = got.offset.or_else(|| got.payload.parse().ok()).unwrap();
        if got.dup && offset < next {
            assert_ne!(qos, 0);
            continue;
        }
        assert!(
            offset == next || (qos == 0 && offset > next),
            "QoS {qos}: {offset} instead of {next} in {all:?}"
        );
        next = offset + 1;
    }
    assert_eq!(next, count, "QoS {qos}");
}

/// Goal: a crash of the machine loses and doubles nothing at QoS 1 and 2. Method: the machine stops after each step of
/// the store.
#[test]
fn a_reader_outlives_the_machine() {
    for qos in 1..=2 {
        for steps in 0..60 {
            let (mut world, publisher) = world_with(1, steps, |limits| {
                limits.inflight_max = 4;
                limits.history_window_messages_max = 4;
            });
            publish(&mut world, publisher, "b/x", 0..12);
            let reader = connect(&mut world, &durable());
            let spec =
                ["$from/each=9/b/x", "$from/offset=3/b/x"][usize::try_from(steps % 2).unwrap()];
            world.subscribe(reader, spec, qos);
            world.is_store_held = true;
            let mut all = Vec::new();
            for _ in 0..steps {
                for (got, packet_id) in super::reader::take(&mut world, reader) {
                    super::reader::acknowledge(&mut world, reader, &got, packet_id);
                    all.push(got);
                }
                world.store_step();
            }
            world.is_store_held = false;
            world.crash_and_restore();
            let publisher = world.connect(&v5("publisher"));
            publish(&mut world, publisher, "b/x", 12..15);
            let reader = connect(&mut world, &durable());
            all.extend(read(&mut world, reader));
            let mut next = 3;
            for got in &all {
                let offset = got.offset.unwrap();
                if got.dup && offset < next {
                    continue;
                }
                assert_eq!(offset, next, "QoS {qos} after {steps} steps: {all:?}");
                next += 1;
            }
            assert_eq!(next, 15, "QoS {qos} after {steps} steps");
        }
    }
}

/// The row is there before SUBACK is, with what was picked; both go with the session.
#[test]
fn a_subscription_is_written_down_before_its_suback() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    publish(&mut world, publisher, "b/x", 0..3);
    let reader = connect(&mut world, &durable());
    world.subscribe(reader, "$from/each=1/b/x", 0);
    assert_eq!(rows(&world), (1, 1));
    assert_eq!(read(&mut world, reader).len(), 1);
    world.cut(reader);
    assert_eq!(rows(&world), (1, 0), "what was picked is read");
    // The session ends with a Clean Start.
    let reader = connect(&mut world, &v5("r"));
    world.cut(reader);
    assert_eq!(rows(&world), (0, 0));
    assert_eq!(world.broker(0).history_readers(), 0);
}

/// A subscription without history in place of one with, and the other way round: one row, after a restart too.
#[test]
fn one_subscription_has_one_row() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    publish(&mut world, publisher, "b/x", 0..3);
    let reader = connect(&mut world, &durable());
    world.subscribe(reader, "b/x", 1);
    super::subscribe_from(&mut world, reader, "b/x", &["last=1"]);
    assert_eq!(rows(&world).0, 1);
    assert_eq!(offsets(&read(&mut world, reader)), [2]);
    world.crash_and_restore();
    let publisher = world.connect(&v5("publisher"));
    let reader = connect(&mut world, &durable());
    publish(&mut world, publisher, "b/x", 3..4);
    assert_eq!(offsets(&read(&mut world, reader)), [3], "once");
    world.subscribe(reader, "b/x", 1);
    assert_eq!(rows(&world).0, 0);
    world.crash_and_restore();
    let publisher = world.connect(&v5("publisher"));
    let reader = connect(&mut world, &durable());
    publish(&mut world, publisher, "b/x", 4..5);
    let got = read(&mut world, reader);
    assert_eq!((got.len(), got[0].offset), (1, None));
}

/// Goal: what the store refuses is read again, and comes once. Method: it refuses for a while, before SUBACK and after.
#[test]
fn what_the_store_refuses_comes_later() {
    for qos in 1..=2 {
        let (mut world, publisher) = world_with(1, 1, |_| {});
        publish(&mut world, publisher, "b/x", 0..5);
        let reader = connect(&mut world, &durable());
        world.store.refuses = Some(Refusal::Full);
        assert_eq!(
            world.subscribe(reader, "$from/offset=0/b/x", qos),
            "SUBACK #1 97"
        );
        assert_eq!(world.broker(0).history_readers(), 0);
        world.store.refuses = None;
        assert_eq!(
            world.subscribe(reader, "$from/last=0/b/x", qos),
            format!("SUBACK #1 0{qos}")
        );
        // What comes enters, and cannot be put into the reader's queue.
        world.is_store_held = true;
        publish(&mut world, publisher, "b/x", 5..6);
        while world.store.durable.streams.next(StreamId(2)) < 6 {
            world.store_step();
        }
        world.store.refuses = Some(Refusal::Failed);
        world.is_store_held = false;
        world.advance(5_000);
        assert_eq!(read(&mut world, reader), []);
        world.store.refuses = None;
        world.advance(2_000);
        assert_eq!(offsets(&read(&mut world, reader)), [5], "QoS {qos}");
        publish(&mut world, publisher, "b/x", 6..7);
        assert_eq!(offsets(&read(&mut world, reader)), [6], "QoS {qos}");
    }
}

/// Goal: a session that changes shards takes its readers along, in whatever state they are. Method: its client comes back
/// at another shard at each step of the store.
#[test]
fn readers_move_with_their_session() {
    for qos in 0..=2 {
        for steps in 0..40 {
            let (mut world, publisher) = world_with(3, steps, |limits| {
                limits.inflight_max = 4;
                limits.history_window_messages_max = 4;
            });
            publish(&mut world, publisher, "b/x", 0..12);
            let mut reader = connect(&mut world, &durable().at(1));
            world.subscribe(reader, "$from/each=12/b/x", qos);
            let mut all = Vec::new();
            world.is_store_held = true;
            for step in 0..steps {
                for (got, packet_id) in super::reader::take(&mut world, reader) {
                    super::reader::acknowledge(&mut world, reader, &got, packet_id);
                    all.push(got);
                }
                if step % 3 == 0 {
                    world.store_step();
                }
            }
            world.is_store_held = false;
            // What it had and did not look at is lost with its connection.
            world.take(reader);
            reader = world.open_at(2);
            world.send_connect(reader, &durable().at(2));
            world.settle();
            assert!(
                world
                    .take_first(reader, "CONNACK")
                    .starts_with("CONNACK 00 present")
            );
            all.extend(read(&mut world, reader));
            publish(&mut world, publisher, "b/x", 12..14);
            all.extend(read(&mut world, reader));
            check(&all, qos, 14);
            assert_eq!(world.broker(1).history_readers(), 0);
            assert_eq!(world.broker(1).history_reads_waiting(), 0);
            assert_eq!(world.broker(2).history_readers(), 1);
        }
    }
}

/// A stream with messages at QoS 0 for a reader that outlives its connection: they come at QoS 0, in their places.
#[test]
fn messages_at_qos_0_come_in_their_places() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let reader = connect(&mut world, &durable());
    world.subscribe(reader, "$from/offset=0/b/x", 2);
    for number in 0..9_u8 {
        world.publish(publisher, "b/x", &number.to_string(), number % 3);
        world.ack(publisher, "PUBREL", 10);
    }
    let got = read(&mut world, reader);
    assert!(
        got.iter()
            .map(|got| (got.number(), got.qos))
            .eq((0..9).map(|number| { (number, u8::try_from(number % 3).unwrap()) }))
    );
}

/// At QoS 0 nothing comes twice, also if the machine stops before it is written down that it was sent.
#[test]
fn what_is_at_qos_0_is_not_sent_again_after_a_start() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let reader = connect(&mut world, &durable());
    world.subscribe(reader, "$from/offset=0/b/x", 1);
    world.is_store_held = true;
    world.publish(publisher, "b/x", "0", 0);
    let mut got = Vec::new();
    while got.is_empty() {
        assert!(world.store_step());
        got = super::reader::take(&mut world, reader);
    }
    world.is_store_held = false;
    world.crash_and_restore();
    let reader = connect(&mut world, &durable());
    assert_eq!(read(&mut world, reader), []);
    let publisher = world.connect(&v5("publisher"));
    publish(&mut world, publisher, "b/x", 1..2);
    assert_eq!(offsets(&read(&mut world, reader)), [1]);
    assert_eq!(world.broker(0).messages_owed(), 0);
}
