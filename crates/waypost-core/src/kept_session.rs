//! Sessions that outlive their connection, and the process: their rows, and who waits for these.
//!
//! A session has a number from its first CONNECT on, if it is to outlive that connection. Its rows are written as it
//! changes; CONNACK waits only where something has to be on disk first: that it began, that the one before it is gone, or
//! its will.

use std::collections::VecDeque;

use waypost_mqtt::{Filter, Packet, ProtocolVersion, Role, decode};

use crate::broker::Broker;
use crate::connect::Admission;
use crate::effects::{ConnectionId, Effects, Frame, Now, ShardId};
use crate::held::Recipient;
use crate::index::Subscription;
use crate::inflight::{Inflight, Waits};
use crate::interest::post;
use crate::journal::{Journal, QueueId, Refusal, Table, Ticket, Until};
use crate::mail::Mail;
use crate::rows::{
    InFlight, SessionRow, SubscriptionRow, filter_key, packet_key, queue_key, will_key,
};
use crate::session::Session;
use crate::waiting::{For, Waiting};

/// What waits until transactions are on disk, in their order.
#[derive(Debug, Default)]
pub(crate) struct HeldConnects {
    waiting: VecDeque<(Ticket, Held)>,
    /// The transaction in which a session ended last.
    ended: Option<Ticket>,
    /// Sessions that ended, and the transactions that say so.
    ends: VecDeque<(Ticket, QueueId)>,
    /// Of those, what the store refused to take note of: it is told again when it works.
    unended: Vec<QueueId>,
}

#[derive(Clone, Copy, Debug)]
enum Held {
    /// A CONNECT, and the session it is for as long as no newer one has it.
    Connect {
        to: Recipient,
        slot: Option<u32>,
        is_resumed: bool,
    },
    /// The session that a claim of another shard is for has ended.
    Ended { to: ShardId, number: u64 },
}

impl HeldConnects {
    /// A CONNECT comes, which may have to wait for the end of the session before.
    pub fn begin(&mut self) {
        self.ended = None;
    }

    /// A newer CONNECT has the session in this slot, or nobody: older ones that wait come too late.
    /// Returns whether the session is one that began with them.
    pub fn forget(&mut self, gone: u32) -> bool {
        let mut is_beginning = false;
        for (_, held) in &mut self.waiting {
            if let Held::Connect {
                slot, is_resumed, ..
            } = held
                && slot.take_if(|slot| *slot == gone).is_some()
            {
                is_beginning |= !*is_resumed;
            }
        }
        is_beginning
    }

    /// What a CONNECT has to wait for before CONNACK: the end of the session before.
    pub fn end_of_former(&mut self) -> Option<Ticket> {
        self.ended.take()
    }
}

impl Broker {
    /// Transactions up to here are on disk.
    pub(crate) fn sessions_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        self.answers_stored(durable, now, out);
        self.settled_stored(durable, out);
        self.dead.stored(durable);
        self.group_rows_stored(durable, out);
        self.rows_stored(durable, now, out);
        self.connects_stored(durable, now, out);
        self.ends_stored(durable, out);
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn sessions_refused(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        self.answers_refused(first, last, why, now, out);
        self.settled_refused(first, last);
        self.dead.not_stored(first, last, now);
        self.group_rows_refused(first, last);
        self.rows_refused(first, last, why, now, out);
        self.connects_refused(first, last, why, now, out);
        self.ends_refused(first, last);
    }

    /// Gives a session its number, if the store is to keep it, and writes it down. Returns whether it has one.
    pub(crate) fn keep_session(&mut self, slot: u32, out: &mut impl Effects) -> bool {
        let Some(session) = self.sessions.get(slot) else {
            return false;
        };
        if session.number().is_none() {
            if !self.has_store || !session.is_persistent() {
                return false;
            }
            let number = self.numbers.queue();
            self.sessions.number(slot, number);
        }
        self.put_session(slot, None, out);
        true
    }

    /// Writes a session down; the transaction is open.
    fn put_session(&mut self, slot: u32, away_since_ms: Option<u64>, out: &mut impl Effects) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(queue) = session.number() else {
            return;
        };
        let window = session.delivery.as_ref().map(|delivery| &delivery.inflight);
        let sent = window.filter(|_| away_since_ms.is_some()).map(|window| {
            let at_least_once = window
                .debts()
                .filter(|(slot, _)| slot.waits == Waits::PubAck);
            at_least_once
                .map(|(slot, id)| InFlight {
                    packet_id: slot.packet_id,
                    id,
                })
                .collect()
        });
        let row = SessionRow {
            client_id: &session.client_id,
            user: session.user.as_deref(),
            expiry_s: session.expiry_s,
            away_since_ms,
            in_flight: sent.unwrap_or_default(),
        };
        let mut value = Vec::new();
        row.encode(&mut value);
        out.journal()
            .put(Table::SESSIONS, &queue_key(queue), &value);
    }

    /// A session lost its connection.
    pub(crate) fn keep_absence(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        let is_kept = self
            .sessions
            .get(slot)
            .is_some_and(|session| session.number().is_some());
        if is_kept {
            let away_since_ms = self.calendar.date(now.monotonic_ms);
            self.put_session(slot, Some(away_since_ms), out);
            self.end(Until::Whenever, out);
        }
    }

    /// Writes a subscription down, if its session is kept; the transaction is open. Returns whether it is.
    pub(crate) fn keep_subscription(
        &mut self,
        slot: u32,
        filter: Filter<'_>,
        subscription: Subscription,
        weight: u32,
        out: &mut impl Effects,
    ) -> bool {
        let session = self.sessions.get(slot);
        let Some(queue) = session.and_then(Session::number) else {
            return false;
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        filter_key(queue, filter.as_str(), &mut key);
        let row = SubscriptionRow {
            subscription,
            weight: u16::try_from(weight).unwrap_or(u16::MAX),
        };
        row.encode(&mut value);
        out.journal().put(Table::SUBSCRIPTIONS, &key, &value);
        true
    }

    /// Deletes the row of a subscription, if its session is kept; the transaction is open. Returns whether it is.
    pub(crate) fn forget_subscription(
        &mut self,
        slot: u32,
        filter: &str,
        out: &mut impl Effects,
    ) -> bool {
        let session = self.sessions.get(slot);
        let Some(queue) = session.and_then(Session::number) else {
            return false;
        };
        let mut key = Vec::new();
        filter_key(queue, filter, &mut key);
        out.journal().delete(Table::SUBSCRIPTIONS, &key);
        self.forget_reader(queue, filter, out);
        true
    }

    /// Deletes everything the store has of a session, in one transaction.
    pub(crate) fn forget_session(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get(slot) else {
            return;
        };
        let Some(queue) = session.number() else {
            return;
        };
        let journal = out.journal();
        let mut key = Vec::new();
        for filter in &session.subscriptions {
            filter_key(queue, &self.index.filter_string(*filter), &mut key);
            journal.delete(Table::SUBSCRIPTIONS, &key);
        }
        let delivery = session.delivery.as_ref();
        for reader in delivery.into_iter().flat_map(|it| it.readers.iter()) {
            filter_key(queue, &reader.filter, &mut key);
            journal.delete(Table::READERS, &key);
            journal.delete(Table::PICKED, &key);
        }
        forget_rows(session, journal);
        journal.delete(Table::SESSIONS, &queue_key(queue));
        journal.end_queue(queue);
        let ticket = self.end(Until::Durable, out);
        self.held_connects.ended = Some(ticket);
        self.held_connects.ends.push_back((ticket, queue));
    }

    /// Transactions up to here are on disk: the store works, and is told what it refused to take note of.
    fn ends_stored(&mut self, durable: Ticket, out: &mut impl Effects) {
        let HeldConnects { ends, unended, .. } = &mut self.held_connects;
        while ends
            .pop_front_if(|(ticket, _)| *ticket <= durable)
            .is_some()
        {}
        if unended.is_empty() {
            return;
        }
        let queues = std::mem::take(unended);
        for queue in &queues {
            // Its other rows go at the next start.
            out.journal().delete(Table::SESSIONS, &queue_key(*queue));
            out.journal().end_queue(*queue);
        }
        let ticket = self.end(Until::Durable, out);
        let again = queues.into_iter().map(|queue| (ticket, queue));
        self.held_connects.ends.extend(again);
    }

    fn ends_refused(&mut self, first: Ticket, last: Ticket) {
        let HeldConnects { ends, unended, .. } = &mut self.held_connects;
        let is_refused = |(ticket, _): &&(Ticket, QueueId)| (first..=last).contains(ticket);
        unended.extend(ends.iter().filter(is_refused).map(|(_, queue)| *queue));
        ends.retain(|end| !is_refused(&end));
    }

    /// A CONNECT waits until a transaction is on disk.
    #[expect(clippy::too_many_arguments, reason = "a CONNECT and what it waits for")]
    pub(crate) fn hold_connect(
        &mut self,
        id: ConnectionId,
        slot: u32,
        is_resumed: bool,
        ticket: Ticket,
        admission: Admission,
        frame: Frame<'_>,
        out: &mut impl Effects,
    ) {
        let Some(to) = self.recipient(id) else {
            return;
        };
        let mut waiting = Box::new(Waiting::new(For::Store, frame));
        waiting.user = admission.user;
        waiting.data = admission.data;
        waiting.assigned = admission.assigned;
        self.park(id, waiting, out);
        let held = Held::Connect {
            to,
            slot: Some(slot),
            is_resumed,
        };
        self.held_connects.waiting.push_back((ticket, held));
    }

    /// The claim of another shard is answered once the end of its session is on disk.
    pub(crate) fn hold_ended(&mut self, to: ShardId, number: u64, ticket: Ticket) {
        let held = Held::Ended { to, number };
        self.held_connects.waiting.push_back((ticket, held));
    }

    /// Transactions up to here are on disk: whoever waited goes on.
    pub(crate) fn connects_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        while let Some((_, held)) = self
            .held_connects
            .waiting
            .pop_front_if(|(ticket, _)| *ticket <= durable)
        {
            match held {
                Held::Ended { to, number } => {
                    let parcel = None;
                    post(to, Mail::Shipped { number, parcel }, out);
                }
                Held::Connect {
                    to,
                    slot,
                    is_resumed,
                } => self.go_on_connecting(to, slot, is_resumed, None, now, out),
            }
        }
    }

    /// Transactions from the first to the last are not kept.
    pub(crate) fn connects_refused(
        &mut self,
        first: Ticket,
        last: Ticket,
        why: Refusal,
        now: Now,
        out: &mut impl Effects,
    ) {
        let waiting = &mut self.held_connects.waiting;
        let is_refused = |(ticket, _): &&(Ticket, Held)| (first..=last).contains(ticket);
        let refused: Vec<_> = waiting.iter().filter(is_refused).copied().collect();
        waiting.retain(|held| !is_refused(&held));
        for (_, held) in refused {
            match held {
                Held::Ended { to, number } => {
                    let reason = why.reason();
                    post(to, Mail::Refused { number, reason }, out);
                }
                Held::Connect {
                    to,
                    slot,
                    is_resumed,
                } => self.go_on_connecting(to, slot, is_resumed, Some(why), now, out),
            }
        }
    }

    fn go_on_connecting(
        &mut self,
        to: Recipient,
        slot: Option<u32>,
        is_resumed: bool,
        refusal: Option<Refusal>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let connection = self.connections.get_mut(to.id);
        let connection = connection.filter(|connection| connection.opened == to.opened);
        let is_waiting = |waiting: &mut Box<Waiting>| waiting.for_what == For::Store;
        let waiting = connection.and_then(|connection| connection.waiting.take_if(is_waiting));
        let Some(waiting) = waiting else {
            self.nobody_came(slot, is_resumed || refusal.is_none(), now, out);
            return;
        };
        out.read(to.id, true);
        let Some(slot) = slot else {
            // A newer CONNECT has the session. 5 [MQTT-3.1.4-3]
            self.break_off(to.id, now, out);
            return;
        };
        let Ok(Packet::Connect(connect)) =
            decode(&waiting.packet, ProtocolVersion::V5, Role::Client)
        else {
            return;
        };
        match refusal {
            None => {
                let admission = Admission {
                    user: waiting.user,
                    data: waiting.data,
                    assigned: waiting.assigned,
                    verdicts: Vec::new(),
                };
                self.attached(to.id, slot, is_resumed, &connect, &admission, now, out);
            }
            Some(why) => {
                let user = waiting.user.as_deref();
                let client_id = waiting.assigned.as_deref().unwrap_or(connect.client_id);
                self.deny(to.id, client_id, user, why.reason(), now, out);
                self.nobody_came(Some(slot), is_resumed, now, out);
            }
        }
    }

    /// Whoever a session was held for is gone again: it is one cut off now. One that is not written down is none.
    fn nobody_came(
        &mut self,
        slot: Option<u32>,
        is_written: bool,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(slot) = slot else {
            return;
        };
        self.drop_will(slot, out);
        let session = self.sessions.get(slot);
        if session.is_some_and(|session| !is_written || !session.is_persistent()) {
            self.end_session(slot, now, out);
        } else {
            self.keep_absence(slot, now, out);
            self.begin_absence(slot, now);
        }
    }
}

/// Deletes the rows of what is under way to a session, and from it.
fn forget_rows(session: &Session, journal: &mut dyn Journal) {
    let Some(queue) = session.number() else {
        return;
    };
    let inflight = session.delivery.as_ref().map(|delivery| &delivery.inflight);
    for (slot, _) in inflight.into_iter().flat_map(Inflight::debts) {
        if slot.waits != Waits::PubAck {
            journal.delete(Table::SENT, &packet_key(queue, slot.packet_id));
        }
    }
    for packet_id in session.received_rows() {
        journal.delete(Table::RECEIVED, &packet_key(queue, packet_id));
    }
    if let Some(number) = session.will_row {
        journal.delete(Table::WILLS, &will_key(queue, number));
    }
}
