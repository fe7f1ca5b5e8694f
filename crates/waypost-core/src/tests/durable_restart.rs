//! What a crash leaves of publishes: retained messages, wills, and that no message at `QoS` 2 comes twice or not at all.

use std::collections::BTreeMap;

use waypost_mqtt::{
    Packet, PacketId, Properties, Property, PropertyBuffer, Publish, QoS, ReasonCode,
};

use super::world::{Client, Options, World, v3, v5};
use crate::Limits;
use crate::broker::Random;
use crate::journal::Table;

const SHARDS: [u16; 3] = [1, 2, 4];

fn on_shards(test: impl Fn(&mut World, usize)) {
    for shards in SHARDS {
        for seed in 0..4 {
            let world = &mut World::seeded(shards, Limits::default(), seed);
            test(world, usize::from(shards) - 1);
        }
    }
}

fn publish(world: &mut World, client: Client, publish: (&str, &str, u8, u16), dup: bool) {
    let (topic, payload, qos, packet_id) = publish;
    let publish = Publish {
        dup,
        qos: QoS::try_from(qos).unwrap(),
        retain: false,
        topic,
        packet_id: PacketId::new(packet_id).filter(|_| qos > 0),
        properties: Properties::EMPTY,
        payload: payload.as_bytes(),
    };
    world.send(client, &Packet::Publish(publish));
}

fn rows(world: &World, table: Table) -> usize {
    let rows = world.store.durable.rows.iter();
    rows.filter(|((of, _), (_, _, kept))| {
        *of == table && (table != Table::RETAINED || kept.is_some())
    })
    .count()
}

fn retain(world: &mut World, client: Client, topic: &str, payload: &str, expiry_s: Option<u32>) {
    let mut properties = PropertyBuffer::new();
    if let Some(expiry_s) = expiry_s {
        properties.push(Property::MessageExpiryInterval(expiry_s));
    }
    world.publish_with(client, topic, payload, 1, 10, true, &properties);
}

/// What is retained, as a new client sees it.
fn retained(world: &mut World, shard: usize) -> Vec<String> {
    let reader = world.connect(&v5("reader").at(shard));
    world.subscribe(reader, "#", 0);
    let mut lines = world.take(reader);
    world.cut(reader);
    lines.sort();
    lines
}

#[test]
fn what_is_retained_is_so_after_a_crash() {
    on_shards(|world, last| {
        let (here, there) = (world.connect(&v5("p")), world.connect(&v5("q").at(last)));
        for number in 0..100 {
            let topic = format!("many/{number:03}");
            retain(world, here, &topic, "x", None);
        }
        retain(world, here, "a", "1", None);
        retain(world, there, "a", "2", None);
        retain(world, here, "cleared", "1", None);
        retain(world, there, "cleared", "", None);
        retain(world, here, "short", "x", Some(30));
        retain(world, here, "long", "x", Some(3_000));
        world.retain(here, "lazy", "x", 0);
        world.publish_system("$SYS/x", "x", true);
        let before = retained(world, 0);
        assert_eq!(before.len(), 104);
        world.restart(usize::from(SHARDS[2]), 60_000);
        let after = retained(world, 3);
        let expect: Vec<_> = before
            .iter()
            .filter(|line| !line.contains(" short="))
            .map(|line| line.replace("Interval(3000)", "Interval(2940)"))
            .collect();
        assert_eq!(after, expect);
        assert_eq!(rows(world, Table::RETAINED), 103, "what expired is let go");
        // What is published now is the last word, also after another crash.
        let p = world.connect(&v5("p").at(1));
        retain(world, p, "a", "3", None);
        retain(world, p, "lazy", "", None);
        world.restart(1, 0);
        let again = retained(world, 0);
        assert!(
            again.contains(&"PUBLISH q0 retain a=3".to_owned()),
            "{again:?}"
        );
        assert_eq!(again.len(), 102);
        // Expired while the server runs, it is let go too.
        world.advance(2_950_000);
        assert_eq!(rows(world, Table::RETAINED), 101);
    });
}

/// Nobody is told that nothing is retained because it was not read yet; what is published meanwhile is the last word.
#[test]
fn a_subscribe_waits_until_what_is_retained_was_read() {
    on_shards(|world, last| {
        let p = world.connect(&v5("p"));
        for number in 0..100 {
            let topic = format!("a/{number:03}");
            retain(world, p, &topic, "old", None);
        }
        world.crash_and_restore();
        world.is_store_held = true;
        let reader = world.connect(&v5("r").at(last));
        let filters = [("a/#", super::world::options(0))];
        let id = PacketId::new(1).unwrap();
        let requests = filters.map(|(filter, options)| waypost_mqtt::SubscriptionRequest {
            filter: waypost_mqtt::Filter::parse(filter).unwrap(),
            options,
        });
        let none = PropertyBuffer::new();
        let subscribe = waypost_mqtt::Subscribe::new(id, none.as_properties(), &requests);
        world.send(reader, &Packet::Subscribe(subscribe));
        let told = world.take(reader);
        assert!(
            told.iter().all(|line| !line.starts_with("PUBLISH")),
            "{told:?}"
        );
        let p = world.connect(&v5("p"));
        world.retain(p, "a/007", "new", 0);
        world.retain(p, "a/008", "", 0);
        world.is_store_held = false;
        world.settle();
        let lines = world.take(reader);
        let lines = lines.iter().filter(|line| line.starts_with("PUBLISH"));
        let mut last_words = BTreeMap::new();
        for line in lines {
            let (topic, payload) = line.rsplit(' ').next().unwrap().split_once('=').unwrap();
            last_words.insert(topic.to_owned(), payload.to_owned());
        }
        assert_eq!(last_words.len(), 100);
        for (topic, payload) in &last_words {
            let expect = match &**topic {
                "a/007" => "new",
                "a/008" => "",
                _ => "old",
            };
            assert_eq!(payload, expect, "{topic}");
        }
        let kept = retained(world, 0);
        assert_eq!(kept.len(), 99);
        assert!(kept.contains(&"PUBLISH q0 retain a/007=new".to_owned()));
    });
}

/// A content that cannot be read is lost alone, and counted.
#[test]
fn a_damaged_retained_message_is_counted() {
    on_shards(|world, last| {
        let p = world.connect(&v5("p"));
        retain(world, p, "a", "x", None);
        retain(world, p, "b", "x", None);
        let damaged = *world.store.durable.messages.keys().next().unwrap();
        world.store.durable.messages.insert(damaged, [].into());
        world.crash_and_restore();
        assert_eq!(retained(world, last), ["PUBLISH q0 retain b=x"]);
        let of = |shard| world.broker(shard).counters().retained_unreadable;
        assert_eq!((0..world.shards()).map(of).sum::<u64>(), 1);
    });
}

fn willing(shard: usize, delay_s: u32) -> Options {
    v5("w")
        .persistent(1_000)
        .at(shard)
        .will("will", "gone", 1, false)
        .will_with(Property::WillDelayInterval(delay_s))
}

/// 5 [MQTT-3.1.2-8], 3.1.1 [MQTT-3.1.2-8]: the server's own crash cuts everybody off.
#[test]
fn a_will_is_published_after_a_crash() {
    on_shards(|world, last| {
        for delay_s in [0, 20] {
            let watcher = v3("watcher").persistent(0);
            let watching = world.connect(&watcher);
            world.subscribe(watching, "will", 1);
            let client = world.connect(&willing(last, delay_s));
            assert_eq!(rows(world, Table::WILLS), 1);
            // Each connection brings its own.
            world.cut(client);
            world.connect(&willing(last, delay_s));
            world.crash_and_restore();
            let watching = world.connect(&watcher);
            if delay_s > 0 {
                world.advance(u64::from(delay_s) * 1_000 - 1_000);
                let lines = world.take(watching);
                assert!(lines.is_empty(), "{lines:?}");
            }
            world.advance(1_100);
            let lines: Vec<_> = world.take(watching);
            let wills = lines.iter().filter(|line| line.ends_with("will=gone"));
            // The one that was cut off had delay 0, or was back in time.
            assert_eq!(wills.count(), if delay_s == 0 { 2 } else { 1 }, "{lines:?}");
            assert_eq!(rows(world, Table::WILLS), 0);
            // It is published once.
            world.crash_and_restore();
            world.advance(60_000);
            assert_eq!(rows(world, Table::WILLS), 0);
            let cleaner = world.connect(&v3("watcher"));
            world.disconnect(cleaner, ReasonCode::NORMAL_DISCONNECTION);
            let cleaner = world.connect(&v5("w"));
            world.disconnect(cleaner, ReasonCode::NORMAL_DISCONNECTION);
        }
    });
}

/// It is due with the start, whoever is heard first then.
#[test]
fn a_will_is_published_though_its_client_is_back_before_the_first_timeout() {
    on_shards(|world, last| {
        let watcher = v3("watcher").persistent(0);
        let watching = world.connect(&watcher);
        world.subscribe(watching, "will", 1);
        world.connect(&willing(last, 0));
        world.crash_and_restore();
        world.connect(&willing(last, 0));
        let watching = world.connect(&watcher);
        world.advance(1_100);
        let lines = world.take(watching);
        let wills = lines.iter().filter(|line| line.ends_with("will=gone"));
        assert_eq!(wills.count(), 1, "{lines:?}");
        // That of the new connection.
        assert_eq!(rows(world, Table::WILLS), 1);
    });
}

/// The will of the next connection is not lost with the one before, which other shards are still being asked about; nor is
/// that one, if the server is cut off meanwhile.
#[test]
fn each_will_is_published_over_one_crash_after_the_other() {
    const CRASHES: usize = 8;
    on_shards(|world, last| {
        let watcher = v3("watcher").persistent(0);
        let watching = world.connect(&watcher);
        world.subscribe(watching, "will", 1);
        for _ in 0..CRASHES {
            world.connect(&willing(last, 0));
            // Takes over from the first, whose will is published.
            world.connect(&willing(last, 0));
            world.crash_and_restore();
        }
        let watching = world.connect(&watcher);
        world.advance(1_100);
        let lines = world.take(watching);
        let wills = lines.iter().filter(|line| line.ends_with("will=gone"));
        assert_eq!(wills.count(), 2 * CRASHES, "{lines:?}");
        assert_eq!(rows(world, Table::WILLS), 0);
    });
}

#[test]
fn a_will_taken_back_has_no_row() {
    on_shards(|world, last| {
        let client = world.connect(&willing(0, 60));
        world.disconnect(client, ReasonCode::NORMAL_DISCONNECTION);
        assert_eq!(rows(world, Table::WILLS), 0);
        let client = world.connect(&willing(0, 60));
        world.cut(client);
        assert_eq!(rows(world, Table::WILLS), 1);
        // Back before the delay has passed, elsewhere and without a will.
        world.connect(&v5("w").persistent(1_000).at(last));
        assert_eq!(rows(world, Table::WILLS), 0);
        // A session that ends with its connection writes nothing.
        world.connect(&v5("short").will("will", "gone", 1, false));
        assert_eq!(rows(world, Table::WILLS), 0);
        // Back after a crash, before the delay has passed.
        world.connect(&willing(last, 60));
        world.crash_and_restore();
        world.connect(&v5("w").persistent(1_000));
        world.advance(100_000);
        let published = |shard| world.broker(shard).counters().wills_published;
        assert_eq!((0..world.shards()).map(published).sum::<u64>(), 0);
        assert_eq!(rows(world, Table::WILLS), 0);
    });
}

/// Goal: a publisher whose message was refused gives the identifier to another; that one is taken for a repeat by nobody,
/// though the refused one is on disk all the same. Method: an answer that does not reach the publisher before the crash, and
/// another message under its identifier after it.
#[test]
fn another_message_under_the_same_identifier_is_no_repeat_after_a_crash() {
    on_shards(|world, last| {
        let subscriber = v3("s").persistent(0);
        let s = world.connect(&subscriber);
        world.subscribe(s, "a", 2);
        world.cut(s);
        let publisher = |shard| v5("p").persistent(1_000).at(shard);
        let p = world.connect(&publisher(last));
        publish(world, p, ("a", "refused", 2, 9), false);
        world.crash_and_restore();
        let p = world.connect(&publisher(0));
        publish(world, p, ("a", "another", 2, 9), false);
        publish(world, p, ("a", "another", 2, 9), true);
        assert_eq!(world.take(p), ["PUBREC #9", "PUBREC #9"]);
        world.ack(p, "PUBREL", 9);
        assert_eq!(world.take(p), ["PUBCOMP #9"]);
        let s = world.connect(&subscriber);
        let lines = world.take(s);
        let payloads: Vec<_> = lines.iter().map(|line| line.rsplit('=').next()).collect();
        assert_eq!(payloads, [Some("refused"), Some("another")]);
    });
}

/// 5 and 3.1.1 [MQTT-4.4.0-1]'s other side: a publisher sends again what was not acknowledged, and the server knows a
/// repeat when it sees one, also after a crash. Method: a crash after every step of one exchange.
#[test]
fn an_exchange_at_qos_2_goes_on_after_a_crash() {
    for steps in 0..12 {
        on_shards(|world, last| {
            let subscriber = v3("s").persistent(0);
            let s = world.connect(&subscriber);
            world.subscribe(s, "a", 2);
            world.cut(s);
            let publisher = |shard| v5("p").persistent(1_000).at(shard);
            let p = world.connect(&publisher(last));
            world.is_store_held = true;
            publish(world, p, ("a", "once", 2, 9), false);
            let mut is_acknowledged = false;
            for _ in 0..steps {
                world.store_step();
                world.settle();
                for line in world.take(p) {
                    if line == "PUBREC #9" {
                        is_acknowledged = true;
                        world.ack(p, "PUBREL", 9);
                    } else {
                        assert_eq!(line, "PUBCOMP #9");
                    }
                }
            }
            world.is_store_held = false;
            world.crash_and_restore();
            let (p, connack) = world.try_connect(&publisher(0));
            assert_eq!(connack, "CONNACK 00 present");
            if is_acknowledged {
                world.ack(p, "PUBREL", 9);
                let line = &world.take(p)[0];
                assert!(line.starts_with("PUBCOMP #9"), "{line}");
            } else {
                publish(world, p, ("a", "once", 2, 9), true);
                assert_eq!(world.take(p), ["PUBREC #9"]);
                world.ack(p, "PUBREL", 9);
                assert_eq!(world.take(p), ["PUBCOMP #9"]);
            }
            // The identifier is free for another message.
            publish(world, p, ("a", "next", 2, 9), false);
            world.ack(p, "PUBREL", 9);
            assert_eq!(world.take(p), ["PUBREC #9", "PUBCOMP #9"]);
            assert_eq!(rows(world, Table::RECEIVED), 0);
            let s = world.connect(&subscriber);
            let mut payloads = Vec::new();
            for line in world.take(s) {
                payloads.push(line.rsplit('=').next().unwrap().to_owned());
            }
            assert_eq!(payloads, ["once", "next"], "after {steps} steps");
        });
    }
}

/// A publisher as a library writes one: it sends again what is unfinished, in order, after each reconnection.
struct Sender {
    name: String,
    client: Option<Client>,
    /// Number of the message, its `QoS`, and whether PUBREC has come.
    unfinished: Vec<(u16, u8, bool)>,
    last: u16,
}

impl Sender {
    fn message(number: u16, qos: u8) -> (String, u8, u16) {
        (format!("{number}"), qos, number)
    }

    fn connect(&mut self, world: &mut World, shard: usize) {
        let options = v5(&self.name).persistent(100_000).at(shard);
        let (client, connack) = world.try_connect(&options);
        if !connack.starts_with("CONNACK 00") {
            return;
        }
        self.client = Some(client);
        for (number, qos, is_received) in self.unfinished.clone() {
            if is_received {
                world.ack(client, "PUBREL", number);
            } else {
                let (payload, qos, id) = Self::message(number, qos);
                publish(world, client, (&self.name, &payload, qos, id), true);
            }
        }
    }

    fn send(&mut self, world: &mut World, qos: u8) {
        if let Some(client) = self.client {
            self.last += 1;
            self.unfinished.push((self.last, qos, false));
            let (payload, qos, id) = Self::message(self.last, qos);
            publish(world, client, (&self.name, &payload, qos, id), false);
        }
    }

    fn listen(&mut self, world: &mut World) {
        let Some(client) = self.client else {
            return;
        };
        for line in world.take(client) {
            let mut words = line.split_whitespace();
            let kind = words.next().unwrap();
            if kind == "closed" {
                self.client = None;
                return;
            }
            let Some(number) = words.next().and_then(|word| word.strip_prefix('#')) else {
                continue;
            };
            let number: u16 = number.parse().unwrap();
            let refused = words.next().is_some_and(|reason| reason == "97");
            match kind {
                "PUBREC" if !refused => {
                    let of = |unfinished: &&mut (u16, u8, bool)| unfinished.0 == number;
                    if let Some(unfinished) = self.unfinished.iter_mut().find(of) {
                        unfinished.2 = true;
                    }
                    world.ack(client, "PUBREL", number);
                }
                // Refused: it is sent anew with the next connection.
                "PUBACK" | "PUBREC" if refused => {}
                "PUBACK" | "PUBCOMP" => self.unfinished.retain(|(of, ..)| *of != number),
                _ => {}
            }
        }
    }
}

/// Goal: nothing that was acknowledged is lost, nothing at `QoS` 2 comes twice, each publisher's first deliveries keep
/// its order; whatever crashes, whatever is refused. Method: random publishes, steps of the store, cuts, crashes and
/// refusals; then everything is finished, and the absent subscribers come back.
#[test]
#[expect(clippy::too_many_lines, reason = "one script, told in one go")]
fn nothing_is_lost_and_nothing_at_qos_2_comes_twice() {
    for seed in 0..60_u64 {
        let mut shards = SHARDS[usize::try_from(seed % 3).unwrap()];
        let mut world = World::seeded(shards, Limits::default(), seed);
        let world = &mut world;
        let mut random = Random::seeded(seed);
        let mut pick = move |bound: usize| usize::try_from(random.next() >> 33).unwrap() % bound;
        for number in 0..3_usize {
            let shard = number % usize::from(shards);
            let s = world.connect(&v3(&format!("s{number}")).persistent(0).at(shard));
            world.subscribe(s, "#", 2);
            world.cut(s);
        }
        let mut senders: Vec<_> = (0..3)
            .map(|number| Sender {
                name: format!("p{number}"),
                client: None,
                unfinished: Vec::new(),
                last: 0,
            })
            .collect();
        let mut has_refused = false;
        for _ in 0..200 {
            let at = pick(senders.len());
            match pick(12) {
                0..=5 => senders[at].send(world, 1 + u8::try_from(pick(2)).unwrap()),
                6 | 7 => {
                    world.store_step();
                    world.settle();
                }
                8 => world.is_store_held = pick(2) == 0,
                9 => {
                    if let Some(client) = senders[at].client.take() {
                        world.cut(client);
                    }
                }
                10 => {
                    world.store.refuses = (pick(3) == 0).then_some(crate::journal::Refusal::Full);
                    has_refused |= world.store.refuses.is_some();
                }
                _ if pick(4) == 0 => {
                    shards = SHARDS[pick(3)];
                    world.store.refuses = None;
                    world.restart(shards.into(), 10);
                    for sender in &mut senders {
                        sender.client = None;
                    }
                }
                _ => world.settle(),
            }
            for sender in &mut senders {
                sender.listen(world);
                if sender.client.is_none() && !world.is_store_held && world.store.refuses.is_none()
                {
                    sender.connect(world, pick(shards.into()));
                }
            }
        }
        world.store.refuses = None;
        world.is_store_held = false;
        world.settle();
        for _ in 0..20 {
            for sender in &mut senders {
                sender.listen(world);
                if !sender.unfinished.is_empty() {
                    if let Some(client) = sender.client.take() {
                        world.cut(client);
                    }
                    sender.connect(world, 0);
                }
            }
        }
        assert!(
            senders.iter().all(|it| it.unfinished.is_empty()),
            "seed {seed}"
        );
        if pick(2) == 0 {
            world.crash_and_restore();
        }
        for number in 0..3 {
            let s = world.connect(&v3(&format!("s{number}")).persistent(0));
            let mut seen: BTreeMap<String, Vec<u16>> = BTreeMap::new();
            let mut at_qos_2: Vec<String> = Vec::new();
            loop {
                let lines = world.take(s);
                if lines.is_empty() {
                    break;
                }
                for line in lines {
                    let words: Vec<_> = line.split_whitespace().collect();
                    let id: u16 = words
                        .iter()
                        .find_map(|word| word.strip_prefix('#'))
                        .map_or(0, |id| id.parse().unwrap());
                    match words[..] {
                        ["PUBLISH", qos, .., message] => {
                            let (topic, number) = message.split_once('=').unwrap();
                            let seen = seen.entry(topic.into()).or_default();
                            seen.push(number.parse().unwrap());
                            if qos == "q2" {
                                at_qos_2.push(message.into());
                                world.ack(s, "PUBREC", id);
                            } else {
                                world.ack(s, "PUBACK", id);
                            }
                        }
                        ["PUBREL", ..] => world.ack(s, "PUBCOMP", id),
                        _ => {}
                    }
                }
            }
            for sender in &senders {
                let mut numbers = seen.remove(&sender.name).unwrap_or_default();
                let mut first = Vec::new();
                for number in &numbers {
                    if !first.contains(number) {
                        first.push(*number);
                    }
                }
                // Who is refused sends it again behind what came after it.
                assert!(has_refused || first.is_sorted(), "seed {seed}: {numbers:?}");
                numbers.sort_unstable();
                numbers.dedup();
                let all: Vec<u16> = (1..=sender.last).collect();
                assert_eq!(numbers, all, "seed {seed}, s{number}, {}", sender.name);
            }
            let count = at_qos_2.len();
            at_qos_2.sort();
            at_qos_2.dedup();
            assert_eq!(at_qos_2.len(), count, "seed {seed}: twice");
            world.cut(s);
        }
        assert_eq!(rows(world, Table::RECEIVED), 0, "seed {seed}");
    }
}
