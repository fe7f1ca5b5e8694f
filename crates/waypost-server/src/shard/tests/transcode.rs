//! Transcoding on a shard: who gets which form, what waits and what does not. The worker's part is done by hand.

use waypost_compress::Stages;
use waypost_core::{Policies, TopicPolicy};
use waypost_mqtt::{Property, PropertyBuffer, ProtocolVersion, PublishHead, Role, decode};

use super::*;
use crate::transcode::{Codings, Said};

pub(super) fn codings(said: &[(&str, bool, Option<&str>)]) -> Arc<Codings> {
    let policy = |(filter, ..): &(&str, bool, Option<&str>)| TopicPolicy {
        filter: (*filter).to_owned(),
        ..TopicPolicy::default()
    };
    let policies = Policies::new(said.iter().map(policy).collect()).unwrap();
    let said = said.iter().map(|(filter, transcode, compress)| Said {
        filter: (*filter).into(),
        transcode: Some(*transcode),
        compress: compress.map(|names| Stages::parse(names).unwrap()),
    });
    Arc::new(Codings::new(Arc::new(policies), said.collect()))
}

pub(super) fn world(said: &[(&str, bool, Option<&str>)]) -> World {
    let mut world = World::new();
    world.shard.outlets.coder.adopt(codings(said));
    world
}

/// What [`waypost_tests`] does from outside: a client of MQTT 5 with these User Properties and Maximum Packet Size.
pub(super) fn connect_v5(
    world: &mut World,
    id: &str,
    accepts: &str,
    packet_bytes_max: Option<u32>,
) -> Client {
    let mut properties = PropertyBuffer::new();
    if !accepts.is_empty() {
        properties.push(Property::UserProperty("accept-encoding", accepts));
    }
    if let Some(max) = packet_bytes_max {
        properties.push(Property::MaximumPacketSize(max));
    }
    let properties = properties.as_bytes();
    let len = u8::try_from(properties.len()).unwrap();
    let body = [&text("MQTT"), &[5, 2, 0, 0, len][..], properties, &text(id)];
    let mut client = world.open();
    world.write(&mut client, &framed(0x10, &body.concat()));
    assert_eq!(world.packet(&mut client)[..4][2..], [0, 0]);
    client
}

pub(super) fn subscribe_v5(world: &mut World, client: &mut Client, filter: &str, qos: u8) {
    let body = [&[0, 1, 0][..], &text(filter), &[qos]].concat();
    world.write(client, &framed(0x82, &body));
    assert_eq!(world.packet(client), [0x90, 4, 0, 1, 0, qos]);
}

pub(super) fn publish_v5(topic: &str, properties: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut buffer = PropertyBuffer::new();
    for (name, value) in properties {
        buffer.push(Property::UserProperty(name, value));
    }
    let mut bytes = Vec::new();
    waypost_mqtt::encode_publish_head(
        &PublishHead {
            version: ProtocolVersion::V5,
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: 0,
            topic_alias: None,
            message_expiry_interval: None,
            subscription_identifiers: &[],
            properties: buffer.as_bytes(),
            payload_len: payload.len(),
        },
        &mut bytes,
    );
    bytes.extend_from_slice(payload);
    bytes
}

/// The payload of a PUBLISH and how it says that it is packed.
pub(super) fn understood(packet: &[u8], version: ProtocolVersion) -> (Vec<u8>, Option<String>) {
    let Packet::Publish(publish) = decode(packet, version, Role::Server).unwrap() else {
        panic!("no PUBLISH: {packet:x?}");
    };
    let mut said = publish.properties.user_properties();
    let encoding = said.find(|(name, _)| *name == "content-encoding");
    let encoding = encoding.map(|(_, value)| value.to_owned());
    (publish.payload.to_vec(), encoding)
}

pub(super) fn packed(names: &str, payload: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let stages = Stages::parse(names).unwrap();
    stages.compress(payload, &mut packed).unwrap();
    packed
}

/// Bytes that are hard to pack.
pub(super) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..len).map(next).collect()
}

const ZSTD: [(&str, &str); 2] = [("a", "1"), ("content-encoding", "zstd")];

#[test]
fn each_gets_the_form_it_accepts_and_the_work_is_done_once() {
    let mut world = world(&[("t/#", true, None)]);
    let plain = vec![b'x'; 3_000];
    let mut old: Vec<_> = (0..3)
        .map(|number| world.connect(&format!("old-{number}")))
        .collect();
    for client in &mut old {
        world.subscribe(client, "#", 0);
    }
    let mut new: Vec<_> = ["", "br;q=1", "zstd;q=0, *", "zstd", "gzip, zstd;q=0.1", "*"]
        .iter()
        .map(|accepts| connect_v5(&mut world, &format!("new {accepts}"), accepts, None))
        .collect();
    for client in &mut new {
        subscribe_v5(&mut world, client, "#", 0);
    }
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let wire = packed("zstd", &plain);
    for (topic, unpacks) in [("t/a", true), ("elsewhere", false)] {
        world.write(&mut publisher, &publish_v5(topic, &ZSTD, &wire));
        for client in &mut old {
            let got = understood(&world.packet(client), ProtocolVersion::V311);
            let expect = if unpacks { &plain } else { &wire };
            assert!(got.0 == *expect, "{topic}");
        }
        for (number, client) in new.iter_mut().enumerate() {
            let got = understood(&world.packet(client), ProtocolVersion::V5);
            if unpacks && number < 3 {
                assert!(got == (plain.clone(), None), "{topic} {number}");
            } else {
                assert!(
                    got == (wire.clone(), Some("zstd".into())),
                    "{topic} {number}"
                );
            }
        }
    }
    let counters = &world.shard.outlets.counters;
    assert_eq!(counters.transcode_unpacked, 1);
    assert_eq!(counters.transcode_unpacked_bytes_in, wire.len() as u64);
    assert_eq!(counters.transcode_unpacked_bytes_out, 3_000);
}

#[test]
fn other_properties_stay_and_nobody_is_asked_where_no_policy_says_so() {
    let mut world = world(&[("t/#", true, None), ("t/raw", false, Some("zstd"))]);
    let mut client = connect_v5(&mut world, "c", "", None);
    subscribe_v5(&mut world, &mut client, "#", 0);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let wire = packed("zstd", b"hello hello hello");
    world.write(&mut publisher, &publish_v5("t/a", &ZSTD, &wire));
    assert_eq!(
        world.packet(&mut client),
        publish_v5("t/a", &[("a", "1")], b"hello hello hello")
    );
    // Both names of one packing, in two properties.
    let twice = packed("lz4+zstd", b"hello hello hello");
    let said = [
        ("content-encoding", "waypost-lz4"),
        ("content-encoding", "zstd"),
    ];
    world.write(&mut publisher, &publish_v5("t/a", &said, &twice));
    assert_eq!(
        world.packet(&mut client),
        publish_v5("t/a", &[], b"hello hello hello")
    );
    let said = [("content-encoding", "identity")];
    for packet in [
        publish_v5("t/raw", &ZSTD, &wire),
        publish_v5("t/a", &ZSTD, b""),
        publish_v5("t/a", &said, b"plain"),
    ] {
        world.write(&mut publisher, &packet);
        assert_eq!(world.packet(&mut client), packet);
    }
    world
        .shard
        .outlets
        .coder
        .adopt(codings(&[("t/#", false, None)]));
    let packet = publish_v5("t/a", &ZSTD, &wire);
    world.write(&mut publisher, &packet);
    assert_eq!(world.packet(&mut client), packet);
}

#[test]
fn what_cannot_be_unpacked_goes_as_it_came() {
    let mut world = world(&[("#", true, None)]);
    let mut client = connect_v5(&mut world, "c", "", None);
    subscribe_v5(&mut world, &mut client, "#", 0);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let bytes_max = UNPACKED_BYTES_MAX;
    let bomb = |bytes: usize| packed("zstd", &vec![0; bytes]);
    for (encoding, payload, passes) in [
        ("zstd", b"no frame of zstd".to_vec(), true),
        ("gzip", b"whatever".to_vec(), true),
        ("zstd, , zstd", b"whatever".to_vec(), true),
        ("zstd", bomb(bytes_max), false),
        ("zstd", bomb(bytes_max + 1), true),
        ("zstd", bomb(2 * bytes_max), true),
        // A bomb in a parcel.
        (
            "zstd, waypost-lz4",
            packed("lz4", &bomb(2 * bytes_max)),
            true,
        ),
    ] {
        let packet = publish_v5("t", &[("content-encoding", encoding)], &payload);
        world.write(&mut publisher, &packet);
        world.work();
        let got = world.packet(&mut client);
        assert_eq!(got == packet, passes, "{encoding}");
    }
    let counters = world.shard.outlets.counters;
    assert_eq!(counters.transcode_undecodable, 1);
    assert_eq!(counters.transcode_unknown_encodings, 2);
    assert_eq!(counters.transcode_bombs, 3);
    assert_eq!(counters.transcode_unpacked, 1);
}

/// Goal: large payloads leave the loop, and order stays. Method: the worker does nothing until it is told, while more
/// comes for those who wait and those who do not.
#[test]
fn only_who_waits_for_a_large_payload_waits() {
    for door in [Door::PLAIN, Door::TLS, Door::WEBSOCKET] {
        check_waiting(door);
    }
}

fn check_waiting(door: Door) {
    let mut world = world(&[("#", true, None)]);
    let mut waits = world.connect_through(door, "waits");
    let mut does_not = connect_v5(&mut world, "does not", "zstd", None);
    world.subscribe(&mut waits, "t", 1);
    subscribe_v5(&mut world, &mut does_not, "t", 0);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let plain = [noise(20_000), vec![7; 50_000]].concat();
    let wire = packed("zstd", &plain);
    let before = world.shard.outlets.outbox_bytes;
    for round in 0..3_u8 {
        world.write(&mut publisher, &publish_v5("t", &ZSTD, &wire));
        world.write(&mut publisher, &publish_v5("t", &[], &[round]));
    }
    for _ in 0..3 {
        assert_eq!(
            understood(&world.packet(&mut does_not), ProtocolVersion::V5).0,
            wire
        );
        world.packet(&mut does_not);
    }
    world.write(&mut waits, &PING);
    world.settle();
    assert!(waits.packets().is_empty());
    assert_eq!(world.shard.outlets.coder.waiting(), 1);
    let expect = 3 * (wire.len() + publish("t", 0, b"r").len()) + PONG.len();
    assert_eq!(world.shard.outlets.outbox_bytes - before, expect);
    world.work();
    for round in 0..3_u8 {
        assert!(world.packet(&mut waits) == publish("t", 0, &plain));
        assert_eq!(world.packet(&mut waits), publish("t", 0, &[round]));
    }
    assert_eq!(world.packet(&mut waits), PONG);
    assert_eq!(world.shard.outlets.outbox_bytes, before);
    let counters = world.shard.outlets.counters;
    assert_eq!(
        (counters.transcode_unpacked, counters.transcode_off_loop),
        (1, 1)
    );
    // Known by now, it goes at once.
    world.write(&mut publisher, &publish_v5("t", &ZSTD, &wire));
    assert!(world.packet(&mut waits) == publish("t", 0, &plain));
}

/// Goal: a small payload that becomes large leaves the loop too. Method: 40 bytes of zstd that are 60 and 70 KiB.
#[test]
fn what_becomes_large_leaves_the_loop() {
    let mut world = world(&[("#", true, None)]);
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    for (kib, off_loop) in [(64, 0), (65, 1), (128, 2)] {
        let plain = vec![b'x'; kib * 1024];
        world.write(
            &mut publisher,
            &publish_v5("t", &ZSTD, &packed("zstd", &plain)),
        );
        world.work();
        assert!(world.packet(&mut client) == publish("t", 0, &plain));
        assert_eq!(world.shard.outlets.counters.transcode_off_loop, off_loop);
    }
}

#[test]
fn who_goes_while_waiting_leaves_nothing_behind() {
    let mut world = world(&[("#", true, None)]);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let before = world.shard.outlets.outbox_bytes;
    let wire = packed("zstd", &noise(20_000));
    for says_goodbye in [false, true] {
        let mut client = world.connect("c");
        world.subscribe(&mut client, "t", 0);
        world.write(&mut publisher, &publish_v5("t", &ZSTD, &wire));
        let packet = publish_v5(
            "t",
            &[("b", "2"), ("content-encoding", "zstd")],
            &packed("zstd", &noise(19_000)),
        );
        world.write(&mut publisher, &packet);
        world.settle();
        if says_goodbye {
            // The server closes it, and it gets what was on its way.
            let mut other = world.open();
            world.write(&mut other, &connect("c"));
            world.settle();
            world.work();
            world.tick_until("the end", |_| {
                client.read();
                client.is_closed
            });
            let _ = other;
        } else {
            drop(client);
            world.settle();
            world.work();
        }
        world.tick_until("nothing left", |world| {
            world.shard.outlets.outbox_bytes == before
        });
    }
    assert_eq!(world.shard.outlets.coder.waiting(), 0);
}

/// Goal: the bound of what waits for workers. Method: at the bound, one payload more and twice as much, of which what is
/// beyond is done by the shard at once.
#[test]
fn beyond_the_bound_the_shard_works_itself() {
    let payload = packed("zstd", &noise(20_000));
    for (count, beyond) in [(2, 0), (3, 1), (4, 2)] {
        let mut world = World::with_transcode_bytes(2 * payload.len() + 1);
        world
            .shard
            .outlets
            .coder
            .adopt(codings(&[("#", true, None)]));
        let mut client = world.connect("c");
        world.subscribe(&mut client, "t", 0);
        let mut publisher = connect_v5(&mut world, "p", "", None);
        for number in 0..count {
            let mut plain = noise(20_000);
            plain[0] = number;
            world.write(
                &mut publisher,
                &publish_v5("t", &ZSTD, &packed("zstd", &plain)),
            );
        }
        world.settle();
        assert_eq!(world.shard.outlets.counters.transcode_workers_full, beyond);
        world.work();
        // In order all the same.
        for number in 0..count {
            let packet = world.packet(&mut client);
            assert_eq!(packet[packet.len() - 20_000], number);
        }
    }
}

/// Goal: a shard never packs what is large. Method: workers with room for one payload, and three.
#[test]
fn beyond_the_bound_nothing_large_is_packed() {
    let mut world = World::with_transcode_bytes(0);
    let policies = codings(&[("#", true, Some("zstd"))]);
    world.shard.outlets.coder.adopt(policies);
    let mut client = connect_v5(&mut world, "c", "zstd", None);
    subscribe_v5(&mut world, &mut client, "t", 0);
    let mut publisher = world.connect("p");
    for byte in 0..3 {
        world.write(&mut publisher, &publish("t", 0, &vec![byte; 20_000]));
    }
    world.settle();
    assert_eq!(world.shard.outlets.counters.transcode_workers_full, 2);
    world.work();
    for byte in 0..3 {
        let (payload, encoding) = understood(&world.packet(&mut client), ProtocolVersion::V5);
        if byte == 0 {
            assert_eq!(encoding.as_deref(), Some("zstd"));
            assert!(payload.len() < 1_000);
        } else {
            assert!(
                payload == vec![byte; 20_000] && encoding.is_none(),
                "{byte}"
            );
        }
    }
}

#[test]
fn who_takes_no_packet_that_large_gets_it_as_it_came() {
    let mut world = world(&[("#", true, None)]);
    let mut publisher = connect_v5(&mut world, "p", "", None);
    for (len, room) in [(5_000, 0), (50_000, 0), (80_000, 0), (5_000, 1)] {
        let plain = vec![b'x'; len];
        let whole = u32::try_from(publish_v5("t", &[("a", "1")], &plain).len()).unwrap();
        let mut client = connect_v5(&mut world, "c", "", Some(whole - 1 + room));
        subscribe_v5(&mut world, &mut client, "t", 0);
        let packet = publish_v5("t", &ZSTD, &packed("zstd", &plain));
        world.write(&mut publisher, &packet);
        world.work();
        let got = world.packet(&mut client);
        if room == 0 {
            assert_eq!(got, packet);
        } else {
            assert!(got == publish_v5("t", &[("a", "1")], &plain));
        }
    }
    assert_eq!(world.shard.outlets.counters.transcode_too_large, 3);
}

#[test]
fn the_server_packs_once_for_whoever_accepts_the_policys_packing() {
    let mut world = world(&[
        ("t/#", true, Some("lz4+zstd")),
        ("t/raw", true, Some("identity")),
    ]);
    let mut clients: Vec<_> = ["waypost-lz4, zstd", "*", "zstd", ""]
        .iter()
        .map(|accepts| connect_v5(&mut world, &format!("c {accepts}"), accepts, None))
        .collect();
    for client in &mut clients {
        subscribe_v5(&mut world, client, "#", 0);
    }
    // 3.1.1 has no word for it, and says nothing of its own.
    let mut publisher = world.connect("p");
    for (topic, plain, is_packed) in [
        ("t/a", vec![b'x'; 5_000], true),
        ("t/a", vec![b'y'; 70_000], true),
        ("t/a", noise(5_000), false),
        ("t/a", b"short".to_vec(), false),
        ("t/raw", vec![b'x'; 5_000], false),
        ("elsewhere", vec![b'x'; 5_000], false),
    ] {
        world.write(&mut publisher, &publish(topic, 0, &plain));
        world.work();
        for (number, client) in clients.iter_mut().enumerate() {
            let (payload, encoding) = understood(&world.packet(client), ProtocolVersion::V5);
            if is_packed && number < 2 {
                assert_eq!(encoding.as_deref(), Some("waypost-lz4, zstd"));
                let mut unpacked = Vec::new();
                let stages = Stages::from_content_encoding(&encoding.unwrap()).unwrap();
                stages.decompress(&payload, 1 << 20, &mut unpacked).unwrap();
                assert!(unpacked == plain, "{topic} {number}");
            } else {
                assert!(
                    (payload, encoding) == (plain.clone(), None),
                    "{topic} {number}"
                );
            }
        }
    }
    let counters = world.shard.outlets.counters;
    assert_eq!(counters.transcode_packed, 2);
    assert_eq!(counters.transcode_packed_bytes_in, 75_000);
    assert!(counters.transcode_packed_bytes_out < 1_000);
    assert_eq!(counters.transcode_not_shorter, 1);
}

/// Goal: a packed payload does not claim to be text. Method: one that does, for both kinds of subscribers.
#[test]
fn packed_text_is_no_text() {
    let mut world = world(&[("t", true, Some("zstd"))]);
    let mut takes = connect_v5(&mut world, "takes", "zstd", None);
    let mut does_not = connect_v5(&mut world, "does not", "", None);
    for client in [&mut takes, &mut does_not] {
        subscribe_v5(&mut world, client, "t", 0);
    }
    let mut publisher = connect_v5(&mut world, "p", "", None);
    let plain = vec![b'x'; 500];
    let body = [&text("t"), &[2, 1, 1][..], &plain].concat();
    world.write(&mut publisher, &framed(0x30, &body));
    assert_eq!(world.packet(&mut does_not), framed(0x30, &body));
    assert_eq!(
        world.packet(&mut takes),
        publish_v5(
            "t",
            &[("content-encoding", "zstd")],
            &packed("zstd", &plain)
        )
    );
}
