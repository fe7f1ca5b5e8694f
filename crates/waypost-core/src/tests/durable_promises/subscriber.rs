//! A subscriber: what it asked for and when, what that promises it, and what came.

use std::collections::{BTreeMap, BTreeSet};

use waypost_mqtt::{
    Filter, Packet, PacketId, Properties, Property, PropertyBuffer, ProtocolVersion, QoS,
    ReasonCode, Role, Subscribe, SubscriptionRequest, Topic, Unsubscribe, decode,
};

use super::publisher::Published;
use super::{FILTERS, Number};
use crate::tests::promises::Dice;
use crate::tests::world::{Client, World, options, v5};

/// A subscription as it may have been, from when to when.
struct Grant {
    filter: &'static str,
    qos: u8,
    from: u32,
    /// When it was certainly no more.
    to: u32,
    /// From when to when it certainly was.
    sure: Option<(u32, u32)>,
}

impl Grant {
    fn matches(&self, topic: &str) -> bool {
        let filter = Filter::parse(self.filter).unwrap();
        filter.matches(Topic::parse(topic).unwrap())
    }
}

/// A SUBSCRIBE (with the place of what it asks for) or an UNSUBSCRIBE that was not answered.
struct Asked {
    filter: &'static str,
    grant: Option<usize>,
}

#[derive(Default)]
pub(super) struct Subscriber {
    pub wire: Option<Client>,
    /// CONNACK has not come.
    is_coming: bool,
    /// The next CONNECT has to begin anew: the client has forgotten its session, or was not told that it had begun.
    wants_clean: bool,
    grants: Vec<Grant>,
    asked: BTreeMap<u16, Asked>,
    last_id: u16,
    /// In the order they came, at their `QoS`, repeats left out.
    delivered: Vec<(Number, u8)>,
    /// `QoS` 2 identifiers taken over and not released.
    taken_over: BTreeSet<u16>,
    /// Acknowledgements not sent yet.
    owed: Vec<(&'static str, u16)>,
}

impl Subscriber {
    pub fn new() -> Self {
        Self {
            wants_clean: true,
            ..Self::default()
        }
    }

    /// It is connected and has nothing to say.
    pub fn is_done(&self) -> bool {
        self.wire.is_some() && !self.is_coming && self.owed.is_empty()
    }

    fn is_there(&self, world: &World) -> Option<Client> {
        let wire = self.wire.filter(|wire| !world.is_closed(*wire));
        wire.filter(|_| !self.is_coming)
    }

    /// What is certain is so no more: it is about to be changed.
    fn doubt(&mut self, clock: u32, about: impl Fn(&Grant) -> bool) {
        for grant in self.grants.iter_mut().filter(|grant| about(grant)) {
            if let Some((_, to)) = &mut grant.sure {
                *to = clock.min(*to);
            }
        }
    }

    /// Its session may be about to begin anew. Of two connections nobody knows which is seen first: the client waits.
    pub fn is_beginning(&self, world: &World) -> bool {
        let is_open = self.wire.is_some_and(|wire| !world.is_closed(wire));
        is_open && self.is_coming && self.wants_clean
    }

    pub fn connect(
        &mut self,
        at: usize,
        shard: usize,
        clock: u32,
        cleanly: bool,
        world: &mut World,
    ) {
        self.wants_clean |= cleanly;
        if self.wants_clean {
            self.doubt(clock, |_| true);
        }
        self.owed.clear();
        self.asked.clear();
        let options = v5(&format!("s{at}")).persistent(1_000_000).at(shard);
        let wire = world.open_at(shard);
        self.wire = Some(wire);
        self.is_coming = true;
        world.send_connect(wire, &options.clean(self.wants_clean));
    }

    /// Its session ends with its connection.
    pub fn leave(&mut self, clock: u32, world: &mut World) {
        let Some(wire) = self.is_there(world) else {
            return;
        };
        if world.is_parked(wire) {
            return;
        }
        self.doubt(clock, |_| true);
        self.wants_clean = true;
        self.wire = None;
        let mut buffer = PropertyBuffer::new();
        buffer.push(Property::SessionExpiryInterval(0));
        world.disconnect_with(wire, ReasonCode::Success, &buffer);
    }

    /// Subscribes, again or otherwise.
    pub fn subscribe(&mut self, dice: &mut Dice, clock: u32, world: &mut World) {
        let Some(wire) = self.is_there(world) else {
            return;
        };
        let filter = FILTERS[dice.below(FILTERS.len())];
        let qos = u8::try_from(1 + dice.below(2)).unwrap();
        self.doubt(clock, |grant| grant.filter == filter);
        self.grants.push(Grant {
            filter,
            qos,
            from: clock,
            to: u32::MAX,
            sure: None,
        });
        let id = self.ask(filter, Some(self.grants.len() - 1));
        let requests = [SubscriptionRequest {
            filter: Filter::parse(filter).unwrap(),
            options: options(qos),
        }];
        let subscribe = Subscribe::new(id, Properties::EMPTY, &requests);
        world.send(wire, &Packet::Subscribe(subscribe));
    }

    pub fn unsubscribe(&mut self, dice: &mut Dice, clock: u32, world: &mut World) {
        let Some(wire) = self.is_there(world) else {
            return;
        };
        let filter = FILTERS[dice.below(FILTERS.len())];
        self.doubt(clock, |grant| grant.filter == filter);
        let id = self.ask(filter, None);
        let filters = [Filter::parse(filter).unwrap()];
        let unsubscribe = Unsubscribe::new(id, Properties::EMPTY, &filters);
        world.send(wire, &Packet::Unsubscribe(unsubscribe));
    }

    fn ask(&mut self, filter: &'static str, grant: Option<usize>) -> PacketId {
        self.last_id += 1;
        self.asked.insert(self.last_id, Asked { filter, grant });
        PacketId::new(self.last_id).unwrap()
    }

    /// The answer of a SUBSCRIBE or UNSUBSCRIBE came: what was before it is no more.
    fn hear(&mut self, packet_id: u16, is_refused: bool, clock: u32) {
        let Some(Asked { filter, grant }) = self.asked.remove(&packet_id) else {
            return;
        };
        if is_refused {
            return;
        }
        let is_unanswered = |asked: &Asked| asked.filter == filter;
        let is_last = !self.asked.values().any(is_unanswered);
        let count = self.grants.len();
        for (at, before) in self.grants.iter_mut().enumerate() {
            if at < grant.unwrap_or(count) && before.filter == filter && is_last {
                before.to = clock.min(before.to);
            }
        }
        if let Some(grant) = grant.filter(|_| is_last) {
            self.grants[grant].sure = Some((clock, u32::MAX));
        }
    }

    /// Looks at everything that came, as a client does.
    pub fn read(
        &mut self,
        at: usize,
        clock: u32,
        seed: u64,
        messages: &BTreeMap<Number, Published>,
        world: &mut World,
    ) {
        let Some(wire) = self.wire else {
            return;
        };
        for bytes in world.take_bytes(wire) {
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::ConnAck(ack) if ack.reason.is_error() => {}
                Packet::ConnAck(ack) => {
                    self.is_coming = false;
                    let is_promised = |grant: &Grant| grant.sure.is_some();
                    assert!(
                        ack.session_present
                            || self.wants_clean
                            || !self.grants.iter().any(is_promised),
                        "seed {seed}: the session of s{at} is gone"
                    );
                    if !ack.session_present {
                        self.grants.clear();
                        self.delivered.clear();
                        self.taken_over.clear();
                    }
                    self.wants_clean = false;
                }
                Packet::SubAck(ack) => {
                    let is_refused = ack.reasons.iter().any(ReasonCode::is_error);
                    self.hear(ack.packet_id.value(), is_refused, clock);
                }
                Packet::UnsubAck(ack) => {
                    let is_refused = ack.reasons.iter().any(ReasonCode::is_error);
                    self.hear(ack.packet_id.value(), is_refused, clock);
                }
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, PacketId::value);
                    let text = std::str::from_utf8(publish.payload).unwrap();
                    let (publisher, number) = text.split_once('-').unwrap();
                    let number = (publisher.parse().unwrap(), number.parse().unwrap());
                    let qos = u8::from(publish.qos);
                    let said = format!("seed {seed}, s{at}: {number:?} at QoS {qos}");
                    let message = messages.get(&number);
                    let message = message.unwrap_or_else(|| panic!("{said} is invented"));
                    let due_ms = message.delayed.map_or(0, |delayed| delayed.due_wall_ms);
                    assert!(due_ms <= world.now.wall_ms, "{said} came too early");
                    if publish.qos == QoS::ExactlyOnce {
                        self.owed.push(("PUBREC", id));
                        if !self.taken_over.insert(id) {
                            assert!(publish.dup, "{said}: {id} used again");
                            continue;
                        }
                        assert!(!self.delivered.contains(&(number, qos)), "{said} twice");
                    } else {
                        self.owed.push(("PUBACK", id));
                    }
                    if !self.delivered.contains(&(number, qos)) {
                        let may = self.may_get(message);
                        assert!(may.contains(&qos), "{said}, not {may:?}");
                        self.delivered.push((number, qos));
                    }
                }
                Packet::PubRel(ack) => {
                    let id = ack.packet_id.value();
                    self.taken_over.remove(&id);
                    self.owed.push(("PUBCOMP", id));
                }
                _ => {}
            }
        }
    }

    pub fn acknowledge(&mut self, count: usize, world: &mut World) {
        let Some(wire) = self.is_there(world) else {
            return;
        };
        let now: Vec<_> = self.owed.drain(..count.min(self.owed.len())).collect();
        for (kind, id) in now {
            world.ack(wire, kind, id);
        }
    }

    /// At which `QoS` a message may come, by everything that was perhaps asked for while it was on its way.
    fn may_get(&self, message: &Published) -> BTreeSet<u8> {
        let (from, until) = match message.delayed {
            Some(delayed) => (delayed.due.unwrap_or(message.from), u32::MAX),
            None => (message.from, message.acknowledged.unwrap_or(u32::MAX)),
        };
        let asked = self.grants.iter();
        asked
            .filter(|grant| grant.matches(message.topic))
            .filter(|grant| grant.from <= until && grant.to >= from)
            .map(|grant| grant.qos.min(message.qos))
            .collect()
    }

    /// Whether a message has to come.
    fn must_get(&self, message: &Published) -> bool {
        let Some(acknowledged) = message.acknowledged else {
            return false;
        };
        let (begins, ends) = match message.delayed {
            // Nobody says when exactly it is published.
            Some(delayed) if delayed.is_left_alone() => (delayed.due.unwrap_or(0), u32::MAX - 1),
            Some(_) => return false,
            None => (message.from, acknowledged),
        };
        self.grants.iter().any(|grant| {
            let is_sure = |(from, to)| from < begins && to > ends;
            grant.matches(message.topic) && grant.sure.is_some_and(is_sure)
        })
    }

    /// What holds in the end.
    pub fn check(&self, at: usize, seed: u64, messages: &BTreeMap<Number, Published>) {
        let mut last: BTreeMap<_, u32> = BTreeMap::new();
        for (number, qos) in &self.delivered {
            let message = &messages[number];
            assert!(
                !message.must_not_come(number.0, messages),
                "seed {seed}: {number:?} came to s{at} and was cancelled or replaced"
            );
            // One that came again after its successors were kept comes after them, and so does a delayed one.
            if message.is_repeated || message.delayed.is_some() {
                continue;
            }
            let publisher = (number.0, message.session);
            let before = last.insert((publisher, message.topic, *qos), number.1);
            assert!(
                before.is_none_or(|before| before < number.1),
                "seed {seed}, s{at}: {number:?} after {before:?}: {:?}",
                self.delivered
            );
        }
        for (number, message) in messages {
            let mut delivered = self.delivered.iter();
            let is_there = delivered.any(|(delivered, _)| delivered == number);
            assert!(
                is_there || !self.must_get(message),
                "seed {seed}: {number:?} was acknowledged and never came to s{at}"
            );
        }
    }
}
