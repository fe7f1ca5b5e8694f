//! What is promised of sessions that outlive the process, against a simple model: random clients on one to four
//! shards, while mail and the store lag behind, the disk refuses, and the machine stops at any moment.
//!
//! Goal: what was acknowledged to its publisher reaches every session that had subscribed before and does so still, at
//! `QoS` 2 once; nothing else does; order holds per publisher, topic and `QoS`; a session that was told of a
//! subscription has it until it ends; in the end the store holds nothing. Method: a script made from a seed, in which
//! every batch of mail and every step of the store is one of its choices. What a client was told counts; what it was
//! told is refused, or not told, may be so or not. A delayed message comes to whoever is subscribed from before its time
//! until the end, not before its time, and not at all once it was said to be cancelled or was replaced.

mod publisher;
mod subscriber;

use std::collections::BTreeMap;

use self::publisher::{Published, Publisher};
use self::subscriber::Subscriber;
use super::promises::{Dice, seeds};
use super::world::World;
use crate::Limits;
use crate::journal::{Refusal, Table};

const TOPICS: [&str; 3] = ["a", "a/b", "c"];
const FILTERS: [&str; 4] = ["a", "a/#", "c", "#"];

/// Rounds after which clients that take everything have not come to an end.
const ROUNDS_MAX: usize = 2_000;

/// One message: who published it and as what number.
type Number = (usize, u32);

struct Play {
    world: World,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    messages: BTreeMap<Number, Published>,
    /// Counts what was done.
    clock: u32,
    /// The disk refuses now and then.
    has_refusals: bool,
    /// Sessions end and begin anew.
    has_ends: bool,
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
        if seed % 7 > 3 {
            // Then everything is written down, and every publisher waits.
            world.configure(&[("all", &["#"]), ("a", &["a/#"])]);
        }
        let has_refusals = !seed.is_multiple_of(3);
        let may_be_refused = has_refusals || world.store.disk.is_some();
        Self {
            world,
            publishers: (0..3)
                .map(|at| Publisher::new((seed / 2 + at).is_multiple_of(2), may_be_refused))
                .collect(),
            subscribers: (0..3).map(|_| Subscriber::new()).collect(),
            messages: BTreeMap::new(),
            clock: 0,
            has_refusals,
            has_ends: !seed.is_multiple_of(5),
            seed,
        }
    }

    fn connect_publisher(&mut self, at: usize, cleanly: bool, dice: &mut Dice) {
        self.read_publisher(at);
        if self.publishers[at].is_beginning(&self.world) {
            return;
        }
        let shard = dice.below(self.world.shards());
        self.publishers[at].connect(at, shard, cleanly, &mut self.world);
        self.read_publisher(at);
    }

    fn connect_subscriber(&mut self, at: usize, cleanly: bool, dice: &mut Dice) {
        if self.subscribers[at].is_beginning(&self.world) {
            return;
        }
        let shard = dice.below(self.world.shards());
        self.subscribers[at].connect(at, shard, self.clock, cleanly, &mut self.world);
        self.read(at);
    }

    fn publish(&mut self, at: usize, dice: &mut Dice) {
        self.read_publisher(at);
        let (clock, messages) = (self.clock, &mut self.messages);
        self.publishers[at].publish(at, dice, clock, messages, &mut self.world);
    }

    fn read_publisher(&mut self, at: usize) {
        let (clock, seed, messages) = (self.clock, self.seed, &mut self.messages);
        self.publishers[at].read(at, clock, seed, messages, &mut self.world);
    }

    fn read(&mut self, at: usize) {
        for publisher in 0..self.publishers.len() {
            self.read_publisher(publisher);
        }
        let (clock, seed, messages) = (self.clock, self.seed, &self.messages);
        self.subscribers[at].read(at, clock, seed, messages, &mut self.world);
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
        self.world.store.refuses = None;
        self.world.crash_and_restore();
        self.note_due();
        for at in 0..self.publishers.len() {
            self.connect_publisher(at, false, dice);
        }
    }

    /// Everybody comes back and acknowledges everything.
    fn finish(&mut self, dice: &mut Dice) {
        self.world.is_mail_held = false;
        self.world.is_store_held = false;
        self.world.store.refuses = None;
        if let Some(disk) = &mut self.world.store.disk {
            disk.heal();
        }
        self.world.settle();
        if self.world.store.disk.is_some() || self.has_refusals {
            // From here on the power stays.
            self.crash(dice);
        }
        for at in 0..self.subscribers.len() {
            self.read(at);
            self.connect_subscriber(at, false, dice);
        }
        // What the store had refused is tried again after a while.
        self.wait(5_000);
        for round in 0.. {
            assert!(
                round < ROUNDS_MAX,
                "seed {}: it does not come to rest",
                self.seed
            );
            self.clock += 1;
            for at in 0..self.publishers.len() {
                self.read_publisher(at);
                if !self.publishers[at].is_done() {
                    let wire = self.publishers[at].wire;
                    if wire.is_none_or(|wire| self.world.is_closed(wire)) {
                        self.connect_publisher(at, false, dice);
                    }
                }
            }
            for at in 0..self.subscribers.len() {
                self.read(at);
                let wire = self.subscribers[at].wire;
                if wire.is_none_or(|wire| self.world.is_closed(wire)) {
                    self.connect_subscriber(at, false, dice);
                }
                self.subscribers[at].acknowledge(usize::MAX, &mut self.world);
                self.read(at);
            }
            let is_waiting = self.world.broker(0).delayed() > 0;
            if is_waiting {
                self.wait(1_000);
            }
            let is_done = self.subscribers.iter().all(Subscriber::is_done)
                && self.publishers.iter().all(Publisher::is_done)
                && !is_waiting;
            if is_done {
                return;
            }
        }
    }

    fn check(&self) {
        let seed = self.seed;
        for (at, subscriber) in self.subscribers.iter().enumerate() {
            subscriber.check(at, seed, &self.messages);
        }
        let store = &self.world.store.durable;
        for (queue, entries) in &store.queues {
            assert!(entries.is_empty(), "seed {seed}: {queue:?} {entries:?}");
        }
        for table in [Table::SENT, Table::RECEIVED, Table::DELAYED] {
            let rows = store.rows.keys().filter(|(of, _)| *of == table);
            let rows: Vec<_> = rows.collect();
            assert!(rows.is_empty(), "seed {seed}: {rows:?}");
        }
        for shard in 0..self.world.shards() {
            let broker = self.world.broker(shard);
            let owed = broker.messages_owed();
            assert_eq!(owed, 0, "seed {seed}, shard {shard}");
            let counters = broker.counters();
            assert_eq!(counters.invariants_broken, 0, "seed {seed}, shard {shard}");
        }
    }

    fn step(&mut self, dice: &mut Dice) {
        self.clock += 1;
        let at = dice.below(3);
        match dice.below(30) {
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
                self.subscribers[at].acknowledge(count, &mut self.world);
            }
            20 => {
                if !self.subscribers[at].is_beginning(&self.world)
                    && let Some(wire) = self.subscribers[at].wire.take()
                {
                    self.world.cut(wire);
                }
            }
            21 => {
                self.read(at);
                let cleanly = self.has_ends && dice.one_in(8);
                self.connect_subscriber(at, cleanly, dice);
            }
            22 => {
                if let Some(wire) = self.subscribers[at].wire
                    && !self.world.is_closed(wire)
                {
                    self.world.stall(wire, dice.one_in(2));
                }
            }
            23 => {
                self.read(at);
                if dice.one_in(3) {
                    self.subscribers[at].unsubscribe(dice, self.clock, &mut self.world);
                } else {
                    self.subscribers[at].subscribe(dice, self.clock, &mut self.world);
                }
            }
            24 => {
                let cleanly = self.has_ends && dice.one_in(6);
                self.connect_publisher(at, cleanly, dice);
            }
            25 => {
                if self.has_ends && dice.one_in(10) {
                    self.read(at);
                    self.subscribers[at].leave(self.clock, &mut self.world);
                }
            }
            26 => self.trouble(dice),
            28 | 29 => self.wait(dice.below(2_000) as u64),
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

    /// Time passes. Everybody has looked at what came before.
    fn wait(&mut self, ms: u64) {
        for at in 0..self.subscribers.len() {
            self.read(at);
        }
        self.world.advance(ms);
        self.note_due();
    }

    /// The time of some delayed messages may have come.
    fn note_due(&mut self) {
        let delayed = self.messages.values_mut();
        for delayed in delayed.filter_map(|message| message.delayed.as_mut()) {
            if delayed.due_wall_ms <= self.world.now.wall_ms {
                delayed.due.get_or_insert(self.clock);
            }
        }
    }

    /// The disk is full, or fails, for a while; or works again.
    fn trouble(&mut self, dice: &mut Dice) {
        if !self.has_refusals {
            return;
        }
        if let Some(disk) = &mut self.world.store.disk {
            disk.trouble();
            return;
        }
        let refuses = &mut self.world.store.refuses;
        *refuses = match refuses {
            Some(_) => None,
            None if dice.one_in(2) => Some(Refusal::Full),
            None => Some(Refusal::Failed),
        };
    }
}

fn play(seed: u64) {
    let mut dice = Dice::new(seed);
    let shards = 1 + u16::try_from(seed % 4).unwrap();
    let mut play = Play::new(shards, seed);
    for at in 0..3 {
        play.connect_publisher(at, false, &mut dice);
        play.connect_subscriber(at, false, &mut dice);
        play.clock += 1;
        for _ in 0..2 {
            play.subscribers[at].subscribe(&mut dice, play.clock, &mut play.world);
        }
        play.clock += 1;
        play.read(at);
    }
    play.world.is_mail_held = true;
    play.world.is_store_held = true;
    for _ in 0..300 {
        play.step(&mut dice);
    }
    play.finish(&mut dice);
    play.check();
}

#[test]
fn what_was_acknowledged_outlives_any_crash() {
    for seed in seeds(150) {
        play(seed);
    }
}
