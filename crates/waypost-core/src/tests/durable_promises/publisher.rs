//! A publisher: what it has not finished, and what it says again in a session that outlived its connection.

use std::collections::BTreeMap;

use waypost_mqtt::{
    Packet, PacketId, Property, PropertyBuffer, ProtocolVersion, Publish, QoS, ReasonCode, Role,
    decode,
};

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
    /// What it is if it has to wait.
    pub delayed: Option<Delayed>,
}

/// A message that comes later.
#[derive(Clone, Copy)]
pub(super) struct Delayed {
    seconds: u64,
    /// Not before this time.
    pub due_wall_ms: u64,
    /// When that had come.
    pub due: Option<u32>,
    /// The number of the first message of its name.
    name: u32,
    /// Another one of its name.
    replaced_by: Option<u32>,
    cancelled: Cancelled,
    /// An earlier word under its name came again: perhaps after it.
    is_doubtful: bool,
}

impl Delayed {
    /// Neither replaced nor cancelled, as far as is known.
    pub fn is_left_alone(&self) -> bool {
        self.replaced_by.is_none() && self.cancelled == Cancelled::No && !self.is_doubtful
    }
}

/// What is known of a delayed message that was to be cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cancelled {
    No,
    Perhaps,
    Yes,
}

/// A message that is not finished.
struct Unfinished {
    packet_id: u16,
    number: u32,
    is_received: bool,
    /// It is to cancel the message of this number.
    cancels: bool,
    is_repeated: bool,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Publisher {
    pub wire: Option<Client>,
    /// CONNACK has not come.
    is_coming: bool,
    /// Its session outlives its connections.
    is_persistent: bool,
    /// The store refuses now and then.
    may_be_refused: bool,
    wants_clean: bool,
    session: u32,
    published: u32,
    unfinished: Vec<Unfinished>,
    last_id: u16,
    /// Identifiers that a refusal made free.
    free: Vec<u16>,
}

impl Publisher {
    pub fn new(is_persistent: bool, may_be_refused: bool) -> Self {
        Self {
            is_persistent,
            may_be_refused,
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
        if dice.one_in(6) {
            self.cancel(at, wire, dice, messages, world);
            return;
        }
        self.published += 1;
        let number = self.published;
        let packet_id = self.begin(number, false);
        let (mut topic, qos) = (TOPICS[dice.below(3)], 1 + dice.below(2));
        let mut delayed = None;
        if dice.one_in(2) {
            let mut name = number;
            let seconds = 1 + dice.below(4) as u64;
            // Now and then in the place of an earlier one.
            let before = 1 + u32::try_from(dice.below(4)).unwrap();
            if let Some(earlier) = messages.get_mut(&(at, number.saturating_sub(before)))
                && let Some(replaced) = &mut earlier.delayed
                && replaced.replaced_by.is_none()
            {
                (topic, name) = (earlier.topic, replaced.name);
                replaced.replaced_by = Some(number);
            }
            delayed = Some(Delayed {
                seconds,
                due_wall_ms: world.now.wall_ms + seconds * 1_000,
                due: None,
                name,
                replaced_by: None,
                cancelled: Cancelled::No,
                is_doubtful: false,
            });
        }
        let published = Published {
            topic,
            qos: u8::try_from(qos).unwrap(),
            from: clock,
            acknowledged: None,
            session: self.session,
            is_repeated: false,
            delayed,
        };
        published.send((at, number), wire, packet_id, false, world);
        messages.insert((at, number), published);
    }

    fn begin(&mut self, number: u32, cancels: bool) -> u16 {
        let packet_id = self.free.pop().unwrap_or_else(|| {
            self.last_id += 1;
            self.last_id
        });
        self.unfinished.push(Unfinished {
            packet_id,
            number,
            is_received: false,
            cancels,
            is_repeated: false,
        });
        packet_id
    }

    /// Takes back one of the last messages, if it is a delayed one that nothing was said about since.
    fn cancel(
        &mut self,
        at: usize,
        wire: Client,
        dice: &mut Dice,
        messages: &mut BTreeMap<Number, Published>,
        world: &mut World,
    ) {
        let before = u32::try_from(dice.below(4)).unwrap();
        let number = (at, self.published.saturating_sub(before));
        let Some(message) = messages.get_mut(&number) else {
            return;
        };
        let Some(delayed) = message
            .delayed
            .as_mut()
            .filter(|delayed| delayed.replaced_by.is_none() && delayed.cancelled == Cancelled::No)
        else {
            return;
        };
        delayed.cancelled = Cancelled::Perhaps;
        let packet_id = self.begin(number.1, true);
        message.send_cancel(number, wire, packet_id, false, world);
    }

    fn finish(&mut self, packet_id: u16) -> Option<Unfinished> {
        let is_it = |unfinished: &Unfinished| unfinished.packet_id == packet_id;
        let at = self.unfinished.iter().position(is_it)?;
        Some(self.unfinished.remove(at))
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
            let mut acknowledge = |one: &Unfinished, reason| {
                let message = messages.get_mut(&(at, one.number)).unwrap();
                if one.cancels {
                    message.hear_cancelled(reason, one.is_repeated);
                } else {
                    message.acknowledged.get_or_insert(clock);
                }
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
                    let one = self.finish(packet_id).expect("a message of this number");
                    if ack.reason.is_error() {
                        self.free.push(packet_id);
                    } else {
                        acknowledge(&one, ack.reason);
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
                    acknowledge(one, ack.reason);
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
        for one in &mut self.unfinished {
            if one.is_received {
                world.ack(wire, "PUBREL", one.packet_id);
                continue;
            }
            let number = (at, one.number);
            doubt_later(number, self.may_be_refused, messages);
            let message = messages.get_mut(&number).unwrap();
            if one.cancels {
                one.is_repeated = true;
                message.send_cancel(number, wire, one.packet_id, true, world);
            } else {
                message.is_repeated = true;
                message.send(number, wire, one.packet_id, true, world);
            }
        }
    }
}

/// A message, or the word that cancels it, comes again. It may take the place of later ones of the name: at `QoS` 1, and at
/// `QoS` 2 if the store refused it the first time and took those.
fn doubt_later(of: Number, may_be_refused: bool, messages: &mut BTreeMap<Number, Published>) {
    let repeated = &messages[&of];
    let Some(name) = repeated.delayed.map(|delayed| delayed.name) else {
        return;
    };
    if repeated.qos == 1 || may_be_refused {
        for (_, message) in messages.range_mut((of.0, of.1 + 1)..=(of.0, u32::MAX)) {
            if let Some(delayed) = &mut message.delayed {
                delayed.is_doubtful |= delayed.name == name;
            }
        }
    }
}

impl Published {
    fn send(&self, of: Number, wire: Client, packet_id: u16, dup: bool, world: &mut World) {
        let payload = format!("{}-{}", of.0, of.1);
        self.send_payload(&payload, of, wire, packet_id, dup, world);
    }

    fn send_cancel(&self, of: Number, wire: Client, packet_id: u16, dup: bool, world: &mut World) {
        self.send_payload("", of, wire, packet_id, dup, world);
    }

    fn send_payload(
        &self,
        payload: &str,
        (at, _): Number,
        wire: Client,
        packet_id: u16,
        dup: bool,
        world: &mut World,
    ) {
        let mut properties = PropertyBuffer::new();
        if let Some(Delayed { seconds, name, .. }) = self.delayed {
            let name = format!("{at}-{name}");
            properties
                .push(Property::UserProperty(
                    "waypost-delay",
                    &seconds.to_string(),
                ))
                .push(Property::UserProperty("waypost-delay-id", &name));
        }
        let publish = Publish {
            dup,
            qos: QoS::try_from(self.qos).unwrap(),
            retain: false,
            topic: self.topic,
            packet_id: PacketId::new(packet_id),
            properties: properties.as_properties(),
            payload: payload.as_bytes(),
        };
        world.send(wire, &Packet::Publish(publish));
    }

    /// The answer to a cancel came. One that was sent again may have been heard before.
    fn hear_cancelled(&mut self, reason: ReasonCode, is_repeated: bool) {
        if let Some(delayed) = &mut self.delayed {
            delayed.cancelled = match reason {
                _ if is_repeated => Cancelled::Perhaps,
                ReasonCode::Success => Cancelled::Yes,
                _ => Cancelled::No,
            };
        }
    }

    /// Whether it must not have come: it was cancelled, or replaced before its time.
    pub fn must_not_come(&self, at: usize, messages: &BTreeMap<Number, Self>) -> bool {
        let is_sure = |delayed: &Delayed| !self.is_repeated && !delayed.is_doubtful;
        let Some(delayed) = self.delayed.filter(is_sure) else {
            return false;
        };
        let replaced = delayed.replaced_by.and_then(|by| messages.get(&(at, by)));
        let replaced = replaced.and_then(|by| by.acknowledged);
        let due = delayed.due.unwrap_or(u32::MAX);
        delayed.cancelled == Cancelled::Yes || replaced.is_some_and(|replaced| replaced < due)
    }
}
