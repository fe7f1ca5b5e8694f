//! A session whose messages expire and whose queue is full, random crashes, and who reads what died.

use std::collections::BTreeMap;

use waypost_mqtt::{Packet, ProtocolVersion, Role, decode};

use super::{durable, expiring, policies};
use crate::Limits;
use crate::tests::durable_groups::receiver::Receiver;
use crate::tests::promises::{Dice, seeds};
use crate::tests::world::{Client, World, v5};

const ROUNDS_MAX: usize = 5_000;

/// What is known of a message.
#[derive(Default)]
struct Message {
    /// Its publisher was told that it is kept.
    is_kept: bool,
    came: usize,
    died: usize,
}

struct Play {
    world: World,
    dice: Dice,
    seed: u64,
    publisher: Client,
    session: Receiver,
    reader: Receiver,
    under_way: BTreeMap<u16, usize>,
    messages: Vec<Message>,
    last_id: u16,
    /// Dead letters that found the reader's queue full, as far as runs before the last one counted.
    dropped: u64,
}

impl Play {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            queue_messages_max: 12,
            inflight_max: 3,
            ..Limits::default()
        };
        let mut dice = Dice::new(seed ^ 0xdead);
        let shards = u16::try_from(1 + dice.below(4)).unwrap();
        let mut world = World::seeded(shards, limits, seed);
        world.adopt(&policies(None));
        for (name, filter) in [("session", "t"), ("reader", "dead")] {
            let client = world.connect(&durable(name));
            world.subscribe(client, filter, 2);
            world.cut(client);
        }
        let publisher = world.connect(&v5("p"));
        let mut play = Self {
            world,
            dice,
            seed,
            publisher,
            session: Receiver::default(),
            reader: Receiver::default(),
            under_way: BTreeMap::new(),
            messages: Vec::new(),
            last_id: 0,
            dropped: 0,
        };
        play.connect(false);
        play
    }

    fn connect(&mut self, is_session: bool) {
        let shard = self.dice.below(self.world.shards());
        let (name, receiver) = if is_session {
            ("session", &mut self.session)
        } else {
            ("reader", &mut self.reader)
        };
        let wire = self.world.open_at(shard);
        self.world.send_connect(wire, &durable(name).at(shard));
        receiver.came(wire);
    }

    fn publish(&mut self) {
        self.last_id += 1;
        let number = self.messages.len();
        self.messages.push(Message::default());
        self.under_way.insert(self.last_id, number);
        let properties = match self.dice.below(3) {
            0 => waypost_mqtt::PropertyBuffer::new(),
            seconds => expiring(2 * u32::try_from(seconds).unwrap()),
        };
        let (client, id) = (self.publisher, self.last_id);
        let text = number.to_string();
        self.world
            .publish_with(client, "t", &text, 2, id, false, &properties);
    }

    fn read_publisher(&mut self) {
        for bytes in self.world.take_bytes(self.publisher) {
            let packet = decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap();
            if let Packet::PubRec(ack) = packet {
                let number = self.under_way.remove(&ack.packet_id.value()).unwrap();
                self.messages[number].is_kept = true;
                self.world
                    .ack(self.publisher, "PUBREL", ack.packet_id.value());
            }
        }
    }

    /// Reads and acknowledges; returns whether there was anything.
    fn take(&mut self) -> bool {
        self.read_publisher();
        for arrival in self.session.read(&mut self.world) {
            self.messages[arrival.number].came += 1;
        }
        for arrival in self.reader.read(&mut self.world) {
            self.messages[arrival.number].died += 1;
        }
        for (number, message) in self.messages.iter().enumerate() {
            let Message { came, died, .. } = message;
            assert!(
                came + died <= 1,
                "seed {}: {number} came {came} times and died {died} times",
                self.seed
            );
        }
        let session = self.session.acknowledge(&mut self.world);
        self.reader.acknowledge(&mut self.world) || session
    }

    fn count_dropped(&mut self) {
        self.dropped += super::counted(&self.world, |counters| counters.dead_letters_dropped);
    }

    fn crash(&mut self) {
        self.take();
        (self.session.wire, self.reader.wire) = (None, None);
        self.count_dropped();
        let shards = 1 + self.dice.below(4);
        self.world.restart(shards, 1_000);
        self.under_way.clear();
        let publisher = self.world.open_at(0);
        self.world.send_connect(publisher, &v5("p"));
        self.publisher = publisher;
        self.connect(false);
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0 => {
                self.take();
                if let Some(wire) = self.session.wire.take() {
                    self.world.cut(wire);
                }
            }
            1 => {
                self.take();
                self.connect(true);
            }
            2..7 => self.publish(),
            7 if self.dice.one_in(4) => self.crash(),
            7 => {
                let ms = 200 * self.dice.below(8) as u64;
                self.world.advance(ms);
            }
            8 => self.world.is_store_held = self.dice.one_in(3),
            9 => self.world.is_mail_held = self.dice.one_in(3),
            10..13 => {
                self.world.store_step();
                self.world.settle();
            }
            13 => {
                self.world.deliver_mail();
            }
            _ => {
                self.take();
            }
        }
    }

    fn finish(&mut self) {
        self.crash();
        (self.world.is_store_held, self.world.is_mail_held) = (false, false);
        self.world.settle();
        self.connect(true);
        let mut idle = 0;
        for _ in 0..ROUNDS_MAX {
            idle = if self.take() { 0 } else { idle + 1 };
            if idle > 3 {
                return;
            }
            self.world.advance(100);
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    fn check(&mut self) {
        self.count_dropped();
        let lost: Vec<_> = (0..self.messages.len())
            .filter(|number| {
                let message = &self.messages[*number];
                message.is_kept && message.came + message.died == 0
            })
            .collect();
        let says = format!("seed {}: {lost:?}, {} dropped", self.seed, self.dropped);
        assert!(lost.len() as u64 <= self.dropped, "{says}");
        assert_eq!(super::owed(&self.world), 0, "{says}");
    }
}

/// Goal: of a session's messages each comes or dies, once; what is lost was counted. Method: messages expire and come to a
/// full queue while the session comes, goes and changes shards, mail and the store take their time, and the machine
/// crashes and comes back with other shards; who reads the dead letters is there again at once.
#[test]
fn each_message_comes_or_dies_once() {
    let mut died = 0;
    for seed in seeds(60) {
        let mut play = Play::new(seed);
        for _ in 0..300 {
            play.step();
        }
        play.finish();
        play.check();
        died += play
            .messages
            .iter()
            .filter(|message| message.died > 0)
            .count();
    }
    assert!(died > 0);
}
