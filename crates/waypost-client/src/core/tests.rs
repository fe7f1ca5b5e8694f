//! A client's state beside a server that is the test: connections lost and made again, packet by packet.

use std::collections::VecDeque;

use waypost_mqtt::{
    Ack, ConnAck, Packet, PacketId, Properties, ProtocolVersion, Publish, ReasonCodes, Role,
    SubAck, decode, decode_header, encode,
};

use super::*;
use crate::backoff::{Backoff, Retries};
use crate::completions::Completions;
use crate::protocol::options::Acknowledge;
use crate::routes::{Capacity, WhenFull};

const MESSAGES_MAX: usize = 4;
const BYTES_MAX: usize = 40;

/// A client and the place where its messages' ends arrive.
struct World {
    core: Core,
    now: Instant,
    completions: Completions,
    /// Messages and subscriptions that are out.
    out: VecDeque<PacketId>,
    asked: Vec<PacketId>,
}

impl World {
    fn new() -> Self {
        let options = Options {
            version: ProtocolVersion::V5,
            client_id: "c".into(),
            clean_start: true,
            keep_alive: 10,
            user_name: None,
            password: None,
            will: None,
            properties: PropertyBuffer::new(),
            in_flight_max: 2,
            resume_seconds: 300,
            acknowledge: Acknowledge::ByCaller,
        };
        let unfinished_max = UnfinishedMax {
            messages: MESSAGES_MAX,
            bytes: BYTES_MAX,
        };
        let desk = Desk::new(options.version, Retries::new(Backoff::new(), 1));
        Self {
            core: Core::new(options, unfinished_max, true, desk),
            now: Instant::now(),
            completions: Completions::new(),
            out: VecDeque::new(),
            asked: Vec::new(),
        }
    }

    fn connect(&mut self, session_present: bool) {
        self.core.begin(self.now);
        assert_eq!(self.sent(), ["CONNECT"]);
        let properties = PropertyBuffer::new();
        self.receive(&Packet::ConnAck(ConnAck {
            session_present,
            reason: ReasonCode::Success,
            properties: properties.as_properties(),
        }));
    }

    fn lose(&mut self) {
        self.out.clear();
        let why = Closed::Lost(std::io::ErrorKind::ConnectionReset.into());
        assert!(self.core.on_closed(why, self.now).is_some());
    }

    fn receive(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, ProtocolVersion::V5, &mut bytes);
        assert_eq!(
            self.core.handle_bytes(&bytes, self.now).unwrap(),
            bytes.len()
        );
    }

    /// Of the messages that are out the first.
    fn acknowledge(&mut self) {
        let packet_id = self.out.pop_front().unwrap();
        self.receive(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }

    /// Every subscription that was sent.
    fn grant(&mut self) {
        for packet_id in std::mem::take(&mut self.asked) {
            self.receive(&Packet::SubAck(SubAck {
                packet_id,
                properties: Properties::EMPTY,
                reasons: ReasonCodes::new(&[ReasonCode::GrantedQoS1]),
            }));
        }
    }

    /// Publishes if there is room; the message is its number.
    fn publish(&mut self, number: u64, payload: &str) -> bool {
        let room = matches!(self.core.admit(1 + payload.len()), Admission::Room);
        if room {
            let (topic, payload) = ("t".to_owned(), payload.as_bytes().to_vec());
            let properties = PropertyBuffer::new();
            let message = waiting(topic, payload, QoS::AtLeastOnce, false, properties);
            let done = Done::Into(self.completions.clone(), number);
            self.core.publish(message, done);
        }
        room
    }

    /// What the client wrote, packet by packet.
    fn sent(&mut self) -> Vec<String> {
        let Some(session) = self.core.session() else {
            return Vec::new();
        };
        let bytes = session.outbox().to_vec();
        self.core.on_written(bytes.len(), self.now);
        let (mut rest, mut packets) = (bytes.as_slice(), Vec::new());
        while let Some(header) = decode_header(rest).unwrap() {
            let (packet, after) = rest.split_at(header.total_len());
            packets.push(
                match decode(packet, ProtocolVersion::V5, Role::Client).unwrap() {
                    Packet::Publish(publish) => {
                        self.out.extend(publish.packet_id);
                        let dup = if publish.dup { " again" } else { "" };
                        format!("{}{dup}", String::from_utf8_lossy(publish.payload))
                    }
                    Packet::Subscribe(subscribe) => {
                        self.asked.push(subscribe.packet_id);
                        "SUBSCRIBE".to_owned()
                    }
                    other => other.packet_type().name().to_owned(),
                },
            );
            rest = after;
        }
        packets
    }

    /// The keys of the messages that were finished, in order.
    fn finished(&self) -> Vec<u64> {
        let all = std::iter::from_fn(|| self.completions.try_next());
        all.map(|(key, outcome)| outcome.map(|_| key).unwrap())
            .collect()
    }

    fn subscribe(&mut self, filter: &str, capacity: usize) -> QueueId {
        let capacity = Capacity {
            messages: capacity,
            bytes: usize::MAX,
        };
        let queue = self.core.desk.routes.add_queue(capacity, WhenFull::Wait);
        let route = self.core.route(Subscribe::to(filter), queue);
        self.core.subscribe(route);
        queue
    }
}

/// Goal: what a lost connection left goes first and in its order, then what waited, then what is new, whether the server knows the
/// session or not. Method: of five messages two are out at a time; one is acknowledged before the connection is lost.
#[test]
fn what_was_published_first_is_sent_first_again() {
    for (session_present, resent) in [(true, ["b again", "c again"]), (false, ["b", "c"])] {
        let mut world = World::new();
        world.connect(false);
        for (number, payload) in (0..).zip(["a", "b", "c", "d"]) {
            assert!(world.publish(number, payload));
        }
        assert_eq!(world.sent(), ["a", "b"]);
        world.acknowledge();
        assert_eq!(world.sent(), ["c"]);
        world.lose();
        assert!(world.publish(4, "e"), "there is room for one");
        world.connect(session_present);
        assert_eq!(world.sent(), resent, "{session_present}");
        world.acknowledge();
        assert_eq!(world.sent(), ["d"]);
        world.acknowledge();
        assert_eq!(world.sent(), ["e"]);
        world.acknowledge();
        world.acknowledge();
        assert_eq!(world.finished(), [0, 1, 2, 3, 4], "{session_present}");
    }
}

/// At the bound, one beyond and twice as many, connected or not: the first so many are admitted, and one that is acknowledged makes
/// room for one.
#[test]
fn what_is_unfinished_is_bounded() {
    for is_connected in [true, false] {
        for count in [MESSAGES_MAX, MESSAGES_MAX + 1, 2 * MESSAGES_MAX] {
            let mut world = World::new();
            if is_connected {
                world.connect(false);
            }
            let admitted = (0..count).filter(|_| world.publish(0, "x")).count();
            assert_eq!(admitted, MESSAGES_MAX);
            if !is_connected {
                world.connect(false);
            }
            world.sent();
            world.acknowledge();
            assert!(world.publish(0, "x"));
            assert!(!world.publish(0, "x"));
        }
    }
}

/// The same for bytes; one message that is larger than the bound goes alone.
#[test]
fn the_bytes_that_are_unfinished_are_bounded() {
    for (first, second, is_admitted) in [
        (BYTES_MAX / 2 - 1, BYTES_MAX / 2 - 1, true),
        (BYTES_MAX / 2 - 1, BYTES_MAX / 2, false),
        (BYTES_MAX / 2 - 1, 2 * BYTES_MAX, false),
        (2 * BYTES_MAX, 0, false),
    ] {
        let mut world = World::new();
        assert!(world.publish(0, &"x".repeat(first)), "{first}");
        let second = world.publish(1, &"x".repeat(second));
        assert_eq!(second, is_admitted, "{first}");
    }
}

/// Goal: subscriptions are made again in their order where the server has lost the session, and only there.
#[test]
fn subscriptions_are_made_again_where_the_session_is_lost() {
    for (session_present, expect) in [(true, vec![]), (false, vec!["SUBSCRIBE", "SUBSCRIBE"])] {
        let mut world = World::new();
        world.subscribe("a", 1);
        world.subscribe("b", 1);
        world.connect(false);
        assert_eq!(world.sent(), ["SUBSCRIBE", "SUBSCRIBE"]);
        world.grant();
        world.lose();
        world.connect(session_present);
        assert_eq!(world.sent(), expect);
    }
}

/// Goal: a full queue stops the reading where it is, nothing is lost or taken twice, and each message is acknowledged as it is taken.
#[test]
fn reading_stops_at_a_full_queue_and_goes_on_when_something_is_taken() {
    let mut world = World::new();
    let queue = world.subscribe("a", 2);
    world.connect(false);
    world.sent();
    world.grant();
    let mut bytes = Vec::new();
    for number in 1..=5 {
        encode(&incoming(number), ProtocolVersion::V5, &mut bytes);
    }
    let one = bytes.len() / 5;
    let mut left = bytes.as_slice();
    for (round, taken) in [(0, 2), (1, 1), (2, 1), (3, 1)] {
        let count = world.core.handle_bytes(left, world.now).unwrap();
        assert_eq!(count, taken * one, "{round}");
        left = &left[count..];
        assert!(world.core.is_full(), "{round}");
        let Next::Message(message) = world.core.take(queue) else {
            panic!("nothing in round {round}")
        };
        assert_eq!(message.payload(), [b'0' + round + 1]);
        assert_eq!(world.sent(), ["PUBACK"], "{round}");
    }
    assert!(left.is_empty());
    assert!(matches!(world.core.take(queue), Next::Message(_)));
    assert!(matches!(world.core.take(queue), Next::Nothing));
}

fn incoming(number: u8) -> Packet<'static> {
    const PAYLOADS: [&[u8]; 6] = [b"0", b"1", b"2", b"3", b"4", b"5"];
    Packet::Publish(Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "a",
        packet_id: PacketId::new(number.into()),
        properties: Properties::EMPTY,
        payload: PAYLOADS[usize::from(number)],
    })
}
