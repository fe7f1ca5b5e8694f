//! Dead letters: what cannot be delivered is published anew where its policy says, with why.
//!
//! A message dies at one queue at a time: in a session's, or in a group's. A queue that the store keeps owes it until its
//! dead letter is written down, and both are one transaction: a crash leaves the one or the other. So a queue that is
//! full owes what it cannot take, until that is buried. What is found in the middle of something else waits here, and is
//! published once that is over, so that no fan-out begins within another.
//!
//! A dead letter that dies is dropped and counted, and so is what comes when too many wait. Not here: who notices that a
//! message died.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use waypost_mqtt::{Properties, Property, PropertyBuffer, QoS};

use crate::broker::Broker;
use crate::counters::Counters;
use crate::effects::{Effects, Message, Now};
use crate::group::find_property;
use crate::journal::{Journal, MessageId, QueueId, Table, Ticket, Until};
use crate::keep::By;
use crate::limits::Limits;
use crate::mail::Origin;
use crate::policy::Policies;
use crate::queue::{Owed, Queue, StoredMessage};
use crate::refused::Refused;
use crate::rows::packet_key;
use crate::unsettled::Settled;

/// The User Property with the topic a dead letter was published on. Only the server gives it.
const TOPIC: &str = "waypost-dead-topic";
/// That with why it died.
const REASON: &str = "waypost-dead-reason";
/// That with how often it was sent to somebody.
const COUNT: &str = "waypost-dead-count";

/// When what the store refused is tried again.
const RETRY_MS: u64 = 1_000;

/// Why a message died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Expired,
    Refused,
    MaxDeliveries,
    QueueFull,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Refused => "refused",
            Self::MaxDeliveries => "max-deliveries",
            Self::QueueFull => "queue-full",
        }
    }

    fn counter(self, counters: &mut Counters) -> &mut u64 {
        match self {
            Self::Expired => &mut counters.dead_letters_expired,
            Self::Refused => &mut counters.dead_letters_refused,
            Self::MaxDeliveries => &mut counters.dead_letters_max_deliveries,
            Self::QueueFull => &mut counters.dead_letters_queue_full,
        }
    }
}

/// A message that died.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetter {
    /// Where it goes.
    pub topic: Arc<str>,
    pub message: Rc<StoredMessage>,
    pub qos: QoS,
    pub cause: Cause,
    /// How often it was sent to somebody.
    pub deliveries: u32,
}

impl DeadLetter {
    /// What a session is owed, if the policy of its topic says where it goes.
    pub fn of_session(policies: &Policies, owed: &Owed, cause: Cause) -> Option<Self> {
        Some(Self {
            topic: policies.dead_letter_of(owed.message.topic())?,
            message: Rc::clone(&owed.message),
            qos: owed.qos,
            cause,
            deliveries: 0,
        })
    }

    fn bytes(&self) -> usize {
        self.message.queued_bytes()
    }

    /// Its properties, and what became of it.
    fn properties(&self) -> Vec<u8> {
        let mut added = PropertyBuffer::new();
        let deliveries = self.deliveries.to_string();
        added
            .push(Property::UserProperty(TOPIC, self.message.topic()))
            .push(Property::UserProperty(REASON, self.cause.name()))
            .push(Property::UserProperty(COUNT, &deliveries));
        let mut properties = self.message.properties().to_vec();
        properties.extend_from_slice(added.as_properties().as_bytes());
        properties
    }
}

/// Whether a message is a dead letter.
pub(crate) fn is_dead_letter(properties: &[u8]) -> bool {
    !properties.is_empty() && find_property(Properties::from_validated(properties), TOPIC).is_some()
}

/// One that a queue of the store owes until it is written down.
#[derive(Debug)]
struct Buried {
    letter: DeadLetter,
    settled: Settled,
    /// In a transaction that is on its way to the disk.
    is_written: bool,
    /// The store refused it before.
    is_again: bool,
}

#[derive(Debug)]
enum Due {
    Letter(Box<DeadLetter>),
    Buried(QueueId, MessageId),
}

/// Dead letters on their way.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    /// To be published next.
    due: VecDeque<Due>,
    /// Until the store has taken down that their queues owe them no more.
    buried: HashMap<(QueueId, MessageId), Buried, FixedState>,
    written: VecDeque<(Ticket, QueueId, MessageId)>,
    /// What clients refused for good, and is read: at most what was in flight to them.
    pub refused_now: BTreeMap<(MessageId, QueueId), Refused>,
    /// Of queues that came from other shards, what those are about to bury, in the order it came: bounded.
    elsewhere: HashSet<(QueueId, MessageId), FixedState>,
    elsewhere_in_order: VecDeque<(QueueId, MessageId)>,
    /// The store did not take them down.
    refused: Vec<(QueueId, MessageId)>,
    /// When these are tried again.
    again_ms: Option<u64>,
    /// Those that are due and in no queue of the store.
    unowed: usize,
    /// What all are charged with.
    bytes: usize,
}

impl DeadLetters {
    /// Takes a letter in, unless it is none that may be, or too many wait. A queue of the store that owes it: whether
    /// its publisher's shard has written that down already. `false`: the message is dropped.
    pub fn add(
        &mut self,
        letter: DeadLetter,
        owed: Option<(Settled, bool)>,
        limits: &Limits,
        counters: &mut Counters,
    ) -> bool {
        if !self.takes(letter.message.properties(), letter.bytes(), limits) {
            counters.dead_letters_dropped += 1;
            return false;
        }
        self.bytes += letter.bytes();
        let Some((settled, is_logged)) = owed else {
            self.unowed += 1;
            self.due.push_back(Due::Letter(Box::new(letter)));
            return true;
        };
        let key = (settled.queue, settled.id);
        if is_logged {
            self.due.push_back(Due::Buried(key.0, key.1));
        }
        let buried = Buried {
            letter,
            settled,
            is_written: false,
            is_again: false,
        };
        self.buried.insert(key, buried);
        true
    }

    /// Whether a message with these properties can be buried.
    pub fn takes(&self, properties: &[u8], bytes: usize, limits: &Limits) -> bool {
        self.len() < limits.dead_letters_waiting_max
            && self.bytes + bytes <= limits.dead_letters_waiting_bytes_max
            && !is_dead_letter(properties)
    }

    /// Those on their way.
    pub fn len(&self) -> usize {
        self.unowed + self.buried.len()
    }

    /// Whether what a queue is owed according to the store is on its way from it.
    pub fn has(&self, queue: QueueId, id: MessageId) -> bool {
        let key = (queue, id);
        self.buried.contains_key(&key)
            || self.refused_now.contains_key(&(id, queue))
            || self.elsewhere.contains(&key)
    }

    /// What of a queue that goes to another shard is on its way here.
    pub fn of(&self, queue: QueueId) -> impl Iterator<Item = (QueueId, MessageId)> {
        let buried = self.buried.values().map(|buried| buried.settled);
        let refused = self.refused_now.values().map(Refused::settled);
        let here = buried
            .chain(refused)
            .map(|settled| (settled.queue, settled.id));
        let all = here.chain(self.elsewhere.iter().copied());
        all.filter(move |(of, _)| *of == queue)
    }

    /// A queue came from another shard, which is about to bury these. What came long ago is buried by now.
    pub fn arrive(&mut self, dying: Vec<(QueueId, MessageId)>, limits: &Limits) {
        for key in dying {
            if self.elsewhere.insert(key) {
                self.elsewhere_in_order.push_back(key);
            }
        }
        let max = limits.dead_letters_waiting_max.saturating_mul(2);
        while self.elsewhere_in_order.len() > max
            && let Some(oldest) = self.elsewhere_in_order.pop_front()
        {
            self.elsewhere.remove(&oldest);
        }
    }

    /// Whether a queue of the store has to stay for the sake of what is not written down.
    pub fn needs(&self, queue: QueueId) -> bool {
        self.buried
            .values()
            .any(|buried| buried.settled.queue == queue && !buried.is_written)
    }

    /// That a queue is owed a message is written down. Returns whether it is a dead letter's.
    pub fn logged(&mut self, queue: QueueId, id: MessageId) -> bool {
        let is_buried = self.buried.contains_key(&(queue, id));
        if is_buried {
            self.due.push_back(Due::Buried(queue, id));
        }
        is_buried
    }

    /// The store did not take down that a queue is owed a message: its publisher knows, and it never was.
    /// Returns whether there was one.
    pub fn unlogged(&mut self, queue: QueueId, id: MessageId) -> bool {
        self.forget(queue, id)
    }

    fn forget(&mut self, queue: QueueId, id: MessageId) -> bool {
        let buried = self.buried.remove(&(queue, id));
        self.bytes -= buried.as_ref().map_or(0, |buried| buried.letter.bytes());
        buried.is_some()
    }

    /// When there is something to do next.
    pub fn next_ms(&self) -> Option<u64> {
        if self.due.is_empty() {
            self.again_ms
        } else {
            Some(0)
        }
    }

    /// A letter is in this transaction.
    pub fn write(&mut self, ticket: Ticket, settled: Settled) {
        if let Some(buried) = self.buried.get_mut(&(settled.queue, settled.id)) {
            buried.is_written = true;
            self.written.push_back((ticket, settled.queue, settled.id));
        }
    }

    /// Transactions up to here are on disk.
    pub fn stored(&mut self, durable: Ticket) {
        while let Some((_, queue, id)) =
            self.written.pop_front_if(|(ticket, ..)| *ticket <= durable)
        {
            self.forget(queue, id);
        }
    }

    /// Transactions from the first to the last are not kept.
    pub fn not_stored(&mut self, first: Ticket, last: Ticket, now: Now) {
        let Self {
            written,
            buried,
            refused,
            again_ms,
            ..
        } = self;
        written.retain(|(ticket, queue, id)| {
            let is_refused = (first..=last).contains(ticket);
            if is_refused && let Some(buried) = buried.get_mut(&(*queue, *id)) {
                (buried.is_written, buried.is_again) = (false, true);
                refused.push((*queue, *id));
                again_ms.get_or_insert(now.monotonic_ms + RETRY_MS);
            }
            !is_refused
        });
    }

    fn try_again(&mut self, now: Now) {
        if self
            .again_ms
            .take_if(|at_ms| *at_ms <= now.monotonic_ms)
            .is_some()
        {
            let again = self.refused.drain(..);
            self.due
                .extend(again.map(|(queue, id)| Due::Buried(queue, id)));
        }
    }
}

/// What it takes to bury what a session had in memory.
pub(crate) struct Graves<'a> {
    pub dead: &'a mut DeadLetters,
    pub policies: &'a Policies,
    pub limits: &'a Limits,
    pub counters: &'a mut Counters,
}

impl Graves<'_> {
    /// A message died.
    pub fn bury(&mut self, owed: &Owed, cause: Cause) {
        if let Some(letter) = DeadLetter::of_session(self.policies, owed, cause) {
            self.dead.add(letter, None, self.limits, self.counters);
        }
    }

    /// Takes what expired out of a queue; returns how many.
    pub fn drop_expired(&mut self, queue: &mut Queue, now: Now) -> usize {
        let expired = queue.take_expired(now);
        self.counters.dropped_expired += expired.len() as u64;
        for owed in &expired {
            self.bury(owed, Cause::Expired);
        }
        expired.len()
    }
}

/// Writes down that a queue owes a message no more, in the transaction of its dead letter.
pub(crate) fn settle(settled: Settled, journal: &mut dyn Journal) {
    journal.settle(settled.queue, settled.id);
    if let Some(packet_id) = settled.packet_id {
        let key = packet_key(settled.queue, packet_id.value());
        journal.delete(Table::SENT, &key);
    }
}

impl Broker {
    /// Dead letters on their way: they wait to be published, or for the disk.
    pub fn dead_letters_waiting(&self) -> usize {
        self.dead.len()
    }

    /// A message died that only this shard's memory has. `false`: it is dropped.
    pub(crate) fn bury(&mut self, letter: Option<DeadLetter>) -> bool {
        letter.is_some_and(|letter| {
            self.dead
                .add(letter, None, &self.limits, &mut self.counters)
        })
    }

    /// A message died that a session is owed by the store. Without a policy it is settled and no more.
    pub(crate) fn bury_debt(
        &mut self,
        slot: u32,
        id: MessageId,
        owed: &Owed,
        cause: Cause,
        out: &mut impl Effects,
    ) {
        let letter = DeadLetter::of_session(&self.policies, owed, cause);
        let session = self.sessions.get_mut(slot);
        if let Some(letter) = letter
            && let Some(session) = session
            && let Some(queue) = session.number()
        {
            let settled = Settled {
                queue,
                id,
                packet_id: None,
            };
            let Self {
                dead,
                limits,
                counters,
                ..
            } = self;
            if dead.takes(letter.message.properties(), letter.bytes(), limits) {
                let is_logged = session.delivery().cursor.settle(id);
                dead.add(letter, Some((settled, is_logged)), limits, counters);
                return;
            }
            counters.dead_letters_dropped += 1;
        }
        self.settle_debt(slot, id, None, out);
    }

    /// Publishes what is due, as much as is done in one step.
    pub(crate) fn publish_dead_letters(&mut self, now: Now, out: &mut impl Effects) {
        self.dead.try_again(now);
        for _ in 0..self.limits.burst_messages_max {
            match self.dead.due.pop_front() {
                None => return,
                Some(Due::Letter(letter)) => {
                    self.dead.unowed -= 1;
                    self.dead.bytes -= letter.bytes();
                    *letter.cause.counter(&mut self.counters) += 1;
                    self.publish_dead_letter(&letter, (None, false), now, out);
                }
                Some(Due::Buried(queue, id)) => {
                    let Some(buried) = self.dead.buried.get(&(queue, id)) else {
                        continue;
                    };
                    let (letter, settled) = (buried.letter.clone(), buried.settled);
                    let is_again = buried.is_again;
                    if !is_again {
                        *letter.cause.counter(&mut self.counters) += 1;
                    }
                    let settled = self.without_used_identifier(settled);
                    self.publish_dead_letter(&letter, (Some(settled), is_again), now, out);
                }
            }
        }
    }

    /// Another message may have the identifier by now.
    fn without_used_identifier(&self, mut settled: Settled) -> Settled {
        let slot = self.sessions.find_number(settled.queue);
        let session = slot.and_then(|slot| self.sessions.get(slot));
        let session = session.filter(|session| session.moving.is_none());
        settled.packet_id = settled
            .packet_id
            .filter(|packet_id| session.is_some_and(|session| session.is_free(*packet_id)));
        settled
    }

    /// A message that may not come again is settled, without a dead letter.
    pub(crate) fn settle_alone(&mut self, settled: Settled, out: &mut impl Effects) {
        settle(self.without_used_identifier(settled), out.journal());
        let ticket = self.end(Until::Whenever, out);
        self.unsettled.write(ticket, settled);
    }

    fn publish_dead_letter(
        &mut self,
        letter: &DeadLetter,
        (settles, is_again): (Option<Settled>, bool),
        now: Now,
        out: &mut impl Effects,
    ) {
        let properties = letter.properties();
        let message = Message {
            topic: &letter.topic,
            properties: &properties,
            // It would be dead at once.
            expiry_s: None,
            verbatim: None,
            ..letter.message.message(now)
        };
        let origin = Origin {
            qos: letter.qos,
            retain: false,
            publisher: Origin::DEAD_LETTERS,
            is_again,
            stamp: 0,
            connection: None,
            kept: None,
        };
        self.route(&message, origin, By::DeadLetter(settles), now, out);
    }

    /// A dead letter is written down, and that its queue owes it no more.
    pub(crate) fn dead_letter_written(
        &mut self,
        settled: Settled,
        ticket: Ticket,
        out: &mut impl Effects,
    ) {
        self.dead.write(ticket, settled);
        self.group_is_rid_of(settled.queue, out);
    }
}
