//! A shard over real sockets on the loopback, its ticks made one by one.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use waypost_core::{
    AllowAll, BrokerConfig, DeliveryFlags, Effects, IdentifierRange, Limits, Message, Payload,
    RetainedClock, Target,
};
use waypost_mqtt::{Ack, Packet, PacketId, QoS, ReasonCode, decode_header};

use super::*;
use crate::door::entrance::{Entrance, tests::entrance};
use crate::socket::{Framing, Socket};
use crate::store::{StorePort, WallClock};
use crate::stream::peer::{Door, PeerLayers};
use crate::stream::tls::Tls;

mod dictionaries;
mod layers;
mod transcode;
mod world;

use world::*;

const PING: [u8; 2] = [0xC0, 0];
const PONG: [u8; 2] = [0xD0, 0];

#[test]
fn packets_cut_at_every_place_and_many_in_one_read() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    // Each side of what the shared buffer, a buffer of its own and one read hold.
    let bytes: Vec<u8> = [1, 100, 3_000, 5, 70_000, 64 * 1024, 7]
        .iter()
        .flat_map(|&len| [publish("t", 0, &vec![b'x'; len]), PING.to_vec()].concat())
        .collect();
    let mut cuts: Vec<usize> = (0..3_300).step_by(7).collect();
    cuts.extend((3_300..bytes.len()).step_by(9_973));
    for cut in cuts {
        for part in [&bytes[..cut], &bytes[cut..]] {
            world.write(&mut client, part);
            world.tick();
        }
        let mut answer = Vec::new();
        while answer.len() < bytes.len() {
            answer.extend(world.packet(&mut client));
        }
        let expected: Vec<u8> = [1, 100, 3_000, 5, 70_000, 64 * 1024, 7]
            .iter()
            .flat_map(|&len| [publish("t", 0, &vec![b'x'; len]), PONG.to_vec()].concat())
            .collect();
        assert!(answer == expected, "cut at {cut}");
    }
    assert_eq!(world.shard.receive_bytes, 0);
}

/// Goal: a large packet costs linear time however small its pieces. Method: what is copied per
/// piece is measured by time, two lengths against each other.
#[test]
fn a_large_packet_in_pieces_of_one_byte() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    let packet = publish("t", 0, &vec![b'x'; 100_000]);
    for byte in &packet {
        world.write(&mut client, &[*byte]);
        world.tick();
    }
    assert!(world.packet(&mut client) == packet);
    let shared_buffer = world.shard.read_buffer.len();
    assert_eq!(shared_buffer, READ_BUFFER_BYTES);
}

/// Goal: bytes behind a CONNECT that waits for its answer are kept, in order and within a bound.
#[test]
fn what_comes_while_parked_is_handled_later_and_bounded() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    let id = ConnectionId(0);
    let messages: Vec<u8> = (0..5_000_u32)
        .flat_map(|number| publish("t", 0, &number.to_be_bytes().repeat(20)))
        .collect();
    let mut written = 0;
    // Parked and let go on again and again, always with more than one read's bytes to come.
    while written < messages.len() {
        world.shard.outlets.read(id, false);
        written += client.stream.write(&messages[written..]).unwrap_or(0);
        world.settle();
        world.shard.outlets.read(id, true);
        world.tick();
        world.shard.outlets.read(id, false);
        let unread = world.shard.outlets.connections[0].unread.as_ref();
        assert!(unread.is_none_or(|unread| unread.len() <= READ_BUFFER_BYTES));
        assert_eq!(world.shard.read_buffer.len(), READ_BUFFER_BYTES);
    }
    world.shard.outlets.read(id, true);
    let mut answer = Vec::new();
    while answer.len() < messages.len() {
        answer.extend(world.packet(&mut client));
    }
    assert!(answer == messages);
}

/// Goal: what is read while parking begins in the middle of a read stays in order.
#[test]
fn unread_packets_are_handled_before_more_is_read() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.shard.outlets.connections[0].unread = Some(Box::new(PING.repeat(10_000)));
    world.write(&mut client, &PING);
    world.shard.outlets.mark_ready(0);
    world.shard.tick();
    assert_eq!(world.shard.outlets.counters.bytes_received, 17 - 2);
    let mut pongs = 0;
    while pongs < 10_001 {
        assert_eq!(world.packet(&mut client), PONG);
        pongs += 1;
    }
}

/// Goal: whole packets that parking left count also when the peer has gone by then.
#[test]
fn unread_packets_are_handled_though_the_peer_has_closed() {
    let mut world = World::new();
    let client = world.connect("c");
    let unread = [publish("t", 0, b"last words").repeat(3), vec![0x30]].concat();
    world.shard.outlets.read(ConnectionId(0), false);
    world.shard.outlets.connections[0].unread = Some(Box::new(unread));
    client.stream.shutdown(Shutdown::Both).unwrap();
    world.settle();
    assert_eq!(world.shard.broker.counters().publishes_received, 0);
    world.shard.outlets.read(ConnectionId(0), true);
    world.tick_until("the place to be free", |world| {
        world.shard.outlets.connections.is_empty()
    });
    assert_eq!(world.shard.broker.counters().publishes_received, 3);
}

/// Goal: the last packet reaches a peer that had sent more than was read, and had closed its side.
#[test]
fn the_last_packet_arrives_whatever_the_peer_had_sent() {
    for half_closed in [false, true] {
        let mut world = World::new();
        let mut client = world.open();
        // An unacceptable protocol level, then much that nobody will read.
        let bad = framed(
            0x10,
            &[&text("MQTT"), &[9, 2, 0, 0][..], &text("c")].concat(),
        );
        client.stream.write_all(&bad).unwrap();
        client.stream.write_all(&vec![0; 200_000]).unwrap();
        if half_closed {
            client.stream.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(world.packet(&mut client)[..2], [0x20, 2]);
        world.tick_until("the end", |_| {
            client.read();
            client.is_closed
        });
        drop(client);
        world.tick_until("the place to be free", |world| {
            world.shard.outlets.connections.is_empty()
        });
        assert_eq!(world.entrance.places_taken(), 0);
    }
}

/// Goal: what was queued for a client that says DISCONNECT and closes its side is still written.
#[test]
fn what_is_queued_is_written_after_the_peer_closed_its_side() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    let mut publisher = world.connect("p");
    let message = publish("t", 0, &vec![b'x'; 1 << 20]);
    for _ in 0..8 {
        world.write(&mut publisher, &message);
        world.settle();
    }
    assert!(world.shard.outlets.outbox_bytes > 0, "it does not read");
    world.write(&mut client, &[0xE0, 0]);
    client.stream.shutdown(Shutdown::Write).unwrap();
    world.settle();
    for _ in 0..8 {
        assert!(world.packet(&mut client) == message);
    }
    world.tick_until("the end", |_| {
        client.read();
        client.is_closed
    });
}

/// Goal: a session that waits for its outbox hears when it has room, though the bounds changed
/// between. Method: the shard is beyond its bound when the core asks, and below it when that outbox
/// is written, since another one was written before.
#[test]
fn a_session_that_was_told_to_wait_is_told_to_go_on() {
    let mut world = World::with_outboxes(1 << 20, 128 * 1024);
    let mut other = world.connect("o");
    world.subscribe(&mut other, "o", 0);
    let mut reader = world.connect("r");
    world.subscribe(&mut reader, "t", 1);
    let mut publishers: Vec<Client> = (0..4)
        .map(|number| world.connect(&format!("p{number}")))
        .collect();
    for (number, publisher) in publishers.iter_mut().enumerate() {
        let topic = if number < 2 { "o" } else { "t" };
        let first_id = u16::from(number >= 2);
        for id in 0..10 {
            let bytes = publish(topic, first_id * (id + 1), &vec![b'x'; 6_000]);
            publisher.stream.write_all(&bytes).unwrap();
        }
    }
    world.tick();
    assert!(world.shard.broker.counters().slow_readers > 0);
    // None is acknowledged, so nothing but room makes the session go on.
    for expected in 1..=20_u16 {
        let message = world.packet(&mut reader);
        let head = decode_header(&message).unwrap().unwrap().header_len;
        assert_eq!(message[head + 3..head + 5], expected.to_be_bytes());
    }
}

/// Goal: a reader that asks and asks and takes no answer costs a bounded outbox. Method: the kernel keeps little, so that
/// it is soon full.
#[test]
fn a_client_that_takes_no_answers_is_not_read_on() {
    let bound = 64 * 1024;
    let mut world = World::with_outboxes(bound, 1 << 30).with_small_buffers();
    let mut client = world.connect("c").with_small_buffers();
    let pings = PING.repeat(32 * 1024);
    let mut sent = 0;
    let mut blocked = 0;
    while blocked < 50 {
        // What was taken last may have ended within a packet.
        match client.stream.write(&pings[sent % PING.len()..]) {
            Ok(count) => {
                sent += count;
                blocked = 0;
            }
            Err(_) => blocked += 1,
        }
        world.tick();
        let waiting = world.shard.outlets.outbox_bytes;
        assert!(waiting <= bound + READ_BUFFER_BYTES, "{waiting}");
        assert!(sent < 4 << 20, "it is read on and on");
    }
    // It reads again and gets all of them.
    world.tick_until("every answer", |_| {
        client.read();
        client.received.len() >= sent / 2 * 2
    });
    assert!(client.received == PONG.repeat(sent / 2));
    assert!(world.shard.outlets.counters.reads_paused > 0);
}

/// Goal: an outbox stays within its bound even inside one tick.
#[test]
fn a_tick_cannot_overfill_an_outbox() {
    let bound = 256 * 1024;
    let mut world = World::with_outboxes(bound, 1 << 30);
    let mut reader = world.connect("r");
    world.subscribe(&mut reader, "t", 0);
    let message = publish("t", 0, &vec![b'x'; 3_000]);
    let mut publishers: Vec<Client> = (0..20)
        .map(|number| world.connect(&format!("p{number}")))
        .collect();
    for publisher in &mut publishers {
        publisher.stream.write_all(&message.repeat(20)).unwrap();
    }
    // 400 messages, 1.2 MB, are read in one tick.
    world.shard.wait(&mut world.events, Some(LIMIT)).unwrap();
    world.shard.read_ready();
    assert!(world.shard.outlets.outbox_bytes <= bound + message.len());
    let mut count = 0;
    world.tick_until("every message", |_| {
        count += reader.packets().len();
        count == 400
    });
    assert_eq!(world.shard.outlets.counters.dropped_qos0_outbox, 0);
}

/// Goal: when nothing may be dropped, looking for it is not repeated per message.
#[test]
fn an_outbox_of_owed_messages_is_searched_once() {
    let bound = 64 * 1024;
    let mut world = World::with_outboxes(bound, 1 << 30);
    let mut reader = world.connect("r");
    let outlets = &mut world.shard.outlets;
    outlets.connections[0].blocked = true;
    let ack = Packet::PubAck(Ack::new(PacketId::new(1).unwrap(), ReasonCode::Success));
    for _ in 0..bound {
        outlets.send(ConnectionId(0), &ack);
    }
    let message = Message {
        topic: "t",
        payload: Payload {
            bytes: b"x",
            shared: None,
        },
        properties: &[],
        expiry_s: None,
        verbatim: None,
    };
    let target = Target {
        connection: ConnectionId(0),
        packet_id: 0,
        alias: 0,
        identifiers: IdentifierRange::default(),
        flags: DeliveryFlags::new(QoS::AtMostOnce),
    };
    outlets.deliver_many(&message, &[target], &[]);
    assert!(outlets.connections[0].only_owed);
    outlets.deliver_many(&message, &[target], &[]);
    assert_eq!(outlets.counters.dropped_qos0_outbox, 2);
    // With room again it is one like any other.
    outlets.write(0).unwrap();
    world.tick_until("room", |world| {
        reader.read();
        world.shard.outlets.outbox_bytes == 0
    });
    let outlets = &mut world.shard.outlets;
    outlets.deliver_many(&message, &[target], &[]);
    assert!(!outlets.connections[0].only_owed);
}

/// Goal: no tick sends without end. Method: one read's bytes fan out to more than a tick sends; a
/// neighbour that is ready too comes first in the next tick.
#[test]
fn a_tick_ends_when_it_has_sent_enough() {
    let mut world = World::new();
    let mut readers: Vec<Client> = (0..100)
        .map(|number| {
            let mut client = world.connect(&format!("r{number}"));
            world.subscribe(&mut client, "t", 0);
            client
        })
        .collect();
    let mut publisher = world.connect("p");
    let mut neighbour = world.connect("n");
    let count = 2_000;
    publisher
        .stream
        .write_all(&publish("t", 0, b"x").repeat(count))
        .unwrap();
    let before = world.shard.outlets.counters.packets_sent;
    world.tick_until("the first messages", |world| {
        world.shard.outlets.counters.packets_sent > before
    });
    let sent = world.shard.outlets.counters.packets_sent - before;
    assert!(sent < 70_000, "{sent} packets in one tick");
    neighbour.stream.write_all(&PING).unwrap();
    world.tick();
    world.tick();
    neighbour.read();
    assert_eq!(neighbour.take_packet(), Some(PONG.to_vec()));
    let mut received = 0;
    world.tick_until("every message", |_| {
        received += readers
            .iter_mut()
            .map(|reader| reader.packets().len())
            .sum::<usize>();
        received == count * 100
    });
}

/// Goal: an idle shard sleeps. Method: with nothing to do there is nothing to wake up for.
#[test]
fn an_idle_shard_has_nothing_to_wake_up_for() {
    let mut world = World::new();
    let client = world.connect("c");
    world.settle();
    // The connection's keep alive is 0; its connect timeout is a timer that is past its use.
    assert!(world.shard.timeout().is_none_or(|due| due.as_secs() > 1));
    drop(client);
    world.tick_until("the connection to go", |world| {
        world.shard.outlets.connections.is_empty()
    });
    assert!(world.shard.outlets.ready.is_empty());
    assert!(world.shard.timeout().is_none_or(|due| due.as_secs() > 1));
}

/// Goal: a drain gives clients its own time to take what is left for them, not that of a close.
#[test]
fn a_drain_waits_as_long_as_it_says() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    let mut publisher = world.connect("p");
    let message = publish("t", 0, &vec![b'x'; 1 << 20]);
    for _ in 0..8 {
        world.write(&mut publisher, &message);
        world.settle();
    }
    world.shard.drain();
    world.shard.tick();
    let now = world.shard.now.monotonic_ms;
    world.shard.now.monotonic_ms = now + 9_000;
    world.shard.end_lingering();
    assert_eq!(world.shard.outlets.connections.len(), 1, "only who took it");
    for _ in 0..8 {
        assert!(world.packet(&mut client) == message);
    }
}

#[test]
fn buffers_of_large_packets_are_used_again_within_their_bound() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    for fill in 0..5 {
        let message = publish("t", 0, &vec![fill; 1 << 20]);
        world.write(&mut client, &message);
        assert!(world.packet(&mut client) == message);
        assert_eq!(world.shard.outlets.pool.large_buffers(), 1);
    }
}

/// Goal: a write that fails ends the connection, is counted, and the next reader of its place is
/// unharmed. Method: the peer resets the connection, and the shard writes before it reads.
#[test]
fn a_write_that_fails_ends_the_connection() {
    let mut world = World::new();
    let mut client = world.connect("c");
    world.subscribe(&mut client, "t", 0);
    // Bytes that nobody reads turn the close into a reset.
    client.stream.set_nonblocking(false).unwrap();
    world.shard.outlets.send(ConnectionId(0), &Packet::PingResp);
    world.shard.flush_dirty();
    client.stream.peek(&mut [0; 2]).unwrap();
    drop(client);
    let deadline = Instant::now() + LIMIT;
    while world.shard.outlets.counters.write_errors == 0 {
        assert!(Instant::now() < deadline, "no write failed");
        world.shard.outlets.send(ConnectionId(0), &Packet::PingResp);
        world.shard.flush_dirty();
    }
    assert_eq!(world.shard.outlets.counters.write_errors, 1);
    assert_eq!(world.shard.broker.connections(), 0);
    let mut next = world.connect("next");
    world.subscribe(&mut next, "t", 0);
}

/// Goal: a storm of connections leaves room for those who are there. Method: more are handed over at once than one tick
/// takes; they greet and leave at once, too.
#[test]
fn newcomers_are_taken_a_few_at_a_time() {
    for count in [
        NEWCOMERS_PER_TICK,
        NEWCOMERS_PER_TICK + 1,
        2 * NEWCOMERS_PER_TICK,
    ] {
        let mut world = World::new();
        let clients: Vec<_> = (0..count).map(|_| world.open()).collect();
        for expect in [count.min(NEWCOMERS_PER_TICK), count] {
            world.tick();
            assert_eq!(world.shard.outlets.connections.len(), expect);
        }
        world.tick();
        for (number, client) in clients.iter().enumerate() {
            let mut stream = &client.stream;
            stream.write_all(&connect(&format!("c{number}"))).unwrap();
        }
        for expect in [count.min(NEWCOMERS_PER_TICK), count] {
            world.tick();
            assert_eq!(world.shard.broker.sessions(), expect);
        }
        drop(clients);
        for expect in [count.saturating_sub(NEWCOMERS_PER_TICK), 0] {
            world.tick();
            assert_eq!(world.shard.outlets.connections.len(), expect);
        }
    }
}
