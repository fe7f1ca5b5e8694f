//! The same over TLS and WebSocket.

use super::*;
use crate::stream::peer::frame;

fn each_door(check: impl Fn(Door)) {
    for door in Door::LAYERED {
        check(door);
    }
}

#[test]
fn packets_of_every_size_go_both_ways() {
    each_door(|door| {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        world.subscribe(&mut client, "t", 0);
        for len in [1, 100, 3_000, 5, 16_384, 70_000, 64 * 1024, 7, 1 << 20, 1] {
            let packet = publish("t", 0, &vec![b'x'; len]);
            world.write(&mut client, &packet);
            assert!(world.packet(&mut client) == packet, "{door:?} {len}");
        }
        assert_eq!(world.shard.receive_bytes, 0);
        assert_eq!(world.shard.outlets.outbox_bytes, 0);
    });
}

/// Writes what is already framed and protected and sees the connection end.
fn end_with(world: &mut World, client: &mut Client, wire: &[u8]) {
    world.write_wire(client, wire);
    world.tick_until("the end", |_| {
        client.read();
        client.is_closed
    });
    client.stream.shutdown(Shutdown::Both).unwrap();
    world.tick_until("the place to be free", |world| {
        world.shard.outlets.connections.is_empty()
    });
    assert_eq!(world.shard.outlets.outbox_bytes, 0);
    assert_eq!(world.shard.broker.connections(), 0);
}

#[test]
fn a_wrong_frame_ends_the_connection_with_the_reason() {
    let ping = frame(true, 2, [0; 4], &PING);
    let unmasked = [0x82, 2, PING[0], PING[1]].to_vec();
    let cases = [
        (frame(true, 1, [9; 4], &PING), 1003),
        (unmasked, 1002),
        (frame(true, 2 | 0x40, [9; 4], &PING), 1002),
        (frame(true, 3, [9; 4], &PING), 1002),
        (frame(false, 9, [9; 4], &PING), 1002),
        (frame(true, 0, [9; 4], &PING), 1002),
    ];
    for door in [Door::WEBSOCKET, Door::WSS] {
        for (wrong, code) in &cases {
            let mut world = World::new();
            let mut client = world.connect_through(door, "c");
            // What came before it in the same read is answered.
            let wire = [ping.as_slice(), wrong].concat();
            let wire = client.layers.protected(&wire);
            end_with(&mut world, &mut client, &wire);
            assert_eq!(client.layers.close_code(), Some(*code), "{door:?}");
            assert_eq!(world.shard.outlets.counters.websocket_errors, 1);
            assert_eq!(world.shard.broker.counters().protocol_errors, 0);
        }
    }
}

#[test]
fn a_close_frame_is_answered_in_kind() {
    for door in [Door::WEBSOCKET, Door::WSS] {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        let close = frame(true, 8, [5; 4], &[0x0F, 0xA0, b'b', b'y', b'e']);
        let wire = client.layers.protected(&close);
        end_with(&mut world, &mut client, &wire);
        assert_eq!(client.layers.close_code(), Some(4000));
        assert_eq!(world.shard.outlets.counters.websocket_errors, 0);
    }
}

#[test]
fn garbage_after_the_handshake_ends_tls_with_an_alert() {
    for door in [Door::TLS, Door::TLS12, Door::WSS] {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        let garbage = [&[0x17, 3, 3, 0, 40][..], &[7; 40]].concat();
        end_with(&mut world, &mut client, &garbage);
        let alert = client.layers.alert.take();
        assert!(
            matches!(alert, Some(rustls::Error::AlertReceived(_))),
            "{alert:?}"
        );
        assert_eq!(world.shard.outlets.counters.tls_errors, 1);
    }
}
