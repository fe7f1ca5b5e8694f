//! The end of a stream, where its readers wait together: one question that waits for what comes, whatever their number.
//!
//! What comes is opened once and sent to all of them at once, as in a fan-out. Whoever cannot take a record falls out
//! and reads alone, until it has come to the end again.

use std::collections::BTreeMap;
use std::sync::Arc;

use waypost_mqtt::{Filter, QoS, Topic};

use super::reader::{Reader, State};
use super::sending::{Aim, record_message};
use super::{Asked, Broker, History};
use crate::effects::{Effects, Now};
use crate::stream::{ReaderId, StreamAnswer, StreamId, StreamRead, StreamRecord, Wanted};

/// Which end: that of a stream, or of what begins with one level with `$` in it, which wildcards do not match.
pub(super) type TailKey = (StreamId, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct Tails {
    all: BTreeMap<TailKey, Tail>,
}

#[derive(Debug)]
struct Tail {
    /// From here on what comes is asked for.
    at: u64,
    /// Slots and numbers of readers, ascending.
    members: Vec<(u32, u64)>,
    /// Whose answer is awaited.
    question: Option<ReaderId>,
}

fn key_of(reader: &Reader) -> TailKey {
    let inner = &reader.place.inner;
    let everything: Arc<str> = if inner.starts_with('$') {
        let first = inner.split('/').next().unwrap_or_default();
        format!("{first}/#").into()
    } else {
        "#".into()
    };
    (reader.place.stream, everything)
}

impl History {
    /// A reader goes, or reads alone. Where nobody waits any more, nothing is awaited.
    pub(super) fn leave_tail(&mut self, slot: u32, reader: &Reader) {
        let was_there = matches!(
            reader.state,
            State::AtTail | State::Copying { was_at_tail: true }
        );
        let key = key_of(reader);
        if was_there
            && let Some(tail) = self.tails.all.get_mut(&key)
            && let Ok(at) = tail.members.binary_search(&(slot, reader.number))
        {
            tail.members.remove(at);
            if tail.members.is_empty() {
                let question = tail.question;
                self.tails.all.remove(&key);
                self.forget(question);
            }
        }
    }
}

impl Broker {
    /// A reader has come to the end of its stream. If the others are further by now, it reads alone what is between, or,
    /// if there cannot be much, waits with them from where it is.
    pub(super) fn join_tail(
        &mut self,
        slot: u32,
        number: u64,
        is_fresh: bool,
        out: &mut impl Effects,
    ) {
        let session = self.sessions.get_mut(slot);
        let delivery = session.and_then(|session| session.delivery.as_mut());
        let Some(reader) = delivery.and_then(|delivery| delivery.readers.get_mut(number)) else {
            return;
        };
        let key = key_of(reader);
        let asked = reader.place.asked;
        match self.history.tails.all.get_mut(&key) {
            Some(tail) if asked < tail.at && !is_fresh => {}
            Some(tail) => {
                if let Err(at) = tail.members.binary_search(&(slot, number)) {
                    tail.members.insert(at, (slot, number));
                }
                reader.state = State::AtTail;
                if asked < tail.at {
                    tail.at = asked;
                    self.ask_tail(&key, asked, out);
                }
            }
            None => {
                reader.state = State::AtTail;
                let members = vec![(slot, number)];
                let tail = Tail {
                    at: asked,
                    members,
                    question: None,
                };
                self.history.tails.all.insert(key.clone(), tail);
                self.ask_tail(&key, asked, out);
            }
        }
    }

    fn ask_tail(&mut self, key: &TailKey, offset: u64, out: &mut impl Effects) {
        let wanted = Wanted::From {
            offset,
            count_max: (self.limits.history_window_messages_max / 2).max(1),
            bytes_max: (self.limits.history_window_bytes_max / 2).max(1),
            waits: true,
        };
        let (stream, filter) = key.clone();
        let question = self.ask_stream(Asked::Tail(key.clone()), stream, filter, wanted, out);
        let tail = self.history.tails.all.get_mut(key);
        let before = tail.and_then(|tail| tail.question.replace(question));
        self.history.forget(before);
    }

    /// Something came at the end of a stream.
    pub(super) fn tail_read(
        &mut self,
        key: &TailKey,
        answer: StreamAnswer,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(mut tail) = self.history.tails.all.remove(key) else {
            return;
        };
        let StreamAnswer::Records(read) = answer else {
            for (slot, number) in tail.members {
                self.stream_gone(slot, number, now, out);
            }
            return;
        };
        tail.question = None;
        let next = read.next.max(tail.at);
        let mut behind = Vec::new();
        tail.members
            .retain(|(slot, number)| self.stays_at_tail(*slot, *number, &mut behind));
        for record in &read.records {
            self.send_to_tail(record, &mut tail.members, &mut behind, now, out);
        }
        let read = StreamRead { next, ..read };
        let mut staying = Vec::with_capacity(tail.members.len());
        for (slot, number) in tail.members {
            if self.pass_tail(slot, number, &read, now, out) {
                staying.push((slot, number));
            }
        }
        if !staying.is_empty() {
            let tail = Tail {
                at: next,
                members: staying,
                question: None,
            };
            self.history.tails.all.insert(key.clone(), tail);
            self.ask_tail(key, next, out);
        }
        behind.sort_unstable();
        behind.dedup();
        for slot in behind {
            self.go_on(slot, now, out);
        }
    }

    fn reader_mut(&mut self, slot: u32, number: u64) -> Option<&mut Reader> {
        let delivery = self.sessions.get_mut(slot)?.delivery.as_mut()?;
        delivery.readers.get_mut(number)
    }

    /// One whose last records are still on their way to the disk reads alone when they are there.
    fn stays_at_tail(&mut self, slot: u32, number: u64, behind: &mut Vec<u32>) -> bool {
        let Some(reader) = self.reader_mut(slot, number) else {
            return false;
        };
        if let State::Copying { was_at_tail } = &mut reader.state {
            *was_at_tail = false;
            behind.push(slot);
        }
        reader.state == State::AtTail
    }

    /// Whether what a reader gets goes through its session's own queue.
    fn is_copied(&mut self, slot: u32, number: u64) -> bool {
        let is_kept = self
            .sessions
            .get(slot)
            .is_some_and(|it| it.number().is_some());
        let reader = self.reader_mut(slot, number);
        is_kept && reader.is_some_and(|it| it.place.subscription.options.qos != QoS::AtMostOnce)
    }

    /// Sends a record to all that get it at once. Who cannot take it reads it later, alone.
    fn send_to_tail(
        &mut self,
        record: &StreamRecord,
        members: &mut Vec<(u32, u64)>,
        behind: &mut Vec<u32>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let Some(kept) = self.open_record(record, now) else {
            return;
        };
        let Some(name) = members
            .first()
            .and_then(|(slot, number)| self.reader_mut(*slot, *number))
            .map(|reader| Arc::clone(&reader.place.name))
        else {
            return;
        };
        let topic = Topic::from_validated(kept.topic);
        let mut labels = std::mem::take(&mut self.history.labels);
        let mut identifiers = std::mem::take(&mut self.history.identifiers);
        let mut targets = std::mem::take(&mut self.scratch.targets);
        identifiers.clear();
        targets.clear();
        let message = record_message(&kept, &name, record, &mut labels);
        let message = self.with_expiry(message, &kept, now);
        let half = self.limits.outbox_bytes_max / 2;
        members.retain(|(slot, number)| {
            let (slot, number) = (*slot, *number);
            let Some(connection) = self.sessions.get(slot).and_then(|it| it.connection) else {
                return false;
            };
            if self.is_copied(slot, number) {
                return true;
            }
            let Some(reader) = self.reader_mut(slot, number) else {
                return false;
            };
            let subscription = reader.place.subscription;
            let is_meant = record.offset >= reader.place.asked
                && Filter::from_validated(&reader.place.inner).matches(topic);
            if !is_meant {
                return true;
            }
            // A connection stands in one fan-out once.
            if targets
                .last()
                .is_some_and(|last| last.connection == connection)
            {
                out.deliver_many(&message, &targets, &identifiers);
                targets.clear();
                identifiers.clear();
            }
            let aim = if out.outbox_bytes(connection) > half {
                Aim::Full
            } else {
                self.aim(
                    slot,
                    connection,
                    subscription,
                    &kept,
                    &message,
                    &mut identifiers,
                )
            };
            match aim {
                Aim::Skip => {}
                Aim::At(target) => {
                    self.counters.history_sent += 1;
                    self.counters.deliveries += 1;
                    targets.push(target);
                }
                Aim::Full => {
                    if let Some(reader) = self.reader_mut(slot, number) {
                        reader.place.pass(record.offset);
                        reader.state = State::Alone;
                    }
                    self.counters.history_fell_behind += 1;
                    behind.push(slot);
                    return false;
                }
            }
            true
        });
        if !targets.is_empty() {
            out.deliver_many(&message, &targets, &identifiers);
        }
        self.history.labels = labels;
        self.history.identifiers = identifiers;
        self.scratch.targets = targets;
    }

    /// A reader has had everything up to there, or copies it. Returns whether it stays.
    fn pass_tail(
        &mut self,
        slot: u32,
        number: u64,
        read: &StreamRead,
        now: Now,
        out: &mut impl Effects,
    ) -> bool {
        if self.is_copied(slot, number) {
            return self.copy_at_tail(slot, number, read, now, out);
        }
        let Some(reader) = self.reader_mut(slot, number) else {
            return false;
        };
        reader.place.pass(read.next);
        self.note_place(slot, number, out);
        true
    }
}
