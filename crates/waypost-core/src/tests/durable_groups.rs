//! Groups that the store keeps messages for, since a member's session outlives its connection. Every test runs with one
//! shard and with several.

mod handshake;
mod play;
pub(in crate::tests) mod receiver;
mod refusals;

use waypost_mqtt::{Property, PropertyBuffer, ReasonCode};

use super::store::Row;
use super::world::{Client, Options, World, v5};
use crate::Limits;
use crate::journal::{QueueId, Table};
use crate::rows::group::decode_group;

const FILTER: &str = "$share/g/t";

fn on_shards(window: usize, test: impl Fn(&mut World)) {
    for shards in [1, 2, 4] {
        for seed in 0..4 {
            let limits = Limits {
                group_window_messages_max: window,
                ..Limits::default()
            };
            test(&mut World::seeded(shards, limits, seed));
        }
    }
}

fn durable(name: &str) -> Options {
    v5(name).persistent(100)
}

/// The last shard, which is not the group's home for at least some numbers of shards.
fn far(world: &World, options: Options) -> Options {
    options.at(world.shards() - 1)
}

fn member(world: &mut World, options: &Options, qos: u8) -> Client {
    let member = world.connect(options);
    assert_eq!(
        world.subscribe(member, FILTER, qos),
        format!("SUBACK #1 0{qos}")
    );
    member
}

/// Publishes what is numbered so, and is told that it is kept.
fn publish(world: &mut World, publisher: Client, numbers: core::ops::Range<u16>, qos: u8) {
    for number in numbers {
        let packet_id = number + 1;
        let none = PropertyBuffer::new();
        let text = number.to_string();
        world.publish_with(publisher, "t", &text, qos, packet_id, false, &none);
        if qos == 2 {
            world.ack(publisher, "PUBREL", packet_id);
        }
    }
    world.take(publisher);
}

/// Rows of groups.
fn groups(world: &World) -> Vec<QueueId> {
    let rows = world.store.durable.rows.iter();
    let of_groups = rows.filter(|((table, _), _)| *table == Table::GROUPS);
    let read = |row: &Row| decode_group(&row.1).unwrap();
    of_groups.map(|(_, row)| read(row)).collect()
}

/// How many messages the only group is owed by the store.
fn owed(world: &World) -> usize {
    let groups = groups(world);
    assert_eq!(groups.len(), 1);
    world.store.durable.owed(groups[0]).len()
}

fn in_memory(world: &World) -> usize {
    let all = (0..world.shards()).map(|shard| world.broker(shard));
    all.map(crate::Broker::group_messages_in_memory).sum()
}

fn payload(line: &str) -> u16 {
    let (_, text) = line.split_once('=').unwrap();
    text.parse().unwrap()
}

/// Takes and acknowledges until nothing more comes.
fn take_all(world: &mut World, member: Client) -> Vec<u16> {
    let mut numbers = Vec::new();
    loop {
        let lines = world.take(member);
        if lines.is_empty() {
            return numbers;
        }
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            let at = words.iter().position(|word| word.starts_with('#'));
            let packet_id = words[at.unwrap()][1..].parse().unwrap();
            if words[0] == "PUBREL" {
                world.ack(member, "PUBCOMP", packet_id);
                continue;
            }
            numbers.push(payload(&line));
            let answer = if words[1] == "q2" { "PUBREC" } else { "PUBACK" };
            world.ack(member, answer, packet_id);
        }
    }
}

/// Goal: a group is owed messages while a member's session outlives its connection, and only then.
#[test]
fn a_group_is_kept_with_its_first_durable_member_and_no_longer_than_it_is_owed() {
    on_shards(256, |world| {
        let publisher = world.connect(&far(world, v5("p")));
        let live = member(world, &v5("live"), 1);
        publish(world, publisher, 0..3, 1);
        assert!(groups(world).is_empty());
        assert_eq!(world.store.transactions, 0, "nobody needs the disk");
        take_all(world, live);
        let kept = member(world, &far(world, durable("kept")), 1);
        assert_eq!(groups(world).len(), 1);
        publish(world, publisher, 3..7, 1);
        assert_eq!(owed(world), 4);
        assert_eq!(take_all(world, live).len() + take_all(world, kept).len(), 4);
        assert_eq!(owed(world), 0);
        // What it leaves unfinished is another's now, and kept until that one has done with it.
        publish(world, publisher, 7..9, 1);
        world.unsubscribe(kept, FILTER);
        assert_eq!(world.take(kept).len(), 1);
        assert_eq!(owed(world), 2);
        take_all(world, live);
        world.ack(kept, "PUBACK", 3);
        assert!(groups(world).is_empty(), "{:?}", world.store.durable.queues);
        assert!(world.store.durable.queues.values().all(Vec::is_empty));
    });
}

/// Goal: N messages wait in memory, the others only in the store; all come, in order. Method: N, N + 1, 2N messages for
/// a member that is away.
#[test]
fn what_is_beyond_the_window_is_read_when_it_is_needed() {
    const N: u16 = 8;
    for qos in [1, 2] {
        for count in [N, N + 1, 2 * N, 10 * N] {
            on_shards(N.into(), |world| {
                let publisher = world.connect(&v5("p"));
                let options = far(world, durable("m"));
                let away = member(world, &options, qos);
                world.cut(away);
                publish(world, publisher, 0..count, qos);
                assert_eq!(owed(world), usize::from(count));
                // At QoS 2 nothing is sent that was not written down: it is read.
                let expected = if qos == 1 { N.into() } else { 0 };
                assert_eq!(in_memory(world), expected);
                let exceeded: u64 = (0..world.shards())
                    .map(|shard| world.broker(shard).counters().group_windows_exceeded)
                    .sum();
                assert_eq!(exceeded, u64::from(qos == 1 && count > N));
                let back = world.connect(&options);
                assert_eq!(take_all(world, back), (0..count).collect::<Vec<_>>());
                assert_eq!((owed(world), in_memory(world)), (0, 0));
            });
        }
    }
}

/// Goal: messages that are large count by their bytes.
#[test]
fn the_window_is_bounded_in_bytes_too() {
    for (bytes, in_memory_then) in [(1_000, 1), (3_000, 1), (5_000, 2), (12_000, 4)] {
        let limits = Limits {
            group_window_bytes_max: bytes,
            ..Limits::default()
        };
        let mut world = World::seeded(2, limits, 1);
        let publisher = world.connect(&v5("p"));
        let away = member(&mut world, &durable("m"), 1);
        world.cut(away);
        for _ in 0..4 {
            world.publish(publisher, "t", &"x".repeat(2_000), 1);
        }
        assert_eq!(in_memory(&world), in_memory_then, "{bytes}");
        let back = world.connect(&durable("m"));
        let mut count = 0;
        while count < 4 {
            let lines = world.take(back);
            assert!(!lines.is_empty(), "{count}");
            count += lines.len();
        }
    }
}

/// Goal: whatever ends a message at its group, the store is told.
#[test]
fn what_is_refused_expires_or_is_not_kept_is_owed_no_more() {
    on_shards(2, |world| {
        let publisher = world.connect(&v5("p"));
        let options = far(world, durable("m"));
        let m = member(world, &options, 1);
        publish(world, publisher, 0..1, 1);
        world.take(m);
        world.ack_with(m, "PUBACK", 1, ReasonCode::QuotaExceeded);
        assert_eq!(owed(world), 0, "refused");
        world.cut(m);
        let mut properties = PropertyBuffer::new();
        properties.push(Property::MessageExpiryInterval(2));
        for packet_id in 1..=6 {
            world.publish_with(publisher, "t", "0", 1, packet_id, false, &properties);
        }
        assert_eq!(owed(world), 6);
        world.advance(3_000);
        let m = world.connect(&options);
        assert_eq!(world.take(m), [""; 0]);
        assert_eq!(owed(world), 0, "expired");
        // Its session ends, and the group with it: what waits is told of, and nothing is left.
        world.cut(m);
        publish(world, publisher, 0..5, 1);
        assert_eq!(owed(world), 5);
        world.advance(200_000);
        assert!(groups(world).is_empty());
        assert!(world.store.durable.queues.values().all(Vec::is_empty));
        let dropped: u64 = (0..world.shards())
            .map(|shard| world.broker(shard).counters().group_dropped_session_ended)
            .sum();
        assert_eq!(dropped, 5);
    });
}

/// Goal: what cannot be read any more is counted, owed no more, and holds up nothing.
#[test]
fn what_cannot_be_read_is_passed_over() {
    on_shards(2, |world| {
        let publisher = world.connect(&v5("p"));
        let options = far(world, durable("m"));
        let away = member(world, &options, 1);
        world.cut(away);
        publish(world, publisher, 0..9, 1);
        let damaged = world.store.durable.owed(groups(world)[0])[4];
        world.store.durable.messages.remove(&damaged);
        let back = world.connect(&options);
        assert_eq!(take_all(world, back), [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(owed(world), 0);
        let unreadable: u64 = (0..world.shards())
            .map(|shard| world.broker(shard).counters().group_dropped_unreadable)
            .sum();
        assert_eq!(unreadable, 1);
    });
}

/// Goal: what nobody acknowledged is there after a crash, in order, on any number of shards.
#[test]
fn a_group_goes_on_after_a_crash() {
    for shards_then in [1, 2, 4] {
        on_shards(3, |world| {
            let publisher = world.connect(&v5("p"));
            let options = durable("m");
            let m = member(world, &options, 1);
            publish(world, publisher, 0..9, 1);
            // Some in memory, some beyond; three acknowledged, more in flight.
            let lines = world.take(m);
            assert_eq!(lines.len(), 9);
            for packet_id in 1..=3 {
                world.ack(m, "PUBACK", packet_id);
            }
            world.restart(shards_then, 1_000);
            assert_eq!(owed(world), 6);
            let publisher = world.connect(&v5("p"));
            publish(world, publisher, 9..12, 1);
            assert_eq!(owed(world), 9);
            let m = world.connect(&far(world, options));
            assert_eq!(take_all(world, m), (3..12).collect::<Vec<_>>());
            assert_eq!((owed(world), in_memory(world)), (0, 0));
        });
    }
}

/// Goal: a group of which no member is left at a start ends.
#[test]
fn a_group_without_members_after_a_crash_ends() {
    on_shards(3, |world| {
        let publisher = world.connect(&v5("p"));
        let m = member(world, &far(world, durable("m")), 1);
        world.cut(m);
        publish(world, publisher, 0..9, 1);
        world.restart(world.shards(), 1_000_000);
        world.advance(1_000);
        assert!(groups(world).is_empty(), "{:?}", groups(world));
        assert!(world.store.durable.queues.values().all(Vec::is_empty));
        let left: usize = (0..world.shards())
            .map(|shard| world.broker(shard).group_traces() + world.broker(shard).groups())
            .sum();
        assert_eq!(left, 0);
    });
}
