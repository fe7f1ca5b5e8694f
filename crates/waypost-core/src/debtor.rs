//! Sessions that are owed messages by the store: who is one, reading what waits, and settling.
//!
//! The store keeps what a session is owed in a queue under the session's number. Its window holds the numbers of what
//! is in flight and no contents; its [`Cursor`](crate::cursor::Cursor) says what was read. Slow and away are the same.

use std::collections::VecDeque;
use std::rc::Rc;

use waypost_mqtt::PacketId;

use crate::broker::Broker;
use crate::calendar::Calendar;
use crate::cursor::Ready;
use crate::dead::Cause;
use crate::effects::{Effects, Now, ShardId};
use crate::inflight::{Resend, Waits};
use crate::journal::{MessageId, QueueId, QueueRead, ReadEntry, Table, Until};
use crate::queue::Owed;
use crate::rows::message::decode_message;
use crate::rows::options::decode_options;
use crate::rows::packet_key;
use crate::session::Session;
use crate::unsettled::Settled;

/// What one read of a queue brings at most, in bytes of contents (and the message that goes beyond).
const READ_BYTES_MAX: u32 = 1024 * 1024;

/// What sessions here are owed and the shards where it was published have not written down, in the order it came from
/// each of them.
#[derive(Debug, Default)]
pub(crate) struct Unlogged {
    by_shard: Vec<VecDeque<(MessageId, Debtor)>>,
}

/// A session that is owed something: its slot, as long as it has the number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Debtor {
    pub slot: u32,
    pub number: QueueId,
}

impl Unlogged {
    /// A session is owed a message.
    pub fn push(&mut self, publisher: ShardId, id: MessageId, debtor: Debtor) {
        let at = usize::from(publisher.0);
        if self.by_shard.len() <= at {
            self.by_shard.resize_with(at + 1, VecDeque::new);
        }
        if let Some(unlogged) = self.by_shard.get_mut(at) {
            unlogged.push_back((id, debtor));
        }
    }

    /// Takes out the next debt of a shard's messages up to this one.
    fn pop(&mut self, publisher: ShardId, upto: MessageId) -> Option<(MessageId, Debtor)> {
        let unlogged = self.by_shard.get_mut(usize::from(publisher.0))?;
        unlogged.pop_front_if(|(id, _)| *id <= upto)
    }

    /// Takes out everybody who is owed one message.
    fn take(&mut self, publisher: ShardId, wanted: MessageId) -> Vec<Debtor> {
        let Some(unlogged) = self.by_shard.get_mut(usize::from(publisher.0)) else {
            return Vec::new();
        };
        let taken = unlogged.iter().filter(|(id, _)| *id == wanted);
        let taken = taken.map(|(_, debtor)| *debtor).collect();
        unlogged.retain(|(id, _)| *id != wanted);
        taken
    }
}

impl Broker {
    /// What a shard published up to this message, and is owed here, is written down.
    pub(crate) fn logged(
        &mut self,
        publisher: ShardId,
        upto: MessageId,
        now: Now,
        out: &mut impl Effects,
    ) {
        let mut is_any_settled = false;
        let mut to_pump = Vec::new();
        while let Some((id, Debtor { slot, number })) = self.unlogged.pop(publisher, upto) {
            let session = self.sessions.get_mut(slot);
            let Some(session) = session.filter(|session| session.number() == Some(number)) else {
                // It ended meanwhile, and its queue with it, which this message has begun again.
                if !self.dead.logged(number, id) {
                    out.journal().settle(number, id);
                    is_any_settled = true;
                }
                continue;
            };
            let Some(delivery) = session.delivery.as_mut() else {
                continue;
            };
            if delivery.cursor.logged(id) && !self.dead.logged(number, id) {
                out.journal().settle(number, id);
                is_any_settled = true;
            }
            let is_connected = session.connection.is_some() && delivery.cursor.wants_read();
            if is_connected || session.moving.is_some() {
                to_pump.push(slot);
            }
        }
        if is_any_settled {
            self.end(Until::Whenever, out);
        }
        for slot in to_pump {
            self.leave_if_empty(slot, out);
            self.go_on(slot, now, out);
        }
        self.logged_for_groups(publisher, upto, now, out);
    }

    /// What a shard published could not be written down: nobody is owed it.
    pub(crate) fn unlogged(
        &mut self,
        publisher: ShardId,
        ids: &[MessageId],
        now: Now,
        out: &mut impl Effects,
    ) {
        for id in ids {
            for Debtor { slot, number } in self.unlogged.take(publisher, *id) {
                let was_buried = self.dead.unlogged(number, *id);
                let session = self.sessions.get_mut(slot);
                let session = session.filter(|session| session.number() == Some(number));
                if let Some(delivery) = session.and_then(|session| session.delivery.as_mut()) {
                    let was_sent = delivery.inflight.forget_debt(*id);
                    delivery.cursor.unlogged(*id, was_sent || was_buried);
                }
                self.leave_if_empty(slot, out);
                self.go_on(slot, now, out);
            }
        }
        self.unlogged_for_groups(ids);
    }

    /// Something a session waited for came.
    pub(crate) fn go_on(&mut self, slot: u32, now: Now, out: &mut impl Effects) {
        self.pump(slot, now, out);
        self.relieve_members(slot, now, out);
    }

    /// A session is done with a message of its queue. `packet_id`: there is a row that says it was sent.
    pub(crate) fn settle_debt(
        &mut self,
        slot: u32,
        id: MessageId,
        row: Option<PacketId>,
        out: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let Some(number) = session.number() else {
            return;
        };
        if session.delivery().cursor.settle(id) {
            let journal = out.journal();
            journal.settle(number, id);
            if let Some(packet_id) = row {
                journal.delete(Table::SENT, &packet_key(number, packet_id.value()));
            }
            let ticket = self.end(Until::Whenever, out);
            if row.is_some() {
                let settled = Settled {
                    queue: number,
                    id,
                    packet_id: row,
                };
                self.unsettled.write(ticket, settled);
            }
        }
    }

    /// As [`Self::settle_debt`], of what may on no account come again.
    pub(crate) fn settle_for_good(&mut self, slot: u32, id: MessageId, out: &mut impl Effects) {
        let session = self.sessions.get_mut(slot);
        let Some((queue, session)) = session.and_then(|it| Some((it.number()?, it))) else {
            return;
        };
        if session.delivery().cursor.settle(id) {
            out.journal().settle(queue, id);
            let ticket = self.end(Until::Whenever, out);
            let settled = Settled {
                queue,
                id,
                packet_id: None,
            };
            self.unsettled.write(ticket, settled);
        }
    }

    /// Reads on in a session's queue, if there is something to read and room for it.
    pub(crate) fn read_queue_on(&mut self, slot: u32, out: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(slot) else {
            return;
        };
        let (Some(number), Some(delivery)) = (session.number(), session.delivery.as_mut()) else {
            return;
        };
        if session.connection.is_none() || !delivery.cursor.wants_read() {
            return;
        }
        let inflight = &mut delivery.inflight;
        if !inflight.has_room() && inflight.resend() != Resend::Wait {
            return;
        }
        // What is in flight is read too and passed over.
        let count_max = usize::from(inflight.window) + inflight.debts().count();
        let after = delivery.cursor.begin_read();
        let count_max = u32::try_from(count_max).unwrap_or(u32::MAX);
        out.journal()
            .read_queue(number, after, count_max, READ_BYTES_MAX);
    }

    /// What a queue is owed was read.
    pub fn handle_queue_read(
        &mut self,
        queue: QueueId,
        read: QueueRead,
        now: Now,
        out: &mut impl Effects,
    ) {
        if self.moving.was_in_vain(queue) {
            return;
        }
        let Some(slot) = self.sessions.find_number(queue) else {
            self.hear_group_read(queue, read, now, out);
            return;
        };
        let too_old_ms = self.too_old_ms(now);
        let calendar = self.calendar;
        let Some(delivery) = self
            .sessions
            .get_mut(slot)
            .and_then(|session| session.delivery.as_mut())
        else {
            return;
        };
        let last_place = read.entries.last().map(|entry| entry.place);
        if !delivery.cursor.end_read(last_place, read.is_end) {
            self.go_on(slot, now, out);
            return;
        }
        if delivery.cursor.is_sweeping() {
            self.hear_swept(slot, queue, read, now, out);
            return;
        }
        let is_seeking = delivery.cursor.is_seeking();
        let (mut lost, mut too_old) = (Vec::new(), Vec::new());
        for entry in read.entries {
            let id = entry.id;
            let is_in_flight = delivery.inflight.owes(id);
            let is_settled = delivery.cursor.is_settled(id)
                || self.unsettled.has(queue, id)
                || self.dead.has(queue, id);
            if is_settled || (is_seeking && !is_in_flight) {
                continue;
            }
            delivery.cursor.seen(id);
            let is_too_old = !is_in_flight && date_of(&entry) < too_old_ms;
            match opened(entry, calendar) {
                Some(owed) if is_too_old => {
                    delivery.cursor.take();
                    self.counters.dropped_too_old += 1;
                    too_old.push((id, owed));
                }
                Some(owed) if is_in_flight => delivery.inflight.fill(id, &owed),
                Some(owed) => delivery.cursor.push(Ready { id, owed }),
                // 5 [MQTT-4.3.3-7]: what is in flight does not expire; it may be damaged.
                None if is_in_flight => {}
                None => {
                    delivery.cursor.take();
                    self.counters.dropped_expired += 1;
                    lost.push(id);
                }
            }
        }
        let is_at_end = delivery.cursor.is_at_end();
        let mut unreadable = Vec::new();
        if is_seeking {
            let missing = delivery.inflight.missing();
            let missing: Vec<_> = missing
                .map(|(slot, id)| (slot.packet_id, slot.waits, id))
                .collect();
            if is_at_end || missing.is_empty() {
                delivery.cursor.end_seeking();
                unreadable = missing;
            }
        } else if is_at_end {
            delivery.cursor.count_ready();
        }
        if !lost.is_empty() {
            for id in lost {
                if delivery.cursor.settle(id) {
                    out.journal().settle(queue, id);
                }
            }
            self.end(Until::Whenever, out);
        }
        for (id, owed) in too_old {
            self.bury_debt(slot, id, &owed, Cause::Expired, out);
        }
        for (packet_id, waits, id) in unreadable {
            self.counters.dropped_unreadable += 1;
            self.finish_debt(slot, packet_id, waits, id, out);
        }
        self.go_on(slot, now, out);
    }

    /// What was published before has waited too long.
    fn too_old_ms(&self, now: Now) -> u64 {
        match self.limits.queue_age_max_ms {
            0 => 0,
            age_max_ms => self
                .calendar
                .date(now.monotonic_ms)
                .saturating_sub(age_max_ms),
        }
    }

    fn finish_debt(
        &mut self,
        slot: u32,
        packet_id: u16,
        waits: Waits,
        id: MessageId,
        out: &mut impl Effects,
    ) {
        let Some(packet_id) = PacketId::new(packet_id) else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(slot) {
            session.delivery().inflight.finish(packet_id);
        }
        let row = (waits != Waits::PubAck).then_some(packet_id);
        self.settle_debt(slot, id, row, out);
    }
}

/// When a message was published, in milliseconds since 1970.
pub(crate) fn date_of(entry: &ReadEntry) -> u64 {
    let kept = entry.body.as_deref().and_then(decode_message);
    kept.map_or(u64::MAX, |kept| kept.date_wall_ms)
}

/// A message as it was read; `None`: it expired, or is damaged.
pub(crate) fn opened(entry: ReadEntry, calendar: Calendar) -> Option<Owed> {
    let body = entry.body?;
    let kept = decode_message(&body)?;
    let expires_ms = calendar.time(kept.expires_wall_ms);
    let owed_as = decode_options(&entry.options)?;
    let identifiers: Vec<u32> = owed_as.identifiers().collect();
    Some(Owed {
        message: Rc::new(kept.to_stored(expires_ms)),
        identifiers: (!identifiers.is_empty()).then(|| identifiers.into()),
        qos: owed_as.qos,
        retain: owed_as.retain,
    })
}

impl Session {
    /// Whether everything it is owed was written down by those who published it.
    pub fn is_logged(&self) -> bool {
        let delivery = self.delivery.as_ref();
        delivery.is_none_or(|delivery| delivery.cursor.is_logged())
    }
}
