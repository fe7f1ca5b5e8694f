//! The bounds of readers, at N, N + 1 and 2 N; and clients that read slowly.

use waypost_mqtt::{Filter, Packet, PacketId, Properties, Subscribe, SubscriptionRequest};

use super::{offsets, publish, read, world_with};
use crate::stream::Wanted;
use crate::tests::world::{options, v5};

/// Beyond `history_readers_per_session_max`: SUBACK 0x97. One that is subscribed to again does not count twice.
#[test]
fn a_session_has_only_so_many_readers() {
    let (mut world, _) = world_with(1, 1, |limits| limits.history_readers_per_session_max = 4);
    let client = world.connect(&v5("c"));
    for number in 0..8 {
        let answer = world.subscribe(client, &format!("$from/last={number}/b"), 0);
        let expect = if number < 4 { "00" } else { "97" };
        assert_eq!(answer, format!("SUBACK #1 {expect}"));
    }
    assert_eq!(world.broker(0).counters().history_readers_exceeded, 4);
    assert_eq!(world.subscribe(client, "$from/last=0/b", 0), "SUBACK #1 00");
    assert_eq!(world.broker(0).history_readers(), 4);
    world.unsubscribe(client, "$from/last=0/b");
    assert_eq!(world.subscribe(client, "$from/last=7/b", 0), "SUBACK #1 00");
}

/// They count among the subscriptions of a session.
#[test]
fn readers_are_subscriptions() {
    let (mut world, _) = world_with(1, 1, |limits| limits.subscriptions_per_session_max = 2);
    let client = world.connect(&v5("c"));
    assert_eq!(world.subscribe(client, "$from/last=1/b", 0), "SUBACK #1 00");
    assert_eq!(world.subscribe(client, "b", 0), "SUBACK #1 00");
    assert_eq!(world.subscribe(client, "$from/last=2/b", 0), "SUBACK #1 97");
    assert_eq!(world.subscribe(client, "c", 0), "SUBACK #1 97");
    assert_eq!(world.broker(0).counters().subscriptions_exceeded, 2);
}

/// Goal: `history_window_messages_max` and `history_window_bytes_max` bound what one reader has in memory. Method: a
/// client that reads nothing, a stream of N, N + 1 and 2 N messages and many more.
#[test]
fn a_window_is_bounded() {
    for count in [8, 9, 16, 200] {
        for qos in [0, 1] {
            let (mut world, publisher) = world_with(1, 1, |limits| {
                limits.history_window_messages_max = 8;
                limits.inflight_max = 3;
            });
            publish(&mut world, publisher, "b/x", 0..count);
            let reader = world.connect(&v5("r"));
            world.subscribe(reader, "$from/offset=0/b/x", qos);
            for ask in &world.store.asked {
                if let Wanted::From {
                    count_max,
                    bytes_max,
                    ..
                } = ask.wanted
                {
                    assert_eq!((count_max, bytes_max), (4, 512 * 1024));
                }
            }
            let slot = world.broker(0).sessions.find("r").unwrap();
            let delivery = world
                .broker(0)
                .sessions
                .get(slot)
                .unwrap()
                .delivery
                .as_ref();
            let (records, _) = delivery.unwrap().readers.iter().next().unwrap().in_memory();
            assert!(records <= 8, "{records}");
            assert!(qos == 0 || count < 12 || records > 4, "it reads ahead");
            let got = offsets(&read(&mut world, reader));
            assert!(got.iter().copied().eq(0..u64::from(count)));
            let full = world.broker(0).counters().history_windows_full;
            assert!(full > 0, "of {count}");
        }
    }
}

/// Each half may go beyond its bytes by one record.
#[test]
fn bytes_are_bounded_too() {
    let (mut world, publisher) = world_with(1, 1, |limits| {
        limits.history_window_bytes_max = 200;
        limits.inflight_max = 1;
    });
    publish(&mut world, publisher, "b/x", 0..50);
    let reader = world.connect(&v5("r"));
    world.subscribe(reader, "$from/offset=0/b/x", 1);
    let slot = world.broker(0).sessions.find("r").unwrap();
    let delivery = world
        .broker(0)
        .sessions
        .get(slot)
        .unwrap()
        .delivery
        .as_ref();
    let (_, bytes) = delivery.unwrap().readers.iter().next().unwrap().in_memory();
    assert!((100..400).contains(&bytes), "{bytes}");
    assert_eq!(read(&mut world, reader).len(), 50);
}

/// Goal: a client that reads nothing costs its outbox and not the others, keeps nothing in memory meanwhile, and goes on
/// where it was. Method: an outbox of a few records.
#[test]
fn a_slow_client_reads_alone_and_catches_up() {
    for qos in 0..=2 {
        let (mut world, publisher) = world_with(1, 1, |limits| limits.outbox_bytes_max = 2_000);
        let (lazy, quick) = (world.connect(&v5("slow")), world.connect(&v5("quick")));
        for client in [lazy, quick] {
            world.subscribe(client, "$from/offset=0/b/x", qos);
        }
        world.stall(lazy, true);
        publish(&mut world, publisher, "b/x", 0..300);
        assert_eq!(read(&mut world, quick).len(), 300);
        assert!(world.broker(0).counters().history_fell_behind > 0);
        let slot = world.broker(0).sessions.find("slow").unwrap();
        let delivery = world
            .broker(0)
            .sessions
            .get(slot)
            .unwrap()
            .delivery
            .as_ref();
        let (records, _) = delivery.unwrap().readers.iter().next().unwrap().in_memory();
        assert_eq!(records, 0, "QoS {qos}");
        world.stall(lazy, false);
        let got = offsets(&read(&mut world, lazy));
        assert!(got.iter().copied().eq(0..300), "QoS {qos}: {got:?}");
        // It has come to the end again.
        publish(&mut world, publisher, "b/x", 300..301);
        assert_eq!(offsets(&read(&mut world, lazy)), [300]);
        assert_eq!(world.broker(0).history_reads_waiting(), 1);
    }
}

/// A client whose window is full gets no more than it takes.
#[test]
fn a_window_of_the_client_is_kept() {
    let (mut world, publisher) = world_with(1, 1, |limits| limits.inflight_max = 2);
    publish(&mut world, publisher, "b/x", 0..10);
    let reader = world.connect(&v5("r"));
    world.subscribe(reader, "$from/offset=0/b/x", 1);
    publish(&mut world, publisher, "b/x", 10..12);
    assert_eq!(super::reader::take(&mut world, reader).len(), 2);
    world.ack(reader, "PUBACK", 1);
    assert_eq!(super::reader::take(&mut world, reader).len(), 1);
    world.ack(reader, "PUBACK", 2);
    world.ack(reader, "PUBACK", 3);
    assert_eq!(
        offsets(&read(&mut world, reader)),
        [3, 4, 5, 6, 7, 8, 9, 10, 11]
    );
}

/// A client that reads nothing of what was costs no window in memory: its outbox is all there is.
#[test]
fn a_client_that_does_not_read_has_no_window() {
    for qos in 0..=2 {
        let (mut world, publisher) = world_with(1, 1, |limits| limits.outbox_bytes_max = 2_000);
        publish(&mut world, publisher, "b/x", 0..300);
        let reader = world.connect(&v5("r"));
        world.stall(reader, true);
        world.subscribe(reader, "$from/offset=0/b/x", qos);
        let slot = world.broker(0).sessions.find("r").unwrap();
        let session = world.broker(0).sessions.get(slot).unwrap();
        let readers = &session.delivery.as_ref().unwrap().readers;
        assert_eq!(readers.iter().next().unwrap().in_memory(), (0, 0));
        assert_eq!(world.broker(0).history_reads_waiting(), 0);
        world.stall(reader, false);
        let got = offsets(&read(&mut world, reader));
        assert!(got.iter().copied().eq(0..300), "QoS {qos}: {got:?}");
    }
}

/// Goal: readers make way for what is live: between two calls they send one burst, all of them together. Method: ten that
/// read as fast as they can, and a store that answers without a time-out of the shard in between.
#[test]
fn all_readers_together_send_a_burst_at_a_time() {
    const PAYLOAD: usize = 2_000;
    const COUNT: u32 = 100;
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let payload = "x".repeat(PAYLOAD);
    for _ in 0..COUNT {
        world.publish(publisher, "b/x", &payload, 0);
    }
    let readers: Vec<_> = (0..10)
        .map(|at| world.connect(&v5(&format!("r{at}"))))
        .collect();
    world.is_store_held = true;
    for reader in &readers {
        let filter = Filter::parse("$from/offset=0/b/x").unwrap();
        let requests = [SubscriptionRequest {
            filter,
            options: options(0),
        }];
        let packet_id = PacketId::new(1).unwrap();
        let subscribe = Subscribe::new(packet_id, Properties::EMPTY, &requests);
        world.send(*reader, &Packet::Subscribe(subscribe));
    }
    while world.store_step() {}
    let count_of = |lines: Vec<String>| lines.iter().filter(|it| it.starts_with("PUBLISH")).count();
    let mut counts = Vec::new();
    for reader in &readers {
        counts.push(count_of(world.take(*reader)));
    }
    let sent: usize = counts.iter().sum();
    assert!(
        (10..=40).contains(&sent),
        "{sent} records of 2 kB before the first turn is over"
    );
    world.is_store_held = false;
    world.settle();
    for (reader, count) in readers.iter().zip(&mut counts) {
        *count += count_of(world.take(*reader));
        assert_eq!(*count, COUNT as usize);
    }
}

/// What a client does not read lies in the stream, not in its outbox.
#[test]
fn little_of_a_stream_waits_in_an_outbox() {
    let (mut world, publisher) = world_with(1, 1, |_| {});
    let payload = "x".repeat(10_000);
    for _ in 0..100 {
        world.publish(publisher, "b/x", &payload, 0);
    }
    let reader = world.connect(&v5("r"));
    world.stall(reader, true);
    world.subscribe(reader, "$from/offset=0/b/x", 0);
    let got = read(&mut world, reader).len();
    assert!(
        (13..=14).contains(&got),
        "{got} records of 10 kB in an outbox of 128 KiB"
    );
    world.stall(reader, false);
    assert_eq!(got + read(&mut world, reader).len(), 100);
}
