//! What is promised of sessions that outlive the process, against a simple model: random clients on one to four
//! shards, while mail and the store lag behind and the machine stops at any moment.
//!
//! Goal: what was acknowledged to its publisher reaches every session that had subscribed before, at `QoS` 2 once;
//! nothing else does; order holds per publisher, topic and `QoS`; in the end the store holds nothing. Method: a script
//! made from a seed, in which every batch of mail and every step of the store is one of its choices.

use std::collections::{BTreeMap, BTreeSet};

use waypost_mqtt::{Packet, PacketId, PropertyBuffer, ProtocolVersion, QoS, Role, decode};

use super::promises::{Dice, seeds};
use super::world::{Client, World, v5};
use crate::Limits;
use crate::journal::Table;

const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 4] = ["a", "a/#", "c", "#"];

/// One message: who published it and as what number.
type Number = (usize, u32);

#[derive(Default)]
struct Publisher {
    wire: Option<Client>,
    published: u32,
    /// By packet identifier, at the `QoS` they were published at.
    unfinished: BTreeMap<u16, (u32, u8)>,
    last_id: u16,
}

#[derive(Default)]
struct Subscriber {
    wire: Option<Client>,
    filters: BTreeMap<&'static str, u8>,
    /// In the order they came, at their `QoS`, repeats left out.
    delivered: Vec<(Number, u8)>,
    /// `QoS` 2 identifiers taken over and not released.
    taken_over: BTreeSet<u16>,
    /// Acknowledgements not sent yet.
    owed: Vec<(&'static str, u16)>,
}

struct Play {
    world: World,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Topic and `QoS` of everything published.
    messages: BTreeMap<Number, (&'static str, u8)>,
    acknowledged: BTreeSet<Number>,
    seed: u64,
}

impl Play {
    fn new(shards: u16, seed: u64) -> Self {
        let limits = Limits {
            inflight_max: 4,
            burst_messages_max: 3,
            outbox_bytes_max: 2_000,
            ..Limits::default()
        };
        let mut world = World::seeded(shards, limits, seed);
        if seed % 2 == 1 {
            world.store.on_disk(seed);
        }
        Self {
            world,
            publishers: (0..3).map(|_| Publisher::default()).collect(),
            subscribers: (0..3).map(|_| Subscriber::default()).collect(),
            messages: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            seed,
        }
    }

    fn connect_publisher(&mut self, at: usize, shard: usize) {
        let wire = self.world.open_at(shard);
        self.world
            .send_connect(wire, &v5(&format!("p{at}")).at(shard));
        let publisher = &mut self.publishers[at];
        publisher.wire = Some(wire);
        publisher.unfinished.clear();
    }

    fn connect_subscriber(&mut self, at: usize, shard: usize) {
        let options = v5(&format!("s{at}")).persistent(1_000_000).at(shard);
        let wire = self.world.open_at(shard);
        self.world.send_connect(wire, &options);
        let subscriber = &mut self.subscribers[at];
        subscriber.wire = Some(wire);
        subscriber.owed.clear();
    }

    fn subscribe(&mut self, dice: &mut Dice) {
        for at in 0..self.subscribers.len() {
            let wire = self.subscribers[at].wire.unwrap();
            for filter in FILTERS {
                if dice.one_in(2) {
                    let qos = u8::try_from(1 + dice.below(2)).unwrap();
                    let line = self.world.subscribe(wire, filter, qos);
                    assert!(line.starts_with("SUBACK"), "seed {}: {line}", self.seed);
                    self.subscribers[at].filters.insert(filter, qos);
                }
            }
        }
    }

    fn publish(&mut self, at: usize, dice: &mut Dice) {
        self.read_publisher(at);
        let publisher = &mut self.publishers[at];
        let Some(wire) = publisher.wire.filter(|wire| !self.world.is_closed(*wire)) else {
            return;
        };
        publisher.published += 1;
        publisher.last_id = publisher.last_id.wrapping_add(1).max(1);
        let (number, id) = (publisher.published, publisher.last_id);
        let (topic, qos) = (TOPICS[dice.below(3)], 1 + dice.below(2));
        let qos = u8::try_from(qos).unwrap();
        publisher.unfinished.insert(id, (number, qos));
        self.messages.insert((at, number), (topic, qos));
        let payload = format!("{at}-{number}");
        self.world.publish_with(
            wire,
            topic,
            &payload,
            qos,
            id,
            false,
            &PropertyBuffer::new(),
        );
    }

    fn read_publisher(&mut self, at: usize) {
        let Some(wire) = self.publishers[at].wire else {
            return;
        };
        for bytes in self.world.take_bytes(wire) {
            let publisher = &mut self.publishers[at];
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::PubAck(ack) => {
                    let (number, _) = publisher.unfinished.remove(&ack.packet_id.value()).unwrap();
                    self.acknowledged.insert((at, number));
                }
                Packet::PubRec(ack) => {
                    let id = ack.packet_id.value();
                    let (number, _) = publisher.unfinished[&id];
                    self.acknowledged.insert((at, number));
                    if !self.world.is_closed(wire) {
                        self.world.ack(wire, "PUBREL", id);
                    }
                }
                Packet::PubComp(ack) => {
                    publisher.unfinished.remove(&ack.packet_id.value());
                }
                _ => {}
            }
        }
    }

    /// Looks at everything a subscriber received, as a client does.
    fn read(&mut self, at: usize) {
        let Some(wire) = self.subscribers[at].wire else {
            return;
        };
        let seed = self.seed;
        for bytes in self.world.take_bytes(wire) {
            let Subscriber {
                delivered,
                taken_over,
                owed,
                ..
            } = &mut self.subscribers[at];
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, PacketId::value);
                    let text = std::str::from_utf8(publish.payload).unwrap();
                    let (publisher, number) = text.split_once('-').unwrap();
                    let number = (publisher.parse().unwrap(), number.parse().unwrap());
                    let qos = u8::from(publish.qos);
                    assert!(
                        self.messages.contains_key(&number),
                        "seed {seed}: {number:?} is invented"
                    );
                    if publish.qos == QoS::ExactlyOnce {
                        owed.push(("PUBREC", id));
                        if !taken_over.insert(id) {
                            assert!(publish.dup, "seed {seed}: {id} used again");
                            continue;
                        }
                        assert!(
                            !delivered.contains(&(number, qos)),
                            "seed {seed}, s{at}: {number:?} twice at QoS 2"
                        );
                        delivered.push((number, qos));
                    } else {
                        owed.push(("PUBACK", id));
                        if !delivered.contains(&(number, qos)) {
                            delivered.push((number, qos));
                        }
                    }
                }
                Packet::PubRel(ack) => {
                    let id = ack.packet_id.value();
                    taken_over.remove(&id);
                    owed.push(("PUBCOMP", id));
                }
                _ => {}
            }
        }
    }

    fn acknowledge(&mut self, at: usize, count: usize) {
        let Some(wire) = self.subscribers[at]
            .wire
            .filter(|wire| !self.world.is_closed(*wire))
        else {
            return;
        };
        let owed = &mut self.subscribers[at].owed;
        let now: Vec<_> = owed.drain(..count.min(owed.len())).collect();
        for (kind, id) in now {
            self.world.ack(wire, kind, id);
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        for at in 0..self.publishers.len() {
            // What left before reached its publisher.
            self.read_publisher(at);
        }
        for at in 0..self.subscribers.len() {
            if dice.one_in(2) {
                self.read(at);
            }
            self.subscribers[at].wire = None;
        }
        self.world.crash_and_restore();
        let shards = self.world.shards();
        for at in 0..self.publishers.len() {
            self.connect_publisher(at, dice.below(shards));
        }
    }

    /// Everybody comes back and acknowledges everything.
    fn finish(&mut self) {
        self.world.is_mail_held = false;
        self.world.is_store_held = false;
        self.world.settle();
        if self.world.store.disk.is_some() {
            // From here on the power stays.
            self.crash(&mut Dice::new(self.seed));
        }
        for at in 0..self.publishers.len() {
            self.read_publisher(at);
        }
        let shards = self.world.shards();
        for at in 0..self.subscribers.len() {
            self.read(at);
            self.connect_subscriber(at, at % shards);
        }
        for _ in 0..2_000 {
            let mut is_any = false;
            for at in 0..self.publishers.len() {
                self.read_publisher(at);
            }
            for at in 0..self.subscribers.len() {
                self.read(at);
                is_any |= !self.subscribers[at].owed.is_empty();
                self.acknowledge(at, usize::MAX);
            }
            if !is_any {
                return;
            }
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    fn check(&self) {
        let seed = self.seed;
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            let mut last: BTreeMap<_, u32> = BTreeMap::new();
            for (number, qos) in &subscriber.delivered {
                let (topic, published) = self.messages[number];
                let matching = subscriber.filters.iter().filter(|(filter, _)| {
                    let filter = waypost_mqtt::Filter::parse(filter).unwrap();
                    filter.matches(waypost_mqtt::Topic::parse(topic).unwrap())
                });
                let granted = matching.map(|(_, granted)| *granted).max();
                let expected = granted.map(|granted| granted.min(published));
                assert_eq!(Some(*qos), expected, "seed {seed}, s{at}: {number:?}");
                let before = last.insert((number.0, topic, *qos), number.1);
                assert!(
                    before.is_none_or(|before| before < number.1),
                    "seed {seed}, s{at}: {number:?} after {before:?}: {:?}",
                    subscriber.delivered
                );
            }
            for number in &self.acknowledged {
                let (topic, _) = self.messages[number];
                let is_wanted = subscriber.filters.keys().any(|filter| {
                    let filter = waypost_mqtt::Filter::parse(filter).unwrap();
                    filter.matches(waypost_mqtt::Topic::parse(topic).unwrap())
                });
                let is_there = subscriber
                    .delivered
                    .iter()
                    .any(|(delivered, _)| delivered == number);
                assert!(
                    is_there || !is_wanted,
                    "seed {seed}: {number:?} was acknowledged and never came to s{at}"
                );
            }
        }
        let store = &self.world.store.durable;
        for (queue, entries) in &store.queues {
            assert!(entries.is_empty(), "seed {seed}: {queue:?} {entries:?}");
        }
        let sent = store.rows.keys().filter(|(table, _)| *table == Table::SENT);
        assert_eq!(sent.count(), 0, "seed {seed}");
        for shard in 0..self.world.shards() {
            let owed = self.world.broker(shard).messages_owed();
            assert_eq!(owed, 0, "seed {seed}, shard {shard}");
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        let shards = self.world.shards();
        let at = dice.below(3);
        match dice.below(24) {
            0..6 => self.publish(at, dice),
            6..11 => {
                self.world.deliver_mail();
            }
            11..16 => {
                self.world.store_step();
                self.world.settle();
            }
            16..20 => {
                self.read(at);
                let count = dice.below(4);
                self.acknowledge(at, count);
            }
            20 => {
                if let Some(wire) = self.subscribers[at].wire.take() {
                    self.world.cut(wire);
                }
            }
            21 => {
                self.read(at);
                self.connect_subscriber(at, dice.below(shards));
            }
            22 => {
                if let Some(wire) = self.subscribers[at].wire
                    && !self.world.is_closed(wire)
                {
                    self.world.stall(wire, dice.one_in(2));
                }
            }
            _ => {
                if dice.one_in(6) {
                    self.crash(dice);
                } else if let Some(disk) = self.world.store.disk.as_mut()
                    && dice.one_in(6)
                {
                    disk.doom(200);
                }
            }
        }
        if self.world.store.is_dead() {
            self.crash(dice);
        }
    }
}

#[test]
fn what_was_acknowledged_outlives_any_crash() {
    for seed in seeds(150) {
        let mut dice = Dice::new(seed);
        let shards = 1 + u16::try_from(seed % 4).unwrap();
        let mut play = Play::new(shards, seed);
        for at in 0..3 {
            play.connect_publisher(at, dice.below(shards.into()));
            play.connect_subscriber(at, dice.below(shards.into()));
        }
        play.subscribe(&mut dice);
        play.world.is_mail_held = true;
        play.world.is_store_held = true;
        for _ in 0..300 {
            play.step(&mut dice);
        }
        play.finish();
        play.check();
    }
}
