//! What is promised of subscriptions that begin with what was, against the streams themselves: random readers on one to
//! four shards, while messages are published, mail and the store lag behind, the disk refuses, and the machine stops.
//!
//! Goal: a subscription gets what its stream has from where it begins on: each record once and in order, without a gap;
//! what is at `QoS` 0 may be missing. One that ended gets the beginning of that. What was acknowledged to its publisher
//! is in the stream. In the end nothing is left. Method: a script made from a seed; every subscription has an identifier
//! of its own, by which its records are known. Where it begins is found between SUBSCRIBE and SUBACK: what it gets has
//! to be right for one of the lengths that the stream had meanwhile.

mod reader;

use waypost_mqtt::{Packet, PacketId, PropertyBuffer, ProtocolVersion, Role, decode};

use self::reader::Reader;
use super::promises::{Dice, seeds};
use super::world::{Client, World, v5};
use crate::Limits;
use crate::journal::{Refusal, Table};
use crate::stream::StreamId;

const TOPICS: [&str; 4] = ["a", "b/x", "b/y", "c"];
const ALL: StreamId = StreamId(1);

/// Rounds after which readers that take everything have not come to an end.
const ROUNDS_MAX: usize = 2_000;

#[derive(Default)]
struct Publisher {
    wire: Option<Client>,
    published: u16,
    /// By packet identifier: what was published and is not answered.
    unanswered: Vec<(u16, String)>,
}

struct Play {
    world: World,
    publishers: Vec<Publisher>,
    readers: Vec<Reader>,
    acknowledged: Vec<String>,
    has_refusals: bool,
    has_crashes: bool,
    seed: u64,
}

impl Play {
    fn new(shards: u16, seed: u64) -> Self {
        let limits = Limits {
            inflight_max: 4,
            burst_messages_max: 3,
            outbox_bytes_max: 3_000,
            history_window_messages_max: 6,
            ..Limits::default()
        };
        let mut world = World::seeded(shards, limits, seed);
        world.configure(&[("all", &["#"]), ("b", &["b/#"])]);
        if seed % 2 == 1 {
            world.store.on_disk(seed);
        }
        let has_refusals = seed.is_multiple_of(3);
        Self {
            world,
            publishers: (0..2).map(|_| Publisher::default()).collect(),
            readers: (0..4)
                .map(|at| Reader::new(at, at < 3, has_refusals))
                .collect(),
            acknowledged: Vec::new(),
            has_refusals,
            has_crashes: !seed.is_multiple_of(4),
            seed,
        }
    }

    fn publish(&mut self, at: usize, dice: &mut Dice) {
        self.hear(at);
        let shard = dice.below(self.world.shards());
        let publisher = &mut self.publishers[at];
        let wire = publisher.wire.filter(|wire| !self.world.is_closed(*wire));
        let wire = wire.unwrap_or_else(|| {
            publisher.unanswered.clear();
            let wire = self.world.open_at(shard);
            let options = v5(&format!("p{at}")).at(shard);
            self.world.send_connect(wire, &options);
            wire
        });
        publisher.wire = Some(wire);
        publisher.published += 1;
        let (number, topic) = (publisher.published, TOPICS[dice.below(4)]);
        let payload = format!("{at}-{number}");
        let qos = u8::try_from(dice.below(5).min(2)).unwrap();
        if qos > 0 {
            publisher
                .unanswered
                .push((number, format!("{topic}={payload}")));
        }
        let none = PropertyBuffer::new();
        self.world
            .publish_with(wire, topic, &payload, qos, number, false, &none);
    }

    /// Looks at what a publisher is told.
    fn hear(&mut self, at: usize) {
        let Some(wire) = self.publishers[at].wire else {
            return;
        };
        for bytes in self.world.take_bytes(wire) {
            let packet = decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap();
            let (Packet::PubAck(ack) | Packet::PubRec(ack)) = packet else {
                continue;
            };
            let publisher = &mut self.publishers[at];
            let id = ack.packet_id.value();
            if let Some(place) = publisher.unanswered.iter().position(|(of, _)| *of == id) {
                let (_, message) = publisher.unanswered.remove(place);
                if !ack.reason.is_error() {
                    self.acknowledged.push(message);
                }
            }
            if matches!(packet, Packet::PubRec(_)) && !ack.reason.is_error() {
                self.world
                    .ack(wire, "PUBREL", PacketId::value(ack.packet_id));
            }
        }
    }

    fn read(&mut self, at: usize) {
        self.readers[at].read(self.seed, &mut self.world);
    }

    fn crash(&mut self, dice: &mut Dice) {
        for at in 0..self.publishers.len() {
            self.hear(at);
            self.publishers[at] = Publisher {
                published: self.publishers[at].published,
                ..Publisher::default()
            };
        }
        for at in 0..self.readers.len() {
            if dice.one_in(2) {
                self.read(at);
            }
            self.readers[at].crash();
        }
        self.world.store.refuses = None;
        self.world.crash_and_restore();
    }

    fn step(&mut self, dice: &mut Dice) {
        let at = dice.below(4);
        match dice.below(34) {
            0..8 => self.publish(at / 2, dice),
            8..12 => {
                self.world.deliver_mail();
            }
            12..19 => {
                self.world.store_step();
                self.world.settle();
            }
            19..24 => {
                self.read(at);
                let count = dice.below(6);
                self.readers[at].acknowledge(count, &mut self.world);
            }
            24 => {
                self.read(at);
                self.readers[at].cut(&mut self.world);
            }
            25 | 26 => {
                self.read(at);
                let shard = dice.below(self.world.shards());
                let cleanly = dice.one_in(8);
                self.readers[at].connect(shard, cleanly, &mut self.world);
            }
            27 => {
                if let Some(wire) = self.readers[at].wire
                    && !self.world.is_closed(wire)
                {
                    self.world.stall(wire, dice.one_in(2));
                }
            }
            28 | 29 => {
                self.read(at);
                self.readers[at].subscribe(dice, &mut self.world);
            }
            30 => {
                self.read(at);
                self.readers[at].unsubscribe(dice, &mut self.world);
            }
            31 => self.trouble(dice),
            32 => {
                for at in 0..self.readers.len() {
                    self.read(at);
                }
                self.world.advance(dice.below(2_000) as u64);
            }
            _ => {
                if self.has_crashes && dice.one_in(5) {
                    self.crash(dice);
                } else if let Some(disk) = self.world.store.disk.as_mut()
                    && self.has_crashes
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

    /// The disk is full, or fails, for a while; or works again.
    fn trouble(&mut self, dice: &mut Dice) {
        if !self.has_refusals {
            return;
        }
        if let Some(disk) = &mut self.world.store.disk {
            if self.has_crashes {
                disk.trouble();
            }
            return;
        }
        let refuses = &mut self.world.store.refuses;
        *refuses = match refuses {
            Some(_) => None,
            None if dice.one_in(2) => Some(Refusal::Full),
            None => Some(Refusal::Failed),
        };
    }

    /// Everybody comes back and takes everything.
    fn finish(&mut self, dice: &mut Dice) {
        self.world.is_mail_held = false;
        self.world.is_store_held = false;
        self.world.store.refuses = None;
        if let Some(disk) = &mut self.world.store.disk {
            disk.heal();
        }
        self.world.settle();
        if self.world.store.is_dead() {
            self.crash(dice);
        }
        for at in 0..self.publishers.len() {
            self.publish(at, dice);
            self.hear(at);
        }
        for round in 0.. {
            assert!(round < ROUNDS_MAX, "seed {}: no rest", self.seed);
            self.world.advance(if round % 8 == 0 { 2_000 } else { 0 });
            let mut is_done = round > 16;
            for at in 0..self.readers.len() {
                self.read(at);
                if !self.readers[at].is_there(&self.world) {
                    let shard = dice.below(self.world.shards());
                    self.readers[at].connect(shard, false, &mut self.world);
                    is_done = false;
                }
                if let Some(wire) = self.readers[at].wire {
                    self.world.stall(wire, false);
                }
                is_done &= !self.readers[at].acknowledge(usize::MAX, &mut self.world);
                self.read(at);
            }
            if is_done {
                return;
            }
        }
    }

    fn check(&mut self) {
        let seed = self.seed;
        let streams = &self.world.store.durable.streams;
        let shown = streams.shown(ALL);
        for message in &self.acknowledged {
            let count = shown.iter().filter(|entered| *entered == message).count();
            assert_eq!(count, 1, "seed {seed}: {message} was acknowledged");
        }
        for reader in &self.readers {
            reader.check(seed, streams);
        }
        // Every session ends: nothing is left.
        for at in 0..self.readers.len() {
            self.readers[at].connect(0, true, &mut self.world);
            self.world.settle();
            self.readers[at].cut(&mut self.world);
            let last = self.world.connect(&v5(&format!("r{at}")));
            self.world.cut(last);
        }
        self.world.advance(5_000);
        for shard in 0..self.world.shards() {
            let broker = self.world.broker(shard);
            let left = (broker.history_readers(), broker.history_reads_waiting());
            assert_eq!(left, (0, 0), "seed {seed}, shard {shard}");
            assert_eq!(broker.counters().invariants_broken, 0, "seed {seed}");
        }
        // What the store refused to delete goes at a start.
        self.world.crash_and_restore();
        self.world.settle();
        let store = &self.world.store.durable;
        let is_left = |table: &Table| [Table::READERS, Table::PICKED].contains(table);
        let rows = store.rows.keys().filter(|(table, _)| is_left(table));
        assert_eq!(rows.count(), 0, "seed {seed}");
        for (queue, entries) in &store.queues {
            assert!(entries.is_empty(), "seed {seed}: {queue:?} {entries:?}");
        }
    }
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let shards = 1 + u16::try_from(seed % 4).unwrap();
    let mut play = Play::new(shards, seed);
    for at in 0..4 {
        let shard = dice.below(usize::from(shards));
        play.readers[at].connect(shard, true, &mut play.world);
        play.world.settle();
        play.read(at);
        play.publish(at / 2, &mut dice);
        play.readers[at].subscribe(&mut dice, &mut play.world);
    }
    play.world.is_mail_held = true;
    play.world.is_store_held = true;
    for _ in 0..400 {
        play.step(&mut dice);
    }
    play.finish(&mut dice);
    play.check();
}

#[test]
fn a_reader_gets_its_stream_without_gap_or_double() {
    for seed in seeds(100) {
        play(seed);
    }
}
