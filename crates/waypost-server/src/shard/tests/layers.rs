//! The same over TLS and WebSocket.

use super::*;
use crate::stream::Outgoing;
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

/// Goal: whatever pieces the wire comes in, the stream is the same. Method: byte by byte, over every
/// boundary of frames, records and packets.
#[test]
fn a_connection_byte_by_byte() {
    each_door(|door| {
        let mut world = World::new();
        let mut client = world.open_through(door);
        let subscribe = framed(0x82, &[&[0, 1], text("t").as_slice(), &[0]].concat());
        let packets = [
            connect("c"),
            subscribe,
            publish("t", 0, &[b'x'; 200]),
            PING.to_vec(),
        ];
        for packet in &packets {
            for byte in client.layers.said(packet) {
                world.write_wire(&mut client, &[byte]);
                world.tick();
            }
        }
        assert_eq!(world.packet(&mut client), [0x20, 2, 0, 0]);
        assert_eq!(world.packet(&mut client), [0x90, 3, 0, 1, 0]);
        assert_eq!(world.packet(&mut client), packets[2]);
        assert_eq!(world.packet(&mut client), PONG);
    });
}

/// Goal: frames need not be packets. Method: a large packet in frames of few bytes, then many packets
/// in one frame, each with pings between, cut into reads of any length.
#[test]
fn packets_and_frames_begin_and_end_where_they_like() {
    for door in [Door::WEBSOCKET, Door::WSS] {
        for step in [1_000, 30_011, 1 << 20] {
            let mut world = World::new();
            let mut client = world.connect_through(door, "c");
            world.subscribe(&mut client, "t", 0);
            let large = publish("t", 0, &vec![b'x'; 50_000]);
            let mut wire = Vec::new();
            for piece in large.chunks(7) {
                wire.extend(frame(false, 2 * u8::from(wire.is_empty()), [3; 4], piece));
                wire.extend(frame(true, 9, [4; 4], b"still there?"));
            }
            wire.extend(frame(true, 0, [5; 4], b""));
            let small = publish("t", 0, b"small");
            wire.extend(frame(true, 2, [6; 4], &small.repeat(10_000)));
            let wire = client.layers.protected(&wire);
            for piece in wire.chunks(step) {
                world.write_wire(&mut client, piece);
                client.read();
            }
            assert!(world.packet(&mut client) == large);
            for _ in 0..10_000 {
                assert_eq!(world.packet(&mut client), small);
            }
            assert!(client.layers.pongs > 0);
        }
    }
}

/// Goal: a ping is answered with its own payload, and who takes no answers costs only one.
#[test]
fn pings_cost_one_answer_however_many_they_are() {
    for door in [Door::WEBSOCKET, Door::WSS] {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        let pings = frame(true, 9, [4; 4], &[b'?'; 125]).repeat(500);
        // Until the sockets' buffers are full of answers, and on.
        for _ in 0..500 {
            let wire = client.layers.protected(&pings);
            world.write_wire(&mut client, &wire);
            assert!(world.shard.outlets.outbox_bytes < 2 * READ_BUFFER_BYTES);
        }
        world.write(&mut client, &PING);
        assert_eq!(world.packet(&mut client), PONG);
        assert!(client.layers.pongs > 0);
        assert_eq!(world.shard.outlets.outbox_bytes, 0);
    }
}

/// Goal: what is read beyond what may be handled is kept, open, in order and within a bound.
#[test]
fn what_comes_while_parked_waits_in_order() {
    each_door(|door| {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        world.subscribe(&mut client, "t", 0);
        let id = ConnectionId(0);
        let messages: Vec<Vec<u8>> = (0..3_000_u32)
            .map(|number| publish("t", 0, &number.to_be_bytes().repeat(20)))
            .collect();
        let mut wire: Vec<u8> = messages
            .iter()
            .flat_map(|message| client.layers.said(message))
            .collect();
        while !wire.is_empty() {
            world.shard.outlets.read(id, false);
            let written = client.stream.write(&wire).unwrap_or(0);
            wire.drain(..written);
            world.settle();
            world.shard.outlets.read(id, true);
            world.tick();
            world.shard.outlets.read(id, false);
            let unread = world.shard.outlets.connections[0].unread.as_ref();
            assert!(unread.is_none_or(|unread| unread.len() <= READ_BUFFER_BYTES));
        }
        world.shard.outlets.read(id, true);
        for message in &messages {
            assert!(world.packet(&mut client) == *message);
        }
    });
}

/// Goal: a reader that stops and goes on loses whole QoS 0 messages, the oldest, and no QoS 1 message;
/// nothing is torn. Method: more than outbox and sockets hold, of both, while nobody reads.
#[test]
fn a_slow_reader_gets_whole_messages() {
    each_door(|door| {
        let mut world = World::with_outboxes(256 * 1024, 1 << 30);
        let mut reader = world.connect_through(door, "r");
        let filters = [text("zero"), vec![0], text("one"), vec![1]].concat();
        world.write(
            &mut reader,
            &framed(0x82, &[&[0, 1], filters.as_slice()].concat()),
        );
        assert_eq!(world.packet(&mut reader), [0x90, 4, 0, 1, 0, 1]);
        let mut publisher = world.connect("p");
        let body = vec![b'x'; 5_000];
        let mut sent = 0_u32;
        while world.shard.outlets.counters.dropped_qos0_outbox < 200 {
            let payload = [&sent.to_be_bytes(), body.as_slice()].concat();
            world.write(&mut publisher, &publish("zero", 0, &payload));
            if sent.is_multiple_of(50) {
                let id = u16::try_from(sent / 50 + 1).unwrap();
                world.write(&mut publisher, &publish("one", id, &payload));
            }
            publisher.read();
            sent += 1;
            assert!(sent < 20_000, "{door:?}: nothing is dropped");
        }
        let waiting = world.shard.outlets.outbox_bytes;
        assert!(waiting <= 256 * 1024 + 80 * 1024, "{waiting}");
        let (mut zero, mut one) = (Vec::new(), Vec::new());
        let ones = sent.div_ceil(50) as usize;
        let dropped = world.shard.outlets.counters.dropped_qos0_outbox;
        world.tick_until("every message that is owed", |world| {
            for packet in reader.packets() {
                let is_one = packet[0] & 0b110 != 0;
                let payload = &packet[packet.len() - 5_004..];
                assert!(payload[4..] == body);
                let number = u32::from_be_bytes(payload[..4].try_into().unwrap());
                if is_one {
                    one.push(number);
                    let at = packet.len() - 5_006;
                    let ack = reader.layers.said(&[0x40, 2, packet[at], packet[at + 1]]);
                    reader.stream.write_all(&ack).unwrap();
                } else {
                    zero.push(number);
                }
            }
            let owed = u64::from(sent) - dropped;
            assert_eq!(world.shard.outlets.counters.dropped_qos0_outbox, dropped);
            zero.len() as u64 == owed && one.len() == ones
        });
        assert!(zero.is_sorted() && one.is_sorted(), "{door:?}");
        one.dedup();
        assert_eq!(one.len(), ones);
        assert_eq!(world.shard.outlets.outbox_bytes, 0);
    });
}

/// Goal: a client that says goodbye and closes its layers in one breath said goodbye. Method: a will
/// tells whether the server took it for lost.
#[test]
fn a_disconnect_just_before_the_layers_close_counts() {
    each_door(|door| {
        for says_disconnect in [true, false] {
            let mut world = World::new();
            let mut client = world.open_through(door);
            let body = [
                &text("MQTT"),
                &[4, 6, 0, 0][..],
                &text("c"),
                &text("will"),
                &text("!"),
            ]
            .concat();
            world.write(&mut client, &framed(0x10, &body));
            assert_eq!(world.packet(&mut client), [0x20, 2, 0, 0]);
            let mut wire = Vec::new();
            if says_disconnect {
                wire.extend(client.layers.said(&[0xE0, 0]));
            }
            if client.layers.frames.is_some() {
                wire.extend(client.layers.protected(&frame(true, 8, [1; 4], &[3, 0xE8])));
            }
            wire.extend(client.layers.closed());
            end_with(&mut world, &mut client, &wire);
            let wills = world.shard.broker.counters().wills_published;
            assert_eq!(wills, u64::from(!says_disconnect), "{door:?}");
            if client.layers.frames.is_some() {
                assert_eq!(client.layers.close_code(), Some(1000));
            }
            assert!(client.layers.tls.is_none() || client.layers.is_tls_closed);
        }
    });
}

/// Goal: a server that stops tells each layer so.
#[test]
fn a_drain_closes_every_layer() {
    each_door(|door| {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        world.shard.drain();
        world.tick_until("the end", |_| {
            client.read();
            client.is_closed
        });
        let expected = client.layers.frames.is_some().then_some(1001);
        assert_eq!(client.layers.close_code(), expected);
        assert!(client.layers.tls.is_none() || client.layers.is_tls_closed);
    });
}

/// Goal: new keys in the middle of the stream are taken.
#[test]
fn keys_change_while_messages_go_both_ways() {
    let mut world = World::new();
    let mut client = world.connect_through(Door::TLS, "c");
    world.subscribe(&mut client, "t", 0);
    for _ in 0..10 {
        client
            .layers
            .tls
            .as_mut()
            .unwrap()
            .refresh_traffic_keys()
            .unwrap();
        let packet = publish("t", 0, &vec![b'x'; 40_000]);
        world.write(&mut client, &packet);
        assert!(world.packet(&mut client) == packet);
    }
}

/// Goal: what came with the handshake is the beginning of the stream, whichever layer has it.
#[test]
fn what_was_read_before_the_handover_comes_first() {
    for door in [
        Door::PLAIN,
        Door::TLS,
        Door::TLS12,
        Door::WEBSOCKET,
        Door::WSS,
    ] {
        for in_tls in [0, 10, 1_000] {
            let mut world = World::new();
            let (mut layers, mut tls) = PeerLayers::new(door);
            let is_framed = layers.frames.is_some();
            let pings: Vec<u8> = PING.repeat(100);
            let opened = [connect("c"), pings.clone()].concat();
            let opened = if is_framed {
                frame(true, 2, [1; 4], &opened)
            } else {
                opened
            };
            let (unread, rest) = opened.split_at(20);
            let mut wire = layers.protected(rest);
            if let Some(tls) = &mut tls {
                let mut plain = unread.to_vec();
                let now: Vec<u8> = wire.drain(..in_tls.min(wire.len())).collect();
                tls.read(&now, &mut Outgoing::default(), &mut |bytes| {
                    plain.extend_from_slice(bytes);
                })
                .unwrap();
                world.unread = plain;
            } else {
                world.unread = unread.to_vec();
            }
            let mut client = world.open_with(layers, tls, door.framing);
            world.write_wire(&mut client, &wire);
            assert_eq!(world.packet(&mut client), [0x20, 2, 0, 0], "{door:?}");
            for _ in 0..100 {
                assert_eq!(world.packet(&mut client), PONG);
            }
        }
    }
}

/// Goal: a close with nothing behind it, and a peer that just goes away, end alike.
#[test]
fn a_peer_that_only_closes_its_socket_is_lost() {
    each_door(|door| {
        let mut world = World::new();
        let mut client = world.connect_through(door, "c");
        let beginning = client.layers.said(&publish("t", 0, &[0; 100]));
        world.write_wire(&mut client, &beginning[..50]);
        drop(client);
        world.tick_until("the place to be free", |world| {
            world.shard.outlets.connections.is_empty()
        });
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
