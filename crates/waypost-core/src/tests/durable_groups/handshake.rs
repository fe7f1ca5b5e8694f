//! `QoS` 2 from a group to a member, and a crash at every step of it.

use std::collections::BTreeMap;

use waypost_mqtt::{Packet, PropertyBuffer, ProtocolVersion, Role, decode};

use super::receiver::Receiver;
use super::{FILTER, durable};
use crate::Limits;
use crate::journal::Table;
use crate::tests::world::{Client, World, options, v5};

const MESSAGES: u16 = 3;
/// The identifiers of the subscription to the group, and of the plain one beside it.
const GROUP: u32 = 1;
const PLAIN: u32 = 2;
/// Steps after which it has not come to its end.
const STEPS_MAX: usize = 2_000;

/// Who comes back after the crash with the session it had.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Back {
    Everybody,
    /// The other one begins a new session.
    OneOnly,
}

pub(super) struct Scene {
    pub world: World,
    publisher: Client,
    pub members: [Receiver; 2],
    /// Messages whose publisher was told that they are kept.
    pub kept: Vec<usize>,
    /// How often a message came as new, by its number, the subscription and, of plain ones, the member.
    pub came: BTreeMap<(usize, u32, usize), usize>,
    /// Who had a message of the group first.
    first: BTreeMap<usize, usize>,
}

impl Scene {
    pub fn new(shards: u16, has_plain: bool, seed: u64) -> Self {
        let mut world = World::seeded(shards, Limits::default(), seed);
        let publisher = world.connect(&v5("p"));
        let mut members = [const { None }; 2].map(|_: Option<()>| Receiver::default());
        for (at, member) in members.iter_mut().enumerate() {
            let shard = at % world.shards();
            let wire = world.connect(&durable(&format!("m{at}")).at(shard));
            world.subscribe_with(wire, &[(FILTER, options(2))], GROUP);
            if has_plain {
                world.subscribe_with(wire, &[("t", options(2))], PLAIN);
            }
            member.came(wire);
        }
        world.is_mail_held = true;
        world.is_store_held = true;
        Self {
            world,
            publisher,
            members,
            kept: Vec::new(),
            came: BTreeMap::new(),
            first: BTreeMap::new(),
        }
    }

    pub fn publish(&mut self) {
        for number in 0..MESSAGES {
            let none = PropertyBuffer::new();
            let (publisher, text) = (self.publisher, number.to_string());
            let packet_id = number + 1;
            self.world
                .publish_with(publisher, "t", &text, 2, packet_id, false, &none);
        }
    }

    pub fn read(&mut self) {
        for bytes in self.world.take_bytes(self.publisher) {
            if let Packet::PubRec(ack) = decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap()
                && !ack.reason.is_error()
            {
                self.kept.push(usize::from(ack.packet_id.value()) - 1);
            }
        }
        for (at, member) in self.members.iter_mut().enumerate() {
            for arrival in member.read(&mut self.world) {
                let whose = if arrival.subscription == PLAIN { at } else { 0 };
                let key = (arrival.number, arrival.subscription, whose);
                *self.came.entry(key).or_default() += 1;
                if arrival.subscription == GROUP {
                    self.first.entry(arrival.number).or_insert(at);
                }
            }
        }
    }

    /// One thing happens: mail, the store, or an answer. `false`: all has come to rest.
    pub fn step(&mut self) -> bool {
        // What is due at once.
        self.world.settle();
        self.read();
        if self.world.deliver_mail() || self.world.store_step() {
            return true;
        }
        let (world, members) = (&mut self.world, &mut self.members);
        members.iter_mut().any(|member| member.acknowledge(world))
    }

    pub fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if !self.step() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    pub fn come_back(&mut self, back: Back) {
        for (at, member) in self.members.iter_mut().enumerate() {
            let is_new = back == Back::OneOnly && at == 0;
            if is_new {
                member.forget();
            }
            let shard = (at + 1) % self.world.shards();
            let options = durable(&format!("m{at}")).at(shard).clean(is_new);
            let wire = self.world.open_at(shard);
            self.world.send_connect(wire, &options);
            member.came(wire);
        }
    }
}

/// What has to hold at the end.
pub(super) fn check(scene: &Scene, back: Back, has_plain: bool, says: &str) {
    check_arrivals(scene, back, has_plain, says);
    let store = &scene.world.store.durable;
    for (queue, owed) in &store.queues {
        assert!(owed.is_empty(), "{says}: {queue:?} is owed {owed:?}");
    }
    let sent = store.rows.keys().filter(|(table, _)| *table == Table::SENT);
    assert_eq!(sent.count(), 0, "{says}");
}

/// What members have to have got.
pub(super) fn check_arrivals(scene: &Scene, back: Back, has_plain: bool, says: &str) {
    for (key, count) in &scene.came {
        assert_eq!(*count, 1, "{says}: {key:?} came {count} times");
    }
    if back == Back::Everybody {
        for number in &scene.kept {
            assert!(
                scene.came.contains_key(&(*number, GROUP, 0)),
                "{says}: {number} is lost"
            );
            for at in 0..2 {
                let plain = (*number, PLAIN, at);
                assert_eq!(scene.came.contains_key(&plain), has_plain, "{says}: {at}");
            }
        }
    }
}

/// Goal: a message of a group that was published at `QoS` 2 comes to one member once, and is not lost, wherever in the
/// handshake the server dies; so does the same message by a member's plain subscription. If the session of who had it
/// ends instead, nobody else is sent it. 5 [MQTT-4.8.2-4], 5 [MQTT-4.8.2-5]
/// Method: the server dies after every number of steps.
#[test]
fn a_crash_at_any_step_makes_a_message_come_neither_twice_nor_never() {
    for (shards, shards_then) in [(1, 1), (2, 2), (4, 2), (2, 4)] {
        for has_plain in [false, true] {
            for back in [Back::Everybody, Back::OneOnly] {
                let mut has_ended = false;
                for steps in 0.. {
                    let says = format!("{shards} shards, plain {has_plain}, crash after {steps}");
                    let mut scene = Scene::new(shards, has_plain, 7);
                    scene.publish();
                    for _ in 0..steps {
                        has_ended = !scene.step();
                    }
                    scene.read();
                    scene.world.restart(shards_then, 1_000);
                    scene.come_back(back);
                    scene.run();
                    check(&scene, back, has_plain, &says);
                    if has_ended {
                        assert!(steps > 20, "{says}");
                        break;
                    }
                }
            }
        }
    }
}

/// Goal: the same if the member's session goes to another shard in the middle of it, or its network fails, and the server
/// dies after that.
#[test]
fn a_session_that_moves_in_the_handshake_takes_its_messages_along() {
    for shards in [1, 2, 4] {
        for is_cut in [false, true] {
            let mut has_ended = false;
            for steps in 0.. {
                for then in [0, 2, 5, 9, 14, STEPS_MAX] {
                    let says = format!("{shards} shards, cut {is_cut}, {steps} steps, then {then}");
                    let mut scene = Scene::new(shards, false, 3);
                    scene.publish();
                    for _ in 0..steps {
                        has_ended = !scene.step();
                    }
                    scene.read();
                    if is_cut {
                        for member in &scene.members {
                            scene.world.cut(member.wire.unwrap());
                        }
                    }
                    scene.come_back(Back::Everybody);
                    for _ in 0..then {
                        scene.step();
                    }
                    scene.read();
                    scene.world.restart(shards.into(), 1_000);
                    scene.come_back(Back::Everybody);
                    scene.run();
                    check(&scene, Back::Everybody, false, &says);
                }
                if has_ended {
                    break;
                }
            }
        }
    }
}

/// Goal: a session that ends in the handshake takes its rows along, and what it took for good is nobody else's.
/// 5 [MQTT-4.8.2-5]
#[test]
fn a_session_that_ends_in_the_handshake_leaves_nothing() {
    for shards in [1, 2, 4] {
        let mut has_ended = false;
        for steps in 0.. {
            let says = format!("{shards} shards, {steps} steps");
            let mut scene = Scene::new(shards, false, 9);
            scene.publish();
            for _ in 0..steps {
                has_ended = !scene.step();
            }
            scene.read();
            scene.come_back(Back::OneOnly);
            scene.run();
            check(&scene, Back::OneOnly, false, &says);
            if has_ended {
                break;
            }
        }
    }
}
