//! Readers come with a SUBSCRIBE and go with an UNSUBSCRIBE, their session, or their stream.

use std::sync::Arc;

use waypost_mqtt::{Filter, ReasonCode, SubscriptionRequest};

use super::{Broker, Found, History, Place, Reader, State};
use crate::effects::{Effects, Now};
use crate::events::Event;
use crate::index::{SubscriberId, Subscription};
use crate::journal::{QueueId, Table, Until};
use crate::rows::{
    ReaderRow, RowError, decode_filter_key, decode_picked, encode_picked, filter_key,
};
use crate::session::Session;

impl Broker {
    /// Subscribes to a filter with history. It reads once its SUBACK has gone. Gives its number.
    pub(crate) fn subscribe_history(
        &mut self,
        slot: u32,
        request: SubscriptionRequest<'_>,
        inner: Filter<'_>,
        identifier: u32,
        found: &Found,
        out: &mut impl Effects,
    ) -> Result<u64, ReasonCode> {
        let text = request.filter.as_str();
        let (of_session_max, readers_max) = (
            self.limits.subscriptions_per_session_max,
            self.limits.history_readers_per_session_max,
        );
        let is_live = self.is_subscribed(slot, request.filter);
        let session = self.sessions.get_mut(slot);
        let session = session.ok_or(ReasonCode::UnspecifiedError)?;
        let count = session.subscription_count();
        let readers = &session.delivery().readers;
        let is_again = readers.find(text).is_some();
        if !is_again && readers.len() >= readers_max {
            self.counters.history_readers_exceeded += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        if !is_again && !is_live && count >= of_session_max {
            self.counters.subscriptions_exceeded += 1;
            return Err(ReasonCode::QuotaExceeded);
        }
        // 5 [MQTT-3.8.4-3]: one with the same filter is replaced.
        self.remove_reader(slot, text);
        if is_live {
            self.unsubscribe_live(slot, request.filter, out);
        }
        let place = Place {
            inner: inner.as_str().into(),
            subscription: Subscription {
                options: request.options,
                identifier,
            },
            stream: found.stream,
            name: Arc::clone(&found.name),
            picked: Arc::clone(&found.picked),
            begin: found.begin,
            done: 0,
            asked: 0,
        };
        Ok(self.push_reader(slot, text.into(), place))
    }

    fn is_subscribed(&self, slot: u32, filter: Filter<'_>) -> bool {
        let found = self.index.find(filter);
        found.is_some_and(|found| self.index.get(found, SubscriberId(slot)).is_some())
    }

    /// Takes a reader away. Returns whether there was one.
    pub(crate) fn remove_reader(&mut self, slot: u32, filter: &str) -> bool {
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let Some(mut reader) = delivery.and_then(|delivery| delivery.readers.remove(filter)) else {
            return false;
        };
        self.history.end(slot, &mut reader);
        true
    }

    /// As [`Self::remove_reader`], by its number.
    pub(crate) fn remove_reader_numbered(&mut self, slot: u32, number: u64) {
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let reader = delivery.and_then(|delivery| delivery.readers.get_mut(number));
        if let Some(filter) = reader.map(|reader| reader.filter.clone()) {
            self.remove_reader(slot, &filter);
        }
    }

    /// A session ends: nobody waits for what its readers asked for.
    pub(crate) fn remove_readers(&mut self, slot: u32) {
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let Some(delivery) = delivery else {
            return;
        };
        for mut reader in delivery.readers.take() {
            self.history.end(slot, &mut reader);
        }
    }

    /// A session changes shards: what its readers are there.
    pub(crate) fn readers_depart(
        &mut self,
        slot: u32,
        session: &mut Session,
    ) -> Vec<(Box<str>, Place)> {
        let Some(delivery) = session.delivery.as_mut() else {
            return Vec::new();
        };
        let mut places = Vec::new();
        for mut reader in delivery.readers.take() {
            self.history.end(slot, &mut reader);
            places.push((reader.filter, reader.place));
        }
        places
    }

    /// It came: its readers go on when its connection has it.
    pub(crate) fn readers_arrive(&mut self, slot: u32, places: Vec<(Box<str>, Place)>) {
        for (filter, place) in places {
            self.push_reader(slot, filter, place);
        }
    }

    fn push_reader(&mut self, slot: u32, filter: Box<str>, place: Place) -> u64 {
        let number = self.history.next_number();
        if let Some(session) = self.sessions.get_mut(slot) {
            let reader = Reader::new(number, filter, place);
            session.delivery().readers.push(reader);
            self.history.count += 1;
        }
        number
    }

    /// The SUBACK of these has gone: they read from now on.
    pub(crate) fn begin_readers(
        &mut self,
        slot: u32,
        numbers: &[u64],
        now: Now,
        out: &mut impl Effects,
    ) {
        let session = self.sessions.get_mut(slot);
        let session = session.filter(|session| session.connection.is_some());
        let Some(delivery) = session.and_then(|session| session.delivery.as_mut()) else {
            return;
        };
        for reader in delivery.readers.iter_mut() {
            if numbers.contains(&reader.number) && reader.state == State::Idle {
                reader.state = State::Alone;
            }
        }
        if delivery.readers.is_waiting() {
            self.pump(slot, now, out);
        }
    }

    /// A session has a connection again: all its readers go on.
    pub(crate) fn wake_readers(&mut self, slot: u32) {
        let session = self.sessions.get_mut(slot);
        let Some(delivery) = session.and_then(|session| session.delivery.as_mut()) else {
            return;
        };
        for reader in delivery.readers.iter_mut() {
            if reader.state == State::Idle {
                reader.state = State::Alone;
            }
        }
    }

    /// A session lost its connection: its readers stay where they are.
    pub(crate) fn rest_readers(&mut self, slot: u32, out: &mut impl Effects) {
        let session = self.sessions.get_mut(slot);
        let session = session.filter(|session| {
            let delivery = session.delivery.as_ref();
            delivery.is_some_and(|delivery| !delivery.readers.is_empty())
        });
        let Some(session) = session else {
            return;
        };
        let number = session.number();
        let mut changed = false;
        for reader in session.delivery().readers.iter_mut() {
            self.history.leave_tail(slot, reader);
            if let State::Copying { was_at_tail } = &mut reader.state {
                // What is on its way to the disk is not asked for again.
                *was_at_tail = false;
                continue;
            }
            let asked = reader.set_back();
            self.history.forget(asked);
            reader.state = State::Idle;
            if let Some(queue) = number.filter(|_| reader.noted < reader.place.done) {
                put_place(queue, reader, out);
                changed = true;
            }
        }
        if changed {
            self.end(Until::Whenever, out);
        }
    }

    /// Writes down how far a reader has come, if that is a window further than what is written.
    pub(super) fn note_place(&mut self, slot: u32, number: u64, out: &mut impl Effects) {
        let session = self.sessions.get_mut(slot);
        let Some(session) = session.filter(|session| session.number().is_some()) else {
            return;
        };
        let queue = session.number();
        let step = u64::from(self.limits.history_window_messages_max);
        let reader = session.delivery().readers.get_mut(number);
        if let (Some(queue), Some(reader)) = (queue, reader)
            && reader.place.done >= reader.noted.saturating_add(step)
        {
            put_place(queue, reader, out);
            self.end(Until::Whenever, out);
        }
    }

    /// Writes a reader down, if its session is kept; the transaction is open. Returns whether it is.
    pub(crate) fn keep_reader(&mut self, slot: u32, filter: &str, out: &mut impl Effects) -> bool {
        let Some(session) = self.sessions.get(slot) else {
            return false;
        };
        let Some(queue) = session.number() else {
            return false;
        };
        let delivery = session.delivery.as_ref();
        let Some(reader) = delivery.and_then(|delivery| delivery.readers.find(filter)) else {
            return false;
        };
        let mut key = Vec::new();
        filter_key(queue, filter, &mut key);
        let journal = out.journal();
        // It may have been one without history.
        journal.delete(Table::SUBSCRIPTIONS, &key);
        if reader.place.picked.is_empty() {
            journal.delete(Table::PICKED, &key);
        } else {
            let mut value = Vec::new();
            encode_picked(&reader.place.picked, &mut value);
            journal.put(Table::PICKED, &key, &value);
        }
        put_done(queue, &reader.filter, &reader.place, reader.place.done, out);
        true
    }

    /// Its client reads nothing: what its readers have in memory is read again when it does.
    pub(crate) fn release_readers(&mut self, slot: u32) {
        let session = self.sessions.get_mut(slot);
        let Some(delivery) = session.and_then(|session| session.delivery.as_mut()) else {
            return;
        };
        for reader in delivery.readers.iter_mut() {
            if reader.state == State::Alone {
                let asked = reader.set_back();
                self.history.forget(asked);
            }
        }
    }

    /// Deletes the rows of a reader, where there can be some; the transaction is open.
    pub(crate) fn forget_reader(&self, queue: QueueId, filter: &str, out: &mut impl Effects) {
        if self.streams.is_empty() && super::inner_of(filter) == filter {
            return;
        }
        let mut key = Vec::new();
        filter_key(queue, filter, &mut key);
        let journal = out.journal();
        journal.delete(Table::READERS, &key);
        journal.delete(Table::PICKED, &key);
    }

    /// As [`Self::forget_reader`], of a session that may have rows.
    pub(crate) fn forget_reader_of(&self, slot: u32, filter: &str, out: &mut impl Effects) {
        if let Some(queue) = self.sessions.get(slot).and_then(Session::number) {
            self.forget_reader(queue, filter, out);
        }
    }

    /// At a start: the row of a reader.
    pub(crate) fn restore_reader(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let (queue, filter) = decode_filter_key(key)?;
        let row = ReaderRow::decode_reader(value)?;
        let picked = self.restore.picked.remove(key);
        if self.is_row_of_orphan(Table::READERS, queue, key) {
            return Ok(());
        }
        let inner = super::inner_of(filter);
        Filter::parse(inner).map_err(|_| RowError::Malformed)?;
        if let Some(slot) = self.sessions.find_number(queue) {
            let place = Place {
                inner: inner.into(),
                subscription: row.subscription,
                stream: row.stream,
                name: row.name.into(),
                picked: picked.unwrap_or_default(),
                begin: row.begin,
                done: row.done,
                asked: row.done,
            };
            self.push_reader(slot, filter.into(), place);
        }
        Ok(())
    }

    /// At a start: what a reader reads first. Its own row comes after this.
    pub(crate) fn restore_picked(&mut self, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let (queue, _) = decode_filter_key(key)?;
        let picked = decode_picked(value)?;
        if !self.is_row_of_orphan(Table::PICKED, queue, key)
            && self.sessions.find_number(queue).is_some()
        {
            self.restore.picked.insert(key.into(), picked.into());
        }
        Ok(())
    }

    /// A stream is gone, and with it whoever reads it.
    pub(super) fn stream_gone(&mut self, slot: u32, number: u64, now: Now, out: &mut impl Effects) {
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let Some(reader) = delivery.and_then(|delivery| delivery.readers.get_mut(number)) else {
            return;
        };
        let filter = reader.filter.clone();
        self.counters.history_gone += 1;
        let connection = self
            .sessions
            .get(slot)
            .and_then(|session| session.connection);
        let connection = connection.and_then(|id| self.connections.get(id));
        let peer = connection.and_then(|connection| connection.peer);
        let event = Event::Denied("its stream is gone");
        let reason = ReasonCode::ImplementationSpecificError;
        self.announce(event, slot, peer, reason, now, out);
        self.remove_reader(slot, &filter);
        let queue = self.sessions.get(slot).and_then(Session::number);
        if let Some(queue) = queue {
            self.forget_reader(queue, &filter, out);
            self.end(Until::Whenever, out);
        }
    }
}

impl History {
    /// A reader is none any more: nobody waits for what it asked for.
    fn end(&mut self, slot: u32, reader: &mut Reader) {
        self.leave_tail(slot, reader);
        let asked = reader.set_back();
        self.forget(asked);
        self.count -= 1;
    }
}

/// Writes down how far a reader has come; the transaction is open.
pub(super) fn put_place(queue: QueueId, reader: &mut Reader, out: &mut impl Effects) {
    reader.noted = reader.place.done;
    put_done(queue, &reader.filter, &reader.place, reader.place.done, out);
}

/// As [`put_place`], as though it had come to `done`.
pub(super) fn put_done(
    queue: QueueId,
    filter: &str,
    place: &Place,
    done: u64,
    out: &mut impl Effects,
) {
    let (mut key, mut value) = (Vec::new(), Vec::new());
    filter_key(queue, filter, &mut key);
    let row = ReaderRow {
        subscription: place.subscription,
        stream: place.stream,
        name: &place.name,
        begin: place.begin,
        done,
    };
    row.encode(&mut value);
    let journal = out.journal();
    journal.put(Table::READERS, &key, &value);
    if place.picked.last().is_some_and(|last| *last < done) {
        journal.delete(Table::PICKED, &key);
    }
}
