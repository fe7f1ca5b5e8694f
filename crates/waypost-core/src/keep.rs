//! A message that outlives the process: from its debtors to one transaction, and to the answer that waits for it.
//!
//! The transaction has the content, who is owed it, which streams it enters, a durable publisher's Packet Identifier at
//! `QoS` 2, and what is retained. Transactions follow each other in the order of the messages' numbers: a message whose
//! debtors other shards have yet to name holds up those behind it (`pending.rs`). Without durable debtors and streams
//! nothing is written, and nobody waits.

mod pending;
mod writing;

use waypost_mqtt::{PacketId, QoS, ReasonCode, Topic};

pub(crate) use self::pending::PendingPublish;
use self::writing::{ReceivedRow, Retains, Spent, Writing, needed_wall_ms, row_of, waited};
use crate::broker::Broker;
use crate::debts::{Debts, Ledger};
use crate::delayed::Entry;
use crate::effects::{ConnectionId, Effects, Message, Now, ShardId};
use crate::hash::content_hash;
use crate::held::{Answer, Pending, Promise, Recipient, Wait};
use crate::journal::{QueueId, Ticket, Until};
use crate::mail::Origin;
use crate::retained::owner_of;
use crate::rows::WILL_KEY_BYTES;
use crate::rows::message::{encode, expires_wall_ms};
use crate::seal::Why;
use crate::session::ReceivedId;
use crate::topics::is_server_topic;
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

/// What is written down of a message, and who waits for that.
#[derive(Clone, Copy)]
struct Kept {
    until: Until,
    is_owed: bool,
    is_retained: bool,
    received: Option<(ReceivedId, Option<ReceivedRow>)>,
    spent: Option<Spent>,
    to: Option<Recipient>,
    answer: Option<Answer>,
}

impl Kept {
    /// It enters streams, and nobody waits for that.
    fn for_streams(spent: Option<Spent>) -> Self {
        Self {
            until: Until::Whenever,
            is_owed: false,
            is_retained: false,
            received: None,
            spent,
            to: None,
            answer: None,
        }
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
        let is_entered = self.find_streams(message.topic);
        let number = match by {
            By::Waiting { slot, .. } if origin.qos == QoS::ExactlyOnce => self.number_of(slot),
            _ => None,
        };
        let spent = Spent::of(by);
        let is_written = is_owed
            || is_retained
            || number.is_some()
            || spent.is_some()
            || (is_entered && acknowledged);
        let until = if is_written {
            self.durability_of(message.topic, acknowledged && is_kept)
        } else {
            None
        };
        let bytes = message.payload.bytes;
        let received = self.receive(by, bytes, origin.qos, until.is_some(), number);
        let (to, answer) = self.answer_to(by, origin.qos, is_matched || is_entered);
        if let Some(until) = until {
            let kept = Kept {
                until,
                is_owed,
                is_retained,
                received,
                spent,
                to,
                answer,
            };
            self.write_down(message, origin, kept, now, out);
            return;
        }
        if is_retained && acknowledged {
            self.tell_retained(self.owner(message.topic), origin.stamp, true, out);
        }
        if let (By::Waiting { id, .. }, Some(answer)) = (by, answer) {
            self.answer_when(id, answer, Wait::Nothing, Promise::default(), out);
        }
        if is_entered {
            self.write_down(message, origin, Kept::for_streams(spent), now, out);
        } else if let Some(spent) = spent {
            self.spend(spent, out);
        }
    }

    /// Writes a message down, at once or when other shards have named their debtors; who waits for that is answered then.
    fn write_down(
        &mut self,
        message: &Message<'_>,
        origin: Origin,
        kept: Kept,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Kept {
            until,
            is_owed,
            is_retained,
            received,
            spent,
            to,
            answer,
        } = kept;
        let is_cleared = message.payload.bytes.is_empty();
        let is_entered = !self.scratch.entered.is_empty();
        // What is owed to nobody may come in the middle of another's fan-out, whose debts are being collected.
        let mut debts = Debts::NONE;
        if is_owed {
            std::mem::swap(&mut debts, &mut self.scratch.debts);
        }
        if is_owed || is_entered || (is_retained && !is_cleared) {
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
        let is_reported = is_retained && origin.qos != QoS::AtMostOnce;
        if debts.asked > 0 || self.held.has_pending() {
            self.count_pending(to, answer, out);
            self.held
                .push_pending(Pending::Publish(Box::new(PendingPublish {
                    debts,
                    owing: Vec::new(),
                    until,
                    expires_wall_ms,
                    body: body.as_slice().into(),
                    entered: self.scratch.entered.as_slice().into(),
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
            entered: &self.scratch.entered,
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
        if is_owed {
            self.scratch.debts = debts;
        }
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

    /// Finds the streams that a message on this topic enters: no message of the server's own.
    fn find_streams(&mut self, topic: &str) -> bool {
        let entered = &mut self.scratch.entered;
        if self.streams.is_empty() || !self.has_store || is_server_topic(topic) {
            entered.clear();
            return false;
        }
        self.streams.matching(Topic::from_validated(topic), entered);
        !entered.is_empty()
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
        payload: &[u8],
        qos: QoS,
        is_written: bool,
        number: Option<QueueId>,
    ) -> Option<(ReceivedId, Option<ReceivedRow>)> {
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
        let row = number.map(|queue| ReceivedRow {
            queue,
            packet_id: packet_id.value(),
            content: content_hash(payload),
        });
        Some((received, row))
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
            why: Why::NOTHING,
        };
        (self.recipient(id), Some(answer))
    }
}
