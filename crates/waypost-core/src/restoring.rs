//! Retained messages after a start: their rows say what there is, their contents are read one after the other.
//!
//! Until the last one has been read, nobody is told what is retained on this shard; what is published meanwhile counts
//! from the start. A topic is counted as soon as its row is there, so that a SUBSCRIBE asks for it and waits.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::rc::Rc;

use crate::broker::Broker;
use crate::effects::{Effects, Now};
use crate::journal::{MessageId, Table, Until};
use crate::retained::{Retained, STAMP_SHARD_BITS};
use crate::rows::message::decode_message;
use crate::rows::{RetainedRow, RowError};

/// Contents asked for at a time.
const READING_MAX: usize = 64;

/// What is still to be read.
#[derive(Debug, Default)]
pub(crate) struct Restoring {
    /// In the order of their numbers, as they lie on disk, with topic and stamp.
    rows: BTreeMap<MessageId, (Box<str>, u64)>,
    /// Asked for, in this order.
    reading: VecDeque<(MessageId, Box<str>, u64)>,
    /// Topics on which nothing is retained since the start.
    cleared: HashSet<Box<str>>,
}

impl Restoring {
    /// Whether something is still to be read.
    pub fn is_going_on(&self) -> bool {
        !self.rows.is_empty() || !self.reading.is_empty()
    }

    /// Nothing is retained on a topic from now on.
    pub fn clear(&mut self, topic: &str) {
        if self.is_going_on() {
            self.cleared.insert(topic.into());
        }
    }
}

impl Broker {
    /// At a start: a row of retained messages. Each shard takes those of its own topics.
    pub(crate) fn restore_retained(
        &mut self,
        topic: &[u8],
        value: &[u8],
        kept: Option<MessageId>,
        now: Now,
        out: &mut impl Effects,
    ) -> Result<(), RowError> {
        let row = RetainedRow::decode_retained(value)?;
        let topic = core::str::from_utf8(topic).map_err(|_| RowError::Malformed)?;
        // What is published from now on comes after it.
        self.clock.follow(row.stamp >> STAMP_SHARD_BITS);
        let Some(id) = kept.filter(|_| self.owns_retained(topic)) else {
            return Ok(());
        };
        if row.expires_wall_ms <= self.calendar.date(now.monotonic_ms) {
            self.forget_retained_row(topic, row.stamp, out);
            return Ok(());
        }
        self.clock.census().add(topic);
        let row = (topic.into(), row.stamp);
        self.retained.restoring.rows.insert(id, row);
        Ok(())
    }

    /// Nothing is retained on a topic that expired: its message need not be kept.
    pub(crate) fn forget_retained_row(&mut self, topic: &str, stamp: u64, out: &mut impl Effects) {
        let value = RetainedRow {
            stamp,
            expires_wall_ms: u64::MAX,
        };
        let value = value.encode();
        out.journal()
            .hold(Table::RETAINED, topic.as_bytes(), stamp, &value, None);
        self.end(Until::Whenever, out);
    }

    /// Asks for the contents of the next ones. To be called when all rows are there.
    pub(crate) fn read_retained_rows(&mut self, out: &mut impl Effects) {
        let restoring = &mut self.retained.restoring;
        while restoring.reading.len() < READING_MAX
            && let Some((id, (topic, stamp))) = restoring.rows.pop_first()
        {
            restoring.reading.push_back((id, topic, stamp));
            out.journal().read_message(id);
        }
    }

    /// A content was read.
    pub(crate) fn retained_read(
        &mut self,
        id: MessageId,
        body: Option<&[u8]>,
        now: Now,
        out: &mut impl Effects,
    ) {
        let restoring = &mut self.retained.restoring;
        let asked = restoring
            .reading
            .iter()
            .position(|(asked, ..)| *asked == id);
        let Some((_, topic, stamp)) = asked.and_then(|at| restoring.reading.remove(at)) else {
            return;
        };
        let is_cleared = restoring.cleared.contains(&topic);
        let kept = body.and_then(decode_message);
        let is_newest = self
            .retained
            .get(&topic)
            .is_none_or(|newer| newer.stamp < stamp);
        match kept.filter(|kept| *kept.topic == *topic) {
            Some(kept) if is_newest && !is_cleared => {
                let expires_ms = self.calendar.time(kept.expires_wall_ms);
                self.retained.insert(Retained {
                    message: Rc::new(kept.to_stored(expires_ms)),
                    qos: kept.qos,
                    publisher: kept.publisher,
                    stamp,
                });
                self.retained.arm(&mut self.timers);
            }
            kept => {
                self.counters.retained_unreadable += u64::from(kept.is_none());
                self.clock.census().remove(&topic);
            }
        }
        self.read_retained_rows(out);
        if !self.retained.restoring.is_going_on() {
            self.retained.restoring = Restoring::default();
            self.answer_after_restoring(now, out);
        }
    }

    /// Everything retained is there: those who waited for it go on.
    fn answer_after_restoring(&mut self, now: Now, out: &mut impl Effects) {
        self.answer_early(out);
        for (slot, requests) in self.interest.reading() {
            self.retained.read_ahead(requests, slot, self.shards, out);
        }
        self.answer_confirmed(now, out);
        for slot in 0..u32::try_from(self.sessions.slots()).unwrap_or(u32::MAX) {
            let delivery = self.sessions.get(slot).and_then(|it| it.delivery.as_ref());
            if delivery.is_some_and(|delivery| !delivery.retained.is_empty()) {
                self.pump(slot, now, out);
            }
        }
    }
}
