//! The broker's state machine: operations of clients and network, in any order, on one to three shards.
//!
//! Input: a byte for the number of shards, then operations of three bytes: what, who, how; raw packets take their bytes
//! from what follows. What a broker does is watched: it speaks only to open connections and well-formed packets, keeps
//! within the client's Receive Maximum and Maximum Packet Size, never uses a Packet Identifier twice at a time, and
//! keeps its invariants.

#![allow(
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic is how a target tells what it found"
)]

mod wire;

use std::collections::VecDeque;

use waypost_core::{
    AllowAll, Broker, BrokerConfig, ConnectionId, Frame, Limits, MailBatch, Now, Peer,
    RetainedClock, ShardId,
};
use waypost_mqtt::{
    Ack, Connect, Disconnect, Filter, Packet, PacketId, Properties, Property, PropertyBuffer,
    ProtocolVersion, Publish, QoS, ReasonCode, RetainHandling, Role, Subscribe,
    SubscriptionOptions, SubscriptionRequest, Topic, Unsubscribe, Will, decode, encode,
};
use wire::{Answer, Net, Wire};

/// Connections a shard has at a time.
const SLOTS: usize = 4;
/// Operations of one input; more bytes are not looked at.
const OPERATIONS_MAX: usize = 400;
/// Steps of timers and mail after which a broker that does not come to rest has failed.
const STEPS_MAX: usize = 20_000;

const CLIENT_IDS: [&str; 4] = ["a", "b", "c", ""];
const TOPICS: [&str; 5] = ["a", "a/b", "a/b/c", "$x/a", "a//"];
const FILTERS: [&str; 8] = ["a", "a/b", "a/+", "#", "+/b/#", "$x/#", "a/#", "$share/g/a"];
const GROUP_FILTERS: [&str; 4] = ["$share/g/a/#", "$share/g/a", "$share/h/a/#", "$queue/a/+"];
const KEYS: [&str; 3] = ["x", "y", ""];
const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V31,
    ProtocolVersion::V311,
    ProtocolVersion::V5,
];

/// Runs the target.
pub fn run(input: &[u8]) {
    let Some((&shards, operations)) = input.split_first() else {
        return;
    };
    let mut world = World::new(1 + u16::from(shards % 3));
    let mut rest = operations;
    for _ in 0..OPERATIONS_MAX {
        let Some((&[what, who, how], after)) = rest.split_first_chunk() else {
            break;
        };
        rest = world.operate(what, who, how, after);
    }
    world.end();
}

struct Shard {
    broker: Broker,
    wires: [Wire; SLOTS],
    mail: Vec<MailBatch>,
}

struct World {
    shards: Vec<Shard>,
    /// Batches under way, by sender and receiver.
    links: Vec<VecDeque<MailBatch>>,
    now: Now,
}

impl World {
    fn new(count: u16) -> Self {
        let limits = Limits {
            outbox_bytes_max: 2_000,
            queue_messages_max: 6,
            inflight_max: 4,
            receive_maximum: 3,
            topic_alias_max: 2,
            topic_alias_out_max: 2,
            subscriptions_per_session_max: 4,
            sessions_max: 5,
            retained_messages_max: 3,
            match_cache_entries_max: 3,
            burst_messages_max: 2,
            retained_pending_max: 3,
            ..Limits::default()
        };
        let clock = RetainedClock::default();
        let shards = (0..count).map(|number| {
            let config = BrokerConfig {
                shard: ShardId(number),
                shards: count,
                seed: u64::from(number) + 1,
                limits: limits.clone(),
                clock: clock.clone(),
                policies: std::sync::Arc::default(),
                streams: std::sync::Arc::default(),
                has_store: false,
                is_sealed: |payload| payload.starts_with(b"sealed"),
                numbers: waypost_core::journal::Numbers::default(),
            };
            Shard {
                broker: Broker::new(config, Box::new(AllowAll), Box::new(AllowAll)),
                wires: Default::default(),
                mail: (0..count).map(|_| MailBatch::default()).collect(),
            }
        });
        let links = usize::from(count) * usize::from(count);
        Self {
            shards: shards.collect(),
            links: (0..links).map(|_| VecDeque::new()).collect(),
            now: Now {
                monotonic_ms: 1_000,
                wall_ms: 1_700_000_000_000,
            },
        }
    }

    /// One operation; returns what of the input is left.
    fn operate<'a>(&mut self, what: u8, who: u8, how: u8, after: &'a [u8]) -> &'a [u8] {
        let at = Place {
            shard: usize::from(who) % self.shards.len(),
            slot: usize::from(who / 8) % SLOTS,
        };
        match what % 16 {
            0 | 1 => self.connect(at, how),
            2 | 3 => self.subscribe(at, what, how),
            4 => self.unsubscribe(at, what, how),
            5..=8 => self.publish(at, what, how),
            9 => self.answer(at, how),
            10 => self.answer_wrongly(at, how),
            11 => {
                let (packet, after) = after.split_at(usize::from(how).min(after.len()));
                self.give(at, packet.to_vec());
                return after;
            }
            12 => self.advance(u64::from(how) * u64::from(how)),
            13 => self.deliver_mail(usize::from(how)),
            14 if how < 64 => self.cut(at),
            14 => self.stall(at, how & 1 == 1),
            _ if how == 255 => {
                self.call(at.shard, |broker, now, net| broker.handle_drain(now, net));
            }
            _ => self.disconnect(at, how),
        }
        after
    }

    fn connect(&mut self, at: Place, how: u8) {
        if !self.wire(at).is_open {
            let wire = self.wire(at);
            *wire = Wire::default();
            wire.is_open = true;
            let id = at.id();
            self.call(at.shard, |broker, now, net| {
                broker.handle_open(id, Peer::default(), now, net);
            });
        }
        let version = pick(&VERSIONS, how);
        let client_id = pick(&CLIENT_IDS, how / 3);
        let mut properties = PropertyBuffer::new();
        properties.push(Property::SessionExpiryInterval(u32::from(how % 5) * 2));
        if how & 32 != 0 {
            properties.push(Property::ReceiveMaximum(2));
            properties.push(Property::MaximumPacketSize(60));
            properties.push(Property::TopicAliasMaximum(1));
        }
        let is_v5 = version == ProtocolVersion::V5;
        let will = (how & 64 != 0)
            .then(|| Topic::parse("a/b").ok())
            .flatten()
            .map(|topic| Will {
                topic,
                payload: b"will",
                qos: QoS::AtLeastOnce,
                retain: how & 1 == 1,
                properties: Properties::EMPTY,
            });
        let connect = Connect {
            version,
            clean_start: how & 128 != 0 || (!is_v5 && client_id.is_empty()),
            keep_alive: u16::from(how % 4) * 10,
            client_id,
            properties: if is_v5 {
                properties.as_properties()
            } else {
                Properties::EMPTY
            },
            will,
            user_name: None,
            password: None,
        };
        self.send_as(at, version, &Packet::Connect(connect));
    }

    fn subscribe(&mut self, at: Place, what: u8, how: u8) {
        let Ok(filter) = Filter::parse(filter(what, how)) else {
            return;
        };
        let is_v5 = self.version(at) == ProtocolVersion::V5;
        let options = SubscriptionOptions {
            qos: qos(how / 8),
            no_local: is_v5 && how & 32 != 0 && filter.shared().is_none(),
            retain_as_published: is_v5 && how & 64 != 0,
            retain_handling: RetainHandling::default(),
        };
        let mut properties = PropertyBuffer::new();
        if is_v5 && how & 128 != 0 {
            properties.push(Property::SubscriptionIdentifier(u32::from(how)));
        }
        let weight = what.to_string();
        if is_v5 && what & 32 != 0 {
            properties.push(Property::UserProperty("waypost-weight", &weight));
        }
        let requests = [SubscriptionRequest { filter, options }];
        if let Some(packet_id) = PacketId::new(7) {
            let packet = Subscribe::new(packet_id, properties.as_properties(), &requests);
            self.send(at, &Packet::Subscribe(packet));
        }
    }

    fn unsubscribe(&mut self, at: Place, what: u8, how: u8) {
        let Ok(filter) = Filter::parse(filter(what, how)) else {
            return;
        };
        if let Some(packet_id) = PacketId::new(8) {
            let packet =
                Unsubscribe::new(packet_id, Properties::EMPTY, std::slice::from_ref(&filter));
            self.send(at, &Packet::Unsubscribe(packet));
        }
    }

    fn publish(&mut self, at: Place, what: u8, how: u8) {
        let qos = qos(how);
        let is_v5 = self.version(at) == ProtocolVersion::V5;
        let mut properties = PropertyBuffer::new();
        if is_v5 && what & 16 != 0 {
            properties.push(Property::TopicAlias(1 + u16::from(how % 2)));
        }
        if is_v5 && what & 32 != 0 {
            properties.push(Property::MessageExpiryInterval(u32::from(how % 8)));
            properties.push(Property::UserProperty("waypost-key", pick(&KEYS, how)));
        }
        let payload = vec![how; usize::from(how & 15) * usize::from(what & 64)];
        let publish = Publish {
            dup: qos > QoS::AtMostOnce && what & 128 != 0,
            qos,
            retain: how & 64 != 0,
            topic: if is_v5 && what & 16 != 0 && how & 128 != 0 {
                ""
            } else {
                pick(&TOPICS, how / 4)
            },
            packet_id: (qos > QoS::AtMostOnce)
                .then(|| PacketId::new(1 + u16::from(how / 32)))
                .flatten(),
            properties: properties.as_properties(),
            payload: &payload,
        };
        self.send(at, &Packet::Publish(publish));
    }

    /// What a well-behaved client does next.
    fn answer(&mut self, at: Place, how: u8) {
        let is_v5 = self.version(at) == ProtocolVersion::V5;
        if let Some((answer, packet_id)) = self.wire(at).owed.pop_front() {
            let may_refuse = is_v5 && !matches!(answer, Answer::PubComp);
            let reason = if may_refuse && how & 64 != 0 {
                ReasonCode::UnspecifiedError
            } else {
                ReasonCode::Success
            };
            self.acknowledge(at, answer, packet_id, reason);
        }
    }

    fn answer_wrongly(&mut self, at: Place, how: u8) {
        let answer = pick(&[Answer::PubAck, Answer::PubRec, Answer::PubComp], how);
        let is_v5 = self.version(at) == ProtocolVersion::V5;
        let reason = if is_v5 && how & 128 != 0 {
            ReasonCode::PacketIdentifierNotFound
        } else {
            ReasonCode::Success
        };
        let Some(packet_id) = PacketId::new(u16::from(how / 4 % 8)) else {
            return;
        };
        match how & 64 {
            0 => self.acknowledge(at, answer, packet_id, ReasonCode::Success),
            _ => self.send(at, &Packet::PubRel(Ack::new(packet_id, reason))),
        }
    }

    fn acknowledge(&mut self, at: Place, answer: Answer, packet_id: PacketId, reason: ReasonCode) {
        let ack = Ack::new(packet_id, reason);
        self.send(
            at,
            &match answer {
                Answer::PubAck => Packet::PubAck(ack),
                Answer::PubRec => Packet::PubRec(ack),
                Answer::PubComp => Packet::PubComp(ack),
            },
        );
    }

    fn disconnect(&mut self, at: Place, how: u8) {
        let reason = if self.version(at) == ProtocolVersion::V5 && how & 1 == 1 {
            ReasonCode::DisconnectWithWillMessage
        } else {
            ReasonCode::Success
        };
        let packet = Disconnect {
            reason,
            properties: Properties::EMPTY,
        };
        self.send(at, &Packet::Disconnect(packet));
    }

    fn stall(&mut self, at: Place, is_stalled: bool) {
        let wire = self.wire(at);
        wire.is_stalled = is_stalled;
        if !is_stalled && wire.is_open && std::mem::take(&mut wire.outbox_bytes) > 0 {
            let id = at.id();
            self.call(at.shard, |broker, now, net| {
                broker.handle_writable(id, now, net);
            });
        }
    }

    fn cut(&mut self, at: Place) {
        if std::mem::take(self.wire(at)).is_open {
            let id = at.id();
            self.call(at.shard, |broker, now, net| {
                broker.handle_closed(id, now, net);
            });
        }
    }

    /// Moves the clock, stopping at every deadline on the way.
    fn advance(&mut self, ms: u64) {
        let end = self.now.monotonic_ms + ms;
        for _ in 0..STEPS_MAX {
            let timeouts = self.shards.iter().enumerate();
            let next = timeouts
                .filter_map(|(shard, state)| Some((state.broker.next_timeout()?, shard)))
                .min();
            let due = next.filter(|(due, _)| *due <= end);
            let to = due.map_or(end, |(due, _)| due.max(self.now.monotonic_ms));
            self.now.wall_ms += to - self.now.monotonic_ms;
            self.now.monotonic_ms = to;
            let Some((_, shard)) = due else { return };
            self.call(shard, |broker, now, net| broker.handle_timeout(now, net));
        }
        panic!("the timers do not come to rest");
    }

    /// Delivers one batch of one link.
    fn deliver_mail(&mut self, choice: usize) {
        let waiting: Vec<usize> = (0..self.links.len())
            .filter(|link| self.links.get(*link).is_some_and(|link| !link.is_empty()))
            .collect();
        let Some(&link) = waiting.get(choice % waiting.len().max(1)) else {
            return;
        };
        let count = self.shards.len();
        let from = ShardId(u16::try_from(link / count).unwrap_or_default());
        if let Some(batch) = self.links.get_mut(link).and_then(VecDeque::pop_front) {
            self.call(link % count, |broker, now, net| {
                broker.handle_mail(from, batch, now, net);
            });
        }
    }

    /// All mail arrives, all clients go, all time passes: nothing may be broken.
    fn end(mut self) {
        for choice in 0..STEPS_MAX {
            if self.links.iter().all(VecDeque::is_empty) {
                break;
            }
            self.deliver_mail(choice);
        }
        assert!(
            self.links.iter().all(VecDeque::is_empty),
            "mail does not come to rest"
        );
        for shard in 0..self.shards.len() {
            for slot in 0..SLOTS {
                self.cut(Place { shard, slot });
            }
        }
        self.advance(100_000);
        for shard in &self.shards {
            assert_eq!(shard.broker.counters().invariants_broken, 0);
            assert_eq!(shard.broker.connections(), 0);
        }
    }

    fn wire(&mut self, at: Place) -> &mut Wire {
        at.of(&mut self.shards)
    }

    fn version(&mut self, at: Place) -> ProtocolVersion {
        self.wire(at).version.unwrap_or(ProtocolVersion::V5)
    }

    fn send(&mut self, at: Place, packet: &Packet<'_>) {
        let version = self.version(at);
        self.send_as(at, version, packet);
    }

    fn send_as(&mut self, at: Place, version: ProtocolVersion, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, version, &mut bytes);
        self.give(at, bytes);
    }

    /// Hands bytes to the broker as one packet, or keeps them while it reads nothing of this connection.
    fn give(&mut self, at: Place, bytes: Vec<u8>) {
        let wire = self.wire(at);
        if wire.is_open {
            wire.inbox.push_back(bytes);
            self.drain_inbox(at);
        }
    }

    fn drain_inbox(&mut self, at: Place) {
        for _ in 0..STEPS_MAX {
            let wire = self.wire(at);
            if wire.is_parked || !wire.is_open {
                return;
            }
            let Some(bytes) = wire.inbox.pop_front() else {
                return;
            };
            let id = at.id();
            let version = wire.version.unwrap_or(ProtocolVersion::V5);
            match decode(&bytes, version, Role::Client) {
                Ok(packet) => {
                    wire.note(&packet);
                    let frame = Frame {
                        bytes: &bytes,
                        shared: None,
                    };
                    self.call(at.shard, |broker, now, net| {
                        broker.handle_packet(id, &packet, frame, now, net);
                    });
                }
                Err(error) => {
                    wire.version = wire.version.or(error.connack);
                    self.call(at.shard, |broker, now, net| {
                        broker.handle_malformed(id, &error, now, net);
                    });
                    assert!(
                        !self.wire(at).is_open,
                        "a malformed packet ends the connection: {error}"
                    );
                }
            }
        }
    }

    /// Calls one shard's broker, then carries its mail away and hands over what it reads again.
    fn call(&mut self, shard: usize, call: impl FnOnce(&mut Broker, Now, &mut Net<'_>)) {
        let count = self.shards.len();
        let now = self.now;
        let Some(state) = self.shards.get_mut(shard) else {
            return;
        };
        let mut net = Net {
            shard,
            wires: &mut state.wires,
            mail: &mut state.mail,
            read_again: Vec::new(),
            journal: waypost_core::journal::NoJournal,
        };
        call(&mut state.broker, now, &mut net);
        let read_again = net.read_again;
        for (to, batch) in state.mail.iter_mut().enumerate() {
            if let Some(link) = self.links.get_mut(shard * count + to)
                && !batch.is_empty()
            {
                link.push_back(std::mem::take(batch));
            }
        }
        for slot in read_again {
            self.drain_inbox(Place { shard, slot });
        }
    }
}

/// Where a connection is.
#[derive(Clone, Copy)]
struct Place {
    shard: usize,
    slot: usize,
}

impl Place {
    fn id(self) -> ConnectionId {
        ConnectionId(u32::try_from(self.slot).unwrap_or(u32::MAX))
    }
    fn of(self, shards: &mut [Shard]) -> &mut Wire {
        &mut shards[self.shard].wires[self.slot]
    }
}

fn filter(what: u8, how: u8) -> &'static str {
    if what & 16 != 0 {
        pick(&GROUP_FILTERS, how)
    } else {
        pick(&FILTERS, how)
    }
}
fn qos(how: u8) -> QoS {
    pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce], how)
}
fn pick<T: Copy>(all: &[T], choice: u8) -> T {
    all[usize::from(choice) % all.len()]
}
