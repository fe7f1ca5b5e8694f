//! Answers that wait until what they promise is kept.
//!
//! PUBACK and PUBREC promise that everybody gets a message who must get it later, PUBCOMP that an identifier is free.
//! They wait in one line per shard, each for its transaction; an answer of a connection that has others in the line
//! queues behind these, so that a client is answered in the order it asked. A message whose debtors other shards have yet
//! to name waits in a line before that, and so do the answers behind it. What is refused by the store is put right here:
//! nobody is owed it, nothing is retained of it, its identifier is free.
//!
//! Not here: CONNACK, SUBACK and UNSUBACK, and what clients are sent and acknowledge.

use std::collections::VecDeque;

use waypost_mqtt::{PacketId, QoS, ReasonCode};

use crate::broker::Broker;
use crate::delayed::DelayedPromise;
use crate::effects::{ConnectionId, Effects, Now, ShardId};
use crate::held_counts::{AllHeldCounts, HeldCounts};
use crate::journal::{MessageId, Refusal, Stored, Ticket, Until};
use crate::keep::PendingPublish;
use crate::mail::Claim;
use crate::seal::Why;
use crate::session::ReceivedId;

/// An answer to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// PUBACK or PUBREC.
    Publish {
        qos: QoS,
        packet_id: PacketId,
        reason: ReasonCode,
        /// Reason String; empty = none.
        why: Why,
    },
    /// PUBREC for a message that came again.
    Repeat { packet_id: PacketId },
    /// PUBCOMP.
    Release {
        packet_id: PacketId,
        reason: ReasonCode,
    },
}

impl Answer {
    /// Whether the client counts the message as unfinished until this comes. A PUBREC leaves it so.
    pub fn finishes(self) -> bool {
        match self {
            Self::Publish { qos, .. } => qos == QoS::AtLeastOnce,
            Self::Repeat { .. } => false,
            Self::Release { .. } => true,
        }
    }
}

/// What an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Only for the answers before it.
    Nothing,
    For(Ticket, Until),
    /// For all that somebody waits for by now.
    Last,
    /// For the home of delayed messages to answer this question, and then for that.
    Home(u64, Option<(Ticket, Until)>),
    /// It will never come.
    Refused(Refusal),
}

/// One connection out of all that have been in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recipient {
    pub id: ConnectionId,
    pub opened: u32,
}

/// What a transaction changed, to be put right if it is not kept.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    pub message: Option<MessageId>,
    /// Other shards that owe it.
    pub owing: Vec<ShardId>,
    /// A `QoS` 2 message taken over.
    pub received: Option<ReceivedId>,
    /// One released.
    pub released: Option<ReceivedId>,
    /// The stamp of a retained message, and its owner.
    pub retained: Option<(ShardId, u64)>,
    pub delayed: Option<DelayedPromise>,
}

impl Promise {
    pub fn is_empty(&self) -> bool {
        self.message.is_none()
            && self.received.is_none()
            && self.released.is_none()
            && self.retained.is_none()
            && self.delayed.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Held {
    ticket: Ticket,
    pub to: Option<Recipient>,
    pub answer: Option<Answer>,
    pub promise: Promise,
    pub refusal: Option<Refusal>,
}

impl Held {
    /// Whether it waited for the transactions of others, to see what became of them.
    pub fn only_asks(&self) -> bool {
        let asks = matches!(
            self.answer,
            Some(Answer::Repeat { .. } | Answer::Release { .. })
        );
        asks && self.promise.is_empty()
    }
}

/// What waits for other shards to name their debtors, and what waits behind it.
#[derive(Debug)]
pub(crate) enum Pending {
    Publish(Box<PendingPublish>),
    Answer {
        to: Recipient,
        answer: Answer,
        wait: Wait,
        promise: Promise,
    },
}

/// The answers of a shard that wait.
#[derive(Debug, Default)]
pub(crate) struct HeldAnswers {
    pending: VecDeque<Pending>,
    /// For the operating system.
    written: VecDeque<Held>,
    /// For the disk.
    durable: VecDeque<Held>,
    pub counts: AllHeldCounts,
    stored: Stored,
    /// The last transaction somebody waits for.
    last: Ticket,
    /// The last one that was refused.
    refused: Ticket,
    /// Sessions to give up once their `QoS` 2 messages are kept.
    pub yields: Vec<Claim>,
}

impl HeldAnswers {
    /// Answers that wait, and transactions without one.
    pub fn len(&self) -> usize {
        self.pending.len() + self.written.len() + self.durable.len()
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    pub fn push_pending(&mut self, pending: Pending) {
        self.pending.push_back(pending);
    }

    /// Other shards are asked under this number.
    pub fn pending_publish(&mut self, id: MessageId) -> Option<&mut PendingPublish> {
        self.pending.iter_mut().find_map(|pending| match pending {
            Pending::Publish(publish) if publish.debts.id == Some(id) => Some(&mut **publish),
            _ => None,
        })
    }

    /// The first one that waits for no other shard any more.
    pub fn next_pending(&mut self) -> Option<Pending> {
        self.pending.pop_front_if(|pending| match pending {
            Pending::Publish(publish) => publish.debts.asked == 0,
            Pending::Answer { wait, .. } => !matches!(wait, Wait::Home(..)),
        })
    }

    /// The home of delayed messages answers a question: what waited for it waits for something else now.
    /// `hear` says whether it is refused.
    pub fn hear_home(&mut self, question: u64, hear: impl FnOnce(&mut Answer) -> Option<Refusal>) {
        for pending in &mut self.pending {
            if let Pending::Answer { answer, wait, .. } = pending
                && let Wait::Home(number, then) = *wait
                && number == question
            {
                *wait = match (hear(answer), then) {
                    (Some(why), _) => Wait::Refused(why),
                    (None, Some((ticket, until))) => Wait::For(ticket, until),
                    (None, None) => Wait::Nothing,
                };
                return;
            }
        }
    }

    /// The first answer whose transaction came far enough, or not at all; whether it waited for the disk.
    pub fn next_due(&mut self) -> Option<(Held, bool)> {
        let Stored { written, durable } = self.stored;
        let is_due = |held: &mut Held, upto| held.refusal.is_some() || held.ticket <= upto;
        let is_written = |held: &mut Held| is_due(held, written.max(durable));
        if let Some(held) = self.written.pop_front_if(is_written) {
            return Some((held, false));
        }
        let held = self.durable.pop_front_if(|held| is_due(held, durable))?;
        Some((held, true))
    }

    fn has_come(&self, ticket: Ticket, until: Until) -> bool {
        let upto = match until {
            Until::Durable => self.stored.durable,
            Until::Written | Until::Whenever => self.stored.written.max(self.stored.durable),
        };
        // Refused or not: who waits for the last one looks for itself what became of it.
        ticket <= upto.max(self.refused)
    }

    fn refuse(&mut self, first: Ticket, last: Ticket, why: Refusal) {
        self.refused = self.refused.max(last);
        let is_meant = |ticket: Ticket| first <= ticket && ticket <= last;
        for held in self.written.iter_mut().chain(&mut self.durable) {
            if is_meant(held.ticket) {
                held.refusal = Some(why);
            }
        }
        for pending in &mut self.pending {
            if let Pending::Answer { wait, .. } = pending
                && let Wait::For(ticket, _) | Wait::Home(_, Some((ticket, _))) = wait
                && is_meant(*ticket)
            {
                *wait = Wait::Refused(why);
            }
        }
    }
}

impl Broker {
    /// Ends a transaction for which somebody waits, or nobody.
    pub(crate) fn end(&mut self, until: Until, out: &mut impl Effects) -> Ticket {
        let ticket = out.journal().end(until);
        if until != Until::Whenever {
            self.held.last = ticket;
        }
        ticket
    }

    /// The connection, to be recognised when its answer can go.
    pub(crate) fn recipient(&self, id: ConnectionId) -> Option<Recipient> {
        let opened = self.connections.get(id)?.opened;
        Some(Recipient { id, opened })
    }

    /// Answers a client, once what the answer promises is kept and all answers before it have gone.
    pub(crate) fn answer_when(
        &mut self,
        id: ConnectionId,
        answer: Answer,
        wait: Wait,
        promise: Promise,
        out: &mut impl Effects,
    ) {
        let Some(to) = self.recipient(id) else {
            return;
        };
        let counts = self.held_counts(Some(to));
        if counts.is_some_and(|counts| counts.pending > 0) {
            self.push_answer(to, answer, wait, promise, out);
        } else {
            self.queue_answer(Some(to), Some(answer), wait, promise, out);
        }
    }

    /// PUBREC for a message that came again: whether the first one is kept, is known when everything before is.
    pub(crate) fn answer_repeat(
        &mut self,
        id: ConnectionId,
        packet_id: PacketId,
        is_unsure: bool,
        out: &mut impl Effects,
    ) {
        let answer = Answer::Repeat { packet_id };
        if is_unsure {
            self.answer_after_all(id, answer, out);
        } else {
            self.answer_when(id, answer, Wait::Nothing, Promise::default(), out);
        }
    }

    /// Answers once it is known what becomes of everything before.
    pub(crate) fn answer_after_all(
        &mut self,
        id: ConnectionId,
        answer: Answer,
        out: &mut impl Effects,
    ) {
        let Some(to) = self.recipient(id) else {
            return;
        };
        if self.held.has_pending() {
            // What it is about may be among them, of an earlier connection.
            self.push_answer(to, answer, Wait::Last, Promise::default(), out);
        } else {
            self.answer_when(id, answer, Wait::Last, Promise::default(), out);
        }
    }

    pub(crate) fn push_answer(
        &mut self,
        to: Recipient,
        answer: Answer,
        wait: Wait,
        promise: Promise,
        out: &mut impl Effects,
    ) {
        self.held.pending.push_back(Pending::Answer {
            to,
            answer,
            wait,
            promise,
        });
        self.count_pending(Some(to), Some(answer), out);
    }

    /// A client's answer waits for other shards.
    pub(crate) fn count_pending(
        &mut self,
        to: Option<Recipient>,
        answer: Option<Answer>,
        out: &mut impl Effects,
    ) {
        let finishes = u16::from(answer.is_some_and(Answer::finishes));
        self.count_held(to, |counts| {
            counts.pending = counts.pending.saturating_add(1);
            counts.unfinished = counts.unfinished.saturating_add(finishes);
        });
        if let Some(to) = to {
            self.pause(to.id, out);
        }
    }

    /// It waits for them no more.
    pub(crate) fn count_pending_less(&mut self, to: Option<Recipient>, answer: Option<Answer>) {
        let finishes = u16::from(answer.is_some_and(Answer::finishes));
        self.count_held(to, |counts| {
            counts.pending = counts.pending.saturating_sub(1);
            counts.unfinished = counts.unfinished.saturating_sub(finishes);
        });
    }

    /// `None`: the connection is gone.
    pub(crate) fn held_counts(&self, to: Option<Recipient>) -> Option<HeldCounts> {
        let to = to?;
        let connection = self.connections.get(to.id)?;
        (connection.opened == to.opened).then(|| self.held.counts.get(connection.held))
    }

    pub(crate) fn count_held(
        &mut self,
        to: Option<Recipient>,
        change: impl FnOnce(&mut HeldCounts),
    ) {
        if let Some(to) = to
            && let Some(connection) = self.connections.get_mut(to.id)
            && connection.opened == to.opened
        {
            self.held.counts.change(&mut connection.held, change);
        }
    }

    /// Puts an answer, or a transaction without one, where it waits for the store; sends it if there is nothing to wait
    /// for.
    pub(crate) fn queue_answer(
        &mut self,
        to: Option<Recipient>,
        answer: Option<Answer>,
        wait: Wait,
        promise: Promise,
        out: &mut impl Effects,
    ) {
        if to.is_none() && promise.is_empty() {
            return;
        }
        let (ticket, until, refusal) = match wait {
            // What the home has answered waits for nothing more.
            Wait::Nothing | Wait::Home(..) => (Ticket::default(), Until::Whenever, None),
            Wait::For(ticket, until) => (ticket, until, None),
            Wait::Last if self.held.has_come(self.held.last, Until::Durable) => {
                let is_in_use = to
                    .zip(answer)
                    .is_some_and(|(to, answer)| self.is_in_use_again(to.id, answer));
                let refusal = is_in_use.then_some(Refusal::Failed);
                (Ticket::default(), Until::Whenever, refusal)
            }
            Wait::Last => (self.held.last, Until::Durable, None),
            Wait::Refused(why) => (Ticket::default(), Until::Whenever, Some(why)),
        };
        let is_kept = refusal.is_none() && self.held.has_come(ticket, until);
        let counts = self.held_counts(to);
        let is_first = counts.is_none_or(|counts| counts.written == 0 && counts.durable == 0);
        if is_kept && is_first && promise.is_empty() {
            if let (Some(to), Some(answer), Some(_)) = (to, answer, counts) {
                self.send_answer(to.id, answer, out);
            }
            return;
        }
        // Behind the last one of its connection, whatever that waits for.
        let is_behind_durable = counts.is_some_and(|counts| counts.durable > 0);
        let is_written = until != Until::Durable && !is_behind_durable;
        let finishes = u16::from(answer.is_some_and(Answer::finishes));
        self.counters.answers_held += u64::from(counts.is_some());
        self.count_held(to, |counts| {
            let count = if is_written {
                &mut counts.written
            } else {
                &mut counts.durable
            };
            *count = count.saturating_add(1);
            counts.unfinished = counts.unfinished.saturating_add(finishes);
        });
        let held = Held {
            ticket,
            to,
            answer,
            promise,
            refusal,
        };
        if is_written {
            self.held.written.push_back(held);
        } else {
            self.held.durable.push_back(held);
        }
        if let Some(to) = to {
            self.pause(to.id, out);
        }
    }

    /// Reads no more from a client with as many answers in line as it may have messages unfinished. In MQTT 5 it is the
    /// client's fault if that many are of messages, and found by its next one.
    fn pause(&mut self, id: ConnectionId, out: &mut impl Effects) {
        let Some(connection) = self.connections.get_mut(id) else {
            return;
        };
        let max = usize::from(self.limits.receive_maximum.max(1)) + usize::from(connection.is_v5());
        let counts = self.held.counts.get(connection.held);
        if counts.total() >= max && !counts.is_paused {
            let pause = |counts: &mut HeldCounts| counts.is_paused = true;
            self.held.counts.change(&mut connection.held, pause);
            self.counters.answers_paused += 1;
            out.read(id, false);
        }
    }

    pub(crate) fn read_on(&mut self, to: Recipient, out: &mut impl Effects) {
        let max = usize::from(self.limits.receive_maximum);
        let counts = self.held_counts(Some(to)).unwrap_or_default();
        if counts.is_paused && counts.total() <= max / 2 {
            self.count_held(Some(to), |counts| counts.is_paused = false);
            // It may be parked besides.
            let connection = self.connections.get(to.id);
            if connection.is_some_and(|connection| connection.waiting.is_none()) {
                out.read(to.id, true);
            }
        }
    }

    /// Transactions came as far as this.
    pub(crate) fn release_answers(&mut self, stored: Stored, now: Now, out: &mut impl Effects) {
        let known = &mut self.held.stored;
        known.written = known.written.max(stored.written);
        known.durable = known.durable.max(stored.durable);
        self.release_due(now, out);
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn refuse_answers(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.held.refuse(first, last, why);
        self.release_due(now, out);
    }
}
