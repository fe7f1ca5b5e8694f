//! The load: connections in groups, every publisher of a group heard by all its subscribers.

use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::{Duration, Instant};

use waypost_mqtt::{
    Filter, Properties, Publish, QoS, ReasonCode, SubscriptionOptions, SubscriptionRequest,
};

use super::histogram::Histogram;
use super::sequence::Sequence;
use crate::Failure;
use crate::client::swarm::{Key, Swarm};
use crate::commands::connection::{Server, random};
use waypost_client::protocol::event::{Closed, Event};
use waypost_client::protocol::options::{Options, Outgoing};

/// Publisher, number and the time it was due, at the beginning of each payload.
pub const PAYLOAD_BYTES_MIN: usize = 20;
/// Connections being made at once.
const OPENING_MAX: usize = 100;
/// Deliveries on their way, over all and for each subscriber of a group: enough to keep the server
/// busy, too little to fill its queues.
const DELIVERIES_AHEAD: u64 = 1_000;
const DELIVERIES_AHEAD_EACH: u64 = 20;
/// Messages published between two looks at the network.
const BURST: u64 = 100;
/// How long nothing may arrive before what is owed counts as missing.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Topics; nothing crosses from one group to another.
    pub groups: usize,
    /// Publishers in each.
    pub publishers: usize,
    /// Subscribers in each.
    pub subscribers: usize,
    /// The publishers are the subscribers.
    pub shared: bool,
    /// Of publishing and subscribing.
    pub qos: QoS,
    /// Bytes of each payload.
    pub payload_bytes: usize,
}

/// When messages are published.
#[derive(Debug, Clone, Copy)]
pub enum Tempo {
    /// As fast as they are delivered.
    Full,
    /// So many a second.
    Rate(f64),
}

/// What one phase measured.
#[derive(Debug)]
pub struct Phase {
    /// Deliveries in it.
    pub delivered: u64,
    /// From the first publish to the last delivery, at least the phase's duration.
    pub elapsed: Duration,
    /// From when a message was due to each delivery of it.
    pub latency: Histogram,
}

/// What is wrong with what arrived, over all phases.
#[derive(Debug, Default, Clone, Copy)]
pub struct Faults {
    /// Never came.
    pub missing: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one of the same publisher.
    pub reordered: u64,
}

/// A connected load.
pub struct Load {
    swarm: Swarm,
    shape: Shape,
    topics: Vec<String>,
    connections: Vec<Key>,
    publishers: Vec<Key>,
    /// Messages each publisher sent.
    published: Vec<u64>,
    next_publisher: usize,
    ledger: Ledger,
}

struct Ledger {
    server: Server,
    shape: Shape,
    start: Instant,
    /// Each subscriber's number by the index of its key.
    subscribers: Vec<Option<usize>>,
    /// One for each pair of a subscriber and a publisher of its group.
    sequences: Vec<Sequence>,
    latency: Histogram,
    delivered: u64,
    last_delivery: Instant,
    connected: usize,
    subscribed: usize,
    unfinished: u64,
    stray: u64,
    failure: Option<Failure>,
}

impl Shape {
    fn connections(&self) -> usize {
        let each = if self.shared {
            self.publishers
        } else {
            self.publishers + self.subscribers
        };
        self.groups * each
    }
}

impl Load {
    /// Connects and subscribes everybody.
    pub fn connect(server: Server, template: &Options, shape: Shape) -> Result<Self, Failure> {
        let run = random();
        let mut swarm = Swarm::new(server.door.clone())?;
        let now = Instant::now();
        let mut ledger = Ledger {
            server,
            shape,
            start: now,
            subscribers: Vec::new(),
            sequences: Vec::new(),
            latency: Histogram::new(),
            delivered: 0,
            last_delivery: now,
            connected: 0,
            subscribed: 0,
            unfinished: 0,
            stray: 0,
            failure: None,
        };
        let pairs = shape.groups * shape.subscribers * shape.publishers;
        ledger.sequences.resize_with(pairs, Sequence::default);
        let mut keys = Vec::new();
        while keys.len() < shape.connections() || ledger.connected < keys.len() {
            while keys.len() < shape.connections() && keys.len() - ledger.connected < OPENING_MAX {
                let client_id = format!("bench-{run:016x}-{}", keys.len());
                keys.push(swarm.open(&Rc::new(Options {
                    client_id,
                    ..template.clone()
                }))?);
            }
            swarm.poll(POLL, &mut |key, event| ledger.on_event(key, &event))?;
            ledger.check()?;
        }
        let subscribers = shape.groups * shape.subscribers;
        let topics: Vec<_> = (0..shape.groups)
            .map(|group| format!("bench/{run:016x}/{group}"))
            .collect();
        for (number, &key) in keys.iter().take(subscribers).enumerate() {
            let topic = topics
                .get(number / shape.subscribers)
                .map_or("", String::as_str);
            let filter = Filter::parse(topic).map_err(|error| Failure::new(error.to_string()))?;
            let options = SubscriptionOptions {
                qos: shape.qos,
                ..Default::default()
            };
            ledger.assign(key, number);
            if let Some(session) = swarm.touch(key) {
                session.subscribe(
                    &[SubscriptionRequest { filter, options }],
                    Properties::EMPTY,
                );
            }
        }
        while ledger.subscribed < subscribers {
            swarm.poll(POLL, &mut |key, event| ledger.on_event(key, &event))?;
            ledger.check()?;
        }
        let first = if shape.shared { 0 } else { subscribers };
        let publishers = keys.iter().skip(first).copied().collect::<Vec<_>>();
        let published = vec![0; publishers.len()];
        Ok(Self {
            swarm,
            shape,
            topics,
            connections: keys,
            publishers,
            published,
            next_publisher: 0,
            ledger,
        })
    }

    /// Publishes for `duration` and waits for what is owed.
    pub fn run(&mut self, tempo: Tempo, duration: Duration) -> Result<Phase, Failure> {
        let subscribers = self.shape.subscribers as u64;
        let ahead_max = DELIVERIES_AHEAD.max(subscribers * DELIVERIES_AHEAD_EACH);
        let before = self.ledger.delivered;
        let mut owed = before;
        self.ledger.latency = Histogram::new();
        let start = Instant::now();
        let mut count = 0_u64;
        loop {
            let elapsed = start.elapsed();
            let running = elapsed < duration;
            let mut timeout = POLL;
            for _ in 0..BURST {
                let due = match tempo {
                    Tempo::Full => Instant::now(),
                    #[allow(clippy::cast_precision_loss)]
                    Tempo::Rate(rate) => start + Duration::from_secs_f64(count as f64 / rate),
                };
                let now = Instant::now();
                if !running || due > now {
                    timeout = due.saturating_duration_since(now).min(POLL);
                    break;
                }
                let full = matches!(tempo, Tempo::Full);
                let ahead = owed - self.ledger.delivered.min(owed);
                if full && ahead + subscribers > ahead_max.max(subscribers)
                    || self.ledger.unfinished > ahead_max
                {
                    break;
                }
                self.publish(due);
                owed += subscribers;
                count += 1;
                timeout = Duration::ZERO;
            }
            let Self { swarm, ledger, .. } = self;
            swarm.poll(timeout, &mut |key, event| ledger.on_event(key, &event))?;
            ledger.check()?;
            if !running {
                let waited = ledger.last_delivery.max(start + duration).elapsed();
                let all = ledger.delivered >= owed && ledger.unfinished == 0;
                if all || waited > PATIENCE {
                    break;
                }
            }
        }
        let ledger = &mut self.ledger;
        Ok(Phase {
            delivered: ledger.delivered - before,
            elapsed: ledger
                .last_delivery
                .saturating_duration_since(start)
                .max(duration),
            latency: std::mem::replace(&mut ledger.latency, Histogram::new()),
        })
    }

    /// What is wrong so far.
    pub fn faults(&self) -> Faults {
        let publishers = self.shape.publishers;
        let mut faults = Faults {
            duplicates: self.ledger.stray,
            ..Faults::default()
        };
        for (at, sequence) in self.ledger.sequences.iter().enumerate() {
            let group = at / publishers / self.shape.subscribers;
            let publisher = group * publishers + at % publishers;
            let sent = self.published.get(publisher).copied().unwrap_or(0);
            faults.missing += sequence.missing(sent);
            faults.duplicates += sequence.duplicates;
            faults.reordered += sequence.reordered;
        }
        faults
    }

    /// Disconnects everybody.
    pub fn disconnect(mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        let mut left = self.connections.len();
        for key in self.connections {
            self.swarm.close(key, ReasonCode::Success);
        }
        while left > 0 && Instant::now() < deadline {
            self.swarm.poll(POLL, &mut |_, event| {
                left -= usize::from(matches!(event, Event::Closed { .. }));
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }

    fn publish(&mut self, due: Instant) {
        let number = self.next_publisher;
        self.next_publisher = (number + 1) % self.publishers.len();
        let (Some(&key), Some(published)) =
            (self.publishers.get(number), self.published.get_mut(number))
        else {
            return;
        };
        let within = number % self.shape.publishers;
        let topic = self
            .topics
            .get(number / self.shape.publishers)
            .map_or("", String::as_str);
        let due_ns = due.saturating_duration_since(self.ledger.start).as_nanos();
        let mut payload = Vec::with_capacity(self.shape.payload_bytes);
        payload.extend(u32::try_from(within).unwrap_or(u32::MAX).to_be_bytes());
        payload.extend(published.to_be_bytes());
        payload.extend(u64::try_from(due_ns).unwrap_or(u64::MAX).to_be_bytes());
        payload.resize(self.shape.payload_bytes, b'.');
        *published += 1;
        let message = Outgoing {
            topic,
            payload: &payload,
            qos: self.shape.qos,
            retain: false,
            properties: Properties::EMPTY,
        };
        let Self { swarm, ledger, .. } = self;
        ledger.unfinished += 1;
        swarm.publish(key, &message, 0, &mut |key, event| {
            ledger.on_event(key, &event)
        });
    }
}

impl Ledger {
    fn assign(&mut self, key: Key, subscriber: usize) {
        if self.subscribers.len() <= key.index() {
            self.subscribers.resize(key.index() + 1, None);
        }
        if let Some(slot) = self.subscribers.get_mut(key.index()) {
            *slot = Some(subscriber);
        }
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn on_event(&mut self, key: Key, event: &Event<'_>) -> ControlFlow<()> {
        match event {
            Event::Connected(_) => self.connected += 1,
            Event::Subscribed { reasons, .. } => {
                self.subscribed += 1;
                if let Some(reason) = reasons.iter().find(|reason| reason.is_error()) {
                    let text = format!("a subscription was refused: {}", reason.text());
                    self.failure = Some(Failure::new(text));
                }
            }
            Event::Message(message) => self.on_message(key, message),
            Event::Done { reason, .. } => {
                self.unfinished -= 1;
                if reason.is_error() {
                    let text = format!("a message was refused: {}", reason.text());
                    self.failure = Some(Failure::new(text));
                }
            }
            Event::Lost { .. } => self.unfinished -= 1,
            Event::Resent
            | Event::Unsubscribed { .. }
            | Event::Closed {
                why: Closed::Finished,
                ..
            } => {}
            Event::Closed { why, .. } => self.failure = Some(self.server.failure(why)),
        }
        ControlFlow::Continue(())
    }

    fn on_message(&mut self, key: Key, message: &Publish<'_>) {
        let now = Instant::now();
        let fields = message
            .payload
            .split_first_chunk::<4>()
            .and_then(|(publisher, rest)| {
                let (number, rest) = rest.split_first_chunk::<8>()?;
                let (due_ns, _) = rest.split_first_chunk::<8>()?;
                let publisher = usize::try_from(u32::from_be_bytes(*publisher)).ok()?;
                Some((
                    publisher,
                    u64::from_be_bytes(*number),
                    u64::from_be_bytes(*due_ns),
                ))
            });
        let subscriber = self.subscribers.get(key.index()).copied().flatten();
        let (Some((publisher, number, due_ns)), Some(subscriber)) = (fields, subscriber) else {
            self.stray += 1;
            return;
        };
        let at = subscriber * self.shape.publishers + publisher;
        if let Some(sequence) = self.sequences.get_mut(at) {
            sequence.see(number);
        }
        let now_ns = u64::try_from((now - self.start).as_nanos()).unwrap_or(u64::MAX);
        self.latency.record(now_ns.saturating_sub(due_ns));
        self.delivered += 1;
        self.last_delivery = now;
    }
}
