//! Retained messages: the last word on each topic, for those who subscribe later.
//!
//! A retained publish is stamped (a number all shards share, then the shard), and the store keeps the highest stamp, so that all
//! shards agree. A SUBSCRIBE is not answered with everything at once: it leaves a request with a cursor, which goes
//! on whenever the client has room, and it passes over what the subscription gets live: what was stamped after the
//! shard that stamped it knew of the subscription.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use waypost_mqtt::{Filter, QoS};

use crate::arrivals::Arrivals;
use crate::broker::Broker;
use crate::clock::RetainedClock;
use crate::effects::{ConnectionId, Effects, Message, Now, ShardId};
use crate::flow::Step;
use crate::hash::shared_hash;
use crate::index::{Cursor, TopicTree};
use crate::interest::post;
use crate::mail::{Mail, Origin, RetainedAsk};
use crate::parcel::RetainedParcel;
use crate::queue::{Owed, StoredMessage};
use crate::restoring::Restoring;
use crate::retained_request::RetainedRequest;
use crate::timers::{NEVER, Timer, Timers};
use crate::topics::is_server_topic;
use crate::unsure::Unsure;

/// What is retained on one topic.
#[derive(Clone, Debug)]
pub(crate) struct Retained {
    pub message: Rc<StoredMessage>,
    pub qos: QoS,
    /// Hash of the publisher's client id (No Local).
    pub publisher: u64,
    pub stamp: u64,
}

/// The shard's number in the low bits of a stamp, the clock's above.
pub(crate) const STAMP_SHARD_BITS: u32 = 16;
/// Branches of the tree looked at in one step, at most.
const STEP_BRANCHES: usize = 256;
/// Retained messages read before SUBACK, about.
const AHEAD: usize = 64;
/// Steps for one answer to another shard, at most.
const ANSWER_STEPS_MAX: usize = 16;
/// Bytes after which an answer to another shard is sent.
const ANSWER_BYTES: usize = 256 * 1024;

/// The retained messages this shard owns.
pub(crate) struct RetainedStore {
    tree: TopicTree<Retained>,
    bytes: usize,
    /// Expiries, earliest first, those of messages long replaced included.
    expiries: BinaryHeap<Reverse<(u64, Box<str>)>>,
    armed_ms: u64,
    /// Questions to other owners, to tell their answers apart.
    asked: u64,
    clock: RetainedClock,
    shard: ShardId,
    arrivals: Arrivals,
    pub unsure: Unsure,
    pub restoring: Restoring,
    /// How many of them are the server's own, and their bytes: these are always kept.
    own: (usize, usize),
}

impl RetainedStore {
    pub fn new(seed: u64, clock: RetainedClock, shard: ShardId, shards: u16) -> Self {
        Self {
            tree: TopicTree::new(seed),
            bytes: 0,
            expiries: BinaryHeap::new(),
            armed_ms: NEVER,
            asked: 0,
            clock,
            shard,
            arrivals: Arrivals::new(seed, shards),
            unsure: Unsure::default(),
            restoring: Restoring::default(),
            own: (0, 0),
        }
    }

    /// Nothing is retained on a topic from this stamp on. Returns whether something was.
    fn clear(&mut self, topic: &str, stamp: u64, shards: u16) -> bool {
        self.restoring.clear(topic);
        if shards > 1 {
            let mailed = self.clock.mailed_to(self.shard, shards);
            self.arrivals.clear(topic, stamp, mailed);
        }
        self.remove(topic)
    }

    /// Reads before SUBACK, until it is enough or the owners have been asked.
    pub fn read_ahead(
        &mut self,
        requests: &mut [RetainedRequest],
        slot: u32,
        shards: u16,
        out: &mut impl Effects,
    ) {
        let mut steps = ANSWER_STEPS_MAX;
        for request in requests.iter_mut() {
            while !request.is_read && request.ready.len() < AHEAD && steps > 0 {
                if self.read(request, slot, shards, out) == Step::Stop {
                    break;
                }
                steps -= 1;
            }
        }
    }

    /// Reads on for a request: here, or at the next owner.
    fn read(
        &mut self,
        request: &mut RetainedRequest,
        slot: u32,
        shards: u16,
        out: &mut impl Effects,
    ) -> Step {
        if request.asked != 0 {
            return Step::Stop;
        }
        if request.owner == self.shard.0 {
            if self.restoring.is_going_on() {
                return Step::Stop;
            }
            let RetainedRequest {
                filter,
                cursor,
                ready,
                ..
            } = request;
            let mut visit = |_: &str, retained: &Retained| ready.push_back(retained.clone());
            let is_end = Filter::parse(filter).map_or(true, |filter| {
                self.tree
                    .matching_step(filter, cursor, STEP_BRANCHES, &mut visit)
            });
            if is_end {
                request.next_owner(shards);
            }
            return Step::Done;
        }
        self.asked += 1;
        request.asked = self.asked;
        let owner = ShardId(request.owner);
        let ask = RetainedAsk {
            slot,
            request: request.asked,
            filter: request.filter.clone(),
            cursor: request.cursor.clone(),
            mailed: self.clock.mailed_to(owner, shards),
        };
        post(owner, Mail::RetainedAsk(ask), out);
        Step::Stop
    }

    pub fn len(&self) -> usize {
        self.tree.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn insert(&mut self, retained: Retained) {
        let message = &retained.message;
        self.bytes += message.bytes();
        if is_server_topic(message.topic()) {
            self.own.0 += 1;
            self.own.1 += message.bytes();
        }
        if message.expires_ms != NEVER {
            self.expiries
                .push(Reverse((message.expires_ms, message.topic().into())));
            self.compact_expiries();
        }
        let topic = Rc::clone(&retained.message);
        if let Some(old) = self.tree.insert(topic.topic(), retained) {
            self.gone(&old);
        }
    }

    pub fn get(&self, topic: &str) -> Option<&Retained> {
        self.tree.get(topic)
    }

    /// A change is taken back. It is counted anew.
    pub fn put_back(&mut self, topic: &str, before: Option<Retained>) {
        match before {
            Some(before) => {
                self.clock.census().add(topic);
                self.insert(before);
            }
            None => {
                self.remove(topic);
            }
        }
    }

    fn remove(&mut self, topic: &str) -> bool {
        let removed = self.tree.remove(topic);
        if let Some(old) = &removed {
            self.gone(old);
        }
        removed.is_some()
    }

    fn gone(&mut self, old: &Retained) {
        self.bytes -= old.message.bytes();
        if is_server_topic(old.message.topic()) {
            self.own.0 -= 1;
            self.own.1 -= old.message.bytes();
        }
        self.clock.census().remove(old.message.topic());
    }

    /// Messages of clients, and their bytes.
    fn of_clients(&self) -> (usize, usize) {
        (self.len() - self.own.0, self.bytes - self.own.1)
    }

    /// One message replaced again and again must not leave its expiries behind.
    fn compact_expiries(&mut self) {
        if self.expiries.len() > 64 + 4 * self.tree.len() {
            let tree = &self.tree;
            self.expiries.retain(|Reverse((expires_ms, topic))| {
                tree.get(topic)
                    .is_some_and(|kept| kept.message.expires_ms == *expires_ms)
            });
        }
    }

    pub fn arm(&mut self, timers: &mut Timers) {
        if let Some(Reverse((expires_ms, _))) = self.expiries.peek() {
            timers.arm(Timer::Retained, *expires_ms, &mut self.armed_ms);
        }
    }

    pub fn is_armed_at(&self, due_ms: u64) -> bool {
        self.armed_ms == due_ms
    }

    /// Removes what has expired; returns topics and stamps.
    pub fn expire(&mut self, due_ms: u64, now: Now) -> Vec<(Box<str>, u64)> {
        let mut expired = Vec::new();
        if due_ms != self.armed_ms {
            return expired;
        }
        self.armed_ms = NEVER;
        while let Some(Reverse((expires_ms, _))) = self.expiries.peek()
            && *expires_ms <= now.monotonic_ms
            && let Some(Reverse((_, topic))) = self.expiries.pop()
        {
            let stamp = self
                .tree
                .get(&topic)
                .filter(|kept| kept.message.is_expired(now))
                .map(|kept| kept.stamp);
            if let Some(stamp) = stamp
                && self.remove(&topic)
            {
                expired.push((topic, stamp));
            }
        }
        expired
    }
}

impl Broker {
    /// Whether this shard owns what is retained on a topic.
    pub(crate) fn owns_retained(&self, topic: &str) -> bool {
        self.shards == 1 || owner_of(topic, self.shards) == self.shard.0
    }

    /// The other shard that owns what is retained on a topic.
    pub(crate) fn retainer_elsewhere(&self, topic: &str) -> Option<ShardId> {
        let owner = ShardId(owner_of(topic, self.shards));
        (owner != self.shard).then_some(owner)
    }

    /// Whether a subscription to this filter could be sent retained messages.
    pub(crate) fn may_have_retained(&self, filter: &str) -> bool {
        self.clock.census().may_match(filter)
    }

    /// The first shard to be asked for what a filter matches: without wildcards, the only one.
    pub(crate) fn first_owner(&self, filter: Filter<'_>) -> u16 {
        if filter.has_wildcards() {
            0
        } else {
            owner_of(filter.as_str(), self.shards)
        }
    }

    /// Stores a retained message, or removes one, if this shard is the topic's owner. It is counted already.
    pub(crate) fn retain(&mut self, message: &Message<'_>, origin: Origin, now: Now) {
        if !self.owns_retained(message.topic) {
            return;
        }
        let kept = self.retained.tree.get(message.topic);
        let cleared = self.retained.arrivals.cleared(message.topic);
        if kept.map(|kept| kept.stamp).max(cleared) >= Some(origin.stamp) {
            self.discount(message);
            return;
        }
        self.remember_retained(message, origin);
        let kept = self.retained.tree.get(message.topic);
        // 5 [MQTT-3.3.1-6], [MQTT-3.3.1-7], 3.1.1 [MQTT-3.3.1-10], [MQTT-3.3.1-11]
        if message.payload.bytes.is_empty() {
            self.counters.retained_removed += u64::from(self.retained.clear(
                message.topic,
                origin.stamp,
                self.shards,
            ));
            return;
        }
        let (old_count, old_bytes) = kept.map_or((0, 0), |kept| (1, kept.message.bytes()));
        let stored = StoredMessage::new(message, now);
        let limits = &self.limits;
        let (count, bytes) = self.retained.of_clients();
        if !is_server_topic(message.topic)
            && (count - old_count >= limits.retained_messages_max
                || bytes - old_bytes + stored.bytes() > limits.retained_bytes_max)
        {
            // The old word is no longer the last one.
            self.counters.retained_refused += 1;
            self.retained
                .clear(message.topic, origin.stamp, self.shards);
            self.discount(message);
            return;
        }
        self.counters.retained_stored += 1;
        // 5 [MQTT-3.3.1-5], 3.1.1 [MQTT-3.3.1-5], [MQTT-3.3.1-7]
        self.retained.insert(Retained {
            message: Rc::new(stored),
            qos: origin.qos,
            publisher: origin.publisher,
            stamp: origin.stamp,
        });
        self.retained.arm(&mut self.timers);
    }

    /// Stamps a retained publish of this shard, and counts it if it is one that stays.
    pub(crate) fn stamp(&mut self, message: &Message<'_>) -> u64 {
        if !message.payload.bytes.is_empty() {
            self.clock.census().add(message.topic);
        }
        // Before the stamp, so that whoever sees a higher one knows of this.
        if let Some(owner) = self.retainer_elsewhere(message.topic) {
            self.clock.mailed(self.shard, owner, self.shards);
        }
        (self.clock.tick() << STAMP_SHARD_BITS) | u64::from(self.shard.0)
    }

    /// A counted message is not kept.
    fn discount(&self, message: &Message<'_>) {
        if !message.payload.bytes.is_empty() {
            self.clock.census().remove(message.topic);
        }
    }

    /// Leaves a request for the retained messages of a subscription. The pump serves it.
    pub(crate) fn request_retained(&mut self, slot: u32, request: RetainedRequest) {
        let pending_max = self.limits.retained_pending_max;
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let delivery = session.delivery();
        if delivery.retained.len() >= pending_max {
            self.counters.retained_pending_exceeded += 1;
            return;
        }
        delivery.retained_after = delivery.queue.tail();
        delivery.retained_after_stored = delivery.cursor.tail();
        delivery.retained.push_back(request);
    }

    /// Sends one retained message, or reads on.
    pub(crate) fn send_retained(
        &mut self,
        slot: u32,
        id: ConnectionId,
        now: Now,
        out: &mut impl Effects,
    ) -> Step {
        let Some(session) = self.sessions.get_mut(slot) else {
            return Step::Stop;
        };
        let (is_persistent, publisher) = (session.is_persistent(), session.publisher);
        let delivery = session.delivery();
        let has_room = delivery.inflight.has_room();
        let Some(request) = delivery.retained.front_mut() else {
            return Step::Stop;
        };
        let Some(next) = request.ready.front() else {
            if request.is_read {
                delivery.retained.pop_front();
                return Step::Done;
            }
            return self.read_retained(slot, out);
        };
        if !request.wants(next, now) || (request.no_local && next.publisher == publisher) {
            request.ready.pop_front();
            return Step::Done;
        }
        let qos = next.qos.min(request.qos);
        if qos != QoS::AtMostOnce && !has_room {
            return Step::Stop;
        }
        let identifiers = (request.identifier != 0).then(|| [request.identifier].into());
        let Some(next) = request.ready.pop_front() else {
            return Step::Stop;
        };
        // 3.1.1 [MQTT-3.3.1-8], 5 §3.3.1.3: RETAIN 1.
        let owed = Owed {
            message: next.message,
            identifiers,
            qos,
            retain: true,
        };
        self.counters.retained_sent += 1;
        self.begin_owed(slot, id, &owed, is_persistent, now, out);
        Step::Done
    }

    /// Reads on for the first request of a session: here, or at the next owner.
    fn read_retained(&mut self, slot: u32, out: &mut impl Effects) -> Step {
        let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
        else {
            return Step::Stop;
        };
        let Some(request) = delivery.retained.front_mut() else {
            return Step::Stop;
        };
        self.retained.read(request, slot, self.shards, out)
    }

    /// A retained publish of another shard came to this one.
    pub(crate) fn came_to_owner(&mut self, from: ShardId, topic: &str, out: &mut impl Effects) {
        if !self.owns_retained(topic) {
            return;
        }
        let store = &mut self.retained;
        store.arrivals.count(from);
        if !store.arrivals.early.is_empty() {
            self.answer_early(out);
        }
    }

    /// As owner: answers those that waited, if they need wait no more.
    pub(crate) fn answer_early(&mut self, out: &mut impl Effects) {
        for (to, ask) in std::mem::take(&mut self.retained.arrivals.early) {
            self.take_retained_ask(to, ask, out);
        }
    }

    /// As owner: answers, once everything came that the answer must reckon with.
    pub(crate) fn take_retained_ask(
        &mut self,
        to: ShardId,
        ask: RetainedAsk,
        out: &mut impl Effects,
    ) {
        if self.retained.arrivals.has_come(&ask.mailed) && !self.retained.restoring.is_going_on() {
            self.answer_retained(to, ask, out);
        } else {
            self.retained.arrivals.early.push((to, ask));
        }
    }

    /// Answers with as many as one mail should carry.
    fn answer_retained(&self, to: ShardId, ask: RetainedAsk, out: &mut impl Effects) {
        let RetainedAsk {
            slot,
            request,
            filter,
            mut cursor,
            ..
        } = ask;
        let mut retained = Vec::new();
        let mut is_end = true;
        if let Ok(filter) = Filter::parse(&filter) {
            let mut bytes = 0;
            for _ in 0..ANSWER_STEPS_MAX {
                let mut visit = |_: &str, found: &Retained| {
                    let parcel = RetainedParcel::new(found);
                    bytes += parcel.bytes();
                    retained.push(parcel);
                };
                is_end = self.retained.tree.matching_step(
                    filter,
                    &mut cursor,
                    STEP_BRANCHES,
                    &mut visit,
                );
                if is_end || bytes >= ANSWER_BYTES {
                    break;
                }
            }
        }
        let cursor = (!is_end).then_some(cursor);
        post(
            to,
            Mail::RetainedAnswer {
                slot,
                request,
                retained,
                cursor,
            },
            out,
        );
    }

    /// An owner answered.
    pub(crate) fn take_retained(
        &mut self,
        slot: u32,
        number: u64,
        retained: Vec<RetainedParcel>,
        cursor: Option<Cursor>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let shards = self.shards;
        let awaits = |request: &&mut RetainedRequest| request.asked == number;
        let waits = self.interest.reading().find(|(reader, requests)| {
            *reader == slot && requests.iter().any(|request| request.asked == number)
        });
        if let Some((_, requests)) = waits {
            if let Some(request) = requests.iter_mut().find(awaits) {
                request.take(retained, cursor, shards);
            }
            self.retained.read_ahead(requests, slot, shards, out);
            self.answer_confirmed(now, out);
        } else if let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
            && let Some(request) = delivery.retained.front_mut().filter(awaits)
        {
            request.take(retained, cursor, shards);
            self.pump(slot, now, out);
        } else {
            // Whoever asked is gone; others may have waited behind.
            self.answer_confirmed(now, out);
        }
    }
}

/// The shard that owns what is retained on a topic.
pub(crate) fn owner_of(topic: &str, shards: u16) -> u16 {
    u16::try_from(shared_hash(topic) % u64::from(shards.max(1))).unwrap_or(0)
}
