//! A message that outlives the process: from its debtors to one transaction, and to the answer that waits for it.
//!
//! The transaction has the content, who is owed it, a durable publisher's Packet Identifier at `QoS` 2, and what is
//! retained. Transactions follow each other in the order of the messages' numbers: a message whose debtors other shards
//! have yet to name holds up those behind it. Without durable debtors nothing is written, and nobody waits.

use waypost_mqtt::{PacketId, QoS, ReasonCode};

use crate::broker::Broker;
use crate::dead::settle;
use crate::debts::{Debts, Ledger};
use crate::delayed::{DelayedPromise, Entry};
use crate::effects::{ConnectionId, Effects, Message, Now, ShardId};
use crate::held::{Answer, Pending, Promise, Recipient, Wait};
use crate::interest::post;
use crate::journal::{Journal, MessageId, QueueId, Table, Ticket, Until};
use crate::mail::{Mail, Origin};
use crate::retained::owner_of;
use crate::rows::message::{encode, expires_wall_ms};
use crate::rows::{RetainedRow, WILL_KEY_BYTES, packet_key};
use crate::session::ReceivedId;
use crate::unsettled::Settled;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    Server,
    /// A session's will; it has a row with this key.
    Will(Option<[u8; WILL_KEY_BYTES]>),
    /// A client, some time ago.
    Delayed(Entry),
    /// What died. The queue that owed it does so no more.
    DeadLetter(Option<Settled>),
    /// A client, at `QoS` 0.
    Client,
    /// A client that waits for PUBACK or PUBREC.
    Waiting {
        id: ConnectionId,
        slot: u32,
        packet_id: PacketId,
        is_v5: bool,
    },
}

/// A row, or a debt, that ends with what is published from it.
#[derive(Clone, Copy, Debug)]
enum Spent {
    Will([u8; WILL_KEY_BYTES]),
    Delayed(Entry),
    Dead(Settled),
}

impl Spent {
    fn of(by: By) -> Option<Self> {
        match by {
            By::Will(row) => row.map(Self::Will),
            By::Delayed(entry) => Some(Self::Delayed(entry)),
            By::DeadLetter(settled) => settled.map(Self::Dead),
            By::Server | By::Client | By::Waiting { .. } => None,
        }
    }

    fn delete(self, journal: &mut dyn Journal) {
        match self {
            Self::Will(key) => journal.delete(Table::WILLS, &key),
            Self::Delayed(entry) => journal.delete(Table::DELAYED, &entry.due.key()),
            Self::Dead(settled) => settle(settled, journal),
        }
    }

    fn promise(self) -> Option<DelayedPromise> {
        match self {
            Self::Will(_) | Self::Dead(_) => None,
            Self::Delayed(entry) => Some(DelayedPromise::Published(entry)),
        }
    }
}

/// What a retained publish leaves behind.
#[derive(Clone, Copy, Debug)]
struct Retains<'a> {
    topic: &'a str,
    stamp: u64,
    is_cleared: bool,
}

/// A transaction to be.
struct Writing<'a> {
    id: Option<MessageId>,
    expires_wall_ms: u64,
    /// Until when it is needed.
    needed_wall_ms: u64,
    body: &'a [u8],
    debts: Option<&'a mut Debts>,
    retains: Option<Retains<'a>>,
    received: Option<(QueueId, u16)>,
    spent: Option<Spent>,
}

impl Writing<'_> {
    fn is_empty(&self) -> bool {
        self.debts.as_ref().is_none_or(|debts| debts.is_empty())
            && self.retains.is_none()
            && self.received.is_none()
            && self.spent.is_none()
    }

    fn write(self, journal: &mut dyn Journal) {
        let debts = self.debts.filter(|debts| !debts.is_empty());
        let is_held = self.retains.is_some_and(|retains| !retains.is_cleared);
        if let Some(id) = self.id.filter(|_| debts.is_some() || is_held) {
            journal.message(id, self.needed_wall_ms, self.body);
            if let Some(debts) = debts {
                debts.for_each(|options, queues| journal.owe(id, options, queues));
            }
        }
        if let Some(Retains {
            topic,
            stamp,
            is_cleared,
        }) = self.retains
        {
            let row = RetainedRow {
                stamp,
                expires_wall_ms: self.expires_wall_ms,
            };
            let (key, value) = (topic.as_bytes(), row.encode());
            let id = self.id.filter(|_| !is_cleared);
            journal.hold(Table::RETAINED, key, stamp, &value, id);
        }
        if let Some((queue, packet_id)) = self.received {
            journal.put(Table::RECEIVED, &packet_key(queue, packet_id), &[]);
        }
        if let Some(spent) = self.spent {
            spent.delete(journal);
        }
    }
}

/// A message whose debtors are not all named.
#[derive(Debug)]
pub(crate) struct PendingPublish {
    pub debts: Debts,
    /// Shards with debtors.
    pub owing: Vec<ShardId>,
    until: Until,
    expires_wall_ms: u64,
    body: Box<[u8]>,
    /// Topic, stamp, and whether that leaves nothing.
    retains: Option<(Box<str>, u64, bool)>,
    /// With the number of its session, if that has one.
    received: Option<(ReceivedId, Option<QueueId>)>,
    spent: Option<Spent>,
    to: Option<Recipient>,
    answer: Option<Answer>,
    is_reported: bool,
}

/// How far a transaction is to come at once: for whoever waits for an answer, and so that a crash finds what was
/// delayed as published soon after it was.
fn waited(until: Until, to: Option<Recipient>, spent: Option<Spent>) -> Until {
    if to.is_some() || matches!(spent, Some(Spent::Delayed(_))) {
        until
    } else {
        Until::Whenever
    }
}

fn row_of(received: Option<(ReceivedId, Option<QueueId>)>) -> Option<(QueueId, u16)> {
    received.and_then(|(received, queue)| Some((queue?, received.packet_id)))
}

/// Until when the content of a message is needed. What is to be buried is, after it expired.
fn needed_wall_ms(debts: &Debts, expires_wall_ms: u64) -> u64 {
    if debts.outlives && !debts.is_empty() {
        u64::MAX
    } else {
        expires_wall_ms
    }
}

impl Broker {
    /// Writes down a message that went to everybody who gets it now, for those who are owed it, and answers its
    /// publisher when that is kept.
    pub(crate) fn keep(
        &mut self,
        message: &Message<'_>,
        origin: Origin,
        by: By,
        is_matched: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        let acknowledged = origin.qos != QoS::AtMostOnce;
        let is_kept = self.has_store && origin.publisher != 0;
        let debts = &self.scratch.debts;
        let is_owed = is_kept && acknowledged && (!debts.is_empty() || debts.asked > 0);
        let is_retained = is_kept && origin.retain;
        let number = match by {
            By::Waiting { slot, .. } if origin.qos == QoS::ExactlyOnce => self.number_of(slot),
            _ => None,
        };
        let spent = Spent::of(by);
        let until = if is_owed || is_retained || number.is_some() || spent.is_some() {
            self.durability_of(message.topic, acknowledged && is_kept)
        } else {
            None
        };
        let received = self.receive(by, origin.qos, until.is_some(), number);
        let (to, answer) = self.answer_to(by, origin.qos, is_matched);
        let Some(until) = until else {
            if is_retained && acknowledged {
                self.tell_retained(self.owner(message.topic), origin.stamp, true, out);
            }
            if let Some(spent) = spent {
                self.spend(spent, out);
            }
            if let (By::Waiting { id, .. }, Some(answer)) = (by, answer) {
                self.answer_when(id, answer, Wait::Nothing, Promise::default(), out);
            }
            return;
        };
        let is_cleared = message.payload.bytes.is_empty();
        let mut debts = std::mem::replace(&mut self.scratch.debts, Debts::NONE);
        if !is_owed {
            debts.begin(false, None);
        }
        if is_owed || (is_retained && !is_cleared) {
            debts.id.get_or_insert_with(|| self.numbers.message());
        }
        let mut body = std::mem::take(&mut self.scratch.body);
        body.clear();
        if debts.id.is_some() {
            self.encode_content(message, origin, now, &mut body);
        }
        let date = self.calendar.date(now.monotonic_ms);
        let expires_wall_ms = expires_wall_ms(message.expiry_s, date);
        debts.outlives |= self.policies.dead_letter_of(message.topic).is_some();
        let is_reported = is_retained && acknowledged;
        if debts.asked > 0 || self.held.has_pending() {
            self.count_pending(to, answer, out);
            self.held
                .push_pending(Pending::Publish(Box::new(PendingPublish {
                    debts,
                    owing: Vec::new(),
                    until,
                    expires_wall_ms,
                    body: body.as_slice().into(),
                    retains: is_retained.then(|| (message.topic.into(), origin.stamp, is_cleared)),
                    received,
                    spent,
                    to,
                    answer,
                    is_reported,
                })));
            self.scratch.body = body;
            return;
        }
        let writing = Writing {
            id: debts.id,
            expires_wall_ms,
            needed_wall_ms: needed_wall_ms(&debts, expires_wall_ms),
            body: &body,
            debts: Some(&mut debts),
            retains: is_retained.then_some(Retains {
                topic: message.topic,
                stamp: origin.stamp,
                is_cleared,
            }),
            received: row_of(received),
            spent,
        };
        writing.write(out.journal());
        let waited = waited(until, to, spent);
        let ticket = self.end_with(spent, waited, out);
        if let Some(id) = debts.id.filter(|_| is_owed) {
            self.logged(self.shard, id, now, out);
        }
        let promise = Promise {
            message: debts.id.filter(|_| is_owed),
            owing: Vec::new(),
            received: received.map(|(received, _)| received),
            released: None,
            retained: is_reported.then(|| (self.owner(message.topic), origin.stamp)),
            delayed: spent.and_then(Spent::promise),
        };
        self.scratch.debts = debts;
        self.scratch.body = body;
        self.queue_answer(to, answer, Wait::For(ticket, until), promise, out);
    }

    /// Nothing is written down of what was published but that it is.
    fn spend(&mut self, spent: Spent, out: &mut impl Effects) {
        spent.delete(out.journal());
        let ticket = self.end_with(Some(spent), Until::Whenever, out);
        let wait = Wait::For(ticket, Until::Whenever);
        let promise = Promise {
            delayed: spent.promise(),
            ..Promise::default()
        };
        self.queue_answer(None, None, wait, promise, out);
    }

    fn end_with(&mut self, spent: Option<Spent>, until: Until, out: &mut impl Effects) -> Ticket {
        let ticket = self.end(until, out);
        if let Some(Spent::Dead(settled)) = spent {
            self.dead_letter_written(settled, ticket, out);
        }
        ticket
    }

    fn encode_content(&self, message: &Message<'_>, origin: Origin, now: Now, body: &mut Vec<u8>) {
        let connection = origin.connection.and_then(|id| self.connections.get(id));
        let address = connection.and_then(|connection| Some(connection.peer?.ip()));
        let date = self.calendar.date(now.monotonic_ms);
        encode(message, origin.qos, origin.publisher, address, date, body);
    }

    fn owner(&self, topic: &str) -> ShardId {
        ShardId(owner_of(topic, self.shards))
    }

    /// Whether what is retained on a topic has a row.
    pub(crate) fn is_written_down(&mut self, topic: &str) -> bool {
        self.durability_of(topic, false).is_some()
    }

    pub(crate) fn number_of(&self, slot: u32) -> Option<QueueId> {
        self.sessions.get(slot)?.number()
    }

    /// How far a transaction has to come; `None`: nothing is written down about this topic.
    fn durability_of(&mut self, topic: &str, is_waited_for: bool) -> Option<Until> {
        let mut fresh = Debts::NONE;
        fresh.begin(true, None);
        // Of a message that is waited for, it may be known already.
        let debts = if is_waited_for {
            &mut self.scratch.debts
        } else {
            &mut fresh
        };
        let until = Ledger {
            debts,
            policies: &self.policies,
            numbers: &self.numbers,
            topic,
        }
        .until()?;
        Some(if is_waited_for {
            until
        } else {
            Until::Whenever
        })
    }

    /// A `QoS` 2 message is taken over. In a session with a number it gets a row, if anything is written.
    pub(crate) fn receive(
        &mut self,
        by: By,
        qos: QoS,
        is_written: bool,
        number: Option<QueueId>,
    ) -> Option<(ReceivedId, Option<QueueId>)> {
        let By::Waiting {
            slot, packet_id, ..
        } = by
        else {
            return None;
        };
        let session = self.sessions.get_mut(slot)?;
        if qos != QoS::ExactlyOnce {
            return None;
        }
        session.receive(packet_id.value(), is_written && number.is_some());
        if !is_written {
            return None;
        }
        session.wait_for_store(true);
        let received = ReceivedId {
            slot,
            era: self.sessions.received_era(slot),
            packet_id: packet_id.value(),
        };
        Some((received, number))
    }

    pub(crate) fn answer_to(
        &self,
        by: By,
        qos: QoS,
        is_matched: bool,
    ) -> (Option<Recipient>, Option<Answer>) {
        let By::Waiting {
            id,
            packet_id,
            is_v5,
            ..
        } = by
        else {
            return (None, None);
        };
        let reason = if is_matched || !is_v5 {
            ReasonCode::Success
        } else {
            ReasonCode::NoMatchingSubscribers
        };
        let answer = Answer::Publish {
            qos,
            packet_id,
            reason,
            why: "",
        };
        (self.recipient(id), Some(answer))
    }

    /// Another shard says who is owed a message of this one.
    pub(crate) fn hear_owes(
        &mut self,
        from: ShardId,
        debts: &Debts,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(publish) = debts.id.and_then(|id| self.held.pending_publish(id)) else {
            return;
        };
        publish.debts.asked = publish.debts.asked.saturating_sub(1);
        if !debts.is_empty() {
            publish.debts.add(debts);
            publish.owing.push(from);
        }
        self.write_pending(now, out);
    }

    /// Writes down what no shard has to be asked about any more, in order.
    pub(crate) fn write_pending(&mut self, now: Now, out: &mut impl Effects) {
        let mut logged: Vec<(ShardId, MessageId)> = Vec::new();
        while let Some(pending) = self.held.next_pending() {
            match pending {
                Pending::Answer {
                    to,
                    answer,
                    wait,
                    promise,
                } => {
                    self.count_pending_less(Some(to), Some(answer));
                    self.queue_answer(Some(to), Some(answer), wait, promise, out);
                }
                Pending::Publish(publish) => self.write_publish(*publish, &mut logged, out),
            }
        }
        for (shard, upto) in logged {
            if shard == self.shard {
                self.logged(shard, upto, now, out);
            } else {
                post(shard, Mail::Logged { upto }, out);
            }
        }
        self.release_due(now, out);
    }

    fn write_publish(
        &mut self,
        publish: PendingPublish,
        logged: &mut Vec<(ShardId, MessageId)>,
        out: &mut impl Effects,
    ) {
        let PendingPublish {
            mut debts,
            owing,
            until,
            expires_wall_ms,
            body,
            retains,
            received,
            spent,
            to,
            answer,
            is_reported,
        } = publish;
        self.count_pending_less(to, answer);
        // It may have been released, or its session ended, since.
        let is_received = |sessions: &mut crate::session::Sessions, received| {
            let session: Option<&mut crate::session::Session> = sessions.received_by(received);
            session.is_some_and(|session| session.has_received(received.packet_id))
        };
        let row = received.filter(|(received, _)| is_received(&mut self.sessions, *received));
        let id = debts.id;
        let is_owed = !debts.is_empty();
        let writing = Writing {
            id,
            expires_wall_ms,
            needed_wall_ms: needed_wall_ms(&debts, expires_wall_ms),
            body: &body,
            debts: Some(&mut debts),
            retains: retains.as_ref().map(|(topic, stamp, is_cleared)| Retains {
                topic,
                stamp: *stamp,
                is_cleared: *is_cleared,
            }),
            received: row_of(row),
            spent,
        };
        let wait = if writing.is_empty() {
            Wait::Nothing
        } else {
            writing.write(out.journal());
            let waited = waited(until, to, spent);
            Wait::For(self.end_with(spent, waited, out), until)
        };
        if let Some(id) = id.filter(|_| is_owed) {
            for shard in owing.iter().copied().chain([self.shard]) {
                match logged.iter_mut().find(|(known, _)| *known == shard) {
                    Some((_, upto)) => *upto = id,
                    None => logged.push((shard, id)),
                }
            }
        }
        let retained = retains.filter(|_| is_reported);
        let promise = Promise {
            message: id.filter(|_| is_owed),
            owing,
            received: received.map(|(received, _)| received),
            released: None,
            retained: retained.map(|(topic, stamp, _)| (self.owner(&topic), stamp)),
            delayed: spent.and_then(Spent::promise),
        };
        self.queue_answer(to, answer, wait, promise, out);
    }
}
