//! From one message to everybody who gets it: the hot path.
//!
//! At `QoS` 0 it touches, per subscriber, one entry of the cached match and one [`Port`] of eight bytes, and allocates
//! nothing. At `QoS` 1 and 2 a message that cannot go at once is stored once for all its debtors.

mod durably;

use std::rc::Rc;

use waypost_mqtt::{Filter, ProtocolVersion, PublishHead, QoS, Topic, publish_len};

use crate::broker::Broker;
use crate::connection::{Connection, Connections};
use crate::counters::Counters;
use crate::dead::{Cause, DeadLetters, Graves};
use crate::debtor::Unlogged;
use crate::debts::{Debts, Ledger};
use crate::effects::{
    ConnectionId, DeliveryFlags, Effects, IdentifierRange, Message, Now, ShardId, Target,
};
use crate::fresh::Fresh;
use crate::hash::Hasher;
use crate::index::{CachedMatch, Merged, SubscriberId, SubscriptionIndex};
use crate::inflight::Identifiers;
use crate::interest::post;
use crate::keep::By;
use crate::limits::Limits;
use crate::mail::{Known, Mail, Origin};
use crate::moving::Moving;
use crate::parcel::OwedParcel;
use crate::queue::{Owed, StoredMessage};
use crate::session::{Port, Session, Sessions};
use crate::stream::StreamId;

/// Memory to work in, used again and again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub targets: Vec<Target>,
    pub properties: Vec<u8>,
    pub packet: Vec<u8>,
    pub debts: Debts,
    pub body: Vec<u8>,
    /// Streams that the message at hand enters.
    pub entered: Vec<StreamId>,
}

/// Where a message was published.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Here,
    /// At another shard: only sessions get it.
    Shard(ShardId, Known<'a>),
}

impl Broker {
    /// Sends a message to everybody who gets it, here and on other shards, retains it if it says so, and answers its
    /// publisher once it is kept for those who get it later.
    pub(crate) fn route(
        &mut self,
        message: &Message<'_>,
        mut origin: Origin,
        by: By,
        now: Now,
        out: &mut impl Effects,
    ) {
        if origin.retain {
            origin.stamp = self.stamp(message);
            self.retain(message, origin, now);
        }
        let is_matched = self.fan_out(message, origin, Source::Here, now, out);
        if !is_matched && origin.publisher > Origin::DEAD_LETTERS {
            self.counters.publishes_unmatched += 1;
        }
        self.keep(message, origin, by, is_matched, now, out);
    }

    /// Sends a message to every session of this shard that gets it, and on to other shards if it was published here.
    /// Returns whether anybody matched.
    pub(crate) fn fan_out(
        &mut self,
        message: &Message<'_>,
        origin: Origin,
        source: Source<'_>,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        let is_published_here = matches!(source, Source::Here);
        let retainer = (origin.retain && is_published_here)
            .then(|| self.retainer_elsewhere(message.topic))
            .flatten();
        if origin.retain {
            self.interest.overtake(message.topic, origin.stamp);
        }
        self.sweep_for(message, now);
        let Self {
            cache,
            index,
            sessions,
            connections,
            scratch,
            counters,
            limits,
            hasher,
            interest,
            fresh,
            groups,
            policies,
            numbers,
            unlogged,
            dead,
            ..
        } = self;
        let mut none = Debts::NONE;
        let debts = scratch
            .debts
            .of(origin, self.has_store && is_published_here, &mut none);
        let mut ledger = Ledger {
            debts,
            policies,
            numbers,
            topic: message.topic,
        };
        let (source, address, matched) = match source {
            Source::Here => {
                let matched = cache.lookup(message.topic, index);
                let mut address = None;
                if !matched.groups().is_empty() || !matched.shards().is_empty() {
                    let connection = origin.connection.and_then(|id| connections.get(id));
                    address = connection.and_then(|connection| Some(connection.peer?.ip()));
                }
                if !matched.shards().is_empty() || retainer.is_some() {
                    let ledger = &mut ledger;
                    interest.forward(
                        matched, message, origin, address, retainer, ledger, counters, out,
                    );
                }
                (self.shard, address, matched)
            }
            Source::Shard(from, known) => {
                let matched = interest.lookup(message.topic, known, index);
                (from, known.address, matched)
            }
        };
        let has_groups = groups.note(matched);
        if matched.merged().is_empty() {
            let is_matched = !matched.is_empty();
            if has_groups {
                self.offer_to_groups(message, origin, source, address, now, out);
            }
            return is_matched;
        }
        let mut fan_out = FanOut {
            message,
            origin,
            matched,
            sessions,
            connections,
            counters,
            limits,
            hasher,
            index,
            fresh: Some(&*fresh).filter(|fresh| source != self.shard && !fresh.is_empty()),
            targets: &mut scratch.targets,
            stored: None,
            passed_on: Vec::new(),
            ledger,
            unlogged,
            dead,
            source,
            now,
        };
        fan_out.targets.clear();
        for merged in matched.merged() {
            fan_out.consider(*merged, out);
        }
        let passed_on = fan_out.passed_on;
        let targets = &scratch.targets;
        counters.deliveries += targets.len() as u64;
        if !targets.is_empty() {
            out.deliver_many(message, targets, matched.identifiers());
        }
        pass_on(passed_on, out);
        if has_groups {
            self.offer_to_groups(message, origin, source, address, now, out);
        }
        true
    }
}

/// Sends what sessions on their way are owed after them.
fn pass_on(passed_on: Vec<(ShardId, u64, Owed)>, out: &mut impl Effects) {
    for (to, number, owed) in passed_on {
        let owed = OwedParcel::new(&owed);
        post(to, Mail::Forwarded { number, owed }, out);
    }
}

struct FanOut<'a> {
    message: &'a Message<'a>,
    origin: Origin,
    matched: &'a CachedMatch,
    sessions: &'a mut Sessions,
    connections: &'a mut Connections,
    counters: &'a mut Counters,
    limits: &'a Limits,
    hasher: &'a Hasher,
    index: &'a SubscriptionIndex,
    /// Subscriptions that the source may not have known of.
    fresh: Option<&'a Fresh>,
    targets: &'a mut Vec<Target>,
    /// The message as it is kept, once somebody has to be owed it.
    stored: Option<Rc<StoredMessage>>,
    /// For sessions that moved to another shard.
    passed_on: Vec<(ShardId, u64, Owed)>,
    /// Who is owed it later.
    ledger: Ledger<'a>,
    unlogged: &'a mut Unlogged,
    dead: &'a mut DeadLetters,
    /// The shard it was published at.
    source: ShardId,
    now: Now,
}

impl FanOut<'_> {
    #[inline]
    fn consider<E: Effects>(&mut self, mut merged: Merged, out: &E) {
        if merged.flags.no_local() && self.is_publisher(merged) {
            // 5 [MQTT-3.8.3-3]
            let Some(own) = self.matched.for_publisher(merged) else {
                return;
            };
            merged = own;
        }
        if self
            .fresh
            .is_some_and(|fresh| self.is_too_early(fresh, merged))
        {
            return;
        }
        if self.origin.is_again && !self.is_to_be_owed(merged) {
            return;
        }
        let port = self.sessions.port(merged.subscriber);
        // 5 [MQTT-3.8.4-8], 3.1.1 [MQTT-3.8.4-6]: the lower of the published and the granted QoS.
        let qos = self.origin.qos.min(merged.flags.qos());
        // 5 [MQTT-3.3.1-12], [MQTT-3.3.1-13], 3.1.1 [MQTT-3.3.1-9]
        let retain = self.origin.retain && merged.flags.retain_as_published();
        if self.origin.retain {
            self.overtake(merged.subscriber);
        }
        if qos != QoS::AtMostOnce {
            self.deliver_acknowledged(merged, port, qos, retain, out);
        } else if let Some(connection) = port.connection() {
            let target = target(connection, port, qos, retain, identifiers(merged));
            if port.is_careful() {
                self.push_carefully(target);
            } else {
                self.targets.push(target);
            }
        }
    }

    /// Whether the store would owe it a message, which it refused to.
    #[cold]
    fn is_to_be_owed(&mut self, merged: Merged) -> bool {
        let session = self.sessions.get(merged.subscriber.0);
        session.is_some_and(|session| session.number().is_some())
            && self.origin.qos.min(merged.flags.qos()) != QoS::AtMostOnce
            && self.ledger.is_kept()
    }

    /// Whether a message was published before all subscriptions of this session that match.
    fn is_too_early(&self, fresh: &Fresh, merged: Merged) -> bool {
        let slot = merged.subscriber.0;
        let matches = |filter| {
            let filter = self.index.filter_string(filter);
            Filter::parse(&filter)
                .ok()
                .zip(Topic::parse(self.message.topic).ok())
                .is_some_and(|(filter, topic)| filter.matches(topic))
        };
        fresh.has(slot)
            && self.sessions.get(slot).is_some_and(|session| {
                session.subscriptions.iter().all(|filter| {
                    fresh.is_unknown_to(self.source, slot, *filter) || !matches(*filter)
                })
            })
    }

    #[cold]
    fn push_carefully(&mut self, mut target: Target) {
        let identifiers = target.identifiers.of(self.matched.identifiers());
        if fit(
            self.connections,
            self.hasher,
            self.message,
            &mut target,
            identifiers,
        ) {
            self.targets.push(target);
        } else {
            self.counters.dropped_too_large += 1;
        }
    }

    /// What goes to a client at once overtakes older retained messages on its topic: they must not come after it.
    #[cold]
    fn overtake(&mut self, subscriber: SubscriberId) {
        if let Some(delivery) = self
            .sessions
            .get_mut(subscriber.0)
            .and_then(|session| session.delivery.as_mut())
        {
            for request in &mut delivery.retained {
                request.overtake(self.message.topic, self.origin.stamp);
            }
        }
    }

    #[cold]
    fn is_publisher(&self, merged: Merged) -> bool {
        self.sessions
            .get(merged.subscriber.0)
            .is_some_and(|session| session.publisher == self.origin.publisher)
    }

    fn deliver_acknowledged<E: Effects>(
        &mut self,
        merged: Merged,
        port: Port,
        qos: QoS,
        retain: bool,
        out: &E,
    ) {
        let Some(session) = self.sessions.get_mut(merged.subscriber.0) else {
            return;
        };
        if session.number().is_some() && self.ledger.is_kept() {
            self.deliver_durably(merged, port, qos, retain, out);
            return;
        }
        let is_persistent = session.is_persistent();
        let is_live = session.delivery().is_live();
        let connection = port.connection().filter(|connection| {
            let is_slow =
                is_live && out.outbox_bytes(*connection) > self.limits.outbox_bytes_max / 2;
            if is_slow {
                self.counters.slow_readers += 1;
                session.delivery().is_slow = true;
            }
            is_live && !is_slow
        });
        let all = self.matched.identifiers_of(merged);
        if session.moving.is_some() {
            let message = stored(&mut self.stored, self.message, self.now);
            let owed = Owed {
                message,
                identifiers: kept(self.matched.identifiers_of(merged)),
                qos,
                retain,
            };
            match session.moving.as_deref_mut() {
                Some(Moving::Leaving(leaving)) if leaving.passes_on(self.source) => {
                    self.passed_on.push((leaving.to, leaving.number, owed));
                }
                Some(Moving::Arriving(arriving)) => {
                    arriving.hold(self.source, owed, self.limits, self.counters);
                }
                _ => {}
            }
            return;
        }
        let Some(connection) = connection else {
            let message = stored(&mut self.stored, self.message, self.now);
            let owed = Owed {
                message,
                identifiers: kept(all),
                qos,
                retain,
            };
            let Self {
                dead,
                limits,
                counters,
                now,
                ..
            } = self;
            let mut graves = Graves {
                dead,
                policies: self.ledger.policies,
                limits,
                counters,
            };
            enqueue(session, owed, &mut graves, *now);
            return;
        };
        let mut target = target(connection, port, qos, retain, identifiers(merged));
        if port.is_careful()
            && !fit(
                self.connections,
                self.hasher,
                self.message,
                &mut target,
                all,
            )
        {
            // 5 [MQTT-3.1.2-25]: as though it had been sent.
            self.counters.dropped_too_large += 1;
            return;
        }
        // A session that ends with its connection never sends again: it keeps the identifier only.
        let (message, identifiers) = if is_persistent {
            (
                Some(stored(&mut self.stored, self.message, self.now)),
                kept(all),
            )
        } else {
            (None, None)
        };
        target.packet_id = session
            .delivery()
            .inflight
            .begin(qos, retain, message, identifiers)
            .value();
        self.targets.push(target);
    }
}

fn identifiers(merged: Merged) -> IdentifierRange {
    IdentifierRange {
        start: merged.identifiers_start,
        len: merged.identifiers_len,
    }
}

fn kept(identifiers: &[u32]) -> Identifiers {
    (!identifiers.is_empty()).then(|| identifiers.into())
}

fn stored(
    place: &mut Option<Rc<StoredMessage>>,
    message: &Message<'_>,
    now: Now,
) -> Rc<StoredMessage> {
    Rc::clone(place.get_or_insert_with(|| Rc::new(StoredMessage::new(message, now))))
}

/// A target without identifier and alias.
#[inline]
pub(crate) fn target(
    connection: ConnectionId,
    port: Port,
    qos: QoS,
    retain: bool,
    identifiers: IdentifierRange,
) -> Target {
    let flags = DeliveryFlags::new(qos)
        .with_if(retain, DeliveryFlags::RETAIN)
        .with_if(port.is_v5(), DeliveryFlags::V5);
    Target {
        connection,
        packet_id: 0,
        alias: 0,
        identifiers,
        flags,
    }
}

/// Puts a message in a session's queue, or counts it as dropped when the queue is full.
pub(crate) fn enqueue(session: &mut Session, owed: Owed, graves: &mut Graves<'_>, now: Now) {
    let delivery = session.delivery();
    let (messages_max, bytes_max) = (
        graves.limits.queue_messages_max,
        graves.limits.queue_bytes_max,
    );
    let mut pushed = delivery.queue.push(owed, messages_max, bytes_max);
    if let Err(owed) = pushed {
        // What expired makes room first.
        let expired = graves.drop_expired(&mut delivery.queue, now);
        pushed = if expired > 0 {
            delivery.queue.push(owed, messages_max, bytes_max)
        } else {
            Err(owed)
        };
    }
    match pushed {
        Ok(()) => graves.counters.queued += 1,
        Err(owed) => {
            graves.counters.dropped_queue_full += 1;
            delivery.dropped += 1;
            graves.bury(&owed, Cause::QueueFull);
        }
    }
}

/// Sees to what a careful connection asks for: a Topic Alias where it gains something, and nothing larger than its
/// Maximum Packet Size. `false`: it does not fit.
#[cold]
pub(crate) fn fit(
    connections: &mut Connections,
    hasher: &Hasher,
    message: &Message<'_>,
    target: &mut Target,
    identifiers: &[u32],
) -> bool {
    let Some(connection) = connections.get_mut(target.connection) else {
        return false;
    };
    let len = len_to(connection, message, target.flags.qos(), identifiers);
    let bytes_max = connection.packet_bytes_max as usize;
    // 5 [MQTT-3.1.2-24]
    if len > bytes_max {
        return false;
    }
    // Teaching an alias makes the packet larger, at most by its property and two more length bytes.
    if let Some(aliases) = &mut connection.aliases_out
        && connection.version == ProtocolVersion::V5
        && len + 5 <= bytes_max
        && let Some((alias, known)) = aliases.assign(message.topic, |topic| hasher.hash(topic))
    {
        target.alias = alias;
        target.flags = target.flags.with_if(known, DeliveryFlags::TOPIC_KNOWN);
    }
    true
}

/// The length of the PUBLISH packet for a client, without an alias.
pub(crate) fn len_to(
    connection: &Connection,
    message: &Message<'_>,
    qos: QoS,
    identifiers: &[u32],
) -> usize {
    publish_len(&PublishHead {
        version: connection.version,
        dup: false,
        qos,
        retain: false,
        topic: message.topic,
        packet_id: 1,
        topic_alias: None,
        message_expiry_interval: message.expiry_s,
        subscription_identifiers: identifiers,
        properties: message.properties,
        payload_len: message.payload.bytes.len(),
    })
}
