//! A client that reads streams: what it asked for, and what came of it.

use std::collections::{BTreeMap, BTreeSet};

use waypost_mqtt::{
    Filter, Packet, PacketId, Properties, Property, PropertyBuffer, ProtocolVersion, QoS,
    ReasonCode, Role, Subscribe, SubscriptionRequest, Unsubscribe, decode,
};

use crate::stream::{Start, StreamId};
use crate::tests::promises::Dice;
use crate::tests::store::MemoryStreams;
use crate::tests::world::{Client, World, options, v5};

/// A subscription as it was asked for, and what came.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Reading {
    filter: String,
    inner: &'static str,
    stream: StreamId,
    start: Start,
    qos: u8,
    /// Records of the stream when it was asked for, and when it was granted.
    from_len: u64,
    to_len: Option<u64>,
    /// It was granted.
    is_sure: bool,
    /// It is, or may be, no more.
    is_over: bool,
    /// The machine stopped since: what is at `QoS` 0 may come again.
    may_repeat: bool,
    /// The machine stopped twice: what came before the first time may be taken for new.
    may_forget_dup: bool,
    got: Vec<u64>,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Reader {
    at: usize,
    /// Its session outlives its connections.
    is_durable: bool,
    /// The store refuses now and then: an acknowledgement it did not take note of has not been.
    may_be_refused: bool,
    pub wire: Option<Client>,
    is_coming: bool,
    wants_clean: bool,
    last_id: u16,
    readings: Vec<Reading>,
    /// By packet identifier.
    asked: BTreeMap<u16, Option<usize>>,
    /// `QoS` 2 identifiers taken over and not released.
    taken_over: BTreeSet<u16>,
    owed: Vec<(&'static str, u16)>,
}

impl Reader {
    pub fn new(at: usize, is_durable: bool, may_be_refused: bool) -> Self {
        Self {
            at,
            is_durable,
            may_be_refused,
            wire: None,
            is_coming: false,
            wants_clean: true,
            last_id: 0,
            readings: Vec::new(),
            asked: BTreeMap::new(),
            taken_over: BTreeSet::new(),
            owed: Vec::new(),
        }
    }

    /// It is connected.
    pub fn is_there(&self, world: &World) -> bool {
        self.open(world).is_some()
    }

    fn open(&self, world: &World) -> Option<Client> {
        let wire = self.wire.filter(|wire| !world.is_closed(*wire));
        wire.filter(|_| !self.is_coming)
    }

    fn end_all(&mut self) {
        for reading in &mut self.readings {
            reading.is_over = true;
        }
        self.taken_over.clear();
    }

    fn lose(&mut self) {
        self.wire = None;
        self.owed.clear();
        self.asked.clear();
        if !self.is_durable {
            self.end_all();
        }
    }

    pub fn cut(&mut self, world: &mut World) {
        // Of a session that is about to begin nobody knows whether it did.
        if self.is_coming && self.wants_clean {
            return;
        }
        if let Some(wire) = self.wire {
            world.cut(wire);
            self.lose();
        }
    }

    /// The machine stopped.
    pub fn crash(&mut self) {
        self.lose();
        for reading in &mut self.readings {
            reading.may_forget_dup |= reading.may_repeat;
            reading.may_repeat = true;
        }
    }

    pub fn connect(&mut self, shard: usize, cleanly: bool, world: &mut World) {
        let is_open = self.wire.is_some_and(|wire| !world.is_closed(wire));
        if is_open && self.is_coming && self.wants_clean {
            return;
        }
        self.lose();
        self.wants_clean |= cleanly || !self.is_durable;
        if self.wants_clean {
            self.end_all();
        }
        let options = v5(&format!("r{}", self.at)).at(shard);
        let options = if self.is_durable {
            options.persistent(1_000_000)
        } else {
            options
        };
        let wire = world.open_at(shard);
        self.wire = Some(wire);
        self.is_coming = true;
        world.send_connect(wire, &options.clean(self.wants_clean));
    }

    pub fn subscribe(&mut self, dice: &mut Dice, world: &mut World) {
        let Some(wire) = self.open(world) else {
            return;
        };
        let (inner, stream) = [("#", 1), ("b/#", 2), ("b/x", 2), ("+", 1), ("c", 1)][dice.below(5)];
        let stream = StreamId(stream);
        let len = world.store.durable.streams.next(stream);
        let count = dice.below(6) as u64;
        let offset = (len + 2).saturating_sub(dice.below(12) as u64);
        let (spec, start) = match dice.below(4) {
            0 => (format!("last={count}"), Start::Last(count)),
            1 => (format!("each={}", count + 1), Start::Each(count + 1)),
            2 => (format!("offset={offset}"), Start::Offset(offset)),
            _ => ("time=0".into(), Start::Time(0)),
        };
        let filter = format!("$from/{spec}/{inner}");
        for reading in &mut self.readings {
            reading.is_over |= reading.filter == filter;
        }
        let qos = u8::try_from(dice.below(3)).unwrap();
        self.readings.push(Reading {
            filter: filter.clone(),
            inner,
            stream,
            start,
            qos,
            from_len: len,
            to_len: None,
            is_sure: false,
            is_over: false,
            may_repeat: false,
            may_forget_dup: false,
            got: Vec::new(),
        });
        self.last_id += 1;
        self.asked
            .insert(self.last_id, Some(self.readings.len() - 1));
        let mut buffer = PropertyBuffer::new();
        let identifier = u32::try_from(self.readings.len()).unwrap();
        buffer.push(Property::SubscriptionIdentifier(identifier));
        let requests = [SubscriptionRequest {
            filter: Filter::parse(&filter).unwrap(),
            options: options(qos),
        }];
        let packet_id = PacketId::new(self.last_id).unwrap();
        let subscribe = Subscribe::new(packet_id, buffer.as_properties(), &requests);
        world.send(wire, &Packet::Subscribe(subscribe));
    }

    pub fn unsubscribe(&mut self, dice: &mut Dice, world: &mut World) {
        let Some(wire) = self.open(world) else {
            return;
        };
        if self.readings.is_empty() {
            return;
        }
        let filter = self.readings[dice.below(self.readings.len())]
            .filter
            .clone();
        for reading in &mut self.readings {
            reading.is_over |= reading.filter == filter;
        }
        self.last_id += 1;
        let filters = [Filter::parse(&filter).unwrap()];
        let packet_id = PacketId::new(self.last_id).unwrap();
        let unsubscribe = Unsubscribe::new(packet_id, Properties::EMPTY, &filters);
        world.send(wire, &Packet::Unsubscribe(unsubscribe));
    }

    /// Looks at everything that came, as a client does.
    pub fn read(&mut self, seed: u64, world: &mut World) {
        let Some(wire) = self.wire else {
            return;
        };
        for bytes in world.take_bytes(wire) {
            match decode(&bytes, ProtocolVersion::V5, Role::Server).unwrap() {
                Packet::ConnAck(ack) if !ack.reason.is_error() => {
                    self.is_coming = false;
                    if !ack.session_present {
                        self.end_all();
                    }
                    self.wants_clean = false;
                }
                Packet::SubAck(ack) => {
                    let asked = self.asked.remove(&ack.packet_id.value()).flatten();
                    let is_refused = ack.reasons.iter().any(ReasonCode::is_error);
                    if let Some(reading) = asked.and_then(|at| self.readings.get_mut(at)) {
                        let len = world.store.durable.streams.next(reading.stream);
                        reading.to_len = Some(len);
                        reading.is_sure = !is_refused;
                        reading.is_over |= is_refused;
                    }
                }
                Packet::Publish(publish) => self.take(seed, &publish),
                Packet::PubRel(ack) => {
                    self.taken_over.remove(&ack.packet_id.value());
                    self.owed.push(("PUBCOMP", ack.packet_id.value()));
                }
                _ => {}
            }
        }
    }

    fn take(&mut self, seed: u64, publish: &waypost_mqtt::Publish<'_>) {
        let id = publish.packet_id.map_or(0, PacketId::value);
        let mut offset = None;
        for property in publish.properties.iter() {
            if let Property::UserProperty("waypost-offset", value) = property {
                offset = value.parse().ok();
            }
        }
        let offset = offset.unwrap();
        let mut identifiers = publish.properties.subscription_identifiers();
        let identifier = identifiers.next().unwrap();
        let said = format!(
            "seed {seed}, r{}: {offset} of {identifier} at {:?}",
            self.at, publish.qos
        );
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.owed.push(("PUBACK", id)),
            QoS::ExactlyOnce => {
                self.owed.push(("PUBREC", id));
                if !self.taken_over.insert(id) {
                    assert!(publish.dup, "{said}: {id} used again");
                    return;
                }
            }
        }
        let reading = &mut self.readings[identifier as usize - 1];
        if reading.got.contains(&offset) {
            let may_repeat = match publish.qos {
                QoS::AtMostOnce => reading.may_repeat && reading.qos == 0,
                QoS::AtLeastOnce => publish.dup || reading.may_forget_dup || self.may_be_refused,
                QoS::ExactlyOnce => false,
            };
            assert!(
                may_repeat,
                "{said} twice: {} {:?}",
                reading.filter, reading.got
            );
            return;
        }
        reading.got.push(offset);
    }

    /// Returns whether there was anything to say.
    pub fn acknowledge(&mut self, count: usize, world: &mut World) -> bool {
        let Some(wire) = self.open(world) else {
            return true;
        };
        let count = count.min(self.owed.len());
        for (kind, id) in self.owed.drain(..count).collect::<Vec<_>>() {
            world.ack(wire, kind, id);
        }
        count > 0
    }

    /// What holds in the end.
    pub fn check(&self, seed: u64, streams: &MemoryStreams) {
        for reading in &self.readings {
            let len = streams.next(reading.stream);
            let to_len = reading.to_len.unwrap_or(len);
            let mut lengths = reading.from_len..=to_len;
            let is_whole = reading.is_sure && !reading.is_over;
            assert!(
                lengths.any(|len| reading.is_right(len, is_whole, streams)),
                "seed {seed}, r{}: {} at QoS {} began between {} and {to_len} of {len}, whole: {is_whole}, got {:?}, not {:?}",
                self.at,
                reading.filter,
                reading.qos,
                reading.from_len,
                reading.got,
                streams.expected(reading.stream, reading.start, reading.inner, to_len)
            );
        }
    }
}

impl Reading {
    /// Whether it got what it had to, at each `QoS` in order, if it began when the stream had so many records.
    fn is_right(&self, len: u64, is_whole: bool, streams: &MemoryStreams) -> bool {
        let expected = streams.expected(self.stream, self.start, self.inner, len);
        let at = |wanted: u8| {
            let expected = expected
                .iter()
                .filter(move |(_, qos)| (*qos).min(self.qos) == wanted);
            expected.map(|(offset, _)| *offset).collect::<Vec<_>>()
        };
        let by_qos = [at(0), at(1), at(2)];
        let is_known = |offset: &u64| by_qos.iter().any(|all| all.contains(offset));
        self.got.iter().all(is_known)
            && by_qos.iter().zip(0..).all(|(expected, qos)| {
                let mut got = self
                    .got
                    .iter()
                    .filter(|offset| expected.contains(offset))
                    .peekable();
                let are_there = expected.iter().all(|offset| {
                    let is_there = got.next_if_eq(&offset).is_some();
                    is_there || qos == 0 || !(is_whole || got.peek().is_some())
                });
                are_there && got.next().is_none()
            })
    }
}
