//! A publisher: what it has not finished, and what it says again in a session that outlived its connection.

use std::collections::BTreeMap;

use waypost_mqtt::{Packet, ProtocolVersion, Role, decode};

use super::{Number, TOPICS};
use crate::tests::promises::Dice;
use crate::tests::world::{Client, World, v5};

/// What was published, and what is known of it.
pub(super) struct Published {
    pub topic: &'static str,
    pub qos: u8,
    /// When it was published first.
    pub from: u32,
    /// When it was acknowledged. It was refused, or nothing was said, as long as it is not.
    pub acknowledged: Option<u32>,
    /// In which of its publisher's sessions.
    pub session: u32,
    /// Said again on another connection.
    pub is_repeated: bool,
}

/// A message that is not finished.
struct Unfinished {
    packet_id: u16,
    number: u32,
    is_received: bool,
}

#[derive(Default)]
pub(super) struct Publisher {
    pub wire: Option<Client>,
    /// CONNACK has not come.
    is_coming: bool,
    /// Its session outlives its connections.
    is_persistent: bool,
    wants_clean: bool,
    session: u32,
    published: u32,
    unfinished: Vec<Unfinished>,
    last_id: u16,
    /// Identifiers that a refusal made free.
    free: Vec<u16>,
}

impl Publisher {
    pub fn new(is_persistent: bool) -> Self {
        Self {
            is_persistent,
            wants_clean: true,
            ..Self::default()
        }
    }

    pub fn is_done(&self) -> bool {
        self.wire.is_some() && !self.is_coming && self.unfinished.is_empty()
    }

    /// Its session may be about to begin anew. Of two connections nobody knows which is seen first: the client waits.
    pub fn is_beginning(&self, world: &World) -> bool {
        let is_open = self.wire.is_some_and(|wire| !world.is_closed(wire));
        is_open && self.is_coming && self.wants_clean
    }

    pub fn connect(&mut self, at: usize, shard: usize, cleanly: bool, world: &mut World) {
        let options = v5(&format!("p{at}")).at(shard);
        self.wants_clean |= cleanly || !self.is_persistent;
        let options = if self.is_persistent {
            options.persistent(1_000_000).clean(self.wants_clean)
        } else {
            options
        };
        if self.wants_clean {
            self.unfinished.clear();
            self.free.clear();
        }
        let wire = world.open_at(shard);
        self.wire = Some(wire);
        self.is_coming = true;
        world.send_connect(wire, &options);
    }

    pub fn publish(
        &mut self,
        at: usize,
        dice: &mut Dice,
        clock: u32,
        messages: &mut BTreeMap<Number, Published>,
        world: &mut World,
    ) {
        let wire = self.wire.filter(|wire| !world.is_closed(*wire));
        let Some(wire) = wire.filter(|_| !self.is_coming) else {
            return;
        };
        self.published += 1;
        let packet_id = self.free.pop().unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        let (topic, qos) = (TOPICS[dice.below(3)], 1 + dice.below(2));
        let qos = u8::try_from(qos).unwrap();
        self.unfinished.push(Unfinished {
            packet_id,
            number: self.published,
            is_received: false,
        });
        let published = Published {
            topic,
            qos,
            from: clock,
            acknowledged: None,
            session: self.session,
            is_repeated: false,
        };
        messages.insert((at, self.published), published);
        let payload = format!("{at}-{}", self.published);
        world.publish_as(wire, topic, &payload, qos, packet_id, false);
    }

    fn finish(&mut self, packet_id: u16) -> Option<u32> {
        let is_it = |unfinished: &Unfinished| unfinished.packet_id == packet_id;
        let at = self.unfinished.iter().position(is_it)?;
        Some(self.unfinished.remove(at).number)
    }

    /// Looks at everything that came, as a client does.
    pub fn read(
        &mut self,
        at: usize,
        clock: u32,
        seed: u64,
        messages: &mut BTreeMap<Number, Published>,
        world: &mut World,
    ) {
        let Some(wire) = self.wire else {
            return;
        };
        for bytes in world.take_bytes(wire) {
            let mut acknowledge = |number| {
                let message = messages.get_mut(&(at, number)).unwrap();
                message.acknowledged.get_or_insert(clock);
            };
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::ConnAck(ack) if ack.reason.is_error() => {}
                Packet::ConnAck(ack) => {
                    self.is_coming = false;
                    let has_received = self.unfinished.iter().any(|one| one.is_received);
                    assert!(
                        ack.session_present || !has_received || self.wants_clean,
                        "seed {seed}: the session of p{at} is gone"
                    );
                    self.wants_clean = false;
                    if ack.session_present {
                        self.repeat(at, wire, messages, world);
                    } else {
                        self.unfinished.clear();
                        self.session += 1;
                    }
                }
                Packet::PubAck(ack) => {
                    let packet_id = ack.packet_id.value();
                    let number = self.finish(packet_id).expect("a message of this number");
                    if ack.reason.is_error() {
                        self.free.push(packet_id);
                    } else {
                        acknowledge(number);
                    }
                }
                Packet::PubRec(ack) => {
                    let packet_id = ack.packet_id.value();
                    if ack.reason.is_error() {
                        self.finish(packet_id);
                        self.free.push(packet_id);
                        continue;
                    }
                    let is_it = |one: &&mut Unfinished| one.packet_id == packet_id;
                    let one = self.unfinished.iter_mut().find(is_it).unwrap();
                    one.is_received = true;
                    acknowledge(one.number);
                    if !world.is_closed(wire) {
                        world.ack(wire, "PUBREL", packet_id);
                    }
                }
                Packet::PubComp(ack) => {
                    self.finish(ack.packet_id.value());
                }
                _ => {}
            }
        }
    }

    /// 5 [MQTT-4.4.0-1]: what is not finished is said again, in its order.
    fn repeat(
        &mut self,
        at: usize,
        wire: Client,
        messages: &mut BTreeMap<Number, Published>,
        world: &mut World,
    ) {
        for one in &self.unfinished {
            if one.is_received {
                world.ack(wire, "PUBREL", one.packet_id);
                continue;
            }
            let number = (at, one.number);
            let message = messages.get_mut(&number).unwrap();
            message.is_repeated = true;
            let payload = format!("{at}-{}", one.number);
            world.publish_as(
                wire,
                message.topic,
                &payload,
                message.qos,
                one.packet_id,
                true,
            );
        }
    }
}
