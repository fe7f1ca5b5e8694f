//! What is promised, against a simple model: random clients on one to four shards.
//!
//! Goal: QoS 1 arrives, QoS 2 arrives once, order holds per publisher, topic and QoS, several shards look like one,
//! and nothing is left when all sessions have ended. Method: a script made from a seed; on failure the seed is in the
//! message, and running it again is a replay.

use std::collections::{BTreeMap, BTreeSet};

use waypost_mqtt::{
    Packet, ProtocolVersion, QoS, ReasonCode, RetainHandling, Role, SubscriptionOptions, Topic,
    decode,
};

use super::world::{Client, Options, World, options, v3, v5};
use crate::Limits;
use crate::broker::Random;

const FILTERS: [&str; 7] = ["a", "a/b", "a/+", "+/b", "#", "a/#", "c/+/d"];
const TOPICS: [&str; 5] = ["a", "a/b", "a/c", "x/b", "c/1/d"];

pub(super) struct Dice(Random);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(Random::seeded(seed ^ 0x5eed))
    }

    pub fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.0.next() >> 33).unwrap() % sides
    }

    pub fn one_in(&mut self, sides: usize) -> bool {
        self.below(sides) == 0
    }
}

/// One delivery: who published it and as what number, where, at which QoS.
type Delivery = (usize, u32, &'static str, u8);

/// A client and what the model knows of its session.
#[derive(Default)]
struct Subject {
    wire: Option<Client>,
    is_v5: bool,
    /// The session outlives its connection.
    is_persistent: bool,
    has_session: bool,
    subscriptions: BTreeMap<&'static str, u8>,
    expected: Vec<Delivery>,
    delivered: Vec<Delivery>,
    /// QoS 2 identifiers taken over and not released.
    taken_over: BTreeSet<u16>,
    /// Acknowledgements not sent yet.
    owed: Vec<(&'static str, u16)>,
    published: u32,
}

impl Subject {
    fn forget_session(&mut self) {
        self.has_session = false;
        self.subscriptions.clear();
        self.expected.clear();
        self.delivered.clear();
        self.taken_over.clear();
    }
}

struct Play {
    world: World,
    subjects: Vec<Subject>,
    seed: u64,
}

impl Play {
    fn new(shards: u16, subjects: usize, seed: u64) -> Self {
        let limits = Limits {
            inflight_max: 4,
            burst_messages_max: 5,
            outbox_bytes_max: 4_000,
            ..Limits::default()
        };
        let mut world = World::seeded(shards, limits, seed);
        if seed.is_multiple_of(3) {
            world.configure(&[("all", &["#"])]);
        }
        Self {
            world,
            subjects: (0..subjects).map(|_| Subject::default()).collect(),
            seed,
        }
    }

    fn options(subject: usize, shard: usize, is_v5: bool, is_persistent: bool) -> Options {
        let id = format!("client{subject}");
        let options = if is_v5 { v5(&id) } else { v3(&id) };
        (if is_persistent {
            options.persistent(10_000)
        } else {
            options
        })
        .at(shard)
    }

    /// Looks at everything a client received, as a client does.
    fn read(&mut self, subject: usize) {
        let Some(wire) = self.subjects[subject].wire else {
            return;
        };
        let seed = self.seed;
        let Subject {
            is_v5,
            delivered,
            taken_over,
            owed,
            ..
        } = &mut self.subjects[subject];
        let version = if *is_v5 {
            ProtocolVersion::V5
        } else {
            ProtocolVersion::V311
        };
        for bytes in self.world.take_bytes(wire) {
            match decode(&bytes, version, Role::Server).unwrap() {
                Packet::Publish(publish) => {
                    let id = publish.packet_id.map_or(0, waypost_mqtt::PacketId::value);
                    if publish.qos == QoS::AtLeastOnce {
                        owed.push(("PUBACK", id));
                    } else if publish.qos == QoS::ExactlyOnce {
                        owed.push(("PUBREC", id));
                        if !taken_over.insert(id) {
                            assert!(
                                publish.dup,
                                "seed {seed}: {id} used again before its PUBREL"
                            );
                            continue;
                        }
                    }
                    if publish.retain {
                        continue;
                    }
                    let text = std::str::from_utf8(publish.payload).unwrap();
                    let (publisher, number) = text.split_once('-').unwrap();
                    let topic = TOPICS
                        .into_iter()
                        .find(|topic| *topic == publish.topic)
                        .unwrap();
                    let delivery = (
                        publisher.parse().unwrap(),
                        number.parse().unwrap(),
                        topic,
                        u8::from(publish.qos),
                    );
                    if publish.dup
                        && publish.qos == QoS::AtLeastOnce
                        && delivered.contains(&delivery)
                    {
                        continue;
                    }
                    assert!(
                        !delivered.contains(&delivery),
                        "seed {seed}: {subject} got {delivery:?} twice"
                    );
                    delivered.push(delivery);
                }
                Packet::PubRel(ack) => {
                    taken_over.remove(&ack.packet_id.value());
                    owed.push(("PUBCOMP", ack.packet_id.value()));
                }
                _ => {}
            }
        }
        if self.world.is_closed(wire) {
            self.subjects[subject].wire = None;
        }
    }

    fn acknowledge(&mut self, subject: usize, count: usize) {
        for _ in 0..count {
            let Some(wire) = self.subjects[subject].wire else {
                return;
            };
            if self.subjects[subject].owed.is_empty() {
                return;
            }
            let (kind, id) = self.subjects[subject].owed.remove(0);
            self.world.ack(wire, kind, id);
            self.read(subject);
        }
    }

    fn lose(&mut self, subject: usize) {
        let subject = &mut self.subjects[subject];
        subject.wire = None;
        subject.owed.clear();
        if !subject.is_persistent {
            subject.forget_session();
        }
    }

    /// Per publisher, topic and QoS the numbers only rise.
    fn check_order(&self) {
        for (at, subject) in self.subjects.iter().enumerate() {
            let mut last = BTreeMap::new();
            for (publisher, number, topic, qos) in &subject.delivered {
                let before = last.insert((publisher, topic, qos), number);
                assert!(
                    before < Some(number),
                    "seed {}: {at} got {number} after {before:?}",
                    self.seed
                );
            }
        }
    }

    /// Everybody comes back and takes everything; then everybody got what was promised.
    fn check_promises(&mut self) {
        for at in 0..self.subjects.len() {
            if !self.subjects[at].has_session {
                continue;
            }
            if self.subjects[at].wire.is_none() {
                let options = Self::options(at, 0, self.subjects[at].is_v5, true);
                let (wire, connack) = self.world.try_connect(&options);
                assert_eq!(connack, "CONNACK 00 present", "seed {}", self.seed);
                self.subjects[at].wire = Some(wire);
                self.subjects[at].owed.clear();
            }
            self.world.stall(self.subjects[at].wire.unwrap(), false);
            self.read(at);
            self.acknowledge(at, usize::MAX);
        }
        self.check_order();
        for (at, subject) in self
            .subjects
            .iter()
            .enumerate()
            .filter(|(_, subject)| subject.has_session)
        {
            let mut expected = subject.expected.clone();
            let mut delivered = subject.delivered.clone();
            expected.sort_unstable();
            delivered.sort_unstable();
            assert_eq!(delivered, expected, "seed {}, client {at}", self.seed);
        }
        for shard in 0..self.world.shards() {
            assert_eq!(
                self.world.broker(shard).messages_owed(),
                0,
                "seed {}",
                self.seed
            );
        }
    }

    /// Every session ends, every retained message is removed: nothing is left.
    fn check_nothing_left(&mut self) {
        for at in 0..self.subjects.len() {
            let wire = self.world.connect(&v5(&format!("client{at}")));
            for topic in TOPICS {
                self.world.retain(wire, topic, "", 0);
            }
            self.world.disconnect(wire, ReasonCode::Success);
        }
        self.world.advance(1_000);
        for shard in 0..self.world.shards() {
            let broker = self.world.broker(shard);
            let seed = self.seed;
            assert_eq!(
                (
                    broker.sessions(),
                    broker.connections(),
                    broker.subscriptions()
                ),
                (0, 0, 0),
                "seed {seed}"
            );
            assert_eq!(
                (broker.retained(), broker.retained_bytes()),
                (0, 0),
                "seed {seed}"
            );
            assert_eq!(
                (broker.shared_state(), broker.messages_owed()),
                ([0; 3], 0),
                "seed {seed}"
            );
            assert_eq!(broker.counters().invariants_broken, 0);
            let fresh = World::new().broker(0).index.nodes();
            assert_eq!(broker.index.nodes(), fresh, "seed {seed}");
        }
        self.world.advance(20_000_000);
        for shard in 0..self.world.shards() {
            assert_eq!(self.world.broker(shard).timers(), 0, "seed {}", self.seed);
        }
    }

    /// One random thing happens, and the world comes to rest.
    fn step(&mut self, dice: &mut Dice) {
        let at = dice.below(self.subjects.len());
        let (op, shard) = (dice.below(20), dice.below(self.world.shards()));
        let (is_v5, is_persistent, filter) = (
            !dice.one_in(3),
            !dice.one_in(3),
            FILTERS[dice.below(FILTERS.len())],
        );
        let qos = u8::try_from(dice.below(3)).unwrap();
        match (op, self.subjects[at].wire) {
            (0..3, _) | (_, None) => {
                let expects = is_persistent
                    && self.subjects[at].has_session
                    && self.subjects[at].is_persistent;
                let was_connected = self.subjects[at].wire.is_some();
                self.lose(at);
                if was_connected && dice.one_in(2) {
                    // The network fails first; else it is a takeover.
                    let wire = self.world.newest_wire(at);
                    self.world.cut(wire);
                }
                if !expects {
                    self.subjects[at].forget_session();
                }
                let options = Self::options(at, shard, is_v5, is_persistent);
                let (wire, connack) = self.world.try_connect(&options);
                let expected = if expects {
                    "CONNACK 00 present"
                } else {
                    "CONNACK 00"
                };
                assert_eq!(connack, expected, "seed {}", self.seed);
                self.world.name_wire(at, wire);
                let subject = &mut self.subjects[at];
                (subject.wire, subject.is_v5, subject.is_persistent) =
                    (Some(wire), is_v5, is_persistent);
                subject.has_session = true;
            }
            (3..5, Some(wire)) => {
                if dice.one_in(2) {
                    self.world.cut(wire);
                } else {
                    self.world.disconnect(wire, ReasonCode::Success);
                }
                self.lose(at);
            }
            (5..8, Some(wire)) => {
                let retain_handling = if dice.one_in(2) {
                    RetainHandling::DoNotSend
                } else {
                    RetainHandling::SendAtSubscribe
                };
                let retain_handling = if is_v5 && self.subjects[at].is_v5 {
                    retain_handling
                } else {
                    RetainHandling::default()
                };
                let options = SubscriptionOptions {
                    retain_handling,
                    ..options(qos)
                };
                let suback = self.world.subscribe_with(wire, &[(filter, options)], 0);
                assert!(suback.starts_with("SUBACK"), "seed {}: {suback}", self.seed);
                self.subjects[at].subscriptions.insert(filter, qos);
            }
            (8, Some(wire)) => {
                let unsuback = self.world.unsubscribe(wire, filter);
                assert!(
                    unsuback.starts_with("UNSUBACK"),
                    "seed {}: {unsuback}",
                    self.seed
                );
                self.subjects[at].subscriptions.remove(filter);
            }
            (9..16, Some(wire)) => {
                let topic = TOPICS[dice.below(TOPICS.len())];
                let is_retained = dice.one_in(5);
                self.publish(at, wire, topic, qos, is_retained);
            }
            (16, Some(wire)) => self.world.stall(wire, dice.one_in(2)),
            (17, _) => self.world.advance(100),
            (_, Some(_)) => {
                let count = dice.below(8);
                self.acknowledge(at, count);
            }
        }
        for at in 0..self.subjects.len() {
            self.read(at);
        }
    }

    fn publish(
        &mut self,
        at: usize,
        wire: Client,
        topic: &'static str,
        qos: u8,
        is_retained: bool,
    ) {
        self.subjects[at].published += 1;
        let number = self.subjects[at].published;
        let payload = format!("{at}-{number}");
        let packet_id = 1_000 + u16::try_from(number % 10_000).unwrap();
        let nothing = waypost_mqtt::PropertyBuffer::new();
        self.world
            .publish_with(wire, topic, &payload, qos, packet_id, is_retained, &nothing);
        if qos == 2 {
            self.world.ack(wire, "PUBREL", packet_id);
        }
        for subject in &mut self.subjects {
            let name = Topic::parse(topic).unwrap();
            let granted = subject
                .subscriptions
                .iter()
                .filter(|(filter, _)| waypost_mqtt::Filter::parse(filter).unwrap().matches(name))
                .map(|(_, granted)| *granted)
                .max();
            let Some(granted) = granted.filter(|_| subject.has_session) else {
                continue;
            };
            let qos = qos.min(granted);
            if qos > 0 || subject.wire.is_some() {
                subject.expected.push((at, number, topic, qos));
            }
        }
    }
}

#[test]
fn what_is_promised_is_kept_on_any_number_of_shards() {
    for seed in seeds(60) {
        let mut dice = Dice::new(seed);
        let mut play = Play::new(u16::try_from(seed % 4 + 1).unwrap(), 5, seed);
        for _ in 0..300 {
            play.step(&mut dice);
        }
        play.check_promises();
        play.check_nothing_left();
    }
}

/// Persistent subscribers hop from shard to shard, cut off and taken over at any moment, with mail under way.
#[test]
fn sessions_that_move_while_mail_is_under_way_lose_and_double_nothing() {
    for seed in seeds(150) {
        let mut dice = Dice::new(seed);
        let shards = 2 + u16::try_from(seed % 3).unwrap();
        let mut play = Play::new(shards, 6, seed);
        for at in 0..6 {
            let options = Play::options(at, at % usize::from(shards), at % 2 == 0, true);
            let wire = play.world.connect(&options);
            play.world.name_wire(at, wire);
            let subject = &mut play.subjects[at];
            (subject.wire, subject.is_v5, subject.is_persistent) = (Some(wire), at % 2 == 0, true);
            subject.has_session = true;
            // The first three publish and stay where they are.
            if at >= 3 {
                for filter in ["a/#", "a/b", "+/b"] {
                    let qos = u8::try_from(1 + dice.below(2)).unwrap();
                    play.world.subscribe(wire, filter, qos);
                    subject.subscriptions.insert(filter, qos);
                }
            }
        }
        play.world.is_mail_held = true;
        for _ in 0..200 {
            let at = 3 + dice.below(3);
            match dice.below(8) {
                0..4 => {
                    let publisher = dice.below(3);
                    let qos = u8::try_from(dice.below(3)).unwrap();
                    let topic = TOPICS[dice.below(4)];
                    let wire = play.subjects[publisher].wire.unwrap();
                    // QoS 0 is promised to nobody whose mail is under way.
                    if qos > 0 {
                        play.publish(publisher, wire, topic, qos, false);
                    }
                }
                4 => {
                    let shard = dice.below(usize::from(shards));
                    if dice.one_in(2) {
                        let wire = play.world.newest_wire(at);
                        play.world.cut(wire);
                    }
                    let wire = play.world.open_at(shard);
                    let options = Play::options(at, shard, play.subjects[at].is_v5, true);
                    play.world.send_connect(wire, &options);
                    play.world.name_wire(at, wire);
                    play.subjects[at].owed.clear();
                    play.subjects[at].wire = Some(wire);
                }
                5 => {
                    // Acknowledgements only count on the connection they belong to.
                    if play.subjects[at]
                        .wire
                        .is_some_and(|wire| !play.world.is_parked(wire))
                    {
                        let count = dice.below(6);
                        play.acknowledge(at, count);
                    }
                }
                _ => {
                    for _ in 0..dice.below(6) {
                        play.world.deliver_mail();
                    }
                }
            }
            for at in 0..6 {
                play.read(at);
            }
        }
        play.world.is_mail_held = false;
        play.world.settle();
        for at in 0..6 {
            play.read(at);
        }
        play.check_promises();
        play.check_nothing_left();
    }
}

/// The seeds to run: the first few, or those that `WAYPOST_SEEDS=FROM..TO` asks for.
pub(super) fn seeds(count: u64) -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("WAYPOST_SEEDS") else {
        return 0..count;
    };
    let (from, to) = text.split_once("..").expect("WAYPOST_SEEDS=FROM..TO");
    from.parse().unwrap()..to.parse().unwrap()
}
