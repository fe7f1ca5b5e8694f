//! What a session that outlives its connection has to get for sure: records are put into its own queue.
//!
//! One transaction has a window of copies, each with the properties that say where it is from, that the session is owed
//! them, and how far the reader has come by then. So whatever happens, a record is owed once or still to be read. From
//! the queue it is sent as everything else is (`debtor.rs`, `exactly_once.rs`).

use std::collections::VecDeque;

use waypost_mqtt::{Filter, Topic};

use super::Broker;
use super::reader::State;
use super::sending::record_message;
use super::subscribing::put_done;
use crate::effects::{Effects, Now};
use crate::journal::{QueueId, Ticket, Until};
use crate::queue::queued_bytes;
use crate::rows::message::{encode, expires_wall_ms};
use crate::rows::options;
use crate::session::Session;
use crate::stream::StreamRead;

/// How long after a refusal the store is asked again.
const RETRY_MS: u64 = 1_000;

/// Copies on their way to the disk, in the order of their transactions.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    waiting: VecDeque<Copy>,
}

#[derive(Clone, Copy, Debug)]
struct Copy {
    ticket: Ticket,
    queue: QueueId,
    number: u64,
    /// Up to where the reader has come with them.
    next: u64,
    count: usize,
    bytes: usize,
    expires_ms: Option<u64>,
}

impl Broker {
    /// Puts what was read into the queue of its session.
    pub(super) fn copy_window(
        &mut self,
        slot: u32,
        number: u64,
        read: &StreamRead,
        now: Now,
        out: &mut impl Effects,
    ) {
        let is_end = read.is_end;
        if self.copy(slot, number, read, now, out) || !is_end {
            return;
        }
        self.join_tail(slot, number, read.records.is_empty(), out);
    }

    /// As [`Self::copy_window`], for one that waits at the end. Returns whether it does so still.
    pub(super) fn copy_at_tail(
        &mut self,
        slot: u32,
        number: u64,
        read: &StreamRead,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let delivery = session.delivery();
        let window = usize::from(delivery.inflight.window);
        if delivery.cursor.waiting() * 2 > window || delivery.cursor.is_refused {
            if let Some(reader) = delivery.readers.get_mut(number) {
                reader.state = State::Alone;
            }
            self.counters.history_fell_behind += 1;
            return false;
        }
        self.copy(slot, number, read, now, out);
        true
    }

    /// Returns whether there was anything to copy.
    fn copy(
        &mut self,
        slot: u32,
        number: u64,
        read: &StreamRead,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(slot) else {
            return false;
        };
        let (queue, publisher) = (session.number(), session.publisher);
        let Some(reader) = session.delivery().readers.get_mut(number) else {
            return false;
        };
        let Some(queue) = queue else {
            return false;
        };
        let (filter, place) = (reader.filter.clone(), reader.place.clone());
        let options = place.subscription.options;
        let inner = Filter::from_validated(&place.inner);
        let identifier = place.subscription.identifier;
        let identifier = Some(identifier).filter(|identifier| *identifier != 0);
        let identifiers = identifier.as_slice();
        let date = self.calendar.date(now.monotonic_ms);
        let mut labels = std::mem::take(&mut self.history.labels);
        let mut body = std::mem::take(&mut self.scratch.body);
        let mut owed_as = Vec::new();
        let (mut count, mut bytes, mut expires_ms) = (0, 0, None);
        for record in read.records.iter().filter(|it| it.offset >= place.done) {
            let Some(kept) = self.open_record(record, now) else {
                continue;
            };
            let is_own = options.no_local && kept.publisher == publisher;
            if is_own || !inner.matches(Topic::from_validated(kept.topic)) {
                continue;
            }
            let message = record_message(&kept, &place.name, record, &mut labels);
            let message = self.with_expiry(message, &kept, now);
            body.clear();
            encode(
                &message,
                kept.qos,
                kept.publisher,
                kept.address,
                date,
                &mut body,
            );
            owed_as.clear();
            let qos = kept.qos.min(options.qos);
            options::encode(qos, false, identifiers, &mut owed_as);
            let id = self.numbers.message();
            let journal = out.journal();
            journal.message(id, expires_wall_ms(message.expiry_s, date), &body);
            journal.owe(id, &owed_as, &[queue]);
            count += 1;
            bytes += queued_bytes(&message);
            let left_ms = message.expiry_s.map(|s| u64::from(s) * 1_000);
            let at_ms = left_ms.map(|ms| now.monotonic_ms.saturating_add(ms));
            expires_ms = at_ms.into_iter().chain(expires_ms).min();
        }
        self.history.labels = labels;
        self.scratch.body = body;
        if count == 0 {
            if let Some(reader) = self.reader_of(queue, number) {
                reader.place.pass(read.next);
            }
            self.note_place(slot, number, out);
            return false;
        }
        let next = read.next.max(place.done);
        put_done(queue, &filter, &place, next, out);
        let ticket = self.end(Until::Durable, out);
        self.counters.history_sent += count as u64;
        self.history.copies.waiting.push_back(Copy {
            ticket,
            queue,
            number,
            next,
            count,
            bytes,
            expires_ms,
        });
        if let Some(reader) = self.reader_of(queue, number) {
            reader.place.asked = reader.place.asked.max(next);
            reader.noted = next;
            let was_at_tail = reader.state == State::AtTail;
            reader.state = State::Copying { was_at_tail };
        }
        true
    }

    fn reader_of(&mut self, queue: QueueId, number: u64) -> Option<&mut super::Reader> {
        let slot = self.sessions.find_number(queue)?;
        let delivery = self.sessions.get_mut(slot)?.delivery.as_mut()?;
        delivery.readers.get_mut(number)
    }

    /// Transactions up to here are on disk: what was copied is owed.
    pub(crate) fn copies_stored(&mut self, durable: Ticket, now: Now, out: &mut impl Effects) {
        let copies = &mut self.history.copies.waiting;
        let mut stored = Vec::new();
        while let Some(copy) = copies.pop_front_if(|copy| copy.ticket <= durable) {
            stored.push(copy);
        }
        for copy in stored {
            let Some(slot) = self.sessions.find_number(copy.queue) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let is_connected = session.connection.is_some();
            let delivery = session.delivery();
            delivery
                .cursor
                .owe_stored(copy.count, copy.bytes, copy.expires_ms);
            if let Some(reader) = delivery.readers.get_mut(copy.number) {
                reader.place.pass(copy.next);
                reader.state = settled(reader.state, is_connected);
            }
            self.go_on(slot, now, out);
            self.moving.to_yield.append(&mut self.held.yields);
        }
    }

    /// Transactions from the first to the last are not kept: what was copied in them is read again after a while.
    pub(crate) fn copies_refused(&mut self, first: Ticket, last: Ticket, now: Now) {
        let is_refused = |copy: &Copy| (first..=last).contains(&copy.ticket);
        let copies = &mut self.history.copies.waiting;
        let refused: Vec<_> = copies.iter().filter(|it| is_refused(it)).copied().collect();
        copies.retain(|copy| !is_refused(copy));
        for copy in refused {
            let Some(slot) = self.sessions.find_number(copy.queue) else {
                continue;
            };
            let Some(session) = self.sessions.get_mut(slot) else {
                continue;
            };
            let is_connected = session.connection.is_some();
            let delivery = session.delivery();
            let Some(reader) = delivery.readers.get_mut(copy.number) else {
                continue;
            };
            self.history.leave_tail(slot, reader);
            reader.place.pass(0);
            reader.state = settled(State::Copying { was_at_tail: false }, is_connected);
            if is_connected {
                delivery.cursor.is_refused = true;
                delivery.resume_ms = Some(now.monotonic_ms + RETRY_MS);
                self.arm_session(slot);
            }
            self.moving.to_yield.append(&mut self.held.yields);
        }
    }
}

fn settled(state: State, is_connected: bool) -> State {
    match state {
        _ if !is_connected => State::Idle,
        State::Copying { was_at_tail: true } => State::AtTail,
        _ => State::Alone,
    }
}

impl Session {
    /// Whether the store has yet to say of some copies that they are owed.
    pub(crate) fn is_copying(&self) -> bool {
        let delivery = self.delivery.as_ref();
        let mut readers = delivery.into_iter().flat_map(|it| it.readers.iter());
        readers.any(|reader| matches!(reader.state, State::Copying { .. }))
    }
}
