//! Random members of a group that is kept, random crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_mqtt::{Packet, PropertyBuffer, ProtocolVersion, Role, decode};

use super::receiver::{Arrival, Receiver};
use super::{FILTER, durable, owed};
use crate::journal::{Refusal, Table};
use crate::tests::promises::{Dice, seeds};
use crate::tests::world::{Client, World, options, v5};
use crate::{Limits, Policies, TopicPolicy};

const MEMBERS: usize = 3;
/// Rounds after which everybody has everything.
const ROUNDS_MAX: usize = 5_000;

/// What is known of a message.
#[derive(Default)]
struct Message {
    qos: u8,
    /// Its publisher was told that it is kept.
    is_kept: bool,
    /// Who had it of the group, at which `QoS`, each time as something new.
    came: Vec<(usize, u8)>,
    /// By its plain subscription.
    came_plainly: bool,
    /// To who reads dead letters, each time as something new.
    died: usize,
}

/// What a play with crashes knows.
struct Play {
    world: World,
    dice: Dice,
    seed: u64,
    publisher: Client,
    members: [Receiver; MEMBERS],
    granted: [u8; MEMBERS],
    /// The first member has a plain subscription beside the group's.
    has_plain: bool,
    /// Who reads dead letters, if there are any; members refuse messages then.
    reader: Option<Receiver>,
    /// Published and not yet acknowledged to the publisher, by packet identifier.
    under_way: BTreeMap<u16, usize>,
    messages: Vec<Message>,
    last_id: u16,
}

const GROUP: u32 = 1;
const PLAIN: u32 = 2;
const DEAD: u32 = 3;

fn policies() -> Arc<Policies> {
    let policy = TopicPolicy {
        filter: "t".into(),
        dead_letter: Some("dead".into()),
        ..TopicPolicy::default()
    };
    Arc::new(Policies::new(vec![policy]).unwrap())
}

impl Play {
    fn new(seed: u64) -> Self {
        let limits = Limits {
            group_window_messages_max: 3,
            group_credit_max: 2,
            ..Limits::default()
        };
        let mut dice = Dice::new(seed ^ 0xd0);
        let shards = u16::try_from(1 + dice.below(4)).unwrap();
        let mut world = World::seeded(shards, limits, seed);
        if seed % 2 == 1 {
            world.store.on_disk(seed);
        }
        let publisher = world.connect(&v5("p"));
        let has_plain = dice.one_in(2);
        let mut granted = [2; MEMBERS];
        for (at, qos) in granted.iter_mut().enumerate() {
            if dice.one_in(3) {
                *qos = 1;
            }
            let member = world.connect(&durable(&format!("m{at}")));
            world.subscribe_with(member, &[(FILTER, options(*qos))], GROUP);
            if has_plain && at == 0 {
                world.subscribe_with(member, &[("t", options(2))], PLAIN);
            }
            world.cut(member);
        }
        let reader = dice.one_in(2).then(|| {
            world.adopt(&policies());
            let reader = world.connect(&durable("reader"));
            world.subscribe_with(reader, &[("dead", options(2))], DEAD);
            world.cut(reader);
            Receiver::default()
        });
        world.is_mail_held = dice.one_in(2);
        Self {
            world,
            dice,
            seed,
            publisher,
            members: [const { None }; MEMBERS].map(|_: Option<()>| Receiver::default()),
            granted,
            has_plain,
            reader,
            under_way: BTreeMap::new(),
            messages: Vec::new(),
            last_id: 0,
        }
    }

    fn connect(&mut self, at: usize) {
        let shard = self.dice.below(self.world.shards());
        let options = durable(&format!("m{at}")).at(shard);
        let wire = self.world.open_at(shard);
        self.world.send_connect(wire, &options);
        self.members[at].came(wire);
    }

    fn connect_reader(&mut self) {
        let shard = self.dice.below(self.world.shards());
        if let Some(reader) = &mut self.reader {
            let wire = self.world.open_at(shard);
            self.world.send_connect(wire, &durable("reader").at(shard));
            reader.came(wire);
        }
    }

    /// Reads dead letters; returns whether there was anything to do.
    fn read_dead(&mut self) -> bool {
        let Some(reader) = &mut self.reader else {
            return false;
        };
        for arrival in reader.read(&mut self.world) {
            let message = &mut self.messages[arrival.number];
            assert_eq!(arrival.qos, message.qos, "seed {}", self.seed);
            message.died += 1;
            let is_once = message.died == 1 || message.qos == 1;
            assert!(is_once, "seed {}: {} died twice", self.seed, arrival.number);
        }
        reader.acknowledge(&mut self.world)
    }

    /// A member takes a message over, or refuses it.
    fn answer(&mut self, at: usize) -> bool {
        let member = &mut self.members[at];
        let refuses = self.reader.is_some() && !self.has_plain && self.dice.one_in(4);
        (refuses && member.refuse(&mut self.world)) || member.acknowledge(&mut self.world)
    }

    fn publish(&mut self) {
        if self.world.is_closed(self.publisher) {
            return;
        }
        self.last_id += 1;
        let number = self.messages.len();
        let qos = if self.dice.one_in(3) { 1 } else { 2 };
        self.messages.push(Message {
            qos,
            ..Message::default()
        });
        self.under_way.insert(self.last_id, number);
        let none = PropertyBuffer::new();
        let (client, id) = (self.publisher, self.last_id);
        self.world
            .publish_with(client, "t", &number.to_string(), qos, id, false, &none);
    }

    fn read_publisher(&mut self) {
        for bytes in self.world.take_bytes(self.publisher) {
            let packet = decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap();
            let (Packet::PubAck(ack) | Packet::PubRec(ack)) = packet else {
                continue;
            };
            let number = self.under_way.remove(&ack.packet_id.value()).unwrap();
            self.messages[number].is_kept = !ack.reason.is_error();
        }
    }

    fn read(&mut self, at: usize) {
        for arrival in self.members[at].read(&mut self.world) {
            self.arrived(at, arrival);
        }
    }

    fn arrived(&mut self, at: usize, arrival: Arrival) {
        let (seed, number) = (self.seed, arrival.number);
        let message = &mut self.messages[number];
        if arrival.subscription == PLAIN {
            assert!(
                !message.came_plainly || arrival.qos == 1,
                "seed {seed}: {number} came twice to {at}"
            );
            message.came_plainly = true;
            return;
        }
        assert_eq!(
            arrival.qos,
            message.qos.min(self.granted[at]),
            "seed {seed}"
        );
        message.came.push((at, arrival.qos));
        let refused = self.members.iter().flat_map(|member| &member.refused);
        let refused = refused.filter(|refused| **refused == number).count();
        let once = message.came.iter().filter(|(_, qos)| *qos == 2).count();
        assert!(
            once == 0 || message.came.last() == Some(&(at, 1)) || once <= 1 + refused,
            "seed {seed}: {number} came twice: {:?}",
            message.came
        );
    }

    fn crash(&mut self) {
        // What left before reached its publisher; what reached a member it may not have seen.
        self.read_publisher();
        for at in 0..MEMBERS {
            if self.dice.one_in(2) {
                self.read(at);
            }
            self.members[at].wire = None;
        }
        if let Some(reader) = &mut self.reader {
            reader.wire = None;
        }
        let shards = 1 + self.dice.below(4);
        self.world.restart(shards, 1_000);
        self.under_way.clear();
        let publisher = self.world.open_at(0);
        self.world.send_connect(publisher, &v5("p"));
        self.publisher = publisher;
    }

    fn step(&mut self) {
        let at = self.dice.below(MEMBERS);
        match self.dice.below(24) {
            0 => {
                if let Some(wire) = self.members[at].wire {
                    self.read(at);
                    self.members[at].wire = None;
                    self.world.cut(wire);
                }
            }
            1..3 => {
                self.read(at);
                self.connect(at);
            }
            3..9 => self.publish(),
            9 if self.dice.one_in(3) => self.crash(),
            9..11 => self.world.is_store_held = self.dice.one_in(2),
            11..15 => {
                self.world.store_step();
                self.world.settle();
            }
            15..18 => {
                self.world.deliver_mail();
            }
            18 => self.trouble(),
            19 if self.dice.one_in(2) => self.connect_reader(),
            19 => {
                self.read_dead();
            }
            _ => {
                self.read_publisher();
                self.read(at);
                for _ in 0..self.dice.below(4) {
                    self.answer(at);
                    self.read(at);
                }
            }
        }
        if self.world.store.is_dead() {
            self.crash();
        }
    }

    /// The disk refuses for a while, or the power is about to go.
    fn trouble(&mut self) {
        if let Some(disk) = self.world.store.disk.as_mut() {
            if self.dice.one_in(6) {
                disk.doom(200);
            }
            return;
        }
        let refuses = self.dice.one_in(4);
        let why = if self.dice.one_in(2) {
            Refusal::Full
        } else {
            Refusal::Failed
        };
        self.world.store.refuses = refuses.then_some(why);
        if !refuses {
            self.world.advance(2_000);
        }
    }

    /// Everybody comes back and acknowledges everything.
    fn finish(&mut self) {
        self.world.store.refuses = None;
        self.crash();
        self.world.is_store_held = false;
        self.world.is_mail_held = false;
        self.world.settle();
        for at in 0..MEMBERS {
            self.connect(at);
        }
        self.connect_reader();
        for _ in 0..ROUNDS_MAX {
            let mut is_any = false;
            for at in 0..MEMBERS {
                self.read(at);
                is_any |= self.answer(at);
                self.read(at);
                is_any |= !self.members[at].is_idle();
            }
            is_any |= self.read_dead();
            if !is_any {
                return;
            }
        }
        panic!("seed {}: it does not come to rest", self.seed);
    }

    fn check(&self) {
        let seed = self.seed;
        for (number, message) in self.messages.iter().enumerate() {
            let is_accepted = |member: &Receiver| member.accepted.contains(&number);
            let is_settled = self.members.iter().any(is_accepted) || message.died > 0;
            assert!(
                !message.is_kept || is_settled,
                "seed {seed}: {number} is lost, QoS {}",
                message.qos
            );
            assert!(
                !message.is_kept || !self.has_plain || message.came_plainly,
                "seed {seed}: {number} is lost to the plain subscription"
            );
        }
        assert_eq!(owed(&self.world), 0, "seed {seed}");
        let store = &self.world.store.durable;
        for (queue, entries) in &store.queues {
            assert!(entries.is_empty(), "seed {seed}: {queue:?} {entries:?}");
        }
        let sent = store.rows.keys().filter(|(table, _)| *table == Table::SENT);
        assert_eq!(sent.count(), 0, "seed {seed}");
    }
}

/// Goal: no message of which its publisher was told that it is kept is lost to its group, and none that a member is sent
/// at `QoS` 2 comes to anybody again. Method: members come, go and change shards, in every state of the handshake, mail
/// and the store take their time, the store refuses now and then, and the machine crashes and comes back with other
/// shards.
#[test]
fn nothing_acknowledged_is_lost_to_a_group_by_crashes_nor_doubled() {
    for seed in seeds(60) {
        let mut play = Play::new(seed);
        for _ in 0..300 {
            play.step();
        }
        play.finish();
        play.check();
    }
}
