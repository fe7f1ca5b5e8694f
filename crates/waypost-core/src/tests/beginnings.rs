//! What a subscription begins with on several shards, whatever the mailboxes' delays.
//!
//! Goal: what was published before a SUBSCRIBE is not sent live; what was retained then comes exactly once with
//! RETAIN 1; what is published after the SUBACK comes exactly once live; in between exactly once either way; and a
//! retained copy never follows a newer message. Method: scripts made from a seed, in which mail waits between any two
//! steps, against the list of what was published when.

use std::collections::BTreeMap;

use waypost_mqtt::{Property, PropertyBuffer, RetainHandling, SubscriptionOptions};

use super::world::{Client, World, options, v5};
use crate::Limits;
use crate::broker::Random;

const TOPICS: usize = 5;

struct Published {
    time: usize,
    topic: usize,
    is_retained: bool,
    is_clear: bool,
}

struct Received {
    number: usize,
    topic: usize,
    is_retained: bool,
}

struct Subscriber {
    wire: Client,
    /// All topics, or one.
    topic: Option<usize>,
    options: SubscriptionOptions,
    sent: Option<usize>,
    acknowledged: Option<usize>,
    received: Vec<Received>,
    packets: u16,
}

impl Subscriber {
    fn new(world: &mut World, name: &str, dice: &mut Dice) -> Self {
        let shard = dice.below(world.shards());
        let retain_handling = [
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendAtSubscribe,
            RetainHandling::SendIfNew,
            RetainHandling::DoNotSend,
        ][dice.below(4)];
        Self {
            wire: world.connect(&v5(name).at(shard)),
            topic: (dice.below(2) == 0).then(|| dice.below(TOPICS)),
            options: SubscriptionOptions {
                retain_handling,
                retain_as_published: dice.below(3) == 0,
                ..options(u8::try_from(dice.below(2)).unwrap())
            },
            sent: None,
            acknowledged: None,
            received: Vec::new(),
            packets: 0,
        }
    }

    fn subscribe(&mut self, world: &mut World, time: usize) {
        let filter = self
            .topic
            .map_or("r/+".into(), |topic| format!("r/{topic}"));
        let answer = world.subscribe_with(self.wire, &[(&filter, self.options)], 0);
        self.sent = Some(time);
        // It is taken from what was received: none yet, or the time is now.
        if answer.starts_with("SUBACK") {
            self.acknowledged = Some(time);
        }
    }

    fn read(&mut self, world: &mut World, time: usize) {
        for line in world.take(self.wire) {
            if line.starts_with("SUBACK") {
                self.acknowledged = Some(time);
            } else if line.starts_with("PUBLISH") {
                if line.starts_with("PUBLISH q1") {
                    self.packets += 1;
                }
                let (_, number) = line.split_once("UserProperty(\"n\", \"").unwrap();
                let (_, topic) = line.split_once(" r/").unwrap();
                self.received.push(Received {
                    number: number.trim_end_matches("\")").parse().unwrap(),
                    topic: topic[..1].parse().unwrap(),
                    is_retained: line.contains(" retain "),
                });
            }
        }
    }
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        usize::try_from(self.0.next() >> 33).unwrap() % sides
    }
}

struct Play {
    seed: u64,
    published: Vec<Published>,
}

impl Play {
    fn publish(&mut self, world: &mut World, client: Client, topic: usize, dice: &mut Dice) {
        let number = self.published.len();
        let is_retained = dice.below(4) > 0;
        let is_clear = is_retained && dice.below(6) == 0;
        let mut properties = PropertyBuffer::new();
        properties.push(Property::UserProperty("n", &number.to_string()));
        let payload = if is_clear { "" } else { "x" };
        let name = format!("r/{topic}");
        let qos = u8::try_from(dice.below(2)).unwrap();
        world.publish_with(client, &name, payload, qos, 10, is_retained, &properties);
        self.published.push(Published {
            time: number,
            topic,
            is_retained,
            is_clear,
        });
    }

    /// Whether a message was the retained one of its topic at that time.
    fn is_kept_at(&self, number: usize, time: usize) -> bool {
        let Published {
            topic,
            is_retained,
            is_clear,
            ..
        } = self.published[number];
        is_retained
            && !is_clear
            && self.published[number + 1..]
                .iter()
                .all(|later| later.time >= time || later.topic != topic || !later.is_retained)
    }

    fn check(&self, at: usize, subscriber: &Subscriber) {
        let (Some(sent), Some(acknowledged)) = (subscriber.sent, subscriber.acknowledged) else {
            return;
        };
        let wants_retained = subscriber.options.retain_handling != RetainHandling::DoNotSend;
        for (number, published) in self.published.iter().enumerate() {
            if subscriber
                .topic
                .is_some_and(|topic| topic != published.topic)
            {
                continue;
            }
            let copies: Vec<_> = subscriber
                .received
                .iter()
                .filter(|received| received.number == number)
                .map(|received| received.is_retained)
                .collect();
            let why = format!(
                "seed {}, subscriber {at}: {number} came as {copies:?}; SUBSCRIBE before {sent}, SUBACK before \
                 {acknowledged}",
                self.seed
            );
            let is_kept = wants_retained && self.is_kept_at(number, acknowledged);
            if published.time >= acknowledged {
                let retain = published.is_retained && subscriber.options.retain_as_published;
                assert_eq!(copies, [retain], "{why}");
            } else if published.time < sent {
                assert!(
                    if is_kept {
                        copies == [true]
                    } else {
                        copies.is_empty() || copies == [true]
                    },
                    "{why}"
                );
                assert!(
                    copies.is_empty() || self.is_kept_at(number, sent) && wants_retained,
                    "{why}"
                );
            } else {
                assert!(
                    copies.len() <= 1 && (!is_kept || !copies.is_empty()),
                    "{why}"
                );
            }
        }
    }

    /// With one publisher per topic, the numbers of what was to be retained only rise.
    fn check_order(&self, at: usize, subscriber: &Subscriber) {
        let mut last = BTreeMap::new();
        for received in &subscriber.received {
            if !self.published[received.number].is_retained {
                continue;
            }
            let before = last.insert(received.topic, received.number);
            assert!(
                before < Some(received.number),
                "seed {}, subscriber {at}: {} after {before:?}",
                self.seed,
                received.number
            );
        }
    }
}

fn play(seed: u64) {
    let mut dice = Dice(Random::seeded(seed ^ 0xbe61));
    let shards = 2 + dice.below(3);
    let mut world = World::seeded(u16::try_from(shards).unwrap(), Limits::default(), seed);
    let publishers: Vec<_> = (0..shards)
        .map(|shard| world.connect(&v5(&format!("p{shard}")).at(shard)))
        .collect();
    // On some shards somebody wants it all already.
    let mut watchers: Vec<_> = (0..dice.below(shards))
        .map(|n| Subscriber::new(&mut world, &format!("w{n}"), &mut dice))
        .collect();
    for watcher in &mut watchers {
        watcher.topic = None;
        watcher.subscribe(&mut world, 0);
    }
    let mut subscribers: Vec<_> = (0..4)
        .map(|n| Subscriber::new(&mut world, &format!("s{n}"), &mut dice))
        .collect();
    let mut play = Play {
        seed,
        published: Vec::new(),
    };
    let has_one_publisher = dice.below(2) == 0;
    world.is_mail_held = true;
    for _ in 0..80 {
        let time = play.published.len();
        match dice.below(8) {
            0..3 => {
                let topic = dice.below(TOPICS);
                let by = if has_one_publisher {
                    topic
                } else {
                    dice.below(shards)
                };
                play.publish(&mut world, publishers[by % shards], topic, &mut dice);
            }
            3 => {
                let at = dice.below(subscribers.len());
                if subscribers[at].sent.is_none() {
                    subscribers[at].subscribe(&mut world, time);
                }
            }
            _ => {
                for _ in 0..=dice.below(6) {
                    world.deliver_mail();
                }
            }
        }
        let time = play.published.len();
        for subscriber in subscribers.iter_mut().chain(&mut watchers) {
            subscriber.read(&mut world, time);
        }
    }
    world.is_mail_held = false;
    world.settle();
    for (at, subscriber) in subscribers.iter_mut().chain(&mut watchers).enumerate() {
        subscriber.read(&mut world, play.published.len());
        play.check(at, subscriber);
        if has_one_publisher {
            play.check_order(at, subscriber);
        }
    }
}

#[test]
fn a_subscription_begins_at_one_moment_for_every_shard() {
    for seed in 0..1_000 {
        play(seed);
    }
}
